#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""Audit events of real processes (ASVS H5 to H7): each once, nothing secret in any output, a full
disk stops nothing."""

import base64
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scratch
import tap

CANARY = "canary-7f3a9c"


def store_bytes(server):
    """All that is in its files, now."""
    path = pathlib.Path(server.store.removeprefix("sqlite://"))
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


class Audited:
    """A server whose agent writes audit events to `path`."""

    def __init__(self, workers=2, before=None, more=()):
        self.home = scratch.folder("audit")
        self.path = self.home / "audit.jsonl"
        config = self.home / "cloakroom.conf"
        config.write_text(f"[audit]\nfile = {self.path}\n")
        if before is not None:
            before(self)
        self.server = scratch.Server(workers=workers, home=self.home,
                                     arguments=["--config", str(config), *more])
        self.where = ("--store", self.server.store, "--state", str(self.server.state))

    def cli(self, *words, **more):
        return scratch.run([scratch.PROGRAM, *words, *self.where], **more)

    def events(self, *names):
        """Those of these names; the file's lines are all whole."""
        text = self.path.read_bytes().lstrip(b"\0").decode()
        rows = [json.loads(line) for line in text.splitlines()]
        return [row for row in rows if row["event"] in names]

    def wait(self, count, *names):
        """Until there are so many; then no more."""
        scratch.until(lambda: len(self.events(*names)) >= count, f"{count} of {names}")
        rows = self.events(*names)
        assert len(rows) == count, rows
        return rows

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()


def each_event_is_written_once_with_who_what_and_when():
    with Audited() as audited:
        server = audited.server
        connection = scratch.Connection(server.port)
        first, _ = server.login(connection)
        second, token = server.login(connection)
        start, = audited.wait(1, "start")
        assert start["key"] == "1" and start["absolute_ms"] == "43200000", start
        logins = audited.wait(2, "login")
        assert [row["session"] for row in logins] == [first, second], logins
        for row in logins:
            assert (row["user"], row["outcome"], row["via"]) == ("alice", "done", "http"), row
            assert row["address"] == "127.0.0.1", row
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"]), row
        # The account was made with the server not yet running; the log-ins ended what was before.
        ends = audited.wait(2, "end")
        assert [(row["reason"], row["scope"]) for row in ends] == [("replaced", "user")] * 2, ends

        status, _ = connection.ask("POST", "/login", body={"user": "alice", "password": "wrong one"})
        assert status == 401
        status, _ = connection.ask("POST", "/login", body={"user": "nobody", "password": "wrong"})
        assert status == 401
        known, unknown = audited.wait(2, "failure")
        assert known["user"] == "alice" and known["outcome"] == "denied", known
        assert "user" not in unknown and unknown["account"] == "unknown", unknown

        with scratch.Attached(server.app) as worker:
            _, third = server.login(connection)
            worker.ask("validate", third)
        audited.cli("session", "end", "--user", "alice")
        row = audited.wait(4, "end")[-1]
        assert (row["reason"], row["by"], row["via"]) == ("admin", "operator", "operator"), row
        assert re.fullmatch("[0-9a-f]{32}", row["ending"]), row
        audited.cli("user", "add", "bob", input="a long password\n")
        audited.cli("user", "disable", "bob")
        audited.cli("user", "enable", "bob")
        rows = audited.wait(3, "account")
        assert [row["action"] for row in rows] == ["add", "disable", "enable"], rows
        assert {row["user"] for row in rows} == {"bob"}, rows
        audited.cli("key", "rotate")
        row, = audited.wait(1, "key")
        assert (row["key"], row["outcome"], row["via"]) == ("2", "done", "operator"), row
        connection.close()


def a_change_of_password_is_an_event_whoever_makes_it():
    """ASVS D3, H6."""
    fresh = "quite another password"
    with Audited() as audited:
        connection = scratch.Connection(audited.server.port)
        _, token = audited.server.login(connection)

        def change(old, new):
            return connection.ask("POST", "/password", token,
                                  {"password": old, "new_password": new})[0]

        assert change(audited.server.password, "short") == 400
        assert change("wrong, but long enough", fresh) == 403
        audited.wait(1, "failure")
        assert not audited.events("account")
        assert change(audited.server.password, fresh) == 200
        connection.close()
        row, = audited.wait(1, "account")
        assert (row["action"], row["user"], row["via"]) == ("password", "alice", "http"), row
        audited.wait(2, "login")
        audited.cli("user", "passwd", "alice", input="a third password, long\n")
        rows = audited.wait(2, "account")
        assert (rows[1]["action"], rows[1]["via"]) == ("password", "operator"), rows[1]
        said = audited.path.read_text() + audited.server.said()
        assert fresh not in said and "a third password" not in said


