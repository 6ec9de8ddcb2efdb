# SPDX-License-Identifier: Apache-2.0
"""What `_core.Core` promises, in a few dictionaries: what `cloakroom.testing` stands on.

Every call is answered when it is begun. Models of the library: store_memory.c for the rows, write.c for
log-ins and rotation, fill.c for validations, rules 1 to 4 for the application's own table.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

from . import _core
from ._core import Session
from .errors import (
    Busy,
    CloakroomError,
    Conflict,
    DataTooLarge,
    Denied,
    InvalidArgument,
    Pending,
    SessionEnded,
    Unavailable,
    UnknownUser,
)

__all__ = ["FakeCore", "ms_of"]

T = TypeVar("T")

_IDLE_MS = 30 * 60 * 1000
_ABSOLUTE_MS = 12 * 3600 * 1000
_GRACE_MS = 10_000  # of a token that was renewed
_REMEMBER_MS = 7 * 24 * 3600 * 1000
_LEASE_MS = 15_000  # of a lock, and for how long its holder may trust it
_TRUST_MS = 13_500
_SPAN_MS_MAX = 366 * 24 * 3600 * 1000
_KEEP_MAX = 1000
_MANY_MAX = 256
_ROTATIONS_TOLD_MAX = 8
_LOCK_NAME_BYTES_MAX = 128
_BY_CHARS_MAX, _ADDRESS_CHARS_MAX, _AGENT_CHARS_MAX = 63, 63, 255

_ID_CHARS, _TOKEN_CHARS = 28, 85
_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

_REPLACE, _KEEP, _KEEP_N = 1, 2, 3
_REPLACED, _LIMIT, _ADMIN, _EVERYBODY, _IDLE, _ABSOLUTE, _UPGRADED, _ROTATED = 2, 3, 4, 7, 8, 9, 10, 12
_REASON_NAMES = {
    1: "logout", 2: "replaced", 3: "limit", 4: "admin", 5: "password", 6: "disabled", 7: "everybody",
    8: "idle", 9: "absolute", 10: "upgraded", 11: "device", 12: "rotated",
}

# As the extension has them (errors.c), by the name of the library's answer.
_OVER = "the session has ended, or there never was one: nothing was changed"
_ERRORS: dict[str, tuple[type[CloakroomError], str]] = {
    "CR_NOT_FOUND": (SessionEnded, _OVER),
    "CR_ENDED": (SessionEnded, _OVER),
    "CR_DENIED": (
        Denied,
        "the agent refuses that to who comes by this socket: applications use app.sock, and what concerns"
        " everybody needs operator.sock (man cloakroom-agent)",
    ),
    "CR_CONFLICT": (
        Conflict, "somebody else changed it first: read it again, and repeat the change on that"
    ),
    "CR_BUSY": (Busy, "too much at once: try again in a moment"),
    "CR_UNAVAILABLE": (
        Unavailable, "the store or the agent cannot be asked now: answer 503, and log nobody out"
    ),
    "CR_UNKNOWN_USER": (
        UnknownUser,
        "the store has never seen this user, so nothing was ended: is it the text that was given to"
        " login?",
    ),
    "CR_E_INVALID": (InvalidArgument, "an argument is outside of what the call takes"),
}


def _error(status: str) -> CloakroomError:
    kind, text = _ERRORS[status]
    return kind(text, status)


class FakeCall(Generic[T]):
    """Answered from the start."""

    done = True

    def __init__(self, answer: T | None = None, error: CloakroomError | None = None) -> None:
        self._answer = answer
        self._error = error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return cast(T, self._answer)

    def cancel(self) -> None:
        pass


@dataclass(slots=True)
class _Row:
    """A session as the store has it. Times in milliseconds."""

    id: str
    user: str | None
    hash: bytes
    user_generation: int
    global_generation: int
    created_ms: int
    authenticated_ms: int
    ends_ms: int
    seen_ms: int
    used_ms: int  # exactly; `seen_ms` follows once a granule
    idle_ms: int
    rights: bytes
    data: bytes
    address: str
    agent: str
    version: int = 1
    old_hash: bytes = b""
    old_until_ms: int = 0
    successor: str = ""  # of the old token, for who renews it once more

    @property
    def deadline_ms(self) -> int:
        return min(self.used_ms + self.idle_ms, self.ends_ms)

    @property
    def granule_ms(self) -> int:
        return max(1000, self.idle_ms // 20)


@dataclass(frozen=True, slots=True)
class _LogRow:
    """Something that was ended or changed, in the order in which it happened."""

    kind: Literal["session", "user", "all", "change"]
    identity: str
    at_ms: int
    reason: int
    by: str
    address: str = ""
    agent: str = ""
    session: str = ""  # for "user": the one that was kept
    user: str | None = None
    generation: int = 0
    created_ms: int = 0
    seen_ms: int = 0


@dataclass(slots=True)
class _Entry:
    """Of the application's own table."""

    user: str
    data: bytes
    stamp: int
    until_ms: int


