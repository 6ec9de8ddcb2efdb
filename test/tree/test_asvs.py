#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test/asvs.tsv fits the tree; what it says is run by test_asvs_long.py. And what of the checklist
is seen by reading the sources."""

import collections
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import asvs  # noqa: E402
import tap  # noqa: E402

# What the server has to have by now; what is not here is not built yet, or says so in the table.
WANTED = {
    "A": range(1, 10), "B": range(1, 11), "C": range(1, 7), "D": [*range(1, 12), 13],
    "E": range(1, 14), "F": range(1, 9), "G": [1, 3, *range(5, 10)], "H": range(3, 11),
}


def each_row_of_the_checklist_has_a_test_and_a_way_to_break_it():
    wanted = {f"{chapter}{number}" for chapter, numbers in WANTED.items() for number in numbers}
    there = {row.row for row in asvs.rows()}
    assert there <= wanted, f"no rows of the checklist: {sorted(there - wanted)}"
    assert wanted <= there, f"without a test: {sorted(wanted - there)}"


def each_change_fits_its_source():
    wrong = []
    for row in asvs.rows():
        text = (asvs.ROOT / row.file).read_text(encoding="utf-8")
        assert row.before != row.after and row.before.strip(), row.name
        if text.count(row.before) != 1:
            wrong.append(f"{row.name}: {row.file} has {text.count(row.before)} times: {row.before}")
    assert not wrong, "\n".join(wrong)


def each_test_is_one():
    wrong = []
    named = collections.defaultdict(set)
    for row in asvs.rows():
        named[row.program].add(row)
    for program, rows in named.items():
        kind, name = program.split("/")
        if asvs.script(next(iter(rows))) is None:
            meson = "".join(path.read_text(encoding="utf-8")
                            for path in (asvs.ROOT / "test" / kind).glob("meson.build"))
            assert re.search(rf"'({name}|{re.sub('^test_', '', name)}|{re.sub('^test_contract_', '', name)})'", meson), \
                f"{program} is no program"
        for row in rows:
            sources = [path.read_text(encoding="utf-8")
                       for path in (asvs.ROOT / "test" / kind).glob("*.[cp]*")]
            if not any(re.search(rf"(TAP_TEST\({row.test}\)|^def {row.test}\()", source, re.M)
                       for source in sources):
                wrong.append(f"{row.name}: {program} has no such test")
    assert not wrong, "\n".join(wrong)


# ---- what is seen by reading


def no_page_keeps_anything_in_the_browser():
    """ASVS B10."""
    words = re.compile(r"localStorage|sessionStorage|indexedDB|<script|javascript:|\bon[a-z]+=\\?\"", re.I)
    for path in sorted((asvs.ROOT / "src" / "http").iterdir()):
        if path.is_file():
            found = words.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.name}: {found and found.group(0)}"


tap.main([
    each_row_of_the_checklist_has_a_test_and_a_way_to_break_it,
    each_change_fits_its_source,
    each_test_is_one,
    no_page_keeps_anything_in_the_browser,
])
