"""The judges: pure functions from a history to a verdict, each a frozen dataclass whose fields are its bounds.

A checker never passes on silence: what was not really tested is inconclusive, and its verdict says what was
missing. Must not: import anything but `harness.model` and the standard library, do I/O, or read clocks.
"""

from __future__ import annotations

from harness.checkers.bounds import LossBounds
from harness.checkers.distribution import EveryInstanceGetsTraffic, SharesFitTheAlgorithm
from harness.checkers.failover import RequestsSurviveLoss, VictimRejoins
from harness.checkers.guards import EnoughTraffic, OnTime
from harness.checkers.instances import EveryInstanceAnswers, InstancesAgree
from harness.checkers.registry import describe, from_description, registry, run_safely
from harness.checkers.rollout import InFlightFinishes, RolloutCostsNothing
from harness.checkers.sessions import (
    LogoutHoldsEverywhere,
    NoSessionLost,
    SessionOnEveryInstance,
    SessionsSurviveRestart,
)

__all__ = [
    "EnoughTraffic",
    "EveryInstanceAnswers",
    "EveryInstanceGetsTraffic",
    "InFlightFinishes",
    "InstancesAgree",
    "LogoutHoldsEverywhere",
    "LossBounds",
    "NoSessionLost",
    "OnTime",
    "RequestsSurviveLoss",
    "RolloutCostsNothing",
    "SessionOnEveryInstance",
    "SessionsSurviveRestart",
    "SharesFitTheAlgorithm",
    "VictimRejoins",
    "describe",
    "from_description",
    "registry",
    "run_safely",
]
