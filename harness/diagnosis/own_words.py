"""Causes and remedies for a project of somebody's own: what they say in keys of a setup file, said in words of its files.

Whoever judges a compose project has no key `balancer.read_timeout_seconds` to change, but a line in nginx.conf. Pure text.
Must not: change what a cause says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.model import Cause, Promise

__all__ = ["in_own_words", "promise_in_own_words", "translated"]

_OF_A_BALANCER = {
    "nginx": {
        "next_upstream": "proxy_next_upstream",
        "connect_timeout_seconds": "proxy_connect_timeout",
        "send_timeout_seconds": "proxy_send_timeout",
        "read_timeout_seconds": "proxy_read_timeout",
        "fail_timeout_seconds": "fail_timeout",
        "max_fails": "max_fails",
        "cache_seconds": "proxy_cache_valid",
    },
    "haproxy": {
        "connect_timeout_seconds": "timeout connect",
        "read_timeout_seconds": "timeout server",
        "check_interval_seconds": "inter",
        "fall": "fall",
        "rise": "rise",
    },
}
_ELSE = {
    "next_upstream": "its retries on another instance",
    "connect_timeout_seconds": "its connect timeout",
    "send_timeout_seconds": "its send timeout",
    "read_timeout_seconds": "its read timeout",
    "fail_timeout_seconds": "the time an instance is left out",
    "max_fails": "the failures after which one is left out",
    "cache_seconds": "the time it keeps pages",
}
"""Of a balancer whose words are not known."""

_FIXED = "give each instance a fixed address (networks: ipv4_address), or reload the balancer after each replacement"
# In this order: what a later one finds an earlier one has left.
_PROJECT: tuple[tuple[str, str], ...] = (
    (r'balancer\.resolve = "always" \([^)]*\); or "when-told", where .*? reloads it', _FIXED),
    (r'balancer\.resolve = "always"', _FIXED),
    (r'balancer\.resolve is "at-start": ', ""),
    (r": leave balancer\.pool out, or complete it", ""),
    (r"balancer\.pool leaves out", "the balancer's upstream leaves out"),
    (r' at the balancer: rollout\.drain = "balancer-first"', " at the balancer"),
    (
        r'rollout\.drain = "balancer-first": the balancer stops',
        "take each instance out of the balancer first: it stops",
    ),
    (r'rollout\.drain = "balancer-first"', "take each instance out of the balancer first"),
    (r'rollout\.drain is "none"', "nobody tells the balancer"),
    (r" \(rollout\.\w+ = [^)]*\)", ""),
    (r': rollout\.kind = "rolling", rollout\.batch = 1, rollout\.gate = "ready"', ""),
    (r"rollout\.(kind|batch) is (\S+)", r"the rollout is \2"),
    (
        r'replace one instance at a time: rollout\.kind = "rolling"',
        (
            "replace one instance at a time: compose replaces all containers of a service together, so give each instance a "
            "service of its own"
        ),
    ),
    (r'balancer\.restart = "any": ', ""),
    (r'balancer\.restart is "none"', "its service has no `restart:` in the compose file"),
    (r"balancer\.restart \(", "its restart policy ("),
    (r'app\.env\.(\w+) = "[^"]*"', r"\1 in its environment"),
    (
        r"the same app\.env for all, nothing of it in app\.instance_env",
        "the same environment in the compose file for all",
    ),
    (r", nothing in app\.instance_env", ""),
    (r"app\.instance_env", "the environment of single services"),
    (r"app\.env", "the environment"),
    (r"raise app\.stop_within_seconds", "raise stop_grace_period (and app.stop_within_seconds)"),
    (r"app\.stop_signal", "its stop signal"),
    (r"app\.ready", "its ready path"),
)


_OTHERS = ("compose", "remote")
"""Platforms on which the setup file does not say how the balancer and the instances are run."""


def in_own_words(cause: Cause, facts: Mapping[str, Any]) -> Cause:
    """The cause as it is, or for what is somebody else's with other words for the same."""
    if facts.get("platform") not in _OTHERS:
        return cause
    kind = str(facts.get("balancer"))
    return replace(
        cause,
        evidence=tuple(translated(line, balancer=kind) for line in cause.evidence),
        against=tuple(translated(line, balancer=kind) for line in cause.against),
        remedy=translated(cause.remedy, balancer=kind),
    )


def promise_in_own_words(promise: Promise, facts: Mapping[str, Any]) -> Promise:
    """The promise, what usually mends it said likewise."""
    if facts.get("platform") not in _OTHERS:
        return promise
    return replace(promise, remedy=translated(promise.remedy, balancer=str(facts.get("balancer"))))


def translated(text: str, *, balancer: str) -> str:
    """A text without keys of a setup file that a compose project has no use for."""
    if balancer == "nginx":
        text = re.sub(
            r"balancer\.next_upstream = \[([^\]]*)\]",
            lambda found: f"proxy_next_upstream {found[1].replace(chr(34), '').replace(',', '')}",
            text,
        )
    for pattern, own in _PROJECT:
        text = re.sub(pattern, own, text)
    known = {**_ELSE, **_OF_A_BALANCER.get(balancer, {})}
    return re.sub(r"balancer\.(\w+)( = )?", lambda found: _named(found, known), text)


def _named(found: re.Match[str], known: Mapping[str, str]) -> str:
    name = known.get(found[1], found[1].replace("_", " "))
    if not found[2]:
        return name
    return f"{name} = " if " " not in name or name in ("timeout connect", "timeout server") else f"{name}: "
