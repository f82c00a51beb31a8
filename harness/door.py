"""From what somebody asked for to a verification, its view and its results: what all doors have in common.

Must not: import pytest, parse arguments, or print but through a view.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

from harness import assets
from harness.errors import BadInput, HarnessError
from harness.journeys import compile_journeys
from harness.layouts import Choice, adapt, adopt, choose, missing, undeclared
from harness.promises import CATALOGUE, matching, why_left_out
from harness.reporting import QuietView, RunResult, View, append_summary
from harness.setup import Environment, Setup, know_people, load_setup, parse_override, read_environment
from harness.verification import Verification
from harness.waiting import set_patience

__all__ = ["REFERENCE", "Door", "Wishes", "read_setup", "read_wishes"]

REFERENCE = "fixtures/setups/reference.toml"
COMPOSE_REFERENCE = "fixtures/compose/reference.toml"
"""How people use the reference application, for a compose project that runs it."""
_SETUP_BESIDE = "harness.toml"
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What somebody asked for, before anything was looked at."""

    setup: Path | None = None
    """The setup file; the reference setup when not given."""
    platform: str = "auto"
    compose: tuple[Path, ...] = ()
    """The files of a compose project to judge."""
    scale: tuple[str, ...] = ()
    """`service=number`: how many containers a service of it has."""
    attach: str | None = None
    """The name of a compose project that runs already."""
    instances: int | None = None
    seed: int | None = None
    reports: Path = field(default_factory=lambda: Path("reports"))
    only: tuple[str, ...] = ()
    """Promise ids or globs; all when empty."""
    overrides: tuple[str, ...] = ()
    """`key=value` changes of the setup file."""
    owns: str | None = None
    """The host of a site whose owner has said once more that its instances may be stopped, killed and replaced."""
    confirm: Callable[[str], str] | None = None
    """Asks a person who is there; None: nobody is."""
    shown_in_ci: bool = True
    """Whether a CI service that shows summaries is given this one; not where another program asked for the run."""

    def command(self, seed: int) -> str:
        """The command line that repeats this run with this seed."""
        words = ["harness", "verify", *self.words()]
        for pattern in self.only:
            words += ["--only", pattern]
        return shlex.join([*words, "--seed", str(seed)])

    def words(self) -> list[str]:
        """What every command takes of it: which setup, where, and how it is changed."""
        words: list[str] = []
        if self.setup is not None:
            words.append(str(self.setup))
        if self.platform != "auto":
            words += ["--platform", self.platform]
        for file in self.compose:
            words += ["--compose", str(file)]
        for scale in self.scale:
            words += ["--scale", scale]
        if self.attach is not None:
            words += ["--attach", self.attach]
        if self.instances is not None:
            words += ["--instances", str(self.instances)]
        if self.owns is not None:
            words += ["--yes-i-own", self.owns]
        for override in self.overrides:
            words += ["--set", override]
        return words


