# SPDX-License-Identifier: Apache-2.0
"""A store for starsessions 2.

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(RetryLater),
            Middleware(SessionMiddleware, store=CloakroomStore(url="sqlite:///app.db"), lifetime=86400),
            Middleware(SessionAutoloadMiddleware),
        ],
    )

starsessions makes ids of its own and takes what a client sends for one. Here an id that did not come from
Cloakroom names nothing: a session that is written under it is made anew, and the client is told its
token, as `write` may answer another id.

To starsessions all sessions are visitors'. `store.login` and `store.logout` say whose one is, so that
`invalidate_by_user` and the list of devices know it, too.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import HTTPConnection
from starsessions import SessionStore, get_session_handler

from ._core import Session
from ._migrate import OldSession, OldSessions, move
from ._room import ANY_VERSION, Cloakroom, Reason, Span
from ._state import JSON, OnConflict, OnEnded, Policy, SessionState, StateSettings
from ._steps import Steps, arun, ask
from ._values import Login
from .errors import Conflict, SessionEnded
from .starlette import RetryLater, RoomHolder

__all__ = ["CloakroomStore", "OldStore", "RetryLater"]

_log = logging.getLogger("cloakroom")

_METADATA = "__metadata__"
# A key in there, from read to write: the id of the session that was read. Never stored.
_READ_AS = "cloakroom"
_YEAR = timedelta(days=366)
# Sessions that were read and may be written yet; what falls out is written by whoever comes last.
_READ_MAX = 4096


@dataclass(frozen=True, slots=True, repr=False)
class _Read:
    """What a request has read: the very text that names it there, our token, the session as it was."""

    session_id: str
    token: str
    session: Session


class CloakroomStore(SessionStore):
    """`store=` of starsessions' SessionMiddleware.

    `room`, or the `url` to open one with. A session lives as long as the middleware's `lifetime` says;
    without one, as the room says. `rolling`: as given to the middleware: the session ends when it was
    not used for `lifetime`, and after `absolute` at the latest.

    Two requests that change different keys of one session lose neither; `on_conflict` and `on_ended`
    are as in `cloakroom.starlette.SessionMiddleware`. That only `last_access` has changed is stored once
    in `access_seconds`. `migrate_from`: `OldStore` of the store that had the sessions before.
    """

    def __init__(
        self,
        *,
        room: Cloakroom | None = None,
        url: str | os.PathLike[str] | None = None,
        rolling: bool = False,
        absolute: Span = _YEAR,
        access_seconds: float = 60,
        on_conflict: OnConflict = "merge",
        on_ended: OnEnded = "drop",
        migrate_from: OldStore | None = None,
    ) -> None:
        self._holder = RoomHolder(room, url)
        self._rolling = rolling
        self._absolute = absolute
        self._access_seconds = access_seconds
        self._old = migrate_from
        self._settings = StateSettings(
            on_conflict=on_conflict,
            on_ended=on_ended,
            migrate_from=migrate_from,
            last_wins_keys=frozenset({_METADATA}),
        )
        # By the identity of the text, which starsessions hands from read to write: two requests with one
        # session have read it apart. Each is kept alive here, so that no other has its address.
        self._read: OrderedDict[int, _Read] = OrderedDict()

    async def read(self, session_id: str, lifetime: int) -> bytes:
        room = await self._holder.get()
        session = await room.avalidate(session_id)
        if session is not None:
            self._keep(_Read(session_id, session_id, session))
            return _marked(session)
        if self._old is None:
            return b""
        moved = await arun(room, self._move(self._old, session_id, lifetime))
        if moved is None:
            return b""
        session = moved.session
        if not session.has_data:
            session = session.with_data(*await room.aread(session))
        self._keep(_Read(session_id, moved.signed_token, session))
        return _marked(session)

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        room = await self._holder.get()
        data, read_as = _unmarked(data)
        read = self._found(session_id)
        if read is None and read_as is not None and not session_id.startswith("crs1_"):
            return await arun(room, self._regenerate(session_id, read_as, data))
        if read is None:
            # Not read by this request, or long ago.
            session = await room.avalidate(session_id)
            if session is None:
                idle, absolute = self._ends(lifetime, ttl)
                return (await room.acreate(data=data, idle=idle, absolute=absolute)).signed_token
            read = _Read(session_id, session_id, session)
        return await arun(room, self._write(read, data))

    async def remove(self, session_id: str) -> None:
        room = await self._holder.get()
        read = self._found(session_id)
        session = read.session if read is not None else await room.avalidate(session_id)
        if session is not None:
            await arun(room, self._state(session, read.token if read is not None else session_id).end())

    async def login(
        self,
        connection: HTTPConnection,
        user: str,
        *,
        policy: Policy = "replace",
        keep_count: int = 0,
        rights: bytes = b"",
    ) -> Login:
        """Log in a user whom you have checked. The session, loaded before, goes on under another id."""
        room = await self._holder.get()
        handler = get_session_handler(connection)
        read = self._found(handler.session_id) if handler.session_id is not None else None
        state = self._state(*((read.session, read.token) if read is not None else (None, None)))
        idle, absolute = self._ends(handler.lifetime, handler.lifetime)
        client = connection.client
        login = await arun(
            room,
            state.login(
                user,
                policy=policy,
                keep_count=keep_count,
                idle=idle,
                absolute=absolute,
                rights=rights,
                address=client.host if client is not None else None,
                agent=connection.headers.get("user-agent"),
            ),
        )
        assert state.session is not None
        _mark(handler.metadata, state.session.id)
        handler.session_id = login.signed_token
        self._keep(_Read(handler.session_id, login.signed_token, state.session))
        return login

    async def logout(self, connection: HTTPConnection, *, reason: Reason = "logout") -> None:
        """End the session in every worker of every host, and empty it, so that the cookie goes."""
        handler = get_session_handler(connection)
        session_id = handler.session_id
        if session_id is not None:
            room = await self._holder.get()
            read = self._found(session_id)
            session = read.session if read is not None else await room.avalidate(session_id)
            if session is not None:
                await arun(room, self._state(session, session_id).end(reason))
            _mark(handler.metadata, None)
        connection.session.clear()

    # How.

    def _keep(self, read: _Read) -> None:
        self._read[id(read.session_id)] = read
        if len(self._read) > _READ_MAX:
            self._read.popitem(last=False)

    def _found(self, session_id: str) -> _Read | None:
        return self._read.pop(id(session_id), None)

    def _ends(self, lifetime: int, ttl: int) -> tuple[Span, Span]:
        if lifetime <= 0:
            return 0, 0
        return (lifetime, self._absolute) if self._rolling else (lifetime, ttl if ttl > 0 else lifetime)

    def _state(self, session: Session | None, token: str | None) -> SessionState:
        state = SessionState(self._settings, token)
        if session is not None and token is not None:
            state.load_session(session, token)
        else:
            state.loaded = True
        return state

    def _move(self, old: OldStore, session_id: str, lifetime: int) -> Steps[Login | None]:
        idle, absolute = self._ends(lifetime, lifetime)
        return move(
            old,
            {old.cookie: session_id},
            JSON.dumps,
            idle=_seconds(idle),
            absolute=_seconds(absolute),
            address=None,
            agent=None,
        )

    def _write(self, read: _Read, data: bytes) -> Steps[str]:
        new = _dictionary(data)
        was = _dictionary(read.session.data)
        if new is None or was is None:  # of a serializer that is not JSON
            try:
                yield from ask(Cloakroom.update, read.session, data=data)
            except Conflict:
                if self._settings.on_conflict != "last_wins":
                    raise
                yield from ask(Cloakroom.update, read.session, data=data, version=ANY_VERSION)
            except SessionEnded:
                if self._settings.on_ended == "raise":
                    raise
        elif not self._only_accessed(was, new):
            state = self._state(read.session, read.token)
            state.data = new
            yield from state.save()
        return read.token

    def _regenerate(self, session_id: str, read_as: str, data: bytes) -> Steps[str]:
        """`regenerate_session_id`: the same session goes on, of the same user, under another token.

        A new one would be nobody's, and no end of the user's sessions would reach it.
        """
        read = next((one for one in reversed(self._read.values()) if one.session.id == read_as), None)
        try:
            if read is None:
                raise SessionEnded(f"session {read_as}: it was read too long ago", "CR_ENDED")
            login = yield from ask(Cloakroom.rotate, read.token, privilege=True)
        except SessionEnded:
            if self._settings.on_ended == "raise":
                raise
            _log.warning("session %s ended while a request used it: what it changed is dropped", read_as)
            return session_id
        return (yield from self._write(_Read(session_id, login.signed_token, read.session), data))

    def _only_accessed(self, was: dict[str, Any], new: dict[str, Any]) -> bool:
        a, b = was.get(_METADATA), new.get(_METADATA)
        if not isinstance(a, dict) or not isinstance(b, dict):
            return was == new
        try:
            soon = abs(b["last_access"] - a["last_access"]) < self._access_seconds
        except (KeyError, TypeError):
            return False
        return soon and JSON.dumps({**new, _METADATA: {**b, "last_access": 0}}) == JSON.dumps(
            {**was, _METADATA: {**a, "last_access": 0}}
        )


class OldStore(OldSessions):
    """Sessions that another store of starsessions has: `OldStore(RedisStore(...), user=...)`.

    `user` says whose a session is, out of what is in it, as text, or None for a visitor's. Of stores
    whose serializer is JSON.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        user: Callable[[dict[str, Any]], str | None],
        lifetime: int = 0,
        until: datetime | None = None,
    ) -> None:
        super().__init__("session", until=until)
        self._store = store
        self._user = user
        self._lifetime = lifetime

    async def aload(self, cookies: Mapping[str, str]) -> OldSession | None:
        session_id = cookies[self.cookie]
        data = _dictionary(await self._store.read(session_id, self._lifetime) or b"")
        if not data:
            return None
        return OldSession(session_id.encode(), self._user(data), data)


def _mark(metadata: Any, session_id: str | None) -> None:
    if isinstance(metadata, dict):
        metadata.pop(_READ_AS, None)
        if session_id is not None:
            metadata[_READ_AS] = session_id


def _marked(session: Session) -> bytes:
    """Its data, with what tells `write` which one it was, also where its id is another by then."""
    data = _dictionary(session.data)
    metadata = data.get(_METADATA) if data is not None else None
    if not isinstance(metadata, dict):
        return session.data
    _mark(metadata, session.id)
    try:
        return JSON.dumps(data)
    except ValueError:  # of a serializer that writes more than JSON
        return session.data


def _unmarked(data: bytes) -> tuple[bytes, str | None]:
    """The data as it is to be stored, and the id of the session that was read."""
    content = _dictionary(data)
    metadata = content.get(_METADATA) if content is not None else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_READ_AS), str):
        return data, None
    read_as: str = metadata.pop(_READ_AS)
    return JSON.dumps(content), read_as


def _dictionary(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _seconds(span: Span) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span
