"""One verification of one setup: boots the cluster once, records scenarios, judges them and writes the results.

This is what stands behind every door (command line, pytest). Must not: import pytest or print.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from harness import __version__, clock
from harness.cluster import Cluster, boot
from harness.complaints import Complaints
from harness.diagnosis import diagnose, promise_in_own_words
from harness.errors import HarnessError, NodeNeverReady, NothingTested
from harness.journeys import compile_journeys
from harness.judging import judge_record, judged
from harness.layouts import Choice
from harness.model import Checker, FaultWindow, Finding, History, Look, RolloutStep, Verdict
from harness.promises import CATALOGUE
from harness.reporting import (
    PromiseResult,
    Redactor,
    RunHeader,
    RunResult,
    View,
    merge,
    progress_text,
    write_page,
    write_results,
)
from harness.scene import Scene
from harness.services import identity_of
from harness.setup import Environment, Setup
from harness.starvation import Starvation
from harness.traffic import Journal, Traffic, read_history, read_journal, untold
from harness.visitors import LONG_DOWNLOAD, SLOW, Visitors, passwords_of, people_of
from harness.witness import BalancerLog
from harness.workspace import Workspace, sweep

__all__ = ["Story", "Verification"]

Story = Callable[[Scene], None]
_PROGRESS_EVERY_SECONDS = 0.25
_HEAR_EVERY_SECONDS = 0.5
_ALL_HEARD_WITHIN_SECONDS = 5.0
"""A line of a log is written after the answer was sent, and may come from far away."""


class Verification:
    """A setup, running, with what was recorded and concluded so far. `open` it, and `close` it whatever happens."""

    _platform_facts: Mapping[str, Any] = MappingProxyType({})
    """What is only known when it is laid out."""

    def __init__(
        self,
        *,
        setup: Setup,
        environment: Environment,
        seed: int,
        reports: Path,
        view: View,
        command: str,
        planned: Mapping[str, int],
        choice: Choice,
        left_out: Mapping[str, str],
    ) -> None:
        """`planned`: how many scenarios will judge each promise; `command` repeats the run with its seed; `left_out`:
        promises that cannot be judged on this platform, with the reason."""
        self._setup = setup
        self._choice = choice
        self._left_out = left_out
        self._environment = environment
        self._seed = seed
        self._reports = reports
        self._view = view
        self._command = command
        self._planned = planned
        self._stack = ExitStack()
        self._told: dict[str, History | HarnessError] = {}
        self._findings: list[Finding] = []
        self._current = ""
        self._note = ""
        self._redactor = Redactor()
        self._node_seconds: dict[str, float] = {}
        self._listened: set[str] = set()
        self._complaints = Complaints(())
        self._starvation = Starvation(serving=tuple, nodes=tuple)
        self._log: BalancerLog | None = None
        self._heard_at = 0.0
        self._known: tuple[Mapping[str, tuple[str, int]], Mapping[str, str]] = {}, {}
        self.workspace: Workspace
        self.cluster: Cluster
        self.journal: Journal
        self.traffic: Traffic
        self._began = self._test_began = clock.now()
        self._started = clock.wall().isoformat(timespec="seconds")

    # -- life -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Boot everything.

        Raises:
            BadInput: something the person can mend; nothing is left running.
        """
        sweep()
        try:
            self._boot()
        except HarnessError as problem:
            # What a node said last is part of the message, and an application may say anything.
            problem.args = tuple(self._redactor(str(part)) for part in problem.args)
            raise

    def _boot(self) -> None:
        with ExitStack() as stack:
            self.workspace = stack.enter_context(
                Workspace.create(
                    reports=self._reports, name=self._setup.name, seed=self._seed, cache=self._environment.cache
                )
            )
            self._hide(passwords_of(self._setup))
            self._view.begin(self.header)
            self._began = clock.now()
            journal = self.workspace.results / "history.jsonl"
            # After both of its writers have closed it.
            stack.callback(clean_history, journal, redactor=self._redactor)
            self.journal = stack.enter_context(Journal(journal, run=self.workspace.run_id))
            # After every node has said its last words, and before the folder they are in is removed.
            stack.callback(self.workspace.collect_logs, self._redactor.copy_file)
            self.cluster = stack.enter_context(
                boot(
                    self._setup,
                    platform=self._choice.platform,
                    workspace=self.workspace,
                    environment=self._environment,
                    hide=self._hide,
                    on_ready=self._node_is_ready,
                    say=self._view.preparing,
                )
            )
            self._view.up(self.cluster.up_seconds)
            self.cluster.recorder = self._write_down
            self._platform_facts = self.cluster.layout.facts
            self._complaints = Complaints(self.cluster.nodes)
            self._starvation = Starvation(serving=lambda: self.cluster.serving, nodes=lambda: self.cluster.nodes)
            self._log = BalancerLog.of(self.cluster, run=self.workspace.run_id)
            self.traffic = self._new_traffic()
            self.traffic.start()
            stack.callback(self.traffic.close)
            if self.cluster.replicas is not None:
                # They come and go under other addresses, and who answers is told by these.
                self.cluster.replicas.listen(lambda names: self.traffic.retarget(self._targets, names))
                stack.callback(self.cluster.replicas.listen, None)
            self.cluster.moved = self._retarget
            stack.callback(self._start_progress())
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Stop everything, keep the logs, and remove what is no result. Everything is tried.

        Raises:
            HarnessError: something could not be stopped; the next run or `harness clean` tries again.
        """
        try:
            self._stack.close()
        except ExceptionGroup as group:
            raise HarnessError("; ".join(str(problem) for problem in group.exceptions)) from group

    def _hide(self, secrets: Sequence[str]) -> None:
        self._redactor.add(*secrets)
        self._view.hide(*secrets)

    def _node_is_ready(self, name: str, seconds: float) -> None:
        self._node_seconds[name] = seconds
        self._view.node_ready(name, seconds)

    def _new_traffic(self) -> Traffic:
        setup, cluster = self._setup, self.cluster
        journeys = setup.declared_journeys()
        if setup.app.slow is not None:
            journeys[SLOW] = {"steps": [{"get": setup.app.slow, "expect": {"status": 200}}]}
        if setup.app.download is not None:
            journeys[LONG_DOWNLOAD] = {"steps": [{"get": setup.app.download, "expect": {"status": 200}}]}
        targets, names = self._known = self._targets, cluster.whos()
        return Traffic(
            journal=self.journal.path,
            journeys=compile_journeys(journeys, values=["seconds"]),
            targets=targets,
            names=names,
            timeout_seconds=setup.traffic.timeout_seconds,
            seed=self._seed,
            headers=setup.traffic.headers,
            people=people_of(setup),
            secure={} if (secure := cluster.layout.balancer.secure) is None else {"balancer": secure.authority},
            version_header=setup.app.version_header,
            instance_header=setup.app.instance_header,
            most_per_second=cluster.most_per_second,
            request_ids=None if self._log is None else self._log.marked,
            identity=identity_of(setup),
        )

    @property
    def _targets(self) -> Mapping[str, tuple[str, int]]:
        """Where visitors can be sent."""
        layout = self.cluster.layout
        return {"balancer": layout.entrance} | {instance.name: instance.target for instance in self.cluster.reachable}

    def _retarget(self) -> None:
        """Tell the traffic who is who, where that can change."""
        known = self._targets, self.cluster.whos()
        if known != self._known:
            self._known = known
            self.traffic.retarget(*known)

    def _start_progress(self) -> Callable[[], None]:
        """Tell the view now and then how the traffic fares. Returns what ends it."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(_PROGRESS_EVERY_SECONDS):
                with suppress(HarnessError):  # traffic that failed is reported by whoever needs it
                    self._view.progress(self._progress_in_words())

        teller = threading.Thread(target=tell, name="progress", daemon=True)
        teller.start()

        def end() -> None:
            over.set()
            teller.join()

        return end

    def _progress_in_words(self) -> str:
        progress = self.traffic.progress()
        return progress_text(
            requests=progress.requests,
            failed=progress.failed,
            longest_gap_ms=progress.longest_gap_ms,
            note=self._note,
        )

    # -- what is known of the setup ---------------------------------------------------------------------------

    @property
    def header(self) -> RunHeader:
        setup = self._setup
        nodes = ["postgres"] * (setup.postgres is not None) + ["redis"] * (setup.redis is not None)
        return RunHeader(
            setup=setup.name,
            platform=self._choice.platform,
            why_platform=self._choice.why,
            notes=self._choice.notes,
            balancer=f"{setup.balancer.kind} {setup.balancer.algorithm}",
            instances=setup.app.instances,
            sessions=setup.sessions.store,
            seed=self._seed,
            promises=tuple(self._planned),
            nodes=self._choice.nodes or (*nodes, setup.balancer.kind, *setup.app.names),
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """What checkers and diagnosis must know of the setup; no secret is in it."""
        setup = self._setup
        balancer = setup.balancer
        return {
            "name": setup.name,
            "platform": self._choice.platform,
            "balancer": balancer.kind,
            "algorithm": balancer.algorithm,
            # Workers (nginx, by the upstream's zone) and threads (HAProxy) share what they know: they choose as one.
            "balancer_workers": 1,
            "pool": list(setup.pool),
            **{key: _plain(getattr(balancer, key)) for key in balancer.ONLY.get(balancer.kind, ())},
            "read_timeout_seconds": balancer.read_timeout_seconds,
            "connect_timeout_seconds": balancer.connect_timeout_seconds,
            "resolve": balancer.resolve,
            "session_store": setup.sessions.store,
            "session_ttl_seconds": setup.sessions.ttl_seconds,
            "overloaded_at": setup.app.overloaded_at,
            "longest_seconds": setup.app.longest_seconds,
            "stop_within_seconds": setup.app.stop_within_seconds,
            "rollout": setup.rollout.kind,
            "drain": setup.rollout.drain,
            "gate": setup.rollout.gate,
            "batch": setup.rollout.batch,
            "at_least": setup.rollout.at_least,
            "timeout_seconds": setup.traffic.timeout_seconds,
            "has_slow_path": setup.app.slow is not None,
            "weights": dict(balancer.weights),
            "capacity": dict(setup.app.capacity),
            "sticky_address": balancer.sticky_address,
            "reload": balancer.reload,
            "restart": balancer.restart,
            "restart_delay_seconds": balancer.restart_delay_seconds,
            "reload_patience_seconds": balancer.reload_patience_seconds,
            "keepalive_seconds": balancer.keepalive_seconds if balancer.keepalive else None,
            "rate_limit": None if setup.app.rate_limit is None else setup.app.rate_limit.model_dump(mode="json"),
            "jobs": None if setup.app.jobs is None else setup.app.jobs.model_dump(mode="json"),
            "tls": None if balancer.tls is None else balancer.tls.model_dump(mode="json", exclude={"port"}),
            **self._platform_facts,
        }

    # -- scenarios --------------------------------------------------------------------------------------------

    def _write_down(self, event: FaultWindow | RolloutStep | Look) -> None:
        if isinstance(event, RolloutStep) and event.node:
            self._note = f"{event.node} {event.step}"
        self.journal.append_fact(self._current, event)

    def scene(self, name: str) -> Scene:
        """Begin a scenario: a cluster in its known good state, and nobody logged in."""
        self.cluster.return_to_known_good()
        self._complaints.pass_over()
        self._starvation.begin()
        self._current = name
        self._note = ""
        self.journal.append(
            {
                "t": "scenario",
                "scenario": name,
                "seed": self._seed,
                "instances": list(self.cluster.names),
                "setup": self.facts,
                "unix_less_clock": round(clock.wall().timestamp() - clock.now(), 6),
            }
        )
        self.traffic.begin_scenario(name)
        visitors = Visitors(cluster=self.cluster, traffic=self.traffic, read=lambda: self._read_so_far(name))
        choices = Random(f"{self._seed}/{name}")  # noqa: S311 - must repeat with the seed
        return Scene(name=name, cluster=self.cluster, visitors=visitors, random=choices)

    def _read_so_far(self, name: str) -> History:
        if clock.now() - self._heard_at >= _HEAR_EVERY_SECONDS:
            self._hear(name)
        return read_history(self.journal.path, name)

    def _hear(self, name: str, *, all_of_it: bool = False) -> None:
        """Write down who answered by the balancer's log, where that is what tells; `all_of_it`: wait for what is not there yet.

        Raises:
            NodeError: the log cannot be read.
        """
        if self._log is None or name != self._current:
            return
        end = clock.now() + _ALL_HEARD_WITHIN_SECONDS
        while True:
            told = self._log.new()
            self._heard_at = clock.now()
            if told:
                by = {number: each.plain() for number, each in told.items()}
                self.journal.append({"t": "told", "scenario": name, "by": by})
            if not all_of_it or clock.now() > end or not untold(self.journal.path, name):
                return
            clock.sleep(_PROGRESS_EVERY_SECONDS)

    def record_once(self, name: str, story: Story) -> History:
        """Let a story happen and return its history; the second time return the same history.

        Raises:
            HarnessError: the story could not be carried out; again at each further call.
        """
        if name not in self._told:
            try:
                scene = self.scene(name)
                with suppress(NodeNeverReady):
                    # An instance that does not come back is the setup's own doing: the history says so, for a checker.
                    story(scene)
                self.traffic.flush()
                self._hear(name, all_of_it=True)
                history = self._told[name] = self._told_of_waiting(scene.history)
                self._listen(history)
            except HarnessError as problem:
                self._told[name] = problem
        told = self._told[name]
        if isinstance(told, HarnessError):
            raise told
        return told

    def _listen(self, history: History) -> None:
        """Write down what nodes complain of, where the application failed people in the scenario that is over."""
        name = history.scenario
        if name != self._current or name in self._listened:
            return
        self._listened.add(name)
        if (look := self._complaints.about(history)) is not None:
            self.journal.append_fact(name, look)

    def _told_of_waiting(self, history: History) -> History:
        """With what those who serve waited for a core meanwhile, which is written down as well."""
        look = self._starvation.about(history.scenario)
        if look is None:
            return history
        self.journal.append_fact(history.scenario, look)
        return replace(history, looks=(*history.looks, look))

    def test_begins(self) -> None:
        """From now on time is spent on what the next finding is about."""
        self._test_began = clock.now()

    # -- judging ----------------------------------------------------------------------------------------------

    def judge(self, promise: str, checkers: Sequence[Checker], history: History) -> Finding:
        """Judge a history, and write down how, so that it can be judged again."""
        if self._log is not None and history.scenario == self._current:
            self._hear(history.scenario, all_of_it=True)
            history = read_history(self.journal.path, history.scenario)
        if history.scenario == self._current and history.scenario not in self._told:
            history = self._told_of_waiting(history)
        self._listen(history)
        finding = replace(judged(promise, checkers, history), seconds=clock.now() - self._test_began)
        self.journal.append(judge_record(promise, checkers, history))
        self._findings.append(finding)
        return finding

    def crashed(self, promise: str, scenario: str, problem: Exception) -> Finding:
        """A scenario that could not be carried out: never a pass, and the rig's error unless it had nothing to test."""
        words = f"{type(problem).__name__}: {problem}" if not isinstance(problem, HarnessError) else str(problem)
        trace = [] if isinstance(problem, HarnessError) else traceback.format_exception(problem)
        if isinstance(problem, NothingTested):
            verdict = Verdict.inconclusive(words, guards=[words])
        else:
            verdict = Verdict.rig_error(words, traceback=trace)
        finding = Finding(promise=promise, scenario=scenario, verdict=verdict, seconds=clock.now() - self._test_began)
        self._findings.append(finding)
        return finding

    def promise_result(self, promise: str) -> PromiseResult:
        """What is known of one promise by now; causes are told at the end, from everything that was seen."""
        return merge(
            promise,
            [finding for finding in self._findings if finding.promise == promise],
            planned=self._planned.get(promise, 1),
            waived=self._setup.promises.why_waived(promise),
            promise=CATALOGUE[promise],
        )

    def conclude(self, *, complete: bool) -> RunResult:
        """Find the causes, write every result, and return it. What an interrupted run had judged is written as well."""
        seconds = clock.now() - self._began
        self.traffic.flush()
        stored = read_journal(self.journal.path)
        looks = [look for scenario in stored.scenarios.values() for look in scenario.history.looks]
        result = RunResult(
            run_id=self.workspace.run_id,
            setup=self._setup.name,
            platform=self._choice.platform,
            balancer=self.header.balancer,
            instances=self._setup.app.instances,
            sessions=self._setup.sessions.store,
            seed=self._seed,
            started=self._started,
            version=__version__,
            command=self._command,
            results=self.workspace.results,
            findings=diagnose(self._findings, facts=self.facts, looks=looks),
            promises=tuple(promise_in_own_words(CATALOGUE[promise], self.facts) for promise in self._planned),
            planned=self._planned,
            waived=dict(self._setup.promises.waived),
            left_out=self._left_out,
            statistics=self.cluster.balancer_statistics(),
            complete=complete,
            seconds=seconds,
            boot_seconds=self.cluster.up_seconds,
            node_seconds=self._node_seconds,
            timings=self._timings(scenario.history for scenario in stored.scenarios.values()),
        )
        write_results(result, redactor=self._redactor)
        return result

    def write_page(self, result: RunResult) -> None:
        """The report of a run that is over, closed, and has its logs. Raises HarnessError: it cannot be made."""
        write_page(result.results, redactor=self._redactor)

    def _timings(self, histories: Iterable[History]) -> Mapping[str, float]:
        """Where the time went besides the boot: open-loop traffic, less what it waited for, and those waits."""
        waits = dict(self.cluster.waits)
        spans = [(pace.begin, pace.end) for history in histories for pace in history.paces]
        under_traffic = waits.get("drains", 0.0) + waits.get("recovery of instances", 0.0)
        return {"traffic": max(0.0, covered_seconds(spans) - under_traffic), **waits}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def clean_history(journal: Path, *, redactor: Redactor) -> None:
    """Take the secrets out of what applications said: details of operations, and values of looks.

    A journal that could not be begun is none. Raises MissingPrerequisite when it cannot be written again.
    """
    if journal.exists():
        redactor.copy_file(journal, journal)


def covered_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of these spans of time was under way."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
