"""`summary.md`: the run as a comment on a pull request, under 60 lines and 60,000 characters whatever happens.

Must not: decide what is green.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.reporting.run import Explanation, PromiseResult, RunResult
from harness.reporting.text import cut, duration, for_markdown, one_line, plural

__all__ = ["to_markdown"]

_LINES = 58
_REASONS = 2
_LINES_AROUND = 25 + 2 * _REASONS
"""Headline, heads of tables, fold, command and page, with the empty lines between them; generously."""


_CELL_CHARACTERS = (300, 150, 75, 30)
# GitHub takes 65,536 characters for a comment, GitLab a million; whoever posts it may add lines of their own.
_CHARACTERS = 60_000


def to_markdown(result: RunResult) -> str:
    """The comment: one headline, what is not green with seen, cause and remedy, the rest folded, the command."""
    for characters in _CELL_CHARACTERS:
        text = "\n".join(_lines(result, characters)) + "\n"
        if len(text) <= _CHARACTERS:
            break
    return text


def _lines(result: RunResult, characters: int) -> Iterator[str]:
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
        yield from (_row(each, characters) for each in shown_bad)
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
        yield from (_short_row(each, characters) for each in shown_rest)
        yield from _more(rest, shown_rest)
        yield ""
        yield "</details>"
        yield ""
    for left_out in result.left_out_in_words[:_REASONS]:
        yield for_markdown(left_out)
        yield ""
    command = cut(one_line(result.repeat_command), 1000)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    yield fence
    yield command
    yield fence
    yield ""
    yield f"Time-lines, logs and evidence: {for_markdown(result.page)} of run {for_markdown(result.run_id)}"


def _row(told: Explanation, characters: int) -> str:
    def cell(text: str) -> str:
        return for_markdown(text, characters=characters)

    result = told.result
    causes = "<br>or: ".join(cell(line) for line in told.causes[:2])
    sentence = f"<br>{cell(result.promise.sentence)}" if result.promise is not None else ""
    name = f"**{result.word}** {cell(result.id)}{sentence}"
    return f"| {name} | {cell(result.seen)} | {causes} | {cell(told.remedy)} |"


def _short_row(result: PromiseResult, characters: int) -> str:
    why = f" ({result.status}; waived: {result.waived})" if result.word != result.status else ""
    told = for_markdown(result.measured + why, characters=characters)
    return f"| {for_markdown(result.id, characters=characters)} | {result.word} | {told} |"


def _more(of: Sequence[object], shown: Sequence[object]) -> Iterator[str]:
    if len(of) > len(shown):
        yield f"\n{plural(len(of) - len(shown), 'more promise')} in `verdicts.json`"
