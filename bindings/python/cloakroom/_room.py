# SPDX-License-Identifier: Apache-2.0
"""`Cloakroom`: the calls, each as it is and as a coroutine with an `a` before its name.

A call is begun by `_core` (or by the fake of `cloakroom.testing`), and then either waited for, without
the interpreter's lock, or awaited on the library's descriptor: no thread is made, and the loop is never
blocked. What takes place in the table of this process needs neither.
"""

from __future__ import annotations

import functools
import json as _json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Final, Literal, Self

from . import _core
from ._core import Session
from ._values import Ending, Explanation, Login
from ._wait import Waiter
from ._workers import in_python_s_words, leave_none_behind, predecessors_are_gone, told_to_start
from .errors import InvalidArgument, LockLost, Refused

__all__ = ["ANY_VERSION", "Cloakroom", "Lock"]

Span = float | timedelta
"""A length of time: seconds, or a timedelta."""

ANY_VERSION: Final = _core.VERSION_ANY
"""Of `update`: the last writer wins."""

Reason = Literal["logout", "replaced", "admin", "password", "disabled", "device"]

_POLICIES = {"replace": 1, "keep": 2, "keep_n": 3}
_REASONS = {"logout": 1, "replaced": 2, "admin": 4, "password": 5, "disabled": 6, "device": 11}
_MODES = {"auto": 0, "attach": 1, "direct": 2}
_CACHES = {"default": 0, "none": 1, "memory": 2, "shared": 3}
_PAGE = 64
_MANY_MAX = 256


class _Unset:
    """Of `json=`: None is something to store."""


_UNSET: Final = _Unset()


