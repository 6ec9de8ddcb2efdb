#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tap: python
# tap: timeout=120
"""Sessions as FastAPI's dependencies, in process over the fake; the ten lines of doc/python-fastapi.md, and
what needs more workers, under uvicorn over a real agent."""

import contextlib
import http.client
import json
import logging
import os
import pathlib
import subprocess
import sys
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "proc")]
sys.dont_write_bytecode = True
import fastapi
import pages
import scratch
import tap
from desk import Desk
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.testclient import TestClient

from cloakroom import Cloakroom, InvalidArgument, Session
from cloakroom.fastapi import (
    CookieSettings,
    current_room,
    current_session,
    login,
    logout,
    optional_session,
    require_fresh,
    require_user,
    session_of,
    setup,
)
from cloakroom.testing import FakeCloakroom

NAME = "__Host-cloakroom"
FORGED = "crs1_" + "A" * 80
ANNOTATED = tuple(map(int, fastapi.__version__.split(".")[:2])) >= (0, 95)


class Log(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


LOG = Log()
logging.getLogger().addHandler(LOG)


def application(**settings):
    app = FastAPI()
    setup(app, **settings)

    @app.post("/login")
    async def sign_in(user: str, request: Request, response: Response, policy: str = "replace"):
        done = await login(request, response, user, policy=policy)
        return {"token": done.signed_token, "id": done.session.id}

    @app.post("/own")
    async def own(user: str, request: Request):
        response = Response("own")
        await login(request, response, user)
        return response

    @app.post("/logout")
    async def sign_out(request: Request, response: Response):
        await logout(request, response)

    @app.get("/current")
    async def current(session: Session = Depends(current_session)):
        return {"user": session.user, "id": session.id}

    @app.get("/optional")
    async def optional(session=Depends(optional_session)):
        return {"user": session.user if session is not None else None, "any": session is not None}

    @app.get("/user")
    def user(user: str = Depends(require_user)):
        return {"user": user}

    @app.get("/fresh")
    async def fresh(session: Session = Depends(require_fresh(5))):
        return {"user": session.user}

    @app.get("/twice")
    async def twice(session: Session = Depends(current_session), user: str = Depends(require_user),
                    room: Cloakroom = Depends(current_room)):
        return {"user": user, "same": room.validate is not None and session.user == user}

    @app.get("/free")
    async def free():
        return {}

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, session: Session = Depends(current_session)):
        await websocket.accept()
        await websocket.send_json({"user": session.user})
        await websocket.close()

    if settings.get("request_session") or settings.get("migrate_from"):
        @app.get("/put")
        async def put(request: Request, value: str, fail: bool = False):
            session_of(request)["value"] = value
            if fail:
                stack = request.app.state.stack
                stack.enter_context(request.app.state.cloakroom.holder.room.unavailable())
            return dict(request.session)

    return app


@contextlib.contextmanager
def served(**settings):
    room = FakeCloakroom()
    app = application(room=room, **settings)
    with TestClient(app, base_url="https://testserver", raise_server_exceptions=False) as browser:
        browser.room = room
        yield browser


def cookies_of(response):
    return response.headers.get_list("set-cookie")


NEED = ("/current", "/user", "/fresh", "/twice")


def without_a_session_routes_that_need_one_answer_401():
    for settings in ({}, {"request_session": True}, {"bearer": True}):
        with served(**settings) as browser:
            visitor = browser.room.create(None, json={"cart": [1]}).signed_token
            over = browser.room.login("x", policy="keep")
            browser.room.end(over.session)
            for token in (None, "", "x", FORGED, over.signed_token, visitor, "é" * 30, "a" * 9000):
                headers = {"cookie": f"{NAME}={token}".encode("latin-1")} if token is not None else {}
                for path in NEED:
                    response = browser.get(path, headers=headers)
                    assert response.status_code == 401, f"{path} {token}: {response.status_code}"
                    assert response.json() == {"detail": "Not signed in."}
                    assert response.headers["www-authenticate"] == (
                        "Bearer" if settings.get("bearer") else f'Cookie cookie-name="{NAME}"')
                    assert not cookies_of(response)
                answer = browser.get("/optional", headers=headers).json()
                assert answer == {"user": None, "any": token == visitor}, f"{token}: {answer}"


