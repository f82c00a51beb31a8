"""Breaks the reference setup on purpose, in one known way at a time, and counts: is each fault caught, and named?

Each mutant and each healthy twin is verified by a process of its own, by the same command a person would use.
A twin is the setup a mutant starts from, without the mutation; mutants that start from the same setup share one.
A mutant is judged by the promises that tell it apart, all of which it must break, and by the neighbours it is most easily
taken for, none of which it may; a twin by all that its mutants are judged by.
Must not: know how any single mutant is caught.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TextIO

from harness import assets
from harness.checkers.statistics import clopper_pearson_upper
from harness.errors import BadInput, HarnessError
from harness.model import Status
from harness.promises import CATALOGUE
from harness.trials import end_trials, verify

__all__ = [
    "PLATFORMS",
    "Expected",
    "Mutant",
    "OwnMutant",
    "Score",
    "Trial",
    "as_markdown",
    "load_mutants",
    "load_own_mutants",
    "run_mutants",
    "score",
    "share_of",
]

PLATFORMS = ("native", "docker", "swarm")
"""Where mutants are shown."""
_FOLDER = "fixtures/mutants"
_OWN = "fixtures/mutants-of-the-harness.toml"
_NOT_BUILT = "fixtures/mutants-not-built.toml"
_TRIALS_AT_ONCE: Mapping[str, int] = {"native": 2, "docker": 1, "swarm": 1}
"""Two setups in containers, or twice as many replicas with their health checks, are more than a small machine can run and judge."""
_WHOLE: Mapping[str, tuple[str, ...]] = {
    "native": ("instances.answer",),
    "docker": ("instances.answer", "distribution.complete"),
    "swarm": ("distribution.complete",),
}
"""Judged of each mutant beside what its file says: they take a second each, because nothing is lost for them, and they see
a setup that is not whole, whose other verdicts would say nothing of the mutation."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a mutant must look like on one platform."""

    fails: tuple[str, ...]
    """The promises that must fail; no other may."""
    keeps: tuple[str, ...]
    """The promises that must pass, although they are the nearest to those that fail."""
    whole: tuple[str, ...]
    """The promises that see a setup that is not whole. They must pass, unless it is one of them that must fail."""

    @property
    def judged(self) -> tuple[str, ...]:
        """All of these, each once."""
        return tuple(dict.fromkeys((*self.fails, *self.keeps, *self.whole)))


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
    on: Mapping[str, Expected]
    """By platform, where it is shown."""


@dataclass(frozen=True, kw_only=True)
class OwnMutant:
    """The harness itself, broken on purpose in one known way."""

    id: str
    broken: str
    """What is broken, in one sentence."""
    caught_by: tuple[str, ...]
    """The harness's own tests that must fail, as pytest names them."""


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
    missed: int
    """Not caught, also when there was no verdict at all."""
    named: int
    wrongly_accused: int
    """Promises that failed although the mutant does not break them."""
    healthy_runs: int
    false_alarms: int
    """Healthy runs in which anything but pass was said of any promise."""
    false_alarms_at_most: float
    """The largest share of healthy runs with a false alarm that these runs do not rule out at 95 %: exact, one-sided
    (Clopper and Pearson 1934). For no false alarm in M runs about 3/M, the rule of three."""


def load_mutants(only: Sequence[str] = (), *, platform: str | None = None) -> tuple[Mutant, ...]:
    """Every mutant, or those shown on one platform, in the order of numbers, and of ids where these are the same.

    `only`: those that match one of these names (`session-*`), but none of those that begin with `!`.

    Raises:
        BadInput: a name matches none.
    """
    every = sorted(
        (_read(path) for path in assets.path(_FOLDER).glob("*.toml")), key=lambda mutant: (mutant.number, mutant.id)
    )
    wanted = [name for name in only if not name.startswith("!")]
    left_out = [name.removeprefix("!") for name in only if name.startswith("!")]
    named = [
        mutant
        for mutant in every
        if (not wanted or any(fnmatchcase(mutant.id, name) for name in wanted))
        and not any(fnmatchcase(mutant.id, name) for name in left_out)
    ]
    if not named:
        raise BadInput(f"no mutant matches {', '.join(only)}: known are {', '.join(mutant.id for mutant in every)}")
    chosen = [mutant for mutant in named if platform is None or platform in mutant.on]
    if not chosen:
        elsewhere = dict.fromkeys(other for mutant in named for other in mutant.on)
        raise BadInput(
            f"{', '.join(mutant.id for mutant in named)} cannot be shown on {platform}: "
            f"use --platform {' or '.join(elsewhere)}"
        )
    return tuple(chosen)


