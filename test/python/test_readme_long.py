#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest long timeout=600
"""The README's section on Python, word for word: the wheel, an environment with nothing else of ours, ten
lines, four workers; as somebody who is not root, whose first worker starts the agent. And the whole
demonstration, with as many users as the README's table has."""

import asyncio
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "test" / "python"),
                str(ROOT / "examples" / "fastapi")]
sys.dont_write_bytecode = True
import blocks
import demo
import scratch
import tap


def somebody():
    """How to run something as who is not root, and who that is."""
    if os.geteuid() != 0:
        return [], os.geteuid()
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups"], nobody.pw_uid


def agents(folder):
    return [int(process.name) for process in pathlib.Path("/proc").glob("[0-9]*")
            if any(str(folder) in word for word in scratch.arguments(process.name))
            and "agent" in scratch.arguments(process.name)[1:2]]


def the_wheel_and_ten_lines_are_all_that_is_needed():
    install, serve = blocks.one("README.md", "").strip().splitlines()
    said = scratch.run(["./dev", "wheel"], cwd=scratch.ROOT, timeout=500)
    assert "build-python/wheel/cloakroom-" in said, said
    prefix, uid = somebody()
    # Debian's, since a Python in somebody's home is out of reach of others.
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    folder = scratch.folder("wheel")
    for place in (folder, folder.parent):
        place.chmod(0o755)
    scratch.run([python, "-m", "venv", folder / "venv"])
    assert install.startswith("pip install build-python/wheel/cloakroom-*.whl"), install
    scratch.run(["bash", "-c", f"{folder}/venv/bin/{install} --quiet --disable-pip-version-check"], cwd=scratch.ROOT,
                timeout=300)
    home = folder / "home"
    home.mkdir()
    os.chown(home, uid, -1)
    text = blocks.one("README.md", "python")
    (home / "app.py").write_text(text.replace("/tmp/app.db", f"{home}/app.db"))
    port, log = scratch.free_port(), folder / "log"
    env = {"PATH": f"{folder}/venv/bin:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home),
           "PYTHONDONTWRITEBYTECODE": "1", "XDG_RUNTIME_DIR": str(home)}

    async def story():
        async def serves():
            return (await demo.ask(port, "GET", "/")).status == 401

        with contextlib.ExitStack() as stack:
            command = [*prefix, "env", f"--chdir={home}", *serve.split(), "--port", str(port), "--log-level", "warning"]
            server = stack.enter_context(demo.running(command, log, env))
            await demo.until(serves, server, log)
            assert len(agents(folder)) == 1, log.read_text()  # started by a worker, out of the wheel
            cookie = (await demo.ask(port, "POST", "/login/alice")).cookie
            for status, path in ((200, "/"), (200, "/logout"), (401, "/")):
                method, times = ("POST", 1) if path == "/logout" else ("GET", 40)
                answers = await asyncio.gather(*(demo.ask(port, method, path, cookie) for _ in range(times)))
                assert {answer.status for answer in answers} == {status}, (path, answers)

    try:
        asyncio.run(story())
    finally:
        for pid in agents(folder):
            os.kill(pid, signal.SIGTERM)
        shutil.rmtree(scratch.ROOT / "build-python" / "wheel")


def the_whole_demonstration_has_no_mistake_of_ours():
    said = scratch.run(["./dev", "demo"], cwd=scratch.ROOT, timeout=400)
    tap.note(said)
    assert f"{demo.USERS} users" in said and "no mistake" in said, said


tap.main([
    the_wheel_and_ten_lines_are_all_that_is_needed,
    the_whole_demonstration_has_no_mistake_of_ours,
])
