"""What is broken on purpose: each a frozen dataclass whose `str` is its name, and a context manager over a node.

Entering breaks the node and proves that it is broken; leaving heals it, also when the body raised.
A fault asks a node for exactly one ability. Must not: record or judge anything (the cluster does that).
"""

from __future__ import annotations

from harness.faults.faults import CutOff, Fault, Hang, Kill, NewAddress, OutOfMemory, Stop

__all__ = ["CutOff", "Fault", "Hang", "Kill", "NewAddress", "OutOfMemory", "Stop"]
