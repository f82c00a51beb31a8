"""Limits of connections, as servers complain of them in their logs. Must not: keep or show anything else of a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Complaints", "complaint_in"]

_WORDS = {
    "worker_connections are not enough": "worker_connections are not enough (balancer)",
    "too many clients already": "too many clients already (max_connections of Postgres)",
    "remaining connection slots are reserved": "no connection slots left (max_connections of Postgres)",
    "max number of clients reached": "max number of clients reached (maxclients of Redis)",
    "Too many open files": "too many open files (the limit of descriptors)",
    "couldn't get a connection after": "no connection free in the pool (psycopg)",
    "QueuePool limit of size": "no connection free in the pool (SQLAlchemy)",
}
_LAST_LINES = 500


class _Speaker(Protocol):
    @property
    def name(self) -> str: ...
    def last_log_lines(self, count: int = 10) -> list[str]: ...


def complaint_in(line: str) -> str | None:
    """What a line of a log complains of, in words of ours; None when it does not."""
    return next((told for words, told in _WORDS.items() if words in line), None)


class Complaints:
    """What nodes complain of, from one look to the next."""

    def __init__(self, nodes: Sequence[_Speaker]) -> None:
        self._nodes = nodes
        self._heard: set[tuple[str, str]] = set()

    def new(self) -> tuple[str, ...]:
        """What was said since the last time, each once for each node.

        Of the last lines alone: an engine that is asked for all of a long log is busy with that for many seconds.
        """
        found: dict[str, None] = {}
        for node in self._nodes:
            for line in node.last_log_lines(_LAST_LINES):
                told = complaint_in(line)
                # A line holds its time in most logs, so that the same line is the same complaint.
                if told is not None and (node.name, line) not in self._heard:
                    self._heard.add((node.name, line))
                    found[f"{node.name}: {told}"] = None
        return tuple(found)
