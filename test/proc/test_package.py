#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long serial timeout=900
"""The Debian packages: they build, lintian finds nothing, and what they install works, goes and is gone.

They are installed over a copy of this host that exists in memory only (an overlay in a mount namespace
of its own), so that nothing of it stays."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap
import variants

BUILT = scratch.ROOT / "build-package"
PACKAGES = ["cloakroom", "libcloakroom0", "libcloakroom-dev"]

# Outside: makes the copy, and becomes what runs inside. $1: an empty directory; $2: the script for inside.
COPY = r"""
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for place in run tmp dev; do mount -t tmpfs tmpfs "$1/root/$place"; done
mount -t proc proc "$1/root/proc"
chmod 1777 "$1/root/tmp"
mkdir -m 1777 "$1/root/dev/shm"
mknod -m 666 "$1/root/dev/null" c 1 3
mknod -m 666 "$1/root/dev/zero" c 1 5
mknod -m 666 "$1/root/dev/urandom" c 1 9
mkdir "$1/root/tmp/in"
shift_root=$1
cp "$2" "$shift_root/root/tmp/in/inside"
shift 2
cp "$@" "$shift_root/root/tmp/in/"
exec chroot "$shift_root/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    DEBIAN_FRONTEND=noninteractive sh /tmp/in/inside
"""

INSIDE = r"""
set -eu
cd /tmp/in
: >served
[ ! -e /etc/cloakroom ] && ! getent passwd cloakroom || { echo "there is one already"; exit 77; }
dpkg -i ./*.deb
for user in cloakroom cloakroom-http; do getent passwd $user; done
wants=/etc/systemd/system
[ -L $wants/sockets.target.wants/cloakroom.socket ]
[ -L $wants/multi-user.target.wants/cloakroom.service ]
[ ! -e $wants/sockets.target.wants/cloakroom-metrics.socket ]
systemd-analyze verify cloakroom.service cloakroom-metrics.socket >verified 2>&1 || true
[ ! -s verified ] || { cat verified; exit 1; }
cloakroom config check

# What systemd does from the unit: its directories, its user, its capabilities.
unit=/lib/systemd/system/cloakroom.service
value() { sed -n "s/^$1=//p" $unit; }
install -d -o "$(value User)" -g "$(value Group)" -m "$(value StateDirectoryMode)" "/var/lib/$(value StateDirectory)"
install -d -o "$(value User)" -g "$(value Group)" "/run/$(value RuntimeDirectory)"
caps=+$(value AmbientCapabilities | sed 's/CAP_//g; s/ /,+/g' | tr A-Z a-z)
PORT=@PORT@
setpriv --reuid "$(value User)" --regid "$(value Group)" --init-groups --inh-caps=-all,"$caps" \
    --ambient-caps=-all,"$caps" --bounding-set=-all,"$caps" --no-new-privs \
    $(value ExecStart) --listen 127.0.0.1:$PORT >>served 2>&1 &
server=$!
for _ in $(seq 600); do
    ! grep -q "serving on" served || break
    kill -0 $server || { cat served; exit 1; }
    sleep 0.1
done
ps -eo user:20,args | sed -n 's/^\(cloakroom[^ ]*\) *[^ ]*cloakroom \([a-z-]*\).*/\1 \2/p' | sort -u
cloakroom user list
curl -s http://127.0.0.1:$PORT/session
echo
[ "$(stat -c %U:%a /var/lib/cloakroom/cloakroom.db)" = cloakroom:600 ] || stat /var/lib/cloakroom/cloakroom.db
kill $server
wait $server
echo "stopped $?"

cc /usr/share/doc/libcloakroom-dev/examples/hello.c $(pkg-config --cflags --libs cloakroom) -o hello
chmod 755 /tmp/in hello
mkdir -m 777 /tmp/hello
HOME=/tmp/hello XDG_RUNTIME_DIR=/tmp/hello setpriv --reuid nobody --regid nogroup --clear-groups \
    ./hello sqlite:///tmp/hello/hello.db
man -w cloakroom cloakroom.conf

