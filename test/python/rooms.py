# SPDX-License-Identifier: Apache-2.0
"""A room at an agent of its own, for tests of the Python package that need no framework."""

import contextlib
import os
import pathlib
import signal
import sys

TEST = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TEST), str(TEST / "proc")]
sys.dont_write_bytecode = True
from desk import Desk

from cloakroom import Cloakroom

SOON = 20  # seconds; far more than anything here takes


def open_room(desk, **options):
    return Cloakroom.open(desk.state / "app.sock", **options)


@contextlib.contextmanager
def a_room(**options):
    """(desk, room): the desk has its agent."""
    with Desk() as desk, open_room(desk, **options) as room:
        yield desk, room


@contextlib.contextmanager
def stopped(desk):
    """The agent is, for a while."""
    os.kill(desk.agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(desk.agent.pid, signal.SIGCONT)


def raised(kind, call, *args, **options):
    """What a call that must raise this has raised."""
    try:
        answer = call(*args, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call} answered {answer!r}")
