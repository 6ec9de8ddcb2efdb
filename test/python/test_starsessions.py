#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python=newest
# tap: timeout=120
"""A store for starsessions: what it promises over starsessions' own middleware, over the fake and, where two
stores are two processes', over a real agent. The code of doc/python-starsessions.md is run here, too."""

import asyncio
import contextlib
import json
import logging
import pathlib
import sys
import warnings
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
warnings.simplefilter("ignore")
import pages
import tap
from desk import Desk
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starsessions import (
    InMemoryStore,
    SessionAutoloadMiddleware,
    SessionMiddleware,
    get_session_handler,
    get_session_metadata,
    regenerate_session_id,
)
from starsessions.serializers import Serializer

from cloakroom import Cloakroom
from cloakroom.starsessions import CloakroomStore, OldStore, RetryLater
from cloakroom.testing import FakeCloakroom

FORGED = "crs1_" + "A" * 80


class Log(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


LOG = Log()
logging.getLogger().addHandler(LOG)

hooks = {}


class InBetween(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


def build(store, autoload=True, **settings):
    async def look(request):
        return JSONResponse({"data": dict(request.session), "created": get_session_metadata(request)["created"],
                             "seen": get_session_metadata(request)["last_access"]})

    async def put(request):
        request.session.update(json.loads(request.query_params["data"]))
        if "hook" in request.query_params:
            await hooks[request.query_params["hook"]](request)
        return JSONResponse(dict(request.session))

    async def clear(request):
        request.session.clear()
        return JSONResponse({})

    async def sign_in(request):
        await store.login(request, request.query_params["user"], policy=request.query_params.get("policy", "replace"))
        request.session["user"] = request.query_params["user"]
        return JSONResponse({})

    async def sign_out(request):
        await store.logout(request)
        return JSONResponse({})

    async def other_id(request):
        regenerate_session_id(request)
        return JSONResponse({})

    async def untouched(request):
        return JSONResponse({})

    routes = [Route(f"/{route.__name__}", route)
              for route in (look, put, clear, sign_in, sign_out, other_id, untouched)]
    return Starlette(routes=routes, middleware=[
        Middleware(RetryLater), Middleware(SessionMiddleware, store=store, **settings), Middleware(InBetween),
        *([Middleware(SessionAutoloadMiddleware)] if autoload else [])])


def client(app, session=None):
    browser = TestClient(app, base_url="https://testserver", raise_server_exceptions=False)
    if session is not None:
        browser.cookies.set("session", session, domain="testserver.local")  # as if a response had set it
    return browser


def served(room=None, autoload=True, lifetime=0, rolling=False, **settings):
    room = room if room is not None else FakeCloakroom()
    store = CloakroomStore(room=room, rolling=rolling, **settings)
    browser = client(build(store, autoload, lifetime=lifetime, rolling=rolling))
    browser.room = room
    return browser


def put(browser, hook=None, **data):
    return browser.get("/put", params={"data": json.dumps(data), **({"hook": hook} if hook else {})})


def data_of(browser):
    return browser.get("/look").json()["data"]


def the_clients_id_is_our_token_and_no_other_is_adopted():
    for session in (None, "a" * 32, FORGED, "é"):
        browser = served()
        headers = {"cookie": f"session={session}".encode("latin-1")} if session else {}
        assert "set-cookie" not in browser.get("/look", headers=headers).headers, "stored for who put nothing in"
        response = browser.get("/put", params={"data": '{"a": 1}'}, headers=headers)
        token = browser.cookies["session"]
        assert response.status_code == 200 and token.startswith("crs1_") and token != session
        assert browser.room.validate(token) is not None
        assert data_of(browser) == {"a": 1}
        if session is not None:
            again = browser.get("/look", headers=headers)
            assert again.json()["data"] in ({}, {"a": 1})  # the jar's cookie may stand beside it
            assert browser.room.validate(session) is None
    browser = served(autoload=False)
    assert browser.get("/untouched").status_code == 200


def what_is_in_it_and_when_it_was_made_stays():
    browser = served(lifetime=1000)
    put(browser, cart=[1])
    before = browser.get("/look").json()
    put(browser, name="Zoë")
    after = browser.get("/look").json()
    assert after["data"] == {"cart": [1], "name": "Zoë"} and after["created"] == before["created"]


def that_nothing_but_the_last_access_changed_is_stored_once_a_minute():
    browser = served()
    put(browser, a=1)
    token = browser.cookies["session"]
    version = browser.room.validate(token).version
    for _ in range(5):
        browser.get("/look")
    assert browser.room.validate(token).version == version
    browser = served(access_seconds=0)
    put(browser, a=1)
    version = browser.room.validate(browser.cookies["session"]).version
    browser.get("/look")
    assert browser.room.validate(browser.cookies["session"]).version == version + 1


def it_ends_as_the_lifetime_says():
    for settings, used, wanted in (
        ({}, 29 * 60, True), ({}, 31 * 60, False),
        ({"lifetime": 100}, 60, False),  # used twice: 120 s after it was made
        ({"lifetime": 100, "rolling": True}, 60, True), ({"lifetime": 100, "rolling": True}, 101, False),
        ({"lifetime": 100, "rolling": True, "absolute": 110}, 60, False),
    ):
        browser = served(**settings)
        put(browser, a=1)
        cookie = browser.cookies["session"]
        for _ in range(2):
            browser.room.advance(used)
            alive = browser.room.validate(cookie) is not None
        assert alive is wanted, f"{settings} {used}"


def requests_that_change_different_keys_lose_neither():
    browser = served()
    put(browser, a=1)
    other = client(browser.app, browser.cookies["session"])

    async def meanwhile(_request):
        await asyncio.to_thread(put, other, theirs=1)

    async def same(_request):
        await asyncio.to_thread(put, other, a=2)

    hooks.update(meanwhile=meanwhile, same=same)
    assert put(browser, "meanwhile", mine=1).status_code == 200
    assert data_of(browser) == {"a": 1, "theirs": 1, "mine": 1}
    response = put(browser, "same", a=3)
    assert response.status_code == 409, response.status_code
    assert data_of(browser)["a"] == 2
    browser = served(browser.room, on_conflict="last_wins")
    put(browser, a=1)
    other = client(browser.app, browser.cookies["session"])
    assert put(browser, "same", a=3).status_code == 200
    assert data_of(browser) == {"a": 3}


def an_ended_session_is_not_revived():
    async def ended(request):
        room = hooks["room"]
        await room.aend((await room.avalidate(get_session_handler(request).session_id)).id)

    hooks["ended"] = ended
    browser = served()
    hooks["room"] = browser.room
    put(browser, a=1)
    token, before = browser.cookies["session"], len(LOG.lines)
    assert put(browser, "ended", a=2).status_code == 200
    assert browser.room.validate(token) is None and data_of(browser) == {}
    assert any("dropped" in line for line in LOG.lines[before:])
    browser = served(on_ended="raise")
    hooks["room"] = browser.room
    put(browser, a=1)
    assert put(browser, "ended", a=2).status_code == 401


def emptied_it_is_ended_and_the_cookie_goes():
    browser = served()
    put(browser, a=1)
    token = browser.cookies["session"]
    browser.get("/clear")
    assert browser.room.validate(token) is None


def a_log_in_gives_another_id_and_carries_out_its_policy():
    browser = served()
    put(browser, cart=[1])
    visitor = browser.cookies["session"]
    browser.get("/sign_in?user=alice")
    token = browser.cookies["session"]
    assert token != visitor and browser.room.validate(visitor) is None
    assert browser.room.validate(token).user == "alice"
    assert data_of(browser) == {"cart": [1], "user": "alice"}
    other = client(browser.app)
    other.get("/sign_in?user=alice")  # without a session before
    assert data_of(other) == {"user": "alice"} and data_of(browser) == {}
    assert len(list(browser.room.sessions_of("alice"))) == 1
    token = other.cookies["session"]
    other.get("/sign_out")
    assert browser.room.validate(token) is None
    assert data_of(other) == {}


def another_id_by_starsessions_own_means_is_of_the_same_session():
    browser = served()
    browser.get("/sign_in?user=alice")
    put(browser, a=1)
    before = browser.cookies["session"]
    session = browser.room.validate(before).id
    browser.get("/other_id")
    token = browser.cookies["session"]
    assert token.startswith("crs1_") and token != before and browser.room.validate(before) is None
    assert browser.room.validate(token).id == session and data_of(browser) == {"user": "alice", "a": 1}
    assert b"cloakroom" not in browser.room.read(session)[0], "what is only between read and write is stored"
    browser.get("/other_id")
    browser.room.invalidate_by_user("alice")
    assert data_of(browser) == {}, "it was nobody's, and went on"
    browser.get("/other_id")  # of nothing
    assert data_of(browser) == {}


def a_store_that_cannot_be_asked_is_no_log_out():
    browser = served()
    put(browser, a=1)
    with browser.room.unavailable():
        response = browser.get("/look")
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert "set-cookie" not in response.headers
    with contextlib.ExitStack() as stack:
        async def gone(_request):
            stack.enter_context(browser.room.unavailable())

        hooks["gone"] = gone
        assert put(browser, "gone", a=2).status_code == 503
    assert data_of(browser) == {"a": 1}


class Reversed(Serializer):
    """No JSON."""

    def serialize(self, data):
        return json.dumps(data).encode()[::-1]

    def deserialize(self, data):
        return json.loads(data[::-1] or b"{}")


def another_serializer_is_kept_as_it_is():
    store = CloakroomStore(room=FakeCloakroom())
    browser = client(build(store, serializer=Reversed()))
    put(browser, a=1)
    assert data_of(browser) == {"a": 1}
    put(browser, b=[2])
    assert data_of(browser) == {"a": 1, "b": [2]}


def live_sessions_of_another_store_go_on():
    old = InMemoryStore()
    before = build(old)
    browsers = []
    for number in range(10):
        browser = client(before)
        put(browser, user=f"user{number % 5}", n=number)
        browsers.append(browser.cookies["session"])
    room = FakeCloakroom()
    store = CloakroomStore(room=room, migrate_from=OldStore(old, user=lambda data: data.get("user")))
    after = build(store)
    for number, session in enumerate(browsers):
        browser = client(after, session)
        for _ in range(2):
            assert data_of(browser) == {"user": f"user{number % 5}", "n": number}
        assert browser.cookies["session"].startswith("crs1_")
        browsers[number] = (session, browser)
    assert len(list(room.sessions_of("user0"))) == 2
    session, browser = browsers[0]
    browser.get("/sign_out")
    assert data_of(client(after, session)) == {}, "logged out, and come again by its old id"
    assert data_of(browsers[5][1])["n"] == 5
    # It cannot be asked: no log-out.
    browser = client(before)
    put(browser, user="late")
    with mock.patch.object(old, "read", side_effect=OSError("gone")):
        response = client(after, browser.cookies["session"]).get("/look")
        assert response.status_code == 503 and "set-cookie" not in response.headers
    assert data_of(client(after, browser.cookies["session"])) == {"user": "late"}


def stores_of_two_processes_over_an_agent_are_one():
    with Desk() as desk:
        with Cloakroom.open(desk.state / "app.sock", timeout=60) as here, \
                Cloakroom.open(desk.state / "app.sock", timeout=60) as there:
            async def story():
                a, b = CloakroomStore(room=here), CloakroomStore(room=there)
                first = await a.write("0" * 32, b'{"k": 1}', 100, 100)
                assert first.startswith("crs1_")
                mine, theirs = first[:5] + first[5:], "".join(list(first))  # texts of two requests
                assert mine == theirs and mine is not theirs
                assert await a.read(mine, 100) == await b.read(theirs, 100) == b'{"k": 1}'
                assert await b.write(theirs, b'{"k": 1, "b": 1}', 100, 100) == first
                assert await a.write(mine, b'{"k": 1, "a": 1}', 100, 100) == first
                assert json.loads(await b.read(first, 100)) == {"k": 1, "a": 1, "b": 1}
                await b.remove(first)
                assert await a.read(first, 100) == b""
                await b.remove(first)
                assert await a.write(first, b'{"k": 2}', 100, 100) != first

            asyncio.run(story())


def the_page_does_what_it_says():
    checked = {"alice": "secret"}

    async def check_password(name, password):
        return name if checked.get(name) == password else None

    with mock.patch.object(Cloakroom, "open", lambda *_args, **_kwargs: FakeCloakroom()):
        page = pages.run("python-starsessions.md", {"check_password": check_password})
        page["test_a_cart_is_kept"]()
        with client(page["app"]) as browser:
            assert [browser.get("/").json()["visits"] for _ in range(2)] == [1, 2]
    page["store"] = page["store_of_room"]
    for store in (page["store_of_room"], page["moving"]):
        page["store"] = store
        browser = client(Starlette(
            routes=[Route("/in", page["sign_in"], methods=["POST"]), Route("/out", page["sign_out"]),
                    Route("/devices", page["devices"]), Route("/everywhere", page["sign_out_everywhere"]),
                    Route("/", page["cart"])],
            middleware=[Middleware(RetryLater), Middleware(SessionMiddleware, store=store),
                        Middleware(SessionAutoloadMiddleware)]))
        assert browser.post("/in", data={"name": "alice", "password": "x"}).status_code == 401
        browser.post("/in", data={"name": "alice", "password": "secret"})
        device, = browser.get("/devices").json()
        assert device["address"] == "testclient", device
        token = browser.cookies["session"]
        browser.get("/everywhere")
        assert page["room"].validate(token) is None
        browser.post("/in", data={"name": "alice", "password": "secret"})
        token = browser.cookies["session"]
        browser.get("/out")
        assert page["room"].validate(token) is None
    command = pages.blocks("python-starsessions.md", "sh")[0][1].splitlines()[-1]
    assert command == pages.blocks("python-starlette.md", "sh")[0][1].splitlines()[-1], "which is run there"


def no_token_was_ever_logged():
    assert LOG.lines, "nothing was logged at all"
    assert not [line for line in LOG.lines if "crs1_" in line]


tap.main([
    the_clients_id_is_our_token_and_no_other_is_adopted,
    what_is_in_it_and_when_it_was_made_stays,
    that_nothing_but_the_last_access_changed_is_stored_once_a_minute,
    it_ends_as_the_lifetime_says,
    requests_that_change_different_keys_lose_neither,
    an_ended_session_is_not_revived,
    emptied_it_is_ended_and_the_cookie_goes,
    a_log_in_gives_another_id_and_carries_out_its_policy,
    another_id_by_starsessions_own_means_is_of_the_same_session,
    a_store_that_cannot_be_asked_is_no_log_out,
    another_serializer_is_kept_as_it_is,
    live_sessions_of_another_store_go_on,
    stores_of_two_processes_over_an_agent_are_one,
    the_page_does_what_it_says,
    no_token_was_ever_logged,
])
