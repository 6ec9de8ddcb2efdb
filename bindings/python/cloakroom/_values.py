# SPDX-License-Identifier: Apache-2.0
"""What calls answer, besides `Session`: small immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from ._core import Session

__all__ = ["Ending", "Explanation", "Login"]


class Login(NamedTuple):
    """A log-in: exactly these three. `signed_token` is the secret: hand it out, log it nowhere."""

    session: Session
    signed_token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Login(session={self.session!r}, expires_at={self.expires_at.isoformat()})"


@dataclass(frozen=True, slots=True)
class Ending:
    """What an ending did. True where there was something to end.

    `done`: no worker of any host accepts it any more. Else (`wait=False` only): true everywhere
    after `bound`.
    """

    found: bool
    done: bool
    id: str
    bound: timedelta

    def __bool__(self) -> bool:
        return self.found


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a session. Endings are remembered for seven days."""

    live: bool
    reason: str | None
    """When not live: a word as `cloakroom explain` says it, such as "replaced"."""
    at: datetime | None
    by: str
    user: str | None
    created_at: datetime | None
    seen_at: datetime | None
    ends_at: datetime | None
    from_address: str
    from_agent: str
    rotated_at: tuple[datetime, ...]
