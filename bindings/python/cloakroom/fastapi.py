# SPDX-License-Identifier: Apache-2.0
"""Sessions for FastAPI, as dependencies.

    app = FastAPI()
    setup(app, url="sqlite:///var/lib/app/sessions.db")

    @app.post("/login")
    async def sign_in(form: Form, request: Request, response: Response):
        ...  # check who it is
        await login(request, response, form.name, policy="replace")

    @app.get("/me")
    async def me(session: CurrentSession):
        return {"user": session.user}

No middleware runs for it: what is in the table of this process costs a route less than a microsecond.
`CurrentSession` and its like are for FastAPI 0.95 and newer; before it, write
`session: Session = Depends(current_session)`.

No session: 401. The store cannot be asked: 503 with Retry-After, which is not "logged out".
"""

# Annotations are not put off here: FastAPI looks at those of the dependencies, and an old one not well.

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Response, WebSocketException
from fastapi.security import APIKeyCookie
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from ._cookie import CookieSettings
from ._core import Session
from ._migrate import OldSession, OldSessions
from ._refusal import REFUSED, refusal, retry_after
from ._room import Cloakroom, Reason, Span
from ._state import OnConflict, OnEnded, Policy, SessionState, StateSettings
from ._steps import arun
from ._values import Login
from .errors import CloakroomError, InvalidArgument, Later
from .starlette import (
    _KEY,
    RequestSession,
    RoomHolder,
    SessionMiddleware,
    StarletteCookies,
    cookie_lines,
    end_device,
    session_of,
    state_of,
)

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = [
    "CookieSettings",
    "CurrentRoom",
    "CurrentSession",
    "CurrentUser",
    "OldSession",
    "OldSessions",
    "OptionalSession",
    "RequestSession",
    "SessionMiddleware",
    "StarletteCookies",
    "current_room",
    "current_session",
    "end_device",
    "login",
    "logout",
    "optional_session",
    "require_fresh",
    "require_user",
    "session_of",
    "setup",
]

_SCHEME = "cloakroom"
_SCHEME_BEARER = "cloakroomBearer"


class _Setup:
    """What `setup` was told, as `app.state.cloakroom`."""

    def __init__(
        self, holder: RoomHolder, cookie: CookieSettings, bearer: bool, settings: StateSettings
    ) -> None:
        self.holder = holder
        self.cookie = cookie
        self.bearer = bearer
        self.settings = settings
        self._begins = cookie.name + "="

    def bearer_token(self, scope: "Scope") -> str | None:
        """The token that a program brings, where these are taken. It outweighs a cookie beside it."""
        if self.bearer:
            for name, value in scope["headers"]:
                if name == b"authorization" and value[:7].lower() == b"bearer ":
                    text: str = value[7:].decode("latin-1")
                    return text.strip()
        return None

    def token(self, scope: "Scope") -> str | None:
        """What the client brings: a bearer token, where they are taken, else the cookie."""
        found: str | None = None
        for name, value in scope["headers"]:
            if name == b"cookie":
                if found is None:
                    cookies: str = value.decode("latin-1")
                    if cookies.startswith(self._begins) and ";" not in cookies:
                        found = cookies[len(self._begins) :]
                    else:
                        found = self.cookie.read((cookies,))
            elif self.bearer and name == b"authorization" and value[:7].lower() == b"bearer ":
                text: str = value[7:].decode("latin-1")
                return text.strip()
        return found

    def challenge(self) -> dict[str, str]:
        """Of a 401: what would be taken."""
        return {"WWW-Authenticate": "Bearer" if self.bearer else f'Cookie cookie-name="{self.cookie.name}"'}


