"""What came of a load run: Locust's own tables read back, our counts by second, and both as one object.

`load.json` is the truth of a load run; the terminal and `load.html` are renderings of it. Must not: start anything.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.errors import HarnessError
from harness.load.scaling import Knee, Level, Saturation, Usage
from harness.load.seconds import Counted, Seconds, percentile_of

__all__ = ["Curve", "Failure", "LoadResult", "RequestRow", "read_failures", "read_requests", "to_json"]

_ALL = "Aggregated"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One kind of request, as Locust counted it. Latencies in milliseconds; None of nothing."""

    method: str
    name: str
    requests: int
    failed: int
    per_second: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    worst_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One way in which one kind of request failed."""

    method: str
    name: str
    error: str
    """A class such as `logged-out`, `http-500` or `timeout`, in the words of docs/results.md."""
    count: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Throughput by number of instances."""

    levels: tuple[Level, ...]
    window_seconds: int
    warm_up_seconds: float
    knee: Knee
    saturations: Mapping[int, Saturation]
    """What saturates at each level, by its number of instances."""

    @property
    def tells_of_the_application(self) -> bool:
        """Whether the load generator kept up at every level."""
        return all(found.tells_of_the_application for found in self.saturations.values())


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """One load run."""

    run_id: str
    setup: str
    platform: str
    """Where the setup ran; `running` for one that was there already."""
    host: str
    """Where people were sent."""
    started: str
    version: str
    command: str
    settings: str
    """In words."""
    users: int
    workers: int
    seconds: float
    """How long people came, measured."""
    rows: tuple[RequestRow, ...]
    failures: tuple[Failure, ...]
    fail_above: float
    usage: Usage
    counted: Seconds = field(default_factory=Seconds)
    begin: int = 0
    """The first whole second of the run, since the epoch."""
    curve: Curve | None = None

    @property
    def requests(self) -> int:
        return sum(row.requests for row in self.rows)

    @property
    def failed(self) -> int:
        return sum(row.failed for row in self.rows)

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0

    @property
    def exit_code(self) -> int:
        """1 when more failed than was allowed, else 0. A curve is advice, and what failed is told in it: 0, or 3 when it
        says nothing of the application."""
        if self.curve is not None:
            return 0 if self.curve.tells_of_the_application else 3
        return int(self.failed_share > self.fail_above)

    @property
    def all_milliseconds(self) -> Mapping[int, int]:
        total = Counted()
        for _, counted in self.counted.items():
            total.merge(counted)
        return total.milliseconds

    def percentile_ms(self, share: float) -> int | None:
        return percentile_of(self.all_milliseconds, share)

    @property
    def headline(self) -> str:
        """How it went, in one sentence."""
        if self.curve is not None:
            return _curve_headline(self.curve)
        if not self.requests:
            return "Nothing was asked."
        share = f" ({self.failed_share:.2%})" if self.failed else ""
        told = f"{self.failed:,} of {self.requests:,} requests failed{share}, allowed are {self.fail_above * 100:g} %"
        return f"{'Too many failed' if self.exit_code else 'Carried'}: {told}."


def _curve_headline(curve: Curve) -> str:
    first = next((each for each in curve.saturations.values() if not each.tells_of_the_application), None)
    if first is not None:
        who = (
            "The load generator saturated first" if first.what == "load-generator" else "Other programs had the machine"
        )
        return f"{who}: this curve says nothing about the application."
    last = curve.saturations[max(curve.saturations)]
    if curve.knee.instances is None:
        return f"{'No knee was seen' if curve.knee.sure else 'No knee is sure'}. {_limit(last)}"
    many = f"{curve.knee.instances} instance{'s' if curve.knee.instances != 1 else ''}"
    sure = "" if curve.knee.sure else "probably "
    return f"More than {many} {sure}do not pay here. {_limit(last)}"


def _limit(found: Saturation) -> str:
    what = {
        "failures": "What limits it: requests fail.",
        "connections": "What limits it: a limit of connections.",
        "machine": "What limits it: the CPU of this machine, which everything shares.",
        "instances": "What limits it: the CPU of the instances.",
        "balancer": "What limits it: the CPU of the balancer.",
        "store": "What limits it: the CPU of a store.",
    }
    return what.get(found.what, "What limits it was not seen.")


