#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
# tap: timeout=120
"""Django's sessions in a cloakroom: what SessionBase promises, and what its engines keep getting wrong.
Most of it against the fake, whose clock is moved; what crosses processes, under gunicorn with two
workers over a real agent. The code of doc/python-django.md is run here, too."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.parse
from unittest import mock
from datetime import UTC, datetime, timedelta

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import scratch
import tap
from cloakroom.testing import FakeCloakroom
from desk import Desk

import django_site

HOME = scratch.folder("django")
ROOM = FakeCloakroom()
django_site.configure(HOME, {"room": ROOM, "policy": "replace"})

from cloakroom import DataTooLarge, InvalidArgument
from cloakroom.django import SessionStore
from cloakroom.django.checks import check_cloakroom
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import transaction
from django.test import AsyncClient, Client, override_settings

call_command("migrate", verbosity=0)

DB = {"SESSION_ENGINE": "django.contrib.sessions.backends.db",
      "MIDDLEWARE": [django_site.DJANGOS, *settings.MIDDLEWARE[1:]]}
FORGED = "crs1_" + "A" * 80
NAME = "sessionid"


def chosen(**more):
    return override_settings(CLOAKROOM={"room": ROOM, "policy": "replace", **more})


class Browser(Client):
    def __init__(self, **more):
        super().__init__(raise_request_exception=False, **more)

    @property
    def token(self):
        return self.cookies[NAME].value if NAME in self.cookies else None

    @token.setter
    def token(self, token):
        self.cookies[NAME] = token

    @property
    def user(self):
        """Who the site says this is; "" for nobody."""
        return self.get("/show/").json()["user"]

    @property
    def keys(self):
        return self.get("/show/").json()["keys"]

    def sign_in(self, name="alice", password="old", **more):
        answer = self.post("/sign_in/", {"name": name, "password": password, **more})
        assert answer.status_code == 200, (answer.status_code, answer.content)
        return self


def person(name="alice", password="old"):
    User.objects.filter(username=name).delete()
    return User.objects.create_user(name, password=password)


def refused(what, kind, *words):
    try:
        what()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"no {kind.__name__}")


# What is stored, and for whom.


def nothing_is_stored_for_who_puts_nothing_in():
    browser, before = Browser(), len(ROOM._fake._sessions)
    for path in ("/show/", "/plain/", "/page/", "/forget/"):
        answer = browser.get(path)
        assert answer.status_code == 200 and not answer.cookies, (path, answer.cookies)
    assert len(ROOM._fake._sessions) == before
    assert "Cookie" not in browser.get("/plain/").headers.get("Vary", "")
    assert "Cookie" in browser.get("/show/").headers["Vary"]


def what_is_put_in_is_there_again_and_deep_changes_too():
    browser = Browser()
    browser.get("/put/?a=1&b=%C3%BC")
    browser.get("/deep/")
    browser.get("/deep/")
    assert browser.keys == {"a": "1", "b": "ü", "deep": [0, 1]}
    cookie = browser.cookies[NAME]
    assert cookie.value.startswith("crs1_") and cookie["httponly"] and cookie["samesite"] == "Lax"
    assert int(cookie["max-age"]) == settings.SESSION_COOKIE_AGE


def no_cache_keeps_a_token_for_others():
    browser = Browser()
    answer = browser.get("/public/?a=1")
    assert answer.cookies and answer.headers["Cache-Control"] == "max-age=60, private", answer.headers
    browser.get("/put/?a=1")
    assert "Cache-Control" not in browser.get("/show/").headers, "the application's own say"


def an_unknown_key_is_never_adopted():
    for key in (FORGED, "x" * 32, "short", "", "\x00" * 40, "ü" * 85):
        browser = Browser()
        browser.token = key
        browser.get("/put/?a=1")
        assert browser.token.startswith("crs1_") and browser.token != key
        assert browser.keys == {"a": "1"}
    store = SessionStore(FORGED)
    store.clear()
    refused(store.save, UpdateError)
    assert not SessionStore().exists(FORGED)


def a_save_never_brings_back_a_session_that_ended():
    browser = Browser()
    browser.get("/put/?a=1")
    token = browser.token
    django_site.MOMENT.append(lambda: ROOM.end(ROOM.validate(token)))
    answer = browser.get("/put/?a=2")
    assert answer.status_code == 400, answer.status_code
    assert ROOM.validate(token) is None
    assert browser.keys == {}
    store = SessionStore(token)
    store["a"] = 1
    store.save()
    assert store.session_key != token and ROOM.validate(token) is None


def two_requests_that_change_different_keys_lose_neither():
    browser = Browser()
    browser.get("/put/?a=1&b=1&c=1")
    django_site.MOMENT.append(lambda: browser.get("/put/?b=2&new=1"))
    assert browser.get("/put/?a=2").status_code == 200
    assert browser.keys == {"a": "2", "b": "2", "c": "1", "new": "1"}


def two_requests_that_change_one_key_are_told():
    browser = Browser()
    for on_conflict, first, status, then in (("merge", "a=2", 409, "2"), ("raise", "b=2", 409, "1"),
                                             ("last_wins", "a=2", 200, "3")):
        with chosen(on_conflict=on_conflict):
            browser.get("/put/?a=1")
            django_site.MOMENT.append(lambda path=f"/put/?{first}": browser.get(path))
            answer = browser.get("/put/?a=3")
            assert answer.status_code == status, (on_conflict, answer.status_code)
            assert browser.keys["a"] == then, (on_conflict, browser.keys)


def what_django_keeps_for_itself_is_no_conflict():
    browser = Browser()
    browser.get("/put/?_messages=1")
    django_site.MOMENT.append(lambda: browser.get("/put/?_messages=2&b=1"))
    assert browser.get("/put/?_messages=3").status_code == 200
    assert browser.keys["_messages"] == "3" and browser.keys["b"] == "1"


def saving_again_what_is_the_same_writes_nothing_and_keeps_the_data():
    browser = Browser()
    browser.get("/put/?a=1")
    version = ROOM.validate(browser.token).version
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        answer = browser.get("/plain/")
        assert NAME in answer.cookies, "the cookie is not made younger"
        stale = Browser()
        stale.token = FORGED
        assert stale.get("/plain/").status_code == 200
    assert ROOM.validate(browser.token).version == version
    assert browser.keys == {"a": "1"}


# Ends.


def a_session_ends_to_the_millisecond():
    with chosen(idle=0.25, absolute=0.6):
        browser = Browser()
        browser.get("/put/?a=1")
        for _ in range(2):
            ROOM.advance(0.249)
            assert browser.keys == {"a": "1"}
        ROOM.advance(0.101)
        assert browser.keys == {"a": "1"}
        ROOM.advance(0.001)
        assert browser.keys == {}
        browser.get("/put/?a=1")
        ROOM.advance(0.25)
        assert browser.keys == {}


def set_expiry_is_the_idle_end_or_the_absolute_one():
    browser = Browser()
    browser.get("/put/?a=1")
    browser.get("/remember/?s=300")
    assert browser.keys["a"] == "1" and int(browser.cookies[NAME]["max-age"]) == 300
    ROOM.advance(299)
    token = browser.token
    browser.get("/remember/?s=300")
    assert browser.token == token, "the same span needs no other session"
    ROOM.advance(300)
    assert browser.keys == {}
    for value in (ROOM.now + timedelta(hours=1), timedelta(hours=1)):
        store = SessionStore()
        store["a"] = 1
        store.set_expiry(value)
        store.save()
        store = SessionStore(store.session_key)
        assert store["a"] == 1 and store.get_expiry_date() > datetime.now(UTC)
        assert store.row.ends_at - ROOM.now == timedelta(hours=1)
    store.set_expiry(None)
    store.save()
    assert store.row.ends_at - ROOM.now == timedelta(seconds=settings.SESSION_COOKIE_AGE)
    store.set_expiry(0)
    assert store.get_expire_at_browser_close()
    assert store.get_expiry_age() == settings.SESSION_COOKIE_AGE


def a_longer_end_can_be_asked_for_at_log_in():
    person()
    month = 30 * 24 * 3600
    browser = Browser().sign_in(expiry=month)
    assert int(browser.cookies[NAME]["max-age"]) == month
    ROOM.advance(month - 1)
    assert browser.user == "alice"
    browser = Browser().sign_in(expiry=0)
    assert not browser.cookies[NAME]["max-age"] and browser.user == "alice"


def clearsessions_is_there():
    call_command("clearsessions")


# Log-in and what ends sessions.


def a_log_in_has_ended_the_earlier_sessions_when_it_returns():
    user = person()
    with chosen(policy="keep"):
        thief, other = Browser().sign_in(), Browser().sign_in()
    browser, seen = Browser(), []
    browser.get("/put/?cart=7")
    visitor = browser.token
    django_site.MOMENT.append(lambda: seen.extend([thief.user, other.user]))
    browser.sign_in()
    assert seen == ["", ""], f"{seen} while the view still ran"
    assert browser.user == "alice" and browser.keys == {"cart": "7"}
    assert browser.token != visitor and ROOM.validate(visitor) is None
    assert [row.user for row in ROOM.sessions_of(str(user.pk))] == [str(user.pk)]
    row = next(iter(ROOM.sessions_of(str(user.pk))))
    assert row.address == "127.0.0.1"


def the_policy_may_keep_them_or_some():
    user = person()
    with chosen(policy="keep"):
        first, second = Browser().sign_in(), Browser().sign_in()
    assert first.user == second.user == "alice"
    with chosen(policy="keep_n", keep_count=2):
        ROOM.advance(1)
        third = Browser().sign_in()
    assert third.user == "alice" and len(list(ROOM.sessions_of(str(user.pk)))) == 2


def who_logs_in_again_gets_another_token_and_keeps_what_is_in_it():
    person()
    browser = Browser().sign_in()
    browser.get("/put/?a=1")
    token = browser.token
    browser.sign_in()
    assert browser.token != token and ROOM.validate(token) is None
    assert browser.user == "alice" and browser.keys == {"a": "1"}


def another_user_in_the_same_browser_gets_nothing_of_the_first():
    person(), person("bob")
    browser = Browser().sign_in()
    browser.get("/put/?a=1")
    token = browser.token
    browser.sign_in("bob")
    assert browser.user == "bob" and browser.keys == {} and ROOM.validate(token) is None


def a_log_in_that_fails_leaves_nobody_logged_in():
    person()
    browser = Browser()
    browser.get("/put/?a=1")
    with ROOM.pending():
        answer = browser.post("/sign_in/", {"name": "alice", "password": "old"})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert browser.user == ""
    # Django's keys alone, without a log-in behind them, are no log-in either.
    with chosen(policy="keep"):
        known = Browser().sign_in()
    stolen = dict(SessionStore(known.token).items())
    row = ROOM.create(json=stolen)
    browser.token = row.signed_token
    assert browser.user == ""


def log_out_ends_it_and_takes_the_cookie_away():
    person()
    browser = Browser().sign_in()
    token = browser.token
    answer = browser.get("/sign_out/")
    assert answer.cookies[NAME]["max-age"] == 0
    assert ROOM.validate(token) is None
    browser.token = token
    assert browser.user == ""
    assert not browser.get("/show/").cookies, "a request that came late takes away a newer cookie"


def taking_the_user_out_by_hand_is_a_log_out():
    user = person()
    browser = Browser().sign_in()
    token = browser.token
    browser.get("/forget/")
    assert ROOM.validate(token) is None and browser.user == ""
    assert not list(ROOM.sessions_of(str(user.pk)))


def cycle_key_keeps_the_data_under_another_token():
    store = SessionStore()
    store["a"] = 1
    store.save()
    before = store.session_key
    name = store.session_id
    store.cycle_key()
    assert store.session_key != before and ROOM.validate(before) is None
    assert store.session_id == name and SessionStore(store.session_key)["a"] == 1
    ROOM.end(store.row)
    refused(store.cycle_key, SessionInterrupted)


def a_new_password_ends_the_other_sessions():
    user = person()
    with chosen(policy="keep"):
        mine, thief = Browser().sign_in(), Browser().sign_in()
        token = thief.token
        assert mine.post("/password/", {"new": "new"}).status_code == 200
        assert mine.user == "alice" and thief.user == "" and ROOM.validate(token) is None
        # As an administrator does it, or `manage.py changepassword`.
        user.refresh_from_db()
        user.set_password("third")
        token = mine.token
        user.save()
        assert ROOM.validate(token) is None
        # Of an object that was not read.
        token = Browser().sign_in(password="third").token
        User(pk=user.pk, username="alice", password="md5$c$d").save()
        assert ROOM.validate(token) is None
        user.save()
        # Without set_password.
        token = Browser().sign_in(password="third").token
        user = User.objects.get(pk=user.pk)
        user.password = "md5$a$b"
        user.save(update_fields=["password"])
        assert ROOM.validate(token) is None


def what_is_no_new_password_ends_nothing():
    user = person()
    browser = Browser().sign_in()
    user = User.objects.get(pk=user.pk)
    user.first_name = "Al"
    user.save()
    user.save(update_fields=["last_login"])
    User.objects.defer("password").get(pk=user.pk).save()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        user.set_password("other")
        user.save()
        1 / 0  # noqa: B018
    assert browser.user == "alice"


def who_is_switched_off_or_deleted_has_no_sessions():
    for end in ("switch off", "delete"):
        user = person()
        browser = Browser().sign_in()
        assert browser.user == "alice"
        if end == "delete":
            user.delete()
        else:
            user.is_active = False
            user.save()
        assert ROOM.validate(browser.token) is None, end
    User.objects.create_user("never").delete()


def django_s_test_client_logs_in():
    user = person()
    client = Client()
    client.force_login(user)
    assert client.get("/show/").json()["user"] == "alice"
    session = client.session
    session["a"] = 1
    session.save()
    assert client.get("/show/").json()["keys"] == {"a": 1}
    client.logout()
    assert client.get("/show/").json()["user"] == ""


# Out of reach.


def who_cannot_be_looked_up_gets_503_and_is_not_logged_out():
    person()
    browser = Browser().sign_in()
    with ROOM.unavailable():
        for path, handler in ((path, handler) for path in ("/show/", "/page/", "/plain/?between", "/put/?a=1", "/sign_out/")
                              for handler in (django_site.fail, django_site.greet)):
            with mock.patch.object(django_site, "handler500", handler, create=True):
                answer = browser.get(path)
            assert answer.status_code == 503 and answer.headers["Retry-After"] == "1", (path, handler)
            assert not answer.cookies, path
        assert browser.get("/plain/").status_code == 200
    assert browser.user == "alice"
    outage = ROOM.unavailable()
    django_site.MOMENT.append(outage.__enter__)
    answer = browser.get("/put/?a=1")
    outage.__exit__(None, None, None)
    assert answer.status_code == 503, "of a save"
    assert browser.user == "alice" and browser.keys == {}


def the_engine_under_django_s_middleware_answers_500_and_not_as_nobody():
    person()
    browser = Browser().sign_in()
    with override_settings(MIDDLEWARE=[django_site.DJANGOS, *settings.MIDDLEWARE[1:]]):
        plain = Browser()
        plain.token = browser.token
        assert plain.user == "alice"
        with ROOM.unavailable():
            assert plain.get("/show/").status_code == 500
        plain.get("/put/?a=1")
        assert plain.keys == {"a": "1"}
        plain.get("/sign_out/")
        assert plain.user == ""


# Awaited.


def every_name_can_be_awaited():
    async def use():
        store = SessionStore()
        await store.aset("a", 1)
        await store.aupdate({"b": 2, "c": 3})
        assert await store.apop("c") == 3 and await store.apop("c", None) is None
        assert await store.asetdefault("d", 4) == 4
        await store.aset_expiry(500)
        await store.aset_test_cookie()
        await store.asave()
        key = store.session_key
        store = SessionStore(key)
        assert await store.aexists(key) and await store.aget("a") == 1
        assert await store.atest_cookie_worked()
        await store.adelete_test_cookie()
        assert set(await store.akeys()) == {"a", "b", "d", "_session_expiry"}
        assert 4 in await store.avalues() and ("b", 2) in await store.aitems() and await store.ahas_key("b")
        assert await store.aget_expiry_age() == 500 and await store.aget_expiry_date()
        assert not await store.aget_expire_at_browser_close()
        await store.acycle_key()
        assert ROOM.validate(key) is None
        key = store.session_key
        await store.aflush()
        assert store.session_key is None and ROOM.validate(key) is None
        await store.acreate()
        await store.adelete()
        await SessionStore.aclear_expired()

    asyncio.run(use())


def under_asgi_nothing_differs():
    async def use():
        client = AsyncClient(raise_request_exception=False)
        for count in (1, 2, 3):
            answer = await client.get("/awaited/")
            assert json.loads(answer.content) == {"count": count, "keys": ["count"]}, answer.content
        answer = await client.get("/show/")
        assert json.loads(answer.content)["keys"] == {"count": 3}
        token = client.cookies[NAME].value
        django_site.MOMENT.append(lambda: ROOM.end(ROOM.validate(token)))
        assert (await client.get("/put/?a=1")).status_code == 400
        await client.get("/put/?a=1")
        with ROOM.unavailable():
            assert (await client.get("/awaited/")).status_code == 503
            assert (await client.get("/put/?a=1")).status_code == 503

    asyncio.run(use())


# What cannot be.


def what_no_json_can_say_is_refused_by_name():
    store = SessionStore()
    store["a"] = {1, 2}
    refused(store.save, InvalidArgument, "set", "not JSON serializable")
    store["a"] = "x" * 70000
    refused(store.save, DataTooLarge)
    assert store.session_key is None


def the_checks_name_what_is_wrong_and_how_to_mend_it():
    def ids(**more):
        with override_settings(**more):
            found = check_cloakroom()
        assert all(one.hint for one in found)
        return {one.id.removeprefix("cloakroom.") for one in found}

    good = {"url": f"sqlite://{HOME}/sessions.db"}
    secure = {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_NAME": "__Host-cloakroom"}
    assert ids(CLOAKROOM=good, **secure) == set()
    assert ids(CLOAKROOM=good, DEBUG=True) == set()
    table = [
        ({"CLOAKROOM": None}, "E001"),
        ({"CLOAKROOM": {}}, "E001"),
        ({"CLOAKROOM": {"url": "mysql://h/d"}}, "E002"),
        ({"CLOAKROOM": {"url": "sessions"}}, "E002"),
        ({"CLOAKROOM": {"url": "sqlite:///not/there/s.db"}}, "E002"),
        ({"CLOAKROOM": {"url": 5}}, "E002"),
        ({"CLOAKROOM": {"room": 5}}, "E002"),
        ({"CLOAKROOM": {**good, "polici": "keep"}}, "E003"),
        ({"CLOAKROOM": {**good, "policy": "all"}}, "E004"),
        ({"CLOAKROOM": {**good, "policy": "keep_n"}}, "E004"),
        ({"CLOAKROOM": {**good, "on_conflict": "last"}}, "E005"),
        ({"CLOAKROOM": {**good, "idle": 0}}, "E006"),
        ({"SESSION_COOKIE_AGE": 10 * 366 * 24 * 3600}, "E006"),
        ({"SESSION_SERIALIZER": "pickle"}, "E007"),
        ({"SESSION_SERIALIZER": "django_site.Pickles"}, "E007"),
        ({"CLOAKROOM": {**good, "migrate_from": "django.contrib.sessions.backends.signed_cookies"}}, "E008"),
        ({"CLOAKROOM": {**good, "migrate_from": "no.such.engine"}}, "E008"),
        ({"MIDDLEWARE": settings.MIDDLEWARE[1:]}, "E009"),
        ({"MIDDLEWARE": [django_site.DJANGOS]}, "E009"),
        ({"SESSION_COOKIE_SECURE": False}, "E011"),
        ({"SESSION_COOKIE_PATH": "/app/"}, "E011"),
        ({"SESSION_COOKIE_HTTPONLY": False}, "W012"),
        ({"SESSION_COOKIE_SAMESITE": None}, "W013"),
        ({"SESSION_COOKIE_SECURE": False, "SESSION_COOKIE_NAME": NAME}, "W014"),
        ({"SESSION_COOKIE_NAME": NAME}, "W015"),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, "W010"),
        ({"CLOAKROOM": {**good, "migrate_from": DB["SESSION_ENGINE"], "migrate_cookie": "__Host-cloakroom"}},
         "W016"),
    ]
    for more, wanted in table:
        found = ids(**{"CLOAKROOM": good, **secure, **more})
        assert found == {wanted}, (more, found)
    os.environ["WEB_CONCURRENCY"] = "4"
    try:
        assert ids(CLOAKROOM={"url": "memory:"}, **secure) == {"E010"}
        assert ids(CLOAKROOM={**good, "mode": "direct"}, **secure) == {"E010"}
        assert ids(CLOAKROOM=good, **secure) == set()
    finally:
        del os.environ["WEB_CONCURRENCY"]
    with override_settings(CLOAKROOM={**good, "policy": "all"}):
        refused(Browser().get, (ImproperlyConfigured, TypeError))


# Cut-over.


def old_sessions(*names):
    """Sessions of the engine before, live, by their keys."""
    keys = []
    with override_settings(**DB):
        for name in names:
            old = Browser()
            old.get("/put/?cart=7")
            if name is not None:
                old.sign_in(name)
            keys.append(old.token)
    assert all(len(key) == 32 for key in keys), keys
    return keys


def nobody_is_logged_out_by_the_cut_over():
    person(), person("bob")
    alice, again, bob, visitor, ended = old_sessions("alice", "alice", "bob", None, "alice")
    with override_settings(**DB):
        browser = Browser()
        browser.token = ended
        browser.get("/sign_out/")
    for name in (NAME, "cloakroom"):
        with chosen(migrate_from=DB["SESSION_ENGINE"]), override_settings(SESSION_COOKIE_NAME=name):
            for key, user in ((alice, "alice"), (again, "alice"), (bob, "bob"), (visitor, "")):
                browser = Browser()
                browser.token = key
                answer = browser.get("/show/").json()
                assert answer["user"] == user and answer["keys"] == {"cart": "7"}, (name, answer)
                assert browser.cookies[name].value.startswith("crs1_")
                if name != NAME:
                    assert browser.token == key, "the way back"
                    del browser.cookies[NAME]
                assert browser.user == user
            browser = Browser()
            browser.token = ended
            assert browser.user == "" and browser.keys == {}
    with override_settings(**DB):
        browser = Browser()
        browser.token = alice
        assert browser.user == "alice", "the way back"


def what_has_ended_since_does_not_move_again():
    person()
    moved, unmoved, back = old_sessions("alice", "alice", "alice")
    with chosen(migrate_from=DB["SESSION_ENGINE"]), override_settings(SESSION_COOKIE_NAME="cloakroom"):
        browser = Browser()
        browser.token = back
        assert browser.user == "alice"
        answer = browser.get("/sign_out/")
        assert {name for name, morsel in answer.cookies.items() if morsel["max-age"] == 0} == {NAME, "cloakroom"}
    with override_settings(**DB):
        browser = Browser()
        browser.token = back
        assert browser.user == "", "on the way back"
    with chosen(migrate_from=DB["SESSION_ENGINE"]):
        browser, late = Browser(), Browser()
        browser.token = late.token = moved
        assert browser.user == "alice"
        assert late.user == "alice", "requests of one page arrive at once"
        browser.get("/sign_out/")
        for key in (late.token, moved):
            thief = Browser()
            thief.token = key
            assert thief.user == "", "after the log-out"
        Browser().sign_in()
        thief = Browser()
        thief.token = unmoved
        assert thief.user == "", "a log-in ends the old ones, too"
        person("bob")
        moved, unmoved = old_sessions("bob", "bob")
        user = User.objects.get(username="bob")
        user.is_active = False
        user.save()
        user.is_active = True
        user.save()
        thief.token = unmoved
        assert thief.user == "", "and so does the switch"


def an_old_place_that_cannot_be_read_is_503():
    with chosen(migrate_from="django_site"):
        browser = Browser()
        browser.token = "x" * 32
        answer = browser.get("/show/")
        assert answer.status_code == 503, answer.status_code

        async def use():
            client = AsyncClient(raise_request_exception=False)
            client.cookies[NAME] = "x" * 32
            assert (await client.get("/awaited/")).status_code == 503

        asyncio.run(use())


def the_cut_over_works_under_asgi():
    person()
    (key,) = old_sessions("alice")

    async def use():
        client = AsyncClient(raise_request_exception=False)
        client.cookies[NAME] = key
        with chosen(migrate_from=DB["SESSION_ENGINE"]):
            answer = await client.get("/awaited/")
            assert "cart" in json.loads(answer.content)["keys"], answer.content

    asyncio.run(use())




# Under gunicorn, with two workers and a real agent.


class Said(logging.Handler):
    """All that was logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


