#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: long timeout=1200
"""From a clone to the second device signed out, as README tells it, built in the clone."""

import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import first_minutes
import tap


def the_first_five_minutes_from_nothing():
    tap.note(f"{first_minutes.walk(None)} steps")


tap.main([the_first_five_minutes_from_nothing])