def load_own_mutants() -> tuple[OwnMutant, ...]:
    """Every mutant of the harness itself."""
    tables = tomllib.loads(assets.path(_OWN).read_text(encoding="utf-8"))["mutant"]
    return tuple(
        OwnMutant(id=table["id"], broken=table["broken"], caught_by=tuple(table["caught_by"])) for table in tables
    )


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
        on={platform: _expected(expect[platform], platform) for platform in PLATFORMS if platform in expect},
    )
    told = [promise for each in mutant.on.values() for promise in each.judged]
    unknown = [promise for promise in dict.fromkeys(told) if promise not in CATALOGUE]
    if unknown:
        raise HarnessError(f"{path.name} expects promises that do not exist: {', '.join(unknown)}")
    return mutant


def _expected(table: Mapping[str, Any], platform: str) -> Expected:
    return Expected(fails=tuple(table["fails"]), keeps=tuple(table["keeps"]), whole=_WHOLE[platform])


def as_markdown(mutants: Sequence[Mutant]) -> str:
    """The page on the mutants, as it stands in docs/mutants.md."""
    rows = [
        f"| {mutant.number} | `{mutant.id}` | {mutant.where} | {mutant.broken} | {', '.join(mutant.on)} | `{mutant.cause}` |"
        for mutant in mutants
    ]
    sharing: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        if mutant.base:
            sharing.setdefault(_key(mutant.base), []).append(mutant)
    notes = [
        f"- {_ids([mutant.id for mutant in those])} start{'s' if len(those) == 1 else ''} from the reference setup with "
        + ", ".join(f"`{key} = {_toml(value)}`" for key, value in those[0].base.items())
        + "."
        for those in sharing.values()
    ]
    lines = [_PAGE, _HEAD, *rows, "", *notes, ""]
    for platform, head in (("native", _NATIVE_HEAD), ("docker", _DOCKER_HEAD), ("swarm", _SWARM_HEAD)):
        lines.append(head)
        for mutant in mutants:
            if (each := mutant.on.get(platform)) is not None:
                lines.append(f"| `{mutant.id}` | {_ids(each.fails)} | {_ids(each.keeps)} |")
        lines.append("")
    lines += [_NOT_BUILT_HEAD, *_not_built_rows(), ""]
    lines += [_OWN_HEAD, *map(_own_row, load_own_mutants()), ""]
    return "\n".join(lines)


def _not_built_rows() -> list[str]:
    tables = tomllib.loads(assets.path(_NOT_BUILT).read_text(encoding="utf-8"))["mutant"]
    return [f"| {table['number']} | {table['broken']} | {table['why']} |" for table in tables]


def _own_row(mutant: OwnMutant) -> str:
    """Of a test its file and its name; the class it is in says little more."""
    by_file: dict[str, list[str]] = {}
    for test in mutant.caught_by:
        by_file.setdefault(test.partition("::")[0], []).append(test.rpartition("::")[2])
    told = "; ".join(f"`{file}`: {_ids(names)}" for file, names in by_file.items())
    return f"| `{mutant.id}` | {mutant.broken} | {told} |"


def _ids(promises: Sequence[str]) -> str:
    return ", ".join(f"`{promise}`" for promise in promises)


