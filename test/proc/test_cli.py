#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""The command line: beside a running agent and without one, for people and for scripts."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scratch
import tap
from desk import Desk

PASSWORD = "correct horse battery"
SESSION_ID = "crp_" + "A" * 24
TOKEN = "crs1_" + "A" * 80
SERVED = Desk()  # for what needs no state of its own


def users(desk):
    return {row["user"]: row for row in json.loads(desk.do("user", "list", "--json"))}


def accounts_are_kept_beside_an_agent_and_without_one():
    desk = Desk()
    for with_agent in (False, True, False):
        if with_agent:
            desk.start()
        name = "anna" if with_agent else "bert"
        if name in users(desk):
            desk.do("user", "remove", name)
        assert desk.do("user", "add", name, text=PASSWORD) == f"{name}: added\n"
        assert not users(desk)[name]["disabled"]
        desk.do("user", "disable", name)
        assert users(desk)[name]["disabled"]
        desk.do("user", "enable", name)
        before = users(desk)[name]
        assert not before["disabled"]
        desk.do("user", "passwd", name, text="another " + PASSWORD)
        assert users(desk)[name]["created_at"] == before["created_at"]
        desk.stop()
    assert sorted(users(desk)) == ["anna", "bert"]


def what_cannot_be_is_refused_with_the_reason():
    rows = [
        (("user", "add", "anna"), "too short: password.length_min is 15", "fourteen chars"),
        (("user", "add", "anna"), "at most 1024 bytes", "x" * 1025),
        (("user", "add", "anna"), "too short", ""),
        (("user", "add", "anna"), "tried first", "Password" * 2),
        (("user", "add", "anna-of-arendelle"), "the user's name", "Anna-of-Arendelle"),
        (("user", "passwd", "nobody"), "has no account", PASSWORD),
        (("user", "disable", "nobody"), "has no account", ""),
        (("user", "enable", "nobody"), "has no account", ""),
        (("user", "remove", "nobody"), "has no account", ""),
        (("user", "add", "there"), "has an account already", PASSWORD),
        (("session", "end", SESSION_ID), "no such session", ""),
        (("session", "explain", SESSION_ID), "no such session", ""),
        (("session", "end", "--user", "nobody"), "no such user", ""),
    ]
    with Desk() as desk:
        desk.do("user", "add", "there", text=PASSWORD)
        for words, reason, text in rows:
            status, out, error = desk.run(*words, text=text)
            assert status == 1 and reason in error and not out, f"{words}: {status} {out} {error}"
            assert PASSWORD not in error
        assert list(users(desk)) == ["there"]


def a_session_or_a_token_is_not_taken_for_a_user():
    for words in [("user", "add"), ("user", "passwd"), ("user", "disable"), ("user", "enable"),
                  ("user", "remove"), ("session", "list"), ("session", "end", "--user")]:
        status, _, error = SERVED.run(*words, SESSION_ID, text=PASSWORD)
        assert status == 2 and "is the id of a session, and a user is meant" in error, error
        status, _, error = SERVED.run(*words, TOKEN, text=PASSWORD)
        assert status == 2 and "token of a session" in error, error
        assert TOKEN not in error
    for words in [("session", "end"), ("session", "explain")]:
        status, _, error = SERVED.run(*words, TOKEN)
        assert status == 2 and "it is a secret" in error and TOKEN not in error, error
        status, _, error = SERVED.run(*words, "anna")
        assert status == 2 and "not the id of a session" in error, error


def mistyped_words_get_a_guess():
    rows = [
        (("usr",), "did you mean 'cloakroom user'?"),
        (("user", "ad"), "did you mean 'cloakroom user add'?"),
        (("session", "lsit"), "did you mean 'cloakroom session list'?"),
        (("serve", "--wrokers", "2"), "did you mean --workers?"),
        (("user", "list", "--jsno"), "did you mean --json?"),
        (("frobnicate",), "'cloakroom --help' lists them"),
        (("serve", "--workers", "0"), "server.workers goes from 1 to 64"),
        (("serve", "--cache", "fast"), "cache.kind is none, memory or shared"),
        (("serve", "--listen", ""), "server.listen has from 1"),
        (("user", "add"), "NAME"),
        (("user", "add", "a", "b"), "what is 'b' for?"),
        (("session", "end"), "the ID of a session, --user USER, or --all?"),
        (("session", "end", "--all", SESSION_ID), "the ID of a session, --user USER, or --all?"),
        (("lock", "x", "--wait", "5", "--", "true"), "--wait takes"),
        (("lock", "x"), "something is missing"),
        (("lock", "", "--", "true"), "name of a lock"),
        (("user", "list", "--state", "st"), "'st' is not the path of a directory, from / on"),
        (("user", "list", "--store", "/x.db"), "sqlite:///PATH"),
        ((), "Usage"),
    ]
    for words, guess in rows:
        done = subprocess.run([scratch.PROGRAM, *words], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=20)
        assert done.returncode == 2, f"{words}: {done.returncode} {done.stderr}"
        assert guess in done.stderr, f"{words}: {done.stderr}"


