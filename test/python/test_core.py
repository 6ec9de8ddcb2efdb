#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
"""The extension module: every call as its stub says, whatever it is given, from any thread; what is
wrong is said, and no secret with it."""

import ast
import copy
import datetime
import gc
import inspect
import os
import pathlib
import pickle
import pwd
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent)]
from rooms import SOON, a_room, open_room, raised, stopped

import scratch
import tap
from desk import Desk

import cloakroom
from cloakroom import (ANY_VERSION, Busy, Cloakroom, CloakroomError, Conflict, DataTooLarge, Denied, InvalidArgument,
                       LockLost, OtherVersion, Refused, Session, SessionEnded, Unavailable, UnknownUser, _core)

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONG = b"x" * 60000  # more data than the table serves
ID = "crp_" + "A" * 24  # of nobody
TOKEN = "crs1_" + "A" * 80


def session_of_nobody(**more):
    return Session(**{"id": ID, "user": "alice", "created_ms": 1_700_000_000_123, "authenticated_ms": 0,
                      "ends_ms": 1_700_000_002_000, "expires_ms": 1_700_000_001_000,
                      "seen_ms": 1_700_000_000_999, **more})


# ---- what it answers


def sessions_are_made_validated_changed_and_ended():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace", json={"n": 1}, rights=b"admin", address="192.0.2.1",
                           agent="Lynx/2.9")
        session = login.session
        assert (session.user, session.rights, session.json()) == ("alice", b"admin", {"n": 1})
        assert (session.address, session.agent) == ("192.0.2.1", "Lynx/2.9")
        assert login.expires_at == session.expires_at and session.authenticated_at == session.created_at
        found = room.validate(login.signed_token)
        assert (found.id, found.user, found.rights, found.data) == (session.id, "alice", b"admin", b'{"n":1}')
        changed = room.update(found, json=[2])
        assert changed.version > found.version and room.validate(login.signed_token).json() == [2]
        raised(Conflict, room.update, found, json=[3])
        assert room.update(found, json=[4], version=ANY_VERSION).json() == [4]
        room.set_rights(found, b"none")
        assert room.validate(login.signed_token).rights == b"none"
        room.touch(login.signed_token)
        successor = room.rotate(login.signed_token, privilege=True)
        assert room.validate(login.signed_token) is None
        assert room.validate(successor.signed_token).id == session.id
        assert [each.id for each in room.sessions_of("alice")] == [session.id]
        assert room.explain(session).live
        assert room.end(session, reason="logout", by="a test").done
        assert not room.end(session)
        assert room.validate(successor.signed_token) is None
        told = room.explain(session)
        assert (told.live, told.reason, told.by) == (False, "logout", "a test"), told
        raised(SessionEnded, room.update, changed, json=1)
        raised(SessionEnded, room.touch, successor.signed_token)
        assert room.explain(ID) is None


def a_user_s_sessions_end_together_or_all_but_one():
    with a_room() as (_, room):
        tokens = [room.login("alice", policy="keep").signed_token for _ in range(3)]
        kept = room.validate(tokens[0])
        assert room.end_others(kept)
        assert [room.validate(token) is None for token in tokens] == [False, True, True]
        ending = room.invalidate_by_user("alice", wait=False)
        assert ending and room.validate(tokens[0]) is None
        again = room.invalidate_by_user("alice", repeat=ending.id)
        assert again.id == ending.id
        raised(UnknownUser, room.invalidate_by_user, "nobody")
        raised(Denied, room.end_all)
        raised(SessionEnded, room.end_others, kept)


def many_sessions_are_listed_page_by_page():
    with a_room() as (_, room):
        made = [room.create("alice", agent=f"browser {number}").session.id for number in range(70)]
        listed = list(room.sessions_of("alice"))
        assert sorted(each.id for each in listed) == sorted(made)
        assert all(one.created_at >= next.created_at for one, next in zip(listed, listed[1:]))
        assert {each.agent for each in listed} == {f"browser {number}" for number in range(70)}


def data_that_the_table_does_not_serve_are_there_all_the_same():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace", data=LONG)
        assert login.session.data == LONG
        assert room.validate(login.signed_token).data == LONG
        short = room._core.validate_cached(login.signed_token)
        assert not short.has_data and short.data_bytes == len(LONG)
        assert "read(session)" in str(raised(InvalidArgument, lambda: short.data))
        assert "read(session)" in str(raised(InvalidArgument, short.json))
        assert room.read(short)[0] == LONG
        assert room.validate_strict(login.signed_token).data == LONG
        anonymous = room.create(data=LONG)
        moved = room.login("bob", policy="replace", anonymous=anonymous.signed_token)
        assert room.validate(moved.signed_token).data == LONG
        listed, = room.sessions_of("alice")
        assert not listed.has_data and room.read(listed)[0] == LONG
        raised(InvalidArgument, lambda: listed.data)


