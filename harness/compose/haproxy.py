"""What somebody's own HAProxy is told to do, read from its configuration file. Pure.

Only what a verdict or a cause depends on is read, for the backend that holds the instances. Must not: guess. What is not
said there and has no default of HAProxy's own is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["read_haproxy"]

_SECTION = re.compile(r"^(global|defaults|frontend|backend|listen|userlist|resolvers|peers|cache|program|ring)\b")
_ALGORITHMS = {"roundrobin": "round_robin", "static-rr": "round_robin", "leastconn": "least_conn", "random": "random"}
_TIMES = {"connect": "connect_timeout_seconds", "server": "read_timeout_seconds"}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1e-3}


def read_haproxy(text: str, *, names: Collection[str]) -> Mapping[str, Any]:
    """The facts of the backend whose servers have these names or addresses; empty when there is none.

    `algorithm`, `balancer_workers` (1: its threads share what they know), `connect_timeout_seconds`, `read_timeout_seconds` and
    `resolve`, in the words that are used for a setup.
    """
    defaults: list[list[str]] = []
    section: list[list[str]] = []
    sections: list[tuple[list[list[str]], list[list[str]]]] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if _SECTION.match(line.strip()):
            section = []
            if words[0] == "defaults":
                defaults = section
            elif words[0] in ("backend", "listen"):
                sections.append((defaults, section))
        section.append(words)
    for around, own in sections:
        servers = [words for words in own if words[0] in ("server", "server-template")]
        if any(_is_named(words, names) for words in servers):
            return _facts([*around, *own], servers)
    return {}


def _is_named(server: list[str], names: Collection[str]) -> bool:
    return any(word in names or word.rpartition(":")[0] in names for word in server[1:4])


def _facts(lines: list[list[str]], servers: list[list[str]]) -> Mapping[str, Any]:
    facts: dict[str, Any] = {"algorithm": "round_robin", "balancer_workers": 1}
    for words in lines:  # what is said in the backend itself comes last
        if words[0] == "balance" and len(words) > 1:
            kind = words[1].partition("(")[0]
            facts["algorithm"] = _ALGORITHMS.get(kind, kind)
        if words[0] == "timeout" and len(words) > 2 and words[1] in _TIMES:
            facts[_TIMES[words[1]]] = _seconds(words[2])
    weights = {words[words.index("weight") + 1] for words in servers if "weight" in words[:-1]}
    if len(weights) > 1:
        facts["algorithm"] = f"{facts['algorithm']} with weights"
    facts["resolve"] = "always" if any("resolvers" in words for words in [*lines, *servers]) else "at-start"
    return facts


def _seconds(written: str) -> float:
    """Of `2s`; a plain number is milliseconds."""
    found = re.fullmatch(r"(\d+)(us|ms|[smhd]|)", written)
    return float(found[1]) * _UNITS[found[2]] if found is not None else 0.0
