# SPDX-License-Identifier: Apache-2.0
"""`settings.CLOAKROOM`: what may be in it, what is wrong with it, and the room that it names.

`problems` is what `manage.py check` prints; the first one that is an error is what a request meets
where the checks did not run.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple, cast

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.middleware.csrf import CSRF_SESSION_KEY
from django.utils.module_loading import import_string

from .._room import Cloakroom
from .._state import StateSettings
from ._old import EngineSessions

__all__ = ["Options", "Problem", "options", "problems", "room"]

Policy = Literal["replace", "keep", "keep_n"]

_POLICIES: Final = ("replace", "keep", "keep_n")
_CONFLICTS: Final = ("merge", "raise", "last_wins")
_OPEN: Final = {"mode", "cache", "cache_bytes", "timeout", "workers", "program", "state", "realm"}
_OURS: Final = {
    "url", "room", "policy", "keep_count", "idle", "absolute", "on_conflict", "migrate_from",
    "migrate_cookie", "migrate_until",
}
_SCHEMES: Final = ("sqlite:///", "memory:", "cloakroom:///", "fault:")
_SPAN_MAX: Final = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Options:
    """What `settings.CLOAKROOM` says."""

    policy: Policy
    keep_count: int
    state: StateSettings


class Problem(NamedTuple):
    """Of the settings. `id` as `manage.py check` shows it, E for what cannot work, W for what is unsafe."""

    id: str
    text: str
    hint: str


def problems() -> Iterator[Problem]:
    """What is wrong with the settings that this package reads."""
    given = getattr(settings, "CLOAKROOM", None)
    if not isinstance(given, dict):
        yield Problem(
            "cloakroom.E001", "settings.CLOAKROOM is not set.",
            'Add CLOAKROOM = {"url": "sqlite:////var/lib/app/sessions.db"}.',
        )
        return
    yield from _room_problems(given)
    for key in sorted(set(given) - _OPEN - _OURS):
        yield Problem(
            "cloakroom.E003", f"CLOAKROOM[{key!r}] is no setting.",
            f"There are {', '.join(sorted(_OURS | _OPEN))}.",
        )
    yield from _session_problems(given)
    yield from _serializer_problems()
    yield from _old_problems(given)


def _room_problems(given: dict[str, Any]) -> Iterator[Problem]:
    url, made = given.get("url"), given.get("room")
    if made is not None:
        if not isinstance(made, (Cloakroom, str)) and not callable(made):
            yield Problem(
                "cloakroom.E002", f"CLOAKROOM['room'] is a {type(made).__name__}.",
                "Give a Cloakroom (in tests a FakeCloakroom), or what makes one, itself or as a dotted path.",
            )
        return
    if url is None:
        yield Problem(
            "cloakroom.E001", "CLOAKROOM['url'] is missing.",
            'Name the store, as "sqlite:////var/lib/app/sessions.db", or the socket of an agent, as'
            ' "cloakroom:///run/cloakroom/app/app.sock".',
        )
        return
    text = os.fspath(url) if isinstance(url, (str, os.PathLike)) else ""
    if not text or (":" in text and not text.startswith(_SCHEMES)) or not (":" in text or "/" in text):
        yield Problem(
            "cloakroom.E002", f"CLOAKROOM['url'] is {url!r}, which names no store.",
            'Write "sqlite:///" and the whole path of a file (so four slashes), "cloakroom:///" or nothing'
            ' before the path of an agent\'s socket, or "memory:" for one process alone.',
        )
        return
    path = text.removeprefix("sqlite:///").split("?")[0]
    if text.startswith("sqlite:///") and not os.path.isdir(os.path.dirname(os.path.join("/", path))):
        yield Problem(
            "cloakroom.E002", f"The directory of CLOAKROOM['url'], {text!r}, is not there.",
            "Make it, writable for who runs the application; the file in it is made by itself.",
        )


def _session_problems(given: dict[str, Any]) -> Iterator[Problem]:
    if given.get("policy", "replace") not in _POLICIES:
        yield Problem(
            "cloakroom.E004", f"CLOAKROOM['policy'] is {given['policy']!r}.",
            "It says what becomes of a user's earlier sessions at log-in: \"replace\" (they end: the stolen"
            ' device), "keep", or "keep_n" with "keep_count", how many there may be in all.',
        )
    if given.get("policy") == "keep_n" and not 1 <= _whole(given.get("keep_count")) <= 1000:
        yield Problem(
            "cloakroom.E004", f"CLOAKROOM['keep_count'] is {given.get('keep_count')!r}.",
            'With the policy "keep_n" it is how many sessions a user may have in all, 1 to 1000.',
        )
    if given.get("on_conflict", "merge") not in _CONFLICTS:
        yield Problem(
            "cloakroom.E005", f"CLOAKROOM['on_conflict'] is {given['on_conflict']!r}.",
            'Write "merge" (keys that only one of two requests changed are merged, else the later one fails),'
            ' "raise" (the later one fails), or "last_wins".',
        )
    for key in ("idle", "absolute"):
        seconds = _seconds(given.get(key, settings.SESSION_COOKIE_AGE))
        if not 0 < seconds <= _SPAN_MAX:
            name = f"CLOAKROOM[{key!r}]" if key in given else "SESSION_COOKIE_AGE"
            yield Problem(
                "cloakroom.E006", f"{name} is no span of time that a session can have.",
                "Give seconds or a timedelta, above 0 and at most 366 days.",
            )


def _serializer_problems() -> Iterator[Problem]:
    path = settings.SESSION_SERIALIZER
    sample = {"a": [1, None, "ü"]}
    try:
        is_json = json.loads(import_string(path)().dumps(sample)) == sample
    except (ImportError, TypeError, ValueError):  # not there, or what it writes is no JSON
        is_json = False
    if not is_json:
        yield Problem(
            "cloakroom.E007", f"SESSION_SERIALIZER is {path!r}, which does not write JSON.",
            'Leave it out, or "django.contrib.sessions.serializers.JSONSerializer": pickles run code when they'
            " are read.",
        )


def _old_problems(given: dict[str, Any]) -> Iterator[Problem]:
    path = given.get("migrate_from")
    if path is None:
        return
    if path == "django.contrib.sessions.backends.signed_cookies":
        yield Problem(
            "cloakroom.E008", "CLOAKROOM['migrate_from'] is the engine of signed cookies.",
            "Such a session cannot be ended, so one that was logged out could be moved. Let its users log in"
            " anew.",
        )
        return
    if path.endswith(("backends.db", "backends.cached_db")) and not apps.is_installed(
        "django.contrib.sessions"
    ):
        yield Problem(
            "cloakroom.E008", "The table of CLOAKROOM['migrate_from'] is not there.",
            'Keep "django.contrib.sessions" in INSTALLED_APPS for as long as sessions are moved.',
        )
        return
    try:
        fits = hasattr(import_module(path).SessionStore, "load")
    except (ImportError, AttributeError, ValueError, TypeError):
        fits = False
    if not fits or path == "cloakroom.django":
        yield Problem(
            "cloakroom.E008", f"CLOAKROOM['migrate_from'] is {path!r}, which is no other session engine.",
            'Write what SESSION_ENGINE was, as "django.contrib.sessions.backends.db".',
        )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _seconds(span: object) -> float:
    if isinstance(span, timedelta):
        return span.total_seconds()
    return float(span) if isinstance(span, (int, float)) else 0.0


# What the process holds, until a test changes the settings.

_guard = threading.RLock()
_options: Options | None = None
_room: Cloakroom | None = None
_room_is_ours = False


def options() -> Options:
    """What `settings.CLOAKROOM` says; `ImproperlyConfigured` where that is nonsense."""
    global _options
    if _options is None:
        for problem in problems():
            raise ImproperlyConfigured(f"{problem.text} {problem.hint}")
        given = settings.CLOAKROOM
        _options = Options(
            policy=given.get("policy", "replace"),
            keep_count=given.get("keep_count", 0) if given.get("policy") == "keep_n" else 0,
            state=StateSettings(
                on_conflict=given.get("on_conflict", "merge"),
                on_ended="raise",
                idle=_seconds(given.get("idle", settings.SESSION_COOKIE_AGE)),
                absolute=_seconds(given.get("absolute", settings.SESSION_COOKIE_AGE)),
                codec=import_string(settings.SESSION_SERIALIZER)(),
                migrate_from=_old(given),
                # Django's own: no request is to fail for them.
                last_wins_keys=frozenset({"_session_expiry", "_messages", CSRF_SESSION_KEY}),
            ),
        )
    return _options


def _old(given: dict[str, Any]) -> EngineSessions | None:
    path = given.get("migrate_from")
    if path is None:
        return None
    return EngineSessions(
        path,
        given.get("migrate_cookie", "sessionid"),
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        until=given.get("migrate_until"),
    )


def room() -> Cloakroom:
    """The room of this process, opened with the first call. A forked worker goes on with it."""
    global _room, _room_is_ours
    if _room is None:
        with _guard:
            if _room is None:
                options()
                given = settings.CLOAKROOM
                made: Cloakroom | str | Callable[[], Cloakroom] | None = given.get("room")
                if isinstance(made, str):
                    made = cast("Cloakroom | Callable[[], Cloakroom]", import_string(made))
                if made is None:
                    _room = Cloakroom.open(
                        given["url"], **{key: given[key] for key in _OPEN if key in given}
                    )
                    _room_is_ours = True
                else:
                    _room = made if isinstance(made, Cloakroom) else made()
                    _room_is_ours = False
    return _room


def _forget(*, setting: str, **_: object) -> None:
    """Tests override settings."""
    global _options, _room
    if setting in ("CLOAKROOM", "SESSION_COOKIE_AGE", "SESSION_SERIALIZER"):
        with _guard:
            _options = None
            if setting == "CLOAKROOM":
                if _room is not None and _room_is_ours:
                    _room.close()
                _room = None


setting_changed.connect(_forget, dispatch_uid="cloakroom.options")
