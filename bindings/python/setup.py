# SPDX-License-Identifier: Apache-2.0
"""Makes the wheel: Meson builds extension and program, linked with nothing but the C library.

Needs what tools/packages.txt lists to build with, and no network. With CLOAKROOM_BUILD set, what
was built in that directory is taken as it is.
"""

import os
import pathlib
import platform
import re
import runpy
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

why_not = runpy.run_path(str(HERE / "cloakroom" / "_system.py"))["why_not_here"]()
if why_not is not None:
    sys.exit(why_not)

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

TREE = HERE / "tree" if (HERE / "tree").is_dir() else HERE.parent.parent
EXTENSION = pathlib.Path("bindings", "python", "_core.abi3.so")
PROGRAM = pathlib.Path("cloakroom")

# What Meson reads of the tree, for a source package.
SOURCES = ("LICENSE", "meson.build", "meson_options.txt", "include", "src", "tools/embed.py", "tools/embed_lines.py",
           "bindings/python/meson.build", "bindings/python/core.map", "bindings/python/src")

# The libraries that are inside extension and program, by the Debian package whose copyright they come with.
INSIDE = ("libcrypt1", "libinih1", "libjansson4", "libnettle8", "libsodium23", "libsqlite3-0", "libuv1")


def version():
    return re.search(r"\bversion: '([^']+)'", (TREE / "meson.build").read_text(encoding="utf-8"))[1]


def platform_tag():
    """Of what was linked with the C library of this machine and no other."""
    name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc":
        return f"linux_{platform.machine()}"
    major, minor = number.split(".")[:2]
    return f"manylinux_{major}_{minor}_{platform.machine()}"


class Build(build_ext):
    def run(self):
        given = os.environ.get("CLOAKROOM_BUILD")
        build = pathlib.Path(given) if given else self.meson(pathlib.Path(self.build_temp) / "meson")
        package = pathlib.Path(self.get_ext_fullpath("cloakroom._core")).parent
        (package / "bin").mkdir(parents=True, exist_ok=True)
        self.take(build / EXTENSION, package / EXTENSION.name)
        self.take(build / PROGRAM, package / "bin" / PROGRAM.name)
        if not self.inplace:
            self.take_copyrights(package / "copyright")

    def meson(self, build):
        # The Python whose headers are used; the limited API makes one as good as another.
        env = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}
        if not (build / "build.ninja").exists():
            self.do("meson", "setup", str(build), str(TREE), "-Dportable=true", "-Dpython=enabled",
                    "--wrap-mode=nodownload", env=env)
        self.do("ninja", "-C", str(build), str(EXTENSION), str(PROGRAM), env=env)
        return build

    @staticmethod
    def do(*command, env):
        try:
            subprocess.run(command, env=env, check=True)
        except FileNotFoundError:
            sys.exit(f"cloakroom is built with {command[0]}, and it is not here: apt-get install meson ninja-build"
                     " pkg-config gcc, and the other packages of [build] in tools/packages.txt")
        except subprocess.CalledProcessError as error:
            sys.exit(f"{command[0]} failed with status {error.returncode}: what it says is above")

    @staticmethod
    def take(source, target):
        """Without what only a debugger reads."""
        target.unlink(missing_ok=True)
        shutil.copy(source, target)
        target.chmod(0o755)
        if "CLOAKROOM_BUILD" not in os.environ and shutil.which("strip"):
            subprocess.run(["strip", "--strip-unneeded", str(target)], check=True)

    @staticmethod
    def take_copyrights(folder):
        for name in INSIDE:
            source = pathlib.Path("/usr/share/doc", name, "copyright")
            if source.exists():
                folder.mkdir(exist_ok=True)
                shutil.copy(source, folder / f"{name}.txt")

    def get_outputs(self):
        package = pathlib.Path(self.get_ext_fullpath("cloakroom._core")).parent
        return [str(package / EXTENSION.name), str(package / "bin" / PROGRAM.name)]

    def get_output_mapping(self):
        return {}


class Source(sdist):
    """With the part of the tree that Meson reads, in tree/."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for name in SOURCES:
            source, target = TREE / name, pathlib.Path(base_dir, "tree", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)


setup(
    version=version(),
    ext_modules=[Extension("cloakroom._core", [], py_limited_api=True)],
    cmdclass={"build_ext": Build, "sdist": Source},
    options={"bdist_wheel": {"py_limited_api": "cp311", "plat_name": platform_tag()}},
)
