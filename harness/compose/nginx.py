"""What somebody's own nginx is told to do, read from its configuration as `nginx -T` prints it. Pure.

Only what a verdict or a cause depends on is read, for the upstream that holds the instances. Must not: guess. What is not
said there and has no default of nginx's own is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["read_nginx"]

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<mark>[{};])|(?P<word>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:\\.|\$\{[^}]*\}|[^\s{};"'\\])+)"""
)
_ALGORITHMS = {
    "least_conn": "least_conn",
    "ip_hash": "ip_hash",
    "hash": "hash",
    "random": "random",
    "least_time": "least_time",
    "sticky": "sticky",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_TIMES = {
    "proxy_connect_timeout": "connect_timeout_seconds",
    "proxy_read_timeout": "read_timeout_seconds",
}
_TIMES_DEFAULT_SECONDS = 60.0
_NEXT_UPSTREAM = ("error", "timeout")


@dataclass(frozen=True)
class _Line:
    """One directive, with what is in its block if it has one."""

    words: tuple[str, ...]
    block: tuple[_Line, ...] = ()

    @property
    def name(self) -> str:
        return self.words[0]

    def named(self, name: str) -> Iterator[_Line]:
        return (line for line in self.block if line.name == name)


def read_nginx(text: str, *, names: Collection[str]) -> Mapping[str, Any]:
    """The facts of the upstream whose servers have these names or addresses; empty when there is none.

    `algorithm`, `balancer_workers`, `max_fails`, `fail_timeout_seconds`, `resolve`, `next_upstream`, `connect_timeout_seconds`
    and `read_timeout_seconds`, in the words that are used for a setup. `balancer_workers` is 1 where they share what they know (the
    upstream has a zone), and left out where nginx chooses how many there are.
    """
    top = _lines(text)
    # A file of conf.d is what stands inside http.
    http = [line for block in top if block.name == "http" for line in block.block] or list(top)
    found = next((line for line in http if line.name == "upstream" and _serves(line, names)), None)
    if found is None:
        return {}
    servers = [line.words[1:] for line in found.named("server")]
    facts: dict[str, Any] = {
        "algorithm": next((_ALGORITHMS[line.name] for line in found.block if line.name in _ALGORITHMS), "round_robin"),
        # Of several servers the most patient one counts: it is the one that is left in longest.
        "max_fails": max(int(_option(server, "max_fails", "1")) for server in servers),
        "fail_timeout_seconds": max(_seconds(_option(server, "fail_timeout", "10s")) for server in servers),
    }
    facts["resolve"] = "always" if any("resolve" in server for server in servers) else "at-start"
    if any(_option(server, "weight", "1") != "1" for server in servers):
        facts["algorithm"] = f"{facts['algorithm']} with weights"
    workers = next((line.words[1] for line in top if line.name == "worker_processes" and len(line.words) > 1), "1")
    if any(found.named("zone")):
        facts["balancer_workers"] = 1
    elif workers.isdecimal():
        facts["balancer_workers"] = int(workers)
    settings = _settings_where_passed_to(http, found.words[1])
    for directive, key in _TIMES.items():
        facts[key] = _seconds(settings[directive][0]) if directive in settings else _TIMES_DEFAULT_SECONDS
    tried = settings.get("proxy_next_upstream", _NEXT_UPSTREAM)
    facts["next_upstream"] = [] if "off" in tried else list(tried)
    return facts


def _serves(upstream: _Line, names: Collection[str]) -> bool:
    return any(
        server.words[1].rpartition(":")[0] in names or server.words[1] in names for server in upstream.named("server")
    )


def _option(server: Sequence[str], name: str, default: str) -> str:
    return next((word.partition("=")[2] for word in server if word.startswith(f"{name}=")), default)


def _seconds(written: str) -> float:
    """Of `1m30s`; a plain number is seconds."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhd]|)", written))


def _settings_where_passed_to(http: Sequence[_Line], upstream: str) -> Mapping[str, tuple[str, ...]]:
    """What holds in the first location that passes to this upstream: its own words before those of what is around it."""

    def within(lines: Sequence[_Line], around: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]] | None:
        here = {
            **around,
            **{line.name: line.words[1:] for line in lines if line.name.startswith("proxy_") and line.words[1:]},
        }
        passed = (line.words[1] for line in lines if line.name == "proxy_pass" and len(line.words) > 1)
        if any(re.match(rf"https?://{re.escape(upstream)}(?:[:/]|$)", target) for target in passed):
            return here
        for line in lines:
            if line.block and (found := within(line.block, here)) is not None:
                return found
        return None

    return within(http, {}) or {}


def _lines(text: str) -> tuple[_Line, ...]:
    """The directives of a configuration; what cannot be read ends it there."""
    stack: list[list[_Line]] = [[]]
    heads: list[tuple[str, ...]] = []
    words: list[str] = []
    for token in _TOKEN.finditer(text):
        mark, word = token.group("mark"), token.group("word")
        if word is not None:
            words.append(word[1:-1] if word[0] in "\"'" else word)
        elif mark == ";":
            if words:
                stack[-1].append(_Line(tuple(words)))
            words = []
        elif mark == "{":
            heads.append(tuple(words) or ("",))
            stack.append([])
            words = []
        elif mark == "}" and heads:
            block = tuple(stack.pop())
            stack[-1].append(_Line(heads.pop(), block))
            words = []
    return tuple(stack[0])
