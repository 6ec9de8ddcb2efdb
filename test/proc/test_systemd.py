#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""What a service manager and `cloakroom serve` tell each other, sockets and credentials that it hands
over, and the users and rights that cloakroom.service gives (ASVS H3).

No systemd runs here: the test does what it does, with the directives that stand in the unit."""

import contextlib
import http.client
import json
import os
import pathlib
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap

UNIT = scratch.ROOT / "packaging" / "systemd" / "cloakroom.service"


def directive(name):
    """All values of it in the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.M)


class Manager:
    """The notify socket."""

    def __init__(self, home):
        self.path = home / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.path.chmod(0o666)

    def hear(self, seconds=30.0):
        """One message, as {name: value}; None: none came."""
        ready, _, _ = select.select([self.socket], [], [], seconds)
        if not ready:
            return None
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def wait(self, name):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            said = self.hear()
            if said and name in said:
                return said
        raise AssertionError(f"{name} was not said")

    def forget(self):
        while self.hear(0) is not None:
            pass

    def close(self):
        self.socket.close()


class Managed(scratch.Server):
    """Started as a service is: a notify socket, and sockets if there are any."""

    def __init__(self, watchdog_ms=None, sockets=(), names="", **more):
        self.sockets, self.names = sockets, names
        home = scratch.folder("managed")
        self.manager = Manager(home)
        self.env = {"NOTIFY_SOCKET": str(self.manager.path)}
        if watchdog_ms:
            self.env["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
        super().__init__(home=home, **more)

    def start(self):
        if self.sockets:  # and no address
            self.command = [word for at, word in enumerate(self.command)
                            if "--listen" not in self.command[max(at - 1, 0):at + 1]]
        self.log = open(self.home / "log", "ab")
        self.process = handed_over(self.command, self.sockets, self.names, self.env,
                                   stdout=self.log, stderr=self.log)
        scratch.until(lambda: self.process.poll() is not None or self.is_ready(), "READY=1")
        assert self.process.poll() is None, self.said()

    def is_ready(self):
        return "READY" in (self.manager.hear(0.05) or {})

    def close(self):
        super().close()
        self.manager.close()


def handed_over(command, sockets, names, env, **more):
    """Runs it with the sockets from descriptor 3 on, as sd_listen_fds(3) says."""
    def place():
        # Out of the way first: one may stand where another goes.
        held = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
        for i, fd in enumerate(held):
            os.dup2(fd, 3 + i)
            os.close(fd)
    env = {**os.environ, **env}
    if sockets:
        env.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=names)
        command = ["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh", *map(str, command)]
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, preexec_fn=place if sockets else None,
                            close_fds=not sockets, **more)


