# SPDX-License-Identifier: Apache-2.0
"""What `manage.py check` says about sessions in a cloakroom. Each id is named in doc/python-django.md."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from ._options import Problem, problems

__all__ = ["check_cloakroom"]

_OURS = "cloakroom.django.middleware.SessionMiddleware"
_DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


def check_cloakroom(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """All of it, where SESSION_ENGINE is ours; else only that it is not."""
    if settings.SESSION_ENGINE != "cloakroom.django":
        found: Iterable[Problem] = [
            Problem(
                "cloakroom.W010", f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}: cloakroom.django is idle.",
                'Write SESSION_ENGINE = "cloakroom.django", or take it out of INSTALLED_APPS.',
            )
        ]
    else:
        found = [*problems(), *_middleware_problems(), *_worker_problems(), *_cookie_problems()]
    return [
        (Error if ".E" in problem.id else Warning)(problem.text, hint=problem.hint, id=problem.id)
        for problem in found
    ]


def _middleware_problems() -> Iterator[Problem]:
    from .middleware import SessionMiddleware

    if any(_is_a(path, SessionMiddleware) for path in settings.MIDDLEWARE):
        return
    if _DJANGOS in settings.MIDDLEWARE:
        yield Problem(
            "cloakroom.E009",
            "With Django's SessionMiddleware, sessions that cannot be reached are 500, and who changes the"
            " own password is logged out.",
            f"In MIDDLEWARE, write {_OURS!r} where {_DJANGOS!r} is.",
        )
    else:
        yield Problem(
            "cloakroom.E009", "There is no session middleware.",
            f"Put {_OURS!r} into MIDDLEWARE, before 'django.contrib.auth.middleware.AuthenticationMiddleware'.",
        )


def _is_a(path: str, kind: type) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, kind)


def _worker_problems() -> Iterator[Problem]:
    given = getattr(settings, "CLOAKROOM", None)
    if not isinstance(given, dict) or given.get("room") is not None:
        return
    url = str(given.get("url"))
    if given.get("mode") != "direct" and url != "memory:":
        return
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if workers.isdecimal() and int(workers) > 1:
        yield Problem(
            "cloakroom.E010",
            f"WEB_CONCURRENCY is {workers}, and the sessions of CLOAKROOM['url'], {url!r}, would be each"
            " worker's own: users would be logged out at random, and log-out would hold in one worker.",
            "Leave \"mode\" out and name a store that workers share, as \"sqlite:////var/lib/app/sessions.db\";"
            " or run one worker.",
        )


def _cookie_problems() -> Iterator[Problem]:
    name = settings.SESSION_COOKIE_NAME
    prefix = name.lower()
    is_prefixed = prefix.startswith(("__host-", "__secure-"))
    secure, same_site = settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_SAMESITE
    if is_prefixed and not secure:
        yield Problem(
            "cloakroom.E011", f"Browsers drop a cookie {name!r} that is not Secure: nobody could log in.",
            'Write SESSION_COOKIE_SECURE = True, or for http in development SESSION_COOKIE_NAME = "cloakroom".',
        )
    elif prefix.startswith("__host-") and (settings.SESSION_COOKIE_DOMAIN or settings.SESSION_COOKIE_PATH != "/"):
        yield Problem(
            "cloakroom.E011", f"Browsers drop a cookie {name!r} with a domain or a path: nobody could log in.",
            'Leave SESSION_COOKIE_DOMAIN and SESSION_COOKIE_PATH out, or write SESSION_COOKIE_NAME ='
            ' "__Secure-cloakroom".',
        )
    elif same_site in ("None", "none") and not secure:
        yield Problem(
            "cloakroom.E011", "Browsers drop a cookie with SameSite=None that is not Secure.",
            'Write SESSION_COOKIE_SAMESITE = "Lax".',
        )
    given = getattr(settings, "CLOAKROOM", None)
    if isinstance(given, dict) and given.get("migrate_from") and given.get("migrate_cookie", "sessionid") == name:
        yield Problem(
            "cloakroom.W016", f"The cookie {name!r} takes the place of the old one: there will be no way back.",
            'Write SESSION_COOKIE_NAME = "__Host-cloakroom", and leave CLOAKROOM["migrate_cookie"] as it is.',
        )
    if not settings.SESSION_COOKIE_HTTPONLY:
        yield Problem(
            "cloakroom.W012", "SESSION_COOKIE_HTTPONLY is False: scripts in a page can read the token.",
            "Leave it out.",
        )
    if not same_site or same_site in ("None", "none"):
        yield Problem(
            "cloakroom.W013", "SESSION_COOKIE_SAMESITE is off: other sites' forms are sent with the session.",
            'Leave it out, or write "Lax" or "Strict".',
        )
    if settings.DEBUG:
        return
    if not secure and not is_prefixed:
        yield Problem(
            "cloakroom.W014", "SESSION_COOKIE_SECURE is False: the token goes over http, too.",
            'Write SESSION_COOKIE_SECURE = True and SESSION_COOKIE_NAME = "__Host-cloakroom".',
        )
    elif secure and not is_prefixed:
        yield Problem(
            "cloakroom.W015", f"The cookie's name {name!r} lets other hosts of the domain set it.",
            'Write SESSION_COOKIE_NAME = "__Host-cloakroom"; CLOAKROOM["migrate_cookie"] then names the cookie'
            " of the old sessions.",
        )
