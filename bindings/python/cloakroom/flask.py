# SPDX-License-Identifier: Apache-2.0
"""Sessions for Flask: `flask.session`, kept by Cloakroom.

    app = Flask(__name__)
    CloakroomSessions(app, "sqlite:////var/lib/app/sessions.db")

    @app.post("/login")
    def sign_in():
        ...  # check who it is
        login_user("alice")
        return redirect("/")

    @app.get("/me")
    @require_user
    def me():
        return current_user()

`session` is the dictionary that it always was; what is changed deep inside is noticed, and what two
requests put in under different keys is kept of both. Who puts nothing in has no session and gets no
cookie. The store cannot be asked: 503 with Retry-After, where the request needs its session, and nobody
is logged out.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import flask
from flask import Flask, current_app, has_request_context
from flask.sessions import (
    SecureCookieSessionInterface,
    SessionInterface,
    SessionMixin,
    session_json_serializer,
)
from werkzeug.exceptions import Forbidden, Unauthorized
from werkzeug.local import LocalProxy

from ._cookie import CookieSettings, deletion
from ._core import Session
from ._migrate import OldSession, OldSessions
from ._refusal import REFUSED, refusal, retry_after
from ._room import Cloakroom, Reason, Span
from ._state import OnConflict, OnEnded, Policy, SessionState, StateSettings
from ._steps import Steps, run
from ._values import Login
from .errors import CloakroomError, InvalidArgument, Later

if TYPE_CHECKING:
    from flask import Request, Response

__all__ = [
    "CloakroomSession",
    "CloakroomSessions",
    "CookieSettings",
    "FlaskSessions",
    "OldSession",
    "OldSessions",
    "current_session",
    "current_user",
    "login_user",
    "logout_user",
    "require_fresh",
    "require_user",
    "room",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_EXTENSION = "cloakroom"
_PERMANENT = "_permanent"
_NOT_OURS = "the application's sessions are not Cloakroom's: write CloakroomSessions(app, url)"


class _Tagged:
    """Flask's own JSON, which brings back tuples, bytes, dates and the like as they were."""

    def dumps(self, data: Any, /) -> bytes:
        return session_json_serializer.dumps(data).encode()

    def loads(self, data: bytes, /) -> Any:
        return session_json_serializer.loads(data.decode())