def signing_in_and_out_works_with_and_without_the_middleware():
    for settings in ({}, {"request_session": True}):
        with served(**settings) as browser:
            response = browser.post("/login?user=alice")
            assert response.status_code == 200, response.text
            cookie, = cookies_of(response)
            assert cookie.startswith(f"{NAME}={response.json()['token']}; Max-Age=43200; "), cookie
            assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=Lax"), cookie
            assert response.headers["cache-control"] == "no-store"
            for path in (*NEED, "/optional"):
                response = browser.get(path)
                assert response.json()["user"] == "alice", f"{path}: {response.text}"
                assert not cookies_of(response)
            assert browser.get("/twice").json()["same"] is True
            # Another log-in replaces it; this one is out at once.
            with TestClient(browser.app, base_url="https://testserver") as other:
                other.post("/login?user=alice")
                assert browser.get("/current").status_code == 401
                other.post("/login?user=bob&policy=keep")
                assert [one.user for one in browser.room.sessions_of("alice")] == [], "bob took alice's place"
            # On a response that the route made itself.
            response = browser.post("/own?user=carol")
            assert response.text == "own" and len(cookies_of(response)) == 1
            token = browser.cookies[NAME]
            response = browser.post("/logout")
            cookie, = cookies_of(response)
            assert cookie.startswith(f"{NAME}=; Max-Age=0; ") and "Secure" in cookie
            assert browser.room.validate(token) is None and browser.get("/current").status_code == 401


def a_visitors_session_becomes_the_users():
    for settings in ({"request_session": True}, {}):
        with served(**settings) as browser:
            visitor = browser.room.create(None, json={"value": "1"})
            browser.cookies.set(NAME, visitor.signed_token)
            response = browser.post("/login?user=alice")
            token = response.json()["token"]
            session = browser.room.validate(token)
            assert session.json() == {"value": "1"} and session.id != visitor.session.id
            assert browser.room.validate(visitor.signed_token) is None


def a_store_that_cannot_be_asked_is_503_and_no_log_out():
    for settings in ({}, {"request_session": True}, {"bearer": True}):
        with served(**settings) as browser:
            browser.post("/login?user=alice")
            with browser.room.unavailable():
                for path in (*NEED, "/optional"):
                    response = browser.get(path)
                    assert response.status_code == 503, f"{path}: {response.status_code}"
                    assert response.headers["retry-after"] == "1"
                    assert "signed out" in response.json()["detail"]
                    assert not cookies_of(response)
                assert browser.get("/free").status_code == 200
                for path in ("/logout", "/login?user=bob"):
                    response = browser.post(path)
                    assert response.status_code == 503 and not cookies_of(response), path
            assert browser.get("/current").json()["user"] == "alice"
            with browser.room.pending(3):
                browser.room.login("bob", policy="keep")
                for path in ("/login?user=bob", "/logout"):
                    response = browser.post(path)
                    assert response.status_code == 503 and not cookies_of(response), path
                    assert response.headers["retry-after"] == "3"
    with served(request_session=True) as browser, contextlib.ExitStack() as browser.app.state.stack:
        response = browser.get("/put?value=1&fail=true")  # the save fails, after the route
        assert response.status_code == 503 and not cookies_of(response), response.status_code


def a_log_in_grows_old():
    with served() as browser:
        browser.post("/login?user=alice")
        browser.room.advance(5 * 60)
        assert browser.get("/fresh").status_code == 200
        browser.room.advance(0.001)
        response = browser.get("/fresh")
        assert response.status_code == 403 and "5 minutes" in response.json()["detail"], response.text
        assert browser.get("/current").status_code == 200
        browser.post("/login?user=alice")
        assert browser.get("/fresh").status_code == 200
        # What is fresh is asked of the store itself.
        with mock.patch.object(browser.room, "avalidate_strict", wraps=browser.room.avalidate_strict) as asked:
            assert browser.get("/fresh").status_code == 200 and asked.call_count == 1
    for wrong in (0, -1):
        try:
            require_fresh(wrong)
        except InvalidArgument:
            continue
        raise AssertionError(wrong)


def a_program_brings_its_token_itself():
    for settings in ({"bearer": True}, {"bearer": True, "request_session": True}):
        with served(**settings) as browser:
            token = browser.post("/login?user=alice").json()["token"]
            browser.cookies.clear()
            for value in (f"Bearer {token}", f"bearer {token} "):
                for path in NEED:
                    assert browser.get(path, headers={"authorization": value}).json()["user"] == "alice"
            for value in (token, f"Basic {token}", "Bearer", "Bearer ", f"Bearer {token[:-1]}", "Bearer " + FORGED):
                assert browser.get("/current", headers={"authorization": value}).status_code == 401, value
            # A cookie beside it is another's business: of two, it is always the token that is meant.
            cookie = browser.room.login("bob", policy="keep").signed_token
            both = {"authorization": f"Bearer {token}", "cookie": f"{NAME}={cookie}"}
            for path in NEED:
                assert browser.get(path, headers=both).json()["user"] == "alice", (settings, path)
            assert browser.get("/current", headers={**both, "authorization": f"Bearer {FORGED}"}).status_code == 401
            assert browser.post("/logout", headers=both).status_code == 200
            assert browser.room.validate(token) is None and browser.room.validate(cookie) is not None
    with served() as browser:
        token = browser.room.login("alice", policy="keep").signed_token
        assert browser.get("/current", headers={"authorization": f"Bearer {token}"}).status_code == 401


