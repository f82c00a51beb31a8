"""One sentence a setup keeps to its users, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Promise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What is promised, how it is measured and what usually breaks it."""

    id: str
    """Two parts, such as `session.every-instance`."""
    sentence: str
    """The promise in one sentence, as a user would say it."""
    measured: str
    """What is done and counted to judge it."""
    bound: str
    """What the measurement is held against, with units."""
    broken_by: str
    """What usually breaks it."""
    remedy: str
    """What usually mends it."""
    guide: str
    """The section of the founding guide it comes from."""
