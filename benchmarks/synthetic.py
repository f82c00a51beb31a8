"""A run that never was: as many requests as are asked for, with a kill, a rolling rollout and a judged spread.

Written in the words of a real journal (the recorder's own lines), so that reading and judging it is the work they are
for a real run. It is a healthy setup's run, so every verdict has to be a pass: whoever measures how fast it is judged
looks at that too. About a fifth of the requests write or read a record of their own, as journeys do; everything else
repeats, as it does in a run. Must not: be taken for a measurement of anything but the harness.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.checkers import (
    EveryInstanceGetsTraffic,
    NoSessionLost,
    RequestsSurviveLoss,
    RolloutCostsNothing,
    SharesFitTheAlgorithm,
    VictimRejoins,
)
from harness.judging import judge_record
from harness.model import Checker, FaultWindow, History, Look, Pace, RolloutStep
from harness.promises import CATALOGUE
from harness.reporting import Redactor, RunResult, write_results
from harness.traffic import Journal

__all__ = ["write_run"]

APPS = ("app-1", "app-2", "app-3")
SEED = 1
SETUP = {
    "name": "synthetic",
    "platform": "native",
    "balancer": "nginx",
    "algorithm": "least_conn",
    "balancer_workers": 1,
    "pool": list(APPS),
    "session_store": "redis",
    "rollout": "rolling",
    "drain": "balancer-first",
    "read_timeout_seconds": 2.0,
    "timeout_seconds": 5.0,
    "has_slow_path": True,
}
VISITORS = 200
SLOW_PER_SECOND = 10


def write_run(folder: Path, *, operations: int) -> int:
    """Write `history.jsonl` and `verdicts.json` of a run into the folder. Returns how many operations it holds."""
    history, written = folder / "history.jsonl", 0
    with Journal(history, run="synthetic") as journal:
        for scenario in (Loss(operations * 2 // 5), Rollout(operations * 2 // 5), Spread(operations // 5)):
            journal.append(
                {"t": "scenario", "scenario": scenario.name, "seed": SEED, "instances": APPS, "setup": SETUP}
            )
            with history.open("a", encoding="utf-8", buffering=1 << 20) as file:
                for line in scenario.lines():
                    file.write(line)
                    written += 1
            for fact in scenario.facts():
                journal.append_fact(scenario.name, fact)
            empty = History(scenario=scenario.name, seed=SEED, instances=APPS)
            for promise, checkers in scenario.judged().items():
                journal.append(judge_record(promise, checkers, empty))
    result = RunResult(
        run_id="synthetic",
        setup="synthetic",
        platform="native",
        balancer="nginx least_conn",
        instances=len(APPS),
        sessions="redis",
        seed=SEED,
        started="2026-01-01T00:00:00Z",
        version="0",
        command="none: it was never run",
        results=folder,
        findings=(),
        promises=tuple(
            CATALOGUE[promise]
            for promise in (
                "session.survives-instance-loss",
                "distribution.complete",
                "distribution.share",
                "failover.kill",
                "failover.rejoin",
                "rollout.rolling",
            )
        ),
        seconds=1.0,
        boot_seconds=1.0,
    )
    write_results(result, redactor=Redactor())
    return written


def line(scenario: str, number: int, due: float, latency: float, app: str, **more: Any) -> str:
    """One request of the stream `browse`, or of another one, as the recorder writes it."""
    kind, method, path, status, answer = "whoami", "GET", '"path":"/dashboard"', 200, "recognised"
    if number % 10 in (3, 7):
        record = UUID(int=number)
        kind, method, path, status, answer = "write", "POST", f'"path":"/notes","record":"{record}"', 201, "done"
        if number % 10 == 7:
            kind, method, path, status = "read", "GET", f'"path":"/notes/{record}","record":"{record}"', 200
    connection = "reused" if number % 2 else "fresh"
    return (
        f'{{"t":"op","scenario":"{scenario}","stream":"{more.get("stream", "browse")}",'
        f'"kind":"{more.get("kind", kind)}","step":0,"method":"{more.get("method", method)}","via":"balancer",'
        f'"connection":"{connection}",{more.get("path", path)},"visitor":"v{more.get("visitor", number // 10 % VISITORS)}",'
        f'"due":{due:.6f},"sent":{due + 0.0002:.6f},"answered":{due + latency:.6f},"final":true,"instance":"{app}",'
        f'"attempts":[{more.get("before", "")}"{app}"],"status":{more.get("status", status)},'
        f'"version":"{more.get("version", "1")}","outcome":"ok","answer":"{more.get("answer", answer)}",'
        f'"named":"{app}"}}\n'
    )


def logins(scenario: str, at: float, app: str | None) -> Iterator[str]:
    """Everybody logs in, one after the other; through this instance, if one is named."""
    for number in range(VISITORS):
        yield line(
            scenario,
            0,
            at + number / 1000,
            0.004,
            app or APPS[number % 3],
            stream="arrive",
            kind="login",
            method="POST",
            path='"path":"/login"',
            status=303,
            answer="done",
            visitor=number,
        )


def slow(scenario: str, begin: float, end: float, app_at: Any) -> Iterator[str]:
    """Requests that take a second, so that some are under way at any time."""
    for number in range(int((end - begin) * SLOW_PER_SECOND)):
        due = begin + number / SLOW_PER_SECOND
        app, version = app_at(number, due)
        yield line(
            scenario,
            number * 10 + number % 2,
            due,
            1.0,
            app,
            stream="slow",
            kind="slow",
            path='"path":"/slow?seconds=1"',
            answer="done",
            version=version,
        )


@dataclass(frozen=True)
class Loss:
    """One of three is killed a third of the way through, and comes back after another third."""

    operations: int
    name = "loss-by-kill"
    seconds = 60.0

    def lines(self) -> Iterator[str]:
        yield from logins(self.name, 0.0, "app-2")
        yield from slow(self.name, 1.0, 1.0 + self.seconds, lambda number, due: (self._app(number, due + 1.0), "1"))
        count = self.operations - VISITORS - int(self.seconds * SLOW_PER_SECOND)
        for number in range(count):
            due = 1.0 + number * self.seconds / count
            # What was on its way to the victim is saved by another; later it is left alone.
            is_saved = 20.0 <= due < 20.05 and number % 3 == 1 and number % 10 != 3
            app = "app-3" if is_saved else self._app(number, due)
            yield line(self.name, number, due, 0.02 if is_saved else 0.004, app, before='"app-2",' if is_saved else "")

    def _app(self, number: int, due: float) -> str:
        app = APPS[number % 3]
        return app if app != "app-2" or not 19.9 <= due < 41.0 else APPS[number % 2 * 2]

    def facts(self) -> Iterator[FaultWindow | Pace]:
        yield FaultWindow(
            fault="kill", node="app-2", injected=20.0, effective=20.02, healing=40.0, healed=41.0, proof="it is gone"
        )
        yield pace("slow", 1.0, self.seconds, int(self.seconds * SLOW_PER_SECOND))
        yield pace("browse", 1.0, self.seconds, self.operations - VISITORS - int(self.seconds * SLOW_PER_SECOND))

    def judged(self) -> dict[str, tuple[Checker, ...]]:
        return {
            "failover.kill": (RequestsSurviveLoss.by_kill(),),
            "failover.rejoin": (VictimRejoins(),),
            "session.survives-instance-loss": (NoSessionLost(),),
        }


@dataclass(frozen=True)
class Rollout:
    """Three are replaced, each drained first and back after a while."""

    operations: int
    name = "rollout"
    seconds = 60.0
    each = 15.0

    def lines(self) -> Iterator[str]:
        yield from logins(self.name, 0.0, None)
        yield from slow(self.name, 1.0, 1.0 + self.seconds, self._app)
        count = self.operations - VISITORS - int(self.seconds * SLOW_PER_SECOND)
        for number in range(count):
            due = 1.0 + number * self.seconds / count
            app, version = self._app(number, due)
            yield line(self.name, number, due, 0.004, app, version=version)

    def _app(self, number: int, due: float) -> tuple[str, str]:
        """Who answers then, and in which version: nobody who is drained or down."""
        turn = int((due - 5.0) // self.each)
        is_away = 0 <= turn < 3 and due - 5.0 - turn * self.each < 12.0
        apps = [name for place, name in enumerate(APPS) if not (is_away and place == turn)]
        app = apps[number % len(apps)]
        return app, "2" if due >= 5.0 + APPS.index(app) * self.each + 12.0 else "1"

    def facts(self) -> Iterator[RolloutStep | Pace | Look]:
        yield RolloutStep(step="begin", node="", at=5.0)
        for place, name in enumerate(APPS):
            at = 5.0 + place * self.each
            for step, after, version in (
                ("drain", 0.0, ""),
                ("stop", 2.0, ""),
                ("stopped", 3.0, ""),
                ("start", 3.1, "2"),
                ("ready", 11.0, "2"),
                ("enabled", 11.9, ""),
            ):
                yield RolloutStep(step=step, node=name, at=at + after, version=version)
        yield RolloutStep(step="end", node="", at=5.0 + 3 * self.each)
        for name in APPS:
            yield Look(what="version", node=name, at=0.5, status=200, value={"version": "1"})
            yield Look(what="version", node=name, at=55.0, status=200, value={"version": "2"})
        yield pace("slow", 1.0, self.seconds, int(self.seconds * SLOW_PER_SECOND))
        yield pace("browse", 1.0, self.seconds, self.operations - VISITORS - int(self.seconds * SLOW_PER_SECOND))

    def judged(self) -> dict[str, tuple[Checker, ...]]:
        return {"rollout.rolling": (RolloutCostsNothing(),)}


@dataclass(frozen=True)
class Spread:
    """Enough in flight for least_conn to have a choice."""

    operations: int
    name = "spread"
    seconds = 60.0

    def lines(self) -> Iterator[str]:
        for number in range(self.operations):
            yield line(
                self.name,
                number * 10 + number % 2,
                1.0 + number * self.seconds / self.operations,
                60.0 * self.seconds / self.operations,
                APPS[number % 3],
                stream="spread",
                kind="slow",
                path='"path":"/slow?seconds=0.05"',
                answer="done",
            )

    def facts(self) -> Iterator[Pace]:
        yield pace("spread", 1.0, self.seconds, self.operations)

    def judged(self) -> dict[str, tuple[Checker, ...]]:
        return {
            "distribution.complete": (EveryInstanceGetsTraffic(),),
            "distribution.share": (SharesFitTheAlgorithm(),),
        }


def pace(stream: str, begin: float, seconds: float, planned: int) -> Pace:
    return Pace(stream=stream, rate=planned / seconds, begin=begin, end=begin + seconds, planned=planned, seed=SEED)
