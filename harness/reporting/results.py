"""Writes the results of a run into its folder, and reads them back. Must not: render anything itself."""

from __future__ import annotations

from pathlib import Path

from harness.errors import JournalError
from harness.reporting.files import write_text
from harness.reporting.junit import to_junit
from harness.reporting.redaction import Redactor
from harness.reporting.run import RunResult
from harness.reporting.summary import to_markdown
from harness.reporting.verdicts import from_json, to_json

__all__ = ["read_results", "write_results"]

_VERDICTS = "verdicts.json"


def write_results(result: RunResult, *, redactor: Redactor) -> None:
    """Write `verdicts.json`, `summary.md` and `junit.xml` into `result.results`, each whole, without secrets.

    The page is a rendering of these, the journal and the logs: `write_page` makes it when all of them are there.

    Raises:
        MissingPrerequisite: the folder cannot be written to, such as for want of disk space.
    """
    clean = redactor.everything(result)
    write_text(clean.results / _VERDICTS, to_json(clean))
    write_text(clean.results / "summary.md", to_markdown(clean))
    write_text(clean.results / "junit.xml", to_junit(clean))


def read_results(folder: Path) -> RunResult:
    """The results of a stored run. Raises JournalError: there are none, or they cannot be used."""
    try:
        text = (folder / _VERDICTS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise JournalError(f"{folder / _VERDICTS} cannot be read: {problem}") from problem
    return from_json(text, results=folder)
