"""Plays a stored run on this terminal, for whoever changes a view: python tests/play_reporting.py --help."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from harness.reporting import choose_view, from_json, progress_text

SAMPLE = Path(__file__).parent / "data" / "verdicts-v1.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verdicts", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--pace", type=float, default=0.4, help="seconds for each scenario")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--never-up", action="store_true", help="end while it boots")
    arguments = parser.parse_args()
    result = from_json(arguments.verdicts.read_text(), results=Path("reports") / "2026-11-23-1412-41907")
    waiting = Counter(finding.promise for finding in result.findings)
    over = threading.Event()
    requests = 0

    with choose_view(sys.stdout, quiet=arguments.quiet, json=arguments.json) as view:

        def poll() -> None:
            nonlocal requests
            while not over.wait(0.1):
                requests += 37
                view.progress(progress_text(requests=requests, failed=0, longest_gap_ms=12, note="app-2 of 3 replaced"))

        view.begin(result.header)
        for name, seconds in sorted(result.node_seconds.items(), key=lambda node: node[1]):
            time.sleep(arguments.pace / 3)
            view.node_ready(name, seconds)
        if arguments.never_up:
            raise SystemExit("harness: app-3 never became ready")
        view.up(result.boot_seconds)
        threading.Thread(target=poll, daemon=True).start()
        try:
            for finding in result.findings:
                view.promise_running(finding.promise)
                time.sleep(arguments.pace)
                waiting[finding.promise] -= 1
                if not waiting[finding.promise]:
                    view.promise_done(next(each for each in result.results_by_promise if each.id == finding.promise))
        finally:
            over.set()
        view.end(result)


if __name__ == "__main__":
    main()
