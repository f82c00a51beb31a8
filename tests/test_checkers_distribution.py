"""Does load reach every instance, in the shares the algorithm promises? With the error rates, simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from harness.checkers import EveryInstanceGetsTraffic, SharesFitTheAlgorithm
from harness.checkers.distribution import missed_by_chance, sample_for_completeness
from harness.model import UNNAMED, Connection, History
from tests.checker_histories import (
    APPS,
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    history,
    look,
    op,
    status_of,
    traffic,
    without,
)
from tests.checker_simulations import spread

SPREAD = history(traffic(0, 3))
FRESH = history(traffic(0, 0.37, connection=Connection.FRESH))


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (SPREAD, PASS, "3 of 3 instances in 300 answers, 100 to 100 each"),
        (FRESH, PASS, "3 of 3 instances in 37 answers"),
        (without(FRESH, lambda o: o.due > 0.355), INCONCLUSIVE, "36 fresh connections, 37 are needed"),
        (doctored(SPREAD, lambda o: replace(o, connection=Connection.REUSED)), INCONCLUSIVE, "0 fresh connections"),
        (history(traffic(0, 3, instances=APPS[:2])), FAIL, "2 of 3 instances in 300 answers; none from app-3"),
        (history(traffic(0, 3, instances=(*APPS, "127.0.0.1:9"))), FAIL, "75 answers from a stranger: 127.0.0.1:9"),
        (
            doctored(SPREAD, lambda o: replace(o, instance=None) if o.due == 1.0 else o),
            FAIL,
            "1 answer from a stranger",
        ),
        (history(traffic(0, 3, instances=("10.0.0.8:80", "10.0.0.9:80"))), FAIL, "300 answers from a stranger"),
        # Behind a balancer that is somebody else's they may be the instances under other names; not where some are known.
        (
            history(traffic(0, 3, instances=("10.0.0.8:80", "10.0.0.9:80")), setup={"is_closed": True}),
            INCONCLUSIVE,
            "seen_as",
        ),
        (history(traffic(0, 3, instances=("app-1", "10.0.0.9:80")), setup={"is_closed": True}), FAIL, "a stranger"),
        # A failure without an instance is the balancer's own word, no stranger.
        (history([*SPREAD.operations, failed(1.001)]), PASS, "3 of 3"),
        # Tried and never answering is not traffic.
        (
            history([*traffic(0, 3, instances=APPS[:2]), *(failed(i / 50, attempts=("app-3",)) for i in range(50))]),
            FAIL,
            "none from app-3",
        ),
        # Asked directly, everybody answers; the balancer has no part in it.
        (history([o for app in APPS for o in traffic(0, 1, instances=(app,), via=app)]), INCONCLUSIVE, "0 fresh"),
    ],
)
def test_every_instance_gets_traffic(record: History, expected: str, said: str) -> None:
    """Each appears, nobody else does, and the sample is large enough to say so."""
    verdict = EveryInstanceGetsTraffic().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_the_sample_for_completeness() -> None:
    """So large that a fair balancer misses an instance by chance less than once in a million; one less is not."""
    for instances in (2, 3, 5, 10):
        n = sample_for_completeness(instances, chance=1e-6)
        assert missed_by_chance(n, instances) <= 1e-6 < missed_by_chance(n - 1, instances)
    assert missed_by_chance(0, 3) == 1.0
    assert sample_for_completeness(1, chance=1e-6) == 1


def test_what_was_tried_is_evidence() -> None:
    """Missing from the pool, or listed and dead: the attempts tell."""
    dead = history([*traffic(0, 3, instances=APPS[:2]), *(failed(i / 50, attempts=("app-3",)) for i in range(50))])
    evidence = EveryInstanceGetsTraffic().check(dead).evidence
    assert evidence["missing"] == ["app-3"]
    assert evidence["tried"]["app-3"] == 50


# -- shares of instances that are not alike --------------------------------------------------------------------


def beside(of: History, **capacity: int) -> History:
    """The setup says that some can do more than others."""
    told = {name.replace("_", "-"): count for name, count in capacity.items()}
    return replace(of, setup={**of.setup, "capacity": told})


@pytest.mark.parametrize(
    ("counts", "capacity", "expected"),
    [
        ((200, 100, 100), {"app_1": 2}, PASS),
        ((201, 100, 100), {"app_1": 2}, PASS),
        ((205, 100, 100), {"app_1": 2}, FAIL),
        # As many for each where one can do twice as much, or twice as many for one of equals.
        ((100, 100, 100), {"app_1": 2}, FAIL),
        ((200, 100, 100), {}, FAIL),
        ((60, 30, 10), {"app_1": 6, "app_2": 3}, INCONCLUSIVE),
        ((240, 120, 40), {"app_1": 6, "app_2": 3}, PASS),
    ],
)
def test_shares_are_judged_beside_what_each_can_do(
    counts: tuple[int, int, int], capacity: dict[str, int], expected: str
) -> None:
    """Round robin with weights gives each so many in a round; which weights the balancer has is not asked."""
    verdict = SharesFitTheAlgorithm().check(beside(round_robin(*counts), **capacity))
    assert status_of(verdict) == expected, verdict.measured


def from_addresses(choose: Callable[[int], str]) -> History:
    """Thirty people, each from an address of their own; `choose`: who serves the visitor of this number."""
    made = [replace(o, visitor=f"v{i % 30}", instance=choose(i % 30)) for i, o in enumerate(traffic(0, 6))]
    made = [replace(o, attempts=(str(o.instance),), connection=Connection.FRESH) for o in made]
    told = look("came-from", "", value={f"v{i}": f"127.{20 + i}.0.1" for i in range(30)})
    return history(made, looks=[told], setup={"algorithm": "round_robin", "balancer": "nginx"})


def test_who_is_bound_by_address_is_evidence() -> None:
    """Each address came to one instance alone, or nobody's did."""
    bound = SharesFitTheAlgorithm().check(from_addresses(lambda visitor: APPS[visitor % 3])).evidence
    assert (bound["addresses"], bound["bound_addresses"]) == (30, {"app-1": 10, "app-2": 10, "app-3": 10})
    # Counts may be as even as can be: whoever comes decides on them.
    verdict = SharesFitTheAlgorithm().check(from_addresses(lambda visitor: APPS[visitor % 3]))
    assert status_of(verdict) == FAIL
    assert "30 of 30 addresses came to one instance each" in verdict.measured
    few = from_addresses(lambda visitor: APPS[visitor % 3])
    few = replace(few, looks=tuple(replace(each, value=dict(list(each.value.items())[:9])) for each in few.looks))
    assert status_of(SharesFitTheAlgorithm().check(few)) == PASS
    turns = iter(range(1000))
    free = SharesFitTheAlgorithm().check(from_addresses(lambda visitor: APPS[next(turns) * 7 % 30 % 3])).evidence
    assert free["addresses"] == 30
    nobody = SharesFitTheAlgorithm().check(round_robin(100, 100, 100)).evidence
    assert (nobody["addresses"], nobody["bound_addresses"]) == (0, {})


