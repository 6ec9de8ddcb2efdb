#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest timeout=120
"""One table of behaviours, over the real Cloakroom (an agent over SQLite) and over the fake of
`cloakroom.testing`, each in its form that waits and in the one that is awaited. What a behaviour was
told, the texts of exceptions included, is the same in all four, so that the fake cannot drift."""

import asyncio
import contextlib
import itertools
import pathlib
import re
import signal
import sys
import time
import traceback
from datetime import timedelta

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import tap
from desk import Desk

from cloakroom import (
    ANY_VERSION,
    Busy,
    Cloakroom,
    Conflict,
    DataTooLarge,
    Denied,
    InvalidArgument,
    LockLost,
    SessionEnded,
    Unavailable,
    UnknownUser,
)
from cloakroom.testing import FakeCloakroom

MINUTES, HOURS = timedelta(minutes=1), timedelta(hours=1)
FORGED = "crs1_" + "A" * 80
NOBODY = "crp_" + "A" * 24
SOON = timedelta(seconds=10)  # that clocks of one host differ by, on a loaded one


class Real:
    """A room of an agent that is a service, by its socket for applications."""

    def __init__(self):
        self.desk = Desk()
        self.desk.start()
        self.room = self.open("app")

    def open(self, role, timeout=10):
        return Cloakroom.open(self.desk.state / f"{role}.sock", timeout=timeout)

    def apart(self):
        return self.open("app")

    @contextlib.contextmanager
    def unavailable(self):
        self.desk.stop()
        yield
        self.desk.start()

    def wait(self, seconds):
        time.sleep(seconds)

    def close(self):
        self.room.close()
        self.desk.stop(signal.SIGKILL)


class Fake:
    def __init__(self):
        self.room = FakeCloakroom()

    def open(self, role, timeout=10):
        return self.room

    def apart(self):
        return FakeCloakroom()

    def unavailable(self):
        return self.room.unavailable()

    def wait(self, seconds):
        self.room.advance(seconds)

    def close(self):
        self.room.close()


class Asked:
    """A room as behaviours use it: its calls in one of their two forms. Keeps what was told."""

    users = itertools.count()

    def __init__(self, world, room, loop):
        self._world, self._room, self._loop = world, room, loop
        self.told = []

    def __getattr__(self, name):
        if name in ("now", "close"):
            return getattr(self._room, name)
        if self._loop is None:
            call = getattr(self._room, name)
            return call if name != "sessions_of" else lambda user: list(call(user))
        call = getattr(self._room, f"a{name}")
        if name == "sessions_of":
            return lambda user: self._loop.run_until_complete(collect(call(user)))
        return lambda *words, **more: self._loop.run_until_complete(call(*words, **more))

    @contextlib.contextmanager
    def lock(self, *words, **more):
        lock = self._room.lock(*words, **more)
        if self._loop is None:
            with lock:
                yield lock
            return
        self._loop.run_until_complete(lock.__aenter__())
        try:
            yield lock
        finally:
            self._loop.run_until_complete(lock.__aexit__(None, None, None))

    def user(self):
        """One that nobody else has."""
        return f"user-{next(self.users)}"

    def wait(self, seconds):
        self._world.wait(seconds)

    def unavailable(self):
        return self._world.unavailable()

    def apart(self):
        """To be closed."""
        return Asked(self._world, self._world.apart(), self._loop)

    def other(self, role, **options):
        return Asked(self._world, self._world.open(role, **options), self._loop)

    def tell(self, what):
        """What must be the same in all worlds; ids, users and times are not."""
        text = re.sub(r"crp_[\w-]{24}|user-\d+|\b[0-9a-f]{32}\b", "X", str(what))
        self.told.append(re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.+]+", "T", text))

    def fails(self, kind, name, *words, **more):
        """What the call raises; told with its text."""
        try:
            answer = getattr(self, name)(*words, **more)
        except kind as error:
            self.tell(f"{name}: {type(error).__name__} {getattr(error, 'status', '')}: {error}")
            assert not any(isinstance(word, str) and len(word) == 85 and word in str(error) for word in words)
            return error
        raise AssertionError(f"{name} answered {answer}, and {kind.__name__} was due")

    def explained(self, session):
        """An explanation, without its times."""
        found = self.explain(session)
        self.tell(None if found is None else (
            found.live, found.reason, found.by, found.from_address, found.from_agent, len(found.rotated_at),
            found.user is None, found.at is None, found.created_at is None, found.ends_at is None))
        return found


