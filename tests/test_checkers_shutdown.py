"""How an instance goes: a healthy record of one stop passes, each doctored one says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import (
    DrainsInOrder,
    EndsOnItsSignal,
    InFlightFinishes,
    LongRequestsFinish,
    StreamsAreEnded,
)
from harness.model import Checker, History, Look, Operation
from tests.checker_histories import failed, fault, history, look, op, status_of

WATCHED, LOADED = "app-1", "app-2"
TOLD = 2.0
GONE = 2.3
SIGNAL, DRAIN, LONG, STREAMS = EndsOnItsSignal(), DrainsInOrder(), LongRequestsFinish(), StreamsAreEnded()


def exited(node: str, code: int | None = 0, **changes: Any) -> Look:
    value = {"exit_code": code, "accepted": [0, 143], "patience_seconds": 4.0, "signal": "SIGTERM"} | changes
    return look("exit", node, 5.0, status=None, value=value)


def polls(
    ready: Callable[[float], int | None], *, begin: float = 1.9, end: float = 2.6, every: float = 0.02
) -> list[Look]:
    """The ready path, asked until it is not answered any more."""
    made = []
    for i in range(round((end - begin) / every)):
        at = begin + i * every
        made.append(look("drain-ready", WATCHED, at, status=ready(at), error="" if ready(at) else "refused"))
        if ready(at) is None:
            break
    return made


def says_no(at: float) -> int | None:
    return None if at >= GONE else 503 if at >= TOLD + 0.01 else 200


def pages(status: Callable[[float], int | None] = lambda at: 200 if at < GONE else None) -> list[Look]:
    return [
        look("drain-page", WATCHED, 1.9 + i * 0.04, status=status(1.9 + i * 0.04), error="" if status(1.9) else "reset")
        for i in range(11)
    ]


def kept(
    closes: Callable[[float], bool] = lambda at: at >= TOLD + 0.01, *, connections: int = 4, gone: float = GONE
) -> list[Look]:
    """Each asked again and again, until an answer says that it will be closed, or there is none."""
    made = []
    for number in range(connections):
        for i in range(40):
            at = 1.9 + number * 0.01 + i * 0.04
            value = {"connection": number, "closes": at < gone and closes(at)}
            made.append(look("drain-kept", WATCHED, at, status=200 if at < gone else None, value=value, error=""))
            if at >= gone or value["closes"]:
                break
    return made


def long_ones(cut_at: float | None = None, *, seconds: float = 1.75, rate: float = 10) -> list[Operation]:
    """Sent for a second before the order and a little after it; `cut_at`: when those under way are cut."""
    made = []
    for i in range(12):
        due = TOLD - 1.0 + i / rate
        given: dict[str, Any] = {"stream": "long", "kind": "slow", "via": LOADED, "instance": LOADED}
        if cut_at is not None and due + seconds > cut_at:
            made.append(failed(due, error="reset", **given))
        else:
            made.append(op(due, latency=seconds, **given))
    return made


def streams(
    ended: Iterable[float | None] = (2.35, 2.35, 2.36), code: int | None = 1012, *, kind: str = "websocket"
) -> list[Look]:
    return [
        look("stream", LOADED, 5.0, status=None, value={"kind": kind, "ended_at": at, "code": code}) for at in ended
    ]


def stopped(
    *,
    ready: Callable[[float], int | None] = says_no,
    page: list[Look] | None = None,
    connections: list[Look] | None = None,
    long: list[Operation] | None = None,
    open_streams: list[Look] | None = None,
    codes: Mapping[str, int | None] | None = None,
    gone: Mapping[str, float | None] | None = None,
    polled: list[Look] | None = None,
    **changes: Any,
) -> History:
    """Two are told to stop at 2.0: one is watched and gone at 3.3, the other has long work and streams, and is gone at 3.9."""
    ends = {WATCHED: 3.3, LOADED: 3.9} | dict(gone or {})
    with_codes = {WATCHED: 0, LOADED: 0} | dict(codes or {})
    short = [
        op(1.0 + i / 10, latency=1.0, stream="slow", kind="slow", via=WATCHED, instance=WATCHED) for i in range(10)
    ]
    looks = [
        *(polls(ready) if polled is None else polled),
        *(pages() if page is None else page),
        *(kept() if connections is None else connections),
        *(streams() if open_streams is None else open_streams),
        *(look("told", node, TOLD, status=None) for node in with_codes),
        *(exited(node, code) for node, code in with_codes.items()),
    ]
    faults = [
        fault("stop", node, injected=TOLD - 0.05, effective=ends[node], healing=5.0, healed=6.0)
        for node in (LOADED, WATCHED)
    ]
    made = history(
        [*short, *(long_ones() if long is None else long)],
        looks=looks,
        faults=faults,
        setup={"longest_seconds": 1.75, "drain": "balancer-first"},
    )
    return replace(made, **changes)


def in_use(at: float) -> int | None:
    """It never says no, and is gone all the same."""
    return 200 if at < GONE else None


def deaf(**changes: Any) -> History:
    """It does not hear the signal, serves on, and is killed after four seconds, as is the other."""

    def goes_on(at: float) -> int | None:
        return 200 if at < 6.0 else None

    given: dict[str, Any] = {
        "polled": polls(goes_on, end=6.2),
        "page": pages(lambda at: 200),
        "connections": kept(lambda at: False, gone=6.0),
        "open_streams": streams((6.01, 6.01, None), None),
        "codes": {WATCHED: -9, LOADED: -9},
        "gone": {WATCHED: 6.0, LOADED: 6.0},
    }
    return stopped(**given | changes)


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (SIGNAL, stopped(), "pass", "app-1 ended 1.3 s after SIGTERM with exit code 0"),
        (SIGNAL, stopped(codes={WATCHED: -15}), "pass", "exit code 143 (signal 15)"),
        (SIGNAL, stopped(codes={WATCHED: 143}), "pass", "exit code 143"),
        (SIGNAL, stopped(codes={WATCHED: 1}), "fail", "with exit code 1; 0 and 143 would be well"),
        (SIGNAL, deaf(), "fail", "app-1 had to be killed 4.0 s after SIGTERM"),
        (SIGNAL, deaf(codes={WATCHED: 137}), "fail", "had to be killed"),
        # Killed long before anybody lost patience: not for want of an end, and not well either.
        (SIGNAL, stopped(codes={WATCHED: -9}), "fail", "with exit code 137 (signal 9)"),
        # The other one's end is none of this promise.
        (SIGNAL, stopped(codes={LOADED: 1}), "pass", "exit code 0"),
        (SIGNAL, stopped(codes={WATCHED: None}), "inconclusive", "was not seen to end"),
        (SIGNAL, stopped(gone={WATCHED: None}), "inconclusive", "was not seen to end"),
        (SIGNAL, stopped(faults=()), "inconclusive", "no instance was told to stop"),
        (
            DRAIN,
            stopped(),
            "pass",
            "said that it is not ready 20 ms after it was told to stop, and served until 300 ms",
        ),
        (DRAIN, stopped(), "pass", "4 kept connections told to leave"),
        (DRAIN, stopped(ready=in_use), "fail", "went on saying that it is ready (15 times)"),
        (DRAIN, deaf(), "fail", "went on saying that it is ready"),
        # Said before the signal was sent, or while it was on its way: that is no going on.
        (
            DRAIN,
            stopped(ready=lambda at: 200 if at < TOLD + 0.03 else None),
            "fail",
            "said 0 times that it is not ready",
        ),
        # Refused with the signal: nobody could hear anything, or hardly.
        (DRAIN, stopped(ready=lambda at: 200 if at < TOLD else None), "fail", "said 0 times that it is not ready"),
        (
            DRAIN,
            stopped(ready=lambda at: None if at >= 2.03 else 503 if at >= TOLD else 200),
            "fail",
            "after it had said 2 times that it is not ready",
        ),
        (DRAIN, stopped(page=pages(lambda at: 500 if at > TOLD else 200)), "fail", "did not serve 1 page"),
        (DRAIN, stopped(page=pages(lambda at: None if at > TOLD else 200)), "fail", "did not serve 1 page"),
        # Those who came later could know.
        (DRAIN, stopped(page=pages(lambda at: None if at > TOLD + 0.07 else 200)), "pass", "served until"),
        (
            DRAIN,
            stopped(connections=kept(lambda at: False)),
            "fail",
            "4 of 4 kept connections to app-1 were ended without",
        ),
        (
            DRAIN,
            stopped(connections=[*kept(connections=2), *kept(lambda at: False)[-22:]]),
            "fail",
            "kept connections to app-1 were ended without a word",
        ),
        # Ended before it had said that it goes: whoever asked then had no occasion to be told.
        (
            DRAIN,
            stopped(connections=kept(lambda at: False, gone=TOLD + 0.02)),
            "inconclusive",
            "only 0 kept connections",
        ),
        # One that keeps no connection has nobody to tell.
        (DRAIN, stopped(connections=kept(lambda at: True)), "pass", "served until 300 ms"),
        (
            DRAIN,
            stopped(ready=lambda at: 503 if at < GONE else None),
            "inconclusive",
            "said only 0 times that it was ready",
        ),
        (DRAIN, stopped(page=[look("drain-page", WATCHED, 1.0)], polled=[]), "inconclusive", "said only 0 times"),
        (DRAIN, stopped(gone={WATCHED: None}), "inconclusive", "was not seen to end"),
        # The rig did not ask while it should have been told.
        (
            DRAIN,
            stopped(
                polled=[*polls(says_no, end=2.0), look("drain-ready", WATCHED, 2.31, status=None, error="refused")]
            ),
            "inconclusive",
            "nobody asked app-1 for 310 ms while it stopped",
        ),
        (DRAIN, stopped(looks=()), "inconclusive", "no instance was told to stop and watched"),
        (LONG, stopped(), "pass", "that take 1.75 s finished, the last 1.6 s after app-2 was told to stop"),
        (LONG, stopped(long=long_ones(3.0), codes={LOADED: 1}), "fail", "were cut when app-2 was stopped (reset"),
        (LONG, stopped(long=long_ones(rate=1.0)), "inconclusive", "only 0 long requests in flight"),
        (LONG, stopped(long=long_ones(seconds=0.6)), "inconclusive", "they were not long"),
        (LONG, stopped(long=[]), "inconclusive", "its longest work"),
        (LONG, stopped(gone={LOADED: None}), "inconclusive", "was not seen to end"),
        (LONG, stopped(setup={}), "inconclusive", "its longest work"),
        (LONG, deaf(), "pass", "finished"),
        (STREAMS, stopped(), "pass", "app-2 ended 3 streams within 360 ms of SIGTERM, and itself within 1.9 s"),
        (STREAMS, stopped(open_streams=streams(code=None)), "pass", "ended 3 streams"),
        (
            STREAMS,
            stopped(open_streams=streams((6.01, 6.02, None), None), codes={LOADED: -9}, gone={LOADED: 6.0}),
            "fail",
            "app-2 had to be killed 4.0 s after SIGTERM, with 3 streams of 3 still open",
        ),
        (
            STREAMS,
            stopped(open_streams=streams((2.3, 6.02, None)), codes={LOADED: 137}, gone={LOADED: 6.0}),
            "fail",
            "with 2 streams of 3 still open",
        ),
        # Killed for another reason: its streams had ended.
        (STREAMS, stopped(codes={LOADED: -9}, gone={LOADED: 6.0}), "inconclusive", "not for its streams"),
        (STREAMS, stopped(open_streams=streams((2.3,))), "inconclusive", "only 1 stream"),
        (STREAMS, stopped(open_streams=streams((1.9, 2.3, 2.3))), "inconclusive", "ended before app-2 was told"),
        (STREAMS, stopped(open_streams=streams((None, 2.3, 2.3))), "inconclusive", "was not seen to end"),
        (STREAMS, stopped(open_streams=[]), "inconclusive", "while it had streams"),
        (STREAMS, stopped(gone={LOADED: None}), "inconclusive", "was not seen to end"),
    ],
)
def test_a_stop_is_judged(checker: Checker, record: History, expected: str, said: str) -> None:
    """What each instance did is told by what followed what; what nobody saw is inconclusive."""
    verdict = checker.check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


def test_each_instance_has_its_own_work() -> None:
    """Short requests are judged at the one they were sent to, whichever of the two ended first."""
    verdict = InFlightFinishes().check(stopped())
    assert status_of(verdict) == "pass"
    assert verdict.evidence["victim"] == WATCHED


def test_evidence_tells_both_ends() -> None:
    """Whoever looks for a cause must see that only the one with streams had to be killed."""
    record = stopped(open_streams=streams((6.0, 6.0, 6.0), None), codes={LOADED: -9}, gone={LOADED: 6.0})
    evidence = STREAMS.check(record).evidence
    assert evidence["killed"]
    assert evidence["kept_open"] == 3
    assert evidence["codes"] == {"none": 3}
    assert evidence["kept_open_by_kind"] == {"websocket": 3}
    both = [*streams(), *streams((6.0, 6.0), None, kind="events")]
    evidence = STREAMS.check(stopped(open_streams=both, codes={LOADED: -9}, gone={LOADED: 6.0})).evidence
    assert evidence["kept_open_by_kind"] == {"websocket": 0, "events": 2}
    assert evidence["without_streams"]["victim"] == WATCHED
    assert not evidence["without_streams"]["killed"]
