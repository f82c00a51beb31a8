"""Baselines: the figures of runs as one file that people keep beside their setup. Must not: compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from harness.comparison.figures import Figures
from harness.errors import BadInput

__all__ = ["FORMAT", "VERSION", "baseline_text", "read_baseline"]

FORMAT = "harness-baseline"
VERSION = 1


def baseline_text(runs: Sequence[Figures]) -> str:
    """The file: one line for each run, so that a run that is added is a line that is added."""
    head = json.dumps({"format": FORMAT, "version": VERSION})
    lines = [json.dumps(asdict(run), separators=(",", ":"), ensure_ascii=True, allow_nan=False) for run in runs]
    return "\n".join([head, *lines]) + "\n"


def read_baseline(path: Path) -> tuple[Figures, ...]:
    """The runs in a baseline. Raises BadInput: it cannot be read, or is none."""
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise BadInput(f"the baseline {path} cannot be read ({problem.strerror}): {_HOW}") from problem
    except (UnicodeDecodeError, ValueError) as problem:
        raise BadInput(f"{path} is no baseline: {_HOW}") from problem
    document = _object(path, 1, head)
    if document.get("format") != FORMAT:
        raise BadInput(f"{path} is no baseline (its `format` is not {FORMAT!r}): {_HOW}")
    if document.get("version") != VERSION:
        raise BadInput(
            f"{path} is a baseline of version {document.get('version')!r}, and this harness reads {VERSION}: {_HOW}"
        )
    runs = tuple(_figures(path, number, line) for number, line in enumerate(lines, 2))
    if not runs:
        raise BadInput(f"the baseline {path} holds no run: {_HOW}")
    return runs


_HOW = "make one with `harness baseline reports/latest > baseline.json`"


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as problem:
        raise BadInput(f"{path} is no baseline: line {number} is no JSON ({problem})") from problem
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no baseline: line {number} is no object")
    return found


def _figures(path: Path, number: int, line: str) -> Figures:
    found = _object(path, number, line)
    try:
        return Figures(
            **{name: str(found[name]) for name in ("run", "started", "harness")},
            seed=int(found["seed"]),
            setup=dict(found["setup"]),
            facts=dict(found["facts"]),
            verdicts={str(promise): str(word) for promise, word in found["verdicts"].items()},
            latencies={str(name): _blocks(of) for name, of in found["latencies"].items()},
            failures={str(name): _counts(of) for name, of in found["failures"].items()},
            delays=_blocks(found["delays"]),
            singles={str(name): float(value) for name, value in found["singles"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        kept = ", ".join(each.name for each in fields(Figures))
        raise BadInput(
            f"{path} is no whole baseline: line {number} must hold {kept} ({type(problem).__name__}: {problem}): {_HOW}"
        ) from problem


def _blocks(of: Mapping[str, Any]) -> dict[str, tuple[tuple[float, ...], ...]]:
    return {str(name): tuple(tuple(float(value) for value in block) for block in blocks) for name, blocks in of.items()}


def _counts(of: Mapping[str, Any]) -> dict[str, tuple[tuple[int, int], ...]]:
    return {str(name): tuple((int(failed), int(total)) for failed, total in blocks) for name, blocks in of.items()}
