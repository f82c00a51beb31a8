"""Whether load reaches every instance, and in the shares that the balancer's algorithm promises.

Each algorithm has its own rule, because each promises something else: round robin promises equal counts, least_conn
promises nothing about counts and everything about what is in flight, and only a random choice is a case for a
chi-square test. A statistical check is never retried; both of its error rates stand in its verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, listed, plural, rounded
from harness.checkers.measures import (
    InFlight,
    first_choice,
    mean_in_flight,
    through_balancer,
    was_sent,
    who_is_not_told,
)
from harness.checkers.statistics import (
    binomial_critical,
    binomial_tail,
    chi_square_power,
    g_test,
    wilson_interval,
)
from harness.model import UNNAMED, Connection, History, Operation, Verdict

__all__ = ["EveryInstanceGetsTraffic", "SharesFitTheAlgorithm", "missed_by_chance", "sample_for_completeness"]


def missed_by_chance(n: int, instances: int) -> float:
    """At most how probable it is that a fair balancer leaves out some instance in `n` independent choices.

    N (1 - 1/N)^n, the union bound over instances (Boole); deterministic algorithms are better than that.
    """
    return min(1.0, instances * (1.0 - 1.0 / instances) ** n) if instances > 1 else float(n == 0)


def sample_for_completeness(instances: int, *, chance: float) -> int:
    """How many choices bring `missed_by_chance` below `chance`."""
    if instances < 2:
        return 1
    return math.ceil(math.log(chance / instances) / math.log(1.0 - 1.0 / instances))


def _sent_through_balancer(history: History) -> list[Operation]:
    return list(filter(was_sent, through_balancer(history)))


def _answered_by(operations: Sequence[Operation], connection: Connection) -> dict[str, int]:
    """How many each instance answered on this kind of connection."""
    return dict(Counter(op.instance for op in operations if op.instance is not None and op.connection is connection))


@dataclass(frozen=True)
class EveryInstanceGetsTraffic:
    """Every instance answers requests sent through the balancer, and nobody else does.

    Expects: operations through the balancer. Any proper answer shows an instance; that one is missing is concluded from
    fresh connections only, each a choice of its own (a kept-alive one may be pinned). Where all answers are of strangers behind a
    balancer that is somebody else's (`setup["is_closed"]`), these may be the instances under other names: inconclusive.

    Evidence:
    - `requests` (properly answered), `fresh` (of them), `needed`, `chance` (of missing one by chance);
    - `by_instance` {name: answers}, `tried` {name: attempts, answered or not};
    - `missing` [names], `strangers` {name or "(nobody)": answers}, `examples` (of strangers' answers).
    """

    chance: float = bounds.MISSED_BY_CHANCE

    def check(self, history: History) -> Verdict:
        operations = _sent_through_balancer(history)
        answered = [op for op in operations if op.available]
        strange = [op for op in answered if op.instance not in history.instances]
        by_instance = {name: sum(op.instance == name for op in answered) for name in history.instances}
        missing = [name for name, count in by_instance.items() if not count]
        fresh = sum(op.connection is Connection.FRESH for op in answered)
        needed = sample_for_completeness(len(history.instances), chance=self.chance)
        evidence: dict[str, Any] = {
            "requests": len(answered),
            "fresh": fresh,
            "needed": needed,
            "chance": missed_by_chance(fresh, len(history.instances)) if history.instances else None,
            "by_instance": by_instance,
            "tried": dict(Counter(name for op in operations for name in op.attempts)),
            "missing": missing,
            "strangers": dict(Counter(op.instance or "(nobody)" for op in strange)),
            "examples": examples(strange, since=operations[0].due if operations else 0.0),
        }
        seen = len(history.instances) - len(missing)
        told = f"{seen} of {len(history.instances)} instances in {plural(len(answered), 'answer')}"
        if (unseen := who_is_not_told(operations)) is not None:
            return Verdict.inconclusive(unseen, **evidence)
        if strange:
            who = listed(evidence["strangers"])
            if history.setup.get("is_closed") and len(missing) == len(history.instances):
                return Verdict.inconclusive(
                    f"{plural(len(answered), 'answer')} came from {who}, and none from an instance that is named: where these are "
                    "the instances, say who is who (seen_as in [remote.instances])",
                    **evidence,
                )
            return Verdict.fail(f"{plural(len(strange), 'answer')} from a stranger: {who}", **evidence)
        if not history.instances or fresh < needed:
            return Verdict.inconclusive(f"{told}; {fresh} fresh connections, {needed} are needed", **evidence)
        if missing:
            return Verdict.fail(f"{told}; none from {listed(missing)}", **evidence)
        return Verdict.passed(f"{told}, {min(by_instance.values())} to {max(by_instance.values())} each", **evidence)


@dataclass(frozen=True)
class SharesFitTheAlgorithm:
    """Load is spread as the algorithm of `history.setup` promises.

    Expects: operations through the balancer, fresh and reused; `setup["algorithm"]` (`round_robin`, `least_conn` or
    `random`); `setup["balancer_workers"]` (workers that each know only their own requests: 1 when they share state).

    `round_robin` turns with each request, so all first attempts count, whatever their connection: max - min may be at
    most `round_robin_slack` per worker, and behind HAProxy by one round of its turns more. A request that failed or was
    tried twice has turned it further and may have had an instance set aside: then only instances without such trouble
    are compared, and the rest is inconclusive.

    `least_conn` is judged at each choice made while `in_flight_per_instance` x N requests were in flight: how often had
    the instance taken 2 or more above the least loaded one? One-sided exact binomial test of H0 p <= `tolerated`
    against H1 p >= `tolerated` + `wrong_by`. Counts are not judged: a slow instance rightly gets fewer requests.

    `setup["capacity"]` says which instance can do more than others: counts, and what is in flight, are then judged beside that,
    and by what weights the balancer was given is nobody's excuse. Looks named `came-from` (visitor: address) tell who came
    from where: where nearly each of `addresses` or more came to one instance alone, none of the algorithms was at work.

    With `setup["sticky_cookie"]` nothing is promised of shares, and nothing is judged.

    `random` is judged by a G-test on fresh connections, with a sample that finds an instance at half its fair share.

    Evidence:
    - `algorithm`, `workers`, `requests`, `counts` {name: first choices}, `fresh` and `reused` {name: answers};
    - `addresses` (from which enough requests came to tell), `bound_addresses` {name: addresses whose requests it alone got};
    - round robin: `difference`, `allowed`, `slack`, `needed`, `set_aside` [instances with failed attempts];
    - least_conn: `choices` (that count), `against` (that break the rule), `taken_above` {name: choices against the rule
      that took it}, `share`, `interval` (95 %), `tolerated`, `wrong_from`, `p_value`, `critical`, `needed`,
      `mean_in_flight`, `bites` (choices at which some instance had 2 above another);
    - random: `p_value`, `reused_p_value` (with design effect), `requests_per_connection`;
    - both statistical ones: `alpha`, `power` (achieved).
    """

    round_robin_slack: int = 1
    round_robin_each: int = bounds.ROUND_ROBIN_EACH
    haproxy_round_turns: int = bounds.HAPROXY_ROUND_TURNS
    alpha: float = bounds.SHARE_ALPHA
    power: float = bounds.SHARE_POWER
    tolerated: float = bounds.LEAST_CONN_SHARE
    wrong_by: float = bounds.LEAST_CONN_WRONG_BY
    in_flight_per_instance: float = bounds.IN_FLIGHT_PER_INSTANCE
    sight_seconds: float = bounds.SIGHT_SECONDS
    most_workers: int = bounds.MOST_WORKERS
    addresses: int = bounds.ADDRESSES

    def check(self, history: History) -> Verdict:
        operations = _sent_through_balancer(history)
        algorithm = str(history.setup.get("algorithm", "unknown"))
        counts = Counter(choice for op in operations if (choice := first_choice(op)) is not None)
        evidence: dict[str, Any] = {
            "algorithm": algorithm,
            "workers": _workers(history),
            "requests": len(operations),
            "counts": {name: counts[name] for name in history.instances},
            "fresh": _answered_by(operations, Connection.FRESH),
            "reused": _answered_by(operations, Connection.REUSED),
            **_by_address(history, operations),
        }
        if not operations or len(history.instances) < 2:
            return Verdict.inconclusive("no request was sent through the balancer", **evidence)
        if (unseen := who_is_not_told(operations)) is not None:
            return Verdict.inconclusive(unseen, **evidence)
        if cookie := history.setup.get("sticky_cookie"):
            return Verdict.inconclusive(
                f"a cookie ({cookie}) binds a visitor to an instance: the algorithm chooses once for each visitor, and no "
                "shares are promised",
                **evidence,
            )
        bound = sum(evidence["bound_addresses"].values())
        if evidence["addresses"] >= self.addresses and bound >= bounds.BOUND_SHARE * evidence["addresses"]:
            return Verdict.fail(
                f"{bound} of {evidence['addresses']} addresses came to one instance each, however often they asked: "
                f"{_in_words(counts)}, and whoever comes decides on that, not {algorithm}",
                **evidence,
            )
        if algorithm == "round_robin":
            return self._round_robin(history, operations, evidence)
        if algorithm == "least_conn":
            return self._least_conn(history, operations, evidence)
        if algorithm == "random":
            return self._random(history, operations, evidence)
        return Verdict.inconclusive(f"nothing is known of what the algorithm {algorithm} promises", **evidence)

    # -- round robin ------------------------------------------------------------------------------------------

    def _round_robin(self, history: History, operations: list[Operation], evidence: dict[str, Any]) -> Verdict:
        """Source of the bound: each worker's counts differ by at most 1 at any time, so W workers' by at most W. HAProxy
        plans whole rounds, and when an instance last came up nobody told."""
        turns = self.haproxy_round_turns if history.setup.get("balancer") == "haproxy" else 0
        counts: dict[str, int] = evidence["counts"]
        workers = evidence["workers"]
        failed = [op for op in operations if len(op.attempts) < 2 and (first_choice(op) is None or not op.available)]
        retried = [op for op in operations if len(op.attempts) > 1]
        # A turn nobody saw, and an instance set aside and taken back: each shifts every worker's turn by one.
        slack = 2 * workers * (len(failed) + len(retried))
        set_aside = {op.attempts[0] for op in [*retried, *failed] if op.attempts} - {UNNAMED}
        unknown = any(not op.attempts for op in failed) or any(UNNAMED in op.attempts for op in retried)
        allowed = self.round_robin_slack * workers + turns
        # Beside what each can do: of equals these are the counts themselves.
        capacity = _capacity(history)
        evened = {name: count / capacity[name] for name, count in counts.items()}
        difference = rounded(max(evened.values()) - min(evened.values())) or 0
        clear = [count for name, count in evened.items() if name not in set_aside]
        evidence |= {
            "difference": difference,
            "allowed": allowed,
            "slack": slack,
            "set_aside": sorted(set_aside),
            # Rounds enough for a wrong weight to show.
            "needed": int((self.round_robin_each + 5 * turns) * sum(capacity.values())),
        }
        told = f"round robin: {_in_words(counts)}, difference {difference:g} (allowed {allowed}, {'one round' if turns else 'exact'})"
        if sum(counts.values()) < evidence["needed"]:
            return Verdict.inconclusive(f"{told}: {evidence['needed']} requests are needed", **evidence)
        if not slack:
            return Verdict.fail(told, **evidence) if difference > allowed else Verdict.passed(told, **evidence)
        trouble = f"{len(failed)} failed and {len(retried)} were tried twice"
        if not unknown and len(clear) > 1 and max(clear) - min(clear) > allowed + slack:
            return Verdict.fail(f"{told}, between instances without trouble ({trouble})", **evidence)
        if difference <= allowed:
            return Verdict.passed(f"{told}, although {trouble}", **evidence)
        return Verdict.inconclusive(f"{told}, but {trouble}: an instance set aside rightly gets less", **evidence)

    # -- least_conn -------------------------------------------------------------------------------------------

    def _least_conn(self, history: History, operations: list[Operation], evidence: dict[str, Any]) -> Verdict:
        """Test of a proportion; source of the exact tail: Clopper and Pearson 1934, Biometrika 26:404."""
        workers = evidence["workers"]
        judged = _Choices(self, history, operations)
        # Two workers stay below the tolerated share; each further one adds about as much again (simulated).
        tolerated = self.tolerated * max(1, workers - 1)
        wrong = tolerated + self.wrong_by
        n, against = judged.counted, sum(judged.taken_above.values())
        critical = binomial_critical(n, tolerated, alpha=self.alpha)
        achieved = binomial_tail(critical, n, wrong)
        needed = _sample(tolerated, wrong, self.alpha, self.power)
        dues = [op.due for op in operations]
        mean = mean_in_flight(operations, start=min(dues), end=max(dues))
        low, high = wilson_interval(against, n)
        evidence |= {
            "choices": n,
            "against": against,
            "share": round(against / n, 4) if n else None,
            "interval": [round(low, 4), round(high, 4)],
            "tolerated": tolerated,
            "wrong_from": wrong,
            "p_value": binomial_tail(against, n, tolerated),
            "critical": critical,
            "alpha": self.alpha,
            "power": round(achieved, 4),
            "needed": needed,
            "mean_in_flight": rounded(mean),
            "bites": judged.bites,
            "taken_above": dict(judged.taken_above),
        }
        share = f"{against / n:.1%}" if n else "none"
        told = (
            f"least_conn: {share} of {n} choices took an instance with 2 or more in flight above the least "
            f"(allowed {tolerated:.0%}; alpha {self.alpha}, power {achieved:.3f} against {wrong:.0%})"
        )
        if workers > self.most_workers:
            return Verdict.inconclusive(
                f"{told}: {workers} workers that do not share what they know cannot be judged from outside", **evidence
            )
        if against >= critical:
            return Verdict.fail(f"{told}; {_in_words(evidence['counts'])}", **evidence)
        if n < needed or achieved < self.power:
            floor = self.in_flight_per_instance * len(history.instances)
            return Verdict.inconclusive(
                f"least_conn: only {n} of {needed} choices were made with {floor:.0f} or more requests in flight "
                f"({mean:.1f} on average): send slower requests, or more of them",
                **evidence,
            )
        return Verdict.passed(told, **evidence)

    # -- random -----------------------------------------------------------------------------------------------

    def _random(self, history: History, operations: list[Operation], evidence: dict[str, Any]) -> Verdict:
        names = history.instances
        fair = [1.0 / len(names)] * len(names)
        # What must be found: one instance with half its fair share, the rest spread over the others.
        half = [0.5 / len(names)] + [(1.0 - 0.5 / len(names)) / (len(names) - 1)] * (len(names) - 1)
        fresh = _choices_on(operations, Connection.FRESH, names)
        reused = _choices_on(operations, Connection.REUSED, names)
        connections = len({(op.stream, op.visitor) for op in operations if op.connection is Connection.REUSED})
        per_connection = sum(reused) / connections if connections else 1.0
        n = sum(fresh)
        achieved = _power(n, tuple(fair), tuple(half), self.alpha) if n else 0.0
        p_value = g_test(fresh, fair) if n else None
        evidence |= {
            "p_value": p_value,
            "alpha": self.alpha,
            "power": round(achieved, 4),
            "requests_per_connection": round(per_connection, 2),
            "reused_p_value": g_test(reused, fair, requests_per_connection=per_connection) if sum(reused) else None,
        }
        told = f"random: {_in_words(evidence['counts'])} on {n} fresh connections"
        rates = f"alpha {self.alpha}, power {achieved:.3f} against half a share"
        if p_value is not None and p_value < self.alpha:
            return Verdict.fail(f"{told}: p = {p_value:.2g} ({rates})", **evidence)
        if p_value is None or achieved < self.power:
            return Verdict.inconclusive(f"{told}: too few ({rates})", **evidence)
        return Verdict.passed(f"{told}, p = {p_value:.2g} ({rates})", **evidence)


@lru_cache
def _power(n: int, fair: tuple[float, ...], wrong: tuple[float, ...], alpha: float) -> float:
    return chi_square_power(n, fair=fair, wrong=wrong, alpha=alpha)


@lru_cache
def _sample(tolerated: float, wrong: float, alpha: float, power: float) -> int:
    """The sample from which the binomial test has its power, also for every larger one (power saw-tooths with n)."""
    needed = 1
    for n in range(1, 5000):
        if binomial_tail(binomial_critical(n, tolerated, alpha=alpha), n, wrong) < power:
            needed = n + 1
        elif n > needed + 50:
            break
    return needed


class _Choices:
    """The balancer's choices that count for least_conn, and those that broke its rule."""

    def __init__(self, rule: SharesFitTheAlgorithm, history: History, operations: list[Operation]) -> None:
        names = history.instances
        in_flight = InFlight(operations, instances=names, sight_seconds=rule.sight_seconds)
        floor = rule.in_flight_per_instance * len(names)
        place = {name: index for index, name in enumerate(names)}
        choices: list[tuple[float, str]] = []
        for op in operations:
            taken = first_choice(op)
            # What was tried twice or failed has no one place at which it was in flight.
            if op.sent is not None and op.answered is not None and len(op.attempts) < 2 and taken in place:
                choices.append((op.sent, taken))
        crowd = in_flight.in_all([at for at, _ in choices])
        choices = [choice for choice, count in zip(choices, crowd, strict=True) if count >= floor]
        self.counted = len(choices)
        self.bites = 0
        self.taken_above: Counter[str] = Counter()
        rows = in_flight.seen([at for at, _ in choices])
        given = _capacity(history)
        capacity = [given[name] for name in names] if len(set(given.values())) > 1 else []
        for (_, taken), (surely, possibly) in zip(choices, rows, strict=True):
            if capacity:
                self._count_evened(taken, place, surely, possibly, capacity)
                continue
            most, least = max(surely), min(possibly)
            if most < 0:
                most = 0
            if most - least < 1:
                continue  # so it is with nearly all: nobody has two above another, whoever was chosen
            own = place[taken]
            if possibly[own] - 1 < least:  # the choice itself is no reason against it
                least = possibly[own] - 1
            self.bites += most - least >= 2
            if max(0, surely[own]) - least >= 2:
                self.taken_above[taken] += 1

    def _count_evened(
        self,
        taken: str,
        place: Mapping[str, int],
        surely: Sequence[int],
        possibly: Sequence[int],
        capacity: Sequence[float],
    ) -> None:
        """The same, where what each has in flight counts beside what it can do."""
        own = place[taken]
        load = [max(0, count) / each for count, each in zip(surely, capacity, strict=True)]
        least = min((count - (at == own)) / capacity[at] for at, count in enumerate(possibly))
        self.bites += max(load) - least >= 2
        if load[own] - least >= 2:
            self.taken_above[taken] += 1


def _capacity(history: History) -> Mapping[str, float]:
    """What each instance can do beside the others; 1 where nobody says more."""
    declared = history.setup.get("capacity") or {}
    return {name: float(declared.get(name, 1)) for name in history.instances}


def _by_address(history: History, operations: Sequence[Operation]) -> dict[str, Any]:
    """Whether who comes from one address always comes to the same instance, where it is known who came from where."""
    came_from = {visitor: str(at) for look in history.looks_at("came-from") for visitor, at in look.value.items()}
    chosen: dict[str, list[str]] = {}
    for op in operations:
        if op.connection is Connection.FRESH and op.visitor in came_from and (choice := first_choice(op)) is not None:
            chosen.setdefault(came_from[op.visitor], []).append(choice)
    often = {address: set(choices) for address, choices in chosen.items() if len(choices) >= bounds.EACH_ADDRESS}
    return {
        "addresses": len(often),
        "bound_addresses": dict(Counter(next(iter(names)) for names in often.values() if len(names) == 1)),
    }


def _workers(history: History) -> int:
    return max(1, int(history.setup.get("balancer_workers", 1)))


def _choices_on(operations: Sequence[Operation], connection: Connection, names: Sequence[str]) -> list[int]:
    counts = Counter(first_choice(op) for op in operations if op.connection is connection)
    return [counts[name] for name in names]


def _in_words(counts: dict[str, int]) -> str:
    """Such as `app-1 100, app-2 101, app-3 99`."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
