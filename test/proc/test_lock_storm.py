#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long timeout=240
"""Holders of one lock under kills, stops and killed agents, before a register that checks the fence
as a database would. What may never be: two with one fence, a later holder with a lower one, a write
taken from a holder that another's write has outdated."""

import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scratch
import tap
from desk import Desk

SECONDS = 90
HOLDERS = 4

# A holder writes as fast as it can. The register takes what has no lower fence than what it has.
WRITER = r"""
import fcntl, os, sys, time
fence, register = int(os.environ["CLOAKROOM_FENCE"]), sys.argv[1]
def write(kind):
    with open(register, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines()
        taken = [int(line.split()[1]) for line in lines if line.startswith("taken")]
        word = "refused" if taken and fence < taken[-1] else kind
        file.write(f"{word} {fence} {os.getpid()}\n")
        return word
for turn in range(int(sys.argv[2])):
    if write("taken") == "refused":
        sys.exit(9)
    time.sleep(0.01)
"""


def start_again(desk, stopped):
    """Whoever came while no agent ran has the store to itself until it is done."""
    end = time.monotonic() + 30
    while True:
        try:
            return desk.start()
        except AssertionError as told:
            assert "is held by process" in str(told) and time.monotonic() < end, told
        while stopped:
            stopped.pop().send_signal(signal.SIGCONT)


def no_two_hold_one_fence_and_accepted_fences_rise():
    register = scratch.folder("register") / "register"
    register.touch()
    holders, stopped, killed_agents = [], [], 0
    end = time.monotonic() + SECONDS
    with Desk() as desk:
        while time.monotonic() < end:
            holders = [h for h in holders if h.poll() is None]
            stopped = [h for h in stopped if h.poll() is None]
            while len(holders) < HOLDERS:
                holders.append(desk.open("lock", "x", "--", sys.executable, "-c", WRITER,
                                         str(register), str(tap.random.randrange(1, 100))))
            victim = tap.random.choice(holders)
            fate = tap.random.randrange(60)
            if fate < 12:
                victim.send_signal(signal.SIGKILL)
            elif fate < 24 and len(stopped) < HOLDERS - 1:
                victim.send_signal(signal.SIGSTOP)
                stopped.append(victim)
            elif fate < 48 and stopped:
                stopped.pop().send_signal(signal.SIGCONT)
            elif fate == 59 and killed_agents < 3 and end - time.monotonic() > 20:
                killed_agents += 1
                desk.stop(signal.SIGKILL)
                start_again(desk, stopped)
            time.sleep(0.05)
        for holder in holders:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    rows = [line.split() for line in register.read_text().splitlines()]
    taken = [(int(fence), int(pid)) for word, fence, pid in rows if word == "taken"]
    owners = {}
    for fence, pid in taken:
        assert owners.setdefault(fence, pid) == pid, f"fence {fence}: {owners[fence]} and {pid}"
    fences = [fence for fence, _ in taken]
    assert fences == sorted(fences), "a lower fence was accepted after a higher one"
    tap.note(f"{len(taken)} writes by {len(owners)} holders, {len(rows) - len(taken)} refused, "
             f"{killed_agents} agents killed")
    assert len(owners) > 20, len(owners)


tap.main([no_two_hold_one_fence_and_accepted_fences_rise])
