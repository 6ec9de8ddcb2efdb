#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=180
"""Keys of tokens are replaced under load, by real processes, and nobody is logged out (ASVS H3);
what is used as a key or a hash is what doc/keys.md lists (ASVS H4)."""

import http.client
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import threading

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap
from desk import Desk

COOKIE = "cloakroom-dev"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def ask(port, method, path, cookie=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        if cookie:
            headers["Cookie"] = f"{COOKIE}={cookie}"
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        answer.read()
        line = answer.headers["Set-Cookie"] or ""
        return answer.status, line.partition("=")[2].partition(";")[0]
    finally:
        connection.close()


def login(port):
    status, cookie = ask(port, "POST", "/login",
                         body={"user": "alice", "password": scratch.Server.password})
    assert status == 200, status
    return cookie


def key_of(token):
    """The number that stands in the token: 6 bits after 6 of version."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert token.startswith("crs1_"), "not a token"
    return alphabet.index(token[6])


def keys(server, *words):
    done = subprocess.run([scratch.PROGRAM, "key", *words, "--json", "--store", server.store,
                           "--state", str(server.state)],
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rotations_under_load_log_nobody_out():
    # Without a cache each request's MAC is checked.
    with scratch.Server(workers=2, arguments=["--on-login", "keep", "--cache", "none"]) as server:
        cookies = [login(server.port)]
        assert key_of(cookies[0]) == 1
        wrong, served, stop = [], [0], threading.Event()

        def load():
            while not stop.is_set():
                for cookie in list(cookies):
                    status, _ = ask(server.port, "GET", "/session", cookie)
                    served[0] += status == 200
                    if status != 200:
                        wrong.append(status)

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(2, 6):
                assert keys(server, "rotate") == {"number": number, "signs_in_ms": 0}
                cookies.append(login(server.port))
                assert key_of(cookies[-1]) == number, "who was told makes no token with the old key"
                before = served[0]
                scratch.until(lambda: served[0] >= before + 20 or wrong, "load after a rotation")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong, wrong
        rows = keys(server, "list")
        assert [row["number"] for row in rows] == [1, 2, 3, 4, 5]
        assert [row["state"] for row in rows] == ["checks"] * 4 + ["signs"]
        assert all(old["until"] == new["since"] for old, new in zip(rows, rows[1:]))
        assert all(set(row) == {"number", "state", "since", "until"} for row in rows)


def an_agent_killed_around_a_rotation_goes_on_with_what_was_committed():
    with scratch.Server(workers=1, arguments=["--on-login", "keep", "--cache", "none"]) as server:
        old = login(server.port)
        for _ in range(4):
            asker = subprocess.Popen([scratch.PROGRAM, "key", "rotate", "--store", server.store,
                                      "--state", str(server.state)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            agent = server.agent_pid()
            os.kill(agent, signal.SIGKILL)
            asker.wait(timeout=60)
            scratch.until(lambda a=agent: server.agent_pid() not in (None, a), "another agent")
            scratch.until(lambda: ask(server.port, "GET", "/session", old)[0] == 200,
                          "the session of the oldest key")
            newest = keys(server, "list")[-1]
            assert newest["state"] == "signs"
            assert key_of(login(server.port)) == newest["number"]


def the_bytes_of_keys_are_never_shown():
    desk = Desk()
    shown = ""
    for with_agent in (False, True):
        if with_agent:
            desk.start()
        shown += desk.do("key", "rotate") + desk.do("key", "list")
        shown += desk.do("key", "rotate", "--json") + desk.do("key", "list", "--json")
        desk.stop()
    shown += desk.said()
    with sqlite3.connect(f"file:{desk.home}/store.db?mode=ro", uri=True) as db:
        rows = db.execute("SELECT bytes FROM keys").fetchall()
    assert len(rows) == 5
    for (key,) in rows:
        assert key.hex() not in shown.lower()


def with_63_keys_a_rotation_is_refused_with_the_reason():
    with Desk() as desk:
        for _ in range(62):
            desk.do("key", "rotate")
        status, out, error = desk.run("key", "rotate")
        assert status == 1 and "there are 63 keys" in error and not out, error
        assert len(json.loads(desk.do("key", "list", "--json"))) == 63


def the_inventory_names_every_algorithm_that_the_sources_call():
    called = set()
    for path in sorted((ROOT / "src").rglob("*.[ch]")):
        text = path.read_text(encoding="utf-8")
        called |= set(re.findall(r"\b(crypto_[a-z]+|sha\d+)(?:_[a-z0-9_]+)?\(", text))
        called |= set(re.findall(r"\b(crypt_r|pbkdf2_hmac_\w+|PBKDF2)\(", text))
    page = (ROOT / "doc" / "keys.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(crypto_[a-z]+|sha\d+|crypt_r|pbkdf2_hmac_\w+|PBKDF2)`", page))
    assert called and called == listed, f"only called: {called - listed}; only listed: {listed - called}"


tap.main([
    rotations_under_load_log_nobody_out,
    an_agent_killed_around_a_rotation_goes_on_with_what_was_committed,
    the_bytes_of_keys_are_never_shown,
    with_63_keys_a_rotation_is_refused_with_the_reason,
    the_inventory_names_every_algorithm_that_the_sources_call,
])
