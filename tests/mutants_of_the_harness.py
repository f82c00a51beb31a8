"""The harness broken on purpose: for each id of fixtures/mutants-of-the-harness.toml, what breaks one real part of it.

A test breaks it in its own process, and in the traffic process as well, which is started by way of `main` here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

Put = Callable[[object, str, object], None]
"""As `setattr`, or that of a monkeypatch: what it puts somewhere is the mutation."""


def prober_retries(put: Put) -> None:
    from harness.traffic.engine import Engine

    told, again = Engine.on_broken, set()

    def on_broken(self: Any, wire: Any, error: str, detail: str) -> None:
        visit = wire.exchange
        if visit in again:
            told(self, wire, error, detail)
            return
        again.add(visit)
        del self._in_flight[visit]
        visit.wire = None
        self._discard(wire)
        self._ask(visit)

    put(Engine, "on_broken", on_broken)


def time_out_is_success(put: Put) -> None:
    from harness.clock import now
    from harness.journeys import Reply
    from harness.traffic.ledger import Ledger

    told = Ledger.broken

    def broken(self: Any, visit: Any, error: str, detail: str, *, sent: float | None = None, head: Any = None) -> Any:
        if error == "timeout":
            return self.answered(visit, Reply(200, {}, b"", ()), sent, now())
        return told(self, visit, error, detail, sent=sent, head=head)

    put(Ledger, "broken", broken)


def closed_loop(put: Put) -> None:
    from harness.traffic.sources import OpenLoop

    def one_at_a_time(self: Any, moment: float) -> None:
        while self._schedule.next_due <= moment and not self._origin.in_flight:
            self._arrive(self._schedule.draw())

    put(OpenLoop, "_send_due", one_at_a_time)


def body_not_read(put: Put) -> None:
    from harness.traffic.wire import Wire

    def on_headers_complete(self: Any) -> None:
        self._in_head = False
        self.status = self._parser.get_status_code()
        self._complete = True

    put(Wire, "on_headers_complete", on_headers_complete)


def fault_did_not_take(put: Put) -> None:
    from harness.faults import faults

    put(faults, "wait_until", lambda condition, **_: None)


def fault_not_healed(put: Put) -> None:
    from harness.faults import Hang

    @contextmanager
    def applied_to(self: Any, node: Any) -> Iterator[str]:
        node.hang()
        yield "every thread of the process is stopped"

    put(Hang, "applied_to", applied_to)


def healing_not_awaited(put: Put) -> None:
    from harness import clock
    from harness.cluster import Cluster
    from harness.model import FaultWindow

    @contextmanager
    def inject(self: Any, fault: Any, *, on: Any) -> Iterator[None]:
        on.node.wait_ready()
        injected = clock.now()
        with fault.applied_to(on.node) as proof:
            effective = clock.now()
            yield
            healing = clock.now()
        window = {"injected": injected, "effective": effective, "healing": healing, "healed": clock.now()}
        self.record(FaultWindow(fault=str(fault), node=on.name, proof=proof, **window))

    put(Cluster, "inject", inject)


def identity_guessed(put: Put) -> None:
    from harness.traffic.ledger import Ledger

    told = Ledger._who

    def who(self: Any, via: str, reply: Any) -> tuple[str | None, tuple[str, ...]]:
        instance, attempts = told(self, via, reply)
        return instance or next(iter(self._names.values()), None), attempts

    put(Ledger, "_who", who)


def history_after_the_fact(put: Put) -> None:
    from harness.clock import now
    from harness.traffic.ledger import Ledger

    write = Ledger._write

    def afterwards(self: Any, visit: Any, sent: float | None, answered: float | None, tail: str) -> None:
        visit.due = now()
        write(self, visit, visit.due, visit.due, tail)

    put(Ledger, "_write", afterwards)


def statistics_retried(put: Put) -> None:
    from harness.checkers import distribution

    once = distribution.g_test

    def best_of_ten(counts: Any, shares: Any, **more: Any) -> float:
        choices = [place for place, count in enumerate(counts) for _ in range(count)]
        Random(1).shuffle(choices)
        parts = [choices[begin::10] for begin in range(10)]
        return max(once([part.count(place) for place in range(len(counts))], shares, **more) for part in parts)

    put(distribution, "g_test", best_of_ten)


def failure_replaced(put: Put) -> None:
    import tests.test_reporting
    from harness.reporting import run

    merge = run.merge

    def by_the_last_try(promise: str, findings: Any, **more: Any) -> Any:
        return merge(promise, list({finding.scenario: finding for finding in findings}.values()), **more)

    put(run, "merge", by_the_last_try)
    put(tests.test_reporting, "merge", by_the_last_try)


def empty_history_passes(put: Put) -> None:
    from harness.model import Verdict

    put(Verdict, "inconclusive", Verdict.passed)


def nothing_judged_passes(put: Put) -> None:
    from harness import judging
    from harness.model import Status, worst

    put(judging, "worst", lambda statuses: worst(list(statuses) or [Status.PASS]))


def record_believed(put: Put) -> None:
    from harness import judging

    put(judging, "contradictions", lambda history: ())


def clock_stepped(put: Put) -> None:
    from harness import clock

    put(clock, "now", lambda: time.time())


def network_shared(put: Put) -> None:
    from harness.platforms.docker import DockerPlatform

    make = DockerPlatform._make_network

    def the_one_there_is(self: Any) -> Any:
        self.network = "harness"
        return make(self)

    put(DockerPlatform, "_make_network", the_one_there_is)


def labels_shared(put: Put) -> None:
    from harness import engine

    labels = engine.labels
    put(engine, "labels", lambda *, run, scratch: labels(run="run", scratch=scratch))


def ports_shared(put: Put) -> None:
    from harness.ports import PortLeases

    def unleased(self: Any, port: int) -> bool:
        return self._held.setdefault(port, None) is None

    def released(self: Any, port: int) -> None:
        self._held.pop(port, None)

    put(PortLeases, "_lock", unleased)
    put(PortLeases, "_release", released)


def crash_is_green(put: Put) -> None:
    import tests.test_checkers_registry
    from harness import judging
    from harness.model import Verdict

    def swallowed(checker: Any, history: Any) -> Verdict:
        try:
            verdict: Verdict = checker.check(history)
        except Exception:
            return Verdict.passed("nothing was found to be wrong")
        return verdict

    put(judging, "run_safely", swallowed)
    put(tests.test_checkers_registry, "run_safely", swallowed)


def report_hides_the_crash(put: Put) -> None:
    from harness.model import Status, worst
    from harness.reporting import run

    put(run, "worst", lambda statuses: worst([each for each in statuses if each is not Status.RIG_ERROR]))


MUTATIONS: Mapping[str, Callable[[Put], None]] = {
    mutation.__name__.replace("_", "-"): mutation
    for mutation in (
        prober_retries,
        time_out_is_success,
        closed_loop,
        body_not_read,
        fault_did_not_take,
        fault_not_healed,
        healing_not_awaited,
        identity_guessed,
        history_after_the_fact,
        statistics_retried,
        failure_replaced,
        empty_history_passes,
        nothing_judged_passes,
        record_believed,
        clock_stepped,
        network_shared,
        labels_shared,
        ports_shared,
        crash_is_green,
        report_hides_the_crash,
    )
}


def break_traffic_too(mutant: str, put: Put) -> None:
    """Have the traffic process, which is one of its own, begin with the mutation."""
    from harness.traffic import client

    def start(argv: list[str], **more: Any) -> subprocess.Popen[bytes]:
        *program, descriptor = argv
        assert program == [sys.executable, "-m", "harness.traffic.process"]
        return subprocess.Popen([sys.executable, "-m", __name__, mutant, descriptor], **more)

    put(client, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))


def main() -> None:
    _, mutant, descriptor = sys.argv
    MUTATIONS[mutant](setattr)
    from harness.traffic import process

    sys.argv = [process.__file__, descriptor]
    process.main()


if __name__ == "__main__":
    main()
