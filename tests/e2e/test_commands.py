"""Commands that start no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from end_to_end import Harness

from harness.promises import CATALOGUE


def test_promises_are_listed(harness: Harness) -> None:
    """For people and for programs."""
    ended = harness("promises")
    assert ended.code == 0
    listed = json.loads(harness("promises", "--json").out)
    assert [each["id"] for each in listed] == list(CATALOGUE)
    for promise in CATALOGUE.values():
        assert promise.id in ended.out
        assert promise.sentence in ended.out


def test_the_schema_is_json(harness: Harness) -> None:
    """As editors read it."""
    schema = json.loads(harness("schema").out)
    assert schema["properties"]["app"]


def test_no_command_at_all(harness: Harness) -> None:
    """Exit code 2 and the list of commands."""
    ended = harness()
    assert ended.code == 2
    assert "verify" in ended.err


def test_a_run_that_is_none_cannot_be_judged_again(harness: Harness) -> None:
    """The folder is named."""
    ended = harness("rejudge", "nowhere")
    assert ended.code == 2
    assert "nowhere" in ended.err


def test_importing_the_package_is_light() -> None:
    """The reaper starts from it: nothing heavy may come along."""
    code = "import sys, harness; sys.exit(len({'pydantic', 'rich', 'requests', 'pytest'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0
