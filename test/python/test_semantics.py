#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
# tap: timeout=120
"""What session stores keep getting wrong, between worker processes over one agent.

Two workers, one that waits for its calls and one that awaits them; each serves requests step by step, so
that what happens at the same time is told and not hoped for. Every adapter goes through these steps."""

import functools
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap
from desk import Desk

FORGED = "crs1_" + "A" * 80


class Failed(Exception):
    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Worker:
    """Of semantics_worker.py: its methods, called there."""

    def __init__(self, desk, how, seconds=30):
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "semantics_worker.py"), str(desk.state / "app.sock"), how,
             str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, name, *args, **kwargs):
        print(json.dumps([name, args, kwargs]), file=self.process.stdin, flush=True)

    def take(self):
        line = self.process.stdout.readline()
        assert line, "the worker is gone"
        said = json.loads(line)
        if "error" in said:
            raise Failed(said["error"], said["text"])
        return said["answer"]

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.send(name, *args, **kwargs)
            return self.take()
        return call

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class World:
    def __enter__(self):
        self.desk = Desk()
        self.desk.start()
        self.workers = [Worker(self.desk, "wait"), Worker(self.desk, "await")]
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.close()
        self.desk.stop()


ALL = World()


def both_ways(test):
    """With either worker as the first."""
    @functools.wraps(test)
    def run():
        test(*ALL.workers)
        test(*reversed(ALL.workers))
    return run


def fails(kind, call, *args, **kwargs):
    try:
        answer = call(*args, **kwargs)
    except Failed as failure:
        assert failure.kind == kind, f"{failure}, not {kind}"
        return str(failure)
    raise AssertionError(f"no {kind}, but {answer}")


def somebody(worker, user=None, **data):
    """A session with something in it, and its token."""
    if user is None:
        return worker.call("create", None, json=data)["token"]
    return worker.call("login", user, policy="keep", json=data)["token"]


def within(worker, token):
    """What a request would find; None where it has no session."""
    seen = worker.begin("look", token)
    return seen["data"] if seen["id"] is not None else None


@both_ways
def a_save_never_revives_an_ended_session(a, b):
    token = somebody(a, "alice", cart=[1])
    a.begin("x", token)
    a.put("x", "cart", [1, 2])
    b.begin("y", token)
    b.steps("y", "end")
    seen = a.steps("x", "save")
    assert seen["ended"] and seen["user"] is None and seen["token"] is None, seen
    assert not seen["issued"] and not seen["cleared"] and seen["data"] == {}, seen
    for worker in (a, b):
        assert within(worker, token) is None
    assert a.sessions_of("alice") == []

    # The same where another request has changed it before it ended; told as an error, where wanted.
    token = somebody(a, "alice", cart=[1])
    a.begin("x", token, on_ended="raise")
    a.put("x", "cart", [1, 2])
    b.begin("y", token)
    b.put("y", "theme", "dark")
    b.steps("y", "save")
    b.steps("y", "end")
    fails("SessionEnded", a.steps, "x", "save")
    assert a.see("x")["user"] is None
    assert within(a, token) is None and within(b, token) is None


@both_ways
def an_end_of_all_of_a_users_sessions_is_not_undone_by_a_save(a, b):
    token = somebody(b, "ann", n=1)
    a.begin("x", token)
    a.put("x", "n", 2)
    b.call("invalidate_by_user", "ann")
    assert a.steps("x", "save")["ended"]
    assert within(a, token) is None and a.sessions_of("ann") == []


@both_ways
def an_unknown_key_from_a_client_is_never_adopted(a, b):
    over = somebody(b, "bob", x=1)
    b.begin("y", over)
    b.steps("y", "end")
    good = somebody(b, None, x=1)
    for unknown in ("", "x", "é", "0" * 32, "../etc", FORGED, over, good[:-1], good + "A", good.upper(),
                    good[:-4] + "AAAA", "a" * 5000, "'; DROP TABLE sessions; --"):
        seen = a.begin("x", unknown)
        assert seen["id"] is None and seen["token"] is None and seen["data"] == {}, f"{unknown!r}: {seen}"
        a.put("x", "cart", [7])
        seen = a.steps("x", "save")
        assert seen["issued"] and seen["token"] not in (unknown, good, over), seen
        assert within(b, seen["token"]) == {"cart": [7]}
        assert within(b, unknown) is None, f"{unknown!r} names a session now"
    assert within(b, good) == {"x": 1}


@both_ways
def nothing_is_stored_for_who_puts_nothing_in(a, b):
    for token in (None, FORGED):
        seen = a.begin("x", token)
        assert seen["data"] == {}
        for what in ("save", "touch", "cycle"):
            seen = a.steps("x", what)
            assert not seen["issued"] and seen["token"] is None, f"{what}: {seen}"
        a.put("x", "k", 1)
        a.drop("x", "k")
        assert not a.steps("x", "save")["issued"]
    # And nothing is written where nothing was changed.
    token = somebody(a, "carol", k=[1])
    version = a.begin("x", token)["version"]
    a.put("x", "k", [1])
    assert a.steps("x", "save")["version"] == version
    assert b.begin("y", token)["version"] == version


