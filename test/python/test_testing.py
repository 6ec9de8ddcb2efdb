#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""`cloakroom.testing`: what the fake has and a real room has not: its clock, and failures on command.
What they have in common is in test_contract."""

import concurrent.futures
import contextlib
import pathlib
import sys
from datetime import datetime, timedelta, timezone

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent)]
sys.dont_write_bytecode = True
import tap

from cloakroom import Busy, Cloakroom, LockLost, Pending, SessionEnded, Unavailable
from cloakroom.testing import FakeCloakroom

DAY = timedelta(days=1)


def raises(kind, call, *words, **more):
    try:
        answer = call(*words, **more)
    except kind as error:
        return error
    raise AssertionError(f"it answered {answer}")


def a_fake_is_a_cloakroom_whose_clock_is_moved():
    start = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    room = FakeCloakroom(now=start)
    assert isinstance(room, Cloakroom) and room.now == start
    room.advance(0.001)
    room.advance(timedelta(hours=1))
    room.now += DAY
    assert room.now == start + DAY + timedelta(hours=1, milliseconds=1)
    assert room.login("alice", policy="keep").session.created_at == room.now
    for call in (lambda: room.advance(-1), lambda: setattr(room, "now", start),
                 lambda: FakeCloakroom(now=datetime(2026, 1, 1))):
        raises(ValueError, call)
    assert abs(FakeCloakroom().now - datetime.now(timezone.utc)) < timedelta(minutes=1)


def sessions_end_to_the_millisecond():
    room = FakeCloakroom(idle=10, absolute=25)
    login = room.login("alice", policy="replace")
    for _ in range(2):
        room.advance(9.999)
        assert room.validate(login.signed_token).user == "alice", "used, and so for ten seconds more"
    room.advance(5.001)
    assert room.validate(login.signed_token), "a millisecond before its end"
    room.advance(0.001)
    assert room.validate(login.signed_token) is None and room.explain(login.session).reason == "absolute"
    assert room.explain(login.session).at == login.session.ends_at
    other = room.login("alice", policy="replace")
    room.advance(9.999)
    assert room.sessions_of("alice").__next__().id == other.session.id, "looking is not using"
    room.advance(0.001)
    found = room.explain(other.session)
    assert room.validate(other.signed_token) is None and (found.reason, found.at) == ("idle", room.now)
    raises(SessionEnded, room.touch, other.signed_token)
    third = room.login("alice", policy="keep", idle=60, absolute=3600)
    room.advance(59)
    room.touch(third.signed_token)
    room.advance(59.999)
    assert room.validate(third.signed_token)
    assert third.expires_at < room.now


def a_renewed_token_is_good_for_ten_seconds_more():
    room = FakeCloakroom()
    login = room.login("alice", policy="replace")
    successor = room.rotate(login.signed_token)
    room.advance(9.999)
    assert room.validate(login.signed_token) and room.rotate(login.signed_token).signed_token == \
        successor.signed_token
    room.advance(0.001)
    assert room.validate(login.signed_token) is None and room.validate(successor.signed_token)
    raises(SessionEnded, room.rotate, login.signed_token)


def endings_are_remembered_for_seven_days():
    room = FakeCloakroom()
    alone, many, idle = (room.login(user, policy="keep", idle=30 * 24 * 3600, absolute=60 * 24 * 3600)
                         for user in ("alice", "bob", "carol"))
    brief = room.login("dave", policy="keep", idle=60)
    room.end(alone.session)
    room.invalidate_by_user("bob")
    room.advance(7 * 24 * 3600 - 0.001)
    assert [room.explain(login.session).reason for login in (alone, many, brief)] == ["logout", "admin", "idle"]
    room.advance(60)
    assert [room.explain(login.session) for login in (alone, many)] == [None, None]
    assert room.explain(idle.session).live and room.validate(idle.signed_token)
    assert room.invalidate_by_user("bob"), "still known"


def when_unavailable_nothing_is_known():
    room = FakeCloakroom()
    login = room.login("alice", policy="replace")
    calls = (lambda: room.validate(login.signed_token), lambda: room.validate_strict("x"),
             lambda: room.validate_many([login.signed_token]), lambda: room.login("bob", policy="keep"),
             lambda: room.create(), lambda: room.touch(login.signed_token), lambda: room.read(login.session),
             lambda: room.update(login.session, data=b"x"), lambda: room.set_rights(login.session, b"x"),
             lambda: room.rotate(login.signed_token), lambda: room.end(login.session),
             lambda: room.invalidate_by_user("nobody"), lambda: room.end_others(login.session),
             lambda: room.end_all(), lambda: list(room.sessions_of("alice")),
             lambda: room.explain(login.session), lambda: room.lock("x").__enter__(), lambda: room.stats())
    with room.unavailable():
        with room.unavailable():
            for call in calls:
                assert raises(Unavailable, call).retry_after > 0
        raises(Unavailable, calls[0])
    assert room.validate(login.signed_token).data == b"" and list(room.sessions_of("bob")) == []
    with contextlib.suppress(ZeroDivisionError), room.unavailable():
        _ = 1 / 0
    assert room.validate(login.signed_token), "also after a failed test"


def when_pending_it_is_done_and_not_yet_everywhere():
    room = FakeCloakroom()
    first, other = room.login("alice", policy="keep"), room.login("bob", policy="keep")
    with room.pending(2.5):
        error = raises(Pending, room.invalidate_by_user, "alice")
        assert error.retry_after == 2.5 and room.validate(first.signed_token) is None
        later = room.end(other.session, wait=False)
        assert later.found and not later.done and later.bound == timedelta(seconds=2.5)
        assert room.validate(other.signed_token) is None
        assert raises(Pending, room.invalidate_by_user, "alice", repeat=error.ending).ending == error.ending
        assert raises(Pending, room.login, "alice", policy="replace").ending is None
        plain = room.login("carol", policy="replace")  # ended nothing
        raises(Pending, room.set_rights, plain.session, b"r")
        raises(Pending, room.rotate, plain.signed_token, privilege=True)
        assert room.validate(plain.signed_token) is None
    assert room.invalidate_by_user("alice", repeat=error.ending).done


def a_lock_is_lost_in_a_long_outage():
    room = FakeCloakroom()
    with room.lock("nightly") as lock:
        room.advance(3600)
        assert lock.held, "renewed all the time"
        with room.unavailable():
            room.advance(13.499)
            assert lock.held
            room.advance(0.001)
            assert not lock.held
            raises(LockLost, lock.check)
        raises(Busy, room.lock("nightly").__enter__)  # the store does not know yet
        room.advance(1.5)
        with room.lock("nightly") as second:
            assert second.fence > lock.fence and not lock.held


def a_fake_opens_whatever_the_settings_name():
    assert FakeCloakroom.open("sqlite:////nowhere/x.db", idle=5).login("a", policy="keep").expires_at
    table = FakeCloakroom.open("table:shop")
    assert table._core.lookup(b"key") is None


def threads_share_it():
    start = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    room = FakeCloakroom(now=start)

    def work():
        for _ in range(200):
            login = room.login("alice", policy="replace")
            room.validate(login.signed_token)
            room.advance(0.001)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for _ in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(interval)
    assert len(list(room.sessions_of("alice"))) == 1
    assert room.now == start + timedelta(milliseconds=800)


tap.main([
    a_fake_is_a_cloakroom_whose_clock_is_moved,
    sessions_end_to_the_millisecond,
    a_renewed_token_is_good_for_ten_seconds_more,
    endings_are_remembered_for_seven_days,
    when_unavailable_nothing_is_known,
    when_pending_it_is_done_and_not_yet_everywhere,
    a_lock_is_lost_in_a_long_outage,
    a_fake_opens_whatever_the_settings_name,
    threads_share_it,
])
