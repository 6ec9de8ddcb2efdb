# SPDX-License-Identifier: Apache-2.0
"""The harness for tests written in Python; tap.h is its elder.

    import pathlib, sys
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    import tap

    def an_agent_that_was_killed_is_replaced():
        assert count == 1, f"{count} agents"

    tap.main([an_agent_that_was_killed_is_replaced])

A test fails when it raises, and `tap.skip(reason)` skips it. Its name alone as argument runs one;
--list names all. `tap.random` begins anew from CR_SEED with each test.
"""

import os
import random as random_module
import sys
import traceback


class Skipped(Exception):
    pass


def skip(reason):
    raise Skipped(reason)


def note(text):
    """Output that belongs to the running test."""
    for line in str(text).splitlines():
        print(f"# {line}", flush=True)


random = random_module.Random()


def main(tests):
    arguments = sys.argv[1:]
    if arguments == ["--list"]:
        print("\n".join(test.__name__ for test in tests))
        sys.exit(0)
    if arguments:
        tests = [test for test in tests if [test.__name__] == arguments]
        if not tests:
            sys.exit(f"usage: {sys.argv[0]} [--list | TEST]; --list names the tests")
    seed = int(os.environ.get("CR_SEED") or random_module.getrandbits(64))
    print(f"1..{len(tests)}")
    note(f"CR_SEED={seed}")
    failed = False
    for number, test in enumerate(tests, 1):
        random.seed(seed)
        result, directive = "ok", ""
        try:
            test()
        except Skipped as reason:
            directive = f" # SKIP {reason}"
        except Exception:  # whatever it was, it is this test's
            note(traceback.format_exc())
            result, failed = "not ok", True
        print(f"{result} {number} - {test.__name__}{directive}", flush=True)
    sys.exit(1 if failed else 0)
