"""What the loss of an instance and a rolling deploy cost behind nginx and HAProxy: the page docs/balancers.md.

Each setup is verified by the command a person would use, one after the other in this run, natively and in containers
where an engine answers. Prints Markdown (`make balancers` writes the page); asserts nothing, and a promise that is
broken is told as it was seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SETUPS = {
    "nginx, guide": "fixtures/setups/guide.toml",
    "nginx, tuned": "fixtures/setups/reference.toml",
    "HAProxy, guide": "fixtures/setups/guide-haproxy.toml",
    "HAProxy, tuned": "fixtures/setups/reference-haproxy.toml",
}
PLATFORMS = {"native": "Processes", "docker": "Containers"}
FAULTS = {
    "kill": "kill",
    "stop": "stop",
    "hang": "hang (native: SIGSTOP, containers: pause)",
    "out-of-memory": "out of memory",
    "cut-off-refusal": "cut off, connection refused",
    "cut-off-silence": "cut off, no answer",
    "new-address": "comes back under a new address",
}
PAGE = """\
# Balancers side by side

What the loss of one instance of three and a rolling deploy cost, at about 100 requests a second, with the guide's own
settings and with those of the reference setups. All of it was measured in one run by `make balancers`; compare the columns,
not the absolute times of another machine.

- **failed**: requests that failed, of all that were due from the fault until the instance was ready again.
- **knows after**: until fewer than 5 % of the requests were tried at the lost instance. Not seen: not within the fault.
- **slowest**: the slowest answer, from when it was due.
- **used again**: from ready until its first answer through the balancer. Not seen: not within 15 s.

Nothing tested: the guide's settings may leave nothing to test, such as when requests failed before the fault already, or nobody
could log in any more. A hang lasts 4 s here and visitors wait for 5 s: behind the guide's read timeout of 60 s (nginx) or 50 s (HAProxy) they
wait as long as it lasts.
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = {
            platform: {name: verify(path, platform=platform, reports=Path(folder)) for name, path in SETUPS.items()}
            for platform in PLATFORMS
        }
    print("\n".join(page(found)))
    return 0


def verify(setup: str, *, platform: str, reports: Path) -> Mapping[str, Any]:
    """The verdicts of one run; empty when there is no engine, which is told on standard error."""
    command = [sys.executable, "-m", "harness.cli", "verify", setup, "--platform", platform, "--json"]
    command += ["--report", str(reports), "--only", "failover.*", "--only", "rollout.rolling"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1, 3):
        print(f"{setup} on {platform}: {ended.stderr.strip()}", file=sys.stderr)
        return {}
    verdicts: Mapping[str, Any] = json.loads(ended.stdout)
    return verdicts


def page(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    yield PAGE
    yield f"Made on {datetime.now(UTC):%Y-%m-%d}."
    for platform, title in PLATFORMS.items():
        runs = {name: evidence(verdicts) for name, verdicts in found[platform].items() if verdicts}
        yield f"\n## {title}\n"
        if not runs:
            yield "Not measured: no container engine answered."
            continue
        yield from table(runs)


def evidence(verdicts: Mapping[str, Any]) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """What the checkers found, by checker and fault (or `rollout`)."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for promise in verdicts["promises"]:
        for finding in promise["findings"]:
            for checker, facts in finding["evidence"].items():
                if isinstance(facts, Mapping):
                    found[checker, str(facts.get("fault", "rollout"))] = facts
    return found


def table(runs: Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]]) -> Iterator[str]:
    yield "| fault | balancer | failed | knows after | slowest | used again |"
    yield "|---|---|---|---|---|---|"
    for fault, words in FAULTS.items():
        if not any(("RequestsSurviveLoss", fault) in facts for facts in runs.values()):
            continue  # this platform has no such fault
        for name, facts in runs.items():
            loss = facts.get(("RequestsSurviveLoss", fault))
            if loss is None:
                yield row(words, name, "nothing tested", "", "", "")
                continue
            rejoin = facts.get(("VictimRejoins", fault))
            yield row(
                words,
                name,
                failed(loss),
                seconds(loss.get("detect_seconds")) if fault != "new-address" else "",
                seconds(loss.get("slowest_seconds")),
                seconds(rejoin.get("rejoin_seconds")) if rejoin is not None else "",
            )
    for name, facts in runs.items():
        rollout = facts.get(("RolloutCostsNothing", "rollout"))
        if rollout is None:
            yield row("rolling deploy", name, "nothing tested", "", "", "")
        else:
            yield row("rolling deploy", name, failed(rollout), "", seconds(rollout.get("slowest_seconds")), "")


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def failed(facts: Mapping[str, Any]) -> str:
    return f"{facts['failed']} of {facts['requests']}"


def seconds(value: float | None) -> str:
    if value is None:
        return "not seen"
    return f"{value:.1f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
