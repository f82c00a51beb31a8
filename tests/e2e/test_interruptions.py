"""Ctrl-C, SIGTERM and SIGKILL at any moment: nothing survives."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from random import Random

import pytest
from end_to_end import Harness, folders_left, nodes_running

from harness.waiting import wait_until

Check = Callable[[], None]

# Boot takes a second, the first faults come after ten: most moments of interest lie early.
MOMENTS = [round(0.05 + 14 * Random(41907 + number).random() ** 2, 2) for number in range(5)]


def run_until(harness: Harness, moment: float, number: signal.Signals) -> int:
    """Start a run, send it a signal at that moment (seconds), and return how it ended."""
    process = harness.start("verify", "--report", str(harness.reports))
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c(harness: Harness, nothing_left: Check, moment: float) -> None:
    """The harness itself stops what it started, and says so by its exit code."""
    # Before Python has installed its handlers the signal itself ends the process.
    assert run_until(harness, moment, signal.SIGINT) in (130, -signal.SIGINT)
    nothing_left()


@pytest.mark.parametrize("moment", MOMENTS[:2])
def test_sigterm(harness: Harness, nothing_left: Check, moment: float) -> None:
    """As for Ctrl-C."""
    assert run_until(harness, moment, signal.SIGTERM) in (143, -signal.SIGTERM)
    nothing_left()


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill(harness: Harness, moment: float) -> None:
    """The harness can do nothing any more; the reaper ends every process and removes the folder of the run."""
    nodes_before, folders_before = set(nodes_running(())), set(folders_left(()))
    assert run_until(harness, moment, signal.SIGKILL) == -signal.SIGKILL
    wait_until(
        lambda: set(nodes_running(harness.pids)) <= nodes_before,
        within_seconds=20,
        because="no process of the run should be left",
    )
    wait_until(
        lambda: set(folders_left(harness.pids)) <= folders_before,
        within_seconds=20,
        because="no folder of the run should be left",
    )
    ended = harness("clean")
    assert ended.code == 0
    assert "nothing to clean up" in ended.out
