"""One verification several times, and with less and less: real runs, and nothing left of any of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from end_to_end import Harness

from harness.waiting import wait_until

Check = Callable[[], None]
QUICK = ("--only", "instances.answer", "--only", "distribution.complete")

pytestmark = [pytest.mark.timeout(300), pytest.mark.judged]


def test_a_run_is_repeated_with_its_seed(harness: Harness, nothing_left: Check) -> None:
    """Each with a folder of its own, and a rate for each promise."""
    ended = harness.verify(*QUICK, "--repeat", "2", "--seed", "7", "--json")
    assert ended.code == 0, ended
    told = json.loads(ended.out)
    assert [each["seed"] for each in told["runs"]] == [7, 7]
    assert [(each["id"], each["failed"], each["judged"]) for each in told["promises"]] == [
        ("instances.answer", 0, 2),
        ("distribution.complete", 0, 2),
    ]
    folders = [harness.folder / each["folder"] for each in told["runs"]]
    assert len(set(folders)) == 2
    assert all((folder / "index.html").exists() for folder in folders)


def test_a_failing_run_is_made_smaller(harness: Harness, nothing_left: Check) -> None:
    """A change that matters is kept, one that does not is left out; what is told is a command that fails."""
    one_missing = ("--set", 'balancer.pool=["app-1"]')
    ended = harness.verify(*QUICK, *one_missing, "--set", "balancer.max_fails=2", "--json", "--seed", "7")
    assert ended.code == 1, ended
    ended = harness("shrink", "reports/latest", "--only", "distribution.complete", "--json")
    assert ended.code == 0, ended
    told = json.loads(ended.out)
    assert [part["name"] for part in told["needed"]] == ['balancer.pool=["app-1"]']
    stored = json.loads((harness.folder / told["folder"] / "verdicts.json").read_text(encoding="utf-8"))
    assert (stored["command"], stored["exit_code"]) == (told["command"], 1)


def test_who_is_told_to_stop_leaves_no_run(harness: Harness, nothing_left: Check) -> None:
    """SIGTERM for the one that repeats is SIGTERM for the run that is under way."""
    process = harness.start("verify", *QUICK, "--repeat", "50")
    wait_until(lambda: any(begun(harness.reports)), within_seconds=60, because="a run should have begun")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err


def begun(reports: Path) -> list[Path]:
    return list(reports.glob("*/history.jsonl"))
