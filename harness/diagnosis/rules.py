"""Every rule, and the id of the cause each can name: the name of its function, with hyphens.

Must not: hold a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from harness.diagnosis import (
    balancer_rules,
    deploy_rules,
    edge_rules,
    orchestrator_rules,
    replacing_rules,
    session_life_rules,
    session_rules,
    shutdown_rules,
    state_rules,
    store_rules,
    traffic_rules,
    trouble_rules,
)
from harness.diagnosis.case import Case
from harness.model import Cause

__all__ = ["RULES", "Rule"]

Rule = Callable[[Case], Cause | None]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        name.replace("_", "-"): getattr(module, name)
        for module in (
            session_rules,
            session_life_rules,
            traffic_rules,
            orchestrator_rules,
            edge_rules,
            state_rules,
            store_rules,
            balancer_rules,
            shutdown_rules,
            replacing_rules,
            deploy_rules,
            trouble_rules,
        )
        for name in module.__all__
    }
)
"""By the id of the cause. The order has no meaning: causes are ordered by how sure they are."""