def several_tokens_are_validated_at_once():
    with a_room() as (_, room):
        one, two = (room.create("alice", data=data).signed_token for data in (b"1", LONG))
        over = room.create("bob")
        room.end(over.session)
        found = room.validate_many([one, "none", over.signed_token, two, one, ID])
        assert [each and each.data for each in found] == [b"1", None, None, LONG, b"1", None]
        assert room.validate_many([]) == []
        raised(InvalidArgument, room.validate_many, [one] * 257)
        raised(TypeError, room.validate_many, [one, 1])
        raised(TypeError, room.validate_many, (one,))


def a_lock_has_one_holder_and_is_lost_with_the_agent():
    with a_room() as (desk, room), open_room(desk) as other:
        with room.lock("nightly") as held:
            assert held.held and held.fence > 0
            fence = held.fence
            assert "another holds" in str(raised(Busy, other.lock("nightly").__enter__))
            raised(Busy, other.lock("nightly", wait=0.05).__enter__)
        with other.lock("nightly", wait=SOON) as later:
            assert later.fence > fence
            desk.stop(signal.SIGKILL)
            scratch.until(lambda: not later.held, "the lock is lost")
            raised(LockLost, later.check)
        raised(InvalidArgument, room.lock("").__enter__)
        raised(InvalidArgument, room.lock("x" * 129).__enter__)


def a_lock_is_the_same_in_every_locale():
    name = "nächtlich"
    code = """if True:
        import sys, cloakroom
        with cloakroom.Cloakroom.open(sys.argv[1]) as room:
            assert room.newest_fence("n\\xe4chtlich") == int(sys.argv[2])
            try:
                room.lock("n\\xe4chtlich").__enter__()
            except cloakroom.Busy:
                print("held")
    """
    with a_room() as (desk, room), room.lock(name) as held:
        env = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C",
               "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run([sys.executable, "-c", code, desk.state / "app.sock", str(held.fence)], env=env,
                              capture_output=True, text=True, timeout=SOON, check=False)
        assert done.stdout == "held\n", f"{done.returncode} {done.stdout} {done.stderr}"


def a_table_of_the_application_s_own_is_filled_and_emptied():
    desk = Desk("table:own")
    with desk, open_room(desk) as room:
        core = room._core
        key = b"\0the application's own\xff"
        assert core.lookup(key) is None
        ticket = core.begin_ticket(key).result()
        assert core.begin_fill(ticket, "alice", b"data", 60000).result() is None
        user, data, left = core.lookup(key)
        assert (user, data) == ("alice", b"data") and 0 < left <= 60000
        assert core.begin_lookup(key).result()[:2] == ("alice", b"data")
        core.begin_invalidate(key).result()
        assert core.lookup(key) is None
        # What was read before something was ended is not kept.
        ticket = core.begin_ticket(key).result()
        room.invalidate_by_user("alice")
        core.begin_fill(ticket, "alice", b"old", 60000).result()
        assert core.lookup(key) is None
        raised(DataTooLarge, core.begin_fill, ticket, "alice", b"x" * 4097, 60000)
        raised(InvalidArgument, core.begin_fill, b"short", "alice", b"", 1)
    with a_room() as (_, room):
        for call in (room._core.lookup, lambda name: room._core.begin_ticket(name).result()):
            assert "table:NAME" in str(raised(InvalidArgument, call, b"x"))


def direct_mode_needs_no_agent():
    with Cloakroom.open("memory:") as room:
        login = room.login("alice", policy="replace", data=LONG)
        assert room.validate(login.signed_token).data == LONG
        assert room.stats()["attached"] is False
        room.end_all()
        assert room.validate(login.signed_token) is None


def the_module_has_what_its_stub_says():
    stub = ast.parse(pathlib.Path(cloakroom.__file__).with_name("_core.pyi").read_text())
    declared = {each.name: {part.name for part in each.body if isinstance(part, ast.FunctionDef)}
                for each in stub.body if isinstance(each, ast.ClassDef)}
    for name, parts in declared.items():
        kind = getattr(_core, name)
        public = {part for part in vars(kind) if not part.startswith("_")}
        assert public == {part for part in parts if not part.startswith("_")}, (name, public ^ parts)
        assert kind.__doc__ and all(inspect.getdoc(vars(kind)[part]) for part in public), name
    numbers = {each.target.id for each in stub.body if isinstance(each, ast.AnnAssign)}
    assert numbers | set(declared) == {name for name in vars(_core) if not name.startswith("_")}


