"""What was concluded, and why it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from harness.model.facts import History

__all__ = ["Cause", "Checker", "Confidence", "Finding", "Status", "Verdict", "worst"]


class Status(StrEnum):
    """Only PASS is green. INCONCLUSIVE: nothing was really tested. RIG_ERROR: the harness itself failed."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    RIG_ERROR = "rig-error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker concluded: `measured` in one line with units, `evidence` as JSON-ready facts for diagnosis."""

    status: Status
    measured: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def passed(cls, measured: str, **evidence: Any) -> Verdict:
        return cls(Status.PASS, measured, evidence)

    @classmethod
    def fail(cls, measured: str, **evidence: Any) -> Verdict:
        return cls(Status.FAIL, measured, evidence)

    @classmethod
    def inconclusive(cls, measured: str, **evidence: Any) -> Verdict:
        return cls(Status.INCONCLUSIVE, measured, evidence)

    @classmethod
    def rig_error(cls, measured: str, **evidence: Any) -> Verdict:
        return cls(Status.RIG_ERROR, measured, evidence)


# A broken promise that was seen stays broken whatever else went wrong; a crashed checker outranks a thin sample.
_RANK = {Status.FAIL: 0, Status.RIG_ERROR: 1, Status.INCONCLUSIVE: 2, Status.PASS: 3}


def worst(statuses: Iterable[Status]) -> Status:
    """The status of several taken together: fail, then rig-error, then inconclusive, and pass only when all pass.

    Nothing at all is inconclusive: an empty set of checks has tested nothing.
    """
    return min(statuses, key=_RANK.__getitem__, default=Status.INCONCLUSIVE)


class Checker(Protocol):
    """A pure judge. A frozen dataclass whose fields are its bounds, so that a stored run can be judged again."""

    def check(self, history: History) -> Verdict: ...


class Confidence(StrEnum):
    """How surely a cause was told from its rivals."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a promise is not kept: never without evidence."""

    id: str
    """A short name in kebab-case, such as `session-in-memory`."""
    sentence: str
    confidence: Confidence
    evidence: tuple[str, ...]
    against: tuple[str, ...] = ()
    remedy: str
    guide: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict on one promise in one scenario, with its causes, most likely first."""

    promise: str
    scenario: str
    verdict: Verdict
    causes: tuple[Cause, ...] = ()
    seconds: float = 0.0
