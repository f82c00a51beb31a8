"""One setup, looked at part by part in the order in which each needs the one before, up to the first that does not work.

For whoever brings an application of their own: what is wrong is told where it is met first, with what to do. Must not: judge a
promise, break anything, or go on behind what failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cluster import Cluster
from harness.doctor import examine
from harness.errors import BadInput, HarnessError, WaitTimeout
from harness.journeys import Reply
from harness.layouts import Choice
from harness.reporting import View
from harness.services import identity_of
from harness.setup import Environment, Setup, Traffic, secrets_in
from harness.standing import Standing, standing
from harness.traffic.upstream import UPSTREAM_HEADER
from harness.trying import as_lines, ask_once, chosen, context_for, journeys_of, try_journeys, where_to_try
from harness.visitors import people_of
from harness.waiting import wait_until
from harness.witness import BalancerLog

__all__ = ["Part", "check_up"]

_LOG_SECONDS = 5.0
_LOG_EVERY_SECONDS = 0.5
_ASKED_EACH = 8
"""Requests through the balancer for each instance, to see who answers."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part, and how it is."""

    what: str
    ok: bool
    told: str
    remedy: str = ""
    details: tuple[str, ...] = ()
    """Lines to show as they are."""


def check_up(
    setup: Setup, choice: Choice, environment: Environment, *, seed: int, reports: Path, view: View
) -> Iterator[Part]:
    """Each part as it was looked at; the last one is the first that does not work, or nothing is wrong.

    What was booted is stopped when the iterator ends or is closed.
    """
    machine = _machine(setup, choice, environment)
    yield machine
    if not machine.ok:
        return
    with ExitStack() as stack:
        try:
            stands = stack.enter_context(
                standing(setup=setup, choice=choice, environment=environment, seed=seed, reports=reports, view=view)
            )
        except (BadInput, HarnessError) as problem:
            yield Part(what="starts", ok=False, told=str(problem))
            return
        cluster = stands.cluster
        yield Part(what="starts", ok=True, told=f"everything is ready after {cluster.up_seconds:.1f} s")
        for look in (_healthy, _journeys, _identity):
            part = look(setup, stands, seed)
            yield part
            if not part.ok:
                return


def _machine(setup: Setup, choice: Choice, environment: Environment) -> Part:
    report = examine(setup, environment)
    here = next(each for each in report.platforms if each.name == choice.platform)
    if here.usable:
        return Part(what="machine", ok=True, told=f"the platform {choice.platform} can be used here")
    return Part(what="machine", ok=False, told=f"{choice.platform} cannot be used: {here.why_not}", remedy=here.remedy)


def _healthy(setup: Setup, stands: Standing, seed: int) -> Part:  # noqa: ARG001 - all parts are looked at alike
    cluster, app = stands.cluster, setup.app
    if not cluster.reachable:
        told = (
            "no instance can be asked by itself"
            if cluster.replicas is None
            else "replicas are asked by their orchestrator alone"
        )
        return Part(what="healthy", ok=True, told=told)
    paths = {"app.health": app.health} | ({"app.ready": app.ready} if app.ready is not None else {})
    for key, path in paths.items():
        bad = [look for look in cluster.look_at_all(key.partition(".")[2], path) if not look.well]
        if bad:
            seen = ", ".join(f"{look.node}: {look.error or f'status {look.status}'}" for look in bad)
            return Part(
                what="healthy",
                ok=False,
                told=f"{path} is not answered {'with 2xx' if app.healthy is None else 'as app.healthy says'} ({seen})",
                remedy=f"{key} is the path that says how an instance is, and app.healthy which answer is good: correct them, or see the log "
                "of the instance",
            )
    count = len(cluster.reachable)
    return Part(
        what="healthy",
        ok=True,
        told=f"{count} of {len(cluster.instances)} instances answer {' and '.join(paths.values())}",
    )


def _journeys(setup: Setup, stands: Standing, seed: int) -> Part:
    journeys = journeys_of(setup)
    host, port, context = where_to_try(stands.cluster)
    names = chosen(tuple(journeys), ())
    steps = 0
    for step in try_journeys(
        journeys,
        names,
        host=host,
        port=port,
        context=context,
        timeout_seconds=setup.traffic.timeout_seconds,
        seed=seed,
        secrets=secrets_in(setup),
        headers=setup.traffic.headers,
        people=people_of(setup),
    ):
        steps += 1
        if not step.ok:
            return Part(
                what="journeys",
                ok=False,
                told=f"journey.{step.journey.partition(',')[0]} did not go as declared",
                remedy="correct this step; `harness journey --try` shows all of them",
                details=tuple(as_lines(step)),
            )
    return Part(
        what="journeys", ok=True, told=f"{len(names)} journeys with {steps} steps go as declared: {', '.join(names)}"
    )


