"""Waiting for something that should come true: the only place where the harness tries again.

For infrastructure (a node that boots, a process that ends), never for anything that is measured: a request of a
visitor is sent once. Must not: be used for traffic, or swallow what a condition raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tenacity

from harness import clock
from harness.errors import WaitTimeout

__all__ = ["patience", "set_patience", "wait_until"]

_EVERY_SECONDS = 0.003
_SHOWN = 120

_patience = 1.0


def patience() -> float:
    """The factor that scales every wait for infrastructure; 1 unless set."""
    return _patience


def set_patience(factor: float) -> None:
    """Scale every wait from now on: 2 doubles them, for a slow or busy machine. Bounds of promises are not touched.

    Raises:
        ValueError: not a number above 0.
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"patience must be a number above 0 (got {factor!r})")
    global _patience
    _patience = factor


def wait_until(
    condition: Callable[[], object],
    *,
    within_seconds: float,
    because: str,
    every_seconds: float = _EVERY_SECONDS,
) -> None:
    """Return as soon as `condition()` is true; it is asked at once, then every `every_seconds`.

    `because` says what should be so ("app-1 should be gone") and begins the message. What the condition raises is
    passed on at once: a condition says false for "not yet".

    Raises:
        WaitTimeout: still not true after `within_seconds`, scaled by the patience. The last look is at the end, so
            a machine that slept between two looks is not taken for a condition that never came true.
    """
    limit = within_seconds * _patience
    began = clock.now()
    end = began + limit

    def next_pause(_: tenacity.RetryCallState) -> float:
        # Not beyond the end, so that the last look happens there and not one interval later.
        return max(0.0, min(every_seconds, end - clock.now()))

    asking = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda seen: not seen),
        stop=lambda state: (state.outcome_timestamp or 0.0) - began >= limit,
        wait=next_pause,
        sleep=clock.sleep,
    )
    try:
        asking(condition)
    except tenacity.RetryError as problem:
        last = repr(problem.last_attempt.result())
        seen = "" if last in ("False", "None") else f"; last seen: {last[:_SHOWN]}"
        raise WaitTimeout(f"{because}: still not so after {limit:.1f} s{seen}") from None
