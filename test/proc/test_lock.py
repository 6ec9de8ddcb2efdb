#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""Named locks, as `cloakroom lock NAME -- COMMAND`: with holders that are killed, stopped and
continued. COORDINATION's promise: at any instant one holder; fences rise; a killed holder frees."""

import contextlib
import fcntl
import os
import pathlib
import select
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scratch
import tap
from desk import Desk

SOON = 5  # seconds; a third of a lease, so what is free by then was not waited for

# Says its fence and its pid, and stays until its standard input ends.
HOLD = ("--", "sh", "-c", 'echo "$CLOAKROOM_FENCE $$"; cat >/dev/null')


class Holder:
    def __init__(self, desk, name, *options, command=HOLD):
        self.process = desk.open("lock", name, *options, *command, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.fence = self.child = None

    def line(self, seconds=SOON):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, f"it has not got the lock within {seconds} s"
        return self.process.stdout.readline()

    def got(self, seconds=SOON):
        """Waits until it has the lock."""
        words = self.line(seconds).split()
        assert len(words) == 2, f"{words} {self.process.stderr.read()}"
        self.fence, self.child = map(int, words)
        return self

    def has_not_got(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 0.3)
        assert not ready, self.process.stdout.readline()

    def finish(self):
        """Its command ends by itself. The exit status."""
        self.process.stdin.close()
        return self.wait()

    def wait(self, seconds=SOON):
        try:
            return self.process.wait(seconds)
        finally:
            self.close()

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass


def is_free(file):
    """Whether nobody holds a lock on the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


@contextlib.contextmanager
def full_pipe():
    """The end to write to; who writes waits."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(writing)
        os.close(reading)


def gone(pid):
    """Whether the process has ended, within a time in which a signal arrives."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], SOON)[0])
    finally:
        os.close(descriptor)


def the_command_runs_with_its_fence_and_its_status_is_ours():
    with Desk() as desk:
        fences = []
        for wanted in (0, 7, 255):
            status, out, _ = desk.run("lock", "x", "--", "sh", "-c",
                                      f"echo $CLOAKROOM_FENCE; exit {wanted}")
            assert status == wanted, status
            fences.append(int(out))
        assert fences[0] > 0 and fences == sorted(set(fences)), fences
        status, _, _ = desk.run("lock", "x", "--", "sh", "-c", "kill -KILL $$")
        assert status == 128 + signal.SIGKILL, status
        status, _, error = desk.run("lock", "x", "--", "/nonexistent")
        assert status == 127 and "No such file" in error, f"{status} {error}"
        status, _, _ = desk.run("lock", "x", "--", "/")
        assert status == 126, status
        # What stands after -- is the command's, also what looks like an option of ours.
        status, out, _ = desk.run("lock", "x", "--", "echo", "--wait", "--", "-n")
        assert (status, out) == (0, "--wait -- -n\n"), out


def a_lock_that_is_held_is_waited_for_or_not():
    with Desk() as desk:
        first = Holder(desk, "x").got()
        status, _, error = desk.run("lock", "x", "--wait", "0", "--", "true")
        assert status == 75 and "held by another" in error, f"{status} {error}"
        status, _, _ = desk.run("lock", "x", "--wait", "200ms", "--", "true")
        assert status == 75, status
        assert desk.run("lock", "y", "--wait", "0", "--", "true")[0] == 0
        second = Holder(desk, "x", "--wait", "60s")
        second.has_not_got()
        assert first.finish() == 0
        second.got()
        assert second.fence > first.fence
        assert second.finish() == 0


def waiters_are_served_in_order():
    with Desk() as desk:
        holders = [Holder(desk, "x").got()]
        for _ in range(3):
            holders.append(Holder(desk, "x"))
            holders[-1].has_not_got()
        for earlier, later in zip(holders, holders[1:]):
            earlier.finish()
            later.got()
            assert later.fence > earlier.fence
        holders[-1].finish()


def the_lock_of_a_killed_holder_is_free_at_once_and_its_command_ends():
    with Desk() as desk:
        fence = 0
        for _ in range(10):
            first = Holder(desk, "x").got()
            second = Holder(desk, "x")
            first.kill()
            second.got()
            assert second.fence > first.fence > fence
            assert gone(first.child), "its command goes on without the lock"
            first.wait()
            fence = second.fence
            second.kill(signal.SIGTERM)
            second.wait()


def who_is_killed_while_it_waits_is_passed_over():
    with Desk() as desk:
        first = Holder(desk, "x").got()
        second = Holder(desk, "x")
        second.has_not_got()
        third = Holder(desk, "x")
        third.has_not_got()
        second.kill()
        second.wait()
        first.finish()
        assert third.got().fence > first.fence
        third.finish()


def a_stopped_holder_keeps_its_lock_while_it_is_there():
    with Desk() as desk:
        first = Holder(desk, "x").got()
        first.kill(signal.SIGSTOP)
        assert desk.run("lock", "x", "--wait", "1s", "--", "true")[0] == 75
        first.kill(signal.SIGCONT)
        assert desk.run("lock", "x", "--wait", "0", "--", "true")[0] == 75
        assert first.finish() == 0
        # And one that is killed while it is stopped lets go too.
        first = Holder(desk, "x").got()
        first.kill(signal.SIGSTOP)
        second = Holder(desk, "x")
        second.has_not_got()
        first.kill()
        assert second.got().fence > first.fence
        first.wait()
        second.finish()


def signals_are_passed_on_to_the_command():
    with Desk() as desk:
        holder = Holder(desk, "x", command=(
            "--", "sh", "-c", 'trap "echo term; exit 9" TERM; trap "echo usr1" USR1; '
            'echo ready; while :; do read line <&3 || :; sleep 0.05; done 3</dev/null'))
        assert holder.line() == "ready\n"
        holder.kill(signal.SIGUSR1)
        assert holder.line() == "usr1\n"
        holder.kill(signal.SIGTERM)
        assert holder.line() == "term\n"
        assert holder.wait() == 9
        assert desk.run("lock", "x", "--wait", "0", "--", "true")[0] == 0


def a_holder_whose_agent_is_killed_has_lost_the_lock():
    with Desk() as desk:
        holder = Holder(desk, "x").got()
        desk.stop(signal.SIGKILL)
        assert holder.wait() == 74
        assert gone(holder.child)
        desk.start()
        # Its lease runs out by itself, and the fence goes on.
        later = Holder(desk, "x").got(30)
        assert later.fence > holder.fence
        later.finish()


def an_agent_that_stops_well_gives_the_locks_back():
    with Desk() as desk:
        for _ in range(3):
            holder = Holder(desk, "x").got()
            waiting = Holder(desk, "x")
            waiting.has_not_got()
            desk.stop()
            assert holder.wait() == 74
            waiting.kill()
            waiting.wait()
            desk.start()
            later = Holder(desk, "x").got()
            assert later.fence > holder.fence
            later.finish()


def a_command_that_does_not_end_when_the_lock_is_lost_is_killed():
    with Desk() as desk:
        holder = Holder(desk, "x", command=(
            "--", "sh", "-c", 'trap "" TERM; echo $CLOAKROOM_FENCE $$; '
            'while :; do sleep 0.1; done')).got()
        desk.stop(signal.SIGKILL)
        assert holder.wait(20) == 74
        assert gone(holder.child)


def an_agent_that_was_stopped_for_longer_than_the_lease_has_lost_the_lock():
    """COORDINATION's row 5: the holder's trust ends by its own clock, though nobody tells it."""
    with Desk() as desk:
        holder = Holder(desk, "x").got()
        desk.agent.send_signal(signal.SIGSTOP)
        assert holder.wait(20) == 74
        desk.agent.send_signal(signal.SIGCONT)
        later = Holder(desk, "x").got(30)
        assert later.fence > holder.fence
        later.finish()


def without_an_agent_the_store_itself_is_held():
    desk = Desk()
    status, out, _ = desk.run("lock", "x", "--", "sh", "-c", "echo $CLOAKROOM_FENCE")
    assert status == 0
    first = Holder(desk, "x").got()
    assert first.fence > int(out)
    status, _, error = desk.run("lock", "x", "--wait", "0", "--", "true")
    assert status not in (0, 127) and str(first.process.pid) in error, f"{status} {error}"
    first.kill()
    first.wait()
    assert desk.run("lock", "y", "--", "true")[0] == 0


def who_hears_that_an_agent_did_not_start_finds_its_lock_free():
    """The failed agent cannot say so while its pipe is full, and holds nothing meanwhile."""
    desk = Desk()
    with full_pipe() as writing:
        first = Holder(desk, "x").got()
        agent = desk.open("agent", "--ready-fd", str(writing), pass_fds=[writing])
        try:
            lock = desk.state / "agent.lock"
            scratch.until(lambda: lock.exists() and lock.read_text() == f"{agent.pid}\n",
                          "the agent takes the lock")
            with open(lock, "rb") as file:
                scratch.until(lambda: is_free(file), "the lock is free")
            assert agent.poll() is None, "it could not have said anything"
        finally:
            scratch.end(agent, signal.SIGKILL)
        assert first.finish() == 0
    desk.start()
    desk.stop()


tap.main([
    the_command_runs_with_its_fence_and_its_status_is_ours,
    a_lock_that_is_held_is_waited_for_or_not,
    waiters_are_served_in_order,
    the_lock_of_a_killed_holder_is_free_at_once_and_its_command_ends,
    who_is_killed_while_it_waits_is_passed_over,
    a_stopped_holder_keeps_its_lock_while_it_is_there,
    signals_are_passed_on_to_the_command,
    a_holder_whose_agent_is_killed_has_lost_the_lock,
    an_agent_that_stops_well_gives_the_locks_back,
    a_command_that_does_not_end_when_the_lock_is_lost_is_killed,
    an_agent_that_was_stopped_for_longer_than_the_lease_has_lost_the_lock,
    without_an_agent_the_store_itself_is_held,
    who_hears_that_an_agent_did_not_start_finds_its_lock_free,
])
