#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=180
"""Settings from everywhere: file, environment, options; which one it was; and what a server does
with a file that has changed."""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import scratch
import tap
from desk import Desk

EXAMPLE = scratch.ROOT / "packaging" / "cloakroom.conf"
NONE = ("--config", "/dev/null")
CANARY = "s3cret-canary"


def config(*words, env=None):
    """(exit status, standard output, standard error)"""
    done = subprocess.run([scratch.PROGRAM, "config", *map(str, words)], text=True, timeout=60,
                          capture_output=True, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


def file_with(text):
    path = scratch.folder("config") / "x.conf"
    path.write_text(text, encoding="utf-8")
    return path


def the_outcome_says_where_each_value_comes_from():
    path = file_with("[server]\nworkers = 3\nconnections = 9\n\n[cache]\nmemory = 2M\nkind = none\n")
    words = ("check", "--config", path, "--cache", "memory")
    env = {"CLOAKROOM__CACHE__MEMORY": "4M", "CLOAKROOM__SERVER__CONNECTIONS": "7",
           "CLOAKROOM__CACHE__KIND": "shared", "CLOAKROOM__SESSION__PROFILE": "aal2"}
    want = {"server.workers": ("3", "file", f"{path}:2"),
            "server.connections": ("7", "environment", "CLOAKROOM__SERVER__CONNECTIONS"),
            "cache.memory": ("4M", "environment", "CLOAKROOM__CACHE__MEMORY"),
            "cache.kind": ("memory", "option", "--cache"),
            "session.idle": ("1h", "profile", "profile aal2"),
            "log.level": ("info", "default", "default")}
    status, out, error = config(*words, "--json", env=env)
    assert (status, error) == (0, ""), error
    answer = json.loads(out)
    assert answer["ok"] is True and answer["file"] == str(path), answer
    rows = {row["name"]: row for row in answer["settings"]}
    assert rows["cache.memory"]["reloads"] and not rows["server.workers"]["reloads"]
    status, text, _ = config(*words, env=env)
    assert status == 0 and text.endswith("\nThe settings are right.\n"), text
    lines = text.splitlines()
    for name, (value, source, origin) in want.items():
        row = rows[name]
        assert (row["value"], row["source"], row["origin"]) == (value, source, origin), row
        line = next(line for line in lines if line.startswith(f"{name} = "))
        assert line.split(" = ")[1].split() == [value, *origin.split()], line


def what_is_wrong_is_told_with_its_place_and_a_status():
    rows = [("[server]\nworkers = 0\n", {}, (), "{}:2: server.workers goes from 1 to 64"),
            ("[server]\nworkres = 2\n", {}, (), "{}:2: there is no setting server.workres; did you "
             "mean server.workers?"),
            ("[server]\nlisten = localhost:80\n", {}, (), "{}:2: 'localhost:80' is not an address"),
            ("[server]\nclear_site_data = co0kies\n", {}, (), "{}:2: 'co0kies' is not a list"),
            ("[session]\nidle = 31d\n", {}, (), "{}:2: session.idle is 31d, and 30d is the most"),
            ("[engine]\nlease = 2s\n", {}, (), "{}:2: engine.lease is at least five times"),
            ("[server]\nproxies = 10.0.0.1 nginx\n", {}, (), "{}:2: server.proxies is '10.0.0.1 nginx': an address"),
            ("", {"CLOAKROOM__SERVER__WORKERS": "0"}, (), "CLOAKROOM__SERVER__WORKERS: server.workers"),
            ("", {"CLOAKROOM__SERVER__WORKRES": "2"}, (), "did you mean CLOAKROOM__SERVER__WORKERS?"),
            ("", {}, ("--workers", "0"), "server.workers goes from 1 to 64"),
            ("", {}, ("--listen", "x"), "--listen: 'x' is not an address")]
    for text, env, words, says in rows:
        path = file_with(text)
        says = says.format(path)
        status, out, error = config("check", "--config", path, *words, env=env)
        assert (status, out) == (2, ""), (text, status, out)
        assert error.startswith("cloakroom: ") and says in error, error
        status, out, _ = config("check", "--config", path, *words, "--json", env=env)
        answer = json.loads(out)
        assert status == 2 and answer["ok"] is False and says in answer["error"], out
    status, _, error = config("check", "--config", "/nowhere/x.conf")
    assert status == 2 and "/nowhere/x.conf: No such file or directory" in error, error


def all_that_is_wrong_is_told_at_once():
    path = file_with("[server]\nworkers = 0\nworkres = 2\nlisten = x\nworkers = 3\n\n[cash]\nkind = none\n"
                     "\n[cache\nkind = none\n[engine]\nno pair\nlease = 2s\n"
                     "[login]\nlimit_pair = 5/366d\nlimit_device = 5\n")
    env = {"CLOAKROOM__CACHE__MEMORY": "lots", "CLOAKROOM__SERVER__WORKRES": "2"}
    says = [f"{path}:2: server.workers goes", f"{path}:3: there is no setting server.workres",
            f"{path}:7: there is no section [cash]", f"{path}:10: neither [section]",
            f"{path}:13: neither [section]", "CLOAKROOM__CACHE__MEMORY: cache.memory is",
            "CLOAKROOM__SERVER__WORKRES: there is no such setting", "--cache: ",
            f"{path}:16: login.limit_pair is", f"{path}:17: login.limit_device is",
            f"{path}:4: 'x' is not an address"]
    says[7] = "cache.kind is"
    words = ("check", "--config", path, "--cache", "some")
    status, out, error = config(*words, env=env)
    lines = error.splitlines()
    assert (status, out) == (2, ""), (status, out)
    assert len(lines) == len(says), error
    for line in lines:
        assert line.startswith("cloakroom: ") and sum(say in line for say in says) == 1, line
    assert all(say in error for say in says), error
    answer = json.loads(config(*words, "--json", env=env)[1])
    assert answer["errors"] == [line.removeprefix("cloakroom: ") for line in lines], answer
    assert answer["error"] == answer["errors"][0] and answer["more"] is False, answer
    tap.note("values that do not go together, once each of them is right")
    path = file_with("[session]\nidle = 31d\nabsolute = 31d\n[engine]\nlease = 2s\n")
    status, _, error = config("check", "--config", path)
    assert status == 2 and [line.split(": ")[1] for line in error.splitlines()] == [
        f"{path}:2", f"{path}:3", f"{path}:5"], error
    tap.note("and no more than twenty")
    path = file_with("[server]\n" + "".join(f"x{i} = 1\n" for i in range(40)))
    status, _, error = config("check", "--config", path)
    lines = error.splitlines()
    assert status == 2 and len(lines) == 21 and f"{path}:21: " in lines[19], error
    assert lines[20] == "cloakroom: there is more wrong: these are the first 20", error


def profiles_have_the_lifetimes_of_nist():
    """ASVS C1, C4."""
    rows = [("none", "A session ends 30m after its last use, and 12h after its login whatever its use "
             "(no profile, bounded as aal1)."),
            ("aal1", "A session ends 30d after its last use, and 30d after its login whatever its use "
             "(profile aal1: NIST SP 800-63B-4, 2.1.3)."),
            ("aal2", "A session ends 1h after its last use, and 1d after its login whatever its use "
             "(profile aal2: NIST SP 800-63B-4, 2.2.3)."),
            ("aal3", "A session ends 15m after its last use, and 12h after its login whatever its use "
             "(profile aal3: NIST SP 800-63B-4, 2.3.3).")]
    for profile, policy in rows:
        path = file_with(f"[session]\nprofile = {profile}\n")
        status, out, _ = config("check", "--config", path)
        assert status == 0 and f"\n\n{policy}\n" in out, out
        assert json.loads(config("check", "--config", path, "--json")[1])["policy"] == policy
    path = file_with("[session]\nprofile = aal3\nidle = 20m\n")
    status, _, error = config("check", "--config", path)
    assert status == 2 and "session.longer_because" in error, error
    with path.open("a") as file:
        file.write("longer_because = readers of the museum, as decided on 3 May\n")
    status, out, _ = config("check", "--config", path)
    assert status == 0 and "longer because: readers of the museum" in out, out


def the_lifetime_of_a_profile_is_that_of_its_sessions():
    path = file_with("[session]\nprofile = aal3\n")
    with scratch.Server(workers=1, arguments=("--config", str(path))) as server:
        _, token = server.login()
        connection = scratch.Connection(server.port)
        status, body = connection.ask("GET", "/session", token)
        connection.close()
        assert status == 200, body
        body = body.get("session", body)
        until, since = (datetime.datetime.fromisoformat(body[key].replace("Z", "+00:00"))
                        for key in ("expires_at", "created_at"))
        assert 14 * 60 < (until - since).total_seconds() <= 15 * 60 + 1, body


def a_password_comes_neither_by_argument_nor_by_environment():
    """ASVS H3, and H5: it is in no output."""
    url = f"postgresql://app:{CANARY}@db/app"
    path = file_with(f"[store]\nurl = {url}\n")
    commands = [("config", "check"), ("serve",), ("agent",), ("user", "list"), ("session", "list", "x"),
                ("config", "show")]
    for words in commands:
        def ask(*more, words=words, env=None):
            done = subprocess.run([scratch.PROGRAM, *words, *more], text=True, capture_output=True,
                                  check=False, timeout=60, stdin=subprocess.DEVNULL,
                                  env={**os.environ, **(env or {})})
            assert CANARY not in done.stdout + done.stderr, words
            return done
        refusals = [ask(*NONE, env={"CLOAKROOM__STORE__URL": url})]
        if words != ("config", "show"):
            refusals.append(ask(*NONE, "--store", url))
        path.chmod(0o644)
        refusals.append(ask("--config", str(path)))
        for done in refusals:
            assert done.returncode == 2 and "password" in done.stderr, (words, done.stderr)
        path.chmod(0o600)
        done = ask("--config", str(path))
        assert (done.returncode == 0) == (words[0] == "config"), (words, done.stderr)
        if words[0] == "config":
            assert "postgresql://app:***@db/app" in done.stdout


def the_example_file_has_every_setting_and_its_default():
    text = EXAMPLE.read_text(encoding="utf-8")
    rows = json.loads(config("show", *NONE, "--json")[1])
    for row in rows:
        key = row["name"].split(".")[1]
        assert f"\n#{key} = {row['default']}".rstrip() + "\n" in text, row
    assert text == config("example")[1]
    status, out, error = config("check", "--config", EXAMPLE, "--json")
    assert status == 0 and {row["source"] for row in json.loads(out)["settings"]} == {"default"}, error
    # Every line that has a default is right when it is no comment any more.
    lines = [line[1:] if line.startswith("#") and " = " in line and not line.startswith("# ")
             else line for line in text.splitlines()]
    path = file_with("\n".join(lines) + "\n")
    status, out, error = config("check", "--config", path, "--json")
    assert status == 0, error
    defaults = {row["name"]: row["default"] for row in rows}
    for row in json.loads(out)["settings"]:
        assert row["value"] == defaults[row["name"]], row
        assert row["source"] == ("file" if row["value"] else "default"), row


def the_file_of_the_system_is_read_where_it_exists():
    """In a mount namespace that has one."""
    script = ("mount -t tmpfs none /etc && mkdir /etc/cloakroom && "
              "printf '[server]\\nworkers = 5\\n' >/etc/cloakroom/cloakroom.conf && ")
    def inside(command):
        return subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-ec",
                               script + command], text=True, capture_output=True, check=False,
                              timeout=60, stdin=subprocess.DEVNULL)
    if inside("true").returncode != 0:
        tap.skip("no mount namespace can be had here")
    program = scratch.PROGRAM
    done = inside(f"{program} config check")
    assert "server.workers = 5" in done.stdout and "/etc/cloakroom/cloakroom.conf:2" in done.stdout, done
    done = inside(f"{program} config check --config /dev/null")
    assert "server.workers = 2" in done.stdout, done
    done = inside(f"echo x >>/etc/cloakroom/cloakroom.conf; {program} user list")
    assert done.returncode == 2 and "/etc/cloakroom/cloakroom.conf:3: neither" in done.stderr, done


