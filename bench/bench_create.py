# SPDX-License-Identifier: Apache-2.0
"""Log-ins come in bursts; each must be on the disk before its answer."""

import bench


class Create(bench.Bench):
    name = "create"
    figure = "sessions made durably by 64 clients through the agent, SQLite"
    peer = "one commit a session, SQLite in the same directory, WAL and synchronous=FULL as ours"
    unit = "sessions/s"
    bound = 5
    cores = 2

    def start(self):
        self.program = self.driver("drive_create", self.start_agent(), self.folder, 64)
        self.ready(self.program)

    def ours(self):
        return self.ask(self.program, "ours")

    def theirs(self):
        return self.ask(self.program, "theirs")
