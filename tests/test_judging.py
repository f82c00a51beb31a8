"""Checkers to findings: live and of a stored run alike."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from harness.checkers import EnoughTraffic, EveryInstanceAnswers, InstancesAgree, NoSessionLost, RequestsSurviveLoss
from harness.judging import judge_record, judged, judged_again
from harness.model import Checker, Finding, History, Status, Verdict
from tests.checker_histories import APPS, failed, fault, history, look, pace, traffic
from tests.test_checkers_sessions import LOST

UP = history(looks=[look("health", app) for app in APPS])
DOWN = history(looks=[look("health", app, status=503 if app == "app-2" else 200) for app in APPS])
LATE_LOSS = history(traffic(0, 9), faults=[fault()], setup={"balancer_workers": 1})


@dataclass(frozen=True)
class Says:
    """A checker that says what it is told to."""

    status: Status
    measured: str

    def check(self, history: History) -> Verdict:
        return Verdict(self.status, self.measured, {"said": self.measured})


@dataclass(frozen=True)
class Loud(Says):
    """Another one, so that both may speak at once."""


@pytest.mark.parametrize(
    ("checkers", "record"),
    [
        ((EveryInstanceAnswers(),), UP),
        ((EveryInstanceAnswers(), InstancesAgree()), DOWN),
        ((NoSessionLost(), EnoughTraffic(each_phase=7)), LOST),
        ((RequestsSurviveLoss(each_phase=1000),), LATE_LOSS),
        ((RequestsSurviveLoss.by_hang(),), LATE_LOSS),
        ((), UP),
    ],
    ids=["pass", "fail", "two", "own bounds", "own fault", "none"],
)
def test_a_stored_judgement_is_the_same_again(checkers: tuple[Checker, ...], record: History) -> None:
    """What is written beside a run is enough to reach the very same finding, with the bounds it was judged with."""
    first = judged("a.promise", checkers, record)
    stored = json.loads(json.dumps(judge_record("a.promise", checkers, record)))
    assert (stored["t"], stored["scenario"]) == ("judge", record.scenario)
    assert judged_again([stored], record) == [first]


@dataclass(frozen=True)
class Slow:
    """Finds that requests failed which had waited."""

    def check(self, history: History) -> Verdict:
        return Verdict.fail("9 failed", broken=["failed-requests"], errors={"timeout": 9})


@dataclass(frozen=True)
class Lost:
    """Finds that somebody was logged out."""

    def check(self, history: History) -> Verdict:
        return Verdict.fail("2 were logged out", broken=["session-lost"])


def test_a_machine_that_was_too_busy() -> None:
    """What waiting alone can make is no failure then; what it cannot make stays one, and is what is said."""
    value = {
        "scenario": "s",
        "seconds": 10.0,
        "cores": 2,
        "busy_share": 1.0,
        "others_share": 0.5,
        "waited_seconds": {"app-1": 8.0, "nginx": 7.0},
    }
    record = replace(UP, looks=(look("waited-for-cores", "", status=None, value=value),))
    finding = judged("a.promise", [Slow()], record)
    assert finding.verdict.status is THIN
    assert finding.verdict.measured.startswith(
        "this machine was too busy to tell: the threads of app-1 and nginx stood ready"
    )
    assert judged("a.promise", [Slow()], UP).verdict.status is FAIL
    both = judged("a.promise", [Slow(), Lost()], record)
    assert (both.verdict.status, both.verdict.measured) == (FAIL, "2 were logged out")


PASS, FAIL, THIN, RIG = Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.RIG_ERROR


@pytest.mark.parametrize(
    ("one", "other", "status", "measured"),
    [
        (Says(PASS, "all well"), Loud(PASS, "in time"), PASS, "all well; in time"),
        (Says(PASS, "all well"), Loud(FAIL, "2 lost"), FAIL, "2 lost"),
        (Says(FAIL, "1 lost"), Loud(FAIL, "2 late"), FAIL, "1 lost; 2 late"),
        (Says(FAIL, "the same"), Loud(FAIL, "the same"), FAIL, "the same"),
        (Says(THIN, "too few"), Loud(PASS, "in time"), THIN, "too few"),
        (Says(THIN, "too few"), Loud(RIG, "crashed"), RIG, "crashed"),
        (Says(RIG, "crashed"), Loud(FAIL, "2 lost"), FAIL, "2 lost"),
    ],
)
def test_several_checkers_speak_as_one(one: Says, other: Loud, status: Status, measured: str) -> None:
    """The worst one decides and is quoted; the evidence of each is kept under its name."""
    verdict = judged("a.promise", [one, other], UP).verdict
    assert (verdict.status, verdict.measured) == (status, measured)
    assert verdict.evidence == {"Says": {"said": one.measured}, "Loud": {"said": other.measured}}


def test_nothing_checked_is_never_a_pass() -> None:
    """A scenario that judges nothing has tested nothing."""
    assert judged("a.promise", [], UP) == Finding(
        promise="a.promise", scenario="by hand", verdict=Verdict(Status.INCONCLUSIVE, "nothing was checked", {})
    )


def test_a_checker_that_crashes_is_a_rig_error() -> None:
    """Our mistake is told as ours, with where it happened, and hides nothing that another checker saw."""

    @dataclass(frozen=True)
    class Crashes:
        def check(self, history: History) -> Verdict:
            raise KeyError("due")

    alone = judged("a.promise", [Crashes(), EveryInstanceAnswers()], UP).verdict
    assert alone.status is Status.RIG_ERROR
    assert "Crashes crashed: KeyError: 'due'" in alone.measured
    assert "traceback" in alone.evidence["Crashes"]
    assert alone.evidence["EveryInstanceAnswers"]["answered"] == 3
    assert judged("a.promise", [Crashes(), EveryInstanceAnswers()], DOWN).verdict.status is Status.FAIL


@pytest.mark.parametrize("checkers", [(), (Says(PASS, "all well"),), (Says(FAIL, "2 lost"),)])
def test_of_a_record_that_contradicts_itself_nothing_is_believed(checkers: tuple[Checker, ...]) -> None:
    """Requests that nobody planned are the rig's mistake, whatever they were answered, and whoever judges them."""
    paces = [pace("browse", rate=50, begin=0, end=1, planned=50)]
    record = history([*traffic(0, 0.5), failed(0.501)], paces=paces)
    verdict = judged("a.promise", checkers, record).verdict
    assert verdict.status is Status.RIG_ERROR
    assert verdict.measured.startswith("the record contradicts itself: 25 of 50 requests of browse were due when none")
    assert json.loads(json.dumps(verdict.evidence)) == verdict.evidence


def test_a_checker_of_another_version_is_refused() -> None:
    """A stored run is judged by what judged it, or not at all."""
    record = judge_record("a.promise", [EveryInstanceAnswers()], UP)
    record["checkers"][0]["checker"] = "EveryInstanceSings"
    with pytest.raises(ValueError, match="EveryInstanceSings"):
        judged_again([record], UP)