# ---- sessions as values


def a_session_is_an_immutable_value():
    one, two = session_of_nobody(data=b'{"a":1}'), session_of_nobody(data=b'{"a":1}', as_of_ms=7)
    assert one == two and hash(one) == hash(two) and len({one, two}) == 1
    for other in ({"user": "bob"}, {"data": b""}, {"version": 2}, {"seen_ms": 1}, {"rights": b"x"}, {"agent": "x"},
                  {"user": None}, {"id": ID[:-1] + "B"}):
        assert one != session_of_nobody(**{"data": b'{"a":1}', **other}), other
    assert one != ID and not one == object()
    assert copy.copy(one) is one and copy.deepcopy([one])[0] is one
    raised(AttributeError, setattr, one, "user", "bob")
    raised(AttributeError, setattr, one, "more", 1)
    raised(TypeError, setattr, Session, "user", "bob")
    raised(TypeError, lambda: one < two)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert "not pickled" in str(raised(TypeError, pickle.dumps, one, protocol))
    raised(TypeError, type, "Sub", (Session,), {})
    assert session_of_nobody().json() == {} and one.json() == {"a": 1}
    raised(ValueError, session_of_nobody(data=b"{").json)
    changed = one.with_data(b"", 9)
    assert (changed.data, changed.version, changed.user) == (b"", 9, "alice") and changed != one
    assert session_of_nobody(data=None).with_data(LONG, 2).data == LONG