class CloakroomSession(SessionMixin):
    """`flask.session`: a dictionary, looked up when it is first used and saved with the response."""

    accessed = False

    def __init__(self, state: SessionState, sessions: CloakroomSessions) -> None:
        self._state = state
        self._sessions = sessions
        self._resend = False  # the cookie in the browser, with another life
        self._failed: Later | None = None  # why it could not be had

    def _do(self, steps: Steps[T]) -> T:
        try:
            return run(self._sessions.room, steps)
        except Later as error:
            self._failed = error
            raise

    def _ready(self) -> SessionState:
        self.accessed = True
        if not self._state.loaded:
            self._do(self._state.load())
        return self._state

    # What is in it.

    def __getitem__(self, key: str) -> Any:
        return self._ready().data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._ready().data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._ready().data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ready().data)

    def __len__(self) -> int:
        return len(self._ready().data)

    def __contains__(self, key: object) -> bool:
        return key in self._ready().data

    def clear(self) -> None:
        """Empty it. That is no log-out: see `logout_user`."""
        self._ready().data.clear()

    def __repr__(self) -> str:
        return f"<CloakroomSession of {self._state.session!r}>"

    @property
    def modified(self) -> bool:
        """Whether there is something to save, also deep inside."""
        return self._state.loaded and self._state.dirty

    @modified.setter
    def modified(self, value: bool) -> None:
        """Not needed: changes are found without it."""

    @property
    def new(self) -> bool:  # type: ignore[override]  # Flask has a variable
        """None came with this request."""
        return self._ready().is_new

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser. As `CookieSettings.persistent` says, until it is set."""
        return bool(self.get(_PERMANENT, self._sessions.cookie.persistent))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self._resend = self._resend or self.permanent != bool(value)
        self[_PERMANENT] = bool(value)

    # Whose it is.

    @property
    def user(self) -> str | None:
        """Who is signed in; None for a visitor."""
        return self._ready().user

    @property
    def session(self) -> Session | None:
        """The session, None where there is none (yet)."""
        return self._ready().session

    def cycle(self) -> None:
        """Another token for the same session, as after a change of what its bearer may do."""
        self._do(self._ready().cycle())

    def touch(self) -> None:
        """Count it as used now. Every request that looks at it does so by itself."""
        self._do(self._ready().touch())

    def save(self) -> None:
        """Store what has changed now and not with the response."""
        self._do(self._ready().save())


class CloakroomSessions(SessionInterface):
    """The sessions of an application: `CloakroomSessions(app, url)`, or `init_app` later.

    `room`: a `Cloakroom` (in tests a `FakeCloakroom`), or the URL to open one with; without it, the
    configuration's CLOAKROOM_URL. It is opened by `init_app`, so that an unsafe set-up stops the start;
    an agent that is not there yet does not.
    `policy` and `keep_count`: what `login_user` does with the user's earlier sessions. `cookie`: over
    plain http, in development, `CookieSettings(secure=False)`. `idle` and `absolute`: the ends of
    sessions made here (0: the room's).

    `on_conflict`: two requests changed one session at a time. "merge" brings their top-level keys
    together, and answers 409 where both changed the same one; "raise" answers 409 at once; "last_wins".
    `on_ended`: the session ended while the request used it. "drop" what it changed, with a warning in
    the log; "raise" answers 401. `migrate_from`: where live sessions are still kept, as `FlaskSessions`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        room: Cloakroom | str | os.PathLike[str] | None = None,
        *,
        policy: Policy = "replace",
        keep_count: int = 0,
        cookie: CookieSettings | None = None,
        idle: Span = 0,
        absolute: Span = 0,
        on_conflict: OnConflict = "merge",
        on_ended: OnEnded = "drop",
        migrate_from: OldSessions | None = None,
    ) -> None:
        self.policy = policy
        self.keep_count = keep_count
        self.cookie = cookie if cookie is not None else CookieSettings()
        self.settings = StateSettings(
            on_conflict=on_conflict,
            on_ended=on_ended,
            idle=idle,
            absolute=absolute,
            codec=_Tagged(),
            migrate_from=migrate_from,
            last_wins_keys=frozenset({_PERMANENT, "_flashes"}),
        )
        self._room = room if isinstance(room, Cloakroom) else None
        self._url = room if not isinstance(room, Cloakroom) else None
        self._guard = threading.Lock()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Take over the application's sessions."""
        if self._room is None and self._url is None:
            self._url = app.config.get("CLOAKROOM_URL")
        if self._room is None and self._url is None:
            raise InvalidArgument(
                'no room: give CloakroomSessions(app, "sqlite:////var/lib/app/sessions.db"), or set'
                " CLOAKROOM_URL in the application's configuration",
                "CR_E_INVALID",
            )
        try:
            self.room  # noqa: B018  # what is unsafe is refused before anything is served
        except Later as error:
            app.logger.warning("cloakroom: %s; asked again with the first request", error)
        app.session_interface = self
        app.extensions[_EXTENSION] = self
        for kind in REFUSED:
            app.register_error_handler(kind, _refuse)

    @property
    def room(self) -> Cloakroom:
        """The room. A worker that is forked after it was opened goes on with it."""
        if self._room is None:
            with self._guard:
                if self._room is None:
                    assert self._url is not None
                    self._room = Cloakroom.open(self._url)
        return self._room

    # What Flask asks.

    def open_session(self, app: Flask, request: Request) -> CloakroomSession:
        cookies: Mapping[str, str] = request.cookies
        token = cookies.get(self.cookie.name)
        old = self.settings.migrate_from
        state = SessionState(
            self.settings,
            token,
            cookies=cookies if old is not None else None,
            address=request.remote_addr,
            agent=request.headers.get("User-Agent"),
        )
        if token is None and (old is None or old.cookie not in cookies):
            state.loaded = True
        return CloakroomSession(state, self)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        assert isinstance(session, CloakroomSession)
        state = session._state
        if response.status_code == 500 and session._failed is not None:
            _replace(response, session._failed)  # raised in a page for errors, and so a 500 of Flask's
        if not state.loaded:
            return  # nobody looked at it, or it could not be had
        try:
            if state.accessed:
                session._do(state.save())
        except REFUSED as error:
            _replace(response, error)
        if session.accessed or state.accessed or state.issued is not None or state.cleared:
            response.vary.add("Cookie")
        lines = self._cookies(session)
        for line in lines:
            response.headers.add("Set-Cookie", line)
        if state.issued is not None:
            # Whatever the application says: a cache would hand the token to the next one without cookies.
            response.headers["Cache-Control"] = "no-store"
        elif lines:
            response.headers.setdefault("Cache-Control", "no-store")

    def _cookies(self, session: CloakroomSession) -> list[str]:
        state, cookie, lines = session._state, self.cookie, []
        if state.session is not None and (state.issued is not None or session._resend):
            cookie = replace(cookie, persistent=session.permanent)
        if state.issued is not None:
            lines.append(cookie.issue(state.issued))
        elif state.cleared:
            lines.append(cookie.clear())
        elif session._resend and state.session is not None and state.token is not None:
            lines.append(cookie.issue(Login(state.session, state.token, state.session.expires_at)))
        old = self.settings.migrate_from
        if old is not None and old.cookie != cookie.name and (state.was_ended or (state.moved and old.clear)):
            lines.append(deletion(old.cookie, old.domain, old.path))
        return lines