def openapi_shows_how_to_come_in():
    for settings, wanted in (
        ({}, {"cloakroom": {"type": "apiKey", "in": "cookie", "name": NAME}}),
        ({"cookie": CookieSettings(secure=False), "bearer": True},
         {"cloakroom": {"type": "apiKey", "in": "cookie", "name": "cloakroom"},
          "cloakroomBearer": {"type": "http", "scheme": "bearer"}}),
    ):
        with served(**settings) as browser:
            for _ in range(2):
                schema = browser.get("/openapi.json").json()
                assert schema["components"]["securitySchemes"] == wanted, schema["components"]
                for path in NEED:
                    assert schema["paths"][path]["get"]["security"] == [{name: []} for name in wanted], path
                assert "security" not in schema["paths"]["/free"]["get"]


def a_websocket_needs_a_session_too():
    with served() as browser:
        browser.post("/login?user=alice")
        with browser.websocket_connect("wss://testserver/ws") as socket:
            assert socket.receive_json() == {"user": "alice"}
        with browser.room.unavailable():
            refused(browser)
        browser.cookies.clear()
        refused(browser)


def refused(browser):
    try:
        with browser.websocket_connect("wss://testserver/ws") as socket:
            socket.receive_json()
    except Exception as error:  # noqa: BLE001  # which one differs by version
        assert not isinstance(error, AssertionError), error
        return
    raise AssertionError("it was let in")


def an_application_that_was_not_set_up_says_so():
    app = FastAPI()

    @app.get("/")
    async def route(session: Session = Depends(current_session)):
        return session.user

    try:
        TestClient(app).get("/")
    except RuntimeError as error:
        assert "setup(app" in str(error)
    else:
        raise AssertionError("it went on")
    for wrong in ({}, {"room": FakeCloakroom(), "url": "memory:"}):
        try:
            setup(FastAPI(), **wrong)
        except InvalidArgument:
            continue
        raise AssertionError(wrong)
    app = FastAPI()
    setup(app, room=FakeCloakroom())
    try:
        setup(app, room=FakeCloakroom())
    except InvalidArgument:
        return
    raise AssertionError("twice")


def the_room_is_opened_at_start_and_closed_at_the_end():
    rooms, began = [], []

    @contextlib.asynccontextmanager
    async def own(_app):
        began.append(len(rooms))
        yield

    def opened(url, **_):
        rooms.append(FakeCloakroom())
        assert url == "sqlite:///x"
        return rooms[-1]

    with mock.patch.object(Cloakroom, "open", opened):
        app = FastAPI(lifespan=own) if ANNOTATED else FastAPI()
        setup(app, url="sqlite:///x")
        app.get("/")(current_route)
        assert rooms == []
        with TestClient(app) as browser:
            assert len(rooms) == 1 and (began == [1] or not ANNOTATED)
            assert browser.get("/").status_code == 401
        try:
            rooms[0].validate(FORGED)
        except InvalidArgument:
            pass
        else:
            raise AssertionError("it is open still")
        cookie = {"cookie": f"{NAME}={FORGED}"}
        assert TestClient(app).get("/", headers=cookie).status_code == 401, "no start: opened when needed"
        assert len(rooms) == 1 + 1


async def current_route(session: Session = Depends(current_session)):
    return session.user


