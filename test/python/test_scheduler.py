#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""APScheduler as it is, in three processes under one lock: one of them runs the jobs, and when it is killed
another does (doc/coming-from.md)."""

import contextlib
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "examples" / "fastapi")]
sys.dont_write_bytecode = True
import demo
import scratch
import tap

ENOUGH = 8


def one_runs_the_jobs_and_another_when_it_is_killed():
    folder = scratch.folder("scheduler")
    notes, log = folder / "notes", folder / "log"
    notes.touch()
    url = f"cloakroom://{folder}/agent/app.sock"

    def ran():
        """Who did, in order."""
        return [int(line) for line in notes.read_text().split("\n")[:-1]]

    with contextlib.ExitStack() as stack:
        stack.enter_context(demo.running([str(scratch.PROGRAM), "agent", "--store", f"sqlite://{folder}/x.db",
                                          "--state", str(folder / "agent")], log, dict(os.environ)))
        scratch.until((folder / "agent" / "app.sock").exists, "the agent")
        command = [sys.executable, str(ROOT / "test" / "python" / "scheduler.py"), url, str(notes)]
        left = {}
        for _ in range(3):
            child = stack.enter_context(demo.running(command, log, dict(os.environ)))
            left[child.pid] = child
        for _ in range(2):
            before = len(ran())
            scratch.until(lambda: len(ran()) >= before + ENOUGH, f"jobs run: {log.read_text()}")
            holder = set(ran()[before:])
            assert len(holder) == 1 and holder <= left.keys(), f"{holder} of {list(left)}"
            victim = left.pop(*holder)
            victim.kill()
            victim.wait()
        last = len(ran())
        scratch.until(lambda: len(ran()) >= last + ENOUGH, f"jobs run: {log.read_text()}")
        assert set(ran()[last:]) == left.keys(), ran()[last:]


tap.main([
    one_runs_the_jobs_and_another_when_it_is_killed,
])
