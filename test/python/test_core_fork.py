#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""A room that was opened before a fork: preloaded applications, multiprocessing, threads, loops."""

import asyncio
import contextlib
import multiprocessing
import os
import pathlib
import pickle
import signal
import sys
import threading
import traceback
import warnings

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]
from rooms import SOON, a_room, open_room, raised, stopped

import scratch
import tap

from cloakroom import Busy, Cloakroom, InvalidArgument, LockLost, Refused, Unavailable

TOKEN = "crs1_" + "A" * 80  # of nobody

# Python warns of forks beside threads, and that is what is tested here.
warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)


def fork(work, *args):
    """The child's pid; it ends with 0 when the work is done without an exception."""
    pid = os.fork()
    if pid != 0:
        return pid
    status = 1
    try:
        work(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def finish(*pids):
    for pid in pids:
        descriptor = os.pidfd_open(pid)
        try:
            scratch.until(lambda: os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT),
                          "the child ends", SOON)
        finally:
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"the child's exit status is {status}"


def a_preloaded_room_serves_every_worker():
    def work(room, number, tokens):
        assert room.validate(tokens[number]).user == f"user{number}"
        own = room.login(f"worker{number}", policy="replace", data=b"x" * 5000)
        for _ in range(20):
            assert room.validate(own.signed_token).data == b"x" * 5000
            assert room.validate_strict(own.signed_token).user == f"worker{number}"
        assert room.stats()["mapped"]
        assert room.end(room.validate(tokens[number]))
        assert room.validate(tokens[number]) is None

    with a_room() as (_, room):
        tokens = [room.login(f"user{number}", policy="replace").signed_token for number in range(4)]
        for token in tokens:
            room.validate(token)
        finish(*[fork(work, room, number, tokens) for number in range(4)])
        assert all(room.validate(token) is None for token in tokens)
        assert room.login("alice", policy="replace").session.user == "alice"


def what_a_child_ends_the_parent_refuses_and_the_other_way():
    with a_room() as (_, room):
        mine, yours = (room.login(name, policy="replace").signed_token for name in ("mine", "yours"))
        ask, answer = multiprocessing.Pipe()

        def work():
            assert room.validate(mine) and room.validate(yours)
            room.invalidate_by_user("mine")
            answer.send("ended")
            assert answer.recv() == "ended"
            assert room.validate(yours) is None

        child = fork(work)
        assert ask.poll(SOON) and ask.recv() == "ended"
        assert room.validate(mine) is None
        room.invalidate_by_user("yours")
        ask.send("ended")
        finish(child)


def a_grandchild_is_served_too():
    def work(room, token, depth):
        assert room.validate(token) and room.validate_strict(token)
        if depth > 0:
            finish(fork(work, room, token, depth - 1))
        assert room.validate_strict(token)

    with a_room() as (_, room):
        finish(fork(work, room, room.login("alice", policy="replace").signed_token, 3))


def is_in_result(thread):
    """Whether the thread has let go of the interpreter's lock there: its innermost frame is the call's."""
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == "wait_for_it"


def what_was_under_way_stays_with_the_parent():
    with a_room() as (desk, room):
        token = room.login("alice", policy="replace").signed_token
        lock = room.lock("x")
        lock.__enter__()
        answers = []

        def work():
            assert calls[0].done
            raised(Unavailable, calls[0].result)
            calls[1].cancel()
            raised(Unavailable, waited.result)
            assert waited.done and not lock.held
            raised(LockLost, lock.check)
            lock.give()
            assert room.validate_strict(token).user == "alice"
            room.close()
            raised(InvalidArgument, room.validate, token)

        with stopped(desk):
            calls = [room._core.begin_validate(token, True) for _ in range(3)]
            waited = room._core.begin_validate(token, True)
            def wait_for_it():
                answers.append(waited.result())

            thread = threading.Thread(target=wait_for_it)
            thread.start()
            scratch.until(lambda: is_in_result(thread), "the thread waits")
            child = fork(work)
        finish(child)
        thread.join(SOON)
        assert [each.user for each in answers] == ["alice"]
        assert all(call.result().user == "alice" for call in calls)
        assert lock.held
        lock.give()


def a_signal_s_handler_may_fork_and_close_in_the_child():
    class Leave(BaseException):
        pass

    def ring(*_):
        children.append(os.fork())
        if children[-1] != 0:
            os.kill(desk.agent.pid, signal.SIGCONT)
            return
        room.close()
        if leaves:
            raise Leave

    def outcome(call):
        try:
            return call()
        except BaseException as error:
            return error

    children = []
    kept = signal.signal(signal.SIGALRM, ring)
    try:
        for leaves in (True, False):
            for number in range(2):
                with a_room() as (desk, room):
                    token = room.login("alice", policy="replace").signed_token
                    asks = (lambda: room.validate_strict(token), lambda: room.validate(TOKEN))
                    with stopped(desk):
                        signal.setitimer(signal.ITIMER_REAL, 0.05)
                        seen = outcome(asks[number])
                    if children[-1] == 0:
                        os._exit(0 if isinstance(seen, Leave if leaves else Unavailable) else 1)
                    finish(children[-1])
                    assert seen is None if number else seen.user == "alice", seen
                    assert room.validate_strict(token).user == "alice"
    finally:
        signal.signal(signal.SIGALRM, kept)