class Door:
    """One run, from the setup file to the results. `close` must be called whatever happens; it may be called twice."""

    def __init__(self, *, setup: Setup, choice: Choice, environment: Environment, wishes: Wishes, view: View) -> None:
        self._setup = setup
        self._choice = choice
        self._environment = environment
        self._wishes = wishes
        self._view = view
        # Small numbers are easier to retype; any seed gives an equally good schedule.
        self._seed = wishes.seed if wishes.seed is not None else SystemRandom().randrange(1, 100_000)
        self._selected = _selection(wishes.only)
        self._verification: Verification | None = None
        self._planned: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._left_out: dict[str, str] = {}
        self._stopped_by: BaseException | None = None
        self.result: RunResult | None = None
        self.warnings: list[str] = []
        """What a person should know of the end, one line each; no verdict depends on it."""

    @classmethod
    def for_wishes(cls, wishes: Wishes, view: View | None = None) -> Door:
        """Read the environment and the setup. Sets the patience of all waits from now on.

        Raises:
            BadInput: everything that is wrong with either, before anything is started.
        """
        setup, choice, environment = read_wishes(wishes)
        return cls(
            setup=setup,
            choice=choice,
            environment=environment,
            wishes=wishes,
            view=view if view is not None else QuietView(),
        )

    # -- what pytest tells ------------------------------------------------------------------------------------

    def choose(
        self, items: Sequence[tuple[_Item, str | None]], *, needs: Callable[[_Item], Collection[str]] = lambda _: ()
    ) -> tuple[list[_Item], list[_Item]]:
        """Which scenarios run, in the order of the catalogue, and which are left out. Raises BadInput: an unknown id.

        `needs`: what a scenario needs of the platform. A promise all of whose scenarios need more than this one has
        is not judged here, and the results say so.
        """
        order = {promise: place for place, promise in enumerate(CATALOGUE)}
        unknown = sorted({promise for _, promise in items if promise is not None and promise not in order})
        if unknown:
            raise BadInput(f"scenarios judge promises the catalogue does not hold: {', '.join(unknown)}")
        platform = self._choice.platform
        kept: list[tuple[_Item, str | None]] = []
        left: list[_Item] = []
        reasons: dict[str, str] = {}
        for item, promise in items:
            if promise is not None and promise not in self._selected:
                left.append(item)
                continue
            lacking = missing(needs(item), platform)
            own = next((self._choice.lacks[need] for need in sorted(needs(item)) if need in self._choice.lacks), None)
            unsaid = undeclared(needs(item), self._setup)
            if lacking is None and own is None and unsaid is None:
                kept.append((item, promise))
                continue
            left.append(item)
            if promise is None:
                continue
            if own is not None:
                # What this very setup has not says more than what no setup has there.
                reasons[promise] = f"{platform}: {own}"
            elif lacking is not None:
                reasons.setdefault(promise, why_left_out(lacking, platform))
            elif unsaid is not None:
                reasons.setdefault(promise, unsaid)
        kept.sort(key=lambda pair: -1 if pair[1] is None else order[pair[1]])
        self._planned = Counter(promise for _, promise in kept if promise is not None)
        self._open = self._planned.copy()
        self._left_out = {promise: why for promise, why in reasons.items() if promise not in self._planned}
        if self._left_out and not self._planned and self._wishes.only:
            # Whoever runs the scenarios ends with a code of its own and no word of ours.
            self._stopped_by = BadInput(
                "; ".join(f"{promise} cannot be judged here: {why}" for promise, why in self._left_out.items())
            )
            raise self._stopped_by
        return [item for item, _ in kept], left

    @property
    def planned(self) -> Collection[str]:
        """The promises that will be judged."""
        return self._planned.keys()

    @property
    def left_out(self) -> Mapping[str, str]:
        """Those that cannot be judged here, each with the reason."""
        return self._left_out

    def verification(self) -> Verification:
        """Boot, the first time. Raises HarnessError with nothing left running."""
        if self._verification is None:
            verification = Verification(
                setup=self._setup,
                environment=self._environment,
                seed=self._seed,
                reports=self._wishes.reports,
                view=self._view,
                command=self._wishes.command(self._seed),
                planned=dict(self._planned),
                choice=self._choice,
                left_out=self._left_out,
            )
            try:
                verification.open()
            except HarnessError as problem:
                self._stopped_by = problem
                raise
            except Exception as problem:
                self._stopped_by = HarnessError(f"nothing could be booted: {type(problem).__name__}: {problem}")
                raise self._stopped_by from problem
            self._verification = verification
        return self._verification

    def running(self, promise: str) -> None:
        """A scenario of this promise begins."""
        if self._verification is not None:
            self._verification.test_begins()
        self._view.promise_running(promise)

    def crashed(self, promise: str, scenario: str, problem: Exception) -> None:
        if self._verification is not None:
            self._verification.crashed(promise, scenario, problem)

    def done(self, promise: str) -> None:
        """One scenario of a promise has ended; its line is final when all of them have."""
        self._open[promise] -= 1
        if self._open[promise] <= 0 and self._verification is not None:
            self._view.promise_done(self._verification.promise_result(promise))

    def waived(self, promise: str) -> str | None:
        """Why the setup does not make this promise; None when it does."""
        return self._setup.promises.why_waived(promise) or None

    def interrupted(self, by: BaseException) -> None:
        """The run was told to end before its time."""
        self._stopped_by = by

    # -- the end ----------------------------------------------------------------------------------------------

    def run(self, scenarios: Callable[[], int]) -> int:
        """Let the scenarios run and close. Returns the exit code of the verdict.

        Raises:
            HarnessError: nothing could be judged, or pytest itself failed.
            KeyboardInterrupt: it was interrupted; what was judged until then is written.
        """
        code = 0
        try:
            code = scenarios()
        finally:
            # pytest ends what it runs with a code of its own; 0 and 1 say that all scenarios were run.
            self.close(complete=self._stopped_by is None and code in (0, 1))
        if self._stopped_by is not None:
            raise self._stopped_by
        if self.result is None or code not in (0, 1):
            raise HarnessError(f"the scenarios could not be run: pytest ended with code {code}")
        return self.result.exit_code

    def close(self, *, complete: bool = True) -> None:
        """Stop everything; write and show the results of what was judged."""
        verification, self._verification = self._verification, None
        if verification is None:
            return
        try:
            result = verification.conclude(complete=complete)
        finally:
            verification.close()
        self.result = result
        try:
            # Only now all logs are there, and everything is free of secrets.
            verification.write_page(result)
        finally:
            self._view.end(result)
        if self._environment.step_summary is not None and self._wishes.shown_in_ci:
            warning = append_summary(result.results / "summary.md", to=self._environment.step_summary)
            self.warnings += [warning] if warning else []


