#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the models: python3 model/run.py [--large] [--trail] [MODEL [RUN]]

The comment that a model begins with holds its runs, one a line:

    run NAME small|large holds|fails [-DMACRO[=value]...]

`holds`: every state that can be reached was looked at, and no claim fails in any. `fails`: a mutant,
whose macro is its name in capitals; a claim must fail. A model with an ltl claim under some macro is
searched for acceptance cycles there, too.

--trail prints, for one run that fails, the steps that lead there.
"""

import argparse
import concurrent.futures
import dataclasses
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).resolve().parent
JOBS = 2
DEPTH = 1_000_000
TRAIL_LINES = 400
# Of the processor's time, so that a busy machine makes no difference; of memory, in megabytes.
SECONDS = {"small": 60, "large": 400}
MEGABYTES = {"small": 2000, "large": 6000}

RUN_LINE = re.compile(r"(\w+) +(small|large) +(holds|fails)((?: +-D\w+(?:=\w+)?)*)")
CLAIM_FAILS = re.compile(r"^pan:\d+: (assertion violated \(.*|acceptance cycle.*|claim violated.*)$", re.M)


class Wrong(Exception):
    """A model, or its table, that is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Run:
    path: pathlib.Path
    name: str
    size: str
    fails: bool
    flags: tuple

    @property
    def title(self):
        return f"{self.path.stem}__{self.name}"


@dataclasses.dataclass
class Result:
    run: Run
    wrong: str  # empty when all is as it should be
    claim: str = ""  # what failed
    states: int = 0
    seconds: float = 0.0
    trail: str = ""


# ---- tables


def runs_of(path):
    """The runs of a model, in their order."""
    text = path.read_text(encoding="utf-8")
    comment = re.search(r"/\*(?! SPDX)(.*?)\*/", text, re.S)
    found = []
    for line in comment.group(1).splitlines() if comment else ():
        line = line.strip().removeprefix("*").strip()
        if not line.startswith("run "):
            continue
        words = RUN_LINE.fullmatch(line.removeprefix("run ").strip())
        if words is None:
            raise Wrong(f"{path.name}: not a run: {line}")
        name, size, end, flags = words.groups()
        found.append(Run(path, name, size, end == "fails", tuple(flags.split())))
    check_table(path, found)
    return found


def check_table(path, runs):
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise Wrong(f"{path.name}: two runs are called {name}")
    if not any(not run.fails for run in runs):
        raise Wrong(f"{path.name}: no run holds")
    for run in runs:
        macro = f"-D{run.name.upper()}"
        if not run.fails:
            continue
        if macro not in run.flags:
            raise Wrong(f"{path.name}: {run.name} is not broken by {macro}")
        rest = [flag for flag in run.flags if flag != macro]
        if not any(not other.fails and covers(other.flags, rest) for other in runs):
            raise Wrong(f"{path.name}: no run says that {run.name} holds without {macro}")


def covers(whole, part):
    """
    Whether all that may happen with the flags `part` may happen with those of `whole`. -DNO_… takes
    something away, another flag or a larger number adds something; -DHEALING asks for something else.
    """
    def split(flags):
        pairs = dict((flag.split("=") + [""])[:2] for flag in flags)
        return ({name for name in pairs if name.startswith("-DNO_")},
                {name: value for name, value in pairs.items() if not name.startswith("-DNO_")})

    whole_less, whole_more = split(whole)
    part_less, part_more = split(part)
    if ("-DHEALING" in whole_more) != ("-DHEALING" in part_more) or not whole_less <= part_less:
        return False
    for name, value in part_more.items():
        if name not in whole_more:
            return False
        other = whole_more[name]
        if other != value and not (other.isdigit() and value.isdigit() and int(other) > int(value)):
            return False
    return True


def models():
    return sorted(FOLDER.glob("*.pml"))


def all_runs():
    return [run for path in models() for run in runs_of(path)]


# ---- one run


