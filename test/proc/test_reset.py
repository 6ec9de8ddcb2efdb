#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""Links for a new password, with real processes (ASVS E13): by the command and by the operators'
socket, used twice, by many at once, after a change, and while the agent is killed."""

import atexit
import concurrent.futures
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap

PASSWORDS = [f"battery staple {n} of mine" for n in range(8)]


class Linked(scratch.Server):
    """A server that writes audit events, and keeps what anybody was told."""

    def __init__(self):
        home = scratch.folder("reset")
        self.audit = home / "audit.jsonl"
        config = home / "cloakroom.conf"
        config.write_text(f"[audit]\nfile = {self.audit}\n[login]\nlimits = off\n")
        self.tokens = []
        super().__init__(home=home, arguments=["--config", str(config)])

    def cli(self, *words, **more):
        return subprocess.run([scratch.PROGRAM, "user", *words, "--store", self.store, "--state",
                               str(self.state)], capture_output=True, text=True, timeout=60, **more)

    def link(self, user="alice"):
        """By the operators' socket."""
        ops = scratch.Unix(self.state / "ops.sock")
        ops.request("POST", f"/users/{user}/reset-link")
        answer = ops.getresponse()
        body = json.loads(answer.read())
        ops.close()
        assert answer.status == 200, body
        assert body["link"] == f"/reset?link={body['token']}", body
        self.tokens.append(body["token"])
        return body["token"]

    def use(self, token, password):
        """The status of a request on a connection of its own."""
        connection = scratch.Connection(self.port)
        try:
            return connection.ask("POST", "/reset", body={"link": token, "new_password": password})[0]
        finally:
            connection.close()

    def log_in(self, password):
        """The status and the token."""
        connection = scratch.Connection(self.port)
        try:
            status, body = connection.ask("POST", "/login", body={
                "user": "alice", "password": password, "mode": "bearer"})
        finally:
            connection.close()
        return status, body["signed_token"] if status == 200 else None

    def events(self, action):
        rows = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [row for row in rows if row.get("action") == action]

    def passes(self, token):
        """Who accepts it as a session."""
        connection = scratch.Connection(self.port)
        status = connection.session(token)
        connection.close()
        return status == 200


@functools.cache
def the_server():
    """One for all tests, each of which begins with a password of its own."""
    linked = Linked()
    atexit.register(linked.close)
    return linked


def begin(password):
    """The server, where alice has this password."""
    server = the_server()
    changed = server.cli("passwd", "alice", input=f"{password}\n")
    assert changed.returncode == 0, changed
    return server


def a_link_is_shown_where_it_is_asked_for_and_sets_one_password():
    server = begin(first := PASSWORDS[7])
    _, session = server.log_in(first)
    before = len(server.events("reset link"))
    refused = server.cli("reset", "alice")
    assert refused.returncode == 2 and "--print" in refused.stderr and not refused.stdout, refused
    shown = server.cli("reset", "alice", "--print")
    assert shown.returncode == 0, shown
    scratch.until(lambda: len(server.events("reset link")) > before, "the event")
    assert len(server.events("reset link")) == before + 1, "the first made one"
    path = shown.stdout.splitlines()[1]
    assert path.startswith("/reset?link=crs1_"), shown.stdout
    made = json.loads(server.cli("reset", "alice", "--json").stdout)
    assert made["user"] == "alice" and made["link"] == "/reset?link=" + made["token"], made
    tokens = [path.removeprefix("/reset?link="), made["token"], server.link()]
    absent = server.cli("reset", "nobody", "--json")
    assert absent.returncode == 1 and "user list" in absent.stderr, absent

    # To look at it spends nothing, and it is nobody's session.
    connection = scratch.Connection(server.port)
    for _ in range(20):
        status, page = connection.ask("GET", path)
        assert status == 200 and f'value="{tokens[0]}"' in page, page
    connection.close()
    assert not server.passes(tokens[0]) and server.passes(session)

    assert server.use(tokens[1], "too short") == 400
    assert server.use(tokens[1], PASSWORDS[0]) == 200
    assert not server.passes(session), "the sessions have ended"
    assert [server.use(token, PASSWORDS[1]) for token in tokens] == [403, 403, 403]
    assert server.log_in(PASSWORDS[1])[0] == server.log_in(first)[0] == 401
    assert server.log_in(PASSWORDS[0])[0] == 200


def a_change_in_between_voids_a_link():
    server = begin(PASSWORDS[0])
    token = server.link()
    begin(PASSWORDS[2])
    assert server.use(token, PASSWORDS[3]) == 403
    assert server.log_in(PASSWORDS[2])[0] == 200


def of_many_at_once_one_sets_its_password():
    server = begin("the one before all of them")
    token = server.link()
    _, session = server.log_in("the one before all of them")
    with concurrent.futures.ThreadPoolExecutor(len(PASSWORDS)) as pool:
        statuses = list(pool.map(lambda password: server.use(token, password), PASSWORDS))
    assert sorted(statuses) == [200] + [403] * 7, statuses
    assert not server.passes(session)
    won = PASSWORDS[statuses.index(200)]
    assert server.log_in(won)[0] == 200
    lost = next(password for password in PASSWORDS if password != won)
    assert server.log_in(lost)[0] == 401


def a_killed_agent_has_done_all_of_it_or_nothing():
    server = begin(before := "the one before it is killed")
    outcomes = set()
    for turn in range(3):
        token, after = server.link(), f"{PASSWORDS[turn]}, turn {turn}"
        agent = server.agent_pid()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.use, token, after)
            time.sleep(tap.random.random() * 0.15)  # before, while it hashes, or after
            os.kill(agent, signal.SIGKILL)
            status = answer.result()
        assert status in (200, 503), status
        scratch.until(lambda: server.agent_pid() not in (None, agent), "another agent")
        scratch.until(lambda: server.log_in(before)[0] != 503, "it knows who somebody is")
        is_set = server.log_in(after)[0] == 200
        assert is_set or status != 200, "it had answered that it was set"
        assert server.log_in(before)[0] == (401 if is_set else 200)
        assert server.use(token, after) == (403 if is_set else 200), "spent, or good still"
        outcomes.add(is_set)
        before = after
    tap.note(f"set before the agent was killed: {sorted(outcomes)}")


def what_happened_is_written_down_and_no_token_is():
    server = begin(PASSWORDS[0])
    token = server.link()
    assert server.use(token, PASSWORDS[1]) == 200 and server.use(token, PASSWORDS[2]) == 403
    scratch.until(lambda: server.events("password by reset link")[-1:] and
                  server.events("password by reset link")[-1]["event"] == "failure", "the events")
    made = server.events("reset link")[-1]
    done, refused = server.events("password by reset link")[-2:]
    assert (made["event"], made["outcome"], made["user"], made["via"]) == (
        "account", "done", "alice", "operator"), made
    assert (done["event"], done["outcome"], done["user"], done["via"], done["address"]) == (
        "account", "done", "alice", "http", "127.0.0.1"), done
    assert refused["outcome"] == "denied" and "user" not in refused, refused
    said = server.said() + server.audit.read_text()
    store = b"".join(path.read_bytes() for path in server.home.glob("cloakroom.db*"))
    for token in server.tokens:
        assert token[5:] not in said, "a link's token was written down"
        assert token[33:].encode() not in store, "the store has a link's token"


tap.main([
    a_link_is_shown_where_it_is_asked_for_and_sets_one_password,
    a_change_in_between_voids_a_link,
    of_many_at_once_one_sets_its_password,
    a_killed_agent_has_done_all_of_it_or_nothing,
    what_happened_is_written_down_and_no_token_is,
])
