#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=60
"""An agent with more peers than it has places for."""

import os
import pathlib
import resource
import signal
import socket
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
import scratch
import tap
from desk import Desk

OPEN_FILES = 400


def limits_of(pid):
    for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return tuple(map(int, line.split()[3:5]))
    raise AssertionError(pid)


def agent_and_workers_take_the_descriptors_they_may_have():
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, OPEN_FILES))
    with scratch.Server(workers=1) as server:
        for pid in (server.agent_pid(), *server.worker_pids()):
            assert limits_of(pid) == (OPEN_FILES, OPEN_FILES), limits_of(pid)


def applications_that_connect_without_end_keep_no_operator_and_no_worker_out():
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    with scratch.Server(workers=1) as server:
        _, token = server.login()
        crowd = []
        for _ in range(OPEN_FILES * 3 // 4):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.connect(f"{server.state}/app.sock")
            crowd.append(peer)
        desk = Desk(server.store)
        desk.where = ("--store", server.store, "--state", str(server.state))
        assert "alice" in desk.do("user", "list")
        before = server.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        scratch.until(lambda: server.worker_pids() not in ([], before) and server.is_whole(),
                      "another worker")
        fresh = scratch.Connection(server.port)
        assert fresh.session(token) == 200
        fresh.close()
        assert "done" in desk.do("session", "end", "--user", "alice")
        assert server.said().count("app.sock: full") == 1, server.said()
        for peer in crowd:
            peer.close()
        with scratch.Attached(server.app) as attached:
            assert attached.validate(token) == "CR_ENDED"


tap.main([
    agent_and_workers_take_the_descriptors_they_may_have,
    applications_that_connect_without_end_keep_no_operator_and_no_worker_out,
])
