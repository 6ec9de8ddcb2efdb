# SPDX-License-Identifier: Apache-2.0
"""The awaited names of Django 5.1's sessions, on every Django from 3.2 on.

What they wait for is the session being there; the rest is as of the name without the `a`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

    from django.contrib.sessions.backends.base import SessionBase

    _Base = SessionBase
else:
    _Base = object

__all__ = ["AsyncNames"]

_NOT_GIVEN: Any = object()


class AsyncNames(_Base):
    """To be mixed in before SessionBase."""

    _session_cache: dict[str, Any]

    async def _aget_session(self, no_load: bool = False) -> dict[str, Any]:
        self.accessed = True
        try:
            return self._session_cache
        except AttributeError:
            if self.session_key is None or no_load:
                self._session_cache = {}
            else:
                self._session_cache = await self.aload()
        return self._session_cache

    async def aload(self) -> dict[str, Any]:
        raise NotImplementedError

    async def aget(self, key: str, default: Any = None) -> Any:
        return (await self._aget_session()).get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        await self._aget_session()
        self[key] = value

    async def apop(self, key: str, default: Any = _NOT_GIVEN) -> Any:
        await self._aget_session()
        return self.pop(key) if default is _NOT_GIVEN else self.pop(key, default)

    async def asetdefault(self, key: str, value: Any) -> Any:
        await self._aget_session()
        return self.setdefault(key, value)

    async def aupdate(self, dict_: Any) -> None:
        await self._aget_session()
        self.update(dict_)

    async def ahas_key(self, key: str) -> bool:
        return key in await self._aget_session()

    async def akeys(self) -> dict_keys[str, Any]:
        return (await self._aget_session()).keys()

    async def avalues(self) -> dict_values[str, Any]:
        return (await self._aget_session()).values()

    async def aitems(self) -> dict_items[str, Any]:
        return (await self._aget_session()).items()

    async def aset_test_cookie(self) -> None:
        await self._aget_session()
        self.set_test_cookie()

    async def atest_cookie_worked(self) -> bool:
        await self._aget_session()
        return bool(self.test_cookie_worked())

    async def adelete_test_cookie(self) -> None:
        await self._aget_session()
        self.delete_test_cookie()

    async def aset_expiry(self, value: datetime | timedelta | int | None) -> None:
        await self._aget_session()
        self.set_expiry(value)

    async def aget_expiry_age(self, **kwargs: Any) -> int:
        await self._aget_session()
        return self.get_expiry_age(**kwargs)

    async def aget_expiry_date(self, **kwargs: Any) -> datetime:
        await self._aget_session()
        return self.get_expiry_date(**kwargs)

    async def aget_expire_at_browser_close(self) -> bool:
        await self._aget_session()
        return bool(self.get_expire_at_browser_close())
