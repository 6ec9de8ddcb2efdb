# SPDX-License-Identifier: Apache-2.0
"""A small shop: log in, your cart, your devices, log out.

    SHOP_SESSIONS=cloakroom uvicorn --app-dir examples/fastapi shop:app --workers 4

What keeps its sessions is one of sessions_*.py: a dictionary in each worker (memory), a cache in front
of the shop's own table (ttl), or Cloakroom. The shop does not know the difference; its users do.
"""

import os

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from sessions import Sessions, chosen

app = FastAPI(title="Shop")
sessions: Sessions = chosen(os.environ.get("SHOP_SESSIONS", "cloakroom"), app)


class Credentials(BaseModel):
    user: str
    password: str


async def signed_in(request: Request) -> str:
    user = await sessions.user(request)
    if user is None:
        raise HTTPException(401, "Not logged in")
    return user


@app.post("/login")
async def log_in(given: Credentials, request: Request, response: Response) -> dict[str, object]:
    if given.password != "open sesame":  # yours are hashed, and differ
        raise HTTPException(401, "Wrong user or password")
    return {"user": given.user, "others_ended": await sessions.log_in(request, response, given.user)}


@app.get("/profile")
async def profile(user: str = Depends(signed_in)) -> dict[str, str]:
    return {"user": user}


@app.get("/cart")
async def cart(request: Request, user: str = Depends(signed_in)) -> list[str]:
    return await sessions.cart(request)


@app.post("/cart/{item}")
async def put(item: str, request: Request, user: str = Depends(signed_in)) -> list[str]:
    return await sessions.put(request, item)


@app.get("/devices")
async def devices(request: Request, user: str = Depends(signed_in)) -> list[str]:
    return await sessions.devices(request, user)


@app.post("/logout", status_code=204)
async def log_out(request: Request, response: Response) -> None:
    await sessions.log_out(request, response)


@app.get("/worker")
async def worker() -> int:
    """Which process answers."""
    return os.getpid()
