"""From a setup file to what people do in a load run: the journeys and the shares of a verification.

Must not: know Locust, or hold a secret beside the passwords of people who are given: others make theirs where they are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from harness.errors import BadInput
from harness.journeys import compile_journeys
from harness.load.people import Plan
from harness.setup import Setup, know_people, load_setup, read_environment
from harness.visitors import BROWSE, people_of

__all__ = ["plan_of", "plan_text", "read_plan"]


def plan_of(setup: Setup) -> Plan:
    """What people do in this application.

    Raises:
        BadInput: its journeys hold nothing that a person could do once logged in.
    """
    declared = setup.declared_journeys()
    shares = {name: share for name, share in BROWSE.items() if name in declared}
    if not shares:
        raise BadInput(f"{setup.name} declares none of the journeys people browse by: add [journey.whoami]")
    return Plan(
        journeys=compile_journeys(
            {name: declared[name] for name in ("register", "login", *shares) if name in declared}
        ),
        shares=shares,
        timeout_seconds=setup.traffic.timeout_seconds,
        headers=setup.traffic.headers,
        people=people_of(setup),
        setup=str(setup.file or "") if setup.people else "",
    )


def plan_text(plan: Plan, *, whole: bool = False) -> str:
    """As a file that `read_plan` reads. `whole`: with who is given, their passwords, and files of a person's own."""
    declared = plan.declared_whole() if whole else plan.declared()
    return json.dumps({"format": "harness-load-plan", "version": 1, **declared}, indent=1)


def read_plan(path: Path) -> Plan:
    """The plan of a setup file (TOML), or of a file that holds one already (JSON).

    Raises:
        SetupError: it cannot be used, with every mistake.
        BadInput: there is no such file.
    """
    if path.suffix != ".json":
        return plan_of(know_people(load_setup(path), read_environment()))
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BadInput(f"the plan {path} cannot be read: {problem}") from problem
    if not isinstance(plain, dict) or plain.get("format") != "harness-load-plan" or plain.get("version") != 1:
        raise BadInput(
            f"{path} is no plan of a load run of version 1: name a setup file, or the plan.json of `harness up`"
        )
    plan = Plan.from_declared(plain)
    if plan.setup:
        # Who is given is not told there: no password has a place among the results of a run.
        return replace(plan, people=people_of(know_people(load_setup(Path(plan.setup)), read_environment())))
    return plan
