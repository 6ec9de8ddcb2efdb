#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long timeout=300
"""The unit tests of the lower layers, as aarch64 programs under qemu-user.

What they can show is that the code is right there in all but the order of memory: qemu runs it on
this machine, whose order is stronger (tools/check_order.py is for that). Only what is needed is
built: base, wire, session and cache, and the tests of these, linked statically. The libraries for
aarch64 come from the Debian mirror that the machine uses, and are unpacked, not installed: nothing
outside build-arm64/ changes.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))
import tap  # noqa: E402

BUILD = ROOT / "build-arm64"
LAYERS = ("base", "wire", "session", "cache")
PACKAGES = ("libsodium-dev", "nettle-dev", "libuv1-dev", "libjansson-dev")
LIBRARIES = BUILD / "root" / "usr" / "lib" / "aarch64-linux-gnu"
UNREACHABLE = "no mirror with packages for arm64 within reach"
# CR_SANITIZED: as under a sanitizer there is less time, so tests do less.
COMPILE = ["aarch64-linux-gnu-gcc", "-std=c17", "-O2", "-g", "-w", "-D_GNU_SOURCE", '-DCR_VERSION="0"',
           "-DCR_SANITIZED=1", "-Iinclude", "-Isrc", "-Itest", f"-I{BUILD}/root/usr/include"]


def run(command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **more)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}"
    return done.stdout


# ---- libraries


def apt(folder):
    """apt-get for aarch64, with a memory of its own."""
    options = {"Dir::State": folder / "state", "Dir::State::status": "/dev/null", "Dir::Cache": folder / "cache",
               "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "",
               "Acquire::Languages": "none", "Acquire::Retries": 2}
    for place in ("state/lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True)
    return ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def get_libraries():
    if (LIBRARIES / "libsodium.a").exists():
        return
    folder = BUILD / "apt"
    shutil.rmtree(folder, ignore_errors=True)
    get = apt(folder)
    # Lists of other sources of this machine may be out of reach, or have nothing for aarch64.
    update = subprocess.run([*get, "update"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    download = subprocess.run([*get, "download", *PACKAGES], cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    if download.returncode != 0:
        tap.note(update.stdout + download.stdout)
        tap.skip(UNREACHABLE)
    for package in sorted(folder.glob("*.deb")):
        run(["dpkg-deb", "-x", package, BUILD / "root"])
    shutil.rmtree(folder)


# ---- programs


def test_names():
    """As test/unit/meson.build has them, so that a new one is run here, too."""
    text = (ROOT / "test" / "unit" / "meson.build").read_text(encoding="utf-8")
    names = []
    for layer in LAYERS:
        found = re.search(rf"^unit_{layer} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        names += re.findall(r"'(\w+)'", found.group(1))
    return names + ["loop_uv", "cache_threads"]


def compile_unit(source):
    target = BUILD / "objects" / (source.replace("/", "_") + ".o")
    run([*COMPILE, "-c", source, "-o", target], cwd=ROOT)
    return target


def the_lower_layers_are_built_for_aarch64():
    get_libraries()
    for old in BUILD.glob("test_*"):
        old.unlink()
    (BUILD / "objects").mkdir(parents=True, exist_ok=True)
    library = [str(path.relative_to(ROOT)) for layer in LAYERS for path in sorted((ROOT / "src" / layer).glob("*.c"))]
    tests = [f"test/unit/test_{name}.c" for name in test_names()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        objects = dict(zip([*library, "test/tap.c", *tests],
                           pool.map(compile_unit, [*library, "test/tap.c", *tests])))
        archive = BUILD / "liblower.a"
        archive.unlink(missing_ok=True)
        run(["aarch64-linux-gnu-ar", "rcs", archive, *(objects[source] for source in [*library, "test/tap.c"])])
        list(pool.map(lambda source: run(
            [COMPILE[0], "-static", objects[source], archive, f"-L{LIBRARIES}", "-lsodium", "-lnettle", "-l:libuv_a.a", "-ljansson",
             "-lpthread", "-ldl", "-o", BUILD / pathlib.Path(source).stem]), tests))


# Tests that need what qemu does not do, and what that is. Its madvise answers 0 to any advice, and
# passes most of them over.
BEYOND_QEMU = {
    "private_memory_is_zero_at_first_and_in_a_child": "MADV_WIPEONFORK",
    "the_advice_is_what_the_setting_says": "flags of its own in /proc/self/smaps",
    "a_forked_child_finds_nothing_in_a_private_table": "MADV_WIPEONFORK",
}


def case(name):
    def passes():
        program = BUILD / f"test_{name}"
        if not (LIBRARIES / "libsodium.a").exists():
            tap.skip(UNREACHABLE)
        done = subprocess.run(["qemu-aarch64", str(program)], cwd=ROOT, timeout=120, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        tap.note(done.stdout)
        planned = re.search(r"^1\.\.(\d+)$", done.stdout, re.MULTILINE)
        results = re.findall(r"^(ok|not ok) \d+ - (\w+)", done.stdout, re.MULTILINE)
        assert planned and len(results) == int(planned.group(1)), f"status {done.returncode}"
        failed = [test for result, test in results if result != "ok" and test not in BEYOND_QEMU]
        assert not failed, f"failed: {failed}"
        for test in [test for result, test in results if result != "ok"]:
            tap.note(f"{test} does not count: qemu has no {BEYOND_QEMU[test]}")

    passes.__name__ = f"test_{name}_passes_on_aarch64"
    return passes


tap.main([the_lower_layers_are_built_for_aarch64, *map(case, test_names())])
