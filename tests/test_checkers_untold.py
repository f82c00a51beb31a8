"""A balancer that says nothing of whom it asked, as anybody's own does: what can be judged then, and what cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checkers import (
    EveryInstanceGetsTraffic,
    RequestsSurviveLoss,
    RolloutCostsNothing,
    SharesFitTheAlgorithm,
    VictimRejoins,
)
from harness.model import Checker, History, Operation
from tests.checker_histories import FAIL, INCONCLUSIVE, PASS, doctored, failed, fault, history, status_of, step, traffic

ROUNDS = history(traffic(0, 3), setup={"algorithm": "round_robin", "balancer_workers": 1})
LOSS = history(
    [o if o.instance != "app-1" or not 1 <= o.due < 5.5 else replace(o, instance="app-2") for o in traffic(0, 17)],
    faults=[fault()],
)
STEPS = [
    step(name, node, at) for node, at in (("app-1", 1.0), ("app-2", 2.0), ("app-3", 3.0)) for name in ("stop", "ready")
]
ROLLOUT = history(traffic(0, 5), rollout=[step("begin", "", 0.9), *STEPS, step("end", "", 4.0)])


def by_the_application(o: Operation) -> Operation:
    """The application names itself, and that is all there is."""
    return replace(o, attempts=())


def by_nobody(o: Operation) -> Operation:
    return replace(o, attempts=(), instance=None)


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (EveryInstanceGetsTraffic(), doctored(ROUNDS, by_the_application), PASS, "3 of 3 instances"),
        (EveryInstanceGetsTraffic(), doctored(ROUNDS, by_nobody), INCONCLUSIVE, "app.instance_header"),
        (SharesFitTheAlgorithm(), doctored(ROUNDS, by_the_application), PASS, "difference 0"),
        (SharesFitTheAlgorithm(), doctored(ROUNDS, by_nobody), INCONCLUSIVE, "app.instance_header"),
        # Nobody saw whether one request was saved, or none met the loss.
        (RequestsSurviveLoss.by_kill(), doctored(LOSS, by_the_application), INCONCLUSIVE, "does not say whom it tried"),
        (RequestsSurviveLoss.by_kill(), doctored(LOSS, by_nobody), INCONCLUSIVE, "app.instance_header"),
        (
            RequestsSurviveLoss.by_stop(),
            doctored(replace(LOSS, faults=(fault("stop"),)), by_the_application),
            INCONCLUSIVE,
            "does not say whom it tried",
        ),
        (VictimRejoins(), doctored(LOSS, by_the_application), PASS, "app-1 answered again"),
        (VictimRejoins(), doctored(LOSS, by_nobody), INCONCLUSIVE, "app.instance_header"),
        (RolloutCostsNothing(), doctored(ROLLOUT, by_nobody), INCONCLUSIVE, "app.instance_header"),
    ],
)
def test_what_nobody_saw_is_no_pass(checker: Checker, record: History, expected: str, said: str) -> None:
    """It says what to add, so that it can be judged."""
    verdict = checker.check(record)
    assert status_of(verdict) == expected, verdict
    assert said in verdict.measured


@pytest.mark.parametrize("change", [by_the_application, by_nobody])
def test_what_people_noticed_is_a_failure_all_the_same(change: object) -> None:
    """A failed request failed, whoever was asked."""
    record = doctored(LOSS, change)  # type: ignore[arg-type]
    broken = replace(record, operations=tuple(sorted([*record.operations, failed(2.0)], key=lambda o: o.due)))
    assert status_of(RequestsSurviveLoss.by_kill().check(broken)) == FAIL
