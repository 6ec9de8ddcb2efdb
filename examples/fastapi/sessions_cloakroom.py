# SPDX-License-Identifier: Apache-2.0
"""Cloakroom: every worker sees the one table of this host, and a log-out is true in all of them when it
answers."""

import os

import cloakroom.fastapi
from cloakroom.fastapi import CookieSettings, session_of
from fastapi import FastAPI, Request, Response


class CloakroomSessions:
    def __init__(self, app: FastAPI) -> None:
        cloakroom.fastapi.setup(
            app,
            url=os.environ.get("SHOP_STORE", "sqlite:///tmp/shop.db"),  # or an agent's socket
            cookie=CookieSettings(secure=False),  # plain http, in development
            request_session=True,
        )

    async def log_in(self, request: Request, response: Response, user: str) -> bool:
        agent = request.headers.get("user-agent")
        await cloakroom.fastapi.login(request, response, user, policy="replace", agent=agent)
        return True

    async def user(self, request: Request) -> str | None:
        return session_of(request).user

    async def cart(self, request: Request) -> list[str]:
        return list(request.session.get("cart", []))

    async def put(self, request: Request, item: str) -> list[str]:
        request.session["cart"] = [*request.session.get("cart", []), item]
        return await self.cart(request)

    async def devices(self, request: Request, user: str) -> list[str]:
        room = await cloakroom.fastapi.current_room(request)
        return [session.agent async for session in room.asessions_of(user)]

    async def log_out(self, request: Request, response: Response) -> None:
        await cloakroom.fastapi.logout(request, response)
