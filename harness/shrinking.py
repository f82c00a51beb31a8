"""A failing run made smaller for as long as it still fails, so that what is left is what matters.

What a run consists of is its promises (each with its scenarios), the keys that were changed for it, its instances and its
rate of requests. Parts are left out by delta debugging, and the seed stays: a scenario's schedule does not depend on which others
ran. Must not: judge, or call anything smaller that was not seen to fail.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO, TypeVar

from harness import clock
from harness.door import Wishes, read_setup
from harness.errors import BadInput
from harness.model import Status
from harness.promises import CATALOGUE
from harness.reporting import Line, PromiseResult, RunResult, promise_line, show, shown_path
from harness.trials import Trial, verify

__all__ = ["Part", "Shrunk", "as_json", "as_lines", "ddmin", "parts_of", "run_shrink", "wishes_with"]

_FEWEST_INSTANCES = 2
_HALVINGS = 2
"""How often the rate may be halved: a quarter of it is still enough for some verdicts, an eighth for hardly any."""
_RATE = "traffic.rate"
_OURS = ("native", "docker", "swarm")
"""Where the harness itself says how many instances there are."""
_NOT_MINIMAL = 3

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something of a run that can be left out."""

    kind: str
    """`promise`, `change` (of a key), `instance` or `rate` (half of it)."""
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """What came of it."""

    promise: str
    """The one that fails."""
    needed: tuple[Part, ...]
    """What could not be left out, as far as it was tried."""
    left_out: tuple[Part, ...]
    tries: int
    is_minimal: bool
    """Nothing that is left can be left out alone. False: a bound ended it before that was known."""
    result: RunResult
    """The smallest run that was seen to fail; the first one where nothing smaller did."""

    @property
    def exit_code(self) -> int:
        return 0 if self.is_minimal else _NOT_MINIMAL


