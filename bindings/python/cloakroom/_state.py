# SPDX-License-Identifier: Apache-2.0
"""What one request has of a session: a dictionary, loaded when asked for and saved when changed.

It owns the rules that all adapters keep, and leaves to them when a step is taken and what becomes of
cookies. The rules:

- Only a token that validates is used. What else a client sends is never stored under: who puts something
  in gets a session with an id and a token made here.
- Nothing is stored for who put nothing in.
- A save names the version it was loaded with. Was another request quicker, its changes and ours are
  merged by top-level keys; both changed one key, each its own way: `Conflict`.
- A save never brings back a session that has ended.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol

from ._core import Session
from ._merge import Collision, merge
from ._migrate import OldSessions, close_old_steps, move, twins
from ._room import ANY_VERSION, Cloakroom, Reason, Span
from ._steps import Steps, ask
from ._values import Login
from .errors import Conflict, InvalidArgument, SessionEnded

__all__ = ["JSON", "Codec", "OnConflict", "OnEnded", "SessionState", "StateSettings"]

OnConflict = Literal["merge", "raise", "last_wins"]
OnEnded = Literal["drop", "raise"]
Policy = Literal["replace", "keep", "keep_n"]

# So many times another request may be quicker before the save gives up. Each time one of them has been
# saved, so it is as many as may change one session at once.
_TRIES = 32

_log = logging.getLogger("cloakroom")


class Codec(Protocol):
    """How a dictionary becomes bytes. `dumps` of equal dictionaries is equal; both raise ValueError or
    TypeError."""

    def dumps(self, data: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...


class _Json:
    def dumps(self, data: Any, /) -> bytes:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def loads(self, data: bytes, /) -> Any:
        return json.loads(data)


JSON: Codec = _Json()


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What an adapter's user may choose.

    `on_conflict`: "merge", "raise" on every other request's change, or "last_wins".
    `on_ended`: what becomes of a save to a session that ended while the request was served: "drop" it,
    with a warning in the log, or "raise" `SessionEnded`.
    `idle` and `absolute` are the ends of sessions made here; 0 takes the room's.
    `last_wins_keys`: where both changed one of these, the last writer's value stays, without a conflict.
    """

    on_conflict: OnConflict = "merge"
    on_ended: OnEnded = "drop"
    idle: Span = 0
    absolute: Span = 0
    codec: Codec = JSON
    migrate_from: OldSessions | None = None
    last_wins_keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.on_conflict not in ("merge", "raise", "last_wins"):
            raise InvalidArgument(f"on_conflict={self.on_conflict!r}: one of 'merge', 'raise', 'last_wins'")
        if self.on_ended not in ("drop", "raise"):
            raise InvalidArgument(f"on_ended={self.on_ended!r}: one of 'drop', 'raise'")


