"""Where nodes run: what a node is to the rest of the harness, and one module per platform that runs them.

Must not: know what a node is for (Postgres, nginx, an application): that is `services`.
"""

from __future__ import annotations

from harness.platforms.node import (
    ContainerSpec,
    CutOff,
    Elsewhere,
    Hangable,
    Inspectable,
    Killable,
    Measurable,
    MemoryBound,
    Node,
    NodeSpec,
    Relocatable,
    Replaceable,
    Spec,
    Stoppable,
    log_in_words,
)
from harness.platforms.replica import HealthCheck, Orchestrator, Outcome, Replica, ReplicatedSpec, Update

__all__ = [
    "ContainerSpec",
    "CutOff",
    "Elsewhere",
    "Hangable",
    "HealthCheck",
    "Inspectable",
    "Killable",
    "Measurable",
    "MemoryBound",
    "Node",
    "NodeSpec",
    "Orchestrator",
    "Outcome",
    "Relocatable",
    "Replaceable",
    "Replica",
    "ReplicatedSpec",
    "Spec",
    "Stoppable",
    "Update",
    "log_in_words",
]
