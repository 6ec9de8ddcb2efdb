# SPDX-License-Identifier: Apache-2.0
"""Sessions for Starlette: `request.session`, kept by Cloakroom.

    app = Starlette(
        routes=routes,
        middleware=[Middleware(SessionMiddleware, url="sqlite:///var/lib/app/sessions.db")],
    )

    async def sign_in(request):
        ...  # check who it is
        await login(request, "alice", policy="replace")
        return RedirectResponse("/", 303)

`request.session` is a dictionary: what is put in is stored before the response begins, so that a save
that failed is an error and not a lie. Who puts nothing in has no session and gets no cookie. The store
cannot be asked: 503 with Retry-After, where the request needs its session, and nobody is logged out.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection

from ._cookie import CookieSettings, deletion, parse
from ._core import Session
from ._migrate import OldSession, OldSessions, end_one
from ._refusal import REFUSED, refusal, retry_after
from ._room import Cloakroom, Reason, Span
from ._state import OnConflict, OnEnded, Policy, SessionState, StateSettings
from ._steps import Steps, arun
from ._values import Login
from .errors import CloakroomError, InvalidArgument, Later

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "CookieSettings",
    "OldSession",
    "OldSessions",
    "RequestSession",
    "RetryLater",
    "SessionMiddleware",
    "StarletteCookies",
    "end_device",
    "login",
    "logout",
    "session_of",
]

T = TypeVar("T")

_log = logging.getLogger("cloakroom")

# Where the scope keeps the RequestSession, beside "session", which another middleware may replace.
_KEY = "cloakroom.session"


class RoomHolder:
    """A room that was given, or one that is opened when it is first needed, in a thread, and closed."""

    def __init__(self, room: Cloakroom | None, url: str | os.PathLike[str] | None) -> None:
        if (room is None) == (url is None):
            raise InvalidArgument("give room= or url=, one of both", "CR_E_INVALID")
        self.room = room
        self._url = url
        self._opening: asyncio.Task[Cloakroom] | None = None

    async def get(self) -> Cloakroom:
        """All that ask while it is being opened are answered by that one try."""
        if self.room is None:
            opening = self._opening
            here = asyncio.get_running_loop()
            if opening is None or opening.done() or opening.get_loop() is not here:
                self._opening = opening = here.create_task(self._open())
            return await asyncio.shield(opening)
        return self.room

    async def _open(self) -> Cloakroom:
        assert self._url is not None
        self.room = room = await asyncio.to_thread(Cloakroom.open, self._url)
        return room

    async def start(self) -> None:
        """When the application starts. What cannot be asked yet is asked again by those who need it."""
        try:
            await self.get()
        except Later as error:
            _log.warning("not yet: %s", error)

    def close(self) -> None:
        """At the end of an application's life. One that was given is its giver's to close."""
        if self._url is not None and self.room is not None:
            room, self.room, self._opening = self.room, None, None
            room.close()


class RequestSession(MutableMapping[str, Any]):
    """`request.session`: a dictionary of what JSON can say, with the session that it belongs to.

    Changes, also inside of values, are found and stored when the response begins.
    """

    def __init__(self, state: SessionState, holder: RoomHolder) -> None:
        self._state = state
        self._holder = holder
        self._failed: Later | None = None

    # What is in it.

    @property
    def _data(self) -> dict[str, Any]:
        return self._ready().data

    def _ready(self) -> SessionState:
        if self._failed is not None:
            raise self._failed
        return self._state

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def clear(self) -> None:
        """Empty it. That is no log-out: see `logout`."""
        self._data.clear()

    def __repr__(self) -> str:
        return f"<RequestSession of {self._state.session!r}>"

    # Whose it is.

    @property
    def user(self) -> str | None:
        """Who is signed in; None for a visitor."""
        return self._ready().user

    @property
    def session(self) -> Session | None:
        """The session, None where there is none (yet)."""
        state = self._ready()
        state.accessed = True
        return state.session

    @property
    def is_new(self) -> bool:
        """None came with this request."""
        state = self._ready()
        state.accessed = True
        return state.is_new

    async def login(
        self,
        user: str,
        *,
        policy: Policy = "replace",
        keep_count: int = 0,
        idle: Span | None = None,
        absolute: Span | None = None,
        rights: bytes = b"",
        address: str | None = None,
        agent: str | None = None,
    ) -> Login:
        """Log in a user whom you have checked; the response sets the cookie. See `Cloakroom.login`.

        A visitor's session becomes the user's, under a new id and token, and what is in it stays.
        """
        return await self._do(
            self._ready().login(
                user,
                policy=policy,
                keep_count=keep_count,
                idle=idle,
                absolute=absolute,
                rights=rights,
                address=address,
                agent=agent,
            )
        )

    async def logout(self, *, reason: Reason = "logout") -> None:
        """End the session in every worker of every host; the response takes the cookie away."""
        await self._do(self._ready().end(reason))

    async def cycle(self) -> None:
        """Another token for the same session, as after a change of what its bearer may do."""
        await self._do(self._ready().cycle())

    async def touch(self) -> None:
        """Count it as used now. Every request that brings it does so by itself."""
        await self._do(self._ready().touch())

    async def save(self) -> None:
        """Store what has changed now and not when the response begins."""
        await self._do(self._ready().save())

    async def alive(self) -> bool:
        """Ask again, on connections that last: whether the session has not ended meanwhile."""
        token = self._ready().token
        if token is None:
            return False
        return await (await self._holder.get()).avalidate(token) is not None

    async def _do(self, steps: Steps[T]) -> T:
        return await arun(await self._holder.get(), steps)

    async def _load(self) -> None:
        try:
            await self._do(self._state.load())
        except Later as error:
            self._failed = error  # of those that need it


class SessionMiddleware:
    """`request.session` and `websocket.session`, for any ASGI application.

    `room`, or the `url` to open one with when the application starts. `cookie`: `CookieSettings`; over
    plain http, in development, `CookieSettings(secure=False)`. `idle` and `absolute`: the ends of
    sessions made here (0: the room's).

    `on_conflict`: two requests changed one session at a time. "merge" brings their top-level keys
    together, and answers 409 where both changed the same one; "raise" answers 409 at once; "last_wins".
    `on_ended`: the session ended while the request used it. "drop" what it changed, with a warning in
    the log; "raise" answers 401. `migrate_from`: where live sessions are still kept, see `OldSessions`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        room: Cloakroom | None = None,
        url: str | os.PathLike[str] | None = None,
        cookie: CookieSettings | None = None,
        idle: Span = 0,
        absolute: Span = 0,
        on_conflict: OnConflict = "merge",
        on_ended: OnEnded = "drop",
        migrate_from: OldSessions | None = None,
        _holder: RoomHolder | None = None,
    ) -> None:
        self.app = app
        self.cookie = cookie if cookie is not None else CookieSettings()
        self.settings = StateSettings(
            on_conflict=on_conflict,
            on_ended=on_ended,
            idle=idle,
            absolute=absolute,
            migrate_from=migrate_from,
        )
        self.holder = _holder if _holder is not None else RoomHolder(room, url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind not in ("http", "websocket") or _KEY in scope:
            await self.app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_open() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.holder.start()
                except BaseException as error:
                    # Else a server takes it for an application that knows no start, and serves it.
                    text = "".join(traceback.format_exception(error))
                    await send({"type": "lifespan.startup.failed", "message": text})
                    raise
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                self.holder.close()
            await send(message)

        await self.app(scope, receive_and_open, send_and_close)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = state_of(scope, self.cookie, self.settings)
        session = RequestSession(state, self.holder)
        scope["session"] = scope[_KEY] = session
        if not state.loaded:
            hit, room, token = None, self.holder.room, state.token
            if room is not None and token is not None:
                hit = room._core.validate_cached(token)
                if hit is not None and hit.has_data:
                    state.load_session(hit, token)  # as nearly always: nothing is awaited
            if not state.loaded:
                await session._load()
        await _Exchange(self, scope, session).run(self.app, receive, send)


class _Exchange:
    """One request: what it answers is held back until its session is saved."""

    def __init__(self, middleware: SessionMiddleware, scope: Scope, session: RequestSession) -> None:
        self.middleware = middleware
        self.scope = scope
        self.session = session
        self.state = session._state
        self.started = False
        self.failed: BaseException | None = None

    async def run(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        async def save_and_send(message: Message) -> None:
            if self.failed is not None:
                raise self.failed
            if not self.started and message["type"] in ("http.response.start", "websocket.accept"):
                try:
                    await self._save()
                    self._head(message)
                except BaseException as error:
                    self.failed = error
                    raise
            if not self.started:
                self.started = not message["type"].startswith("http.response.debug")
            await send(message)

        try:
            await app(self.scope, receive, save_and_send)
            if self.failed is None:
                await self._late()
        except BaseException as error:
            # Somebody on the way may have made another of the one that we raised.
            cause = self.failed if self.failed is not None else error
            if self.started or not isinstance(cause, REFUSED):
                raise
            await _refuse(cause, self.scope, send)

    async def _save(self) -> None:
        if self.session._failed is None and self.state.accessed and self.state.dirty:
            await self.session.save()

    def _head(self, message: Message) -> None:
        state = self.state
        if not (state.accessed or state.issued is not None or state.cleared):
            return
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        headers.add_vary_header("Cookie")
        lines = cookie_lines(state, self.middleware.cookie)
        for line in lines:
            headers.append("Set-Cookie", line)
        # No cache keeps what is one person's, unless the application says so; and never a token, which
        # it would hand to the next one, whose cookies are the same: none.
        if state.issued is not None:
            headers["Cache-Control"] = "no-store"
        else:
            headers.setdefault("Cache-Control", "no-store" if lines else "private, no-cache")

    async def _late(self) -> None:
        """What was changed after the response had begun."""
        if self.session._failed is not None or not self.state.accessed or not self.state.dirty:
            return
        if self.scope["type"] == "websocket" and self.state.session is not None:
            await self.session.save()
        else:
            _log.warning(
                "%s: request.session was changed after the response had begun, and is not saved:"
                " `await request.session.save()` does it where the client has its cookie already",
                self.scope["path"],
            )


class RetryLater:
    """Middleware that answers in place of the exceptions that say "not now": 503 with Retry-After.

    And 409 for a `Conflict`, 401 for a save to a session that ended. Where a response has begun, they
    go on. `SessionMiddleware` does so by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or not message["type"].startswith("http.response.debug")
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except REFUSED as error:
            if started:
                raise
            await _refuse(error, scope, send)


async def _refuse(error: CloakroomError, scope: Scope, send: Send) -> None:
    status, text = refusal(error)
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"vary", b"Cookie"),
    ]
    if isinstance(error, Later):
        headers.append((b"retry-after", retry_after(error).encode()))
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1013, "reason": "try again later"})
            return
        prefix = "websocket.http.response"
    body = text.encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{prefix}.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


def state_of(scope: Scope, cookie: CookieSettings, settings: StateSettings) -> SessionState:
    """The state of a request's session; loaded already where there is nothing to ask."""
    headers: list[str] = []
    agent: str | None = None
    for name, value in scope["headers"]:
        if name == b"cookie":
            headers.append(value.decode("latin-1"))
        elif name == b"user-agent":
            agent = value.decode("latin-1")
    token = cookie.read(headers) if headers else None
    cookies = parse(headers) if headers and settings.migrate_from is not None else None
    client = scope.get("client")
    address = client[0] if client else None
    state = SessionState(settings, token, cookies=cookies, address=address, agent=agent)
    if token is None and not cookies:
        state.loaded = True
    return state


def cookie_lines(state: SessionState, cookie: CookieSettings) -> list[str]:
    """The values of Set-Cookie that the response owes the client."""
    lines: list[str] = []
    if state.issued is not None:
        lines.append(cookie.issue(state.issued))
    elif state.cleared:
        lines.append(cookie.clear())
    old = state.settings.migrate_from
    if old is not None and old.cookie != cookie.name and (state.was_ended or (state.moved and old.clear)):
        lines.append(deletion(old.cookie, old.domain, old.path))
    return lines


def session_of(connection: HTTPConnection) -> RequestSession:
    """`connection.session`, typed as what it is."""
    session = connection.scope.get(_KEY)
    if session is None:
        raise RuntimeError("cloakroom.starlette.SessionMiddleware is not among the application's middleware")
    assert isinstance(session, RequestSession)
    return session


async def login(
    connection: HTTPConnection,
    user: str,
    *,
    policy: Policy = "replace",
    keep_count: int = 0,
    idle: Span | None = None,
    absolute: Span | None = None,
    rights: bytes = b"",
    address: str | None = None,
    agent: str | None = None,
) -> Login:
    """Log in a user whom you have checked; the response sets the cookie.

    `policy`: what becomes of the user's earlier sessions: "replace" ends them all before this returns
    (the stolen device), "keep" leaves them, "keep_n" keeps `keep_count`. A visitor's session becomes the
    user's, under a new id and token, and what is in it stays.
    """
    return await session_of(connection).login(
        user,
        policy=policy,
        keep_count=keep_count,
        idle=idle,
        absolute=absolute,
        rights=rights,
        address=address,
        agent=agent,
    )


async def logout(connection: HTTPConnection, *, reason: Reason = "logout") -> None:
    """End the session in every worker of every host; the response takes the cookie away."""
    await session_of(connection).logout(reason=reason)


async def end_device(room: Cloakroom, user: str, session_id: str, *, reason: Reason = "device") -> bool:
    """End a session of this user, as from the list of devices. False: it is none of this user's.

    While sessions are moved here, what one page of a browser had moved at once may be several, and all
    of them end.
    """
    return await arun(room, end_one(user, session_id, reason))


class StarletteCookies(OldSessions):
    """The sessions of Starlette's own SessionMiddleware: signed cookies that hold all there is.

    `secret_key`, `cookie` and `max_age` as they were given to it. `user` says whose a session is, out of
    what is in it, as the text that is used here, or None for a visitor's.

    Such a cookie changes with what is in it, and an earlier copy of it counts as a session of its own,
    until `max_age` has passed, as it did before: set `until=` to that date. `key`, where given, names
    the session out of what is in it, and all copies are one.
    """

    def __init__(
        self,
        *,
        secret_key: str,
        user: Callable[[dict[str, Any]], str | None],
        cookie: str = "session",
        max_age: int | None = 14 * 24 * 60 * 60,
        key: Callable[[dict[str, Any]], str] | None = None,
        domain: str | None = None,
        path: str = "/",
        clear: bool = False,
        until: datetime | None = None,
    ) -> None:
        super().__init__(cookie, domain=domain, path=path, clear=clear, until=until)
        try:
            import itsdangerous
        except ImportError:
            raise ImportError("StarletteCookies needs itsdangerous, as Starlette's sessions did") from None
        self._bad = itsdangerous.BadSignature
        self._signer = itsdangerous.TimestampSigner(str(secret_key))
        self._max_age = max_age
        self._user = user
        self._key = key

    def load(self, cookies: Mapping[str, str]) -> OldSession | None:
        cookie = cookies[self.cookie].encode("latin-1", "replace")
        try:
            text = self._signer.unsign(cookie, max_age=self._max_age)
        except self._bad:
            return None
        data = json.loads(base64.b64decode(text))
        user = self._user(data)
        if user is not None and not isinstance(user, str):
            raise TypeError(f"user= answered {type(user).__name__}: the user is a text, or None")
        key = self._key(data).encode() if self._key is not None else cookie
        return OldSession(key, user, data)

    async def aload(self, cookies: Mapping[str, str]) -> OldSession | None:
        return self.load(cookies)
