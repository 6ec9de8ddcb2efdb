#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""Waiting on event loops: the loop goes on whatever the agent does, and nothing is left of what was
given up."""

import asyncio
import os
import pathlib
import signal
import socket
import sys
import threading

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]
from rooms import SOON, a_room, open_room, stopped

import scratch
import tap

from cloakroom import Busy, Cloakroom, CloakroomError, InvalidArgument, Later, SessionEnded


def run(main):
    """A loop of its own, and a limit for all of it."""
    async def limited():
        async with asyncio.timeout(SOON):
            return await main

    return asyncio.run(limited())


def in_thread(failures, work, *args):
    try:
        work(*args)
    except BaseException as error:
        failures.append(error)


def is_idle(room):
    return not room._waiter._waiting and not room._waiter._watching


async def ticks(count):
    """Each is one turn of the loop and a moment."""
    for _ in range(count):
        await asyncio.sleep(0.002)


def a_hit_awaits_nothing():
    with a_room() as (_, room):
        token = room.login("alice", policy="replace", data=b"x" * 100).signed_token
        room.validate(token)
        hits = room.stats()["hits"]
        asked = room.avalidate(token)
        try:
            asked.send(None)
        except StopIteration as answer:
            assert answer.value.user == "alice"
        else:
            raise AssertionError("it waited")
        assert room.stats()["hits"] == hits + 1


def every_call_can_be_awaited():
    async def main(room):
        login = await room.alogin("alice", policy="replace", json={"a": 1})
        session = await room.avalidate(login.signed_token)
        assert session.json() == {"a": 1} and await room.avalidate("none") is None
        assert (await room.avalidate_strict(login.signed_token)).id == session.id
        changed = await room.aupdate(session, data=b"x" * 60000)
        assert (await room.avalidate(login.signed_token)).data == b"x" * 60000
        assert await room.aread(session) == (b"x" * 60000, changed.version)
        await room.aset_rights(session, b"r")
        await room.atouch(login.signed_token)
        login = await room.arotate(login.signed_token)
        assert [each.id async for each in room.asessions_of("alice")] == [session.id]
        visitor = await room.acreate()
        assert visitor.session.user is None and (await room.aend(visitor.session)).done
        assert (await room.aexplain(session)).live
        async with room.lock("x") as held:
            assert held.held
            try:
                async with room.lock("x", wait=0.05):
                    raise AssertionError("two hold it")
            except Busy:
                pass
        assert await room.aend_others(session) and await room.ainvalidate_by_user("alice")
        assert await room.avalidate(login.signed_token) is None
        try:
            await room.atouch(login.signed_token)
            raise AssertionError("it came back")
        except SessionEnded:
            pass
        assert (await room.astats())["attached"]

    with a_room() as (_, room):
        run(main(room))
        assert is_idle(room)


def the_loop_goes_on_while_the_agent_is_stopped():
    async def main(desk, room):
        login = await room.alogin("alice", policy="replace")
        session = login.session
        await room.acreate("bob")
        with stopped(desk):
            calls = [asyncio.ensure_future(call) for call in (
                room.alogin("carol", policy="replace"), room.acreate(), room.avalidate_strict(login.signed_token),
                room.avalidate("crs1_" + "A" * 80), room.atouch(login.signed_token), room.aread(session),
                room.aupdate(session, data=b"1"), room.aset_rights(session, b"r"), room.aexplain(session),
                room.ainvalidate_by_user("bob"), room.lock("x").__aenter__(), room.astats())]
            await ticks(100)
            assert not any(call.done() for call in calls), [call for call in calls if call.done()]
        await asyncio.gather(*calls)

    with a_room() as (desk, room):
        run(main(desk, room))
        assert is_idle(room)


def a_thousand_tasks_wait_at_once():
    async def main(room, token):
        found = await asyncio.gather(*(room.avalidate_strict(token) for _ in range(1000)))
        assert len(found) == 1000 and all(session.user == "alice" for session in found)
        # More are refused, and harm nobody.
        found = await asyncio.gather(*(room.avalidate_strict(token) for _ in range(1500)), return_exceptions=True)
        busy = [each for each in found if isinstance(each, Busy)]
        assert all(each in busy or each.user == "alice" for each in found) and len(busy) < 1500
        assert (await room.avalidate_strict(token)).user == "alice"

    with a_room() as (_, room):
        run(main(room, room.login("alice", policy="replace").signed_token))
        assert is_idle(room)


def two_loops_and_a_thread_share_a_room():
    async def main(room, name):
        for number in range(30):
            user = f"{name}{number % 3}"
            logins = await asyncio.gather(*(room.alogin(user, policy="keep") for _ in range(5)))
            found = await asyncio.gather(*(room.avalidate_strict(login.signed_token) for login in logins))
            assert [session.user for session in found] == [user] * 5
            assert await room.ainvalidate_by_user(user)
            assert await room.avalidate(logins[0].signed_token) is None

    with a_room() as (_, room):
        failures = []

        def plainly():
            for number in range(100):
                token = room.login(f"plain{number}", policy="keep").signed_token
                assert room.validate_strict(token).user == f"plain{number}"

        threads = [threading.Thread(target=in_thread, args=(failures, work)) for work in (
            lambda: run(main(room, "one")), lambda: run(main(room, "two")), plainly)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * SOON)
            assert not thread.is_alive()
        assert not failures, failures
        assert is_idle(room)


def a_task_that_is_cancelled_leaves_nothing():
    async def main(desk, room, token):
        for _ in range(3):
            with stopped(desk):
                tasks = [asyncio.create_task(room.avalidate_strict(token)) for _ in range(400)]
                tasks += [asyncio.create_task(room.lock("x", wait=3600).__aenter__()) for _ in range(3)]
                await ticks(2)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert all(task.cancelled() for task in tasks)
                assert is_idle(room)
        assert (await room.avalidate_strict(token)).user == "alice"
        # None of those has the lock.
        async with room.lock("x", wait=SOON):
            pass

    with a_room() as (desk, room):
        run(main(desk, room, room.login("alice", policy="replace").signed_token))


def a_time_limit_ends_the_waiting_only():
    async def main(desk, room, token):
        with stopped(desk):
            try:
                async with asyncio.timeout(0.05):
                    await room.avalidate_strict(token)
                raise AssertionError("answered by an agent that is stopped")
            except TimeoutError:
                pass
        assert (await room.avalidate_strict(token)).user == "alice"

    with a_room() as (desk, room):
        run(main(desk, room, room.login("alice", policy="replace").signed_token))
        assert is_idle(room)


def an_agent_that_is_killed_is_waited_for_and_its_successor_answers():
    async def main(desk, room):
        login = await room.alogin("alice", policy="replace")
        with stopped(desk):
            calls = [asyncio.ensure_future(call) for call in (
                *(room.avalidate_strict(login.signed_token) for _ in range(50)),
                *(room.alogin(f"user{number}", policy="keep") for number in range(10)),
                room.aupdate(login.session, data=b"new"), room.aread(login.session),
                room.ainvalidate_by_user("alice"), room.astats(), room.lock("x").__aenter__())]
            await ticks(5)
            desk.agent.send_signal(signal.SIGKILL)
        await asyncio.to_thread(desk.agent.wait)
        await asyncio.to_thread(desk.start)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, (Later, SessionEnded)), repr(answer)
        # Only asked for, so asked again.
        assert not any(isinstance(answer, Later) for answer in answers[:50]), answers[:50]
        again = await room.alogin("bob", policy="replace")
        assert (await room.avalidate(again.signed_token)).user == "bob"

    with a_room() as (desk, room):
        run(main(desk, room))
        assert is_idle(room)


def a_room_that_is_closed_ends_the_waiting():
    async def refused(call):
        try:
            answer = await call
        except InvalidArgument as error:
            assert "closed" in str(error), error
        else:
            raise AssertionError(f"answered by a room that was closed: {answer}")

    async def main(desk, room):
        with stopped(desk):
            waiting = asyncio.gather(*(refused(room.acreate()) for _ in range(10)))
            await ticks(2)
            reading, writing = socket.socketpair()
            descriptor = room._core.fileno()
            room.close()
            # The descriptor's number is another's at once, who is not disturbed.
            os.dup2(reading.fileno(), descriptor)
            heard = asyncio.Event()
            asyncio.get_running_loop().add_reader(descriptor, heard.set)
            await waiting
            writing.send(b"x")
            await heard.wait()
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        for call in (room.acreate(), room.avalidate("x"), room.astats()):
            await refused(call)

    def elsewhere(desk, room, begun):
        async def main():
            waiting = asyncio.create_task(refused(room.acreate()))
            await ticks(2)
            begun.set()
            await waiting

        run(main())

    with a_room() as (desk, room):
        run(main(desk, room))
        with open_room(desk) as again:
            assert run(again.acreate()).session.user is None
        with open_room(desk) as again, stopped(desk):
            begun, failures = threading.Event(), []
            thread = threading.Thread(target=in_thread, args=(failures, elsewhere, desk, again, begun))
            thread.start()
            assert begun.wait(SOON)
            again.close()
            thread.join(SOON)
            assert not thread.is_alive() and not failures, failures


def a_room_that_another_thread_replaces_is_not_taken_for_its_successor():
    async def main(desk, room, token):
        with stopped(desk):
            waiting = asyncio.create_task(room.acreate())
            await ticks(2)
            descriptor = room._core.fileno()
        opened = []

        def replace():
            room.close()
            opened.append(open_room(desk))

        # The loop is busy meanwhile.
        thread = threading.Thread(target=replace)
        thread.start()
        thread.join(SOON)
        with opened[0] as successor:
            assert successor._core.fileno() == descriptor, "the number was to be another's"
            assert (await successor.avalidate_strict(token)).user == "alice"
            for _ in range(2):
                await ticks(1)
                assert (await successor.avalidate_strict(token)).user == "alice"
            try:
                await waiting
            except InvalidArgument as error:
                assert "closed" in str(error), error
            assert is_idle(room) and is_idle(successor)

    with a_room() as (desk, room):
        before = len(os.listdir("/proc/self/fd"))
        run(main(desk, room, room.login("alice", policy="replace").signed_token))
        assert len(os.listdir("/proc/self/fd")) < before, "descriptors are left"


def loops_come_and_go():
    with a_room() as (_, room):
        token = room.login("alice", policy="replace").signed_token
        for _ in range(20):
            assert run(room.avalidate_strict(token)).user == "alice"
        # One ends with a task that waits.
        async def leave():
            task = asyncio.create_task(room.lock("y", wait=3600).__aenter__())
            async with room.lock("y"):
                await ticks(1)
            return task

        run(leave())
        assert is_idle(room)
        assert run(room.avalidate_strict(token)).user == "alice"


def direct_mode_can_be_awaited_too():
    async def main(room):
        login = await room.alogin("alice", policy="replace")
        assert (await room.avalidate(login.signed_token)).user == "alice"
        await room.ainvalidate_by_user("alice")
        assert await room.avalidate(login.signed_token) is None

    with Cloakroom.open(f"sqlite://{scratch.folder('direct')}/store.db", mode="direct", workers=1) as room:
        run(main(room))
        assert is_idle(room)


tap.main([
    a_hit_awaits_nothing,
    every_call_can_be_awaited,
    the_loop_goes_on_while_the_agent_is_stopped,
    a_thousand_tasks_wait_at_once,
    two_loops_and_a_thread_share_a_room,
    a_task_that_is_cancelled_leaves_nothing,
    a_time_limit_ends_the_waiting_only,
    an_agent_that_is_killed_is_waited_for_and_its_successor_answers,
    a_room_that_is_closed_ends_the_waiting,
    a_room_that_another_thread_replaces_is_not_taken_for_its_successor,
    loops_come_and_go,
    direct_mode_can_be_awaited_too,
])