SAID = Said()
for _name in ("cloakroom", "django"):
    logging.getLogger(_name).addHandler(SAID)


class Site:
    """The site under gunicorn. Its database is this process's, too."""

    def __init__(self):
        self.desk = Desk()
        self.desk.start()
        self.port = scratch.free_port()
        cloakroom = {"url": f"cloakroom://{self.desk.state}/app.sock", "policy": "keep_n", "keep_count": 2,
                     "migrate_from": DB["SESSION_ENGINE"], "migrate_cookie": "old", "timeout": 1}
        with open(HOME / "gunicorn.log", "wb") as log:
            self.gunicorn = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{self.port}", "--chdir", str(HERE),
                 "--worker-tmp-dir", str(HOME), "django_site:application"],
                env={**os.environ, "SITE_HOME": str(HOME), "SITE_CLOAKROOM": json.dumps(cloakroom)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            scratch.until(lambda: self.ask("/plain/")[0] == 200, "gunicorn answers")
        except BaseException:
            self.close()
            tap.note((HOME / "gunicorn.log").read_text())
            raise

    def ask(self, path, cookies=None, form=None):
        """(status, header fields, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())}
        body = None
        if form is not None:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request("POST" if body is not None else "GET", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except OSError:
            return 0, {}, b""
        finally:
            connection.close()

    def sign_in(self, name="alice", password="old"):
        status, headers, _ = self.ask("/sign_in/", form={"name": name, "password": password})
        assert status == 200, status
        return {NAME: token_in(headers)}

    def users(self, cookies):
        """Who every worker says this is."""
        said = {}
        turns = concurrent.futures.ThreadPoolExecutor(4)

        def ask(_):
            status, _, body = self.ask("/show/", cookies)
            answer = json.loads(body) if status == 200 else {"pid": None, "user": status}
            said.setdefault(answer["pid"], set()).add(answer["user"])

        with turns:
            scratch.until(lambda: list(turns.map(ask, range(4))) and len(said) >= 2, "both workers answer")
        users = set().union(*said.values())
        assert len(users) == 1, said
        return users.pop()

    def close(self):
        scratch.end(self.gunicorn)
        self.desk.stop()


def token_in(headers):
    found = re.search(f"(?:^|, ){NAME}=([^;]+)", ", ".join(headers.get_all("Set-Cookie", [])))
    return found and found[1]


SITE = None


def site():
    global SITE
    if SITE is None:
        SITE = Site()
    return SITE


def what_one_worker_ended_no_worker_accepts():
    person()
    here = site()
    first, second = here.sign_in(), here.sign_in()
    assert here.users(first) == here.users(second) == "alice"
    third = here.sign_in()
    assert here.users(first) == "" and here.users(second) == here.users(third) == "alice"
    status, headers, _ = here.ask("/password/", third, {"new": "new"})
    assert status == 200
    third = {NAME: token_in(headers)}
    assert here.users(second) == "" and here.users(third) == "alice"
    assert here.ask("/sign_out/", third)[0] == 200
    assert here.users(third) == ""


def the_requests_of_one_page_move_their_old_session_at_once():
    person()
    here = site()
    (key,) = old_sessions("alice")
    old = {"old": key}
    with concurrent.futures.ThreadPoolExecutor(6) as turns:
        answers = list(turns.map(lambda _: here.ask("/show/", old), range(6)))
    assert [(status, json.loads(body)["user"]) for status, _, body in answers] == [(200, "alice")] * 6, answers
    tokens = [token_in(headers) for _, headers, _ in answers]
    assert all(tokens), tokens
    assert here.users({NAME: tokens[0]}) == here.users({NAME: tokens[5]}) == "alice"
    assert here.ask("/sign_out/", {NAME: tokens[3], **old})[0] == 200
    assert here.users(old) == "" and here.users({NAME: tokens[0]}) == ""


def an_agent_that_is_gone_is_503_and_nobody_is_logged_out():
    person()
    here = site()
    alice = here.sign_in()
    here.desk.stop(signal.SIGKILL)
    scratch.until(lambda: here.ask("/show/", alice)[0] == 503, "503 without an agent")
    status, headers, _ = here.ask("/show/", alice)
    assert status == 503 and int(headers["Retry-After"]) >= 1 and not headers["Set-Cookie"]
    assert here.ask("/plain/", alice)[0] == 200
    here.desk.start()
    scratch.until(lambda: here.ask("/show/", alice)[0] == 200, "200 with the next agent")
    assert here.users(alice) == "alice"


# The page.

PAGE = HERE.parent.parent / "doc" / "python-django.md"


def the_code_of_the_page_works():
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "sh", "python", "python", "python"], blocks
    ten_lines, command, views, cut_over, tests = (text for _, text in blocks)
    project = scratch.folder("project")
    (project / "settings.py").write_text(
        "ALLOWED_HOSTS = ['*']\nDEBUG = False\nROOT_URLCONF = 'urls'\nSECRET_KEY = 'x' * 50\n"
        "DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\nUSE_TZ = True\n"
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
        "INSTALLED_APPS = ['django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.sessions']\n"
        f"MIDDLEWARE = ['{django_site.DJANGOS}', 'django.contrib.auth.middleware.AuthenticationMiddleware']\n"
        + (ten_lines + cut_over).replace("/var/lib/app", str(project)))
    (project / "views.py").write_text(views)
    (project / "tests.py").write_text(tests)
    (project / "urls.py").write_text(
        "from django.urls import path\nimport views\n"
        "urlpatterns = [path('devices/', views.devices), path('log-out-elsewhere/', views.log_out_elsewhere)]\n")
    (project / "manage.py").write_text(
        "import os, sys\nfrom django.core.management import execute_from_command_line\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\nexecute_from_command_line(sys.argv)\n")
    words = command.split()
    assert words[:2] == ["python", "manage.py"]
    said = scratch.run([sys.executable, *words[1:]], cwd=project)
    assert "no issues" in said, said
    done = subprocess.run([sys.executable, "manage.py", "test"], cwd=project, text=True, capture_output=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "Ran 3 tests" in done.stderr, done.stderr


def no_token_was_logged():
    assert SAID.lines
    for line in [*SAID.lines, *(HOME / "gunicorn.log").read_text().splitlines()]:
        assert "crs1_" not in line, line


try:
    tap.main([
        nothing_is_stored_for_who_puts_nothing_in,
        what_is_put_in_is_there_again_and_deep_changes_too,
        no_cache_keeps_a_token_for_others,
        an_unknown_key_is_never_adopted,
        a_save_never_brings_back_a_session_that_ended,
        two_requests_that_change_different_keys_lose_neither,
        two_requests_that_change_one_key_are_told,
        what_django_keeps_for_itself_is_no_conflict,
        saving_again_what_is_the_same_writes_nothing_and_keeps_the_data,
        a_session_ends_to_the_millisecond,
        set_expiry_is_the_idle_end_or_the_absolute_one,
        a_longer_end_can_be_asked_for_at_log_in,
        clearsessions_is_there,
        a_log_in_has_ended_the_earlier_sessions_when_it_returns,
        the_policy_may_keep_them_or_some,
        who_logs_in_again_gets_another_token_and_keeps_what_is_in_it,
        another_user_in_the_same_browser_gets_nothing_of_the_first,
        a_log_in_that_fails_leaves_nobody_logged_in,
        log_out_ends_it_and_takes_the_cookie_away,
        taking_the_user_out_by_hand_is_a_log_out,
        cycle_key_keeps_the_data_under_another_token,
        a_new_password_ends_the_other_sessions,
        what_is_no_new_password_ends_nothing,
        who_is_switched_off_or_deleted_has_no_sessions,
        django_s_test_client_logs_in,
        who_cannot_be_looked_up_gets_503_and_is_not_logged_out,
        the_engine_under_django_s_middleware_answers_500_and_not_as_nobody,
        every_name_can_be_awaited,
        under_asgi_nothing_differs,
        what_no_json_can_say_is_refused_by_name,
        the_checks_name_what_is_wrong_and_how_to_mend_it,
        nobody_is_logged_out_by_the_cut_over,
        what_has_ended_since_does_not_move_again,
        an_old_place_that_cannot_be_read_is_503,
        the_cut_over_works_under_asgi,
        what_one_worker_ended_no_worker_accepts,
        the_requests_of_one_page_move_their_old_session_at_once,
        an_agent_that_is_gone_is_503_and_nobody_is_logged_out,
        the_code_of_the_page_works,
        no_token_was_logged,
    ])
finally:
    if SITE is not None:
        SITE.close()
