"""The outer face of a setup: single looks at its balancer as somebody sees it who comes from outside.

What is looked at is written down as it was seen, one look each; nothing is tried a second time. Must not: conclude
anything, or send what is measured (that is `traffic`).
"""

from __future__ import annotations

from harness.edge.looks import Edge

__all__ = ["Edge"]
