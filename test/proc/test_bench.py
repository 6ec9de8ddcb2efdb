#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""The benchmarks run, and write down what they found. No figure is looked at: only a quiet machine
says something about those."""

import json
import os
import pathlib
import re
import shutil
import sys
import xml.etree.ElementTree

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

os.environ["CLOAKROOM_BUILD"] = str(scratch.PROGRAM.parent)
sys.path.insert(0, str(scratch.ROOT / "bench"))
import bench
import bench_cache
import charts
import run

PAGE = scratch.ROOT / "doc" / "performance.md"
SHORT = 0.01


def found_in_a_hurry(*kinds):
    bench.ROUNDS, bench_cache.SECONDS = 2, SHORT
    found, _ = run.run(kinds, True, lambda rows: None)
    assert not any("refused" in row for row in found["benches"]), found
    return found


def results_are_written_into_the_page_with_pictures():
    if not (bench.BUILD / "bench" / "drive_lmdb").exists():
        return tap.skip("liblmdb-dev is not installed")
    folder = scratch.folder("doc")
    shutil.copy(PAGE, folder)
    found = found_in_a_hurry(bench_cache.TenThousand, bench_cache.Bytes)
    assert json.loads(json.dumps(found))["machine"]["kernel"]
    for _ in range(2):  # over what was there before, too
        charts.write(found, folder)
    text = (folder / PAGE.name).read_text(encoding="utf-8")
    for row in found["benches"]:
        assert text.count(f"| `{row['name']}` |") == 1, row["name"]
    for name in ("bench-uniform.svg", "bench-zipf.svg"):
        drawn = xml.etree.ElementTree.parse(folder / name)
        assert drawn.findall(".//{*}polyline"), name


def around_the_results(text):
    return text[:text.index(charts.BEGIN)], text[text.index(charts.END):]


def nothing_but_the_results_changes_when_they_are_written():
    folder = scratch.folder("doc")
    written = folder / PAGE.name
    shutil.copy(PAGE, folder)
    found = {"machine": bench.machine(), "benches": [], "answers": {}, "figures": {}}
    for _ in range(2):
        charts.write(found, folder)
        assert around_the_results(written.read_text()) == around_the_results(PAGE.read_text())


def what_was_measured_in_python_has_marks_of_its_own():
    folder = scratch.folder("doc")
    written = folder / PAGE.name
    shutil.copy(PAGE, folder)
    row = bench.Row("redis", "validations", "answers/s", theirs="theirs", least=100)

    class Python(bench.Bench):
        name = "python"
    found = {"machine": bench.machine(), "answers": {}, "figures": {},
             "benches": [bench.result(Python, row, [{"ours": 300, "theirs": 2}] * 3, False)]}
    before = PAGE.read_text()
    for _ in range(2):
        charts.write(found, folder)
        text = written.read_text()
        assert text.count("| `python redis` |") == 1, text
        begin, end = text.index(charts.PYTHON_BEGIN), text.index(charts.PYTHON_END)
        assert begin < text.index("| `python redis` |") < end
        assert text[:begin] == before[:before.index(charts.PYTHON_BEGIN)]
        assert text[end:] == before[before.index(charts.PYTHON_END):]


def a_page_without_its_two_marks_once_each_is_left_alone():
    folder = scratch.folder("doc")
    written = folder / PAGE.name
    found = {"machine": bench.machine(), "benches": [], "answers": {}, "figures": {}}
    for text in ("", charts.BEGIN, charts.END, f"{charts.END}\n{charts.BEGIN}",
                 f"{charts.BEGIN}\n{charts.END}\nkept\n{charts.END}",
                 f"{charts.BEGIN}\n{charts.END}\nkept\n" * 2):
        written.write_text(text)
        try:
            charts.write(found, folder)
        except RuntimeError:
            assert written.read_text() == text, text
        else:
            raise AssertionError(f"written into: {text!r}")


def the_page_says_nothing_twice():
    """A section or a paragraph that stands there again, as after a merge by hand."""
    before, after = around_the_results(PAGE.read_text(encoding="utf-8"))
    parts = [part.strip() for part in (before + after).split("\n\n") if part.strip()]
    assert len(parts) > 20
    for part in parts:
        begins = re.match(r"\*\*[^*]+\*\*|#+ .*", part)
        alike = [other for other in parts if other == part or begins and other.startswith(begins.group(0))]
        assert alike == [part], part


def the_page_names_benchmarks_that_exist():
    known = [kind.name for kind in run.benches()]
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"\./dev bench ([a-z]\w*)", text)
    assert named
    for name in named:
        assert any(one.startswith(name) for one in known), name


def a_figure_that_falls_short_or_goes_beyond_its_bound_is_seen():
    least = bench.Row("", "", "", theirs="theirs", least=2, aim=3)
    most = bench.Row("", "", "", theirs="theirs", most=2, aim=1)
    only = bench.Row("", "", "", most=5)
    for row, ours, is_ok, is_aim in ((least, 1.9, False, False), (least, 2, True, False),
                                     (least, 3, True, True), (most, 2.1, False, False),
                                     (most, 2, True, False), (most, 1, True, True),
                                     (only, 5, True, True), (only, 5.1, False, True)):
        answers = [{"ours": ours, "theirs": 1}] * 3
        one = bench.result(bench_cache.Bytes, row, answers, False)
        assert (one["ok"], one["aim_met"]) == (is_ok, is_aim), (row, ours, one)
    rate = bench.Row("", "", "", theirs="theirs", per_second=True)
    assert rate.values({"ours": 100, "theirs": 400}) == (1e7, 2.5e6, 4)


tap.main([
    results_are_written_into_the_page_with_pictures,
    nothing_but_the_results_changes_when_they_are_written,
    what_was_measured_in_python_has_marks_of_its_own,
    a_page_without_its_two_marks_once_each_is_left_alone,
    the_page_says_nothing_twice,
    the_page_names_benchmarks_that_exist,
    a_figure_that_falls_short_or_goes_beyond_its_bound_is_seen,
])
