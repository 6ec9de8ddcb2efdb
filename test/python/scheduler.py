# SPDX-License-Identifier: Apache-2.0
"""One of several processes with a scheduler that nothing was changed of: the block of doc/coming-from.md, and
a job that says where it ran.

    scheduler.py URL FILE
"""

import os
import pathlib
import sys

from apscheduler.schedulers.background import BackgroundScheduler

import blocks
import cloakroom

url, notes = sys.argv[1:]


def job():
    with open(notes, "a", encoding="ascii") as out:
        out.write(f"{os.getpid()}\n")


room = cloakroom.Cloakroom.open(url)
scheduler = BackgroundScheduler()
scheduler.add_job(job, "interval", seconds=0.05, max_instances=1)
exec(compile(blocks.one("doc/coming-from.md", "python", "A scheduler"), "coming-from.md", "exec"))
run_scheduler(room, scheduler)  # noqa: F821 the block defines it
