"""The judges: pure functions from a history to a verdict, each a frozen dataclass whose fields are its bounds.

A checker never passes on silence: what was not really tested is inconclusive, and its verdict says what was
missing. Must not: import anything but `harness.model` and the standard library, do I/O, or read clocks.
"""

from __future__ import annotations

from harness.checkers.balancing import (
    BalancerComesBack,
    DownloadsAreFinished,
    DrainedIsLeftAlone,
    LateJoinerIsNotFlooded,
    ReloadCostsNothing,
)
from harness.checkers.bounds import LossBounds
from harness.checkers.deploy import COMMAND, DeployCostsNothing
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
from harness.checkers.guards import EnoughTraffic, OnTime, contradictions, weakened
from harness.checkers.instances import EveryInstanceAnswers, InstancesAgree
from harness.checkers.mixing import AssetsAreEverywhere, SessionsCrossVersions
from harness.checkers.orchestrator import BadVersionIsTakenBack, LostReplicaIsReplaced, ScalingCostsNothing
from harness.checkers.registry import describe, from_description, registry, run_safely
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
from harness.checkers.trouble import TROUBLE, NobodyIsInTrouble
from harness.checkers.upstream import BalancerSeesTheTruth, BoundPeopleMove, BurstIsForgotten, SentOnce

__all__ = [
    "COMMAND",
    "TROUBLE",
    "AssetsAreEverywhere",
    "BadVersionIsTakenBack",
    "BalancerComesBack",
    "BalancerSeesTheTruth",
    "BootsTogether",
    "BoundPeopleMove",
    "BurstIsForgotten",
    "CapacityIsKept",
    "ChangesSurvive",
    "ClientAddressIsTrue",
    "CookieIsGuarded",
    "DeployCostsNothing",
    "DownloadsAreFinished",
    "DrainedIsLeftAlone",
    "DrainsInOrder",
    "EndsOnItsSignal",
    "EnoughTraffic",
    "ErrorsHaveStatus",
    "EveryInstanceAnswers",
    "EveryInstanceGetsTraffic",
    "EverybodyHears",
    "FilesAreEverywhere",
    "ForgeriesAreNotBelieved",
    "GivingUpCostsNothing",
    "HeadersAreEverywhere",
    "HttpIsSentToHttps",
    "IdleConnectionsAreKept",
    "InFlightFinishes",
    "InstancesAgree",
    "JobsGoOn",
    "JobsRunOnce",
    "KeyActsOnce",
    "LateJoinerIsNotFlooded",
    "LifeIsKept",
    "LimitIsShared",
    "LoginCrossesInstances",
    "LogoutHoldsEverywhere",
    "LongRequestsFinish",
    "LossBounds",
    "LostReplicaIsReplaced",
    "NamesAreUnique",
    "NoSessionLost",
    "NobodyElseAnswers",
    "NobodyElsesPage",
    "NobodyIsInTrouble",
    "NumbersAreUnique",
    "OldIdIsNobody",
    "OnTime",
    "OnlySecureVersions",
    "OverloadIsNoLogout",
    "ReadyIsTruthful",
    "ReloadCostsNothing",
    "ReplayIsRefused",
    "RequestsSurviveLoss",
    "RolloutCostsNothing",
    "ScalingCostsNothing",
    "SchemeIsKnown",
    "SentOnce",
    "SessionOnEveryInstance",
    "SessionsCrossVersions",
    "SessionsSurviveRestart",
    "SettingsReachEveryInstance",
    "SharesFitTheAlgorithm",
    "StepsAreCounted",
    "StreamsAreEnded",
    "SwitchCostsNothing",
    "TallyLosesNothing",
    "TokenIsAcceptedElsewhere",
    "VictimRejoins",
    "contradictions",
    "describe",
    "from_description",
    "registry",
    "run_safely",
    "weakened",
]
