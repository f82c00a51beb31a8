"""What of a run is compared: numbers out of its journal, in blocks of time. Must not: compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BadInput, JournalError
from harness.model import Connection, History, Operation, Pace, longest_gap
from harness.reporting import RunResult, read_results
from harness.traffic import read_journal

__all__ = ["BLOCK_SECONDS", "OWN_DELAY", "Figures", "figures_of"]

BLOCK_SECONDS = 1.0
"""How long a block of time is. In runs of the reference setup what is left of the correlation of latencies a second
later is below 0.1, on a machine that is not overrun."""
OWN_DELAY = "the harness's own delay"
"""How long after it was due a request on a kept connection was sent: no setup has a part in that, only the machine."""
_EVEN_PER_SECOND = 50.0
"""From how many requests a second a stream is dense enough to see gaps."""
_AFTER_A_FAULT_SECONDS = 1.0

# {scenario: blocks}, so that only scenarios that both runs have are compared.
Blocks = Mapping[str, tuple[tuple[float, ...], ...]]
Counts = Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run, as far as it is compared. Everything in it is ready for JSON."""

    run: str
    started: str
    harness: str
    seed: int
    setup: Mapping[str, Any]
    """`name`, `platform`, `balancer`, `instances`, `sessions`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of the setup: time limits, what is tried again, and so on."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """{promise: its word}."""
    latencies: Mapping[str, Blocks] = field(default_factory=dict)
    """{such as `browse, reused connection, steady`: milliseconds from when requests were due to proper answers}."""
    failures: Mapping[str, Counts] = field(default_factory=dict)
    """{stream and connection: (failed, all) of each block}."""
    delays: Blocks = field(default_factory=dict)
    """OWN_DELAY, in milliseconds."""
    singles: Mapping[str, float] = field(default_factory=dict)
    """{such as `boot`: seconds}, of which a run has one value each."""


def figures_of(folder: Path) -> Figures:
    """The figures of a stored run. Raises BadInput: it is not the folder of a run, or one that cannot be read."""
    try:
        result = read_results(folder)
        journal = read_journal(folder / "history.jsonl")
    except JournalError as problem:
        raise BadInput(f"{folder} is not the folder of a run: {problem}") from problem
    histories = [scenario.history for scenario in journal.scenarios.values()]
    latencies: dict[str, dict[str, list[list[float]]]] = defaultdict(dict)
    failures: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(dict)
    delays: dict[str, list[list[float]]] = {}
    for history in histories:
        _add_traffic(history, latencies, failures, delays)
    facts = next((history.setup for history in reversed(histories) if history.setup), {})
    return Figures(
        run=result.run_id,
        started=result.started,
        harness=result.version,
        seed=result.seed,
        setup={
            "name": result.setup,
            "platform": result.platform,
            "balancer": result.balancer,
            "instances": result.instances,
            "sessions": result.sessions,
        },
        facts=dict(facts),
        verdicts={each.id: each.word if each.findings else "not tried" for each in result.results_by_promise},
        latencies={
            name: {scenario: _frozen(blocks) for scenario, blocks in of.items()} for name, of in latencies.items()
        },
        failures={name: {scenario: tuple(blocks) for scenario, blocks in of.items()} for name, of in failures.items()},
        delays={scenario: _frozen(blocks) for scenario, blocks in delays.items()},
        singles=_singles(result, histories),
    )


def _frozen(blocks: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, blocks))


def _add_traffic(
    history: History,
    latencies: dict[str, dict[str, list[list[float]]]],
    failures: dict[str, dict[str, list[tuple[int, int]]]],
    delays: dict[str, list[list[float]]],
) -> None:
    """What open-loop streams measured: only their requests come whether the setup is slow or not."""
    begins = {pace.stream: pace.begin for pace in history.paces}
    blocks: dict[tuple[str, int], list[float]] = defaultdict(list)
    counts: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    own: dict[int, list[float]] = defaultdict(list)
    for op in history.operations:
        if op.stream not in begins:
            continue
        number = int((op.due - begins[op.stream]) / BLOCK_SECONDS)
        name = f"{op.stream}, {op.connection} connection"
        count = counts[name, number]
        count[0] += not op.available
        count[1] += 1
        if op.available and op.latency is not None:
            phase = "steady" if _is_steady(op, history) else "disturbed"
            blocks[f"{name}, {phase}", number].append(round(op.latency * 1000, 1))
        if op.sent is not None and op.connection is Connection.REUSED:
            own[number].append(round((op.sent - op.due) * 1000, 2))
    for (name, _), block in sorted(blocks.items()):
        latencies[name].setdefault(history.scenario, []).append(block)
    for (name, _), (failed, total) in sorted(counts.items()):
        failures[name].setdefault(history.scenario, []).append((failed, total))
    if own:
        delays[history.scenario] = [own[number] for number in sorted(own)]


def _is_steady(op: Operation, history: History) -> bool:
    """Whether nothing was broken or being replaced, or has just been."""
    if history.rollout and history.rollout[0].at <= op.due <= history.rollout[-1].at + _AFTER_A_FAULT_SECONDS:
        return False
    return not any(
        fault.injected <= op.due <= (float("inf") if fault.healed is None else fault.healed + _AFTER_A_FAULT_SECONDS)
        for fault in history.faults
    )


def _singles(result: RunResult, histories: list[History]) -> dict[str, float]:
    found = {"boot": round(result.boot_seconds, 3)}

    def add(name: str, seconds: float) -> None:
        # Of several nodes in one scenario the slowest counts: which they are is drawn by the seed.
        found[name] = max(found.get(name, 0.0), round(seconds, 4))

    for history in histories:
        for name, seconds in _gaps(history):
            add(name, seconds)
        for fault in history.faults:
            if fault.healed is None:
                continue
            add(f"until ready again, {history.scenario}", fault.healed - fault.healing)
            again = _first_answer_of(fault.node, fault.healed, history)
            if again is not None:
                add(f"until used again, {history.scenario}", again - fault.healed)
    return found


def _gaps(history: History) -> Iterator[tuple[str, float]]:
    for pace in history.paces:
        if pace.rate >= _EVEN_PER_SECOND:
            yield f"longest gap, {pace.stream}, {history.scenario}", _gap(pace, history)


def _gap(pace: Pace, history: History) -> float:
    sent = (op for op in history.operations if op.stream == pace.stream)
    return longest_gap(sent, interval_seconds=1.0 / pace.rate, begin=pace.begin, end=pace.end).seconds


def _first_answer_of(node: str, after: float, history: History) -> float | None:
    return min(
        (
            op.answered
            for op in history.operations
            if op.instance == node and op.via == "balancer" and op.answered is not None and op.answered >= after
        ),
        default=None,
    )