def listening(address="127.0.0.1"):
    """As cloakroom.socket: blocking."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.bind((address, 0))
    made.listen(64)
    return made


def start_reload_and_stop_are_told():
    with Managed() as server:
        manager = server.manager
        before = time.monotonic_ns() // 1000
        server.process.send_signal(signal.SIGHUP)
        said = manager.wait("RELOADING")
        assert said["RELOADING"] == "1"
        assert before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000, said
        assert manager.wait("READY")["READY"] == "1"
        server.process.terminate()
        assert manager.wait("STOPPING")["STOPPING"] == "1"
        assert server.process.wait(20) == 0, server.said()


def a_reload_that_is_refused_ends_too():
    home = scratch.folder("settings")
    (home / "app.conf").write_text("[cache]\nkind = shared\n")
    with Managed(arguments=("--config", str(home / "app.conf"))) as server:
        (home / "app.conf").write_text("[cache]\nkind = none of it\n")
        server.process.send_signal(signal.SIGHUP)
        server.manager.wait("RELOADING")
        assert server.manager.wait("READY")
        scratch.until(lambda: "the settings stay as they were" in server.said(), "the refusal")


def who_is_missed(server, pid):
    """Of whom it is said that they do not answer, while process `pid` hangs. On a busy host that may be
    another who was slow just then: it is said once, of the first."""
    manager = server.manager
    manager.forget()
    manager.wait("WATCHDOG")
    said_before = len(server.said())
    os.kill(pid, signal.SIGSTOP)
    try:
        scratch.until(lambda: manager.hear(0.8) is None, "no food for as long as the manager waits")
        # None: somebody was slow already before it hung.
        missed = re.search(r"warn: (.*) does not answer", server.said()[said_before:])
    finally:
        os.kill(pid, signal.SIGCONT)
    manager.wait("WATCHDOG")
    return missed[1] if missed else "nobody"


def the_watchdog_is_fed_while_all_go_round():
    """A process that hangs is noticed, whichever it is; one that dies is replaced, and that is that."""
    with Managed(watchdog_ms=800) as server:
        manager = server.manager
        pids = {"the agent": server.agent_pid(), "worker ": server.worker_pids()[0],
                "the ops worker": next(pid for pid in scratch.children(server.process.pid)
                                       if scratch.arguments(pid)[1:2] == ["ops-worker"])}
        for who, pid in pids.items():
            said = ""
            for _ in range(10):
                said = who_is_missed(server, pid)
                if re.match(who, said):
                    break
            else:
                raise AssertionError(f"{who} hangs, and it was said of {said}")
        os.kill(pids["the agent"], signal.SIGKILL)
        scratch.until(lambda: server.agent_pid() not in (None, pids["the agent"]), "another agent")
        manager.forget()
        manager.wait("WATCHDOG")


def who_has_no_watchdog_hears_no_beat():
    with Managed() as server:
        assert server.manager.hear(0.5) is None


def sockets_that_are_handed_over_are_served():
    """They stay the manager's: who comes while nobody serves is answered by the next server."""
    public, metrics = listening(), listening()
    with Managed(sockets=(public, metrics), names="http:metrics") as server:
        server.port = public.getsockname()[1]
        watch = metrics.getsockname()[1]
        assert f"serving on http://127.0.0.1:{server.port}" in server.said(), server.said()
        _, token = server.login()
        for _ in range(8):
            connection = scratch.Connection(server.port)
            assert connection.session(token) == 200
            connection.close()
        monitor = http.client.HTTPConnection("127.0.0.1", watch, timeout=20)
        monitor.request("GET", "/readyz")
        assert monitor.getresponse().status == 200
        monitor.close()
        for pid in (server.agent_pid(), *server.worker_pids()):
            inherited = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            for name in (b"LISTEN_", b"NOTIFY_SOCKET", b"WATCHDOG_"):
                assert name not in inherited, f"{pid}: {name}"
        scratch.end(server.process)
        assert server.process.returncode == 0, server.said()
        waiting = scratch.Connection(server.port)
        server.start()
        assert waiting.session(token) == 200
        waiting.close()
        scratch.end(server.process, signal.SIGKILL)
        server.start()
        again = scratch.Connection(server.port)
        assert again.session(token) == 200
        again.close()


