#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest timeout=120
"""Session caches in front of an application's own table: one table of behaviours over the three of
`cloakroom.cache`, over the shared one on a fake, and over a class that an application has written."""

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap
from desk import Desk

from cloakroom import Cloakroom, DataTooLarge, InvalidArgument, Later
from cloakroom.cache import (
    BaseSessionCache,
    InMemorySessionCache,
    NoOpSessionCache,
    SessionCache,
    SharedSessionCache,
    open_cache,
    user_id,
)
from cloakroom.testing import FakeCloakroom

TABLE = "table:shop"
ALICE = {"user": "alice", "roles": ["ü", None, 1.5]}


class OursInSQLite:
    """What an application could have written: the protocol, and nothing of ours but `user_id`."""

    def __init__(self):
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, user TEXT, value TEXT, until REAL, read INT)")
        self.clock, self.reads, self.ended = 0, {}, {}

    @staticmethod
    def name(key):
        return key.encode() if isinstance(key, str) else bytes(key)

    def get(self, key):
        row = self.db.execute("SELECT value FROM kept WHERE key = ? AND until > ?",
                              (self.name(key), time.time())).fetchone()
        if row is None:
            self.reads.setdefault(self.name(key), self.clock)
        return row and json.loads(row[0])

    def set(self, key, user, value, ttl):
        read = self.reads.pop(self.name(key), -1)
        ended = max(self.ended.get(what, 0) for what in (user_id(user), self.name(key), None))
        if read >= ended:
            self.db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)",
                            (self.name(key), user, json.dumps(value), time.time() + ttl, read))

    def end(self, what, where, *words):
        self.clock += 1
        self.ended[what] = self.clock
        self.db.execute(f"DELETE FROM kept WHERE {where}", words)

    def invalidate(self, key):
        self.end(self.name(key), "key = ?", self.name(key))

    def invalidate_by_user(self, user):
        self.end(user_id(user), "user = ?", user)

    def clear(self):
        self.end(None, "1")


@functools.cache
def the_agent():
    """One for all tests that leave it as it is."""
    desk = Desk(url=TABLE)
    desk.start()
    atexit.register(desk.stop, signal.SIGKILL)
    return desk


@contextlib.contextmanager
def shared():
    with Cloakroom.open(TABLE, mode="attach", state=the_agent().state) as room:
        cache = SharedSessionCache(room)
        cache.clear()
        yield cache


CACHES = {
    "shared": shared,
    "shared, on a fake": lambda: contextlib.nullcontext(SharedSessionCache(FakeCloakroom(table=True))),
    "memory": lambda: contextlib.nullcontext(InMemorySessionCache()),
    "none": lambda: contextlib.nullcontext(NoOpSessionCache()),
    "an application's": lambda: contextlib.nullcontext(OursInSQLite()),
}


class Session:
    """An application's own, which has a user."""

    id, user_id = "4711", "alice"


def fill(cache, key, user, value, ttl=60):
    """As an application does: ask, read the database, set."""
    assert cache.get(key) is None, key
    cache.set(key, user, value, ttl)
    return cache.get(key)


# ---- of everything that is a SessionCache. `keeps`: not the one that keeps nothing.


def it_is_a_session_cache(cache, keeps):
    assert isinstance(cache, SessionCache)
    assert not isinstance(object(), SessionCache)


def what_was_set_is_got(cache, keeps):
    assert cache.get("k1") is None
    assert fill(cache, "k1", "alice", ALICE) == (ALICE if keeps else None)
    assert cache.get(b"k1") == (ALICE if keeps else None), "text and its bytes are one key"
    assert fill(cache, b"\xff\x00", "alice", 7) == (7 if keeps else None)
    assert fill(cache, "ü" * 500, "bob", [0]) == ([0] if keeps else None)
    assert cache.get("k1 ") is None and cache.get("") is None


def one_is_invalidated(cache, keeps):
    fill(cache, "one", "alice", 1)
    fill(cache, "two", "alice", 2)
    cache.invalidate("one")
    cache.invalidate("never seen")
    assert cache.get("one") is None and cache.get("two") == (2 if keeps else None)
    assert fill(cache, "one", "alice", 3) == (3 if keeps else None), "it may be kept again"


