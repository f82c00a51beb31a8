"""The harness as a person meets it: the command line, real servers, and what is left behind. Slow; run apart."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
REFERENCE = CHECKOUT / "fixtures/setups/reference.toml"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class Harness:
    """Runs `harness` in a folder of its own, with results in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports = folder / "reports"

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=110)
        return Ended(process.returncode, out, err)

    def verify(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        return self("verify", *arguments, env=env)


def nodes_running() -> dict[int, str]:
    """Every process on this machine that belongs to a run: by its environment, or by the folder it works in."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environ = (entry / "environ").read_bytes()
            where = str((entry / "cwd").readlink())
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if b"HARNESS_RUN=" in environ or "/harness-" in where:
            found[int(entry.name)] = words
    return found


def folders_left() -> list[str]:
    """Working folders of runs, wherever they are put."""
    roots = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]
    return [str(path) for root in roots if root.is_dir() for path in root.glob("harness-run-*")]
