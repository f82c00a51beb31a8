"""Rules about the balancer: what a reload costs, who is still sent to an instance that was taken out, who gets too much.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of
the user's own setup file. Must not: conclude from the absence of a look that nobody took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import listed
from harness.diagnosis.balancers import ways_of
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "balancer_not_restarted",
    "balancer_restarted_late",
    "bound_by_address",
    "bound_to_the_dead",
    "bound_while_drained",
    "check_asks_wrong",
    "cold_when_it_joins",
    "ejected_too_long",
    "reload_is_restart",
    "reload_patience_too_short",
    "writes_sent_twice",
    "wrong_weight",
]

_DEPLOYMENT = "Deployment Strategies: Zero-Downtime Deployment"
_ORCHESTRATION = "Architecture Patterns: Pattern 3: Container Orchestration"
_MOST = 0.9
_MOST_OF_IT = 0.6
"""Of the time in which nobody was served, for what took it to be called the cause."""
_SLOWER = 3.0
"""How many times longer its answers take than those of the others, for an instance to be called slow."""
_SETTLED_SECONDS = 0.5
"""How much before its patience ends a process may be seen to cut: clocks of the balancer count in whole seconds."""


def balancer_not_restarted(case: Case) -> Cause | None:
    """The balancer died, and nobody starts it again."""
    seen = case.evidence("BalancerComesBack")
    if "not-served" not in seen.get("broken", ()) or case.facts.get("restart") != "none":
        return None
    away = seen["started_seconds"]
    return Cause(
        id="balancer-not-restarted",
        sentence="nobody starts the balancer again when it dies, and without it nobody is served",
        confidence=Confidence.CERTAIN,
        evidence=(
            'balancer.restart is "none"',
            f"{seen['node']} was away for {away:.1f} s, and {seen['failed']} requests failed",
        ),
        remedy='balancer.restart = "any": have whoever keeps it running start it again (systemd: Restart=always; containers: '
        "restart: unless-stopped)",
        guide=_ORCHESTRATION,
    )


def balancer_restarted_late(case: Case) -> Cause | None:
    """The balancer died, and whoever starts it again waits first."""
    seen = case.evidence("BalancerComesBack")
    delay = case.facts.get("restart_delay_seconds")
    if "not-served" not in seen.get("broken", ()) or case.facts.get("restart") == "none" or not delay:
        return None
    away, served = seen["started_seconds"], seen["recover_seconds"]
    lasted = seen["watched_seconds"] if served is None else served
    if min(delay, away) < _MOST_OF_IT * lasted:
        return None  # most of the time it was there, and served nobody
    return Cause(
        id="balancer-restarted-late",
        sentence="whoever starts the balancer again when it dies waits too long before that",
        confidence=Confidence.CERTAIN,
        evidence=(
            f"balancer.restart_delay_seconds is {delay:g}",
            f"people were not served for {lasted:.1f} s, and {seen['node']} was not there for {away:.1f} s of that",
        ),
        remedy="lower balancer.restart_delay_seconds (systemd: RestartSec=): it costs nobody anything to start at once",
        guide=_ORCHESTRATION,
    )


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
    if addresses < bounds.ADDRESSES or sum(bound.values()) < _MOST * addresses or (len(bound) < 2 and not declared):
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


def cold_when_it_joins(case: Case) -> Cause | None:
    """An instance is slower than the others when it joins, and is given as much as they are."""
    seen = case.evidence("LateJoinerIsNotFlooded")
    own, others = seen.get("median_seconds"), seen.get("others_median_seconds")
    if not seen.get("flooded") or own is None or others is None or own < _SLOWER * others:
        return None
    in_turn = case.facts.get("algorithm") == "round_robin"
    evidence = [
        f"{seen['node']} had {seen['most_in_flight']} requests in flight after it had joined",
        f"half of its answers took {own:.2f} s or more, and those of the others {others:.2f} s",
    ]
    if in_turn:
        evidence.append('balancer.algorithm is "round_robin": each is given as many, however many it has')
    return Cause(
        id="cold-when-it-joins",
        sentence="an instance says that it is ready while it is still slow, and is given a full share at once",
        confidence=Confidence.CERTAIN if in_turn else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="let app.ready answer 503 until caches and pools are filled; or have the balancer choose by what is in flight: "
        'balancer.algorithm = "least_conn" (HAProxy also: `slowstart`)',
        guide="Health Checks",
    )


# -- what the balancer makes of the instances ----------------------------------------------------------------------


def check_asks_wrong(case: Case) -> Cause | None:
    """The balancer takes instances for down that are alive: what its checks ask is not what tells."""
    seen = case.evidence("BalancerSeesTheTruth")
    down = seen.get("wrongly_down") or ()
    checks: Mapping[str, str] = seen.get("checks") or {}
    # It was answered, and the answer was not what the check wants; or something else answers there.
    answered = [name for name in down if checks.get(name) in _ANSWERED_BADLY]
    if not down or not answered:
        return None
    path = case.facts.get("check_path")
    evidence = [f"the balancer takes {listed(down)} for down, and asked directly they are alive"]
    evidence += [f"its last check of {name}: {checks[name]} ({seen['said'].get(name, '')})" for name in answered[:1]]
    if path is not None:
        evidence.append(f"balancer.check_path is {path}")
    return Cause(
        id="check-asks-wrong",
        sentence="the balancer's health checks ask a path, or a port, that does not say how an instance is",
        confidence=Confidence.CERTAIN if len(answered) == len(down) == len(checks) else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="balancer.check_path = the path of app.ready, or of app.health (HAProxy: `option httpchk GET`)",
        guide="Health Checks",
    )


_ANSWERED_BADLY = ("L7STS", "L7RSP", "L6RSP")
"""HAProxy's words for a check that was answered with a wrong status, or in another language."""


