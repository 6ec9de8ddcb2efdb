#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the test programs and adds up what they say. `./dev test` calls it.

A test program prints TAP. It is an executable that Meson built (a row in test/KIND/meson.build), or
a script test/KIND/test_*.py, which may say more about itself in a line such as
`# tap: serial long timeout=120`. What it has to tell when all is well, too, stands in lines `# told: …`.

A program finds in its environment: CLOAKROOM_BUILD (the build directory), TMPDIR (its own, removed
afterwards), CR_TEST_SECONDS (its time limit) and, with --long, CR_LONG=1. What it leaves running is
ended.

Lanes: plain; for programs that Meson built from C, also asan (address and undefined behaviour; unit,
contract, sim and fuzz) and tsan (threads; those with suite `tsan`). A script with `# tap: python` runs
in two Pythons instead (tools/pythons.py): newest, with what the package index has, and debian; one with
`python=newest` or `python=debian` in that one. Both find the Python package of this tree.

The last line is `N passed, N failed, N skipped`, counted in single tests. A skip that test/skips.txt
does not expect fails the run.
"""

import argparse
import concurrent.futures
import dataclasses
import difflib
import fnmatch
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pythons

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPS_FILE = ROOT / "test" / "skips.txt"
JOBS = 3  # of two cores: many wait for something most of the time
TIMEOUT_SECONDS = 120

# lane -> build directory, how much slower programs run there
LANES = {"plain": ("build", 1), "asan": ("build-asan", 3), "tsan": ("build-tsan", 5),
         **{lane: ("build", 1) for lane in pythons.LANES}}
SANITIZED = ("asan", "tsan")

# A sanitizer that sees something ends the program with a status that is not 0.
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}

# What the runner ignores, as in the background of a script, its children would ignore, too.
DEFAULT_SIGNALS = ("env", "--default-signal")

RESULT_LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?([^#]*?)\s*(?:#\s*(\S+)\s*(.*))?$")
PLAN_LINE = re.compile(r"^1\.\.(\d+)\s*(?:#\s*skip\S*\s*(.*))?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Program:
    name: str  # kind/program, and the lane if it is not the plain one
    command: tuple
    build: pathlib.Path
    lane: str
    suites: frozenset
    seconds: int


@dataclasses.dataclass
class Outcome:
    program: Program
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)  # texts
    skipped: list = dataclasses.field(default_factory=list)  # (test, reason)
    output: str = ""
    elapsed: float = 0.0


# ---- which programs there are


def built_programs(build):
    """(name, command, suites, seconds) of each test() that Meson knows."""
    rows = json.loads((build / "meson-info" / "intro-tests.json").read_text(encoding="utf-8"))
    for row in rows:
        suites = [suite.split(":")[-1] for suite in row["suite"]]
        yield f"{suites[0]}/{row['name']}", row["cmd"], frozenset(suites), row["timeout"]


def script_programs():
    for path in sorted((ROOT / "test").glob("*/test_*.py")):
        words = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("# tap:"):
                words = line.removeprefix("# tap:").split()
                break
        seconds = [int(word.removeprefix("timeout=")) for word in words if word.startswith("timeout=")]
        kind = path.parent.name
        # The folder is no suite: python/ is also what a script is run in.
        suites = frozenset(words if kind == "python" else [kind, *words])
        yield (f"{kind}/{path.stem}", [sys.executable, str(path)], suites,
               seconds[0] if seconds else TIMEOUT_SECONDS)


def lanes_of(command, suites):
    in_pythons = [lane for lane in pythons.LANES if suites & {"python", f"python={lane}"}]
    if in_pythons:
        yield from in_pythons
        return
    yield "plain"
    if not command[0].startswith(str(ROOT / "build")) or "long" in suites:
        return
    if suites & {"unit", "contract", "sim", "fuzz"} and "noasan" not in suites:
        yield "asan"
    if "tsan" in suites:
        yield "tsan"


def all_programs(long):
    plain_build = str(ROOT / "build")
    for name, command, suites, seconds in [*built_programs(ROOT / "build"), *script_programs()]:
        if ("long" in suites) != long:
            continue
        for lane in lanes_of(command, suites):
            folder, slower = LANES[lane]
            build = ROOT / folder
            program = command[0]
            if lane in SANITIZED:
                program = str(build) + program.removeprefix(plain_build)
            elif lane in pythons.LANES:
                program = str(pythons.interpreter(lane))
            yield Program(name if lane == "plain" else f"{name} ({lane})",
                          (program, *command[1:]), build, lane, suites, seconds * slower)


def select(programs, names):
    """Those whose name contains one of `names`. A name that finds nothing is an error."""
    if not names:
        return programs
    for name in names:
        if not any(name in program.name for program in programs):
            known = sorted({program.name.split()[0].split("/")[1] for program in programs})
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else f" There are: {', '.join(known)}."
            sys.exit(f"No test's name contains '{name}'.{hint}")
    return [program for program in programs if any(name in program.name for name in names)]


def build_lane(lane, programs):
    """Only what will run: a sanitizer build of the rest would be for nothing."""
    build = ROOT / LANES[lane][0]
    targets = sorted({str(pathlib.Path(program.command[0]).relative_to(build))
                      for program in programs if program.lane == lane})
    command = ["ninja", "-C", str(build), *targets]
    if sys.stdout.isatty():
        run = subprocess.run(command, check=False)
    else:
        run = subprocess.run([*command, "--quiet"], stdout=subprocess.PIPE, text=True, check=False)
        print(run.stdout.replace("ninja: no work to do.\n", ""), end="", flush=True)
    if run.returncode != 0:
        print(f"The {lane} build failed.\n0 passed, 1 failed, 0 skipped")
        sys.exit(1)


# ---- running one


def fixed_addresses():
    """A prefix that switches address randomisation off: old sanitizers fail by chance with much of it."""
    prefix = ("setarch", "-R")
    if shutil.which(prefix[0]) is None:
        return ()
    run = subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False)
    return prefix if run.returncode == 0 else ()


def end_leftovers(mark):
    """Ends every process that inherited `mark`, also one that left the test's process group."""
    wanted = mark.encode()
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                found.append(folder.name)
        except OSError:
            continue  # gone, or not ours
    return found