_PAGE = """\
# Mutants

A mutant is the reference setup broken on purpose in one known way. It proves the verdicts: every promise it breaks must
fail, the first cause named must be the right one, and no other promise may be accused. The numbers are those of a
longer list; not every number is built.

`harness mutants` verifies each of them, and each healthy twin: the same setup without the one change. It ends with code 0
when all of these are as they must be, else with 1:

| in the score | it is |
|---|---|
| `seeded` | mutants that were tried |
| `caught` | those all of whose promises failed |
| `missed` | the others, also where there was no verdict at all |
| `named` | those caught, with the right cause first at each promise |
| `wrongly_accused` | promises that were not green although their mutant leaves them whole |
| `healthy_runs` | runs of twins |
| `false_alarms` | those of them in which anything but pass was said of any promise |
| `false_alarms_at_most` | the share of false alarms that these runs do not rule out at 95 %: exact, one-sided, by Clopper and Pearson. No false alarm in M runs leaves about 3/M, the rule of three |

A few healthy runs rule out little. `--twins 10` verifies each twin ten times (with `--seed N` the first has seed N, the next
N + 1, and so on, because the same schedule again says little new). `--shard 2/3` tries the second of three parts, for machines
side by side: the parts are always the same, and mutants that share a twin stay together unless they alone are more than a
part. `--json` has the score, every mutant and every run.

`harness mutants --platform docker` does the same in containers, and `harness mutants --platform swarm` where Docker Swarm
keeps them, each with the mutants that make sense there.

Each is a file in `fixtures/mutants/`. This page is made from them: `harness mutants --markdown > docs/mutants.md`.
"""
_HEAD = """\
| # | mutant | where | what is broken | shown on | cause that must be named |
|---|---|---|---|---|---|"""
_NATIVE_HEAD = f"""\
## How each is judged

By promises it must break, as many as tell it apart; by the neighbours it is most easily taken for and must not break; and by
{" and ".join(f"`{promise}`" for promise in _WHOLE["native"])} (in containers by {" and ".join(f"`{promise}`" for promise in _WHOLE["docker"])}), which
take a second and see a setup that is not whole. Its twin is judged by all that its mutants are judged by.

## Natively

| mutant | promises that must fail | neighbours that must be kept |
|---|---|---|"""
_DOCKER_HEAD = """\
## In containers

| mutant | promises that must fail | neighbours that must be kept |
|---|---|---|"""
_SWARM_HEAD = """\
## Kept by Docker Swarm

Nobody asks a single replica there, so that `distribution.complete` alone sees a setup that is not whole.

| mutant | promises that must fail | neighbours that must be kept |
|---|---|---|"""

_NOT_BUILT_HEAD = """\
## Not built

| # | what would be broken | why it is not built |
|---|---|---|"""
_OWN_HEAD = """\
## Of the harness itself

Who judges the judge? The harness is broken on purpose as well, in its own process and in that of its traffic, and its own tests
must notice: each of those named here passes on the harness as it is, and fails on the mutant. `make unit` shows it, without
any server.

| mutant | what is broken | tests that fail |
|---|---|---|"""


_GREEN = (Status.PASS, "waived")


def is_caught(mutant: Mutant, trial: Trial, *, platform: str = "native") -> bool:
    """Every promise it breaks failed."""
    return all(trial.statuses.get(promise) == Status.FAIL for promise in mutant.on[platform].fails)


def is_named(mutant: Mutant, trial: Trial, *, platform: str = "native") -> bool:
    """The first cause given for each promise it breaks is the right one."""
    return is_caught(mutant, trial, platform=platform) and all(
        trial.causes.get(promise, ())[:1] == (mutant.cause,) for promise in mutant.on[platform].fails
    )


def accused(mutant: Mutant, trial: Trial, *, platform: str = "native") -> tuple[str, ...]:
    """Promises that are not green although the mutant leaves them whole."""
    return tuple(
        promise
        for promise, status in trial.statuses.items()
        if promise not in mutant.on[platform].fails and status not in _GREEN
    )


def score(
    mutants: Sequence[Mutant], trials: Mapping[str, Trial], twins: Iterable[Trial], *, platform: str = "native"
) -> Score:
    """Count. `trials` are by the mutant's id."""
    healthy = list(twins)
    caught = sum(is_caught(mutant, trials[mutant.id], platform=platform) for mutant in mutants)
    false_alarms = sum(not _is_green(trial) for trial in healthy)
    return Score(
        seeded=len(mutants),
        caught=caught,
        missed=len(mutants) - caught,
        named=sum(is_named(mutant, trials[mutant.id], platform=platform) for mutant in mutants),
        wrongly_accused=sum(len(accused(mutant, trials[mutant.id], platform=platform)) for mutant in mutants),
        healthy_runs=len(healthy),
        false_alarms=false_alarms,
        false_alarms_at_most=clopper_pearson_upper(false_alarms, len(healthy)),
    )


def _is_green(trial: Trial) -> bool:
    return bool(trial.statuses) and all(status in _GREEN for status in trial.statuses.values())


