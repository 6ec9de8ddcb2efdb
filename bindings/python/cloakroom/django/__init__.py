# SPDX-License-Identifier: Apache-2.0
"""Sessions of Django in a cloakroom.

    INSTALLED_APPS += ["cloakroom.django"]
    MIDDLEWARE: "cloakroom.django.middleware.SessionMiddleware" where Django's SessionMiddleware was
    SESSION_ENGINE = "cloakroom.django"
    CLOAKROOM = {"url": "sqlite:////var/lib/app/sessions.db"}

A log-in (`django.contrib.auth.login`) ends the user's earlier sessions as the policy says, before it
returns; a new password, `is_active = False` and the deletion of a user end sessions, too (`_endings`).
A request that cannot be answered because the sessions cannot be reached gets 503 from the middleware,
never an anonymous user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest
from django.utils import timezone

from .._core import Session
from .._room import Cloakroom
from .._state import SessionState
from .._steps import Steps, arun, ask, run
from ..errors import Later, SessionEnded
from ._names import AsyncNames
from ._old import EngineSessions
from ._options import options, room

__all__ = ["SessionStore", "room"]

T = TypeVar("T")

_AUTH_KEYS: Final = (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY)
_EXPIRY: Final = "_session_expiry"


class SessionStore(AsyncNames, SessionBase):
    """`request.session`. Its `session_key` is the token, a secret; `session_id` is not.

    Nothing is stored for a visitor who puts nothing in. What is changed deep inside is noticed once
    `modified` is True, as with every engine. Two requests that change different keys lose neither.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._state: SessionState | None = None
        self._cookies: Mapping[str, str] | None = None
        self._address: str | None = None
        self._agent: str | None = None
        self._expiry: object = None  # as the stored session was made with
        self._user: str | None = None  # as Django's data had it when loaded
        self.failure: Later | None = None
        """Why the session could not be had or saved."""
        self.flushed = False
        """A session was ended in this request."""
        self.cycled = False
        """The key was changed in this request, and not by a log-in."""

    def attach(self, request: HttpRequest) -> None:
        """The request's cookies, by which old sessions are found, and the labels of new ones."""
        self._cookies = request.COOKIES
        self._address = request.META.get("REMOTE_ADDR") or None
        self._agent = request.META.get("HTTP_USER_AGENT") or None

    @property
    def session_id(self) -> str | None:
        """The session's name where others may read it: in logs, in `cloakroom explain`."""
        row = self.row
        return row.id if row is not None else None

    @property
    def row(self) -> Session | None:
        """The session as the room has it: its user, when it was made, when it ends."""
        self.get(SESSION_KEY)  # looks it up
        return self.current

    @property
    def current(self) -> Session | None:
        """`row`, of a session that this request has looked at; nothing is looked up."""
        return self._state.session if self._state is not None else None

    @property
    def may_move(self) -> bool:
        """Whether the request has the cookie of an old session, and none of ours."""
        old = options().state.migrate_from
        if old is None or self._cookies is None or old.cookie not in self._cookies:
            return False
        return not (self.session_key or "").startswith("crs1_")

    def preload(self) -> None:
        """Look the session up, which does not count as an access."""
        if not hasattr(self, "_session_cache") and self.session_key is not None:
            self._session_cache = self.load()

    async def apreload(self) -> None:
        if not hasattr(self, "_session_cache") and self.session_key is not None:
            self._session_cache = await self.aload()

    # What SessionBase wants.

    def load(self) -> dict[str, Any]:
        return self._run(self._load())

    async def aload(self) -> dict[str, Any]:
        return await self._arun(self._load())

    def exists(self, session_key: str) -> bool:
        return self._run(ask(Cloakroom.validate, session_key)) is not None

    async def aexists(self, session_key: str) -> bool:
        return await self._arun(ask(Cloakroom.validate, session_key)) is not None

    def create(self) -> None:
        self._run(self._create())

    async def acreate(self) -> None:
        await self._arun(self._create())

    def save(self, must_create: bool = False) -> None:
        self._run(self._create() if must_create else self._save())

    async def asave(self, must_create: bool = False) -> None:
        await self._arun(self._create() if must_create else self._save())

    def delete(self, session_key: str | None = None) -> None:
        self._run(self._delete(session_key))
        self._forget_old(session_key)

    async def adelete(self, session_key: str | None = None) -> None:
        await self._arun(self._delete(session_key))
        if options().state.migrate_from is not None:
            await sync_to_async(self._forget_old)(session_key)

    def flush(self) -> None:
        self.clear()
        self.delete()
        self._session_key = None

    async def aflush(self) -> None:
        self.clear()
        await self.adelete()
        self._session_key = None

    def cycle_key(self) -> None:
        """Another token for the same session; the old one is over at once.

        Without a session nothing is made yet: what is put in gets a token of its own.
        """
        self._run(self._cycle())

    async def acycle_key(self) -> None:
        await self._arun(self._cycle())

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: expired sessions are swept by the agent."""

    @classmethod
    async def aclear_expired(cls) -> None:
        pass

    def log_in(self, user: str) -> None:
        """Carry out what `SESSION_KEY` in the session says, by the policy; see `_endings`."""
        self._run(self._log_in(user))

    # Ends. A session's idle end and absolute end are fixed when it is made.

    def set_expiry(self, value: datetime | timedelta | int | None) -> None:
        """As of Django. Another span than before gives the session another token when it is saved.

        A number of seconds is the idle end, and a later absolute end where it is longer than that; a
        time is the absolute end. 0: the usual ends, and a cookie that goes with the browser.
        """
        if isinstance(value, timedelta):
            value = room().now + value
            value = value if settings.USE_TZ else timezone.make_naive(value)
        if isinstance(value, datetime):
            self[_EXPIRY] = value.isoformat()  # 3.2 would keep it as it is, which no JSON can
        else:
            super().set_expiry(value)

    def get_expiry_age(self, **kwargs: Any) -> int:
        kwargs.setdefault("expiry", _time(self.get(_EXPIRY)))
        return math.ceil(super().get_expiry_age(**kwargs))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        kwargs.setdefault("expiry", _time(self.get(_EXPIRY)))
        date: datetime = super().get_expiry_date(**kwargs)
        return date

    def get_session_cookie_age(self) -> int:
        age: int = settings.SESSION_COOKIE_AGE
        return min(age, math.ceil(_seconds(options().state.absolute)))

    # Steps.

    def _run(self, steps: Steps[T]) -> T:
        try:
            return run(room(), steps)
        except Later as error:
            self.failure = error
            raise

    async def _arun(self, steps: Steps[T]) -> T:
        try:
            return await arun(room(), steps)
        except Later as error:
            self.failure = error
            raise

    def _here(self) -> SessionState:
        if self._state is None:
            key, old = self.session_key, options().state.migrate_from
            cookies = self._cookies
            if cookies is None and old is not None and key is not None:
                cookies = {old.cookie: key}  # by itself, without a request
            self._state = SessionState(
                options().state, key, cookies=cookies, address=self._address, agent=self._agent
            )
        return self._state

    def _load(self) -> Steps[dict[str, Any]]:
        state = self._here()
        yield from state.load()
        data = state.data
        if state.session is not None and data.get(SESSION_KEY) != state.session.user:
            for key in _AUTH_KEYS:  # of a log-in that did not come to its end
                data.pop(key, None)
        if state.issued is not None:
            self.modified = True  # moved: the cookie is to be set
        self._known(state)
        return data

    def _known(self, state: SessionState) -> None:
        self._session_key = state.token
        self._expiry = state.data.get(_EXPIRY)
        self._user = state.data.get(SESSION_KEY)

    def _loaded(self) -> Steps[dict[str, Any]]:
        data: dict[str, Any] | None = getattr(self, "_session_cache", None)
        state = self._here()
        if not state.loaded:
            stored = yield from self._load()
            data = stored if data is None else data  # `clear` looks nothing up
        elif data is None:
            data = state.data
        self._session_cache = data
        state.data = data
        return data

    def _save(self) -> Steps[None]:
        if self.session_key is None:
            yield from self._create()
            return
        data = yield from self._loaded()
        state = self._here()
        if state.session is None:
            raise UpdateError
        user = data.get(SESSION_KEY)
        if user is not None and user != state.session.user:
            yield from self._log_in(user)
        elif user is None and self._user is not None:
            yield from self._log_off(data)
        elif data.get(_EXPIRY) != self._expiry and _spans(data.get(_EXPIRY)) != _spans(self._expiry):
            yield from self._reissue(state, *_spans(data.get(_EXPIRY)))
        try:
            yield from state.save()
        except SessionEnded:
            raise UpdateError from None
        self._stored(state)

    def _stored(self, state: SessionState) -> None:
        self._session_cache = state.data
        self._known(state)

    def _create(self) -> Steps[None]:
        """Whatever key this had: a new one."""
        data: dict[str, Any] = getattr(self, "_session_cache", {})
        state = SessionState(options().state, None, address=self._address, agent=self._agent)
        state.load_nothing()
        state.data = data
        self._state = state
        user = data.get(SESSION_KEY)
        if user is not None:
            yield from self._log_in(user)
        else:
            idle, absolute = _spans(data.get(_EXPIRY))
            yield from state.create(idle=idle, absolute=absolute)
            self._stored(state)
        self.modified = True

    def _log_in(self, user: str) -> Steps[None]:
        """What was a visitor's session, or nobody's, is the user's."""
        data = yield from self._loaded()
        state, chosen = self._here(), options()
        keys = {key: data[key] for key in (*_AUTH_KEYS, _EXPIRY) if key in data}
        idle, absolute = _spans(data.get(_EXPIRY))
        yield from state.login(
            user,
            policy=chosen.policy,
            keep_count=chosen.keep_count,
            idle=idle,
            absolute=absolute,
            address=self._address,
            agent=self._agent,
        )
        state.data.update(keys)
        self._stored(state)
        self.modified = True
        self.cycled = False

    def _log_off(self, data: dict[str, Any]) -> Steps[None]:
        """The user was taken out by hand: what is left is a visitor's."""
        state = self._here()
        yield from state.end()
        state.data = data
        idle, absolute = _spans(data.get(_EXPIRY))
        yield from state.create(idle=idle, absolute=absolute)
        self.modified = True

    def _reissue(self, state: SessionState, idle: float, absolute: float) -> Steps[None]:
        """With other ends, which only a new session can have."""
        assert state.session is not None
        if state.session.user is None:
            yield from state.create(idle=idle, absolute=absolute)
        else:
            yield from state.login(state.session.user, policy="keep", idle=idle, absolute=absolute)
        self.modified = True

    def _cycle(self) -> Steps[None]:
        yield from self._loaded()
        state = self._here()
        try:
            yield from state.cycle()
        except SessionEnded:
            raise SessionInterrupted("The session ended before its key could be changed.") from None
        self._session_key = state.token
        self.modified = True
        self.cycled = state.token is not None

    def _delete(self, key: str | None) -> Steps[None]:
        if key is not None and key != self.session_key:
            row = yield from ask(Cloakroom.validate, key)
            if row is not None:
                yield from ask(Cloakroom.end, row, reason="logout")
        elif self.session_key is not None:
            yield from self._here().end()
            self.flushed = True

    def _forget_old(self, key: str | None) -> None:
        old = options().state.migrate_from
        if not isinstance(old, EngineSessions):
            return
        if key is not None and key != self.session_key:
            old.forget({old.cookie: key})
        else:
            old.forget(self._cookies if self._cookies is not None else {old.cookie: self.session_key or ""})


def _time(value: object) -> object:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _seconds(span: float | timedelta) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span


def _spans(expiry: object) -> tuple[float, float]:
    """Idle and absolute, in seconds, for what `set_expiry` was given."""
    state = options().state
    idle, absolute = _seconds(state.idle), _seconds(state.absolute)
    expiry = _time(expiry)
    if isinstance(expiry, datetime):
        expiry = expiry if timezone.is_aware(expiry) else timezone.make_aware(expiry)
        return idle, max((expiry - room().now).total_seconds(), 0.001)
    if isinstance(expiry, (int, float)) and expiry > 0:
        return expiry, max(absolute, expiry)
    return idle, absolute
