#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: timeout=120
"""From a clone to the second device signed out, as README tells it, with what is built already;
test_first_minutes_long.py builds."""

import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).parent)]
sys.dont_write_bytecode = True
import first_minutes
import scratch
import tap


def the_first_five_minutes_are_six_steps_at_most():
    tap.note(f"{first_minutes.walk(scratch.BUILD)} steps")


def a_step_too_many_and_one_that_cannot_be_done_are_seen():
    section = "## First five minutes\n\n1. `git clone here cloakroom && cd cloakroom`\n2. Think.\n\n## More\n"
    assert len(first_minutes.steps(section)) == 2
    reader = first_minutes.Reader()
    try:
        reader.do(first_minutes.steps(section)[1])
    except AssertionError as error:
        assert "who could do this? Think." in str(error), error
    else:
        raise AssertionError("somebody could")


tap.main([
    the_first_five_minutes_are_six_steps_at_most,
    a_step_too_many_and_one_that_cannot_be_done_are_seen,
])
