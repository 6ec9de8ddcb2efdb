# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as exceptions. Each has `status`, the name of the library's answer.

`Later` is the one that a request handler needs: nothing is known or nothing was done, so nobody is
to be logged out; answer 503 with Retry-After. The rest are answers about what was asked
(`SessionEnded`, `Conflict`, `UnknownUser`, ...) or mistakes to be mended (`Refused`, ...).
"""

from __future__ import annotations

__all__ = [
    "Busy",
    "CloakroomError",
    "Conflict",
    "DataTooLarge",
    "Damaged",
    "Denied",
    "InvalidArgument",
    "Later",
    "LockLost",
    "OtherVersion",
    "Pending",
    "Refused",
    "SessionEnded",
    "Unavailable",
    "UnknownOutcome",
    "UnknownUser",
]


class CloakroomError(Exception):
    """Every exception of this package that is about sessions. `status` is as in status.h, "CR_BUSY"."""

    def __init__(self, text: str, status: str = "") -> None:
        super().__init__(text)
        self.status = status


class Later(CloakroomError):
    """Not now: try again in `retry_after` seconds. Says nothing about whether a session is alive."""

    retry_after: float = 1.0


class Unavailable(Later):
    """The store or the agent cannot be asked. Never "not logged in"."""


class Busy(Later):
    """Too much at once; of a lock: another holds it."""


class Pending(Later):
    """Committed, and true everywhere in `retry_after` seconds at the latest; not yet everywhere.

    `ending` is the ending's id, to ask again with `repeat`; None for a log-in, which has handed out
    no session.
    """

    def __init__(self, text: str, retry_after: float, ending: str | None = None) -> None:
        super().__init__(text, "CR_PENDING")
        self.retry_after = retry_after
        self.ending = ending


class UnknownOutcome(Later):
    """Whether it was committed is not known. Ask again; an ending with `repeat=error.ending`."""

    def __init__(self, text: str, ending: str | None = None) -> None:
        super().__init__(text, "CR_E_UNKNOWN_OUTCOME")
        self.ending = ending


class SessionEnded(CloakroomError):
    """What was to be changed has ended, or there never was such a session. It stays ended."""


class Conflict(CloakroomError):
    """Somebody else changed it first: read it again."""


class Denied(CloakroomError):
    """This socket may not do that: see the roles in `man cloakroom-agent`."""


class UnknownUser(CloakroomError, LookupError):
    """The store has never seen this user, so that there was nothing to end."""


class LockLost(CloakroomError):
    """The lock is not ours any more: stop."""


class Refused(CloakroomError):
    """An unsafe set-up: the text says what was seen, what would go wrong, and how to mend it."""


class OtherVersion(CloakroomError):
    """The agent, or the store, is of a version that this one does not understand."""


class Damaged(CloakroomError):
    """Input or output failed, data is damaged, or the peer broke the protocol."""


class InvalidArgument(CloakroomError, ValueError):
    """An argument has the wrong form."""


class DataTooLarge(InvalidArgument):
    """More bytes than a session, its rights or an entry of the cache can have."""
