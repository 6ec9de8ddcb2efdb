# SPDX-License-Identifier: Apache-2.0
"""A cloakroom inside the test's own process: no agent, no store, and a clock that the test moves.

    room = FakeCloakroom()
    login = room.login("alice", policy="replace")
    room.advance(31 * 60)
    assert room.validate(login.signed_token) is None

    with room.unavailable(), pytest.raises(Unavailable):
        room.validate(login.signed_token)

It answers as the real one does, with the same exceptions and texts: one table of tests runs over both.
What differs is time and reach. Time stands still until it is moved, and sessions end to the millisecond;
a real store lets an unused session live longer by up to a twentieth of its idle span (at least a second)
and a second, as its last uses may still be on their way. Nothing waits: a lock that another holds is
`Busy` at once. And it is this process's alone: fork none of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Literal, Self, cast

from . import _core
from ._fake import FakeCore, ms_of
from ._room import Cloakroom, Span, _ms, _time

__all__ = ["FakeCloakroom"]


class FakeCloakroom(Cloakroom):
    """A `Cloakroom` for tests; see this module. `idle` and `absolute` are the defaults of its sessions.

    `table=True` makes it the table in front of an application's own sessions, as `table:NAME` does.
    """

    def __init__(
        self, *, idle: Span = 0, absolute: Span = 0, now: datetime | None = None, table: bool = False
    ) -> None:
        self._fake = FakeCore(
            idle_ms=_ms("idle", idle),
            absolute_ms=_ms("absolute", absolute),
            now_ms=ms_of(now if now is not None else datetime.now(timezone.utc)),
            own_table=table,
        )
        super().__init__(cast(_core.Core, self._fake))

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        mode: Literal["auto", "attach", "direct"] = "auto",
        cache: Literal["default", "none", "memory", "shared"] = "default",
        cache_bytes: int = 0,
        idle: Span = 0,
        absolute: Span = 0,
        timeout: Span = 0,
        workers: int = 0,
        program: str | os.PathLike[str] | None = None,
        state: str | os.PathLike[str] | None = None,
        realm: str | None = None,
    ) -> Self:
        """A new fake, whatever the URL; of `table:NAME`, one with `table=True`."""
        return cls(idle=idle, absolute=absolute, table=os.fspath(url).startswith("table:"))

    @property
    def now(self) -> datetime:
        """What this room takes the time to be. To be moved forwards, by `advance` or by assignment."""
        return _time(self._fake.now_ms)

    @now.setter
    def now(self, now: datetime) -> None:
        self._fake.move_to(ms_of(now))

    def advance(self, span: Span) -> None:
        """Let `span` go by: seconds, or a timedelta."""
        self._fake.advance(_ms("span", span))

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        """Within it nothing is known: every call raises `Unavailable`. (A table just has no entries.)"""
        self._fake.fail(1)
        try:
            yield
        finally:
            self._fake.fail(-1)

    @contextlib.contextmanager
    def pending(self, bound: Span = 1) -> Iterator[None]:
        """Within it another host does not answer: endings are committed and not yet everywhere.

        They, and log-ins that end something, raise `Pending`; with `wait=False` they are not `done`.
        """
        before, self._fake.bound_ms = self._fake.bound_ms, max(1, _ms("bound", bound))
        try:
            yield
        finally:
            self._fake.bound_ms = before