async def collect(sessions):
    return [session async for session in sessions]


# ---- log-in


def a_log_in_answers_session_token_and_expiry(room):
    user = room.user()
    login = room.login(user, policy="replace", idle=20 * MINUTES, absolute=2 * HOURS, rights=b"admin",
                       json={"a": [1, None, "ü"]}, address="192.0.2.1", agent="Firefox")
    session, token, expires_at = login
    assert re.fullmatch(r"crp_[\w-]{24}", session.id) and re.fullmatch(r"crs1_[\w-]{80}", token), session.id
    assert token not in repr(login) and token not in repr(session), repr(login)
    assert abs(session.created_at - room.now) < SOON
    assert session.created_at == session.seen_at == session.authenticated_at
    assert session.expires_at == expires_at == session.created_at + 20 * MINUTES
    assert session.ends_at == session.created_at + 2 * HOURS
    assert session.created_at.utcoffset() == timedelta(0)
    room.tell((session.version, session.rights, session.data, session.data_bytes, session.has_data,
               session.json(), session.address, session.agent, session.user == user))


def spans_that_are_not_given_are_the_room_s(room):
    session = room.login(room.user(), policy="keep").session
    room.tell((session.ends_at - session.created_at, session.expires_at - session.created_at))
    short = room.login(room.user(), policy="keep", idle=3600, absolute=60)
    assert short.expires_at == short.session.ends_at, "the earlier of the two"
    room.tell(room.login(room.user(), policy="keep").session.json())


def replace_ends_the_earlier_sessions(room):
    user, other = room.user(), room.user()
    first = room.login(user, policy="keep")
    second = room.login(user, policy="keep")
    others = room.login(other, policy="replace")
    assert room.validate(first.signed_token) and room.validate(second.signed_token)
    third = room.login(user, policy="replace", address="192.0.2.7", agent="Safari")
    assert room.validate(first.signed_token) is None and room.validate(second.signed_token) is None
    assert room.validate(third.signed_token).user == user and room.validate(others.signed_token).user == other
    found = room.explained(first.session)
    assert found.reason == "replaced" and found.user == user and abs(found.at - room.now) < SOON
    anew = room.login(user, policy="replace")
    assert room.explained(third.session).reason == "replaced" and room.validate(anew.signed_token)


def keep_n_ends_the_oldest(room):
    user, logins = room.user(), []
    for _ in range(4):
        logins.append(room.login(user, policy="keep_n", keep_count=2))
        room.wait(0.02)
    assert [room.validate(login.signed_token) is not None for login in logins] == [False, False, True, True]
    room.explained(logins[0].session)
    only = room.login(user, policy="keep_n", keep_count=1)
    assert [session.id for session in room.sessions_of(user)] == [only.session.id]


def create_leaves_all_others_alone(room):
    user = room.user()
    one, two = room.login(user, policy="replace"), room.create(user)
    assert room.validate(one.signed_token) and room.validate(two.signed_token).authenticated_at
    visitor = room.create(json={"cart": 1})
    session = room.validate(visitor.signed_token)
    assert session.user is None and session.authenticated_at is None and session.json() == {"cart": 1}


def an_anonymous_session_becomes_a_user_s_under_another_id(room):
    visitor = room.create(data=b"cart")
    login = room.login(room.user(), policy="replace", anonymous=visitor.signed_token)
    assert login.session.data == b"cart" and login.session.id != visitor.session.id
    assert room.validate(login.signed_token).data == b"cart"
    assert room.validate(visitor.signed_token) is None
    assert room.explained(visitor.session).reason == "upgraded"
    again = room.login(room.user(), policy="keep", anonymous=visitor.signed_token)
    assert again.session.data == b"", "an ended one moves nothing"
    second = room.create(data=b"old")
    own = room.create(room.user(), data=b"new", anonymous=second.signed_token)
    assert own.session.data == b"new" and room.validate(second.signed_token) is None


