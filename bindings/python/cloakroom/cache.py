# SPDX-License-Identifier: Apache-2.0
"""A session cache in front of an application's own session table.

    cache = open_cache("shared", "shop")

    def find_session(token: str):
        row = db.execute("SELECT user_id, ... FROM sessions WHERE token = ?", (token,)).fetchone()
        return None if row is None else (str(row.user_id), {"name": row.name}, row.seconds_left)

    session = cache.get_or_load(token, find_session)    # None: nobody is logged in
    ...
    cache.invalidate_by_user(str(user.id))              # after the commit that ends their sessions

`SessionCache` is what an application holds, whichever implementation it was given. Three are here, and a
class of your own fits, too:

- `SharedSessionCache`: one table for all workers of the host. When an invalidation has returned, no
  worker believes the entry.
- `InMemorySessionCache`: a table in this process, for a single worker.
- `NoOpSessionCache`: keeps nothing; every request reads the database.

**What is read before an ending is not believed after it.** A worker may have read a session from the
database, and be about to put it into the cache, when another ends it. So an entry is taken only with a
ticket from before the query: `get_or_load` takes one by itself. With `get` and `set`, a `get` that finds
nothing takes it, and the `set` of the same thread or task uses it up; a `set` with no such `get` before
it keeps nothing, which is safe, and slow.

**A time-to-live is a last resort.** Sessions are ended by the invalidation that follows the commit. The
time-to-live bounds the life of an entry whose session ended by itself, or whose invalidation was never
made: of a process that died between commit and invalidation, of somebody who edits the database by hand.

Keys are the application's tokens, text or bytes. They are secrets: only their hashes are kept. Values are
what JSON can hold, or whatever your own `dumps` and `loads` make bytes of; at most 4096 bytes.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, overload, runtime_checkable

from . import _core
from ._room import Cloakroom, Span
from .errors import DataTooLarge, InvalidArgument, Later, Refused

__all__ = [
    "BaseSessionCache",
    "InMemorySessionCache",
    "Key",
    "Loaded",
    "NoOpSessionCache",
    "SessionCache",
    "SharedSessionCache",
    "open_cache",
    "user_id",
]

V = TypeVar("V")
K = TypeVar("K", str, bytes)

Key = str | bytes
"""The application's own token."""

Loaded = tuple[str, V, Span]
"""What the database says of a session: its user, the value to keep, how long it goes on at most."""

_SPAN_MS_MAX = 366 * 24 * 3600 * 1000
_TICKETS_MAX = 128
_TTL = 60  # seconds, where each worker has its own
_ADMIN = 4  # CR_REASON_ADMIN


@runtime_checkable
class SessionCache(Protocol[V]):
    """What an application may ask of a session cache, whichever it was given.

    `user` is the application's name for a person, a text. A session in its place is a TypeError.
    """

    def get(self, key: Key) -> V | None:
        """The value kept for this token; None: ask the database."""

    def set(self, key: Key, user: str, value: V, ttl: Span) -> None:
        """Keep what the database said, for at most `ttl`. It may keep nothing."""

    def invalidate(self, key: Key) -> None:
        """After the commit that ended one session."""

    def invalidate_by_user(self, user: str) -> None:
        """After the commit that ended all sessions of a user, as a log-in that replaces them does."""

    def clear(self) -> None:
        """Forget everything."""


def user_id(user: str) -> str:
    """The user as it came, or TypeError: a session, its id or its token is no user."""
    if not isinstance(user, str):
        raise TypeError(
            f"a user is meant, as a str, and this is of type {type(user).__name__}: give str(user.id)"
        )
    if user.startswith(("crp_", "crs1_")):
        raise TypeError("a user is meant, and this is a session's id or a token")
    if not 1 <= len(user.encode(errors="replace")) <= _core.USER_BYTES_MAX:
        raise InvalidArgument(f"a user has 1 to {_core.USER_BYTES_MAX} bytes", "CR_E_INVALID")
    return user


