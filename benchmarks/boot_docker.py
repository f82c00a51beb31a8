"""How long the reference setup takes in containers, from nothing to the first answer through the balancer.

Side by side in one run: as the harness boots it (everything at once), the same containers one after the other, and
`docker compose up --wait` of the tuned compose project, with the same images where they are ours (HARNESS_IMAGES=built).
Images are warm. Prints a table; asserts nothing. Needs a container engine, and docker compose for the last.
"""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import requests
from guide_verdict import images_of_ours

from harness import assets, clock
from harness.cluster import Cluster
from harness.layouts import lay_out
from harness.ports import PortLeases
from harness.setup import load_setup, read_environment
from harness.waiting import wait_until
from harness.workspace import Workspace

BOOTS = 5
COMPOSE = Path(__file__).parents[1] / "fixtures/compose/tuned/docker-compose.yml"


def ours(*, one_after_the_other: bool) -> float:
    """Seconds from nothing to the first answer through the balancer."""
    setup = load_setup(assets.path("fixtures/setups/reference.toml"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workspace = stack.enter_context(Workspace.create(reports=Path(folder), name="boot", seed=os.getpid()))
        began = clock.now()
        ports = PortLeases()
        stack.callback(ports.release_all)
        layout = lay_out(
            setup,
            platform="docker",
            workspace=workspace,
            environment=read_environment(),
            ports=ports,
            stack=stack,
            say=lambda _line: None,
        )
        cluster = Cluster(setup, layout)
        stack.callback(cluster.stop)
        if one_after_the_other:
            stores = [each.node for each in layout.stores]
            for node in (*stores, *(each.node for each in layout.instances), layout.balancer_node):
                node.start()
                node.wait_ready()
        else:
            cluster.start(lambda _name, _seconds: None)
        wait_for_an_answer(f"http://{layout.balancer.host}:{layout.balancer.port}{setup.entry_page}")
        return clock.now() - began


def composed() -> float | None:
    """The same for the command; None where there is none."""
    project = f"harness-bench-{secrets.token_hex(3)}"
    command = ["docker", "compose", "--project-name", project, "--file", str(COMPOSE)]
    with PortLeases() as ports:
        # The project's own port is 80, and its images are official ones: either may not be had here.
        port = ports.take()
        env = {**os.environ, **images_of_ours(), "HTTP_PORT": str(port)}

        def compose(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=env)

        began = clock.now()
        try:
            up = compose("up", "--wait", "--detach")
            if up.returncode != 0:
                print(up.stderr.strip()[-300:], file=sys.stderr)
                return None
            wait_for_an_answer(f"http://127.0.0.1:{port}/login")
            return clock.now() - began
        finally:
            compose("down", "--volumes", "--timeout", "3")


def wait_for_an_answer(url: str) -> None:
    def answers() -> bool:
        try:
            return requests.get(url, timeout=2).status_code < 500
        except requests.RequestException:
            return False

    wait_until(answers, within_seconds=60, every_seconds=0.01, because=f"{url} should answer")


def main() -> None:
    rows: dict[str, list[float]] = {
        "the harness, all at once": [],
        "one after the other": [],
        "docker compose up --wait": [],
    }
    for _ in range(BOOTS):
        rows["the harness, all at once"].append(ours(one_after_the_other=False))
        rows["one after the other"].append(ours(one_after_the_other=True))
        took = composed()
        if took is not None:
            rows["docker compose up --wait"].append(took)
    base = statistics.median(rows["the harness, all at once"])
    print(f"{'way':<26} {'median s':>9} {'least':>6} {'most':>6} {'ratio':>6}")
    for way, seconds in rows.items():
        if not seconds:
            print(f"{way:<26} not measured: docker compose is not here, or failed")
            continue
        median = statistics.median(seconds)
        print(f"{way:<26} {median:>9.2f} {min(seconds):>6.2f} {max(seconds):>6.2f} {median / base:>6.2f}")


if __name__ == "__main__":
    main()
