# SPDX-License-Identifier: Apache-2.0
"""A store in a directory of its own, its command line, and its agent."""

import os
import signal
import subprocess

import scratch


class Desk:
    """`agent` is the process while one runs. As context manager: with an agent."""

    def __init__(self, url=None):
        self.home = scratch.folder("desk")
        self.url = url or f"sqlite://{self.home}/store.db"
        self.state = self.home / "state"
        self.where = ("--store", self.url, "--state", str(self.state))
        self.agent = None
        self.log = self.home / "log"

    def start(self, *options):
        """Until the agent is ready; what it said if it is not."""
        reading, writing = os.pipe()
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                [scratch.PROGRAM, "agent", *self.where, "--ready-fd", str(writing), *options],
                pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(writing)
        with open(reading, encoding="utf-8") as ready:
            line = ready.read()
        assert line == "READY=1\n", f"{line} {self.said()}"

    def stop(self, how=signal.SIGTERM):
        if self.agent is not None:
            scratch.end(self.agent, how)
        self.agent = None

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def command(self, *words):
        """The arguments; `--` and what follows stay last."""
        split = words.index("--") if "--" in words else len(words)
        return [scratch.PROGRAM, *words[:split], *self.where, *words[split:]]

    def run(self, *words, text=None, **more):
        """Runs a command to its end: (exit status, standard output, standard error)."""
        done = subprocess.run(self.command(*words), input=text or "", text=True, timeout=60,
                              capture_output=True, check=False, **more)
        return done.returncode, done.stdout, done.stderr

    def do(self, *words, text=None):
        """Standard output of a command that must succeed."""
        status, out, error = self.run(*words, text=text)
        assert status == 0, f"{words}: exit status {status}\n{out}\n{error}"
        return out

    def open(self, *words, **more):
        """A command that goes on by itself."""
        return subprocess.Popen(self.command(*words), text=True, **more)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
