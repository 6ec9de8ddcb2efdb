# SPDX-License-Identifier: Apache-2.0
"""Waiting for calls on event loops: the library's one descriptor, watched by each loop that waits.

A reply may be taken out by another loop, or by a thread that waits for its own: whoever takes it out
says so to the loop whose call it answers.
"""

from __future__ import annotations

import asyncio
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


class _Watch:
    """What a loop has while something is waited for in it."""

    def __init__(self, descriptor: int) -> None:
        self.count = 0
        # A number of the loop's own: that of a room which another thread closes is another file's
        # before the loop lets go of it.
        self.descriptor = os.dup(descriptor)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self.descriptor)
        os.close(self.descriptor)


class Waiter:
    """Of one room. Safe from any thread; each call is waited for by one coroutine."""

    def __init__(self, core: _core.Core) -> None:
        self._core = core
        self._guard = threading.Lock()
        self._waiting: dict[_core.Call[Any], asyncio.Future[None]] = {}
        self._watching: dict[asyncio.AbstractEventLoop, _Watch] = {}
        self._closed = False
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
            if self._closed:
                self._core.close()  # not a moment later: nobody would say that the call is over
                return
            watch = self._watching.get(loop)
            if watch is None:
                watch = self._watching[loop] = _Watch(self._core.fileno())
                loop.add_reader(watch.descriptor, self._arrive)
            watch.count += 1
            self._waiting[call] = arrived

    def _leave(self, loop: asyncio.AbstractEventLoop, call: _core.Call[Any]) -> None:
        with self._guard:
            if self._waiting.pop(call, None) is None:
                return  # forgotten by a fork
            watch = self._watching.get(loop)
            if watch is None:
                return  # closed
            watch.count -= 1
            if watch.count > 0:
                return
            del self._watching[loop]
        watch.end(loop)

    def close(self) -> None:
        """Before the room is: whoever waits goes on, and hears of it from the call."""
        with self._guard:
            self._closed = True
            waiting, watching = list(self._waiting.values()), list(self._watching.items())
            self._watching.clear()
        for loop, watch in watching:
            if not _in_loop(loop, watch.end, loop):
                os.close(watch.descriptor)
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
        for watch in self._watching.values():
            os.close(watch.descriptor)
        self._watching.clear()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> bool:
    """Now where that is the loop that runs here, else there. False: that is closed."""
    if asyncio._get_running_loop() is loop:
        call(*args)
        return True
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


def _tell(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


_of_this_process: weakref.WeakSet[Waiter] = weakref.WeakSet()


def _forget_all() -> None:
    for waiter in _of_this_process:
        waiter.forget()


os.register_at_fork(after_in_child=_forget_all)
