"""One history as the time-line draws it: columns of numbers, lanes, windows and percentiles, small enough for a page.

Every request that is not ok, and every one that was tried more than once, is in it, however many there are. Of the
others a fixed choice is made where they are too many: the slowest of each stretch of time, then every n-th. The choice depends on nothing
but the history, and lanes, counts and percentiles are always made from all of it. Must not: judge.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers.evidence import done_to, kind_of
from harness.checkers.measures import percentile
from harness.model import FaultWindow, History, Operation, Outcome
from harness.reporting.text import cut, one_line

__all__ = ["Picture", "Texts", "chosen", "draw", "packed", "zero_of"]

_TICK_SECONDS = 1e-4
"""Times are kept in tenths of a millisecond: finer than anything that is promised."""
_STRETCHES = 120
_VISITOR = re.compile(r"v(\d{1,9})")
_SLOW = "slow"
_LONG = (_SLOW, "download")
"""Streams of what is slow by its nature."""
_AFTER = {
    "drain": "draining",
    "drained": "drained",
    "stop": "stopping",
    "stopped": "down",
    "start": "starting",
    "ready": "ready, not yet used",
    "enable": "ready, not yet used",
    "enabled": "up",
}
"""What an instance is after each step of a rollout that is told of it."""
_WHILE = {"hang": "hung", "cut-off-silence": "cut off", "cut-off-refusal": "cut off", "out-of-memory": "out of memory"}
_UP = "up"


class Texts:
    """Texts by number, each kept once. When `characters` are used up, further ones read `left out`: they are in the journal."""

    LEFT_OUT = "(left out here to keep the page small; it is in history.jsonl)"

    def __init__(self, *, characters: int, each: int = 200, redact: Callable[[str], str] = str) -> None:
        self._left = characters
        self._redact = redact
        self._each = each
        self._numbers: dict[str, int] = {"": 0}
        self._raw: dict[str, int] = {}

    def number(self, text: str) -> int:
        known = self._raw.get(text)
        if known is None:
            known = self._raw[text] = self._number(cut(self._redact(one_line(text)), self._each))
        return known

    def _number(self, shown: str) -> int:
        known = self._numbers.get(shown)
        if known is None:
            if len(shown) > self._left:
                shown = self.LEFT_OUT
            else:
                self._left -= len(shown)
            known = self._numbers.setdefault(shown, len(self._numbers))
        return known

    @property
    def all(self) -> list[str]:
        return list(self._numbers)


@dataclass(frozen=True, slots=True)
class Picture:
    """A history, ready to be put into a page."""

    data: Mapping[str, Any]
    shown: int
    recorded: int


def zero_of(history: History) -> tuple[float, str]:
    """The moment from which a reader counts, and what happened then: the first fault, or the begin of the rollout."""
    moments = [
        *((fault.injected if fault.effective is None else fault.effective, done_to(fault)) for fault in history.faults),
        *((step.at, "the rollout began") for step in history.rollout if step.step == "begin"),
    ]
    if moments:
        return min(moments)
    if history.paces:
        return min(pace.begin for pace in history.paces), "the traffic began"
    return (history.operations[0].due if history.operations else 0.0), "the first request was due"


def is_trouble(op: Operation) -> bool:
    """Never left out: what was not ok, and what the balancer had to try more than once."""
    return op.outcome is not Outcome.OK or len(op.attempts) > 1


def chosen(operations: Sequence[Operation], *, at_most_ok: int) -> list[Operation]:
    """All that is trouble, and of the others `at_most_ok` in the order in which they were due: the first, the last and
    the slowest of each stretch, then every n-th. The same ones each time."""
    fine = [number for number, op in enumerate(operations) if not is_trouble(op)]
    if len(fine) <= at_most_ok:
        return list(operations)
    stretches = max(1, min(_STRETCHES, at_most_ok // 4))
    kept: set[int] = set()
    for number in range(stretches):
        part = fine[len(fine) * number // stretches : len(fine) * (number + 1) // stretches]
        if part:
            kept |= {part[0], part[-1], max(part, key=lambda each: operations[each].latency or 0.0)}
    rest = [number for number in fine if number not in kept]
    room = max(0, at_most_ok - len(kept))
    kept |= {rest[len(rest) * number // room] for number in range(room)} if room else set()
    return [op for number, op in enumerate(operations) if number in kept or is_trouble(op)]


def draw(history: History, *, at_most_ok: int, texts: Texts, logs: Sequence[tuple[float, str, str]] = ()) -> Picture:
    """The history for the time-line. `logs`: (seconds on the history's clock, node, line), in order of time."""
    zero, what = zero_of(history)
    begin, end = _span(history)
    shown = chosen(history.operations, at_most_ok=at_most_ok)
    data: dict[str, Any] = {
        "zero": what,
        "span": [round(begin - zero, 4), round(end - zero, 4)],
        "instances": list(history.instances),
        "lanes": [_lane(node, history, zero=zero, begin=begin, end=end) for node in _nodes(history)],
        "windows": list(_windows(history, zero=zero, end=end)),
        "events": list(_events(history, zero=zero)),
        "stretches": _stretches(history, zero=zero, begin=begin, end=end),
        "counted": dict(Counter(op.outcome.value for op in history.operations)),
        "shown": len(shown),
        "recorded": len(history.operations),
        **_columns(shown, zero=begin, texts=texts),
        "logs": [[round(at - zero, 3), node, line] for at, node, line in logs],
    }
    data["from"] = round(begin - zero, 4)
    return Picture(data, len(shown), len(history.operations))


def packed(data: Mapping[str, Any]) -> str:
    """JSON, deflated (RFC 1950), in base64: a browser unpacks it with its own `DecompressionStream`."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode()


def _span(history: History) -> tuple[float, float]:
    moments = [
        *(op.due for op in history.operations),
        *(op.answered for op in history.operations if op.answered is not None),
        *(moment for fault in history.faults for moment in (fault.injected, fault.healing, fault.healed) if moment),
        *(step.at for step in history.rollout),
    ]
    begin, end = min(moments, default=0.0), max(moments, default=1.0)
    return begin, max(end, begin + 0.01)


def _nodes(history: History) -> list[str]:
    told = [*(fault.node for fault in history.faults), *(step.node for step in history.rollout if step.node)]
    return list(dict.fromkeys([*history.instances, *told]))


def _lane(node: str, history: History, *, zero: float, begin: float, end: float) -> dict[str, Any]:
    """What this node was, and in which version it answered, from when to when: `[from, to, word]`."""
    changes = [(step.at, _AFTER[step.step]) for step in history.rollout if step.node == node and step.step in _AFTER]
    # Where nobody enables, as under an orchestrator, being ready is being up.
    if not any(step.node == node and step.step == "enabled" for step in history.rollout):
        changes = [(at, _UP if word.startswith("ready") else word) for at, word in changes]
    for fault in history.faults:
        if fault.node == node:
            changes += _changes(fault)
    changes.sort(key=lambda change: change[0])
    states, last, state = [], begin, _UP
    if changes and changes[0][1] == "starting":  # one that was not there before
        state = "not there"
    for at, word in [*changes, (end, "")]:
        at = min(max(at, begin), end)
        if word != state:
            if at > last:
                states.append([round(last - zero, 4), round(at - zero, 4), state])
            last, state = at, word
    return {"node": node, "states": states, "versions": _versions(node, history, zero=zero, end=end)}


def _changes(fault: FaultWindow) -> Iterator[tuple[float, str]]:
    if fault.effective is None:
        yield fault.injected, "fault without effect"
        yield fault.healing, _UP
        return
    yield fault.injected, "stopping" if kind_of(fault) in ("stop", "restart") else "breaking"
    yield fault.effective, _WHILE.get(kind_of(fault), "down")
    yield fault.healing, "returning"
    if fault.healed is not None:
        yield fault.healed, _UP


def _versions(node: str, history: History, *, zero: float, end: float) -> list[list[Any]]:
    """By the word of its answers: from the first of each version to the first of the next."""
    found: list[list[Any]] = []
    answers = sorted(
        (op.answered, op.version)
        for op in history.operations
        if op.instance == node and op.version is not None and op.answered is not None
    )
    for at, version in answers:
        if not found or found[-1][2] != version:
            if found:
                found[-1][1] = round(at - zero, 4)
            found.append([round(at - zero, 4), round(end - zero, 4), one_line(version)])
    return found


def _windows(history: History, *, zero: float, end: float) -> Iterator[dict[str, Any]]:
    for fault in history.faults:
        over = end if fault.healed is None else fault.healed
        yield {
            "kind": "fault",
            "name": done_to(fault),
            "from": round(fault.injected - zero, 4),
            "to": round(over - zero, 4),
            "detail": f"{fault.fault} on {fault.node}: {one_line(fault.proof) or 'no effect was seen'}"
            + ("" if fault.healed is not None else "; never ready again"),
        }
    by_node: dict[str, list[Any]] = {}
    for step in history.rollout:
        if step.node:
            by_node.setdefault(step.node, []).append(step)
    for node, steps in by_node.items():
        version = next((step.version for step in steps if step.version), "")
        yield {
            "kind": "rollout",
            "name": f"{node} to {version}" if version else f"{node} changed",
            "from": round(min(step.at for step in steps) - zero, 4),
            "to": round(max(step.at for step in steps) - zero, 4),
            "detail": ", ".join(dict.fromkeys(step.step for step in steps)),
        }


def _events(history: History, *, zero: float) -> Iterator[list[Any]]:
    told: list[tuple[float, str, str]] = []
    for fault in history.faults:
        told.append((fault.injected, fault.node, f"{fault.fault}: ordered"))
        if fault.effective is not None:
            told.append((fault.effective, fault.node, f"{fault.fault}: in effect ({one_line(fault.proof)})"))
        told.append((fault.healing, fault.node, f"{fault.fault}: healing began"))
        if fault.healed is not None:
            told.append((fault.healed, fault.node, "ready again"))
    for step in history.rollout:
        words = [f"rollout: {step.step}", f"version {step.version}" if step.version else "", one_line(step.detail)]
        told.append((step.at, step.node, ", ".join(word for word in words if word)))
    for at, node, what in sorted(told):
        yield [round(at - zero, 4), node, what]


def _stretches(history: History, *, zero: float, begin: float, end: float) -> dict[str, Any]:
    """Counts and latencies of all requests, by stretches of equal length. What is slow by its nature has no part in the
    latencies, where anything else was sent."""
    usual = any(op.stream not in _LONG for op in history.operations)
    length = max((end - begin) / _STRETCHES, 0.05)
    number = max(1, int((end - begin) / length) + 1)
    counts = [[0, 0, 0] for _ in range(number)]
    latencies: list[list[float]] = [[] for _ in range(number)]
    order = {Outcome.OK: 0, Outcome.FAILED: 1, Outcome.UNKNOWN: 2}
    for op in history.operations:
        place = min(number - 1, max(0, int((op.due - begin) / length)))
        counts[place][order[op.outcome]] += 1
        if op.latency is not None and (op.stream not in _LONG or not usual):
            latencies[place].append(op.latency)
    return {
        "from": round(begin - zero, 4),
        "seconds": length,
        "counts": counts,
        "latencies": [[_ms(percentile(each, share)) for share in (0.5, 0.95, 0.99, 1.0)] for each in latencies],
        "without": _SLOW if usual and any(op.stream == _SLOW for op in history.operations) else "",
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _columns(operations: Iterable[Operation], *, zero: float, texts: Texts) -> dict[str, Any]:
    """One list for each thing a request has; what many have in common is told once, as its shape."""
    shapes: dict[tuple[Any, ...], int] = {}
    due, waits, took, shape, visitor, path, detail = [], [], [], [], [], [], []
    last = 0
    for op in operations:
        ticks = round((op.due - zero) / _TICK_SECONDS)
        due.append(ticks - last)
        last = ticks
        waits.append(-1 if op.sent is None else max(0, round((op.sent - op.due) / _TICK_SECONDS)))
        took.append(-1 if op.answered is None else max(0, round((op.answered - op.due) / _TICK_SECONDS)))
        told = (
            op.stream,
            op.kind,
            op.method,
            op.via,
            op.connection.value,
            op.instance,
            ", ".join(op.attempts),
            op.status,
            op.outcome.value,
            op.answer.value,
            op.error or "",
            cut(op.version or "", 40),
        )
        shape.append(shapes.setdefault(told, len(shapes)))
        plain = _VISITOR.fullmatch(op.visitor)
        visitor.append(int(plain[1]) if plain else -1 - texts.number(op.visitor))
        path.append(texts.number(op.path))
        detail.append(texts.number(op.detail))
    columns = {
        "due": due,
        "waits": waits,
        "took": took,
        "shape": shape,
        "visitor": visitor,
        "path": path,
        "detail": detail,
    }
    return {
        "tick": _TICK_SECONDS,
        "columns": columns,
        "shapes": [list(each) for each in shapes],
    }
