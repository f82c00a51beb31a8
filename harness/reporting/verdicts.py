"""`verdicts.json`, version 1: a whole run as one JSON document, and back. The format is told in docs/results.md.

The same run always gives the same text. Readers pass over keys they do not know, so that a key may be added without
a new version; a key is never removed or given another meaning within one. Must not: judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from harness.errors import JournalError
from harness.model import Cause, Confidence, Finding, Promise, Status, Verdict
from harness.reporting.run import PromiseResult, RunResult

__all__ = ["VERSION", "from_json", "to_json"]

VERSION = 1
_FORMAT = "harness-verdicts"
# A terminal that shows the document must not obey it. JSON writes the lower ones as escapes by itself.
_UNSHOWABLE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_T = TypeVar("_T")


def to_json(result: RunResult) -> str:
    """The document, with a line end. Raises ValueError for a number that is not finite."""
    document = {
        "format": _FORMAT,
        "version": VERSION,
        "harness": result.version,
        "run": result.run_id,
        "status": result.status,
        "exit_code": result.exit_code,
        "headline": result.headline,
        "complete": result.complete,
        "started": result.started,
        "seed": result.seed,
        "command": result.command,
        "page": result.page,
        "setup": {
            "name": result.setup,
            "platform": result.platform,
            "balancer": result.balancer,
            "instances": result.instances,
            "sessions": result.sessions,
        },
        "counts": result.counts,
        "seconds": {
            "total": result.seconds,
            "boot": result.boot_seconds,
            "nodes": result.node_seconds,
            "parts": result.timings,
        },
        "waived": result.waived,
        # Added within version 1: there only when they say something.
        **({"left_out": result.left_out} if result.left_out else {}),
        **({"statistics": result.statistics} if result.statistics else {}),
        "promises": [_promise(each, planned=result.planned.get(each.id)) for each in result.results_by_promise],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    return _UNSHOWABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n"


def _plain(value: object) -> object:
    """Evidence is to be ready for JSON; what is not is told as text rather than lost."""
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def _promise(result: PromiseResult, *, planned: int | None) -> dict[str, Any]:
    about = result.promise
    return {
        "id": result.id,
        "status": result.status,
        "waived": result.waived or None,
        "measured": result.measured,
        "seen": result.seen,
        "planned": planned,
        "promise": None
        if about is None
        else {
            "sentence": about.sentence,
            "measured": about.measured,
            "bound": about.bound,
            "broken_by": about.broken_by,
            "remedy": about.remedy,
            "guide": about.guide,
        },
        "findings": [
            {
                "scenario": finding.scenario,
                "status": finding.verdict.status,
                "measured": finding.verdict.measured,
                "seconds": finding.seconds,
                "causes": [_cause(cause) for cause in finding.causes],
                "evidence": finding.verdict.evidence,
            }
            for finding in result.findings
        ],
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "id": cause.id,
        "sentence": cause.sentence,
        "confidence": cause.confidence,
        "evidence": cause.evidence,
        "against": cause.against,
        "remedy": cause.remedy,
        "guide": cause.guide,
    }


def from_json(text: str, *, results: Path) -> RunResult:
    """The run a document tells of. `results` is the folder it lies in: folders are moved, so it is not in the text.

    Raises:
        JournalError: no JSON, another format or version, or something that belongs in it is missing or of a wrong kind.
    """
    try:
        document = json.loads(text)
    except ValueError as problem:
        raise JournalError(f"verdicts.json in {results} is no JSON: {problem}") from problem
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise JournalError(f"verdicts.json in {results} is not one of the harness: its `format` is not {_FORMAT!r}")
    if document.get("version") != VERSION:
        raise JournalError(
            f"verdicts.json in {results} is of version {document.get('version')!r}; "
            f"this harness reads version {VERSION}"
        )
    try:
        return _run(_Part(document, "verdicts.json"), results)
    except _Misfit as problem:
        raise JournalError(f"verdicts.json in {results} cannot be used: {problem}") from problem


class _Misfit(Exception):  # noqa: N818 - never leaves this module
    """Something is missing or of a wrong kind."""


class _Part:
    """An object of the document that knows where it stands in it, for messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _Misfit(f"{where} must be an object")
        self._value = cast("dict[str, Any]", value)
        self.where = where

    def get(self, key: str, kind: type[_T]) -> _T:
        value = self._value.get(key)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise _Misfit(f"{self.where}.{key} must be of kind {kind.__name__} (got {value!r:.60})")
        return value

    def part(self, key: str) -> _Part:
        return _Part(self._value.get(key), f"{self.where}.{key}")

    def parts(self, key: str) -> list[_Part]:
        return [_Part(item, f"{self.where}.{key}[{place}]") for place, item in enumerate(self.get(key, list))]

    def has(self, key: str) -> bool:
        return self._value.get(key) is not None

    def word(self, key: str, kind: type[_T]) -> _T:
        """One word of an enumeration."""
        try:
            return kind(self.get(key, str))  # type: ignore[call-arg]  # kind is one of the enumerations of the model
        except ValueError as problem:
            raise _Misfit(f"{self.where}.{key}: {problem}") from problem

    def mapping(self, key: str, kind: type[_T]) -> dict[str, _T]:
        part = self.part(key)
        return {name: part.get(name, kind) for name in part._value}

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list)
        if not all(isinstance(value, str) for value in values):
            raise _Misfit(f"{self.where}.{key} must hold texts only")
        return tuple(values)


def _run(part: _Part, results: Path) -> RunResult:
    setup, spent, told = part.part("setup"), part.part("seconds"), part.parts("promises")
    return RunResult(
        run_id=part.get("run", str),
        setup=setup.get("name", str),
        platform=setup.get("platform", str),
        balancer=setup.get("balancer", str),
        instances=setup.get("instances", int),
        sessions=setup.get("sessions", str),
        seed=part.get("seed", int),
        started=part.get("started", str),
        version=part.get("harness", str),
        command=part.get("command", str),
        page=part.get("page", str),
        results=results,
        complete=part.get("complete", bool),
        findings=tuple(_finding(finding, each.get("id", str)) for each in told for finding in each.parts("findings")),
        promises=tuple(_about(each) for each in told if each.has("promise")),
        planned={each.get("id", str): each.get("planned", int) for each in told if each.has("planned")},
        waived=part.mapping("waived", str),
        left_out=part.mapping("left_out", str) if part.has("left_out") else {},
        statistics=part.get("statistics", dict) if part.has("statistics") else {},
        seconds=spent.get("total", float),
        boot_seconds=spent.get("boot", float),
        node_seconds=spent.mapping("nodes", float),
        timings=spent.mapping("parts", float),
    )


def _about(part: _Part) -> Promise:
    words = part.part("promise")
    keys = ("sentence", "measured", "bound", "broken_by", "remedy", "guide")
    return Promise(id=part.get("id", str), **{key: words.get(key, str) for key in keys})


def _finding(part: _Part, promise_id: str) -> Finding:
    return Finding(
        promise=promise_id,
        scenario=part.get("scenario", str),
        verdict=Verdict(part.word("status", Status), part.get("measured", str), part.get("evidence", dict)),
        causes=tuple(
            Cause(
                id=cause.get("id", str),
                sentence=cause.get("sentence", str),
                confidence=cause.word("confidence", Confidence),
                evidence=cause.texts("evidence"),
                against=cause.texts("against"),
                remedy=cause.get("remedy", str),
                guide=cause.get("guide", str),
            )
            for cause in part.parts("causes")
        ),
        seconds=part.get("seconds", float),
    )
