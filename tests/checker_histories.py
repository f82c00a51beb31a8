"""Hand-written histories for the tests of checkers: small builders, and one healthy history for each scenario.

A test starts from a healthy history and doctors exactly one thing. Times are seconds on the history's own clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any

from harness.model import (
    Answer,
    Connection,
    FaultWindow,
    History,
    Look,
    Operation,
    Outcome,
    Pace,
    RolloutStep,
    Status,
    Verdict,
)

__all__ = [
    "APPS",
    "EMPTY",
    "doctored",
    "evidence_is_json",
    "failed",
    "fault",
    "history",
    "login",
    "logout",
    "look",
    "note",
    "op",
    "pace",
    "status_of",
    "step",
    "traffic",
    "whoami",
    "without",
]

APPS = ("app-1", "app-2", "app-3")
EMPTY = History(scenario="empty", seed=1, instances=())


def op(due: float = 0.0, **changes: Any) -> Operation:
    """A GET that was answered properly by `instance` after `latency` seconds. `via` an instance: that one answered."""
    latency = changes.pop("latency", 0.008)
    via = changes.get("via", "balancer")
    instance = changes.pop("instance", via if via != "balancer" else "app-1")
    given: dict[str, Any] = {
        "stream": "browse",
        "kind": "whoami",
        "step": 0,
        "final": True,
        "visitor": "v1",
        "method": "GET",
        "path": "/dashboard",
        "via": via,
        "connection": Connection.FRESH,
        "due": due,
        "sent": due,
        "answered": due + latency,
        "instance": instance,
        "attempts": (instance,) if via == "balancer" and instance is not None else (),
        "status": 200,
        "outcome": Outcome.OK,
        "answer": Answer.RECOGNISED,
    }
    return Operation(**(given | changes))


def failed(due: float = 0.0, *, error: str = "http-502", **changes: Any) -> Operation:
    """A request that failed; 5xx are answers, everything else has none."""
    answered = due + changes.pop("latency", 0.005) if error.startswith("http-") else None
    status = int(error[5:]) if error.startswith("http-") else None
    given = {"outcome": Outcome.UNKNOWN, "answer": Answer.FAILED, "error": error, "status": status}
    given |= {"answered": answered, "instance": None, "attempts": ("app-1",)} | changes
    return op(due, **given)


def login(visitor: str, due: float, *, via: str = "balancer", **changes: Any) -> Operation:
    """The last step of a login, acknowledged."""
    changes = {"kind": "login", "method": "POST", "path": "/login", "stream": "arrive", "status": 303} | changes
    return op(due, visitor=visitor, via=via, **{"answer": Answer.DONE} | changes)


def logout(visitor: str, due: float, *, via: str, **changes: Any) -> Operation:
    changes = {"kind": "logout", "method": "POST", "path": "/logout", "stream": "leave", "status": 303} | changes
    return op(due, visitor=visitor, via=via, **{"answer": Answer.DONE} | changes)


def whoami(
    visitor: str, due: float, *, via: str = "balancer", answer: Answer = Answer.RECOGNISED, **changes: Any
) -> Operation:
    """A look-up. Being logged out, or taken for somebody else, is an answer."""
    errors = {Answer.LOGGED_OUT: "logged-out", Answer.SOMEBODY_ELSE: "wrong-user"}
    given: dict[str, Any] = {"answer": answer, "stream": "visits"}
    if answer is not Answer.RECOGNISED:
        given |= {"outcome": Outcome.FAILED, "error": errors.get(answer, "http-500")}
    return op(due, visitor=visitor, via=via, **given | changes)


def traffic(
    begin: float,
    end: float,
    *,
    rate: float = 100.0,
    instances: Iterable[str] = APPS,
    visitors: int = 20,
    **changes: Any,
) -> list[Operation]:
    """Evenly spaced requests through the balancer in [begin, end), one instance after the other.

    Every seventh is a write, every other on a reused connection.
    """
    names = tuple(instances)
    made = []
    for i in count():
        due = begin + i / rate
        if due >= end - 1e-9:
            return made
        given: dict[str, Any] = {
            "instance": names[i % len(names)],
            "visitor": f"v{i % visitors}",
            "connection": Connection.REUSED if i % 2 else Connection.FRESH,
        }
        if i % 7 == 3:
            given |= {"kind": "write", "method": "POST", "path": "/notes", "answer": Answer.DONE, "status": 201}
        made.append(op(due, **given | changes))
    raise AssertionError("unreachable")


def fault(
    kind: str = "kill",
    node: str = "app-1",
    *,
    injected: float = 1.0,
    effective: float | None = 1.02,
    healing: float = 5.0,
    healed: float | None = 5.5,
) -> FaultWindow:
    return FaultWindow(
        fault=kind, node=node, injected=injected, effective=effective, healing=healing, healed=healed, proof="seen"
    )


def step(name: str, node: str, at: float, **changes: Any) -> RolloutStep:
    return RolloutStep(step=name, node=node, at=at, **changes)


def look(what: str, node: str, at: float = 0.0, *, status: int | None = 200, **changes: Any) -> Look:
    return Look(what=what, node=node, at=at, status=status, **changes)


def note(written: str, read: str, *, ok: bool = True, error: str = "", answer: str = "") -> Look:
    value = {"written_via": written, "read_via": read, "ok": ok} | ({"answer": answer} if answer else {})
    return look("note", read, value=value, status=None, error=error)


def pace(stream: str, *, rate: float, begin: float, end: float, planned: int) -> Pace:
    return Pace(stream=stream, rate=rate, begin=begin, end=end, planned=planned, seed=1)


def history(operations: Iterable[Operation] = (), **changes: Any) -> History:
    """A history of three instances; operations are put in order. Lists become tuples."""
    given: dict[str, Any] = {"scenario": "by hand", "seed": 1, "instances": APPS}
    given |= {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    return History(operations=tuple(sorted(operations, key=lambda op: op.due)), **given)


def doctored(of: History, change: Callable[[Operation], Operation | None]) -> History:
    """The same history with each operation changed; None takes it out."""
    changed = [new for old in of.operations if (new := change(old)) is not None]
    return replace(of, operations=tuple(sorted(changed, key=lambda op: op.due)))


def without(of: History, unwanted: Callable[[Operation], bool]) -> History:
    return doctored(of, lambda old: None if unwanted(old) else old)


def status_of(verdict: Verdict) -> str:
    """The status, after making sure that everything said can be written down."""
    evidence_is_json(verdict)
    assert verdict.measured
    assert "\n" not in verdict.measured
    return verdict.status.value


def evidence_is_json(verdict: Verdict) -> None:
    """Evidence goes through JSON unchanged: no tuples, no infinities, no keys but text."""
    evidence = dict(verdict.evidence)
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


PASS, FAIL, INCONCLUSIVE, RIG_ERROR = (status.value for status in Status)