def no_key_of_a_client_s_is_adopted(room):
    victim = room.login(room.user(), policy="replace", data=b"secret")
    login = room.login(room.user(), policy="keep", anonymous=victim.signed_token)
    assert login.session.data == b"" and room.validate(victim.signed_token), "it is a user's"
    made_up = room.create(anonymous=FORGED)
    assert made_up.signed_token != FORGED and room.validate(FORGED) is None
    other_end = "A" if victim.signed_token[-1] != "A" else "B"
    for text in (FORGED, FORGED[:-1], "", "ü", victim.signed_token[:-1] + other_end, victim.session.id):
        assert room.validate(text) is None and room.validate_strict(text) is None, text
    for text in (FORGED, "x"):
        room.fails(SessionEnded, "touch", text)
        room.fails(SessionEnded, "rotate", text)
    room.fails(TypeError, "validate", None)
    room.fails(TypeError, "validate", b"bytes")


def a_session_goes_on_when_its_user_proved_who_it_is(room):
    user = room.user()
    login = room.login(user, policy="keep", data=b"cart", rights=b"r")
    room.wait(0.05)
    again = room.login(user, policy="keep", renews=login.signed_token)
    assert again.session.id == login.session.id and again.signed_token != login.signed_token
    assert again.session.authenticated_at > login.session.authenticated_at
    assert again.session.ends_at > login.session.ends_at and again.session.data == b"cart"
    assert room.validate(login.signed_token) is None and room.validate(again.signed_token).rights == b"r"
    room.fails(Denied, "login", room.user(), policy="keep", renews=again.signed_token)
    room.fails(Denied, "login", user, policy="replace", renews=again.signed_token)
    room.fails(Denied, "login", user, policy="keep", renews=FORGED)
    assert room.validate(again.signed_token), "nothing was done"
    room.end(again.session)
    room.fails(SessionEnded, "login", user, policy="keep", renews=again.signed_token)


# ---- what is in a session


def a_validation_tells_what_the_log_in_told(room):
    login = room.login(room.user(), policy="replace", rights=b"\x00\xff", data=b"x" * 4096)
    for told in (room.validate(login.signed_token), room.validate_strict(login.signed_token),
                 *room.validate_many([login.signed_token])):
        for name in ("id", "user", "created_at", "authenticated_at", "ends_at", "version", "rights", "data"):
            assert getattr(told, name) == getattr(login.session, name), name
    assert room.validate_many([FORGED, login.signed_token, ""])[::2] == [None, None]
    assert room.validate_many([]) == []


def data_may_be_longer_than_a_table_holds(room):
    login = room.login(room.user(), policy="replace", data=bytes(range(256)) * 256)
    for told in (room.validate(login.signed_token), room.validate_strict(login.signed_token)):
        assert told.has_data and told.data == bytes(range(256)) * 256
    assert room.read(login.session) == (bytes(range(256)) * 256, 1)
    room.fails(DataTooLarge, "login", room.user(), policy="keep", data=bytes(65537))
    room.fails(DataTooLarge, "create", data=bytes(65537))
    room.fails(DataTooLarge, "update", login.session, data=bytes(65537))
    room.fails(DataTooLarge, "login", room.user(), policy="keep", rights=bytes(513))
    room.fails(DataTooLarge, "set_rights", login.session, bytes(513))


def an_update_needs_the_version_that_it_saw(room):
    login = room.login(room.user(), policy="replace", json={"a": 1})
    session = room.validate(login.signed_token)
    newer = room.update(session, json={"a": 2})
    assert (newer.json(), newer.version) == ({"a": 2}, 2) and session.json() == {"a": 1}
    assert room.validate(login.signed_token).data == newer.data and room.read(session.id) == (newer.data, 2)
    room.fails(Conflict, "update", session, data=b"lost")
    room.fails(Conflict, "update", newer, data=b"lost", version=1)
    room.fails(Conflict, "update", newer, data=b"lost", version=0)
    last = room.update(session, data=b"won", version=ANY_VERSION)
    assert last.version == 3 and room.validate(login.signed_token).data == b"won"
    assert room.update(last, data=b"").data == b"" and room.validate(login.signed_token).json() == {}


