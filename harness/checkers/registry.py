"""Checkers by name, so that a stored run is judged again with the very bounds it was judged with.

Must not: judge.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import MappingProxyType
from typing import Any, cast

from harness.checkers.balancing import (
    BalancerComesBack,
    DownloadsAreFinished,
    DrainedIsLeftAlone,
    LateJoinerIsNotFlooded,
    ReloadCostsNothing,
)
from harness.checkers.deploy import DeployCostsNothing
from harness.checkers.distribution import EveryInstanceGetsTraffic, SharesFitTheAlgorithm
from harness.checkers.edge import (
    ClientAddressIsTrue,
    ForgeriesAreNotBelieved,
    HeadersAreEverywhere,
    HttpIsSentToHttps,
    OnlySecureVersions,
    SchemeIsKnown,
)
from harness.checkers.failover import NobodyElseAnswers, RequestsSurviveLoss, VictimRejoins
from harness.checkers.guards import EnoughTraffic, OnTime
from harness.checkers.instances import EveryInstanceAnswers, InstancesAgree
from harness.checkers.mixing import AssetsAreEverywhere, SessionsCrossVersions
from harness.checkers.orchestrator import BadVersionIsTakenBack, LostReplicaIsReplaced, ScalingCostsNothing
from harness.checkers.replacing import CapacityIsKept, SwitchCostsNothing
from harness.checkers.rollout import InFlightFinishes, RolloutCostsNothing
from harness.checkers.session_changes import ChangesSurvive, StepsAreCounted
from harness.checkers.session_crossing import LoginCrossesInstances, TokenIsAcceptedElsewhere
from harness.checkers.session_guard import CookieIsGuarded, NobodyElsesPage, OldIdIsNobody, ReplayIsRefused
from harness.checkers.session_trouble import GivingUpCostsNothing, LifeIsKept, OverloadIsNoLogout
from harness.checkers.sessions import (
    LogoutHoldsEverywhere,
    NoSessionLost,
    SessionOnEveryInstance,
    SessionsSurviveRestart,
)
from harness.checkers.shutdown import DrainsInOrder, EndsOnItsSignal, LongRequestsFinish, StreamsAreEnded
from harness.checkers.state import (
    BootsTogether,
    ErrorsHaveStatus,
    EverybodyHears,
    FilesAreEverywhere,
    IdleConnectionsAreKept,
    JobsGoOn,
    JobsRunOnce,
    KeyActsOnce,
    LimitIsShared,
    NamesAreUnique,
    NumbersAreUnique,
    ReadyIsTruthful,
    SettingsReachEveryInstance,
    TallyLosesNothing,
)
from harness.checkers.trouble import NobodyIsInTrouble
from harness.checkers.upstream import BalancerSeesTheTruth, BoundPeopleMove, BurstIsForgotten, SentOnce
from harness.model import Checker, History, Verdict

__all__ = ["describe", "from_description", "registry", "run_safely"]

_CHECKERS: Mapping[str, type[Checker]] = MappingProxyType(
    {
        checker.__name__: checker
        for checker in (
            EveryInstanceAnswers,
            InstancesAgree,
            NobodyIsInTrouble,
            SessionOnEveryInstance,
            NoSessionLost,
            SessionsSurviveRestart,
            LogoutHoldsEverywhere,
            ChangesSurvive,
            StepsAreCounted,
            LoginCrossesInstances,
            TokenIsAcceptedElsewhere,
            CookieIsGuarded,
            NobodyElsesPage,
            OldIdIsNobody,
            ReplayIsRefused,
            GivingUpCostsNothing,
            LifeIsKept,
            OverloadIsNoLogout,
            EveryInstanceGetsTraffic,
            SharesFitTheAlgorithm,
            RequestsSurviveLoss,
            VictimRejoins,
            NobodyElseAnswers,
            RolloutCostsNothing,
            DeployCostsNothing,
            InFlightFinishes,
            LostReplicaIsReplaced,
            ScalingCostsNothing,
            BadVersionIsTakenBack,
            HttpIsSentToHttps,
            OnlySecureVersions,
            HeadersAreEverywhere,
            SchemeIsKnown,
            ClientAddressIsTrue,
            ForgeriesAreNotBelieved,
            FilesAreEverywhere,
            NumbersAreUnique,
            LimitIsShared,
            KeyActsOnce,
            NamesAreUnique,
            TallyLosesNothing,
            SettingsReachEveryInstance,
            JobsRunOnce,
            JobsGoOn,
            EverybodyHears,
            IdleConnectionsAreKept,
            BootsTogether,
            ReadyIsTruthful,
            ErrorsHaveStatus,
            ReloadCostsNothing,
            DownloadsAreFinished,
            DrainedIsLeftAlone,
            BalancerComesBack,
            BalancerSeesTheTruth,
            SentOnce,
            BurstIsForgotten,
            BoundPeopleMove,
            LateJoinerIsNotFlooded,
            EndsOnItsSignal,
            DrainsInOrder,
            LongRequestsFinish,
            StreamsAreEnded,
            CapacityIsKept,
            SwitchCostsNothing,
            SessionsCrossVersions,
            AssetsAreEverywhere,
            EnoughTraffic,
            OnTime,
        )
    }
)


def registry() -> Mapping[str, type[Checker]]:
    """Every checker by the name of its class."""
    return _CHECKERS


def describe(checker: Checker) -> dict[str, Any]:
    """The checker as JSON-ready data: its name and every bound it holds.

    Raises TypeError for what is not registered.
    """
    name = type(checker).__name__
    if _CHECKERS.get(name) is not type(checker):
        raise TypeError(f"{name} is not a registered checker")
    # The protocol cannot say it, a test does: every registered checker is a frozen dataclass.
    return {"checker": name, "bounds": asdict(cast("Any", checker))}


def from_description(description: Mapping[str, Any]) -> Checker:
    """The checker that `describe` described, also after a trip through JSON.

    Raises ValueError for an unknown checker or bound: a run stored by another version is not judged by guesswork.
    """
    name = description.get("checker")
    if not isinstance(name, str) or name not in _CHECKERS:
        raise ValueError(f"checker: no checker is named {name!r}; known are {', '.join(_CHECKERS)}")
    given = description.get("bounds", {})
    return cast("Checker", _built(_CHECKERS[name], given, where=name))


def _built(kind: type[Any], given: Mapping[str, Any], *, where: str) -> Any:
    """An instance of a dataclass from plain data; a field whose default is a dataclass is built the same way."""
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown bounds {', '.join(unknown)}; known are {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        default = known[name].default
        if is_dataclass(default) and isinstance(value, Mapping):
            values[name] = _built(type(default), value, where=f"{where}.{name}")
        elif isinstance(default, tuple) and isinstance(value, list):
            values[name] = tuple(value)  # JSON has only lists
        else:
            values[name] = value
    try:
        return kind(**values)
    except TypeError as problem:
        raise ValueError(f"{where}: {problem}") from problem


def run_safely(checker: Checker, history: History) -> Verdict:
    """The verdict of the checker; a checker that crashes gives a rig-error, never silence and never a pass."""
    try:
        return checker.check(history)
    except Exception as problem:  # noqa: BLE001 - whatever a checker raises is our mistake, and the report must say so
        return Verdict.rig_error(
            f"{type(checker).__name__} crashed: {type(problem).__name__}: {problem}",
            checker=type(checker).__name__,
            error=f"{type(problem).__name__}: {problem}",
            traceback=traceback.format_exception(problem),
        )
