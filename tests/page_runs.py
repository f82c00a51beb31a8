"""Stored runs for the tests of pages: a loss, a rollout, a matrix and a distribution, without any server.

A hostile one says something wicked wherever an application, or whoever configures it, can say anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checker_histories import APPS, failed, fault, history, op, pace, step, traffic

from harness.model import Cause, Confidence, Finding, History, Promise, Verdict
from harness.reporting import Redactor, RunResult, write_page, write_results
from harness.traffic import fact_record

__all__ = ["HOSTILE", "STARTED", "UNIX", "a_run", "stored"]

HOSTILE = (
    "</script></style></title><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028{{7*7}}\"'&"
)
STARTED = "2026-11-23T14:12:00+00:00"
UNIX = datetime.fromisoformat(STARTED).timestamp()
"""When the clock of the histories says 0."""


def loss(say: str = "") -> History:
    """app-1 is killed at 1.02 s and back at 5.5 s; 20 requests fail, 3 of them without an answer."""
    operations = traffic(0.0, 8.0, rate=100.0)
    lost = [
        failed(
            1.05 + number / 50,
            error="timeout" if number < 3 else "http-502",
            detail=f"bad gateway {say}",
            path=f"/notes{say}",
        )
        for number in range(20)
    ]
    saved = [op(1.5, attempts=("app-1", "app-2"), instance="app-2", version=say or "1")]
    return history(
        [*operations, *lost, *saved],
        scenario="loss-by-kill",
        faults=[fault()],
        paces=[pace("browse", rate=100.0, begin=0.0, end=8.0, planned=800)],
    )


def rollout(names: Sequence[str]) -> History:
    """Each instance replaced in one second, one after the other."""
    steps = [step("begin", "", 1.0, detail="rolling")]
    for number, name in enumerate(names):
        words = ("drain", "drained", "stop", "stopped", "start", "ready", "enable", "enabled")
        steps += [
            step(word, name, 1.0 + number + place / 10, version="2" if word == "start" else "")
            for place, word in enumerate(words)
        ]
    operations = [
        replace(each, version="1" if each.due < 1.6 + APPS.index(str(each.instance)) else "2")
        for each in traffic(0.0, 5.0, rate=50.0)
    ]
    slow = [op(at / 5, stream="slow", latency=1.0) for at in range(15)]
    return history(
        [*operations, *slow],
        scenario="rolling",
        rollout=[*steps, step("end", "", 4.0)],
        paces=[pace("browse", rate=50.0, begin=0.0, end=5.0, planned=250)],
    )


def a_run(folder: Path, say: str = "") -> RunResult:
    """What the run came to. `say` is put wherever somebody may say something."""

    def about(name: str) -> Promise:
        return Promise(
            id=name,
            sentence=f"It keeps this.{say}",
            measured=f"counted{say}",
            bound=f"none above 1 s{say}",
            broken_by="x",
            remedy="y",
            guide="step 2",
        )

    cause = Cause(
        id="why",
        sentence=f"no key appeared{say}",
        confidence=Confidence.CERTAIN,
        evidence=(f"seen{say}",),
        remedy=f"mend it{say}",
        guide=f"step 2{say}",
    )
    request = {
        "due_seconds": 0.03,
        "method": "GET",
        "path": f"/a{say}",
        "visitor": "v1",
        "via": "balancer",
        "connection": "fresh",
        "attempts": [f"app-1{say}"],
        "instance": None,
        "status": 502,
        "error": "http-502",
        "answer": "failed",
        "detail": f"<html>{say}",
    }
    cell = {"asked": 20, "recognised": 20}
    names = [f"app-1{say}", *APPS[1:]]
    matrix = {
        row: {column: cell if row == column else {"asked": 20, "recognised": 0} for column in names} for row in names
    }
    findings = (
        Finding(promise="failover.kill", scenario="loss-by-kill", verdict=Verdict.fail(f"20 of 821 requests failed{say}", RequestsSurviveLoss={"longest_gap_seconds": 0.42, "gap_begins_seconds": 0.1, "examples": [request], "said": say, "guards": []}), causes=(cause,)),
        Finding(promise="session.survives-instance-loss", scenario="loss-by-kill", verdict=Verdict.passed("20 of 20")),
        Finding(promise="session.every-instance", scenario="matrix", verdict=Verdict.fail(f"3 of 9 pairs{say}", SessionOnEveryInstance={"matrix": matrix}), causes=(cause,)),
        Finding(promise="distribution.share", scenario="spread", verdict=Verdict.passed("round robin", SharesFitTheAlgorithm={"algorithm": "round_robin", "counts": dict.fromkeys(names, 100), "allowed": 1, "slack": 0, "needed": 60, "alpha": 0.001})),
        Finding(promise="rollout.rolling", scenario="rolling", verdict=Verdict.passed("3 of 3 replaced, 0 failed")),
        Finding(promise="instances.agree", scenario="agree", verdict=Verdict.rig_error(f"crashed{say}", traceback=[f"ValueError{say}"])),
    )  # fmt: skip
    return RunResult(
        run_id="2026-11-23-1412-7",
        setup=f"reference{say}",
        platform="native",
        balancer="nginx round_robin",
        instances=3,
        sessions="redis",
        seed=7,
        started=STARTED,
        version="0.1.0",
        command="harness verify my-setup.toml --seed 7",
        results=folder,
        findings=findings,
        promises=tuple(about(name) for name in ("instances.agree", "session.every-instance", "session.survives-instance-loss", "distribution.share", "failover.kill", "rollout.rolling", "shutdown.inflight")),
        left_out={"failover.partition": f"native: no network{say}"},
        seconds=8.0,
        boot_seconds=0.5,
        node_seconds={f"postgres{say}": 0.1, "redis": 0.1, "nginx": 0.0, **dict.fromkeys(APPS, 0.5)},
    )  # fmt: skip


def stored(
    folder: Path, *, say: str = "", histories: Iterable[History] | None = None, redactor: Redactor | None = None
) -> Path:
    """The folder of a run with everything in it, and its page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(a_run(folder, say), redactor=Redactor())
    records: list[dict[str, Any]] = [{"t": "journal", "version": 1, "run": "2026-11-23-1412-7"}]
    for each in histories if histories is not None else (loss(say), rollout(APPS)):
        records.append(
            {
                "t": "scenario",
                "scenario": each.scenario,
                "seed": 1,
                "instances": list(each.instances),
                "unix_less_clock": UNIX,
            }
        )
        records += [
            fact_record(each.scenario, fact) for fact in (*each.operations, *each.faults, *each.rollout, *each.paces)
        ]
    lines = (json.dumps(record, separators=(",", ":"), default=str) for record in records)
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    for node in APPS:
        told = [(datetime.fromtimestamp(UNIX + number / 4, UTC), number) for number in range(32)]
        (logs / f"{node}.log").write_text(
            "".join(
                f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} INFO line {number} of {node}{say}\n"
                for at, number in told
            )
        )
    (logs / "nginx-access.log").write_text("one line for each request\n")
    write_page(folder, redactor=redactor)
    return folder
