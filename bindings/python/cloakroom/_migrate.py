# SPDX-License-Identifier: Apache-2.0
"""Moving live sessions here from where they were kept before: `migrate_from=` of the adapters.

A request that has no session here, but the cookie of the old place, is looked up there once, and what
is found becomes a session of ours under a token of ours. Nobody is logged out. The old cookie stays in
the browser, so that the old program finds its sessions again: that is the way back.

An old cookie is often a bearer that its own place cannot end: a signed one is good until its date. What
was moved and has ended here must not come again by it. So each old session with a user is moved under a
lock of its name, and that it was is written down in the store. It is moved again only while a session
that came of it is alive: requests of one page arrive at once, and a response can be lost. What has come
of an old session carries its mark in the label `agent`, and a log-out ends all that carry it. A log-in
that replaces the user's sessions closes the user's old ones, too: none is moved after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._core import Session
from ._room import Cloakroom, Lock, Reason
from ._steps import Steps, arun, ask, hold, list_sessions, run
from ._values import Login
from .errors import CloakroomError, Later, Unavailable

__all__ = ["OldSession", "OldSessions", "close_old_steps", "end_one", "mark_of", "move", "twins"]

# Seconds that one request of a page waits for the others.
_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class OldSession:
    """A session as the old place had it.

    `key` names it there: the session's key, or the whole signed cookie; it is a secret. `user` None:
    a visitor's. `data` must be what the new place can store.
    """

    key: bytes
    user: str | None
    data: dict[str, Any]

    def __repr__(self) -> str:
        return f"OldSession(user={self.user!r}, data of {len(self.data)} keys)"


class OldSessions:
    """Where sessions were kept before. Subclasses say `load`, and `aload` where it can be awaited.

    `cookie`, `domain` and `path` are those of the old cookie, to take it away at log-out; with
    `clear=True` also when the session has been moved, and then there is no way back. After `until`
    nothing is moved any more: set it to when the last old cookie expires.
    """

    def __init__(
        self,
        cookie: str,
        *,
        domain: str | None = None,
        path: str = "/",
        clear: bool = False,
        until: datetime | None = None,
    ) -> None:
        if until is not None and until.tzinfo is None:
            raise ValueError("until= needs a time zone: datetime(2027, 1, 31, tzinfo=timezone.utc)")
        self.cookie = cookie
        self.domain = domain
        self.path = path
        self.clear = clear
        self.until = until

    def load(self, cookies: Mapping[str, str]) -> OldSession | None:
        """The live session of a request with these cookies; None where the old place has none."""
        raise NotImplementedError

    async def aload(self, cookies: Mapping[str, str]) -> OldSession | None:
        """`load`, awaited: in a thread, unless a subclass knows better."""
        return await asyncio.to_thread(self.load, cookies)

    def open_at(self, now: datetime) -> bool:
        """Whether anything is still moved."""
        return self.until is None or now < self.until

    def close_user(self, room: Cloakroom, user: str) -> None:
        """Move no old session of this user any more: beside `invalidate_by_user`, while moving goes on."""
        run(room, close_old_steps(user))

    async def aclose_user(self, room: Cloakroom, user: str) -> None:
        """`close_user`, awaited."""
        await arun(room, close_old_steps(user))


@dataclass(frozen=True, slots=True, repr=False)
class _Look:
    old: OldSessions
    cookies: Mapping[str, str]

    def run(self, room: Cloakroom) -> OldSession | None:
        return self.old.load(self.cookies) if self.old.open_at(room.now) else None

    async def arun(self, room: Cloakroom) -> OldSession | None:
        return await self.old.aload(self.cookies) if self.old.open_at(room.now) else None


def _look(old: OldSessions, cookies: Mapping[str, str]) -> Steps[OldSession | None]:
    try:
        found: OldSession | None = yield _Look(old, cookies)
    except Exception as error:
        text = f"the old sessions of {type(old).__name__} cannot be read: {type(error).__name__}"
        # Some stores say in their errors what was asked for: the key, which is a secret.
        if cookies[old.cookie][:16] in "".join(traceback.format_exception(error)):
            raise Unavailable(text, "CR_UNAVAILABLE") from None
        raise Unavailable(f"{text}: {error}", "CR_UNAVAILABLE") from error
    return found


def mark_of(key: bytes) -> str:
    """What stands for an old session's key in places that are no secret."""
    return hashlib.sha256(key).hexdigest()[:32]


