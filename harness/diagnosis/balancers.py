"""What a balancer's settings come to, and how to mend them, in the terms of that balancer.

Rules ask these questions and know no balancer. Where a run does not say which balancer it had (older ones do not),
it was nginx. Must not: name a cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

__all__ = ["Ways", "ways_of"]

_FAIL_TIMEOUT_GRAIN_SECONDS = 1.0
"""nginx counts in whole seconds and leaves an instance out for more than it was told."""


class Ways(Protocol):
    """How one balancer, set up in one way, deals with an instance that is lost."""

    def tries_elsewhere(self, needed: Collection[str]) -> bool | None:
        """Whether it tries another instance after all of these: `error` (refused, or cut) and `timeout`. None: not said."""

    def retry_said(self) -> str: ...
    def waits_between_tries(self) -> bool:
        """Whether a request waits before it is tried again, because it is tried at the same instance."""

    @property
    def retry_remedy(self) -> str: ...
    @property
    def retry_guide(self) -> str: ...

    @property
    def never_notices(self) -> str:
        """Why it never takes an instance out, as the setup says it; empty where it does or does not say."""

    @property
    def notice_remedy(self) -> str: ...
    @property
    def notice_guide(self) -> str: ...

    def notices_within(self, *, answers: bool) -> float | None:
        """The longest time in seconds in which its own checks find a loss, when an instance still accepts and says
        nothing (not `answers`: the check has to wait), or is not there at all. None: it has no checks of its own.
        """

    @property
    def checks_said(self) -> str: ...

    @property
    def left_out_seconds(self) -> float:
        """How long it leaves out an instance that is back; 0 where the setup does not say."""

    @property
    def left_out_said(self) -> str: ...
    @property
    def left_out_remedy(self) -> str: ...
    @property
    def pace(self) -> tuple[float, str]:
        """How long to wait between two instances of a rollout, in seconds and as a remedy."""

    @property
    def early_sentence(self) -> str:
        """How it comes to use an instance that is not ready, as the end of a sentence."""

    @property
    def early_remedy(self) -> str: ...


class _Nginx:
    """Learns of a loss from the requests that fail."""

    retry_remedy = 'balancer.next_upstream = ["error", "timeout"]'
    retry_guide = "Step 3: Configure Load Balancer (proxy_next_upstream)"
    notice_remedy = "count failures: balancer.max_fails = 1, balancer.fail_timeout_seconds = 1 or a little more"
    notice_guide = "Step 3: Configure Load Balancer (max_fails, fail_timeout)"
    checks_said = ""
    left_out_remedy = "balancer.fail_timeout_seconds = 1 or 2: with one failed try it costs one retry each time"
    early_sentence = "the balancer asks nobody whether it is"
    early_remedy = "answer 503 until then, and add http_503 to balancer.next_upstream"

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._next_upstream = facts.get("next_upstream")
        self._max_fails = facts.get("max_fails")
        self.left_out_seconds = float(facts.get("fail_timeout_seconds") or 0.0)
        self.left_out_said = f"balancer.fail_timeout_seconds is {self.left_out_seconds:g}"

    def tries_elsewhere(self, needed: Collection[str]) -> bool | None:
        return None if self._next_upstream is None else set(needed) <= set(self._next_upstream)

    def retry_said(self) -> str:
        return f"balancer.next_upstream is {', '.join(self._next_upstream or ()) or 'off'}"

    def waits_between_tries(self) -> bool:
        return False

    @property
    def never_notices(self) -> str:
        return "balancer.max_fails is 0: failures are not counted" if self._max_fails == 0 else ""

    def notices_within(self, *, answers: bool) -> float | None:
        del answers
        return None

    @property
    def pace(self) -> tuple[float, str]:
        remedy = (
            'rollout.drain = "balancer-first", so that no failure is counted; or wait longer than '
            "balancer.fail_timeout_seconds before the next instance, or make that 1"
        )
        return self.left_out_seconds + _FAIL_TIMEOUT_GRAIN_SECONDS, remedy


class _Haproxy:
    """Asks the instances itself how they are."""

    retry_remedy = (
        'balancer.retries = 3, balancer.redispatch = 1, balancer.retry_on = ["conn-failure", "empty-response", '
        '"response-timeout"] (`option redispatch 1`, `retry-on`)'
    )
    retry_guide = "Step 3: Configure Load Balancer, Option B: HAProxy (no option redispatch there)"
    notice_remedy = (
        "balancer.check_interval_seconds = 0.3, balancer.fall = 2, balancer.rise = 1 (`check inter 300 fall 2 rise 1`)"
    )
    notice_guide = "Step 3: Configure Load Balancer, Option B: HAProxy (option httpchk, check)"
    left_out_remedy = "less of balancer.check_interval_seconds and balancer.rise, such as 0.3 and 1"
    early_sentence = "the balancer's checks ask a path that says yes too early"
    early_remedy = "answer 503 at app.ready until then, and have it checked: balancer.check_path"

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._retry_on = facts.get("retry_on")
        self._retries = facts.get("retries")
        self._redispatch = facts.get("redispatch")
        self._interval = float(facts.get("check_interval_seconds") or 0.0)
        self._check_timeout = float(facts.get("check_timeout_seconds") or self._interval)
        self._fall = int(facts.get("fall") or 0)
        self._rise = int(facts.get("rise") or 0)
        self._is_said = "check_interval_seconds" in facts
        self.left_out_seconds = self._interval * self._rise
        self.checks_said = f"balancer.check_interval_seconds is {self._interval:g}, balancer.fall is {self._fall}"
        self.left_out_said = f"balancer.check_interval_seconds is {self._interval:g}, balancer.rise is {self._rise}"

    def tries_elsewhere(self, needed: Collection[str]) -> bool | None:
        if self._retry_on is None:
            return None
        wanted = {word for need in needed for word in _RETRY_ON[need]}
        given = set(self._retry_on)
        every = "all-retryable-errors" in given or wanted <= given
        return bool(self._retries and self._redispatch) and every

    def retry_said(self) -> str:
        return (
            f"balancer.retries is {self._retries}, balancer.redispatch is {self._redispatch}, "
            f"balancer.retry_on is {', '.join(self._retry_on or ()) or 'none'}"
        )

    def waits_between_tries(self) -> bool:
        return self._redispatch is not None and bool(self._retries) and self._redispatch != 1

    @property
    def never_notices(self) -> str:
        off = self._is_said and not self._interval
        return "balancer.check_interval_seconds is 0: there are no health checks" if off else ""

    def notices_within(self, *, answers: bool) -> float | None:
        if not self._interval:
            return None
        # Who does not answer is given its time, and then asked again an interval later.
        return (self._interval + (0.0 if answers else self._check_timeout)) * self._fall

    @property
    def pace(self) -> tuple[float, str]:
        remedy = (
            'rollout.drain = "balancer-first", which puts an instance back at once; or wait for balancer.rise good checks '
            "before the next instance, or make balancer.check_interval_seconds shorter"
        )
        return self.left_out_seconds + self._interval, remedy


_RETRY_ON: Mapping[str, frozenset[str]] = {
    "error": frozenset({"conn-failure", "empty-response"}),
    # A connection that is not made in time is a failure to connect.
    "timeout": frozenset({"conn-failure", "response-timeout"}),
}


def ways_of(facts: Mapping[str, Any]) -> Ways:
    """The ways of the balancer these facts of a setup tell of."""
    return _Haproxy(facts) if facts.get("balancer") == "haproxy" else _Nginx(facts)
