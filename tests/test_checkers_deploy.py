"""A deploy seen from outside, by hand: what failed, for how long nobody was answered, and who said which version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checkers import COMMAND, DeployCostsNothing
from harness.model import Connection, History, Operation, RolloutStep
from tests.checker_histories import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    doctored,
    failed,
    history,
    look,
    pace,
    status_of,
    step,
    traffic,
    without,
)

STEPS = (step("begin", "", 3.0), step("end", "", 5.0))


def watched(
    *,
    failing: tuple[float, float] = (0.0, 0.0),
    error: str = "refused",
    every: int = 1,
    code: int | None = 0,
    steps: tuple[RolloutStep, ...] = STEPS,
    new_from: float = 4.0,
) -> History:
    """A command runs from 3 to 5 seconds; from `new_from` on answers carry version 2. Nobody says who answers."""
    asked = traffic(0, 8, rate=50)

    def change(number: int, o: Operation) -> Operation:
        o = replace(o, instance=None, attempts=(), version="2" if o.due >= new_from else "1")
        if failing[0] <= o.due < failing[1] and number % every == 0:
            told = failed(o.due, error=error, stream=o.stream, method=o.method, connection=o.connection)
            return replace(told, attempts=(), sent=o.due)
        return o

    return history(
        [change(number, o) for number, o in enumerate(asked)],
        instances=(),
        rollout=steps,
        looks=[look(COMMAND, "", value={"code": code, "seconds": 2.0}, status=None)],
        paces=[pace("browse", rate=50, begin=0, end=8, planned=len(asked))],
        setup={"timeout_seconds": 5.0},
    )


def late(o: Operation) -> Operation:
    return replace(o, sent=o.due + 0.4, answered=o.due + 0.5) if o.due > 3 and o.sent is not None and o.answered else o


@pytest.mark.parametrize(
    ("record", "expected", "said"),
    [
        (watched(), PASS, "250 requests, 0 failed, longest gap 0 ms, version 1 before, 2 after"),
        (watched(new_from=9.0), PASS, "version 1 before and after"),
        (doctored(watched(), lambda o: replace(o, version=None)), PASS, "no version is told"),
        (watched(failing=(3.0, 3.2)), FAIL, "10 of 250 requests failed (refused 10)"),
        (watched(failing=(3.0, 4.5)), FAIL, "nobody was answered for 1.5 s"),
        # What fails after the command is its doing as well.
        (watched(failing=(6.0, 6.1), error="http-502"), FAIL, "5 of 250 requests failed (http-502 5)"),
        (watched(failing=(0.0, 8.0), every=10, error="http-500"), INCONCLUSIVE, "15 requests had failed before"),
        # It failed before, and far more since: a moment before that counts as under way, which nobody can rule out.
        (watched(failing=(2.9, 4.0)), FAIL, "55 of 255 requests failed"),
        (watched(code=1), INCONCLUSIVE, "the command ended with exit code 1"),
        (watched(code=1, failing=(3.0, 3.2)), FAIL, "10 of 250 requests failed"),
        (watched(code=None), INCONCLUSIVE, "the command had to be ended after 2 s"),
        (watched(steps=STEPS[:1]), INCONCLUSIVE, "the command did not come to its end"),
        (watched(steps=()), INCONCLUSIVE, "nothing was deployed"),
        (replace(watched(), looks=()), INCONCLUSIVE, "the command did not come to its end"),
        (without(watched(), lambda o: o.due < 2.7), INCONCLUSIVE, "only 15 answers before the command (20 are needed)"),
        (without(watched(), lambda o: o.due > 5.3), INCONCLUSIVE, "after the command (20 are needed)"),
        (
            without(watched(), lambda o: o.connection is Connection.REUSED),
            INCONCLUSIVE,
            "0 requests on reused connections",
        ),
        (doctored(watched(), late), INCONCLUSIVE, "too busy for the rate"),
        (doctored(watched(failing=(3.0, 3.2)), late), FAIL, "refused 10"),
    ],
)
def test_a_deploy_from_outside(record: History, expected: str, said: str) -> None:
    """No request fails, nobody waits long, and the command came to a good end."""
    verdict = DeployCostsNothing().check(record)
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_evidence_counts_what_was_seen() -> None:
    """By connection and by method, and when the new version came."""
    seen = DeployCostsNothing().check(watched(failing=(3.0, 3.2))).evidence
    assert seen["failed"] == sum(seen["failed_by_connection"].values()) == sum(seen["failed_by_method"].values()) == 10
    assert (seen["before"], seen["during"], seen["after"]) == (150, 100, 150)
    assert seen["versions_before"] == {"1": 150}
    assert seen["versions_after"] == {"2": 150}
    assert seen["new_version_after_seconds"] == 1.0
    assert (seen["code"], seen["seconds"]) == (0, 2.0)
