# SPDX-License-Identifier: Apache-2.0
"""A validation that every request makes: against what memory allows, and against what one would put
there instead. `./dev bench cache` runs all of these."""

import os
import pathlib
import re
import struct

import bench

SECONDS = 0.3
READ_SECONDS = 1.0
ORDERS = ("uniform", "zipf")
READERS = 4
WRITES_PER_MILLE = 10
BINS_OCTAVE = 32  # of drive_cache.c
PACE_WRITES_AT = 8 * 64  # of pace.h


class TableBench(bench.Bench):
    """Sessions in a table, made by its own writer (table_agent.c)."""

    sessions = 0

    def start_table(self):
        self.memory = self.memory_folder()
        self.agent = self.driver("table_agent", self.memory, self.sessions)
        self.asked, self.bytes = map(int, self.numbers(self.agent))
        os.sched_setaffinity(self.agent.pid, {self.other_core})

    def reader(self, core, *more):
        one = self.driver("drive_cache", f"cloakroom://{self.memory}/app.sock",
                          self.memory / "tokens", 64, *more, core=core)
        self.ready(one)
        return one


class Cache(bench.Bench):
    """The one that has nothing made up in it: a store on a disk, the agent as it is installed."""

    name = "cache"
    rows = (bench.Row(
        "redis", "validations that hit, shared cache, 100,000 sessions, random tokens, one thread",
        "answers/s", "hit uniform", "get uniform",
        "GET of a value of that size, Redis on a Unix socket, same core (hiredis)",
        least=40, aim=80, per_second=True),)
    questions = ("hit uniform", "get uniform")

    def start(self):
        memory = self.memory_folder()
        socket = memory / "redis.sock"
        url = self.start_agent("--cache-memory", "64M")
        self.run("make_sessions", url, memory / "tokens", 100_000, 64)
        self.spawn(["redis-server", "--port", 0, "--unixsocket", socket, "--save", "",
                    "--appendonly", "no", "--dir", self.folder], self.core)
        self.wait_for(socket.exists, "Redis")
        self.drivers = {
            "hit": self.driver("drive_cache", url, memory / "tokens", 64, core=self.core),
            "get": self.driver("drive_redis", socket, memory / "tokens", core=self.core)}
        for one in self.drivers.values():
            self.ready(one)

    def answer(self, question):
        return self.ask(self.drivers[question.split()[0]], f"{question} {SECONDS}")


