# SPDX-License-Identifier: Apache-2.0
"""What the session costs an HTTP request: everything beyond the HTTP library is ours."""

import json
import re
import subprocess
import sys
import urllib.request

import bench

sys.path.insert(0, str(bench.ROOT / "test" / "proc"))
import scratch

CONNECTIONS = 32
RUN_SECONDS = 2


class Http(bench.Bench):
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
        self.server = self.stack.enter_context(scratch.Server(
            workers=1, home=self.folder, prefix=["taskset", "-c", str(self.core)]))
        request = urllib.request.Request(
            f"{self.server.url}/login",
            json.dumps({"user": "alice", "password": self.server.password}).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            self.cookie = answer.headers["Set-Cookie"].split(";")[0]

    def answer(self, question):
        if question == "theirs":
            return self.wrk(self.peer_url)
        return self.wrk(f"{self.server.url}/session", "-H", f"Cookie: {self.cookie}")

    def wrk(self, url, *arguments):
        said = subprocess.run(
            ["taskset", "-c", str(self.other_core), "wrk", "-t1", f"-c{CONNECTIONS}",
             f"-d{RUN_SECONDS}s", *arguments, url], stdout=subprocess.PIPE, text=True, check=True).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(said)
        return float(re.search(r"Requests/sec:\s*([0-9.]+)", said).group(1))
