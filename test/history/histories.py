# SPDX-License-Identifier: Apache-2.0
"""Runs the processes of a history (history.c), and does to them what a host does to its processes.

Everything is in a folder of its own: what the processes recorded, the board by which they know of
each other, the store.
"""

import contextlib
import os
import pathlib
import random as random_module
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
import checker
import scratch
import tap

READY_SECONDS = 30
BOARD_SLOTS, OWN_KEYS, OWN_USERS = 12, 12, 3  # as in board.h
HISTORY = scratch.BUILD / "test" / "history" / "history"


class Host:
    """One agent, and a name. Others with the same store are other hosts, if they say `shared`."""

    def __init__(self, run, name, scheme="sqlite", lease_ms=0, poll_ms=0, shared=False):
        self.run, self.name, self.shared = run, name, shared
        self.state = run.folder / f"host-{name}"
        self.plan = run.folder / f"plan-{name}"
        self.times = (str(lease_ms), str(poll_ms))
        self.store = f"fault:{self.plan},sqlite://{run.folder}/sessions.db" \
            if scheme == "sqlite" else f"{scheme}:history"
        self.app = f"cloakroom://{self.state}/app.sock"
        self.operator = f"cloakroom://{self.state}/operator.sock"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.run.program, "agent", str(self.state), self.store, *self.times,
             "shared" if self.shared else "exclusive"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.run.log)
        ready, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        said = self.process.stdout.readline() if ready else b"nothing"
        self.process.stdout.close()
        assert said == b"READY=1\n", f"the agent said: {said}\n{self.run.said()}"

    def kill(self):
        """As a host that loses its power: nothing is said any more."""
        self.process.kill()
        self.process.wait()
        self.run.event(f"killed {self.name} {time.monotonic_ns()}")

    def restart(self):
        self.kill()
        self.start()

    def stop_clean(self):
        self.process.terminate()
        self.process.wait(30)

    def cut_off(self, fault="unavailable"):
        """From its store, until `join`. Nobody reads half a plan."""
        new = self.plan.with_suffix(".new")
        new.write_text(f"{fault}\n", encoding="utf-8")
        new.replace(self.plan)

    def join(self):
        self.plan.unlink(missing_ok=True)

    def pause(self):
        """Not while it holds the store's write lock: that would stop the other hosts, too."""
        database = sqlite3.connect(self.run.folder / "sessions.db", timeout=0, isolation_level=None)
        with contextlib.closing(database):
            while True:
                os.kill(self.process.pid, signal.SIGSTOP)
                try:
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("ROLLBACK")
                    return
                except sqlite3.OperationalError:
                    os.kill(self.process.pid, signal.SIGCONT)
                    time.sleep(0.001)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Worker:
    """A process with a room at `host`: `role` worker or table. One without slots only looks."""

    def __init__(self, run, host, role, slot=0, operator=False):
        self.run, self.host, self.role, self.slot, self.operator = run, host, role, slot, operator
        self.start()

    def start(self):
        self.run.lives += 1
        name = f"{self.role}-{self.run.lives}"
        words = [str(self.run.folder), name, self.host.name, self.host.app]
        if self.role == "worker":
            words += [self.host.operator if self.operator else "-", str(self.slot)]
        self.process = subprocess.Popen(
            [self.run.program, self.role, *words, str(self.run.random.getrandbits(60))],
            stdin=subprocess.DEVNULL, stderr=self.run.log)

    def restart(self):
        """kill -9, whatever it was doing, and another."""
        self.process.kill()
        self.process.wait()
        self.start()

    def pause(self, seconds):
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self):
        try:
            status = self.process.wait(30)
            assert status == 0, f"a worker ended with {status}\n{self.run.said()}"
        finally:
            self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Run:
    """A context: what is started in it is ended with it."""

    SLOTS_EACH = 3

    def __init__(self, program, random):
        self.program, self.random = str(program), random
        self.folder = scratch.folder("history")
        self.log = open(self.folder / "log", "ab")
        self.events = open(self.folder / "events.history", "a", encoding="utf-8")
        self.board = self.folder / "board"
        self.lives = 0
        self.hosts, self.workers = [], []

    def said(self):
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def event(self, text):
        self.events.write(f"{text}\n")
        self.events.flush()

    def host(self, name, **how):
        if how.get("shared"):
            self.event(f"host {name} {how['lease_ms']}")
        self.hosts.append(Host(self, name, **how))
        return self.hosts[-1]

    def worker(self, host, operator=False):
        self.workers.append(Worker(self, host, "worker", len(self.workers) * self.SLOTS_EACH,
                                   operator))
        return self.workers[-1]

    def looker(self, host):
        self.workers.append(Worker(self, host, "worker", "-"))
        return self.workers[-1]

    def application(self, host):
        self.workers.append(Worker(self, host, "table", len(self.workers)))
        return self.workers[-1]

    def end(self):
        """Everybody comes to an end by himself."""
        with open(self.board, "r+b") as board:
            board.write((1).to_bytes(4, sys.byteorder))
        for worker in self.workers:
            worker.end()

    def close(self):
        for one in self.workers + self.hosts:
            one.close()
        self.events.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- what happens in a history. Each gives the folder of what was recorded.


