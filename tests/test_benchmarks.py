"""The benchmarks: what they share is right, and none is left out of the page. What they measure is no test's business."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
OWN_PAGE = {"balancers", "boot_docker", "frameworks", "guide_verdict", "sample"}
"""Those that need an engine, or make a page of their own."""
SHARED = {"measuring", "synthetic", "performance"}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a benchmark as its neighbours do, and forgets it again."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_every_benchmark_is_on_a_page(load: Any) -> None:
    """Of the page that `make bench` makes, or of one of its own."""
    files = {path.stem for path in FOLDER.glob("*.py")}
    assert set(load("performance").BENCHMARKS) == files - OWN_PAGE - SHARED


def test_what_is_told_of_samples(load: Any) -> None:
    """The median, the least and the most; ratios are of pairs, not of medians."""
    measuring = load("measuring")
    assert measuring.of([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert measuring.of([1.234]) == "1.23"
    assert measuring.ratios([(2.0, 1.0), (9.0, 3.0)]) == [2.0, 3.0]
    assert measuring.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0.0), ([(0, 1), (2, 3)], 2.0), ([(0, 5), (1, 2), (4, 7)], 7.0), ([(4, 7), (0, 5)], 7.0), ([(1, 1)], 0.0)],
)
def test_waits_that_overlap_count_once(load: Any, spans: list[tuple[float, float]], seconds: float) -> None:
    """Traffic goes on while a fault lasts: nobody waits for both."""
    assert load("verdict_time").together(spans) == seconds


def test_the_made_up_run_is_a_healthy_one(load: Any, tmp_path: Path) -> None:
    """Whatever is judged of it passes: else the benchmark would measure another way through the checkers."""
    from harness.rejudging import rejudge

    assert load("synthetic").write_run(tmp_path, operations=40_000) == 40_000
    result = rejudge(tmp_path)
    assert {(finding.promise, finding.verdict.status.value) for finding in result.findings} == {
        (promise.id, "pass") for promise in result.promises
    }