def all_of_a_user_are_invalidated(cache, keeps):
    for number in range(50):
        fill(cache, f"alice-{number}", "alice", number)
    fill(cache, "bob-1", "bob", 1)
    cache.invalidate_by_user("alice")
    cache.invalidate_by_user("never seen")
    assert [cache.get(f"alice-{number}") for number in range(50)] == [None] * 50
    assert cache.get("bob-1") == (1 if keeps else None)
    assert fill(cache, "alice-51", "alice", 51) == (51 if keeps else None)


def everything_is_cleared(cache, keeps):
    fill(cache, "one", "alice", 1)
    fill(cache, "two", "bob", 2)
    assert cache.get("three") is None
    cache.clear()
    cache.set("three", "carol", 3, 60)
    assert [cache.get(key) for key in ("one", "two", "three")] == [None] * 3
    assert fill(cache, "one", "alice", 4) == (4 if keeps else None)


def what_was_read_before_an_ending_is_not_believed(cache, keeps):
    for end in (lambda: cache.invalidate("slow"), lambda: cache.invalidate_by_user("alice"), cache.clear):
        assert cache.get("slow") is None
        value = {"read": "before"}
        end()
        cache.set("slow", "alice", value, 60)
        assert cache.get("slow") is None
        cache.set("slow", "alice", {"read": "after"}, 60)
        assert cache.get("slow") == ({"read": "after"} if keeps else None)
        cache.invalidate("slow")


def a_session_where_a_user_is_meant_is_an_error(cache, keeps):
    room = FakeCloakroom()
    login = room.login("alice", policy="replace")
    fill(cache, "k", "alice", 1)
    for wrong in (Session(), login.session, login.session.id, login.signed_token, 17, b"alice", None):
        for call in (lambda user: cache.invalidate_by_user(user), lambda user: cache.set("k2", user, 1, 60)):
            cache.get("k2")
            try:
                call(wrong)
            except TypeError as error:
                assert login.signed_token not in str(error), error
                continue
            raise AssertionError(f"{wrong!r} went through")
    assert cache.get("k") == (1 if keeps else None) and cache.get("k2") is None


def what_is_over_is_not_kept(cache, keeps):
    fill(cache, "brief", "alice", 1, ttl=0.05)
    scratch.until(lambda: cache.get("brief") is None or moved(cache), "it ends")
    for ttl in (0, -1):
        assert fill(cache, f"over {ttl}", "alice", 1, ttl=ttl) is None


def moved(cache):
    """A fake's clock stands still."""
    room = getattr(cache, "room", None)
    if isinstance(room, FakeCloakroom):
        room.advance(0.05)


PROTOCOL = [
    it_is_a_session_cache,
    what_was_set_is_got,
    one_is_invalidated,
    all_of_a_user_are_invalidated,
    everything_is_cleared,
    what_was_read_before_an_ending_is_not_believed,
    a_session_where_a_user_is_meant_is_an_error,
    what_is_over_is_not_kept,
]

# ---- of the three, besides


def a_set_without_a_get_keeps_nothing(cache, keeps):
    cache.set("k", "alice", 1, 60)
    assert cache.get("k") is None
    cache.set("k", "alice", 2, 60)
    assert cache.get("k") == (2 if keeps else None)
    cache.set("k", "alice", 3, 60)
    assert cache.get("k") == (2 if keeps else None), "the ticket was used up"
    assert cache.get("other") is None
    cache.invalidate("k")
    cache.set("k", "alice", 4, 60)
    assert cache.get("k") is None, "another key's ticket is no good"


def another_thread_s_ticket_is_not_used(cache, keeps):
    """Its query may have begun long before that thread asked."""
    with concurrent.futures.ThreadPoolExecutor(1) as slow:
        assert slow.submit(cache.get, "k").result() is None  # and reads the database
        assert cache.get("k") is None
        cache.set("k", "alice", "old", 60)
        cache.invalidate("k")
        assert cache.get("k") is None  # takes a ticket from after the ending
        slow.submit(cache.set, "k", "alice", "old", 60).result()
        assert cache.get("k") is None
        cache.set("k", "alice", "new", 60)
        assert cache.get("k") == ("new" if keeps else None)


