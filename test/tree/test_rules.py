#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of src/cache/README.md says what guards it, and what it names is there."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = ROOT / "src" / "cache" / "README.md"
MUTANTS = ROOT / "test" / "sim" / "test_mutants.py"


def rules():
    """Number -> the text of each rule."""
    text = README.read_text(encoding="utf-8")
    section = re.search(r"^## The rules$(.*?)^## ", text, re.M | re.S).group(1)
    parts = re.split(r"^(\d+)\. ", section, flags=re.M)[1:]
    return {int(number): body for number, body in zip(parts[::2], parts[1::2])}


def guards(body):
    """The names after "Guarded by:", to the end of the paragraph."""
    found = re.search(r"Guarded by:(.*?)(?:\n\n|\Z)", body, re.S)
    return re.findall(r"`([^`]+)`", found.group(1)) if found else []


def variants():
    """Name -> the rule under whose heading it stands in test_mutants.py, or None."""
    found = {}
    rule = None
    for line in MUTANTS.read_text(encoding="utf-8").splitlines():
        heading = re.match(r"    # (?:Rule (\d+)$)?", line)
        if heading:
            rule = int(heading.group(1)) if heading.group(1) else None
        name = re.match(r'    variant\("(\w+)"', line)
        if name:
            found[name.group(1)] = rule
    return found


def model_text():
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "model").glob("**/*"))
                     if path.is_file())


def each_rule_names_variants_that_break_it():
    known = variants()
    found = rules()
    assert sorted(found) == list(range(1, 10)), sorted(found)
    for number, body in found.items():
        assert any(name in known for name in guards(body)), f"rule {number} names no variant"


def what_a_rule_names_is_there():
    known, models = variants(), model_text()
    for number, body in rules().items():
        for name in guards(body):
            is_there = name in known or (ROOT / name).exists() or \
                re.search(rf"\b{re.escape(name)}\b", models)
            assert is_there, f"rule {number}: there is no {name}"


def each_variant_of_a_rule_is_named_by_it():
    found = {number: guards(body) for number, body in rules().items()}
    for name, rule in variants().items():
        if rule is not None:
            assert name in found[rule], f"rule {rule} does not name {name}"


tap.main([each_rule_names_variants_that_break_it, what_a_rule_names_is_there,
          each_variant_of_a_rule_is_named_by_it])