def run_program(program, long, deadline, prefix):
    outcome = Outcome(program)
    seconds = min(program.seconds, deadline - time.monotonic())
    if seconds <= 0:
        outcome.failed.append("not run: no time was left")
        return outcome
    if program.lane in pythons.LANES:
        reason = pythons.why_unavailable(program.lane)
        if reason:
            outcome.skipped.append(("*", reason))
            return outcome
    folder = tempfile.mkdtemp(prefix="cr-")
    mark = f"CR_TEST_MARK={os.getpid()}-{pathlib.Path(folder).name}"
    env = dict(os.environ, CLOAKROOM_BUILD=str(program.build), TMPDIR=folder,
               CR_TEST_SECONDS=str(int(seconds)), PYTHONUNBUFFERED="1")
    env.update([mark.split("=")])
    if long:
        env["CR_LONG"] = "1"
    command = [*DEFAULT_SIGNALS, *program.command]
    if program.lane == "debian":
        env["PYTHONNOUSERSITE"] = "1"  # Debian's packages, and no others
    if program.lane in SANITIZED:
        env.update(SANITIZER_ENV)
        command = [*prefix, *command]
    started = time.monotonic()
    # Into a file: a daemon that outlives its test and holds a pipe open would keep us waiting.
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output,
                              stderr=subprocess.STDOUT, start_new_session=True) as child:
            try:
                status = child.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        end_leftovers(mark)
        output.seek(0)
        outcome.output = output.read().decode("utf-8", "replace")
    shutil.rmtree(folder, ignore_errors=True)
    outcome.elapsed = time.monotonic() - started
    read_tap(outcome, status, seconds)
    return outcome