class SessionState:
    """Of one request, used by one task at a time.

    `load` before anything else; `data` is the dictionary, to be changed freely, also deep inside; `save`
    before the response goes out. Afterwards `issued` is the log-in whose token the client must get, and
    `cleared` says that its cookies are to be taken away.
    """

    def __init__(
        self,
        settings: StateSettings,
        token: str | None,
        *,
        cookies: Mapping[str, str] | None = None,
        address: str | None = None,
        agent: str | None = None,
    ) -> None:
        """`token`: what the client sent as such. `cookies`: all it sent, to find old sessions by."""
        self.settings = settings
        self.token = token
        self.session: Session | None = None
        self.issued: Login | None = None
        self.cleared = False
        """The client's cookie is to be taken away; not, where something was put in after the log-out."""
        self.was_ended = False
        """It was logged out, and its old cookie, if any, is to be taken away."""
        self.ended = False
        """It ended under us: a save was dropped, or raised `SessionEnded`; so is what is put in later."""
        self.moved = False
        """It came from the old place with this request."""
        self.loaded = False
        self.accessed = False
        self._created = False
        self._cookies = cookies
        self._address = address
        self._agent = agent
        self._raw = b""  # the data as the store had it when loaded
        self._data: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"SessionState(session={self.session!r}, loaded={self.loaded})"

    @property
    def data(self) -> dict[str, Any]:
        """What is in the session; empty without one. Changes are found by comparing, at `save`."""
        if not self.loaded:
            raise RuntimeError("the session was not loaded yet")
        self.accessed = True
        if self._data is None:
            self._data = self._loads(self._raw)
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self.accessed = True
        self._data = data

    @property
    def user(self) -> str | None:
        self.accessed = True
        return self.session.user if self.session is not None else None

    @property
    def is_new(self) -> bool:
        """None came with the request; or it was left for another, by a log-in."""
        return self.session is None or self._created

    @property
    def dirty(self) -> bool:
        """Whether `save` would store something."""
        if self._data is None:
            return False
        new = self._dumps(self._data)
        if new == self._raw:
            return False
        return new != self._dumps(self._loads(self._raw))

    # Steps.

    def load(self) -> Steps[None]:
        """Find the session: ours by the token, or the old place's. Raises `Later`; once is enough."""
        if self.loaded:
            return
        session: Session | None = None
        if self.token is not None:
            session = yield from ask(Cloakroom.validate, self.token)
        if session is not None:
            self._begin(session, session.data)
        else:
            self.token = None
            moved = yield from self._move()
            if moved is not None:
                yield from self._issue(moved)
                self.moved = True
        self.loaded = True

    def load_session(self, session: Session, token: str) -> None:
        """Instead of `load`: it has been validated."""
        self.token = token
        self._begin(session, session.data)
        self.loaded = True

    def load_nothing(self) -> None:
        """Instead of `load`: whatever the client sent, what is put in goes into a new session."""
        self.token = None
        self.loaded = True

    def _move(self) -> Steps[Login | None]:
        old = self.settings.migrate_from
        if old is None or not self._cookies:
            return None
        return (
            yield from move(
                old,
                self._cookies,
                self._dumps,
                idle=_seconds(self.settings.idle),
                absolute=_seconds(self.settings.absolute),
                address=self._address,
                agent=self._agent,
            )
        )

    def save(self) -> Steps[None]:
        """Store what changed. `Conflict`, `SessionEnded` by the settings, `DataTooLarge`, `Later`."""
        if self._data is None or not self.dirty:
            return
        if self.ended:
            # Dropped, too. A new session's cookie would take the place of a log-in's.
            self._forget()
            if self.settings.on_ended == "raise":
                raise SessionEnded("the session ended while the request used it", "CR_ENDED")
            return
        if self.session is not None:
            try:
                yield from self._write(self.session, self._data)
            except SessionEnded as error:
                self._lose(error)
        elif self._data:
            yield from self.create()

    def create(self, *, idle: Span | None = None, absolute: Span | None = None) -> Steps[None]:
        """A visitor's session with what there is, be it nothing; one that there was goes over into it."""
        yield from self.load()
        if self.session is not None:
            yield from self.save()
        login = yield from ask(
            Cloakroom.create,
            None,
            idle=self.settings.idle if idle is None else idle,
            absolute=self.settings.absolute if absolute is None else absolute,
            data=self._dumps(self._data if self._data is not None else self._loads(self._raw)),
            address=self._address,
            agent=self._agent,
            anonymous=self.token,
        )
        yield from self._issue(login)
        self._created = True

    def _write(self, session: Session, data: dict[str, Any]) -> Steps[None]:
        new = self._dumps(data)
        version = session.version if self.settings.on_conflict != "last_wins" else ANY_VERSION
        base = self._raw
        for _ in range(_TRIES):
            try:
                saved = yield from ask(Cloakroom.update, session, data=new, version=version)
            except Conflict:
                if self.settings.on_conflict != "merge":
                    raise
            else:
                self._begin(saved, new, refresh=base is not self._raw)
                return
            theirs, version = yield from ask(Cloakroom.read, session)
            new = self._merge(session, base, new, theirs)
            base = theirs
        raise Conflict(
            f"session {session.id}: {_TRIES} times in a row another request was quicker; nothing was saved",
            "CR_CONFLICT",
        )

    def _merge(self, session: Session, base: bytes, mine: bytes, theirs: bytes) -> bytes:
        def same(a: Any, b: Any) -> bool:
            return self._dumps(a) == self._dumps(b)

        was, here, there = self._loads(base), self._loads(mine), self._loads(theirs)
        try:
            return self._dumps(merge(was, here, there, same, self.settings.last_wins_keys))
        except Collision as error:
            raise Conflict(
                f"session {session.id}: another request changed {', '.join(map(repr, error.keys))}"
                " meanwhile, and differently; nothing was saved. Ask the client to try again, or choose"
                ' on_conflict="last_wins"',
                "CR_CONFLICT",
            ) from None

    def _lose(self, error: SessionEnded) -> None:
        """It ended under us. The client's cookie stays: it may be another request's by now, a log-in's."""
        assert self.session is not None
        session = self.session
        self.ended = True
        self._forget()
        if self.settings.on_ended == "raise":
            raise error
        _log.warning("session %s ended while a request used it: what it changed is dropped", session.id)

    def login(
        self,
        user: str,
        *,
        policy: Policy,
        keep_count: int = 0,
        idle: Span | None = None,
        absolute: Span | None = None,
        rights: bytes = b"",
        address: str | None = None,
        agent: str | None = None,
    ) -> Steps[Login]:
        """Log in a user who was checked, under a new token, and end what this client had.

        What is in a visitor's session moves over, and so does what is in an earlier one of the same
        user; another user's stays behind.
        """
        yield from self.load()
        yield from self._save_before_login()
        data, anonymous, before = b"", None, self.session
        if before is None:
            data = self._dumps(self._data) if self._data else b""
        elif before.user is None:
            anonymous = self.token
        elif before.user == user:
            data = self._raw
        if policy == "replace" and self.settings.migrate_from is not None:
            yield from close_old_steps(user)
        login = yield from ask(
            Cloakroom.login,
            user,
            policy=policy,
            keep_count=keep_count,
            idle=self.settings.idle if idle is None else idle,
            absolute=self.settings.absolute if absolute is None else absolute,
            rights=rights,
            data=data,
            address=self._address if address is None else address,
            agent=self._agent if agent is None else agent,
            anonymous=anonymous,
        )
        if before is not None and before.user is not None:
            yield from self._end(before, "replaced")
        yield from self._issue(login)
        self._created = True
        return login

    def _save_before_login(self) -> Steps[None]:
        if self.session is None or self._data is None or not self.dirty:
            return
        try:
            yield from self._write(self.session, self._data)
        except SessionEnded:
            # Ended meanwhile: a visitor's data goes into the new session, a user's is gone.
            anonymous, data = self.session.user is None, self._data
            self._forget()
            if anonymous:
                self._data = data

    def end(self, reason: Reason = "logout") -> Steps[None]:
        """End the session everywhere, with all that came of the same old one. Then there is none.

        What is put in afterwards goes into a new one.
        """
        yield from self.load()
        if self.session is not None:
            yield from self._end(self.session, reason)
        self._forget()
        self.ended = False
        self.cleared = self.was_ended = self.accessed = True

    def _end(self, session: Session, reason: Reason) -> Steps[None]:
        if self.settings.migrate_from is not None:
            for twin in (yield from twins(session)):
                if twin.id != session.id:
                    yield from ask(Cloakroom.end, twin, reason=reason)
        yield from ask(Cloakroom.end, session, reason=reason)

    logout = flush = end

    def cycle(self) -> Steps[Login | None]:
        """Another token for the same session; the old one is over at once. None without a session."""
        yield from self.load()
        if self.session is None or self.token is None:
            return None
        try:
            login = yield from ask(Cloakroom.rotate, self.token, privilege=True)
        except SessionEnded as error:
            self._lose(error)
            return None
        self.token, self.issued, self.cleared = login.signed_token, login, False
        return login

    def touch(self) -> Steps[None]:
        """Count it as used now; validations do so by themselves. What is in it stays."""
        yield from self.load()
        if self.token is None:
            return
        try:
            yield from ask(Cloakroom.touch, self.token)
        except SessionEnded as error:
            self._lose(error)

    # What is known.

    def _issue(self, login: Login) -> Steps[None]:
        session = login.session
        if not session.has_data:
            session = session.with_data(*(yield from ask(Cloakroom.read, session)))
        self.token, self.issued, self.cleared = login.signed_token, login, False
        self._begin(session, session.data)

    def _begin(self, session: Session, raw: bytes, *, refresh: bool = True) -> None:
        """`raw` is what is stored. The dictionary in hand stays the same object, as others hold it."""
        self.session = session
        self.ended = False
        self._raw = raw
        if refresh and self._data is not None:
            new = self._loads(raw)
            self._data.clear()
            self._data.update(new)

    def _forget(self) -> None:
        self.session = self.token = self.issued = None
        self._created = False
        self._raw = b""
        if self._data is not None:
            self._data = {}
        self.loaded = True

    def _dumps(self, data: Any) -> bytes:
        try:
            return self.settings.codec.dumps(data)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"the session has something that cannot be stored: {error}. Store numbers, texts, lists and"
                " dictionaries",
                "CR_E_INVALID",
            ) from error

    def _loads(self, raw: bytes) -> dict[str, Any]:
        if not raw:
            return {}
        try:
            data = self.settings.codec.loads(raw)
        except (TypeError, ValueError):
            data = None
        if not isinstance(data, dict):
            raise InvalidArgument(
                "what is stored in the session is no dictionary that this adapter wrote: give each of two"
                " programs that share sessions the same one, or leave `session` alone",
                "CR_E_INVALID",
            )
        return data


def _seconds(span: Span) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span
