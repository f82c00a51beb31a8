"""The units of fixtures/systemd, read and not run: one is the guide's, and the other agrees with what it starts."""

from __future__ import annotations

import re
import subprocess

import pytest

from harness import assets
from harness.setup import load_setup

FOLDER = assets.path("fixtures/systemd")
GUIDE = """\
[Unit]
Description=Gojang Application Instance %i
After=network.target postgresql.service

[Service]
Type=simple
User=gojang
WorkingDirectory=/opt/gojang
Environment="PORT=808%i"
Environment="DEBUG=false"
Environment="DATABASE_URL=postgres://user:pass@localhost:5432/gojang"
Environment="REDIS_URL=redis://localhost:6379"
ExecStart=/opt/gojang/gojang
Restart=on-failure
RestartSec=5s

[Install]
WantedBy=multi-user.target
"""
"""As it stands there."""


def settings(name: str) -> list[str]:
    """What is set, in order, without the words around it."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_guides_unit_is_the_guides() -> None:
    """Every line of it, in its order; what is there besides says that it is a departure, and why."""
    renamed = GUIDE.replace("Gojang", "App").replace("gojang", "app").replace("user:pass", "app:pass")
    theirs = [line for line in renamed.splitlines() if line]
    ours = settings("guide/app@.service")
    told_apart = [line.replace("/opt/app/app /opt/app/app", "/opt/app/app") for line in ours]
    assert [line for line in told_apart if line in theirs] == theirs
    besides = [line for line in told_apart if line not in theirs]
    text = (FOLDER / "guide/app@.service").read_text(encoding="utf-8")
    told = re.findall(r"^# DEPARTURE: .+\n((?:[^#\n].*\n)+)", text, re.MULTILINE)
    assert {*besides, "ExecStart=/opt/app/app /opt/app/app"} <= {line for block in told for line in block.splitlines()}


def test_an_instance_is_given_longer_to_end_than_it_takes() -> None:
    """Else systemd kills it while it finishes what is under way."""
    values = dict(line.split("=", 1) for line in settings("tuned/app.env"))
    (limit,) = [line.removeprefix("TimeoutStopSec=") for line in settings("tuned/app@.service") if "StopSec" in line]
    assert int(limit.removesuffix("s")) > int(values["FINISH_SECONDS"])


def test_the_units_agree_with_nginx() -> None:
    """Ports and number of instances."""
    for kind in ("guide", "tuned"):
        servers = re.findall(r"^ +server 127\.0\.0\.1:(\d+) ", (FOLDER / kind / "nginx.conf").read_text(), re.MULTILINE)
        (port,) = re.findall(r"PORT=(\d+)%i", (FOLDER / kind / "app@.service").read_text())
        assert servers == [f"{port}{each}" for each in range(3)]


def test_its_setup_file_is_sound() -> None:
    """It is read, and all that it names is what machine.sh makes: see tests/e2e/test_systemd.py."""
    setup = load_setup(FOLDER / "harness.toml")
    assert setup.remote is not None
    assert [setup.remote.hook("deploy", name) is not None for name in setup.remote.instances] == [True] * 3


@pytest.mark.parametrize("script", ["machine.sh", "guide/deploy", "tuned/deploy"])
def test_its_scripts_can_be_read(script: str) -> None:
    """By the shell."""
    subprocess.run(["bash", "-n", str(FOLDER / script)], check=True)
