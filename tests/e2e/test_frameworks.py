"""The application of Flask, judged as docs/frameworks.md has it, by what came with the packages of this environment."""

from __future__ import annotations

import json

import pytest
from end_to_end import CHECKOUT, Harness

FLASK = CHECKOUT / "fixtures/frameworks/flask/harness.toml"
COMMAND = ["{python}", "-m", "flask", "run", "--host", "{host}", "--port", "{port}"]
MIGRATE = ["{python}", "-m", "flask", "init-db"]
"""Flask's own server in the place of gunicorn, which is nothing that this environment needs."""


@pytest.mark.judged
def test_flask_keeps_its_sessions_in_the_cookie(harness: Harness) -> None:
    """So that every instance knows them, and nobody can end them: the verdicts say both, and why."""
    pytest.importorskip("flask", reason="Flask comes with Locust")
    only = ("session.every-instance", "session.logout-everywhere")
    own = [f"app.command={json.dumps(COMMAND)}", f"app.migrate={json.dumps(MIGRATE)}"]
    asked = [word for name in only for word in ("--only", name)] + [word for each in own for word in ("--set", each)]
    ended = harness.verify(str(FLASK), "--json", "--seed", "1", *asked)
    assert ended.code == 1, ended.err
    verdicts = json.loads(ended.out)["promises"]
    assert {each["id"]: each["status"] for each in verdicts} == {
        "session.every-instance": "pass",
        "session.logout-everywhere": "fail",
    }
    causes = {cause["id"] for each in verdicts for found in each["findings"] for cause in found["causes"]}
    assert causes == {"logout-cookie-only"}
