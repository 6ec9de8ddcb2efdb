#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=180
"""The HTTP server as a whole: its routes as a browser and a program meet them, what it does with
those who are slow, and what it survives."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap

COOKIE = "cloakroom-dev"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Browser:
    """Keeps its cookie, follows nothing, and looks at the headers of each answer (ASVS F4, F7)."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.cookie, self.form_cookie = None, ""

    def ask(self, method, path, body=None, kind=None, **headers):
        """(status, headers, text)"""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            headers["Cookie"] = f"{COOKIE}={self.cookie}; {self.form_cookie}"
        elif self.form_cookie:
            headers["Cookie"] = self.form_cookie
        if kind:
            headers["Content-Type"] = kind
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        text = answer.read().decode()
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, f"{path}: {name}: {answer.headers[name]}"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, policy
        assert "crs1_" not in (answer.headers["Location"] or ""), "a token in an address"  # A8
        for line in answer.headers.get_all("Set-Cookie") or []:
            pair, *attributes = line.split("; ")
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes), line  # B1 to B5
            name, _, value = pair.partition("=")
            if name == COOKIE:
                self.cookie = value or None
            elif name == f"{COOKIE}-form":
                self.form_cookie = pair
        return answer.status, answer.headers, text

    def form_login(self, password):
        _, _, page = self.ask("GET", "/login")
        return self.form("/login", form_token=form_token(page), user="alice", password=password)

    def json(self, method, path, body=None):
        status, _, text = self.ask(method, path, json.dumps(body) if body is not None else None,
                                   "application/json")
        return status, json.loads(text)

    def form(self, path, **fields):
        body = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in fields.items())
        return self.ask("POST", path, body, "application/x-www-form-urlencoded",
                        Sec_Fetch_Site="same-origin")

    def login(self):
        status, body = self.json("POST", "/login",
                                 {"user": "alice", "password": scratch.Server.password})
        assert status == 200, f"{status} {body}"
        return body["session"]["id"]

    def status(self):
        return self.ask("GET", "/session")[0]


def form_token(page):
    """Of the first form."""
    return page.partition('name="form_token" value="')[2].partition('"')[0]


def raw(port, data, seconds=20):
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def a_program_does_all_that_it_can():
    with scratch.Server(arguments=["--on-login", "keep"]) as server:
        first, second, third = (Browser(server.port) for _ in range(3))
        own, other = first.login(), second.login()
        third.login()
        assert first.json("GET", "/session")[1]["session"]["id"] == own
        status, body = first.json("GET", "/sessions")
        assert status == 200 and len(body["sessions"]) == 3, body
        assert [row["id"] for row in body["sessions"] if row["current"]] == [own]
        assert first.json("DELETE", f"/sessions/{other}") == (200, {"ended": "done"})
        assert (first.status(), second.status(), third.status()) == (200, 401, 200)
        assert first.json("DELETE", f"/sessions/{other}")[0] == 404
        assert first.json("DELETE", "/sessions?except=current") == (200, {"ended": "done"})
        assert (first.status(), third.status()) == (200, 401)
        status, body = first.json("GET", "/sessions")
        assert status == 200 and [row["id"] for row in body["sessions"]] == [own], body
        assert len(body["ended"]) == 2 and body["ended"][1]["id"] == other, body
        assert all(row["reason"] == "device" and row["by"] == "the user" for row in body["ended"]), body
        assert first.json("POST", "/logout") == (200, {"ended": "done"})
        assert first.cookie is None and first.status() == 401


