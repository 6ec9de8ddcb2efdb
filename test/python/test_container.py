#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=debian timeout=120
"""A Python application in a container of its own, as doc/deploying.md has it over packaging/compose.yaml: it
sees of Cloakroom only the volume with the agent's socket. Debian's Python, since it is where any
user of a container can run it."""

import pathlib
import re
import shutil
import signal
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "proc"), str(ROOT / "test" / "python")]
sys.dont_write_bytecode = True
import blocks
import containers
import scratch
import tap

PLACE = "/srv/shop"
UVICORN = ["uvicorn", "--host", "0.0.0.0", "--port", "8080", "shop:app"]


class Stack(containers.Stack):
    """The compose file with the page's on top. Where an image has the application and the wheel, a volume
    has them here."""

    def __init__(self):
        super().__init__([], WEB_CONCURRENCY="4")
        self.page = yaml.safe_load(blocks.one("doc/deploying.md", "yaml"))
        app = containers.merged(self.whole["services"]["app"], self.page["services"]["app"])
        app["command"] = ["/usr/bin/python3", "-m", *self.page["services"]["app"]["command"]]
        app["environment"] |= {"PYTHONPATH": PLACE, "PYTHONDONTWRITEBYTECODE": "1"}
        app["volumes"] = [*app["volumes"], f"image:{PLACE}:ro"]
        self.whole["services"]["app"] = app
        self.volumes["image"] = self.home / "image"
        shutil.copytree(scratch.BUILD / "python" / "cloakroom", self.volumes["image"] / "cloakroom")
        shutil.copytree(ROOT / "examples" / "fastapi", self.volumes["image"], dirs_exist_ok=True)


def asked(app, *words, times, path="/profile"):
    """The statuses of so many answers, each over a connection of its own."""
    said = app.curl("-H", "Connection: close", "-w", "\n%{http_code}\n", *words,
                    *[f"http://127.0.0.1:8080{path}"] * times)
    return re.findall(r"(?m)^\d{3}$", said)


def workers(app):
    said = app.curl("-H", "Connection: close", "-w", "\n", *["http://127.0.0.1:8080/worker"] * 40)
    return set(said.split())


def log_in(app):
    said = app.curl("-i", "-H", "Content-Type: application/json", "-d", '{"user": "alice", "password": "open sesame"}',
                    "http://127.0.0.1:8080/login")
    found = re.search(r"(?im)^set-cookie: (cloakroom=crs1_[^;]+)", said)
    assert found, said
    return found[1]


def four_workers_in_a_container_agree():
    with Stack() as stack:
        agent, app = stack.start("agent"), stack.start("app", wait=False)
        seen = set()

        def all_serve():
            app.pid()
            seen.update(workers(app) if app.pid() else ())
            return len(seen) >= 4

        scratch.until(all_serve, f"four workers: {app.said()}")
        # The file of the store is not here.
        assert not pathlib.Path(f"/proc/{app.pid()}/root/var/lib/cloakroom/cloakroom.db").exists()
        cookie = log_in(app)
        assert asked(app, "-b", cookie, times=40) == ["200"] * 40
        another = log_in(app)
        assert asked(app, "-b", cookie, times=40) == ["401"] * 40
        # The agent's container is replaced: later, and nobody is logged out.
        agent.close(signal.SIGKILL)
        stack.start("agent")

        def is_back():
            statuses = set(asked(app, "-b", another, times=20))
            assert statuses <= {"200", "503"}, statuses
            return statuses == {"200"}

        scratch.until(is_back, "the new agent is found")
        assert asked(app, "-b", cookie, times=40) == ["401"] * 40


def image_and_compose_file_start_the_same():
    dockerfile, compose = blocks.one("doc/deploying.md", "dockerfile"), blocks.one("doc/deploying.md", "yaml")
    command = yaml.safe_load(compose)["services"]["app"]["command"]
    assert command == UVICORN and yaml.safe_load(re.search(r"^CMD (.*)$", dockerfile, re.M)[1]) == command
    copied = re.search(r"^COPY (cloakroom-\S+) requirements.txt /tmp/$", dockerfile, re.M)[1]
    assert pathlib.PurePath("cloakroom-0.1.0-cp311-abi3-manylinux_2_36_x86_64.whl").match(copied), copied
    assert f"-r /tmp/requirements.txt /tmp/{copied}" in dockerfile


tap.main([
    four_workers_in_a_container_agree,
    image_and_compose_file_start_the_same,
])
