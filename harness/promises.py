"""The catalogue: every promise the harness can judge, as data.

The numbers in the bounds are those of `harness.checkers.bounds`; a test holds the two together.
Must not: measure or judge anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from harness.checkers import bounds
from harness.model import Promise

__all__ = ["CATALOGUE", "as_markdown", "matching", "promise"]

_TESTING = "Testing Your Distributed Setup"

_ALL = (
    Promise(
        id="instances.answer",
        sentence="Every instance is alive and answers its health check.",
        measured="each instance is asked its health path directly, not through the balancer",
        bound="every instance answers with a status below 300",
        broken_by="an instance that did not start, listens elsewhere, or cannot reach what it needs",
        remedy="read the log of the instance that did not answer; check app.command, app.env and app.health",
        guide=f"{_TESTING}: 1. Verify All Instances Are Running",
    ),
    Promise(
        id="instances.agree",
        sentence="Every instance runs the same version and configuration on the same database and session store.",
        measured="what each instance says of itself at app.version, and a record written through each and read through each other",
        bound="one answer from all instances; every written record is read everywhere",
        broken_by="an instance with another version, secret, database or session store",
        remedy="give every instance the same image or binary and the same environment",
        guide="Best Practices: DO 10, DON'T 5",
    ),
    Promise(
        id="session.every-instance",
        sentence="Whoever logs in on one instance is recognised by every other.",
        measured="people log in on each instance directly and are looked up on each, all ordered pairs; then many visit through the balancer",
        bound="every acknowledged login is recognised on every instance, at every visit",
        broken_by="sessions in the memory of one instance, or a cookie secret that differs between instances",
        remedy="one session store and one secret for all instances",
        guide=f"{_TESTING}: 2. Test Session Persistence",
    ),
    Promise(
        id="session.survives-instance-loss",
        sentence="People who are logged in stay logged in when the instance that served them is lost.",
        measured="people log in through one instance, which is then killed, stopped and hung while they browse through the balancer",
        bound="no acknowledged login is answered as logged out, and each is used again after the instance has returned",
        broken_by="sessions in the memory of one instance, or a secret that changes when an instance starts",
        remedy="keep sessions in Redis or Postgres, and the secret in the environment",
        guide="Step 2: Configure Persistent Session Storage",
    ),
    Promise(
        id="session.survives-restart",
        sentence="People stay logged in when every instance is restarted.",
        measured="sessions recognised by an instance before all instances are restarted are shown to it again afterwards",
        bound="every session an instance knew before the restart it knows after it",
        broken_by="sessions in memory, or a secret generated at boot",
        remedy="keep sessions in Redis or Postgres, and the secret in the environment",
        guide="Common Issues: Sessions lost after deployment",
    ),
    Promise(
        id="session.logout-everywhere",
        sentence="Whoever logs out is logged out on every instance, also for a copy of the cookie.",
        measured="the cookie is copied, its owner logs out through one instance, and the copy is shown to every instance",
        bound="no instance recognises the copy after the logout was acknowledged",
        broken_by="a logout that only clears the cookie in the browser, or a cache of sessions in each instance",
        remedy="destroy the session in the shared store at logout",
        guide="Step 2: Configure Persistent Session Storage",
    ),
    Promise(
        id="distribution.complete",
        sentence="Every instance gets traffic, and nobody else answers.",
        measured="the instances that answered requests sent through the balancer, each on its own connection",
        bound="every instance of the setup appears and no other",
        broken_by="an instance missing from the balancer's pool, or marked down for long",
        remedy="list every instance in the balancer's upstream",
        guide=f"{_TESTING}: 3. Test Load Distribution",
    ),
    Promise(
        id="distribution.share",
        sentence="Load is spread as the balancer's algorithm promises.",
        measured="round robin: the counts; least_conn: at how many choices the chosen instance had 2 or more requests "
        "in flight above the least loaded one",
        bound=bounds.SHARE_IN_WORDS,
        broken_by="a wrong weight, accidental stickiness, an instance missing from the pool or often marked down",
        remedy="check weights, the algorithm and fail timeouts in the balancer's upstream",
        guide="Common Issues: Uneven load distribution",
    ),
    Promise(
        id="failover.kill",
        sentence="When an instance dies without warning, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is killed",
        bound=bounds.KILL_IN_WORDS,
        broken_by="a balancer that does not try another instance, or never takes the dead one out",
        remedy="balancer.next_upstream with error and timeout; a low max_fails and fail_timeout",
        guide=f"{_TESTING}: 4. Test Failover",
    ),
    Promise(
        id="failover.stop",
        sentence="When an instance is stopped, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is told to stop",
        bound=bounds.STOP_IN_WORDS,
        broken_by="an application that cuts what is in flight, or a balancer that does not try another instance",
        remedy="finish what is in flight on the stop signal; balancer.next_upstream with error and timeout",
        guide=f"{_TESTING}: 4. Test Failover",
    ),
    Promise(
        id="failover.hang",
        sentence="When an instance stops answering but keeps its connections, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is frozen",
        bound=bounds.HANG_IN_WORDS,
        broken_by="a long read timeout at the balancer, or no limit on failures",
        remedy="balancer.read_timeout_seconds just above the slowest honest answer; max_fails above 0",
        guide="Best Practices: DO 5",
    ),
    Promise(
        id="failover.rejoin",
        sentence="An instance that has returned is used again, and only when it can answer.",
        measured="traffic goes on after each fault is healed, until the returned instance answers through the balancer",
        bound=bounds.REJOIN_IN_WORDS,
        broken_by="a long fail_timeout, or an instance that says ready before it is",
        remedy="a short balancer.fail_timeout_seconds; /ready true only when requests can be served",
        guide="Health Checks",
    ),
    Promise(
        id="rollout.rolling",
        sentence="A new version reaches every instance and nobody loses a request or a session.",
        measured="open-loop traffic on fresh and reused connections, with slow requests in flight, while the rollout replaces the instances",
        bound="no failed request, none cut in flight, no session lost, the new version on every instance",
        broken_by="instances replaced together, /ready true before warm-up, a listener closed before the balancer knows",
        remedy="one instance at a time: drain at the balancer, stop, start, wait until ready, enable",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="shutdown.inflight",
        sentence="Requests in flight are finished when an instance is told to stop.",
        measured="slow requests are sent to one instance directly, which is then told to stop while they run",
        bound="every request that was in flight is answered completely",
        broken_by="an application that exits at once on its stop signal, or is killed before it has finished",
        remedy="on the stop signal refuse new work and finish what is in flight; give it time before it is killed",
        guide="Best Practices: DO 9",
    ),
)

CATALOGUE: Mapping[str, Promise] = MappingProxyType({promise.id: promise for promise in _ALL})


def promise(promise_id: str) -> Promise:
    """The promise with this id. Raises KeyError."""
    return CATALOGUE[promise_id]


def matching(pattern: str) -> tuple[str, ...]:
    """The ids a glob such as `failover.*` stands for, in the catalogue's order."""
    return tuple(promise_id for promise_id in CATALOGUE if fnmatchcase(promise_id, pattern))


