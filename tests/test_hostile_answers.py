"""Whoever asks an application or a balancer lives with whatever it answers: within bounds of time and memory, and says what it was."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace

import pytest
from hostile_answers import BOMB, BROKEN, ENDLESS, ESCAPES, EVERY, ODD, Place, answered, drop_by_drop, for_ever
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json
from scripted_server import ScriptedServer, Talk, serving
from test_traffic import Rig, paths

from harness import answers, cluster, initial, listening, trying
from harness.answers import BODY_LIMIT, BrokenAnswerError, ask, connection_to, object_in
from harness.edge import asking as edge
from harness.errors import BadInput, NothingTested
from harness.journeys import Take, compile_journeys
from harness.layouts import Instance
from harness.layouts import compose as layouts_compose
from harness.listening import EventListener, Listener
from harness.model import Look, Outcome
from harness.services import _asking as services_asking
from harness.setup import load_setup
from harness.traffic.cookies import MOST_COOKIES
from harness.versions import _named_in

SECONDS = 0.2
"""The patience of everybody here."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_LOOK_TIMEOUT_SECONDS", SECONDS)
    monkeypatch.setattr(edge, "PATIENCE_SECONDS", SECONDS)
    monkeypatch.setattr(services_asking, "ASK_TIMEOUT_SECONDS", SECONDS)
    monkeypatch.setattr(layouts_compose, "_ANSWER_SECONDS", SECONDS)
    monkeypatch.setattr(listening, "_CONNECT_SECONDS", SECONDS)


# -- everybody who asks ------------------------------------------------------------------------------------------------


def asked(at: tuple[str, int], path: str) -> object:
    try:
        return ask("GET", path, at=at, within_seconds=SECONDS)
    except (OSError, HTTPException) as problem:
        return problem


def kept(at: tuple[str, int], path: str) -> object:
    """As whoever watches an instance stop."""
    connection = connection_to(*at, within_seconds=SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException, ValueError) as problem:
        return problem
    finally:
        connection.close()


def of_cluster(at: tuple[str, int]) -> tuple[cluster.Cluster, Instance, list[Look]]:
    looks: list[Look] = []
    app = SimpleNamespace(
        instance_header="X-Instance", identity=None, healthy=None, names=("app-1",), health="/hostile"
    )
    setup = SimpleNamespace(app=app, traffic=SimpleNamespace(headers={}))
    host, port = at
    instance = Instance(name="app-1", node=None, host=host, port=port, spec=None, next_spec=None)  # type: ignore[arg-type]
    layout = SimpleNamespace(
        replicated=None, instances=(instance,), standby=(), whos=dict, balancer=None, borrowed=False
    )
    made = cluster.Cluster(setup, layout, recorder=looks.append)  # type: ignore[arg-type]
    return made, instance, looks


def looked(at: tuple[str, int], path: str) -> object:
    made, instance, looks = of_cluster(at)
    made.look("version", instance, path)
    return looks


def idle(at: tuple[str, int], path: str) -> object:
    _, instance, _ = of_cluster(at)
    return cluster._watch_idle(instance, path, 0.0, {})


def followed(at: tuple[str, int], path: str) -> object:
    made, instance, _ = of_cluster(at)
    try:
        return list(_named_in(made.page(instance, path), path))
    except NothingTested as problem:
        return problem


def from_outside(at: tuple[str, int], path: str) -> object:
    return edge.ask("GET", path, at=at, authority=None, headers={})


def readiness(at: tuple[str, int], path: str) -> object:
    return services_asking.answers_well(*at, path)


def named_by_a_project(at: tuple[str, int], path: str) -> object:
    return layouts_compose._introduction(*at, path, Take("header", "X-Instance"), headers={})


def connected(at: tuple[str, int], path: str) -> object:
    try:
        with Listener(at, path) as listener:
            return listener.close_code
    except NothingTested as problem:
        return problem


def told_of_events(at: tuple[str, int], path: str) -> object:
    try:
        with EventListener(at, path) as listener:
            return listener.ended_at
    except NothingTested as problem:
        return problem


