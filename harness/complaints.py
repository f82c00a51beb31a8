"""What servers and clients complain of in their logs: limits of connections, and whom they do not reach.

Must not: keep or show anything of a log but the words of a complaint.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from harness import clock
from harness.model import UNNAMED, ComplaintKind, History, Look

__all__ = ["Complaint", "Complaints", "complaint_in"]

_LIMIT, _FULL, _EMPTY, _DATABASE, _STORE = (
    ComplaintKind.LIMIT,
    ComplaintKind.DATABASE_FULL,
    ComplaintKind.POOL_EMPTY,
    ComplaintKind.DATABASE_AWAY,
    ComplaintKind.STORE_AWAY,
)
_NOT_REACHED = r"(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|dial tcp)"
"""As Node.js and Go tell it, before the address."""
_PATTERNS: tuple[tuple[ComplaintKind, str, str], ...] = (
    (_LIMIT, r"worker_connections are not enough", "(balancer)"),
    (_LIMIT, r"Too many open files", "(the limit of descriptors)"),
    (_LIMIT, r"max number of clients reached", "(maxclients of Redis)"),
    (_FULL, r"too many clients already", "(max_connections of Postgres)"),
    (_FULL, r"remaining connection slots are reserved", "(max_connections of Postgres)"),
    (_FULL, r'too many connections for (?:role|database) "[^"]{1,60}"', "(its limit in Postgres)"),
    (_EMPTY, r"couldn't get a connection after [\d.]+ sec", "(the pool of psycopg)"),
    (_EMPTY, r"QueuePool limit of size \d+ overflow \d+ reached", "(the pool of SQLAlchemy)"),
    (_EMPTY, r"Connection is not available, request timed out after \d+ms", "(the pool of HikariCP)"),
    (_EMPTY, r"Timed out fetching a new connection from the connection pool", "(the pool of Prisma)"),
    (_EMPTY, r"Timeout acquiring a connection", "(the pool of Knex)"),
    (_EMPTY, r"could not obtain a connection from the pool within [\d.]+ seconds", "(the pool of Active Record)"),
    (_EMPTY, r"timeout exceeded when trying to connect", "(the pool of node-postgres)"),
    (
        _DATABASE,
        # Not where the server answered: what it says itself has patterns of its own.
        r'connection to server at "[^"]{1,80}"(?: \([^)]{1,60}\))?, port \d+ failed: (?!FATAL)[\w ]{1,60}',
        "",
    ),
    (_DATABASE, r'could not translate host name "[^"]{1,80}" to address', ""),
    (_DATABASE, r'password authentication failed for user "[^"]{1,60}"', ""),
    (_DATABASE, r'no pg_hba\.conf entry for host "[^"]{1,60}"', ""),
    (_DATABASE, r'database "[^"]{1,60}" does not exist', ""),
    (_DATABASE, _NOT_REACHED + r" \S{0,80}:5432\b", ""),
    (_STORE, r"Error -?\d+ connecting to \S{1,80}:\d+", "(redis-py)"),
    (_STORE, r"Unable to connect to \S{0,80}:6379\b", "(Lettuce)"),
    (_STORE, _NOT_REACHED + r" \S{0,80}:6379\b", ""),
    (_STORE, r"NOAUTH Authentication required", "(Redis)"),
    (_STORE, r"WRONGPASS invalid username-password pair", "(Redis)"),
)
_LAST_LINES = 500
_TOO_LATE = 504
"""A balancer's word for an instance that did not answer in time."""
_MOST_WORDS = 3
"""Of one kind, by one node."""


class _Speaker(Protocol):
    @property
    def name(self) -> str: ...
    def last_log_lines(self, count: int = 10) -> list[str]: ...


@dataclass(frozen=True)
class Complaint:
    """What somebody complains of."""

    kind: ComplaintKind
    words: str
    """The complaint as it was written, and whose words these are."""


def complaint_in(line: str) -> Complaint | None:
    """What a line of a log complains of; None when it does not."""
    for kind, pattern, whose in _PATTERNS:
        if (found := re.search(pattern, line)) is not None:
            return Complaint(kind, f"{found[0].strip()} {whose}".strip())
    return None


class Complaints:
    """What nodes complain of, from one look to the next."""

    def __init__(self, nodes: Sequence[_Speaker]) -> None:
        self._nodes = nodes
        self._seen: dict[str, frozenset[str]] = {}

    def pass_over(self) -> None:
        """What was said so far is nobody's business any more."""
        for _ in self._unseen():
            pass

    def new(self) -> tuple[tuple[str, Complaint], ...]:
        """What was said since the last time, and by whom, each once for each node.

        Of the last lines alone: an engine that is asked for all of a long log is busy with that for many seconds.
        """
        heard = ((name, complaint_in(line)) for name, line in self._unseen())
        return tuple(dict.fromkeys((name, complaint) for name, complaint in heard if complaint is not None))

    def about(self, history: History) -> Look | None:
        """What was said while instances failed people in this scenario, for whoever looks for a cause. None: nothing, or
        nobody was failed."""
        failed = _failed_by_instance(history)
        heard: dict[str, dict[str, list[str]]] = {}
        for node, complaint in self.new() if failed else ():
            words = heard.setdefault(complaint.kind, {}).setdefault(node, [])
            if len(words) < _MOST_WORDS:
                words.append(complaint.words)
        if not heard:
            return None
        broken = sorted({fault.node for fault in history.faults})
        value = {
            "scenario": history.scenario,
            "instances": list(history.instances),
            "heard": heard,
            "failed": failed,
            "broken": broken,
        }
        return Look(what="complaints", node="", at=clock.now(), status=None, value=value)

    def _unseen(self) -> Iterator[tuple[str, str]]:
        """The lines nobody has looked at. A line holds its time in most logs, so that the same line is the same event."""
        with ThreadPoolExecutor(max(1, len(self._nodes)), thread_name_prefix="complaints") as pool:
            said = list(pool.map(lambda node: node.last_log_lines(_LAST_LINES), self._nodes))
        for node, lines in zip(self._nodes, said, strict=True):
            seen = self._seen.get(node.name, frozenset())
            self._seen[node.name] = frozenset(lines)
            yield from ((node.name, line) for line in lines if line not in seen)


def _failed_by_instance(history: History) -> dict[str, int]:
    """How many requests each instance answered with an error of its own, or was asked last and did not answer in time."""
    failed: Counter[str] = Counter()
    for op in history.operations:
        who = None
        if op.status is not None and op.status >= 500:
            who = op.instance or (op.attempts[-1] if op.status == _TOO_LATE and op.attempts else None)
        elif op.error == "timeout" and op.via in history.instances:
            who = op.via
        if who not in (None, UNNAMED):
            failed[who] += 1
    return dict(sorted(failed.items()))
