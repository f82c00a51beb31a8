"""`index.html`: the report of a run, made from what lies in its folder, so that it can be made again at any time.

Histories are read one after the other, and each is in the page once, however many promises judge it. Must not: judge,
or write anything but the page.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import JournalError
from harness.model import History, Status
from harness.reporting.files import write_text
from harness.reporting.page import evidence as told
from harness.reporting.page.document import document, links_in, read_part, render
from harness.reporting.page.logs import Logs, read_logs
from harness.reporting.page.recording import Texts, draw, packed, zero_of
from harness.reporting.page.setting import draw_setup, trouble_by_node
from harness.reporting.redaction import Redactor
from harness.reporting.results import read_results
from harness.reporting.run import Explanation, PromiseResult, RunResult
from harness.reporting.text import duration, one_line, plural
from harness.traffic import read_history

__all__ = ["NAME", "to_page", "write_page"]

NAME = "index.html"
OK_SHOWN = 30_000
"""So many requests that were ok are drawn at most, in all histories together; failed and unknown ones all are."""
_EACH_AT_LEAST = 500
_TEXT_CHARACTERS = 150_000
"""For paths, for what was said of failures, and for visitors with names of their own, in all histories together."""
_LOG_LINES = 160
"""Of all nodes together, for one history."""
_LOG_BEFORE_SECONDS, _LOG_AFTER_SECONDS = 2.0, 4.0
_CAUSES_ON_TOP = 2
_ANSWERS = {
    Status.PASS: "Yes",
    Status.FAIL: "No",
    Status.INCONCLUSIVE: "Not known",
    Status.RIG_ERROR: "Not known",
}
_OP = re.compile(rb'\{"t":"op","scenario":"((?:[^"\\]|\\.)*)"')
_ANY = re.compile(rb'\{"t":"scenario","scenario":"((?:[^"\\]|\\.)*)"')


def write_page(folder: Path, *, redactor: Redactor | None = None) -> Path:
    """Make the report of the run in this folder from `verdicts.json`, `history.jsonl` and `logs/`. Returns its path.

    Raises:
        JournalError: there are no results in the folder, or they cannot be used.
        MissingPrerequisite: it cannot be written, such as for want of disk space.
    """
    path = folder / NAME
    write_text(path, to_page(read_results(folder), redactor=redactor or Redactor()))
    return path


def to_page(result: RunResult, *, redactor: Redactor) -> str:
    """The page. The same folder always gives the same one. A run without a journal has a page without time-lines.

    Raises JournalError: the journal is damaged.
    """
    result = redactor.everything(result)
    recorded = _recorded(result, redactor)
    return document(
        title=f"{result.status}: {result.headline}",
        body=render(
            "report.html",
            result=result,
            # A name is not broken at its hyphens.
            headline=f"{result.headline[:1].upper()}{result.headline[1:]}.".replace("-", "\u2011"),
            answer=_ANSWERS[result.status],
            top=_on_top(result),
            when=_when(result.started),
            took=duration(result.seconds),
            drawing=draw_setup(result, instances=recorded.instances, trouble=recorded.trouble),
            rows=[_row(each, result, recorded) for each in _in_order(result)],
            counts=[(word, count) for word, count in result.counts.items() if count],
            drawn=_in_all(recorded.shown, recorded.count) if recorded.packed else "",
        ),
        here=NAME,
        links=links_in(result.results, here=NAME),
        run=result.run_id,
        styles=[read_part("report.css")],
        script=read_part("report.js"),
        data={"histories": recorded.packed},
    )


# -- what was recorded ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    packed: Mapping[str, str]
    """{scenario: its history for the time-line}."""
    zeros: Mapping[str, str]
    """{scenario: what its history counts from}."""
    under_traffic: frozenset[str]
    instances: Sequence[str]
    trouble: Mapping[tuple[str, str], int]
    shown: int
    count: int


def _recorded(result: RunResult, redactor: Redactor) -> _Recorded:
    journal = result.results / "history.jsonl"
    counts = _counted(journal)
    failing = {finding.scenario for finding in result.findings if finding.verdict.status is Status.FAIL}
    wanted = {finding.scenario for finding in result.findings}
    total = sum(counts.values())
    logs = read_logs(result.results / "logs", ends=_ended(result), redactor=redactor)
    found: dict[str, str] = {}
    zeros: dict[str, str] = {}
    trouble: Counter[tuple[str, str]] = Counter()
    instances: list[str] = []
    shown = 0
    # One budget for all: a name is kept once for the page, not once for each history.
    characters = _TEXT_CHARACTERS
    for scenario in counts:
        if scenario not in wanted:
            continue
        history = read_history(journal, scenario)
        instances += [name for name in history.instances if name not in instances]
        if scenario in failing:
            trouble += trouble_by_node(history.operations)
        if not (history.paces or history.faults or history.rollout):
            continue
        room = OK_SHOWN if total <= OK_SHOWN else max(_EACH_AT_LEAST, OK_SHOWN * counts[scenario] // total)
        texts = Texts(characters=characters, redact=redactor)
        lines, left_out = _lines_of(history, logs)
        picture = draw(history, at_most_ok=room, texts=texts, logs=lines)
        characters -= sum(map(len, texts.all))
        data = {
            **redactor.everything({key: value for key, value in picture.data.items() if key != "columns"}),
            "columns": picture.data["columns"],
            "texts": texts.all,
            "logs_left_out": left_out,
            "logs_known": history.unix_less_clock is not None,
        }
        found[scenario] = packed(data)
        zeros[scenario] = zero_of(history)[1]
        shown += picture.shown
    return _Recorded(
        packed=found,
        zeros=zeros,
        under_traffic=frozenset(found),
        instances=instances or [f"app-{number}" for number in range(1, result.instances + 1)],
        trouble=trouble,
        shown=shown,
        count=sum(counts[scenario] for scenario in found),
    )


def _counted(journal: Path) -> dict[str, int]:
    """How many requests each scenario has, in the order in which they began; nothing is kept of them."""
    counts: dict[str, int] = {}
    names: dict[bytes, str] = {}
    try:
        with journal.open("rb") as file:
            for line in file:
                found = _OP.match(line) or _ANY.match(line)
                if found:
                    raw = found[1]
                    name = names.get(raw) or names.setdefault(raw, json.loads(b'"' + raw + b'"'))
                    counts[name] = counts.get(name, 0) + line.startswith(b'{"t":"op"')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise JournalError(f"the journal {journal} cannot be read: {problem}") from problem
    return counts


def _lines_of(history: History, logs: Logs) -> tuple[list[tuple[float, str, str]], int]:
    """What nodes wrote while something was done to them, on the clock of the history."""
    moments = [
        *(moment for fault in history.faults for moment in (fault.injected, fault.healing, fault.healed) if moment),
        *(step.at for step in history.rollout),
    ]
    if not moments or history.unix_less_clock is None:
        return [], 0
    shift = history.unix_less_clock
    lines, left_out = logs.around(
        min(moments) + shift - _LOG_BEFORE_SECONDS, max(moments) + shift + _LOG_AFTER_SECONDS, at_most=_LOG_LINES
    )
    return [(at - shift, node, line) for at, node, line in lines], left_out


def _ended(result: RunResult) -> float:
    try:
        return datetime.fromisoformat(result.started).timestamp() + result.seconds
    except ValueError:
        return 0.0


# -- what was concluded -----------------------------------------------------------------------------------------------


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return started


def _on_top(result: RunResult) -> list[Explanation]:
    """What to read first: the causes, each once, of the worst that was seen."""
    causes: dict[str, Explanation] = {}
    for each in result.explanations:
        if each.result.status is not result.status:
            continue
        key = each.result.causes[0].id if each.result.causes else each.result.id
        causes.setdefault(key, each)
    return list(causes.values())[:_CAUSES_ON_TOP]


def _in_order(result: RunResult) -> list[PromiseResult]:
    """What is not green first, in the order of need; the rest in the order of the catalogue."""
    bad = [*result.not_green, *result.untried]
    return [*bad, *(each for each in result.results_by_promise if each not in bad)]


def _row(each: PromiseResult, result: RunResult, recorded: _Recorded) -> dict[str, Any]:
    findings = [_finding(finding, recorded) for finding in each.findings]
    # What is worst is open; with one scenario there is nothing to choose.
    for finding in findings:
        finding["open"] = len(findings) == 1 or (finding["status"] is each.status and not each.is_green)
    labels = _labels([finding.scenario for finding in each.findings])
    return {
        "result": each,
        "word": "untried" if not each.findings and not each.waived else each.word,
        "shown_word": "not tried" if not each.findings and not each.waived else each.word,
        "command": result.command_for(each.id),
        "findings": [finding | {"label": label} for finding, label in zip(findings, labels, strict=True)],
        "told": not each.is_green,
    }


def _labels(scenarios: Sequence[str]) -> list[str]:
    """Names of scenarios for people: without what they share at their beginning."""
    names = [one_line(name).replace("_", " ").replace("-", " ").split() for name in scenarios]
    shared = 0
    while (
        len(names) > 1 and all(len(name) > shared + 1 for name in names) and len({name[shared] for name in names}) == 1
    ):
        shared += 1
    return [" ".join(name[shared:]) for name in names]


def _finding(finding: Any, recorded: _Recorded) -> dict[str, Any]:
    facts = finding.verdict.evidence
    gap = told.gap_of(facts)
    return {
        "scenario": finding.scenario,
        "status": finding.verdict.status,
        "measured": finding.verdict.measured,
        "seconds": finding.seconds,
        "causes": finding.causes,
        "history": finding.scenario if finding.scenario in recorded.under_traffic else "",
        "zero": recorded.zeros.get(finding.scenario, ""),
        "gap": gap,
        # Where nothing was done to the setup, how load was spread is what was asked.
        "bars_first": recorded.zeros.get(finding.scenario) == "the traffic began",
        "guards": list(_guards(facts)),
        "matrices": [matrix for part in _parts(facts) for matrix in told.matrices_of(part)],
        "bars": [bars for part in _parts(facts) if (bars := told.bars_of(part)) is not None],
        "requests": told.requests_of(facts),
        "numbers": list(told.numbers_of(facts)),
        "traceback": "\n".join(map(str, facts.get("traceback") or ())),
    }


def _parts(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The evidence of each checker."""
    yield from (part for part in facts.values() if isinstance(part, Mapping))


def _guards(facts: Mapping[str, Any]) -> Iterator[str]:
    for part in (facts, *_parts(facts)):
        guards = part.get("guards")
        if isinstance(guards, (list, tuple)):
            yield from map(str, guards)


def _in_all(count: int, of: int) -> str:
    """Such as `all 9,102 requests`, or `31,204 of 100,000 requests`."""
    return f"all {plural(of, 'request')}" if count == of else f"{count:,} of {plural(of, 'request')}"
