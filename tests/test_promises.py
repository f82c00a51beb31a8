"""The catalogue: each promise once, with the bound it is judged by, and a scenario that judges it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from harness import assets, promises
from harness.checkers import bounds
from harness.model import Promise
from harness.promises import CATALOGUE, matching, promise

SCENARIOS = assets.path("scenarios")
MODULES = {path: ast.parse(path.read_text()) for path in sorted(SCENARIOS.glob("*.py"))}
# Bounds in words that hold no number of `bounds`: a status is the protocol's.
STATUS = "every instance answers with a status below 300, or as app.healthy says"
each_promise = pytest.mark.parametrize("each", CATALOGUE.values(), ids=lambda each: each.id)


def scenarios() -> Iterator[tuple[str, ast.FunctionDef]]:
    """The promise and the function of each scenario."""
    for module in MODULES.values():
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marked = [ast.literal_eval(call.args[0]) for call in node.decorator_list if _is_promise(call)]
                assert len(marked) == 1, f"{node.name} must judge one promise (it is marked with {marked})"
                yield marked[0], node


def _is_promise(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise"


def test_each_promise_is_judged_and_nothing_else_is() -> None:
    """Every promise has a scenario, every scenario judges a promise there is."""
    assert {marked for marked, _ in scenarios()} == set(CATALOGUE)


@pytest.mark.parametrize(("marked", "scenario"), list(scenarios()), ids=lambda value: getattr(value, "name", ""))
def test_a_scenario_reads_as_its_promise(marked: str, scenario: ast.FunctionDef) -> None:
    """Its docstring is the promise to the user, word for word; it is short, and does nothing by hand."""
    assert ast.get_docstring(scenario) == CATALOGUE[marked].sentence
    assert (scenario.end_lineno or 0) - scenario.lineno < 25
    assert not [node for node in ast.walk(scenario) if isinstance(node, ast.Try | ast.Assert)]
    assert not re.search(r"\bsleep\b|subprocess|https?://|127\.0\.0|:\d{2,5}\b", ast.unparse(scenario))


def test_ids_are_unique_and_in_two_parts() -> None:
    """Two parts in kebab-case: the first groups, and a glob over it finds the whole group and nothing else."""
    assert len(promises._ALL) == len(CATALOGUE)
    for promise_id in CATALOGUE:
        assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", promise_id)
        group = promise_id.partition(".")[0]
        assert matching(f"{group}.*") == tuple(other for other in CATALOGUE if other.startswith(f"{group}."))
    assert promise("failover.kill") is CATALOGUE["failover.kill"]


@each_promise
def test_a_promise_tells_everything(each: Promise) -> None:
    """One sentence, how it is measured, its bound, what breaks and mends it, and where the guide speaks of it."""
    for field in fields(each):
        assert getattr(each, field.name).strip() == getattr(each, field.name) != ""
    assert each.sentence.endswith(".")
    assert each.sentence.count(".") == 1


@each_promise
def test_numbers_of_a_bound_come_from_one_place(each: Promise) -> None:
    """A bound with a number is a sentence of `bounds`, so that what is told is what is judged."""
    sentences = {getattr(bounds, name) for name in bounds.__all__ if name.endswith("_IN_WORDS")}
    assert each.bound in sentences or each.bound == STATUS or not re.search(r"\d", each.bound)


def test_every_sentence_of_the_bounds_is_promised() -> None:
    """No bound is told that no promise holds."""
    told = {each.bound for each in CATALOGUE.values()}
    assert {getattr(bounds, name) for name in bounds.__all__ if name.endswith("_IN_WORDS")} <= told


def test_the_page_has_every_promise() -> None:
    """`harness promises --markdown` tells each promise, in the order of the catalogue, under its group."""
    page = promises.as_markdown()
    assert re.findall(r"^### `(.+)`$", page, re.MULTILINE) == list(CATALOGUE)
    for each in CATALOGUE.values():
        assert each.sentence in page
        assert each.bound in page
