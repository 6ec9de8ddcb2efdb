#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every symbol that a user's linker can meet begins with cr_. Speaks TAP.

usage: check_exports.py SHARED_LIBRARY STATIC_LIBRARY
"""

import subprocess
import sys


def foreign_symbols(*command):
    """Names without our prefix. Version nodes (CLOAKROOM_0) and what the compiler adds (__asan_...) are not ours."""
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for line in run.stdout.splitlines():
        fields = line.split()
        if len(fields) != 3 or fields[1] not in "BCDGRSTVW":
            continue
        name = fields[2].split("@")[0]
        if not name.startswith(("cr_", "CLOAKROOM_", "__")):
            yield name


def main():
    shared, static = sys.argv[1:]
    tests = [
        ("the_shared_library_exports_only_cr_names",
         foreign_symbols("nm", "--dynamic", "--defined-only", shared)),
        ("the_static_library_defines_only_cr_names",
         foreign_symbols("nm", "--extern-only", "--defined-only", static)),
    ]
    print(f"1..{len(tests)}")
    failed = False
    for number, (name, symbols) in enumerate(tests, 1):
        found = sorted(set(symbols))
        for symbol in found:
            print(f"# {symbol}: static, or cr_ in front")
        print(f"{'not ok' if found else 'ok'} {number} - {name}", flush=True)
        failed = failed or bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
