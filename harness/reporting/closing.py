"""The words of the terminal, as lines of styled text: one for each promise, and the end. Must not: write anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.model import Status
from harness.reporting.run import WAIVED, PromiseResult, RunResult
from harness.reporting.text import cut, duration, one_line, seconds

__all__ = ["boot_line", "closing_lines", "closing_texts", "promise_line", "promise_lines", "shown_path"]

STYLES = {
    Status.PASS.value: "green",
    Status.FAIL.value: "bold red",
    Status.INCONCLUSIVE.value: "yellow",
    Status.RIG_ERROR.value: "magenta",
    WAIVED: "cyan",
}
_WORD_CHARACTERS = 12
ID_CHARACTERS = 30
"""The longest id of the catalogue: lines do not jump when they come one by one."""
_LABELLED = 11
"""Where the text after `seen`, `cause` and `remedy` begins."""
_CAUSES_SHOWN = 3
# What an application says may be a whole page; the rest of it is in verdicts.json.
_TOLD_CHARACTERS = 600


def promise_line(word: str, promise_id: str, told: str, *, id_characters: int = ID_CHARACTERS) -> Text:
    """One promise on one line. Whatever is too long for a terminal is for the terminal to cut, at the right end."""
    style = STYLES.get(word, "")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f" {word:<{_WORD_CHARACTERS}}", style)
    line.append(f"  {one_line(promise_id):<{id_characters}}")
    line.append(f"  {one_line(told)}" if told else "")
    line.rstrip()
    return line


def result_line(result: PromiseResult, *, id_characters: int = ID_CHARACTERS) -> Text:
    """The line of a promise that has been judged."""
    told = result.measured
    if result.word == WAIVED:
        told = f"{result.status}: {told} (waived: {result.waived})"
    elif result.waived:
        told = f"{told} (kept, so it need not be waived)"
    return promise_line(result.word, result.id, told, id_characters=id_characters)


def boot_line(head: str, nodes: dict[str, float | None]) -> Text:
    """The boot on one line: each node with the seconds until it was ready, or an ellipsis until it is."""
    line = Text(f" {head:<{_WORD_CHARACTERS}}", no_wrap=True, overflow="ellipsis")
    for name, took in nodes.items():
        line.append(f"  {one_line(name)} ", "dim")
        line.append("…" if took is None else f"{took:.1f}")
    return line


def promise_lines(result: RunResult) -> list[str]:
    """A line for each promise that was tried, in order, for a door that has no view."""
    width = id_characters(result)
    return [result_line(each, id_characters=width).plain for each in result.results_by_promise if each.findings]


def id_characters(result: RunResult) -> int:
    """How wide the column of ids must be."""
    return max([ID_CHARACTERS, *(len(each.id) for each in result.results_by_promise)])


def closing_lines(result: RunResult) -> list[str]:
    """The end as plain lines, for a door that has no view: what is not green, the counts, the page and the command."""
    return [text.plain for text in closing_texts(result)]


def closing_texts(result: RunResult, *, console: Console | None = None) -> Iterator[Text]:
    """The end. With a console its lines are folded to its width, all but those that one copies."""
    for told in result.explanations:
        yield Text(f" {told.result.id}", "bold")
        yield from _labelled("seen", told.result.seen, console)
        yield from _labelled("cause", told.causes[0], console)
        for rival in told.causes[1:_CAUSES_SHOWN]:
            yield from _labelled("", f"or: {rival}", console)
        yield from _labelled("remedy", told.remedy, console)
        yield Text()
    if result.untried:
        yield from _labelled("", result.untried_in_words, console, indent=1)
        yield Text()
    for told_once in result.left_out_in_words:
        yield from _labelled("", told_once, console, indent=1)
    yield from _labelled("", _counts(result), console, indent=1)
    yield Text(f" {shown_path(result.results / result.page)}")
    yield Text(f" {one_line(result.repeat_command)}")


def _counts(result: RunResult) -> str:
    untried = len(result.untried)
    by_word = {**result.counts, "not tried": untried}
    by_word[Status.INCONCLUSIVE] -= untried
    counts = [f"{count} {word}" for word, count in by_word.items() if count]
    parts = {"boot": result.boot_seconds, **result.timings}
    parts["other"] = result.seconds - sum(parts.values())
    split = [f"{one_line(name)} {seconds(took)}" for name, took in parts.items() if took >= 0.05]
    where = f" ({', '.join(split)})" if split else ""
    return f"{', '.join(counts) or 'nothing was judged'} in {duration(result.seconds)}{where}"


def _labelled(label: str, text: str, console: Console | None, *, indent: int = _LABELLED) -> Iterator[Text]:
    line = Text(cut(one_line(text), _TOLD_CHARACTERS))
    folded = [line] if console is None else line.wrap(console, max(console.width - indent, 20))
    for place, part in enumerate(folded):
        head = f"   {label}" if label and place == 0 else ""
        part.rstrip()
        yield Text.assemble((f"{head:<{indent}}", "dim"), part)


def shown_path(path: Path) -> str:
    """As one would type it here: relative when it is below the working folder."""
    try:
        return one_line(str(path.resolve().relative_to(Path.cwd().resolve())))
    except (ValueError, OSError):
        return one_line(str(path))
