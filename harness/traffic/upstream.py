"""Who made an answer, by the headers that the harness has the balancer add. Pure.

Must not: guess. What the balancer does not say is not known.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.model import UNNAMED

__all__ = ["BALANCER", "UPSTREAM_HEADER", "UPSTREAM_RETRIES_HEADER", "UPSTREAM_STATUS_HEADER", "read_upstream"]

BALANCER = "balancer"
"""The target whose answers say who made them. Every other target is an instance, asked directly."""

UPSTREAM_HEADER = "x-harness-upstream"
"""The address of every attempt (nginx: `$upstream_addr`), or the name of the last instance tried (HAProxy: `%s`)."""
UPSTREAM_STATUS_HEADER = "x-harness-upstream-status"
"""The status of every attempt (nginx: `$upstream_status`), or of the answer an instance made (HAProxy; `-`: none did)."""
UPSTREAM_RETRIES_HEADER = "x-harness-upstream-retries"
"""How often it was tried again, with a plus before it when also elsewhere (HAProxy: `%rc`)."""
_LONGEST = 8192
"""Characters: each of 64 instances tried twice comes to less. Where the balancer does not say, anybody may write such a header."""
_MOST_DIGITS = 3
"""Of a number of attempts."""


def read_upstream(
    upstream: str, upstream_status: str | None, status: int, *, names: Mapping[str, str], retries: str | None = None
) -> tuple[str | None, tuple[str, ...]]:
    """The instance that made the answer, and all that were asked, in order.

    Addresses are separated by commas, groups of an internal redirect by colons with spaces around. An address that
    nobody named is given as it is: a stranger. The balancer made the answer itself, and the instance is None, when
    it is a 502 or 504, when its status is not the last attempt's, and when the last thing listed is no address (nginx
    gives the name of its upstream group when none was live, HAProxy `<NOSRV>`).

    With `retries` only the last attempt is named. Those before it were at the same instance, or are unnamed when one of
    them was elsewhere.
    """
    if len(upstream) > _LONGEST or len(upstream_status or "") > _LONGEST:
        return None, ()  # no balancer says so
    listed = [part.strip() for group in upstream.split(" : ") for part in group.split(",")]
    attempts = tuple(names.get(address, address) for address in listed if address in names or ":" in address)
    last = listed[-1]
    is_attempt = last in names or ":" in last
    if retries is not None:
        attempts = _before_last(retries, attempts[-1:]) + attempts
    statuses = (upstream_status or "").replace(" : ", ",").split(",")
    if not attempts or not is_attempt or status in (502, 504):
        return None, attempts
    if upstream_status and statuses[-1].strip() != str(status):
        return None, attempts
    return attempts[-1], attempts


def _before_last(retries: str, last: tuple[str, ...]) -> tuple[str, ...]:
    """The attempts of a request before its last, by HAProxy's count: `0`, `2`, `+1`."""
    count = retries.removeprefix("+")
    if not (count.isascii() and count.isdecimal() and len(count) <= _MOST_DIGITS):
        return ()
    return (last if last and not retries.startswith("+") else (UNNAMED,)) * int(count)
