"""All checkers alike: pure, frozen, never green on silence, and judged again with the bounds they were judged with."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path

import pytest

import harness.checkers
from harness.checkers import (
    EnoughTraffic,
    LossBounds,
    NoSessionLost,
    RequestsSurviveLoss,
    bounds,
    describe,
    from_description,
    registry,
    run_safely,
)
from harness.model import Checker, History, Status, Verdict
from tests.checker_histories import APPS, EMPTY, fault, history, look, status_of, step, traffic

FOLDER = Path(harness.checkers.__file__).parent
NAMES = tuple(registry())
each_checker = pytest.mark.parametrize("name", NAMES)

SILENCE: dict[str, History] = {
    "nothing at all": EMPTY,
    "instances, nothing done": history(),
    "a fault, no traffic": history(faults=[fault()]),
    "a rollout, no traffic": history(rollout=[step("begin", "", 1.0), step("end", "", 2.0)]),
    "looks nobody asked for": history(looks=[look("weather", app) for app in APPS]),
    "a setup, no traffic": history(setup={"algorithm": "least_conn", "balancer_workers": 2}),
}


@pytest.mark.parametrize("silence", SILENCE.values(), ids=list(SILENCE))
@each_checker
def test_silence_never_passes(name: str, silence: History) -> None:
    """Where nothing was done there is nothing to pass, and nothing to fail."""
    assert status_of(registry()[name]().check(silence)) == "inconclusive"


@each_checker
def test_a_checker_is_a_frozen_dataclass_with_a_docstring(name: str) -> None:
    """Its fields are its bounds: nobody changes them between two judgements."""
    checker = registry()[name]()
    assert type(checker).__doc__
    assert "Evidence" in (type(checker).__doc__ or "")
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        checker.anything = 1  # type: ignore[attr-defined]


@each_checker
def test_a_description_survives_json(name: str) -> None:
    """What is written beside a run builds the very same checker."""
    checker = registry()[name]()
    assert from_description(json.loads(json.dumps(describe(checker)))) == checker


@pytest.mark.parametrize(
    "checker",
    [
        EnoughTraffic(each_phase=7),
        NoSessionLost(after="rollout", sessions=3),
        RequestsSurviveLoss.by_hang(),
        RequestsSurviveLoss(kill=replace(bounds.KILL, failed_writes=0), victim_share=0.5),
    ],
    ids=lambda checker: type(checker).__name__,
)
def test_changed_bounds_are_kept(checker: Checker) -> None:
    """A stored run is judged with its own bounds, not with today's defaults; nested ones come back as what they were."""
    again = from_description(json.loads(json.dumps(describe(checker))))
    assert again == checker
    if isinstance(again, RequestsSurviveLoss):
        assert isinstance(again.kill, LossBounds)


@pytest.mark.parametrize(
    ("description", "names"),
    [
        ({"checker": "NoSuchChecker"}, "NoSuchChecker"),
        ({}, "None"),
        ({"checker": "EnoughTraffic", "bounds": {"each_phaze": 3}}, "each_phaze"),
        ({"checker": "RequestsSurviveLoss", "bounds": {"kill": {"patience": 3}}}, "patience"),
        ({"checker": "RequestsSurviveLoss", "bounds": {"kill": {"failed_writes": 3}}}, "detect_within_seconds"),
    ],
)
def test_an_unknown_description_is_refused_by_name(description: dict[str, object], names: str) -> None:
    """A run stored by another version is never judged by guesswork."""
    with pytest.raises(ValueError, match=names):
        from_description(description)


def test_only_registered_checkers_are_described() -> None:
    """A checker that cannot be found again must not be written down."""

    @dataclass(frozen=True)
    class Homemade:
        def check(self, history: History) -> Verdict:
            return Verdict.passed("fine")

    with pytest.raises(TypeError, match="Homemade"):
        describe(Homemade())


def test_a_crash_is_a_rig_error_and_says_where() -> None:
    """A crashed checker is never silent and never green."""

    @dataclass(frozen=True)
    class Crashes:
        def check(self, history: History) -> Verdict:
            raise KeyError("due")

    verdict = run_safely(Crashes(), EMPTY)
    assert status_of(verdict) == "rig-error"
    assert "Crashes" in verdict.measured
    assert any("KeyError" in line for line in verdict.evidence["traceback"])