def threads_that_call_all_the_time_do_not_harm_a_child():
    if os.environ.get("CR_SANITIZED"):
        tap.skip("a lock of the sanitizer's own malloc may be held by a thread that the child has not")
    with a_room() as (_, room):
        token = room.login("alice", policy="replace").signed_token
        ended = threading.Event()

        def busy(call):
            while not ended.is_set():
                with contextlib.suppress(Busy):  # the agent has more than it takes of one process
                    call()

        threads = [threading.Thread(target=busy, args=(call,)) for call in (
            lambda: room.validate(token), lambda: room.validate_strict(token),
            lambda: room.update(room.validate(token), data=b"x" * 5000, version=2**64 - 1),
            lambda: room._core.begin_validate(token, True).cancel())]
        for thread in threads:
            thread.start()

        def work():
            for _ in range(5):
                assert room.validate(token).user == "alice"
                assert room.validate_strict(token).user == "alice"
            room.close()

        try:
            for _ in range(25):
                finish(fork(work))
        finally:
            ended.set()
            for thread in threads:
                thread.join(SOON)
        assert not any(thread.is_alive() for thread in threads)


def loops_of_parent_and_child_are_their_own():
    async def ask(room, token):
        found = await asyncio.gather(*(room.avalidate_strict(token) for _ in range(20)))
        assert [session.user for session in found] == ["alice"] * 20

    async def main(desk, room, token):
        with stopped(desk):
            waiting = [asyncio.create_task(room.avalidate_strict(token)) for _ in range(5)]
            await asyncio.sleep(0.01)
            children = [fork(in_child, room, token) for _ in range(2)]
        found = await asyncio.gather(*waiting)
        assert [session.user for session in found] == ["alice"] * 5
        await asyncio.to_thread(finish, *children)
        await ask(room, token)

    def in_child(room, token):
        # As a worker's is, the loop is a new one.
        asyncio._set_running_loop(None)
        asyncio.run(ask(room, token))

    with a_room() as (desk, room):
        token = room.login("alice", policy="replace").signed_token
        asyncio.run(main(desk, room, token))


# ---- multiprocessing

room_of_all = None


def in_pool(token):
    return room_of_all.validate(token).user, room_of_all.validate_strict(token).user


def in_spawned(path, token):
    with Cloakroom.open(path) as room:
        return room.validate(token).user, room.validate_strict(token).user


def multiprocessing_forks_and_spawns():
    global room_of_all
    with a_room() as (desk, room), contextlib.ExitStack() as stack:
        room_of_all = room
        token = room.login("alice", policy="replace").signed_token
        for method, work, args in (("fork", in_pool, (token,)),
                                   ("spawn", in_spawned, (str(desk.state / "app.sock"), token)),
                                   ("forkserver", in_spawned, (str(desk.state / "app.sock"), token))):
            pool = stack.enter_context(multiprocessing.get_context(method).Pool(2))
            for answer in [pool.apply_async(work, args) for _ in range(4)]:
                assert answer.get(3 * SOON) == ("alice", "alice"), method
        # A room is no message; the child opens its own.
        for value in (room, room._core):
            raised(TypeError, pickle.dumps, value)


def direct_mode_stays_in_its_process():
    with Cloakroom.open("memory:") as room:
        token = room.login("alice", policy="replace").signed_token

        def work():
            for call in (lambda: room.validate(token), lambda: room.validate_strict(token),
                         lambda: room.login("bob", policy="keep"), lambda: room.end_all()):
                error = raised(Refused, call)
                assert "CR-102" in str(error) and "after the fork" in str(error), error
            room.close()

        finish(fork(work))
        assert room.validate(token).user == "alice"


if __name__ == "__main__":
    tap.main([
        a_preloaded_room_serves_every_worker,
        what_a_child_ends_the_parent_refuses_and_the_other_way,
        a_grandchild_is_served_too,
        what_was_under_way_stays_with_the_parent,
        a_signal_s_handler_may_fork_and_close_in_the_child,
        threads_that_call_all_the_time_do_not_harm_a_child,
        loops_of_parent_and_child_are_their_own,
        multiprocessing_forks_and_spawns,
        direct_mode_stays_in_its_process,
    ])
