# SPDX-License-Identifier: Apache-2.0
"""starsessions with the store that its documentation begins with: a dictionary in the process.

With several workers each has a dictionary of its own: a request that reaches another worker than the
log-in did finds nobody logged in, and a log-out that reaches another one removes nothing.
"""

from fastapi import FastAPI, Request, Response
from starsessions import InMemoryStore, SessionAutoloadMiddleware, SessionMiddleware, regenerate_session_id


class MemorySessions:
    def __init__(self, app: FastAPI) -> None:
        app.add_middleware(SessionAutoloadMiddleware)
        app.add_middleware(
            SessionMiddleware, store=InMemoryStore(), lifetime=3600, cookie_https_only=False
        )

    async def log_in(self, request: Request, response: Response, user: str) -> bool:
        regenerate_session_id(request)
        request.session.update(user=user, cart=[])
        return False  # it does not know which sessions a user has

    async def user(self, request: Request) -> str | None:
        return request.session.get("user")

    async def cart(self, request: Request) -> list[str]:
        return list(request.session["cart"])

    async def put(self, request: Request, item: str) -> list[str]:
        request.session["cart"] = [*request.session["cart"], item]
        return await self.cart(request)

    async def devices(self, request: Request, user: str) -> list[str]:
        return ["this one"]

    async def log_out(self, request: Request, response: Response) -> None:
        request.session.clear()