def the_oldest_ticket_counts(cache, keeps):
    """A layer above may ask before another reads, and a layer below after that."""
    assert cache.get("k") is None
    value = "read now"
    cache.invalidate("k")
    assert cache.get("k") is None
    cache.set("k", "alice", value, 60)
    assert cache.get("k") is None

    async def body():
        assert await cache.aget("k2") is None
        await cache.ainvalidate("k2")
        assert await cache.aget("k2") is None
        await cache.aset("k2", "alice", value, 60)
        assert await cache.aget("k2") is None

    asyncio.run(body())


def it_is_loaded_once(cache, keeps):
    asked = []

    def load(key):
        asked.append(key)
        return None if key == "nobody" else ("alice", {"n": len(asked), "t": (1, 2)}, 60)

    first = cache.get_or_load("k", load)
    assert first == {"n": 1, "t": [1, 2]}, "the same form as from the cache"
    assert cache.get_or_load("k", load)["n"] == (1 if keeps else 2)
    assert cache.get_or_load("nobody", load) is None and cache.get_or_load("nobody", load) is None
    assert asked == (["k"] if keeps else ["k", "k"]) + ["nobody", "nobody"]


def what_ended_while_it_was_loaded_is_not_kept(cache, keeps):
    for end in (lambda: cache.invalidate("k"), lambda: cache.invalidate_by_user("alice"), cache.clear):
        def load(key):
            end()  # by another worker, after our query
            return "alice", "old", 60
        assert cache.get_or_load("k", load) == "old", "true when it was asked"
        assert cache.get("k") is None
        assert cache.get_or_load("k", lambda key: ("alice", "new", 60)) == "new"
        assert cache.get("k") == ("new" if keeps else None)
        cache.invalidate("k")


def a_load_that_fails_keeps_nothing(cache, keeps):
    def load(key):
        raise ConnectionError("the database is away")
    try:
        cache.get_or_load("k", load)
        raise AssertionError("swallowed")
    except ConnectionError:
        pass
    assert cache.get("k") is None


def what_cannot_be_kept_is_told(cache, keeps):
    def refused(kind, key, value, ttl=60, user="alice"):
        try:
            cache.set(key, user, value, ttl)
        except kind as error:
            assert "secret" not in str(error), error
            return str(error)
        raise AssertionError(f"{value!r} went through")

    cache.get("k")
    assert "dumps=" in refused(InvalidArgument, "k", {1, 2})
    assert "dumps=" in refused(InvalidArgument, "k", float("nan"))
    assert "4096" in refused(DataTooLarge, "k", "x" * 4095)
    refused(InvalidArgument, "k", None)
    refused(InvalidArgument, "k", 1, ttl=float("nan"))
    refused(InvalidArgument, "k", 1, ttl="soon")
    refused(InvalidArgument, "k", 1, user="")
    refused(InvalidArgument, "k", 1, user="x" * 129)
    for key in (None, 17, Session(), ["secret"]):
        refused(TypeError, key, 1)
    assert cache.get("k") is None
    cache.set("k", "alice", "x" * 4094, 60)
    assert cache.get("k") == ("x" * 4094 if keeps else None)


def each_call_can_be_awaited(cache, keeps):
    async def body():
        assert await cache.aget("k") is None
        await cache.aset("k", "alice", 1, 60)
        assert await cache.aget("k") == (1 if keeps else None)
        await cache.ainvalidate("k")
        assert await cache.aget("k") is None
        await cache.aset("k", "alice", 2, 60)
        await cache.ainvalidate_by_user("alice")
        assert await cache.aget("k") is None

        async def load(key):
            await asyncio.sleep(0)
            return "alice", 3, 60
        assert await cache.aget_or_load("k", load) == 3
        assert await cache.aget("k") == (3 if keeps else None)
        await cache.aclear()
        assert await cache.aget("k") is None

        async def ended_meanwhile(key):
            await cache.ainvalidate_by_user("alice")
            return "alice", 4, 60
        assert await cache.aget_or_load("k", ended_meanwhile) == 4
        assert await cache.aget("k") is None
        # A task's ticket is its own.
        slow = asyncio.create_task(get_then_set(cache, went := asyncio.Event()))
        await asyncio.sleep(0)
        await cache.ainvalidate("task")
        assert await cache.aget("task") is None
        went.set()
        await slow
        assert await cache.aget("task") is None
        try:
            await cache.ainvalidate_by_user(Session())
            raise AssertionError("no user")
        except TypeError:
            pass

    async def get_then_set(cache, go):
        await cache.aget("task")
        await go.wait()
        await cache.aset("task", "alice", "old", 60)

    asyncio.run(body())