@both_ways
def requests_that_change_different_keys_lose_neither(a, b):
    token = somebody(a, "dora", kept=0, gone=0, theirs={"n": [1]}, mine={"n": [1]})
    a.begin("x", token)
    b.begin("y", token)
    b.put("y", "theirs", "n", [1, 2])  # deep inside
    b.put("y", "new", "b")
    b.steps("y", "save")
    a.put("x", "mine", "n", [1, 3])
    a.drop("x", "gone")
    seen = a.steps("x", "save")
    wanted = {"kept": 0, "theirs": {"n": [1, 2]}, "mine": {"n": [1, 3]}, "new": "b"}
    assert seen["data"] == wanted, seen["data"]  # who was merged into sees it, too
    for worker in (a, b):
        assert within(worker, token) == wanted
    # What was merged is what is compared with from then on.
    b.begin("y", token)
    b.drop("y", "new")
    b.steps("y", "save")
    a.put("x", "kept", 1)
    assert a.steps("x", "save")["data"] == {**{k: v for k, v in wanted.items() if k != "new"}, "kept": 1}


@both_ways
def a_key_that_both_changed_raises_and_nothing_of_it_is_saved(a, b):
    token = somebody(a, "emil", k=1, other=1)
    a.begin("x", token)
    b.begin("y", token)
    b.put("y", "k", 2)
    b.steps("y", "save")
    a.put("x", "k", 3)
    a.put("x", "other", 3)
    text = fails("Conflict", a.steps, "x", "save")
    assert "'k'" in text and "other'" not in text and token not in text, text
    assert within(a, token) == within(b, token) == {"k": 2, "other": 1}
    # Changed alike, there is nothing to choose.
    a.begin("x", token)
    b.begin("y", token)
    for worker, name in ((b, "y"), (a, "x")):
        worker.put(name, "k", 4)
        worker.steps(name, "save")
    assert within(a, token) == {"k": 4, "other": 1}


@both_ways
def a_conflict_may_always_raise_or_never(a, b):
    token = somebody(a, "emma", k=1)
    a.begin("x", token, on_conflict="raise")
    b.begin("y", token)
    b.put("y", "theirs", 1)
    b.steps("y", "save")
    a.put("x", "mine", 1)
    fails("Conflict", a.steps, "x", "save")
    assert within(b, token) == {"k": 1, "theirs": 1}
    a.begin("x", token, on_conflict="last_wins")
    b.begin("y", token)
    b.put("y", "k", 2)
    b.steps("y", "save")
    a.put("x", "k", 3)
    a.steps("x", "save")
    assert within(b, token) == {"k": 3, "theirs": 1}


def many_requests_that_count_at_once_lose_nothing():
    a, b = ALL.workers
    token = somebody(a, "fred")
    times = 40
    for worker, key in ((a, "a"), (b, "b")):
        worker.send("count", token, key, times)
    again = [worker.take() for worker in (a, b)]
    tap.note(f"asked again {again} times")
    assert within(a, token) == {"a": times, "b": times}


@both_ways
def touch_and_rotation_keep_what_is_in_it(a, b):
    token = somebody(a, "gina", cart=[1, 2])
    before = a.begin("x", token)
    seen = a.steps("x", "touch")
    assert not seen["issued"] and seen["version"] == before["version"]
    assert within(b, token) == {"cart": [1, 2]}
    # A touch, too, does not bring back.
    b.begin("y", token)
    seen = b.steps("y", "cycle")
    assert seen["issued"] and seen["token"] != token and seen["id"] == before["id"], seen
    assert within(a, token) is None, "the old token is good still"
    assert within(a, seen["token"]) == {"cart": [1, 2]}
    b.steps("y", "end")
    a.begin("x", seen["token"])
    assert within(a, seen["token"]) is None


def a_session_that_is_used_does_not_end_and_one_that_is_not_does():
    a, b = ALL.workers
    used = a.call("create", None, json={"k": 1}, idle=2)["token"]
    left = a.call("create", None, json={"k": 1}, idle=2)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        a.call("touch", used)
        assert within(b, used) == {"k": 1}
        time.sleep(0.1)
    scratch.until(lambda: not b.live(left["id"]), "what is not used ends")
    assert within(a, left["token"]) is None and fails("SessionEnded", b.call, "touch", left["token"])


