# SPDX-License-Identifier: Apache-2.0
"""What a Python process pays for a session, beside what it would pay otherwise. All of it runs in the
newest Python, with the newest of each package (tools/pythons.py)."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import bench

sys.path[:0] = [str(bench.ROOT / "tools"), str(bench.ROOT / "test" / "proc")]
import pythons
import scratch

SESSIONS = 10_000
FEW = 1_000  # of ours and of each peer's
DATA_BYTES = 256
SECONDS = 0.3
CONNECTIONS = 16
TURNS = 12  # of each in a round
TURN_SECONDS = 0.25
PEERS = ("redis", "cached_db_redis", "cached_db", "signed_cookies", "starlette")


def newest():
    reason = pythons.why_unavailable("newest")
    if reason or not pythons.interpreter("newest").exists():
        raise bench.Refused(f"there is no newest Python: {reason or './dev setup test makes one'}")
    return pythons.interpreter("newest")


class Newest(bench.Bench):
    """An agent with sessions in its table, and Redis, for Python programs."""

    def begin(self):
        self.python = newest()
        self.memory = self.memory_folder()
        self.url = self.start_agent("--cache-memory", "64M")
        self.tokens = self.memory / "tokens"
        self.run("make_sessions", self.url, self.tokens, SESSIONS, DATA_BYTES)
        self.redis = self.memory / "redis.sock"
        self.spawn(["redis-server", "--port", 0, "--unixsocket", self.redis, "--save", "",
                    "--appendonly", "no", "--dir", self.folder], self.core)
        self.wait_for(self.redis.exists, "Redis")


class Python(Newest):
    name = "python"
    ours = f"room.validate, {FEW:,} sessions with {DATA_BYTES} bytes of data, random tokens, the loop included"
    rows = (
        bench.Row("redis", ours, "answers/s", "validate", "redis",
                  "redis-py: GET of a value of that size, Redis on a Unix socket, same core", least=100,
                  per_second=True),
        bench.Row("time", ours, "ns", "validate", most=800),
        bench.Row("time 10k", f"the same, {SESSIONS:,} sessions", "ns", "validate_all"),
        bench.Row("cached_db redis", ours, "answers/s", "validate", "cached_db_redis",
                  "Django: load() of cached_db, its cache in Redis, which workers can share", per_second=True),
        bench.Row("cached_db", ours, "answers/s", "validate", "cached_db",
                  "Django: load() of cached_db, its cache in the process", per_second=True),
        bench.Row("signed_cookies", ours, "answers/s", "validate", "signed_cookies",
                  "Django: load() of signed_cookies, 300 bytes, which cannot be ended", per_second=True),
        bench.Row("starlette", ours, "answers/s", "validate", "starlette",
                  "Starlette's cookie middleware: unsign and decode 300 bytes, which cannot be ended",
                  per_second=True),
    )
    questions = ("validate", "validate_all", *PEERS)

    def start(self):
        self.begin()
        self.program = self.spawn(
            [self.python, bench.ROOT / "bench" / "drive_python.py", self.url, self.tokens, self.redis,
             self.folder, FEW], self.core, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready(self.program)

    def answer(self, question):
        return self.ask(self.program, f"{question} {SECONDS}")


class PythonHttp(Newest):
    """As bench_http's turns: short, side by side, each as often first as last."""

    name = "python_http"
    cores = 2
    route = "GET of a FastAPI route that requires a session, one uvicorn worker on one core"
    rows = (
        bench.Row("cloakroom", f"{route}: Cloakroom", "requests/s", "cloakroom", "nothing",
                  "the same route with a dependency that does nothing", least=0.9),
        bench.Row("redis", f"{route}: redis.asyncio, GET and JSON, Redis on the same core", "requests/s",
                  "redis", "nothing", "the same route with a dependency that does nothing"),
    )
    questions = ("nothing", "cloakroom", "redis")

    def start(self):
        self.begin()
        token = pathlib.Path(self.tokens).read_bytes()[:85].decode()
        value = json.dumps({"user": "user-00000000000", "data": "x" * DATA_BYTES})
        subprocess.run(["redis-cli", "-s", self.redis, "SET", "session:1", value], check=True,
                       stdout=subprocess.DEVNULL)
        cookies = {"nothing": "session=1", "redis": "session=1", "cloakroom": f"cloakroom={token}"}
        self.clients = {question: self.serve(question, cookies[question]) for question in self.questions}

    def serve(self, kind, cookie):
        port = scratch.free_port()
        server = self.spawn(
            [self.python, "-m", "uvicorn", "--app-dir", bench.ROOT / "bench", "python_app:app", "--host",
             "127.0.0.1", "--port", port, "--no-access-log", "--log-level", "warning"], self.core,
            env={**os.environ, "PYTHON_APP": kind, "PYTHON_APP_STORE": self.url,
                 "PYTHON_APP_REDIS": str(self.redis), "PYTHONDONTWRITEBYTECODE": "1"})
        self.wait_for(lambda: server.poll() is not None or self.answers(port), "uvicorn")
        if server.poll() is not None:
            raise RuntimeError(f"uvicorn ended:\n{self.log()}")
        client = self.driver("drive_load", port, "/", CONNECTIONS, cookie, core=self.other_core)
        self.ready(client)
        return client

    @staticmethod
    def answers(port):
        try:
            scratch.Connection(port).close()
            return True
        except OSError:
            return False

    def answer(self, question):
        return self.ask(self.clients[question], str(TURN_SECONDS))

    def round(self):
        answers = {question: [] for question in self.questions}
        for turn in range(TURNS):
            for question in self.questions[::1 if turn % 2 else -1]:
                answers[question].append(self.answer(question))
        return {question: statistics.median(all_of) for question, all_of in answers.items()}
