"""A deploy watched from outside: a site of the test's own, a command of the test's own, and the verdict on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from scripted_server import ScriptedServer, Talk
from watched_sites import FAST, LOGIN, PYTHON, url, watch

from harness import cli
from harness.waiting import wait_until

pytestmark = pytest.mark.judged


@pytest.fixture
def site() -> Iterator[ScriptedServer]:
    with closing(ScriptedServer()) as server:
        yield server


def told(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "reports/latest/verdicts.json").read_text(encoding="utf-8")))


def test_a_deploy_that_costs_nothing(site: ScriptedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One page is asked for, on new and on kept connections; what the command prints is no part of the verdict."""
    assert watch(tmp_path, url(site, "/page?a=1"), "--", *PYTHON, "print('de' + 'ployed')") == 0
    out, err = capfd.readouterr()
    assert "pass          rollout.rolling" in out
    assert "deployed" not in out
    assert "deployed" in err
    assert "it ended with exit code 0" in err
    assert {seen.path for seen in site.seen} == {"/page?a=1"}
    assert len({seen.connection for seen in site.seen}) < len(site.seen)
    (promise,) = told(tmp_path)["promises"]
    assert promise["id"] == "rollout.rolling"
    page = (tmp_path / "reports/latest/index.html").read_text(encoding="utf-8")
    assert "rollout.rolling" in page


def test_it_can_be_judged_again(site: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From its journal, as any run."""
    assert watch(tmp_path, url(site), "--json", "--", *PYTHON, "pass") == 0
    first = json.loads(capsys.readouterr().out)
    assert cli.main(["rejudge", "--json", str(tmp_path / "reports/latest")]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [promise["measured"] for promise in again["promises"]] == [each["measured"] for each in first["promises"]]


def test_a_deploy_that_costs_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The site answers with an error for as long as the command runs."""
    flag = tmp_path / "deploying"

    def page(talk: Talk) -> None:
        talk.answer(status="502 Bad Gateway" if flag.exists() else "200 OK")

    with closing(ScriptedServer({"/": page})) as site:
        script = (
            f"import pathlib, time; flag = pathlib.Path({str(flag)!r}); flag.touch(); time.sleep(1.5); flag.unlink()"
        )
        assert watch(tmp_path, url(site), "--", *PYTHON, script) == 1
    out = capsys.readouterr().out
    assert "http-502" in out
    assert "the deploy takes all instances away before one of the new ones can serve (likely" in out


def test_sessions_are_kept_or_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With journeys people log in first, and whoever is not known afterwards has lost something."""
    forgotten = threading.Event()
    people: dict[str, bytes] = {}

    def me(talk: Talk) -> None:
        if forgotten.is_set():
            talk.answer(status="303 See Other", headers="Location: /login\r\n")
        else:
            talk.answer(people[talk.seen.headers["cookie"]])

    def login(talk: Talk) -> None:
        email = parse_qs(talk.seen.body.decode())["email"][0]
        people[f"who={len(people)}"] = email.encode()
        talk.answer(headers=f"Set-Cookie: who={len(people) - 1}\r\n")

    def forget(talk: Talk) -> None:
        forgotten.set()
        talk.answer()

    setup = tmp_path / "shop.toml"
    setup.write_text(LOGIN, encoding="utf-8")
    with closing(ScriptedServer({"/me": me, "/login": login, "/forget": forget})) as site:
        assert watch(tmp_path, url(site), "--journey", str(setup), "--", *PYTHON, "pass") == 0
        assert "20 of 20 people stayed logged in" in json.dumps(told(tmp_path))
        script = f"import urllib.request; urllib.request.urlopen({url(site, '/forget')!r}).read()"
        assert watch(tmp_path, url(site), "--journey", str(setup), "--", sys.executable, "-c", script) == 1
    assert "20 of 20 people logged out during the rollout" in capsys.readouterr().out


def test_a_command_that_fails_is_no_deploy(
    site: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it did, and what not, nobody knows: never a pass."""
    assert watch(tmp_path, url(site), "--", *PYTHON, "raise SystemExit(7)") == 3
    assert "the command ended with exit code 7" in capsys.readouterr().out


def test_a_command_that_goes_on_is_ended(
    site: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the time it is given, and nothing of it is left."""
    pid = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    assert watch(tmp_path, url(site), "--within", "1s", "--", *PYTHON, script) == 3
    assert "the command had to be ended after 1 s" in capsys.readouterr().out
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_ctrl_c_ends_the_command_and_keeps_what_was_seen(site: ScriptedServer, tmp_path: Path) -> None:
    """Exit code 130, nothing left running, and an account of what was seen until then."""
    pid = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    words = [
        "-m",
        "harness.cli",
        "watch",
        *FAST,
        "--report",
        str(tmp_path / "reports"),
        url(site),
        "--",
        *PYTHON,
        script,
    ]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(pid.exists, within_seconds=20, because="the command should be run")
    wait_until(lambda: bool(pid.read_text()), within_seconds=5, because="it should say who it is")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert told(tmp_path)["complete"] is False
