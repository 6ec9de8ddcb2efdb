# SPDX-License-Identifier: Apache-2.0
"""A validation that every request makes, against the cache that one would put there instead."""

import bench


class Cache(bench.Bench):
    name = "cache"
    figure = "validations that hit, shared cache, 100,000 sessions, random tokens, one thread"
    peer = "GET of a value of that size, Redis on a Unix socket, same core (hiredis)"
    unit = "answers/s"
    bound = 30
    cores = 1

    def start(self):
        socket = self.folder / "redis.sock"
        self.spawn(["redis-server", "--port", 0, "--unixsocket", socket, "--save", "",
                    "--appendonly", "no", "--dir", self.folder], self.core)
        self.wait_for(socket.exists, "Redis")
        self.program = self.driver("drive_cache", self.start_agent(), socket, 100_000,
                                   core=self.core)
        self.ready(self.program)

    def ours(self):
        return self.ask(self.program, "ours")

    def theirs(self):
        return self.ask(self.program, "theirs")
