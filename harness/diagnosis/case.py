"""Everything a rule may look at: one finding, all others of the run, what was looked up, and the setup's facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model import Finding, Look

__all__ = ["Case"]

_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A promise that is not kept, and what else is known."""

    finding: Finding
    findings: Sequence[Finding]
    facts: Mapping[str, Any]
    looks: Sequence[Look]

    def evidence(self, checker: str) -> Mapping[str, Any]:
        """What this checker found about the promise in question; empty when it had no part in it."""
        found: Mapping[str, Any] = self.finding.verdict.evidence.get(checker, _EMPTY)
        return found

    def elsewhere(self, checker: str) -> Iterator[Mapping[str, Any]]:
        """What this checker found anywhere in the run."""
        for finding in self.findings:
            if checker in finding.verdict.evidence:
                yield finding.verdict.evidence[checker]

    # -- what several rules ask -------------------------------------------------------------------------------

    @property
    def sessions_lost(self) -> bool:
        """Whether this finding is about people who were taken for nobody."""
        return any(
            (
                self.evidence("SessionOnEveryInstance").get("logged_out"),
                self.evidence("NoSessionLost").get("lost"),
                self.evidence("SessionsSurviveRestart").get("pairs_lost"),
                self.evidence("RolloutCostsNothing").get("sessions", _EMPTY).get("lost"),
            )
        )

    @property
    def differing(self) -> frozenset[str]:
        """What the instances did not agree on, wherever that was looked at."""
        return frozenset(key for seen in self.elsewhere("InstancesAgree") for key in seen.get("differing", ()))

    def keys_per_login(self) -> float | None:
        """Sessions that appeared in the shared store for each acknowledged login. None: nobody could look."""
        logins = appeared = 0
        for look in self.looks:
            if look.what == "sessions-stored" and look.value.get("before") is not None:
                logins += look.value["logins"]
                appeared += look.value["after"] - look.value["before"]
        return appeared / logins if logins else None

    @property
    def at_home(self) -> tuple[int, int]:
        """Times a session was recognised by the instance it began on, of times that instance was asked."""
        return self._recognised(home=True)

    @property
    def away(self) -> tuple[int, int]:
        """The same for all other instances."""
        return self._recognised(home=False)

    def _recognised(self, *, home: bool) -> tuple[int, int]:
        recognised = asked = 0
        matrices = [seen.get("matrix", _EMPTY) for seen in self.elsewhere("SessionOnEveryInstance")]
        matrices += [seen.get("balancer_matrix", _EMPTY) for seen in self.elsewhere("SessionOnEveryInstance")]
        if not matrices:
            matrices = [seen.get("matrix", _EMPTY) for seen in self.elsewhere("NoSessionLost")]
            matrices += [
                seen.get("sessions", _EMPTY).get("matrix", _EMPTY) for seen in self.elsewhere("RolloutCostsNothing")
            ]
        for matrix in matrices:
            for began, row in matrix.items():
                for who, cell in row.items():
                    if (began == who) is home:
                        recognised += cell["recognised"]
                        asked += cell["recognised"] + cell["logged_out"] + cell["somebody_else"]
        return recognised, asked