def a_refusal_by_the_limits_is_an_event_of_its_own():
    """ASVS E1, H6."""
    with Audited(workers=1) as audited:
        connection = scratch.Connection(audited.server.port)
        wrong = {"user": "alice", "password": "not this one, surely"}
        asked = 0
        while connection.ask("POST", "/login", body=wrong)[0] != 429:
            asked += 1
            assert asked < 50, "no limit"
        connection.close()
        audited.wait(asked, "failure")
        row, = audited.wait(1, "throttle")
        assert row["outcome"] == "limited", row
        audited.cli("limit", "explain", "alice")
        audited.cli("limit", "reset", "alice")
        row, = audited.wait(1, "limit_reset")
        assert (row["user"], row["outcome"], row["via"]) == ("alice", "done", "operator"), row


def ask_from(address, port, path, token):
    """(status, headers) of a GET with this token, from another address of this host."""
    raw = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(address, 0))
    raw.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = raw.getresponse()
    answer.read()
    raw.close()
    return answer.status, answer.headers


def made_up():
    return "crs1_" + base64.urlsafe_b64encode(tap.random.randbytes(60)).decode()


def where_all_have_a_proxys_address_guesses_are_told_and_hinder_nobody():
    """ASVS G9."""
    with Audited(workers=1, more=["--behind-tls", "yes"]) as audited:
        port = audited.server.port
        assert {ask_from("127.0.0.3", port, "/session", made_up())[0] for _ in range(130)} == {401}
        audited.wait(1, "token_guessing")


def guessed_tokens_are_one_event_and_hinder_nobody_else():
    """ASVS G9: also over several workers, and with others behind the same address."""
    guesser, other = "127.0.0.3", "127.0.0.2"
    with Audited() as audited:
        port = audited.server.port
        _, ended = audited.server.login()
        _, token = audited.server.login()
        made = [made_up() for _ in range(1000)]
        assert len(made[0]) == len(token)
        answers = [ask_from(guesser, port, "/session", guess) for guess in made]
        statuses = [status for status, _ in answers]
        assert statuses[:100] == [401] * 100, statuses[:100]
        assert set(statuses[100:]) <= {401, 429} and statuses.count(429) > 100, statuses
        refused = next(headers for status, headers in answers if status == 429)
        assert int(refused["Retry-After"]) > 0, refused
        row, = audited.wait(1, "token_guessing")
        assert (row["source"], row["count"], row["via"]) == (guesser, "100", "http"), row
        for who, path, what, wanted in [
                (guesser, "/session", token, 200), (guesser, "/verify", token, 200),
                (guesser, "/session", ended, 401), (guesser, "/verify", made_up(), 401),
                (guesser, "/", made_up(), 303), (other, "/session", made_up(), 401),
                (guesser, "/session", made[0], 401)]:
            got = ask_from(who, port, path, what)[0]
            assert got == wanted, f"{who} {path}: {got}, not {wanted}"
        with scratch.Attached(audited.server.app) as program:
            for _ in range(101):
                assert program.validate(made_up()) == "CR_NOT_FOUND"
        rows = audited.wait(2, "token_guessing")
        assert rows[1]["via"] == "application" and "source" not in rows[1], rows[1]
        said = audited.path.read_text() + audited.server.said()
        assert not any(guess[5:] in said for guess in made)


def a_reload_opens_the_file_anew_and_is_an_event():
    with Audited(workers=1) as audited:
        audited.wait(1, "start")
        moved = audited.home / "audit.1"
        audited.path.rename(moved)
        audited.server.process.send_signal(signal.SIGHUP)
        scratch.until(audited.path.exists, "the new file")
        audited.wait(1, "settings")
        audited.server.login()
        audited.wait(1, "login")
        assert '"login"' not in moved.read_text()
        assert audited.path.stat().st_mode & 0o777 == 0o600
        (audited.home / "cloakroom.conf").write_text("nonsense\n")
        os.kill(audited.server.agent_pid(), signal.SIGHUP)  # the server itself passes on no bad file
        rows = audited.wait(2, "settings")
        assert [row["outcome"] for row in rows] == ["done", "refused"], rows


