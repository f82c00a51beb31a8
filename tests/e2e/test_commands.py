"""Commands that judge nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from end_to_end import REFERENCE, Harness

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


def test_a_setup_is_looked_at(harness: Harness) -> None:
    """Each part, what would be judged, and what not and why; nothing is left running."""
    ended = harness("doctor", str(REFERENCE))
    assert ended.code == 0, ended.err
    assert [line.split()[1] for line in ended.out.splitlines() if line.startswith(" ok")] == [
        "machine",
        "starts",
        "healthy",
        "journeys",
        "identity",
        "promises",
    ]
    assert "not failover.partition: native" in ended.out


def test_a_setup_is_looked_at_up_to_what_does_not_work(harness: Harness) -> None:
    """Exit code 2, the part and the remedy."""
    ended = harness("doctor", str(REFERENCE), "--set", "app.health=/nowhere", "--json")
    assert ended.code == 2
    parts = json.loads(ended.out)["parts"]
    assert [(part["what"], part["ok"]) for part in parts] == [("machine", True), ("starts", True), ("healthy", False)]
    assert "app-1: status 404" in parts[-1]["told"]


def test_the_journeys_of_the_reference_are_tried(harness: Harness) -> None:
    """All of them go as declared, on an instance that was booted for it."""
    ended = harness("journey", "--try", "--json")
    assert ended.code == 0, ended.out
    assert {step["journey"] for step in json.loads(ended.out)} >= {"register", "login", "detour", "whoami, logged out"}
