# SPDX-License-Identifier: Apache-2.0
"""The shop's own table, and in front of it a cache whose entries live for a minute.

A log-out deletes the row and the entry of the worker that answers it. The other workers go on to
believe theirs until the minute is over.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

COOKIE = "session"
LIFETIME_SECONDS = 3600


class SessionCache:
    """Token to user, each for `ttl` seconds, and an index of the tokens of a user."""

    def __init__(self, ttl: float = 60) -> None:
        self.ttl = ttl
        self.guard = threading.Lock()
        self.entries: dict[str, tuple[str, float]] = {}
        self.tokens: dict[str, set[str]] = {}

    def get(self, token: str) -> str | None:
        with self.guard:
            user, until = self.entries.get(token, ("", 0.0))
        return user if time.monotonic() < until else None

    def set(self, token: str, user: str) -> None:
        with self.guard:
            self.entries[token] = (user, time.monotonic() + self.ttl)
            self.tokens.setdefault(user, set()).add(token)

    def invalidate(self, token: str) -> None:
        with self.guard:
            user, _ = self.entries.pop(token, ("", 0.0))
            self.tokens.get(user, set()).discard(token)

    def invalidate_by_user(self, user: str) -> None:
        with self.guard:
            for token in self.tokens.pop(user, set()):
                self.entries.pop(token, None)


class TableSessions:
    def __init__(self) -> None:
        self.path = os.environ.get("SHOP_DATABASE", "shop.db")
        self.cache = SessionCache()
        self.local = threading.local()

    # The table. Each of these runs in a thread, which has a connection of its own.

    def connection(self) -> sqlite3.Connection:
        if not hasattr(self.local, "connection"):
            made = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=NORMAL")
            made.execute("CREATE TABLE IF NOT EXISTS sessions (token TEXT PRIMARY KEY, user TEXT,"
                         " cart TEXT DEFAULT '[]', device TEXT, ends REAL)")
            made.execute("CREATE INDEX IF NOT EXISTS sessions_of ON sessions (user)")
            self.local.connection = made
        connection: sqlite3.Connection = self.local.connection
        return connection

    def find(self, token: str, column: str) -> str | None:
        row = self.connection().execute(
            f"SELECT {column} FROM sessions WHERE token = ? AND ends > ?", (token, time.time())).fetchone()
        return str(row[0]) if row else None

    def replace(self, token: str, user: str, device: str) -> None:
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM sessions WHERE user = ?", (user,))
            connection.execute("INSERT INTO sessions (token, user, device, ends) VALUES (?, ?, ?, ?)",
                               (token, user, device, time.time() + LIFETIME_SECONDS))

    def write(self, statement: str, *values: str) -> None:
        self.connection().execute(statement, values)

    def devices_of(self, user: str) -> list[str]:
        return [str(row[0]) for row in self.connection().execute(
            "SELECT device FROM sessions WHERE user = ? AND ends > ?", (user, time.time()))]

    # What the shop asks.

    async def log_in(self, request: Request, response: Response, user: str) -> bool:
        secret = secrets.token_urlsafe(32)
        await run_in_threadpool(self.replace, hashed(secret), user, request.headers.get("user-agent", ""))
        self.cache.invalidate_by_user(user)
        response.set_cookie(COOKIE, secret, httponly=True, samesite="lax")
        return True

    async def user(self, request: Request) -> str | None:
        token = token_of(request)
        user = self.cache.get(token)
        if user is None:
            user = await run_in_threadpool(self.find, token, "user")
            if user is not None:
                self.cache.set(token, user)
        return user

    async def cart(self, request: Request) -> list[str]:
        found = await run_in_threadpool(self.find, token_of(request), "cart")
        items: list[str] = json.loads(found or "[]")
        return items

    async def put(self, request: Request, item: str) -> list[str]:
        items = [*await self.cart(request), item]
        await run_in_threadpool(self.write, "UPDATE sessions SET cart = ? WHERE token = ?",
                                json.dumps(items), token_of(request))
        return items

    async def devices(self, request: Request, user: str) -> list[str]:
        return await run_in_threadpool(self.devices_of, user)

    async def log_out(self, request: Request, response: Response) -> None:
        token = token_of(request)
        await run_in_threadpool(self.write, "DELETE FROM sessions WHERE token = ?", token)
        self.cache.invalidate(token)
        response.delete_cookie(COOKIE)


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def token_of(request: Request) -> str:
    return hashed(request.cookies.get(COOKIE, ""))