def as_markdown() -> str:
    """The page on the promises, as it stands in docs/promises.md."""
    groups = dict.fromkeys(promise_id.partition(".")[0] for promise_id in CATALOGUE)
    lines = [_PAGE]
    for group in groups:
        lines += [f"## {_GROUPS[group]}", ""]
        for promise_id in matching(f"{group}.*"):
            each = CATALOGUE[promise_id]
            lines += [
                f"### `{each.id}`",
                "",
                each.sentence,
                "",
                f"- **measured**: {each.measured}",
                f"- **bound**: {each.bound}",
                f"- **usually broken by**: {each.broken_by}",
                f"- **usually mended by**: {each.remedy}",
                f"- **guide**: {each.guide}",
                "",
            ]
    return "\n".join(lines)


_PAGE = f"""\
# Promises

What a setup promises its users, and how it is judged. A promise is judged only when it was really tested: else its
verdict is inconclusive, which is no pass. `--only 'failover.*'` chooses, `[promises.waived]` in the setup file says which
ones you do not make, with your reason.

The bounds are promises to people. They are never scaled by the speed of the machine. Requests are counted from when they
were due; fresh and reused connections are told apart. Fewer than {bounds.EACH_PHASE} requests before, during or after a
fault test nothing.

This page is made from the catalogue: `harness promises --markdown > docs/promises.md`.
"""
_GROUPS = {
    "instances": "Are all instances up, and are they one application?",
    "session": "Do people stay logged in, and do they stay logged out?",
    "distribution": "Does load spread?",
    "failover": "Is the loss of an instance survived?",
    "rollout": "Does a deploy cost anybody a request?",
    "shutdown": "Is what was begun finished?",
}
