# SPDX-License-Identifier: Apache-2.0
"""What tests with real processes start from: a scratch directory, an installed copy, a server.

Everything started here is ended by `close` (all are context managers); what is missed, the runner
ends.
"""

import http.client
import json
import os
import pathlib
import pwd
import select
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("CLOAKROOM_BUILD") or ROOT / "build")
PROGRAM = BUILD / "cloakroom"


def folder(name):
    """A new, empty directory; the runner removes it with TMPDIR."""
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))


def run(command, env=None, timeout=60, **more):
    """Standard output of a command that must succeed; what it said on failure is in the error."""
    done = subprocess.run([str(word) for word in command], env={**os.environ, **(env or {})}, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **more)
    assert done.returncode == 0, (f"{command}: exit status {done.returncode}\n"
                                  f"{done.stdout}\n{done.stderr}")
    return done.stdout


def until(ready, what, seconds=30):
    """What ready() answers, once it is true."""
    end = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.005)


def free_port():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    try:
        return [int(word) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                for word in (task / "children").read_text().split()]
    except OSError:
        return []


def arguments(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def socket_inodes(pid):
    """Of every socket that the process has open."""
    found = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def end(child, how=signal.SIGTERM):
    if child.poll() is None:
        child.send_signal(how)
    try:
        child.wait(15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Installed:
    """Cloakroom as a package would install it, below a directory of its own. `env` makes compiler,
    loader and shell find it there, and nothing else.

    `try_out` runs a program as somebody who is not root, because root never starts an agent by
    itself. Agents that were started are ended by `close`.
    """

    def __init__(self):
        self.home = folder("installed")
        self.root = self.home / "root"
        run(["meson", "install", "-C", str(BUILD), "--no-rebuild", "--quiet",
             "--destdir", str(self.root)])
        self.pkgconfig = next(self.root.rglob("cloakroom.pc")).parent
        self.lib = self.pkgconfig.parent
        self.include = next(self.root.rglob("cloakroom.h")).parent.parent
        self.bin = self.include.parent / "bin"
        self.env = {
            # The build tree's own name must not be what makes things work.
            "CLOAKROOM_BUILD": "",
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PKG_CONFIG_PATH": str(self.pkgconfig),
            "PKG_CONFIG_SYSROOT_DIR": str(self.root),
            "LD_LIBRARY_PATH": str(self.lib),
            # Where agents have their sockets.
            "XDG_RUNTIME_DIR": str(self.home / "run"),
        }
        (self.home / "run").mkdir()
        self.who = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.home / "run", nobody.pw_uid, nobody.pw_gid)
            for place in (self.home, self.home.parent):
                if place.stat().st_uid == 0 and place != pathlib.Path("/tmp"):
                    place.chmod(place.stat().st_mode | 0o011)

    def folder(self, name):
        """A directory for what try_out runs."""
        made = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.home))
        if self.who:
            os.chown(made, self.who["user"], self.who["group"])
        made.chmod(0o755)
        return made

    def try_out(self, command):
        return run(command, self.env, cwd=self.home, **self.who)

    def agents(self):
        return [int(process.name) for process in pathlib.Path("/proc").glob("[0-9]*")
                if any(word.startswith(str(self.home)) for word in arguments(process.name))
                and "agent" in arguments(process.name)]

    def close(self):
        for pid in self.agents():
            os.kill(pid, signal.SIGTERM)
        until(lambda: not self.agents(), "its agents end")


