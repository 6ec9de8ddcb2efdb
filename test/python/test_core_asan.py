#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest long timeout=600
"""The tests of the extension once more, with one that watches every byte it touches."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap

import cloakroom

BUILD = ROOT / "build-asan"


def package():
    """This tree's package, with the extension of the sanitizer's build."""
    extension = pathlib.Path("bindings", "python", "_core.abi3.so")
    scratch.run(["ninja", "-C", BUILD, "--quiet", extension], timeout=500)
    place = scratch.folder("package")
    (place / "cloakroom").mkdir()
    for entry in pathlib.Path(cloakroom.__file__).resolve().parent.iterdir():
        if entry.suffix not in (".so", ".pyc") and entry.name not in ("__pycache__", "bin"):
            (place / "cloakroom" / entry.name).symlink_to(entry)
    (place / "cloakroom" / extension.name).symlink_to(BUILD / extension)
    return place


def program():
    """A build directory whose program runs without the sanitizer that is loaded into Python."""
    place = scratch.folder("program")
    (place / "cloakroom").write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {scratch.PROGRAM} "$@"\n')
    (place / "cloakroom").chmod(0o755)
    return place


def of_script(name):
    def passes():
        runtime = scratch.run(["clang", "-print-file-name=libclang_rt.asan-x86_64.so"]).strip()
        env = {**os.environ, "PYTHONPATH": str(place[0]), "CLOAKROOM_BUILD": str(place[1]), "LD_PRELOAD": runtime,
               "PYTHONMALLOC": "malloc", "CR_SANITIZED": "1",
               # The interpreter leaves much to the end of the process.
               "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1",
               "UBSAN_OPTIONS": "print_stacktrace=1"}
        # Old sanitizers fail by chance with much of address randomisation.
        done = subprocess.run(["setarch", "-R", sys.executable, str(ROOT / "test" / "python" / name)], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=250, check=False)
        assert done.returncode == 0 and "Sanitizer" not in done.stdout, done.stdout
        assert done.stdout.count("\nok ") > 5, done.stdout

    passes.__name__ = f"{name.removesuffix('.py')}_passes"
    return passes


place = package(), program()
tap.main([of_script(name) for name in ("test_core.py", "test_core_async.py", "test_core_fork.py")])