def bad_stores_are_told_and_nothing_is_lost():
    home = scratch.folder("bad")
    damaged = home / "damaged.db"
    damaged.write_bytes(b"this is not a database" * 1000)
    (home / "folder.db").mkdir()
    for url in [f"sqlite://{home}/nowhere/x.db", f"sqlite://{home}/folder.db",
                "sqlite:///proc/x.db", f"sqlite://{damaged}", "sqlite:x.db", "mysql:///x",
                "cloakroom:///nowhere/app.sock"]:
        desk = Desk(url)
        status, out, error = desk.run("user", "add", "anna", text=PASSWORD)
        assert status in (1, 2, 69) and error.startswith("cloakroom: ") and not out, \
            f"{url}: {status} {error}"
        assert len(error.splitlines()) <= 6, error
    assert damaged.read_bytes() == b"this is not a database" * 1000


def a_store_that_another_agent_holds_is_not_opened_beside_it():
    with Desk() as desk:
        elsewhere = ("--store", desk.url, "--state", str(desk.home / "elsewhere"))
        done = subprocess.run([scratch.PROGRAM, "user", "list", *elsewhere], capture_output=True,
                              text=True, check=False, timeout=20)
        assert done.returncode != 0 and not done.stdout
        assert str(desk.agent.pid) in done.stderr, done.stderr
        assert "--state" in done.stderr, done.stderr
        # A second agent for the same state directory says so by its status.
        done = subprocess.run([scratch.PROGRAM, "agent", *desk.where], capture_output=True,
                              text=True, check=False, timeout=20)
        assert done.returncode == 3, f"{done.returncode} {done.stderr}"


class Terminal:
    """A command whose standard input is a terminal, and what stands on its screen."""

    def __init__(self, command):
        self.ours, theirs = pty.openpty()
        self.screen = b""
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs,
                                        start_new_session=True)
        self.theirs = theirs

    def wait_for(self, text):
        while text not in self.screen:
            ready, _, _ = select.select([self.ours], [], [], 10)
            assert ready, f"{text} is not on the screen: {self.screen}"
            self.screen += os.read(self.ours, 4096)

    def type(self, text):
        os.write(self.ours, text)

    def echoes(self):
        return bool(termios.tcgetattr(self.theirs)[3] & termios.ECHO)

    def close(self):
        status = self.process.wait(10)
        while select.select([self.ours], [], [], 0)[0]:
            self.screen += os.read(self.ours, 4096)
        echoes = self.echoes()
        os.close(self.theirs)
        os.close(self.ours)
        assert echoes, "the terminal stays without echo"
        return status


