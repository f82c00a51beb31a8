"""What a verification leaves behind. How it boots, records and judges is tested from end to end."""

from __future__ import annotations

from pathlib import Path

from harness.model import Look
from harness.reporting import Redactor
from harness.traffic import Journal, read_history
from harness.verification import clean_history


def test_what_applications_said_is_kept_without_secrets(tmp_path: Path) -> None:
    """A page with the address of the database on it does not carry the password into the results."""
    path = tmp_path / "history.jsonl"
    with Journal(path, run="r") as journal:
        journal.append({"t": "scenario", "scenario": "s", "seed": 1, "instances": ["app-1"], "setup": {}})
        said = {"database": 'postgres://app:pass"word/1@host', "version": "1"}
        journal.append_fact("s", Look(what="version", node="app-1", at=0.0, status=200, value=said, seconds=0.1))
    clean_history(path, redactor=Redactor(['pass"word/1']))
    assert "word/1" not in path.read_text(encoding="utf-8")
    (look,) = read_history(path, "s").looks
    assert look.value == {"database": "postgres://app:[redacted]@host", "version": "1"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_journal_that_was_never_begun_is_not_made(tmp_path: Path) -> None:
    """What ended the run before is told, not that there is no journal."""
    clean_history(tmp_path / "history.jsonl", redactor=Redactor(["secret"]))
    assert list(tmp_path.iterdir()) == []