def setup(
    app: FastAPI,
    *,
    room: Cloakroom | None = None,
    url: str | os.PathLike[str] | None = None,
    cookie: CookieSettings | None = None,
    bearer: bool = False,
    request_session: bool = False,
    idle: Span = 0,
    absolute: Span = 0,
    on_conflict: OnConflict = "merge",
    on_ended: OnEnded = "drop",
    migrate_from: OldSessions | None = None,
) -> None:
    """Give an application its sessions: call it once, before the application starts.

    `room`, or the `url` to open one with at start-up. `cookie`: over plain http, in development,
    `CookieSettings(secure=False)`. `bearer`: programs may send their token as `Authorization: Bearer`.
    `request_session`: `request.session` is a dictionary to store things in, by `SessionMiddleware`, whose
    `on_conflict`, `on_ended` and `migrate_from` these are; `migrate_from` brings it along.
    """
    if getattr(app.state, "cloakroom", None) is not None:
        raise InvalidArgument("cloakroom.fastapi.setup was called for this application before")
    holder = RoomHolder(room, url)
    cookie = cookie if cookie is not None else CookieSettings()
    settings = StateSettings(
        on_conflict=on_conflict, on_ended=on_ended, idle=idle, absolute=absolute, migrate_from=migrate_from
    )
    app.state.cloakroom = _Setup(holder, cookie, bearer, settings)
    _open_at_startup(app, holder)
    handler: Any = _answer_refusal  # of requests and of websockets, which the types keep apart
    for kind in REFUSED:
        app.add_exception_handler(kind, handler)
    if request_session or migrate_from is not None:
        app.add_middleware(
            SessionMiddleware,
            cookie=cookie,
            idle=idle,
            absolute=absolute,
            on_conflict=on_conflict,
            on_ended=on_ended,
            migrate_from=migrate_from,
            _holder=holder,
        )
    _describe(app, cookie, bearer)


def _open_at_startup(app: FastAPI, holder: RoomHolder) -> None:
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        await holder.start()
        try:
            async with inner(app) as state:
                yield state
        finally:
            holder.close()

    app.router.lifespan_context = lifespan


def _describe(app: FastAPI, cookie: CookieSettings, bearer: bool) -> None:
    """OpenAPI names the cookie of this application, and the bearer beside it."""
    inner: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema
        schema = inner()
        schemes = schema.get("components", {}).get("securitySchemes", {})
        if known is None and _SCHEME in schemes:
            schemes[_SCHEME]["name"] = cookie.name
            ways: list[dict[str, list[str]]] = [{_SCHEME: []}]
            if bearer:
                schemes[_SCHEME_BEARER] = {"type": "http", "scheme": "bearer"}
                ways.append({_SCHEME_BEARER: []})
            for operation in (one for path in schema["paths"].values() for one in path.values()):
                if isinstance(operation, dict) and ways[0] in operation.get("security", ()):
                    others = [way for way in operation["security"] if way != ways[0]]
                    operation["security"] = [*others, *ways]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


async def _answer_refusal(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, CloakroomError)
    status, text = refusal(error)
    if isinstance(connection, WebSocket):
        await connection.close(1013)
        return None
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Later):
        headers["Retry-After"] = retry_after(error)
    return JSONResponse({"detail": text.strip()}, status, headers)


def _setup_of(connection: HTTPConnection) -> _Setup:
    found = getattr(connection.app.state, "cloakroom", None)
    if found is None:
        raise RuntimeError(
            "cloakroom.fastapi.setup(app, url=...) was not called for this application; a mounted one needs"
            " it, too, with the same room="
        )
    assert isinstance(found, _Setup)
    return found


async def current_room(connection: HTTPConnection) -> Cloakroom:
    """A dependency: the room, for what is not about this request's session."""
    holder = _setup_of(connection).holder
    return holder.room if holder.room is not None else await holder.get()


def _refuse(
    connection: HTTPConnection, status: int, text: str, headers: dict[str, str] | None
) -> HTTPException | WebSocketException:
    if isinstance(connection, WebSocket):  # which not every version refuses by an HTTPException
        return WebSocketException(1008, text)
    return HTTPException(status, text, headers)


class _Scheme(SecurityBase):
    """A dependency that is a security scheme of OpenAPI by itself: one level, as each level costs."""

    def __init__(self, *, minutes: float | None = None, strict: bool = False) -> None:
        self.model = APIKeyCookie(name="__Host-cloakroom").model
        self.scheme_name = _SCHEME
        self.minutes = minutes
        self.strict = strict

    def hit(self, connection: HTTPConnection) -> Session | None:
        """What this process's table has, as nearly all requests find it; None: `find` it. Never strict."""
        scope = connection.scope
        setup = getattr(scope["app"].state, "cloakroom", None)
        if _KEY in scope or not isinstance(setup, _Setup) or setup.holder.room is None:
            return None
        token = setup.token(scope)
        if token is None:
            return None
        session = setup.holder.room._core.validate_cached(token)
        return session if session is not None and session.has_data else None

    async def find(self, connection: HTTPConnection, setup: _Setup) -> Session | None:
        kept: RequestSession | None = connection.scope.get(_KEY)
        token = setup.bearer_token(connection.scope) if kept is not None else setup.token(connection.scope)
        if kept is not None and token is None:
            session = kept.session
            if session is None or not self.strict:
                return session
            token = kept._state.token
        if token is None:
            return None
        room = setup.holder.room
        if room is None:
            room = await setup.holder.get()
        return await (room.avalidate_strict(token) if self.strict else room.avalidate(token))

    async def need(self, connection: HTTPConnection) -> Session:
        setup = _setup_of(connection)
        session = await self.find(connection, setup)
        if session is None or session.user is None:
            raise _refuse(connection, 401, "Not signed in.", setup.challenge())
        return session


