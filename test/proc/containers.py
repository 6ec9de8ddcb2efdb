# SPDX-License-Identifier: Apache-2.0
"""What packaging/compose*.yaml start, without a container daemon.

Each service runs its command as the files say: its user, its environment, its volumes, in namespaces of
its own (mount, process IDs, network, host name, IPC), over a copy of this host that exists in memory
only."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

import yaml

import scratch
import tap

FOLDER = scratch.ROOT / "packaging"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
PASSWORD = "correct horse battery"

# $1: an empty directory; $2: what is installed, put over this host; $3: "ro" or "rw"; then volumes as in
# the files, with a directory before the first colon; `--`; the command.
CONTAINER = r"""
set -eu
base=$1 installed=$2 mode=$3
shift 3
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
cp -R "$installed/." "$base/root"
for place in run tmp dev etc/cloakroom; do
    mkdir -p "$base/root/$place"
    mount -t tmpfs tmpfs "$base/root/$place"
done
mount -t proc proc "$base/root/proc"
mknod -m 666 "$base/root/dev/null" c 1 3
mknod -m 666 "$base/root/dev/urandom" c 1 9
while [ "$1" != -- ]; do
    source=${1%%:*} target=${1#*:}
    mkdir -p "$base/root/${target%:ro}"
    mount --bind "$source" "$base/root/${target%:ro}"
    [ "$target" = "${target%:ro}" ] || mount -o remount,bind,ro "$base/root/${target%:ro}"
    shift
done
shift
! command -v ip >/dev/null || ip link set lo up
chroot "$base/root" ldconfig
[ "$mode" = rw ] || for place in "" /tmp /run; do mount -o "remount,ro" "$base/root$place"; done
exec chroot "$base/root" "$@"
"""


def interpolated(value, env):
    def one(found):
        name, how, rest = found.groups()
        if env.get(name):
            return env[name]
        assert how == ":-", f"{name} is not set: {rest}"
        return rest
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", one, value)
    if isinstance(value, list):
        return [interpolated(item, env) for item in value]
    if isinstance(value, dict):
        return {name: interpolated(item, env) for name, item in value.items()}
    return value


def merged(one, two):
    if isinstance(one, dict) and isinstance(two, dict):
        return {name: merged(one[name], two[name]) if name in one and name in two else one.get(name, two.get(name))
                for name in {**one, **two}}
    return one + two if isinstance(one, list) and isinstance(two, list) else two


def services(more, env):
    whole = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    for name in more:
        whole = merged(whole, yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))
    return interpolated(whole, env)


installed_root = []


def installed():
    """Once: what `meson install` and the Dockerfile put below /usr/local."""
    if not installed_root:
        root = scratch.folder("image")
        scratch.run(["meson", "install", "-C", scratch.BUILD, "--no-rebuild", "--quiet", "--destdir", root])
        shutil.copy(scratch.BUILD / "examples" / "example_workers", root / "usr" / "local" / "bin" / "workers")
        root.chmod(0o755)
        installed_root.append(root)
    return installed_root[0]


def volume_owner(target):
    """(uid, gid, mode) that the Dockerfile gives the directory, which a new volume takes over."""
    found = re.search(rf"install -d -o (\d+) -g (\d+) -m (\d+) {re.escape(target)}\b", DOCKERFILE)
    return int(found.group(1)), int(found.group(2)), int(found.group(3), 8)


class Container:
    def __init__(self, name, service, volumes):
        self.home = scratch.folder(name)
        self.name = name
        self.user = service["user"].split(":")
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **service.get("environment", {})}
        self.env = ["env", "-i", *(f"{key}={value}" for key, value in env.items())]
        binds = []
        for volume in service["volumes"]:
            source, target = volume.split(":", 1)
            binds.append(f"{volumes[source]}:{target}")
        options = ["--bounding-set=-all"] if service.get("cap_drop") == ["ALL"] else []
        options += ["--no-new-privs"] if "no-new-privileges:true" in service.get("security_opt", []) else []
        self.rights = ["setpriv", "--reuid", self.user[0], "--regid", self.user[1], "--clear-groups", "--inh-caps=-all",
                       *options]
        limits = ["prlimit", "--core=0"] if service.get("ulimits", {}).get("core") == 0 else []
        with open(self.home / "log", "ab") as log:
            (self.home / "mount").mkdir()
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "sh", "-c", CONTAINER,
                 "sh", self.home / "mount", installed(), "ro" if service.get("read_only") else "rw", *binds, "--",
                 *self.env, *limits, *self.rights, *service["command"]],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def said(self):
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def pid(self):
        """Of its process 1, once that is the command."""
        inner = scratch.children(self.process.pid)
        if self.process.poll() is not None and re.search("^(mount|unshare): ", self.said(), re.M):
            tap.skip("no namespaces can be made here")
        assert self.process.poll() is None, f"{self.name} ended: {self.said()}"
        return inner[0] if inner and pathlib.Path(f"/proc/{inner[0]}/comm").read_text().strip() in (
            "cloakroom", "workers", "python3") else None

    def run(self, command, text=None):
        """As `docker compose exec`: (exit status, what it said)."""
        pid = scratch.until(self.pid, self.name)
        done = subprocess.run(["nsenter", "-t", str(pid), "-m", "-p", "-n", "-u", "-i", "-r", "-w", *self.env, *self.rights,
                               *command], input=text or "", text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=False)
        return done.returncode, done.stdout

    def curl(self, *words):
        pid = scratch.until(self.pid, self.name)
        done = subprocess.run(["nsenter", "-t", str(pid), "-n", "curl", "-s", "-m", "20", *words], text=True,
                              stdout=subprocess.PIPE, timeout=60, check=False)
        return done.stdout

    def is_healthy(self, check):
        assert check[0] == "CMD"
        return self.pid() is not None and self.run(check[1:])[0] == 0

    def close(self, how=signal.SIGTERM):
        """As `docker stop`: process 1 is told."""
        for pid in scratch.children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        scratch.end(self.process, signal.SIGCONT if how == signal.SIGTERM else signal.SIGKILL)


class Stack:
    def __init__(self, more, **env):
        if os.geteuid() != 0:
            tap.skip("not root")
        self.whole = services(more, env)
        self.home = scratch.folder("stack")
        self.containers = []
        self.volumes = {}
        targets = dict(volume.split(":")[:2] for volume in self.whole["services"]["agent"]["volumes"])
        for name in self.whole["volumes"]:
            self.volumes[name] = self.home / name
            uid, gid, mode = volume_owner(targets[name])
            self.volumes[name].mkdir()
            self.volumes[name].chmod(mode)
            os.chown(self.volumes[name], uid, gid)

    def start(self, name, wait=True):
        service = self.whole["services"][name]
        container = Container(name, service, self.volumes)
        self.containers.append(container)
        if wait and "healthcheck" in service:
            scratch.until(lambda: container.is_healthy(service["healthcheck"]["test"]), f"{name} is healthy")
        elif wait:
            wanted = int(service["environment"]["WEB_CONCURRENCY"])
            scratch.until(lambda: len(everybody(container, None)) == wanted, f"the workers of {name}")
        return container

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in self.containers:
            container.close(signal.SIGKILL)


def everybody(app, token):
    """{worker: what it answers to the token}; each says one thing only."""
    header = ["-H", f"Authorization: Bearer {token}"] if token else []
    said = app.curl(*header, "-H", "Connection: close", "-w", "%{http_code}\n", *["http://127.0.0.1:8080/whoami"] * 40)
    found = {}
    for number, status in re.findall(r"says worker (\d+)\n(\d+)", said):
        assert found.setdefault(number, status) == status, said
    return found


def log_in(app):
    token = app.curl("-u", f"alice:{PASSWORD}", "-X", "POST", "http://127.0.0.1:8080/login")
    assert token.startswith("crs1_"), token
    return token


def everyone_says(app, token, status, workers=4):
    """Asked until each of them has answered."""
    seen = {}
    def all_asked():
        for worker, answer in everybody(app, token).items():
            assert answer == status, f"worker {worker}: {answer}, not {status}"
            seen[worker] = answer
        return len(seen) == workers
    scratch.until(all_asked, f"answers of {workers} workers")


def namespace(container, kind):
    return os.readlink(f"/proc/{container.pid()}/ns/{kind}")


def a_stack_works(more):
    with Stack(more, WEB_CONCURRENCY="4") as stack:
        agent = stack.start("agent")
        status, said = agent.run(["cloakroom", "user", "add", "alice"], f"{PASSWORD}\n")
        assert status == 0, said
        app = stack.start("app")
        for kind in ("pid", "net", "mnt", "ipc", "uts"):
            assert len({namespace(agent, kind), namespace(app, kind), os.readlink(f"/proc/self/ns/{kind}")}) == 3, kind
        uids = [pathlib.Path(f"/proc/{c.pid()}/status").read_text().split("Uid:\t")[1].split()[0] for c in (agent, app)]
        assert uids == ["10001", "10002"], uids
        assert not pathlib.Path(f"/proc/{app.pid()}/root/var/lib/cloakroom/cloakroom.db").exists()
        first = log_in(app)
        everyone_says(app, first, "200")
        second = log_in(app)  # the policy ends the first
        everyone_says(app, first, "401")
        everyone_says(app, second, "200")
        status, said = agent.run(["cloakroom", "session", "end", "--user", "alice"])
        assert status == 0 and "done" in said, said
        everyone_says(app, second, "401")
        third = log_in(app)
        app.curl("-X", "POST", "-H", f"Authorization: Bearer {third}", "http://127.0.0.1:8080/logout")
        everyone_says(app, third, "401")
        app.close()
        agent.close()
        assert "the agent stops" in agent.said(), agent.said()