def the_ten_lines_run_with_four_workers():
    """As on the page; only that the store's URL is that of the test's agent, as root starts none."""
    code = pages.blocks("python-fastapi.md")[0][1]
    command = pages.blocks("python-fastapi.md", "sh")[0][1].splitlines()[-1].split()
    assert command[:2] == ["uvicorn", "app:app"], command
    if not ANNOTATED:
        code = code.replace("session: CurrentSession", "session=Depends(current_session)").replace(
            "import CurrentSession,", "import current_session,").replace("import FastAPI", "import Depends, FastAPI")
    with Desk() as desk:
        assert "sqlite:///var/lib/app/sessions.db" in code
        (desk.home / "app.py").write_text(
            code.replace("sqlite:///var/lib/app/sessions.db", str(desk.state / "app.sock")))
        port, log = scratch.free_port(), desk.home / "uvicorn.log"
        with open(log, "ab") as out:
            server = subprocess.Popen(
                [sys.executable, "-B", "-m", *command, "--port", str(port)], stdout=out, stderr=out, cwd=desk.home,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(desk.home), os.environ.get("PYTHONPATH", "")])})
        try:
            def ask(method, path, cookie=None):
                assert server.poll() is None, log.read_text()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                try:
                    connection.request(method, path, headers={"Cookie": cookie} if cookie else {})
                    response = connection.getresponse()
                    return response.status, response.headers["set-cookie"], response.read().decode()
                finally:
                    connection.close()

            def up():
                with contextlib.suppress(OSError):
                    return ask("GET", "/me")

            assert scratch.until(up, "the server", 60)[0] == 401
            _, cookie, _ = ask("POST", "/login?name=alice")
            cookie = cookie.partition(";")[0]
            for _ in range(30):  # a connection each, so whichever worker
                assert ask("GET", "/me", cookie) == (200, None, '{"user":"alice"}')
            _, later, _ = ask("POST", "/login?name=alice")
            for _ in range(30):
                assert ask("GET", "/me", cookie)[0] == 401, "a replaced session was let in"
            assert ask("GET", "/me", later.partition(";")[0])[0] == 200
            assert "crs1_" not in log.read_text(), "a token was logged"
        finally:
            scratch.end(server)


def the_page_does_what_it_says():
    if not ANNOTATED:
        # Its parameters are of newer ones; what stands there for older ones is what the tests above use.
        text = (pages.DOC / "python-fastapi.md").read_text("utf-8")
        for words in ("Session = Depends(current_session)", "Depends(optional_session)", "str = Depends(require_user)",
                      "Cloakroom = Depends(current_room)"):
            assert words in text, words
        return
    with mock.patch.object(Cloakroom, "open", lambda *_args, **_kwargs: FakeCloakroom()):
        page = pages.run("python-fastapi.md", {})
        page["test_a_session_ends_after_half_an_hour_without_use"]()

        def started(app):
            return TestClient(app, base_url="https://testserver")

        with started(page["app"]) as browser:
            browser.post("/login?name=alice")
            first = browser.cookies[NAME]
            assert browser.get("/me").json() == {"user": "alice"}
            device, = browser.get("/devices").json()
            assert device["here"] and device["address"] == "testclient"
            assert browser.delete("/devices/crp_x").status_code == 404
            assert browser.delete("/devices").status_code == 200
            assert browser.get("/me").status_code == 200
            assert browser.delete(f"/devices/{device['id']}").status_code == 200
            assert browser.get("/me").status_code == 401
            browser.post("/login?name=alice")
            assert browser.post("/password").status_code == 200
            assert browser.get("/me").status_code == 401
            browser.post("/login?name=alice")
            assert browser.post("/logout").status_code == 200 and NAME not in browser.cookies
            assert first
        with started(page["programs"]) as browser:
            token = browser.post("/token?name=bot").json()["token"]
            browser.cookies.clear()
            assert browser.get("/me", headers={"authorization": f"Bearer {token}"}).json() == {"user": "bot"}
        with started(page["shop"]) as browser:
            assert [browser.get("/cart").json() for _ in range(2)] == [1, 2]
        with started(page["moving"]) as browser:
            import base64

            import itsdangerous
            signer = itsdangerous.TimestampSigner("what SessionMiddleware had")
            browser.cookies.set("session", signer.sign(base64.b64encode(b'{"user": "old"}')).decode())
            assert browser.get("/me").json() == {"user": "old"} and NAME in browser.cookies
            browser.cookies.delete("session")
            assert browser.get("/me").json() == {"user": "old"}


def no_token_was_ever_logged():
    assert LOG.lines, "nothing was logged at all"
    assert json.dumps(LOG.lines).count("crs1_") == 0


tap.main([
    without_a_session_routes_that_need_one_answer_401,
    signing_in_and_out_works_with_and_without_the_middleware,
    a_visitors_session_becomes_the_users,
    a_store_that_cannot_be_asked_is_503_and_no_log_out,
    a_log_in_grows_old,
    a_program_brings_its_token_itself,
    openapi_shows_how_to_come_in,
    a_websocket_needs_a_session_too,
    an_application_that_was_not_set_up_says_so,
    the_room_is_opened_at_start_and_closed_at_the_end,
    the_ten_lines_run_with_four_workers,
    the_page_does_what_it_says,
    no_token_was_ever_logged,
])
