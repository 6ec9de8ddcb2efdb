#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes point down only, and every header compiles alone. Speaks TAP; prints the order it holds.

A better cut is made here and in the directories together.
"""

import os
import pathlib
import re
import subprocess
import sys

# Top to bottom. A layer may include itself and every layer on a lower line, not its neighbours.
ORDER = [
    ["cmd"],
    ["server", "http"],
    ["agent", "room"],
    ["service"],
    ["auth", "coord"],
    ["engine"],
    ["cache", "store"],
    ["session"],
    ["wire"],
    ["base"],
]

# Neighbours that know each other on purpose: layer -> what else it may include.
EXCEPTIONS = {
    "auth": {"coord"},  # a login takes from a limit before its password is hashed
    "server": {"http"},  # a worker hands each request to it
}

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def allowed_layers():
    allowed = {}
    below = set()
    for level in reversed(ORDER):
        for layer in level:
            allowed[layer] = {layer} | below | EXCEPTIONS.get(layer, set())
        below |= set(level)
    return allowed


def upward_includes(allowed):
    """What breaks the order, as lines for a person."""
    for path in sorted((ROOT / "src").glob("*/**/*.[ch]")):
        name = path.relative_to(ROOT)
        layer = name.parts[1]
        if layer not in allowed:
            yield f"{name}: src/{layer} is not in the order; give it a place in tools/check_layers.py"
            continue
        text = path.read_text(encoding="utf-8")
        for found in INCLUDE.finditer(text):
            target = found.group(1).split("/")[0]
            line = text.count("\n", 0, found.start(1)) + 1
            if "/" not in found.group(1):
                yield f'{name}:{line}: write "{layer}/{found.group(1)}", relative to src/'
            elif target not in allowed[layer]:
                yield f"{name}:{line}: {layer} must not know {target}"


def public_headers_look_inside():
    for path in sorted((ROOT / "include").glob("**/*.h")):
        for found in INCLUDE.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: a public header includes only <...>: {found.group(1)}"


def broken_headers():
    """One compiler run for all: with -fsyntax-only it takes each file by itself."""
    headers = [
        path.relative_to(ROOT)
        for folder in ("include", "src", "test")
        for path in sorted((ROOT / folder).glob("**/*.h"))
    ]
    if not headers:
        return
    command = os.environ.get("CC", "cc").split() + [
        "-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
        "-Wno-unused-parameter", "-Iinclude", "-Isrc", "-Itest", "-xc",
    ]
    run = subprocess.run(
        command + [str(header) for header in headers],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    if run.returncode != 0:
        yield from run.stdout.splitlines()


def main():
    print("# " + " | ".join(" ".join(level) for level in ORDER))
    for layer, extra in EXCEPTIONS.items():
        print(f"# on purpose: {layer} includes {' '.join(sorted(extra))}")
    tests = [
        ("includes_point_down_only", upward_includes(allowed_layers())),
        ("public_headers_do_not_look_inside", public_headers_look_inside()),
        ("every_header_compiles_alone", broken_headers()),
    ]
    print(f"1..{len(tests)}")
    failed = False
    for number, (name, complaints) in enumerate(tests, 1):
        lines = list(complaints)
        for line in lines:
            print(f"# {line}")
        print(f"{'not ok' if lines else 'ok'} {number} - {name}", flush=True)
        failed = failed or bool(lines)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