def what_has_ended_stays_ended(room):
    user = room.user()
    login = room.login(user, policy="replace")
    assert room.end(login.session)
    room.fails(SessionEnded, "update", login.session, data=b"x")
    room.fails(SessionEnded, "update", login.session, data=b"x", version=ANY_VERSION)
    room.fails(SessionEnded, "set_rights", login.session, b"x")
    room.fails(SessionEnded, "read", login.session)
    room.fails(SessionEnded, "touch", login.signed_token)
    room.fails(SessionEnded, "rotate", login.signed_token)
    room.fails(SessionEnded, "rotate", login.signed_token, privilege=True)
    room.fails(SessionEnded, "end_others", login.session)
    room.fails(SessionEnded, "read", NOBODY)
    assert room.validate(login.signed_token) is None and list(room.sessions_of(user)) == []
    replaced = room.login(user, policy="replace")
    room.invalidate_by_user(user)
    room.fails(SessionEnded, "update", replaced.session, data=b"x")
    assert room.validate(replaced.signed_token) is None


def rights_are_replaced(room):
    login = room.login(room.user(), policy="replace", rights=b"admin", data=b"x")
    room.set_rights(login.session, b"")
    told = room.validate(login.signed_token)
    assert (told.rights, told.version, told.data) == (b"", 1, b"x")
    room.set_rights(login.session.id, b"reader")
    assert room.validate_strict(login.signed_token).rights == b"reader"


def a_token_that_is_renewed_has_one_successor(room):
    login = room.login(room.user(), policy="replace", data=b"x")
    first, second = room.rotate(login.signed_token), room.rotate(login.signed_token)
    assert first.signed_token == second.signed_token != login.signed_token
    assert first.session.id == login.session.id and first.session.data == b"x"
    assert room.validate(login.signed_token) and room.validate(first.signed_token), "within its grace"
    third = room.rotate(first.signed_token)
    assert room.validate(login.signed_token) is None, "the one before the last"
    assert room.validate(first.signed_token) and room.validate(third.signed_token)
    fourth = room.rotate(third.signed_token, privilege=True)
    assert room.validate(third.signed_token) is None and room.validate(first.signed_token) is None
    assert room.validate(fourth.signed_token).id == login.session.id
    room.fails(SessionEnded, "rotate", third.signed_token)
    found = room.explained(login.session)
    assert found.live and list(found.rotated_at) == sorted(found.rotated_at, reverse=True)


# ---- endings


def one_session_is_ended_and_says_why(room):
    user = room.user()
    login, other = room.login(user, policy="keep"), room.login(user, policy="keep")
    ended = room.end(login.session, reason="password", by="the help desk")
    assert ended and ended.done and ended.found and re.fullmatch(r"[0-9a-f]{32}", ended.id), ended
    assert room.validate(login.signed_token) is None and room.validate(other.signed_token)
    found = room.explained(login.session)
    assert (found.reason, found.by, found.user) == ("password", "the help desk", user)
    assert found.created_at == login.session.created_at
    assert not room.end(login.session), "it has ended before"
    assert not room.end(NOBODY)
    assert room.explained(NOBODY) is None
    assert room.end(other.session.id, wait=False).done, "there is no other host"
    assert room.explained(other.session).by == "application"


def an_ending_is_repeated_by_its_id(room):
    user = room.user()
    login, other = room.login(user, policy="keep"), room.login(user, policy="keep")
    ended = room.end(login.session)
    again = room.end(login.session, repeat=ended.id)
    assert again and again.id == ended.id
    room.fails(InvalidArgument, "end", other.session, repeat=ended.id)
    room.fails(InvalidArgument, "invalidate_by_user", user, repeat=ended.id)
    room.fails(InvalidArgument, "end", other.session, repeat="x")
    room.fails(InvalidArgument, "end", other.session, repeat="0" * 32)
    assert room.validate(other.signed_token)
    first = room.invalidate_by_user(user, repeat="ab" * 16)
    later = room.login(user, policy="keep")
    assert room.invalidate_by_user(user, repeat="ab" * 16).id == first.id == "ab" * 16
    assert room.validate(later.signed_token), "it was done once"


