#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of src/cache/README.md says what guards it, and what it names is there."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "model")]
sys.dont_write_bytecode = True
import run as model_run  # noqa: E402
import tap  # noqa: E402

README = ROOT / "src" / "cache" / "README.md"
MUTANTS = ROOT / "test" / "sim" / "test_mutants.py"


def rules():
    """Number -> the text of each rule."""
    text = README.read_text(encoding="utf-8")
    section = re.search(r"^## The rules$(.*?)^## ", text, re.M | re.S).group(1)
    parts = re.split(r"^(\d+)\. ", section, flags=re.M)[1:]
    return {int(number): body for number, body in zip(parts[::2], parts[1::2])}


def guards(body):
    """The names after "Guarded by:", up to the first model: variants of the code."""
    found = re.search(r"Guarded by:(.*?)(?:In `model/|\n\n|\Z)", body, re.S)
    return re.findall(r"`([^`]+)`", found.group(1)) if found else []


def model_guards(body):
    """(model, name) of each after "In `model/...`:"."""
    found = []
    for model, names in re.findall(r"In `model/(\w+)\.pml`:(.*?)(?=In `model/|\n\n|\Z)", body, re.S):
        found += [(model, name) for name in re.findall(r"`([^`]+)`", names)]
    return found


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


def model_mutants():
    return [(run.path.stem, run.name) for run in model_run.all_runs() if run.fails]


def each_rule_names_variants_that_break_it():
    known = variants()
    found = rules()
    assert sorted(found) == list(range(1, 10)), sorted(found)
    for number, body in found.items():
        assert any(name in known for name in guards(body)), f"rule {number} names no variant"


def each_rule_names_a_model_and_a_mutant_of_it():
    for number, body in rules().items():
        assert model_guards(body), f"rule {number} names no mutant of a model"


def what_a_rule_names_is_there():
    known, mutants = variants(), model_mutants()
    for number, body in rules().items():
        for name in guards(body):
            assert name in known or (ROOT / name).exists(), f"rule {number}: there is no {name}"
        for model, name in model_guards(body):
            assert (model, name) in mutants, f"rule {number}: model/{model}.pml has no mutant {name}"


def each_variant_of_a_rule_is_named_by_it():
    found = {number: guards(body) for number, body in rules().items()}
    for name, rule in variants().items():
        if rule is not None:
            assert name in found[rule], f"rule {rule} does not name {name}"


def each_mutant_of_a_model_is_named_by_a_rule():
    named = {guard for body in rules().values() for guard in model_guards(body)}
    for model, name in model_mutants():
        assert (model, name) in named, f"no rule names {name} of model/{model}.pml"


tap.main([each_rule_names_variants_that_break_it, each_rule_names_a_model_and_a_mutant_of_it,
          what_a_rule_names_is_there, each_variant_of_a_rule_is_named_by_it,
          each_mutant_of_a_model_is_named_by_a_rule])