def writes_sent_twice(case: Case) -> Cause | None:
    """A POST had two effects, because the balancer sent it to a second instance when the first one said nothing."""
    seen = case.evidence("SentOnce")
    if not seen.get("twice"):
        return None
    upstream, writes = case.facts.get("next_upstream"), case.facts.get("retry_writes")
    said = ""
    if upstream is not None and "non_idempotent" in upstream:
        said = "balancer.next_upstream has non_idempotent"
    elif writes:
        said = "balancer.retry_writes is true"
    if not said and (not seen.get("retried_twice") or upstream is not None or writes is not None):
        return None
    evidence = [f"{seen['twice']} of {seen['counted']} POSTs that were sent once had two effects or more"]
    if seen.get("retried"):
        evidence.append(f"the balancer tried {seen['retried']} of them at more than one instance")
    return Cause(
        id="writes-sent-twice",
        sentence="the balancer sends a POST to another instance when the first one does not answer, and both do it",
        confidence=Confidence.CERTAIN if said else Confidence.LIKELY,
        evidence=(*evidence, *([said] if said else [])),
        remedy="take non_idempotent out of balancer.next_upstream (nginx), balancer.retry_writes = false (HAProxy: "
        "`http-request disable-l7-retry if { method POST LOCK PATCH }`); give what must be repeatable an idempotency key",
        guide="Step 3: Configure Load Balancer (proxy_next_upstream)",
    )


def ejected_too_long(case: Case) -> Cause | None:
    """All instances serve again, and the balancer still leaves them out for the errors it saw before."""
    seen = case.evidence("BurstIsForgotten")
    errors: Mapping[str, int] = seen.get("errors") or {}
    ways = ways_of(case.facts)
    own = sum(errors.get(name, 0) for name in ("http-502", "balancer-503", "http-504"))
    if not own or own < _MOST * sum(errors.values()) or ways.left_out_seconds < bounds.BURST_SECONDS:
        return None
    counted = [word for word in case.facts.get("next_upstream") or () if word.startswith("http_5")]
    evidence = [
        f"{own} requests were answered by the balancer itself after every instance served again",
        ways.left_out_said,
    ]
    if counted:
        evidence.append(f"balancer.next_upstream counts answers of the application: {', '.join(counted)}")
    return Cause(
        id="ejected-too-long",
        sentence="the balancer leaves out instances that serve, for errors they had while something else was away",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy=f"{ways.left_out_remedy}; and no http_500, http_502 or http_503 in balancer.next_upstream, which counts them"
        if counted
        else ways.left_out_remedy,
        guide="Step 3: Configure Load Balancer (max_fails, fail_timeout)",
    )


def bound_to_the_dead(case: Case) -> Cause | None:
    """Whoever has the cookie of a dead instance is still sent there."""
    seen = case.evidence("BoundPeopleMove")
    broken = set(seen.get("broken") or ())
    declared = case.facts.get("sticky_when_down")
    if not broken & {"not-moved", "failed-requests"} or declared is False:
        return None
    stuck = len(seen["stuck"])
    if not declared and not stuck:
        return None
    evidence = [
        f"{stuck} of {seen['bound']} people bound to {seen['victim']} were never served by another while it was dead"
    ]
    if declared:
        evidence.append("balancer.sticky_when_down is true")
    return Cause(
        id="bound-to-the-dead",
        sentence="visitors are sent to the instance their cookie names although it is down",
        confidence=Confidence.CERTAIN if declared else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="balancer.sticky_when_down = false (HAProxy: no `force-persist`, no `option persist` without `option redispatch`)",
        guide="Step 2: Configure Persistent Session Storage",
    )


def _cut_in_words(seen: Mapping[str, Any]) -> str:
    return f"{seen['cut']} of {seen['under_way']} downloads under way were cut ({_classes(seen['errors'])})"


def _classes(errors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in errors.items())