def change(server, path, text, *says):
    """Writes the settings file, sends SIGHUP, and waits until the log says it all."""
    before = len(server.said())
    path.write_text(text)
    server.process.send_signal(signal.SIGHUP)
    for word in says:
        scratch.until(lambda word=word: word in server.said()[before:], word)
    return server.said()[before:]


def all_answer(server, token):
    connections = server.connections().values()
    assert all(connection.session(token) == 200 for connection in connections)
    for connection in connections:
        connection.close()


def a_server_keeps_its_settings_when_the_file_is_bad_and_says_what_a_good_one_changes():
    path = file_with("[cache]\nmemory = 2M\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, token = server.login()
        all_answer(server, token)
        said = change(server, path, "[cache]\nmemory = lots\n", f"{path}:2: cache.memory is a size")
        assert "the settings stay as they were" in said and "read anew" not in said, said
        change(server, path, "[cache]\nmemory = lots\nkind = some\n", f"{path}:2: cache.memory is a size",
               f"{path}:3: cache.kind is")
        said = change(server, path, "[cache\n", f"{path}:1: neither [section] nor key = value")
        all_answer(server, token)
        said = change(server, path,
                      "[cache]\nmemory = 4M\n[engine]\ngrace = 1s\n[server]\nworkers = 7\nconnections = 50\n",
                      "settings read anew")
        assert "taken over from the settings: cache.memory" in said, said
        assert "to be restarted for: server.connections, engine.grace" in said, said
        assert "server.workers" not in said, "an option outweighs it"
        assert said.count("to be restarted for") == 1, said
        all_answer(server, token)
        said = change(server, path, "[cache]\nmemory = 4M\n", "settings read anew")
        assert "taken over" not in said and "restarted" not in said, said


def guess(server, password="wrong horse battery staple", through=None):
    """The status of a log-in from a browser that nobody knows; `through`: what a proxy says whence."""
    connection = scratch.Connection(server.port)
    try:
        return connection.ask("POST", "/login", body={"user": "alice", "password": password,
                                                      "mode": "bearer"},
                              more={"X-Forwarded-For": through} if through else None)[0]
    finally:
        connection.close()


def limits(account):
    return ("[session]\non_login = keep\n[login]\n"
            f"limit_account = {account}\nlimit_pair = off\nlimit_source = off\n")


def a_changed_limit_holds_for_the_next_guess_and_what_is_owed_stays_owed():
    path = file_with(limits("3/1h"))
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, token = server.login()
        assert [guess(server), guess(server)] == [401, 401]
        said = change(server, path, limits("2/1h"), "settings read anew")
        assert "taken over from the settings: login.limit_account" in said, said
        assert guess(server) == 429 and guess(server, server.password) == 429
        change(server, path, limits("2/never"), "login.limit_account is `off`, or one to four")
        assert guess(server) == 429, "a bad file has changed a limit"
        change(server, path, limits("9/1h"), "settings read anew")
        assert [guess(server) for _ in range(10)].count(429) >= 3, "what was owed is forgotten"
        change(server, path, limits("off"), "settings read anew")
        assert guess(server) == 401 and guess(server, server.password) == 200
        change(server, path, limits("2/1h"), "settings read anew")
        assert guess(server) == 429, "what was owed is forgotten by switching the limit off and on"
        change(server, path, limits("2/1h") + "limits = off\n", "settings read anew")
        assert guess(server) == 401
        assert ask_session(server, token) == 200


def what_a_proxy_says_is_believed_when_it_is_named():
    """ASVS G1, over all workers: the limits and the list of devices have the address behind it."""
    of_login = "[login]\nlimit_account = off\nlimit_pair = off\nlimit_source = 2/1h\n"
    path = file_with(of_login + "[server]\nproxies = 10.9.8.7\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        tap.note("somebody who is no proxy is one source, whatever is sent")
        said = [guess(server, through=f"198.51.100.{turn}") for turn in range(4)]
        assert said == [401, 401, 429, 429], said
        change(server, path, of_login + "[server]\nproxies = 127.0.0.1/0\n",
               f"{path}:6: server.proxies is '127.0.0.1/0': a network is one of 1 to 32 bits")
        assert guess(server, through="198.51.100.7") == 429, "a bad file has changed a setting"
        said = change(server, path, of_login + "[server]\nproxies = 127.0.0.0/8\n", "settings read anew")
        assert "taken over from the settings: server.proxies" in said, said
        for who in "198.51.100.1", "198.51.100.2", "2001:db8::1":
            said = [guess(server, through=f"203.0.113.{turn}, {who}") for turn in range(3)]
            assert said == [401, 401, 429], (who, said)
        connection = scratch.Connection(server.port)
        status, body = connection.ask("POST", "/login", more={"X-Forwarded-For": "198.51.100.3"}, body={
            "user": "alice", "password": server.password, "mode": "bearer"})
        assert status == 200, body
        devices = connection.ask("GET", "/sessions", body["signed_token"])[1]["sessions"]
        assert devices[0]["address"] == "198.51.100.3", devices
        connection.close()


def lifetime(server, token):
    """Seconds from its beginning to its end, as it is told."""
    connection = scratch.Connection(server.port)
    status, body = connection.ask("GET", "/session", token)
    connection.close()
    assert status == 200, body
    body = body.get("session", body)
    until, since = (datetime.datetime.fromisoformat(body[key].replace("Z", "+00:00"))
                    for key in ("expires_at", "created_at"))
    return (until - since).total_seconds()


def lifetimes_and_policy_hold_for_sessions_that_are_made_after_the_reload():
    path = file_with("[session]\non_login = keep\nidle = 1h\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, first = server.login()
        change(server, path, "[session]\non_login = keep\nprofile = aal3\n", "settings read anew")
        _, second = server.login()
        assert lifetime(server, second) <= 15 * 60 + 1, "the new profile does not hold"
        assert lifetime(server, first) > 30 * 60, "an earlier session has changed"
        # A worker that is replaced is as the others are.
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        scratch.until(lambda: server.worker_pids() and server.is_whole(), "the workers")
        _, third = server.login()
        assert lifetime(server, third) <= 15 * 60 + 1, "a worker that was replaced has old settings"
        change(server, path, "[session]\non_login = keep\nprofile = aal3\nidle = 1d\n",
               f"{path}:4: session.idle is 1d, and 15m is the most")
        change(server, path, "[session]\nidle = 2h\n", "settings read anew")
        _, last = server.login()
        assert lifetime(server, last) > 3600
        assert [ask_session(server, token) for token in (first, second, third)] == [401] * 3, "replace"
        # And of sessions that an application makes, which the agent gives their lifetimes.
        app = scratch.Attached(server.app)
        made = app.do("login", "alice")
        assert lifetime(server, made[-1]) > 3600, made
        app.close()


def add_user(server, name, password):
    """What is said where it is refused; '': it was added."""
    done = subprocess.run([scratch.PROGRAM, "user", "add", name, "--store", server.store, "--state",
                           str(server.state)], input=f"{password}\n", text=True, timeout=60,
                          capture_output=True, check=False)
    assert (done.returncode == 0) == (done.stderr == ""), done
    return done.stderr


def rules_for_passwords_and_their_list_are_read_anew_or_nothing_is():
    listed = scratch.folder("list") / "list.txt"
    listed.write_text("one unusual password\n")
    path = file_with(f"[password]\nlist = {listed}\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        assert add_user(server, "ben", "One Unusual Password") and add_user(server, "ben", "twelve chars")
        assert add_user(server, "ben", "another unusual one") == ""
        # The same name, other lines: read anew, too.
        listed.write_text("another unusual one\n")
        said = change(server, path, f"[password]\nlist = {listed}\nlength_min = 12\n", "settings read anew")
        assert "taken over from the settings: password.length_min" in said, said
        assert add_user(server, "carl", "Another Unusual One")
        assert add_user(server, "carl", "one unusual password") == ""
        assert add_user(server, "dora", "twelve chars") == ""
        # What cannot be read leaves all as it was: rules, limits, lifetimes, in every process.
        said = change(server, path, f"[password]\nlist = {listed}.gone\nlength_min = 8\n[session]\n"
                      f"idle = 5m\n[log]\njson = yes\n", "the settings stay as they were")
        assert "list.txt.gone" in said and "read anew" not in said and "taken over" not in said, said
        assert add_user(server, "emil", "nine char") and add_user(server, "emil", "Another Unusual One")
        assert lifetime(server, server.login()[1]) > 20 * 60
        said = change(server, path, f"[password]\nlist = {listed}\nlength_min = 8\n", "settings read anew")
        assert "taken over from the settings: password.length_min" in said, said
        assert add_user(server, "emil", "nine char") == ""


def the_log_changes_in_every_process():
    path = file_with("")
    with scratch.Server(arguments=("--config", str(path))) as server:
        change(server, path, "[log]\njson = yes\n", '"text":"settings read anew"')
        before = len(server.said())
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        scratch.until(lambda: server.is_whole(), "another worker")
        scratch.end(server.process)
        lines = [json.loads(line) for line in server.said()[before:].splitlines()]
        assert {"serve", "agent"} <= {line["who"] for line in lines}, lines


def a_reload_under_load_answers_nothing_wrongly():
    def text(turn):
        return (f"{limits(f'{50 + turn}/1h')}[session]\nidle = {20 + turn}m\n"
                f"[cache]\nmemory = {2 + turn % 2}M\n[server]\nclear_site_data = cookies, storage\n")
    path = file_with(text(0))
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, token = server.login()
        stop, wrong, asked = threading.Event(), [], [0, 0]

        def ask(index, connection):
            while not stop.is_set():
                status = connection.session(token)
                asked[index] += 1
                if status != 200:
                    wrong.append(status)
                    return
        connections = list(server.connections().values())
        threads = [threading.Thread(target=ask, args=(index, connection))
                   for index, connection in enumerate(connections)]
        for thread in threads:
            thread.start()
        try:
            workers = server.worker_pids()
            for turn in range(1, 13):
                before = list(asked)
                change(server, path, text(turn), "settings read anew")
                server.login()
                scratch.until(lambda before=before: wrong or all(b > a for a, b in zip(before, asked)), "asking")
            assert server.worker_pids() == workers, "a worker has ended"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for connection in connections:
            connection.close()
        assert not wrong, wrong


def signals_that_come_faster_than_a_reload_lose_nothing():
    """The last file is what holds in the end, also when the agent is killed over it."""
    path = file_with("[session]\non_login = keep\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        for turn in range(3):
            for minutes in range(1, 6):
                path.write_text(f"[session]\non_login = keep\nidle = {10 * turn + minutes}m\n")
                server.process.send_signal(signal.SIGHUP)
                if minutes == 4:
                    os.kill(server.agent_pid(), signal.SIGKILL)
            def is_in_force(want=60 * (10 * turn + 5)):
                try:
                    return lifetime(server, server.login()[1]) == want
                except AssertionError:
                    return False
            scratch.until(is_in_force, "the last settings")


def an_agent_that_is_replaced_runs_with_what_was_taken_last():
    """Also when the file has become bad meanwhile, or was never read."""
    path = file_with("[cache]\nmemory = 2M\n[session]\nidle = 10m\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, token = server.login()
        change(server, path, "[cache]\nmemory = 4M\n[session]\nidle = 10m\n", "settings read anew")
        change(server, path, "[cache\n", "the settings stay as they were")
        for _ in range(2):
            first = server.agent_pid()
            os.kill(first, signal.SIGKILL)
            scratch.until(lambda first=first: server.agent_pid() not in (None, first), "another agent")
            scratch.until(lambda: ask_session(server, token) == 200, "the session")
        all_answer(server, token)
        # The newest is as the first: this changes nothing of it.
        said = change(server, path, "[cache]\nmemory = 4M\n[session]\nidle = 10m\n", "settings read anew")
        assert "taken over" not in said and "restarted" not in said, said


def ask_session(server, token):
    connection = scratch.Connection(server.port)
    try:
        return connection.session(token)
    finally:
        connection.close()


def a_signal_to_an_agent_that_starts_is_not_lost_and_does_not_end_it():
    path = file_with("[cache]\nmemory = 2M\n")
    with scratch.Server(arguments=("--config", str(path))) as server:
        _, token = server.login()
        for memory in ("3M", "4M", "5M"):
            first = server.agent_pid()
            path.write_text(f"[cache]\nmemory = {memory}\n")
            before = len(server.said())
            os.kill(first, signal.SIGKILL)
            scratch.until(lambda first=first: server.agent_pid() not in (None, first), "another agent")
            second = server.agent_pid()
            server.process.send_signal(signal.SIGHUP)
            scratch.until(lambda before=before: "settings read anew" in server.said()[before:], memory)
            assert server.agent_pid() == second, server.said()
            scratch.until(lambda: ask_session(server, token) == 200, "the session")


def an_agent_alone_says_what_it_takes_over_and_what_needs_a_restart():
    path = file_with("[cache]\nmemory = 2M\n")
    desk = Desk()
    desk.start("--config", str(path))
    try:
        for text, says, no in [
                ("[cache]\nmemory = 4M\nhuge_pages = off\n",
                 ["taken over from the settings: cache.memory, cache.huge_pages"], ["restart"]),
                ("[cache]\nmemory = 4M\nhuge_pages = off\n[login]\nhash_threads = 2\n[server]\nworkers = 9\n",
                 ["to be restarted for: login.hash_threads"], ["taken over", "server.workers"]),
                ("[cache]\nmemory = 8M\nmemory = 4M\n",
                 [f"{path}:3: cache.memory stands here a second time"], ["read anew"]),
                ("[session]\nprofile = aal3\nidle = 1h\n",
                 [f"{path}:3: session.idle is 1h, and 15m is the most"], ["read anew"])]:
            before = len(desk.said())
            path.write_text(text)
            desk.agent.send_signal(signal.SIGHUP)
            wanted = says + ([] if "read anew" in no else ["settings read anew"])
            for word in wanted:
                scratch.until(lambda word=word: word in desk.said()[before:], word)
            assert not any(word in desk.said()[before:] for word in no), desk.said()[before:]
        # A file that is gone is a bad one.
        before = len(desk.said())
        path.unlink()
        desk.agent.send_signal(signal.SIGHUP)
        scratch.until(lambda: "x.conf: No such file or directory" in desk.said()[before:], "no file")
        assert desk.do("user", "list") is not None and desk.agent.poll() is None
    finally:
        desk.stop()


tap.main([
    the_outcome_says_where_each_value_comes_from,
    what_is_wrong_is_told_with_its_place_and_a_status,
    all_that_is_wrong_is_told_at_once,
    profiles_have_the_lifetimes_of_nist,
    the_lifetime_of_a_profile_is_that_of_its_sessions,
    a_password_comes_neither_by_argument_nor_by_environment,
    the_example_file_has_every_setting_and_its_default,
    the_file_of_the_system_is_read_where_it_exists,
    a_server_keeps_its_settings_when_the_file_is_bad_and_says_what_a_good_one_changes,
    a_changed_limit_holds_for_the_next_guess_and_what_is_owed_stays_owed,
    what_a_proxy_says_is_believed_when_it_is_named,
    lifetimes_and_policy_hold_for_sessions_that_are_made_after_the_reload,
    rules_for_passwords_and_their_list_are_read_anew_or_nothing_is,
    the_log_changes_in_every_process,
    a_reload_under_load_answers_nothing_wrongly,
    signals_that_come_faster_than_a_reload_lose_nothing,
    an_agent_that_is_replaced_runs_with_what_was_taken_last,
    a_signal_to_an_agent_that_starts_is_not_lost_and_does_not_end_it,
    an_agent_alone_says_what_it_takes_over_and_what_needs_a_restart,
])
