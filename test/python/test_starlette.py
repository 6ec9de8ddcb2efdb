#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
# tap: timeout=120
"""request.session of Starlette: what the client is told, and that it is true. Most of it in process over
the fake; what needs a server, under uvicorn over a real agent. The code of doc/python-starlette.md is run
here, too."""

import asyncio
import base64
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
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import httpx
import itsdangerous
import pages
import scratch
import starlette_site as site
import tap
from desk import Desk
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarlettesOwn
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cloakroom import Cloakroom, Conflict, InvalidArgument, Unavailable
from cloakroom.starlette import CookieSettings, OldSessions, SessionMiddleware, StarletteCookies
from cloakroom.testing import FakeCloakroom

FORGED = "crs1_" + "A" * 80
NAME = "__Host-cloakroom"


class Log(logging.Handler):
    """All that is logged; no token may be among it."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


LOG = Log()
logging.getLogger().addHandler(LOG)
logging.getLogger("cloakroom").setLevel(logging.DEBUG)


def client(app, cookies=None):
    browser = TestClient(app, base_url="https://testserver", raise_server_exceptions=False)
    browser.cookies.update(cookies or {})
    return browser


@contextlib.contextmanager
def served(more=(), room=None, **settings):
    room = room if room is not None else FakeCloakroom()
    with client(site.build(more, room=room, **settings)) as browser:
        browser.room = room
        yield browser


def put(browser, **data):
    return browser.get("/put", params={"data": json.dumps(data)})


def cookie_of(response, name=NAME):
    """(value, attributes) of the one Set-Cookie of that name; None."""
    found = [line for line in response.headers.get_list("set-cookie") if line.startswith(f"{name}=")]
    assert len(found) <= 1, found
    if not found:
        return None
    value, *attributes = found[0].split("; ")
    return value.partition("=")[2], attributes


def who_puts_nothing_in_has_no_session():
    with served() as browser:
        for path in ("/untouched", "/look", "/clear", "/cycle"):
            for headers in ({}, {"cookie": f"{NAME}={FORGED}"}, {"cookie": f"{NAME}=; x=y; {NAME}"},
                            {"cookie": "a" * 5000}, {"cookie": b"\xff\xfe=\xe9; " + NAME.encode() + b"=\xe9"}):
                response = browser.get(path, headers=headers)
                assert response.status_code == 200 and "set-cookie" not in response.headers, response.headers
        assert "vary" not in browser.get("/untouched").headers
        assert browser.get("/look").headers["vary"] == "Cookie"


def what_is_put_in_is_there_next_time_and_the_cookie_is_as_said():
    with served() as browser:
        response = put(browser, cart={"items": []}, name="Zoë")
        token, attributes = cookie_of(response)
        assert token.startswith("crs1_")
        assert sorted(re.sub(r"^Expires=.*", "Expires", word) for word in attributes) == sorted(
            ["Max-Age=43200", "Expires", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"]), attributes
        assert response.headers["cache-control"] == "no-store" and response.headers["vary"] == "Cookie"
        response = browser.get("/look")
        assert response.json() == {"user": None, "data": {"cart": {"items": []}, "name": "Zoë"}, "new": False}
        assert cookie_of(response) is None, "a cookie that nobody needs"
        assert response.headers["cache-control"] == "private, no-cache"
        response = browser.get("/new")
        assert response.json() is False and response.headers["vary"] == "Cookie", response.headers
        browser.get("/deep")
        assert browser.get("/look").json()["data"]["cart"] == {"items": [1]}
        # The application's own say on caches stays.
        response = browser.get("/put", params={"data": "{}", "headers": json.dumps({"Cache-Control": "max-age=9"})})
        assert response.headers["cache-control"] == "max-age=9"
        # But not where there is a token in it, which a cache would give to the next one.
        browser.cookies.clear()
        response = browser.get("/put", params={"data": '{"a": 1}', "headers": '{"Cache-Control": "public"}'})
        assert cookie_of(response) and response.headers.get_list("cache-control") == ["no-store"]
        # An error is a response like others.
        assert browser.get("/refuse").status_code == 403
        assert browser.get("/look").json()["data"]["tries"] == 1
        # Emptied, and there still.
        browser.get("/clear")
        assert browser.get("/look").json() == {"user": None, "data": {}, "new": False}


def a_forged_key_is_never_adopted():
    with served() as browser:
        response = browser.get("/put", params={"data": '{"a": 1}'}, headers={"cookie": f"{NAME}={FORGED}"})
        token, _ = cookie_of(response)
        assert token != FORGED
        browser.cookies.clear()
        assert browser.get("/look", headers={"cookie": f"{NAME}={FORGED}"}).json()["data"] == {}
        assert browser.get("/look", headers={"cookie": f"x=1; {NAME}={token}; y=2"}).json()["data"] == {"a": 1}


def signing_in_and_out_sets_and_clears_the_cookie():
    with served() as browser:
        token, _ = cookie_of(put(browser, cart=[1]))
        response = browser.get("/sign_in?user=alice")
        another, _ = cookie_of(response)
        assert another != token and browser.room.validate(token) is None
        assert browser.get("/look").json() == {
            "user": "alice", "data": {"cart": [1], "after": "login"}, "new": False}
        session = browser.room.validate(another)
        assert session.user == "alice" and (session.id, "testclient") == (
            response.json()["id"], next(browser.room.sessions_of("alice")).address)
        response = browser.get("/cycle")
        third, _ = cookie_of(response)
        assert browser.room.validate(another) is None and browser.room.validate(third).id == session.id
        response = browser.get("/sign_out")
        value, attributes = cookie_of(response)
        assert value == "" and "Max-Age=0" in attributes and "Secure" in attributes and "Path=/" in attributes
        assert browser.room.validate(third) is None and browser.get("/look").json()["user"] is None
        # What is put in after the log-out is a new session's.
        browser.get("/sign_in?user=alice")
        response = browser.get("/sign_out?put=1")
        assert cookie_of(response)[0].startswith("crs1_")
        assert browser.get("/look").json() == {"user": None, "data": {"later": 1}, "new": False}


def a_save_that_fails_is_an_error_and_not_a_lie():
    with served([Middleware(site.InBetween)]) as browser, contextlib.ExitStack() as stack:
        put(browser, a=1)

        async def store_goes(_request):
            stack.enter_context(browser.room.unavailable())

        site.hooks["store_goes"] = store_goes
        response = browser.get("/put", params={"data": '{"a": 2}', "hook": "store_goes"})
        assert response.status_code == 503 and response.headers["retry-after"] == "1", response.status_code
        assert "signed out" in response.text and cookie_of(response) is None
        assert browser.get("/look").status_code == 503
        assert browser.get("/untouched").status_code == 200, "it does not need the session"
        assert browser.get("/swallow").text == "Unavailable"
        stack.close()
        assert browser.get("/look").json()["data"] == {"a": 1}
        for path in ("/bad", "/large"):
            response = browser.get(path)
            assert response.status_code == 500 and cookie_of(response) is None, f"{path} {response.status_code}"
        assert browser.get("/look").json()["data"] == {"a": 1}
    with served() as browser:
        try:
            TestClient(browser.app, base_url="https://testserver").get("/bad")
        except InvalidArgument as error:
            assert "numbers, texts, lists" in str(error), error
        else:
            raise AssertionError("no error")


def a_log_in_or_log_out_that_is_not_everywhere_sets_no_cookie():
    with served() as browser:
        browser.get("/sign_in?user=alice")
        token = browser.cookies[NAME]
        with browser.room.pending(7):
            other = client(browser.app)
            response = other.get("/sign_in?user=alice")
            assert response.status_code == 503 and response.headers["retry-after"] == "7", response.headers
            assert cookie_of(response) is None
        browser.get("/sign_in?user=bob")
        with browser.room.pending(7):
            response = browser.get("/sign_out")
            assert response.status_code == 503 and cookie_of(response) is None, response.headers
        response = browser.get("/sign_out")  # asked again, it is over
        assert cookie_of(response)[0] == "" and browser.room.validate(token) is None


def what_others_do_meanwhile_is_merged_or_told():
    async def other(request):
        session = request.session.session
        await browser.room.aupdate(session, json=change(json.loads(session.data)))

    async def ended(request):
        await browser.room.aend(request.session.session)

    async def ended_and_more(request):
        await ended(request)
        await request.session.save()
        request.session["more"] = 1

    site.hooks.update(other=other, ended=ended, ended_and_more=ended_and_more)

    def change(data):
        return {**data, "theirs": 1}

    def race(hook, **data):
        return browser.get("/put", params={"data": json.dumps(data), "hook": hook})

    with served() as browser:
        put(browser, a=1)
        assert race("other", mine=1).status_code == 200
        assert browser.get("/look").json()["data"] == {"a": 1, "theirs": 1, "mine": 1}

        def change(data):
            return {**data, "a": 2}

        response = race("other", a=3, b=3)
        assert response.status_code == 409 and "try again" in response.text
        assert browser.get("/look").json()["data"] == {"a": 2, "theirs": 1, "mine": 1}
        browser.get("/sign_in?user=alice")
        before = len(LOG.lines)
        response = race("ended", a=4)
        assert response.status_code == 200 and cookie_of(response) is None, "another's cookie may be there by now"
        assert any("dropped" in line for line in LOG.lines[before:])
        assert browser.get("/look").json()["user"] is None
        put(browser, a=1)
        response = race("ended_and_more", a=4)
        assert response.status_code == 200 and cookie_of(response) is None, "what is put in later is dropped, too"
    with served(on_conflict="raise", on_ended="raise") as browser:
        put(browser, a=1)
        assert race("other", mine=1).status_code == 409
        response = race("ended", a=4)
        assert response.status_code == 401 and "ended" in response.text
    with served(on_conflict="last_wins") as browser:
        put(browser, a=1)
        assert race("other", mine=1).status_code == 200
        assert browser.get("/look").json()["data"] == {"a": 1, "mine": 1}


def after_the_response_has_begun_a_change_is_saved_when_told():
    with served() as browser:
        put(browser, a=1)
        before = len(LOG.lines)
        assert browser.get("/stream").text == "begun ended"
        assert any("not saved" in line for line in LOG.lines[before:])
        assert browser.get("/look").json()["data"] == {"a": 1, "early": 1}
        assert browser.get("/stream?save=1").text == "begun ended"
        assert browser.get("/look").json()["data"] == {"a": 1, "early": 1, "late": 1}


def a_websocket_has_its_session():
    with served() as browser:
        put(browser, a=1)
        with browser.websocket_connect("wss://testserver/chat") as socket:
            socket.send_text("n")
            assert socket.receive_json() == {"a": 1, "n": 1}
            socket.send_text("alive")
            assert socket.receive_json() is True
        assert browser.get("/look").json()["data"] == {"a": 1, "n": 1}
        with browser.websocket_connect("wss://testserver/chat?early=1") as socket:
            assert browser.get("/look").json()["data"]["early"] == 1
            browser.get("/sign_in?user=alice")
            socket.send_text("alive")
            assert socket.receive_json() is False
        with browser.room.unavailable():
            with browser.websocket_connect("wss://testserver/chat") as socket:
                pass  # does not look at it
            try:
                with browser.websocket_connect("wss://testserver/chat?look=1"):
                    raise AssertionError("let in")
            except WebSocketDisconnect as error:  # newer ones: a response in place of the upgrade
                assert getattr(error, "code", 0) == 1013 or error.status_code == 503, repr(error)


# settings, the name they give, or what is wrong with them
COOKIES = [
    ({}, "__Host-cloakroom"),
    ({"secure": False}, "cloakroom"),
    ({"domain": "example.org"}, "__Secure-cloakroom"),
    ({"path": "/app"}, "__Secure-cloakroom"),
    ({"secure": False, "domain": "example.org"}, "cloakroom"),
    ({"name": "sid"}, "sid"),
    ({"name": "__Host-sid"}, "__Host-sid"),
    ({"name": "__Host-sid", "secure": False}, InvalidArgument),
    ({"name": "__secure-sid", "secure": False}, InvalidArgument),
    ({"name": "__Host-sid", "domain": "example.org"}, InvalidArgument),
    ({"name": "__Host-sid", "path": "/app"}, InvalidArgument),
    ({"name": "a b"}, InvalidArgument),
    ({"name": "a=b"}, InvalidArgument),
    ({"path": "app"}, InvalidArgument),
    ({"path": "/; Domain=evil.example"}, InvalidArgument),
    ({"domain": "a\r\nSet-Cookie: x=y"}, InvalidArgument),
    ({"samesite": "None"}, InvalidArgument),
    ({"samesite": "none", "secure": False}, InvalidArgument),
    ({"samesite": "none"}, "__Host-cloakroom"),
]


def a_cookie_that_browsers_would_drop_is_refused_at_start():
    for settings, wanted in COOKIES:
        try:
            found = CookieSettings(**settings).name
        except InvalidArgument as error:
            found = InvalidArgument
            assert str(error)
        assert found == wanted, f"{settings}: {found}"
    with served(cookie=CookieSettings(secure=False, persistent=False, samesite="strict", path="/")) as browser:
        _, attributes = cookie_of(put(browser, a=1), "cloakroom")
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"], attributes
    for wrong in ({}, {"room": FakeCloakroom(), "url": "memory:"}, {"room": FakeCloakroom(), "on_conflict": "x"},
                  {"room": FakeCloakroom(), "on_ended": "x"}):
        try:
            SessionMiddleware(None, **wrong)
        except InvalidArgument:
            continue
        raise AssertionError(wrong)


# Cut-over from Starlette's own sessions.

SECRET = "of the old middleware"


def old_application():
    async def look(request):
        return JSONResponse(request.session)

    async def put(request):
        request.session.update(json.loads(request.query_params["data"]))
        return JSONResponse(request.session)

    return Starlette(routes=[Route("/look", look), Route("/put", put)],
                     middleware=[Middleware(StarlettesOwn, secret_key=SECRET, https_only=True)])


def old_cookies(**more):
    return StarletteCookies(secret_key=SECRET, user=lambda data: data.get("user"), **more)


def live_sessions_of_starlettes_cookies_go_on():
    room, before = FakeCloakroom(), old_application()
    after = site.build(room=room, migrate_from=old_cookies())
    browsers = []
    for number in range(20):
        browser = client(before)
        put(browser, user=f"user{number % 10}", cart=[number])  # everybody on two devices
        browsers.append(browser)
    cookies = [browser.cookies["session"] for browser in browsers]
    for number, browser in enumerate(browsers):
        moved = client(after, cookies=browser.cookies)
        response = moved.get("/untouched")  # whatever is asked for first
        assert cookie_of(response)[0].startswith("crs1_") and cookie_of(response, "session") is None
        for _ in range(2):
            response = moved.get("/look")
            assert response.json() == {"user": f"user{number % 10}", "new": False,
                                       "data": {"user": f"user{number % 10}", "cart": [number]}}
            assert cookie_of(response) is None
        browsers[number] = moved
    assert [len(list(room.sessions_of(f"user{n}"))) for n in range(10)] == [2] * 10
    # The way back: the old application knows everybody still.
    for number in range(20):
        back = client(before, cookies={"session": browsers[number].cookies["session"]})
        assert back.get("/look").json()["cart"] == [number]
    # Logged out, the old cookie is worth nothing, and is taken away; the other device stays.
    response = browsers[0].get("/sign_out")
    assert cookie_of(response, "session")[0] == "" and cookie_of(response)[0] == ""
    for _ in range(2):
        thief = client(after, cookies={"session": cookies[0]})
        assert thief.get("/look").json()["user"] is None
    assert browsers[10].get("/look").json()["user"] == "user0"
    # The store is gone in the middle: no log-out, and the old cookie stays.
    browser = client(before)
    put(browser, user="late")
    moved = client(after, cookies=browser.cookies)
    with room.unavailable():
        response = moved.get("/look")
        assert response.status_code == 503 and "set-cookie" not in response.headers
    assert moved.get("/look").json()["user"] == "late"
    # Forged, too old, or of another key: none.
    payload = base64.b64encode(b'{"user": "mallory"}')
    for cookie in (payload.decode(), itsdangerous.TimestampSigner("guess").sign(payload).decode(), "", "x.y.z", "é"):
        thief = client(after)
        response = thief.get("/look", headers={"cookie": f"session={cookie}".encode("latin-1")})
        assert response.json()["user"] is None and "set-cookie" not in response.headers, cookie
    for old in (old_cookies(max_age=-1), old_cookies(until=room.now)):
        late = client(site.build(room=FakeCloakroom(now=room.now), migrate_from=old),
                      cookies={"session": cookies[5]})
        assert late.get("/look").json()["user"] is None
    # No way back, where it is asked for.
    browser = client(site.build(room=FakeCloakroom(), migrate_from=old_cookies(clear=True)),
                     cookies={"session": cookies[5]})
    assert cookie_of(browser.get("/look"), "session")[0] == ""


def an_old_place_that_fails_is_no_log_out():
    class Broken(OldSessions):
        def load(self, cookies):
            raise OSError("the old database is locked")

    class Wrong(OldSessions):
        def load(self, cookies):
            return StarletteCookies(secret_key="x", user=lambda data: 7).load(cookies)

    signed = itsdangerous.TimestampSigner("x").sign(base64.b64encode(b'{"user": 7}')).decode()
    for old in (Broken("session"), Wrong("session")):
        with served(migrate_from=old) as browser:
            response = browser.get("/look", headers={"cookie": f"session={signed}"})
            assert response.status_code == 503 and "set-cookie" not in response.headers
            assert browser.get("/look").status_code == 200, "who has no old cookie"
            assert browser.get("/untouched", headers={"cookie": f"session={signed}"}).status_code == 200


# A real server.


class Server:
    def __init__(self, desk, *options, target=("--factory", "starlette_site:served"), workers=None, url=None):
        self.port = scratch.free_port()
        self.log = desk.home / f"uvicorn-{self.port}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", "-m", "uvicorn", *target, "--port", str(self.port), *options,
                 *(("--workers", str(workers)) if workers else ())],
                cwd=HERE, stdout=log, stderr=log,
                env={**os.environ, "SITE_URL": url or str(desk.state / "app.sock"),
                     "PYTHONPATH": os.pathsep.join([str(HERE), str(desk.home), os.environ.get("PYTHONPATH", "")])})

    def get(self, path, cookie=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def ready(self):
        def asked():
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                return self.get("/untouched")[0] < 500
        scratch.until(asked, "the server", 60)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        scratch.end(self.process)


def a_server_never_blocks_its_loop_and_keeps_its_promises():
    with Desk() as desk, Server(desk) as server:
        server.ready()
        status, headers, _ = server.get("/put?data={%22a%22:1}")
        assert status == 200, status
        assert headers["set-cookie"].startswith("cloakroom=crs1_"), headers
        cookie = headers["set-cookie"].partition(";")[0]
        assert json.loads(server.get("/look", cookie)[2])["data"] == {"a": 1}
        # An agent that hangs: who must ask it waits, and holds up nobody.
        desk.agent.send_signal(signal.SIGSTOP)
        try:
            waiting = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            waiting.request("GET", "/put?data={%22b%22:1}")
            for _ in range(20):
                assert server.get("/untouched", timeout=30)[0] == 200
            assert not select_ready(waiting), "it was answered while the agent could not"
        finally:
            desk.agent.send_signal(signal.SIGCONT)
        assert waiting.getresponse().status in (200, 503)
        waiting.close()
        assert json.loads(scratch.until(
            lambda: (lambda answer: answer[0] == 200 and answer[2])(server.get("/look", cookie)), "again"))[
                "data"] == {"a": 1}
        log = server.log.read_text()
        assert "crs1_" not in log, "a token was logged"
        assert "Application startup complete" in log


def what_cannot_be_opened_ends_the_server_at_its_start():
    desk = Desk()
    for url, options, words in (("nonsense", (), "the URL must be"), ("memory:", ("--workers", "2"), "CR-101")):
        with Server(desk, *options, url=url) as server:
            scratch.until(lambda s=server: s.process.poll() is not None, "its end", 60)
            log = server.log.read_text()
            assert words in log and "startup complete" not in log, log
            assert server.process.returncode != 0 or options, f"{url}: {server.process.returncode}"


def an_agent_that_comes_later_is_waited_for_request_by_request():
    desk = Desk()
    with Server(desk, url=str(desk.state / "app.sock")) as server:
        server.ready()
        status, headers, _ = server.get("/look", "cloakroom=" + FORGED)
        assert status == 503 and headers["retry-after"] == "1", headers
        desk.start()
        try:
            answer = scratch.until(lambda: (lambda a: a[0] == 200 and a)(server.get("/look", "cloakroom=" + FORGED)),
                                   "the room")
            assert json.loads(answer[2])["data"] == {}
        finally:
            desk.stop()


def select_ready(connection):
    import select
    return bool(select.select([connection.sock], [], [], 0)[0])


def the_ten_lines_run_with_four_workers():
    """As on the page; only that the store's URL is that of the test's agent, as root starts none."""
    code = pages.blocks("python-starlette.md")[0][1]
    command = pages.blocks("python-starlette.md", "sh")[0][1].splitlines()[-1].split()
    assert command[:2] == ["uvicorn", "app:app"], command
    with Desk() as desk:
        assert "sqlite:///var/lib/app/sessions.db" in code
        (desk.home / "app.py").write_text(
            code.replace("sqlite:///var/lib/app/sessions.db", str(desk.state / "app.sock")).replace(
                "SessionMiddleware, url", "SessionMiddleware, cookie=__import__('cloakroom.starlette').starlette."
                "CookieSettings(secure=False), url"))
        with Server(desk, *command[2:], target=("app:app",)) as server:
            status, headers, text = scratch.until(lambda: answered(server), "the server", 60)
            assert (status, json.loads(text)) == (200, {"visits": 1})
            cookie = headers["set-cookie"].partition(";")[0]
            for visits in range(2, 30):  # a connection each, so whichever worker
                assert json.loads(server.get("/", cookie)[2]) == {"visits": visits}


def answered(server):
    assert server.process.poll() is None, server.log.read_text()
    with contextlib.suppress(OSError):
        return server.get("/")


class Direct:
    """A client that follows no redirection; the word for that changed."""

    def __init__(self, browser):
        self.browser = browser

    def request(self, method, path, **more):
        for word in ("follow_redirects", "allow_redirects"):
            with contextlib.suppress(TypeError):
                return self.browser.request(method, path, **{word: False}, **more)
        raise AssertionError("neither word")

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, **more):
        return self.request("POST", path, **more)


def the_page_does_what_it_says():
    checked = {"alice": "secret"}

    async def check_password(name, password):
        return name if checked.get(name) == password else None

    async def next_news():
        return "news"

    with mock.patch.object(Cloakroom, "open", lambda *_args, **_kwargs: FakeCloakroom()):
        page = pages.run("python-starlette.md", {"check_password": check_password, "next_news": next_news})
        page["test_a_cart_is_kept_for_half_an_hour"]()
        with client(page["app"]) as browser:
            assert [browser.get("/").json() for _ in range(2)] == [{"visits": 1}, {"visits": 2}]
    routes = [Route("/login", page["sign_in"], methods=["POST"]), Route("/logout", page["sign_out"]),
              Route("/me", page["me"]), Route("/devices", page["devices"]),
              Route("/devices/{id}/end", page["end"]), Route("/password", page["change_password"])]
    for middleware in (page["sessions"], page["cut_over"]):
        browser, other = (Direct(client(Starlette(routes=routes, middleware=[middleware]))) for _ in range(2))
        assert browser.get("/me").headers["location"] == "/login"
        assert browser.post("/login", data={"name": "alice", "password": "x"}).status_code == 401
        for one in (browser, other):
            assert one.post("/login", data={"name": "alice", "password": "secret"}).status_code == 303
        assert browser.get("/me").status_code == 303, "the later log-in replaced it"
        assert other.get("/me").json() == {"user": "alice"}
        here = other.get("/devices").json()
        assert [row["here"] for row in here] == [True] and here[0]["address"] == "testclient"
        assert other.get(f"/devices/{here[0]['id']}/end").json() == {"ended": True}
        other.post("/login", data={"name": "alice", "password": "secret"})
        assert other.get("/me").json() == {"user": "alice"}
        assert other.get("/password").status_code == 303 and other.get("/me").status_code == 303
        assert other.get("/logout").status_code == 303
    signed = itsdangerous.TimestampSigner("what SessionMiddleware had").sign(
        base64.b64encode(b'{"user": "old"}')).decode()
    browser = client(Starlette(routes=routes, middleware=[page["cut_over"]]), cookies={"session": signed})
    with mock.patch.object(FakeCloakroom, "now", page["datetime"](2026, 12, 1, tzinfo=page["timezone"].utc)):
        assert browser.get("/me").json() == {"user": "old"}
    assert page["development"] is not None and asyncio.iscoroutinefunction(page["feed"])


def no_token_was_ever_logged():
    assert LOG.lines, "nothing was logged at all"
    for line in LOG.lines:
        assert "crs1_" not in line, line
    room = FakeCloakroom()
    with served(room=room) as browser:
        put(browser, a=1)
        browser.get("/sign_in?user=alice")
        for thing in (room.validate(browser.cookies[NAME]), room.login("x", policy="keep")):
            assert "crs1_" not in repr(thing), "a token in a repr"


assert httpx and Unavailable and Conflict
tap.main([
    who_puts_nothing_in_has_no_session,
    what_is_put_in_is_there_next_time_and_the_cookie_is_as_said,
    a_forged_key_is_never_adopted,
    signing_in_and_out_sets_and_clears_the_cookie,
    a_save_that_fails_is_an_error_and_not_a_lie,
    a_log_in_or_log_out_that_is_not_everywhere_sets_no_cookie,
    what_others_do_meanwhile_is_merged_or_told,
    after_the_response_has_begun_a_change_is_saved_when_told,
    a_websocket_has_its_session,
    a_cookie_that_browsers_would_drop_is_refused_at_start,
    live_sessions_of_starlettes_cookies_go_on,
    an_old_place_that_fails_is_no_log_out,
    a_server_never_blocks_its_loop_and_keeps_its_promises,
    what_cannot_be_opened_ends_the_server_at_its_start,
    an_agent_that_comes_later_is_waited_for_request_by_request,
    the_ten_lines_run_with_four_workers,
    the_page_does_what_it_says,
    no_token_was_ever_logged,
])
