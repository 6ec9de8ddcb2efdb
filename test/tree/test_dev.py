#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`./dev` in a small tree of its own, with a package that is not installed and an apt-get of ours."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))
sys.dont_write_bytecode = True
import tap

MESON = """project('small')
if import('fs').exists('@PLACE@/library')
  configure_file(output: 'found', configuration: {})
endif
"""

# What it does to the list of packages is dpkg's part.
APT_GET = """#!/bin/sh
echo "apt-get tells a long story about $*"
case $* in *made-up*) ;; *) exit 0 ;; esac
[ ! -e '@PLACE@/broken' ] || exit 100
touch '@PLACE@/library'
printf 'Package: made-up\\nStatus: install ok installed\\nVersion: 1\\nArchitecture: all\\n'\
'Maintainer: nobody\\nDescription: none\\n\\n' >>'@PLACE@/dpkg/status'
"""

SUDO = """#!/bin/sh
[ "$1" != -n ] || shift
exec "$@"
"""


class Tree:
    def __init__(self):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="tree-"))
        self.put("dev", (ROOT / "dev").read_text(encoding="utf-8"))
        self.put("meson.build", MESON)
        self.put("meson_options.txt", "option('failpoints', type: 'boolean', value: false)\n")
        self.put("tools/packages.txt", "[build]\n[bench]\nmade-up # for the benchmarks\n")
        self.put("bench/run.py", "import os\nprint('found', os.path.exists('build/found'))\n")
        self.put("tools/pythons.py", "")  # what it makes is not looked at here
        self.put("bin/apt-get", APT_GET)
        self.put("bin/sudo", SUDO)
        self.put("dpkg/status", "")
        (self.place / "dpkg" / "info").mkdir()
        (self.place / "dpkg" / "updates").mkdir()
        self.env = {**os.environ, "PATH": f"{self.place / 'bin'}:{os.environ['PATH']}",
                    "DPKG_ADMINDIR": str(self.place / "dpkg")}

    def put(self, name, text):
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("@PLACE@", str(self.place)), encoding="utf-8")
        path.chmod(0o755)

    def dev(self, *words):
        """(exit status, standard output, standard error)"""
        done = subprocess.run([self.place / "dev", *words], env=self.env, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode, done.stdout, done.stderr


def new_tree():
    if shutil.which("dpkg-query") is None:
        tap.skip("no dpkg-query")
    return Tree()


def a_library_that_was_installed_after_the_set_up_is_found():
    tree = new_tree()
    for _ in range(2):
        assert tree.dev("build")[0] == 0
        tree.put("meson.build", MESON)  # as a pull does
    assert not (tree.place / "build" / "found").exists()
    status, out, error = tree.dev("bench")
    assert (status, out) == (0, "found True\n"), f"{status} {out} {error}"
    assert error == "Installing made-up\nSetting up build\n", error
    # And nothing is done twice.
    assert tree.dev("bench") == (0, "found True\n", ""), tree.dev("bench")


def apt_get_is_quiet_while_all_is_well():
    status, out, error = new_tree().dev("bench")
    assert status == 0 and "story" not in out + error, out + error
    assert error.startswith("Installing made-up\n"), error


def what_apt_get_says_is_shown_when_it_fails():
    tree = new_tree()
    tree.put("broken", "")
    status, out, error = tree.dev("bench")
    assert status == 1 and "story about install" in error and out == "", f"{status} {out} {error}"


tap.main([
    a_library_that_was_installed_after_the_set_up_is_found,
    apt_get_is_quiet_while_all_is_well,
    what_apt_get_says_is_shown_when_it_fails,
])
