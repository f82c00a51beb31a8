"""From a setup file to what people do in a load run: the journeys and the shares of a verification.

Must not: know Locust, or hold a secret: visitors make theirs where they are.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import BadInput
from harness.journeys import compile_journeys
from harness.load.people import Plan
from harness.setup import Setup, load_setup
from harness.visitors import BROWSE

__all__ = ["plan_of", "plan_text", "read_plan"]


def plan_of(setup: Setup) -> Plan:
    """What people do in this application.

    Raises:
        BadInput: its journeys hold nothing that a person could do once logged in.
    """
    declared = {
        name: journey.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for name, journey in setup.journey.items()
    }
    shares = {name: share for name, share in BROWSE.items() if name in declared}
    if not shares:
        raise BadInput(f"{setup.name} declares none of the journeys people browse by: add [journey.whoami]")
    return Plan(
        journeys=compile_journeys({name: declared[name] for name in ("register", "login", *shares)}),
        shares=shares,
        timeout_seconds=setup.traffic.timeout_seconds,
        headers=setup.traffic.headers,
    )


def plan_text(plan: Plan) -> str:
    """As a file that `read_plan` reads."""
    return json.dumps({"format": "harness-load-plan", "version": 1, **plan.declared()}, indent=1)


def read_plan(path: Path) -> Plan:
    """The plan of a setup file (TOML), or of a file that holds one already (JSON).

    Raises:
        SetupError: it cannot be used, with every mistake.
        BadInput: there is no such file.
    """
    if path.suffix != ".json":
        return plan_of(load_setup(path))
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BadInput(f"the plan {path} cannot be read: {problem}") from problem
    if not isinstance(plain, dict) or plain.get("format") != "harness-load-plan" or plain.get("version") != 1:
        raise BadInput(
            f"{path} is no plan of a load run of version 1: name a setup file, or the plan.json of `harness up`"
        )
    return Plan.from_declared(plain)