@each_checker
def test_no_checker_crashes_on_a_strange_record(name: str) -> None:
    """Instances nobody knows, faults without effect, rollouts that never ended: verdicts, not crashes."""
    strange = [
        history(traffic(0, 2, instances=("ghost",)), faults=[fault(effective=None, healed=None)]),
        history(traffic(0, 2, instances=(None,)), rollout=[step("begin", "", 0.5)]),  # type: ignore[arg-type]
        history(traffic(0, 2), instances=("app-1",), rollout=[step("ready", "app-1", 1.0), step("begin", "", 0.5)]),
        history(traffic(0, 2), faults=[fault("flood")], setup={"algorithm": "guesswork"}),
        history(looks=[look("note", "app-1"), look("version", "app-1"), look("health", "app-9", status=None)]),
    ]
    for record in strange:
        verdict = run_safely(registry()[name](), record)
        assert verdict.status is not Status.RIG_ERROR, verdict.measured
        status_of(verdict)


def test_checkers_import_the_model_and_the_standard_library_only() -> None:
    """Pure judges: no room of the house but the model, no package at all."""
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in names:
                allowed = module.partition(".")[0] in sys.stdlib_module_names or module.startswith(
                    ("harness.model", "harness.checkers")
                )
                assert allowed, f"{path.name} imports {module}"
                assert module.partition(".")[0] not in {"time", "os", "socket", "random", "subprocess", "pathlib"}


def test_every_exported_checker_is_registered() -> None:
    """What a scenario can import, a stored run can name."""
    exported = {name for name in harness.checkers.__all__ if hasattr(getattr(harness.checkers, name), "check")}
    assert exported == set(NAMES)


def test_every_bound_says_why() -> None:
    """A number without a reason is not a promise: each constant of `bounds` has a text beside it."""
    body = ast.parse((FOLDER / "bounds.py").read_text()).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Constant):
            continue
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        assert documented, ast.unparse(statement)


@pytest.mark.parametrize(
    ("sentence", "numbers"),
    [
        (bounds.KILL_IN_WORDS, ["no failed GET", "3 failed POSTs", "1.0 s", "5%", "2.0 s"]),
        (bounds.HANG_IN_WORDS, ["no failed GET", "3.0 s", "60%"]),
        (bounds.PARTITION_IN_WORDS, ["no failed GET", "3.0 s of silence", "1.0 s of refusals", "60%", "3 (or 5%)"]),
        (bounds.NEW_ADDRESS_IN_WORDS, ["no failed GET", "3 failed POSTs", "2.0 s", "10 s", "5 times"]),
        (bounds.REJOIN_IN_WORDS, ["10 s", "5 times"]),
        (bounds.SHARE_IN_WORDS, ["16", "5%", "0.1%", "99%", "25%"]),
    ],
)
def test_sentences_quote_the_numbers(sentence: str, numbers: list[str]) -> None:
    """The catalogue says what is judged."""
    for number in numbers:
        assert number in sentence


@each_checker
def test_fields_have_defaults_from_one_place(name: str) -> None:
    """`Checker()` is the promise; the numbers are those of `bounds`, which these values are looked up in."""
    known: list[object] = [getattr(bounds, attribute) for attribute in bounds.__all__]
    free = {"after", "fault", "via", "round_robin_slack"}
    for field in fields(registry()[name]):  # type: ignore[arg-type]
        assert field.name in free or field.default in known, field.name


def test_one_clock_shift_changes_no_verdict() -> None:
    """Judged by differences only: the same history an hour later is the same history."""
    early = history(traffic(0, 9), faults=[fault()])
    shift: Callable[[float | None], float | None] = lambda t: None if t is None else t + 3600.0  # noqa: E731
    late = history(
        [replace(op, due=op.due + 3600.0, sent=shift(op.sent), answered=shift(op.answered)) for op in early.operations],
        faults=[fault(injected=3601.0, effective=3601.02, healing=3605.0, healed=3605.5)],
    )
    for checker in registry().values():
        assert checker().check(early).status is checker().check(late).status


def test_what_was_stored_before_a_bound_was_added_is_judged_with_todays() -> None:
    """A run from before instances were cut off names no bounds for that, and had no such fault."""
    stored = describe(RequestsSurviveLoss.by_kill())
    for added in ("silence", "refusal"):
        del stored["bounds"][added]
    assert from_description(stored) == RequestsSurviveLoss.by_kill()
