"""Writes a checklist into the folder of the run it was held against. Must not: render anything itself."""

from __future__ import annotations

from pathlib import Path

from harness.checklist.items import ChecklistResult
from harness.checklist.rendering import PAGE, as_markdown, as_page
from harness.reporting import write_page
from harness.reporting.files import write_text

__all__ = ["write_beside"]

REPORT = "index.html"


def write_beside(result: ChecklistResult) -> tuple[Path, ...]:
    """Write `checklist.md` and `checklist.html` into the folder of the run, and say where they are.

    The report of the run, where there is one, is made again, so that it leads there.

    Raises MissingPrerequisite: the folder cannot be written to.
    """
    assert result.run is not None, "without a run there is no folder"
    folder = result.run.results
    remedy = "make room there, or give yourself the right to write there"
    write_text(folder / "checklist.md", as_markdown(result), remedy=remedy)
    write_text(folder / PAGE, as_page(result), remedy=remedy)
    if (folder / REPORT).exists():
        write_page(folder)
    return folder / "checklist.md", folder / PAGE
