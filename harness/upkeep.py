"""A setup kept running for a person: its addresses, and what to type. Must not: show a secret, or send traffic."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness import assets, clock
from harness.errors import HarnessError, NodeError
from harness.load.plans import plan_of, plan_text
from harness.reporting import shown_path, write_text
from harness.standing import Standing

__all__ = ["keep", "told", "told_in_lines"]

_LOOK_EVERY_SECONDS = 0.5


def told(standing: Standing, *, words: Sequence[str]) -> Mapping[str, Any]:
    """What a person or a program may know of it, as plain data. The journeys are written into the folder of the run, for
    whoever starts Locust by hand.

    Args:
        words: what names this setup on a command line that boots nothing.
    """
    cluster = standing.cluster
    host = standing.url
    plan = standing.workspace.results / "plan.json"
    write_text(plan, plan_text(replace(plan_of(standing.setup), authority=standing.authority)))
    plan.chmod(0o600)  # a journey may have a token in its headers
    locustfile = assets.path("scenarios/load/locustfile.py")
    return {
        "format": "harness-up",
        "version": 1,
        "run": standing.workspace.run_id,
        "setup": standing.setup.name,
        "platform": cluster.layout.platform,
        "balancer": host,
        # Replicas of an orchestrator are reached through the balancer alone.
        "instances": {instance.name: f"http://{instance.address}" for instance in cluster.instances},
        "logs": str(standing.workspace.logs),
        "commands": [
            shlex.join(["harness", "load", *words, "--host", host]),
            shlex.join(["locust", "-f", shown_path(locustfile), "--setup", shown_path(plan), "--host", host]),
        ],
    }


def told_in_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same for a terminal."""
    width = max(map(len, ("balancer", *facts["instances"])))
    lines = [f"{'balancer':<{width}}  {facts['balancer']}"]
    lines += [f"{name:<{width}}  {address}" for name, address in facts["instances"].items()]
    lines += [f"{'logs':<{width}}  {facts['logs']}", "", *facts["commands"], ""]
    return [*lines, "Ctrl-C ends it, and nothing is left behind."]


def keep(standing: Standing, *, is_over: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Return when it is over. A node that ends meanwhile is told once, and once more when it is back.

    Raises:
        KeyboardInterrupt: the person has had enough.
    """
    layout = standing.cluster.layout
    stores = [store.node for store in layout.stores]
    nodes = [*(instance.node for instance in standing.cluster.instances), layout.balancer_node, *stores]
    gone: set[str] = set()
    while not is_over():
        clock.sleep(_LOOK_EVERY_SECONDS)
        for node in nodes:
            try:
                runs = node.is_running()
            except (NodeError, HarnessError) as problem:
                raise HarnessError(f"{node.name} cannot be looked at any more: {problem}") from problem
            if not runs and node.name not in gone:
                gone.add(node.name)
                said = " / ".join(standing.redactor(line) for line in node.last_log_lines(2))
                say(f"{node.name} has ended with code {node.exit_code}: {said or 'it said nothing'}")
            elif runs and node.name in gone:
                gone.discard(node.name)
                say(f"{node.name} runs again")
