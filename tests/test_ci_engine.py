"""`.ci/engine`: one that answers is left alone, one that is installed is started, and what cannot be done is told."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import processes
from harness.waiting import wait_until

SCRIPT = Path(__file__).parents[1] / ".ci/engine"

# `docker version` answers once the daemon that is played has written a file.
DOCKER = '#!/bin/sh\ntest -e "$PLAYED/answers" && echo 20.10\n'
DOCKERD = '#!/bin/sh\ntouch "$PLAYED/answers"\nexec tail -f /dev/null\n'


class Machine:
    """What is installed on a machine, as a PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()

    def has(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.programs}:{os.defpath}", "PLAYED": str(self.folder), "TMPDIR": str(self.folder)}
        return subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    machine.has("docker", DOCKER)
    machine.has("id", "#!/bin/sh\necho 0\n")
    yield machine
    (tmp_path / "answers").unlink(missing_ok=True)


def test_an_engine_that_answers_is_left_alone(machine: Machine) -> None:
    """Nothing is started, so nobody is told to stop anything."""
    (machine.folder / "answers").touch()
    machine.has("dockerd", "#!/bin/sh\nexit 1\n")
    ended = machine.run()
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "an engine answers: version 20.10" in ended.stderr


def test_an_engine_that_is_installed_is_started(machine: Machine) -> None:
    """Its pid is the one line of output; it lives on, with its log in a folder of its own."""
    machine.has("dockerd", DOCKERD)
    ended = machine.run()
    assert ended.returncode == 0, ended.stderr
    pid = int(ended.stdout)
    try:
        seen = processes.look(pid)
        assert seen is not None
        assert seen.is_alive
        assert len(list(machine.folder.glob("harness-engine.*/dockerd.log"))) == 1
    finally:
        os.killpg(pid, signal.SIGKILL)
    wait_until(
        lambda: (now := processes.look(pid)) is None or not now.is_alive,
        within_seconds=5,
        because="the daemon that is played should be gone",
    )


def test_an_engine_that_ends_at_its_start(machine: Machine) -> None:
    """Exit code 3, its last words, and what a person does."""
    machine.has("dockerd", "#!/bin/sh\necho failed to start daemon: no iptables\nexit 1\n")
    ended = machine.run()
    assert (ended.returncode, ended.stdout) == (3, "")
    for words in ("failed to start daemon: no iptables", "NO CONTAINER ENGINE: dockerd ended", "what a person does"):
        assert words in ended.stderr


def test_nobody_but_root_can_start_one(machine: Machine) -> None:
    """It is told before anything is tried."""
    machine.has("id", "#!/bin/sh\necho 1000\n")
    machine.has("dockerd", DOCKERD)
    ended = machine.run()
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "starting it needs root" in ended.stderr
    assert "usermod -aG docker" in ended.stderr
