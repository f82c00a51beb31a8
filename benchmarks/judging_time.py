"""How long it takes to read and judge a run of 1,000,000 requests again, and how much memory that takes.

The run is made up (`synthetic`): a kill, a rolling rollout and a judged spread, all of it kept. It is judged by what
`harness rejudge` calls, in a process of its own, so that its peak is its own. Beside it a tenth of it, to see that the
cost is one for each request. Bounds: 10 s and 1 GB. Prints a section of docs/performance.md; asserts no time, but that
every verdict is the pass it has to be.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import is_quick, of, say, table

OPERATIONS = 1_000_000
BOUND_SECONDS = 10.0
BOUND_BYTES = 1e9


def judged(folder: Path) -> dict[str, float]:
    """Seconds of wall and CPU and the peak of the memory of one judgement, by a process of its own."""
    command = [sys.executable, __file__, "judge", str(folder)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(told.stdout)
    return found


def judge(folder: Path) -> dict[str, object]:
    """As `harness rejudge` does it, after its imports."""
    from harness import clock
    from harness.model import Status
    from harness.rejudging import rejudge

    began, before = clock.now(), resource.getrusage(resource.RUSAGE_SELF)
    result = rejudge(folder)
    took, after = clock.now() - began, resource.getrusage(resource.RUSAGE_SELF)
    wrong = [
        f"{each.promise}: {each.verdict.measured}" for each in result.findings if each.verdict.status != Status.PASS
    ]
    assert result.findings
    assert not wrong, wrong
    return {
        "seconds": took,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "bytes": after.ru_maxrss * 1024,
        "promises": len(result.findings),
    }


def main() -> None:
    from synthetic import write_run

    quick = is_quick(str(__doc__))
    sizes = (OPERATIONS // 10,) if quick else (OPERATIONS // 10, OPERATIONS)
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_run(Path(folder), operations=size)
            megabytes = (Path(folder) / "history.jsonl").stat().st_size / 1e6
            runs = [judged(Path(folder)) for _ in range(1 if quick else 3)]
        seconds, cpu, peak = ([run[key] for run in runs] for key in ("seconds", "cpu", "bytes"))
        say(
            f"judging: {size:,} requests: {of(seconds)} s, {of(cpu)} s of CPU, {of([each / 1e6 for each in peak], '.0f')} MB"
        )
        rows.append(
            [
                f"{size:,}",
                f"{megabytes:,.0f} MB",
                of(seconds),
                of(cpu),
                of([each / size * 1e6 for each in cpu], ".1f"),
                of([each / 1e6 for each in peak], ",.0f"),
            ]
        )
    within = min(seconds) <= BOUND_SECONDS and max(peak) <= BOUND_BYTES
    print("## Judging a long run\n")
    print(
        f"A made-up run is read and judged as `harness rejudge reports/latest` does it, {int(runs[0]['promises'])} promises, each of which passes; "
        f"{len(runs)} time{'s' if len(runs) > 1 else ''}, each in a process of its own. The bound for {OPERATIONS:,} requests is {BOUND_SECONDS:g} s and "
        f"{BOUND_BYTES / 1e6:,.0f} MB.\n"
    )
    print(table(["requests", "journal", "seconds", "CPU, s", "µs for each request", "peak, MB"], rows))
    if not quick:
        say(f"judging: bound {'kept' if within else 'NOT kept on this machine, now'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["judge"]:
        print(json.dumps(judge(Path(sys.argv[2]))))
    else:
        main()
