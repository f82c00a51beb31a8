"""The owner of a site that others judge: stops, starts and replaces its instances, as hooks do on machines far away.

`python site_owner.py FILE VERB INSTANCE`. FILE is JSON: by instance its argv, environment, folder and process id, as
`of_processes` writes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WITHIN_SECONDS = 20.0
VERBS = ("stop", "start", "kill", "pause", "resume", "deploy", "revert")


def of_processes(pids: Mapping[str, int]) -> str:
    """What the owner must know of instances that run."""
    return json.dumps({name: _seen(pid) for name, pid in pids.items()})


def hooks(file: Path) -> str:
    """The keys of [remote] that let the harness do all that this owner can."""
    return "\n".join(
        f"{verb} = {json.dumps([sys.executable, '-S', __file__, str(file), verb, '{instance}'])}" for verb in VERBS
    )


def _seen(pid: int) -> dict[str, Any]:
    folder = Path(f"/proc/{pid}")
    variables = (each.partition("=") for each in folder.joinpath("environ").read_text().split("\0") if each)
    return {
        "pid": pid,
        "argv": folder.joinpath("cmdline").read_text().rstrip("\0").split("\0"),
        "env": {name: value for name, _, value in variables},
        "folder": str(folder.joinpath("cwd").readlink()),
    }


@contextlib.contextmanager
def _known(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("r+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        known = json.load(opened)
        yield known
        opened.seek(0)
        opened.truncate()
        json.dump(known, opened)


def _is_there(pid: int) -> bool:
    """A child of somebody else's is nobody's to wait for; one that has ended and was not collected is gone all the same."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _end(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    end = time.monotonic() + WITHIN_SECONDS
    while _is_there(pid) and time.monotonic() < end:
        time.sleep(0.01)


def _start(one: dict[str, Any]) -> None:
    process = subprocess.Popen(
        one["argv"],
        env=one["env"],
        cwd=one["folder"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    one["pid"] = process.pid


def main(file: str, verb: str, name: str) -> int:
    with _known(Path(file)) as known:
        one = known[name]
        pid = one["pid"]
        if verb in ("deploy", "revert"):
            one["env"]["APP_VERSION"] = "2" if verb == "deploy" else "1"
        if verb in ("stop", "deploy", "revert"):
            _end(pid, signal.SIGTERM)
        if verb == "kill":
            _end(pid, signal.SIGKILL)
        if verb in ("pause", "resume"):
            os.kill(pid, signal.SIGSTOP if verb == "pause" else signal.SIGCONT)
        if verb in ("start", "deploy", "revert") and not _is_there(one["pid"]):
            _start(one)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
