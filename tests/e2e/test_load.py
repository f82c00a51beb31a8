"""Setups that are kept running, and load on them by Locust, as a person meets both: and nothing is left behind."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from end_to_end import Harness, folders_left, nodes_running, on_the_engine

from harness.waiting import wait_until

Check = Callable[[], None]


@contextmanager
def standing(harness: Harness, *arguments: str, env: dict[str, str] | None = None) -> Iterator[tuple[Any, Any]]:
    """A setup that `harness up` keeps: its process, and what it told."""
    process = harness.start("up", "--json", "--report", str(harness.reports), *arguments, env=env)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    yield process, json.loads(line)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def passwords_in(folder: Path) -> list[str]:
    return [
        str(path) for path in folder.rglob("*") if path.is_file() and re.search(rb"Pw7-[A-Za-z]{24}", path.read_bytes())
    ]


def words_of_all_processes() -> str:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.judged
def test_a_setup_that_stands_is_loaded_by_two_workers(harness: Harness, nothing_left: Check) -> None:
    """`harness up` tells where it is, people of two workers use it, and the results are in the folder of the run."""
    with standing(harness) as (up, facts):
        assert set(facts["instances"]) == {"app-1", "app-2", "app-3"}
        assert [command.split()[:2] for command in facts["commands"]] == [["harness", "load"], ["locust", "-f"]]
        loading = harness.start(
            *("load", "--host", facts["balancer"], "--users", "6", "--spawn-rate", "6", "--wait", "0.2-0.4"),
            *("--run-time", "4s", "--workers", "2", "--json", "--report", str(harness.reports)),
        )
        seen = ""
        while loading.poll() is None and "--expect-workers" not in seen:
            seen = words_of_all_processes()
        out, err = loading.communicate(timeout=100)
        assert loading.returncode == 0, err
        assert "Pw7-" not in seen
        result = json.loads(out)
        folder = harness.reports / result["run"]
        assert up.poll() is None
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
    names = {row["name"] for row in result["rows"]}
    assert {"register 2 /register", "login 3 /dashboard", "whoami /dashboard", "write /notes"} <= names
    assert result["failed"] == 0
    assert result["requests"] == sum(row["requests"] for row in result["rows"]) > 40
    assert sum(each["good"] for each in result["by_second"]) <= result["requests"]
    assert json.loads((folder / "load/load.json").read_text())["run"] == result["run"]
    assert {path.name for path in (folder / "load").iterdir()} >= {
        "locust.html",
        "locust_stats.csv",
        "locust_failures.csv",
    }
    assert "<svg" in (folder / "load.html").read_text()
    assert passwords_in(harness.reports) == []
    nothing_left()


def test_capacity_is_measured_without_a_verdict(harness: Harness, nothing_left: Check) -> None:
    """Each level is visited twice; what is told is a curve, or that it says nothing."""
    ended = harness(
        *(
            "capacity",
            "--instances",
            "1,2",
            "--users",
            "4",
            "--run-time",
            "2s",
            "--json",
            "--report",
            str(harness.reports),
        )
    )
    assert ended.code in (0, 3), ended.err
    curve = json.loads(ended.out)["curve"]
    assert [level["instances"] for level in curve["levels"]] == [1, 2]
    assert [level["names"] for level in curve["levels"]] == [["app-1"], ["app-1", "app-2"]]
    assert all(len(level["rounds"]) == 2 and level["throughput"]["middle"] > 0 for level in curve["levels"])
    assert curve["says_nothing"] == (ended.code == 3)
    nothing_left()


def test_load_that_is_interrupted(harness: Harness, nothing_left: Check) -> None:
    """Ctrl-C ends Locust and the setup with the harness."""
    process = harness.start("load", "--users", "2", "--workers", "2", "--report", str(harness.reports))
    wait_until(
        lambda: "--expect-workers" in words_of_all_processes() or process.poll() is not None,
        within_seconds=60,
        because="Locust should have been started",
    )
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    nothing_left()


def test_up_that_is_told_to_stop(harness: Harness, nothing_left: Check) -> None:
    """SIGTERM ends it as Ctrl-C does."""
    with standing(harness) as (up, _):
        up.terminate()
        assert up.wait(60) == 143
        nothing_left()


def test_up_ends_with_its_input(harness: Harness, nothing_left: Check) -> None:
    """Where a script asked for that: then it is no interruption."""
    process = harness.start("up", "--json", "--ends-with-stdin", "--report", str(harness.reports))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["format"] == "harness-up"
    nothing_left()


def test_load_that_is_killed(harness: Harness) -> None:
    """The harness can do nothing any more; the reaper ends every process, those of Locust too."""
    nodes_before, folders_before = set(nodes_running(())), set(folders_left(()))
    process = harness.start("load", "--users", "2", "--workers", "1", "--report", str(harness.reports))
    wait_until(
        lambda: "--expect-workers" in words_of_all_processes() or process.poll() is not None,
        within_seconds=60,
        because="Locust should have been started",
    )
    process.kill()
    process.communicate(timeout=60)
    wait_until(
        lambda: set(nodes_running(harness.pids)) <= nodes_before and set(folders_left(harness.pids)) <= folders_before,
        within_seconds=20,
        because="no process and no folder of the run should be left",
    )


def test_two_workers_on_the_setups_network(harness: Harness, engine: Any, nothing_left: Check) -> None:
    """Locust's image beside the setup: a master as a container, and a service of workers that have the file from it."""
    ended = harness(
        *("load", "--platform", "swarm", "--users", "4", "--spawn-rate", "4", "--wait", "0.2-0.4", "--run-time", "4s"),
        *("--workers", "2", "--json", "--report", str(harness.reports)),
        env=dict(engine.environment),
    )
    if ended.code == 2 and "locust" in ended.err:
        pytest.skip(f"this needs an image of Locust: {ended.err}")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result["failed"] == 0
    assert {"login 3 /dashboard", "whoami /dashboard"} <= {row["name"] for row in result["rows"]}
    assert passwords_in(harness.reports) == []
    assert {"nginx", "postgres", "redis"} <= set(result["usage"]["nodes"])
    assert on_the_engine(engine.client, harness.pids) == []
    nothing_left()


def test_nobody_answers(harness: Harness, nothing_left: Check) -> None:
    """An address where nobody listens is told before anything is started."""
    ended = harness("load", "--host", "http://127.0.0.1:9", "--report", str(harness.reports))
    assert (ended.code, ended.out) == (2, "")
    assert "nobody answers at http://127.0.0.1:9" in ended.err
    assert not harness.reports.exists()
    nothing_left()
