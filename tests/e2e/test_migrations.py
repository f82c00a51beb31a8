"""What is run once before the first instance, with real servers."""

from __future__ import annotations

from collections.abc import Callable

from end_to_end import REFERENCE, Harness

Check = Callable[[], None]

COUNTED = (
    "import os, psycopg; database = psycopg.connect(os.environ['DATABASE_URL'], autocommit=True); "
    "database.execute('CREATE TABLE runs (who text)'); print('made')"
)
"""Fails when it is run a second time on the same database."""


def test_it_is_run_once_on_a_database_that_is_ready(harness: Harness, nothing_left: Check) -> None:
    """And again when a scenario has emptied it."""
    words = [
        "--only",
        "instances.answer",
        "--only",
        "boot.n-way",
        "--set",
        'app.start_after="dependencies"',
        "--set",
        f'app.migrate=["{{python}}", "-c", "{COUNTED}"]',
    ]
    ended = harness.verify(str(REFERENCE), *words)
    assert ended.code == 0, ended
    (log,) = harness.reports.glob("*-*/logs/migrate.log")
    assert log.read_text(encoding="utf-8") == "made\nmade\n"


def test_one_that_fails_is_one_message(harness: Harness, nothing_left: Check) -> None:
    """With what it said last, but no secret; nothing is judged, and nothing is left."""
    program = "import os; print('cannot reach', os.environ['DATABASE_URL']); raise SystemExit(7)"
    ended = harness.verify(
        str(REFERENCE),
        "--set",
        'app.start_after="dependencies"',
        "--set",
        f'app.migrate=["{{python}}", "-c", "{program}"]',
    )
    assert ended.code == 2, ended
    assert "app.migrate ended with exit code 7" in ended.err
    assert "cannot reach " in ended.err
    assert "[redacted]" in ended.err
    assert ended.err.count("harness: ") == 1
