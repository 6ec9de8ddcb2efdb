# SPDX-License-Identifier: Apache-2.0
"""The whole call that ends a user's sessions, as an application makes it: the commit is what takes
its time, and is one row however many sessions there are."""

import os
import shutil
import statistics

import bench

COUNTS = (1, 1_000, 1_000_000)
USERS = {1: 20, 1_000: 20, 1_000_000: 1}


class EndCommit(bench.Bench):
    name = "cache_end_commit"
    rows = tuple(bench.Row(
        text, f"cr_invalidate_by_user of {count:,} sessions through the agent, SQLite, until done",
        "ns", f"end {count}", "end 1", "a user with one session", most=1.3)
                 for text, count in (("1000", 1_000), ("1m", 1_000_000)))
    cores = 2

    def start(self):
        self.store = self.folder / "made.db"
        self.run("make_store", self.store, *(word for count in COUNTS
                                             for word in (USERS[count], count)))

    def round(self):
        """On a copy of the store each time, which is on the disk before anything is timed."""
        copy = self.folder / "cloakroom.db"
        for stale in self.folder.glob("cloakroom.db*"):
            stale.unlink()
        shutil.copyfile(self.store, copy)
        with open(copy, "rb+") as file:
            os.fsync(file.fileno())
        with self.passing():
            driver = self.driver("drive_end", self.start_agent(), core=self.core)
            self.ready(driver)
            took = {count: [] for count in COUNTS}
            for number in range(max(USERS.values())):
                for count in COUNTS:
                    # The only one of its kind stands in the middle of the others.
                    first = (max(USERS.values()) - USERS[count]) // 2
                    if first <= number < first + USERS[count]:
                        took[count].append(self.ask(driver, f"{count}-{number - first}"))
        return {f"end {count}": statistics.median(times) for count, times in took.items()}
