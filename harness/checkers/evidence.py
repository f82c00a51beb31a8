"""The common form of evidence: JSON-ready, rounded, times relative to what they are told against.

Keys that several checkers share, always with the same meaning:

- `errors`: how many failed in which way, `{class: count}`;
- `examples`: up to five operations, as `example` writes them;
- `requests`: how many operations were judged;
- `first_failure_seconds`, `last_failure_seconds`: when the first and last failed one was due, since the effect of
  the fault or the begin of the rollout (negative: before it); None without failures;
- `guards`: why nothing was really tested, one sentence each; empty when it was.

Must not: judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.checkers import bounds
from harness.model import FaultWindow, Operation

__all__ = [
    "done_to",
    "example",
    "examples",
    "failure_times",
    "goes_on",
    "kind_of",
    "listed",
    "milliseconds",
    "plural",
    "rounded",
]

_DONE = {
    "kill": "was killed",
    "stop": "was stopped",
    "hang": "was frozen",
    "restart": "was restarted",
    "cut-off-silence": "was cut off in silence",
    "cut-off-refusal": "was cut off and refused",
    "out-of-memory": "ran out of memory",
    "new-address": "came back under a new address",
    "reload": "was reloaded",
}


def rounded(seconds: float | None) -> float | None:
    """Seconds to a tenth of a millisecond; None, and infinity, which JSON cannot say, as None."""
    if seconds is None or seconds in (float("inf"), float("-inf")):
        return None
    return round(seconds, 4)


def example(op: Operation, *, since: float) -> dict[str, Any]:
    """One operation as a small dict; `due_seconds` counts from `since`."""
    return {
        "due_seconds": rounded(op.due - since),
        "latency_seconds": rounded(op.latency),
        "stream": op.stream,
        "kind": op.kind,
        "method": op.method,
        "path": op.path,
        "visitor": op.visitor,
        "via": op.via,
        "connection": op.connection.value,
        "instance": op.instance,
        "attempts": list(op.attempts),
        "status": op.status,
        "answer": op.answer.value,
        "error": op.error,
        "detail": op.detail,
    }


def examples(operations: Iterable[Operation], *, since: float) -> list[dict[str, Any]]:
    """The first few, in the order in which they were due."""
    ordered = sorted(operations, key=lambda op: op.due)
    return [example(op, since=since) for op in ordered[: bounds.EXAMPLES]]


def failure_times(failed: Sequence[Operation], *, since: float) -> dict[str, Any]:
    """When the first and the last of them was due."""
    dues = [op.due for op in failed]
    return {
        "first_failure_seconds": rounded(min(dues) - since) if dues else None,
        "last_failure_seconds": rounded(max(dues) - since) if dues else None,
    }


def kind_of(fault: FaultWindow) -> str:
    """`kill`, `stop`, `hang`, `cut-off-silence` …: the part of its name that is known, or else its first word."""
    name = fault.fault
    return next((kind for kind in _DONE if f"{name}-".startswith(f"{kind}-")), name.partition("-")[0])


def goes_on(fault: FaultWindow) -> bool:
    """Whether the same process goes on when it is healed: nothing was started anew."""
    return kind_of(fault) in ("hang", "cut-off-silence", "cut-off-refusal")


def done_to(fault: FaultWindow) -> str:
    """Such as `app-1 was killed`."""
    kind = kind_of(fault)
    return f"{fault.node} {_DONE[kind]}" if kind in _DONE else f"the fault {fault.fault} on {fault.node}"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def milliseconds(seconds: float) -> str:
    """Such as `12 ms`, and `1.2 s` from one second on."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def plural(count: int, thing: str) -> str:
    """`1 request`, `1,204 requests`, `2 people`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {'people' if thing == 'person' else thing + 's'}"
