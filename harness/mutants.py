"""Breaks the reference setup on purpose, in one known way at a time, and counts: is each fault caught, and named?

Each mutant and each healthy twin is verified by a process of its own, by the same command a person would use.
A twin is the setup a mutant starts from, without the mutation; mutants that start from the same setup share one.
Must not: know how any single mutant is caught.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

from harness import assets
from harness.errors import BadInput, HarnessError, JournalError
from harness.model import Status
from harness.promises import CATALOGUE
from harness.reporting import from_json

__all__ = ["Mutant", "Score", "Trial", "as_markdown", "load_mutants", "run_mutants", "score"]

_FOLDER = "fixtures/mutants"
_TRIALS_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A setup broken on purpose in one known way."""

    number: int
    id: str
    broken: str
    """What is broken, in one sentence."""
    where: str
    base: Mapping[str, Any]
    """Changes of the reference setup that its healthy twin has as well."""
    mutation: Mapping[str, Any]
    """The one change that breaks it."""
    cause: str
    """The cause that must be named."""
    fails: tuple[str, ...]
    """The promises that must fail; no other may."""
    inconclusive: tuple[str, ...] = ()
    """Promises of which nothing can be tested in this state."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a verification of a mutant or of a twin came to."""

    name: str
    statuses: Mapping[str, str]
    """Promise id to status; empty when the run itself failed."""
    causes: Mapping[str, tuple[str, ...]]
    """Promise id to the ids of its causes, most likely first."""
    trouble: str = ""
    """Why there is no verdict."""
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How far the verdicts can be trusted, as counts."""

    seeded: int
    caught: int
    named: int
    wrongly_accused: int
    """Promises that failed although the mutant does not break them."""
    healthy_runs: int
    false_alarms: int
    """Healthy runs in which anything but pass was said of any promise."""


def load_mutants(only: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """Every mutant, in the order of its number. Raises BadInput for a name that matches none."""
    every = sorted((_read(path) for path in assets.path(_FOLDER).glob("*.toml")), key=lambda mutant: mutant.number)
    chosen = [mutant for mutant in every if not only or any(fnmatchcase(mutant.id, name) for name in only)]
    if not chosen:
        raise BadInput(f"no mutant matches {', '.join(only)}: known are {', '.join(mutant.id for mutant in every)}")
    return tuple(chosen)


def _read(path: Path) -> Mutant:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    expect = content["expect"]
    mutant = Mutant(
        number=content["number"],
        id=content["id"],
        broken=content["broken"],
        where=content["where"],
        base=content.get("base", {}),
        mutation=content["mutation"],
        cause=expect["cause"],
        fails=tuple(expect["fails"]),
        inconclusive=tuple(expect.get("inconclusive", ())),
    )
    unknown = [promise for promise in (*mutant.fails, *mutant.inconclusive) if promise not in CATALOGUE]
    if unknown:
        raise HarnessError(f"{path.name} expects promises that do not exist: {', '.join(unknown)}")
    return mutant


def as_markdown(mutants: Sequence[Mutant]) -> str:
    """The page on the mutants, as it stands in docs/mutants.md."""
    rows = [
        f"| {mutant.number} | `{mutant.id}` | {mutant.where} | {mutant.broken} | {_ids(mutant.fails)} | `{mutant.cause}` |"
        for mutant in mutants
    ]
    notes = [
        f"- `{mutant.id}` starts from the reference setup with "
        + ", ".join(f"`{key} = {_toml(value)}`" for key, value in mutant.base.items())
        + "."
        for mutant in mutants
        if mutant.base
    ]
    notes += [
        f"- `{mutant.id}` leaves nothing to test of {_ids(mutant.inconclusive)}: inconclusive is right there, a failure "
        "is not."
        for mutant in mutants
        if mutant.inconclusive
    ]
    return "\n".join([_PAGE, _HEAD, *rows, "", *notes, ""])


def _ids(promises: Sequence[str]) -> str:
    return ", ".join(f"`{promise}`" for promise in promises)


_PAGE = """\
# Mutants

A mutant is the reference setup broken on purpose in one known way. It proves the verdicts: every promise it breaks must
fail, the first cause named must be the right one, and no other promise may be accused. The numbers are those of a
longer list; not every number is built.

