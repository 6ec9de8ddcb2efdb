#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""packaging/compose*.yaml and the Dockerfile: what they start works (containers.py runs it), and they say
what may be scaled and what breaks otherwise."""

import pathlib
import re
import signal
import sys

import yaml

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import containers
import scratch
import tap

KINDS = {"compose.yaml": [], "compose.prod.yaml": ["compose.prod.yaml"], "compose.debug.yaml": ["compose.debug.yaml"]}


def four_workers_agree_in_production():
    containers.a_stack_works(["compose.prod.yaml"])


def what_may_be_scaled_can_and_what_may_not_is_refused():
    """Another container of the application joins; another agent says why it does not start; and an agent
    that is started again logs nobody out."""
    with containers.Stack([]) as stack:
        agent = stack.start("agent")
        assert agent.run(["cloakroom", "user", "add", "alice"], f"{containers.PASSWORD}\n")[0] == 0
        one, two = stack.start("app"), stack.start("app")
        token = containers.log_in(one)
        containers.everyone_says(one, token, "200")
        containers.everyone_says(two, token, "200")
        another = stack.start("agent", wait=False)
        assert another.process.wait(30) != 0
        assert "is held by the agent" in another.said(), another.said()
        containers.everyone_says(two, token, "200")
        agent.close(signal.SIGKILL)
        stack.start("agent")
        for app in (one, two):
            scratch.until(lambda app=app: set(containers.everybody(app, token).values()) == {"200"}, "the new agent is found")
            containers.everyone_says(app, token, "200")


def a_number_of_workers_that_is_missing_is_asked_for():
    try:
        containers.services(["compose.prod.yaml"], {})
    except AssertionError as error:
        assert "WEB_CONCURRENCY" in str(error) and "how many workers" in str(error), error
    else:
        raise AssertionError("nobody asked")


def each_file_says_what_may_be_scaled():
    """Each service has the note in each file, the application has the variable, and nothing is shared
    that need not be."""
    for name, more in KINDS.items():
        text = (containers.FOLDER / name).read_text(encoding="utf-8")
        parts = dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w+:|^\S|\Z)", text, re.M | re.S))
        assert "NOT TO BE SCALED" in parts["agent"] and "MAY BE SCALED" in parts["app"], name
        assert "WEB_CONCURRENCY" in parts["app"], name
        whole = containers.services(more, {"WEB_CONCURRENCY": "4"})
        for service in whole["services"].values():
            assert not {"pid", "ipc", "privileged"} & set(service), name
        agent, app = whole["services"]["agent"], whole["services"]["app"]
        assert agent["network_mode"] == "none" and "ports" not in agent
        assert [volume.split(":")[0] for volume in app["volumes"]] == ["socket"]
        assert agent["user"] != app["user"]
        assert all(port.startswith("127.0.0.1:") for port in app["ports"])
    assert "ONE container" in containers.DOCKERFILE and "WEB_CONCURRENCY" in containers.DOCKERFILE


def the_dockerfile_says_what_the_tree_says():
    """Its packages are those that the build needs, its users and commands those of the compose files."""
    lines = (scratch.ROOT / "tools" / "packages.txt").read_text(encoding="utf-8").split("[build]")[1].split("\n[")[0]
    wanted = {line.split()[0] for line in lines.splitlines() if line.strip()}
    build = containers.DOCKERFILE.split("FROM debian:12-slim")[0]
    given = set(re.search(r"recommends \\\n(.*?)&&", build, re.S).group(1).replace("\\", "").split())
    assert given == wanted, given ^ wanted
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", containers.DOCKERFILE, re.M | re.S))
    whole = containers.services([], {})["services"]
    for stage, service in (("cloakroom", whole["agent"]), ("app", whole["app"])):
        assert service["build"]["target"] == stage
        assert re.search(r"^USER (\S+)", stages[stage], re.M).group(1) == service["user"]
        said = re.findall(r"^CMD (.*)$", stages[stage], re.M)[-1]
        assert yaml.safe_load(said) == service["command"]
    needed = re.findall(r"NEEDED.*\[lib([a-z0-9]+?)[-.0-9]*\.so", scratch.run(["readelf", "-d", scratch.PROGRAM]))
    assert len(needed) > 5, needed
    for name in set(needed) - {"c", "m"}:
        assert f"lib{name}" in stages["base"], f"nothing brings lib{name}"


tap.main([
    four_workers_agree_in_production,
    what_may_be_scaled_can_and_what_may_not_is_refused,
    a_number_of_workers_that_is_missing_is_asked_for,
    each_file_says_what_may_be_scaled,
    the_dockerfile_says_what_the_tree_says,
])
