#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest long timeout=900
"""The wheel, as one gets it: made out of a source package, without a network, and installed beside
FastAPI where there is nothing else of ours."""

import contextlib
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import site
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap

DEBIAN = "/usr/bin/python3"
BESIDE_LIBC = re.compile(r"linux-vdso|ld-linux|lib(c|m|pthread|dl|rt)\.so")

APPLICATION = '''
from fastapi import Depends, FastAPI, Request, Response
from cloakroom.fastapi import CookieSettings, Session, current_session, login, setup
app = FastAPI()
setup(app, url=URL, cookie=CookieSettings(secure=False))
@app.post("/login")
async def sign_in(name: str, request: Request, response: Response):
    await login(request, response, name, policy="replace")
@app.get("/me")
async def me(session: Session = Depends(current_session)):
    return {"user": session.user}
'''


def builder():
    """Debian's Python, whose setuptools are the oldest that must do; else this one."""
    done = subprocess.run([DEBIAN, "-c", "import setuptools, wheel, pip"], check=False, stderr=subprocess.DEVNULL)
    return DEBIAN if done.returncode == 0 else sys.executable


def tree_copy():
    """What git would give somebody who clones, without what was built here."""
    place = scratch.folder("clone")
    names = scratch.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name, follow_symlinks=False)
    return place


