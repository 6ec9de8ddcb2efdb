# SPDX-License-Identifier: Apache-2.0
"""One FastAPI route that requires a session, with what PYTHON_APP names: nothing (a dependency that does
nothing), cloakroom, or redis (a GET, and JSON)."""

import json
import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

app = FastAPI()
kind = os.environ["PYTHON_APP"]

if kind == "nothing":
    async def user() -> str:
        return "user-00000000000"

elif kind == "cloakroom":
    import cloakroom.fastapi

    cloakroom.fastapi.setup(app, url=os.environ["PYTHON_APP_STORE"],
                            cookie=cloakroom.fastapi.CookieSettings(secure=False))
    user = cloakroom.fastapi.require_user

elif kind == "redis":
    import redis.asyncio

    client = redis.asyncio.Redis(unix_socket_path=os.environ["PYTHON_APP_REDIS"])

    async def user(request: Request) -> str:
        found = await client.get("session:" + request.cookies.get("session", ""))
        if found is None:
            raise HTTPException(401)
        return json.loads(found)["user"]


@app.get("/")
async def route(name: Annotated[str, Depends(user)]) -> dict[str, str]:
    return {"user": name}