OURS = [
    a_set_without_a_get_keeps_nothing,
    another_thread_s_ticket_is_not_used,
    the_oldest_ticket_counts,
    it_is_loaded_once,
    what_ended_while_it_was_loaded_is_not_kept,
    a_load_that_fails_keeps_nothing,
    what_cannot_be_kept_is_told,
    each_call_can_be_awaited,
]


def over(name):
    def each_behaviour_holds():
        failures = []
        with CACHES[name]() as cache:
            keeps = not isinstance(cache, NoOpSessionCache)
            behaviours = PROTOCOL + (OURS if isinstance(cache, BaseSessionCache) else [])
            for behaviour in behaviours:
                cache.clear()
                try:
                    # In a thread of its own: what it left without an answer is no other's ticket.
                    with concurrent.futures.ThreadPoolExecutor(1) as alone:
                        alone.submit(behaviour, cache, keeps).result()
                except AssertionError as error:
                    failures.append(behaviour.__name__)
                    tap.note(f"{behaviour.__name__}: line {error.__traceback__.tb_next.tb_lineno}: {error!r}")
        assert not failures, failures
    each_behaviour_holds.__name__ = f"each_behaviour_holds_for_{re.sub('[^a-z]+', '_', name)}"
    return each_behaviour_holds


# ---- in memory


def in_memory_there_is_no_key_in_clear():
    cache = InMemorySessionCache()
    fill(cache, "token-of-alice", "alice", 1)
    assert "token-of-alice" not in repr(vars(cache)) and b"token-of-alice" not in b"".join(cache._entries)


def in_memory_the_size_is_bounded():
    now = [0.0]
    cache = InMemorySessionCache(size=3, ttl=10, clock=lambda: now[0])
    for number in range(3):
        fill(cache, f"k{number}", f"u{number}", number)
    assert cache.get("k0") == 0
    fill(cache, "k3", "u3", 3)
    assert [cache.get(f"k{number}") for number in range(4)] == [0, None, 2, 3], "the one longest not used"
    assert set(cache._owners) == {"u0", "u2", "u3"}
    for number in range(100):
        cache.invalidate_by_user(f"x{number}")
    assert len(cache._ended) == 3 and cache.get("k0") == 0
    # Endings that were forgotten are not forgotten by what was read before them.
    cache.clear()
    cache.get("late")
    cache.invalidate_by_user("late")
    for number in range(3):
        cache.invalidate_by_user(f"x{number}")
    assert "late" not in cache._ended
    cache.set("late", "late", "old", 60)
    assert cache.get("late") is None
    fill(cache, "capped", "u", 1, ttl=1000)
    now[0] = 9.99
    assert cache.get("capped") == 1
    now[0] = 10.0
    assert cache.get("capped") is None and len(cache) == 0 and cache._owners == {}


def in_memory_a_forked_child_begins_anew():
    cache = InMemorySessionCache()
    fill(cache, "k", "alice", 1)
    with cache._guard:  # as another thread of the parent may
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # rather than to wait for that thread for ever
            os._exit(0 if cache.get("k") is None else 1)
    assert os.waitpid(pid, 0)[1] == 0 and cache.get("k") == 1


def no_thread_is_given_what_another_has_ended():
    cache = InMemorySessionCache(size=50)
    committed, answered, failures = [0] * 5, [0] * 5, []
    guard = threading.Lock()

    def work(seed):
        random = tap.random_module.Random(seed)
        for _ in range(3000):
            user = random.randrange(5)
            least = answered[user]
            value = cache.get_or_load(f"{user}-{random.randrange(20)}", lambda key: read(int(key[0]), random))
            if value < least:
                failures.append((user, value, least))
            if random.random() < 0.1:
                with guard:
                    committed[user] += 1
                    version = committed[user]
                cache.invalidate_by_user(f"u{user}")
                with guard:
                    answered[user] = max(answered[user], version)

    def read(user, random):
        version = committed[user]
        if random.random() < 0.3:
            time.sleep(0)
        return f"u{user}", version, 60

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, tap.random.random()) for _ in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(interval)
    assert not failures, failures[:3]
    assert sum(answered) > 100 and len(cache) <= 50