def call(command, folder, seconds=None):
    """(status, output). The bound is one of the processor's time."""
    def limit():
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    done = subprocess.run([str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          preexec_fn=limit)
    return done.returncode, done.stdout


def compile_model(run, folder):
    """Answers whether there is an ltl claim."""
    status, said = call(["spin", *run.flags, "-a", run.path], folder)
    if status != 0 or not (folder / "pan.c").exists() or "Error:" in said:
        raise Wrong(f"spin does not take {run.path.name}: {said}")
    has_claim = bool(re.search(r"^ltl ", said, re.M))
    # Most of a small run's time would be its compilation. -O2 takes longer than it saves in a large one.
    compiler = ["tcc"] if run.size == "small" else ["gcc", "-O1"]
    options = ["-DNOFAIR", f"-DMEMLIM={MEGABYTES[run.size]}", *([] if has_claim else ["-DSAFETY"])]
    status, said = call([*compiler, "-w", *options, "-o", "pan", "pan.c"], folder)
    if status != 0:
        raise Wrong(f"{compiler[0]} does not take what spin made of {run.path.name}: {said[-2000:]}")
    return has_claim


def why_wrong(run, status, said):
    """What a search said, against what it should have. Empty when it is that."""
    claim = CLAIM_FAILS.search(said)
    errors = re.search(r"errors: (\d+)$", said, re.M)
    if run.fails:
        if claim:
            return ""
        if errors is None or errors.group(1) != "0":
            return f"it ended for another reason: {said[:600]}"
        return "the mutant holds: no claim fails"
    if claim:
        return f"it does not hold: {claim.group(1)}"
    if errors is None or errors.group(1) != "0" or status != 0 or "error:" in said or \
            "Search not completed" in said or "memory" in said.split("State-vector")[0]:
        return f"the search is not complete (status {status}): {said[:900]}"
    return ""


def read_trail(run, folder):
    trails = list(folder.glob("*.trail"))
    if not trails:
        return ""
    command = ["spin", *run.flags, "-t", "-k", trails[0].name, run.path]
    _, said = call(command, folder)
    lines = []
    for line in said.splitlines():
        if line.startswith("spin: trail ends"):
            break
        if line.strip():
            lines.append(line.strip())
    if len(lines) < 3:  # a model that does not speak
        _, said = call([*command[:1], "-p", *command[1:]], folder)
        lines = [line.strip() for line in said.splitlines() if re.match(r"\s*\d+:\s+proc", line)]
    if len(lines) > TRAIL_LINES:
        lines = [f"({len(lines) - TRAIL_LINES} steps before these)", *lines[-TRAIL_LINES:]]
    return "\n".join(lines)


def execute(run, wants_trail=False):
    """Compiles and searches in a folder of its own. A trail is there when one is wanted or tells why."""
    with tempfile.TemporaryDirectory(prefix="cr-model-") as name:
        folder = pathlib.Path(name)
        started = time.monotonic()
        try:
            has_claim = compile_model(run, folder)
        except Wrong as wrong:
            return Result(run, str(wrong))
        # What is set aside for a search takes time, too, and a mutant fails early.
        size = [f"-m{DEPTH // 10}", "-w18"] if run.fails else [f"-m{DEPTH}", "-w22"]
        search = ["./pan", *size]
        status, said = call([*search, *(["-a"] if has_claim else [])], folder, SECONDS[run.size])
        result = Result(run, why_wrong(run, status, said))
        result.seconds = time.monotonic() - started
        claim = CLAIM_FAILS.search(said)
        states = re.search(r"([\d.e+]+) states, stored", said)
        result.claim = claim.group(1) if claim else ""
        result.states = int(float(states.group(1))) if states else 0
        if wants_trail or (claim and result.wrong):
            result.trail = read_trail(run, folder)
        return result


def execute_all(runs):
    """Two at a time. Yields a future for each, in order."""
    pool = concurrent.futures.ThreadPoolExecutor(JOBS)
    return [pool.submit(execute, run) for run in runs]


def main():
    parser = argparse.ArgumentParser(prog="model/run.py", description="Run the models.")
    parser.add_argument("model", nargs="?")
    parser.add_argument("run", nargs="?")
    parser.add_argument("--large", action="store_true", help="the large runs instead of the small ones")
    parser.add_argument("--trail", action="store_true", help="the steps to what fails")
    arguments = parser.parse_args()
    for name in ("spin", "tcc"):
        if shutil.which(name) is None:
            sys.exit(f"There is no {name} here: apt-get install {name}")
    runs = [run for run in all_runs() if arguments.model in (None, run.path.stem)]
    if arguments.run:
        runs = [run for run in runs if run.name == arguments.run]
    else:
        runs = [run for run in runs if (run.size == "large") == arguments.large]
    if not runs:
        sys.exit("There is no such run.")
    wrong = False
    for future in [] if arguments.trail else execute_all(runs):
        wrong |= show(future.result())
    for run in runs if arguments.trail else []:
        wrong |= show(execute(run, True))
    return 1 if wrong else 0


def show(result):
    """Answers whether it is wrong."""
    print(f"{'WRONG' if result.wrong else 'ok   '} {result.run.title:<64} {result.states:>9} states"
          f" {result.seconds:6.1f} s  {result.claim}")
    for text in (result.wrong, result.trail):
        if text:
            print("    " + text.replace("\n", "\n    "))
    sys.stdout.flush()
    return bool(result.wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as problem:
        sys.exit(str(problem))
