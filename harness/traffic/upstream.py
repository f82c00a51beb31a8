"""Who made an answer, by the headers that the harness has the balancer add. Pure.

Must not: guess. What the balancer does not say is not known.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BALANCER", "UPSTREAM_HEADER", "UPSTREAM_STATUS_HEADER", "read_upstream"]

BALANCER = "balancer"
"""The target whose answers say who made them. Every other target is an instance, asked directly."""

UPSTREAM_HEADER = "x-harness-upstream"
"""The address of every attempt (nginx: `$upstream_addr`)."""
UPSTREAM_STATUS_HEADER = "x-harness-upstream-status"
"""The status of every attempt (nginx: `$upstream_status`)."""


def read_upstream(
    upstream: str, upstream_status: str | None, status: int, *, names: Mapping[str, str]
) -> tuple[str | None, tuple[str, ...]]:
    """The instance that made the answer, and all that were asked, in order.

    Addresses are separated by commas, groups of an internal redirect by colons with spaces around. An address that
    nobody named is given as it is: a stranger. The balancer made the answer itself, and the instance is None, when
    it is a 502 or 504, when its status is not the last attempt's, and when the last thing listed is no address (nginx
    gives the name of its upstream group when none was live).
    """
    listed = [part.strip() for group in upstream.split(" : ") for part in group.split(",")]
    attempts = tuple(names.get(address, address) for address in listed if address in names or ":" in address)
    last = listed[-1]
    is_attempt = last in names or ":" in last
    statuses = (upstream_status or "").replace(" : ", ",").split(",")
    if not attempts or not is_attempt or status in (502, 504):
        return None, attempts
    if upstream_status and statuses[-1].strip() != str(status):
        return None, attempts
    return attempts[-1], attempts