def ddmin(parts: Sequence[_T], fails: Callable[[tuple[_T, ...]], bool]) -> tuple[_T, ...]:
    """A part of `parts` that still fails, and of which no single one can be left out: it is 1-minimal.

    `fails` is true of all of them; it is asked at most once for each subset. Nothing at all is tried first, because where that
    fails no other try is needed.

    Source: Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
    Engineering 28(2):183, figure 3.
    """
    known: dict[tuple[_T, ...], bool] = {}

    def still(subset: tuple[_T, ...]) -> bool:
        if subset not in known:
            known[subset] = fails(subset)
        return known[subset]

    left = tuple(parts)
    if not left or still(()):
        return ()
    pieces = 2
    while len(left) >= 2:
        edges = [len(left) * number // pieces for number in range(pieces + 1)]
        subsets = [left[begin:end] for begin, end in itertools.pairwise(edges)]
        rests = [left[:begin] + left[end:] for begin, end in itertools.pairwise(edges)]
        if (found := next((subset for subset in subsets if still(subset)), None)) is not None:
            left, pieces = found, 2
        elif pieces > 2 and (found := next((rest for rest in rests if still(rest)), None)) is not None:
            left, pieces = found, max(pieces - 1, 2)
        elif pieces < len(left):
            pieces = min(2 * pieces, len(left))
        else:
            break
    return left


def parts_of(wishes: Wishes, result: RunResult, *, promise: str) -> tuple[Part, ...]:
    """What can be left out of this run without leaving out the promise itself."""
    others = [each.id for each in result.results_by_promise if each.id != promise]
    parts = [Part(kind="promise", name=other) for other in others]
    parts += [Part(kind="change", name=change) for change in wishes.overrides]
    if result.platform in _OURS:
        numbers = range(_FEWEST_INSTANCES + 1, result.instances + 1)
        parts += [Part(kind="instance", name=f"instance {number}") for number in numbers]
    halves = ("half of the rate", "half of what is left of it")
    return (*parts, *(Part(kind="rate", name=half) for half in halves[:_HALVINGS]))


def wishes_with(kept: Sequence[Part], *, of: Sequence[Part], wishes: Wishes, promise: str, rate: float) -> Wishes:
    """The same run with these of its parts only. `rate` is that of the whole run, in requests per second."""

    def count(parts: Sequence[Part], kind: str) -> int:
        return sum(part.kind == kind for part in parts)

    chosen = {promise, *(part.name for part in kept if part.kind == "promise")}
    changes = [change for change in wishes.overrides if Part(kind="change", name=change) in kept]
    halved = count(of, "rate") - count(kept, "rate")
    if halved:
        changes = [change for change in changes if change.partition("=")[0].strip() != _RATE]
        changes.append(f"{_RATE}={rate / 2**halved:g}")
    fewer = count(kept, "instance") < count(of, "instance")
    return replace(
        wishes,
        only=tuple(each for each in CATALOGUE if each in chosen),
        overrides=tuple(changes),
        instances=_FEWEST_INSTANCES + count(kept, "instance") if fewer else wishes.instances,
    )


class _Enough(Exception):  # noqa: N818 - never leaves this module
    """A bound was reached."""


def run_shrink(
    result: RunResult,
    wishes: Wishes,
    *,
    promise: str | None,
    within_seconds: float,
    tries: int,
    reports: Path,
    stream: TextIO,
    json_only: bool,
    color: bool | None,
) -> int:
    """Verify again and again with less, and print the smallest run that still fails. `wishes` are those of the run.

    A run still fails where the same promise is broken for the same first cause. No try begins once `within_seconds` have passed.
    Returns 0, or 3 where a bound ended it before the rest was known to be minimal.

    Raises:
        BadInput: the run did not fail, or not with this promise, or cannot be repeated.
    """
    if tries < 1 or within_seconds <= 0:
        raise BadInput(f"--tries and --within must be above 0 (got {tries} and {within_seconds:g})")
    broken = _broken(result, promise)
    setup, _ = read_setup(wishes)
    parts = parts_of(wishes, result, promise=broken.id)
    until = clock.now() + within_seconds
    made = 0
    smallest, best = result, parts

    def fails(kept: tuple[Part, ...]) -> bool:
        nonlocal made, smallest, best
        if kept == parts:
            return True
        if made >= tries or clock.now() >= until:
            raise _Enough
        made += 1
        less = wishes_with(kept, of=parts, wishes=wishes, promise=broken.id, rate=setup.traffic.rate)
        trial = verify(_words(less, seed=result.seed), reports=reports)
        still = trial.result is not None and _is_same(trial.result, broken)
        if still and trial.result is not None and len(kept) < len(best):
            smallest, best = trial.result, kept
        if not json_only:
            show([_try_line(trial, broken, number=made, kept=kept, of=parts)], stream=stream, color=color)
        return still

    try:
        needed, is_minimal = ddmin(parts, fails), True
    except _Enough:
        needed, is_minimal = best, False
    shrunk = Shrunk(
        promise=broken.id,
        needed=needed,
        left_out=tuple(part for part in parts if part not in needed),
        tries=made,
        is_minimal=is_minimal,
        result=smallest,
    )
    if json_only:
        stream.write(as_json(shrunk))
    else:
        show(as_lines(shrunk), stream=stream, color=color)
    return shrunk.exit_code


def _broken(result: RunResult, wanted: str | None) -> PromiseResult:
    """The promise that fails, or the first of them. Raises BadInput: there is none."""
    broken = {each.id: each for each in result.results_by_promise if each.word == Status.FAIL.value}
    if not broken:
        raise BadInput(f"nothing failed in {result.run_id} ({result.headline}): there is nothing to make smaller")
    if wanted is not None and wanted not in broken:
        raise BadInput(f"{wanted} did not fail in {result.run_id}: these did: {', '.join(broken)}")
    return broken[wanted] if wanted is not None else next(iter(broken.values()))


def _is_same(result: RunResult, broken: PromiseResult) -> bool:
    """Whether the promise is broken here as well, and for the same first cause: another failure would be another run."""
    return any(
        each.id == broken.id
        and each.word == Status.FAIL.value
        and [cause.id for cause in each.causes[:1]] == [cause.id for cause in broken.causes[:1]]
        for each in result.results_by_promise
    )


def _words(wishes: Wishes, *, seed: int) -> list[str]:
    words = wishes.words()
    for pattern in wishes.only:
        words += ["--only", pattern]
    return [*words, "--seed", str(seed)]


def _try_line(trial: Trial, broken: PromiseResult, *, number: int, kept: Sequence[Part], of: Sequence[Part]) -> Line:
    with_what = f"{len(kept)} of {len(of)} parts"
    if trial.result is None:
        return promise_line(Status.RIG_ERROR.value, f"try {number}, {with_what}", f"no verdict: {trial.trouble}")
    found = next((each for each in trial.result.results_by_promise if each.id == broken.id), None)
    if found is None:
        return promise_line(Status.RIG_ERROR.value, f"try {number}, {with_what}", f"{broken.id} was not judged")
    told = found.measured
    if found.word == Status.FAIL.value and not _is_same(trial.result, broken):
        told = f"for another cause: {told}"
    return promise_line(found.word, f"try {number}, {with_what}", told)


def as_lines(shrunk: Shrunk) -> Iterator[Line]:
    """What is left, what could be left out, and the command that repeats it."""
    tries = f"{shrunk.tries} {'try' if shrunk.tries == 1 else 'tries'}"
    known = "nothing more can be left out alone" if shrunk.is_minimal else "a bound ended it: there may be less"
    yield ""
    yield f" {shrunk.promise} still fails with {_fewer(shrunk)} ({tries}; {known})"
    yield f"   needed     {_listed(shrunk.needed)}"
    yield f"   left out   {_listed(shrunk.left_out)}"
    yield f" {shown_path(shrunk.result.results)}"
    yield f" {shrunk.result.command}"


def _fewer(shrunk: Shrunk) -> str:
    total = len(shrunk.needed) + len(shrunk.left_out)
    return "nothing but itself" if not shrunk.needed else f"{len(shrunk.needed)} of {total} parts"


def _listed(parts: Sequence[Part]) -> str:
    return ", ".join(map(str, parts)) or "nothing"


def as_json(shrunk: Shrunk) -> str:
    """The same as one document, with a line end. Its keys are told in docs/results.md."""
    document = {
        "format": "harness-shrunk",
        "version": 1,
        "promise": shrunk.promise,
        "needed": [{"kind": part.kind, "name": part.name} for part in shrunk.needed],
        "left_out": [{"kind": part.kind, "name": part.name} for part in shrunk.left_out],
        "tries": shrunk.tries,
        "minimal": shrunk.is_minimal,
        "run": shrunk.result.run_id,
        "folder": shrunk.result.results.as_posix(),
        "seed": shrunk.result.seed,
        "command": shrunk.result.command,
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
