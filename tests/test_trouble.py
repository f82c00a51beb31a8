"""Lines that mean trouble: found in logs, judged, and told with their instance."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.checkers import TROUBLE, NobodyIsInTrouble
from harness.cluster import Cluster
from harness.diagnosis import diagnose
from harness.layouts import Instance
from harness.model import Finding, History, Look, Verdict
from harness.setup import App, Setup
from harness.trouble import listening_for_trouble, matching_lines
from tests.checker_histories import APPS, FAIL, INCONCLUSIVE, PASS, fault, history, status_of, traffic

PATTERNS = ("^panic:", "Traceback")


def heard(
    node: str,
    *,
    since: float,
    at: float,
    lines: int = 50,
    matched: int = 0,
    silent: bool = False,
    line: str = "panic: oh",
) -> Look:
    value = {
        "since": since,
        "lines": lines,
        "matched": matched,
        "examples": [{"line": line, "pattern": "^panic:"}] * min(matched, 3),
        "silent": silent,
    }
    return Look(what=TROUBLE, node=node, at=at, status=None, value=value)


def told(*changed: Look, without: tuple[str, ...] = (), busy: float = 6.0) -> History:
    """All are listened to from 0 to 2.5 and again until 6; app-1 is killed from 3 to 5."""
    looks = [
        heard(name, since=begin, at=end)
        for begin, end in ((0.0, 2.5), (2.6, 6.0))
        for name in APPS
        if name not in without
    ]
    kept = [each for each in looks if not any((each.node, each.at) == (other.node, other.at) for other in changed)]
    broken = fault("kill-sigkill", "app-1", injected=3.0, effective=3.01, healing=4.5, healed=5.0)
    return history(traffic(0, busy), looks=[*kept, *changed], faults=[broken])


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (told(), PASS),
        (told(heard("app-2", since=0.0, at=2.5, matched=2)), FAIL),
        # While another one is lost as well.
        (told(heard("app-3", since=2.6, at=6.0, matched=1)), FAIL),
        # What it wrote before it was killed is its own; what it wrote while it was, is not.
        (told(heard("app-1", since=0.0, at=2.5, matched=1)), FAIL),
        (told(heard("app-1", since=2.6, at=6.0, matched=9)), PASS),
        (told(without=("app-2",)), INCONCLUSIVE),
        (told(heard("app-2", since=0.0, at=2.5, lines=0, silent=True)), INCONCLUSIVE),
        (told(busy=0.1), INCONCLUSIVE),
        # Trouble that was seen stays trouble, however little was asked.
        (told(heard("app-2", since=0.0, at=2.5, matched=1), busy=0.1), FAIL),
    ],
)
def test_who_is_in_trouble(record: History, status: str) -> None:
    assert status_of(NobodyIsInTrouble().check(record)) == status


def test_what_is_told_of_it() -> None:
    """The instance, how often, and the line; whoever was broken at that time is excused by name."""
    record = told(
        heard("app-2", since=0.0, at=2.5, matched=2, line="panic: nil map"),
        heard("app-1", since=2.6, at=6.0, matched=9, line="panic: killed"),
    )
    verdict = NobodyIsInTrouble().check(record)
    assert verdict.measured == "app-2 2 lines that mean trouble, such as 'panic: nil map'"
    assert (verdict.evidence["matched"], verdict.evidence["excused"]) == ({"app-2": 2}, ["app-1"])
    broken = Verdict.fail(verdict.measured, NobodyIsInTrouble=verdict.evidence)
    finding = Finding(promise="logs.no-trouble", scenario="s", verdict=broken)
    (cause,) = diagnose([finding], facts={}, looks=record.looks)[0].causes
    assert cause.id == "trouble-in-the-log"
    assert cause.evidence[0] == "app-2 wrote 'panic: nil map' (app.trouble: ^panic:)"
    assert "logs/app-2.log" in cause.remedy


# -- in logs --------------------------------------------------------------------------------------------------------


def test_lines_are_found_from_where_one_began_to_listen(tmp_path: Path) -> None:
    """Whatever bytes a log holds, and however long a line is."""
    log = tmp_path / "app-1.log"
    log.write_bytes(b"panic: before\n")
    begin = log.stat().st_size
    log.write_bytes(
        log.read_bytes() + b"fine\n\xff\xfe\npanic: now\n  Traceback (most recent call last)\n" + b"x" * 200_000
    )
    lines, matched = matching_lines(log, [re.compile(each) for each in PATTERNS], begin=begin)
    assert matched == [("panic: now", "^panic:"), ("  Traceback (most recent call last)", "Traceback")]
    assert lines >= 5
    assert matching_lines(tmp_path / "nothing.log", [], begin=0) == (0, [])


class Logged:
    """A node whose log an engine has, until it is asked for it."""

    def __init__(self, folder: Path, name: str, *, kept: bytes = b"") -> None:
        self.log_path = folder / f"{name}.log"
        self.kept = kept

    def say(self, words: bytes) -> None:
        self.kept += words

    def collect_log(self) -> None:
        with self.log_path.open("ab") as log:
            log.write(self.kept)
        self.kept = b""


def test_each_instance_is_listened_to_for_the_length_of_the_block(tmp_path: Path) -> None:
    """What it wrote before is nobody's business any more; one that never wrote anything was not heard."""
    nodes = [Logged(tmp_path, "app-1", kept=b"panic: long ago\n"), Logged(tmp_path, "app-2")]
    instances = tuple(
        Instance(name, node, "127.0.0.1", 1, None, None)  # type: ignore[arg-type]
        for name, node in zip(("app-1", "app-2"), nodes, strict=True)
    )
    looks: list[Any] = []
    layout: Any = SimpleNamespace(replicated=None, instances=instances)
    cluster = Cluster(Setup(app=App(command=("x",), trouble=PATTERNS)), layout, recorder=looks.append)
    with listening_for_trouble(cluster):
        nodes[0].say(b"GET / 200\npanic: now\n")
    first, second = looks
    assert (first.node, first.value["lines"], first.value["matched"], first.value["silent"]) == ("app-1", 2, 1, False)
    assert first.value["examples"] == [{"line": "panic: now", "pattern": "^panic:"}]
    assert (second.node, second.value["matched"], second.value["silent"]) == ("app-2", 0, True)
