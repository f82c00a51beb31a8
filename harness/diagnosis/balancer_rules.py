"""Rules about the balancer: what a reload costs, who is still sent to an instance that was taken out, who gets too much.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = ["bound_by_address", "bound_while_drained", "reload_is_restart", "reload_patience_too_short", "wrong_weight"]

_DEPLOYMENT = "Deployment Strategies: Zero-Downtime Deployment"
_ADDRESSES = 10
"""Addresses from which to tell that it is addresses that are bound."""
_MOST = 0.9
_SETTLED_SECONDS = 0.5
"""How much before its patience ends a process may be seen to cut: clocks of the balancer count in whole seconds."""


def reload_is_restart(case: Case) -> Cause | None:
    """Requests fail around a reload, because for a moment there is nobody, and what was under way is cut."""
    told = _of_a_reload(case)
    if told is None:
        return None
    evidence, errors, proof = told
    declared = case.facts.get("reload")
    gone = sum(errors.get(name, 0) for name in ("refused", "reset", "closed", "truncated"))
    if declared == "graceful" or (declared is None and gone < sum(errors.values())):
        return None
    if declared is not None:
        evidence += [f'balancer.reload is "{declared}"', f"the balancer: {proof}"]
    return Cause(
        id="reload-is-restart",
        sentence="the balancer is restarted where it should be reloaded: until it is back nobody listens",
        confidence=Confidence.CERTAIN if declared is not None else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.reload = "graceful": have it hand over to new processes (nginx: `nginx -s reload`; HAProxy: '
        "`systemctl reload haproxy`, which tells a master started with -W)",
        guide=_DEPLOYMENT,
    )


def _of_a_reload(case: Case) -> tuple[list[str], Mapping[str, Any], str] | None:
    """What failed around a reload, how, and what was seen of it."""
    seen = case.evidence("ReloadCostsNothing")
    if seen.get("broken"):
        words = f"{seen['failed']} of {seen['requests']} requests failed around the reload ({_classes(seen['errors'])})"
        return [words], seen["errors"], str(seen["proof"])
    seen = case.evidence("DownloadsAreFinished")
    if seen.get("cut"):
        return [_cut_in_words(seen)], seen["errors"], str(seen["proof"])
    return None


def reload_patience_too_short(case: Case) -> Cause | None:
    """Downloads are cut, and not at once: when old processes had had their time."""
    seen = case.evidence("DownloadsAreFinished")
    patience = case.facts.get("reload_patience_seconds")
    if not seen.get("cut") or case.facts.get("reload") == "restart" or patience is None:
        return None
    longest = seen.get("longest_seconds")
    if longest is not None and longest > float(patience) + _SETTLED_SECONDS:
        return None  # some went on for longer than that
    evidence = [_cut_in_words(seen), f"balancer.reload_patience_seconds is {patience:g}"]
    if longest is not None:
        evidence.append(f"none went on for more than {longest:.1f} s after the reload")
    return Cause(
        id="reload-patience-too-short",
        sentence="the balancer ends its old processes before they have finished what they have",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="balancer.reload_patience_seconds above the longest download (nginx: worker_shutdown_timeout; HAProxy: "
        "hard-stop-after)",
        guide=_DEPLOYMENT,
    )


def bound_while_drained(case: Case) -> Cause | None:
    """Whoever has the cookie of an instance that was taken out is still sent there."""
    seen = case.evidence("DrainedIsLeftAlone")
    cookie = case.facts.get("sticky_cookie")
    if "given" not in seen.get("broken", ()) or not cookie or case.facts.get("drain_by") == "maint":
        return None
    by_setup = case.facts.get("drain_by") == "drain"
    evidence = [
        f"{seen['given']} requests of {seen['given_by_visitor']} people were given to {seen['node']} after it was taken out",
        f"balancer.sticky_cookie is {cookie}",
    ]
    if by_setup:
        evidence.append('balancer.drain_by is "drain", which spares nobody who is bound')
    return Cause(
        id="bound-while-drained",
        sentence="visitors bound to an instance by a cookie are sent there although it was taken out",
        confidence=Confidence.CERTAIN if by_setup else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.drain_by = "maint" (HAProxy: `set server ... state maint`), which moves them to others; keep sessions '
        "where every instance finds them",
        guide=_DEPLOYMENT,
    )


# -- shares --------------------------------------------------------------------------------------------------------


def wrong_weight(case: Case) -> Cause | None:
    """Shares are off, and the balancer's weights are not what the instances can do."""
    seen = case.evidence("SharesFitTheAlgorithm")
    counts: Mapping[str, int] = seen.get("counts") or {}
    weights: Mapping[str, int] = case.facts.get("weights") or {}
    capacity: Mapping[str, int] = case.facts.get("capacity") or {}
    names = sorted({*weights, *capacity} & set(counts))
    off = [name for name in names if weights.get(name, 1) != capacity.get(name, 1)]
    if not off or len(counts) < 2:
        return None
    evidence = [f"first choices: {', '.join(f'{name} {count}' for name, count in counts.items())}"]
    for name in off:
        evidence.append(
            f"balancer.weights gives {name} {weights.get(name, 1)}, and app.capacity says that it can do "
            f"{capacity.get(name, 1)} (others: 1)"
        )
    return Cause(
        id="wrong-weight",
        sentence="the balancer's weights do not fit what the instances can do",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="leave balancer.weights out where all instances are alike (nginx: `weight=`; HAProxy: `weight`), or say in "
        "app.capacity which of them can do more",
        guide="Common Issues: Uneven load distribution",
    )


def bound_by_address(case: Case) -> Cause | None:
    """Whoever comes from one address is always sent to the same instance."""
    seen = case.evidence("SharesFitTheAlgorithm")
    bound: Mapping[str, int] = seen.get("bound_addresses") or {}
    addresses = seen.get("addresses", 0)
    declared = case.facts.get("sticky_address")
    # From several addresses, or it could as well be that the others get nothing at all.
    if addresses < _ADDRESSES or sum(bound.values()) < _MOST * addresses or (len(bound) < 2 and not declared):
        return None
    spread = ", ".join(f"{name} {count}" for name, count in sorted(bound.items()))
    evidence = [f"of {addresses} addresses {sum(bound.values())} came to one instance only ({spread})"]
    if declared:
        evidence.append("balancer.sticky_address is true")
    return Cause(
        id="bound-by-address",
        sentence="whoever comes from one address is bound to one instance, whatever the balancer's algorithm is",
        confidence=Confidence.CERTAIN if declared else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="leave balancer.sticky_address out (nginx: `ip_hash`; HAProxy: `balance source`, `stick on src`), and keep sessions "
        "where every instance finds them: an office, or a proxy, is one address",
        guide="Common Issues: Uneven load distribution",
    )


def _cut_in_words(seen: Mapping[str, Any]) -> str:
    return f"{seen['cut']} of {seen['under_way']} downloads under way were cut ({_classes(seen['errors'])})"


def _classes(errors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())
