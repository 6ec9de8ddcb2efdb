# SPDX-License-Identifier: Apache-2.0
"""CR-101 as Python sees it: how many processes the server was told to start, and what becomes of it.

The library looks at command lines and the environment. What was given to `uvicorn.run(workers=4)`, or
stands in gunicorn.conf.py, is only known inside: to the server's own objects in this process. They are
looked at, never changed; a server of another make has none of these, and nothing is found.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["in_python_s_words", "leave_none_behind", "predecessors_are_gone", "told_to_start"]

_MARGIN = 5  # seconds in which who was told to go is gone, beyond what it was given


def told_to_start() -> tuple[int, str]:
    """How many processes, and who says so; 0 where nobody does."""
    return _by_gunicorn() or _by_multiprocessing() or (0, "")


def _by_multiprocessing() -> tuple[int, str] | None:
    """A server's child has the server's settings as an argument: so uvicorn, hypercorn."""
    if multiprocessing.parent_process() is None:
        return None
    for value in _arguments():
        server, workers = _server_of(value), getattr(value, "workers", None)
        if server is not None and isinstance(workers, int) and workers > 0:
            return workers, f"{server} was told workers={workers}"
    return None


def _server_of(value: object) -> str | None:
    """Whose settings these are; None: an application has children of its own, with arguments of theirs."""
    for kind in type(value).__mro__:
        if kind.__module__ in ("uvicorn.config", "hypercorn.config"):
            return kind.__module__.partition(".")[0]
    return None


def _arguments() -> tuple[Any, ...]:
    process: Any = multiprocessing.current_process()
    return (*getattr(process, "_args", ()), *getattr(process, "_kwargs", {}).values())


def _by_gunicorn() -> tuple[int, str] | None:
    workers = getattr(_arbiter(), "num_workers", None)
    if isinstance(workers, int) and workers > 0:
        return workers, f"gunicorn was told workers={workers}"
    return None


def _arbiter() -> Any:
    """The master runs in it, and a worker, which was forked from there, still does. None: no gunicorn."""
    kind = getattr(sys.modules.get("gunicorn.arbiter"), "Arbiter", None)
    return next(_all_of(kind), None) if isinstance(kind, type) else None


def _all_of(kind: type) -> Iterator[Any]:
    for frame in sys._current_frames().values():
        at: FrameType | None = frame
        while at is not None:
            if at.f_globals.get("__name__") == kind.__module__ and isinstance(at.f_locals.get("self"), kind):
                yield at.f_locals["self"]
            at = at.f_back
    for one in gc.get_objects():  # greenlets have their frames elsewhere
        if type(one) is kind:
            yield one


def predecessors_are_gone() -> bool:
    """Waits for the worker that this one is to replace; False where there is none, or it does not go.

    gunicorn starts the next worker before it ends the one before (HUP), and one that is refused ends
    the server.
    """
    arbiter = _arbiter()
    workers = getattr(arbiter, "WORKERS", None)
    if not isinstance(workers, dict) or getattr(arbiter, "num_workers", 0) != 1:
        return False
    until = time.monotonic() + float(getattr(arbiter.cfg, "graceful_timeout", 30)) + _MARGIN
    before = [pid for pid in workers if pid != os.getpid()]
    return bool(before) and all(_is_gone(pid, until) for pid in before)


def _is_gone(pid: int, until: float) -> bool:
    """Waited for by gunicorn, too, and so not there any more once it has ended."""
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's: it is there
        time.sleep(0.02)
    return False


def leave_none_behind() -> None:
    """This worker was refused. If it ends without having served, its supervisor is to end, too.

    uvicorn's supervisor either starts a worker that died again, for ever, or does not look after them:
    it would stay, and serve nobody. It is asked to stop, by SIGTERM, only where it certainly is that.
    """
    parent = multiprocessing.parent_process()
    target = getattr(multiprocessing.current_process(), "_target", None)
    module = getattr(target, "__module__", "")
    if parent is None or module not in ("uvicorn._subprocess", "uvicorn.subprocess"):
        return
    for value in _arguments():
        several = _server_of(value) is not None and getattr(value, "workers", 1) > 1
        if several and not getattr(value, "should_reload", False):
            # Among the last things that this process does.
            multiprocessing.util.Finalize(None, _stop_supervisor, (parent.pid,), exitpriority=-100)
            return


def _stop_supervisor(supervisor: int | None) -> None:
    for value in _arguments():
        of = getattr(value, "__self__", None)  # the method that serves
        server = getattr(of, "_server", of)
        if getattr(server, "started", False):
            return
    if supervisor is not None and os.getppid() == supervisor:
        # It ends its workers in turn, and this one has yet to say why.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)


_WORDS = {
    "mode = CR_MODE_AUTO and cache = CR_CACHE_SHARED": 'mode="auto" and cache="shared"',
    "with mode = CR_MODE_AUTO": 'with mode="auto"',
}


def in_python_s_words(text: str, workers: int, who: str) -> str:
    """The library's refusal, as who writes Python would spell what is to be changed."""
    for c, python in _WORDS.items():
        text = text.replace(c, python)
    seen = who if who else f"workers={workers}"
    text = text.replace(f"declared_workers = {workers} in cr_options", seen)
    return text.replace("declared_workers = 1", "workers=1")
