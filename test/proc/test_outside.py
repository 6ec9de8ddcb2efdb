#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""A store built outside the tree, from what is installed alone (test/contract/outside)."""

import atexit
import pathlib
import shlex
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

SOURCES = scratch.ROOT / "test" / "contract" / "outside"
STRICT = ["-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
installed = scratch.Installed()
atexit.register(installed.close)

SAID = """\
a store of another contract  made by another version
log in on the phone          done
validate the phone           done
write data                   done
write it again, late         somebody else changed it first
log in on the laptop         done
validate the phone           the session has ended
validate the laptop          done
end all of anna              done
validate the laptop          the session has ended
"""


def a_store_built_from_installed_headers_is_opened_and_keeps_the_promise():
    program = installed.folder("outside") / "outside"
    flags = shlex.split(scratch.run(["pkg-config", "--cflags", "--libs", "cloakroom"],
                                    installed.env))
    # Copied away, so that nothing beside it can be found.
    sources = []
    for source in SOURCES.iterdir():
        copy = program.parent / source.name
        copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        if source.suffix == ".c":
            sources.append(copy)
    scratch.run(["cc", *STRICT, *sources, *flags, "-pthread", "-o", program], installed.env)
    said = scratch.run([program], installed.env)
    assert said == SAID, said


tap.main([
    a_store_built_from_installed_headers_is_opened_and_keeps_the_promise,
])
