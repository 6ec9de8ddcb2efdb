#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""What README.md and doc/deploying.md say to Python applications works as it stands there. (Their gunicorn
is what deaths.py restarts, their container what test_container.py starts, their wheel is test_readme_long.py's.)
"""

import asyncio
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "test" / "python"),
                str(ROOT / "examples" / "fastapi")]
sys.dont_write_bytecode = True
import blocks
import deaths
import demo
import scratch
import tap


def the_ten_lines_of_the_readme_are_a_login_a_greeting_and_a_logout():
    text = blocks.one("README.md", "python")
    assert len([line for line in text.splitlines() if line.strip()]) <= 15, text
    folder = scratch.folder("app")
    state = folder / "agent"
    assert "sqlite:///tmp/app.db" in text
    # The test may be root, for whom no worker starts an agent.
    (folder / "app.py").write_text(text.replace("sqlite:///tmp/app.db", f"cloakroom://{state}/app.sock"))
    port, log = scratch.free_port(), folder / "log"

    async def story():
        async def ask(method, path, cookie=""):
            return await demo.ask(port, method, path, cookie)

        async def everybody(cookie, status):
            answers = await asyncio.gather(*(ask("GET", "/", cookie) for _ in range(20)))
            assert {answer.status for answer in answers} == {status}, [answer.status for answer in answers]
            return answers[0].body

        async def serves():
            return (await ask("GET", "/")).status == 401

        async def has_agent():
            return (state / "app.sock").exists()

        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(demo.running(
                [str(scratch.PROGRAM), "agent", "--store", f"sqlite://{folder}/app.db", "--state", str(state)], log,
                dict(os.environ)))
            await demo.until(has_agent, agent, log)
            command = "uvicorn app:app --workers 4"
            assert command in blocks.one("README.md", ""), "how it is started"
            server = stack.enter_context(demo.running(
                [sys.executable, "-m", *command.replace("4", "2").split(), "--app-dir", str(folder), "--port", str(port),
                 "--log-level", "warning"], log, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}))
            await demo.until(serves, server, log)
            first = await ask("POST", "/login/alice")
            assert first.status == 200 and first.cookie.startswith("cloakroom=crs1_"), first.status
            assert await everybody(first.cookie, 200) == b'"Hello alice"'
            second = await ask("POST", "/login/alice")  # as the policy says
            await everybody(first.cookie, 401)
            await everybody(second.cookie, 200)
            assert (await ask("POST", "/logout", second.cookie)).status == 200
            await everybody(second.cookie, 401)

    asyncio.run(story())


def the_unit_is_one_that_systemd_understands():
    if shutil.which("systemd-analyze") is None:
        tap.skip("no systemd-analyze")
    folder = scratch.folder("units")
    for unit in (scratch.ROOT / "packaging" / "systemd").glob("cloakroom.*"):
        (folder / unit.name).write_text(unit.read_text().replace("/usr/bin/cloakroom", str(scratch.PROGRAM)))
    text = blocks.one("doc/deploying.md", "ini")
    program = "/srv/shop/venv/bin/gunicorn"
    assert program in text
    (folder / "shop.service").write_text(text.replace(program, sys.executable))
    done = subprocess.run(["systemd-analyze", "--no-pager", "verify", "--man=no", folder / "shop.service"], text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"})
    about_it = [line for line in done.stdout.splitlines() if "shop.service" in line]
    assert done.returncode == 0 and not about_it, done.stdout
    assert "--config gunicorn.conf.py" in text and deaths.CONFIG_NAME == "gunicorn.conf.py"


tap.main([
    the_ten_lines_of_the_readme_are_a_login_a_greeting_and_a_logout,
    the_unit_is_one_that_systemd_understands,
])
