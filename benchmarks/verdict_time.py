"""How long a verdict takes, beside the waits nobody can take out of it, for each scenario of a run.

The waits are read from the journals of whole runs: as long as traffic goes on, as a fault lasts, as an instance takes to
stop and to come back, and as a rollout takes. What overlaps counts once. The rest is what the harness adds: people who
log in first, single looks, going back to a known good state, and judging. Prints a section of docs/performance.md;
asserts nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import of, options, ratios, say, table

from harness.model import History
from harness.traffic import StoredScenario, read_journal

SETUP = "fixtures/setups/reference.toml"


def waits(history: History) -> list[tuple[float, float]]:
    """When something was going on that had to take its time."""
    spans = [(pace.begin, pace.end) for pace in history.paces]
    for fault in history.faults:
        spans.append((fault.injected, fault.healed if fault.healed is not None else fault.healing))
    if history.rollout:
        spans.append((min(step.at for step in history.rollout), max(step.at for step in history.rollout)))
    return spans


def together(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one of them was going on."""
    seconds, end = 0.0, float("-inf")
    for begin, over in sorted(spans):
        seconds += max(0.0, over - max(begin, end))
        end = max(end, over)
    return seconds


def verified(reports: Path) -> Path:
    """The folder of a run that is made now."""
    command = [sys.executable, "-m", "harness.cli", "verify", SETUP, "--report", str(reports), "--quiet"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{SETUP} could not be verified")
    return reports / "latest"


def read(run: Path) -> tuple[dict[str, Any], Mapping[str, StoredScenario]]:
    verdicts: dict[str, Any] = json.loads((run / "verdicts.json").read_text(encoding="utf-8"))
    return verdicts, read_journal(run / "history.jsonl").scenarios


def main() -> None:
    parser = options(str(__doc__))
    parser.add_argument("stored", nargs="*", type=Path, help="folders of runs that were made before")
    arguments = parser.parse_args()
    runs = len(arguments.stored) or (1 if arguments.quick else 3)
    promises: dict[str, dict[str, None]] = defaultdict(dict)
    took: dict[str, list[float]] = defaultdict(list)
    waited: dict[str, list[float]] = defaultdict(list)
    totals, boots, statuses = [], [], []
    for number in range(runs):
        if arguments.stored:
            verdicts, scenarios = read(arguments.stored[number])
        else:
            with tempfile.TemporaryDirectory() as folder:
                verdicts, scenarios = read(verified(Path(folder)))
        say(f"verdicts: run {number + 1} of {runs}: {verdicts['headline']}")
        statuses.append(verdicts["status"])
        totals.append(verdicts["seconds"]["total"])
        boots.append(verdicts["seconds"]["boot"])
        seconds: dict[str, float] = defaultdict(float)
        for promise in verdicts["promises"]:
            for finding in promise["findings"]:
                promises[finding["scenario"]][promise["id"]] = None
                # One record judges several promises: whoever asks first pays for it, the others for their judging.
                seconds[finding["scenario"]] += finding["seconds"]
        for name, spent in seconds.items():
            took[name].append(spent)
            waited[name].append(together(waits(scenarios[name].history)) if name in scenarios else 0.0)
    rows = []
    for name, spent in took.items():
        has_waits = all(wait >= 0.5 for wait in waited[name])
        rows.append(
            [
                ", ".join(f"`{promise}`" for promise in promises[name]),
                f"`{name}`",
                of(spent, ".1f"),
                of(waited[name], ".1f") if has_waits else "",
                of(ratios(zip(spent, waited[name], strict=True))) if has_waits else "",
            ]
        )
    print("## Time to a verdict\n")
    print(
        f"`harness verify {SETUP}`, {runs} run{'s' if runs > 1 else ''} ({', '.join(statuses)}): {of(totals, '.0f')} s in all, of them {of(boots, '.1f')} s boot. For each "
        "scenario the seconds until its verdicts, and the waits that cannot be left out: traffic while it has to go on, the fault, the "
        "recovery of an instance, drains and the rollout. One record judges several promises. The first scenario waits for the boot, "
        "and where there is nothing to wait for the cell is empty.\n"
    )
    print(table(["promises", "scenario", "seconds", "waits, s", "ratio"], rows))


if __name__ == "__main__":
    main()
