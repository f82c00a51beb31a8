"""A checklist as lines for a terminal, as Markdown and as data. Must not: decide anything."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from harness.checklist.items import ChecklistResult, ItemResult, State
from harness.reporting.page import document, links_in, render
from harness.reporting.text import cut, for_markdown, one_line, without_controls
from harness.setup import SignOffs

__all__ = ["PAGE", "VERSION", "as_lines", "as_markdown", "as_page", "as_plain_data", "sign_off_lines"]

VERSION = 1
_STATE_CHARACTERS = max(map(len, State))
_TOLD_CHARACTERS = 600


def as_lines(result: ChecklistResult, *, width: int, quiet: bool = False) -> Iterator[str]:
    """For a terminal of that many columns. `quiet`: only what is not done, and the end."""
    id_characters = max((len(item.id) for item in result.items), default=0)
    indent = " " * (_STATE_CHARACTERS + 4)
    if not quiet:
        yield f" {one_line(result.title)} · {one_line(_of_run(result))}"
    for group in result.groups:
        items = [item for item in group.items if not (quiet and item.state.is_done)]
        if items:
            yield ""
            yield f" {one_line(group.title)}"
        for item in items:
            yield f" {item.state:<{_STATE_CHARACTERS}}  {item.id:<{id_characters}}  {one_line(item.text)}"
            if not item.state.is_done:
                told = cut(one_line(item.told), _TOLD_CHARACTERS)
                yield from textwrap.wrap(
                    told, max(width, 60), initial_indent=indent, subsequent_indent=indent, break_long_words=False
                )
    yield ""
    yield f" {result.headline}"
    if result.for_nothing:
        yield f" signed, and no item of this checklist: {', '.join(map(one_line, result.for_nothing))}"


def _of_run(result: ChecklistResult) -> str:
    run = result.run
    return f"run {run.run_id} · {run.header}" if run is not None else "no run: nothing is proven"


def as_markdown(result: ChecklistResult) -> str:
    """`checklist.md`: each item with a box that is ticked when it is done, and why."""
    lines = [f"# {for_markdown(result.title)}", "", f"{for_markdown(result.headline)}", ""]
    lines += [f"{for_markdown(_of_run(result))}; sign-offs as of {result.on}", ""]
    for group in result.groups:
        lines += [f"## {for_markdown(group.title)}", ""]
        lines += [line for item in group.items for line in _item(item)]
        lines += [""]
    if result.for_nothing:
        names = ", ".join(map(for_markdown, result.for_nothing))
        lines += [f"Signed, and no item of this checklist: {names}", ""]
    return "\n".join(lines)


def _item(item: ItemResult) -> Iterator[str]:
    box = "x" if item.state.is_done else " "
    yield f"- [{box}] **{for_markdown(item.text)}** `{item.id}`: {item.state}"
    for each in item.evidence:
        yield f"  - `{each.promise}` {each.word}: {for_markdown(each.measured)}"
    if item.sign:
        yield f"  - a person looks: {for_markdown(item.sign)}"
    if item.sign_off is not None:
        stale = f" (stale: {for_markdown(item.stale)})" if item.stale else ""
        who, where = for_markdown(item.sign_off.who), for_markdown(item.sign_off.evidence)
        yield f"  - signed by {who} on {item.sign_off.when}: {where}{stale}"
    if item.note:
        yield f"  - {for_markdown(item.note)}"


def as_page(result: ChecklistResult) -> str:
    """`checklist.html`: the same as a page of the run's report. For a result with a run."""
    assert result.run is not None, "without a run there is no report"
    report = REPORT if (result.run.results / REPORT).is_file() else ""
    words = defaultdict(lambda: "inconclusive", _WORDS)
    body = render("checklist.html", result=result, words=words, report=report)
    page = document(
        title=f"{result.title} · {result.run.setup}",
        body=body,
        here=PAGE,
        links=links_in(result.run.results, here=PAGE),
        run=result.run.run_id,
        styles=(_STYLE,),
    )
    return without_controls(page)  # markup has no effect already: the frame sees to that


PAGE = "checklist.html"
REPORT = "index.html"
"""Where a promise opens under its own id."""
_WORDS = {"kept": "pass", "broken": "fail", "waived": "waived", "rig-error": "rig-error"}
_STYLE = """
td:first-child { width: 8.5rem; } tbody th { width: 34%; } td > p { margin: 0 0 .3rem; }
"""


def as_plain_data(result: ChecklistResult) -> dict[str, Any]:
    """For programs; the form is told in docs/checklist.md."""
    return {
        "format": "harness-checklist",
        "version": VERSION,
        "title": result.title,
        "exit_code": result.exit_code,
        "headline": result.headline,
        "on": result.on.isoformat(),
        "run": result.run.run_id if result.run is not None else None,
        "counts": dict(result.counts),
        "items": [{"group": group.title, **_plain_item(item)} for group in result.groups for item in group.items],
        "signed_for_nothing": list(result.for_nothing),
    }


def _plain_item(item: ItemResult) -> dict[str, Any]:
    sign_off = item.sign_off
    return {
        "id": item.id,
        "text": item.text,
        "state": item.state,
        "told": item.told,
        "sign": item.sign or None,
        "promises": [{"id": each.promise, "word": each.word, "measured": each.measured} for each in item.evidence],
        "signed": None
        if sign_off is None
        else {
            "who": sign_off.who,
            "when": str(sign_off.when),
            "evidence": sign_off.evidence,
            "stale": item.stale or None,
        },
    }


def sign_off_lines(sign_offs: SignOffs, result: ChecklistResult) -> Iterator[str]:
    """Each sign-off with who, when and where the evidence is, and why it counts no more."""
    stale = {item.id: item.stale for item in result.items}
    width = max(map(len, sign_offs.signed), default=0)
    for name, each in sorted(sign_offs.signed.items()):
        why = stale.get(name, "no item of this checklist")
        mark = f" (stale: {one_line(why)})" if why else ""
        yield f" {one_line(name):<{width}}  {each.when}  {one_line(each.who)}: {one_line(each.evidence)}{mark}"
    if not sign_offs.signed:
        yield " nobody has signed anything"
