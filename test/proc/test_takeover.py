#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: noasan timeout=120
"""An HTTP worker that a stranger has taken over: what its code may try, and that each try fails.

The worker's own thread makes the calls, by way of a debugger (puppet.c), so whatever confines it
confines them. What is read beside it, to look for keys, is read by the test itself.
"""

import atexit
import contextlib
import errno
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap

# x86-64: elsewhere the puppet says that it cannot.
NR = {"read": 0, "open": 2, "mmap": 9, "mprotect": 10, "pwrite64": 18, "madvise": 28, "socket": 41, "connect": 42,
      "sendto": 44, "recvfrom": 45, "bind": 49, "socketpair": 53, "clone": 56, "execve": 59, "kill": 62, "fcntl": 72,
      "ftruncate": 77, "rename": 82, "creat": 85, "unlink": 87, "chmod": 90, "ptrace": 101, "setuid": 105,
      "prctl": 157, "tgkill": 234, "openat": 257, "process_vm_readv": 310, "memfd_create": 319, "bpf": 321,
      "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438, "openat2": 437, "mount": 165}
PROT_WRITE, PROT_READ, PROT_EXEC, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS = 2, 1, 4, 1, 2, 32
MADV_REMOVE, MSG_DONTWAIT, PTRACE_ATTACH = 9, 64, 16
AT_FDCWD = -100
F_SETOWN, F_SETSIG = 8, 10
CONTROL_FD = 3  # control.h


class Puppet:
    def __init__(self, pid):
        self.pid = pid
        self.process = subprocess.Popen([scratch.BUILD / "test" / "proc" / "puppet", str(pid)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = self.process.stdout.readline().strip()
        if said != "ready":
            self.close()
            tap.skip(f"no process can be taken over here: {said}")
        self.room = self.call("mmap", 0, 1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        assert self.room > 0, self.room

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        assert said and not said.startswith(("cannot", "what?")), f"{line[:80]}: {said}"
        return said

    def call(self, name, *words):
        """What the call returned. A word that is text or bytes is put into its memory, ended by a zero."""
        given, free = [], self.room if hasattr(self, "room") else 0
        for word in words:
            if isinstance(word, (str, bytes)):
                data = (word.encode() if isinstance(word, str) else word) + b"\0"
                self.ask(f"poke {free} {data.hex()}")
                given.append(free)
                free += (len(data) + 15) // 8 * 8
            else:
                given.append(word)
        return int(self.ask(f"call {NR[name]} {' '.join(map(str, given))}"))

    def close(self):
        self.process.stdin.close()
        self.process.wait(15)
        self.process.stdout.close()


def is_denied(result):
    return result in (-errno.EPERM, -errno.EACCES)


@contextlib.contextmanager
def taken_over():
    """(the server, the worker's puppet)"""
    puppet = Puppet(server().worker_pids()[0])
    try:
        yield server(), puppet
    finally:
        puppet.close()


started = []


def server():
    if not started:
        started.append(scratch.Server(workers=1))
        atexit.register(started[0].close)
    return started[0]


def all_denied(puppet, *calls):
    for call in calls:
        result = puppet.call(*call)
        assert is_denied(result), f"{call[0]}{call[1:]}: {result}"


def whoever_is_not_confined_can_do_all_that():
    """What is denied below is denied by the confinement, not by how it is tried."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        puppet = Puppet(sleeper.pid)
        try:
            assert puppet.call("openat", AT_FDCWD, "/etc/passwd", os.O_RDONLY) >= 0
            assert puppet.call("socket", 1, 5, 0) >= 0
            assert puppet.call("mprotect", puppet.room, 4096, PROT_READ | PROT_EXEC) == 0
            assert puppet.call("memfd_create", "mine", 0) >= 0
            assert puppet.call("kill", os.getpid(), 0) == 0
        finally:
            puppet.close()
    finally:
        scratch.end(sleeper, signal.SIGKILL)


def it_opens_no_file_and_starts_no_program():
    with taken_over() as (at, puppet):
        agent = at.agent_pid()
        for path in (f"{at.home}/cloakroom.db", f"{at.home}/cloakroom.db-wal", str(at.state), "/etc/passwd",
                     "/proc/self/mem", f"/proc/{agent}/mem", f"/proc/{agent}/environ", "/dev/mem"):
            all_denied(puppet, ("open", path, os.O_RDONLY), ("openat", AT_FDCWD, path, os.O_RDWR),
                       ("openat2", AT_FDCWD, path, struct.pack("QQQ", os.O_RDONLY, 0, 0), 24))
        all_denied(puppet, ("creat", "/tmp/mine", 0o600), ("unlink", f"{at.home}/cloakroom.db"),
                   ("rename", f"{at.home}/cloakroom.db", "/tmp/mine"), ("chmod", f"{at.home}/cloakroom.db", 0o777),
                   ("execve", "/bin/sh", 0, 0), ("clone", 17, 0, 0, 0, 0), ("memfd_create", "mine", 0),
                   ("mount", "none", "/mnt", "tmpfs", 0, 0), ("io_uring_setup", 8, b"\0" * 128), ("bpf", 0, b"\0" * 64, 64),
                   ("mmap", 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                   ("mprotect", puppet.room, 4096, PROT_READ | PROT_EXEC))


def it_connects_nowhere():
    with taken_over() as (at, puppet):
        address = struct.pack("=H", 2) + struct.pack(">H", at.port) + bytes([127, 0, 0, 1]) + b"\0" * 8
        door = struct.pack("=H", 1) + f"{at.state}/operator.sock".encode()
        all_denied(puppet, ("socket", 2, 1, 0), ("socket", 2, 2, 0), ("socket", 1, 5, 0), ("socket", 16, 3, 0),
                   ("socketpair", 1, 1, 0, puppet.room), ("bind", 3, address, 16))
        for fd in os.listdir(f"/proc/{puppet.pid}/fd"):
            for place in (address, door):
                all_denied(puppet, ("connect", int(fd), place, len(place)))


def it_reaches_into_no_other_process():
    with taken_over() as (at, puppet):
        for pid in (at.agent_pid(), at.process.pid, 1):
            all_denied(puppet, ("ptrace", PTRACE_ATTACH, pid, 0, 0), ("kill", pid, 9), ("tgkill", pid, pid, 9),
                       ("fcntl", CONTROL_FD, F_SETOWN, pid), ("pidfd_open", pid, 0),
                       ("pidfd_getfd", 3, 3, 0),
                       ("process_vm_readv", pid, struct.pack("QQ", puppet.room, 8), 1, struct.pack("QQ", puppet.room, 8), 1, 0))
        all_denied(puppet, ("fcntl", CONTROL_FD, F_SETSIG, 9), ("setuid", 0), ("prctl", 38, 0, 0, 0, 0))


def keys_of(at):
    """As they stand in the store, read from a copy of its files."""
    copy = scratch.folder("copy")
    for name in ("cloakroom.db", "cloakroom.db-wal"):
        if (at.home / name).exists():
            shutil.copy(at.home / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "cloakroom.db")) as store:
        return [row[0] for row in store.execute("SELECT bytes FROM keys")]


def is_in_memory(pid, secrets):
    """Whether one of them stands anywhere in what the process can read."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            if rights[0] != "r" or "[v" in line:
                continue
            start, end = (int(edge, 16) for edge in place.split("-"))
            memory.seek(start)
            content = memory.read(end - start)
            if any(secret in content for secret in secrets):
                return True
    return False


def it_holds_no_keys():
    """ASVS H3."""
    at = server()
    at.login()
    keys = keys_of(at)
    assert keys and all(len(key) == 32 for key in keys)
    assert is_in_memory(at.agent_pid(), keys), "the agent makes tokens without a key"
    for pid in [*at.worker_pids(), at.process.pid]:
        assert not is_in_memory(pid, keys), f"process {pid} has a key: {scratch.arguments(pid)}"


# ---- messages to the agent, as src/wire/message.h has them


def enum_of(header, name):
    text = (scratch.ROOT / header).read_text(encoding="utf-8")
    if name == "cr_status":
        return {word: number for number, word in enumerate(re.findall(r"X\((CR_\w+),", text))}
    body = re.search(rf"enum {name} \{{(.*?)\}}", text, re.DOTALL).group(1)
    return {word: int(number) for word, number in re.findall(r"(\w+) = (\d+)", body)}


def agent_socket(puppet):
    """Its descriptor of the connection to the agent: the other socket of packets is the supervisor's."""
    packets = {fields[6] for fields in (line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:])
               if fields[4] == "0005"}
    for fd in os.listdir(f"/proc/{puppet.pid}/fd"):
        target = os.readlink(f"/proc/{puppet.pid}/fd/{fd}")
        if int(fd) != CONTROL_FD and target.startswith("socket:[") and target[8:-1] in packets:
            return int(fd)
    raise AssertionError("no connection to the agent")


def message(op, request, *fields):
    body = b"".join(struct.pack("<HHI", tag, 0, len(value)) + value for tag, value in fields)
    return struct.pack("<IHHQHHI", 0x31575243, op, 0, request, len(fields), 0, 24 + len(body)) + body


def agent_asked(puppet, fd, op, request, *fields):
    """The status of the agent's reply; what else comes is passed over."""
    data = message(op, request, *fields)
    assert puppet.call("sendto", fd, data, len(data), 0, 0, 0) == len(data)

    def reply():
        count = puppet.call("recvfrom", fd, puppet.room + 65536, 60000, MSG_DONTWAIT, 0, 0)
        if count == -errno.EAGAIN:
            return None
        assert count >= 24, count
        got = bytes.fromhex(puppet.ask(f"peek {puppet.room + 65536} 24"))
        _, _, status, number, *_ = struct.unpack("<IHHQHHI", got)
        return (status,) if number == request else None

    return scratch.until(reply, "the agent's reply")[0]


def it_acts_for_nobody_but_whose_token_it_has():
    """ASVS D4, H8: its socket is an HTTP worker's whatever it says."""
    status, op, tag = enum_of("include/cloakroom/status.h", "cr_status"), enum_of("src/wire/message.h", "cr_op"), \
        enum_of("src/wire/message.h", "cr_tag")
    at = server()
    victim, token = at.login()
    word = lambda number: struct.pack("<Q", number)  # noqa: E731
    user = (tag["CR_TAG_USER"], b"alice")
    tries = {
        "CR_OP_LOGIN": [user, (tag["CR_TAG_POLICY"], word(2))],
        "CR_OP_CREATE": [user],
        "CR_OP_END_USER": [user],
        "CR_OP_END_ALL": [],
        "CR_OP_END": [(tag["CR_TAG_ID"], victim.encode())],
        "CR_OP_LIST": [user],
        "CR_OP_PAST": [user],
        "CR_OP_EXPLAIN": [(tag["CR_TAG_ID"], victim.encode())],
        "CR_OP_DATA_READ": [(tag["CR_TAG_ID"], victim.encode())],
        "CR_OP_RIGHTS_WRITE": [(tag["CR_TAG_ID"], victim.encode()), (tag["CR_TAG_RIGHTS"], b"admin")],
        "CR_OP_ACCOUNT_LIST": [],
        "CR_OP_ACCOUNT_ADD": [(tag["CR_TAG_USER"], b"mallory"), (tag["CR_TAG_PASSWORD"], b"a long enough password")],
        "CR_OP_ACCOUNT_IMPORT": [(tag["CR_TAG_USER"], b"mallory"), (tag["CR_TAG_HASH"], b"$2b$04$")],
        "CR_OP_ACCOUNT_PASSWORD": [user, (tag["CR_TAG_PASSWORD"], b"a long enough password")],
    }
    with taken_over() as (_, puppet):
        fd = agent_socket(puppet)
        for number, (name, fields) in enumerate(tries.items()):
            got = agent_asked(puppet, fd, op[name], (1 << 60) + number, *fields)
            assert got == status["CR_DENIED"], f"{name}: status {got}"
        # A token that it made up itself.
        made_up = (tag["CR_TAG_TOKEN"], b"crs1_B" + b"A" * 79)
        got = agent_asked(puppet, fd, op["CR_OP_VALIDATE"], 1 << 61, made_up)
        assert got not in (status["CR_OK"],), got
    assert scratch.Connection(at.port).session(token) == 200  # nothing of it was done


def it_writes_nothing_that_others_read():
    with taken_over() as (at, puppet):
        at_table = [line for line in pathlib.Path(f"/proc/{puppet.pid}/maps").read_text().splitlines()
                    if "memfd:cloakroom-table" in line]
        assert at_table, "the worker has no table"
        for line in at_table:
            start, end = (int(edge, 16) for edge in line.split()[0].split("-"))
            assert line.split()[1] == "r--s", line
            before = puppet.ask(f"peek {start} 256")
            all_denied(puppet, ("mprotect", start, end - start, PROT_READ | PROT_WRITE),
                       ("madvise", start, end - start, MADV_REMOVE))
            assert puppet.ask(f"store {start + 192}") == "11"  # SIGSEGV
            assert before[:128] == puppet.ask(f"peek {start} 64")
        for fd in os.listdir(f"/proc/{puppet.pid}/fd"):
            if "memfd:" in os.readlink(f"/proc/{puppet.pid}/fd/{fd}"):
                all_denied(puppet, ("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, int(fd), 0),
                           ("pwrite64", int(fd), b"x", 1, 0), ("ftruncate", int(fd), 0))


def the_agent_keeps_its_keys_out_of_swap_and_core_dumps():
    """ASVS H3."""
    agent = pathlib.Path(f"/proc/{server().agent_pid()}")
    limits = (agent / "limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits), limits
    locked = int(re.search(r"VmLck:\s+(\d+) kB", (agent / "status").read_text()).group(1))
    assert locked > 0, "no locked memory"


tap.main([
    whoever_is_not_confined_can_do_all_that,
    it_opens_no_file_and_starts_no_program,
    it_connects_nowhere,
    it_reaches_into_no_other_process,
    it_holds_no_keys,
    it_acts_for_nobody_but_whose_token_it_has,
    it_writes_nothing_that_others_read,
    the_agent_keeps_its_keys_out_of_swap_and_core_dumps,
])