class Million(TableBench):
    """One process, a core of its own, all sessions in the table. What has no bound is asked, too, to
    be shown beside the rest."""

    name = "cache_1m"
    sessions = 1_000_000
    bounds = True
    ours = ("hit", "near", "many")
    floors = ("latency", "loop", "batch", "latency-dense", "loop-dense", "batch-dense")

    def __init__(self):
        super().__init__()
        self.questions = [f"{kind} {order}" for order in ORDERS
                          for kind in (*self.ours, *self.floors, "get")]
        self.rows = tuple(self.rows_of("uniform")) if self.bounds else ()

    def rows_of(self, order):
        counted = f"validations that hit, {self.sessions:,} sessions, {order}"
        lines = "three chained cache lines"
        yield bench.Row("latency", counted, "ns", f"hit {order}", f"latency {order}",
                        f"{lines}, one chain after another", most=1.0, aim=0.7)
        yield bench.Row("loop", counted, "ns", f"hit {order}", f"loop {order}",
                        f"{lines}, chains overlapping", most=6, aim=3)
        yield bench.Row("batch", f"{counted}, in batches of 16", "ns", f"many {order}",
                        f"batch {order}", f"{lines}, in batches of 16", most=3, aim=2)
        yield bench.Row("lmdb", counted, "answers/s", f"hit {order}", f"get {order}",
                        "LMDB: read transaction renewed, the token's text found, value copied",
                        least=2.5, aim=5, per_second=True)

    def start(self):
        self.start_table()
        rollup = pathlib.Path(f"/proc/{self.agent.pid}/smaps_rollup").read_text(encoding="ascii")
        sizes = re.findall(r"^(?:ShmemPmdMapped|Private_Hugetlb):\s*(\d+)", rollup, re.MULTILINE)
        self.figures = {"huge_mib": sum(map(int, sizes)) // 1024}
        floor = self.driver("drive_floor", self.bytes, self.asked, core=self.core)
        lmdb = self.memory / "lmdb"
        lmdb.mkdir()
        lmdb = self.driver("drive_lmdb", lmdb, self.memory / "tokens", core=self.core)
        self.ready(floor), self.ready(lmdb)
        self.drivers = {"get": lmdb, **dict.fromkeys(self.floors, floor),
                        **dict.fromkeys(self.ours, self.reader(self.core))}

    def answer(self, question):
        return self.ask(self.drivers[question.split()[0]], f"{question} {SECONDS}")


class TenMillion(Million):
    name = "cache_10m"
    sessions = 10_000_000


class TenThousand(Million):
    """All of it near the processor: no bound is set for so few."""

    name = "cache_10k"
    sessions = 10_000
    bounds = False


class Readers(TableBench):
    """Readers beside each other and beside the agent, which writes once for a hundred validations:
    sessions that end, others in their stead, uses that are noted."""

    name = "cache_readers"
    sessions = 1_000_000
    cores = 2
    rows = (
        bench.Row("two", "validations by two processes on two cores, 1 % writes by the agent",
                  "answers/s", "two", "one", "one process", least=1.6, aim=1.9),
        bench.Row("p99", "a validation's time, 99th of 100, four readers on two cores, 1 % writes",
                  "ns", "p99 four", "p99 one", "one reader", most=2),
        bench.Row("p99.9", "the same, 999th of 1000", "ns", "p99.9 four", most=10_000),
    )
    questions = ()

    def start(self):
        self.start_table()
        self.readers = [self.reader((self.core, self.other_core)[number % 2],
                                    self.memory / "pace", number) for number in range(READERS)]
        self.ask(self.agent, str(WRITES_PER_MILLE))
        self.figures = {"times one": [], "times four": []}

    def together(self, count, question):
        """What each of the first `count` readers answers, all at work at once."""
        for reader in self.readers[:count]:
            reader.stdin.write(f"{question} uniform {READ_SECONDS}\n")
            reader.stdin.flush()
        return [self.numbers(reader) for reader in self.readers[:count]]

    def times(self, count):
        """{99: ns, 99.9: ns}, less what reading the clock takes."""
        answers = self.together(count, "times")
        cost = min(answer[0] for answer in answers)
        bins = [sum(column) for column in zip(*(answer[1:] for answer in answers))]
        self.figures["times one" if count == 1 else "times four"] = \
            [cost, *map(int, bins)]  # of the last round
        return {share: percentile(bins, share) - cost for share in (99, 99.9)}

    def round(self):
        before = self.written()
        one = sum(1e9 / answer[0] for answer in self.together(1, "paced"))
        two = sum(1e9 / answer[0] for answer in self.together(2, "paced"))
        alone, four = self.times(1), self.times(READERS)
        done, writes = (now - then for now, then in zip(self.written(), before))
        if writes < 0.95 * done * WRITES_PER_MILLE / 1000:
            raise RuntimeError(f"the agent wrote {writes} times beside {done} validations")
        return {"one": one, "two": two, "p99 one": alone[99], "p99 four": four[99],
                "p99.9 one": alone[99.9], "p99.9 four": four[99.9]}

    def written(self):
        """(validations, writes) so far."""
        page = (self.memory / "pace").read_bytes()
        return (sum(struct.unpack_from("Q", page, 64 * reader)[0] for reader in range(READERS)),
                struct.unpack_from("Q", page, PACE_WRITES_AT)[0])


def percentile(bins, share):
    """The upper edge of the bin in which it lies."""
    left = sum(bins) * share / 100
    for number, count in enumerate(bins):
        left -= count
        if left <= 0:
            return 2 ** ((number + 1) / BINS_OCTAVE)
    return float("inf")


class End(bench.Bench):
    """Ending all sessions of a user takes as long for a million as for one."""

    name = "cache_end"
    rows = (
        bench.Row("table 1000", "the table's part of ending a user's 1,000 sessions", "ns",
                  "end 1000", "end 1", "a user with one session", most=1.3),
        bench.Row("table 1m", "the table's part of ending a user's 1,000,000 sessions", "ns",
                  "end 1000000", "end 1", "a user with one session", most=1.3),
        bench.Row("table time", "the table's part of ending a user's 1,000,000 sessions", "ns",
                  "end 1000000", most=1000),
    )
    questions = ("end 1", "end 1000", "end 1000000")

    def start(self):
        self.program = self.driver("drive_table", core=self.core)
        self.ready(self.program)

    def round(self):
        self.ask(self.program, "fill")
        return super().round()


class Bytes(End):
    name = "cache_bytes"
    rows = (bench.Row("", "bytes of the segment a session, user of 16 and data of 64 bytes, before "
                      "1 % of inserts push a live one out", "bytes", "bytes", most=192, aim=160),)
    questions = ("bytes",)
    round = bench.Bench.round