`harness mutants` verifies each of them, and each healthy twin: the same setup without the one change. Its score is five
counts: seeded, caught, named, wrongly accused, and false alarms among the healthy runs. It ends with code 0 when all of
them are as they must be.

Each is a file in `fixtures/mutants/`. This page is made from them: `harness mutants --markdown > docs/mutants.md`.
"""
_HEAD = """\
| # | mutant | where | what is broken | promises that must fail | cause that must be named |
|---|---|---|---|---|---|"""


def is_caught(mutant: Mutant, trial: Trial) -> bool:
    """Every promise it breaks failed."""
    return all(trial.statuses.get(promise) == Status.FAIL for promise in mutant.fails)


def is_named(mutant: Mutant, trial: Trial) -> bool:
    """The first cause given for each promise it breaks is the right one."""
    return is_caught(mutant, trial) and all(
        trial.causes.get(promise, ())[:1] == (mutant.cause,) for promise in mutant.fails
    )


def accused(mutant: Mutant, trial: Trial) -> tuple[str, ...]:
    """Promises that are not green although the mutant leaves them whole."""
    allowed = {promise: {Status.PASS} for promise in CATALOGUE}
    allowed |= {promise: {Status.FAIL} for promise in mutant.fails}
    allowed |= {promise: {Status.PASS, Status.INCONCLUSIVE} for promise in mutant.inconclusive}
    return tuple(
        promise
        for promise, status in trial.statuses.items()
        if promise not in mutant.fails and status not in {*allowed.get(promise, ()), "waived"}
    )


def score(mutants: Sequence[Mutant], trials: Mapping[str, Trial], twins: Iterable[Trial]) -> Score:
    """Count. `trials` are by the mutant's id."""
    healthy = list(twins)
    return Score(
        seeded=len(mutants),
        caught=sum(is_caught(mutant, trials[mutant.id]) for mutant in mutants),
        named=sum(is_named(mutant, trials[mutant.id]) for mutant in mutants),
        wrongly_accused=sum(len(accused(mutant, trials[mutant.id])) for mutant in mutants),
        healthy_runs=len(healthy),
        false_alarms=sum(not _is_green(trial) for trial in healthy),
    )


def _is_green(trial: Trial) -> bool:
    return bool(trial.statuses) and all(status in (Status.PASS, "waived") for status in trial.statuses.values())


