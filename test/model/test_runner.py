#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The models' runner tells the truth about models that go wrong in every way one can."""

import contextlib
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "model")]
sys.dont_write_bytecode = True
import run as model_run  # noqa: E402
import tap  # noqa: E402

COUNTS = """
byte count;
active proctype counter()
{
    do
    :: count < 100 -> count++
    :: count == 100 -> break
    od
#ifdef ONE_TOO_MANY
    count++;
#endif
#ifdef STUCK
    false;
#endif
#ifdef A_PLACE_THAT_IS_NOT_THERE
    byte places[2];
    places[count] = 1;
#endif
    assert(count == 100)
}
#ifdef ARRIVES
ltl arrives { <> (count == 100) }
#endif
#ifdef NEVER_ARRIVES
ltl never_arrives { <> (count == 102) }
#endif
"""


@contextlib.contextmanager
def model(table, text=COUNTS):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "counts.pml"
        lines = "\n".join(f" * {line}" for line in table)
        path.write_text(f"/* SPDX-License-Identifier: Apache-2.0 */\n/*\n{lines}\n */\n{text}", encoding="utf-8")
        yield path


def result_of(*table, number=-1, text=COUNTS, wants_trail=False):
    if shutil.which("spin") is None:
        tap.skip("spin is not installed")
    with model(table, text) as path:
        return model_run.execute(model_run.runs_of(path)[number], wants_trail)


def refusal_of(*table):
    with model(table) as path:
        try:
            model_run.runs_of(path)
        except model_run.Wrong as wrong:
            return str(wrong)
    return ""


HOLDS = "run counts small holds"


def what_holds_and_what_fails_are_as_they_should_be():
    result = result_of(HOLDS)
    assert not result.wrong and result.states > 100, result
    result = result_of(HOLDS, "run one_too_many small fails -DONE_TOO_MANY")
    assert not result.wrong and "count==100" in result.claim, result


def a_claim_about_all_time_is_searched_for_cycles():
    assert not result_of("run counts small holds -DARRIVES").wrong
    result = result_of("run counts small holds -DNEVER_ARRIVES")
    assert "acceptance cycle" in result.wrong or "claim" in result.wrong, result
    result = result_of(HOLDS, "run never_arrives small fails -DNEVER_ARRIVES")
    assert not result.wrong, result


def a_mutant_that_holds_is_noticed():
    result = result_of(HOLDS, "run one_too_few small fails -DONE_TOO_FEW")
    assert "the mutant holds" in result.wrong, result


def a_mutant_that_ends_for_another_reason_is_noticed():
    result = result_of(HOLDS, "run stuck small fails -DSTUCK")
    assert "another reason" in result.wrong, result
    result = result_of(HOLDS, "run a_place_that_is_not_there small fails -DA_PLACE_THAT_IS_NOT_THERE")
    assert "another reason" in result.wrong, result


def what_does_not_hold_is_noticed_with_its_trail():
    result = result_of("run counts small holds -DONE_TOO_MANY")
    assert "does not hold" in result.wrong, result
    assert "count" in result.trail, result


def a_model_that_stops_is_noticed():
    result = result_of("run counts small holds -DSTUCK")
    assert "not complete" in result.wrong and "invalid end state" in result.wrong, result


def a_search_that_is_not_deep_enough_is_noticed():
    depth = model_run.DEPTH
    model_run.DEPTH = 50
    try:
        result = result_of(HOLDS)
    finally:
        model_run.DEPTH = depth
    assert "not complete" in result.wrong and "depth too small" in result.wrong, result


WIDE = "int a, b;\nactive proctype x() { do :: a = a + b od }\nactive proctype y() { do :: b = b * 3 + a + 1 od }\n"


def a_search_that_is_out_of_memory_or_time_is_noticed():
    megabytes, seconds = dict(model_run.MEGABYTES), dict(model_run.SECONDS)
    try:
        model_run.MEGABYTES["small"] = 120
        result = result_of(HOLDS, text=WIDE)
        assert "not complete" in result.wrong and "MEMLIM" in result.wrong, result
        model_run.MEGABYTES["small"] = 20000
        model_run.SECONDS["small"] = 1
        result = result_of(HOLDS, text=WIDE)
        assert "not complete" in result.wrong, result
    finally:
        model_run.MEGABYTES.update(megabytes)
        model_run.SECONDS.update(seconds)


def a_model_that_spin_or_the_compiler_does_not_take_is_noticed():
    result = result_of(HOLDS, text="active proctype x() { nonsense }")
    assert "spin does not take" in result.wrong, result
    result = result_of(HOLDS, text="active proctype x() { c_code { nonsense } }")
    assert "tcc does not take" in result.wrong, result


def a_line_that_says_nothing_is_refused():
    assert "not a run" in refusal_of("run counts tiny holds")
    assert "not a run" in refusal_of("run counts small")
    assert "not a run" in refusal_of("run counts small holds NO_DASH")
    assert "no run holds" in refusal_of("nothing")
    assert "two runs" in refusal_of(HOLDS, HOLDS)
    assert not refusal_of(HOLDS)


def a_mutant_is_what_its_name_says_beside_a_run_that_holds():
    assert "not broken by" in refusal_of(HOLDS, "run one_too_many small fails -DANOTHER")
    assert "holds without" in refusal_of(HOLDS, "run x small fails -DX -DMORE")
    assert "holds without" in refusal_of("run counts small holds -DN=1", "run x small fails -DX -DN=2")
    assert "holds without" in refusal_of("run counts small holds -DNO_LOSS", "run x small fails -DX")
    assert "holds without" in refusal_of("run counts small holds -DHEALING", "run x small fails -DX")
    assert not refusal_of("run counts small holds -DN=2 -DMORE", "run x small fails -DX -DN=1 -DNO_LOSS")


tap.main([what_holds_and_what_fails_are_as_they_should_be, a_claim_about_all_time_is_searched_for_cycles,
          a_mutant_that_holds_is_noticed, a_mutant_that_ends_for_another_reason_is_noticed,
          what_does_not_hold_is_noticed_with_its_trail, a_model_that_stops_is_noticed,
          a_search_that_is_not_deep_enough_is_noticed, a_search_that_is_out_of_memory_or_time_is_noticed,
          a_model_that_spin_or_the_compiler_does_not_take_is_noticed, a_line_that_says_nothing_is_refused,
          a_mutant_is_what_its_name_says_beside_a_run_that_holds])
