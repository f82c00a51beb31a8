"""Arguments of processes are seen by everybody on a machine: no password of a run is among them, nor in what the run tells."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from end_to_end import Harness

from harness.reaper import RUN_MARK


def processes(name: str) -> dict[Path, str]:
    """What stands in this file of every process of this machine that can be looked at."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[entry] = (entry / name).read_text("utf-8", "replace")
            except OSError:
                continue
    return found


def test_no_password_is_an_argument(harness: Harness, nothing_left: Callable[[], None]) -> None:
    """Of a database, a session store, an instance or a balancer: they are told in files and variables."""
    process = harness.start("up", "--json", "--report", str(harness.reports))
    assert process.stdout is not None
    told = process.stdout.readline()
    facts = json.loads(told)
    variables = [
        dict(pair.partition("=")[::2] for pair in text.split("\0") if "=" in pair)
        for text in processes("environ").values()
        if f"{RUN_MARK}={facts['run']}" in text
    ]
    secrets = {
        value
        for each in variables
        for key in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
        if (value := each.get(key, "").rpartition("@")[0].rpartition(":")[2] or each.get(key, ""))
    }
    assert len(secrets) >= 3, "what the instances were told"
    seen = processes("cmdline")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    written = {path: path.read_text("utf-8", "replace") for path in harness.reports.rglob("*") if path.is_file()}
    for secret in secrets:
        assert not [words for words in seen.values() if secret in words]
        assert secret not in told + err
        assert not [path for path, text in written.items() if secret in text]