def _label(agent: str | None, mark: str) -> str:
    # Labels are cut at 255 characters: from the left part, so that the mark stays whole.
    words = (agent or "").encode("ascii", "replace").decode()[:200]
    return f"{words} [moved {mark}]".lstrip()


def _mark_in(session: Session) -> str | None:
    _, moved, rest = session.agent.rpartition("[moved ")
    return rest[:-1] if moved and len(rest) == 33 and rest.endswith("]") else None


def twins(session: Session) -> Steps[list[Session]]:
    """The live sessions that came of the same old session, `session` among them; else none."""
    if session.user is None:
        return []
    listed = yield from list_sessions(session.user)
    mark = next((_mark_in(one) for one in listed if one.id == session.id), None)
    return [one for one in listed if _mark_in(one) == mark] if mark is not None else []


def end_one(user: str, session_id: str, reason: Reason) -> Steps[bool]:
    """End a session of this user, and what came of the same old one. False: it is none of them."""
    listed = yield from list_sessions(user)
    one = next((session for session in listed if session.id == session_id), None)
    if one is None:
        return False
    mark = _mark_in(one)
    for session in listed:
        if session.id == session_id or (mark is not None and _mark_in(session) == mark):
            yield from ask(Cloakroom.end, session, reason=reason)
    return True


# Something that happened once has happened for as long as the store lives: a lock of its name was taken.
# Nobody who is killed half-way takes that back.


def _happened(name: str) -> Steps[bool]:
    return (yield from ask(Cloakroom.newest_fence, name)) > 0


def _happens(name: str) -> Steps[None]:
    if not (yield from _happened(name)):
        (yield from hold(name, _WAIT)).give()


def _user_lock(user: str) -> str:
    return "moved/user/" + mark_of(user.encode())


def close_old_steps(user: str) -> Steps[None]:
    """No old session of this user is moved from now on."""
    name = _user_lock(user)
    lock = yield from hold(name, _WAIT)  # until it is free, one is being moved
    try:
        yield from _happens(name + "/closed")
    finally:
        lock.give()


def move(
    old: OldSessions,
    cookies: Mapping[str, str],
    encode: Any,
    *,
    idle: float,
    absolute: float,
    address: str | None,
    agent: str | None,
) -> Steps[Login | None]:
    """The session of an old cookie, made here. None: there is none, or it has ended here.

    `Later` with whatever goes wrong: an error is no log-out.
    """
    if old.cookie not in cookies:
        return None
    found = yield from _look(old, cookies)
    if found is None:
        return None
    try:
        data: bytes = encode(found.data)
        if found.user is None:
            if not found.data:
                return None
            return (
                yield from ask(
                    Cloakroom.create, None, idle=idle, absolute=absolute, data=data, address=address, agent=agent
                )
            )
        return (yield from _move_user(found, found.user, data, idle, absolute, address, agent))
    except Later:
        raise
    except CloakroomError as error:
        raise Unavailable(f"an old session cannot be moved: {error}", error.status) from error


def _move_user(
    found: OldSession,
    user: str,
    data: bytes,
    idle: float,
    absolute: float,
    address: str | None,
    agent: str | None,
) -> Steps[Login | None]:
    mark = mark_of(found.key)
    name = "moved/" + mark
    held: list[Lock] = []
    try:
        held.append((yield from hold(name, _WAIT)))
        # Held until it is made: a log-in that replaces ends it, or is seen here.
        held.append((yield from hold(_user_lock(user), _WAIT)))
        if (yield from _happened(name + "/done")):
            listed = yield from list_sessions(user)
            if not any(_mark_in(one) == mark for one in listed):
                return None
        elif (yield from _happened(_user_lock(user) + "/closed")):
            return None
        login = yield from ask(
            Cloakroom.create,
            user,
            idle=idle,
            absolute=absolute,
            data=data,
            address=address,
            agent=_label(agent, mark),
        )
        yield from _happens(name + "/done")
        return login
    finally:
        for lock in reversed(held):
            lock.give()

