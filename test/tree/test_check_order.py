#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""The tool that checks the memory order sees what it is for.

A copy of src/cache is changed, one access at a time, in the ways that no test on x86 can show. Which
accesses there are comes from the tool's own table, so nothing here knows the source.
"""

import functools
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parent.parent.parent
sys.path[:0] = [str(HERE.parent.parent), str(ROOT / "tools")]
import check_order  # noqa: E402
import tap  # noqa: E402

ONLY = check_order.SEGMENT
QUICK = {"gcc -O2": check_order.BUILDS["gcc -O2"]}


def labels_of(root=ROOT):
    labels = {}
    for file in check_order.source_files(pathlib.Path(root), ONLY):
        check_order.read_source(pathlib.Path(root), file, labels, [])
    return {name: label for name, label in labels.items() if label.access is not None}


def ordered(kind):
    """Labels of all accesses that acquire (load) or release (store)."""
    found = [name for name, label in labels_of().items()
             if kind in label.access.call and label.access.orders in (["acquire"], ["release"])]
    assert len(found) > 3, found
    return found


class Copy:
    """The tree again, to be changed."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name) / "tree"
        for name in ("src", "include"):
            shutil.copytree(ROOT / name, self.root / name)
        self.labels = labels_of()
        return self

    def __exit__(self, *error):
        self.folder.cleanup()

    def change(self, name, edit):
        """Puts edit(text of the access) in place of the access `name`; the lines stay where they are."""
        access = self.labels[name].access
        path = self.root / access.file
        lines = path.read_text(encoding="utf-8").split("\n")
        before = "\n".join(lines[access.first - 1:access.last])
        after = edit(before)
        assert after != before, before
        assert after.count("\n") == before.count("\n"), after
        lines[access.first - 1:access.last] = after.split("\n")
        path.write_text("\n".join(lines), encoding="utf-8")

    def comment(self, name, before, after):
        """Changes the comment that gives the label."""
        file, line = self.labels[name].where.rsplit(":", 1)
        path = self.root / file
        lines = path.read_text(encoding="utf-8").split("\n")
        at = int(line) - 1
        rest = "\n".join(lines[at:])
        assert before in rest, (name, before)
        path.write_text("\n".join(lines[:at] + [rest.replace(before, after, 1)]), encoding="utf-8")

    def complaints(self):
        """What is new in its source."""
        return new_lines(check_order.check(self.root, ONLY, {}))


def lines_of(result):
    return [line for _, lines in result.tests for line in lines]


@functools.cache
def known_lines():
    return frozenset(lines_of(check_order.check(ROOT, ONLY, {})))


def new_lines(result):
    """Without what is wrong in the tree itself: that is the tool's own test."""
    return [line for line in lines_of(result) if line not in known_lines()]


def weaken(text):
    return re.sub(r"memory_order_(acquire|release)", "memory_order_relaxed", text)


def names(lines, label):
    return any(label in line for line in lines)


def every_missing_release_is_reported():
    for name in ordered("store"):
        with Copy() as copy:
            copy.change(name, weaken)
            lines = copy.complaints()
            assert names(lines, name), f"{name}, relaxed, is not seen: {lines}"


def every_missing_acquire_is_reported():
    for name in ordered("load"):
        with Copy() as copy:
            copy.change(name, weaken)
            lines = copy.complaints()
            assert names(lines, name), f"{name}, relaxed, is not seen: {lines}"


def an_instruction_without_its_order_is_reported():
    """The source says it; the machine does not do it: each of them at once, in each build."""
    with Copy() as copy:
        wanted = ordered("store") + ordered("load")
        for name in wanted:
            copy.change(name, weaken)
        result = check_order.check(ROOT, ONLY, compiled=copy.root)
        for build, lines in result.tests[2:]:
            for name in wanted:
                assert names(lines, f"{name} ("), f"{build}: {name} is not seen"