class Connection:
    """A keep-alive connection, which therefore belongs to one worker as long as it lives."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.http.connect()
        self.port = self.http.sock.getsockname()[1]

    def inode(self, server_port):
        """Of the socket at the server's end; None while nobody has accepted it."""
        here, there = f"0100007F:{server_port:04X}", f"0100007F:{self.port:04X}"
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1:3] == [here, there]:
                return fields[9]
        return None

    def ask(self, method, path, token=None, body=None, more=None):
        """(status, body) of one request; the token goes as a bearer's. `more`: header fields."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(more or {})}
        if body is not None:
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        text = answer.read().decode()
        if answer.headers.get_content_type() == "application/json":
            return answer.status, json.loads(text)
        return answer.status, text

    def session(self, token):
        """The status of GET /session."""
        return self.ask("GET", "/session", token)[0]

    def close(self):
        self.http.close()


class Unix(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


class Server:
    """`cloakroom serve` over a store in `home`, or in a new directory. On a port of its own, with an
    account `alice` when the store is new."""

    password = "correct horse battery"

    def __init__(self, workers=2, arguments=(), home=None, prefix=()):
        self.home = home or folder("server")
        self.state = self.home / "state"
        self.store = f"sqlite://{self.home}/cloakroom.db"
        self.app = f"cloakroom://{self.state}/app.sock"
        self.workers = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [*prefix, str(PROGRAM), "serve", "--listen", f"127.0.0.1:{self.port}",
                        "--store", self.store, "--state", str(self.state),
                        "--workers", str(workers), *arguments]
        if not (self.home / "cloakroom.db").exists():
            run([str(PROGRAM), "user", "add", "alice", "--store", self.store,
                 "--state", str(self.state)], input=f"{self.password}\n")
        self.start()

    def start(self):
        """Until every worker serves."""
        self.log = open(self.home / "log", "ab")
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        until(lambda: self.process.poll() is not None or self.is_whole(), "the server")
        assert self.process.poll() is None, self.said()

    def said(self):
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def worker_pids(self):
        return [pid for pid in children(self.process.pid) if "worker" in arguments(pid)[1:2]]

    def agent_pid(self):
        return next((pid for pid in children(self.process.pid) if "agent" in arguments(pid)[1:2]),
                    None)

    def is_whole(self):
        """Every worker is there and answers."""
        try:
            self.connections()
        except (OSError, http.client.HTTPException, AssertionError):
            return False
        return True

    def connections(self):
        """{pid of a worker: a connection to it}, for each; the kernel spreads new connections over
        the workers, so ask for one until all have theirs."""
        found, end_at = {}, time.monotonic() + 10
        wanted = self.worker_pids()
        assert len(wanted) == self.workers, f"{len(wanted)} workers"
        while len(found) < self.workers:
            assert time.monotonic() < end_at, "a worker takes no connection"
            connection = Connection(self.port)
            status = connection.session(None)
            inode = connection.inode(self.port)
            owner = next((pid for pid in wanted if inode in socket_inodes(pid)), None)
            if status != 401 or owner is None or owner in found:
                connection.close()
                assert status == 401, f"a worker answers {status}"
            else:
                found[owner] = connection
        return found

    def login(self, connection=None, user="alice"):
        """A token, by POST /login."""
        own = connection or Connection(self.port)
        try:
            status, body = own.ask("POST", "/login", body={
                "user": user, "password": self.password, "mode": "bearer"})
        finally:
            if connection is None:
                own.close()
        assert status == 200, f"{status} {body}"
        return body["session"]["id"], body["signed_token"]

    def close(self):
        end(self.process)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Attached:
    """The program attached.c, driven from here."""

    def __init__(self, url):
        self.process = subprocess.Popen([BUILD / "test" / "proc" / "attached", url], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer()

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=60):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, f"no answer within {seconds} s"
        line = self.process.stdout.readline()
        assert line, f"the attached program ended: {self.process.wait()}"
        return line.split()

    def ask(self, *words):
        """The words of its answer."""
        self.tell(*words)
        return self.answer()

    def do(self, *words):
        """The words after CR_OK."""
        said = self.ask(*words)
        assert said[0] == "CR_OK", f"{words[0]}: {said}"
        return said[1:]

    def validate(self, token):
        return self.ask("validate", token)[0]

    def stats(self):
        return {name: int(value) for name, value in
                (word.split("=") for word in self.do("stats"))}

    def close(self):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