def a_session_ends_to_the_millisecond():
    a, b = ALL.workers
    for milliseconds in (437, 1234):
        made = a.call("create", "hugo", json={}, absolute=milliseconds / 1000)
        for worker in (a, b):
            worker.send("watch", made["token"])
        for worker in (a, b):
            # What began after the end is refused, and what is refused ended after it. Wall clocks tick in
            # microseconds, the store's in milliseconds.
            for began, ended, alive in worker.take():
                if alive:
                    assert began <= made["ends"] + 0.002, f"alive {began - made['ends']} s after its end"
                else:
                    assert ended >= made["ends"] - 0.002, f"over {made['ends'] - ended} s before its end"
        assert fails("SessionEnded", a.call, "touch", made["token"])


@both_ways
def a_log_in_takes_over_what_the_visitor_had_and_nothing_else(a, b):
    # A visitor's, with what this request and another one have changed.
    token = somebody(a, None, cart=[1])
    a.begin("x", token)
    b.begin("y", token)
    b.put("y", "theirs", 1)
    b.steps("y", "save")
    a.put("x", "mine", 1)
    seen = a.steps("x", "login", "iris", policy="replace")
    assert seen["user"] == "iris" and seen["issued"] and seen["token"] != token, seen
    assert seen["data"] == {"cart": [1], "theirs": 1, "mine": 1}, seen["data"]
    assert within(b, token) is None, "the visitor's session is alive still"
    assert within(b, seen["token"]) == seen["data"]
    # A visitor's that was not stored yet.
    a.begin("x")
    a.put("x", "k", 1)
    first = a.steps("x", "login", "iris", policy="keep")
    assert first["data"] == {"k": 1} and within(b, first["token"]) == {"k": 1}
    # The same user again: another token, the same things, and the one before is over.
    a.begin("x", first["token"])
    again = a.steps("x", "login", "iris", policy="keep")
    assert again["data"] == {"k": 1} and again["token"] != first["token"]
    assert within(b, first["token"]) is None and within(b, again["token"]) == {"k": 1}
    # Another user gets nothing of it, and the one before is over.
    a.begin("x", again["token"])
    other = a.steps("x", "login", "jack", policy="replace")
    assert other["user"] == "jack" and other["data"] == {}, other
    assert within(b, again["token"]) is None and within(b, other["token"]) == {}
    # And the policy was carried out: iris had a session more, of the first log-in.
    assert [found for found, _ in b.sessions_of("iris")] == [seen["id"]]


@both_ways
def an_old_session_is_moved_once_and_never_comes_again(a, b):
    cookie = f"kim|cart={time.time()}"
    seen = a.begin("x", old=cookie)
    assert seen["user"] == "kim" and seen["issued"] and not seen["new"], seen
    token = seen["token"]
    assert within(b, token) == seen["data"] != {}
    assert len(a.sessions_of("kim")) == 1
    # With both cookies, ours counts.
    assert b.begin("y", token, old=cookie)["id"] == seen["id"]
    # The response was lost, or a page asks many things at once: moved again, as long as it is alive.
    others = []
    for worker in (a, b):
        worker.send("begin", "z", old=cookie)
    others = [worker.take() for worker in (a, b)]
    assert {other["user"] for other in others} == {"kim"} and len(a.sessions_of("kim")) == 3
    assert all(len(mark) < 256 and "moved" in mark for _, mark in a.sessions_of("kim"))
    # A log-out ends all that came of it, and then the old cookie is worth nothing, anywhere.
    b.steps("y", "end")
    assert a.sessions_of("kim") == []
    for worker in (a, b, a):
        seen = worker.begin("x", old=cookie)
        assert seen["id"] is None and not seen["issued"], seen
    for other in (token, *(other["token"] for other in others)):
        assert within(a, other) is None
    # And from the list of devices it is one, however many came of it.
    cookie = f"kim|cart={time.time()}"
    somebody(b, "kim")
    found = [a.begin("x", old=cookie)["id"], b.begin("x", old=cookie)["id"]]
    assert b.end_one("kim", found[0]) is True and len(a.sessions_of("kim")) == 1
    assert a.begin("x", old=cookie)["id"] is None and a.end_one("kim", found[1]) is False
    # So it is after an end by others, with our cookie or without.
    cookie = f"kim|cart={time.time()}"
    token = a.begin("x", old=cookie)["token"]
    b.call("invalidate_by_user", "kim")
    assert a.begin("x", token, old=cookie)["id"] is None
    assert b.begin("x", old=cookie)["id"] is None


@both_ways
def what_goes_wrong_while_moving_is_no_log_out(a, b):
    cookie = f"lea|cart={time.time()}"
    fails("Unavailable", a.begin, "x", old=cookie, broken=True)
    for worker in (a, b, b, a):  # the store is gone after the lock was taken, again and again
        worker.fail("create")
        fails("Unavailable", worker.begin, "x", old=cookie)
    assert a.sessions_of("lea") == []
    seen = b.begin("x", old=cookie)
    assert seen["user"] == "lea", seen
    b.steps("x", "end")
    assert a.begin("x", old=cookie)["id"] is None
    # Too large for us, or a user whom we cannot have: an error and no log-out, either.
    fails("Unavailable", a.begin, "x", old="lea|k=" + "v" * 70000)
    fails("Unavailable", a.begin, "x", old="u" * 129 + "|k=v")


