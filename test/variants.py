# SPDX-License-Identifier: Apache-2.0
"""The code, broken on purpose: small changes of the sources, built in a copy of the tree outside of
it, so that tests can be seen to fail. For test/KIND/test_*.py.

What is changed must stand in the source exactly once, so a variant that no longer fits fails and is
brought up to date with the code it is about.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    changes: tuple  # (file, before, after)
    programs: tuple  # what has to see it, as the test's own `see` takes it


def variant(name, file, before, after, *more, programs):
    rest = list(zip(more[::3], more[1::3], more[2::3]))
    return Variant(name, ((file, before, after), *rest), programs)


def part(changes, times=1):
    """All of them; of CR_VARIANTS_SHARE=0.3 so many, by lot: CI has 40 minutes for everything. `times`
    as many, where each takes little."""
    share = times * float(os.environ.get("CR_VARIANTS_SHARE") or 1)
    if share >= 1:
        return list(changes)
    count = max(1, round(share * len(changes)))
    chosen = sorted(random.SystemRandom().sample(range(len(changes)), count))
    print(f"# told: {count} of {len(changes)}, by lot (CR_VARIANTS_SHARE)")
    return [changes[index] for index in chosen]


def left_out(folder, names):
    """What is made from the sources."""
    at_top = pathlib.Path(folder) == ROOT
    return [name for name in names if name == "__pycache__" or
            (at_top and (name in (".git", "build", "var") or name.startswith("build-")))]


class Scratch:
    """The copy. Every test finds it as the tree is."""

    def __init__(self, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="variants-"))
        self.source = self.folder / "source"
        self.build = self.folder / "build"
        shutil.copytree(ROOT, self.source, ignore=left_out, symlinks=True)
        self.call("meson", "setup", "-Dfailpoints=true", *(options or ["--buildtype=debugoptimized"]),
                  str(self.build), str(self.source))

    def copy(self):
        """Another, with what has been built here."""
        other = object.__new__(type(self))
        other.folder = pathlib.Path(tempfile.mkdtemp(prefix="variants-"))
        other.source = other.folder / "source"
        other.build = other.folder / "build"
        shutil.copytree(self.folder, other.folder, symlinks=True, dirs_exist_ok=True)
        return other

    def call(self, *command):
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             check=False)
        assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout[-3000:]}"

    def make(self, targets):
        self.call("ninja", "-C", str(self.build), *targets)

    def changed(self, change):
        """The files of a variant, as they are and as they become."""
        before, after = {}, {}
        for file, old, new in change.changes:
            path = self.source / file
            text = after.get(path) or path.read_text(encoding="utf-8")
            before.setdefault(path, text)
            assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old}"
            after[path] = text.replace(old, new)
        return before, after

    @contextlib.contextmanager
    def broken(self, change, targets):
        """The variant, built."""
        before, after = self.changed(change)
        try:
            for path, text in after.items():
                path.write_text(text, encoding="utf-8")
            self.make(targets)
            yield
        finally:
            for path, text in before.items():
                path.write_text(text, encoding="utf-8")

    def remove(self):
        shutil.rmtree(self.folder)
