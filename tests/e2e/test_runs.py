"""Whole runs: two at once, with the machine busy, from an installed wheel, judged again, and free of secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from end_to_end import CHECKOUT, Harness, waited_for_cores

from harness.promises import CATALOGUE

Check = Callable[[], None]

pytestmark = [pytest.mark.timeout(300), pytest.mark.judged]


# Each kind of scenario: single questions, traffic while instances are lost and replaced, and what is in flight.
KINDS = (
    "instances.*",
    "session.every-instance",
    "session.survives-restart",
    "distribution.*",
    "failover.kill",
    "failover.hang",
    "rollout.rolling",
    "shutdown.inflight",
)


def passed(code: int, out: str, err: str, *promises: str) -> None:
    """Exit code 0, and pass for every promise that fits one of these and that processes can be asked."""
    assert code == 0, out + err
    verdicts = json.loads(out)
    statuses = {each["id"]: each["status"] for each in verdicts["promises"]}
    assert set(statuses.values()) == {"pass"}
    wanted = {promise for promise in CATALOGUE if any(fnmatchcase(promise, each) for each in promises)}
    assert set(statuses) | (set(verdicts.get("left_out", ())) & wanted) == wanted
    assert len(statuses) >= len(promises)


def test_two_runs_at_once_both_pass(harness: Harness, nothing_left: Check) -> None:
    """They share no port, no folder and no server, also where instances are lost and replaced."""
    promises = ("session.every-instance", "failover.kill", "failover.stop", "rollout.rolling")
    runs = [harness.start("verify", "--json", "--seed", "7", *map("--only={}".format, promises)) for _ in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=200)
        passed(run.returncode, out, err, *promises)
    assert len([path for path in harness.reports.iterdir() if not path.is_symlink()]) == 2


def test_a_run_passes_with_both_cores_busy(harness: Harness, nothing_left: Check) -> None:
    """A verdict is about the setup, not about how fast the machine is today."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 2)]
    try:
        run = harness.start("verify", "--json", *map("--only={}".format, KINDS))
        out, err = run.communicate(timeout=280)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    passed(run.returncode, out, err, *KINDS)


def test_a_stored_run_is_judged_again_and_holds_no_secret(harness: Harness, nothing_left: Check) -> None:
    """The journal on disk is the truth: the same verdicts follow from it, and no credential is in any result."""
    promises = ("instances.*", "session.every-instance", "session.counter", "session.survives-restart", "isolation.*")
    ended = harness.verify("--json", *map("--only={}".format, promises))
    assert ended.code == 0, ended
    results = harness.reports / "latest"
    again = harness("rejudge", str(results), "--json")
    assert again.code == 0, again

    def verdicts(text: str) -> dict[str, tuple[str, str]]:
        return {each["id"]: (each["status"], each["measured"]) for each in json.loads(text)["promises"]}

    assert verdicts(again.out) == verdicts(ended.out)
    waited = waited_for_cores(results)
    assert len(waited) >= len(promises), "it is looked at in each scenario"
    assert {frozenset(each) for each in waited.values()} == {frozenset(("nginx", "app-1", "app-2", "app-3"))}
    files = [path for path in results.rglob("*") if path.is_file()]
    assert {"verdicts.json", "history.jsonl", "summary.md", "junit.xml", "index.html"} <= {path.name for path in files}
    assert {path.name for path in (results / "logs").iterdir()} >= {"postgres.log", "nginx.log", "app-1.log"}
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"(postgres|postgresql|redis)://[^:/\s]*:[^*@\s]+@", text), path
        assert not re.search(r"session_id=[A-Za-z0-9]", text), path


def test_a_broken_setup_is_told_with_cause_and_remedy(harness: Harness, nothing_left: Check) -> None:
    """What a person sees of a broken promise: seen, cause, remedy, the report and the command to repeat."""
    arguments = ("--set", "app.env.KNOWN_BAD=session-in-memory", "--only", "session.every-instance", "--seed", "11")
    ended = harness.verify(*arguments)
    assert ended.code == 1, ended
    for word in ("fail", "session.every-instance", "seen", "cause", "remedy", "guide", "index.html", "--seed 11"):
        assert word in ended.out
    assert "\x1b" not in ended.out


def test_pytest_is_the_same_run(harness: Harness, nothing_left: Check) -> None:
    """The other door: pytest with the same options."""
    command = [sys.executable, "-m", "pytest", str(CHECKOUT / "scenarios"), "-k", "every_instance_answers"]
    command += ["--seed", "5", "--report", str(harness.reports), "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=harness.folder, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "instances.answer" in run.stdout
    assert (harness.reports / "latest" / "verdicts.json").is_file()


def test_an_installed_wheel_does_what_the_checkout_does(harness: Harness, nothing_left: Check, tmp_path: Path) -> None:
    """Scenarios, setups and the reference application are inside the wheel."""
    wheels, installed = tmp_path / "wheels", tmp_path / "installed"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(CHECKOUT)]
    subprocess.run(build, check=True, timeout=200)
    [wheel] = wheels.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run(install, check=True, timeout=100)
    env = {"PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import harness; print(harness.__file__)"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed))
    ended = harness.verify("--json", "--only", "instances.*", "--only", "session.every-instance", env=env)
    assert ended.code == 0, ended
