"""How long a boot of the reference setup takes, as a ratio to its slowest node in the same boot.

The nodes are started together, so a boot should cost little more than its slowest node: the bound is 1.3 times. The
first boot fills the caches (initialised data directory, bytecode) and is shown apart. Prints a table; asserts nothing.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import assets, clock
from harness.cluster import boot
from harness.setup import load_setup
from harness.workspace import Workspace

BOOTS = 7


def one_boot(reports: Path) -> tuple[float, float, dict[str, float], float]:
    """Seconds to boot, of the slowest node, of each node, and to stop everything."""
    setup = load_setup(assets.path("fixtures/setups/reference.toml"))
    nodes: dict[str, float] = {}
    with Workspace.create(reports=reports, name="boot", seed=1) as workspace:
        with boot(setup, workspace=workspace, hide=lambda _secrets: None, on_ready=nodes.__setitem__) as cluster:
            up = cluster.up_seconds
            stopping = clock.now()
        stopped = clock.now() - stopping
    return up, max(nodes.values()), nodes, stopped


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = [one_boot(Path(folder)) for _ in range(BOOTS)]
    print(f"{'boot':>6} {'seconds':>8} {'slowest node':>13} {'ratio':>6} {'stop':>6}   nodes")
    for number, (up, slowest, nodes, stopped) in enumerate(runs, start=1):
        told = "  ".join(f"{name} {seconds:.2f}" for name, seconds in nodes.items())
        print(f"{number:>6} {up:>8.2f} {slowest:>13.2f} {up / slowest:>6.2f} {stopped:>6.2f}   {told}")
    warm = [up / slowest for up, slowest, _, _ in runs[1:]]
    print(f"warm: ratio {min(warm):.2f} to {max(warm):.2f}, median {statistics.median(warm):.2f} (bound 1.3)")


if __name__ == "__main__":
    main()
