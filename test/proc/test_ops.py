#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=180
"""The operators' worker: its routes, who may come, what it survives, and that nothing of it is
public (ASVS D4, G6, G7)."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap


def ask(connection, method, path, body=None, **headers):
    """(status, headers, text)"""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


class Watched(scratch.Server):
    """With a port for /metrics, and every request on a connection of its own."""

    def __init__(self, **more):
        self.watch = scratch.free_port()
        super().__init__(arguments=("--ops-listen", f"127.0.0.1:{self.watch}"), **more)

    def ops(self, method, path, body=None, **headers):
        return ask(scratch.Unix(self.state / "ops.sock"), method, path, body, **headers)

    def ops_json(self, method, path, body=None):
        status, _, text = self.ops(method, path, json.dumps(body) if body is not None else None,
                                   **({"Content_Type": "application/json"} if body is not None else {}))
        return status, json.loads(text)

    def monitor(self, path, method="GET", **headers):
        return ask(http.client.HTTPConnection("127.0.0.1", self.watch, timeout=20), method, path,
                   **headers)

    def public(self, method, path):
        return ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), method, path)

    def is_live(self, token):
        """The status of GET /session, the same from every worker."""
        found = set()
        for connection in self.connections().values():
            found.add(connection.session(token))
            connection.close()
        assert len(found) == 1, found
        return found.pop()

    def ops_pid(self):
        return next((pid for pid in scratch.children(self.process.pid)
                     if scratch.arguments(pid)[1:2] == ["ops-worker"]), None)

    def metric(self, name):
        """The value of one sample; None: it is not there."""
        status, _, text = self.monitor("/metrics")
        assert status == 200, text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else None


def an_application_logs_in_whom_it_has_checked():
    with Watched() as server:
        status, body = server.ops_json("POST", "/users/b%C3%BCb%2Fx/sessions",
                                       {"address": "192.0.2.9", "agent": "curl/8"})
        assert status == 200 and body["session"]["user"] == "büb/x", body
        assert body["expires_at"] == body["session"]["expires_at"], body
        assert server.is_live(body["signed_token"]) == 200
        connection = scratch.Connection(server.port)
        _, devices = connection.ask("GET", "/sessions", body["signed_token"])
        connection.close()
        assert [(d["address"], d["agent"]) for d in devices["sessions"]] == [("192.0.2.9", "curl/8")]
        # As at any log-in: the policy ends the earlier session before it answers.
        status, again = server.ops_json("POST", "/users/b%C3%BCb%2fx/sessions")
        assert status == 200 and server.is_live(body["signed_token"]) == 401
        assert server.is_live(again["signed_token"]) == 200
        _, alice = server.login()
        tap.note("the same session, confirmed")
        status, fresh = server.ops_json("POST", "/users/b%C3%BCb%2fx/sessions",
                                        {"renews": again["signed_token"]})
        assert status == 200, fresh
        assert fresh["session"]["id"] == again["session"]["id"], fresh
        assert fresh["session"]["authenticated_at"] >= again["session"]["authenticated_at"], fresh
        assert server.is_live(again["signed_token"]) == 401
        assert server.is_live(fresh["signed_token"]) == 200
        for renews, want in ((again["signed_token"], 409), (alice, 409), ("x", 400)):
            assert server.ops_json("POST", "/users/b%C3%BCb%2fx/sessions",
                                   {"renews": renews})[0] == want, renews
        assert server.is_live(alice) == server.is_live(fresh["signed_token"]) == 200


def one_user_or_everybody_is_ended():
    """ASVS D4: done means that no worker lets them in."""
    with Watched() as server:
        _, alice = server.login()
        _, bob = server.ops_json("POST", "/users/bob/sessions")
        assert server.is_live(alice) == server.is_live(bob["signed_token"]) == 200
        assert server.ops_json("POST", "/users/alice/end-sessions") == (200, {"ended": "done"})
        assert server.is_live(alice) == 401 and server.is_live(bob["signed_token"]) == 200
        assert server.ops_json("POST", "/end-all") == (200, {"ended": "done"})
        assert server.is_live(bob["signed_token"]) == 401
        status, body = server.ops_json("POST", "/users/nobody-ever/end-sessions")
        assert status == 404 and "No user" in body["detail"], body
        _, _, said = server.ops("POST", "/end-all?repeat=12")
        assert "repeat" in json.loads(said)["detail"], said


def names_that_are_none_are_refused():
    with Watched() as server:
        for name in ["%", "%4", "%zz", "a%00b", "a%0Ab", "%C3", "%ff", "%E2%80%AE", "a" * 129,
                     "%41" * 129, "crp_" + "A" * 24]:
            for what in ["sessions", "end-sessions"]:
                status, body = server.ops_json("POST", f"/users/{name}/{what}")
                assert status == 400 and "percent-encoded" in body["detail"], f"{name}: {status} {body}"
        for body, kind, wanted in [("{", "application/json", 400), ("x", "text/plain", 415),
                                   ('{"agent": 1}', "application/json", 400)]:
            status, _, text = server.ops("POST", "/users/bob/sessions", body, Content_Type=kind)
            assert status == wanted, f"{body}: {status} {text}"
        assert server.ops_json("POST", "/users/bob/end-sessions")[0] == 404, "one got a session"


def only_known_methods_are_taken():
    """ASVS G6, on both listeners."""
    with Watched() as server:
        for method in ["GET", "HEAD", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH"]:
            for path in ["/end-all", "/users/alice/end-sessions", "/users/alice/sessions"]:
                status, headers, _ = server.ops(method, path)
                assert status == 405 and headers["Allow"] == "POST", f"{method} {path}: {status}"
        for path in ["/metrics", "/healthz", "/readyz"]:
            for method in ["POST", "PUT", "DELETE", "TRACE", "OPTIONS"]:
                assert server.monitor(path, method)[0] == 405, f"{method} {path}"
        assert server.ops("POST", "/stats")[0] == 405


def ambiguous_requests_are_refused():
    """The admission checks of the public listener."""
    with Watched() as server:
        for request in [b"POST /end-all HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
                        b"POST /end-all HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                        b"POST /end-all HTTP/1.1\nHost: a\n\n",
                        b"POST /end-all HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"]:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect(str(server.state / "ops.sock"))
                peer.sendall(request)
                said = b""
                while piece := peer.recv(4096):
                    said += piece
            assert re.match(rb"HTTP/1\.[01] 4\d\d ", said), (request, said)
        assert server.metric("cloakroom_endings_total") == 0


def nothing_of_it_is_public():
    """ASVS G7: neither on the public listener, nor is the admin API on the loopback port."""
    internal = [("GET", "/metrics"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/stats"),
                ("POST", "/end-all"), ("POST", "/users/alice/end-sessions"),
                ("POST", "/users/alice/sessions")]
    with Watched() as server:
        _, alice = server.login()
        for method, path in internal:
            assert server.public(method, path)[0] == 404, path
        for method, path in internal[3:]:
            assert server.monitor(path, method)[0] == 404, path
        for method, path in internal[:3] + [("GET", "/session"), ("POST", "/login"), ("GET", "/")]:
            assert server.ops(method, path)[0] == 404, path
        assert server.is_live(alice) == 200
        # A page of a foreign site whose name was pointed here reads nothing.
        assert server.monitor("/metrics", Host=f"evil.example:{server.watch}")[0] == 403
        assert server.monitor("/metrics", Host=f"localhost:{server.watch}")[0] == 200
        ports = {int(line.split()[1].split(":")[1], 16)
                 for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
                 if line.split()[3] == "0A" and line.split()[9] in scratch.socket_inodes(server.process.pid)}
        assert ports == {server.port, server.watch}, ports
    with scratch.Server() as server:
        pids = [server.process.pid, *scratch.children(server.process.pid)]
        inodes = set().union(*map(scratch.socket_inodes, pids))
        ports = {int(line.split()[1].split(":")[1], 16)
                 for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
                 if line.split()[3] == "0A" and line.split()[9] in inodes}
        assert ports == {server.port}, f"unasked: {ports}"


def an_address_that_others_reach_is_refused():
    home = scratch.folder("refused")
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"]:
        done = subprocess.run(
            [str(scratch.PROGRAM), "serve", "--listen", f"127.0.0.1:{scratch.free_port()}",
             "--store", f"sqlite://{home}/x.db", "--state", str(home / "state"), "--ops-listen", address],
            capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "127.0.0.1:9464" in done.stderr, done.stderr
        assert not (home / "x.db").exists(), "a store was opened"


def as_nobody(folder, groups):
    """What POST /end-all gets that comes from another user, or "kept out"."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect("ops.sock")
                peer.sendall(b"POST /end-all HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                said = b""
                while b"}" not in said and (piece := peer.recv(4096)):
                    said += piece
                os.write(writing, said)
        except PermissionError:
            os.write(writing, b"kept out")
        except OSError as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def another_user_is_refused():
    """By the socket's permissions, and where those were changed, by what the kernel says."""
    if os.geteuid() != 0:
        tap.skip("needs root to become another user")
    with Watched() as server:
        path = server.state / "ops.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        server.state.chmod(0o755)
        assert as_nobody(server.state, []) == as_nobody(server.state, [os.getegid()]) == "kept out"
        path.chmod(0o666)
        for groups in [], [os.getegid()]:
            said = as_nobody(server.state, groups)
            assert " 403 " in said and "ops.socket_mode" in said, said
        assert server.metric("cloakroom_endings_total") == 0


def the_group_may_come_where_it_is_asked_for():
    if os.geteuid() != 0:
        tap.skip("needs root to become another user")
    home = scratch.folder("group")
    config = home / "cloakroom.conf"
    config.write_text("[ops]\nsocket_mode = 0660\n")
    with scratch.Server(arguments=("--config", str(config)), home=home) as server:
        path = server.state / "ops.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        server.state.chmod(0o755)
        assert as_nobody(server.state, []) == "kept out"
        said = as_nobody(server.state, [os.getegid()])
        assert '"done"' in said, said
        path.chmod(0o666)
        assert " 403 " in as_nobody(server.state, [])


def a_worker_that_is_killed_is_replaced():
    with Watched() as server:
        _, token = server.login()
        first = server.ops_pid()
        status = pathlib.Path(f"/proc/{first}/status").read_text()
        assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status, status
        os.kill(first, signal.SIGKILL)

        def again():
            try:
                return server.ops_pid() not in (None, first) and server.monitor("/readyz")[0] == 200
            except OSError:
                return False
        scratch.until(again, "another ops worker")
        assert server.metric('cloakroom_process_starts_total{kind="ops"}') == 2
        assert server.metric('cloakroom_processes{kind="ops"}') == 1
        # It got the pages of the workers that were there before it.
        assert server.metric('cloakroom_http_requests_total{surface="public",method="POST",'
                             'route="/login",status="200"}') == 1
        assert server.ops_json("POST", "/users/alice/end-sessions") == (200, {"ended": "done"})
        assert server.is_live(token) == 401


def without_an_agent_it_is_not_ready_and_lives():
    """Stopped first, as a killed one is replaced sooner than one can look."""
    with Watched() as server:
        agent = server.agent_pid()
        assert server.monitor("/readyz")[0] == server.monitor("/healthz")[0] == 200
        os.kill(agent, signal.SIGSTOP)
        try:
            assert server.monitor("/healthz")[0] == 200
            status, headers, text = server.monitor("/readyz")
            assert status == 503 and headers["Retry-After"] and "agent" in text, text
            assert server.metric("cloakroom_agent_up") == 0
            assert server.metric("cloakroom_endings_total") is None, "a number that nobody knows"
        finally:
            os.kill(agent, signal.SIGKILL)
        scratch.until(lambda: server.monitor("/readyz")[0] == 200, "ready again")
        assert server.agent_pid() != agent
        assert server.metric('cloakroom_process_starts_total{kind="agent"}') == 2
        assert server.metric("cloakroom_agent_up") == 1


def an_agent_that_cannot_start_is_not_ready():
    """Killed, and its place taken: nobody replaces it."""
    with Watched() as server:
        os.kill(server.process.pid, signal.SIGSTOP)  # the supervisor cannot replace it
        try:
            os.kill(server.agent_pid(), signal.SIGKILL)
            scratch.until(lambda: server.monitor("/readyz")[0] == 503, "it is seen", 20)
            assert server.monitor("/healthz")[0] == 200
            assert server.ops("GET", "/stats")[0] == 503
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        scratch.until(lambda: server.monitor("/readyz")[0] == 200, "ready again")


def what_is_done_is_counted():
    with Watched() as server:
        logins = 'cloakroom_logins_total{checked_by="%s",outcome="%s"}'
        connection = scratch.Connection(server.port)
        _, token = server.login(connection)
        assert connection.ask("POST", "/login", body={"user": "alice", "password": "wrong"})[0] == 401
        for _ in range(5):
            assert connection.session(token) == 200
        assert connection.ask("GET", "/nowhere")[0] == 404
        for _ in range(3):
            assert connection.session("crs1_" + "A" * (len(token) - 5)) == 401
        server.ops_json("POST", "/users/bob/sessions")
        server.ops_json("POST", "/users/bob/end-sessions")
        scratch.until(lambda: server.metric('cloakroom_validations_total{result="hit"}')
                      + server.metric('cloakroom_validations_total{result="miss"}') == 8, "counted")
        assert server.metric("cloakroom_tokens_unknown_total") == 3
        assert server.metric("cloakroom_token_guessing_total") == 0, "three times the same one"
        assert server.metric('cloakroom_validations_total{result="hit"}') >= 4
        assert server.metric(logins % ("password", "done")) == 1
        assert server.metric(logins % ("password", "denied")) == 1
        assert server.metric(logins % ("application", "done")) == 1
        assert server.metric('cloakroom_http_requests_total{surface="public",method="any",'
                             'route="none",status="404"}') == 1
        assert server.metric("cloakroom_store_commits_total") >= 3
        assert server.metric("cloakroom_store_call_seconds_count") >= 3
        assert server.metric("cloakroom_store_call_seconds_sum") > 0
        assert server.metric("cloakroom_lease_left_seconds") == float("inf"), "SQLite is held alone"
        _, _, text = server.monitor("/metrics")
        for secret in [token, token[5:29], "alice", "bob", "nowhere"]:
            assert secret not in text, f"{secret} is shown"
        stats = server.ops_json("GET", "/stats")[1]
        assert stats["logins"] == {"done": 2, "denied": 1, "limited": 0, "refused": 0, "failed": 0}, stats
        # What a worker counted stays counted when it is replaced.
        worker = next(pid for pid in server.worker_pids()
                      if connection.inode(server.port) in scratch.socket_inodes(pid))
        os.kill(worker, signal.SIGKILL)
        scratch.until(lambda: server.metric('cloakroom_process_starts_total{kind="worker"}') == 3
                      and server.is_whole(), "another worker")
        assert server.metric(logins % ("password", "done")) == 1
        connection.close()


UNITS = "|".join(["ms", "milliseconds?", "us", "microseconds?", "ns", "minutes?", "hours?", "days?",
                  "kb", "kib", "kilobytes?", "mb", "megabytes?", "percent"])


def lint(text):
    """promtool's rules for names and metadata, and the form of the text itself."""
    families, samples = {}, set()
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE") and rest, line
            assert word not in families.setdefault(name, {}), f"twice: {line}"
            families[name][word] = rest
            continue
        found = re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="[^"\\\n]*",?)+\})? (\d+(?:\.\d+)?|\+Inf)', line)
        assert found, f"not a sample: {line}"
        assert found.group(1, 2) not in samples, f"twice: {line}"
        samples.add(found.group(1, 2))
        name = found.group(1)
        family = name if name in families else re.sub("_(sum|count|bucket)$", "", name)
        assert family in families and set(families[family]) == {"HELP", "TYPE"}, f"no HELP, TYPE: {line}"
        kind = families[family]["TYPE"]
        assert family.startswith("cloakroom_"), line
        assert (kind == "counter") == family.endswith("_total"), f"_total is for counters: {line}"
        assert kind in ("counter", "gauge") or family != name, line
        assert kind == "summary" or not re.search("_(sum|count|bucket)$", name), line
        assert not re.search(rf"_({UNITS})(_total)?$", family), f"not a base unit: {line}"
        assert not re.search("_(counter|gauge|summary|histogram)(_|$)", family), line
    assert families and all(set(found) == {"HELP", "TYPE"} for found in families.values())


