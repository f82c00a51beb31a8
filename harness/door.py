"""From what somebody asked for to a verification, its view and its results: what all doors have in common.

Must not: import pytest, parse arguments, or print but through a view.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

from harness import assets
from harness.errors import BadInput, HarnessError
from harness.promises import CATALOGUE, matching
from harness.reporting import QuietView, RunResult, View
from harness.setup import Environment, Setup, load_setup, parse_override, read_environment
from harness.verification import Verification
from harness.waiting import set_patience

__all__ = ["REFERENCE", "Door", "Wishes"]

REFERENCE = "fixtures/setups/reference.toml"
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What somebody asked for, before anything was looked at."""

    setup: Path | None = None
    """The setup file; the reference setup when not given."""
    instances: int | None = None
    seed: int | None = None
    reports: Path = field(default_factory=lambda: Path("reports"))
    only: tuple[str, ...] = ()
    """Promise ids or globs; all when empty."""
    overrides: tuple[str, ...] = ()
    """`key=value` changes of the setup file."""

    def command(self, seed: int) -> str:
        """The command line that repeats this run with this seed."""
        words = ["harness", "verify"]
        if self.setup is not None:
            words.append(str(self.setup))
        if self.instances is not None:
            words += ["--instances", str(self.instances)]
        for override in self.overrides:
            words += ["--set", override]
        for pattern in self.only:
            words += ["--only", pattern]
        return shlex.join([*words, "--seed", str(seed)])


class Door:
    """One run, from the setup file to the results. `close` must be called whatever happens; it may be called twice."""

    def __init__(self, *, setup: Setup, environment: Environment, wishes: Wishes, view: View) -> None:
        self._setup = setup
        self._environment = environment
        self._wishes = wishes
        self._view = view
        # Small numbers are easier to retype; any seed gives an equally good schedule.
        self._seed = wishes.seed if wishes.seed is not None else SystemRandom().randrange(1, 100_000)
        self._selected = _selection(wishes.only)
        self._verification: Verification | None = None
        self._planned: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._stopped_by: BaseException | None = None
        self.result: RunResult | None = None

    @classmethod
    def for_wishes(cls, wishes: Wishes, view: View | None = None) -> Door:
        """Read the environment and the setup. Sets the patience of all waits from now on.

        Raises:
            BadInput: everything that is wrong with either, before anything is started.
        """
        environment = read_environment()
        set_patience(environment.patience)
        path = wishes.setup if wishes.setup is not None else assets.path(REFERENCE)
        overrides = dict(parse_override(text) for text in wishes.overrides)
        if wishes.instances is not None:
            overrides["app.instances"] = wishes.instances
        setup = load_setup(path, overrides=overrides, known_promises=tuple(CATALOGUE))
        return cls(setup=setup, environment=environment, wishes=wishes, view=view if view is not None else QuietView())

    # -- what pytest tells ------------------------------------------------------------------------------------

    def choose(self, items: Sequence[tuple[_Item, str | None]]) -> tuple[list[_Item], list[_Item]]:
        """Which scenarios run, in the order of the catalogue, and which are left out. Raises BadInput: an unknown id."""
        order = {promise: place for place, promise in enumerate(CATALOGUE)}
        unknown = sorted({promise for _, promise in items if promise is not None and promise not in order})
        if unknown:
            raise BadInput(f"scenarios judge promises the catalogue does not hold: {', '.join(unknown)}")
        kept = [(item, promise) for item, promise in items if promise is None or promise in self._selected]
        kept.sort(key=lambda pair: -1 if pair[1] is None else order[pair[1]])
        left = [item for item, promise in items if promise is not None and promise not in self._selected]
        self._planned = Counter(promise for _, promise in kept if promise is not None)
        self._open = self._planned.copy()
        return [item for item, _ in kept], left

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
        self._view.end(result)


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
