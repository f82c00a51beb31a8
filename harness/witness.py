"""Who answered, by the log of a balancer that is not the harness's: each request carries an id, and its line names whom it went to.

A line is joined to a request by that id alone, which nothing else has. Must not: guess from times or paths, or keep a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from harness.cluster import Cluster
from harness.traffic.upstream import read_upstream

__all__ = ["BalancerLog", "Told"]

_LONGEST_LINE = 16_384
_NOTHING = "-"
"""What nginx and HAProxy write where there was nobody, or no status."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a line tells of one request."""

    instance: str | None
    """Who answered; None: the balancer itself."""
    attempts: tuple[str, ...]

    def plain(self) -> list[object]:
        """As it stands in the journal."""
        return [self.instance, list(self.attempts)]


@dataclass
class BalancerLog:
    """The log, from one look to the next."""

    pattern: str
    """With the groups `request` (the id) and `upstream` (whom it was given to, all of them as nginx lists them); and, where it
    has them, `status` (what people were answered) and `upstream_status` (what these answered)."""
    lines: Callable[[], Iterable[str]]
    """The last lines of it; those that were seen before may be among them."""
    whos: Callable[[], Mapping[str, str]]
    """The instance behind each address and name that it may tell."""
    marked: str
    """How ids of this run begin: the lines of others are nobody's business."""
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, cluster: Cluster, *, run: str) -> Self | None:
        """The one of a setup that runs; None where the setup does not say how it is read, or nobody can read it."""
        identity, lines = cluster.setup.app.identity, cluster.layout.balancer_log
        if identity is None or identity.log is None or lines is None:
            return None
        return cls(identity.log, lines, cluster.whos, marked=f"{run}-")

    def new(self) -> Mapping[str, Told]:
        """What was told since the last time, by the id of the request."""
        names = self.whos()
        found: dict[str, Told] = {}
        for line in self.lines():
            if self.marked not in line or len(line) > _LONGEST_LINE:
                continue
            match = re.search(self.pattern, line)
            if match is None:
                continue
            groups = match.groupdict()
            number = groups["request"] or ""
            if not number.startswith(self.marked) or number in self._seen:
                continue
            self._seen.add(number)
            found[number] = _told(groups, names)
        return found


def _told(groups: Mapping[str, str | None], names: Mapping[str, str]) -> Told:
    upstream = groups.get("upstream") or ""
    if upstream in ("", _NOTHING):
        return Told(None, ())
    status = groups.get("status") or ""
    upstream_status = groups.get("upstream_status")
    if upstream_status == _NOTHING:
        upstream_status = None
    # Without a status of its own nothing is known but whom it was given to last.
    answered = int(status) if status.isdecimal() else 200
    instance, attempts = read_upstream(upstream, upstream_status if status.isdecimal() else None, answered, names=names)
    return Told(instance, attempts)
