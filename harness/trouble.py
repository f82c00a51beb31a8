"""What instances write to their logs that means trouble, by the patterns of the setup (app.trouble).

Logs are read to their end, from where they were when one began to listen. Must not: judge, or keep more of a log than a few
lines that matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from harness import clock
from harness.checkers.trouble import TROUBLE
from harness.cluster import Cluster
from harness.errors import NodeError
from harness.model import Look

__all__ = ["listening_for_trouble", "matching_lines"]

_EXAMPLES = 3
_LINE_CHARACTERS = 300
_LONGEST_LINE_BYTES = 1 << 16


class _Logged(Protocol):
    @property
    def log_path(self) -> Path: ...


@contextmanager
def listening_for_trouble(cluster: Cluster) -> Iterator[None]:
    """Write down, when the block is left, what each instance wrote meanwhile, and which lines of it mean trouble."""
    patterns = [re.compile(pattern) for pattern in cluster.setup.app.trouble or ()]
    since = clock.now()
    begins = {instance.name: _size(instance.node) for instance in cluster.instances}
    yield
    for instance in cluster.instances:
        size = _size(instance.node)
        lines, matched = matching_lines(instance.node.log_path, patterns, begin=begins[instance.name])
        value = {
            "since": since,
            "lines": lines,
            "matched": len(matched),
            "examples": [{"line": line, "pattern": pattern} for line, pattern in matched[:_EXAMPLES]],
            "silent": size == 0,
        }
        cluster.record(Look(what=TROUBLE, node=instance.name, at=clock.now(), status=None, value=value))


def matching_lines(path: Path, patterns: Sequence[re.Pattern[str]], *, begin: int) -> tuple[int, list[tuple[str, str]]]:
    """How many lines a log has from this byte on, and those that match, each with its pattern. The end of a line that had begun
    before counts as one."""
    lines = 0
    matched: list[tuple[str, str]] = []
    with suppress(FileNotFoundError), path.open("rb") as log:
        log.seek(begin)
        while raw := log.readline(_LONGEST_LINE_BYTES):
            lines += 1
            line = raw.decode("utf-8", "replace").rstrip()
            pattern = next((each.pattern for each in patterns if each.search(line)), None)
            if pattern is not None:
                matched.append((line[:_LINE_CHARACTERS], pattern))
    return lines, matched


def _size(node: _Logged) -> int:
    """How long its log is now, with what an engine still has of it."""
    collect: Any = getattr(node, "collect_log", None)
    if collect is not None:
        with suppress(NodeError):  # its container is gone: what was collected is there all the same
            collect()
    try:
        return node.log_path.stat().st_size
    except FileNotFoundError:
        return 0