def share_of(mutants: Sequence[Mutant], shard: str) -> tuple[Mutant, ...]:
    """The part `I/N` of these mutants, in their order. The parts are as even as they can be, and always the same.

    Mutants that start from the same setup share its healthy twin, so that they stay together, unless they alone are
    more than a part; then each part of them has the twin.

    Raises:
        BadInput: it is no part, or there are more parts than mutants.
    """
    told = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", shard)
    wanted, parts = (int(told[1]), int(told[2])) if told is not None else (1, 0)
    if wanted > parts:
        raise BadInput(f"--shard must be I/N, part I of N, I from 1 to N (got {shard}): write --shard 1/3")
    if parts > len(mutants):
        raise BadInput(f"--shard {shard} is for {parts} parts, and there are only {len(mutants)} mutants: use fewer")
    by_twin: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_twin.setdefault(_key(mutant.base), []).append(mutant)
    groups = list(by_twin.values())
    # One run for each mutant, and one for the twin of each group.
    fair = -(-(len(mutants) + len(groups)) // parts)
    while len(groups) < parts or max(map(len, groups)) + 1 > max(fair, 2):
        largest = max(groups, key=len)
        # As much as one part can take, so that what is left fills the gaps; only where there are too few groups, a half.
        cut = fair - 1 if len(largest) + 1 > max(fair, 2) and fair > 1 else -(-len(largest) // 2)
        place = groups.index(largest)
        groups[place : place + 1] = [largest[:cut], largest[cut:]]
    # The largest first, each to the part that has the least to do by then.
    shares: list[list[Mutant]] = [[] for _ in range(parts)]
    runs = [0] * parts
    for group in sorted(groups, key=len, reverse=True):
        least = runs.index(min(runs))
        shares[least] += group
        runs[least] += len(group) + 1
    ours = {mutant.id for mutant in shares[wanted - 1]}
    return tuple(mutant for mutant in mutants if mutant.id in ours)


def run_mutants(
    *,
    only: Sequence[str],
    seed: int | None,
    reports: Path,
    as_json: bool,
    to: TextIO,
    platform: str = "native",
    twins_each: int = 1,
    shard: str | None = None,
) -> int:
    """Verify every mutant and every twin, print the table and the score. Returns 0 when all was as it must be, else 1.

    `twins_each`: how often each twin is verified; with a seed the second time has the next one, and so on. `shard`: only
    this part of the mutants, such as `2/3`.

    Raises:
        BadInput: what is asked for cannot be, before anything is started.
    """
    if twins_each < 1:
        raise BadInput(
            f"--twins must be 1 or more (got {twins_each}): without a healthy run nothing is known of false alarms"
        )
    mutants = load_mutants(only, platform=platform)
    if shard is not None:
        mutants = share_of(mutants, shard)
    bases = {_key(mutant.base): mutant.base for mutant in mutants}
    say = _silent if as_json else lambda line: print(line, file=to, flush=True)
    part = "" if shard is None else f" (part {shard})"
    times = "" if twins_each == 1 else f", each {twins_each} times"
    say(
        f"{platform}: {len(mutants)} mutants{part} and {len(bases)} healthy twins{times}, "
        f"{_TRIALS_AT_ONCE[platform]} at a time"
    )

    def twin_name(base: Mapping[str, Any], number: int) -> str:
        return f"twin {_in_words(base)}" + ("" if twins_each == 1 else f", {number + 1} of {twins_each}")

    def judged_of(base: Mapping[str, Any]) -> tuple[str, ...]:
        """What a twin is judged by: all that any of its mutants is."""
        own = [mutant.on[platform].judged for mutant in mutants if mutant.base == base]
        return tuple(dict.fromkeys(promise for judged in own for promise in judged))

    def trial(name: str, changes: Mapping[str, Any], judged: Sequence[str], number: int = 0) -> Trial:
        # The same schedule again would say little new.
        seeded = None if seed is None else seed + number
        done = _verify(name, changes, platform=platform, only=judged, seed=seeded, reports=reports)
        say(f"  done  {name}" + (f": {done.trouble}" if done.trouble else ""))
        return done

    with ThreadPoolExecutor(_TRIALS_AT_ONCE[platform], "trial") as pool:
        twin_jobs = [
            pool.submit(trial, twin_name(base, number), base, judged_of(base), number)
            for number in range(twins_each)
            for base in bases.values()
        ]
        jobs = {
            mutant.id: pool.submit(trial, mutant.id, {**mutant.base, **mutant.mutation}, mutant.on[platform].judged)
            for mutant in mutants
        }
        try:
            twins = [job.result() for job in twin_jobs]
            tried = {name: job.result() for name, job in jobs.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_trials()
            raise
    total = score(mutants, tried, twins, platform=platform)
    if as_json:
        print(_as_json(mutants, tried, twins, total, platform=platform), file=to)
    else:
        for line in _table(mutants, tried, twins, total, platform=platform):
            say(line)
    perfect = total.caught == total.named == total.seeded and not total.wrongly_accused and not total.false_alarms
    return 0 if perfect else 1


def _silent(line: str) -> None:
    del line


def _verify(
    name: str, changes: Mapping[str, Any], *, platform: str, only: Sequence[str], seed: int | None, reports: Path
) -> Trial:
    """Verify the reference setup with these changes and by these promises, in a process of its own."""
    words = ["--platform", platform]
    for promise in only:
        words += ["--only", promise]
    if seed is not None:
        words += ["--seed", str(seed)]
    for key, value in changes.items():
        words += ["--set", f"{key}={_toml(value)}"]
    done = verify(words, reports=reports)
    if done.result is None:
        return Trial(name=name, statuses={}, causes={}, trouble=done.trouble)
    return Trial(
        name=name,
        statuses={each.id: each.word for each in done.result.results_by_promise},
        causes={each.id: tuple(cause.id for cause in each.causes) for each in done.result.results_by_promise},
        run=done.result.run_id,
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
    changes = [
        # Of a table its kind will do: the rest of it is in the file of the mutant.
        f"{key} {value.get('kind', 'of its own')}" if isinstance(value, Mapping) else f"{key}={_toml(value)}"
        for key, value in base.items()
    ]
    return "reference" + ("".join(f", {change}" for change in changes))


def _table(
    mutants: Sequence[Mutant],
    trials: Mapping[str, Trial],
    twins: Sequence[Trial],
    total: Score,
    *,
    platform: str,
) -> list[str]:
    lines = ["", f" {'#':>3} {'mutant':24} {'caught':7} {'named':6} fails"]
    for mutant in mutants:
        trial, fails = trials[mutant.id], mutant.on[platform].fails
        caught, named = is_caught(mutant, trial, platform=platform), is_named(mutant, trial, platform=platform)
        lines.append(
            f" {mutant.number:>3} {mutant.id:24} {'yes' if caught else 'NO':7} {'yes' if named else 'NO':6} "
            + (
                ", ".join(fails)
                if caught
                else f"expected {', '.join(fails)}; {trial.trouble or 'got '}"
                + ", ".join(
                    f"{promise} {status}" for promise, status in trial.statuses.items() if status != Status.PASS
                )
            )
        )
        if caught and not named:
            told = {promise: trial.causes.get(promise, ()) for promise in fails}
            lines.append(f"     expected cause {mutant.cause}, got {told}")
        for promise in accused(mutant, trial, platform=platform):
            lines.append(f"     wrongly accused: {promise} {trial.statuses[promise]} (run {trial.run})")
    for trial in twins:
        green = _is_green(trial)
        lines.append(f"     {trial.name}: {'pass' if green else 'NOT GREEN'}")
        if not green:
            lines += [f"     {promise} {status}" for promise, status in trial.statuses.items() if status != Status.PASS]
            lines += [f"     {trial.trouble}"] if trial.trouble else []
    lines += [
        "",
        (
            f" {total.seeded} seeded, {total.caught} caught, {total.missed} missed, {total.named} named, "
            f"{total.wrongly_accused} wrongly accused; {total.false_alarms} false alarms in {total.healthy_runs} healthy "
            f"runs, which rules out more than {total.false_alarms_at_most:.1%} of them (95 %)"
        ),
    ]
    return lines


def _as_json(
    mutants: Sequence[Mutant],
    trials: Mapping[str, Trial],
    twins: Sequence[Trial],
    total: Score,
    *,
    platform: str,
) -> str:
    rows = [
        {
            "number": mutant.number,
            "id": mutant.id,
            "broken": mutant.broken,
            "caught": is_caught(mutant, trials[mutant.id], platform=platform),
            "named": is_named(mutant, trials[mutant.id], platform=platform),
            "wrongly_accused": list(accused(mutant, trials[mutant.id], platform=platform)),
            "expected": {"fails": list(mutant.on[platform].fails), "cause": mutant.cause},
            "got": asdict(trials[mutant.id]),
        }
        for mutant in mutants
    ]
    return json.dumps(
        {
            "version": 1,
            "platform": platform,
            "score": asdict(total),
            "mutants": rows,
            "twins": [asdict(trial) for trial in twins],
        },
        indent=2,
    )