def what_stands_in_the_way_is_told_with_the_fix():
    desk = Desk()
    far = desk.home / ("x" * 120)
    done = subprocess.run([scratch.PROGRAM, "user", "list", "--store", desk.url, "--state", far],
                          text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2 and "choose a shorter --state" in done.stderr, done
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken = f"127.0.0.1:{taken.getsockname()[1]}"
        for address, fix in ((taken, "choose another --listen"),
                             ("192.0.2.1:8080", "no such address")):
            status, _, error = desk.run("serve", "--listen", address)
            assert status != 0 and address in error and fix in error, error


def an_answer_that_cannot_be_written_is_not_called_given():
    desk = Desk()
    desk.do("user", "add", "anna", text=PASSWORD)
    for words in (("user", "list"), ("user", "list", "--json"), ("session", "end", "--all")):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run(desk.command(*words), stdin=subprocess.DEVNULL, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 1, f"{words}: {done.returncode}"
        assert done.stderr == "cloakroom: writing the answer failed\n", done.stderr
    for words in (("version",), ("version", "--json"), ("--help",), ("user", "add", "--help")):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([scratch.PROGRAM, *words], stdout=full, stderr=subprocess.DEVNULL,
                                  timeout=60, check=False)
        assert done.returncode == 1, f"{words}: {done.returncode}"


def closed_standard_streams_are_nobody_elses():
    desk = Desk()
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        script = f'exec "$@" {closed}'
        holder = subprocess.Popen(
            ["sh", "-c", script, "sh", *desk.command("lock", "nightly", "--", "sleep", "60")],
            stdin=subprocess.DEVNULL)
        try:
            lock = desk.home / "store.db-lock"
            scratch.until(lock.exists, "the lock's file")
            scratch.until(lambda: scratch.children(holder.pid), "the command")
            for fd in range(3):
                target = os.readlink(f"/proc/{holder.pid}/fd/{fd}")
                assert not target.startswith(("anon_inode", "socket", str(desk.home))), \
                    f"{closed}: {fd} is {target}"
        finally:
            scratch.end(holder)


def at_a_terminal_a_password_is_asked_for_twice_and_not_shown():
    rows = [
        (PASSWORD, PASSWORD, 0, b"anna: added"),
        (PASSWORD, "another one", 1, b"are not the same"),
        ("fourteen chars", "fourteen chars", 1, b"too short"),
    ]
    for first, second, wanted, says in rows:
        with Desk() as desk:
            terminal = Terminal(desk.command("user", "add", "anna"))
            terminal.wait_for(b"Password: ")
            assert not terminal.echoes()
            terminal.type(first.encode() + b"\n")
            terminal.wait_for(b"again: ")
            terminal.type(second.encode() + b"\n")
            assert terminal.close() == wanted, terminal.screen
            assert says in terminal.screen, terminal.screen
            assert first.encode() not in terminal.screen
            assert len(users(desk)) == (wanted == 0)


def an_interrupted_question_leaves_the_terminal_as_it_was():
    with Desk() as desk:
        terminal = Terminal(desk.command("user", "add", "anna"))
        terminal.wait_for(b"Password: ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.close() == -signal.SIGINT
        assert not users(desk)


def a_signal_that_is_ignored_interrupts_no_question():
    """As for whoever is in the background of a script."""
    with Desk() as desk:
        terminal = Terminal(["sh", "-c", 'trap "" INT; exec "$@"', "sh",
                             *desk.command("user", "add", "anna")])
        terminal.wait_for(b"Password: ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.type(PASSWORD.encode() + b"\n")
        terminal.wait_for(b"again: ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.type(PASSWORD.encode() + b"\n")
        assert terminal.close() == 0, terminal.screen
        assert users(desk), terminal.screen


def a_password_from_standard_input_is_every_byte_of_it():
    with scratch.Server(workers=1) as server:
        where = ("--store", server.store, "--state", str(server.state))
        for name, typed, meant in [("nl", "a secret\npassword\n", "a secret\npassword"),
                                   ("blank", " secret password ", " secret password "),
                                   ("utf8", "pässwörtlich, fünf", "pässwörtlich, fünf")]:
            scratch.run([scratch.PROGRAM, "user", "add", name, *where], input=typed)
            connection = scratch.Connection(server.port)
            for password, wanted in [(meant, 200), (meant + "\n", 401), (meant[:-1], 401)]:
                status, _ = connection.ask("POST", "/login", body={
                    "user": name, "password": password, "mode": "bearer"})
                assert status == wanted, f"{name}: {status}"
            connection.close()


def accounts_come_from_another_system_all_or_none():
    """The hashes are those of test_foreign.c: bcrypt's, Django's, Werkzeug's."""
    hashes = {"bcrypt": "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2",
              "django": "pbkdf2_sha256$1000$saltSALTsalt0123$GQdmuS2ybZgHOhkwZQtxpEWpkgDL1xzKqIdIAoqRo4U=",
              "with:colon": "pbkdf2:sha256:1000$4e1tNnql1Bcqm58J$f7f78544cc2eb9d892feb7562173586a1d7c78c716645d1deb72a91856fa5401"}
    password = "correct horse, grün"
    with scratch.Server(workers=1) as server:
        file = server.home / "users.txt"
        where = ("--store", server.store, "--state", str(server.state))

        def run(*words, text=None):
            done = subprocess.run([scratch.PROGRAM, "user", "import", *words, *where], text=True,
                                  input=text, capture_output=True, check=False, timeout=60)
            return done.returncode, done.stdout, done.stderr

        def names():
            listed = scratch.run([scratch.PROGRAM, "user", "list", "--json", *where])
            return sorted(row["user"] for row in json.loads(listed))

        lines = [f"{name}:{text}" for name, text in hashes.items() if ":" not in name]
        lines.append(json.dumps({"user": "with:colon", "hash": hashes["with:colon"]}))
        bad = ["", "no colon", "anna:plain text", "eve:" + hashes["bcrypt"].replace("$04$", "$31$"),
               lines[0], '{"user": "x"}', "bell\x07:" + hashes["bcrypt"], "alice:" + hashes["bcrypt"]]
        file.write_text("\n".join(lines + bad) + "\n", encoding="utf-8")
        status, out, error = run(str(file))
        assert status == 1 and not out and "nothing was imported" in error, error
        for number, why in [(5, "not NAME:HASH"), (6, "no bcrypt, PBKDF2 or Argon2"), (7, "cost"),
                            (8, "in the file before"), (9, "not JSON of the form"),
                            (10, "control characters")]:
            assert re.search(rf"line {number}: .*{why}", error), (number, error)
        assert names() == ["alice"], names()
        status, out, error = run(str(file), "--skip-bad", "--json")
        assert status == 0, error
        said = json.loads(out)
        assert (said["imported"], said["already_there"]) == (3, 0), said
        assert [int(line) for line in re.findall(r"line (\d+): ", error)] == [5, 6, 7, 8, 9, 10, 11], error
        assert "line 11: the user has an account already" in error, error
        assert [row["line"] for row in said["left_out"]] == [5, 6, 7, 8, 9, 10, 11], said
        assert names() == sorted(["alice", *hashes])
        connection = scratch.Connection(server.port)
        for name in hashes:
            asked = {"user": name, "password": password, "mode": "bearer"}
            for wanted, typed in [(401, password + "x"), (200, password), (200, password)]:
                status, body = connection.ask("POST", "/login", body={**asked, "password": typed})
                assert status == wanted, f"{name}: {status} {body}"
        connection.close()
        status, out, error = run("-", text="late:" + hashes["bcrypt"] + "\n")
        assert status == 0, error
        assert out == "1 accounts imported, 0 already there, 0 lines left out\n", out
        assert run(str(server.home / "nowhere"))[0] == 2


def an_import_that_was_interrupted_is_finished_by_running_it_again():
    text = "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2"
    with scratch.Server(workers=1) as server:
        where = ("--store", server.store, "--state", str(server.state))
        command = [scratch.PROGRAM, "user", "import", "--json", *where]

        def run(file, *words):
            done = subprocess.run([*command, *words, str(file)], text=True, capture_output=True,
                                  check=False, timeout=60)
            return done.returncode, json.loads(done.stdout), done.stderr

        def account_count():
            return len(json.loads(scratch.run([scratch.PROGRAM, "user", "list", "--json", *where])))

        # As if it had been killed in the middle of the first 64, and one more.
        half, whole = server.home / "half.txt", server.home / "whole.txt"
        lines = [f"user{n:03}:{text}\n" for n in range(200)]
        half.write_text("".join(lines[:41] + lines[170:171]), encoding="utf-8")
        whole.write_text("".join(lines), encoding="utf-8")
        assert run(half)[:2] == (0, {"imported": 42, "already_there": 0, "left_out": []})
        assert run(whole)[:2] == (0, {"imported": 158, "already_there": 42, "left_out": []})
        assert account_count() == 201

        # Where somebody has another password by now, the others are none the worse for it.
        for n in (7, 90):
            scratch.run([scratch.PROGRAM, "user", "passwd", f"user{n:03}", *where],
                        input=server.password)
        whole.write_text("".join(lines) + f"late:{text}\n", encoding="utf-8")
        status, said, error = run(whole)
        assert (status, said["imported"], said["already_there"]) == (1, 1, 198), (said, error)
        assert [row["line"] for row in said["left_out"]] == [8, 91], said
        assert [int(line) for line in re.findall(r"line (\d+): ", error)] == [8, 91], error
        assert run(whole, "--skip-bad")[0] == 0
        _, token = server.login(user="user090")
        connection = scratch.Connection(server.port)
        assert connection.session(token) == 200
        connection.close()

        # Killed for good, at whatever moment.
        whole.write_text("".join(f"more{n:04}:{text}\n" for n in range(2000)), encoding="utf-8")
        with subprocess.Popen([*command, str(whole)], stdout=subprocess.DEVNULL) as importing:
            while account_count() == 202 and importing.poll() is None:
                pass
            importing.kill()
        status, said, error = run(whole)
        assert status == 0 and said["already_there"] > 0, (said, error)
        assert said["imported"] + said["already_there"] == 2000 and not said["left_out"], said
        assert account_count() == 2202


def an_import_whose_store_fails_half_way_says_how_far_it_came():
    """Without an agent. Of 200 accounts 64 are committed at a time."""
    text = "$2b$04$LVQNwyA0JYQCNpq41GV8m.S5dTav2Wbz9BYjpe4q8pBYPnQ.bbio2"
    home = scratch.folder("import")
    plan, file, store = home / "plan", home / "users.txt", f"sqlite://{home}/cloakroom.db"
    file.write_text("".join(f"user{n:03}:{text}\n" for n in range(200)), encoding="utf-8")
    plan.write_text("unavailable 2 1 0 commits\n", encoding="utf-8")

    def run(url):
        return subprocess.run([scratch.PROGRAM, "user", "import", str(file), "--store", url, "--state",
                               str(home / "state")], text=True, capture_output=True, check=False, timeout=60)

    done = run(f"fault:{plan},{store}")
    assert done.returncode == 69 and not done.stdout, done
    line = int(re.search(r"line (\d+): the store cannot be asked now\n", done.stderr)[1])
    assert line > 1 and line % 64 == 1, done.stderr
    assert f": {line - 1} accounts were imported, 0 were there already" in done.stderr, done.stderr
    done = run(store)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{201 - line} accounts imported, {line - 1} already there, 0 lines left out\n", done


def sessions_are_listed_ended_and_explained():
    with scratch.Server(workers=1, arguments=["--on-login", "keep"]) as server:
        where = ("--store", server.store, "--state", str(server.state))

        def cli(*words):
            return scratch.run([scratch.PROGRAM, *words, *where])

        connection = scratch.Connection(server.port)
        logins = [server.login(connection) for _ in range(12)]
        rows = json.loads(cli("session", "list", "alice", "--json"))
        assert [row["id"] for row in rows] == [key for key, _ in reversed(logins)], rows
        assert all(row["user"] == "alice" and row["address"] == "127.0.0.1" for row in rows)
        shown = cli("session", "list", "alice")
        assert shown.splitlines()[0].startswith("SESSION") and len(shown.splitlines()) == 13
        assert not any(token in shown for _, token in logins)

        gone, token = logins[0]
        assert connection.session(token) == 200
        assert json.loads(cli("session", "end", gone, "--json"))["result"] == "done"
        assert connection.session(token) == 401
        assert connection.session(logins[1][1]) == 200
        told = json.loads(cli("session", "explain", gone, "--json"))
        assert (told["live"], told["reason"], told["user"]) == (False, "admin", "alice"), told
        assert told["by"] == "operator", told
        assert json.loads(cli("session", "explain", logins[1][0], "--json"))["live"]
        assert told["created_at"] and told["seen_at"] and told["at"] >= told["created_at"], told
        assert told["rotated_at"] == [] and told["from"] is None, told
        shown = cli("session", "explain", gone)
        order = [shown.index(word) for word in ("ended: admin", "user ", "created", "seen",
                                                "ended  ", "by ")]
        assert order == sorted(order), shown

        cli("session", "end", "--user", "alice")
        assert all(connection.session(token) == 401 for _, token in logins)
        assert json.loads(cli("session", "list", "alice", "--json")) == []
        last, token = server.login(connection)
        cli("session", "end", "--all")
        assert connection.session(token) == 401
        told = json.loads(cli("session", "explain", logins[1][0], "--json"))
        assert not told["live"] and told["user"] == "alice", told
        rows = json.loads(cli("session", "list", "alice", "--ended", "--json"))
        assert rows[0]["id"] == last and rows[-1]["id"] == gone, rows
        assert sorted(row["id"] for row in rows) == sorted([last] + [key for key, _ in logins]), rows
        assert all(row["address"] == "127.0.0.1" and row["by"] == "operator" and row["from"] is None
                   and row["at"] >= row["seen_at"] >= row["created_at"] for row in rows), rows
        assert {row["reason"] for row in rows[1:]} == {"admin"}, rows
        shown = cli("session", "list", "--ended", "alice")
        assert shown.splitlines()[0].split() == ["SESSION", "CREATED", "ENDED", "REASON", "ADDRESS", "AGENT"]
        assert len(shown.splitlines()) == 14 and not any(token in shown for _, token in logins), shown
        assert json.loads(cli("session", "list", "nobody", "--ended", "--json")) == []
        connection.close()


def changing_an_account_ends_its_sessions_at_once():
    with scratch.Server(workers=2) as server:
        where = ("--store", server.store, "--state", str(server.state))
        for words, text in [(("passwd",), server.password), (("disable",), ""), (("enable",), ""),
                            (("remove",), "")]:
            token = None
            if words != ("enable",):
                _, token = server.login()
                connections = server.connections().values()
                assert all(c.session(token) == 200 for c in connections)
            scratch.run([scratch.PROGRAM, "user", *words, "alice", *where], input=text)
            if token:
                assert all(c.session(token) == 401 for c in connections), words
                for connection in connections:
                    connection.close()


def the_first_start_makes_the_administrator_and_says_so_once():
    rows = [("replace", "ends the same user's earlier sessions"),
            ("keep", "leaves the same user's earlier sessions alone"),
            ("keep 3", "ends the same user's oldest sessions")]
    for policy, sentence in rows:
        home = scratch.folder("first")
        port = scratch.free_port()
        command = [scratch.PROGRAM, "serve", "--listen", f"127.0.0.1:{port}", "--store",
                   f"sqlite://{home}/x.db", "--state", str(home / "state"), "--workers", "1",
                   "--on-login", policy]
        said = []
        for _ in range(2):
            with open(home / "out", "wb") as out, open(home / "err", "wb") as err:
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            try:
                scratch.until(lambda: answers(port) or server.poll() is not None, "the server")
                assert server.poll() is None, (home / "err").read_text()
                said.append((home / "out").read_text())
                file = home / "state" / "first-password"
                if len(said) == 1:
                    assert f"in the file {file}\n" in said[0], said[0]
                    assert file.stat().st_mode & 0o777 == 0o600
                    password = file.read_text().rstrip("\n")
                    assert len(password) >= 16
                    asked = {"user": "admin", "password": password, "mode": "bearer"}
                    connection = scratch.Connection(port)
                    status, body = connection.ask("POST", "/login", body=asked)
                    assert status == 403 and "password_change_required" in str(body), body
                    asked["new_password"] = PASSWORD
                    status, body = connection.ask("POST", "/login", body=asked)
                    assert status == 200, f"{status} {body} {said[0]}"
                    asked["new_password"] = "another " + PASSWORD
                    assert connection.ask("POST", "/login", body=asked)[0] == 401
                    connection.close()
                    line = next(l for l in said[0].splitlines() if "user passwd" in l)
                    again = scratch.run([scratch.PROGRAM, *line.split()[1:]])
                    assert "one-time password: " in again, again
                    scratch.run([scratch.PROGRAM, *line.replace(" --temporary", "").split()[1:]],
                                input=PASSWORD)
                else:
                    assert not file.exists()
                    assert f"http://127.0.0.1:{port}/" in said[0] and sentence in said[0], said[0]
                assert password not in (home / "err").read_text() + said[-1]
            finally:
                scratch.end(server)
        assert said[1] == "", said[1]


def answers(port):
    try:
        connection = scratch.Connection(port)
        status = connection.session(None)
        connection.close()
        return status == 401
    except OSError:
        return False


def a_changed_settings_file_is_taken_over_and_a_bad_one_is_told():
    home = scratch.folder("settings")
    config = home / "x.conf"
    config.write_text("[cache]\nkind = shared\n")
    desk = Desk()
    desk.start("--config", str(config))
    try:
        for text, says in [("[cache]\nkind = none\n", "settings read anew"),
                           ("[cache]\nkind = all\n", "x.conf:2: cache.kind is"),
                           ("[cache\n", "x.conf:1: neither"),
                           ("[session]\nidle = 30m\n[cache]\nmemory = 2M\n", "settings read anew"),
                           ("[cache]\nhuge_pages = off\n", "settings read anew"),
                           ("[cache]\nhuge_pages = some\n", "cache.huge_pages is auto, reserved")]:
            before = len(desk.said())
            config.write_text(text)
            desk.agent.send_signal(signal.SIGHUP)
            scratch.until(lambda: says in desk.said()[before:], says, 10)
            assert desk.agent.poll() is None
            if "anew" not in says:
                assert "stay as they were" in desk.said()[before:]
    finally:
        desk.stop()


def table_of(pid):
    """What the kernel calls the agent's segment: another number, another segment."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="ascii")
    return {line.split()[4] for line in maps.splitlines() if "cloakroom-table" in line}


def huge_pages_free():
    text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    rows = dict(line.split(":") for line in text.splitlines())
    return int(rows.get("HugePages_Free", "0")) if "2048" in rows.get("Hugepagesize", "") else 0


def other_pages_are_another_table_and_a_pool_that_is_too_small_is_told_once():
    config = scratch.folder("settings") / "x.conf"
    config.write_text("[cache]\nmemory = 8M\n")
    desk = Desk()
    desk.start("--config", str(config))
    try:
        for pages, changes in [("auto", False), ("off", True), ("off", False), ("reserved", True),
                               ("reserved", False), ("auto", True)]:
            before, said, free = table_of(desk.agent.pid), len(desk.said()), huge_pages_free()
            config.write_text(f"[cache]\nmemory = 8M\nhuge_pages = {pages}\n")
            desk.agent.send_signal(signal.SIGHUP)
            scratch.until(lambda: "read anew" in desk.said()[said:], pages, 10)
            after = table_of(desk.agent.pid)
            assert len(after) == 1 and (after != before) == changes, (pages, before, after)
            told = desk.said()[said:].count("too few huge pages are reserved")
            assert told == (pages == "reserved" and changes and free < 4), desk.said()[said:]
    finally:
        desk.stop()


def a_settings_file_is_checked():
    home = scratch.folder("settings")
    config = home / "x.conf"
    config.write_text("[server]\nworkers = 7\n")
    rows = json.loads(scratch.run([scratch.PROGRAM, "config", "--config", config, "--json"]))
    workers = next(row for row in rows if row["name"] == "server.workers")
    assert (workers["value"], workers["given"], workers["default"]) == ("7", True, "2"), workers
    config.write_text("[server]\nworkers = 7\nworkers = 8\n")
    done = subprocess.run([scratch.PROGRAM, "config", "--config", config], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"cloakroom: {config}:3: server.workers stands here a second time\n"


def help_and_version_are_there_in_every_form():
    version = scratch.run([scratch.PROGRAM, "version"])
    assert version.startswith("cloakroom ") and version.count("\n") == 1
    assert scratch.run([scratch.PROGRAM, "--version"]) == version
    assert json.loads(scratch.run([scratch.PROGRAM, "version", "--json"]))["version"] in version
    for words in [(), ("user",), ("user", "add"), ("lock",)]:
        by_option = scratch.run([scratch.PROGRAM, *words, "--help"])
        assert by_option.startswith(f"Usage: {' '.join(['cloakroom', *words])}"), by_option
        assert scratch.run([scratch.PROGRAM, "help", *words]) == by_option


tap.main([
    accounts_are_kept_beside_an_agent_and_without_one,
    what_cannot_be_is_refused_with_the_reason,
    a_session_or_a_token_is_not_taken_for_a_user,
    mistyped_words_get_a_guess,
    bad_stores_are_told_and_nothing_is_lost,
    a_store_that_another_agent_holds_is_not_opened_beside_it,
    what_stands_in_the_way_is_told_with_the_fix,
    an_answer_that_cannot_be_written_is_not_called_given,
    closed_standard_streams_are_nobody_elses,
    at_a_terminal_a_password_is_asked_for_twice_and_not_shown,
    an_interrupted_question_leaves_the_terminal_as_it_was,
    a_signal_that_is_ignored_interrupts_no_question,
    a_password_from_standard_input_is_every_byte_of_it,
    accounts_come_from_another_system_all_or_none,
    an_import_that_was_interrupted_is_finished_by_running_it_again,
    an_import_whose_store_fails_half_way_says_how_far_it_came,
    sessions_are_listed_ended_and_explained,
    changing_an_account_ends_its_sessions_at_once,
    the_first_start_makes_the_administrator_and_says_so_once,
    a_changed_settings_file_is_taken_over_and_a_bad_one_is_told,
    other_pages_are_another_table_and_a_pool_that_is_too_small_is_told_once,
    a_settings_file_is_checked,
    help_and_version_are_there_in_every_form,
])