@contextlib.contextmanager
def ended(program, random):
    """A run that is ended, and not only closed, when nothing went wrong."""
    with Run(program, random) as run:
        yield run
        run.end()


def happens(random, seconds, what, only):
    """All of `what`, in turn, until the time is over, and something else first each time; or `only`
    these of it, the first one first. Endings wait for a killed agent's table: a little time is left
    for them."""
    names = list(only if only is not None else what)
    turn = random.randrange(len(names)) if only is None else 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random.uniform(0.1, 0.5))
        if names:
            what[names[turn % len(names)]]()
            turn += 1


def one_host(program, random, seconds, only=None):
    """One agent and three workers. Agent and workers are killed and paused; the store is slow, loses
    what became of commits, does not make them, gives another session's row."""
    with ended(program, random) as run:
        host = run.host("a")
        for number in range(3):
            run.worker(host, operator=number == 0)
        run.looker(host)

        def restart():
            host.restart()
            time.sleep(1.4)

        def kill(seconds):
            host.kill()
            time.sleep(seconds)
            host.start()

        def pause():
            host.pause()
            time.sleep(1.3)
            host.go_on()

        def fault(plan):
            host.cut_off(plan)
            time.sleep(0.4)
            host.join()

        happens(random, seconds, {
            "slow": lambda: fault("slow 0 100000 3 reads"),
            "restart": restart,
            "lost": lambda: fault("lost 2 2 0 commits"),
            "worker_kill": lambda: random.choice(run.workers).restart(),
            "worker_pause": lambda: random.choice(run.workers).pause(1.3),
            "not_made": lambda: fault("not_made 2 2 0 commits"),
            "away": lambda: kill(1.8),
            "wrong": lambda: fault("wrong 2 20"),
            "pause": pause,
            "kill": lambda: kill(random.uniform(0, 0.2)),
        }, only)
    return run.folder


LEASE_MS, POLL_MS = 1000, 100


def two_hosts(program, random, seconds, only=None):
    """Two agents over one truth, each with workers. They are cut off from it, paused for longer than
    a lease, killed, stopped."""
    with ended(program, random) as run:
        hosts = [run.host(name, shared=True, lease_ms=LEASE_MS, poll_ms=POLL_MS) for name in "ab"]
        for number in range(4):
            run.worker(hosts[number % 2], operator=number == 0)
        for host in hosts:
            run.looker(host)

        def leases(least, most):
            time.sleep(random.uniform(least, most) * LEASE_MS / 1000)

        def pause(least):
            host = random.choice(hosts)
            host.pause()
            leases(least, 1.8)
            host.go_on()

        def cut_off():
            host = random.choice(hosts)
            host.cut_off(random.choice(["unavailable", "unavailable 0 1000000 0 commits"]))
            leases(1.3, 1.8)
            host.join()

        def stop():
            host = random.choice(hosts)
            host.stop_clean()
            host.start()

        happens(random, seconds, {
            "pause": lambda: pause(1.0),
            "cut_off": cut_off,
            "kill": lambda: random.choice(hosts).restart(),
            "worker_pause": lambda: random.choice(run.workers).pause(1.3 * LEASE_MS / 1000),
            "long_pause": lambda: pause(1.6),
            "stop": stop,
        }, only)
    return run.folder


def own_table(program, random, seconds, only=None):
    """Applications with a session table of their own. Its keys are there from the beginning."""
    with ended(program, random) as run:
        host = run.host("a", scheme="table")
        start = time.monotonic_ns()
        for key in range(OWN_KEYS):
            run.event(f"began {key} {start} create user-{key % OWN_USERS} - d0")
            run.event(f"ended {key} {start} CR_OK session=key-{key} token=-")
        for _ in range(3):
            run.application(host)
        happens(random, seconds, {
            "restart": host.restart,
            "worker_kill": run.workers[0].restart,
            "worker_pause": lambda: run.workers[1].pause(1.3),
        }, only)
    return run.folder


# ---- HTTP workers, and a client that records what they say


