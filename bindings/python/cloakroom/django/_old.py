# SPDX-License-Identifier: Apache-2.0
"""The sessions of another engine of Django's, to be moved: `CLOAKROOM["migrate_from"]`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib import import_module

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase

from .._migrate import OldSession, OldSessions

__all__ = ["EngineSessions"]


class EngineSessions(OldSessions):
    """What `SESSION_ENGINE` was. Its rows stay, for the way back, until their users log out."""

    def __init__(
        self, engine: str, cookie: str, *, domain: str | None, path: str, until: datetime | None
    ) -> None:
        super().__init__(cookie, domain=domain, path=path, until=until)
        self._engine = engine

    def _store(self, cookies: Mapping[str, str]) -> SessionBase | None:
        key = cookies.get(self.cookie)
        if not key or key.startswith("crs1_"):
            return None
        store: SessionBase = import_module(self._engine).SessionStore(key)
        return store

    def load(self, cookies: Mapping[str, str]) -> OldSession | None:
        store = self._store(cookies)
        if store is None:
            return None
        data = store.load()
        if not data or not store.session_key:
            return None
        return OldSession(store.session_key.encode(), data.get(SESSION_KEY), data)

    async def aload(self, cookies: Mapping[str, str]) -> OldSession | None:
        # In the thread that has Django's connections.
        return await sync_to_async(self.load)(cookies)

    def forget(self, cookies: Mapping[str, str]) -> None:
        """Who logs out here does so there, too."""
        store = self._store(cookies)
        if store is not None:
            store.delete()
