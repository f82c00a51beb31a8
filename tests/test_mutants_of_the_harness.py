"""The harness is broken on purpose as well: what its own tests hold is true of it, and false of each of its mutants."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
import scripted_server

from harness.mutants import OwnMutant, load_own_mutants
from tests.mutants_of_the_harness import MUTATIONS, break_traffic_too

CHECKOUT = Path(__file__).parents[1]
MUTANTS = load_own_mutants()
PATIENCE_SECONDS = 1.0
"""What a broken prober never sends need not be waited for any longer."""


class Outcomes:
    """A plugin of the inner run: which cases were there, which of them failed, and in which stage."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failed: list[str] = []
        self.crashed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.ran.append(report.nodeid)
        if report.failed:
            (self.failed if report.when == "call" else self.crashed).append(report.nodeid)


def run(tests: Iterable[str]) -> Outcomes:
    """Run these tests of ours in this very process, so that they meet what it was patched to."""
    outcomes = Outcomes()
    options = ["--rootdir", str(CHECKOUT), "--config-file", str(CHECKOUT / "pyproject.toml"), "--capture=no"]
    options += ["-o", "addopts=-p no:locust --strict-markers --strict-config --import-mode=importlib"]
    # What a broken harness leaves behind is not for the tests around it to stumble over; nor is any of this shown.
    for plugin in ("terminal", "cacheprovider", "faulthandler", "xdist", "unraisableexception", "threadexception"):
        options += ["-p", f"no:{plugin}"]
    pytest.main(
        [*options, "--timeout=0", "-W", "ignore", *(str(CHECKOUT / test) for test in tests)], plugins=[outcomes]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    return outcomes


@pytest.fixture(autouse=True)
def nobody_s_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def of(test: str, cases: Iterable[str]) -> list[str]:
    """Those that are cases of this test."""
    return [case for case in cases if case.partition("[")[0] == test]


def test_every_mutant_has_its_mutation() -> None:
    """The table in the docs and what is really done are the same, each under an id of its own, in one order."""
    assert [mutant.id for mutant in MUTANTS] == list(MUTATIONS)


def test_the_harness_as_it_is_passes() -> None:
    """Otherwise that a mutant fails would say nothing."""
    tests = list(dict.fromkeys(test for mutant in MUTANTS for test in mutant.caught_by))
    outcomes = run(tests)
    assert (outcomes.failed, outcomes.crashed) == ([], [])
    assert [test for test in tests if not of(test, outcomes.ran)] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_every_mutant_is_caught(mutant: OwnMutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the tests it is said to be caught by fails, by an assertion of its own and not because nothing runs."""
    MUTATIONS[mutant.id](monkeypatch.setattr)
    break_traffic_too(mutant.id, monkeypatch.setattr)
    monkeypatch.setattr(scripted_server, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    outcomes = run(mutant.caught_by)
    assert [test for test in mutant.caught_by if not of(test, outcomes.failed)] == []
    assert outcomes.crashed == []