def sockets_that_do_not_fit_are_refused():
    home = scratch.folder("refused")
    where = [scratch.PROGRAM, "serve", "--store", f"sqlite://{home}/db", "--state", home / "state"]

    def says(wanted, command, sockets=(), names=""):
        process = handed_over([str(word) for word in command], sockets, names, {},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 2 and wanted in out, f"{process.returncode} {out}"

    says("systemctl enable --now cloakroom.socket", [*where, "--listen", "systemd"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        says("is not a TCP socket that listens", where, (datagrams,), "http")
    with socket.socket(socket.AF_INET) as mute:
        says("is not a TCP socket that listens", where, (mute,), "http")
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(home / "local"))
        local.listen()
        says("is not a TCP socket that listens", where, (local,), "http")
    with listening() as metrics:
        says("no socket was handed over", [*where, "--listen", "systemd"], (metrics,), "metrics")
    # For another process: as if there were none.
    done = subprocess.run([*map(str, where), "--listen", "systemd"], env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"},
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "no socket was handed over" in done.stderr, done.stderr
    with listening("0.0.0.0") as open_to_all:
        process = handed_over([*map(str, where), "--ops-listen", "systemd"], (open_to_all,), "metrics", {},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 1 and "can be reached from other hosts" in out, out


def a_secret_comes_as_a_credential():
    """ASVS H3: in a file with tight modes, never in arguments or environment."""
    home = scratch.folder("credentials")
    secret = home / "store.url"
    secret.write_text(f"sqlite://{home}/secret-name.db\n")
    secret.chmod(0o400)
    env = {**os.environ, "CREDENTIALS_DIRECTORY": str(home)}
    check = [str(scratch.PROGRAM), "config", "check", "--config", "/dev/null"]
    done = subprocess.run(check, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 and re.search(r"store\.url.*credential store\.url", done.stdout), done
    secret.chmod(0o604)
    done = subprocess.run(check, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and f"chmod 600 {secret}" in done.stdout + done.stderr, done
    secret.chmod(0o440)  # what systemd's access list looks like
    port = scratch.free_port()
    with open(home / "log", "ab") as log:
        server = subprocess.Popen([scratch.PROGRAM, "serve", "--config", "/dev/null", "--state", home / "state", "--listen",
                                   f"127.0.0.1:{port}"], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        scratch.until(lambda: b"serving on" in (home / "log").read_bytes() or server.poll() is not None, "the server")
        assert (home / "secret-name.db").exists(), (home / "log").read_text()
        for pid in [server.pid, *scratch.children(server.pid)]:
            seen = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() + pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            assert b"secret-name" not in seen, pid
    finally:
        scratch.end(server)


# ---- as the unit says


def system_calls():
    """The names that SystemCallFilter= of the unit lets through, as systemd reads it."""
    text = scratch.run(["systemd-analyze", "syscall-filter"])
    sets, name = {}, None
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = []
        elif name and line.strip() and not line.strip().startswith("#"):
            sets[name].append(line.strip())

    def members(word):
        if not word.startswith("@"):
            return {word}
        return set().union(*(members(inner) for inner in sets[word]))
    allowed = set(members("@default"))
    for value in directive("SystemCallFilter"):
        words = set().union(*(members(word) for word in value.lstrip("~").split()))
        allowed = allowed - words if value.startswith("~") else allowed | words
    return allowed


# Puts itself under a filter that lets those names through, and becomes the command.
UNDER_FILTER = """
import ctypes, os, sys
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
rules = ctypes.c_void_p(library.seccomp_init(0x00050000 | 1))  # EPERM, as SystemCallErrorNumber=
for name in sys.argv[1].split():
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number != -1:
        library.seccomp_rule_add_array(rules, 0x7fff0000, number, 0, None)
assert library.seccomp_load(rules) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def uid_of(pid):
    return int(status_of(pid)["Uid"].split()[0])


def refused_to(user, path):
    """What that user hears who wants to read `path`."""
    group = pwd.getpwnam(user).pw_gid
    done = subprocess.run(["setpriv", "--reuid", user, "--regid", str(group), "--clear-groups", "cat", path],
                          timeout=30, check=False, capture_output=True, text=True)
    return done.stderr if done.returncode != 0 else ""


def reachable(home):
    """The program, where other users can run it."""
    program = home / "cloakroom"
    shutil.copy(scratch.PROGRAM, program)
    for folder in (home, home.parent):
        if folder != pathlib.Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return program


@contextlib.contextmanager
def two_users(start):
    """(the process that `start` makes of a home and a command, that home, its port)"""
    if os.geteuid() != 0:
        tap.skip("not root")
    home = scratch.folder("users")
    program = reachable(home)
    (home / "store").mkdir(0o700)
    (home / "app.conf").write_text(f"[server]\nuser = nobody\n[store]\nurl = sqlite://{home}/store/db\n"
                                   f"[agent]\nstate = {home}/state\n")
    (home / "app.conf").chmod(0o644)
    port = scratch.free_port()
    command = [str(program), "serve", "--config", str(home / "app.conf"), "--listen", f"127.0.0.1:{port}"]
    with open(home / "log", "ab") as log:
        process = start(home, command, log)
    try:
        scratch.until(lambda: b"serving on" in (home / "log").read_bytes() or process.poll() is not None, "the server")
        assert process.poll() is None, (home / "log").read_text()
        yield process, home, port
        scratch.end(process)
        assert process.returncode == 0, (home / "log").read_text()
    finally:
        scratch.end(process, signal.SIGKILL)


def look_at_them(process, home, port, agent_user):
    """Who runs as whom, and what a worker's user can then not do."""
    agent, nobody = pwd.getpwnam(agent_user).pw_uid, pwd.getpwnam("nobody").pw_uid
    pids = {name: [pid for pid in scratch.children(process.pid) if scratch.arguments(pid)[1:2] == [name]]
            for name in ("agent", "worker", "ops-worker")}
    assert [len(found) for found in pids.values()] == [1, 2, 1], pids
    assert {uid_of(pid) for pid in pids["worker"]} == {nobody}
    assert uid_of(pids["agent"][0]) == uid_of(pids["ops-worker"][0]) == agent
    for pid in sum(pids.values(), []):
        status = status_of(pid)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapAmb"], 16) == 0, status
        assert status["NoNewPrivs"].strip() == "1"
    for path in (home / "store" / "db", home / "state" / "operator.sock", f"/proc/{pids['agent'][0]}/mem",
                 f"/proc/{pids['ops-worker'][0]}/mem"):
        assert "Permission denied" in refused_to("nobody", path), path
    text = (home / "log").read_text()
    password = pathlib.Path(re.search(r"password +in the file (\S+)", text).group(1)).read_text().strip()
    connection = scratch.Connection(port)
    status, body = connection.ask("POST", "/login", body={
        "user": "admin", "password": password, "new_password": scratch.Server.password, "mode": "bearer"})
    assert status == 200, body
    assert connection.session(body["signed_token"]) == 200
    connection.close()


def the_unit_is_enough_and_workers_are_strangers_to_the_store():
    """User=, AmbientCapabilities=, NoNewPrivileges= and SystemCallFilter= as they stand there."""
    if shutil.which("systemd-analyze") is None:
        tap.skip("no systemd-analyze")
    def start(home, command, log):
        (home / "state").mkdir(0o755)
        for name in ("store", "state"):
            shutil.chown(home / name, "games", "games")
        caps = ",".join("+" + word.removeprefix("CAP_").lower() for word in directive("AmbientCapabilities")[0].split())
        assert directive("AmbientCapabilities") == directive("CapabilityBoundingSet")
        return subprocess.Popen(["setpriv", "--reuid", "games", "--regid", "games", "--clear-groups",
                                 f"--inh-caps=-all,{caps}", f"--ambient-caps=-all,{caps}", f"--bounding-set=-all,{caps}",
                                 "--no-new-privs", sys.executable, "-c", UNDER_FILTER,
                                 " ".join(system_calls()), *command],
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    with two_users(start) as (process, home, port):
        look_at_them(process, home, port, "games")
        assert status_of(process.pid)["Seccomp"].strip() == "2"
        agent = next(pid for pid in scratch.children(process.pid) if scratch.arguments(pid)[1:2] == ["agent"])
        worker = next(pid for pid in scratch.children(process.pid) if scratch.arguments(pid)[1:2] == ["worker"])
        for pid in (agent, worker):  # another takes its place
            os.kill(pid, signal.SIGKILL)
        scratch.until(lambda: (home / "log").read_bytes().count(b"the agent serves") == 2, "another agent")
        scratch.until(lambda: len(scratch.children(process.pid)) == 4, "another worker")
        process.send_signal(signal.SIGHUP)
        scratch.until(lambda: b"settings read anew" in (home / "log").read_bytes(), "the reload")


def root_starts_agent_and_workers_as_two_users():
    def start(home, command, log):
        shutil.chown(home / "store", "games", "games")
        with open(home / "app.conf", "a", encoding="utf-8") as conf:
            conf.write("user = games\n")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with two_users(start) as (process, home, port):
        look_at_them(process, home, port, "games")
        for name in ("state", "state/ops.sock", "state/operator.sock"):
            assert (home / name).owner() == "games", name
        answer = scratch.run(["curl", "-s", "--unix-socket", home / "state" / "ops.sock", "http://localhost/stats"])
        assert json.loads(answer), answer


def users_that_cannot_be_had_are_refused():
    home = scratch.folder("users")
    where = ["--store", f"sqlite://{home}/db", "--state", str(home / "state")]

    def says(wanted, name, user, **more):
        done = subprocess.run([str(scratch.PROGRAM), "serve", *where], env={**os.environ, name: user}, capture_output=True,
                              text=True, timeout=30, check=False, **more)
        assert done.returncode == 2 and wanted in done.stderr, done.stderr
    says("server.user: there is no user 'nobody-here'", "CLOAKROOM__SERVER__USER", "nobody-here")
    says("agent.user: there is no user 'nobody-here'", "CLOAKROOM__AGENT__USER", "nobody-here")
    if os.geteuid() != 0:
        return
    program = reachable(home)
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--inh-caps=-all",
                           "--bounding-set=-all", str(program), "serve", *where],
                          env={**os.environ, "CLOAKROOM__SERVER__USER": "games"}, capture_output=True, text=True,
                          timeout=30, check=False)
    assert done.returncode == 2 and "CAP_SETUID" in done.stderr, done


tap.main([
    start_reload_and_stop_are_told,
    a_reload_that_is_refused_ends_too,
    the_watchdog_is_fed_while_all_go_round,
    who_has_no_watchdog_hears_no_beat,
    sockets_that_are_handed_over_are_served,
    sockets_that_do_not_fit_are_refused,
    a_secret_comes_as_a_credential,
    the_unit_is_enough_and_workers_are_strangers_to_the_store,
    root_starts_agent_and_workers_as_two_users,
    users_that_cannot_be_had_are_refused,
])