def read_setup(wishes: Wishes) -> tuple[Setup, Environment]:
    """Read the environment and the setup. Sets the patience of all waits from now on.

    Raises:
        BadInput: everything that is wrong with either.
    """
    environment = read_environment()
    set_patience(environment.patience)
    path = wishes.setup or _beside(wishes.compose) or _default(wishes)
    overrides = dict(parse_override(text) for text in wishes.overrides)
    if wishes.instances is not None:
        overrides["app.instances"] = wishes.instances
    overrides |= _of_compose(wishes)
    setup = load_setup(path, overrides=overrides, known_promises=tuple(CATALOGUE))
    known = know_people(setup, environment)
    # Functions of a person's own are looked for while nothing has been started.
    compile_journeys(known.declared_journeys())
    return known, environment


def read_wishes(wishes: Wishes) -> tuple[Setup, Choice, Environment]:
    """As `read_setup`, and choose the platform.

    Raises:
        BadInput: everything that is wrong, before anything is started.
    """
    setup, environment = read_setup(wishes)
    choice = choose(setup, wished=wishes.platform)
    if choice.platform == "compose":
        knows = (wishes.setup or _beside(wishes.compose)) is not None
        adopted = adapt(setup, environment=environment, knows_journeys=knows)
        setup, choice = (
            adopted.setup,
            replace(choice, notes=adopted.notes, nodes=adopted.nodes, lacks=adopted.lacks),
        )
    if choice.platform == "remote":
        setup, choice = adopt(setup, choice, owned=_owned(setup, wishes))
    elif wishes.owns is not None:
        raise BadInput(
            f"--yes-i-own is for a site that runs already, and the setup has no [remote] (got {wishes.owns})"
        )
    return setup, choice, environment


def _owned(setup: Setup, wishes: Wishes) -> str | None:
    """The host that somebody named once more: on the command line, or now."""
    remote = setup.remote
    if wishes.owns is not None or remote is None or not remote.allow_faults or wishes.confirm is None:
        return wishes.owns
    typed = wishes.confirm(
        f"Instances of {remote.host} will be stopped, killed or replaced (remote.allow_faults). Type its name to go on:"
    )
    return typed if typed == remote.host else None


def _default(wishes: Wishes) -> Path:
    """How people use the reference application."""
    is_compose = bool(wishes.compose) or wishes.attach is not None
    return assets.path(COMPOSE_REFERENCE if is_compose else REFERENCE)


def _beside(compose: Sequence[Path]) -> Path | None:
    """The setup file that lies beside a compose file, where there is one."""
    beside = compose[0].absolute().parent / _SETUP_BESIDE if compose else None
    return beside if beside is not None and beside.is_file() else None


def _of_compose(wishes: Wishes) -> dict[str, object]:
    """What was asked for on the command line, as keys of the table. Raises BadInput: a scale that is none."""
    overrides: dict[str, object] = {}
    if wishes.compose:
        overrides["compose.file"] = [str(file.absolute()) for file in wishes.compose]
        if wishes.setup is None and _beside(wishes.compose) is None:
            overrides["name"] = wishes.compose[0].absolute().parent.name
    if wishes.attach is not None:
        overrides["compose.project"] = wishes.attach
        if wishes.setup is None:
            overrides["name"] = wishes.attach
    scale: dict[str, object] = {}
    for text in wishes.scale:
        service, _, number = text.partition("=")
        if not service or not number.isdecimal():
            raise BadInput(f"a scale is SERVICE=NUMBER (got {text}): write --scale app=3")
        scale[service] = int(number)
    if scale:
        if not overrides and wishes.setup is None:
            raise BadInput("--scale is for a compose project, and none is named: give --compose docker-compose.yml")
        overrides["compose.scale"] = scale
    return overrides


def _selection(only: Sequence[str]) -> frozenset[str]:
    if not only:
        return frozenset(CATALOGUE)
    chosen: set[str] = set()
    for pattern in only:
        found = matching(pattern)
        if not found:
            raise BadInput(f"no promise matches {pattern!r}: `harness promises` lists all {len(CATALOGUE)}")
        chosen.update(found)
    return frozenset(chosen)