JOURNEY = compile_journeys(
    {
        "whoami": {
            "steps": [
                {
                    "get": "/hostile",
                    "take": {
                        "a": {"json": "version"},
                        "b": {"regex": "(x+)+y"},
                        "c": {"field": "x"},
                        "d": {"header": "Location"},
                        "e": {"cookie": "s"},
                    },
                    "recognised": {"status": 200, "contains": "{user.email}"},
                    "logged_out": {"status": 302, "location": "/login*"},
                },
                {"post": "/hostile", "form": {"a": "{a}", "d": "{d}"}},
            ]
        }
    }
)


def tried(at: tuple[str, int], path: str) -> object:
    host, port = at
    steps = list(
        trying.try_journeys(
            JOURNEY, ["whoami", "whoami"], host=host, port=port, context=None, timeout_seconds=SECONDS, seed=1
        )
    )
    lines = [line for step in steps for line in trying.as_lines(step)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", "\n".join(lines))
    assert max(map(len, lines)) < 1000
    assert len(lines) < 100
    return lines


def around(at: tuple[str, int], path: str) -> object:
    """As `harness init --host`."""
    host, port = at
    try:
        here = initial.look_around(Path("/"), site=("http://x", host, port, None), timeout_seconds=SECONDS)
    except BadInput as problem:
        return problem
    assert not re.search("[\x00-\x1f\x7f]", "".join(here.seen_lines))
    return initial.setup_text(here, file="x.toml")


PLACES: dict[str, Place] = {
    "a single question": asked,
    "on a kept connection": kept,
    "a look at an instance": looked,
    "an idle connection": idle,
    "the assets of a page": followed,
    "from outside": from_outside,
    "readiness": readiness,
    "the name of an instance": named_by_a_project,
    "a WebSocket": connected,
    "events": told_of_events,
    "journey --try": tried,
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("script", EVERY)
@pytest.mark.parametrize("place", PLACES)
def test_whoever_asks_comes_back(hostile: ScriptedServer, place: str, script: str) -> None:
    """With something to say, and without an exception that nobody foresaw."""
    hostile.scripts["/hostile"] = EVERY[script]
    assert PLACES[place](hostile.address, "/hostile") is not None


@pytest.mark.parametrize("script", EVERY)
def test_a_first_look_at_a_site_comes_back(script: str) -> None:
    """Whether its first page is hostile, or all that follow."""
    with serving() as server:
        server.scripts["/"] = EVERY[script]
        assert around(server.address, "/")
    if script in ENDLESS:
        return  # the patience with one page, for each of thirty
    with serving() as server:
        server.scripts |= dict.fromkeys((*initial._HEALTH, *initial._LOGIN, *initial._OWN_PAGES[:-1]), EVERY[script])
        assert around(server.address, "/")


@pytest.mark.parametrize("script", [*ENDLESS, *BROKEN])
def test_what_is_no_whole_answer_is_told_as_none(hostile: ScriptedServer, script: str) -> None:
    """Never as one that was cut where it suited us."""
    hostile.scripts["/hostile"] = EVERY[script]
    assert isinstance(asked(hostile.address, "/hostile"), OSError | HTTPException)


@pytest.mark.parametrize("script", ODD)
def test_what_is_whole_is_an_answer(hostile: ScriptedServer, script: str) -> None:
    """However odd: what it means is for others to say. Nothing is followed and nothing is inflated."""
    hostile.scripts["/hostile"] = EVERY[script]
    hostile.seen.clear()
    answer = asked(hostile.address, "/hostile")
    assert isinstance(answer, answers.Answer), answer
    assert len(hostile.seen) == 1
    if script == "a bomb":
        assert answer.body == BOMB


@pytest.mark.parametrize("script", [name for name in ENDLESS if not name.startswith("drops")])
def test_no_answer_takes_more_memory_than_its_bounds(hostile: ScriptedServer, script: str) -> None:
    """A body is held once as it comes and once as a whole."""
    hostile.scripts["/hostile"] = EVERY[script]
    tracemalloc.start()
    try:
        asked(hostile.address, "/hostile")
        assert tracemalloc.get_traced_memory()[1] < 4 * BODY_LIMIT
    finally:
        tracemalloc.stop()


def test_events_may_go_on(hostile: ScriptedServer) -> None:
    """Only their beginning is waited for within bounds: more than any answer may have goes by, and nothing of it is kept."""
    block = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    passed: list[int] = []

    def events(talk: Talk) -> None:
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2 * BODY_LIMIT // 65_536):
            talk.send(block)
        passed.append(1)
        talk.wait_until_released()

    hostile.scripts["/events"] = events
    with EventListener(hostile.address, "/events") as listener:
        hostile.wait_for(1, "/events")
        while not passed:
            assert listener.ended_at is None
    assert listener.ended_at is not None


def test_nobody_is_followed_to_somebody_else() -> None:
    """Not from a WebSocket either, to a host of the application's choice."""
    with serving() as other, serving() as server:
        host, port = other.address
        server.scripts["/live"] = lambda talk: talk.answer(
            status="302 Found", headers=f"Location: ws://{host}:{port}/stolen\r\n"
        )
        with pytest.raises(NothingTested, match="nobody could connect to the WebSocket /live"):
            Listener(server.address, "/live")
        assert not other.seen


# -- the traffic process ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    journeys = paths("x", "hostile") | {
        "take": {
            "steps": [
                {
                    "get": "/hostile",
                    "take": {"a": {"json": "version"}, "b": {"regex": "(x+)+y"}},
                    "recognised": {"status": 200, "contains": "{user.email}"},
                }
            ]
        }
    }
    names = {"version_header": "X-Version", "instance_header": "X-Instance"}
    with serving() as server, Rig(tmp_path_factory.mktemp("rig"), server, journeys, **names) as rig:
        yield rig


@pytest.mark.parametrize("journey", ["hostile", "take"])
@pytest.mark.parametrize("script", EVERY)
def test_the_traffic_goes_on(rig: Rig, script: str, journey: str) -> None:
    """One operation says what it was, in one class; the next one is answered."""
    rig.server.scripts["/hostile"] = EVERY[script]
    (op,) = rig.ask(journey, timeout_seconds=SECONDS)
    if script in ENDLESS or script in BROKEN:
        assert op.error in ("timeout", "malformed", "truncated", "closed", "wrong-body"), op
        assert op.outcome is Outcome.UNKNOWN or op.error == "wrong-body"
    else:
        assert op.answered is not None or op.error == "malformed", op
    assert len(op.detail) < 600
    assert rig.ask("x")[0].outcome is Outcome.OK
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{rig.traffic.pid}/status").read_text(encoding="ascii"))
    assert peak is not None
    assert int(peak[1]) < 200 * 1024, "kilobytes of memory at most"


def test_what_an_answer_says_of_its_sender_is_cut(rig: Rig) -> None:
    """A name of fifty thousand letters, or of a thousand attempts, is nobody's."""
    headers = b"X-Version: " + b"v" * 20_000 + b"\r\nX-Instance: " + b"i" * 20_000 + b"\r\n"
    headers += b"X-Harness-Upstream: " + b"10.0.0.1:80, " * 1500 + b"\r\n"
    rig.server.scripts["/hostile"] = answered(headers=headers)
    (op,) = rig.ask("hostile")
    assert op.outcome is Outcome.OK
    assert (len(op.version or ""), len(op.named or "")) == (200, 200)
    assert op.attempts == ()
    rig.server.scripts["/hostile"] = answered(
        headers=b"X-Harness-Upstream: app-1\r\nX-Harness-Upstream-Retries: 99999999999\r\n"
    )
    assert len(rig.ask("hostile")[0].attempts) <= 1


def test_a_jar_has_room_for_so_many_cookies(tmp_path: Path) -> None:
    """As a browser's: who sets new ones with every answer does not fill the memory, nor the requests."""
    number = 0

    def bake(talk: Talk) -> None:
        nonlocal number
        number += 50
        cookies = "".join(f"Set-Cookie: c{number + n}=x\r\n" for n in range(50))
        talk.answer(headers=cookies + f"Set-Cookie: huge={'x' * 5000}\r\n")

    with serving(x=bake) as server, Rig(tmp_path, server, paths("x")) as rig:
        rig.ask("x", times=10)
        sent = server.seen[-1].headers["cookie"].split("; ")
        assert len(sent) == MOST_COOKIES
        assert sent[-1] == "c499=x"
        assert not any(cookie.startswith("huge") for cookie in sent)


ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\n!!!\r\n0\r\nX: y\r\n\r\n"
)