def no_secret_is_in_any_output():
    with Audited() as audited:
        server = audited.server
        connection = scratch.Connection(server.port)

        def ask(method, path, body=None, **headers):
            """Headers as bytes: some are no text."""
            raw = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            raw.request(method, path, body, headers)
            answer = raw.getresponse()
            answer.read()
            raw.close()
            return answer.status

        # Also a password where the name belongs.
        for user in ("alice", f"{CANARY}-password"):
            connection.ask("POST", "/login", body={"user": user, "password": f"{CANARY}-password"})
        _, first = server.login(connection)
        _, second = server.login(connection)
        for token in (first, second, second[:-1] + ("A" if second[-1] != "A" else "B")):
            assert ask("GET", f"/session?q={CANARY}-query", Authorization=f"Bearer {token}") in (
                200, 401)
        status = ask("POST", "/login", json.dumps({"user": "alice", "password": server.password}),
                     **{"Content-Type": "application/json",
                        "User-Agent": b"crs1_" + CANARY.encode() + b" \xff\"\\"})
        assert status == 200
        audited.wait(3, "login")
        shown = audited.cli("session", "explain", audited.events("login")[0]["session"])
        assert "ended: replaced" in shown and "127.0.0.1" in shown, shown
        top = audited.cli("limit", "top")
        assert "alice" in top and re.search("#[0-9a-f]{12} ", top), top
        shown += top
        kept = store_bytes(server)
        connection.close()
        server.close()
        kept += store_bytes(server)
        said = audited.path.read_text() + server.said() + shown
        for secret in (CANARY, server.password, first, second, first[5:], second[5:]):
            assert secret not in said, secret
        # What a browser says it is stands in the store as it came.
        for secret in (f"{CANARY}-password", server.password, first, second, first[5:], second[5:]):
            assert secret.encode() not in kept, secret
        assert audited.events("login")[2]["agent"].startswith("crs1_... "), said


def a_full_disk_loses_events_and_stops_nothing():
    size = 64 << 20

    def large(audited):
        """A file that is as long as the agent may make any."""
        with open(audited.path, "wb") as file:
            file.truncate(size)

    with Audited(workers=1, before=large) as audited:
        server = audited.server
        audited.wait(1, "start")
        agent = server.agent_pid()
        _, hard = resource.prlimit(agent, resource.RLIMIT_FSIZE)
        resource.prlimit(agent, resource.RLIMIT_FSIZE, (audited.path.stat().st_size, hard))
        for _ in range(3):
            _, token = server.login()
        scratch.until(lambda: "audit events are being lost" in server.said(), "the log")
        audited.cli("session", "end", "--user", "alice")
        connection = scratch.Connection(server.port)
        assert connection.session(token) == 401
        connection.close()
        assert server.agent_pid() == agent
        assert audited.events("login") == []
        resource.prlimit(agent, resource.RLIMIT_FSIZE, (hard, hard))
        server.login()
        audited.wait(1, "login")
        lost, = audited.events("audit_lost")
        # Three log-ins that each ended what was before, and the ending.
        assert lost["count"] == 7, lost


def a_file_that_cannot_be_opened_refuses_the_start():
    home = scratch.folder("audit")
    config = home / "cloakroom.conf"
    config.write_text("[audit]\nfile = relative\n")
    done = subprocess.run([scratch.PROGRAM, "agent", "--store", f"sqlite://{home}/x.db", "--state",
                           home / "state", "--config", config], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1 and "audit.file = relative" in done.stderr, done


tap.main([
    each_event_is_written_once_with_who_what_and_when,
    a_change_of_password_is_an_event_whoever_makes_it,
    a_refusal_by_the_limits_is_an_event_of_its_own,
    guessed_tokens_are_one_event_and_hinder_nobody_else,
    where_all_have_a_proxys_address_guesses_are_told_and_hinder_nobody,
    a_reload_opens_the_file_anew_and_is_an_event,
    no_secret_is_in_any_output,
    a_full_disk_loses_events_and_stops_nothing,
    a_file_that_cannot_be_opened_refuses_the_start,
])
