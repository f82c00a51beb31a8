"""One whole HTTP answer, as the traffic process read it. Must not: hold anything half read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, the headers somebody asked for (lower-case names) and the body, read to its end."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    set_cookies: tuple[str, ...] = ()

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())
