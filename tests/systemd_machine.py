"""A machine under systemd, which is a container: started as docs/systemd.md says, and told things as a person tells it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from harness import assets, engine, images
from harness.errors import MissingPrerequisite
from harness.setup import read_environment
from harness.waiting import wait_until

INSTANCES = (0, 1, 2)
IMAGE = "machine"
_SECONDS = 120
"""More than anything that is done on it takes on a busy machine."""


@dataclass(frozen=True)
class Machine:
    """One that is up. Instances are named by their number, as units are: 1 is `app@1`."""

    name: str
    """Of its container."""
    balancer: str
    """Where people go."""
    instances: tuple[str, ...]
    """Where each instance is reached without it."""

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command on it, by root, and how that ended."""
        return subprocess.run(
            ["docker", "exec", self.name, *argv], capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def systemctl(self, *argv: str) -> None:
        """What must succeed."""
        ended = self.run("systemctl", *argv)
        assert ended.returncode == 0, ended.stderr

    def show(self, instance: int, what: str) -> str:
        """A property of its unit, such as `MainPID`."""
        ended = self.run("systemctl", "show", "--value", "--property", what, f"app@{instance}")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def version(self, instance: int) -> str | None:
        """What it says of itself when it is ready; None while it is not."""
        try:
            answer = requests.get(f"{self.instances[instance]}/ready", timeout=5)
        except requests.ConnectionError:  # an engine's proxy accepts, and then has nobody to speak to
            return None
        return answer.headers["X-App-Version"] if answer.status_code == 200 else None

    def wait_until_ready(self, instance: int) -> None:
        wait_until(lambda: self.version(instance), within_seconds=60, because=f"app@{instance} should be ready")

    @contextmanager
    def visited(self) -> Iterator[Visits]:
        """People ask through the balancer, one after the other and each by a connection of their own, meanwhile."""
        visits = Visits()
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                visits.note(self.balancer)

        asking = threading.Thread(target=ask, name="visitors")
        asking.start()
        try:
            yield visits
        finally:
            over.set()
            asking.join()


class Visits:
    """What visitors were answered."""

    def __init__(self) -> None:
        self.answers: Counter[int | str] = Counter()
        """By status, or what went wrong."""
        self.by: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()

    def note(self, balancer: str) -> None:
        try:
            answer = requests.get(f"{balancer}/login", timeout=20)
        except requests.RequestException as problem:
            self.answers[type(problem).__name__] += 1
            return
        self.answers[answer.status_code] += 1
        self.by[answer.headers.get("X-App-Instance", "nobody")] += 1
        self.versions[answer.headers.get("X-App-Version", "none")] += 1


def engine_or_skip() -> Any:
    """An engine that has the image, which is made when it is not there. Skips where there is none, or no docker command."""
    if shutil.which("docker") is None:
        pytest.skip("a machine under systemd is started and told things by the docker command, which is not here")
    where = engine.address(read_environment())
    try:
        client = engine.connect(where)
    except MissingPrerequisite as problem:
        pytest.skip(f"a machine under systemd needs a container engine: {problem}")
    images.build([IMAGE], where=where)
    return client


@contextmanager
def started(kind: str, client: Any, folder: Path) -> Iterator[Machine]:
    """A machine of this kind (`guide`, `tuned`). It is a run's: whatever becomes of us, `harness clean` removes it.

    `folder`: private to whoever starts it.
    """
    name = f"harness-{kind}-{folder.name}"
    labels = engine.labels(run=name, scratch=folder)
    options = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    try:
        begun = subprocess.run(
            ["bash", str(assets.path("fixtures/systemd/machine.sh")), kind, name, "0", *options],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert begun.returncode == 0, begun.stderr
        ports = client.containers.get(name).ports
        at = [f"http://127.0.0.1:{ports[f'{inside}/tcp'][0]['HostPort']}" for inside in (80, 8080, 8081, 8082)]
        yield Machine(name, at[0], tuple(at[1:]))
    finally:
        engine.remove_run(name, url=engine.address(read_environment()).url, scratch=folder.name)