@dataclass(slots=True)
class _Name:
    """Of a lock."""

    fence: int = 0
    holder: FakeLock | None = None


@dataclass(slots=True)
class _Table:
    clock: int = 1
    all: int = 0
    users: dict[str, int] = field(default_factory=dict)
    floors: dict[bytes, int] = field(default_factory=dict)
    entries: dict[bytes, _Entry] = field(default_factory=dict)


class FakeCore:
    """What _core.pyi says of `Core`, in a few dictionaries."""

    def __init__(self, *, idle_ms: int, absolute_ms: int, now_ms: int, own_table: bool) -> None:
        self.now_ms = now_ms
        self.outages = 0
        self.bound_ms = 0  # more: what ends something is pending
        self._idle_ms = idle_ms or _IDLE_MS
        self._absolute_ms = absolute_ms or _ABSOLUTE_MS
        self._own_table = own_table
        self._guard = threading.RLock()
        self._closed = False
        self._descriptor = -1
        self._key = secrets.token_bytes(32)
        self._sessions: dict[str, _Row] = {}
        self._generations: dict[str, int] = {}
        self._global_generation = 1
        self._log: list[_LogRow] = []
        self._locks: dict[str, _Name] = {}
        self._table = _Table()
        self._counts = dict.fromkeys(("hits", "misses", "fills", "fills_refused", "endings"), 0)

    # The clock.

    def advance(self, ms: int) -> None:
        with self._guard:
            self.move_to(self.now_ms + ms)

    def fail(self, more: int) -> None:
        with self._guard:
            self.outages += more

    def move_to(self, now_ms: int) -> None:
        with self._guard:
            if now_ms < self.now_ms:
                raise ValueError("time does not go backwards, here either")
            self.now_ms = now_ms
            for name in self._locks.values():
                if name.holder is not None:
                    name.holder.on_time(now_ms, renew=self.outages == 0)

    # What Core has.

    def close(self) -> None:
        self._closed = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def fileno(self) -> int:
        self._check_open()
        if self._descriptor < 0:
            self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self._descriptor

    def poll(self) -> list[FakeCall[Any]]:
        self._check_open()
        return []

    def validate(self, token: str) -> Session | None:
        return self.begin_validate(token, False).result()

    def validate_cached(self, token: str) -> Session | None:
        if self.outages or self._own_table:
            _token_check(token)
            self._check_open()
            return None
        return self.validate(token)

    def validate_many(self, tokens: list[str]) -> list[Session | None]:
        if len(tokens) > _MANY_MAX:
            _invalid(f"tokens: {len(tokens)}, where at most {_MANY_MAX} are taken at once")
        return [self.validate(token) for token in tokens]

    def begin_validate(self, token: str, strict: bool) -> FakeCall[Session | None]:
        _token_check(token)
        return self._answer(lambda: self._validate(token))

    def begin_touch(self, token: str) -> FakeCall[None]:
        _token_needed(token)

        def touch() -> None:
            row = self._held_by(token)
            if row is None:
                self._refuse_token(token)
            row.used_ms = row.seen_ms = self.now_ms

        return self._answer(touch)

    def begin_login(
        self,
        user: str,
        policy: int,
        keep_count: int,
        idle_ms: int,
        absolute_ms: int,
        rights: bytes,
        data: bytes,
        address: str | None,
        agent: str | None,
        anonymous: str | None,
        renews: str | None,
    ) -> FakeCall[_core.LoginRow]:
        _user_check(user)
        if policy == _KEEP_N and not 1 <= keep_count <= _KEEP_MAX:
            _invalid(f"keep_count: from 1 to {_KEEP_MAX}")
        made = self._new(user, idle_ms, absolute_ms, rights, data, address, agent)
        if anonymous is not None:
            _token_needed(anonymous)
        if renews is not None:
            _token_needed(renews)
            token = renews
            return self._answer(lambda: self._renew_as(token, user, policy, absolute_ms))
        return self._answer(lambda: self._create(made, policy, keep_count, anonymous))

    def begin_create(
        self,
        user: str | None,
        idle_ms: int,
        absolute_ms: int,
        rights: bytes,
        data: bytes,
        address: str | None,
        agent: str | None,
        anonymous: str | None,
    ) -> FakeCall[_core.LoginRow]:
        if user is not None:
            _user_check(user)
        if anonymous is not None:
            _token_needed(anonymous)
        made = self._new(user, idle_ms, absolute_ms, rights, data, address, agent)
        return self._answer(lambda: self._create(made, _KEEP, 0, anonymous))

    def begin_read(self, id: str) -> FakeCall[tuple[bytes, int]]:
        _id_check(id)

        def read() -> tuple[bytes, int]:
            row = self._live(id)
            return row.data, row.version

        return self._answer(read)

    def begin_write(self, id: str, version: int, data: bytes) -> FakeCall[int]:
        _id_check(id)
        _bytes_check("data", data, _core.DATA_BYTES_MAX)

        def write() -> int:
            if version == 0:
                raise _error("CR_CONFLICT")  # was never any session's
            row = self._live(id)
            if version not in (_core.VERSION_ANY, row.version):
                raise _error("CR_CONFLICT")
            row.data = bytes(data)
            row.version += 1
            return row.version

        return self._answer(write)

    def begin_rights(self, id: str, rights: bytes) -> FakeCall[None]:
        _id_check(id)
        _bytes_check("rights", rights, _core.RIGHTS_BYTES_MAX)

        def write() -> None:
            self._live(id).rights = bytes(rights)
            self._wait()

        return self._answer(write)

    def begin_rotate(self, token: str, privilege: bool) -> FakeCall[_core.LoginRow]:
        _token_needed(token)
        return self._answer(lambda: self._rotate(token, privilege))

    def begin_end(
        self, id: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> FakeCall[_core.EndingRow | None]:
        _id_check(id)

        def end(how: _LogRow) -> _LogRow | None:
            row = self._sessions.get(id)
            if row is None or self._dead(row):
                return None
            return self._end_session(row, how)

        return self._end(
            lambda row: row.kind == "session" and row.session == id, end, reason, by, wait, repeat
        )

    def begin_end_user(
        self, user: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> FakeCall[_core.EndingRow]:
        _user_check(user)

        def end(how: _LogRow) -> _LogRow:
            if user not in self._generations and not self._own_table:
                raise _error("CR_UNKNOWN_USER")
            return self._end_user(user, how, "")

        return cast(
            "FakeCall[_core.EndingRow]",
            self._end(
                lambda row: row.kind == "user" and row.user == user, end, reason, by, wait, repeat, True
            ),
        )

    def begin_end_others(
        self, keep: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> FakeCall[_core.EndingRow]:
        _id_check(keep)

        def end(how: _LogRow) -> _LogRow:
            row = self._live(keep)
            if row.user is None:
                raise _error("CR_UNKNOWN_USER")
            ended = self._end_user(row.user, how, keep)
            row.user_generation = ended.generation
            return ended

        return cast(
            "FakeCall[_core.EndingRow]",
            self._end(
                lambda row: row.kind == "user" and row.session == keep, end, reason, by, wait, repeat
            ),
        )

    def begin_end_all(
        self, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> FakeCall[_core.EndingRow]:
        def end(how: _LogRow) -> _LogRow:
            self._global_generation += 1
            self._stamp_all()
            return self._write(replace(how, kind="all", generation=self._global_generation))

        return cast(
            "FakeCall[_core.EndingRow]",
            self._end(lambda row: row.kind == "all", end, reason, by, wait, repeat, True),
        )

    def begin_sessions(
        self, user: str, after: tuple[int, str] | None, count: int
    ) -> FakeCall[tuple[list[Session], tuple[int, str] | None]]:
        _user_check(user)

        def page() -> tuple[list[Session], tuple[int, str] | None]:
            live = sorted(
                (
                    row
                    for row in self._sessions.values()
                    if row.user == user and not self._dead(row)
                    and (after is None or (row.created_ms, row.id) < after)
                ),
                key=lambda row: (row.created_ms, row.id),
                reverse=True,
            )[:count]
            last = (live[-1].created_ms, live[-1].id) if len(live) == count else None
            return [self._session(row, labels=True, data=False) for row in live], last

        return self._answer(page)

    def begin_explain(self, id: str) -> FakeCall[dict[str, Any] | None]:
        _id_check(id)
        return self._answer(lambda: self._explain(id))

    def begin_lock(self, name: str, wait_ms: int) -> FakeCall[FakeLock]:
        _lock_name_check(name)

        def take() -> FakeLock:
            known = self._locks.setdefault(name, _Name())
            if known.holder is not None and known.holder.is_in_store(self.now_ms):
                raise Busy("another holds this lock: try again later, or wait longer", "CR_BUSY")
            known.fence += 1
            known.holder = FakeLock(self, known, self.now_ms)
            return known.holder

        return self._answer(take)

    def begin_fence(self, name: str) -> FakeCall[int]:
        _lock_name_check(name)
        return self._answer(lambda: self._locks[name].fence if name in self._locks else 0)

    def begin_stats(self) -> FakeCall[dict[str, int | bool | str]]:
        def stats() -> dict[str, int | bool | str]:
            live = sum(1 for row in self._sessions.values() if not self._dead(row))
            sessions = len(self._table.entries) if self._own_table else live
            return {
                "cache": "memory", "attached": False, "mapped": False,
                "hits": self._counts["hits"], "misses": self._counts["misses"],
                "table_sessions": sessions, "table_capacity": 1 << 20, "table_bytes": 0,
                "fills": self._counts["fills"], "fills_refused": self._counts["fills_refused"],
                "store_reads": 0, "store_writes": 0, "store_commits": 0,
                "endings": self._counts["endings"], "agent_pid": os.getpid(), "engines": 1,
                "attached_workers": 1, "store_waiting": 0, "store_calls": 0, "store_micros": 0,
                "evicted": 0, "lease_left": (1 << 64) - 1, "tokens_unknown": 0, "guessing_noticed": 0,
            }

        return self._answer(stats, table=True)

    # The application's own table.

    def lookup(self, key: bytes) -> tuple[str, bytes, int] | None:
        return self.begin_lookup(key).result()

    def begin_lookup(self, key: bytes) -> FakeCall[tuple[str, bytes, int] | None]:
        digest = self._key_of(key)
        with self._guard:
            table, entry = self._table, self._table.entries.get(digest)
            good = (
                entry is not None
                and not self.outages
                and table.users.get(entry.user, 0) <= entry.stamp
                and table.all <= entry.stamp
                and self.now_ms < entry.until_ms
            )
            self._counts["hits" if good else "misses"] += 1
            if entry is None or not good:
                return FakeCall(None)
            return FakeCall((entry.user, entry.data, entry.until_ms - self.now_ms))

    def begin_ticket(self, key: bytes) -> FakeCall[bytes]:
        digest = self._key_of(key)
        with self._guard:
            connection = 0 if self.outages else 1
            return FakeCall(struct.pack("<32sQqQ8x", digest, self._table.clock, self.now_ms, connection))

    def begin_fill(self, ticket: bytes, user: str, data: bytes, ttl_ms: int) -> FakeCall[None]:
        self._check_table()
        _user_check(user)
        _bytes_check("data", data, _core.DATA_CACHED_BYTES_MAX)
        if len(ticket) != 64:
            _invalid("ticket: what begin_ticket answered")
        if not 1 <= ttl_ms <= _SPAN_MS_MAX:
            _invalid(f"ttl_ms: from 1 to {_SPAN_MS_MAX}")
        digest, stamp, begun_ms, connection = struct.unpack("<32sQqQ8x", ticket)
        with self._guard:
            if connection == 0 or self.outages:
                return FakeCall(None)
            table = self._table
            self._counts["fills"] += 1
            if stamp < table.floors.get(digest, 0):
                self._counts["fills_refused"] += 1
            else:
                table.entries[digest] = _Entry(user, bytes(data), stamp, begun_ms + ttl_ms)
        return FakeCall(None)

    def begin_invalidate(self, key: bytes) -> FakeCall[None]:
        digest = self._key_of(key)

        def invalidate() -> None:
            self._table.clock += 1
            self._table.floors[digest] = self._table.clock
            self._table.entries.pop(digest, None)
            self._wait()

        return self._answer(invalidate, table=True)

    # How.

    def _check_open(self) -> None:
        if self._closed:
            _invalid("this room was closed: open it once for the process")

    def _check_table(self) -> None:
        self._check_open()
        if not self._own_table:
            _invalid(
                "this room keeps sessions of its own: entries of the application's are in the table of"
                ' "table:NAME"'
            )

    def _answer(self, ask: Callable[[], T], *, table: bool = False) -> FakeCall[T]:
        self._check_open()
        try:
            with self._guard:
                if self.outages:
                    raise _error("CR_UNAVAILABLE")
                if self._own_table and not table:
                    raise _error("CR_E_INVALID")
                return FakeCall(ask())
        except CloakroomError as error:
            return FakeCall(error=error)

    def _wait(self, identity: str | None = None) -> None:
        if self.bound_ms:
            text = "committed, and not yet everywhere: " + (
                "set no cookie, and answer 503"
                if identity is None
                else "what it ended may be accepted by some worker until then"
            )
            raise Pending(text, self.bound_ms / 1000, identity)

    def _token(self, id: str) -> str:
        secret = f"BBAA{id[4:]}" + _text(secrets.token_bytes(24))
        return f"crs1_{secret}{self._mac(secret)}"

    def _mac(self, text: str) -> str:
        return _text(hashlib.blake2b(text.encode(), key=self._key, digest_size=15).digest())

    def _is_genuine(self, token: str) -> bool:
        return (
            len(token) == _TOKEN_CHARS
            and token.startswith("crs1_")
            and token.isascii()
            and hmac.compare_digest(self._mac(token[5:65]), token[65:])
        )

    def _dead(self, row: _Row) -> int:
        """Why it is; 0: it lives."""
        if row.global_generation != self._global_generation:
            return _EVERYBODY
        if row.user is not None and row.user_generation != self._generations[row.user]:
            return _ADMIN
        if self.now_ms < row.deadline_ms:
            return 0
        return _ABSOLUTE if row.ends_ms <= row.used_ms + row.idle_ms else _IDLE

    def _live(self, id: str) -> _Row:
        row = self._sessions.get(id)
        if row is None:
            raise _error("CR_NOT_FOUND")
        if self._dead(row):
            raise _error("CR_ENDED")
        return row

    def _held_by(self, token: str) -> _Row | None:
        """The live session of a token."""
        if not self._is_genuine(token):
            return None
        row = self._sessions.get(f"crp_{token[9:33]}")
        if row is None or self._dead(row) or not self._matches(row, token):
            return None
        return row

    def _matches(self, row: _Row, token: str) -> bool:
        mine = _hash(token)
        return hmac.compare_digest(mine, row.hash) or (
            hmac.compare_digest(mine, row.old_hash) and self.now_ms < row.old_until_ms
        )

    def _refuse_token(self, token: str) -> NoReturn:
        raise _error("CR_ENDED" if self._is_genuine(token) else "CR_NOT_FOUND")

    def _validate(self, token: str) -> Session | None:
        row = self._held_by(token)
        self._counts["hits" if row is not None else "misses"] += 1
        if row is None:
            return None
        row.used_ms = self.now_ms
        if row.used_ms - row.seen_ms >= row.granule_ms:
            row.seen_ms = row.used_ms
        return self._session(row)

    def _session(self, row: _Row, *, labels: bool = False, data: bool = True) -> Session:
        return Session(
            id=row.id,
            user=row.user,
            created_ms=row.created_ms,
            authenticated_ms=row.authenticated_ms,
            ends_ms=row.ends_ms,
            expires_ms=min(row.seen_ms + row.idle_ms, row.ends_ms),
            seen_ms=row.seen_ms,
            as_of_ms=self.now_ms,
            version=row.version,
            rights=row.rights,
            data=row.data if data else None,
            address=row.address if labels else "",
            agent=row.agent if labels else "",
        )

    def _login(self, row: _Row, token: str, *, labels: bool = False) -> _core.LoginRow:
        session = self._session(row, labels=labels)
        return session, token, min(row.seen_ms + row.idle_ms, row.ends_ms)

    def _new(
        self,
        user: str | None,
        idle_ms: int,
        absolute_ms: int,
        rights: bytes,
        data: bytes,
        address: str | None,
        agent: str | None,
    ) -> _Row:
        """With spans for times until it is put in."""
        _bytes_check("rights", rights, _core.RIGHTS_BYTES_MAX)
        _bytes_check("data", data, _core.DATA_BYTES_MAX)
        return _Row(
            id=f"crp_{_text(secrets.token_bytes(18))}",
            user=user,
            hash=b"",
            user_generation=0,
            global_generation=0,
            created_ms=0,
            authenticated_ms=0,
            ends_ms=absolute_ms or self._absolute_ms,
            seen_ms=0,
            used_ms=0,
            idle_ms=idle_ms or self._idle_ms,
            rights=bytes(rights),
            data=bytes(data),
            address=_label("address", address, _ADDRESS_CHARS_MAX),
            agent=_label("agent", agent, _AGENT_CHARS_MAX),
        )

    def _create(
        self, made: _Row, policy: int, keep_count: int, anonymous: str | None
    ) -> _core.LoginRow:
        earlier = self._held_by(anonymous) if anonymous is not None else None
        if earlier is not None and earlier.user is not None:
            earlier = None
        reason = _REPLACED if policy == _REPLACE else _LIMIT
        how = self._how(reason, made.address or "login", None)
        how = replace(how, address=made.address, agent=made.agent)
        ended = False
        if policy == _REPLACE and made.user in self._generations:
            self._end_user(made.user or "", how, "")
            ended = True
        if earlier is not None:
            made.data = made.data or earlier.data
            self._end_session(earlier, replace(how, reason=_UPGRADED))
            ended = True
        token = self._put_in(made)
        if policy == _KEEP_N:
            ended = self._trim(made, keep_count, how) or ended
        if ended:
            self._wait()
        return self._login(made, token, labels=True)

    def _put_in(self, row: _Row) -> str:
        if row.user is not None:
            row.user_generation = self._generations.setdefault(row.user, 1)
            row.authenticated_ms = self.now_ms
        row.global_generation = self._global_generation
        row.created_ms = row.seen_ms = row.used_ms = self.now_ms
        row.ends_ms += self.now_ms
        token = self._token(row.id)
        row.hash = _hash(token)
        self._sessions[row.id] = row
        return token

    def _trim(self, made: _Row, keep_count: int, how: _LogRow) -> bool:
        live = sorted(
            (row for row in self._sessions.values() if row.user == made.user and not self._dead(row)),
            key=lambda row: (row is made, row.created_ms, row.id),
        )
        for row in live[: max(0, len(live) - keep_count)]:
            self._end_session(row, how)
        return len(live) > keep_count

    def _renew_as(self, token: str, user: str, policy: int, absolute_ms: int) -> _core.LoginRow:
        """The session goes on: its user has proved anew who it is."""
        if not self._is_genuine(token):
            raise _error("CR_DENIED")
        row = self._held_by(token)
        if row is None:
            raise _error("CR_ENDED")
        if row.user != user or policy != _KEEP:
            raise _error("CR_DENIED")
        row.authenticated_ms = self.now_ms
        row.ends_ms = self.now_ms + (absolute_ms or self._absolute_ms)
        return self._rotate(token, True)

    def _rotate(self, token: str, privilege: bool) -> _core.LoginRow:
        row = self._held_by(token)
        if row is None:
            self._refuse_token(token)
        if not privilege and not hmac.compare_digest(_hash(token), row.hash):
            return self._login(row, row.successor)  # somebody was first
        successor = self._token(row.id)
        row.old_hash, row.old_until_ms, row.successor = b"", 0, ""
        if not privilege:
            row.old_hash, row.old_until_ms, row.successor = row.hash, self.now_ms + _GRACE_MS, successor
        row.hash = _hash(successor)
        self._write(
            replace(self._how(_ROTATED, "rotation", None), kind="change", session=row.id, user=row.user)
        )
        if privilege:
            self._wait()
        return self._login(row, successor)

    # Endings.

    def _how(self, reason: int, by: str | None, repeat: str | None) -> _LogRow:
        return _LogRow(
            kind="session",
            identity=repeat or secrets.token_hex(16),
            at_ms=self.now_ms,
            reason=reason,
            by="application" if by is None else _label("by", by, _BY_CHARS_MAX),
        )

    def _end(
        self,
        is_of: Callable[[_LogRow], bool],
        end: Callable[[_LogRow], _LogRow | None],
        reason: int,
        by: str | None,
        wait: bool,
        repeat: str | None,
        table: bool = False,
    ) -> FakeCall[_core.EndingRow | None]:
        _ending_check(repeat)

        def ask() -> _core.EndingRow | None:
            how = self._how(reason, by, repeat)
            row = next((row for row in self._log if row.identity == how.identity), None) or end(how)
            if row is None:
                return None
            if not is_of(row):
                raise _error("CR_E_INVALID")
            self._counts["endings"] += 1
            if wait:
                self._wait(how.identity)
            return self.bound_ms == 0, how.identity, self.bound_ms

        return self._answer(ask, table=table)

    def _write(self, row: _LogRow) -> _LogRow:
        self._log.append(row)
        return row

    def _end_session(self, row: _Row, how: _LogRow) -> _LogRow:
        del self._sessions[row.id]
        return self._write(
            replace(
                how, kind="session", session=row.id, user=row.user, created_ms=row.created_ms,
                seen_ms=row.seen_ms,
            )
        )

    def _end_user(self, user: str, how: _LogRow, kept: str) -> _LogRow:
        generation = self._generations.get(user, 1) + 1
        self._generations[user] = generation
        self._table.clock += 1
        self._table.users[user] = self._table.clock
        return self._write(replace(how, kind="user", user=user, session=kept, generation=generation))

    def _stamp_all(self) -> None:
        self._table.clock += 1
        self._table.all = self._table.clock

    # What became of one.

    def _explain(self, id: str) -> dict[str, Any] | None:
        since = self.now_ms - _REMEMBER_MS
        row = self._sessions.get(id)
        log = [entry for entry in self._log if entry.at_ms > since]
        out: dict[str, Any] = {
            "live": False, "reason": None, "at": 0, "by": "", "user": None, "created_at": 0,
            "seen_at": 0, "ends_at": 0, "address": "", "agent": "",
            "rotated_at": [
                entry.at_ms for entry in reversed(log) if entry.kind == "change" and entry.session == id
            ][:_ROTATIONS_TOLD_MAX],
        }
        if row is None:
            ended = (entry for entry in log if entry.kind == "session" and entry.session == id)
            entry = next(ended, None)
            if entry is None:
                return None
            out.update(user=entry.user, created_at=entry.created_ms, seen_at=entry.seen_ms)
            return _told(out, entry)
        out.update(
            user=row.user, created_at=row.created_ms, seen_at=row.seen_ms, ends_at=row.ends_ms,
            live=not self._dead(row),
        )
        if out["live"]:
            return out
        entry = next((entry for entry in self._log if _ended_by(row, entry)), None)
        if entry is not None and entry.at_ms < row.deadline_ms:
            return _told(out, entry) if entry.at_ms > since else None
        out["reason"] = _REASON_NAMES[_ABSOLUTE if row.ends_ms <= row.deadline_ms else _IDLE]
        out["at"] = row.deadline_ms
        return out if row.deadline_ms > since else None

    def _key_of(self, key: bytes) -> bytes:
        self._check_table()
        if not isinstance(key, bytes):
            _wrong_type("key", "bytes", key)
        return hashlib.sha256(key).digest()


class FakeLock:
    """As `_core.Lock`. Renewed whenever time goes by and the store can be asked."""

    def __init__(self, core: FakeCore, name: _Name, now_ms: int) -> None:
        self._core = core
        self._name = name
        self._renewed_ms = now_ms
        self._lost = False
        self.fence = name.fence

    def on_time(self, now_ms: int, *, renew: bool) -> None:
        if not renew and now_ms >= self._renewed_ms + _TRUST_MS:
            self._lost = True
        if renew and not self._lost:
            self._renewed_ms = now_ms

    def is_in_store(self, now_ms: int) -> bool:
        return now_ms < self._renewed_ms + _LEASE_MS

    def is_held(self) -> bool:
        return not self._lost and self._name.holder is self

    def give(self) -> None:
        with self._core._guard:
            if self._name.holder is self:
                self._name.holder = None


# Values.


def ms_of(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("a time with its zone, such as datetime.now(timezone.utc)")
    return (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _label(what: str, text: str | None, bytes_max: int) -> str:
    if text is not None and not isinstance(text, str):
        _wrong_type(what, "a str", text)
    clean = "".join(
        "?" if ord(char) < 32 or 127 <= ord(char) < 160 else char for char in text or ""
    )
    return clean.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def _wrong_type(what: str, wanted: str, value: object) -> NoReturn:
    raise TypeError(f"{what}: {wanted}, not {type(value).__name__}")


def _invalid(text: str) -> NoReturn:
    raise InvalidArgument(text, "CR_E_INVALID")


def _token_check(token: str) -> bool:
    """Whether it has the form of one."""
    if not isinstance(token, str):
        _wrong_type("token", "a str", token)
    return len(token) == _TOKEN_CHARS and token.startswith("crs1_")


def _token_needed(token: str) -> None:
    if not _token_check(token):
        raise SessionEnded("that text is no token, so there is no session of it", "CR_NOT_FOUND")


def _user_check(user: str) -> None:
    given = None
    if isinstance(user, Session):
        given = "a session"
    elif isinstance(user, int):
        raise TypeError("user: a text, not a number: give str(user_id)")
    elif not isinstance(user, str):
        _wrong_type("user", "a str", user)
    elif user.startswith("crp_"):
        given = "a session's id"
    elif user.startswith("crs1_"):
        given = "a session's token"
    if given is not None:
        raise TypeError(
            f"user: {given} was given where a user is meant. Give session.user; one session is ended by"
            " end(session)"
        )
    if not 1 <= _utf8_bytes(user) <= _core.USER_BYTES_MAX:
        _invalid(f"user: text of 1 to {_core.USER_BYTES_MAX} bytes in UTF-8, without lone surrogates")


def _utf8_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def _lock_name_check(name: str) -> None:
    if not isinstance(name, str):
        _wrong_type("name", "a str", name)
    if "\0" in name or not 1 <= _utf8_bytes(name) <= _LOCK_NAME_BYTES_MAX:
        _invalid(
            f"name: 1 to {_LOCK_NAME_BYTES_MAX} bytes in UTF-8, without NUL characters or lone surrogates"
        )


def _id_check(id: str) -> None:
    if not isinstance(id, str):
        _wrong_type("session", "a Session, or its id as a str", id)
    if id.startswith("crs1_"):
        raise TypeError(
            "session: a token was given where a session or its id is meant. Give what validate(token)"
            " returns"
        )
    if len(id) != _ID_CHARS or not id.startswith("crp_") or not _BASE64URL.issuperset(id[4:]):
        _invalid("session: that text is no session's id, which is crp_ and 24 characters")


def _ending_check(identity: str | None) -> None:
    if identity is None:
        return
    if not isinstance(identity, str):
        _wrong_type("repeat", "an ending's id as a str", identity)
    if len(identity) != 32 or set(identity) - set("0123456789abcdef") or not int(identity, 16):
        _invalid("repeat: the id of an ending, 32 hexadecimal digits")


def _bytes_check(what: str, data: bytes, bytes_max: int) -> None:
    if not isinstance(data, bytes):
        _wrong_type(what, "bytes", data)
    if len(data) > bytes_max:
        raise DataTooLarge(f"{what}: {len(data)} bytes, where at most {bytes_max} fit", "CR_E_LIMIT")


def _ended_by(row: _Row, entry: _LogRow) -> bool:
    return (
        entry.kind == "user" and entry.user == row.user and entry.generation == row.user_generation + 1
    ) or (entry.kind == "all" and entry.generation == row.global_generation + 1)


def _told(out: dict[str, Any], entry: _LogRow) -> dict[str, Any]:
    out.update(
        reason=_REASON_NAMES[entry.reason], at=entry.at_ms, by=entry.by, address=entry.address,
        agent=entry.agent,
    )
    return out
