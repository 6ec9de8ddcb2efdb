# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: pairs of runs, a quiet core, processes that end.

A benchmark is a module bench/bench_NAME.py with a class that inherits Bench. `./dev bench` finds it,
enters it (which starts its processes), asks `ours` and `theirs` turn by turn, and leaves it.

A figure is believed only when nobody else used the cores meanwhile: a loop that does nothing but
count, run before and after each pair, must have had its core to itself. Otherwise the pair is
measured again, and when there is no peace the run is refused. A ratio of two programs that fight
with a third says nothing.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("CLOAKROOM_BUILD") or ROOT / "build")
PROGRAM = BUILD / "cloakroom"

PAIRS = 5
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


class Bench:
    """One figure and its peer. A subclass sets these and defines `start`, `ours` and `theirs`."""

    name = ""
    figure = ""  # what is counted, for people
    peer = ""
    unit = ""
    bound = 0.0  # ours / theirs, at least
    cores = 1  # how many must be quiet

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

    def start(self):
        """Start what is measured, with spawn()."""
        raise NotImplementedError

    def ours(self):
        """One run of ours: how many a second."""
        raise NotImplementedError

    def theirs(self):
        raise NotImplementedError

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
        line = driver.stdout.readline()
        if not line:
            raise RuntimeError(f"a driver ended:\n{self.log()}")
        return float(line)


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


def measure(bench, anyway=False):
    """A row of results. Raises Refused."""
    ours, theirs = [], []
    until = time.monotonic() + PATIENCE_SECONDS
    bench.ours(), bench.theirs()  # caches, connections
    while len(ours) < PAIRS:
        before = quiet(bench)
        if before or anyway:
            a, b = bench.ours(), bench.theirs()
            if anyway or quiet(bench):
                ours.append(a)
                theirs.append(b)
                until = time.monotonic() + PATIENCE_SECONDS
                continue
        if time.monotonic() > until:
            raise Refused(f"others use the cores: for {PATIENCE_SECONDS} s no loop got "
                          f"{SPIN_SHARE:.0%} of its core. Stop them and measure again")
        time.sleep(0.5)
    ratios = [a / b for a, b in zip(ours, theirs)]
    ratio = statistics.median(ratios)
    return {"name": bench.name, "figure": bench.figure, "peer": bench.peer, "unit": bench.unit,
            "ours": statistics.median(ours), "theirs": statistics.median(theirs),
            "ratio": ratio, "bound": bench.bound, "ok": ratio >= bench.bound,
            "ratio_least": min(ratios), "ratio_most": max(ratios),
            "quiet": not anyway, "ours_all": ours, "theirs_all": theirs}