# Tickets that `get` has taken and `set` has not used, of this thread or task: another's query began when
# it began, and has a ticket of its own. Never changed in place, as a task's copy may have it, too.
_Tickets = Mapping[tuple[int, bytes], Any]
_tickets: ContextVar[_Tickets | None] = ContextVar("cloakroom.tickets", default=None)


class BaseSessionCache(abc.ABC, Generic[V]):
    """What the three have in common; each call as it is, and awaited with an `a` before its name.

    To write one of your own, `SessionCache` is enough.
    """

    _numbers = itertools.count()

    def __init__(
        self, *, dumps: Callable[[V], bytes] | None = None, loads: Callable[[bytes], V] | None = None
    ) -> None:
        if (dumps is None) != (loads is None):
            raise TypeError("dumps and loads go together")
        self._dumps: Callable[[V], bytes] = dumps if dumps is not None else _json_dumps
        self._loads: Callable[[bytes], V] = loads if loads is not None else _json_loads
        self._number = next(self._numbers)

    def get(self, key: Key) -> V | None:
        """The value kept for this token; None: ask the database, and `set` what it says."""
        name = _name(key)
        data = self._find(name)
        if data is None:
            slot = self._slot(name)
            if not _has_ticket(slot):
                _keep_ticket(slot, self._begin(name))
            return None
        return self._loads(data)

    def set(self, key: Key, user: str, value: V, ttl: Span) -> None:
        """Keep what the database said since the `get` of this thread or task; without one, nothing."""
        name, data, ms = _name(key), self._data(user, value), _ttl_ms(ttl)
        ticket = _use_ticket(self._slot(name))
        if ticket is not None and ms > 0:
            self._keep(ticket, name, user, data, ms)

    def get_or_load(self, key: K, load: Callable[[K], Loaded[V] | None]) -> V | None:
        """The value, from the cache or by `load(key)`, which reads the database.

        `load` answers `(user, value, ttl)`, or None where there is no such session. Let it read outside
        of an open transaction, from the primary: what it sees must not be older than its call.
        """
        name = _name(key)
        data = self._find(name)
        if data is None:
            ticket = self._begin(name)
            loaded = load(key)
            if loaded is None:
                return None
            user, value, ttl = loaded
            data, ms = self._data(user, value), _ttl_ms(ttl)
            if ms > 0:
                self._keep(ticket, name, user, data, ms)
        return self._loads(data)

    def invalidate(self, key: Key) -> None:
        """After the commit that ended one session: when it returns, its entry is not believed."""
        self._drop(_name(key))

    def invalidate_by_user(self, user: str) -> None:
        """After the commit that ended all sessions of a user. O(1), however many they were."""
        self._drop_user(user_id(user))

    def clear(self) -> None:
        """Forget everything, and believe nothing that was read before."""
        self._drop_all()

    async def aget(self, key: Key) -> V | None:
        """`get`, awaited."""
        name = _name(key)
        data = await self._afind(name)
        if data is None:
            slot = self._slot(name)
            if not _has_ticket(slot):
                _keep_ticket(slot, await self._abegin(name))
            return None
        return self._loads(data)

    async def aset(self, key: Key, user: str, value: V, ttl: Span) -> None:
        """`set`, awaited."""
        name, data, ms = _name(key), self._data(user, value), _ttl_ms(ttl)
        ticket = _use_ticket(self._slot(name))
        if ticket is not None and ms > 0:
            await self._akeep(ticket, name, user, data, ms)

    async def aget_or_load(
        self, key: K, load: Callable[[K], Awaitable[Loaded[V] | None]]
    ) -> V | None:
        """`get_or_load`, awaited; so is `load`."""
        name = _name(key)
        data = await self._afind(name)
        if data is None:
            ticket = await self._abegin(name)
            loaded = await load(key)
            if loaded is None:
                return None
            user, value, ttl = loaded
            data, ms = self._data(user, value), _ttl_ms(ttl)
            if ms > 0:
                await self._akeep(ticket, name, user, data, ms)
        return self._loads(data)

    async def ainvalidate(self, key: Key) -> None:
        """`invalidate`, awaited."""
        await self._adrop(_name(key))

    async def ainvalidate_by_user(self, user: str) -> None:
        """`invalidate_by_user`, awaited."""
        await self._adrop_user(user_id(user))

    async def aclear(self) -> None:
        """`clear`, awaited."""
        await self._adrop_all()

    def _slot(self, name: bytes) -> tuple[int, bytes]:
        return self._number, hashlib.sha256(name).digest()

    def _data(self, user: str, value: V) -> bytes:
        """Checks what is to be kept, whether or not it is: all caches refuse the same."""
        user_id(user)
        if value is None:
            raise InvalidArgument("None is what get says where there is nothing: keep something else")
        data = self._dumps(value)
        if not isinstance(data, bytes):
            raise TypeError(f"dumps gave {type(data).__name__}, and bytes are kept")
        if len(data) > _core.DATA_CACHED_BYTES_MAX:
            raise DataTooLarge(
                f"the value has {len(data)} bytes, and an entry takes {_core.DATA_CACHED_BYTES_MAX}: keep"
                " what each request needs, and read the rest where it is needed",
                "CR_E_LIMIT",
            )
        return data

    # One's own.

    @abc.abstractmethod
    def _find(self, name: bytes) -> bytes | None: ...
    @abc.abstractmethod
    def _begin(self, name: bytes) -> Any:
        """A ticket, taken before the database is asked."""
    @abc.abstractmethod
    def _keep(self, ticket: Any, name: bytes, user: str, data: bytes, ttl_ms: int) -> None: ...
    @abc.abstractmethod
    def _drop(self, name: bytes) -> None: ...
    @abc.abstractmethod
    def _drop_user(self, user: str) -> None: ...
    @abc.abstractmethod
    def _drop_all(self) -> None: ...

    # The same for who awaits; to be replaced where they wait.

    async def _afind(self, name: bytes) -> bytes | None:
        return self._find(name)

    async def _abegin(self, name: bytes) -> Any:
        return self._begin(name)

    async def _akeep(self, ticket: Any, name: bytes, user: str, data: bytes, ttl_ms: int) -> None:
        self._keep(ticket, name, user, data, ttl_ms)

    async def _adrop(self, name: bytes) -> None:
        self._drop(name)

    async def _adrop_user(self, user: str) -> None:
        self._drop_user(user)

    async def _adrop_all(self) -> None:
        self._drop_all()


