"""Makes `reports/sample/`: the reports of the reference setup and of one mutant, and their pictures in `docs/`.

What belongs to this machine (its name, its folders) is taken out as secrets are. With --stored, two runs that were made
before are used instead of new ones: the reference setup's, then the mutant's.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from harness.reporting import Redactor, read_results, write_page

CHECKOUT = Path(__file__).parents[1]
SAMPLE = CHECKOUT / "reports" / "sample"
PICTURES = CHECKOUT / "docs"
MUTANT = "session-in-memory"
RUNS = {"reference": (0, []), MUTANT: (1, ["--set", f"app.env.KNOWN_BAD={MUTANT}"])}
SEED = "41907"
PNG_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", nargs=2, type=Path, metavar=("REFERENCE", "MUTANT"))
    stored = parser.parse_args().stored
    with tempfile.TemporaryDirectory(prefix="harness-sample-") as place:
        for number, (name, (expected, options)) in enumerate(RUNS.items()):
            run = stored[number].resolve() if stored else verified(Path(place) / name, options)
            code = read_results(run).exit_code
            if code != expected:
                raise SystemExit(
                    f"{name} ended with {code}, not {expected}: a busy machine can do that; what it told is above"
                )
            keep(run, SAMPLE / name)
        picture(Path(place))
    print(*sorted(path.relative_to(CHECKOUT) for path in (*SAMPLE.rglob("*.*"), *PICTURES.glob("*.png"))), sep="\n")


def verified(reports: Path, options: list[str]) -> Path:
    """The folder of a new run."""
    command = [sys.executable, "-m", "harness.cli", "verify", "fixtures/setups/reference.toml", "--seed", SEED]
    subprocess.run([*command, *options, "--report", str(reports)], cwd=CHECKOUT, check=False)
    return (reports / "latest").resolve()


def keep(run: Path, target: Path) -> None:
    """The page and the comment of a run, without anything of this machine."""
    words = {
        str(CHECKOUT),
        str(CHECKOUT.resolve()),
        str(Path.home()),
        sys.prefix,
        sys.base_prefix,
        socket.gethostname(),
        tempfile.gettempdir() + "/",
        "/dev/shm/",
    }
    redactor = Redactor(word for word in words if len(word) > 4)
    page = write_page(run, redactor=redactor)
    text = page.read_text("utf-8")
    histories = json.loads(text.partition('id="histories">')[2].partition("</script>")[0])
    seen = text + "".join(zlib.decompress(base64.b64decode(each)).decode() for each in histories.values())
    left = [word for word in words if len(word) > 4 and word in seen]
    if left or re.search(r"(postgres|postgresql|redis)://[^:/\s]*:[^*@\s\[]+@", seen):
        raise SystemExit(f"the page of {run} tells of this machine: {left}")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, target / "index.html")
    (target / "summary.md").write_text(redactor((run / "summary.md").read_text("utf-8")), "utf-8")


def picture(place: Path) -> None:
    """The first screen of the mutant's report, and a time-line of the reference setup's."""
    sys.path.insert(0, str(CHECKOUT / "tests"))
    from browser import Browser, find_chromium

    program = find_chromium()
    if program is None:
        print("no Chromium is here (.ci/chromium installs one): the pictures are left as they are")
        return
    browser = Browser(program, place / "chromium")
    try:
        browser.resize(1180, 760)
        browser.open(SAMPLE / MUTANT / "index.html")
        write_picture("report.png", browser.screenshot())
        browser.open(SAMPLE / "reference" / "index.html", at="failover.kill")
        line = "document.querySelector('details.promise[open] figure.time-line')"
        browser.until(f"{line}?.dataset.awake === 'ready'")
        browser.run(f"{line}.scrollIntoView()")
        box = browser.run(
            f"(() => {{ const b = {line}.getBoundingClientRect(), e = {line}.querySelector('.logs').getBoundingClientRect();"
            " return {x: b.left - 8, y: b.top + scrollY - 8, width: b.width + 16, height: e.bottom - b.top + 16, scale: 1}; })()"
        )
        shot = browser.ask("Page.captureScreenshot", format="png", clip=box, captureBeyondViewport=True)
        write_picture("time-line.png", base64.b64decode(shot["data"]))
    finally:
        browser.close()


def write_picture(name: str, png: bytes) -> None:
    if len(png) > PNG_BYTES:
        raise SystemExit(f"{name} would have {len(png):,} bytes, more than {PNG_BYTES:,}")
    (PICTURES / name).write_bytes(png)


if __name__ == "__main__":
    main()