def a_session_s_times_are_utc_to_the_millisecond():
    session = session_of_nobody()
    assert session.created_at == datetime.datetime(2023, 11, 14, 22, 13, 20, 123000, datetime.timezone.utc)
    assert session.authenticated_at is None
    for _ in range(1000):
        ms = tap.random.randrange(1, 4_000_000_000_000)
        at = session_of_nobody(seen_ms=ms).seen_at
        assert at.utcoffset() == datetime.timedelta(0)
        assert (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(
            microseconds=1) == ms * 1000
    raised((ValueError, OverflowError, OSError), lambda: session_of_nobody(seen_ms=2**62).seen_at)


def sessions_are_not_made_of_anything():
    for wrong in ({"id": "x"}, {"id": TOKEN}, {"user": 7}, {"user": ""}, {"created_ms": -1}, {"created_ms": "1"},
                  {"version": -1}, {"version": 2**64}, {"data": "text"}, {"data": b"x" * 65537},
                  {"rights": b"x" * 513}, {"unknown": 1}):
        raised((TypeError, InvalidArgument), session_of_nobody, **wrong)
    raised(TypeError, Session)
    raised(TypeError, Session, ID)
    cut = session_of_nobody(address="a" * 500, agent="b" * 500)
    assert (cut.address, cut.agent) == ("a" * 63, "b" * 255)
    for kind in (_core.Call, _core.Lock):
        raised(TypeError, kind)


# ---- what is wrong is said


def a_user_is_text_and_no_session():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace")
        for wrong, words in ((login.session, "session.user"), (login.session.id, "session.user"),
                             (login.signed_token, "session.user"), (login.signed_token[:20], "session.user"),
                             (7, "str(user_id)"), (True, "str(user_id)"), (b"alice", "bytes"), (None, "NoneType")):
            for call in (room.invalidate_by_user, lambda user: list(room.sessions_of(user)),
                         lambda user: room.login(user, policy="replace")):
                error = raised(TypeError, call, wrong)
                assert words in str(error) and login.signed_token[:20] not in str(error), error
        for wrong in ("", "x" * 129, "é" * 65, "a\ud800", "x" * 10_000_000):
            assert "1 to 128 bytes" in str(raised(InvalidArgument, room.invalidate_by_user, wrong))
        assert room.validate(login.signed_token) is not None
        for good in ("x" * 128, "é" * 64, "a\0b", "🙂"):
            assert room.validate(room.login(good, policy="replace").signed_token).user == good


def an_argument_that_is_wrong_is_named():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace")
        session = login.session
        for kind, words, call in (
                (DataTooLarge, ("data", "65537", "65536"), lambda: room.update(session, data=b"x" * 65537)),
                (DataTooLarge, ("rights", "513", "512"), lambda: room.set_rights(session, b"x" * 513)),
                (DataTooLarge, ("data", "65536"), lambda: room.create("bob", data=b"x" * 65537)),
                (InvalidArgument, ("json", "set"), lambda: room.update(session, json={1, 2})),
                (InvalidArgument, ("json", "datetime"), lambda: room.update(session, json=datetime.datetime.now())),
                (InvalidArgument, ("json", "float"), lambda: room.update(session, json=float("nan"))),
                (TypeError, ("data", "str"), lambda: room.update(session, data="text")),
                (TypeError, ("data", "bytearray"), lambda: room.update(session, data=bytearray(b"x"))),
                (InvalidArgument, ("policy", "'replace'"), lambda: room.login("bob", policy="all")),
                (InvalidArgument, ("keep_count", "1000"), lambda: room.login("bob", policy="keep_n")),
                (InvalidArgument, ("keep_count", "1000"),
                 lambda: room.login("bob", policy="keep_n", keep_count=2**70)),
                (InvalidArgument, ("idle", "366 days"), lambda: room.login("bob", policy="keep", idle=-1)),
                (InvalidArgument, ("version", "ANY_VERSION"), lambda: room.update(session, version=2**64)),
                (InvalidArgument, ("repeat", "32"), lambda: room.end(session, repeat="x")),
                (InvalidArgument, ("crp_",), lambda: room.end("nothing")),
                (TypeError, ("token", "validate(token)"), lambda: room.end(login.signed_token)),
                (TypeError, ("token", "int"), lambda: room.validate(7)),
                (TypeError, ("token", "bytes"), lambda: room.validate(login.signed_token.encode())),
                (SessionEnded, ("no token",), lambda: room.touch("nothing")),
                (SessionEnded, ("no token",), lambda: room.rotate("nothing"))):
            error = raised(kind, call)
            assert all(word in str(error) for word in words), f"{words}: {error!r}"
            assert not isinstance(error, CloakroomError) or error.status.startswith("CR_"), error


def text_that_is_no_token_is_nobody_s():
    class Text(str):
        pass

    with a_room() as (_, room):
        token = room.login("alice", policy="replace").signed_token
        for text in ("", "x", ID, TOKEN, token[:-1], token + "A", token[:-1] + "\0", "\ud800" * 85, "é" * 85,
                     "x" * 1_000_000, token.swapcase()):
            assert room.validate(text) is None and room.validate_strict(text) is None, text[:100]
        assert room.validate(Text(token)).user == "alice"


class OtherAgent:
    """Answers each greeting with `status`, as agents do that do not understand it."""

    def __init__(self, status, greets=True):
        self.path = scratch.folder("other") / "app.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(self.path))
        self.socket.listen()
        self.status, self.greets = status, greets
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            peer, _ = self.socket.accept()
            magic, op, _, request, _, _, _ = struct.unpack("<IHHQHHI", peer.recv(4096)[:24])
            if self.greets:
                peer.send(struct.pack("<IHHQHHI", magic, op, self.status, request, 0, 0, 24))
            else:
                peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")


def a_room_that_cannot_be_opened_says_why():
    other_version = 17  # CR_E_VERSION: appended to, never reordered
    home = scratch.folder("wrong")
    home.chmod(0o755)
    (home / "plain").touch()
    web = socket.socket(socket.AF_UNIX)  # as ops.sock is, beside app.sock
    web.bind(str(home / "ops.sock"))
    web.listen()
    for url, options, kind, words in (
            ("postgres://x", {}, InvalidArgument, ("URL", "sqlite:///PATH", "cloakroom:///PATH")),
            ("", {}, InvalidArgument, ("URL",)),
            ("sqlite://relative.db", {}, InvalidArgument, ("URL",)),
            (home / "absent.sock", {}, Unavailable, ("no agent listens", "absent.sock")),
            (home / "plain", {}, CloakroomError, ("plain",)),
            (home / "b\udcffse.sock", {}, Unavailable, ("no agent listens", "se.sock")),
            (home / "ops.sock", {}, InvalidArgument, ("ops.sock", "no agent's", "app.sock")),
            ("cloakroom:///" + "x" * 200, {}, InvalidArgument, ("path", "characters")),
            (OtherAgent(other_version).path, {}, OtherVersion, ("version",)),
            (OtherAgent(0, greets=False).path, {"timeout": 1}, CloakroomError, ()),
            ("cloakroom:///x", {"mode": "direct"}, InvalidArgument, ("direct", "socket")),
            ("memory:", {"mode": "direct", "workers": 4}, Refused, ("CR-101", "Fix")),
            ("memory:", {"mode": "both"}, InvalidArgument, ("mode", "'attach'")),
            ("memory:", {"cache": "fast"}, InvalidArgument, ("cache", "'shared'")),
            ("memory:", {"cache_bytes": -1}, InvalidArgument, ("cache_bytes",)),
            ("memory:", {"workers": -1}, InvalidArgument, ("workers",)),
            ("memory:", {"timeout": -1}, InvalidArgument, ("timeout",)),
            ("memory:\0x", {}, InvalidArgument, ("url", "NUL")),
            ("memory:", {"realm": "a\0b"}, InvalidArgument, ("realm", "NUL")),
            ("memory:", {"state": 7}, TypeError, ("str",)),
            (7, {}, TypeError, ()),
            (b"memory:", {}, TypeError, ("bytes",))):
        error = raised(kind, Cloakroom.open, url, **options)
        assert all(word in str(error) for word in words), f"{url}: {words}: {error!r}"
        assert error.__class__ is kind or kind in (CloakroomError, TypeError), f"{url}: {error!r}"


def a_socket_that_may_not_be_opened_is_told_with_whose_it_is():
    if os.geteuid() != 0:
        tap.skip("only root becomes somebody else")
    with Desk() as desk:
        nobody = pwd.getpwnam("nobody").pw_uid
        pid = os.fork()
        if pid == 0:
            try:
                os.setresuid(nobody, nobody, nobody)
                error = raised(CloakroomError, open_room, desk)
                said = isinstance(error, Denied) and str(nobody) in str(error) and "app.sock" in str(error)
                os._exit(0 if said else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0


def no_token_is_in_what_is_raised_or_shown():
    with a_room() as (desk, room):
        login = room.login("alice", policy="replace")
        token = login.signed_token
        shown = [repr(login), repr(login.session), str(login), repr(room), repr(room._core)]
        calls = [lambda: room.end(token), lambda: room.invalidate_by_user(token), lambda: room.read(token),
                 lambda: room.touch(token + "x"), lambda: room.rotate(token[:-1]), lambda: room.validate([token]),
                 lambda: room.login("bob", policy="keep", anonymous=token + "x"),
                 lambda: room.login("bob", policy="keep", renews=token), lambda: room.validate_many([token, 1]),
                 lambda: room.explain(token), lambda: room.end(login.session, repeat=token)]
        room.end(login.session)
        calls += [lambda: room.touch(token), lambda: room.rotate(token)]
        for number, call in enumerate(calls):
            try:
                call()
            except Exception as error:
                shown += [str(error), repr(error), "".join(traceback.format_exception_only(error))]
            else:
                raise AssertionError(f"call {number} raised nothing")
        with stopped(desk), open_room_later(desk) as later:
            shown.append(str(raised(Unavailable, later.validate_strict, token)))
        for text in shown:
            assert token not in text and token[10:40] not in text, text


def open_room_later(desk):
    """A room with little patience, at an agent that is stopped."""
    os.kill(desk.agent.pid, signal.SIGCONT)
    room = open_room(desk, timeout=0.2)
    os.kill(desk.agent.pid, signal.SIGSTOP)
    return room


# ---- whatever it is given


class Bytes(bytes):
    pass


class Number(int):
    pass


HOSTILE = [None, True, 0, -1, 2**31, 2**63, 2**64, -2**70, 1.5, float("nan"), "", "\0", "\ud800", "x" * 1_000_000,
           ID, TOKEN, b"", b"\0", Bytes(b"bytes"), b"x" * 70_000, bytearray(b"x"), [], (), {}, (1, 2), (1, ID),
           object(), str, Number(3)]


def whatever_it_is_given_it_answers_or_raises():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace")
        core, token, id = room._core, login.signed_token, login.session.id
        good = {
            "begin_validate": (token, True), "begin_touch": (token,), "begin_read": (id,),
            "begin_login": ("alice", 2, 0, 0, 0, b"", b"", None, None, None, None),
            "begin_create": ("alice", 0, 0, b"", b"", None, None, None),
            "begin_write": (id, ANY_VERSION, b""), "begin_rights": (id, b""), "begin_rotate": (token, False),
            "begin_end": (ID, 1, None, True, None), "begin_end_user": ("bob", 4, None, True, None),
            "begin_end_others": (id, 11, None, True, None), "begin_end_all": (4, None, True, None),
            "begin_sessions": ("alice", None, 3), "begin_explain": (id,), "begin_lock": ("x", 0), "begin_fence": ("x",),
            "begin_stats": (),
            "begin_lookup": (b"x",), "begin_ticket": (b"x",), "begin_fill": (b"x" * 64, "alice", b"", 1),
            "begin_invalidate": (b"x",), "validate": (token,), "validate_cached": (token,), "lookup": (b"x",),
            "validate_many": ([token],),
        }
        assert set(good) == {name for name in vars(_core.Core) if name[0] != "_"} - {"close", "fileno", "poll"}
        count = 0
        for name, arguments in good.items():
            call = getattr(core, name)
            for wrong in [*((*arguments[:place], value, *arguments[place + 1:])
                            for place in range(len(arguments)) for value in HOSTILE), arguments + (1,),
                          arguments[:-1] if arguments else (1,)]:
                count += 1
                try:
                    answer = call(*wrong)
                    if isinstance(answer, _core.Call):
                        answer.result()
                except (TypeError, CloakroomError):
                    pass
        tap.note(f"{count} calls")
        fresh = room.login("carol", policy="replace")
        assert room.validate(fresh.signed_token).user == "carol"


def labels_that_browsers_send_never_refuse_a_log_in():
    with a_room() as (_, room):
        for label in ("", "\0", "a\0b", "\ud800", "x" * 1_000_000, "é" * 1000, "🙂" * 300, "\x1b[31m"):
            session = room.login("alice", policy="keep", agent=label, address=label).session
            assert "\0" not in session.agent and "\x1b" not in session.agent, session.agent
            assert room.end(session, by=label)
        raised(TypeError, room.login, "alice", policy="keep", agent=b"bytes")


# ---- threads, ends


def a_room_that_was_closed_says_so():
    with a_room() as (desk, room):
        token = room.login("alice", policy="replace").signed_token
        begun = room._core.begin_validate(token, True)
        lock = room.lock("x")
        with lock:
            room.close()
            room.close()
            assert not lock.held
            for call in (lambda: room.validate(token), lambda: room.validate_strict(token), room.stats,
                         room._core.fileno, room._core.poll, begun.result, lambda: room.validate_many([token]),
                         lambda: room.login("a", policy="keep")):
                assert "closed" in str(raised(InvalidArgument, call))
            assert begun.done
            begun.cancel()
        with open_room(desk) as again, again.lock("x"):
            pass


def closing_waits_for_no_thread_and_takes_nothing_from_it():
    with a_room() as (desk, room):
        token = room.login("alice", policy="replace").signed_token
        with stopped(desk):
            answers = [None] * 4
            threads = [threading.Thread(target=lambda place=place: answers.__setitem__(
                place, room.validate_strict(token))) for place in range(len(answers))]
            for thread in threads:
                thread.start()
            scratch.until(lambda: all(thread.ident for thread in threads), "the threads")
            time.sleep(0.05)  # most are inside by then; those that are not find it closed
            room.close()
            raised(InvalidArgument, room.validate, token)
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()
        assert all(answer is None or answer.user == "alice" for answer in answers)


def a_lock_that_is_granted_while_the_room_closes_is_given_back():
    with a_room() as (desk, room), open_room(desk) as other:
        outcomes = []

        def wait(call):
            try:
                outcomes.append(call.result())
            except InvalidArgument as error:
                outcomes.append(str(error))

        with other.lock("x"):
            thread = threading.Thread(target=wait, args=(room._core.begin_lock("x", SOON * 1000),))
            thread.start()
            scratch.until(lambda: is_in(thread, "wait"), "the thread waits")
            room.close()
        thread.join(SOON)
        assert not thread.is_alive()
        said, = outcomes
        assert isinstance(said, str) and "closed" in said, said
        with other.lock("x", wait=SOON):
            pass


def is_in(thread, function):
    """Whether the thread's innermost frame is that function's: it has let go of the lock in a call."""
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == function


def a_call_that_is_begun_while_the_room_closes_is_given_up():
    """Python before 3.12 collects garbage where an object is made, and so in the middle of a begin."""

    class Closer:
        def __init__(self, room):
            self.room, self.itself = room, self

        def __del__(self):
            self.room.close()

    with a_room() as (_, room):
        begin, threshold, said = room._core.begin_explain, gc.get_threshold(), "nothing"
        gc.collect()
        gc.disable()
        try:
            Closer(room)
            gc.set_threshold(1)
            gc.enable()
            call = begin(ID)  # and nothing before it, which could be what collects
            gc.collect()
            call.result()
        except InvalidArgument as error:
            said = str(error)
        finally:
            gc.set_threshold(*threshold)
            gc.enable()
        assert "closed" in said, said


def a_call_has_one_result_for_one_thread():
    with a_room() as (desk, room):
        token = room.login("alice", policy="replace").signed_token
        call = room._core.begin_validate(token, True)
        assert call.result().user == "alice"
        assert "taken already" in str(raised(InvalidArgument, call.result))
        given_up = room._core.begin_validate(token, True)
        given_up.cancel()
        given_up.cancel()
        assert given_up.done and "given up" in str(raised(InvalidArgument, given_up.result))
        outcomes = []

        def wait(call):
            try:
                outcomes.append(call.result().user)
            except InvalidArgument as error:
                outcomes.append(str(error))

        with stopped(desk):
            call = room._core.begin_validate(token, True)
            assert not call.done
            threads = [threading.Thread(target=wait, args=(call,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            scratch.until(lambda: outcomes, "the second is refused")
            call.cancel()  # has no say while another waits
            del call
        for thread in threads:
            thread.join(SOON)
        assert sorted(outcomes) == ["alice", "another thread waits for this call"], outcomes


def others_run_while_a_thread_waits():
    with a_room() as (desk, room):
        login = room.login("alice", policy="replace")
        waits = [lambda: room.validate_strict(login.signed_token), lambda: room.update(login.session, data=b"1"),
                 lambda: list(room.sessions_of("alice")), lambda: room.read(login.session), room.stats,
                 lambda: room.explain(login.session), lambda: room.validate_many([TOKEN]),
                 lambda: room.create("bob"), lambda: room.lock("x").__enter__(),
                 lambda: room.invalidate_by_user("bob")]
        room.create("bob")
        with stopped(desk):
            threads = [threading.Thread(target=wait) for wait in waits]
            for thread in threads:
                thread.start()
            # Each has let go of the lock, or we would not get here.
            for _ in range(20):
                time.sleep(0.005)
            assert all(thread.is_alive() for thread in threads)
        for thread in threads:
            thread.join(SOON)
            assert not thread.is_alive()


def a_signal_s_handler_runs_while_a_thread_waits():
    class Rang(Exception):
        pass

    def ring(*_):
        raise Rang

    kept = signal.signal(signal.SIGALRM, ring)
    try:
        with a_room() as (desk, room):
            token = room.login("alice", policy="replace").signed_token
            with stopped(desk):
                for wait in (lambda: room.validate_strict(token), lambda: room.validate(TOKEN[:-1] + "B"),
                             lambda: room.lock("x", wait=3600).__enter__()):
                    signal.setitimer(signal.ITIMER_REAL, 0.02)
                    raised(Rang, wait)
            assert room.validate_strict(token).user == "alice"
    finally:
        signal.signal(signal.SIGALRM, kept)


def calls_that_nobody_waits_for_are_given_up():
    with a_room() as (_, room):
        token = room.login("alice", policy="replace").signed_token
        for _ in range(3):  # more than can be under way at once
            for _ in range(900):
                room._core.begin_validate(token, True)
        assert room.validate_strict(token).user == "alice"


def what_has_arrived_is_told_once():
    with a_room() as (_, room):
        token = room.login("alice", policy="replace").signed_token
        core = room._core
        calls = [core.begin_validate(token, True) for _ in range(100)]
        told = []

        def all_told():
            told.extend(core.poll())
            return len(told) >= len(calls)

        scratch.until(all_told, "the answers")
        assert set(told) == set(calls) and len(told) == len(calls)
        assert core.poll() == []
        assert all(call.done and call.result().user == "alice" for call in calls)


def nothing_is_left_of_what_is_done():
    with a_room() as (_, room):
        login = room.login("alice", policy="replace", data=b"x" * 300)
        token, session = login.signed_token, login.session

        def each():
            room.validate(token)
            room.validate("x")
            room.validate_many([token, "x"])
            room.update(session, data=LONG, version=ANY_VERSION)
            room.validate(token)
            room.stats()
            room.explain(session)
            list(room.sessions_of("alice"))
            room._core.begin_validate(token, True).cancel()
            with room.lock("x"):
                pass
            for wrong in (lambda: room.validate(7), lambda: room.login(session, policy="keep"),
                          lambda: room.touch("x"), lambda: room.update(session, data=b"1", version=2**60),
                          lambda: room.invalidate_by_user("nobody"), lambda: room.end("x")):
                raised((TypeError, CloakroomError), wrong)
            session.json if session.data_bytes == 0 else session.data
            repr(session), session.created_at, hash(session)

        def resident():
            return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def references():
            return [sys.getrefcount(each) for each in (
                _core.Session, _core.Call, _core.Core, _core.Lock, token, session.__class__, InvalidArgument, room._core)]

        for _ in range(30):
            each()
        gc.collect()
        before, counts, size = len(gc.get_objects()), references(), resident()
        for _ in range(60):
            each()
        gc.collect()
        assert references() == counts, f"{counts} {references()}"
        assert len(gc.get_objects()) <= before + 20, len(gc.get_objects()) - before
        # One long session in each round would be 3.6 MB in all. A sanitizer keeps what was freed.
        assert os.environ.get("CR_SANITIZED") or resident() - size < 2_500_000, resident() - size


def a_program_may_end_in_the_middle_of_everything():
    with Desk() as desk:
        for last in ("", "sys.exit(3)", "raise SystemExit", "os.kill(os.getpid(), signal.SIGINT)"):
            code = f"""if True:
                import os, signal, sys, threading, cloakroom
                room = cloakroom.Cloakroom.open({str(desk.state / 'app.sock')!r})
                token = room.login("alice", policy="keep").signed_token
                calls = [room._core.begin_validate(token, True) for _ in range(10)]
                lock = room.lock("x"); lock.__enter__()
                def busy():
                    while True:
                        room.validate(token); room.validate_strict(token)
                for _ in range(3):
                    threading.Thread(target=busy, daemon=True).start()
                class Late:
                    def __del__(self):
                        try:
                            room.validate(token)
                        except cloakroom.CloakroomError:
                            pass
                late = Late()
                {last}"""
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON, check=False)
            wanted = {"sys.exit(3)": (3,), "os.kill(os.getpid(), signal.SIGINT)": (-2, 1, 130)}.get(last, (0,))
            assert done.returncode in wanted, f"{last}: {done.returncode} {done.stderr}"
            assert "Fatal" not in done.stderr and "Segmentation" not in done.stderr, done.stderr


def a_second_interpreter_has_its_own_module_or_is_refused():
    code = """if True:
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import cloakroom
        inside = interpreters.create()
        source = '''if True:
            import sys
            sys.path[:0] = PATH
            try:
                import cloakroom
            except ImportError as error:
                assert "does not support loading in subinterpreters" in str(error), error
            else:
                room = cloakroom.Cloakroom.open("memory:")
                token = room.login("alice", policy="replace").signed_token
                assert room.validate(token).user == "alice"
                room.close()
        '''.replace("PATH", repr(__import__("sys").path))
        failed = interpreters.exec(inside, source) if hasattr(interpreters, "exec") else interpreters.run_string(
            inside, source)
        assert not failed, failed
        interpreters.destroy(inside)
        assert cloakroom.Session.__module__ == "cloakroom"
        print("well")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
    assert done.stdout == "well\n" and done.returncode == 0, f"{done.returncode} {done.stdout} {done.stderr}"


def elsewhere_the_import_and_the_installation_name_the_container():
    setup = ROOT / "bindings" / "python" / "setup.py"
    code = f"""if True:
        import runpy, sys
        sys.platform = "darwin"
        try:
            import cloakroom
        except ImportError as error:
            said = str(error)
        assert "container" in said and "darwin" in said, said
        sys.argv = ["setup.py", "--version"]
        try:
            runpy.run_path({str(setup)!r}, run_name="__main__")
        except SystemExit as error:
            assert error.code == said, error.code
            print("well")
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON, check=False, env=env,
                          cwd=setup.parent)
    assert done.stdout == "well\n", f"{done.returncode} {done.stdout} {done.stderr}"


tap.main([
    elsewhere_the_import_and_the_installation_name_the_container,
    sessions_are_made_validated_changed_and_ended,
    a_user_s_sessions_end_together_or_all_but_one,
    many_sessions_are_listed_page_by_page,
    data_that_the_table_does_not_serve_are_there_all_the_same,
    several_tokens_are_validated_at_once,
    a_lock_has_one_holder_and_is_lost_with_the_agent,
    a_lock_is_the_same_in_every_locale,
    a_table_of_the_application_s_own_is_filled_and_emptied,
    direct_mode_needs_no_agent,
    the_module_has_what_its_stub_says,
    a_session_is_an_immutable_value,
    a_session_s_times_are_utc_to_the_millisecond,
    sessions_are_not_made_of_anything,
    a_user_is_text_and_no_session,
    an_argument_that_is_wrong_is_named,
    text_that_is_no_token_is_nobody_s,
    a_socket_that_may_not_be_opened_is_told_with_whose_it_is,
    a_room_that_cannot_be_opened_says_why,
    no_token_is_in_what_is_raised_or_shown,
    whatever_it_is_given_it_answers_or_raises,
    labels_that_browsers_send_never_refuse_a_log_in,
    a_room_that_was_closed_says_so,
    closing_waits_for_no_thread_and_takes_nothing_from_it,
    a_lock_that_is_granted_while_the_room_closes_is_given_back,
    a_call_that_is_begun_while_the_room_closes_is_given_up,
    a_call_has_one_result_for_one_thread,
    others_run_while_a_thread_waits,
    a_signal_s_handler_runs_while_a_thread_waits,
    calls_that_nobody_waits_for_are_given_up,
    what_has_arrived_is_told_once,
    nothing_is_left_of_what_is_done,
    a_program_may_end_in_the_middle_of_everything,
    a_second_interpreter_has_its_own_module_or_is_refused,
])
