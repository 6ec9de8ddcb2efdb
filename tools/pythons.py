#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the Pythons in which the Python package is tested, in build-python/. `./dev` calls it.

    newest   the newest Python of this machine (on PATH, or pyenv's), and of each package in
             tools/python.txt the newest that the package index has
    debian   Debian's Python with Debian's packages (section [python] of tools/packages.txt)

Each is made once, and again when its list has changed. What cannot be had here, because no package
index is within reach or this is no Debian, is no error: a file beside it says why, and the tests of
that lane are skipped with these words. A list that cannot be installed is one.

In both, `cloakroom` is what this tree is: build/python/ has links to the package's sources, to the
extension that ninja makes, and to the program that a wheel would carry.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = ROOT / "build-python"
PACKAGES = ROOT / "tools" / "python.txt"
DEBIAN = "/usr/bin/python3"
LANES = ("newest", "debian")
OLDEST = (3, 11)
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")

ASK = """
import sys, sysconfig, venv, {more}
if sys.version_info.releaselevel == "final" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(sys.implementation.name, *sys.version_info[:3])
"""


class Unavailable(Exception):
    """This lane cannot be had here, and nobody can help it; why."""


def interpreter(lane):
    return PLACE / lane / "bin" / "python3"


def reason_file(lane):
    return PLACE / f"{lane}.unavailable"


def why_unavailable(lane):
    """None where it is there."""
    try:
        return reason_file(lane).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


# ---- which Pythons there are


def version_of(python, more="ensurepip"):
    """(3, 13, 0); None for what is no finished CPython that can make environments."""
    try:
        said = subprocess.run([python, "-I", "-c", ASK.format(more=more)], text=True, check=False, timeout=20,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, said[1:])) if said[:1] == ["cpython"] else None


def pyenv_root():
    if os.environ.get("PYENV_ROOT"):
        return pathlib.Path(os.environ["PYENV_ROOT"])
    if shutil.which("pyenv") is None:
        return None
    run = subprocess.run(["pyenv", "root"], text=True, check=False, capture_output=True)
    return pathlib.Path(run.stdout.strip()) if run.returncode == 0 else None


def candidates():
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if folder and os.path.isdir(folder):
            for name in sorted(os.listdir(folder)):
                if re.fullmatch(r"python3(\.\d+)?", name):
                    yield os.path.join(folder, name)
    root = pyenv_root()
    if root is not None:
        yield from map(str, sorted(root.glob("versions/*/bin/python3")))


def newest_python():
    found = {}
    for python in dict.fromkeys(candidates()):
        version = version_of(python)
        if version is not None:
            found.setdefault(version, python)
    if not found or max(found) < OLDEST:
        raise Unavailable(f"no Python of version {OLDEST[0]}.{OLDEST[1]} or newer is here")
    return found[max(found)]


# ---- making a lane


def run(command):
    """What it said, when it failed; None else."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return None if done.returncode == 0 else done.stdout or f"exit status {done.returncode}"


def index_is_within_reach(python):
    with tempfile.TemporaryDirectory() as folder:
        return run([python, *PIP, "download", "--retries", "1", "--no-deps", "--dest", folder,
                    "pip"]) is None


def make_newest(folder):
    base = newest_python()
    print(f"Fetching Python packages for {pathlib.Path(base).name} "
          f"{'.'.join(map(str, version_of(base)))}", file=sys.stderr, flush=True)
    failure = run([base, "-m", "venv", folder])
    if failure:
        sys.exit(f"./dev: {base} makes no environment:\n{failure}")
    python = folder / "bin" / "python3"
    failure = run([python, *PIP, "install", "--retries", "2", "--requirement", PACKAGES])
    if failure:
        if index_is_within_reach(python):
            sys.exit(f"./dev: tools/python.txt cannot be installed:\n{failure}")
        raise Unavailable("no package registry was within reach")


def make_debian(folder):
    if shutil.which("dpkg-query") is None:
        raise Unavailable("no dpkg-query")
    version = version_of(DEBIAN, "os")
    if version is None or version < OLDEST:
        raise Unavailable(f"no Python of version {OLDEST[0]}.{OLDEST[1]} or newer is here")
    failure = run([DEBIAN, "-m", "venv", "--system-site-packages", "--without-pip", folder])
    if failure:
        sys.exit(f"./dev: {DEBIAN} makes no environment:\n{failure}")


def stamp_of(lane):
    """What the lane was made from."""
    return json.dumps({"place": str(PLACE), "list": PACKAGES.read_text(encoding="utf-8")
                       if lane == "newest" else ""})


def make(lane):
    folder = PLACE / lane
    stamp, wanted = folder / ".made", stamp_of(lane)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and interpreter(lane).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    reason_file(lane).unlink(missing_ok=True)
    PLACE.mkdir(exist_ok=True)
    try:
        {"newest": make_newest, "debian": make_debian}[lane](folder)
    except Unavailable as why:
        shutil.rmtree(folder, ignore_errors=True)
        reason_file(lane).write_text(f"{why}\n", encoding="utf-8")
        print(f"./dev: tests in the {lane} Python are skipped: {why}", file=sys.stderr, flush=True)
        return
    packages = next(folder.glob("lib/python3.*/site-packages"))
    (packages / "cloakroom-of-this-tree.pth").write_text(f"{ROOT / 'build' / 'python'}\n", encoding="utf-8")
    stamp.write_text(wanted, encoding="utf-8")


# ---- the package of this tree


def link_package(build):
    """build/python/cloakroom: each file and folder of the package, the extension, the program."""
    source, place = ROOT / "bindings" / "python" / "cloakroom", build / "python" / "cloakroom"
    wanted = {entry.name: entry for entry in source.iterdir()
              if entry.suffix not in (".so", ".pyc") and entry.name not in ("__pycache__", "bin")}
    wanted |= {entry.name: entry for entry in (build / "bindings" / "python").glob("_core*.so")}
    wanted["bin/cloakroom"] = build / "cloakroom"
    (place / "bin").mkdir(parents=True, exist_ok=True)
    for entry in [*place.iterdir(), place / "bin" / "cloakroom"]:
        name = str(entry.relative_to(place))
        if entry.is_symlink() and (name not in wanted or entry.readlink() != wanted[name]):
            entry.unlink()
    for name, target in wanted.items():
        if not (place / name).is_symlink():
            (place / name).symlink_to(target)


def main():
    if sys.argv[1:] == ["link"]:
        link_package(ROOT / "build")
        return
    lanes = sys.argv[1:] or LANES
    for lane in lanes:
        if lane not in LANES:
            sys.exit(f"usage: {sys.argv[0]} [{' | '.join(LANES)} | link]")
        make(lane)


if __name__ == "__main__":
    main()
