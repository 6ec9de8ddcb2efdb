#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The test runner tells the truth about programs that go wrong in every way a program can."""

import contextlib
import io
import os
import pathlib
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "tools")]
sys.dont_write_bytecode = True
import run_tests
import tap


def outcome_of(script, seconds=20):
    program = run_tests.Program("tree/made_up", ("sh", "-c", script), ROOT / "build", "plain",
                                frozenset(["tree"]), seconds)
    return run_tests.run_program(program, False, float("inf"), ())


def said(outcome, patterns=()):
    """(whether the report was content, what it printed)"""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        good = run_tests.report(outcome, list(patterns))
    return good, text.getvalue()


def passes_fails_and_skips_are_counted():
    outcome = outcome_of("echo 1..3; echo ok 1 - a; echo 'ok 2 - b # SKIP no server'; echo not ok 3 - c; exit 1")
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, ["c"], [("b", "no server")]), outcome


# What a program does, and words of what the runner must say about it.
BAD_ENDS = [
    ("echo 1..2; echo ok 1 - a; kill -SEGV $$", "1 of 2 tests reported; ended by SIGSEGV"),
    ("echo 1..2; echo ok 1 - a; echo ok 2 - b; exit 3", "exit status 3"),
    ("echo 1..2; echo ok 1 - a", "1 of 2 tests reported"),
    ("echo 1..1; echo ok 1 - a; echo ok 2 - b", "2 of 1 tests reported"),
    ("echo hello", "no plan"),
    ("exec /no/such/program", "no plan"),
]


def a_program_that_ends_badly_has_failed():
    for script, words in BAD_ENDS:
        good, text = said(outcome_of(script))
        assert not good and words in text, f"{script}: {text}"


def a_failure_is_printed_in_full_with_the_seed_to_repeat_it():
    good, text = said(outcome_of("echo 1..1; echo '# CR_SEED=81723'; echo '# why'; echo not ok 1 - a; exit 1"))
    assert not good and "# why" in text and "again: CR_SEED=81723 sh" in text, text


def a_program_that_overruns_is_stopped():
    started = time.monotonic()
    good, text = said(outcome_of("echo 1..1; sleep 60", seconds=1))
    assert not good and "longer than 1 s" in text, text
    assert time.monotonic() - started < 20


def what_a_program_leaves_running_is_ended():
    with tempfile.TemporaryDirectory() as folder:
        note = pathlib.Path(folder) / "pid"
        outcome_of(f"echo 1..0; setsid sleep 60 & echo $! >{note}")
        status = pathlib.Path(f"/proc/{note.read_text().strip()}/status")
        # Ended, or about to be collected by whoever inherited it.
        assert not status.exists() or "State:\tZ" in status.read_text(), status.read_text()


def a_skip_must_be_expected():
    one = "echo 1..1; echo 'ok 1 - a # SKIP no server'"
    everything = "echo '1..0 # SKIP no server'"
    for script, patterns, wanted in [
        (one, [], False),
        (one, [("tree/made_up", "a", "no server")], True),
        (one, [("tree/made_up", "a", "no serv*")], True),
        (one, [("tree/made_up", "b", "no server")], False),
        (one, [("tree/other", "a", "no server")], False),
        (everything, [], False),
        (everything, [("tree/made_up", "*", "no server")], True),
    ]:
        good, text = said(outcome_of(script), patterns)
        assert good == wanted, f"{patterns}: {text}"


def a_program_may_be_interrupted_also_where_the_runner_is_not():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
    try:
        outcome = outcome_of("kill -INT $$; echo 1..1; echo ok 1 - a")
    finally:
        signal.signal(signal.SIGINT, before)
    assert "ended by SIGINT" in said(outcome)[1], said(outcome)


def a_program_finds_its_own_folder_and_the_build():
    outcome = outcome_of('echo "$TMPDIR $CLOAKROOM_BUILD $CR_TEST_SECONDS"; touch "$TMPDIR/x"')
    folder, build, seconds = outcome.output.split()
    assert not os.path.exists(folder)
    assert (build, seconds) == (str(ROOT / "build"), "20"), outcome.output


def a_script_runs_in_the_pythons_that_it_names():
    def lanes(*words):
        return list(run_tests.lanes_of(["python3", "test/python/test_x.py"], frozenset(words)))
    assert lanes("python") == lanes("python", "long") == ["newest", "debian"]
    assert lanes("python=newest") == ["newest"] and lanes("python=debian") == ["debian"]
    assert lanes("proc") == ["plain"]
    known = {program.name: program for program in run_tests.all_programs(False)}
    for lane in ("newest", "debian"):
        program = known[f"python/test_versions ({lane})"]
        assert program.command[0] == str(ROOT / "build-python" / lane / "bin" / "python3"), program
        assert program.build == ROOT / "build" and program.lane == lane, program
    assert "python/test_versions" not in known


def a_python_that_cannot_be_had_is_a_skip_with_its_reason():
    kept = run_tests.pythons.PLACE
    with tempfile.TemporaryDirectory() as folder:
        run_tests.pythons.PLACE = pathlib.Path(folder)
        try:
            run_tests.pythons.reason_file("newest").write_text("no index\n")
            program = run_tests.Program("python/made_up (newest)", ("false",), ROOT / "build", "newest",
                                        frozenset(["python"]), 20)
            outcome = run_tests.run_program(program, False, float("inf"), ())
            run_tests.pythons.reason_file("newest").unlink()
            ran = run_tests.run_program(program, False, float("inf"), ())
        finally:
            run_tests.pythons.PLACE = kept
    assert outcome.skipped == [("*", "no index")] and not outcome.failed, outcome
    assert not said(outcome)[0] and said(outcome, [("python/*", "*", "no index")])[0]
    assert ran.failed and not ran.skipped, ran


tap.main([
    passes_fails_and_skips_are_counted,
    a_program_that_ends_badly_has_failed,
    a_failure_is_printed_in_full_with_the_seed_to_repeat_it,
    a_program_that_overruns_is_stopped,
    what_a_program_leaves_running_is_ended,
    a_skip_must_be_expected,
    a_program_may_be_interrupted_also_where_the_runner_is_not,
    a_program_finds_its_own_folder_and_the_build,
    a_script_runs_in_the_pythons_that_it_names,
    a_python_that_cannot_be_had_is_a_skip_with_its_reason,
])
