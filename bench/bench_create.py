# SPDX-License-Identifier: Apache-2.0
"""Log-ins come in bursts; each must be on the disk before its answer."""

import bench


class Create(bench.Bench):
    name = "create"
    rows = (bench.Row(
        "", "sessions made durably by 64 clients through the agent, SQLite", "sessions/s",
        peer="64 clients that commit each session, SQLite in the same directory, WAL and FULL as "
        "ours", theirs="theirs", least=7, aim=10),)
    cores = 2
    peers = 64

    def start(self):
        self.program = self.driver("drive_create", self.start_agent(), self.folder, 64, self.peers)
        self.ready(self.program)
