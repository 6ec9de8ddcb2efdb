#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long
"""tools/pythons.py in a small tree of its own, with a package index of ours, or none."""

import functools
import hashlib
import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "tools")]
sys.dont_write_bytecode = True
import pythons
import scratch
import tap


def wheel(folder, name):
    """A package with one module that says its own name."""
    path = folder / f"{name}-1-py3-none-any.whl"
    info = f"{name}-1.dist-info"
    files = {f"{name}.py": f"NAME = {name!r}\n", f"{info}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"}
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in files.items():
            archive.writestr(each, text)
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Index:
    """A package index with two packages: what the list names, and the one that is asked for to see
    whether an index is within reach."""

    def __init__(self):
        place = scratch.folder("index")
        for name in ("made_up", "pip"):
            folder = place / "simple" / name.replace("_", "-")
            folder.mkdir(parents=True)
            path = wheel(folder, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            (folder / "index.html").write_text(f'<a href="{path.name}#sha256={digest}">{path.name}</a>')
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Quiet, directory=str(place)))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Tree:
    def __init__(self, index):
        self.place = scratch.folder("tree")
        (self.place / "tools").mkdir()
        shutil.copy(ROOT / "tools" / "pythons.py", self.place / "tools")
        self.list = self.place / "tools" / "python.txt"
        self.env = {**{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
                    "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_NO_CACHE_DIR": "1",
                    "HOME": str(self.place), "no_proxy": "127.0.0.1", "PIP_RETRIES": "0"}
        if "PYENV_ROOT" not in os.environ and pythons.pyenv_root():
            self.env["PYENV_ROOT"] = str(pythons.pyenv_root())

    def make(self, text):
        """(exit status, what it said)"""
        self.list.write_text(text)
        done = subprocess.run([sys.executable, self.place / "tools" / "pythons.py", "newest"], env=self.env,
                              text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    @property
    def python(self):
        return self.place / "build-python" / "newest" / "bin" / "python3"

    @property
    def reason(self):
        return self.place / "build-python" / "newest.unavailable"


def a_lane_is_made_as_soon_as_it_can_be_and_once():
    tree = Tree(f"http://127.0.0.1:{scratch.free_port()}/simple")
    status, said = tree.make("made-up\n")
    assert status == 0 and "no package registry was within reach" in said, f"{status} {said}"
    assert tree.reason.read_text() == "no package registry was within reach\n"
    assert not tree.python.exists()
    with Index() as index:  # it is asked again, and then it is there
        tree.env["PIP_INDEX_URL"] = index.url
        status, said = tree.make("made-up\n")
        assert status == 0 and said.startswith("Fetching") and said.count("\n") == 1, said
        assert not tree.reason.exists()
    said = subprocess.check_output([tree.python, "-c", "import made_up; print(made_up.NAME)"], text=True)
    assert said == "made_up\n", said
    # The index has gone, and nobody asks it again.
    assert tree.make("made-up\n") == (0, "")


def a_list_with_a_package_that_no_index_has_is_a_failure():
    with Index() as index:
        tree = Tree(index.url)
        status, said = tree.make("made-up\nno-such-package\n")
        assert status != 0 and "no-such-package" in said, f"{status} {said}"
        assert not tree.reason.exists()


tap.main([
    a_lane_is_made_as_soon_as_it_can_be_and_once,
    a_list_with_a_package_that_no_index_has_is_a_failure,
])
