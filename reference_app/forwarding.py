"""Where a request came from, as far as the balancers in front of us can be believed.

Anybody may send these headers. What our own balancers add stands at their ends: with one of them, the last address is its
word and all before it is hearsay. Must not: look at anything but what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["addresses", "believed_address", "believed_scheme", "entries"]


def entries(lines: Sequence[str]) -> list[str]:
    """The values of a header that may come in several lines, each a list."""
    return [value for line in lines for part in line.split(",") if (value := part.strip())]


def addresses(forwarded_for: Sequence[str], *, peer: str) -> list[str]:
    """Every address a request is said to have gone through, the furthest first; who connected to us is the last."""
    return [*entries(forwarded_for), peer]


def believed_address(chain: Sequence[str], *, hops: int) -> str:
    """The client's address, behind so many balancers of our own."""
    return chain[max(0, len(chain) - 1 - hops)]


def believed_scheme(forwarded_proto: Sequence[str], *, scheme: str, hops: int) -> str:
    """`https` or `http`: what the outermost of our own balancers said it was, else what it is here."""
    said = entries(forwarded_proto)
    word = said[max(0, len(said) - hops)].lower() if hops and said else scheme
    return word if word in ("http", "https") else scheme
