#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
"""Which versions the tests of the Python package run with. Told also when all is well, so that a run of
CI says what it has seen."""

import importlib.metadata
import pathlib
import re
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent)]
sys.dont_write_bytecode = True
import tap

import cloakroom

# Debian 12's. Where a package index has an older one, something holds it back.
LEAST = {"fastapi": (0, 92), "starlette": (0, 26), "uvicorn": (0, 17), "gunicorn": (20, 1), "django": (3, 2),
         "flask": (2, 2), "redis": (4, 3), "httpx": (0, 23), "itsdangerous": (2, 1)}


def numbers(version):
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def the_frameworks_are_here_and_no_older_than_debian_s():
    assert sys.version_info >= (3, 11), sys.version
    have = {name: importlib.metadata.version(name) for name in LEAST}
    print(f"# told: Python {sys.version.split()[0]}: "
          + ", ".join(f"{name} {version}" for name, version in have.items()))
    for name, least in LEAST.items():
        assert numbers(have[name]) >= least, f"{name} {have[name]}"


def the_package_is_this_tree_s():
    tree = pathlib.Path(__file__).resolve().parents[2]
    assert pathlib.Path(cloakroom.__file__).is_relative_to(tree), cloakroom.__file__
    assert pathlib.Path(cloakroom._core.__file__).is_relative_to(tree), cloakroom._core.__file__


tap.main([
    the_frameworks_are_here_and_no_older_than_debian_s,
    the_package_is_this_tree_s,
])
