# SPDX-License-Identifier: Apache-2.0
"""Sessions for Python backends that run as many workers.

    room = cloakroom.Cloakroom.open("sqlite:///var/lib/app/sessions.db")
    login = room.login("alice", policy="replace")
    session = room.validate(login.signed_token)

`cloakroom.fastapi`, `cloakroom.starlette`, `cloakroom.django`, `cloakroom.flask` and
`cloakroom.starsessions` bring it to a framework; `cloakroom.cache` puts the table in front of an
application's own sessions; `cloakroom.testing` has a room without an agent, whose clock tests move.
"""

from ._system import why_not_here as _why_not_here

if (_why_not := _why_not_here()) is not None:
    raise ImportError(_why_not)

from ._core import VERSION as __version__
from ._core import Session
from ._room import ANY_VERSION, Cloakroom, Lock
from ._values import Ending, Explanation, Login
from .errors import (
    Busy,
    CloakroomError,
    Conflict,
    Damaged,
    DataTooLarge,
    Denied,
    InvalidArgument,
    Later,
    LockLost,
    OtherVersion,
    Pending,
    Refused,
    SessionEnded,
    Unavailable,
    UnknownOutcome,
    UnknownUser,
)

__all__ = [
    "ANY_VERSION",
    "Busy",
    "Cloakroom",
    "CloakroomError",
    "Conflict",
    "Damaged",
    "DataTooLarge",
    "Denied",
    "Ending",
    "Explanation",
    "InvalidArgument",
    "Later",
    "Lock",
    "LockLost",
    "Login",
    "OtherVersion",
    "Pending",
    "Refused",
    "Session",
    "SessionEnded",
    "Unavailable",
    "UnknownOutcome",
    "UnknownUser",
    "__version__",
]
