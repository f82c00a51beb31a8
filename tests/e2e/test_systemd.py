"""Instances as units of systemd, on a machine that is a container: stopped, killed, and brought to another version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from end_to_end import Harness

from harness import assets
from harness.waiting import wait_until
from tests.systemd_machine import INSTANCES, Machine, engine_or_skip, started

# The image alone takes 20 s when it is not there yet.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with closing(engine_or_skip()) as client:
        yield client


@pytest.fixture(scope="module")
def tuned(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with started("tuned", client, tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def guide(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with started("guide", client, tmp_path_factory.mktemp("machine")) as machine:
        yield machine


# -- by the harness ---------------------------------------------------------------------------------------------------


@pytest.mark.judged
def test_the_completed_unit_is_judged_where_it_is(harness: Harness, tuned: Machine, tmp_path: Path) -> None:
    """By the setup file as it is shipped, but for where this machine is; and it is given back as it was."""
    text = (
        assets.path("fixtures/systemd/harness.toml").read_text(encoding="utf-8").replace('"machine"', f'"{tuned.name}"')
    )
    for number, address in enumerate((tuned.balancer, *tuned.instances)):
        text = text.replace(f'"http://127.0.0.1:{18080 + number}"', f'"{address}"')
    file = tmp_path / "systemd.toml"
    file.write_text(text, encoding="utf-8")
    asked = ("--only", "failover.kill", "--only", "rollout.rolling", "--json")
    ended = harness.verify(str(file), "--yes-i-own", "127.0.0.1", *asked)
    assert ended.code == 0, ended.out + ended.err
    assert {each["id"]: each["status"] for each in json.loads(ended.out)["promises"]} == {
        "failover.kill": "pass",
        "rollout.rolling": "pass",
    }
    assert [tuned.version(each) for each in INSTANCES] == ["1", "1", "1"]


# -- the completed unit -----------------------------------------------------------------------------------------------


def test_the_program_is_not_roots(tuned: Machine) -> None:
    """It runs as a user without rights, and what it needs to know but nobody else is not shown."""
    pid = tuned.show(0, "MainPID")
    assert tuned.run("stat", "--format", "%U", f"/proc/{pid}").stdout.strip() == "app"
    assert "DATABASE_URL" not in tuned.run("systemctl", "show", "app@0").stdout
    assert tuned.run("setpriv", "--reuid=app", "--clear-groups", "cat", "/etc/app.env").returncode != 0


def test_a_stopped_instance_ends_in_order_and_is_not_missed(tuned: Machine) -> None:
    """By itself, not killed after TimeoutStopSec; and systemd does not start again what a person has stopped."""
    with tuned.visited() as visits:
        tuned.systemctl("stop", "app@1")
        after = visits.by["app-1"]
        wait_until(
            lambda: min(visits.by[f"app-{each}"] for each in (0, 2)) > 50, within_seconds=60, because="both answer"
        )
    assert visits.answers.keys() == {200}
    assert visits.by["app-1"] <= after + 1  # what was under way when it was looked at
    assert [tuned.show(1, what) for what in ("SubState", "Result", "ExecMainStatus")] == ["dead", "success", "0"]
    tuned.systemctl("start", "app@1")
    tuned.wait_until_ready(1)


def test_a_killed_instance_is_started_again_by_systemd(tuned: Machine) -> None:
    """Nobody starts it, and people are answered meanwhile."""
    before = tuned.show(2, "MainPID")
    with tuned.visited() as visits:
        tuned.systemctl("kill", "--signal=SIGKILL", "app@2")
        wait_until(lambda: tuned.show(2, "MainPID") not in (before, "0"), within_seconds=60, because="it is started")
        tuned.wait_until_ready(2)
    assert tuned.show(2, "NRestarts") == "1"
    # What it was answering when it was killed may be lost; it is one visitor.
    assert visits.answers.total() - visits.answers[200] <= 1


def test_an_instance_that_ends_by_itself_is_started_again_too(tuned: Machine) -> None:
    """Somebody's SIGTERM ends it in order, with exit code 0: for systemd no failure, and for the site one instance less."""
    before = tuned.show(0, "MainPID")
    tuned.systemctl("kill", "--signal=SIGTERM", "app@0")
    wait_until(lambda: tuned.show(0, "MainPID") not in (before, "0"), within_seconds=60, because="it is started")
    tuned.wait_until_ready(0)


def test_an_instance_is_brought_back_however_often_it_dies(tuned: Machine) -> None:
    """By default systemd gives up after five starts in ten seconds."""
    for _ in range(6):
        tuned.systemctl("kill", "--signal=SIGKILL", "app@1")
        wait_until(lambda: tuned.show(1, "SubState") == "running", within_seconds=60, because="it runs again")
    tuned.wait_until_ready(1)


def test_a_rolling_update_costs_nobody_anything(tuned: Machine) -> None:
    """One instance after the other by the script; the release is a link that each has for itself."""
    assert [tuned.version(each) for each in INSTANCES] == ["1", "1", "1"]
    with tuned.visited() as visits:
        for each in INSTANCES:
            ended = tuned.run("deploy", str(each), "2")
            assert ended.returncode == 0, ended.stderr
            assert tuned.version(each) == "2"
        wait_until(lambda: visits.versions["2"] > 50, within_seconds=60, because="the new version is seen")
    assert visits.answers.keys() == {200}
    assert visits.versions.keys() == {"1", "2"}


def test_a_version_that_never_becomes_ready_is_not_let_in(tuned: Machine) -> None:
    """It is tried where nobody is sent: the instance is not even restarted, and nobody meets the version."""
    before = tuned.show(0, "MainPID")
    with tuned.visited() as visits:
        ended = tuned.run("env", "READY_WITHIN=1", "deploy", "0", "bad")
    assert ended.returncode == 1
    assert "version bad does not become ready: app@0 is left as it is" in ended.stderr
    assert (tuned.show(0, "MainPID"), tuned.show(9, "SubState")) == (before, "dead")
    assert visits.answers.keys() == {200}
    assert "bad" not in visits.versions


@pytest.mark.parametrize("words", [("5", "1"), ("0", "9")])
def test_a_deploy_of_what_is_not_there(tuned: Machine, words: tuple[str, str]) -> None:
    """Nothing is restarted."""
    before = tuned.show(0, "MainPID")
    ended = tuned.run("deploy", *words)
    assert (ended.returncode, "deploy: there is no" in ended.stderr) == (2, True)
    assert tuned.show(0, "MainPID") == before


# -- the guide's unit -------------------------------------------------------------------------------------------------


def test_the_guides_deploy_replaces_nothing(guide: Machine) -> None:
    """A file that others run cannot be written: each instance is stopped and started, and is what it was."""
    for each in INSTANCES:
        ended = guide.run("deploy", str(each), "2")
        assert (ended.returncode, "Text file busy" in ended.stderr) == (1, True)
        guide.wait_until_ready(each)
        assert guide.version(each) == "1"


def test_the_guides_unit_restarts_only_after_a_failure(guide: Machine) -> None:
    """Somebody's SIGTERM ends an instance in order, and for systemd that is none: it stays away."""
    guide.systemctl("kill", "--signal=SIGTERM", "app@1")
    wait_until(lambda: guide.show(1, "SubState") == "dead", within_seconds=60, because="it has ended")
    assert [guide.show(1, what) for what in ("Result", "NRestarts", "ActiveState")] == ["success", "0", "inactive"]
