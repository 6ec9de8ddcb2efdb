# SPDX-License-Identifier: Apache-2.0
"""The strongest peer of bench_create: one loop inside one process, which waits for nobody. What is
left of group commit then depends on how long the disk takes to sync."""

import bench_create


class CreateAlone(bench_create.Create):
    name = "create_alone"
    peer = "one loop that commits each session, SQLite in the same directory, WAL and FULL as ours"
    bound = 3
    peers = 1
