#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/pythons.py finds the newest Python, and links the package of the tree."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "tools")]
sys.dont_write_bytecode = True
import pythons
import scratch
import tap


def the_newest_of_several_is_taken():
    place = scratch.folder("bin")
    for name, said in {"python3.11": "cpython 3 11 2", "python3.13": "cpython 3 13 1", "python3": "cpython 3 9 9",
                       "python3.14": "", "python3.15": "pypy 3 15 0", "python3.16-config": "cpython 3 16 0"}.items():
        (place / name).write_text(f"#!/bin/sh\necho {said}\n")
        (place / name).chmod(0o755)
    kept, os.environ["PATH"] = os.environ["PATH"], str(place)
    root, os.environ["PYENV_ROOT"] = os.environ.get("PYENV_ROOT"), str(place)
    try:
        assert pythons.newest_python() == str(place / "python3.13")
        for name in ("python3.11", "python3.13"):
            (place / name).unlink()
        try:
            pythons.newest_python()
            raise AssertionError("a Python that is too old was taken")
        except pythons.Unavailable as why:
            assert "3.11" in str(why)
    finally:
        os.environ["PATH"] = kept
        os.environ.pop("PYENV_ROOT")
        if root is not None:
            os.environ["PYENV_ROOT"] = root


def the_package_that_is_linked_is_what_the_tree_has():
    place = scratch.folder("linked")
    source, build = place / "bindings" / "python" / "cloakroom", place / "build"
    (source / "sub").mkdir(parents=True)
    (source / "__init__.py").write_text("NAME = 'linked'\n")
    (build / "bindings" / "python").mkdir(parents=True)
    (build / "bindings" / "python" / "_core.abi3.so").touch()
    (build / "cloakroom").touch()
    kept, pythons.ROOT = pythons.ROOT, place
    try:
        (source / "passing.py").touch()
        pythons.link_package(build)
        (source / "passing.py").unlink()
        (source / "new.py").touch()
        for _ in range(2):
            pythons.link_package(build)
    finally:
        pythons.ROOT = kept
    linked = build / "python" / "cloakroom"
    assert {entry.name for entry in linked.iterdir()} == {
        "__init__.py", "sub", "new.py", "_core.abi3.so", "bin"}, list(linked.iterdir())
    assert (linked / "bin" / "cloakroom").resolve() == (build / "cloakroom").resolve()


tap.main([
    the_newest_of_several_is_taken,
    the_package_that_is_linked_is_what_the_tree_has,
])