def read_tap(outcome, status, seconds):
    planned = None
    seen = 0
    for line in outcome.output.splitlines():
        plan = PLAN_LINE.match(line)
        if plan:
            planned = int(plan.group(1))
            if planned == 0:
                outcome.skipped.append(("*", plan.group(2) or "no reason given"))
            continue
        result = RESULT_LINE.match(line)
        if not result:
            continue
        seen += 1
        bad, _, test, directive, text = result.groups()
        if bad:
            outcome.failed.append(test)
        elif directive and directive.lower().startswith("skip"):
            outcome.skipped.append((test, text or "no reason given"))
        else:
            outcome.passed += 1
    if status is None:
        outcome.failed.append(f"stopped: it took longer than {seconds:.0f} s")
    elif planned is None:
        outcome.failed.append(f"no plan (1..N) in its output; {status_text(status)}")
    elif planned != seen:
        outcome.failed.append(f"{seen} of {planned} tests reported; {status_text(status)}")
    elif status != 0 and not outcome.failed:
        outcome.failed.append(f"all tests passed, but {status_text(status)}")


def status_text(status):
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


# ---- adding up


def expected_skips():
    """(program, test, reason) patterns; the file explains itself."""
    for line in SKIPS_FILE.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield tuple(field.strip() for field in line.split("|"))


def is_expected(program, skip, patterns):
    fields = (program.name.split()[0], *skip)
    return any(len(pattern) == 3 and all(map(fnmatch.fnmatchcase, fields, pattern))
               for pattern in patterns)


def report(outcome, patterns):
    """Prints one line, and everything where something is wrong. Answers whether nothing is."""
    surprises = [skip for skip in outcome.skipped
                 if not is_expected(outcome.program, skip, patterns)]
    good = not outcome.failed and not surprises
    counts = [f"{outcome.passed} passed"]
    if outcome.failed:
        counts.append(f"{len(outcome.failed)} failed")
    if outcome.skipped:
        counts.append(f"{len(outcome.skipped)} skipped")
    print(f"{'ok  ' if good else 'FAIL'}  {outcome.program.name:<44} {', '.join(counts):<24}"
          f" {outcome.elapsed:6.2f} s", flush=True)
    if good:
        for line in outcome.output.splitlines():
            if line.startswith("# told: "):
                print(f"      {line.removeprefix('# told: ')}")
    if outcome.failed:
        for line in outcome.output.splitlines():
            print(f"      | {line}")
        for text in outcome.failed:
            print(f"      failed: {text}")
        seed = re.search(r"CR_SEED=\d+", outcome.output)
        command = " ".join(outcome.program.command).replace(f"{ROOT}/", "")
        print(f"      again: {seed.group(0) + ' ' if seed else ''}{command}")
    for test, reason in surprises:
        print(f"      skipped, and test/skips.txt does not expect it:"
              f" {outcome.program.name.split()[0]} | {test} | {reason}")
    sys.stdout.flush()
    return good


def run_all(programs, arguments, patterns):
    """Some at a time, then the serial ones alone. Yields (outcome, whether it is good)."""
    deadline = time.monotonic() + arguments.within
    prefix = fixed_addresses() if any(program.lane in SANITIZED for program in programs) else ()
    lock = threading.Lock()

    def run_and_report(program):
        outcome = run_program(program, arguments.long, deadline, prefix)
        with lock:
            return outcome, report(outcome, patterns)

    beside = [program for program in programs if "serial" not in program.suites]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        yield from pool.map(run_and_report, beside)
    for program in programs:
        if "serial" in program.suites:
            yield run_and_report(program)


def main():
    parser = argparse.ArgumentParser(prog="./dev test", description="Run the tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only programs whose name contains it")
    parser.add_argument("--long", action="store_true", help="the long ones, and only those")
    parser.add_argument("--lane", choices=LANES, action="append", help="only this lane")
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS",
                        help="what has not ended by then has failed")
    parser.add_argument("--list", action="store_true", help="name the programs and stop")
    arguments = parser.parse_args()

    programs = select(list(all_programs(arguments.long)), arguments.names)
    if arguments.lane:
        programs = [program for program in programs if program.lane in arguments.lane]
    if arguments.list:
        for program in programs:
            print(program.name)
        return 0
    patterns = list(expected_skips())
    for lane in SANITIZED:
        if any(program.lane == lane for program in programs):
            build_lane(lane, programs)
    results = list(run_all(programs, arguments, patterns))
    passed = sum(outcome.passed for outcome, _ in results)
    failed = sum(len(outcome.failed) for outcome, _ in results)
    skipped = sum(len(outcome.skipped) for outcome, _ in results)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
