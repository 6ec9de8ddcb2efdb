# SPDX-License-Identifier: Apache-2.0
"""The site that test_django.py asks: settings, views and addresses. As a WSGI application it is
configured by SITE_HOME and SITE_CLOAKROOM (JSON)."""

import json
import logging
import os
import pathlib
import sys

import django
from django.conf import settings
from django.db.backends.signals import connection_created

OURS = "cloakroom.django.middleware.SessionMiddleware"
DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


def configure(home, cloakroom, **more):
    settings.configure(**{
        "ALLOWED_HOSTS": ["*"],
        "CLOAKROOM": cloakroom,
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{home}/site.db",
                                  "OPTIONS": {"timeout": 20}}},
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
                           "cloakroom.django"],
        "LOGGING_CONFIG": None,
        "MIDDLEWARE": [OURS, "django.contrib.auth.middleware.AuthenticationMiddleware",
                       "django_site.Between"],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "ROOT_URLCONF": "django_site",
        "SECRET_KEY": "of this test " * 5,
        "SESSION_COOKIE_SECURE": False,
        "SESSION_ENGINE": "cloakroom.django",
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        "USE_TZ": True,
        **more,
    })
    django.setup()
    logging.getLogger("django").addHandler(logging.NullHandler())
    logging.getLogger("django").propagate = False
    connection_created.connect(hurry)


def hurry(connection, **_):
    """The users' database is none of what is tested."""
    connection.cursor().execute("PRAGMA synchronous = OFF")


if "SITE_HOME" in os.environ:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    configure(os.environ["SITE_HOME"], json.loads(os.environ["SITE_CLOAKROOM"]))

from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.sessions.backends.base import SessionBase
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.cache import cache_control


class Pickles:
    """A serializer that must not be."""

    def dumps(self, data):
        return b"\x80\x04}."


class SessionStore(SessionBase):
    """An engine of before, whose disk is gone."""

    def load(self):
        raise OSError("the disk is gone")


MOMENT = []  # what is to happen in the middle of a request


def happen():
    while MOMENT:
        MOMENT.pop()()


def Between(get_response):
    """A middleware that looks at the user itself, when it is told to."""

    def middleware(request):
        if "between" in request.GET:
            request.user.is_authenticated  # noqa: B018
        return get_response(request)

    return middleware


def put(request):
    request.session.get("x")
    happen()
    for key, value in request.GET.items():
        request.session[key] = value
    return HttpResponse("put")


@cache_control(public=True, max_age=60)
def public(request):
    return put(request)


def deep(request):
    request.session.setdefault("deep", []).append(len(request.session["deep"]))
    request.session.modified = True
    return HttpResponse("deep")


def show(request):
    keys = {key: value for key, value in request.session.items() if not key.startswith("_auth")}
    return JsonResponse({"user": request.user.get_username(), "keys": keys, "pid": os.getpid()})


def plain(request):
    return HttpResponse("plain")


def page(request):
    template = engines["django"].from_string("{{ request.user.username }}")
    return TemplateResponse(request, template, {"request": request})


def sign_in(request):
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return HttpResponse("no", status=403)
    if "expiry" in request.POST:
        request.session.set_expiry(int(request.POST["expiry"]))
    login(request, user)
    happen()
    return HttpResponse("signed in")


def sign_out(request):
    logout(request)
    return HttpResponse("signed out")


def password(request):
    """As PasswordChangeView does it."""
    request.user.set_password(request.POST["new"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def forget(request):
    request.session.clear()
    return HttpResponse("cleared")


def remember(request):
    request.session.set_expiry(int(request.GET["s"]))
    return HttpResponse("set")


def fail(request):
    return HttpResponse("failed", status=500)


def greet(request):
    """A page for errors that has the user's name at its top, as other pages have."""
    return HttpResponse(f"failed, {request.user.get_username()}", status=500)


async def awaited(request):
    session = request.session
    count = await session.aget("count", 0)
    await session.aset("count", count + 1)
    return JsonResponse({"count": await session.aget("count"), "keys": list(await session.akeys())})


urlpatterns = [path(f"{view.__name__}/", view) for view in (
    awaited, deep, forget, page, password, plain, public, put, remember, show, sign_in, sign_out)]
application = get_wsgi_application() if "SITE_HOME" in os.environ else None
