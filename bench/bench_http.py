# SPDX-License-Identifier: Apache-2.0
"""What the session costs an HTTP request: everything beyond the HTTP library is ours. And what
log-ins, each of which hashes a password, cost those who only show their session."""

import concurrent.futures
import json
import re
import subprocess
import sys
import threading
import urllib.request

import bench

sys.path.insert(0, str(bench.ROOT / "test" / "proc"))
import scratch

CONNECTIONS = 32
RUN_SECONDS = 2
LOGINS = 8  # at a time: one is hashed, and the others wait for that
RATE = 1000
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 204; }}
    }}
}}
"""


class Served(bench.Bench):
    """A server as it is installed, its workers confined, on one core; and a cookie of alice."""

    def serve(self):
        self.server = self.stack.enter_context(scratch.Server(
            workers=1, home=self.folder, prefix=["taskset", "-c", str(self.core)]))
        self.cookie = self.login("alice")

    def login(self, user):
        request = urllib.request.Request(
            f"{self.server.url}/login",
            json.dumps({"user": user, "password": self.server.password}).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return answer.headers["Set-Cookie"].split(";")[0]

    def wrk(self, url, *arguments):
        said = subprocess.run(
            ["taskset", "-c", str(self.other_core), "wrk", "-t1", f"-c{CONNECTIONS}",
             f"-d{RUN_SECONDS}s", *arguments, url], stdout=subprocess.PIPE, text=True, check=True).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(said)
        return float(re.search(r"Requests/sec:\s*([0-9.]+)", said).group(1))

    def answer(self, question):
        if question == "theirs":
            return self.wrk(self.peer_url)
        return self.wrk(f"{self.server.url}/session", "-H", f"Cookie: {self.cookie}")


class Http(Served):
    name = "http"
    rows = (bench.Row(
        "", "GET /session with a valid cookie, one worker on one core", "requests/s",
        theirs="theirs", peer="a handler over the bare HTTP library (libmicrohttpd) that answers "
        "200 with nothing", least=0.8),)
    cores = 2

    def start(self):
        peer = self.spawn([bench.BUILD / "bench" / "peer_http"], self.core,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.peer_url = f"http://127.0.0.1:{int(peer.stdout.readline())}/"
        self.serve()


class HttpNginx(Served):
    name = "http_nginx"
    rows = (bench.Row(
        "", "GET /session with a valid cookie, one worker on one core", "requests/s",
        theirs="theirs", peer="nginx, one worker on the same core: return 204", least=0.85),)
    cores = 2

    def start(self):
        port = scratch.free_port()
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=port), encoding="utf-8")
        peer = self.spawn(["nginx", "-c", config, "-e", "stderr"], self.core)
        self.peer_url = f"http://127.0.0.1:{port}/"
        self.wait_for(lambda: peer.poll() is not None or self.answers(port), "nginx")
        if peer.poll() is not None:
            raise RuntimeError(f"nginx ended:\n{self.log()}")
        self.serve()

    @staticmethod
    def answers(port):
        try:
            scratch.Connection(port).close()
            return True
        except OSError:
            return False


class HttpLogins(Served):
    name = "http_logins"
    rows = (bench.Row(
        "p99", f"GET /session, {RATE:,} a second, 99th of 100, while {LOGINS} log-ins at a time fill "
        "the pool that hashes, all on one core", "ns",
        theirs="theirs", peer="nobody logs in", most=3),)
    cores = 2

    def start(self):
        self.serve()
        # alice's session is to stay. One log-in at a time for each: they end one another.
        self.users = [f"bob{number}" for number in range(LOGINS)]
        for user in self.users:
            scratch.run([scratch.PROGRAM, "user", "add", user, "--store", self.server.store,
                         "--state", self.server.state], input=f"{self.server.password}\n")
        self.program = self.driver("drive_http", self.server.port, self.cookie, RATE, 8,
                                   core=self.other_core)
        self.ready(self.program)

    def answer(self, question):
        if question == "theirs":
            return self.ask(self.program, str(RUN_SECONDS))
        with concurrent.futures.ThreadPoolExecutor(LOGINS) as clients:
            done = threading.Event()
            counts = [clients.submit(self.log_in_until, user, done) for user in self.users]
            try:
                return self.ask(self.program, str(RUN_SECONDS))
            finally:
                done.set()
                self.figures = {"logins": sum(count.result() for count in counts)}

    def log_in_until(self, user, done):
        """How often."""
        count = 0
        while not done.is_set():
            self.login(user)
            count += 1
        return count