dpkg -r libcloakroom-dev libcloakroom0 cloakroom
[ -e /etc/cloakroom/cloakroom.conf ]
[ -e /var/lib/cloakroom/cloakroom.db ]
[ ! -e /usr/bin/cloakroom ]
dpkg -P cloakroom
[ ! -e /etc/cloakroom ]
[ ! -L $wants/sockets.target.wants/cloakroom.socket ]
[ -e /var/lib/cloakroom/cloakroom.db ]
echo "all gone, but for the sessions"
"""


def debs():
    return [next(BUILT.glob(f"{name}_*.deb")) for name in PACKAGES]


def packages_build_and_lintian_finds_nothing():
    if shutil.which("dpkg-query") is None:
        tap.skip("no dpkg-query")
    done = subprocess.run(["./dev", "package"], cwd=scratch.ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    tap.note(done.stdout)
    assert done.returncode == 0, f"exit status {done.returncode}"
    tags = [line for line in done.stdout.splitlines() if re.match(r"[EWIP]: ", line)]
    assert not tags, tags
    assert len(debs()) == 3


def they_can_be_installed_used_and_removed():
    if os.geteuid() != 0:
        tap.skip("not root")
    assert BUILT.exists(), "they were not built"
    home = scratch.folder("copy")
    (home / "inside").write_text(INSIDE.replace("@PORT@", str(scratch.free_port())), encoding="utf-8")
    (home / "mount").mkdir()
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", COPY, "sh", home / "mount",
                           home / "inside", *debs()], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300, check=False)
    tap.note(done.stdout)
    if "overlay" in done.stdout and "mount:" in done.stdout:
        tap.skip("no overlay can be mounted here")
    if done.returncode == 77:
        tap.skip("Cloakroom is installed on this host")
    assert done.returncode == 0, f"exit status {done.returncode}"
    for wanted in ["cloakroom agent", "cloakroom-http worker", "admin", "Unauthorized", "stopped 0",
                   "validate again         the session has ended", "all gone, but for the sessions"]:
        assert wanted in done.stdout, f"'{wanted}' is not there"


def unpacked(name):
    """What one package has, in a new directory."""
    assert BUILT.exists(), "they were not built"
    home = scratch.folder(name)
    scratch.run(["dpkg-deb", "--extract", next(BUILT.glob(f"{name}_*.deb")), home])
    return home


def nothing_that_is_shipped_fails_on_command():
    """ASVS H10. The marks are those of a build that has it, so that they are known to be found."""
    marks = [b"fault: is written", b"not_made", b"cr_store_fault"]
    with_them = (scratch.BUILD / "cloakroom").read_bytes()
    assert all(mark in with_them for mark in marks), "the marks are others by now"
    root = unpacked("cloakroom")
    program = root / "usr" / "bin" / "cloakroom"
    library = next(unpacked("libcloakroom0").rglob("libcloakroom.so.0.*"))
    for path in (program, library, next(unpacked("libcloakroom-dev").rglob("libcloakroom.a"))):
        for mark in marks:
            assert mark not in path.read_bytes(), f"{path.name} has {mark}"
    for debug in BUILT.glob("*-dbgsym_*.deb"):  # the names of functions that do not show in the program
        home = scratch.folder("debug")
        scratch.run(["dpkg-deb", "--extract", debug, home])
        for path in home.rglob("*.debug"):
            assert "store_fault" not in scratch.run(["nm", path]), debug.name
    done = subprocess.run([program, "agent", "--store", "fault:/plan,memory:", "--state", root / "state"],
                          text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0 and "-Dfailpoints=true" in done.stderr, done


def failpoints_are_only_where_they_are_asked_for():
    """ASVS H10. Meson's own defaults, as a package and an image take them."""
    out = scratch.folder("defaults")
    scratch.run(["meson", "setup", out, scratch.ROOT], timeout=300)
    units = {unit["output"]: unit for unit in json.loads((out / "compile_commands.json").read_text())
             if unit["output"].startswith("src/")}
    assert not [name for name in units if "store_fault" in name], "the library has them"
    opener, = [name for name in units if name.endswith("store_store_open.c.o")]
    scratch.run(["ninja", "-C", out, opener])
    said = (out / opener).read_bytes()
    assert b"fault: makes a store fail" in said and b"PLANFILE" not in said


def the_list_of_parts_names_every_library():
    """ASVS H10."""
    root = unpacked("cloakroom")
    parts = json.loads((root / "usr/share/doc/cloakroom/sbom.cdx.json").read_text(encoding="utf-8"))
    assert parts["bomFormat"] == "CycloneDX" and parts["metadata"]["component"]["name"] == "cloakroom"
    listed = {part["name"]: part["version"] for part in parts["components"]}
    assert listed["zxcvbn"] == "4.5.0" and all(listed.values()), listed
    library = next(unpacked("libcloakroom0").rglob("libcloakroom.so.0.*"))
    for path in (root / "usr/bin/cloakroom", library):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", scratch.run(["readelf", "--dynamic", path]))
        assert len(needed) >= 5, needed
        for name in needed:
            found = scratch.run(["dpkg-query", "-S", f"*/{name}"])
            package = found.splitlines()[0].split(": ")[0]
            source, version = scratch.run(["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}",
                                           package]).split()
            assert listed.get(source) == version, f"{name}: {source} {version} is not listed"


def two_builds_in_different_places_are_the_same():
    """ASVS H10. Program and library, with what debuggers read in them."""
    made = []
    for source, build in (("here", "build"), ("another/place", "out")):
        home = scratch.folder("twice")
        tree, out = home / source, home / source / build
        shutil.copytree(scratch.ROOT, tree, ignore=variants.left_out, symlinks=True)
        scratch.run(["meson", "setup", out, tree], timeout=300)
        targets = ["cloakroom", "src/libcloakroom.a"]
        targets += [f"src/{path.name}" for path in (scratch.BUILD / "src").glob("libcloakroom.so.0.*.*")
                    if path.is_file()]
        assert len(targets) == 3, targets
        scratch.run(["ninja", "-C", out, *targets], timeout=800)
        made.append([(out / target).read_bytes() for target in targets])
    for target, one, other in zip(targets, *made):
        assert one == other, f"{target} differs"


tap.main([
    packages_build_and_lintian_finds_nothing,
    they_can_be_installed_used_and_removed,
    nothing_that_is_shipped_fails_on_command,
    failpoints_are_only_where_they_are_asked_for,
    the_list_of_parts_names_every_library,
    two_builds_in_different_places_are_the_same,
])
