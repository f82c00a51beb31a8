"""Proves or disproves that a distributed web setup keeps its promises to users.

Importing this package does no I/O and imports nothing heavy: the reaper starts from it.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