def all_of_a_user_are_ended(room):
    user, other = room.user(), room.user()
    logins = [room.login(user, policy="keep") for _ in range(3)]
    others = room.login(other, policy="keep")
    ended = room.invalidate_by_user(user, reason="disabled", by="x" * 100)
    assert ended and ended.done and ended.bound == timedelta(0)
    assert not any(room.validate(login.signed_token) for login in logins)
    assert room.validate(others.signed_token)
    found = room.explained(logins[1].session)
    assert found.reason == "disabled" and found.by == "x" * 63 and found.user == user
    assert room.invalidate_by_user(user), "known, though there is nothing left"
    room.fails(UnknownUser, "invalidate_by_user", "nobody-ever")
    assert room.validate(room.login(user, policy="keep").signed_token)


def a_session_where_a_user_is_meant_is_an_error(room):
    login = room.login(room.user(), policy="replace")
    for wrong in (login.session, login.session.id, "crp_", login.signed_token, "crs1_x", 17, b"bytes", None):
        room.fails(TypeError, "invalidate_by_user", wrong)
        room.fails(TypeError, "login", wrong, policy="keep")
        room.fails(TypeError, "sessions_of", wrong)
    for wrong in ("", "x" * 129, "ü" * 65, "\udcff"):
        room.fails(InvalidArgument, "invalidate_by_user", wrong)
        room.fails(InvalidArgument, "create", wrong)
    for wrong in (login.signed_token, 17, None, b"bytes"):
        room.fails(TypeError, "end", wrong)
    for wrong in ("", "x", "crp_", NOBODY[:-1] + "!", NOBODY + "A"):
        room.fails(InvalidArgument, "end", wrong)
        room.fails(InvalidArgument, "explain", wrong)
    assert room.validate(login.signed_token)
    longest = "ü" * 64
    assert room.create(longest).session.user == longest and room.invalidate_by_user(longest)


def all_but_one_are_ended(room):
    user = room.user()
    kept, *ended = [room.login(user, policy="keep") for _ in range(3)]
    assert room.end_others(kept.session).done
    assert room.validate(kept.signed_token) and not any(room.validate(login.signed_token) for login in ended)
    assert room.explained(ended[0].session).reason == "device"
    assert room.explained(kept.session).live
    visitor = room.create()
    room.fails(UnknownUser, "end_others", visitor.session)
    assert room.end_others(kept.session.id), "also where there are none"


def everybody_s_are_ended_by_an_operator(room):
    login, visitor = room.login(room.user(), policy="replace"), room.create()
    operator = room.other("operator")
    assert operator.end_all(by="an operator").done
    assert room.validate(login.signed_token) is None and room.validate(visitor.signed_token) is None
    room.explained(login.session)
    room.explained(visitor.session)


# ---- looking


def the_list_of_a_user_is_in_pages_newest_first(room):
    user, logins = room.user(), []
    for number in range(70):
        logins.append(room.create(user, data=b"x", address=f"192.0.2.{number}", agent="A" * 300))
    room.end(logins[3].session)
    told = room.sessions_of(user)
    assert len(told) == 69 and {session.id for session in told} == {
        login.session.id for login in logins} - {logins[3].session.id}
    times = [session.created_at for session in told]
    assert times == sorted(times, reverse=True)
    by_id = {session.id: session for session in told}
    one = by_id[logins[5].session.id]
    room.tell((one.address, one.agent, one.version, one.has_data))
    for call in (lambda: one.data, one.json):
        try:
            raise AssertionError(f"{call()}: a list has no data")
        except InvalidArgument as error:
            room.tell(error)
    assert room.read(one) == (b"x", 1)
    assert room.sessions_of("nobody-ever") == []


def a_living_session_is_explained(room):
    login = room.login(room.user(), policy="replace")
    found = room.explained(login.session)
    assert found.live and found.created_at == login.session.created_at and found.rotated_at == ()
    assert found.ends_at == login.session.ends_at and found.reason is None and found.at is None
    room.tell(sorted(room.stats()))


