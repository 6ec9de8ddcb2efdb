#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""Histories of real processes, recorded while they are killed, paused and cut off, and checked: an
acceptance that began after an ending had answered is a violation, and so is a wrong user, right or
value, and a log-out that nobody asked for (README.md).

CR_HISTORY_SECONDS: how long each takes, in place of some seconds.
"""

import os
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import histories
import tap


def history(record, seconds):
    seconds = float(os.environ.get("CR_HISTORY_SECONDS") or seconds)
    histories.keeps_the_promise(record, tap.random, seconds)


def a_host_whose_processes_are_killed_keeps_the_promise():
    history(histories.one_host, 5)


def two_hosts_that_are_paused_and_cut_off_keep_the_promise():
    history(histories.two_hosts, 6)


def an_applications_own_table_keeps_the_promise():
    history(histories.own_table, 2)


def http_workers_that_are_killed_keep_the_promise():
    history(histories.web, 3)


tap.main([
    a_host_whose_processes_are_killed_keeps_the_promise,
    two_hosts_that_are_paused_and_cut_off_keep_the_promise,
    an_applications_own_table_keeps_the_promise,
    http_workers_that_are_killed_keep_the_promise,
])