def crowded(weights: tuple[int, ...], **capacity: int) -> History:
    """Each request goes to whoever has least in flight for its weight; fifteen are in flight at any time."""
    in_flight = dict.fromkeys(APPS, 0)
    busy: list[tuple[float, str]] = []
    made = []
    for i in range(900):
        due = i / 300
        for end, app in [each for each in busy if each[0] <= due]:
            busy.remove((end, app))
            in_flight[app] -= 1
        taken = min(APPS, key=lambda app: in_flight[app] / weights[APPS.index(app)])
        in_flight[taken] += 1
        busy.append((due + 0.05 + i % 7 / 1e3, taken))
        made.append(op(due, instance=taken, latency=0.05 + i % 7 / 1e3))
    setup = {"algorithm": "least_conn", "balancer_workers": 1}
    return beside(history(made, setup=setup), **capacity)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (crowded((1, 1, 1)), PASS),
        (crowded((5, 1, 1)), FAIL),
        (crowded((5, 1, 1), app_1=5), PASS),
        (crowded((1, 1, 1), app_1=5), FAIL),
    ],
)
def test_what_is_in_flight_is_judged_beside_what_each_can_do(record: History, expected: str) -> None:
    """least_conn with weights evens out what is in flight for each unit of weight."""
    verdict = SharesFitTheAlgorithm().check(record)
    assert status_of(verdict) == expected, verdict.measured


# -- shares: hand-written ---------------------------------------------------------------------------------------


def round_robin(*counts: int, workers: int = 1, extra: Any = (), balancer: str = "nginx") -> History:
    """So many first attempts for each instance, in turn while they last."""
    left = dict(zip(APPS, counts, strict=True))
    names = []
    while any(left.values()):
        for app in APPS:
            if left[app]:
                left[app] -= 1
                names.append(app)
    made = [o for i, name in enumerate(names) for o in traffic(i / 100, (i + 1) / 100, instances=(name,))]
    return history(
        [*made, *extra], setup={"algorithm": "round_robin", "balancer_workers": workers, "balancer": balancer}
    )


