# SPDX-License-Identifier: Apache-2.0
"""One test for each run of the models (model/README.md)."""

import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "model")]
sys.dont_write_bytecode = True
import run as model_run  # noqa: E402
import tap  # noqa: E402
import variants  # noqa: E402


def main(size):
    runs = [run for run in model_run.all_runs() if run.size == size]
    if size == "large":
        runs = variants.part(runs, 12)
    has_spin = shutil.which("spin") is not None
    # Ahead of the tests, so that two run at once; one that is asked for by name runs alone.
    ahead = {}
    if has_spin and len(sys.argv) == 1:
        ahead = dict(zip(runs, model_run.execute_all(runs)))

    def test_of(run):
        def test():
            if not has_spin:
                tap.skip("spin is not installed")
            result = ahead[run].result() if ahead else model_run.execute(run)
            tap.note(f"{result.states} states, {result.seconds:.1f} s. {result.claim}")
            if result.trail:
                tap.note(result.trail)
            assert not result.wrong, result.wrong

        test.__name__ = f"{run.title}__{'must_fail' if run.fails else 'holds'}"
        return test

    tap.main([test_of(run) for run in runs])
