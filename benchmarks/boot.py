"""How long a setup takes to boot: beside its slowest node, beside one node after the other, and with up to 50 instances.

The nodes are started together, so a boot should cost little more than its slowest node: the bound is 1.3 times. The
same setup is then started one node after the other, in a pair with it. The first boot fills the caches (initialised data
directory, bytecode) and does not count. Prints a section of docs/performance.md; asserts nothing.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import is_quick, of, ratios, say, table

from harness import assets, clock
from harness.cluster import Cluster
from harness.layouts import lay_out
from harness.ports import PortLeases
from harness.setup import load_setup, read_environment
from harness.workspace import Workspace

BOUND = 1.3
SIZES = (3, 10, 30, 50)
MB_FOR_EACH_INSTANCE = 120
"""More than an instance of the reference app takes, so that a size that is tried does not end in swapping."""
PATIENCE = 5.0
"""Fifty Python processes that start at once need longer than the few of a setup that is verified."""


def boot(*, instances: int, one_after_the_other: bool = False) -> tuple[float, float]:
    """Seconds until everything was ready, and those of the slowest node of this boot."""
    # Each instance keeps three connections when it is idle: of fifty, Postgres' usual hundred are too few.
    wanted = {"app.instances": instances, "postgres.max_connections": max(100, 5 * instances)}
    setup = load_setup(assets.path("fixtures/setups/reference.toml"), overrides=wanted)
    nodes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workspace = stack.enter_context(Workspace.create(reports=Path(folder), name="boot", seed=os.getpid()))
        ports = PortLeases()
        stack.callback(ports.release_all)
        layout = lay_out(
            setup,
            platform="native",
            workspace=workspace,
            environment=replace(read_environment(), patience=PATIENCE),
            ports=ports,
            stack=stack,
            say=lambda _line: None,
        )
        cluster = Cluster(setup, layout)
        stack.callback(cluster.stop)
        began = clock.now()
        if one_after_the_other:
            for store in layout.stores:
                nodes[store.node.name] = started(store.node, before=store.prepare, after=store.after_ready)
            for instance in layout.instances:
                nodes[instance.name] = started(instance.node)
            nodes["balancer"] = started(layout.balancer_node, before=layout.prepare_balancer)
        else:
            cluster.start(nodes.__setitem__)
        return clock.now() - began, max(nodes.values())


def started(node: Any, *, before: Callable[[], Any] = int, after: Callable[[], Any] = int) -> float:
    """Seconds until this one node was ready."""
    since = clock.now()
    before()
    node.start()
    node.wait_ready()
    after()
    return clock.now() - since


def available_mb() -> int:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(words["MemAvailable"].split()[0]) // 1024


def main() -> None:
    quick = is_quick(str(__doc__))
    say("boot: filling caches")
    boot(instances=3)
    pairs = []
    for number in range(2 if quick else 7):
        pairs.append((boot(instances=3), boot(instances=3, one_after_the_other=True)))
        say(f"boot: pair {number + 1}: {pairs[-1][0][0]:.2f} s, one after the other {pairs[-1][1][0]:.2f} s")
    together = [up for (up, _), _ in pairs]
    to_slowest = ratios(at_once for at_once, _ in pairs)
    print("## Boot\n")
    print(
        f"The reference setup (Postgres, Redis, nginx, 3 instances), natively, {len(pairs)} pairs: "
        f"{of(together)} s until everything was ready.\n"
    )
    print(
        table(
            ["what", "ratio"],
            [
                [f"boot to its slowest node (bound {BOUND})", of(to_slowest)],
                ["one node after the other to boot", of(ratios((slow, fast) for (fast, _), (slow, _) in pairs))],
            ],
        )
    )
    print()
    print(table(["instances", "seconds", "to its slowest node", "seconds for each instance"], sizes(quick)))
    print(
        f"\nInstances start at once and share {os.cpu_count()} processors: from there on a boot costs what the processors need to start "
        "so many Python processes, and the harness adds what the third column says."
    )
    kept = statistics.median(to_slowest) <= BOUND
    say(f"boot: bound {'kept' if kept else 'NOT kept on this machine, now'}")


def sizes(quick: bool) -> list[list[str]]:
    rows = []
    for count in SIZES[:2] if quick else SIZES:
        if available_mb() < 2 * count * MB_FOR_EACH_INSTANCE:
            rows.append([str(count), "not tried: too little memory is free", "", ""])
            continue
        boots = [boot(instances=count) for _ in range(1 if quick else 2)]
        ups = [up for up, _ in boots]
        say(f"boot: {count} instances: {of(ups)} s")
        rows.append([str(count), of(ups), of(ratios(boots)), of([up / count for up in ups])])
    return rows


if __name__ == "__main__":
    main()
