#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""The example builds and runs against the installed library, found by pkg-config alone."""

import atexit
import pathlib
import shlex
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap

SOURCE = scratch.ROOT / "examples" / "hello.c"
STRICT = ["-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
installed = scratch.Installed()
atexit.register(installed.close)

SAID = """\
alice is a user        done
log in                 done
validate               done
invalidate_by_user     done
validate again         the session has ended
"""


PAGE_SAID = """\
user               CR_OK
login, phone       CR_OK
login, laptop      CR_OK
create, anonymous  CR_OK
validate           CR_OK
validate, three    CR_OK
  a user           CR_OK
  a user           CR_OK
  a visitor        CR_OK
end, phone         CR_OK
validate, phone    CR_ENDED
validate, laptop   CR_OK
invalidate, anna   CR_OK
validate, laptop   CR_ENDED
lock               CR_OK
lock is held       CR_OK
"""


def build(name, *flags, language=(), library="-lcloakroom", source=SOURCE):
    """Path of the program; `flags` go to pkg-config."""
    program = installed.folder("example") / name
    found = shlex.split(scratch.run(["pkg-config", "--cflags", "--libs", *flags, "cloakroom"],
                                    installed.env))
    found = [library if word == "-lcloakroom" else word for word in found]
    scratch.run(["cc", *language, source, *found, "-o", program], installed.env)
    return program


def the_example_says_what_happens(program):
    store = installed.folder("store") / "hello.db"
    said = installed.try_out([program, f"sqlite://{store}"])
    assert said == SAID, said


def the_example_runs_with_the_shared_library():
    program = build("hello", language=STRICT)
    assert str(installed.lib) in scratch.run(["ldd", program], installed.env)
    the_example_says_what_happens(program)


def the_example_runs_with_the_library_linked_into_it():
    """Not with -static: Debian has no libuv for that."""
    program = build("hello-static", "--static", language=STRICT, library="-l:libcloakroom.a")
    assert "libcloakroom" not in scratch.run(["ldd", program], installed.env)
    the_example_says_what_happens(program)


def the_manual_pages_example_says_what_happens():
    page = (scratch.ROOT / "man" / "libcloakroom.3").read_text(encoding="utf-8")
    source = installed.folder("page") / "worker.c"
    source.write_text(page.split(".Bd -literal\n")[1].split(".Ed\n")[0].replace("\\e", "\\"),
                      encoding="utf-8")
    program = build("worker", language=STRICT, source=source)
    store = installed.folder("store") / "worker.db"
    said = installed.try_out([program, f"sqlite://{store}"])
    assert said == PAGE_SAID, said


def the_example_runs_twice_over_one_store_and_joins_the_same_agent():
    program = build("hello")
    store = installed.folder("store") / "hello.db"
    before = set(installed.agents())
    for _ in range(2):
        assert installed.try_out([program, f"sqlite://{store}"]) == SAID
        assert len(set(installed.agents()) - before) == 1, installed.agents()


def the_example_says_how_it_is_called_and_why_a_store_cannot_be_opened():
    program = build("hello")
    for arguments, word in [([], "usage"), (["nonsense:"], "nonsense")]:
        try:
            installed.try_out([program, *arguments])
        except AssertionError as error:
            assert word in str(error), error
        else:
            raise AssertionError(f"{arguments} succeeded")


def every_public_header_is_installed_and_compiles_alone_as_c_and_as_cpp():
    headers = sorted((installed.include / "cloakroom").glob("*.h"))
    assert len(headers) >= 9, headers
    flags = shlex.split(scratch.run(["pkg-config", "--cflags", "cloakroom"], installed.env))
    for header in headers:
        for compiler in ["cc", *STRICT, "-xc"], ["clang", "-Wall", "-Wextra", "-Werror", "-xc++"]:
            scratch.run([*compiler, *flags, "-fsyntax-only", "-include", str(header), "/dev/null"])


tap.main([
    the_example_runs_with_the_shared_library,
    the_example_runs_with_the_library_linked_into_it,
    the_manual_pages_example_says_what_happens,
    the_example_runs_twice_over_one_store_and_joins_the_same_agent,
    the_example_says_how_it_is_called_and_why_a_store_cannot_be_opened,
    every_public_header_is_installed_and_compiles_alone_as_c_and_as_cpp,
])
