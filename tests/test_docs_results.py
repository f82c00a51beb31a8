"""docs/results.md is held to what a run writes: each file, field, verdict, outcome and exit code is told, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness import cli, reporting
from harness.model import (
    Answer,
    Confidence,
    Connection,
    FaultWindow,
    History,
    Look,
    Operation,
    Outcome,
    Pace,
    RolloutStep,
    Status,
)
from harness.reporting import Redactor, from_json, to_json, write_results
from harness.traffic import Journal, journal

CHECKOUT = Path(__file__).parents[1]
PAGE = (CHECKOUT / "docs/results.md").read_text(encoding="utf-8")
SAMPLE = CHECKOUT / "tests/data/verdicts-v1.json"


def section(title: str) -> str:
    """From a heading to the next of its kind."""
    found = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"docs/results.md has no heading {title!r}"
    return found


def table(text: str, after: str) -> dict[str, str]:
    """The rows of the first table after these words: each name of the first cell, and the row."""
    lines = text.partition(after)[2].lstrip("\n").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    made: dict[str, str] = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        made |= dict.fromkeys(spans(line.split("|")[1]), line)
    return made


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def sample(tmp_path: Path) -> reporting.RunResult:
    """A run that has everything a run can have."""
    stored = json.loads(SAMPLE.read_text(encoding="utf-8"))
    stored |= {"left_out": {"failover.partition": "not here"}, "statistics": {"app-1": {"requests": 1}}}
    return from_json(json.dumps(stored), results=tmp_path)


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(to_json(sample(tmp_path)))
    return made


# -- files and exit codes ---------------------------------------------------------------------------------------------


def test_every_file_of_a_run_is_told(tmp_path: Path) -> None:
    """What is written when a run ends is in the table of files."""
    write_results(sample(tmp_path), redactor=Redactor())
    Journal(tmp_path / "history.jsonl", run="r").close()
    told = table(PAGE, "# The results of a run")
    assert {path.name for path in tmp_path.iterdir()} <= set(told)
    assert SAMPLE.is_file()


def exit_codes() -> set[int]:
    words = re.findall(r"^\| ([\d, ]+) \|", section("Exit codes"), re.MULTILINE)
    return {int(code) for row in words for code in row.split(", ")}


def test_every_status_has_its_exit_code_told() -> None:
    """In the table of docs/results.md, in the README, and by `harness --help`."""
    from harness.reporting.run import _EXIT_CODES

    assert set(_EXIT_CODES) == set(Status)
    told = section("Exit codes")
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8").partition("## How to read a verdict")[2]
    for status, code in _EXIT_CODES.items():
        word = status.value.replace("-", "[- ]")
        assert re.search(rf"^\| {code} \| {word}", told, re.MULTILINE), status
        assert re.search(rf"^\| {word} \|.*\| {code} \|$", readme, re.MULTILINE), status
        assert re.search(rf"\b{code}\b", cli._EXIT_CODES), status


def test_no_exit_code_is_told_that_is_not_given() -> None:
    """Those of the table are those that the command line names where it begins, and 141 for a reader that went away."""
    named = {int(code) for code in re.findall(r"\b(\d{1,3})\b", cli.__doc__ or "")}
    assert exit_codes() - {141} == named


# -- verdicts.json ----------------------------------------------------------------------------------------------------


def test_every_key_of_a_run_is_told(document: Mapping[str, Any]) -> None:
    """The keys of the whole document, and no other."""
    assert set(table(section("verdicts.json"), "```\n\n")) == set(document)


@pytest.mark.parametrize("key", ["setup", "seconds"])
def test_every_key_of_a_part_is_told(document: Mapping[str, Any], key: str) -> None:
    """Parts that have keys of their own name them in their row."""
    row = table(section("verdicts.json"), "```\n\n")[key]
    assert set(document[key]) <= set(spans(row))


def test_every_count_is_told(document: Mapping[str, Any]) -> None:
    """One for each verdict, and for what is waived."""
    row = table(section("verdicts.json"), "```\n\n")["counts"]
    assert set(document["counts"]) | {status.value for status in Status} <= set(spans(row))


def test_every_key_of_a_promise_a_finding_and_a_cause_is_told(document: Mapping[str, Any]) -> None:
    """And no key that is not there."""
    page = section("verdicts.json")
    promises = document["promises"]
    findings = [finding for promise in promises for finding in promise["findings"]]
    causes = [cause for finding in findings for cause in finding["causes"]]
    assert causes, "the sample has to have a cause"
    assert set(table(page, "A promise:")) == set(promises[0])
    assert set(promises[0]["promise"]) <= set(spans(table(page, "A promise:")["promise"]))
    assert set(table(page, "A finding:")) == set(findings[0])
    assert set(causes[0]) <= set(spans(table(page, "A finding:")["causes"]))


# -- history.jsonl ----------------------------------------------------------------------------------------------------


def test_every_kind_of_record_is_told() -> None:
    """`t` of each line that is read, and the first line."""
    assert set(table(section("history.jsonl"), "```\n\n")) == journal._READ | {"journal"}


def test_every_field_of_a_request_is_told() -> None:
    """Each field of an operation has its row, or shares one; and no row is of a field that is not there."""
    assert set(table(section("history.jsonl"), "`op`:")) == {field.name for field in fields(Operation)}


@pytest.mark.parametrize(
    ("kind", "model"), [("pace", Pace), ("fault", FaultWindow), ("rollout", RolloutStep), ("look", Look)]
)
def test_every_field_of_the_other_records_is_told(kind: str, model: Any) -> None:
    """Their rows name each field of the model, in its order."""
    row = table(section("history.jsonl"), "| `t` | its keys |")[kind]
    told = spans(row)[1:]
    assert told == [field.name for field in fields(model)]


def test_what_is_known_of_a_scenario_is_told() -> None:
    """All of a history that is not a list of facts with records of their own."""
    row = table(section("history.jsonl"), "```\n\n")["scenario"]
    facts = {"operations", "faults", "rollout", "looks", "paces"}
    own = {field.name for field in fields(History)} - facts - {"scenario"}
    assert own <= set(spans(row))


@pytest.mark.parametrize(
    ("key", "words"),
    [("outcome", Outcome), ("answer", Answer), ("connection", Connection)],
)
def test_every_word_is_told(key: str, words: Any) -> None:
    """Whatever a field can say has its meaning in its row."""
    row = table(section("history.jsonl"), "`op`:")[key]
    assert {word.value for word in words} <= set(spans(row))


def test_every_confidence_is_told() -> None:
    """How sure a cause is."""
    assert {word.value for word in Confidence} <= set(spans(section("On the terminal")))


def errors() -> Iterator[str]:
    """The classes of failure, as the model tells them."""
    source = (CHECKOUT / "harness/model/facts.py").read_text(encoding="utf-8")
    told = source.partition("    error: str | None = None\n")[2].partition("    detail:")[0]
    yield from spans(told)


def test_every_class_of_failure_is_told() -> None:
    """Those that the model names have their place in the row of `error`."""
    assert len(list(errors())) > 8
    assert set(errors()) <= set(spans(table(section("history.jsonl"), "`op`:")["error"]))


# -- junit.xml --------------------------------------------------------------------------------------------------------


def test_every_property_of_junit_is_told(tmp_path: Path) -> None:
    """Those of a suite and those of a case, and no other."""
    write_results(sample(tmp_path), redactor=Redactor())
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    written = {each.attrib["name"] for each in root.iter("property")}
    told = section("junit.xml").partition("Properties of a suite:")[2]
    assert set(spans(told)) == written
