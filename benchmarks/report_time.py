"""How long it takes to make the HTML report of a run of 100,000 requests, and how large it is.

The run is made up (`synthetic`) and judged; the page is made from its folder, in a process of its own. Bound: 2 MB. Prints
a section of docs/performance.md; asserts nothing.
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

from harness import clock, reporting
from harness.rejudging import rejudge
from harness.reporting import Redactor, write_results

OPERATIONS = 100_000
BOUND_BYTES = 2e6


def made(folder: Path) -> dict[str, float]:
    """Seconds and the peak of the memory of one page, by a process of its own."""
    command = [sys.executable, __file__, "make", str(folder)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(told.stdout)
    return found


def make(folder: Path) -> dict[str, float]:
    began = clock.now()
    page: Path = reporting.write_page(folder)
    return {
        "seconds": clock.now() - began,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "page": page.stat().st_size,
    }


def main() -> None:
    from synthetic import write_run

    quick = is_quick(str(__doc__))
    print("## Making the report\n")
    if not hasattr(reporting, "write_page"):
        print("Not measured: this harness makes no HTML report.")
        return
    rows = []
    for size in (OPERATIONS,) if quick else (OPERATIONS // 10 * 3, OPERATIONS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_run(folder, operations=size)
            write_results(rejudge(folder), redactor=Redactor())
            runs = [made(folder) for _ in range(1 if quick else 5)]
        seconds = [run["seconds"] for run in runs]
        say(f"report: {size:,} requests: {of(seconds)} s, {runs[0]['page'] / 1e6:.2f} MB")
        rows.append(
            [
                f"{size:,}",
                of(seconds),
                f"{runs[0]['page'] / 1e6:.2f} MB",
                of([run["memory"] / 1e6 for run in runs], ",.0f"),
            ]
        )
    print(
        f"`index.html` of a made-up run, made again from its folder, {len(runs)} time{'s' if len(runs) > 1 else ''}, each in a process of its own. "
        f"The bound for its size is {BOUND_BYTES / 1e6:g} MB.\n"
    )
    print(table(["requests", "seconds", "size of the page", "peak, MB"], rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        print(json.dumps(make(Path(sys.argv[2]))))
    else:
        main()
