# SPDX-License-Identifier: Apache-2.0
"""Django's session middleware, for a store that can be out of reach.

It stands where `django.contrib.sessions.middleware.SessionMiddleware` stood. What differs:

- Sessions that cannot be asked for are 503 with Retry-After, wherever in the request that showed; of two
  requests that changed one key, each its own way, the later one is 409.
- Under ASGI saving neither blocks the loop nor needs a thread.
- A cookie is taken away only by the request that logs out. The dead cookie of a request that came late
  must not take away the one that a log-in has just set.
- Old sessions are found under the name that their cookie had (`CLOAKROOM["migrate_from"]`).
- One's own session is known while one's password is changed, and stays.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import http_date

from .._refusal import refusal, retry_after
from ..errors import Conflict, Later
from . import SessionStore
from ._endings import connect, of_this_request
from ._options import options, room

__all__ = ["SessionMiddleware"]


class SessionMiddleware(DjangoSessionMiddleware):
    """See this module. Works in front of views of both kinds, under WSGI and ASGI."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        connect()
        # What is unsafe is refused before anything is served; an agent may come later.
        with contextlib.suppress(Later):
            room()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if iscoroutinefunction(self.get_response):
            return self.__acall__(request)
        self.process_request(request)
        get_response = cast(Callable[[HttpRequest], HttpResponseBase], self.get_response)
        before = of_this_request.set(_session(request))
        try:
            try:
                response = get_response(request)
            except (Later, Conflict) as error:  # of the page for errors, which looks at the session, too
                response = _refuse(error)
            return self.process_response(request, response)
        finally:
            of_this_request.reset(before)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        get_response = cast(Callable[[HttpRequest], Awaitable[HttpResponseBase]], self.get_response)
        session = _session(request)
        before = of_this_request.set(session)
        try:
            try:
                if session is not None and session.may_move:
                    await session.apreload()
            except Later as error:
                return _refuse(error)
            try:
                response = await get_response(request)
            except (Later, Conflict) as error:
                response = _refuse(error)
            session = _session(request)
            if session is None:
                return response
            if _is_to_save(session, response):
                try:
                    await session.apreload()
                    if not session.is_empty():
                        await session.asave()
                except UpdateError:
                    raise _interrupted() from None
                except (Later, Conflict) as error:
                    response = _refuse(error)
            return _finish(request, session, response)
        finally:
            of_this_request.reset(before)

    def process_request(self, request: HttpRequest) -> None:
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        old = options().state.migrate_from
        if not key and old is not None:
            key = request.COOKIES.get(old.cookie)
        session = SessionStore(key)
        session.attach(request)
        request.session = session

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # type: ignore[override]  # stubs: HttpResponse, but it may be streaming
        session = _session(request)
        if session is None:
            return response
        if _is_to_save(session, response):
            try:
                session.preload()
                if not session.is_empty():
                    session.save()
            except UpdateError:
                raise _interrupted() from None
            except (Later, Conflict) as error:
                response = _refuse(error)
        return _finish(request, session, response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Of a view."""
        return _refuse(exception) if isinstance(exception, (Later, Conflict)) else None


def _session(request: HttpRequest) -> SessionStore | None:
    session = getattr(request, "session", None)
    return session if isinstance(session, SessionStore) else None


def _is_to_save(session: SessionStore, response: HttpResponseBase) -> bool:
    return response.status_code < 500 and (session.modified or settings.SESSION_SAVE_EVERY_REQUEST)


def _finish(request: HttpRequest, session: SessionStore, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code == 500 and session.failure is not None:
        # Raised where no middleware sees it, and made a 500 of on its way here.
        response = _refuse(session.failure)
    issues = _issues(session, response)
    if session.flushed:
        _take_away(request, response, own=not issues)
    if issues:
        _hand_out(session, response)
        # A cache, also Django's, would hand the token to the next one whose cookies are the same.
        patch_cache_control(response, private=True)
    if session.accessed or issues or session.flushed:
        patch_vary_headers(response, ("Cookie",))
    return response


def _issues(session: SessionStore, response: HttpResponseBase) -> bool:
    """Whether the response has the session's cookie."""
    if session.session_key is None or session.is_empty():
        return False
    if response.status_code >= 500:
        return session.cycled  # the token that the client has is over
    return session.modified or settings.SESSION_SAVE_EVERY_REQUEST


def _hand_out(session: SessionStore, response: HttpResponseBase) -> None:
    max_age = expires = None
    if not session.get_expire_at_browser_close():
        max_age = math.ceil(session.get_expiry_age())
        expires = http_date(time.time() + max_age)
    response.set_cookie(
        settings.SESSION_COOKIE_NAME,
        session.session_key or "",
        max_age=max_age,
        expires=expires,
        domain=settings.SESSION_COOKIE_DOMAIN,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE or False,
        httponly=settings.SESSION_COOKIE_HTTPONLY or False,
        samesite=settings.SESSION_COOKIE_SAMESITE,
    )


def _take_away(request: HttpRequest, response: HttpResponseBase, *, own: bool) -> None:
    old = options().state.migrate_from
    names = [settings.SESSION_COOKIE_NAME] if own else []
    if old is not None and old.cookie != settings.SESSION_COOKIE_NAME:
        names.append(old.cookie)
    for name in names:
        if name in request.COOKIES:
            response.delete_cookie(
                name,
                path=settings.SESSION_COOKIE_PATH,
                domain=settings.SESSION_COOKIE_DOMAIN,
                samesite=settings.SESSION_COOKIE_SAMESITE,
            )


def _interrupted() -> SessionInterrupted:
    return SessionInterrupted(
        "The request's session was ended before the request completed. The user may have logged out in a"
        " concurrent request, for example."
    )


def _refuse(error: Later | Conflict) -> HttpResponse:
    status, text = refusal(error)
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-store"
    if isinstance(error, Later):
        response["Retry-After"] = retry_after(error)
    return response