def test_an_answer_that_ends_anywhere_is_none(rig: Rig) -> None:
    """Cut after any of its bytes but the last, it is never taken for a whole one, by either of those who ask."""
    for end in range(len(ANSWER)):
        rig.server.scripts["/hostile"] = lambda talk, end=end: (talk.send(ANSWER[:end]), talk.close())
        (op,) = rig.ask("hostile")
        assert op.error in ("closed", "truncated"), (end, op)
    rig.server.scripts["/hostile"] = lambda talk: talk.send(ANSWER)
    assert rig.ask("hostile")[0].outcome is Outcome.OK


def test_a_single_answer_that_ends_anywhere_is_none(hostile: ScriptedServer) -> None:
    """Nor by whoever asks once."""
    whole = b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1\r\nContent-Length: 5\r\n\r\nwhole"
    for end in range(len(whole)):
        hostile.scripts["/hostile"] = lambda talk, end=end: (talk.send(whole[:end]), talk.close())
        assert isinstance(asked(hostile.address, "/hostile"), HTTPException), whole[:end]
    hostile.scripts["/hostile"] = lambda talk: talk.send(whole)
    assert isinstance(asked(hostile.address, "/hostile"), answers.Answer)


# -- what they say ---------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_an_object_can_be_kept_or_is_none(body: bytes) -> None:
    """Whatever a body is: what is kept can be written into the record and read back as it was."""
    kept = object_in(body)
    assert from_json(to_json(kept)) == kept


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 21 + b"1" + b"}" * 21,
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 30 + b"}",
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": "' + b"x" * 2_000_000 + b'"}',
        b"[]",
        b"\xff",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_no_record_can_hold_is_no_object(body: bytes) -> None:
    """Too deep, too long, no number, no text."""
    assert object_in(body) == {}