def an_access_that_is_torn_is_reported():
    """Two halves of a word, each with its order."""
    name = next(name for name in ordered("store") if "(word," in access_text(name))

    def halves(text):
        start = text.index("atomic_store_explicit")
        half = "atomic_store_explicit(({0}_Atomic uint32_t *)(void *)word + {1}, (uint32_t)(value >> {2}), memory_order_release);"
        return text[:start] + " ".join(half.format("", i, 32 * i) for i in (0, 1))

    with Copy() as copy:
        copy.change(name, halves)
        lines = lines_of(check_order.check(ROOT, ONLY, QUICK, compiled=copy.root))
        assert names(lines, f"{name} ("), f"not seen: {lines}"


def access_text(name):
    access = labels_of()[name].access
    lines = (ROOT / access.file).read_text(encoding="utf-8").split("\n")
    return "\n".join(lines[access.first - 1:access.last])


def an_access_that_is_left_out_is_reported():
    name = ordered("store")[0]
    with Copy() as copy:
        copy.change(name, lambda text: re.sub(r"[^\n]", " ", text) + ";")
        lines = lines_of(check_order.check(ROOT, ONLY, QUICK, compiled=copy.root))
        assert names(lines, f"{name} ("), f"not seen: {lines}"


def a_fence_is_reported_in_the_source_and_as_an_instruction():
    name = ordered("store")[0]
    with Copy() as copy:
        copy.change(name, lambda text: "atomic_thread_fence(memory_order_release); " + text)
        assert names(copy.complaints(), "a fence"), "the source's is not seen"
        lines = lines_of(check_order.check(ROOT, ONLY, QUICK, compiled=copy.root))
        assert names(lines, "a barrier (dmb"), f"the instruction is not seen: {lines}"


def an_order_by_default_is_reported():
    store, load = ordered("store")[0], ordered("load")[0]
    with Copy() as copy:
        copy.change(store, lambda text: text.replace("atomic_store_explicit", "atomic_store").replace(
            ", memory_order_release", ""))
        copy.change(load, lambda text: re.sub(r"atomic_load_explicit\((.*), memory_order_acquire\)", r"(*(\1))",
                                              text, flags=re.DOTALL))
        lines = copy.complaints()
        assert names(lines, "atomic_store takes an order by default"), f"a call's: {lines}"
        assert names(lines, "(seq_cst) that is not written as a call"), f"a plain expression's: {lines}"


def an_access_without_a_label_is_reported():
    name = ordered("store")[0]
    with Copy() as copy:
        copy.comment(name, f"{name}.", "It is well known.")
        lines = copy.complaints()
        assert names(lines, "has no label"), f"{name}: {lines}"
        assert names(lines, f"names {name}, which is nowhere"), f"its partner: {lines}"


def a_label_whose_partner_does_not_name_it_back_is_reported():
    name = ordered("store")[0]
    with Copy() as copy:
        copy.comment(name, "Pairs with", "Does not pair with")
        copy.comment(name, "not pair with", "not even know")
        lines = copy.complaints()
        assert names(lines, f"{name} has no partner"), f"{name}: {lines}"
        assert names(lines, f"pairs with {name}, which does not name it back"), f"its partner: {lines}"


def the_tool_fails_when_something_is_wrong():
    with Copy() as copy:
        copy.change(ordered("store")[0], weaken)
        run = subprocess.run([sys.executable, str(ROOT / "tools" / "check_order.py"), "--root", str(copy.root),
                              "--only", ONLY, "--quick"], stdout=subprocess.PIPE, text=True, check=False)
        assert run.returncode == 1, f"status {run.returncode}"
        assert "\nnot ok " in run.stdout, run.stdout


tap.main([
    every_missing_release_is_reported,
    every_missing_acquire_is_reported,
    an_instruction_without_its_order_is_reported,
    an_access_that_is_torn_is_reported,
    an_access_that_is_left_out_is_reported,
    a_fence_is_reported_in_the_source_and_as_an_instruction,
    an_order_by_default_is_reported,
    an_access_without_a_label_is_reported,
    a_label_whose_partner_does_not_name_it_back_is_reported,
    the_tool_fails_when_something_is_wrong,
])
