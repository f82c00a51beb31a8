"""What nodes wrote around a fault or a rollout, on the clock of the history. Must not: know what a verdict is.

Logs tell the time of day in the form, and the time zone, of whoever wrote them. A line without a time of its own
belongs to the line before it. Where no zone is told, it is the one (in quarters of an hour, as zones are) that brings the end of the log
nearest to the end of the run.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from harness.reporting.redaction import Redactor
from harness.reporting.text import cut, one_line

__all__ = ["Logs", "moment_of", "read_logs"]

_LINE_CHARACTERS = 240
_FILE_BYTES = 25 << 20
"""Of a longer one the end is read: the harness keeps no log above 20 MB."""
_LINE_BYTES = 1 << 16
_LOOKED_AT = 20_000
"""Of so many lines those that warn are looked for; of more, every n-th is taken."""
_LINES_BEFORE_TIME = 20
"""So many lines without a time may come between two with one, such as a traceback; more are left out."""
_ZONES = [quarters * 900.0 for quarters in sorted(range(-56, 57), key=abs)]
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_CLOCK = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?"
_ZONE = r"\s?(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_FORMS = (
    re.compile(r"(?P<year>\d{4})[-/](?P<month>\d{2})[-/](?P<day>\d{2})[T ]" + _CLOCK + _ZONE),
    # Apache and HAProxy: 30/Nov/2026:02:43:08.123 +0000
    re.compile(r"(?P<day>\d{2})/(?P<name>[A-Z][a-z]{2})/(?P<year>\d{4}):" + _CLOCK + _ZONE),
    # Redis: 30 Nov 2026 02:43:08.005
    re.compile(r"(?P<day>\d{1,2}) (?P<name>[A-Z][a-z]{2}) (?P<year>\d{4}) " + _CLOCK + _ZONE),
)
_UNIX = re.compile(r'"(?:at|ts|time|timestamp)":\s?"?(?P<unix>1\d{9}(?:\.\d+)?)')
_BEGINNING = 160
"""A time is looked for in so many characters: what stands later is about something else."""


def moment_of(line: str) -> tuple[float, bool] | None:
    """The Unix time a line of a log tells, and whether it told its zone (else it is taken for UTC). None: no time."""
    beginning = line[:_BEGINNING]
    if found := _UNIX.search(beginning):
        return float(found["unix"]), True
    for form in _FORMS:
        if found := form.search(beginning):
            parts = found.groupdict()
            month = int(parts["month"]) if parts.get("month") else _MONTHS.get(parts.get("name") or "", 0)
            with suppress(ValueError):  # 99:99:99 is no time
                at = datetime(
                    int(parts["year"]),
                    month,
                    int(parts["day"]),
                    int(parts["hour"]),
                    int(parts["minute"]),
                    int(parts["second"]),
                    tzinfo=UTC,
                ) + timedelta(seconds=float(f"0.{parts['part'] or 0}"))
                return at.timestamp() - _seconds_of(parts["zone"]), parts["zone"] is not None
    return None


def _seconds_of(zone: str | None) -> float:
    if zone is None or zone in ("Z", "UTC", "GMT"):
        return 0.0
    digits = zone[1:].replace(":", "")
    return (-1.0 if zone[0] == "-" else 1.0) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


@dataclass(slots=True)
class _Log:
    """Where each line of a log begins, and when it was written. The text stays on the disk: a log may be large."""

    node: str
    path: Path
    redact: Redactor
    moments: array[float] = field(default_factory=lambda: array("d"))
    places: array[int] = field(default_factory=lambda: array("q"))
    naive: array[int] = field(default_factory=lambda: array("b"))

    def lines(self, numbers: Sequence[int]) -> list[str]:
        """These lines, as they may be shown."""
        with self.path.open("rb") as file:
            return [self._line(file, self.places[number]) for number in numbers]

    def _line(self, file: BinaryIO, place: int) -> str:
        file.seek(place)
        return cut(self.redact(one_line(file.readline(_LINE_BYTES).decode("utf-8", "replace"))), _LINE_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Logs:
    """The lines of all nodes that can be put on a clock."""

    _logs: tuple[_Log, ...] = ()

    def around(self, begin: float, end: float, *, at_most: int) -> tuple[list[tuple[float, str, str]], int]:
        """Lines (Unix time, node, line) from `begin` to `end`, in order of time, and how many were left out.

        No node may crowd out the others: each gets its share, and of a longer log the lines that warn go first.
        """
        parts = []
        for log in self._logs:
            first, last = bisect_left(log.moments, begin), bisect_right(log.moments, end)
            if first < last:
                parts.append((log, range(first, last)))
        total = sum(len(places) for _, places in parts)
        kept: list[tuple[float, str, str]] = []
        room = at_most
        # The shortest first: what it does not need is for the others.
        for number, (log, places) in enumerate(sorted(parts, key=lambda part: len(part[1]))):
            share = room // (len(parts) - number)
            wanted = _worth(log, places, share)
            room -= len(wanted)
            kept += [
                (log.moments[place], log.node, line) for place, line in zip(wanted, log.lines(wanted), strict=True)
            ]
        kept.sort(key=lambda line: line[0])
        return kept, total - len(kept)


_WARNS = re.compile(
    r"warn|error|fatal|crit|panic|exception|traceback|fail|refused|reset|timed? ?out|killed|down|shut|listen|ready|start|stop|signal|exit",
    re.I,
)


def _worth(log: _Log, places: range, share: int) -> list[int]:
    if len(places) <= share:
        return list(places)
    pool: Sequence[int] = places
    if len(places) <= _LOOKED_AT:
        telling = [place for place, line in zip(places, log.lines(places), strict=True) if _WARNS.search(line)]
        pool = telling if len(telling) >= share else places
    # Evenly over the time: the first hundred of a thousand alike lines would say nothing of its end.
    return [pool[len(pool) * number // share] for number in range(share)]


def read_logs(folder: Path, *, ends: float, redactor: Redactor) -> Logs:
    """All `*.log` below a folder, without those of single requests, which the time-line shows better.

    Args:
        ends: Unix time at which the run ended, to tell the zone of who does not tell it.
    """
    logs = []
    for path in sorted(folder.rglob("*.log")) if folder.is_dir() else ():
        if path.is_symlink() or path.stem.endswith("-access"):
            continue
        log = _read(path, str(path.relative_to(folder).with_suffix("")), redactor)
        if log.moments:
            logs.append(_in_order(log, ends=ends))
    return Logs(tuple(logs))


def _read(path: Path, node: str, redactor: Redactor) -> _Log:
    log = _Log(node, path, redactor)
    bare = 0
    with path.open("rb") as file:
        place = file.seek(max(0, file.seek(0, 2) - _FILE_BYTES))
        while line := file.readline(_LINE_BYTES):
            told = moment_of(line[: 2 * _BEGINNING].decode("utf-8", "replace"))
            if told is not None:
                bare = 0
                _append(log, told[0], place, naive=not told[1])
            elif log.moments and bare < _LINES_BEFORE_TIME and line.strip():
                bare += 1
                _append(log, log.moments[-1], place, naive=bool(log.naive[-1]))
            place += len(line)
    return log


def _append(log: _Log, at: float, place: int, *, naive: bool) -> None:
    log.moments.append(at)
    log.places.append(place)
    log.naive.append(naive)


def _in_order(log: _Log, *, ends: float) -> _Log:
    told = [at for at, is_naive in zip(log.moments, log.naive, strict=True) if is_naive]
    # The nearest; of two alike the one closer to UTC, which comes first.
    shift = min(_ZONES, key=lambda zone: round(abs(max(told) - zone - ends))) if told else 0.0
    moments = [at - shift * is_naive for at, is_naive in zip(log.moments, log.naive, strict=True)]
    order = sorted(range(len(moments)), key=moments.__getitem__)
    log.moments = array("d", (moments[number] for number in order))
    log.places = array("q", (log.places[number] for number in order))
    return log