# -- Locust's tables -----------------------------------------------------------------------------------------------------


def read_requests(text: str) -> tuple[RequestRow, ...]:
    """The rows of `locust_stats.csv`, without their sum. Raises HarnessError: it is none."""
    rows = []
    for row in _rows(
        text, needed=("Type", "Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%")
    ):
        if row["Name"] == _ALL and not row["Type"]:
            continue
        rows.append(
            RequestRow(
                method=row["Type"],
                name=row["Name"],
                requests=int(row["Request Count"]),
                failed=int(row["Failure Count"]),
                per_second=float(row["Requests/s"]),
                p50_ms=_number(row["50%"]),
                p95_ms=_number(row["95%"]),
                p99_ms=_number(row["99%"]),
                worst_ms=_number(row.get("Max Response Time", "")),
            )
        )
    return tuple(sorted(rows, key=lambda row: (_place(row.name), row.name, row.method)))


def _place(name: str) -> int:
    """In the order in which people do things."""
    journey = name.partition(" ")[0]
    return ("register", "login").index(journey) if journey in ("register", "login") else 2


def read_failures(text: str) -> tuple[Failure, ...]:
    """The rows of `locust_failures.csv`, the commonest first. Raises HarnessError: it is none."""
    found = [
        Failure(method=row["Method"], name=row["Name"], error=_plain_error(row["Error"]), count=int(row["Occurrences"]))
        for row in _rows(text, needed=("Method", "Name", "Error", "Occurrences"))
    ]
    return tuple(sorted(found, key=lambda failure: (-failure.count, failure.name, failure.error)))


def _plain_error(text: str) -> str:
    """Our own word, out of the exception that Locust makes of it."""
    found = re.fullmatch(r"CatchResponseError\((['\"])(.*)\1\)", text)
    return found[2] if found else text


def _rows(text: str, *, needed: Sequence[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise HarnessError(
            f"Locust wrote a table without {', '.join(missing)}: another version of it than 2 is not known"
        )
    return list(reader)


def _number(text: str) -> float | None:
    return None if text in ("", "N/A") else float(text)


# -- as JSON ---------------------------------------------------------------------------------------------------------------


def to_json(result: LoadResult) -> str:
    """`load.json`: everything, for programs."""
    plain: dict[str, Any] = {
        "format": "harness-load",
        "version": 1,
        "harness": result.version,
        "run": result.run_id,
        "started": result.started,
        "command": result.command,
        "exit_code": result.exit_code,
        "headline": result.headline,
        "page": "load.html",
        "setup": {"name": result.setup, "platform": result.platform, "host": result.host},
        "settings": {"users": result.users, "workers": result.workers, "in_words": result.settings},
        "seconds": round(result.seconds, 1),
        "requests": result.requests,
        "failed": result.failed,
        "fail_above": result.fail_above,
        "p50_ms": result.percentile_ms(0.5),
        "p95_ms": result.percentile_ms(0.95),
        "p99_ms": result.percentile_ms(0.99),
        "usage": _usage(result.usage),
        "rows": [asdict(row) for row in result.rows],
        "failures": [asdict(failure) for failure in result.failures],
        "begin": result.begin,
        "by_second": [
            {
                "second": second - result.begin,
                "good": counted.good,
                "failed": counted.failed,
                "users": counted.users,
                "p50_ms": percentile_of(counted.milliseconds, 0.5),
                "p95_ms": percentile_of(counted.milliseconds, 0.95),
            }
            for second, counted in result.counted.items()
        ],
    }
    if result.curve is not None:
        plain["curve"] = _curve(result.curve)
    return json.dumps(plain, indent=1) + "\n"


def _usage(usage: Usage) -> dict[str, Any]:
    plain = asdict(usage)
    plain["nodes"] = {name: round(used, 3) for name, used in usage.nodes.items()}
    return plain


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "window_seconds": curve.window_seconds,
        "warm_up_seconds": curve.warm_up_seconds,
        "knee": asdict(curve.knee),
        "says_nothing": not curve.tells_of_the_application,
        "levels": [
            {**asdict(level), "usage": _usage(level.usage), "saturates": asdict(curve.saturations[level.instances])}
            for level in curve.levels
        ],
    }
