# SPDX-License-Identifier: Apache-2.0
"""Two requests that changed one session: their changes brought together by its top-level keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any, Final

__all__ = ["Collision", "merge", "same_json"]


class _Missing:
    """Instead of a value: the key is not there."""


_MISSING: Final = _Missing()


class Collision(Exception):
    """Both sides changed these keys, and differently. `keys` is sorted."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


def same_json(a: Any, b: Any) -> bool:
    """Whether both are the same value once stored: unlike ==, 1 is not True."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def merge(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    same: Callable[[Any, Any], bool] = same_json,
    last_wins: Container[str] = (),
) -> dict[str, Any]:
    """What `base` becomes by the changes that made `mine` of it and those that made `theirs`.

    A key that one side changed, put in or deleted is as that side has it; one that both changed alike is
    as both have it. `Collision` where they differ: changed here and deleted there is different; of the
    keys in `last_wins` it is as `mine` has it. Values are not looked into. New dictionary, old values; the
    order is that of `theirs`, then of `mine`.
    """

    def equal(a: Any, b: Any) -> bool:
        if a is _MISSING or b is _MISSING:
            return a is b
        return same(a, b)

    merged: dict[str, Any] = {}
    collisions: list[str] = []
    for key in {**theirs, **mine, **base}:
        was = base.get(key, _MISSING)
        here = mine.get(key, _MISSING)
        there = theirs.get(key, _MISSING)
        if equal(here, there) or equal(here, was):
            value = there
        elif equal(there, was) or key in last_wins:
            value = here
        else:
            collisions.append(key)
            continue
        if value is not _MISSING:
            merged[key] = value
    if collisions:
        raise Collision(sorted(collisions))
    return merged
