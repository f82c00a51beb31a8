"""Where nodes run: what a node is to the rest of the harness, and one module per platform that runs them.

Must not: know what a node is for (Postgres, nginx, an application): that is `services`.
"""

from __future__ import annotations

from harness.platforms.node import Hangable, Killable, Node, NodeSpec, Stoppable

__all__ = ["Hangable", "Killable", "Node", "NodeSpec", "Stoppable"]