def run_mutants(*, only: Sequence[str], seed: int | None, reports: Path, as_json: bool, to: TextIO) -> int:
    """Verify every mutant and every twin, print the table and the score. Returns 0 when all was as it must be, else 1."""
    mutants = load_mutants(only)
    bases = {_key(mutant.base): mutant.base for mutant in mutants}
    say = _silent if as_json else lambda line: print(line, file=to, flush=True)
    say(f"{len(mutants)} mutants and {len(bases)} healthy twins, {_TRIALS_AT_ONCE} at a time")
    twin_names = {key: f"twin {_in_words(base)}" for key, base in bases.items()}

    def trial(name: str, changes: Mapping[str, Any]) -> Trial:
        done = _verify(name, changes, seed=seed, reports=reports)
        say(f"  done  {name}" + (f": {done.trouble}" if done.trouble else ""))
        return done

    with ThreadPoolExecutor(_TRIALS_AT_ONCE, "trial") as pool:
        twin_jobs = {key: pool.submit(trial, twin_names[key], base) for key, base in bases.items()}
        jobs = {mutant.id: pool.submit(trial, mutant.id, {**mutant.base, **mutant.mutation}) for mutant in mutants}
        try:
            twins = {key: job.result() for key, job in twin_jobs.items()}
            trials = {name: job.result() for name, job in jobs.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                process.terminate()
            raise
    total = score(mutants, trials, twins.values())
    if as_json:
        print(_as_json(mutants, trials, twins, total), file=to)
    else:
        for line in _table(mutants, trials, twins, total):
            say(line)
    perfect = total.caught == total.named == total.seeded and not total.wrongly_accused and not total.false_alarms
    return 0 if perfect else 1


def _silent(line: str) -> None:
    del line


_running: set[subprocess.Popen[str]] = set()


def _verify(name: str, changes: Mapping[str, Any], *, seed: int | None, reports: Path) -> Trial:
    """Verify the reference setup with these changes in a process of its own."""
    argv = [sys.executable, "-m", "harness.cli", "verify", "--json", "--report", str(reports)]
    # Should this process be killed, its trials must not go on: each ends when our end of its input is closed.
    argv += ["--ends-with-stdin"]
    if seed is not None:
        argv += ["--seed", str(seed)]
    for key, value in changes.items():
        argv += ["--set", f"{key}={_toml(value)}"]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        _running.add(process)
        try:
            assert process.stdout is not None
            out = process.stdout.read()
            process.wait()
        finally:
            _running.discard(process)
        errors.seek(0)
        words = errors.read()
    try:
        result = from_json(out, results=reports)
    except JournalError:
        trouble = (words.strip().splitlines() or [f"no verdicts (exit code {process.returncode})"])[-1]
        return Trial(name=name, statuses={}, causes={}, trouble=trouble)
    return Trial(
        name=name,
        statuses={each.id: each.word for each in result.results_by_promise},
        causes={each.id: tuple(cause.id for cause in each.causes) for each in result.results_by_promise},
        run=result.run_id,
    )


def _toml(value: Any) -> str:
    """A value as TOML, for --set. JSON is TOML but for tables, and for the one control character it leaves alone."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(base: Mapping[str, Any]) -> str:
    return json.dumps(base, sort_keys=True)


def _in_words(base: Mapping[str, Any]) -> str:
    changes = [f"{key}={_toml(value)}" for key, value in base.items() if not isinstance(value, Mapping)]
    return "reference" + ("".join(f", {change}" for change in changes))


def _table(
    mutants: Sequence[Mutant], trials: Mapping[str, Trial], twins: Mapping[str, Trial], total: Score
) -> list[str]:
    lines = ["", f" {'#':>3} {'mutant':24} {'caught':7} {'named':6} fails"]
    for mutant in mutants:
        trial = trials[mutant.id]
        caught, named = is_caught(mutant, trial), is_named(mutant, trial)
        lines.append(
            f" {mutant.number:>3} {mutant.id:24} {'yes' if caught else 'NO':7} {'yes' if named else 'NO':6} "
            + (
                ", ".join(mutant.fails)
                if caught
                else f"expected {', '.join(mutant.fails)}; {trial.trouble or 'got '}"
                + ", ".join(
                    f"{promise} {status}" for promise, status in trial.statuses.items() if status != Status.PASS
                )
            )
        )
        if caught and not named:
            told = {promise: trial.causes.get(promise, ()) for promise in mutant.fails}
            lines.append(f"     expected cause {mutant.cause}, got {told}")
        for promise in accused(mutant, trial):
            lines.append(f"     wrongly accused: {promise} {trial.statuses[promise]} (run {trial.run})")
    for trial in twins.values():
        green = _is_green(trial)
        lines.append(f"     {trial.name}: {'pass' if green else 'NOT GREEN'}")
        if not green:
            lines += [f"     {promise} {status}" for promise, status in trial.statuses.items() if status != Status.PASS]
            lines += [f"     {trial.trouble}"] if trial.trouble else []
    lines += [
        "",
        (
            f" {total.seeded} seeded, {total.caught} caught, {total.named} named, {total.wrongly_accused} wrongly "
            f"accused; {total.false_alarms} false alarms in {total.healthy_runs} healthy runs"
        ),
    ]
    return lines


def _as_json(mutants: Sequence[Mutant], trials: Mapping[str, Trial], twins: Mapping[str, Trial], total: Score) -> str:
    rows = [
        {
            "number": mutant.number,
            "id": mutant.id,
            "broken": mutant.broken,
            "caught": is_caught(mutant, trials[mutant.id]),
            "named": is_named(mutant, trials[mutant.id]),
            "wrongly_accused": list(accused(mutant, trials[mutant.id])),
            "expected": {"fails": list(mutant.fails), "cause": mutant.cause},
            "got": asdict(trials[mutant.id]),
        }
        for mutant in mutants
    ]
    return json.dumps(
        {"version": 1, "score": asdict(total), "mutants": rows, "twins": [asdict(t) for t in twins.values()]}, indent=2
    )
