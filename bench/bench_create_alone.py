# SPDX-License-Identifier: Apache-2.0
"""The strongest peer of bench_create: one loop inside one process, which waits for nobody. What is
left of group commit then depends on how long the disk takes to sync."""

import dataclasses

import bench_create


class CreateAlone(bench_create.Create):
    name = "create_alone"
    rows = tuple(dataclasses.replace(
        row, peer="one loop that commits each session, SQLite in the same directory, WAL and FULL "
        "as ours", least=3, aim=None) for row in bench_create.Create.rows)
    peers = 1