@both_ways
def a_log_in_that_replaces_closes_the_users_old_sessions(a, b):
    now = time.time()
    mia, nora = f"mia{now}", f"nora{now}"
    here, stolen, another = f"{mia}|a=", f"{mia}|b=", f"{nora}|c="
    seen = a.begin("x", old=here)
    seen = a.steps("x", "login", mia, policy="keep")
    assert b.begin("y", old=stolen)["user"] == mia
    b.begin("y")
    b.begin("y", seen["token"], old=here)
    seen = b.steps("y", "login", mia, policy="replace")
    assert [found for found, _ in a.sessions_of(mia)] == [seen["id"]]
    for cookie in (here, stolen, f"{mia}|d="):
        assert a.begin("x", old=cookie)["id"] is None, cookie
    assert a.begin("x", old=another)["user"] == nora
    a.close_user(nora)
    assert b.begin("y", old=f"{nora}|e=")["id"] is None
    # Whoever is alive stays, and is moved on.
    assert b.begin("y", old=f"olaf|e={now}")["user"] == "olaf"


@both_ways
def an_old_visitor_is_moved_with_what_he_had_and_after_the_date_nobody(a, b):
    seen = a.begin("x", old="|cart=1")
    assert seen["user"] is None and seen["issued"] and seen["data"] == {"cart": "1"}, seen
    assert within(b, seen["token"]) == {"cart": "1"}
    assert a.begin("x", old="|")["id"] is None  # who had nothing
    assert a.begin("x", old="expired|cart=1")["id"] is None
    cookie = f"paul|cart={time.time()}"
    assert a.begin("x", old=cookie, until=time.time() - 1)["id"] is None
    assert a.begin("x", old=cookie, until=time.time() + 3600)["user"] == "paul"


def a_store_that_cannot_be_asked_is_no_log_out():
    pair = [Worker(ALL.desk, how, 0.5) for how in ("wait", "await")]
    try:
        states = [{"token": scratch.until(lambda w=worker: answer(somebody, w, "rosa", k=1), "a log-in")}
                  for worker in pair]
        for worker, state in zip(pair, states, strict=True):
            scratch.until(lambda w=worker, s=state: answer(w.begin, "x", s["token"]), "a request")
            worker.put("x", "k", 2)
        ALL.desk.stop()
        for worker, state in zip(pair, states, strict=True):
            fails("Unavailable", worker.begin, "y", state["token"])
            fails("Unavailable", worker.steps, "x", "save")
            fails("Unavailable", worker.steps, "x", "end")
        ALL.desk.start()
        for worker, state in zip(pair, states, strict=True):
            # Nothing of it was done; asked again, it is.
            assert scratch.until(lambda s=state: answer(within, ALL.workers[0], s["token"]), "back") == {"k": 1}
            scratch.until(lambda w=worker: answer(w.steps, "x", "save"), "saved")
            assert within(ALL.workers[1], state["token"]) == {"k": 2}
    finally:
        for worker in pair:
            worker.close()


def answer(call, *args, **kwargs):
    """What it answers; None where it cannot now, as on a machine that is busy."""
    try:
        return call(*args, **kwargs)
    except Failed as failure:
        assert failure.kind in ("Unavailable", "Busy", "UnknownOutcome"), str(failure)
        return None


with ALL:
    tap.main([
        a_save_never_revives_an_ended_session,
        an_end_of_all_of_a_users_sessions_is_not_undone_by_a_save,
        an_unknown_key_from_a_client_is_never_adopted,
        nothing_is_stored_for_who_puts_nothing_in,
        requests_that_change_different_keys_lose_neither,
        a_key_that_both_changed_raises_and_nothing_of_it_is_saved,
        a_conflict_may_always_raise_or_never,
        many_requests_that_count_at_once_lose_nothing,
        touch_and_rotation_keep_what_is_in_it,
        a_session_that_is_used_does_not_end_and_one_that_is_not_does,
        a_session_ends_to_the_millisecond,
        a_log_in_takes_over_what_the_visitor_had_and_nothing_else,
        an_old_session_is_moved_once_and_never_comes_again,
        what_goes_wrong_while_moving_is_no_log_out,
        a_log_in_that_replaces_closes_the_users_old_sessions,
        an_old_visitor_is_moved_with_what_he_had_and_after_the_date_nobody,
        a_store_that_cannot_be_asked_is_no_log_out,
    ])
