"""Shows `summary.md` where a CI service shows it with the job. Must not: change a verdict, or fail a run."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["append_summary"]

# GitHub takes 1 MiB for a step and then shows nothing of it. Other programs of the step may write there as well.
_LIMIT_BYTES = 1 << 20


def append_summary(summary: Path, *, to: Path) -> str:
    """Append `summary.md` to a file that a CI service shows. Returns why it was not; empty when it was.

    Appended, as other programs of the same step write there. Written at once, so that nobody's text gets into ours.

    Source for the limit: GitHub's documentation of job summaries, "step isolation and limits".
    """
    try:
        text = summary.read_bytes()
        with to.open("ab") as file:
            there = os.fstat(file.fileno()).st_size
            if there + len(text) > _LIMIT_BYTES:
                return f"the summary was not appended to {to}: it would be larger than 1 MiB, which is not shown"
            # Whoever wrote there last may have left its line open.
            file.write(b"\n" + text if there else text)
    except OSError as problem:
        why = problem.strerror or type(problem).__name__
        return f"the summary was not appended to {to} ({why}): GITHUB_STEP_SUMMARY names that file"
    return ""
