"""Runs in containers: two at once, and Ctrl-C, SIGTERM and SIGKILL at any moment: nothing survives."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from end_to_end import Harness, folders_left, nodes_running, on_the_engine, waited_for_cores

from harness.waiting import wait_until

Check = Callable[[], None]
pytestmark = pytest.mark.timeout(240)

VERIFY = ("verify", "--platform", "docker", "--only", "session.every-instance")


def test_two_runs_at_once_both_pass(harness: Harness, engine: Any, nothing_left: Check) -> None:
    """They share no port, no address, no network and no container, also with the same seed in the same minute."""
    runs = [harness.start(*VERIFY, "--json", "--seed", "7", env=dict(engine.environment)) for _ in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=200)
        assert run.returncode == 0, out + err
        assert [each["status"] for each in json.loads(out)["promises"]] == ["pass"]
    results = [path for path in harness.reports.iterdir() if not path.is_symlink()]
    assert len(results) == 2
    for each in results:
        [waited] = waited_for_cores(each).values()
        assert set(waited) == {"nginx", "app-1", "app-2", "app-3"}
    assert on_the_engine(engine.client, harness.pids) == []


# What is there of a run when it is told to end: a moment in seconds would be another one on each machine.
MOMENTS: dict[str, Callable[[Harness, list[str]], bool]] = {
    "its network": lambda _, things: len(things) > 0,
    "a first container": lambda _, things: any("container" in each for each in things),
    "all containers": lambda _, things: sum("container" in each for each in things) == 6,
    "traffic": lambda harness, _: any(
        '"t":"op"' in each.read_text() for each in harness.reports.glob("*/history.jsonl")
    ),
}


def run_until(harness: Harness, engine: Any, moment: str, number: signal.Signals) -> subprocess.Popen[str]:
    """Start a run, and send it a signal when that is there."""
    run = harness.start(*VERIFY, env=dict(engine.environment))
    wait_until(
        lambda: run.poll() is not None or MOMENTS[moment](harness, on_the_engine(engine.client, [run.pid])),
        within_seconds=100,
        every_seconds=0.02,
        because=f"the run should have {moment}",
    )
    run.send_signal(number)
    return run


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c(harness: Harness, engine: Any, nothing_left: Check, moment: str) -> None:
    """The harness itself removes what it made, and says so by its exit code."""
    run = run_until(harness, engine, moment, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "everything that was started is stopped" in err
    assert on_the_engine(engine.client, harness.pids) == []


def test_sigterm(harness: Harness, engine: Any, nothing_left: Check) -> None:
    """As for Ctrl-C."""
    run = run_until(harness, engine, "a first container", signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 143, err
    assert on_the_engine(engine.client, harness.pids) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill(harness: Harness, engine: Any, moment: str) -> None:
    """The harness can do nothing any more; the reaper removes what it made, also what the engine was just told to."""
    nodes_before, folders_before = nodes_running(()), folders_left(())
    run = run_until(harness, engine, moment, signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    wait_until(
        lambda: (
            on_the_engine(engine.client, harness.pids) == []
            and set(nodes_running(harness.pids)) <= set(nodes_before)
            and set(folders_left(harness.pids)) <= set(folders_before)
        ),
        within_seconds=20,
        because="nothing of the run should be left",
    )