SOMEWHERE_FIRST = [
    replace(o, attempts=(UNNAMED, "app-1"), instance="app-1") for o in traffic(3.0, 3.05, instances=("app-1",))
]
TWICE = [replace(o, attempts=("app-3", "app-1"), instance="app-1") for o in traffic(3.0, 3.05, instances=("app-1",))]


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (round_robin(100, 100, 100), PASS, "difference 0 (allowed 1, exact)"),
        (round_robin(101, 100, 100), PASS, "difference 1"),
        (round_robin(102, 100, 100), FAIL, "difference 2 (allowed 1, exact)"),
        (round_robin(102, 100, 100, workers=2), PASS, "allowed 2"),
        (round_robin(104, 100, 100, workers=2), FAIL, "allowed 2"),
        (round_robin(150, 150, 0), FAIL, "app-3 0"),
        (round_robin(300, 0, 0), FAIL, "app-1 300"),
        (round_robin(20, 19, 20), INCONCLUSIVE, "60 requests are needed"),
        # HAProxy plans rounds of 16 turns for each: who came up in the middle of one is behind by that, and no more.
        (round_robin(183, 179, 178, balancer="haproxy"), PASS, "difference 5 (allowed 17, one round)"),
        (round_robin(117, 117, 99, balancer="haproxy"), FAIL, "difference 18 (allowed 17, one round)"),
        (round_robin(150, 75, 75, balancer="haproxy"), FAIL, "app-1 150"),
        (round_robin(100, 100, 99, balancer="haproxy"), INCONCLUSIVE, "300 requests are needed"),
        # Tried twice: whoever failed may have been set aside, and rightly gets less.
        (round_robin(120, 120, 60, extra=TWICE), INCONCLUSIVE, "5 were tried twice"),
        (round_robin(101, 100, 95, extra=TWICE), PASS, "although 0 failed and 5 were tried twice"),
        # Nor if nobody says who that was: then it may be anybody.
        (round_robin(120, 120, 60, extra=SOMEWHERE_FIRST), INCONCLUSIVE, "0 failed and 5 were tried twice"),
        (round_robin(200, 100, 50, extra=SOMEWHERE_FIRST), INCONCLUSIVE, "5 were tried twice"),
        (round_robin(100, 100, 100, extra=SOMEWHERE_FIRST), PASS, "app-1 100, app-2 100, app-3 100"),
        # But the trouble of one does not explain a difference between two others.
        (round_robin(200, 100, 50, extra=TWICE), FAIL, "between instances without trouble"),
        # Failures of which nobody knows where they were explain everything.
        (
            round_robin(200, 100, 50, extra=[failed(3 + i / 10, error="timeout", attempts=()) for i in range(3)]),
            INCONCLUSIVE,
            "3 failed",
        ),
    ],
)
def test_round_robin_by_hand(record: History, expected: str, said: str) -> None:
    """An exact bound, that knows what a failure does to the turn."""
    verdict = SharesFitTheAlgorithm().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (replace(SPREAD, setup={"algorithm": "hash"}), "the algorithm hash"),
        (replace(SPREAD, setup={}), "the algorithm unknown"),
        (replace(SPREAD, setup=SPREAD.setup | {"sticky_cookie": "SERVERID"}), "a cookie (SERVERID) binds a visitor"),
        (replace(SPREAD, setup={"algorithm": "least_conn"}), "only 0 of"),
        (replace(SPREAD, setup={"algorithm": "least_conn", "balancer_workers": 8}), "8 workers"),
        (replace(SPREAD, setup={"algorithm": "random"}, operations=SPREAD.operations[:90]), "too few"),
        (replace(SPREAD, setup={"algorithm": "least_conn"}, instances=("app-1",)), "no request"),
    ],
)
def test_shares_nobody_can_judge(record: History, said: str) -> None:
    """No rule, too few requests, too little in flight for the rule to be put to the test: inconclusive."""
    verdict = SharesFitTheAlgorithm().check(record)
    assert status_of(verdict) == INCONCLUSIVE
    assert said in verdict.measured


