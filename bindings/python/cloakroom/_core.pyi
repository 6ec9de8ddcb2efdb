# SPDX-License-Identifier: Apache-2.0
"""The extension module: libcloakroom as Python sees it. Not public: use `cloakroom.Cloakroom`."""

from datetime import datetime
from typing import Any, Generic, TypeVar, final

T_co = TypeVar("T_co", covariant=True)

VERSION: str
DATA_BYTES_MAX: int
DATA_CACHED_BYTES_MAX: int
RIGHTS_BYTES_MAX: int
USER_BYTES_MAX: int
VERSION_ANY: int

@final
class Session:
    """One session as it was at `as_of_ms`. Immutable; equal by all that is in it but that instant."""

    def __new__(
        cls,
        *,
        id: str,
        user: str | None,
        created_ms: int,
        authenticated_ms: int,
        ends_ms: int,
        expires_ms: int,
        seen_ms: int,
        as_of_ms: int = 0,
        version: int = 1,
        rights: bytes = b"",
        data: bytes | None = b"",
        address: str = "",
        agent: str = "",
    ) -> Session: ...
    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str | None:
        """None: anonymous."""
    @property
    def created_at(self) -> datetime: ...
    @property
    def authenticated_at(self) -> datetime | None: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def seen_at(self) -> datetime: ...
    @property
    def as_of_ms(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def rights(self) -> bytes: ...
    @property
    def data(self) -> bytes: ...
    @property
    def data_bytes(self) -> int: ...
    @property
    def has_data(self) -> bool: ...
    @property
    def address(self) -> str: ...
    @property
    def agent(self) -> str: ...
    def json(self) -> Any: ...
    def with_data(self, data: bytes, version: int) -> Session: ...

@final
class Call(Generic[T_co]):
    """A request under way. `result` waits if it must (without the GIL), frees it, and raises."""

    @property
    def done(self) -> bool: ...
    def result(self) -> T_co: ...
    def cancel(self) -> None: ...

# What a log-in or rotation answers: session, token, expires_at in milliseconds.
LoginRow = tuple[Session, str, int]
# done, ending's id, bound in milliseconds. None: there was no such session.
EndingRow = tuple[bool, str, int]

class Core:
    """A room. `begin_...` never waits; what it returns is answered by `Call.result`."""

    def __new__(
        cls,
        url: str,
        *,
        mode: int = 0,
        cache: int = 0,
        cache_bytes: int = 0,
        idle_ms: int = 0,
        absolute_ms: int = 0,
        timeout_ms: int = 0,
        workers: int = 0,
        program: str | None = None,
        state: str | None = None,
        realm: str | None = None,
    ) -> Core: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def poll(self) -> list[Call[Any]]:
        """Take what has arrived; never waits. The calls that are answered since the last time."""
    def validate(self, token: str) -> Session | None: ...
    def validate_cached(self, token: str) -> Session | None:
        """None: not in this process's table, ask."""
    def validate_many(self, tokens: list[str]) -> list[Session | None]: ...
    def begin_validate(self, token: str, strict: bool) -> Call[Session | None]: ...
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
    ) -> Call[LoginRow]: ...
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
    ) -> Call[LoginRow]: ...
    def begin_touch(self, token: str) -> Call[None]: ...
    def begin_read(self, id: str) -> Call[tuple[bytes, int]]: ...
    def begin_write(self, id: str, version: int, data: bytes) -> Call[int]: ...
    def begin_rights(self, id: str, rights: bytes) -> Call[None]: ...
    def begin_rotate(self, token: str, privilege: bool) -> Call[LoginRow]: ...
    def begin_end(
        self, id: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> Call[EndingRow | None]: ...
    def begin_end_user(
        self, user: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> Call[EndingRow]: ...
    def begin_end_others(
        self, keep: str, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> Call[EndingRow]: ...
    def begin_end_all(
        self, reason: int, by: str | None, wait: bool, repeat: str | None
    ) -> Call[EndingRow]: ...
    def begin_sessions(
        self, user: str, after: tuple[int, str] | None, count: int
    ) -> Call[tuple[list[Session], tuple[int, str] | None]]: ...
    def begin_explain(self, id: str) -> Call[dict[str, Any] | None]: ...
    def begin_lock(self, name: str, wait_ms: int) -> Call[Lock]: ...
    def begin_fence(self, name: str) -> Call[int]: ...
    def begin_stats(self) -> Call[dict[str, int | bool | str]]: ...
    # The table in front of the application's own sessions.
    def lookup(self, key: bytes) -> tuple[str, bytes, int] | None:
        """Waits only where this process has no table of its own to look in."""
    def begin_lookup(self, key: bytes) -> Call[tuple[str, bytes, int] | None]: ...
    def begin_ticket(self, key: bytes) -> Call[bytes]: ...
    def begin_fill(self, ticket: bytes, user: str, data: bytes, ttl_ms: int) -> Call[None]: ...
    def begin_invalidate(self, key: bytes) -> Call[None]: ...

@final
class Lock:
    @property
    def fence(self) -> int: ...
    def is_held(self) -> bool: ...
    def give(self) -> None: ...