class _CurrentSession(_Scheme):
    async def __call__(self, connection: HTTPConnection) -> Session:
        session = self.hit(connection)
        if session is None or session.user is None:
            session = await self.need(connection)
        return session


class _OptionalSession(_Scheme):
    async def __call__(self, connection: HTTPConnection) -> Session | None:
        session = self.hit(connection)
        return session if session is not None else await self.find(connection, _setup_of(connection))


class _RequireUser(_Scheme):
    async def __call__(self, connection: HTTPConnection) -> str:
        session = self.hit(connection)
        user = session.user if session is not None else None
        if user is None:
            user = (await self.need(connection)).user
            assert user is not None
        return user


class _RequireFresh(_Scheme):
    async def __call__(self, connection: HTTPConnection) -> Session:
        session = await self.need(connection)
        room = await current_room(connection)
        assert self.minutes is not None
        proved = session.authenticated_at
        if proved is None or room.now - proved > timedelta(minutes=self.minutes):
            text = f"This needs a log-in that is at most {self.minutes:g} minutes old: sign in again."
            raise _refuse(connection, 403, text, None)
        return session


current_session = _CurrentSession()
"""The live session of a signed-in user; 401 without one. A visitor's session is none."""

optional_session = _OptionalSession()
"""The live session, a visitor's (`user` is None), too; None without one."""

require_user = _RequireUser()
"""The name of who is signed in; 401 without one."""


def require_fresh(minutes: float, *, strict: bool = True) -> _RequireFresh:
    """The session of a user who proved at most so long ago who it is; 403 where it is longer.

    For a payment, a change of password. `strict`: the store itself is asked, whatever the table says.
    """
    if not minutes > 0:
        raise InvalidArgument(f"require_fresh({minutes!r}): minutes, more than 0")
    return _RequireFresh(minutes=minutes, strict=strict)


CurrentSession = Annotated[Session, Depends(current_session)]
OptionalSession = Annotated[Session | None, Depends(optional_session)]
CurrentUser = Annotated[str, Depends(require_user)]
CurrentRoom = Annotated[Cloakroom, Depends(current_room)]


def _state(request: HTTPConnection, setup: _Setup) -> tuple[SessionState, bool]:
    """Of this request; and whether the middleware has it, and answers for its cookie."""
    bearer = setup.bearer_token(request.scope)
    kept: RequestSession | None = request.scope.get(_KEY)
    if kept is not None and bearer is None:  # which the middleware does not know
        return kept._ready(), True
    state = state_of(request.scope, setup.cookie, setup.settings)
    if bearer is not None:
        state.token, state.loaded = bearer, False
    return state, False


def _write(response: Response, state: SessionState, setup: _Setup) -> None:
    for line in cookie_lines(state, setup.cookie):
        response.headers.append("Set-Cookie", line)
    response.headers["Cache-Control"] = "no-store"


async def login(
    request: HTTPConnection,
    response: Response,
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
    """Log in a user whom you have checked, and set the cookie.

    `response` is the route's parameter of that type, or the response that it returns. `policy`: what
    becomes of the user's earlier sessions: "replace" ends them all before this returns (the stolen
    device), "keep" leaves them, "keep_n" keeps `keep_count`. A visitor's session becomes the user's, under
    a new id and token. Programs get `signed_token` of what is answered in the body instead.
    """
    setup = _setup_of(request)
    state, kept = _state(request, setup)
    done = await arun(
        await setup.holder.get(),
        state.login(
            user,
            policy=policy,
            keep_count=keep_count,
            idle=idle,
            absolute=absolute,
            rights=rights,
            address=address,
            agent=agent,
        ),
    )
    if not kept:
        _write(response, state, setup)
    return done


async def logout(request: HTTPConnection, response: Response, *, reason: Reason = "logout") -> None:
    """End the session in every worker of every host, and take the cookie away."""
    setup = _setup_of(request)
    state, kept = _state(request, setup)
    await arun(await setup.holder.get(), state.end(reason))
    if not kept:
        _write(response, state, setup)
