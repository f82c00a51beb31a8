"""What somebody wants of a load run, checked. Must not: start anything, or know how load is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.errors import BadInput

__all__ = ["LoadSettings", "levels_of", "pause_of", "percent_of", "seconds_of", "url_of"]

_LENGTHS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_USERS = 100_000
_MOST_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """How many people, how fast they come, how long, and by how many processes."""

    users: int
    spawn_rate: float
    """New people per second."""
    run_seconds: float
    """From the first person's arrival."""
    workers: int
    """Processes (or containers) that are told by a master; 0 for one process without a master."""
    wait: tuple[float, float]
    """The least and the longest pause of a person between two things they do, in seconds."""
    seed: int
    fail_above: float = 0.01
    """The share of failed requests above which the run counts as failed."""

    def __post_init__(self) -> None:
        """Raises BadInput: a number that makes no sense."""
        if not 1 <= self.users <= _MOST_USERS:
            raise BadInput(f"--users must be from 1 to {_MOST_USERS:,} (got {self.users})")
        if not 0 < self.spawn_rate <= _MOST_USERS:
            raise BadInput(f"--spawn-rate must be above 0 people per second (got {self.spawn_rate:g})")
        if not 0 <= self.workers <= _MOST_WORKERS:
            raise BadInput(f"--workers must be from 0 to {_MOST_WORKERS} (got {self.workers}): 0 is one process alone")
        if self.workers > self.users:
            raise BadInput(
                f"--workers must not be more than --users (got {self.workers} and {self.users}): a worker without people "
                "does nothing"
            )

    @property
    def wait_text(self) -> str:
        low, high = self.wait
        return f"{low:g}-{high:g}" if low != high else f"{low:g}"

    def in_words(self) -> str:
        """Such as `20 people, 10 more each second, pauses of 1 to 5 s, 30 s, 2 workers`."""
        low, high = self.wait
        pauses = (
            "no pauses" if high == 0 else f"pauses of {low:g} to {high:g} s" if low != high else f"pauses of {low:g} s"
        )
        parts = [
            f"{self.users} {'person' if self.users == 1 else 'people'}",
            f"{self.spawn_rate:g} more each second",
            pauses,
            f"{self.run_seconds:g} s",
        ]
        if self.workers:
            parts.append(f"{self.workers} worker{'s' if self.workers != 1 else ''}")
        return ", ".join(parts)


def seconds_of(text: str, *, option: str) -> float:
    """A length such as `30`, `30s`, `5m` or `1h`, in seconds. Raises BadInput: it is none, or not above nought."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    length = float(found[1]) * _LENGTHS[found[2]] if found else 0.0
    if not 0 < length <= 24 * 3600:
        raise BadInput(f"{option} is a length such as 30s, 5m or 1h, of no more than a day (got {text})")
    return length


def pause_of(text: str) -> tuple[float, float]:
    """Pauses such as `1-5` or `0`, in seconds. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text.strip())
    low, high = (float(found[1]), float(found[2] or found[1])) if found else (1.0, 0.0)
    if not low <= high < 3600:
        raise BadInput(f"--wait is a pause in seconds such as 1-5, or 0 for none (got {text})")
    return low, high


def percent_of(text: str) -> float:
    """A share such as `1` or `1%`, as a number from 0 to 1. Raises BadInput."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    share = float(found[1]) / 100 if found else -1.0
    if not 0 <= share <= 1:
        raise BadInput(f"--fail-above is a share in percent, from 0 to 100 (got {text})")
    return share


def url_of(text: str) -> str:
    """The address of a site, without a path. Raises BadInput."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise BadInput(f"--host is the address of a site, such as http://127.0.0.1:8080 (got {text})")
    return f"{parts.scheme}://{parts.netloc}"


def levels_of(text: str) -> tuple[int, ...]:
    """Numbers of instances such as `1,2,3`, in order. Raises BadInput."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 100 for word in words):
        raise BadInput(f"--instances is a list of numbers from 1 to 100, such as 1,2,3 (got {text})")
    levels = tuple(sorted({int(word) for word in words}))
    if len(levels) < 2:
        raise BadInput(f"--instances needs two different numbers or more, such as 1,2,3 (got {text}): one is no curve")
    return levels
