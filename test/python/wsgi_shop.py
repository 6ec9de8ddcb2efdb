# SPDX-License-Identifier: Apache-2.0
"""What of the shop (examples/fastapi/) the tests ask, as plain WSGI over the calls that wait. The room is
opened where the module is imported: with gunicorn's preload_app, before the workers are forked."""

import http.cookies
import json
import os

import cloakroom

COOKIE = "cloakroom"
room = cloakroom.Cloakroom.open(os.environ["SHOP_STORE"])


def app(environ, start_response):
    token = http.cookies.SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    token = token.value if token else ""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        status, headers, answer = answers(environ["PATH_INFO"], token, body)
    except cloakroom.Later as why:
        status, headers, answer = "503 Service Unavailable", [("Retry-After", "1")], str(why)
    body = b"" if status.startswith("204") else json.dumps(answer).encode()
    if body:
        headers = [*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


def answers(path, token, body):
    if path == "/worker":
        return "200 OK", [], os.getpid()
    if path == "/login":
        login = room.login(json.loads(body)["user"], policy="replace")
        return "200 OK", [("Set-Cookie", f"{COOKIE}={login.signed_token}; HttpOnly")], {"others_ended": True}
    session = room.validate(token)
    if session is None:
        return "401 Unauthorized", [], "Not logged in"
    if path == "/logout":
        room.end(session)
        return "204 No Content", [], None
    return "200 OK", [], {"user": session.user}