# ---- only one


def one_holder_has_a_lock(room):
    other = room.other("app")
    name = f"nightly-{next(room.users)}"
    assert room.newest_fence(name) == room.newest_fence(name) == 0
    with room.lock(name) as lock:
        assert lock.held and lock.fence > 0
        lock.check()
        first = lock.fence
        assert other.newest_fence(name) == first
        try:
            with other.lock(name):
                raise AssertionError("two have it")
        except Busy as error:
            room.tell(error)
        with room.lock(f"{name}-other"):
            pass
        try:
            with lock:
                raise AssertionError("twice in one object")
        except RuntimeError as error:
            room.tell(str(error).replace(name, "X"))
    try:
        lock.check()
        raise AssertionError("given back")
    except LockLost as error:
        room.tell(str(error).replace(name, "X"))
    with other.lock(name) as again:
        assert again.fence > first, "fences rise"
        again.give()
        assert not again.held
        with room.lock(name, wait=1) as third:
            assert third.fence > again_fence(again, first)
    for wrong in ("", "x" * 129, "a\0b", "é" * 65, "a\ud800"):
        try:
            with room.lock(wrong):
                raise AssertionError("no name")
        except InvalidArgument as error:
            room.tell(error)


def again_fence(lock, least):
    """A lock that was given back has no fence any more."""
    try:
        return lock.fence
    except LockLost:
        return least


# ---- bad input


def arguments_of_the_wrong_form_are_told_what_to_do(room):
    user = room.user()
    session = room.login(user, policy="keep").session
    room.fails(InvalidArgument, "login", user, policy="Replace")
    room.fails(InvalidArgument, "login", user, policy="keep_n")
    room.fails(InvalidArgument, "login", user, policy="keep_n", keep_count=1001)
    room.fails(InvalidArgument, "login", user, policy="keep", idle=-1)
    room.fails(InvalidArgument, "login", user, policy="keep", absolute=timedelta(days=367))
    room.fails(InvalidArgument, "create", user, json={1, 2})
    room.fails(InvalidArgument, "create", user, json=float("nan"))
    room.fails(TypeError, "create", user, json={}, data=b"x")
    room.fails(TypeError, "create", user, data="text")
    room.fails(TypeError, "create", user, rights="text")
    room.fails(TypeError, "create", user, address=17)
    room.fails(TypeError, "update", session, data="text")
    room.fails(InvalidArgument, "end", session, reason="because")
    room.fails(TypeError, "end", session, by=17)
    room.fails(TypeError, "validate_many", [None])
    room.fails(InvalidArgument, "validate_many", [FORGED] * 257)
    odd = room.create(user, address="\x1b[31mred\x00", agent="ü" * 200).session
    told = next(session for session in room.sessions_of(user) if session.id == odd.id)
    room.tell((told.address, told.agent, odd.address, odd.agent))


def a_closed_room_says_so(room):
    other = room.apart()
    login = other.login(other.user(), policy="keep")
    other.close()
    other.close()
    for name, words in (("validate", (login.signed_token,)), ("create", ()), ("end", (login.session,)),
                        ("stats", ())):
        room.tell(str(other.fails(InvalidArgument, name, *words)))


# ---- time


def a_session_that_is_not_used_ends(room):
    login = room.login(room.user(), policy="replace", idle=0.5, absolute=60)
    used = room.login(room.user(), policy="replace", idle=1.5, absolute=60)
    brief = room.login(room.user(), policy="replace", idle=60, absolute=0.7)
    room.wait(0.3)
    assert room.validate(login.signed_token) and room.validate(brief.signed_token)
    room.wait(0.45)
    assert room.validate(brief.signed_token) is None, "its end, to the millisecond"
    for _ in range(4):
        room.wait(0.7)  # 3.55 s in all, of which it may be unused for 1.5
        assert room.validate(used.signed_token)
    assert room.validate(login.signed_token) is None
    assert room.validate(used.signed_token).seen_at > used.session.seen_at
    assert room.explained(login.session).reason == "idle"
    assert room.explained(brief.session).at == brief.session.ends_at
    room.fails(SessionEnded, "update", login.session, data=b"x", version=ANY_VERSION)
    assert not room.end(login.session)
    assert room.sessions_of(login.session.user) == []


