# SPDX-License-Identifier: Apache-2.0
"""The cookie that carries a token: its name, its attributes, and that they fit together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

from ._values import Login
from .errors import InvalidArgument

__all__ = ["CookieSettings", "deletion", "parse"]

SameSite = Literal["lax", "strict", "none"]

# RFC 6265: a token of HTTP; and what ends no attribute.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[ -:<-~]*")


@dataclass(frozen=True, slots=True)
class CookieSettings:
    """How clients keep the token. Always HttpOnly.

    Without a `name` it is `__Host-cloakroom`, which browsers take only from this host over https; with a
    `domain` or another `path` `__Secure-cloakroom`; with `secure=False`, for development over http,
    `cloakroom`. `persistent=False`: browsers drop it when they end, else with the session's absolute
    end; the idle end is the server's to know.
    """

    name: str = ""
    secure: bool = True
    samesite: SameSite = "lax"
    domain: str | None = None
    path: str = "/"
    persistent: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self._default_name())
        if _NAME.fullmatch(self.name) is None:
            raise _wrong(f"the cookie's name {self.name!r}: letters, digits, - and _ are safe")
        for what, text in (("domain", self.domain or ""), ("path", self.path)):
            if _ATTRIBUTE.fullmatch(text) is None:
                raise _wrong(f"the cookie's {what} {text!r} has a character that no cookie can have")
        if not self.path.startswith("/"):
            raise _wrong(f"the cookie's path {self.path!r} begins with no /")
        if self.samesite not in ("lax", "strict", "none"):
            raise _wrong(f"samesite={self.samesite!r}: one of 'lax', 'strict', 'none'")
        if self.samesite == "none" and not self.secure:
            raise _wrong("samesite='none' without secure=True: browsers drop such a cookie")
        lower = self.name.lower()
        if lower.startswith(("__host-", "__secure-")) and not self.secure:
            raise _wrong(
                f"browsers drop a cookie {self.name!r} that is not Secure: leave the name out, or secure=True"
            )
        if lower.startswith("__host-") and (self.domain is not None or self.path != "/"):
            raise _wrong(
                f"browsers drop a cookie {self.name!r} with a domain or a path other than /: leave these out,"
                " or name it '__Secure-cloakroom'"
            )

    def _default_name(self) -> str:
        if not self.secure:
            return "cloakroom"
        return "__Host-cloakroom" if self.domain is None and self.path == "/" else "__Secure-cloakroom"

    def issue(self, login: Login) -> str:
        """The value of Set-Cookie that hands out the token of `login`."""
        age = ""
        if self.persistent:
            session = login.session
            # By the session's own times: this host's clock may be another than the store's.
            left = (session.ends_at - max(session.created_at, session.seen_at)).total_seconds()
            expires = formatdate(session.ends_at.timestamp(), usegmt=True)
            age = f"; Max-Age={max(0, math.ceil(left))}; Expires={expires}"
        return f"{self.name}={login.signed_token}{age}{self._attributes()}"

    def clear(self) -> str:
        """The value of Set-Cookie that takes it away again."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT{self._attributes()}"

    def _attributes(self) -> str:
        domain = f"; Domain={self.domain}" if self.domain is not None else ""
        secure = "; Secure" if self.secure else ""
        return f"; Path={self.path}{domain}; HttpOnly{secure}; SameSite={self.samesite.capitalize()}"

    def read(self, headers: Iterable[str]) -> str | None:
        """The token in the values of a request's Cookie headers; None where there is none."""
        for header in headers:
            if self.name in header:  # most have none, or another's
                for part in header.split(";"):
                    name, _, value = part.partition("=")
                    if name.strip() == self.name:
                        return value.strip() or None
        return None


def parse(headers: Iterable[str]) -> dict[str, str]:
    """All cookies of a request; of two with one name the first, as it is the nearer path's."""
    cookies: dict[str, str] = {}
    for header in headers:
        for part in header.split(";"):
            name, equals, value = part.partition("=")
            if equals:
                value = value.strip()
                if len(value) >= 2 and value[0] == value[-1] == '"':
                    value = value[1:-1]
                cookies.setdefault(name.strip(), value)
    return cookies


def deletion(name: str, domain: str | None, path: str) -> str:
    """The value of Set-Cookie that takes away a cookie of somebody else."""
    secure = "; Secure" if name.lower().startswith(("__host-", "__secure-")) else ""
    where = f"; Domain={domain}" if domain is not None else ""
    return f"{name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path={path}{where}{secure}"


def _wrong(text: str) -> InvalidArgument:
    return InvalidArgument(text, "CR_E_INVALID")
