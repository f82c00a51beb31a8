"""What the founding guide's own docker-compose.yml keeps of its promises: the page docs/guide-verdict.md.

Verifies the project by the command a person would use, several times one after the other, because some of what is promised
is kept by luck: each promise is told with the worst that was seen, and how often. Then once its twin that is set up to keep
them. Prints Markdown (`make guide_verdict` writes the page); asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.images import BUILT
from harness.setup import read_environment

Verdicts = Mapping[str, Any]

GUIDE = "fixtures/compose/guide/docker-compose.yml"
TUNED = "fixtures/compose/tuned/docker-compose.yml"
WORST_FIRST = ("rig-error", "fail", "inconclusive", "pass")
LONGEST_CELL = 320
PAGE = """\
# The founding guide's own compose file, judged

The guide this project was founded on ends its chapter on Docker with a `docker-compose.yml` of three instances behind nginx and
a way to deploy: `docker-compose up -d --no-deps --build app1`, `sleep 10`, and so on. [`fixtures/compose/guide`](../fixtures/compose/guide)
is that file with its nginx configuration, completed with the reference application so that it runs; each departure says why.
This is what `harness verify --compose fixtures/compose/guide/docker-compose.yml` says of it.

The page is made by `make guide_verdict`, which ran it {runs} on {images}.
Where the runs differ, the verdict says how often, and what was seen is the worst.

{table}

## What passes, and what that means

{passes}

What is judged is the setup, with an application that does what the guide asks of one: sessions in Redis, one secret for all,
`/health`, and an orderly end on SIGTERM. An application that does less keeps less.

Whether a killed instance costs anything is a race here: nginx takes an instance out after three failures
(`max_fails=3`), and the address of a dead container refuses connections for a moment only, then says nothing. Three requests
in that moment, and nobody notices; fewer, and each request that is sent there waits for up to 60 s (`proxy_connect_timeout`).

## What mends it

[`fixtures/compose/tuned`](../fixtures/compose/tuned) is the same project with another `nginx.conf` and fixed addresses, deployed by the
same commands. {tuned}

| of | the guide | tuned |
|---|---|---|
| `max_fails` `fail_timeout` | 3, 30 s | 1, 1 s: the first failure takes an instance out, and it is asked again soon |
| `proxy_connect_timeout` | 60 s | 1 s: a connection is there at once, or never |
| `proxy_read_timeout` | 60 s | 2 s: just above the slowest honest answer |
| `proxy_next_upstream` | with `http_500 http_502 http_503` | `error timeout`: an answer of the application stands, and a 503 of one instance does not take all of them out |
| `zone` | none | the workers share what they know |
| addresses | any | `ipv4_address`: nginx looks names up once, at its start |
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="the guide's compose file, judged, as Markdown")
    parser.add_argument("--runs", type=int, default=3, help="how often the guide's file is judged")
    parser.add_argument(
        "stored", nargs="*", type=Path, help="verdicts.json of runs that were made: the guide's, and last the twin's"
    )
    arguments = parser.parse_args()
    if arguments.stored:
        *runs, tuned = (json.loads(path.read_text(encoding="utf-8")) for path in arguments.stored)
    else:
        runs = [verified(GUIDE, seed) for seed in range(1, arguments.runs + 1)]
        tuned = verified(TUNED, 1)
    print(page(runs, tuned), end="")
    return 0


def verified(file: str, seed: int) -> Verdicts:
    """The verdicts of one run. Raises CalledProcessError when it could not be run at all."""
    with tempfile.TemporaryDirectory() as reports:
        command = [str(Path(sys.executable).with_name("harness")), "verify", "--compose", file, "--seed", str(seed)]
        print(" ".join(["harness", *command[1:]]), file=sys.stderr)
        done = subprocess.run(
            [*command, "--report", reports, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, **images_of_ours()},
        )
        if done.returncode not in (0, 1, 3):
            raise subprocess.CalledProcessError(done.returncode, command)
        verdicts: Verdicts = json.loads(done.stdout)
        return verdicts


def images_of_ours() -> Mapping[str, str]:
    """What the variables of both projects name where no registry can be reached (HARNESS_IMAGES=built)."""
    if read_environment().images != "built":
        return {}
    return {f"{kind.upper()}_IMAGE": BUILT[kind].tag for kind in ("postgres", "redis", "nginx")}


def page(runs: Sequence[Verdicts], tuned: Verdicts) -> str:
    promises = {
        each["id"]: [found for run in runs for found in run["promises"] if found["id"] == each["id"]]
        for each in runs[0]["promises"]
    }
    always = [name for name, seen in promises.items() if all(each["status"] == "pass" for each in seen)]
    counts = tuned["counts"]
    kept = counts.get("pass", 0)
    of = sum(counts.values())
    return PAGE.format(
        runs=f"{len(runs)} times" if len(runs) != 1 else "once",
        images="images built from Debian packages" if images_of_ours() else "the official images",
        table="\n".join(table(promises, runs[0].get("left_out", {}))),
        passes=f"{len(always)} of {len(promises)} promises were kept each time: {', '.join(f'`{name}`' for name in always)}.",
        tuned=f"It keeps {'all' if kept == of else f'{kept} of'} {of} promises that can be judged of it, in the run that was made for this "
        "page." + left_out(tuned),
    )


def left_out(run: Verdicts) -> str:
    told = run.get("left_out", {}).get("failover.new-address")
    return f" `failover.new-address` is not judged there ({told.removeprefix('compose: ')})." if told else ""


def table(promises: Mapping[str, Sequence[Verdicts]], not_judged: Mapping[str, str]) -> Iterator[str]:
    yield "| promise | verdict | seen | cause | remedy |"
    yield "|---|---|---|---|---|"
    for name, seen in promises.items():
        worst = min(seen, key=lambda each: WORST_FIRST.index(each["status"]))
        times = sum(each["status"] == worst["status"] for each in seen)
        verdict = worst["status"] + (f" ({times} of {len(seen)} runs)" if times < len(seen) else "")
        causes = [cause for finding in worst["findings"] for cause in finding["causes"]]
        causes = list({cause["id"]: cause for cause in causes}.values())[:2]
        is_bad = worst["status"] != "pass"
        yield row(
            f"`{name}`",
            f"**{verdict}**" if is_bad else verdict,
            worst["measured"],
            "; or ".join(f"{cause['sentence']} ({cause['confidence']})" for cause in causes) if is_bad else "",
            "; or ".join(cause["remedy"] for cause in causes) if is_bad else "",
        )
    for name, why in not_judged.items():
        yield row(f"`{name}`", "not judged", why.removeprefix("compose: "), "", "")


def row(*cells: str) -> str:
    short = (cell if len(cell) <= LONGEST_CELL else f"{cell[: LONGEST_CELL - 1]}…" for cell in cells)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in short)} |"


if __name__ == "__main__":
    sys.exit(main())
