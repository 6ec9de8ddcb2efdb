# SPDX-License-Identifier: Apache-2.0
"""Waiting for calls on event loops: the library's one descriptor, watched by each loop that waits.

A reply may be taken out by another loop, or by a thread that waits for its own: whoever takes it out
says so to the loop whose call it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InvalidArgument

if TYPE_CHECKING:
    from . import _core

__all__ = ["Waiter"]

T = TypeVar("T")


class Waiter:
    """Of one room. Safe from any thread; each call is waited for by one coroutine."""

    def __init__(self, core: _core.Core) -> None:
        self._core = core
        self._guard = threading.Lock()
        self._waiting: dict[_core.Call[Any], asyncio.Future[None]] = {}
        self._watching: dict[asyncio.AbstractEventLoop, int] = {}
        self._descriptor = -1
        _of_this_process.add(self)

    async def wait(self, call: _core.Call[T]) -> T:
        """The call's answer. Cancelled: the call is given up; what it asked for may still happen."""
        if not call.done:
            loop = asyncio.get_running_loop()
            arrived = loop.create_future()
            self._enter(loop, call, arrived)
            try:
                # Answered before it was entered: nobody would say so again.
                if not call.done:
                    await arrived
            except BaseException:
                call.cancel()
                raise
            finally:
                self._leave(loop, call)
        return call.result()

    def _enter(
        self, loop: asyncio.AbstractEventLoop, call: _core.Call[Any], arrived: asyncio.Future[None]
    ) -> None:
        with self._guard:
            self._waiting[call] = arrived
            count = self._watching.get(loop, 0)
            self._watching[loop] = count + 1
        if count == 0:
            # The same for the life of the room, and known after it.
            self._descriptor = self._core.fileno()
            loop.add_reader(self._descriptor, self._arrive)

    def _leave(self, loop: asyncio.AbstractEventLoop, call: _core.Call[Any]) -> None:
        with self._guard:
            if self._waiting.pop(call, None) is None:
                return  # forgotten by a fork
            if loop not in self._watching:
                return  # closed
            self._watching[loop] -= 1
            last = self._watching[loop] == 0
            if last:
                del self._watching[loop]
        if last:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """Before the room is: whoever waits goes on, and hears of it from the call."""
        with self._guard:
            waiting, watching = list(self._waiting.values()), list(self._watching)
            self._watching.clear()
        for loop in watching:
            _in_loop(loop, loop.remove_reader, self._descriptor)
        for arrived in waiting:
            _in_loop(arrived.get_loop(), _tell, arrived)

    def _arrive(self) -> None:
        try:
            answered = self._core.poll()
        except InvalidArgument:
            return  # closed by another thread
        for call in answered:
            with self._guard:
                arrived = self._waiting.get(call)
            if arrived is None:
                continue  # a thread's, or not entered yet
            _in_loop(arrived.get_loop(), _tell, arrived)

    def forget(self) -> None:
        """In a forked child: what was waited for is the parent's."""
        self._guard = threading.Lock()
        self._waiting.clear()
        self._watching.clear()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Now where that is the loop that runs here, else there."""
    if asyncio._get_running_loop() is loop:
        call(*args)
    else:
        with contextlib.suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(call, *args)


def _tell(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


_of_this_process: weakref.WeakSet[Waiter] = weakref.WeakSet()


def _forget_all() -> None:
    for waiter in _of_this_process:
        waiter.forget()


os.register_at_fork(after_in_child=_forget_all)
