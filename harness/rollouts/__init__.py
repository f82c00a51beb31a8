"""How a new version replaces the old one: each a frozen dataclass applied to anything that has the verbs it needs.

A rollout does what a deploy script does and writes down each step; it never judges. Must not: know
any platform or balancer.
"""

from __future__ import annotations

from harness.rollouts.blue_green import BlueGreen, Side, Sides
from harness.rollouts.rollouts import AllAtOnce, Rolling, Rollout, Site, rollout_for

__all__ = ["AllAtOnce", "BlueGreen", "Rolling", "Rollout", "Side", "Sides", "Site", "rollout_for"]
