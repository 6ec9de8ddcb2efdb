# SPDX-License-Identifier: Apache-2.0
"""The application of test_starlette.py and of its server: every way to use a session, one route each."""

import asyncio
import json
import os

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from cloakroom.starlette import CookieSettings, SessionMiddleware, login, logout, session_of

hooks = {}  # what the test does in the middle of a request


async def untouched(_request):
    return PlainTextResponse("nothing")


async def look(request):
    session = session_of(request)
    return JSONResponse({"user": session.user, "data": dict(session), "new": session.is_new})


async def put(request):
    request.session.update(json.loads(request.query_params["data"]))
    if "hook" in request.query_params:
        await hooks[request.query_params["hook"]](request)
    return JSONResponse(dict(request.session), headers=json.loads(request.query_params.get("headers", "{}")))


async def new(request):
    return JSONResponse(request.session.is_new)


async def deep(request):
    request.session["cart"]["items"].append(1)
    return PlainTextResponse("put deep inside")


async def clear(request):
    request.session.clear()
    return PlainTextResponse("cleared")


async def sign_in(request):
    done = await login(request, request.query_params["user"], policy=request.query_params.get("policy", "replace"))
    request.session["after"] = "login"
    return JSONResponse({"id": done.session.id})


async def sign_out(request):
    await logout(request)
    if "put" in request.query_params:
        request.session["later"] = 1
    return PlainTextResponse("out")


async def cycle(request):
    await request.session.cycle()
    return PlainTextResponse("cycled")


async def bad(request):
    request.session["file"] = object()
    return PlainTextResponse("never")


async def large(request):
    request.session["a"] = "x" * 70000
    return PlainTextResponse("never")


async def refuse(request):
    request.session["tries"] = request.session.get("tries", 0) + 1
    raise HTTPException(403, "no")


async def stream(request):
    async def body():
        yield b"begun "
        request.session["late"] = 1
        if "save" in request.query_params:
            await request.session.save()
        yield b"ended"

    request.session["early"] = 1
    return StreamingResponse(body())


async def swallow(request):
    """An application that hides what goes wrong."""
    try:
        return PlainTextResponse(str(request.session.user))
    except Exception as error:  # noqa: BLE001  # as some do
        return PlainTextResponse(type(error).__name__)


async def chat(websocket):
    if "early" in websocket.query_params:
        websocket.session["early"] = 1
    if "look" in websocket.query_params:
        websocket.session.user  # noqa: B018  # who needs it
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "alive":
            await websocket.send_json(await websocket.session.alive())
        else:
            websocket.session[text] = websocket.session.get(text, 0) + 1
            await websocket.send_json(dict(websocket.session))


class InBetween(BaseHTTPMiddleware):
    """Runs what is behind it in another task."""

    async def dispatch(self, request, call_next):
        return await call_next(request)


def build(more=(), **settings):
    return Starlette(
        routes=[Route(f"/{name}", globals()[name]) for name in (
            "untouched", "look", "put", "new", "deep", "clear", "sign_in", "sign_out", "cycle", "bad", "large",
            "refuse", "stream", "swallow")] + [WebSocketRoute("/chat", chat)],
        middleware=[Middleware(SessionMiddleware, **settings), *more],
    )


def served():
    """For uvicorn --factory."""
    assert asyncio.get_event_loop_policy() is not None
    return build(url=os.environ["SITE_URL"], cookie=CookieSettings(secure=False))