def _identity(setup: Setup, stands: Standing, seed: int) -> Part:  # noqa: ARG001 - all parts are looked at alike
    cluster, app = stands.cluster, setup.app
    identity = identity_of(setup)
    # A marker in a page is looked for in a page.
    path = app.health if app.identity is None else setup.entry_page
    log = BalancerLog.of(cluster, run=stands.workspace.run_id)
    marked = "" if log is None else log.marked
    replies = _asked_through_balancer(
        cluster, path, times=_ASKED_EACH * cluster.breadth, traffic=setup.traffic, marked=marked
    )
    if not replies:
        return Part(
            what="identity",
            ok=False,
            told=f"the balancer did not answer {path}",
            remedy="see the log of the balancer",
        )
    whos = cluster.whos()
    named = Counter(
        whos[last]
        for reply in replies
        if (last := (reply.header(UPSTREAM_HEADER) or "").rpartition(",")[2].strip()) in whos
    )
    if named:
        return Part(what="identity", ok=True, told=f"the balancer tells who answered: {_counted(named)}")
    if setup.remote is not None and not cluster.names:
        told = "the instances are not known ([remote.instances] names them), so that where load goes is not judged"
        return Part(what="identity", ok=True, told=told)
    if log is not None:
        return _by_log(log, asked=len(replies))
    if identity is None:
        return Part(
            what="identity",
            ok=False,
            told="nobody tells which instance answered",
            remedy="have the balancer add X-Harness-Upstream (nginx: add_header X-Harness-Upstream $upstream_addr always;), or name a "
            "header of the application in app.instance_header, or where else its answers tell in app.identity",
        )
    said = Counter(identity.from_reply(reply) or "" for reply in replies)
    named_by = identity.key if identity.source == "header" else f"app.identity ({identity.source} {identity.key})"
    if len(said) < 2 or "" in said:
        return Part(
            what="identity",
            ok=False,
            told=f"{named_by} does not tell instances apart: {_counted(said)}",
            remedy="have each instance name itself there, such as by its host name",
        )
    return Part(what="identity", ok=True, told=f"{named_by} tells who answered: {_counted(said)}")


def _by_log(log: BalancerLog, *, asked: int) -> Part:
    """Whether each of so many requests is found in the balancer's log."""
    found: Counter[str] = Counter()

    def is_all_there() -> bool:
        found.update(told.instance or "" for told in log.new().values())
        return found.total() >= asked

    with suppress(WaitTimeout):
        wait_until(
            is_all_there,
            within_seconds=_LOG_SECONDS,
            every_seconds=_LOG_EVERY_SECONDS,
            because="the balancer's log should tell of every request",
        )
    if found.total() < asked or "" in found:
        return Part(
            what="identity",
            ok=False,
            told=f"the balancer's log tells who answered {found.total() - found['']} of {asked} requests by app.identity.log",
            remedy="have the balancer log X-Request-Id and whom it asked (nginx: log_format with $http_x_request_id and $upstream_addr), and "
            "name the instances as they stand there",
        )
    return Part(what="identity", ok=True, told=f"the balancer's log tells who answered: {_counted(found)}")


def _asked_through_balancer(
    cluster: Cluster, path: str, *, times: int, traffic: Traffic, marked: str
) -> Sequence[Reply]:
    """So many answers. `marked`: how the ids begin that the requests carry, where a log is read; empty for none."""
    layout = cluster.layout
    host, port = layout.entrance
    secure = layout.balancer.secure
    context = None if secure is None else context_for("https", secure.authority)
    how: dict[str, Any] = {
        "context": context,
        "timeout_seconds": traffic.timeout_seconds,
    }
    always = traffic.headers

    def headers(number: int) -> Mapping[str, str]:
        return {**always, "X-Request-Id": f"{marked}{number:x}"} if marked else always

    replies = (ask_once(path, host=host, port=port, headers=headers(number), **how) for number in range(times))
    return [reply for reply in replies if reply is not None]


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{name or '(nothing)'} {count}" for name, count in sorted(names.items()))
