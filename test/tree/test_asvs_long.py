#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long serial timeout=900
"""Each row of test/asvs.tsv: the test passes, and fails when the code is broken as the row says.

Two at a time, each in a copy of the tree (../variants.py), of which only the changed file and the
test's program are built again. CR_ASVS=A1,B2 takes only those rows.
"""

import atexit
import concurrent.futures
import functools
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import asvs  # noqa: E402
import tap  # noqa: E402
import variants  # noqa: E402

sys.path.insert(0, str(asvs.ROOT / "tools"))
import run_tests  # noqa: E402

AT_ONCE = 2
RUN_SECONDS = 240
# What scripts start, besides what they import.
SCRIPTS_NEED = ("cloakroom", "test/proc/attached")

BEGUN = time.monotonic()
LEFT_FOR_REST = 15
SECONDS = float(os.environ.get("CR_TEST_SECONDS", "900")) - LEFT_FOR_REST
CHOSEN = set(filter(None, os.environ.get("CR_ASVS", "").split(",")))
ROWS = variants.part([row for row in asvs.rows() if not CHOSEN or row.row in CHOSEN])


def targets(row):
    name = row.program.split("/")[1]
    return SCRIPTS_NEED if asvs.script(row) else (f"test/{name}",)


@functools.cache
def scratches():
    """The second is a copy of the first when that is built."""
    first = variants.Scratch("--buildtype=debug")
    atexit.register(first.remove)
    first.make(sorted({target for row in ROWS for target in targets(row)}))
    made = queue.SimpleQueue()
    made.put(first)
    for _ in range(AT_ONCE - 1):
        other = first.copy()
        atexit.register(other.remove)
        made.put(other)
    return made


def run(scratch, row):
    """Whether the test failed, and what it said."""
    name = row.program.split("/")[1]
    program = [scratch.build / "test" / name]
    if asvs.script(row):
        program = [sys.executable, scratch.source / "test" / f"{row.program}.py"]
    # What a broken program leaves running is ended, as the runner of tests does it.
    mark = f"CR_ASVS_MARK={scratch.folder.name}"
    env = dict(os.environ, CLOAKROOM_BUILD=str(scratch.build), TMPDIR=str(scratch.folder))
    env.update([mark.split("=")])
    env.pop("CR_LONG", None)
    # Into a file: who outlives the test and holds a pipe open would keep us waiting.
    with tempfile.TemporaryFile() as output:
        try:
            status = subprocess.run([*program, row.test], env=env, cwd=scratch.source,
                                    stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=subprocess.STDOUT, check=False,
                                    timeout=RUN_SECONDS).returncode
        except subprocess.TimeoutExpired:
            return True, f"it did not end within {RUN_SECONDS} s"
        finally:
            run_tests.end_leftovers(mark)
        output.seek(0)
        return status != 0, output.read().decode("utf-8", "replace")


def timed(job):
    begun = time.monotonic()
    said = tried(*job)
    return said, time.monotonic() - begun


def tried(row, broken):
    """None where all is as it should be, else what is not."""
    if time.monotonic() - BEGUN > SECONDS:
        return "not run: no time was left"
    made = scratches()
    scratch = made.get()
    try:
        if not broken:
            failed, said = run(scratch, row)
            return f"it fails unbroken\n{said[-3000:]}" if failed else None
        change = variants.variant(row.name, row.file, row.before, row.after, programs=())
        with scratch.broken(change, targets(row)):
            failed, said = run(scratch, row)
            return None if failed else f"nobody saw it\n{said[-1000:]}"
    except (AssertionError, OSError) as problem:
        return str(problem)
    finally:
        made.put(scratch)


@functools.cache
def results():
    """{(row, whether broken): (what is wrong, seconds)}"""
    scratches()
    tests = {(row.program, row.test): row for row in ROWS}
    jobs = [(row, False) for row in tests.values()] + [(row, True) for row in ROWS]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(jobs, pool.map(timed, jobs)))


def unbroken_all_tests_pass():
    wrong = [f"{row.name}: {said}" for (row, broken), (said, _) in results().items()
             if said and not broken]
    assert not wrong, "\n".join(wrong)


def test_of(row):
    def test():
        said, seconds = results()[row, True]
        tap.note(f"{seconds:.1f} s")
        assert said is None, f"{row.file}: {row.before} -> {row.after}\n{said}"

    test.__name__ = row.name
    return test


tap.main([unbroken_all_tests_pass, *map(test_of, ROWS)])