def test_what_nests_as_deep_as_anybody_does_is_one() -> None:
    """Twenty levels."""
    body = b'{"a":' * 19 + b"1" + b"}" * 19
    assert "a" in object_in(body)


def test_escapes_reach_no_terminal(hostile: ScriptedServer) -> None:
    """Of a page, of an address, of the name and the attributes of a cookie."""
    hostile.scripts["/hostile"] = EVERY["what moves a cursor"]
    lines = "\n".join(tried(hostile.address, "/hostile"))  # type: ignore[arg-type]
    assert "answered  200" in lines
    assert not {character for character in ESCAPES if not character.isprintable()} & set(lines)


def test_a_bound_is_told(hostile: ScriptedServer) -> None:
    """In words, with its number."""
    hostile.scripts["/hostile"] = for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    with pytest.raises(BrokenAnswerError, match="more than 4194304 bytes of body"):
        ask("GET", "/hostile", at=hostile.address, within_seconds=5)
    hostile.scripts["/hostile"] = for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")
    with pytest.raises(HTTPException, match=r"100 headers|without the end of its head"):
        ask("GET", "/hostile", at=hostile.address, within_seconds=5)
    hostile.scripts["/hostile"] = drop_by_drop(b"", b"HTTP/1.1")
    with pytest.raises(TimeoutError):
        ask("GET", "/hostile", at=hostile.address, within_seconds=SECONDS)


def test_a_file_of_a_hostile_site_can_be_read(tmp_path: Path) -> None:
    """What it says of itself stands in the comments and the texts of the file, and nowhere else."""
    with serving() as server:
        server.scripts["/login"] = answered(
            b'<form method=post action="/in\n"><input name="a\nb" type=hidden><input type=password name="p]\x1b"></form>'
        )
        server.scripts["/dashboard"] = answered(
            status="302 Found", headers=b"Location: /login\r\n  evil = 1\r\nX: y\r\n"
        )
        text = around(server.address, "/")
    file = tmp_path / "harness.toml"
    file.write_text(str(text), encoding="utf-8")
    assert load_setup(file).journey["login"].steps
