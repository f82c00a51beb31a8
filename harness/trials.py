"""Verifications in processes of their own, by the very command a person would use: for whoever has to verify many times.

Must not: judge, or choose what is verified.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

from harness.errors import JournalError
from harness.reporting import RunResult, from_json

__all__ = ["Trial", "end_trials", "verify"]

_running: set[subprocess.Popen[str]] = set()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one verification came to."""

    result: RunResult | None
    """None: there is no verdict."""
    code: int
    """How its process ended."""
    trouble: str = ""
    """Why there is no verdict: its last words."""


def verify(words: Sequence[str], *, reports: Path) -> Trial:
    """Run `harness verify` with these words, and wait for it. Its results are in a folder of its own below `reports`."""
    argv = [sys.executable, "-m", "harness.cli", "verify", *words, "--json", "--report", str(reports)]
    # Should this process be killed, its trials must not go on: each ends when our end of its input is closed.
    argv += ["--ends-with-stdin"]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        _running.add(process)
        try:
            assert process.stdout is not None
            out = process.stdout.read()
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            _running.discard(process)
        errors.seek(0)
        told = errors.read().strip().splitlines()
    try:
        result = from_json(out, results=reports)
    except JournalError:
        last = told[-1].removeprefix("harness: ") if told else f"no verdicts (exit code {code})"
        return Trial(result=None, code=code, trouble=last)
    # Where it was really written is known by its name alone.
    return Trial(result=replace(result, results=reports / result.run_id), code=code)


def end_trials() -> None:
    """Tell those that run, in whichever thread, to end."""
    for process in list(_running):
        process.terminate()
