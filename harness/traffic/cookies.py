"""The cookies of one visitor, kept verbatim.

A jar keeps `name=value` exactly as it was set and sends it with every request: paths, domains and `Secure` are left
aside. A client that holds back `Secure` cookies over plain http looks exactly like a lost session; curl sends them,
and so do we. A cookie goes when it is set with `Max-Age` of nought or less, or with an `Expires` in the past; one
that would expire later is kept. What browsers do not keep is not kept either: a cookie of more than 4096 bytes, one with
control characters (RFC 6265bis, 5.6), more than some hundred of one site. Must not: interpret values.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["MOST_COOKIES", "CookieJar"]

MOST_COOKIES = 180
"""Of one site; then the one that came first is forgotten, as in Chromium. RFC 6265 asks for 50 at least."""
_LARGEST_COOKIE = 4096
"""Bytes of its name and value."""
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class CookieJar:
    """Cookies by name, in the order in which they first came."""

    __slots__ = ("_attributes", "_cookies", "_now", "line")

    def __init__(self, *, now: Callable[[], datetime], cookies: dict[str, str] | None = None) -> None:
        """`now` is asked for the date only when a cookie carries `Expires`."""
        self._cookies = dict(cookies or {})
        self._attributes: dict[str, tuple[str, ...]] = {}
        self._now = now
        self.line = self._render()
        """The whole header line with its end, or nothing when the jar is empty."""

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self._cookies)

    def copy(self, *, without: str | None = None) -> CookieJar:
        """Another jar with the same cookies, but for the one of this name."""
        kept = {name: value for name, value in self._cookies.items() if name != without}
        copy = CookieJar(now=self._now, cookies=kept)
        copy._attributes = dict(self._attributes)
        return copy

    def described(self) -> dict[str, tuple[str, Mapping[str, str]]]:
        """Each cookie's name with a mark that tells its value from others and gives nothing of it away, and with the
        attributes it was last set with, in lower case; one without a value, such as HttpOnly, has an empty one.
        """
        return {
            name: (
                hashlib.blake2b(value.encode("latin-1", "replace"), digest_size=8).hexdigest(),
                _pairs(self._attributes.get(name, ())),
            )
            for name, value in self._cookies.items()
        }

    def take(self, set_cookies: Iterable[str]) -> None:
        """Follow the Set-Cookie lines of one answer, in their order."""
        for line in set_cookies:
            pair, *attributes = line.split(";")
            name, equals, value = pair.partition("=")
            name = name.strip()
            value = value.strip()
            if not equals or not name or len(name) + len(value) > _LARGEST_COOKIE or _CONTROLS.search(pair):
                continue
            if self._is_removal(attributes):
                self._forget(name)
            else:
                self._cookies[name] = value
                self._attributes[name] = tuple(attributes)
                if len(self._cookies) > MOST_COOKIES:
                    self._forget(next(iter(self._cookies)))
        self.line = self._render()

    def _forget(self, name: str) -> None:
        self._cookies.pop(name, None)
        self._attributes.pop(name, None)

    def _is_removal(self, attributes: Iterable[str]) -> bool:
        """Max-Age outranks Expires (RFC 6265, 5.3); one that cannot be read is as if it were not there."""
        given = _pairs(attributes)
        age = given.get("max-age", "")
        if age.removeprefix("-").isdecimal():
            return age.startswith("-") or int(age[:9]) == 0
        if "expires" not in given:
            return False
        try:
            expires = parsedate_to_datetime(given["expires"])
        except (ValueError, TypeError, IndexError, OverflowError):  # what it raises depends on how wrong the date is
            return False
        if expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        return expires <= self._now()

    def _render(self) -> bytes:
        if not self._cookies:
            return b""
        pairs = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return f"Cookie: {pairs}\r\n".encode("latin-1", "replace")


def _pairs(attributes: Iterable[str]) -> dict[str, str]:
    given = {}
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        given[key.strip().lower()] = value.strip()
    return given
