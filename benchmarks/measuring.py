"""What the benchmarks share: one option, ratios of pairs, and tables of Markdown. Must not: measure anything itself.

Things that are compared are measured in pairs, one right after the other, again and again in one run, and what is
told is the median of the ratios of the pairs: a machine that is busy for a while slows both of a pair.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence

__all__ = ["is_quick", "of", "options", "ratios", "say", "table"]


def options(description: str) -> argparse.ArgumentParser:
    """A parser that knows `--quick`, for a benchmark that has arguments of its own."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it works, says little")
    return parser


def is_quick(description: str) -> bool:
    """Whether `--quick` was typed: fewer samples, to see that the benchmark works. Its figures say little."""
    return bool(options(description).parse_args().quick)


def say(line: str) -> None:
    """Progress, for whoever waits; the page is what goes to standard output."""
    print(line, file=sys.stderr, flush=True)


def of(values: Sequence[float], form: str = ".2f") -> str:
    """Such as `1.31 (1.10 to 2.05)`: the median, the least and the most."""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({format(min(values), form)} to {format(max(values), form)})"


def ratios(pairs: Iterable[tuple[float, float]]) -> list[float]:
    """How many times the second the first of each pair was."""
    return [first / second for first, second in pairs]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
