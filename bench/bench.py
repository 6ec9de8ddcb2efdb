# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: rounds of questions, a quiet core, processes that end.

A benchmark is a module bench/bench_NAME.py with a class that inherits Bench. `./dev bench` finds it,
enters it (which starts its processes), asks all its questions in turn, five times over, and leaves
it. Its rows say what is compared with what, and how it must come out.

A figure is believed only when nobody else used the cores meanwhile: a loop that does nothing but
count, run before and after each round, must have had its core to itself. Otherwise the round is
measured again, and when there is no peace the run is refused. A ratio of two programs that fight
with a third says nothing.
"""

import contextlib
import dataclasses
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("CLOAKROOM_BUILD") or ROOT / "build")
PROGRAM = BUILD / "cloakroom"

ROUNDS = 5
SPIN_SECONDS = 0.15
SPIN_SHARE = 0.97  # of a core that a loop must get
PATIENCE_SECONDS = 60


class Refused(Exception):
    """The figures would say nothing; why."""


def core_share(core):
    """What share of `core` a loop gets that wants all of it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        wall, used = time.monotonic(), time.process_time()
        while time.monotonic() - wall < SPIN_SECONDS:
            pass
        return (time.process_time() - used) / (time.monotonic() - wall)
    finally:
        os.sched_setaffinity(0, before)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results: a question's answer beside another's, or beside a bound of its own.
    Answers are times or counts as their question says; a row `per_second` turns nanoseconds into
    a rate. Without a bound it is only shown."""

    name: str  # after the benchmark's; empty where it has one row
    figure: str  # what is counted, for people
    unit: str
    ours: str = "ours"  # questions
    theirs: str = ""  # empty: the bound is of the figure itself
    peer: str = ""
    least: float = None  # the bound of ours / theirs, of one kind or the other
    most: float = None
    aim: float = None
    per_second: bool = False

    def values(self, answers):
        """(ours, theirs or None, what the bound is of) in one round."""
        ours, theirs = (answers[question] if question else None
                        for question in (self.ours, self.theirs))
        if self.per_second:
            ours, theirs = 1e9 / ours, 1e9 / theirs if theirs else None
        return ours, theirs, ours if theirs is None else ours / theirs

    def holds(self, value, bound):
        return bound is None or (value >= bound if self.least is not None else value <= bound)


class Bench:
    """What is started together and asked in turn. A subclass sets these and defines `start`."""

    name = ""
    rows = ()
    questions = ("ours", "theirs")
    cores = 1  # how many must be quiet
    program = None  # the driver whom `answer` asks
    figures = {}  # for charts, beside the answers

    def __init__(self):
        self.stack = contextlib.ExitStack()
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            raise Refused("one core is measured and another one measures: two are needed")
        # The first is where interrupts go.
        self.core, self.other_core = available[-1], available[0]

    def __enter__(self):
        with self.stack:
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cloakroom-bench-"))
            self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.start()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def memory_folder(self):
        """A folder that is not on a disk: what stands there is read, never synced."""
        path = tempfile.mkdtemp(prefix="cloakroom-bench-", dir="/dev/shm")
        self.stack.callback(shutil.rmtree, path, ignore_errors=True)
        return pathlib.Path(path)

    def start(self):
        """Start what is measured, with spawn()."""
        raise NotImplementedError

    def answer(self, question):
        """One answer, a number."""
        return self.ask(self.program, question)

    def round(self):
        """Every question's answer, by question."""
        return {question: self.answer(question) for question in self.questions}

    def spawn(self, command, core=None, **more):
        """A child that ends with the benchmark; on `core`, where one is given."""
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        log = open(self.folder / "log", "ab")
        self.stack.callback(log.close)
        child = subprocess.Popen([str(word) for word in command], stderr=log,
                                 **{"stdout": log, "stdin": subprocess.DEVNULL, **more})
        self.stack.callback(end, child)
        return child

    def log(self):
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def wait_for(self, ready, what, seconds=30):
        """Until ready() answers something true."""
        until = time.monotonic() + seconds
        while True:
            answer = ready()
            if answer:
                return answer
            if time.monotonic() > until:
                raise RuntimeError(f"{what} did not come up within {seconds} s:\n{self.log()}")
            time.sleep(0.02)

    def start_agent(self, *arguments):
        """An agent over a new SQLite store in the benchmark's folder; the URL to open it by."""
        state = self.folder / "state"
        agent = self.spawn([PROGRAM, "agent", "--state", state, "--store",
                            f"sqlite://{self.folder}/cloakroom.db", *arguments])
        self.wait_for(lambda: (state / "app.sock").exists() or agent.poll() is not None,
                      "the agent")
        if agent.poll() is not None:
            raise RuntimeError(f"the agent ended:\n{self.log()}")
        return f"cloakroom://{state}/app.sock"

    def run(self, name, *arguments):
        """A program of ours that gets something ready and ends."""
        with open(self.folder / "log", "ab") as log:
            done = subprocess.run([str(word) for word in (BUILD / "bench" / name, *arguments)],
                                  stdout=log, stderr=log, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{self.log()}")

    @contextlib.contextmanager
    def passing(self):
        """What is spawned inside ends with it."""
        kept, self.stack = self.stack, contextlib.ExitStack()
        try:
            with self.stack:
                yield
        finally:
            self.stack = kept

    def driver(self, name, *arguments, core=None):
        """A program that measures when it is told so; ask() tells it."""
        return self.spawn([BUILD / "bench" / name, *arguments], core, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True)

    def ask(self, driver, question):
        """The number that the driver answers."""
        driver.stdin.write(question + "\n")
        driver.stdin.flush()
        return self.ready(driver)

    def ready(self, driver):
        """The next number that the driver says; the first one only means that it is ready."""
        return self.numbers(driver)[0]

    def numbers(self, driver):
        """All numbers of its next line."""
        line = driver.stdout.readline()
        if not line:
            raise RuntimeError(f"a driver ended:\n{self.log()}")
        return [float(word) for word in line.split()]


def end(child):
    """Politely, then for good."""
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def quiet(bench):
    cores = [bench.core, bench.other_core][:bench.cores]
    return min(core_share(core) for core in cores) >= SPIN_SHARE


def rounds(bench, anyway):
    """ROUNDS rounds in peace. Raises Refused."""
    answers = []
    until = time.monotonic() + PATIENCE_SECONDS
    bench.round()  # caches, connections
    while len(answers) < ROUNDS:
        if anyway or quiet(bench):
            one = bench.round()
            if anyway or quiet(bench):
                answers.append(one)
                until = time.monotonic() + PATIENCE_SECONDS
                continue
        if time.monotonic() > until:
            raise Refused(f"others use the cores: for {PATIENCE_SECONDS} s no loop got "
                          f"{SPIN_SHARE:.0%} of its core. Stop them and measure again")
        time.sleep(0.5)
    return answers


def result(bench, row, answers, anyway):
    ours, theirs, ratios = zip(*map(row.values, answers))
    ratio = statistics.median(ratios)
    bound = row.most if row.least is None else row.least
    return {"name": f"{bench.name} {row.name}".strip(), "figure": row.figure, "peer": row.peer,
            "unit": row.unit, "ours": statistics.median(ours),
            "theirs": statistics.median(theirs) if row.theirs else None,
            "ratio": ratio, "ratio_least": min(ratios), "ratio_most": max(ratios),
            "bound": bound, "at_most": row.most is not None, "aim": row.aim,
            "ok": row.holds(ratio, bound), "aim_met": row.holds(ratio, row.aim),
            "quiet": not anyway, "ours_all": ours, "theirs_all": theirs if row.theirs else None}


def measure(bench, anyway=False):
    """(rows of results, every question's answers). Raises Refused."""
    answers = rounds(bench, anyway)
    return ([result(bench, row, answers, anyway) for row in bench.rows],
            {question: [one[question] for one in answers] for question in answers[0]})


def machine():
    """What the figures depend on, for who reads them elsewhere."""
    def first(path, pattern):
        found = re.search(pattern, pathlib.Path(path).read_text(encoding="utf-8"), re.MULTILINE)
        return found.group(1) if found else "unknown"
    return {"processor": first("/proc/cpuinfo", r"^model name\s*: (.*)$"),
            "cores": os.cpu_count(), "virtual": "hypervisor" in first("/proc/cpuinfo", r"^flags(.*)$"),
            "memory_gib": round(int(first("/proc/meminfo", r"^MemTotal:\s*(\d+)")) / 2**20),
            "kernel": platform.release(),
            "clock": first("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                           r"(.*)"),
            "page_bytes": os.sysconf("SC_PAGE_SIZE"),
            "day": time.strftime("%Y-%m-%d", time.gmtime())}


def number(value):
    """Three digits that say something, for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bound_text(row, which):
    return "" if row[which] is None else f"{'<=' if row['at_most'] else '>='} {row[which]:g}"
