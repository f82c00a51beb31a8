"""`summary.md`: the run as a comment on a pull request, under 60 lines whatever happens.

Must not: decide what is green.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.reporting.run import Explanation, PromiseResult, RunResult
from harness.reporting.text import cut, duration, for_markdown, one_line, plural

__all__ = ["to_markdown"]

_LINES = 58
_LINES_AROUND = 23
"""Headline, heads of tables, fold and command, with the empty lines between them; generously."""


def to_markdown(result: RunResult) -> str:
    """The comment: one headline, what is not green with seen, cause and remedy, the rest folded, the command."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: RunResult) -> Iterator[str]:
    bad = result.explanations
    rest = [each for each in result.results_by_promise if each.is_green]
    shown_bad = bad[: (_LINES - _LINES_AROUND) // (2 if rest else 1)]
    shown_rest = rest[: _LINES - _LINES_AROUND - len(shown_bad)]

    yield f"### {result.status}: {for_markdown(result.headline)}"
    yield ""
    yield f"{for_markdown(str(result.header))} · {duration(result.seconds)}"
    yield ""
    if shown_bad:
        yield "| promise | seen | cause | remedy |"
        yield "|---|---|---|---|"
        yield from map(_row, shown_bad)
        yield from _more(bad, shown_bad)
        yield ""
    if result.untried:
        yield for_markdown(result.untried_in_words)
        yield ""
    if shown_rest:
        counted = ", ".join(
            f"{count} {word}" for word, count in result.counts.items() if count and word in {each.word for each in rest}
        )
        yield f"<details><summary>{counted}</summary>"
        yield ""
        yield "| promise | verdict | measured |"
        yield "|---|---|---|"
        yield from map(_short_row, shown_rest)
        yield from _more(rest, shown_rest)
        yield ""
        yield "</details>"
        yield ""
    command = cut(one_line(result.repeat_command), 1000)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    yield fence
    yield command
    yield fence


def _row(told: Explanation) -> str:
    result = told.result
    causes = "<br>or: ".join(for_markdown(line) for line in told.causes[:2])
    sentence = f"<br>{for_markdown(result.promise.sentence)}" if result.promise is not None else ""
    name = f"**{result.word}** {for_markdown(result.id)}{sentence}"
    return f"| {name} | {for_markdown(result.seen)} | {causes} | {for_markdown(told.remedy)} |"


def _short_row(result: PromiseResult) -> str:
    why = f" ({result.status}; waived: {result.waived})" if result.word != result.status else ""
    return f"| {for_markdown(result.id)} | {result.word} | {for_markdown(result.measured + why)} |"


def _more(of: Sequence[object], shown: Sequence[object]) -> Iterator[str]:
    if len(of) > len(shown):
        yield f"\n{plural(len(of) - len(shown), 'more promise')} in `verdicts.json`"
