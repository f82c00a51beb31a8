"""One verification several times: how often each promise was broken, in place of the word flaky.

One seed gives one schedule. With a seed every run has that one, and what differs between them is what no seed decides: the
machine and the network. Without, every run draws its own. Must not: judge again, or call a promise kept because it was once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from harness.checkers.statistics import wilson_interval
from harness.door import Door, Wishes
from harness.errors import BadInput
from harness.model import Status, worst
from harness.reporting import Line, RunResult, promise_line, show, shown_path
from harness.trials import Trial, verify

__all__ = ["PromiseRate", "Repetition", "as_json", "as_lines", "run_repeated"]

_EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.INCONCLUSIVE: 3, Status.RIG_ERROR: 4}
_BAD_INPUT = 2


@dataclass(frozen=True, kw_only=True)
class PromiseRate:
    """How one promise fared in all runs."""

    id: str
    failed: int
    judged: int
    """Runs in which it was kept or broken: the others say nothing of it."""
    rate: float | None
    """Of those judged, the share in which it was broken; None where it never was judged."""
    low: float
    high: float
    """Between these the true rate lies, 95 %: Wilson 1927. 0 and 1 where it never was judged."""
    words: dict[str, int]
    """How many runs came to each word, such as `inconclusive`; without the words that never came."""

    @property
    def worst_word(self) -> str:
        """The worst that was said of it. What is waived counts for nothing, unless nothing else was said."""
        statuses = [Status(word) for word in self.words if word in set(Status)]
        return worst(statuses).value if statuses else next(iter(self.words))


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """All runs, and what they come to."""

    trials: tuple[Trial, ...]

    @property
    def results(self) -> tuple[RunResult, ...]:
        return tuple(trial.result for trial in self.trials if trial.result is not None)

    @property
    def status(self) -> Status:
        """The worst of all. A run without a verdict is the rig's error."""
        return worst(Status.RIG_ERROR if trial.result is None else trial.result.status for trial in self.trials)

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self.status]

    @property
    def promises(self) -> tuple[PromiseRate, ...]:
        """In the order of the catalogue."""
        words: dict[str, list[str]] = {}
        for result in self.results:
            for each in result.results_by_promise:
                words.setdefault(each.id, []).append(each.word)
        return tuple(_rate(promise, told) for promise, told in words.items())

    @property
    def repeat_command(self) -> str | None:
        """Repeats what was not green in the first of the worst runs, with its seed; None where all is green."""
        bad = [result for result in self.results if result.status is not Status.PASS]
        first = next((result for result in bad if result.status is self.status), bad[0] if bad else None)
        return None if first is None else first.repeat_command


def _rate(promise: str, words: Sequence[str]) -> PromiseRate:
    failed = words.count(Status.FAIL.value)
    judged = failed + words.count(Status.PASS.value)
    low, high = wilson_interval(failed, judged)
    return PromiseRate(
        id=promise,
        failed=failed,
        judged=judged,
        rate=failed / judged if judged else None,
        low=low,
        high=high,
        words={word: words.count(word) for word in dict.fromkeys(words)},
    )


def run_repeated(
    wishes: Wishes, *, times: int, stream: TextIO, quiet: bool, json_only: bool, color: bool | None
) -> int:
    """Verify so many times, one after the other, and print the rates. Returns the exit code of the worst run.

    Raises:
        BadInput: what was asked for cannot be verified; told before the first run where that can be known.
    """
    if times < 1:
        raise BadInput(f"--repeat must be 1 or more (got {times}): that many runs are made")
    Door.for_wishes(wishes)  # what is wrong with it is told once, and before anything is started
    trials = []
    for number in range(1, times + 1):
        trial = verify(_words(wishes), reports=wishes.reports)
        if trial.result is None and trial.code == _BAD_INPUT:
            raise BadInput(trial.trouble)
        trials.append(trial)
        if not quiet and not json_only:
            show([_run_line(trial, number=number, of=times)], stream=stream, color=color)
    repetition = Repetition(trials=tuple(trials))
    if json_only:
        stream.write(as_json(repetition))
    else:
        show(as_lines(repetition), stream=stream, color=color)
    return repetition.exit_code


def _words(wishes: Wishes) -> list[str]:
    """As the command line of the run has them, its seed only where one was asked for."""
    words = wishes.words()
    for pattern in wishes.only:
        words += ["--only", pattern]
    return words if wishes.seed is None else [*words, "--seed", str(wishes.seed)]


def _run_line(trial: Trial, *, number: int, of: int) -> Line:
    result = trial.result
    if result is None:
        return promise_line(Status.RIG_ERROR.value, f"run {number} of {of}", f"no verdict: {trial.trouble}")
    where = f"seed {result.seed}, {shown_path(result.results)}"
    return promise_line(result.status.value, f"run {number} of {of}", f"{where}: {result.headline}")


def as_lines(repetition: Repetition) -> Iterator[Line]:
    """A line for each promise, and the end."""
    yield ""
    for each in repetition.promises:
        yield promise_line(each.worst_word, each.id, _in_words(each))
    yield ""
    statuses = [Status.RIG_ERROR if trial.result is None else trial.result.status for trial in repetition.trials]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in Status if status in statuses)
    seeds = list(dict.fromkeys(result.seed for result in repetition.results))
    schedule = "one schedule" if len(seeds) == 1 else f"{len(seeds)} schedules"
    told = f"{schedule}, seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}" if seeds else "no verdict"
    runs = f"{len(statuses)} run{'s' if len(statuses) != 1 else ''}"
    yield f" {runs}: {counts} ({told})"
    if repetition.repeat_command is not None:
        yield f" {repetition.repeat_command}"


def _in_words(each: PromiseRate) -> str:
    others = {word: count for word, count in each.words.items() if word not in (Status.PASS, Status.FAIL)}
    besides = "".join(f", {count} {word}" for word, count in others.items())
    if each.rate is None:
        return f"never judged{besides}"
    runs = f"{each.judged} run{'s' if each.judged != 1 else ''}"
    return f"failed in {each.failed} of {runs}, {each.rate:.0%} (95 %: {each.low:.0%} to {each.high:.0%}){besides}"


def as_json(repetition: Repetition) -> str:
    """The same as one document, with a line end. Its keys are told in docs/results.md."""
    runs = [
        {
            "run": None if trial.result is None else trial.result.run_id,
            "seed": None if trial.result is None else trial.result.seed,
            "status": Status.RIG_ERROR if trial.result is None else trial.result.status,
            "folder": None if trial.result is None else trial.result.results.as_posix(),
            "command": None if trial.result is None else trial.result.command,
            "trouble": trial.trouble,
        }
        for trial in repetition.trials
    ]
    document = {
        "format": "harness-repetition",
        "version": 1,
        "status": repetition.status,
        "exit_code": repetition.exit_code,
        "runs": runs,
        "promises": [asdict(each) for each in repetition.promises],
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