def make():
    """The wheel's path, and the source package's. Made once for all tests."""
    if not made:
        python, out = builder(), scratch.folder("out")
        env = {"CLOAKROOM_BUILD": "", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        scratch.run([python, "-c", "import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])", out], env,
                    cwd=tree_copy() / "bindings" / "python", timeout=120)
        source, = out.glob("*.tar.gz")
        scratch.run([python, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps",
                     "--wheel-dir", out, source], env, timeout=800)
        wheel, = out.glob("*.whl")
        made.extend((wheel, source))
    return made


made = []


class Environment:
    """A fresh one with the wheel in it and, for the frameworks, the packages of this Python. As
    somebody who is not root, where root is who tests."""

    def __init__(self):
        self.home = scratch.folder("fresh")
        self.who = {}
        base, packages = sys._base_executable, site.getsitepackages()[0]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for place in (self.home, self.home.parent):
                if place != pathlib.Path("/tmp"):
                    place.chmod(0o755)
            if not self.may_run(base):
                base, packages = DEBIAN, "/usr/lib/python3/dist-packages"
        scratch.run([base, "-m", "venv", "--without-pip", self.home / "venv"])
        self.bin = self.home / "venv" / "bin"
        scratch.run([sys.executable, "-m", "pip", "--python", self.bin / "python3", "install", "--quiet", "--no-index",
                     "--no-deps", "--no-compile", make()[0]])
        installed = next((self.home / "venv").glob("lib/python3.*/site-packages"))
        (installed / "frameworks.pth").write_text(f"{packages}\n")
        self.package = installed / "cloakroom"
        self.data = self.home / "data"
        self.data.mkdir()
        for place in (self.data,):
            if self.who:
                os.chown(place, self.who["user"], self.who["group"])
        # Nothing of ours is found by any of these.
        self.env = {"PATH": str(self.bin), "HOME": str(self.data), "XDG_RUNTIME_DIR": str(self.data),
                    "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
                    # By which the runner finds what is left.
                    **{name: value for name, value in os.environ.items() if name == "CR_TEST_MARK"}}

    def may_run(self, python):
        try:
            return subprocess.run([python, "-c", ""], check=False, stderr=subprocess.DEVNULL, **self.who).returncode == 0
        except PermissionError:
            return False

    def run(self, *command):
        return subprocess.run([self.bin / command[0], *command[1:]], env=self.env, cwd=self.data, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              **self.who)

    def do(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def agents(self):
        program = str(self.package / "bin" / "cloakroom")
        return [int(each.name) for each in pathlib.Path("/proc").glob("[0-9]*")
                if scratch.arguments(each.name)[:2] in ([program, "agent"], ["cloakroom", "agent"])
                and str(self.data) in " ".join(scratch.arguments(each.name))]

    def close(self):
        for pid in self.agents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        scratch.until(lambda: not self.agents(), "its agents end")


def the_wheel_is_one_for_all_pythons_and_complete():
    wheel, source = make()
    assert re.fullmatch(r"cloakroom-[\d.]+-cp311-abi3-(manylinux_2_\d+|linux)_\w+\.whl", wheel.name), wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        program = archive.getinfo("cloakroom/bin/cloakroom")
    assert program.external_attr >> 16 & 0o111, "the program is none"
    package = ROOT / "bindings" / "python" / "cloakroom"
    wanted = {f"cloakroom/{path.relative_to(package)}" for path in package.rglob("*")
              if path.suffix in (".py", ".pyi") or path.name == "py.typed"}
    assert wanted <= names, wanted - names
    assert "cloakroom/_core.abi3.so" in names
    strange = {name for name in names - wanted if not re.match(
        r"cloakroom(-[\d.]+\.dist-info/.*|/_core\.abi3\.so|/bin/cloakroom|/copyright/.*\.txt)$", name)}
    assert not strange, strange
    assert any(name.endswith("/LICENSE") for name in names) and "cloakroom/copyright/libsodium23.txt" in names
    with tarfile.open(source) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"setup.py", "pyproject.toml", "tree/meson.build", "tree/src/room/room.c"} <= held
    assert not any("__pycache__" in name or name.startswith("tree/test") for name in held)


def it_needs_nothing_but_the_c_library():
    place = Environment()
    for name in ("_core.abi3.so", "bin/cloakroom"):
        needed = scratch.run(["ldd", place.package / name]).splitlines()
        assert needed and all(BESIDE_LIBC.search(line) for line in needed), needed
        said = (place.package / name).read_bytes()
        assert str(ROOT).encode() not in said and b"CR_FAILPOINTS" not in said
    exported = scratch.run(["nm", "--dynamic", "--defined-only", place.package / "_core.abi3.so"]).split()
    assert exported[2::3] == ["PyInit__core"], exported
    number = re.search(r"manylinux_2_(\d+)", make()[0].name)
    for name in ("_core.abi3.so", "bin/cloakroom"):
        used = re.findall(r"GLIBC_2\.(\d+)", scratch.run(["objdump", "-T", place.package / name]))
        assert number is None or max(map(int, used)) <= int(number[1]), f"{name}: {max(map(int, used))}"


def the_command_is_there_and_says_where_serve_is():
    place = Environment()
    assert place.do("cloakroom", "--version") == place.do("python3", "-m", "cloakroom", "version")
    listed = place.do("cloakroom", "--help")
    assert re.search(r"^  agent ", listed, re.M) and not re.search(r"^  serve ", listed, re.M), listed
    refused = place.run("cloakroom", "serve")
    assert refused.returncode == 2 and "Debian package" in refused.stderr and "image" in refused.stderr, refused
    assert "user" in place.do("cloakroom", "help", "user", "add")


def ten_lines_of_fastapi_work():
    place = Environment()
    server = None
    try:
        store = f"sqlite://{place.data}/sessions.db"
        (place.data / "app.py").write_text(APPLICATION.replace("URL", repr(store)))
        port = scratch.free_port()
        with open(place.data / "log", "wb") as log:
            server = subprocess.Popen(
                [place.bin / "python3", "-m", "uvicorn", "app:app", "--port", str(port), "--workers", "2"],
                env=place.env, cwd=place.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **place.who)

        def said():
            return (place.data / "log").read_text(encoding="utf-8", errors="replace")

        def ask(method, path, cookie=None):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.request(method, path, headers={"Cookie": cookie} if cookie else {})
                answer = connection.getresponse()
                return answer.status, answer.getheader("Set-Cookie"), answer.read()
            except ConnectionError:
                return None, None, None
            finally:
                connection.close()

        def serves():
            assert server.poll() is None, said()
            return ask("GET", "/me")[0] == 401

        try:
            scratch.until(serves, "the server", 60)
        except AssertionError as late:
            raise AssertionError(said()) from late
        status, cookie, _ = ask("POST", "/login?name=alice")
        assert status == 200 and cookie.startswith("cloakroom=crs1_"), said()
        cookie = cookie.split(";")[0]
        for _ in range(20):
            status, _, body = ask("GET", "/me", cookie)
            assert status == 200 and json.loads(body) == {"user": "alice"}, said()
        # The agent is the one that came with it, and its doctor finds it.
        scratch.until(place.agents, "the agent")
        told = place.run("cloakroom", "doctor", "--store", store)
        assert told.returncode in (0, 1) and str(place.agents()[0]) in told.stdout, told
        place.do("cloakroom", "session", "end", "--user", "alice", "--store", store)
        assert ask("GET", "/me", cookie)[0] == 401
    finally:
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            scratch.end(server)
        place.close()


tap.main([
    the_wheel_is_one_for_all_pythons_and_complete,
    it_needs_nothing_but_the_c_library,
    the_command_is_there_and_says_where_serve_is,
    ten_lines_of_fastapi_work,
])