class NoOpSessionCache(BaseSessionCache[V]):
    """Keeps nothing, so that every request reads the database: correct with any number of workers.

    Takes and refuses the same arguments as the others.
    """

    def _find(self, name: bytes) -> bytes | None:
        return None

    def _begin(self, name: bytes) -> Any:
        return self

    def _keep(self, ticket: Any, name: bytes, user: str, data: bytes, ttl_ms: int) -> None:
        pass

    def _drop(self, name: bytes) -> None:
        pass

    def _drop_user(self, user: str) -> None:
        pass

    def _drop_all(self) -> None:
        pass


class _Owner:
    """A user's entries, all of them over at once."""

    __slots__ = ("count", "is_ended")

    def __init__(self) -> None:
        self.count = 0
        self.is_ended = False


class _Entry:
    __slots__ = ("data", "owner", "until", "user")

    def __init__(self, owner: _Owner, user: str, data: bytes, until: float) -> None:
        self.owner = owner
        self.user = user
        self.data = data
        self.until = until


class InMemorySessionCache(BaseSessionCache[V]):
    """A table in this process. For a single worker.

    Process-local:

    - *Scope*: what is kept and what is invalidated is known to this process alone.
    - *With many workers*: each has its own entries, so each reads the database for itself.
    - *Security effect*: a session that one worker ended goes on being accepted by every other worker that
      has it, until its time-to-live is over there. A stolen session stays good after it was ended.
    - *Way out*: `SharedSessionCache`, for any number of workers; `open_cache("memory")` refuses to start
      under several.

    `ttl` caps the life of every entry (60 s): the last resort, and the bound of that effect. `size`:
    entries at most; the one longest not used goes.
    """

    def __init__(
        self,
        *,
        ttl: Span = _TTL,
        size: int = 65536,
        dumps: Callable[[V], bytes] | None = None,
        loads: Callable[[bytes], V] | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        super().__init__(dumps=dumps, loads=loads)
        self._ttl_ms = _ttl_ms(ttl)
        if self._ttl_ms < 1 or size < 1:
            raise InvalidArgument("ttl and size are more than nothing", "CR_E_INVALID")
        self._size = size
        self._now = clock
        self._secret = secrets.token_bytes(32)  # of the hash of keys
        self._room: Cloakroom | None = None  # of open_cache: it says that this worker is the only one
        self._begin_anew()
        _of_this_process.add(self)

    def __len__(self) -> int:
        return len(self._entries)

    def _begin_anew(self) -> None:
        self._guard = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        # Who has entries that are believed.
        self._owners: dict[str, _Owner] = {}
        # Endings are counted. What was read before `_floor`, or before its user or key was last ended, is
        # not taken in.
        self._clock = 1
        self._floor = 1
        self._ended: OrderedDict[str | bytes, int] = OrderedDict()

    def _hash(self, name: bytes) -> bytes:
        return hashlib.blake2b(name, key=self._secret, digest_size=20).digest()

    def _find(self, name: bytes) -> bytes | None:
        digest = self._hash(name)
        with self._guard:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            if entry.owner.is_ended or self._now() >= entry.until:
                self._remove(digest)
                return None
            self._entries.move_to_end(digest)
            return entry.data

    def _begin(self, name: bytes) -> tuple[int, float]:
        with self._guard:
            return self._clock, self._now()

    def _keep(self, ticket: tuple[int, float], name: bytes, user: str, data: bytes, ttl_ms: int) -> None:
        digest = self._hash(name)
        clock, began = ticket
        with self._guard:
            ended = max(self._floor, self._ended.get(user, 0), self._ended.get(digest, 0))
            if clock < ended:
                return
            self._remove(digest)
            owner = self._owners.setdefault(user, _Owner())
            owner.count += 1
            until = began + min(ttl_ms, self._ttl_ms) / 1000
            self._entries[digest] = _Entry(owner, user, data, until)
            if len(self._entries) > self._size:
                self._remove(next(iter(self._entries)))

    def _drop(self, name: bytes) -> None:
        digest = self._hash(name)
        with self._guard:
            self._note(digest)
            self._remove(digest)

    def _drop_user(self, user: str) -> None:
        with self._guard:
            self._note(user)
            owner = self._owners.pop(user, None)
            if owner is not None:
                owner.is_ended = True  # its entries go when they are met, or make room

    def _drop_all(self) -> None:
        with self._guard:
            self._clock += 1
            self._floor = self._clock
            self._ended.clear()
            self._entries.clear()
            self._owners.clear()

    def _note(self, what: str | bytes) -> None:
        self._clock += 1
        self._ended.pop(what, None)
        self._ended[what] = self._clock
        if len(self._ended) > self._size:
            self._floor = self._ended.popitem(last=False)[1]

    def _remove(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        entry.owner.count -= 1
        if entry.owner.count == 0 and not entry.owner.is_ended:
            del self._owners[entry.user]


class SharedSessionCache(BaseSessionCache[V]):
    """One table for all workers of this host, over a room of `table:NAME`.

        cache = SharedSessionCache(Cloakroom.open("table:shop"))

    What one worker puts in is a hit in all, in their own memory; what one has invalidated none believes
    any more when the call returns. Without the agent there is nothing to find and nothing to keep, which
    is safe; only an invalidation must arrive: it raises `Later` (mostly `Unavailable`) where it cannot,
    and is to be tried again. One host only: workers on several hosts want `Cloakroom` itself, over a
    store of its own.

    `ttl` caps the life of every entry; None: what `set` says.
    """

    def __init__(
        self,
        room: Cloakroom,
        *,
        ttl: Span | None = None,
        dumps: Callable[[V], bytes] | None = None,
        loads: Callable[[bytes], V] | None = None,
    ) -> None:
        super().__init__(dumps=dumps, loads=loads)
        self.room: Final = room
        self._ttl_ms = _SPAN_MS_MAX if ttl is None else _ttl_ms(ttl)
        if self._ttl_ms < 1:
            raise InvalidArgument("ttl is more than nothing", "CR_E_INVALID")
        self._lookup = room._core.lookup
        try:
            self._lookup(b"")
        except InvalidArgument as error:
            text = "the room must be one of table:NAME, as this cache is in front of your own sessions"
            raise InvalidArgument(text, "CR_E_INVALID") from error

    def _find(self, name: bytes) -> bytes | None:
        found = self._lookup(name)
        return None if found is None else found[1]

    def _begin(self, name: bytes) -> bytes:
        return self.room._core.begin_ticket(name).result()

    def _keep(self, ticket: bytes, name: bytes, user: str, data: bytes, ttl_ms: int) -> None:
        with contextlib.suppress(Later):
            self.room._core.begin_fill(ticket, user, data, min(ttl_ms, self._ttl_ms)).result()

    def _drop(self, name: bytes) -> None:
        self.room._core.begin_invalidate(name).result()

    def _drop_user(self, user: str) -> None:
        self.room._core.begin_end_user(user, _ADMIN, None, True, None).result()

    def _drop_all(self) -> None:
        self.room._core.begin_end_all(_ADMIN, None, True, None).result()

    async def _afind(self, name: bytes) -> bytes | None:
        call = self.room._core.begin_lookup(name)
        found = call.result() if call.done else await self.room._waiter.wait(call)
        return None if found is None else found[1]

    async def _abegin(self, name: bytes) -> bytes:
        return await self.room._waiter.wait(self.room._core.begin_ticket(name))

    async def _akeep(self, ticket: bytes, name: bytes, user: str, data: bytes, ttl_ms: int) -> None:
        call = self.room._core.begin_fill(ticket, user, data, min(ttl_ms, self._ttl_ms))
        with contextlib.suppress(Later):
            await self.room._waiter.wait(call)

    async def _adrop(self, name: bytes) -> None:
        await self.room._waiter.wait(self.room._core.begin_invalidate(name))

    async def _adrop_user(self, user: str) -> None:
        call = self.room._core.begin_end_user(user, _ADMIN, None, True, None)
        await self.room._waiter.wait(call)

    async def _adrop_all(self) -> None:
        await self.room._waiter.wait(self.room._core.begin_end_all(_ADMIN, None, True, None))


@overload
def open_cache(
    kind: Literal["shared", "memory", "none"],
    name: str = ...,
    *,
    ttl: Span | None = ...,
    program: str | os.PathLike[str] | None = ...,
    state: str | os.PathLike[str] | None = ...,
) -> BaseSessionCache[Any]: ...
@overload
def open_cache(
    kind: Literal["shared", "memory", "none"],
    name: str = ...,
    *,
    ttl: Span | None = ...,
    dumps: Callable[[V], bytes],
    loads: Callable[[bytes], V],
    program: str | os.PathLike[str] | None = ...,
    state: str | os.PathLike[str] | None = ...,
) -> BaseSessionCache[V]: ...
def open_cache(
    kind: Literal["shared", "memory", "none"],
    name: str = "sessions",
    *,
    ttl: Span | None = None,
    dumps: Callable[[Any], bytes] | None = None,
    loads: Callable[[bytes], Any] | None = None,
    program: str | os.PathLike[str] | None = None,
    state: str | os.PathLike[str] | None = None,
) -> BaseSessionCache[Any]:
    """The cache that the settings name. It always is one: with "none", every lookup asks the database.

    "shared": the table `name` of this host's agent, which is started where none runs. "memory": refused
    (`Refused`, CR-101) where several workers are being started. `ttl` caps the life of every entry.
    """
    if kind == "shared":
        room = Cloakroom.open(f"table:{name}", program=program, state=state)
        return SharedSessionCache(room, ttl=ttl, dumps=dumps, loads=loads)
    if kind == "memory":
        ttl = _TTL if ttl is None else ttl
        alone = _alone(name, ttl)
        cache = InMemorySessionCache(ttl=ttl, dumps=dumps, loads=loads)
        cache._room = alone
        return cache
    if kind == "none":
        return NoOpSessionCache(dumps=dumps, loads=loads)
    raise InvalidArgument(f"kind={kind!r}: one of 'shared', 'memory', 'none'", "CR_E_INVALID")


def _alone(name: str, ttl: Span) -> Cloakroom:
    """Refuses to be one of several workers. What it returns is to be kept for as long as that matters."""
    try:
        return Cloakroom.open(f"table:{name}", mode="direct", cache="memory", cache_bytes=1 << 20)
    except Refused as error:
        raise Refused(_of_the_cache(str(error), ttl), error.status) from None


def _of_the_cache(text: str, ttl: Span) -> str:
    """A room's refusal, said of a cache: what was seen is the same, what to do is not."""
    why, seen, one = (
        found.group(1) if (found := re.search(pattern, text, re.MULTILINE)) is not None else ""
        for pattern in (r"^CR-101 .*, but (.*)\.$", r"^Seen: (.*)$", r"\(2\) (.*)$")
    )
    if not (why and seen and one):
        return text  # of something else
    return (
        f"CR-101 refused: open_cache(\"memory\") keeps the session cache in one process, but {why}.\n"
        f"Seen: {seen}\n"
        "Would happen: each process keeps a cache of its own, and a session that one of them ended goes"
        " on being accepted by the others, until its time-to-live is over there"
        f" ({_ttl_ms(ttl) / 1000:g} s).\n"
        f"Fix: (1) keep the processes: open_cache(\"shared\"), one table for all of them; or (2) {one}\n"
        "Override (if this really is the only process): InMemorySessionCache(), which does not look."
    )


# Tickets.


def _has_ticket(slot: tuple[int, bytes]) -> bool:
    tickets = _tickets.get()
    return tickets is not None and slot in tickets


def _keep_ticket(slot: tuple[int, bytes], ticket: Any) -> None:
    """The oldest counts: what will be set may have been read for an earlier `get`."""
    tickets = dict(_tickets.get() or {})
    tickets.setdefault(slot, ticket)
    if len(tickets) > _TICKETS_MAX:
        del tickets[next(iter(tickets))]
    _tickets.set(tickets)


def _use_ticket(slot: tuple[int, bytes]) -> Any:
    tickets = _tickets.get()
    if tickets is None or slot not in tickets:
        return None
    _tickets.set({other: ticket for other, ticket in tickets.items() if other != slot})
    return tickets[slot]


# Values.


def _name(key: Key) -> bytes:
    if isinstance(key, str):
        return key.encode(errors="surrogatepass")
    if isinstance(key, bytes):
        return key
    raise TypeError(f"a key is the session's token, as str or bytes, and this is {type(key).__name__}")


def _ttl_ms(ttl: Span) -> int:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or math.isnan(seconds):
        raise InvalidArgument(f"ttl={ttl!r}: seconds, or a timedelta", "CR_E_INVALID")
    return int(max(0, min(seconds * 1000, _SPAN_MS_MAX)))


def _json_dumps(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"a value of type {type(value).__name__}: {error}; keep numbers, texts, lists and"
            " dictionaries, or give dumps= and loads= of your own",
            "CR_E_INVALID",
        ) from error


_decode = json.JSONDecoder().decode


def _json_loads(data: bytes) -> Any:
    return _decode(data.decode())


# A forked child has its parent's entries, and will not hear of what the parent ends: it begins anew.
_of_this_process: weakref.WeakSet[InMemorySessionCache[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for cache in _of_this_process:
        cache._begin_anew()


os.register_at_fork(after_in_child=_forget_all)
