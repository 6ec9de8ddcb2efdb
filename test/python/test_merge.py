#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
"""Two requests that changed one session: what becomes of its top-level keys."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.dont_write_bytecode = True
import tap

from cloakroom._merge import Collision, merge
from cloakroom._state import SessionState, StateSettings
from cloakroom._steps import run
from cloakroom.testing import FakeCloakroom

# base, mine, theirs, what comes of it: a dictionary, or the keys that collide.
TABLE = [
    ({}, {}, {}, {}),
    ({}, {"a": 1}, {}, {"a": 1}),
    ({}, {}, {"a": 1}, {"a": 1}),
    ({}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ({}, {"a": 1}, {"a": 1}, {"a": 1}),
    ({}, {"a": 1}, {"a": 2}, ["a"]),
    ({"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}),
    ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
    ({"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}),
    ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
    ({"a": 1}, {"a": 2}, {"a": 3}, ["a"]),
    ({"a": 1}, {}, {"a": 1}, {}),
    ({"a": 1}, {"a": 1}, {}, {}),
    ({"a": 1}, {}, {}, {}),
    ({"a": 1}, {}, {"a": 2}, ["a"]),
    ({"a": 1}, {"a": 2}, {}, ["a"]),
    ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
    ({"a": 1, "b": 1}, {"b": 1}, {"a": 1}, {}),
    ({"b": 0, "a": 0}, {"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a", "b"]),
    # Values are not looked into.
    ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 1}, "b": 1}, {"a": {"x": 1, "y": 2}, "b": 1}),
    ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 3]}, ["a"]),
    # None is a value, and 1 is not True.
    ({"a": None}, {}, {"a": None, "b": 1}, {"b": 1}),
    ({}, {"a": None}, {"b": 1}, {"a": None, "b": 1}),
    ({"a": 1}, {"a": True}, {"a": 1}, {"a": True}),
    ({}, {"a": 1}, {"a": True}, ["a"]),
    ({}, {"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {"a": {"x": 1, "y": 2}}),
]


def outcome(base, mine, theirs):
    try:
        return merge(base, mine, theirs)
    except Collision as collision:
        return collision.keys


def keys_that_one_side_changed_are_merged_and_others_collide():
    for base, mine, theirs, wanted in TABLE:
        before = repr((base, mine, theirs))
        found = outcome(base, mine, theirs)
        assert repr(found) == repr(wanted) or (found == wanted and repr(found).count("True") == repr(
            wanted).count("True")), f"{base} {mine} {theirs}: {found}, not {wanted}"
        assert repr((base, mine, theirs)) == before, "an argument was changed"


def model(base, mine, theirs):
    """The same by what each side did: a list of puts and deletes, played over the base."""
    def did(side):
        return {key: ("put", side[key]) if key in side else ("delete",)
                for key in {*base, *side} if (key in base, base.get(key)) != (key in side, side.get(key))}

    here, there = did(mine), did(theirs)
    both = sorted(key for key in here if key in there and here[key] != there[key])
    if both:
        return both
    result = dict(base)
    for key, what in {**here, **there}.items():
        if what[0] == "put":
            result[key] = what[1]
        else:
            result.pop(key, None)
    return result


def it_does_what_a_slow_model_does():
    names, values = "abcde", [0, 2, "x", None, [1], {"k": [2]}]
    kinds = set()
    for _ in range(20000):
        base, mine, theirs = ({name: tap.random.choice(values) for name in names if tap.random.random() < 0.4}
                              for _ in range(3))
        if tap.random.random() < 0.8:  # else nearly all collide
            for side in (mine, theirs):
                changed = {name for name in names if tap.random.random() < 0.25}
                kept = {name: side[name] for name in changed if name in side}
                side.clear()
                side.update({**{k: v for k, v in base.items() if k not in changed}, **kept})
        found, wanted = outcome(base, mine, theirs), model(base, mine, theirs)
        assert found == wanted, f"{base} {mine} {theirs}: {found}, not {wanted}"
        kinds.add(type(found))
        # Whoever comes first, nothing else comes of it.
        assert outcome(base, theirs, mine) == found
    assert kinds == {dict, list}, kinds


class Busy(FakeCloakroom):
    """So many others, each with a key of its own, are quicker than a save."""

    others = 0

    def update(self, session, **more):
        if self.others:
            self.others -= 1
            data, version = self.read(session)
            super().update(session, json={**json.loads(data), f"other {self.others}": 1}, version=version)
        return super().update(session, **more)


def the_requests_of_a_whole_page_lose_nothing():
    room = Busy()
    state = SessionState(StateSettings(), room.login("alice", policy="keep", json={}).signed_token)
    run(room, state.load())
    state.data["mine"] = 1
    room.others = 20
    run(room, state.save())
    assert len(room.validate(state.token).json()) == 21


tap.main([
    keys_that_one_side_changed_are_merged_and_others_collide,
    it_does_what_a_slow_model_does,
    the_requests_of_a_whole_page_lose_nothing,
])
