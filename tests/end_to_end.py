"""The harness as a person meets it: the command line, real servers, and what is left behind. Slow; run apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engine import NODE_LABEL, RUN_LABEL
from harness.reaper import RUN_MARK, SCRATCH_MARK, SCRATCH_PREFIX

CHECKOUT = Path(__file__).parents[1]
REFERENCE = CHECKOUT / "fixtures/setups/reference.toml"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/engine.sock"}
"""As on a machine that has none."""


class Harness:
    """Runs `harness` in a folder of its own, with results in it. Only where a test is about the engine does it find one.

    What one of its runs leaves on an engine when it is killed, any other harness there may remove and tell of.
    """

    def __init__(self, folder: Path, *, on_engine: bool) -> None:
        self.folder = folder
        self.environment: Mapping[str, str] = {} if on_engine else NO_ENGINE
        self.reports = folder / "reports"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return self.start_as([], *arguments, env=env)

    def start_as(self, prefix: list[str], *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """`prefix`: a program that runs the harness in its own place."""
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "harness.cli", *arguments],
            cwd=self.folder,
            # What is judged here is not for the page of a CI job that runs these tests.
            env={**os.environ, "GITHUB_STEP_SUMMARY": "", **self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    @property
    def pids(self) -> list[int]:
        """Of every harness that was started here."""
        return [process.pid for process in self.started]

    def end(self) -> None:
        """End what a test that failed did not wait for."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=60)

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        process = self.start(*arguments, env=env)
        out, err = process.communicate()  # each test has a time limit
        return Ended(process.returncode, out, err)

    def verify(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        return self("verify", *arguments, env=env)


def waited_for_cores(results: Path) -> dict[str, dict[str, float]]:
    """By scenario of a run: how long, in seconds, each node that serves stood ready and was given no core."""
    records = map(json.loads, (results / "history.jsonl").read_text("utf-8").splitlines())
    values = [record["value"] for record in records if record.get("what") == "waited-for-cores"]
    return {value["scenario"]: value["waited_seconds"] for value in values}


# Somebody else may use the harness on this machine meanwhile: what belongs to a harness that lives is not left, and what
# belonged to a stranger's is not while its reaper is at it.


def scratch_in_use(ours: Collection[int]) -> set[str]:
    """The private folders of runs whose reaper lives, and of these harnesses only while they live themselves.

    Beside each harness is a reaper, which was told where its record is.
    """
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text("utf-8").split("\0") if entry.name.isdigit() else []
            if "harness.reaper" in words:
                path, harness = words[words.index("harness.reaper") + 1 :][:2]
                if int(harness) in ours:
                    os.kill(int(harness), 0)
                found.add(json.loads(Path(path).read_text("utf-8").partition("\n")[0])["scratch"])
        except (OSError, ValueError):  # gone, or about to write its first line
            continue
    return found


def nodes_running(ours: Collection[int]) -> dict[int, str]:
    """Every process on this machine that a run has left: by its environment, or by the folder it works in.

    Nothing may be left of a run of these harnesses (process ids) once they ended, of others once their reapers did.
    """
    used = scratch_in_use(ours)
    found: dict[int, tuple[str, str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = dict(each.partition("=")[::2] for each in (entry / "environ").read_text("utf-8").split("\0"))
            where = str((entry / "cwd").readlink())
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, UnicodeDecodeError):
            continue
        if RUN_MARK in environ or f"/{SCRATCH_PREFIX}" in where:
            found[int(entry.name)] = (words, environ.get(SCRATCH_MARK, where))
    used |= scratch_in_use(ours)  # one may have begun while we looked
    return {
        pid: words for pid, (words, place) in found.items() if not any(place.startswith(scratch) for scratch in used)
    }


def folders_left(ours: Collection[int]) -> list[str]:
    """Working folders of runs, wherever they are put. `ours`: as for processes."""
    roots = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]
    used = scratch_in_use(ours)
    found = [str(path.resolve()) for root in roots if root.is_dir() for path in root.glob(f"{SCRATCH_PREFIX}*")]
    used |= scratch_in_use(ours)
    return [path for path in found if path not in used and Path(path).exists()]


def on_the_engine(client: Any, pids: list[int]) -> list[str]:
    """What these harnesses have on the engine, such as `container app-1`: found by who made it."""
    found: dict[str, str] = {}
    for pid in pids:
        wanted = {"label": [RUN_LABEL, f"harness.pid={pid}"]}
        for each in client.containers.list(all=True, filters=wanted, ignore_removed=True):
            found[each.id] = f"container {each.labels[NODE_LABEL]}"
        found |= {each.id: f"network {each.name}" for each in client.networks.list(filters=wanted)}
        found |= {each.id: f"volume {each.name}" for each in client.volumes.list(filters=wanted)}
    return list(found.values())