def a_person_does_all_that_they_can():
    with scratch.Server() as server:
        browser = Browser(server.port)
        status, headers, _ = browser.ask("GET", "/")
        assert (status, headers["Location"]) == (303, "/login")
        status, _, page = browser.ask("GET", "/login")
        assert status == 200 and 'name="password"' in page
        assert browser.form("/login", user="alice", password=server.password)[0] == 403  # F3
        status, _, page = browser.form_login("wrong")
        assert status == 401 and "wrong" in page and browser.cookie is None
        status, headers, _ = browser.form_login(server.password)
        assert (status, headers["Location"]) == (303, "/")
        status, _, page = browser.ask("GET", "/", User_Agent="Mozilla/5.0 <script>")
        assert status == 200 and "This device" in page and "<script" not in page
        token = form_token(page)
        assert browser.form("/logout", form_token=token[::-1])[0] == 403
        status, headers, _ = browser.form("/logout", form_token=token)
        assert (status, headers["Location"]) == (303, "/login")
        assert headers["Clear-Site-Data"] == '"cookies"'  # B9
        assert browser.cookie is None and browser.status() == 401
        # A login elsewhere: the page says what ended the session here.
        browser.login()
        Browser(server.port).login()
        assert browser.ask("GET", "/")[0] == 303
        status, _, page = browser.ask("GET", "/login")
        assert status == 200 and 'class="notice"' in page and browser.cookie is None