def test_both_error_rates_are_stated() -> None:
    """Sample, alpha and the power achieved, in the line and in the evidence."""
    verdict = SharesFitTheAlgorithm().check(spread("least_conn", seed=1))
    assert status_of(verdict) == PASS
    assert "alpha 0.001" in verdict.measured
    assert "against 25%" in verdict.measured
    assert verdict.evidence["power"] >= 0.99
    assert verdict.evidence["choices"] >= verdict.evidence["needed"] > 50
    assert verdict.evidence["mean_in_flight"] == pytest.approx(10, abs=1)


def test_fresh_and_reused_are_told_apart() -> None:
    """A balancer that pins reused connections shows there."""
    evidence = SharesFitTheAlgorithm().check(round_robin(100, 100, 100)).evidence
    assert sum(evidence["fresh"].values()) + sum(evidence["reused"].values()) == 300


# -- shares: error rates ----------------------------------------------------------------------------------------

SEEDS = 200
SERVICE: dict[str, Callable[[Random], float]] = {
    "constant": lambda random: 0.1,
    "exponential": lambda random: random.expovariate(10),
    "two kinds": lambda random: 0.4 if random.random() < 0.15 else 0.05,
}


def verdicts(algorithm: str, *, seeds: int = SEEDS, **given: Any) -> dict[str, int]:
    """How the checker judges so many simulated runs."""
    counted = {PASS: 0, FAIL: 0, INCONCLUSIVE: 0}
    for seed in range(seeds):
        counted[SharesFitTheAlgorithm().check(spread(algorithm, seed=seed, **given)).status.value] += 1
    return counted


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_healthy_round_robin_is_never_called_wrong(workers: int) -> None:
    """0 of 200, for every number of workers with turns of their own."""
    assert verdicts("round_robin", workers=workers) == {PASS: SEEDS, FAIL: 0, INCONCLUSIVE: 0}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("service", SERVICE.values(), ids=list(SERVICE))
def test_healthy_least_conn_is_never_called_wrong(workers: int, service: Callable[[Random], float]) -> None:
    """0 of 200, with one worker and with two that do not know of each other, whatever the answers take."""
    counted = verdicts("least_conn", workers=workers, service=service, n=300)
    assert counted[FAIL] == 0
    assert counted[PASS] >= 0.99 * SEEDS


def test_healthy_least_conn_with_one_slow_instance_is_right() -> None:
    """Counts are far from equal then, and that is what least_conn is for."""
    record = spread("least_conn", seed=3, slow_instance=4.0)
    verdict = SharesFitTheAlgorithm().check(record)
    assert status_of(verdict) == PASS
    assert verdict.evidence["counts"]["app-1"] < 0.6 * verdict.evidence["counts"]["app-2"]
    assert verdicts("least_conn", seeds=50, slow_instance=4.0)[FAIL] == 0


def test_healthy_least_conn_seen_through_a_busy_machine() -> None:
    """Answers and requests that reach us up to 5 ms late do not make the balancer wrong."""
    assert verdicts("least_conn", workers=2, blur=0.005)[FAIL] == 0


WRONG: dict[str, tuple[int, ...]] = {
    "one instance missing": (1, 1, 0),
    "weights 5:1:1": (5, 1, 1),
    "all to one": (1, 0, 0),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("weights", WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("algorithm", ["round_robin", "least_conn"])
def test_a_wrong_balancer_is_caught(algorithm: str, weights: tuple[int, ...], workers: int) -> None:
    """At least 99 of 100 times."""
    assert verdicts(algorithm, weights=weights, workers=workers, n=300)[FAIL] >= 0.99 * SEEDS


def test_least_conn_that_chooses_at_random_is_caught() -> None:
    """A setup that says least_conn and does something else."""
    assert verdicts("random", told="least_conn")[FAIL] >= 0.99 * SEEDS
    assert verdicts("random", told="round_robin")[FAIL] >= 0.99 * SEEDS


def test_random_keeps_both_error_rates() -> None:
    """The G-test: hardly ever wrong on a fair choice, and sure of half a share on the stated sample."""
    fair = verdicts("random", n=600)
    assert fair[FAIL] <= 2
    assert fair[PASS] >= 0.99 * SEEDS
    assert verdicts("random", n=600, weights=(2, 5, 5))[FAIL] >= 0.97 * SEEDS
    assert verdicts("random", n=600, weights=(1, 1, 0))[FAIL] == SEEDS


def test_half_a_share_is_found_on_the_whole_sample() -> None:
    """All of it at once: a tenth of it, or the best of ten tries, would let this pass more often than not."""
    assert verdicts("random", seeds=20, n=600, weights=(2, 5, 5))[FAIL] >= 19