def the_metrics_are_as_prometheus_wants_them():
    with Watched() as server:
        server.login()
        status, headers, text = server.monitor("/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert text.endswith("\n")
        lint(text)
        for broken in [text.replace("_total", "_ms_total"), text.replace("# HELP cloakroom_agent_up", "# TYPE x"),
                       text + "cloakroom_agent_up 1\n", text.replace(" counter\n", " gauge\n")]:
            try:
                lint(broken)
            except AssertionError:
                continue
            raise AssertionError("lint passes what is broken")
        promtool = shutil.which("promtool")
        if promtool:
            scratch.run([promtool, "check", "metrics"], input=text)


def the_socket_goes_with_the_server():
    with Watched() as server:
        path = server.state / "ops.sock"
        server.close()
        assert not path.exists()
        # What a killed server leaves behind is in nobody's way, what somebody else put there is.
        server.start()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        assert path.exists()
        server.start()
        assert server.ops("GET", "/stats")[0] == 200
        server.close()
        path.write_text("mine")
        server.process = subprocess.Popen(server.command, stdin=subprocess.DEVNULL, stdout=server.log
                                          if not server.log.closed else subprocess.DEVNULL,
                                          stderr=subprocess.PIPE, text=True)
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == 1 and "not a socket" in said and "--ops-socket" in said, said
        assert path.read_text() == "mine"


tap.main([
    an_application_logs_in_whom_it_has_checked,
    one_user_or_everybody_is_ended,
    names_that_are_none_are_refused,
    only_known_methods_are_taken,
    ambiguous_requests_are_refused,
    nothing_of_it_is_public,
    an_address_that_others_reach_is_refused,
    another_user_is_refused,
    the_group_may_come_where_it_is_asked_for,
    a_worker_that_is_killed_is_replaced,
    without_an_agent_it_is_not_ready_and_lives,
    an_agent_that_cannot_start_is_not_ready,
    what_is_done_is_counted,
    the_metrics_are_as_prometheus_wants_them,
    the_socket_goes_with_the_server,
])
