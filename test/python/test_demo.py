#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""examples/fastapi/ shows what it says, and the table of the README is one of its own.

A small run here, of fewer users and workers; test_readme_long.py makes the whole one."""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "examples" / "fastapi")]
sys.dont_write_bytecode = True
import demo
import scratch
import tap

USERS = 24
WORKERS = 2  # each imports a framework, which is most of what this costs


def demonstrated(*arguments):
    """(exit status, what it printed)"""
    done = subprocess.run([sys.executable, ROOT / "examples" / "fastapi" / "demo.py", *arguments], text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    tap.note(done.stderr)
    return done.returncode, done.stdout


def table_of(text):
    """{what keeps the sessions: the cells beside it} of a table in Markdown."""
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")]
            for line in text.splitlines() if line.startswith("|")]
    return rows[0], {row[0]: row[1:] for row in rows[2:]}


def found_and_asked(cell):
    return tuple(int(word.replace(",", "")) for word in re.findall(r"[\d,]+", cell))


def a_small_run_shows_both_faults_and_that_cloakroom_has_none():
    page = scratch.folder("page") / "page.md"
    page.write_text(f"before\n{demo.BEGIN}\nold\n{demo.END}\nafter\n")
    status, said = demonstrated("--users", str(USERS), "--workers", str(WORKERS), "--json", "--write", str(page))
    found = json.loads(said)
    assert status == 0 and found["wrong"] == [], said
    rows = {row["name"]: row for row in found["rows"]}
    memory, ttl, ours = rows["memory"], rows["ttl"], rows["cloakroom"]
    assert all(row["workers"] == WORKERS and row["unanswered"] == 0 for row in rows.values()), rows
    assert memory["refused"] > 0 and memory["accepted"] > 0 and memory["asked_elsewhere"] == 0, memory
    assert ttl["refused"] == 0 and ttl["accepted"] > 0 and ttl["accepted_elsewhere"] > 0, ttl
    assert (ours["refused"], ours["accepted"], ours["accepted_elsewhere"]) == (0, 0, 0), ours
    # Each question was asked, and as often as is said.
    looks, tries = USERS * demo.LOOKS + USERS // 2 * 3, demo.TRIES
    assert (ours["asked_logged_in"], ours["asked_logged_out"], ours["asked_elsewhere"]) == (
        looks, USERS * tries, USERS // 2 * tries), ours
    assert ours["sent"] == looks + USERS * (2 + tries) + USERS // 2 * (1 + tries), ours
    written = page.read_text()
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written, written
    the_readme_agrees(*table_of(written))


def the_readme_agrees(head, table):
    """Its rows are these, and where it says that there are mistakes, or none, so does a run of today."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(demo.BEGIN) == readme.count(demo.END) == 1
    there = readme[readme.index(demo.BEGIN):readme.index(demo.END)]
    assert f"with {demo.WORKERS} workers, {demo.USERS} users" in there, there
    its_head, its_table = table_of(there)
    assert its_head == head and list(its_table) == list(table), f"{its_head} {list(its_table)}"
    for name, cells in table.items():
        for mine, its in zip(cells[1:], its_table[name][1:]):
            now, then = found_and_asked(mine), found_and_asked(its)
            assert len(now) == len(then), f"{name}: {mine} and {its}"
            if now:
                assert (now[0] == 0) == (then[0] == 0), f"{name}: {mine} and {its}"
                assert then[1] > now[1], f"{name}: {mine} and {its}"


def a_mistake_would_be_seen():
    """The judgement, on counts that are made up."""
    def judged(name, **more):
        return demo.as_expected([demo.Counts(name, 2, **more)])
    assert not judged("cloakroom") and not judged("memory", refused=1, accepted=1)
    for counts in ({"refused": 1}, {"accepted": 1}, {"accepted_elsewhere": 1}, {"unanswered": 1}):
        assert judged("cloakroom", **counts), counts
    assert judged("memory", refused=1) and judged("memory", accepted=1)
    assert judged("ttl") and judged("ttl", accepted=1, refused=1) and not judged("ttl", accepted=1)


def the_table_is_drawn_and_help_is_given():
    rows = [demo.Counts("memory", 300, 6600, 4, 2652, 3600, 424, 2400), demo.Counts("cloakroom", 300, 8400, 4)]
    plain, coloured = demo.drawn(rows, 4, False), demo.drawn(rows, 4, True)
    assert re.sub(r"\033\[[\d;]*m", "", coloured) == plain and coloured != plain
    lines = [line for line in plain.splitlines() if line.startswith(("  │", "  ╭", "  ├", "  ╰"))]
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 100, plain
    assert "2,652 of 3,600 ✗" in plain and "0 of 0 ✓" in plain, plain
    status, said = demonstrated("--help")
    assert status == 0 and "--users N" in said and "--json" in said, said
    assert demonstrated("--users", "1")[0] == 2


tap.main([
    a_small_run_shows_both_faults_and_that_cloakroom_has_none,
    a_mistake_would_be_seen,
    the_table_is_drawn_and_help_is_given,
])