class Cloakroom:
    """The sessions of one store, as this host's agent keeps them. Safe from any thread and task.

    May be opened before a fork: the child joins the agent anew with its first call.
    """

    def __init__(self, core: _core.Core) -> None:
        """Not for applications: `Cloakroom.open`."""
        self._core = core
        self._waiter = Waiter(core)

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
        """Join this host's agent for a store, or start one where none runs.

        `url`: `sqlite:///path/to/app.db`, `memory:`, `table:NAME` (see `cloakroom.cache`), or the socket
        of an agent that runs as a service, as `cloakroom:///run/cloakroom/app/app.sock` or as its path.
        `idle` and `absolute` are the default ends of sessions made here (30 minutes, 12 hours); `timeout`
        is that of one call (10 s). 0 and None take the default.

        Raises `Refused` where the set-up is unsafe, `OtherVersion`, `Unavailable`, `InvalidArgument`
        for a URL that is none: each says what was seen and what to do.

        `workers`: how many processes serve; 0: find out. With mode="direct", and `memory:`, there may be
        one only: under `uvicorn --workers 4` or `gunicorn -w 4` every worker is refused (CR-101), and the
        server ends.
        """
        address = _url(url)
        told, who = workers, ""
        if workers == 0 and (mode == "direct" or address == "memory:"):
            told, who = told_to_start()
        open_core = functools.partial(
            _core.Core,
            address,
            mode=_word("mode", mode, _MODES),
            cache=_word("cache", cache, _CACHES),
            cache_bytes=cache_bytes,
            idle_ms=_ms("idle", idle),
            absolute_ms=_ms("absolute", absolute),
            timeout_ms=_ms("timeout", timeout),
            workers=told,
            program=os.fspath(program) if program is not None else _carried(),
            state=os.fspath(state) if state is not None else None,
            realm=realm,
        )
        try:
            try:
                return cls(open_core())
            except Refused:
                if not predecessors_are_gone():
                    raise
                return cls(open_core())
        except Refused as error:
            leave_none_behind()
            raise Refused(in_python_s_words(str(error), told, who), error.status) from None

    @property
    def now(self) -> datetime:
        """The time that this room's times are compared with. A test's room has one that tests move."""
        return datetime.now(timezone.utc)

    def close(self) -> None:
        """Calls under way are given up. Every later call raises `InvalidArgument`."""
        self._waiter.close()
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    # Log-in.

    def login(
        self,
        user: str,
        *,
        policy: Literal["replace", "keep", "keep_n"],
        keep_count: int = 0,
        idle: Span = 0,
        absolute: Span = 0,
        rights: bytes = b"",
        data: bytes = b"",
        json: Any = _UNSET,
        address: str | None = None,
        agent: str | None = None,
        anonymous: str | None = None,
        renews: str | None = None,
    ) -> Login:
        """Log in a user whom you have checked.

        `policy` says what becomes of the user's earlier sessions: "replace" ends them all (the stolen
        device), "keep" leaves them, "keep_n" keeps `keep_count` in all, this one included. It has been
        carried out, in every worker of every host, when this returns. `anonymous`: the token of a
        visitor's session, whose data moves here and which ends. `renews`: the token of a session of this
        user that goes on, authenticated anew, under another token. `address` and `agent` are labels for
        the list of devices.

        Raises `Pending` where it is not everywhere in time: set no cookie, answer 503. `Conflict`: the
        user's sessions were ended meanwhile.
        """
        return _login(
            self._core.begin_login(
                user, _word("policy", policy, _POLICIES), keep_count, _ms("idle", idle),
                _ms("absolute", absolute), rights, _data(data, json), address, agent, anonymous, renews,
            ).result()
        )

    async def alogin(
        self,
        user: str,
        *,
        policy: Literal["replace", "keep", "keep_n"],
        keep_count: int = 0,
        idle: Span = 0,
        absolute: Span = 0,
        rights: bytes = b"",
        data: bytes = b"",
        json: Any = _UNSET,
        address: str | None = None,
        agent: str | None = None,
        anonymous: str | None = None,
        renews: str | None = None,
    ) -> Login:
        """`login`, awaited."""
        return _login(
            await self._waiter.wait(
                self._core.begin_login(
                    user, _word("policy", policy, _POLICIES), keep_count, _ms("idle", idle),
                    _ms("absolute", absolute), rights, _data(data, json), address, agent, anonymous,
                    renews,
                )
            )
        )

    def create(
        self,
        user: str | None = None,
        *,
        idle: Span = 0,
        absolute: Span = 0,
        rights: bytes = b"",
        data: bytes = b"",
        json: Any = _UNSET,
        address: str | None = None,
        agent: str | None = None,
        anonymous: str | None = None,
    ) -> Login:
        """Make a session and leave all others alone. Without a user: a visitor's, anonymous."""
        return _login(
            self._core.begin_create(
                user, _ms("idle", idle), _ms("absolute", absolute), rights, _data(data, json), address,
                agent, anonymous,
            ).result()
        )

    async def acreate(
        self,
        user: str | None = None,
        *,
        idle: Span = 0,
        absolute: Span = 0,
        rights: bytes = b"",
        data: bytes = b"",
        json: Any = _UNSET,
        address: str | None = None,
        agent: str | None = None,
        anonymous: str | None = None,
    ) -> Login:
        """`create`, awaited."""
        return _login(
            await self._waiter.wait(
                self._core.begin_create(
                    user, _ms("idle", idle), _ms("absolute", absolute), rights, _data(data, json),
                    address, agent, anonymous,
                )
            )
        )

    # Is it alive?

    def validate(self, token: str) -> Session | None:
        """The session of this token; None where it has ended, or is no token of ours.

        What is in the table of this process is answered there, in well under a microsecond. Raises
        `Unavailable` where it cannot be known now: that is not "logged out".
        """
        return self._core.validate(token)

    async def avalidate(self, token: str) -> Session | None:
        """`validate`, which awaits nothing where the table of this process has the answer."""
        session = self._core.validate_cached(token)
        if session is None:
            session = await self._waiter.wait(self._core.begin_validate(token, False))
        return await self._whole(session)

    def validate_strict(self, token: str) -> Session | None:
        """`validate` by the store itself, for what must not rest on a lease: a payment, a password."""
        session = self._core.begin_validate(token, True).result()
        if session is None or session.has_data:
            return session
        return session.with_data(*self._core.begin_read(session.id).result())

    async def avalidate_strict(self, token: str) -> Session | None:
        """`validate_strict`, awaited."""
        return await self._whole(await self._waiter.wait(self._core.begin_validate(token, True)))

    async def _whole(self, session: Session | None) -> Session | None:
        """With its data, which the table does not have where it is long."""
        if session is None or session.has_data:
            return session
        return session.with_data(*await self._waiter.wait(self._core.begin_read(session.id)))

    def validate_many(self, tokens: list[str]) -> list[Session | None]:
        """`validate` of up to 256 tokens at once, which is quicker than one after another."""
        return self._core.validate_many(tokens)

    async def avalidate_many(self, tokens: list[str]) -> list[Session | None]:
        """`validate_many`, which awaits only for those that the table of this process has no answer to."""
        if not isinstance(tokens, list):
            raise TypeError("tokens: a list of str")
        if len(tokens) > _MANY_MAX:
            raise InvalidArgument(
                f"tokens: {len(tokens)}, where at most {_MANY_MAX} are taken at once", "CR_E_INVALID"
            )
        found = [self._core.validate_cached(token) for token in tokens]
        for index, session in enumerate(found):
            if session is None or not session.has_data:
                found[index] = await self.avalidate(tokens[index])
        return found

    def touch(self, token: str) -> None:
        """Count the session as used now. Validations do so by themselves. `SessionEnded`."""
        self._core.begin_touch(token).result()

    async def atouch(self, token: str) -> None:
        """`touch`, awaited."""
        await self._waiter.wait(self._core.begin_touch(token))

    # What is in it.

    def read(self, session: Session | str) -> tuple[bytes, int]:
        """The data as the store has it, and its version, by session or id. `SessionEnded`."""
        return self._core.begin_read(_id(session)).result()

    async def aread(self, session: Session | str) -> tuple[bytes, int]:
        """`read`, awaited."""
        return await self._waiter.wait(self._core.begin_read(_id(session)))

    def update(
        self,
        session: Session,
        *,
        data: bytes = b"",
        json: Any = _UNSET,
        version: int | None = None,
    ) -> Session:
        """Replace the data, and return the session as it is then.

        Without `version`, the data must still be what `session` has; else `Conflict`. `ANY_VERSION`: the
        last writer wins. An ended session stays ended: `SessionEnded`. At most 64 KiB: `DataTooLarge`.
        """
        new = _data(data, json)
        if version is None:
            version = session.version
        return session.with_data(new, self._core.begin_write(_id(session), version, new).result())

    async def aupdate(
        self,
        session: Session,
        *,
        data: bytes = b"",
        json: Any = _UNSET,
        version: int | None = None,
    ) -> Session:
        """`update`, awaited."""
        new = _data(data, json)
        if version is None:
            version = session.version
        call = self._core.begin_write(_id(session), version, new)
        return session.with_data(new, await self._waiter.wait(call))

    def set_rights(self, session: Session | str, rights: bytes) -> None:
        """Replace the rights. When it returns, no worker serves the old ones."""
        self._core.begin_rights(_id(session), rights).result()

    async def aset_rights(self, session: Session | str, rights: bytes) -> None:
        """`set_rights`, awaited."""
        await self._waiter.wait(self._core.begin_rights(_id(session), rights))

    def rotate(self, token: str, *, privilege: bool = False) -> Login:
        """A successor token of the same session.

        Callers that race get the same one, and the old token stays good for ten seconds; not so with
        `privilege` (a log-in, more rights), where the old one is over at once. `SessionEnded`.
        """
        return _login(self._core.begin_rotate(token, privilege).result())

    async def arotate(self, token: str, *, privilege: bool = False) -> Login:
        """`rotate`, awaited."""
        return _login(await self._waiter.wait(self._core.begin_rotate(token, privilege)))

    # Endings. When one returns and `wait` was not False, no worker of any host accepts the sessions.

    def end(
        self,
        session: Session | str,
        *,
        reason: Reason = "logout",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """End one session, by session or id. False where there is none (it may have ended before).

        `wait=False`: do not wait for other hosts; `bound` says when it holds. `repeat`: the id of an
        ending whose outcome is unknown or pending, asked for again. `by`: a label for `explain`.
        """
        call = self._core.begin_end(_id(session), _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(call.result())

    async def aend(
        self,
        session: Session | str,
        *,
        reason: Reason = "logout",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """`end`, awaited."""
        call = self._core.begin_end(_id(session), _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(await self._waiter.wait(call))

    def invalidate_by_user(
        self,
        user: str,
        *,
        reason: Reason = "admin",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """End all sessions of a user, in O(1). `UnknownUser`: the store has never seen this one.

        A session, its id or a token where the user is meant is a TypeError.
        """
        call = self._core.begin_end_user(user, _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(call.result())

    async def ainvalidate_by_user(
        self,
        user: str,
        *,
        reason: Reason = "admin",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """`invalidate_by_user`, awaited."""
        call = self._core.begin_end_user(user, _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(await self._waiter.wait(call))

    def end_others(
        self,
        keep: Session | str,
        *,
        reason: Reason = "device",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """End all sessions of the user of `keep`, but not that one. `SessionEnded`: it is over itself."""
        call = self._core.begin_end_others(_id(keep), _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(call.result())

    async def aend_others(
        self,
        keep: Session | str,
        *,
        reason: Reason = "device",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """`end_others`, awaited."""
        call = self._core.begin_end_others(_id(keep), _word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(await self._waiter.wait(call))

    def end_all(
        self,
        *,
        reason: Reason = "admin",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """End everybody's sessions. `Denied` but for operators and direct mode."""
        call = self._core.begin_end_all(_word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(call.result())

    async def aend_all(
        self,
        *,
        reason: Reason = "admin",
        by: str | None = None,
        wait: bool = True,
        repeat: str | None = None,
    ) -> Ending:
        """`end_all`, awaited."""
        call = self._core.begin_end_all(_word("reason", reason, _REASONS), by, wait, repeat)
        return _ending(await self._waiter.wait(call))

    # To look at.

    def sessions_of(self, user: str) -> Iterator[Session]:
        """The user's live sessions, newest first, from the store, page by page. Without data."""
        after: tuple[int, str] | None = None
        while True:
            page, after = self._core.begin_sessions(user, after, _PAGE).result()
            yield from page
            if after is None:
                return

    async def asessions_of(self, user: str) -> AsyncIterator[Session]:
        """`sessions_of`, with `async for`."""
        after: tuple[int, str] | None = None
        while True:
            page, after = await self._waiter.wait(self._core.begin_sessions(user, after, _PAGE))
            for session in page:
                yield session
            if after is None:
                return

    def explain(self, session: Session | str) -> Explanation | None:
        """What became of a session; None where nothing is known of it any more."""
        return _explanation(self._core.begin_explain(_id(session)).result())

    async def aexplain(self, session: Session | str) -> Explanation | None:
        """`explain`, awaited."""
        return _explanation(await self._waiter.wait(self._core.begin_explain(_id(session))))

    def stats(self) -> dict[str, int | bool | str]:
        """Counters of table, engine and agent, as `struct cr_stats` names them."""
        return self._core.begin_stats().result()

    async def astats(self) -> dict[str, int | bool | str]:
        """`stats`, awaited."""
        return await self._waiter.wait(self._core.begin_stats())

    # Only one of us.

    def lock(self, name: str, *, wait: Span = 0) -> Lock:
        """A lock that one process of all hosts holds: `with room.lock("nightly"):`, or `async with`.

        Waits at most `wait` for it; `Busy` where another holds it still. See `Lock.fence`.
        """
        return Lock(self, name, _ms("wait", wait))

    def newest_fence(self, name: str) -> int:
        """The newest fence of a lock, whoever got it; 0: nobody ever took it."""
        return self._core.begin_fence(name).result()

    async def anewest_fence(self, name: str) -> int:
        """`newest_fence`, awaited."""
        return await self._waiter.wait(self._core.begin_fence(name))


class Lock:
    """A named lock, held inside `with` or `async with`. Free within milliseconds of its holder's death.

    A process that was paused may still run code after it lost the lock: pass `fence` with every write
    that matters, and refuse lower ones there.
    """

    def __init__(self, room: Cloakroom, name: str, wait_ms: int) -> None:
        self.name = name
        self._room = room
        self._wait_ms = wait_ms
        self._held: _core.Lock | None = None

    @property
    def fence(self) -> int:
        """Rises with every holder of this name, for as long as the store lives."""
        return self._lock().fence

    @property
    def held(self) -> bool:
        """Whether it certainly is ours, at this instant. Never waits."""
        return self._held is not None and self._held.is_held()

    def check(self) -> None:
        """Before each step that matters: raises `LockLost` unless it is held."""
        if not self.held:
            raise LockLost(f"the lock {self.name!r} is not held any more: stop", "CR_LOST")

    def give(self) -> None:
        """Give it back, before the block ends."""
        held, self._held = self._held, None
        if held is not None:
            held.give()

    def _lock(self) -> _core.Lock:
        if self._held is None:
            raise LockLost(f"the lock {self.name!r} is not held: take it by `with`", "CR_LOST")
        return self._held

    def __enter__(self) -> Self:
        self._free()
        self._held = self._room._core.begin_lock(self.name, self._wait_ms).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.give()

    async def __aenter__(self) -> Self:
        self._free()
        room = self._room
        self._held = await room._waiter.wait(room._core.begin_lock(self.name, self._wait_ms))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.give()

    def _free(self) -> None:
        if self._held is not None:
            raise RuntimeError(f"this lock object holds {self.name!r} already: make one for each `with`")


# Python's values and the library's.


def _url(url: str | os.PathLike[str]) -> str:
    text = os.fspath(url)
    if not isinstance(text, str):
        raise TypeError(f"a URL or the path of a socket, not {type(text).__name__}")
    return f"cloakroom://{os.path.abspath(text)}" if "/" in text and ":" not in text else text


def _carried() -> str | None:
    """The program that this package has with it."""
    path = os.path.join(os.path.dirname(__file__), "bin", "cloakroom")
    return path if os.path.exists(path) else None


def _word(what: str, word: str, words: dict[str, int]) -> int:
    number = words.get(word)
    if number is None:
        raise InvalidArgument(f"{what}={word!r}: one of {', '.join(map(repr, words))}", "CR_E_INVALID")
    return number


def _ms(what: str, span: Span) -> int:
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if not 0 <= seconds <= 366 * 24 * 3600:
        raise InvalidArgument(f"{what}={span!r}: seconds, from 0 to 366 days", "CR_E_INVALID")
    return round(seconds * 1000)


def _data(data: bytes, json: Any) -> bytes:
    if isinstance(json, _Unset):
        return data
    if data:
        raise TypeError("data or json, not both")
    try:
        return _json.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"json={type(json).__name__}: {error}; store numbers, texts, lists and dictionaries, or give"
            " bytes of your own as data=",
            "CR_E_INVALID",
        ) from error


def _id(session: Session | str) -> str:
    return session.id if isinstance(session, Session) else session


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, timezone.utc).replace(microsecond=ms % 1000 * 1000)


def _time_or_none(ms: int) -> datetime | None:
    return _time(ms) if ms else None


def _login(row: _core.LoginRow) -> Login:
    session, token, expires_ms = row
    return Login(session, token, _time(expires_ms))


def _ending(row: _core.EndingRow | None) -> Ending:
    if row is None:
        return Ending(False, True, "", timedelta(0))
    done, ending, bound_ms = row
    return Ending(True, done, ending, timedelta(milliseconds=bound_ms))


def _explanation(row: dict[str, Any] | None) -> Explanation | None:
    if row is None:
        return None
    return Explanation(
        live=row["live"],
        reason=row["reason"],
        at=_time_or_none(row["at"]),
        by=row["by"],
        user=row["user"],
        created_at=_time_or_none(row["created_at"]),
        seen_at=_time_or_none(row["seen_at"]),
        ends_at=_time_or_none(row["ends_at"]),
        from_address=row["address"],
        from_agent=row["agent"],
        rotated_at=tuple(_time(ms) for ms in row["rotated_at"]),
    )