def _refuse(error: CloakroomError) -> Response:
    status, text = refusal(error)
    response = current_app.response_class(text, status, content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    if isinstance(error, Later):
        response.headers["Retry-After"] = retry_after(error)
    return response


def _replace(response: Response, error: CloakroomError) -> None:
    refused = _refuse(error)
    response.status_code = refused.status_code
    response.headers.clear()
    response.set_data(refused.get_data())
    response.headers.extend(refused.headers.items())


def _here() -> CloakroomSession:
    if not has_request_context():
        raise RuntimeError("outside of a request there is no session: use `room()`, as room().sessions_of(user)")
    found = cast("LocalProxy[SessionMixin]", flask.session)._get_current_object()
    session = found if isinstance(found, CloakroomSession) else None
    if session is None:
        raise RuntimeError(_NOT_OURS)
    return session


def room() -> Cloakroom:
    """The application's room: `room().invalidate_by_user("alice")`, `room().lock("nightly")`."""
    sessions: CloakroomSessions | None = current_app.extensions.get(_EXTENSION)
    if sessions is None:
        raise RuntimeError(_NOT_OURS)
    return sessions.room


def login_user(
    user: str,
    *,
    policy: Policy | None = None,
    keep_count: int | None = None,
    idle: Span | None = None,
    absolute: Span | None = None,
    rights: bytes = b"",
    address: str | None = None,
    agent: str | None = None,
) -> Login:
    """Log in a user whom you have checked; the response sets the cookie. See `Cloakroom.login`.

    When it returns, the user's earlier sessions have ended as the policy says. A visitor's session
    becomes the user's, under a new id and token, and what is in it stays.
    """
    session = _here()
    sessions = session._sessions
    return session._do(
        session._ready().login(
            user,
            policy=policy if policy is not None else sessions.policy,
            keep_count=keep_count if keep_count is not None else sessions.keep_count,
            idle=idle,
            absolute=absolute,
            rights=rights,
            address=address,
            agent=agent,
        )
    )


def logout_user(*, reason: Reason = "logout") -> None:
    """End the session in every worker of every host; the response takes the cookie away."""
    session = _here()
    session._do(session._ready().end(reason))
    old = session._sessions.settings.migrate_from
    if isinstance(old, FlaskSessions):
        old.forget(flask.request.cookies)


def current_session() -> Session | None:
    """The session of this request, a visitor's (`user` is None), too; None without one."""
    return _here().session


def current_user() -> str | None:
    """Who is signed in; None for visitors."""
    return _here().user


def require_user(view: Callable[P, R]) -> Callable[P, R]:
    """Of a view: 401 for whom is not signed in. Put it below the route."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _require()
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return guarded


def require_fresh(minutes: float, *, strict: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Of a view: 403 for whom has proved longer ago who it is, for a payment or a change of password.

    `strict`: the store itself is asked, whatever the table says.
    """
    if not minutes > 0:
        raise InvalidArgument(f"require_fresh({minutes!r}): minutes, more than 0", "CR_E_INVALID")

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            session: Session | None = _require()
            here = _here()
            token = here._state.token
            if strict and token is not None:
                session = here._sessions.room.validate_strict(token)
            if session is None or session.user is None:
                raise Unauthorized("Not signed in.")
            proved = session.authenticated_at
            if proved is None or here._sessions.room.now - proved > timedelta(minutes=minutes):
                raise Forbidden(f"This needs a log-in that is at most {minutes:g} minutes old: sign in again.")
            return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

        return guarded

    return decorate


def _require() -> Session:
    session = _here().session
    if session is None or session.user is None:
        raise Unauthorized("Not signed in.")
    return session


class FlaskSessions(OldSessions):
    """The sessions of what was the application's `session_interface`, to be moved.

    `interface`: Flask's own signed cookies where it is left out; for Flask-Session, what `Session(app)`
    has made of `app.session_interface`, whatever store that has. `user` says whose a session is, out of
    what is in it: a key, or a function that answers the text that is used here, or None for a visitor's.
    `cookie` is what SESSION_COOKIE_NAME was.

    A signed cookie changes with what is in it, and an earlier copy of it counts as a session of its own,
    until PERMANENT_SESSION_LIFETIME has passed, as it did before: set `until=` to that date.
    """

    def __init__(
        self,
        interface: SessionInterface | None = None,
        *,
        user: str | Callable[[dict[str, Any]], str | None],
        cookie: str = "session",
        domain: str | None = None,
        path: str = "/",
        clear: bool = False,
        until: datetime | None = None,
    ) -> None:
        super().__init__(cookie, domain=domain, path=path, clear=clear, until=until)
        if isinstance(interface, CloakroomSessions):
            raise InvalidArgument(
                "FlaskSessions(app.session_interface) is Cloakroom's already: take it before"
                " CloakroomSessions(app, ...)",
                "CR_E_INVALID",
            )
        self._interface = interface if interface is not None else SecureCookieSessionInterface()
        self._user = user

    def _open(self, cookies: Mapping[str, str]) -> SessionMixin | None:
        if not cookies.get(self.cookie):
            return None
        app: Flask = cast("LocalProxy[Flask]", current_app)._get_current_object()
        request = cast("Request", _Cookies({app.config["SESSION_COOKIE_NAME"]: cookies[self.cookie]}))
        return self._interface.open_session(app, request)

    def load(self, cookies: Mapping[str, str]) -> OldSession | None:
        session = self._open(cookies)
        if session is None:
            return None
        data = dict(session)
        if not data.keys() - {_PERMANENT}:
            return None
        user = data.get(self._user) if isinstance(self._user, str) else self._user(data)
        if user is not None and not isinstance(user, (str, int)):
            raise TypeError(f"user= answered {type(user).__name__}: the user is a text, or None")
        return OldSession(cookies[self.cookie].encode(), str(user) if user is not None else None, data)

    def forget(self, cookies: Mapping[str, str]) -> None:
        """Who logs out here does so there, too, where that place can forget."""
        session = self._open(cookies)
        if session is not None and session:
            session.clear()
            app: Flask = cast("LocalProxy[Flask]", current_app)._get_current_object()
            self._interface.save_session(app, session, app.response_class())


class _Cookies:
    """All that session interfaces want of a request."""

    def __init__(self, cookies: Mapping[str, str]) -> None:
        self.cookies = cookies