def without_the_agent_nothing_is_known(room):
    user = room.user()
    login = room.login(user, policy="replace")
    hasty = room.other("app", timeout=0.3)
    with room.unavailable():
        for name, words in (("validate", (login.signed_token,)), ("validate_strict", (login.signed_token,)),
                            ("invalidate_by_user", (user,))):
            assert hasty.fails(Unavailable, name, *words).retry_after > 0
    room.told += hasty.told
    assert room.validate(login.signed_token).user == user, "nobody was logged out"


QUICK = [
    a_log_in_answers_session_token_and_expiry,
    spans_that_are_not_given_are_the_room_s,
    replace_ends_the_earlier_sessions,
    keep_n_ends_the_oldest,
    create_leaves_all_others_alone,
    an_anonymous_session_becomes_a_user_s_under_another_id,
    no_key_of_a_client_s_is_adopted,
    a_session_goes_on_when_its_user_proved_who_it_is,
    a_validation_tells_what_the_log_in_told,
    data_may_be_longer_than_a_table_holds,
    an_update_needs_the_version_that_it_saw,
    what_has_ended_stays_ended,
    rights_are_replaced,
    a_token_that_is_renewed_has_one_successor,
    one_session_is_ended_and_says_why,
    an_ending_is_repeated_by_its_id,
    all_of_a_user_are_ended,
    a_session_where_a_user_is_meant_is_an_error,
    all_but_one_are_ended,
    everybody_s_are_ended_by_an_operator,
    the_list_of_a_user_is_in_pages_newest_first,
    a_living_session_is_explained,
    one_holder_has_a_lock,
    arguments_of_the_wrong_form_are_told_what_to_do,
    a_closed_room_says_so,
]
# Time takes time, and is the same in both forms.
SLOW = [a_session_that_is_not_used_ends, without_the_agent_nothing_is_known]

told = {}


def over_all(kind, awaited, behaviours):
    """Each in the one world: an agent costs more to start than a behaviour takes."""
    world = kind()
    loop = asyncio.new_event_loop() if awaited else None
    failures = []
    try:
        for behaviour in behaviours:
            asked = Asked(world, world.room, loop)
            try:
                behaviour(asked)
                told[behaviour.__name__, kind.__name__, awaited] = asked.told
            except Exception as error:
                failures.append(behaviour.__name__)
                tap.note("".join(traceback.format_exception(error)))
    finally:
        if loop is not None:
            loop.close()
        world.close()
    assert not failures, ", ".join(failures)


def each_behaviour_holds_with_the_real_one():
    over_all(Real, False, QUICK + SLOW)


def each_behaviour_holds_with_the_real_one_awaited():
    over_all(Real, True, QUICK)


def each_behaviour_holds_with_the_fake():
    over_all(Fake, False, QUICK + SLOW)


def each_behaviour_holds_with_the_fake_awaited():
    over_all(Fake, True, QUICK + SLOW)


def all_of_them_were_told_the_same():
    differ = 0
    for behaviour in QUICK + SLOW:
        name = behaviour.__name__
        forms = {key[1:]: value for key, value in told.items() if key[0] == name}
        assert len(forms) == 4 - (behaviour in SLOW), f"{name} failed: see above"
        wanted = forms["Real", False]
        for form, heard in forms.items():
            for line, (here, there) in enumerate(zip(wanted, heard)):
                if here != there:
                    differ += 1
                    tap.note(f"{name} {form} {line}:\n  real {here}\n  here {there}")
            assert len(wanted) == len(heard), (name, form)
    assert differ == 0, f"{differ} answers differ"


tap.main([
    each_behaviour_holds_with_the_real_one,
    each_behaviour_holds_with_the_real_one_awaited,
    each_behaviour_holds_with_the_fake,
    each_behaviour_holds_with_the_fake_awaited,
    all_of_them_were_told_the_same,
])