class Client(threading.Thread):
    """Of HTTP workers: validates what the board says, and logs out now and then. A connection that
    breaks leaves an operation without an end."""

    SLOT = struct.Struct("=Q128s")
    TOKEN_CHARS, ID_CHARS, NAME_CHARS = 85, 28, 12  # cloakroom/types.h; the end of a token names it

    def __init__(self, run, port, name, seed):
        super().__init__(daemon=True)
        self.run_of, self.port, self.number = run, port, 0
        self.random = random_module.Random(seed)
        self.file = open(run.folder / f"{name}.history", "w", encoding="utf-8")
        self.file.write("host a\n")
        self.board = open(run.board, "rb", buffering=0)
        self.over = threading.Event()

    def board_read(self):
        self.board.seek(8)
        return self.SLOT.iter_unpack(self.board.read(BOARD_SLOTS * self.SLOT.size))

    def slots(self):
        """(token, session) of what the board says; what is being written is passed over."""
        for slot, again in zip(self.board_read(), self.board_read()):
            turn, words = slot
            if slot == again and turn > 0 and turn % 2 == 0:
                token, session = words[:self.TOKEN_CHARS], words[self.TOKEN_CHARS + 1:]
                yield token.decode(), session[:self.ID_CHARS].decode()

    def validate(self, connection, token, session):
        asked = f"http {session} {token[-self.NAME_CHARS:]}"
        start = time.monotonic_ns()
        status, body = connection.ask("GET", "/session", token)
        end = time.monotonic_ns()
        said = {200: "CR_OK", 401: "CR_ENDED", 503: "CR_UNAVAILABLE"}.get(status, f"HTTP_{status}")
        if status == 200:
            said += f" {body['session']['id']} {body['session']['user']} ? ? ? ? ?"
        self.file.write(f"saw {start} {end} 1 {asked} {said}\n")

    def log_out(self, connection, token, session):
        self.number += 1
        self.file.write(f"began {self.number} {time.monotonic_ns()} end {session}\n")
        status, _ = connection.ask("POST", "/logout", token)
        end = time.monotonic_ns()
        # 401 says that it is over, but not since when: a worker that lost its agent asks the next
        # one with a token that this very log-out has ended.
        if status in (200, 204):
            self.file.write(f"ended {self.number} {end} CR_OK\n")

    def run(self):
        connection = None
        while not self.over.is_set():
            time.sleep(self.random.uniform(0, 0.002))
            try:
                connection = connection or scratch.Connection(self.port)
                for token, session in list(self.slots()):
                    if self.random.random() < 0.01:
                        self.log_out(connection, token, session)
                    self.validate(connection, token, session)
            except (OSError, scratch.http.client.HTTPException):
                connection = None
        self.file.close()


def web(program, random, seconds, only=None):
    """`cloakroom serve` with two HTTP workers, clients of them, and two workers of an application
    beside them. Its processes are killed, and the supervisor starts others."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(scratch.Server(workers=2))
        run = stack.enter_context(Run(program, random))
        host = types.SimpleNamespace(name="a", app=server.app)
        run.workers = [Worker(run, host, "worker", number * Run.SLOTS_EACH) for number in range(2)]
        scratch.until(run.board.exists, "the board")
        clients = [Client(run, server.port, f"client{number}", random.getrandbits(60))
                   for number in range(2)]
        for client in clients:
            client.start()

        def agent_kill():
            pid = server.agent_pid()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                run.event(f"killed a {time.monotonic_ns()}")

        def worker_kill():
            for pid in server.worker_pids()[:1]:
                os.kill(pid, signal.SIGKILL)

        happens(random, seconds, {
            "agent_kill": agent_kill,
            "nothing": lambda: time.sleep(0.7),
            "worker_kill": worker_kill,
            "application_kill": run.workers[0].restart,
        }, only)
        for client in clients:
            client.over.set()
            client.join()
        run.end()
    return run.folder


# ---- what became of it

SHOWN = 5


def violations(record, program, random, seconds):
    """(what is wrong, what was done how often, where it is recorded)"""
    folder = record(program, random, seconds)
    check = checker.Check(checker.read_folder(folder))
    return check.run(), check.counts, folder


def keeps_the_promise(record, random, seconds):
    """Asserts it of a history of the program as it is. One that does not is kept."""
    wrong, counts, folder = violations(record, HISTORY, random, seconds)
    tap.note(" ".join(f"{name.replace(' ', ':')}={count}" for name, count in sorted(counts.items())))
    for text in wrong[:SHOWN]:
        tap.note(text)
    if wrong:
        kept = scratch.ROOT / "var" / folder.name
        kept.mkdir(parents=True)
        for path in folder.glob("*.history"):
            shutil.copy(path, kept)
        raise AssertionError(f"{len(wrong)} violations; the history is kept in {kept}")
    done = sum(count for name, count in counts.items() if name.endswith(" CR_OK"))
    assert counts["saw CR_OK"] > 1000 and done - counts["saw CR_OK"] > 30, "hardly anything happened"
    shutil.rmtree(folder)