def a_proxy_gets_a_yes_or_a_no_in_any_dialect():
    with scratch.Server(workers=1) as server:
        browser = Browser(server.port)
        identity = browser.login()
        cookie = f"Cookie: {COOKIE}={browser.cookie}\r\n".encode()
        for line in (b"GET /verify HTTP/1.0", b"HEAD /verify HTTP/1.0", b"PROPFIND /verify HTTP/1.0",
                     b"HEAD /verify HTTP/1.1"):
            more = b"Host: a\r\nConnection: close\r\n"
            head, _, body = raw(server.port, line + b"\r\n" + more + cookie + b"\r\n").partition(
                b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ") and body == b"", head
            assert b"\r\nRemote-User: alice\r\n" in head, head
            assert f"\r\nCloakroom-Session: {identity}\r\n".encode() in head, head
            head, _, body = raw(server.port, line + b"\r\n" + more + b"\r\n").partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 "), head
            assert b"Remote-User" not in head and (body != b"") != line.startswith(b"HEAD"), body


def workers_are_confined():
    with scratch.Server(workers=2) as server:
        for pid in server.worker_pids():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status, status


def who_is_slow_is_cut():
    """ASVS G8: a byte now and then holds no connection."""
    with scratch.Server(workers=1) as server:
        starts = {
            "nothing": b"",
            "a first line": b"GET /session HT",
            "a head": b"GET /session HTTP/1.1\r\nHost: a\r\nX-A: ",
            "a body": b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 1000\r\n\r\n{",
        }
        open_ = {name: socket.create_connection(("127.0.0.1", server.port)) for name in starts}
        for name, connection in open_.items():
            connection.sendall(starts[name])
            connection.settimeout(0.5)
        begun = time.monotonic()
        while open_:
            assert time.monotonic() - begun < 25, f"still open: {list(open_)}"
            for name, connection in list(open_.items()):
                try:
                    if name != "nothing":
                        connection.sendall(b" ")
                    if connection.recv(1000) == b"":
                        raise ConnectionResetError
                except TimeoutError:
                    continue
                except OSError:
                    connection.close()
                    del open_[name]
        # Meanwhile and afterwards others are served.
        assert Browser(server.port).status() == 401


def a_worker_that_is_killed_is_replaced_and_nobody_is_logged_out():
    with scratch.Server(workers=2, arguments=["--on-login", "keep"]) as server:
        browser = Browser(server.port)
        browser.login()
        wrong, stop, served = [], threading.Event(), [0]

        def load():
            while not stop.is_set():
                asker = Browser(server.port)
                asker.cookie = browser.cookie
                try:
                    for _ in range(20):
                        status = asker.status()
                        served[0] += status == 200
                        if status not in (200, 503):
                            wrong.append(status)
                except (OSError, http.client.HTTPException):
                    pass  # its worker was killed under it

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                before = server.worker_pids()
                os.kill(before[0], signal.SIGKILL)
                scratch.until(lambda: before[0] not in server.worker_pids() and server.is_whole(),
                              "the worker is replaced")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong and served[0] > 0, f"{wrong[:10]}, {served[0]} served"


def without_an_agent_the_answer_is_later_and_never_no():
    with scratch.Server(workers=2) as server:
        browser = Browser(server.port)
        browser.login()
        agent = server.agent_pid()
        os.kill(agent, signal.SIGSTOP)
        try:
            # What was in the table may be believed for a second; then it has to be asked for.
            scratch.until(lambda: browser.status() == 503, "the table runs out", 30)
            status, headers, text = browser.ask("GET", "/session")
            assert status == 503 and headers["Retry-After"] and "Nobody was logged out" in text
            assert browser.ask("GET", "/verify")[0] == 503
            assert browser.ask("GET", "/")[0] == 503
        finally:
            os.kill(agent, signal.SIGCONT)
        scratch.until(lambda: browser.status() == 200, "the agent goes on")
        assert browser.cookie


def requests_under_way_are_finished_before_the_end():
    with scratch.Server(workers=2) as server:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        browsers = [Browser(server.port) for _ in range(4)]
        for browser in browsers:
            browser.http.request("POST", "/login", '{"user":"alice","password":"wrong"}',
                                 {"Content-Type": "application/json"})
        # A password takes a while to check: with the first answer, others are waiting for theirs.
        answers = [browsers[0].http.getresponse().status]
        server.process.send_signal(signal.SIGTERM)
        answers += [browser.http.getresponse().status for browser in browsers[1:]]
        assert server.process.wait(20) == 0, server.said()
        assert answers == [401] * 4, answers
        assert idle.recv(100) == b""
        idle.close()


def a_supervisor_that_is_killed_takes_all_with_it():
    with scratch.Server(workers=2) as server:
        others = scratch.children(server.process.pid)
        assert len(others) == 4, others  # the agent, two workers, the operators' worker
        server.process.kill()
        server.process.wait()
        scratch.until(lambda: not any(pathlib.Path(f"/proc/{pid}/exe").exists() for pid in others),
                      "workers and agent are gone")
        # And the next one starts at once.
        server.start()
        assert Browser(server.port).status() == 401


def who_gets_a_name_that_was_anothers_is_told_nothing_of_that_ones_sessions():
    with scratch.Server() as server:

        def user(*words, answer=""):
            return subprocess.run([scratch.PROGRAM, *words, "--store", server.store, "--state",
                                   server.state], input=answer, capture_output=True, text=True,
                                  check=True, timeout=60).stdout

        first, second = Browser(server.port), Browser(server.port)
        first.login()
        assert first.json("POST", "/logout")[0] == 200
        first.login()
        user("user", "remove", "alice")
        user("user", "add", "alice", answer=server.password)
        own = second.login()
        status, body = second.json("GET", "/sessions")
        assert status == 200 and [row["id"] for row in body["sessions"]] == [own], body
        assert body["ended"] == [], body
        assert second.json("POST", "/logout")[0] == 200
        second.login()
        assert [row["id"] for row in second.json("GET", "/sessions")[1]["ended"]] == [own]
        # Operators see all of them.
        assert len(json.loads(user("session", "list", "alice", "--ended", "--json"))) == 3


def who_was_replaced_reads_why_at_the_login_page():
    """Through the agent: an HTTP worker may ask about the ended session of the token in hand only."""
    with scratch.Server() as server:
        _, phone = server.login()
        server.login()
        connection = scratch.Connection(server.port)
        for token, words in [(phone, "You were signed out because you signed in on another device"), (None, "<h1>")]:
            cookie = {"Cookie": f"cloakroom-dev={token}"} if token else {}
            connection.http.request("GET", "/login", headers=cookie)
            answer = connection.http.getresponse()
            text = answer.read().decode()
            assert answer.status == 200 and words in text, text
        connection.close()


tap.main([
    who_gets_a_name_that_was_anothers_is_told_nothing_of_that_ones_sessions,
    who_was_replaced_reads_why_at_the_login_page,
    a_program_does_all_that_it_can,
    a_person_does_all_that_they_can,
    a_proxy_gets_a_yes_or_a_no_in_any_dialect,
    workers_are_confined,
    who_is_slow_is_cut,
    a_worker_that_is_killed_is_replaced_and_nobody_is_logged_out,
    without_an_agent_the_answer_is_later_and_never_no,
    requests_under_way_are_finished_before_the_end,
    a_supervisor_that_is_killed_takes_all_with_it,
])
