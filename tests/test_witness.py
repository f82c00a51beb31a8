"""Who answered, by the log of a balancer that is somebody else's."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scripted_server import ScriptedServer
from watched_sites import LOGIN

from harness.errors import NodeError, SetupError
from harness.journeys import compile_journeys
from harness.platforms.remote import said
from harness.setup import parse_setup
from harness.traffic import Journal, Stream, Task, Traffic, read_history, read_journal, untold
from harness.witness import BalancerLog, Told

NGINX = r'^(?P<status>\d+) id=(?P<request>\S+) upstream="(?P<upstream>[^"]*)" tried="(?P<upstream_status>[^"]*)"'
WHOS = {"10.0.0.1:80": "app-1", "10.0.0.2:80": "app-2", "app-3": "app-3"}


def heard(*lines: str, pattern: str = NGINX) -> Mapping[str, Told]:
    return BalancerLog(pattern, lambda: lines, lambda: WHOS, marked="run-").new()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('200 id=run-1 upstream="10.0.0.1:80" tried="200"', Told("app-1", ("app-1",))),
        ('200 id=run-1 upstream="10.0.0.2:80, 10.0.0.1:80" tried="502, 200"', Told("app-1", ("app-2", "app-1"))),
        ('502 id=run-1 upstream="10.0.0.2:80" tried="502"', Told(None, ("app-2",))),
        ('502 id=run-1 upstream="-" tried="-"', Told(None, ())),
        ('301 id=run-1 upstream="" tried=""', Told(None, ())),
        ('200 id=run-1 upstream="10.9.9.9:80" tried="200"', Told("10.9.9.9:80", ("10.9.9.9:80",))),
        ('200 id=run-1 upstream="app-3" tried="-"', Told("app-3", ("app-3",))),
    ],
    ids=["one", "two", "an error of the balancer", "nobody", "its own answer", "a stranger", "by name"],
)
def test_a_line(line: str, told: Told) -> None:
    """Whom it names, as nginx lists them."""
    assert heard(line) == {"run-1": told}


def test_a_line_without_a_status() -> None:
    """Tells whom it was given to, and no more."""
    pattern = r"id=(?P<request>\S+) to (?P<upstream>\S+)"
    assert heard("x id=run-7 to 10.0.0.2:80", pattern=pattern) == {"run-7": Told("app-2", ("app-2",))}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense of run-1",
        '200 id=other-1 upstream="10.0.0.1:80" tried="200" run-',
        '200 id=run-1 upstream="' + "10.0.0.1:80, " * 2000 + '" tried="200"',
    ],
    ids=["empty", "another form", "another's id", "far too long"],
)
def test_lines_of_others(line: str) -> None:
    """Are passed over."""
    assert heard(line) == {}


def test_each_is_told_once() -> None:
    """A log is read again and again, and goes on."""
    lines = ['200 id=run-1 upstream="10.0.0.1:80" tried="200"']
    log = BalancerLog(NGINX, lambda: lines, lambda: WHOS, marked="run-")
    assert set(log.new()) == {"run-1"}
    lines.append('200 id=run-2 upstream="10.0.0.2:80" tried="200"')
    assert set(log.new()) == {"run-2"}
    assert log.new() == {}


# -- from the request to the verdict ----------------------------------------------------------------------------------


def test_requests_are_joined_to_their_lines(tmp_path: Path) -> None:
    """Each request to the balancer carries an id that no other has; what is told of it stands in the history, and what is not
    told stays unknown. An instance that is asked directly needs none."""
    path = tmp_path / "history.jsonl"
    steps = {"whoami": {"steps": [{"get": "/page"}, {"get": "/next"}]}, "look": {"steps": [{"get": "/direct"}]}}
    with closing(ScriptedServer()) as server, Journal(path, run="r") as journal:
        journal.append({"t": "scenario", "scenario": "s", "seed": 1, "instances": ["app-1", "app-2"], "setup": {}})
        with Traffic(
            journal=path,
            journeys=compile_journeys(steps),
            targets={"balancer": server.address, "app-1": server.address},
            names={},
            timeout_seconds=5,
            seed=1,
            request_ids="run-",
        ) as traffic:
            traffic.begin_scenario("s")
            people = traffic.new_visitors(3)
            traffic.start_stream(Stream(name="b", rate=100, visitors=people, journeys={"whoami": 1.0}))
            traffic.perform([Task(visitor=each, journey="whoami", stream="a") for each in people * 3])
            traffic.perform([Task(visitor=people[0], journey="look", via="app-1", stream="a")])
            traffic.stop_stream("b")
        ids = [seen.headers["x-request-id"] for seen in server.seen if seen.path != "/direct"]
        assert len(ids) == len(set(ids)) >= 18
        assert all(number.startswith("run-") for number in ids)
        assert ["x-request-id" in seen.headers for seen in server.requests("/direct")] == [False]
        asked = len(ids)
        assert untold(path, "s") == asked
        told = {number: ["app-2", ["app-1", "app-2"]] for number in ids[1:]}
        journal.append({"t": "told", "scenario": "s", "by": told})
        assert untold(path, "s") == 1
    for history in (read_history(path, "s"), read_journal(path).scenarios["s"].history):
        through = [op for op in history.operations if op.via == "balancer"]
        assert sum(op.instance == "app-2" and op.attempts == ("app-1", "app-2") for op in through) == asked - 1
        assert sum(op.instance is None for op in through) == 1
        assert [op.instance for op in history.operations if op.via == "app-1"] == ["app-1"]


# -- what is said of it in a setup file -------------------------------------------------------------------------------

REMOTE = '[remote]\nbalancer = "http://far.example.org"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[app.identity]\nlog = '('\n" + REMOTE, "is no regular expression"),
        ("[app.identity]\nlog = 'x'\n" + REMOTE, "must have the groups request and upstream"),
        ("[app.identity]\nlog = '(?P<request>a)(?P<upstream>b)'\n" + REMOTE, "remote.log is missing"),
        (REMOTE + 'log = ["cat", "x"]\n', "needs app.identity.log"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    """How a line is read, and who prints it, are both needed."""
    with pytest.raises(SetupError, match=words):
        parse_setup(tomllib.loads(text + LOGIN), source="a.toml")


def test_both_are_there() -> None:
    """Then it is right, and needs no word of its owner."""
    text = "[app.identity]\nlog = '(?P<request>a)(?P<upstream>b)'\n" + REMOTE + 'log = ["cat", "x"]\n'
    setup: Any = parse_setup(tomllib.loads(text + LOGIN), source="a.toml")
    assert not setup.remote.allow_faults


def test_the_hook_that_prints_it() -> None:
    """Its lines; and why there are none."""
    python = (sys.executable, "-S", "-c")
    assert said((*python, "print('a'); print('b')"), within_seconds=30) == ["a", "b"]
    with pytest.raises(NodeError, match="exit code 3"):
        said((*python, "raise SystemExit(3)"), within_seconds=30)
    with pytest.raises(NodeError, match="longer than"):
        said((*python, "import time; time.sleep(600)"), within_seconds=0.1)
    with pytest.raises(NodeError, match="cannot be run"):
        said(("/nowhere/at-all",), within_seconds=1)