# ---- shared, between processes

WORKER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from cloakroom import Cloakroom
from cloakroom.cache import SharedSessionCache
cache = SharedSessionCache(Cloakroom.open("table:shop", mode="attach", state=sys.argv[2]))
for line in sys.stdin:
    name, *words = json.loads(line)
    print(json.dumps(getattr(cache, name)(*words)), flush=True)
"""


class Worker:
    def __init__(self, desk):
        self.process = subprocess.Popen([sys.executable, "-c", WORKER, json.dumps(sys.path), str(desk.state)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __getattr__(self, name):
        def call(*words):
            self.process.stdin.write(json.dumps([name, *words]) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        return call

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(15) == 0
        self.process.stdout.close()


@contextlib.contextmanager
def workers(count):
    with contextlib.ExitStack() as stack:
        made = [Worker(the_agent()) for _ in range(count)]
        for worker in made:
            stack.callback(worker.close)
        made[0].clear()
        yield made


def what_one_worker_ended_is_over_in_all_when_the_call_returns():
    with workers(3) as (one, two, three):
        for number in range(30):
            key, user = f"k{number}", f"u{number % 3}"
            assert one.get(key) is None
            one.set(key, user, {"n": number}, 60)
            assert two.get(key) == three.get(key) == one.get(key) == {"n": number}, "filled in one, a hit in all"
        two.invalidate("k0")
        assert [worker.get("k0") for worker in (one, two, three)] == [None] * 3
        assert three.get("k3") == {"n": 3}
        three.invalidate_by_user("u1")
        for number in range(1, 30):
            wanted = None if number % 3 == 1 else {"n": number}
            assert one.get(f"k{number}") == two.get(f"k{number}") == wanted, number
        # Read before the ending, by another process than the one that ends.
        assert one.get("slow") is None
        two.invalidate_by_user("u9")
        one.set("slow", "u9", "old", 60)
        assert one.get("slow") is None and three.get("slow") is None
        one.set("slow", "u9", "new", 60)
        assert three.get("slow") == "new"
        assert two.get("late") is None
        three.clear()
        two.set("late", "u9", "old", 60)
        for key in ("k2", "k3", "k29", "slow", "late"):
            assert [worker.get(key) for worker in (one, two, three)] == [None] * 3, key


def a_forked_worker_shares_it():
    with shared() as cache:
        fill(cache, "k", "alice", 1)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                scratch.until(lambda: cache.get("k") == 1, "it has joined, and found it")
                cache.invalidate_by_user("alice")
                os._exit(0 if fill(cache, "child", "bob", 2) == 2 else 1)
            os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert cache.get("k") is None and cache.get("child") == 2


def without_the_agent_the_database_is_asked_and_endings_are_not_lost():
    desk = Desk(url=TABLE)
    desk.start()
    try:
        with Cloakroom.open(TABLE, mode="attach", state=desk.state, timeout=0.3) as room:
            cache = SharedSessionCache(room)
            fill(cache, "k", "alice", 1)
            desk.stop(signal.SIGKILL)
            scratch.until(lambda: cache.get("k") is None, "a dead agent's table is not believed")
            assert cache.get_or_load("k", lambda key: ("alice", 2, 60)) == 2
            for call in (lambda: cache.invalidate("k"), lambda: cache.invalidate_by_user("alice"), cache.clear):
                try:
                    call()
                    raise AssertionError("it says that it was done")
                except Later as error:
                    assert error.retry_after > 0
            desk.start()
            scratch.until(lambda: invalidated(cache), "the agent is there again")
            scratch.until(lambda: cache.get_or_load("k", lambda key: ("alice", 3, 60)) and cache.get("k") == 3,
                          "and its table")
    finally:
        desk.stop(signal.SIGKILL)


def invalidated(cache):
    try:
        cache.invalidate_by_user("alice")
        return True
    except Later:
        return False


def the_loop_is_not_blocked_while_the_agent_hangs():
    agent = the_agent().agent.pid

    async def body(cache):
        await cache.aget_or_load("k", loaded)
        os.kill(agent, signal.SIGSTOP)
        try:
            waits = [asyncio.create_task(cache.ainvalidate("k")),
                     asyncio.create_task(cache.ainvalidate_by_user("alice")),
                     asyncio.create_task(cache.aclear())]
            longest = await ticks(50)
            assert not any(wait.done() for wait in waits), "nobody can have answered"
            assert longest < 1, f"the loop stood still for {longest} s"
        finally:
            os.kill(agent, signal.SIGCONT)
        await asyncio.gather(*waits)
        assert await cache.aget("k") is None

    async def ticks(count):
        longest = 0
        for _ in range(count):
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)
        return longest

    async def loaded(key):
        return "alice", 1, 60

    with shared() as cache:
        asyncio.run(body(cache))


# ---- the accessor, and the page


def the_accessor_always_answers_a_cache():
    assert isinstance(open_cache("none"), NoOpSessionCache)
    memory = open_cache("memory", ttl=5)
    assert isinstance(memory, InMemorySessionCache) and fill(memory, "k", "alice", 1) == 1
    cache = open_cache("shared", "shop", state=the_agent().state)
    cache.clear()
    assert isinstance(cache, SharedSessionCache) and fill(cache, "k", "alice", 1) == 1
    cache.room.close()
    for wrong in ("", "redis", None):
        try:
            open_cache(wrong)
            raise AssertionError("no cache is called so")
        except InvalidArgument as error:
            assert "'shared', 'memory', 'none'" in str(error)
    with FakeCloakroom() as room:
        try:
            SharedSessionCache(room)
            raise AssertionError("it has sessions of its own")
        except InvalidArgument as error:
            assert "table:NAME" in str(error)


PAGE_USES = """
token, other = "token-1", "token-2"
db.execute("INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob')")
assert current_session(token) is None
log_in(1, token)
log_in(2, other)
assert current_session(token) == current_session(token) == {"user": 1, "name": "Ada"}
assert cache.get(token) == {"user": 1, "name": "Ada"}, "it was kept"
stolen = current_session(token)
log_in(1, "token-3")
assert current_session(token) is None and cache.get(token) is None
assert current_session("token-3")["name"] == "Ada" and current_session(other)["name"] == "Bob"
log_out("token-3")
assert current_session("token-3") is None and cache.get(other)["name"] == "Bob"
print("done")
"""


def the_page_s_code_runs():
    page = (HERE.parent.parent / "doc" / "python-cache.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == page.count("```") // 2 == 4, "all of it is run"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="page-"))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    ready, writing = os.pipe()
    agent = subprocess.Popen([scratch.PROGRAM, "agent", "--store", TABLE, "--ready-fd", str(writing)],
                             env=environment, pass_fds=[writing], stdin=subprocess.DEVNULL)
    os.close(writing)
    try:
        with open(ready, encoding="utf-8") as said:
            assert said.read() == "READY=1\n"
        setup = ("import sqlite3\n"
                 "db = sqlite3.connect(':memory:')\n"
                 "db.executescript('CREATE TABLE sessions (token TEXT, user_id INT, ends_at INT);'\n"
                 "                 'CREATE TABLE users (id INT, name TEXT);')\n")
        script = setup + "\n".join([*blocks, PAGE_USES])
        done = subprocess.run([sys.executable, "-c", script], env=environment, text=True, check=False,
                              capture_output=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    finally:
        scratch.end(agent, signal.SIGKILL)


tap.main([
    *[over(name) for name in CACHES],
    in_memory_there_is_no_key_in_clear,
    in_memory_the_size_is_bounded,
    in_memory_a_forked_child_begins_anew,
    no_thread_is_given_what_another_has_ended,
    what_one_worker_ended_is_over_in_all_when_the_call_returns,
    a_forked_worker_shares_it,
    without_the_agent_the_database_is_asked_and_endings_are_not_lost,
    the_loop_is_not_blocked_while_the_agent_hangs,
    the_accessor_always_answers_a_cache,
    the_page_s_code_runs,
])
