# SPDX-License-Identifier: Apache-2.0
"""What frameworks' adapters do with a room, written once for those that wait and those that await.

Such a piece of work is a generator that yields what it wants asked and is sent the answer:

    def renew(token: str) -> Steps[Login | None]:
        session = yield from ask(Cloakroom.validate, token)
        if session is None:
            return None
        return (yield from ask(Cloakroom.rotate, token))

    login = run(room, renew(token))
    login = await arun(room, renew(token))

`arun` takes the call of the same name with an `a` before it. An exception of a call is raised where
it was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

from ._core import Session
from ._room import Cloakroom, Lock

__all__ = ["Step", "Steps", "arun", "ask", "hold", "list_sessions", "run"]

P = ParamSpec("P")
T = TypeVar("T")


class Step(Protocol):
    """One thing to be asked of the room, or of somebody else that waits."""

    def run(self, room: Cloakroom, /) -> Any: ...

    async def arun(self, room: Cloakroom, /) -> Any: ...


Steps: TypeAlias = Generator[Step, Any, T]


def run(room: Cloakroom, steps: Steps[T]) -> T:
    """Carry the steps out with calls that wait."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step.run(room)
            except BaseException as error:  # whoever asked decides
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def arun(room: Cloakroom, steps: Steps[T]) -> T:
    """Carry the steps out with calls that are awaited."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await step.arun(room)
            except BaseException as error:  # whoever asked decides
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


@dataclass(frozen=True, slots=True, repr=False)
class _Ask:
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, room: Cloakroom) -> Any:
        return getattr(room, self.name)(*self.args, **self.kwargs)

    async def arun(self, room: Cloakroom) -> Any:
        return await getattr(room, "a" + self.name)(*self.args, **self.kwargs)


def ask(method: Callable[Concatenate[Cloakroom, P], T], *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
    """A call of the room, named by its method without the `a`: `ask(Cloakroom.validate, token)`."""
    answer: T = yield _Ask(method.__name__, args, kwargs)
    return answer


@dataclass(frozen=True, slots=True)
class _List:
    user: str

    def run(self, room: Cloakroom) -> list[Session]:
        return list(room.sessions_of(self.user))

    async def arun(self, room: Cloakroom) -> list[Session]:
        return [session async for session in room.asessions_of(self.user)]


def list_sessions(user: str) -> Steps[list[Session]]:
    """All live sessions of a user."""
    sessions: list[Session] = yield _List(user)
    return sessions


@dataclass(frozen=True, slots=True)
class _Hold:
    name: str
    wait: float

    def run(self, room: Cloakroom) -> Lock:
        return room.lock(self.name, wait=self.wait).__enter__()

    async def arun(self, room: Cloakroom) -> Lock:
        return await room.lock(self.name, wait=self.wait).__aenter__()


def hold(name: str, wait: float) -> Steps[Lock]:
    """Take a named lock. Who takes it calls `give`, in a `finally`."""
    lock: Lock = yield _Hold(name, wait)
    return lock
