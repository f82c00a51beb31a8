"""One whole HTTP answer, as the traffic process read it. Must not: hold anything half read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Reply"]


class Reply(NamedTuple):
    """Status, the headers somebody asked for (lower-case names) and the body, read to its end."""

    # A tuple, not a dataclass: one is made for every request, and a frozen dataclass costs three times as much.
    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    set_cookies: tuple[str, ...] = ()

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())
