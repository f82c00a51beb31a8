"""Everything a rule may look at: one finding, all others of the run, what was looked up, and the setup's facts.

Must not: name a cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.checkers.guards import STARVED, WaitedForCores, waited_for_cores
from harness.model import Finding, Look, Status

__all__ = ["Case"]

_EMPTY: Mapping[str, Any] = {}
_FEW = 0.1
"""Share of logins that may leave no session in the store, or one by accident: each real session leaves one."""


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

    # -- who knows whose sessions -----------------------------------------------------------------------------

    @property
    def sessions_lost(self) -> bool:
        """Whether this finding is about people who were taken for nobody."""
        return any(
            (
                self.evidence("SessionOnEveryInstance").get("logged_out"),
                self.evidence("NoSessionLost").get("lost"),
                self.evidence("SessionsSurviveRestart").get("pairs_lost"),
                self.evidence("RolloutCostsNothing").get("sessions", _EMPTY).get("lost"),
                self.evidence("BalancerComesBack").get("logged_out"),
            )
        )

    @cached_property
    def camps(self) -> tuple[frozenset[str], ...]:
        """The instances, grouped by who recognised whose sessions at least once. One camp: all share them.

        Empty when nobody was asked, or not one session was recognised where it began.
        """
        camps: dict[str, frozenset[str]] = {}
        for began, who, cell in self._cells():
            for name in (began, who):
                camps.setdefault(name, frozenset([name]))
            if cell["recognised"]:
                together = camps[began] | camps[who]
                camps |= dict.fromkeys(together, together)
        return tuple(sorted(set(camps.values()), key=min)) if self.recognised(home=True)[0] else ()

    @property
    def apart(self) -> bool:
        """Whether some instances know nothing of the sessions of others."""
        return len(self.camps) > 1

    @property
    def shared(self) -> bool:
        """Whether every instance that was asked recognised the sessions of another."""
        return len(self.camps) == 1 and len(self.camps[0]) > 1

    def recognised(self, *, home: bool) -> tuple[int, int]:
        """How often a session was recognised, of how many times it was asked: where it began, or everywhere else."""
        recognised = asked = 0
        for began, who, cell in self._cells():
            if (began == who) is home:
                recognised += cell["recognised"]
                asked += _properly(cell)
        return recognised, asked

    def _cells(self) -> Iterator[tuple[str, str, Mapping[str, int]]]:
        """Where sessions began, who was asked, and what was answered. The scenario made for it speaks before others."""
        matrices = [seen.get(key, _EMPTY) for seen in self.elsewhere("SessionOnEveryInstance") for key in _MATRICES]
        if not matrices:
            matrices = [seen.get("matrix", _EMPTY) for seen in self.elsewhere("NoSessionLost")]
            matrices += [
                seen.get("sessions", _EMPTY).get("matrix", _EMPTY) for seen in self.elsewhere("RolloutCostsNothing")
            ]
        for matrix in matrices:
            for began, row in matrix.items():
                for who, cell in row.items():
                    if _properly(cell) and "(nobody)" not in (began, who):
                        yield began, who, cell

    # -- what the shared store was seen to hold ---------------------------------------------------------------

    @cached_property
    def _stored_per_login(self) -> Mapping[str, float]:
        """Sessions that appeared in the shared store for each acknowledged login, by where people logged in."""
        logins: dict[str, int] = {}
        appeared: dict[str, int] = {}
        for look in self.looks:
            before, after = look.value.get("before"), look.value.get("after")
            if look.what == "sessions-stored" and before is not None and after is not None and look.value["logins"]:
                logins[look.node] = logins.get(look.node, 0) + look.value["logins"]
                appeared[look.node] = appeared.get(look.node, 0) + after - before
        return {where: appeared[where] / count for where, count in logins.items()}

    @property
    def store_was_seen(self) -> bool:
        """Whether anybody could look into the shared store while people logged in."""
        return bool(self._stored_per_login)

    @property
    def stored(self) -> bool:
        """Whether every login, wherever it was, left a session in the shared store."""
        return self.store_was_seen and min(self._stored_per_login.values()) >= 1 - _FEW

    @property
    def traceless(self) -> frozenset[str]:
        """Where people logged in (instances, or `balancer`) and no session appeared in the shared store."""
        return frozenset(where for where, stored in self._stored_per_login.items() if stored < _FEW)

    @property
    def all_traceless(self) -> bool:
        return self.store_was_seen and len(self.traceless) == len(self._stored_per_login)

    @property
    def sessions_left(self) -> int | None:
        """The fewest sessions the shared store held after they should have been used. None: nobody could look."""
        counts = (look.value.get("sessions") for look in self.looks if look.what == "sessions-left")
        return min((count for count in counts if count is not None), default=None)

    def removed_by_logouts(self) -> tuple[int, int] | None:
        """How many sessions left the shared store, and in how many logouts. None: nobody could look."""
        for look in self.looks:
            before, after = look.value.get("before"), look.value.get("after")
            if look.what == "sessions-at-logout" and before is not None and after is not None:
                logouts = int(look.value.get("logouts", 0))
                return (max(0, before - after), logouts) if logouts else None
        return None

    @property
    def kept_over_restart(self) -> int:
        """Sessions that were known again after every instance had been started anew."""
        return sum(seen.get("pairs_kept", 0) for seen in self.elsewhere("SessionsSurviveRestart"))

    # -- what nodes wrote to their logs -----------------------------------------------------------------------

    @property
    def complaints(self) -> Iterator[Mapping[str, Any]]:
        """What nodes complained of while instances failed people in the scenario of this finding."""
        return (
            look.value
            for look in self.looks
            if look.what == "complaints" and look.value["scenario"] == self.finding.scenario
        )

    @property
    def waited(self) -> WaitedForCores | None:
        """Who was given no core for the largest part of the scenario of this finding. None: nobody, or nobody could look."""
        return waited_for_cores(look for look in self.looks if look.value.get("scenario") == self.finding.scenario)

    @cached_property
    def untold(self) -> tuple[str, ...]:
        """Why nothing could be told of this promise, where that is for want of cores (`weakened`); empty where it is not."""
        if self.finding.verdict.status is not Status.INCONCLUSIVE:
            return ()
        # A verdict that no checker reached has evidence of another form.
        told = [seen.get(STARVED) for seen in self.finding.verdict.evidence.values() if isinstance(seen, Mapping)]
        return tuple(dict.fromkeys(str(each) for each in told if each is not None))

    # -- what instances say of themselves ---------------------------------------------------------------------

    @property
    def differing(self) -> frozenset[str]:
        """What the instances did not agree on, wherever that was looked at."""
        return frozenset(key for seen in self.elsewhere("InstancesAgree") for key in seen.get("differing", ()))

    @property
    def agreed(self) -> frozenset[str]:
        """What all instances were asked and told alike."""
        compared = {key for seen in self.elsewhere("InstancesAgree") for key in seen.get("compared", ())}
        return frozenset(compared) - self.differing

    def groups(self, key: str) -> tuple[tuple[str, ...], ...]:
        """The instances by what they told of `key`; empty when nobody was asked."""
        for seen in self.elsewhere("InstancesAgree"):
            if key in seen.get("groups", _EMPTY):
                return tuple(tuple(names) for names in seen["groups"][key].values())
        return ()

    def differs(self, key: str) -> bool:
        """Whether this finding itself is about what the instances tell of `key`."""
        return key in self.evidence("InstancesAgree").get("differing", ())


_MATRICES = ("matrix", "balancer_matrix")


def _properly(cell: Mapping[str, int]) -> int:
    return cell["recognised"] + cell["logged_out"] + cell["somebody_else"]
