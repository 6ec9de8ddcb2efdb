# SPDX-License-Identifier: Apache-2.0
"""What the session costs an HTTP request: everything beyond the HTTP library is ours. And what
log-ins, each of which hashes a password, cost those who only show their session."""

import concurrent.futures
import json
import statistics
import subprocess
import sys
import threading
import urllib.request

import bench

sys.path.insert(0, str(bench.ROOT / "test" / "proc"))
import scratch

CONNECTIONS = 32
TURNS = 12  # of each in a round
TURN_SECONDS = 0.25
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

    def loads(self, peer_port):
        """Who asks one server, and who asks the other; nobody of them while it is not their turn."""
        asked = {"ours": (self.server.port, "/session", CONNECTIONS, self.cookie),
                 "theirs": (peer_port, "/", CONNECTIONS)}
        self.clients = {question: self.driver("drive_load", *what, core=self.other_core)
                        for question, what in asked.items()}
        for client in self.clients.values():
            self.ready(client)


class Turns(Served):
    """A server beside a peer, in many short turns. What disturbs a machine, above all neighbours of
    a virtual one, lasts from a tenth of a second to some seconds and would be one's loss and the
    other's gain in long turns; here it meets both. Each is first as often as last, since what the
    one leaves in the caches is what the other begins with. A round is the median of its turns."""

    cores = 2

    def answer(self, question):
        return self.ask(self.clients[question], str(TURN_SECONDS))

    def round(self):
        answers = {question: [] for question in self.questions}
        for turn in range(TURNS):
            for question in self.questions[::1 if turn % 2 else -1]:
                answers[question].append(self.answer(question))
        return {question: statistics.median(all_of) for question, all_of in answers.items()}


class Http(Turns):
    name = "http"
    rows = (bench.Row(
        "", "GET /session with a valid cookie, one worker on one core", "requests/s",
        theirs="theirs", peer="a handler over the bare HTTP library (libmicrohttpd) that answers "
        "200 with nothing", least=0.8),)

    def start(self):
        peer = self.spawn([bench.BUILD / "bench" / "peer_http"], self.core,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = int(peer.stdout.readline())
        self.serve()
        self.loads(port)


class HttpNginx(Turns):
    name = "http_nginx"
    rows = (bench.Row(
        "", "GET /session with a valid cookie, one worker on one core", "requests/s",
        theirs="theirs", peer="nginx, one worker on the same core: return 204", least=0.85),)

    def start(self):
        port = scratch.free_port()
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=port), encoding="utf-8")
        peer = self.spawn(["nginx", "-c", config, "-e", "stderr"], self.core)
        self.wait_for(lambda: peer.poll() is not None or self.answers(port), "nginx")
        if peer.poll() is not None:
            raise RuntimeError(f"nginx ended:\n{self.log()}")
        self.serve()
        self.loads(port)

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
