# SPDX-License-Identifier: Apache-2.0
"""What the shop wants of whatever keeps its sessions."""

from typing import Protocol

from fastapi import FastAPI, Request, Response


class Sessions(Protocol):
    async def log_in(self, request: Request, response: Response, user: str) -> bool:
        """Give this browser a session. True: the user's other sessions have been ended."""

    async def user(self, request: Request) -> str | None:
        """Whose session this request carries; None: it is not logged in."""

    async def cart(self, request: Request) -> list[str]: ...

    async def put(self, request: Request, item: str) -> list[str]:
        """The cart with one item more."""

    async def devices(self, request: Request, user: str) -> list[str]:
        """Where the user is logged in."""

    async def log_out(self, request: Request, response: Response) -> None: ...


def chosen(name: str, app: FastAPI) -> Sessions:
    if name == "memory":
        import sessions_memory

        return sessions_memory.MemorySessions(app)
    if name == "ttl":
        import sessions_ttl

        return sessions_ttl.TableSessions()
    if name == "cloakroom":
        import sessions_cloakroom

        return sessions_cloakroom.CloakroomSessions(app)
    raise SystemExit(f"SHOP_SESSIONS={name}: one of memory, ttl, cloakroom")
