"""What instances keep together: a healthy record of each scenario passes, each doctored one says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers import (
    BootsTogether,
    ErrorsHaveStatus,
    EverybodyHears,
    FilesAreEverywhere,
    IdleConnectionsAreKept,
    JobsGoOn,
    JobsRunOnce,
    KeyActsOnce,
    LimitIsShared,
    NamesAreUnique,
    NumbersAreUnique,
    ReadyIsTruthful,
    SettingsReachEveryInstance,
    TallyLosesNothing,
)
from harness.model import Answer, Checker, History, Look, Operation, Outcome
from tests.checker_histories import APPS, fault, history, look, op, status_of, without

NOT_FOUND = {"outcome": Outcome.FAILED, "answer": Answer.REFUSED, "status": 404, "error": "http-404"}
WRONG_PAGE = {"outcome": Outcome.FAILED, "answer": Answer.FAILED, "status": 200, "error": "wrong-body"}
BROKEN = {"outcome": Outcome.UNKNOWN, "answer": Answer.FAILED, "status": 500, "error": "http-500"}
TOO_OFTEN = {"outcome": Outcome.FAILED, "answer": Answer.OVERLOADED, "status": 429, "error": "http-429"}
TAKEN = {"outcome": Outcome.FAILED, "answer": Answer.REFUSED, "status": 409, "error": "http-409"}


def files(
    missing: Callable[[str, str], dict[str, Any]] = lambda home, asked: {}, *, took: Sequence[str] = APPS
) -> History:
    """A file for each instance, had from every other; `missing` says what came instead."""
    made = []
    for number, home in enumerate(took):
        made.append(
            op(number, kind="upload", via=home, visitor=f"v{number}", method="POST", status=201, answer=Answer.DONE)
        )
        for asked in APPS:
            made.append(
                op(
                    number + 0.1,
                    kind="download",
                    via=asked,
                    visitor=f"v{number}",
                    **{"answer": Answer.DONE} | missing(home, asked),
                )
            )
    return history(made)


def numbers(given: Callable[[str, int], object], *, each: int = 20) -> History:
    """Each instance gives numbers: `given(instance, i)`."""
    return history(looks=[look("number", app, value={"told": str(given(app, i))}) for i in range(each) for app in APPS])


def by_sequence(app: str, i: int) -> int:
    return i * len(APPS) + APPS.index(app)


def once(
    in_turn: Sequence[object] = (7, 7, 7), at_once: Sequence[object] = (8, 8, 8), *, keys: int = 6, status: int = 200
) -> History:
    """What each instance named as the effect of a key; None: it said that the key was used, with this status."""

    def looks(stream: str, key: str, effects: Sequence[object]) -> list[Look]:
        return [
            look(
                "once",
                app,
                status=200 if effect is not None else status,
                value={
                    "stream": stream,
                    "record": key,
                    "told": None if effect is None else str(effect),
                    "outcome": "ok",
                },
            )
            for app, effect in zip(APPS, effects, strict=True)
        ]

    every = looks("in-turn", "first", in_turn)
    for number in range(keys):
        every += looks("at-once", f"key-{number}", at_once)
    return history(looks=every)


def registrations(
    winners: int = 1,
    *,
    names: int = 12,
    again: dict[str, Any] = TAKEN,
    late: dict[str, Any] = TAKEN,
    apart: float = 0.0,
    first: dict[str, Any] | None = None,
) -> History:
    """Each name is asked for through all instances; so many of them are told yes, and the others that
    they were too `late`. `apart`: seconds between two."""
    good = {"kind": "register", "method": "POST", "status": 303, "answer": Answer.DONE}
    made = [op(0, stream="first", via=APPS[0], visitor="known", **good | (first or {}))]
    made.append(op(1, stream="again", via=APPS[0], visitor="known", **good | again))
    for name in range(names):
        for place, app in enumerate(APPS):
            told = good if place < winners else good | late
            made.append(
                op(2 + name + place * apart, stream="same-name", via=app, visitor=f"n{name}", latency=0.05, **told)
            )
    return history(made)


def tally(
    after: object = 62, *, acknowledged: int = 60, unknown: int = 0, told: Callable[[int], int] = lambda i: i + 2
) -> History:
    """Raised once (to 1), then by many at the same time, then once more."""

    def one(stream: str, number: object, app: str = "app-1", outcome: str = "ok") -> Look:
        return look("tally", app, value={"stream": stream, "outcome": outcome, "told": number})

    together = [one("together", str(told(i)), APPS[i % 3]) for i in range(acknowledged)]
    together += [one("together", None, APPS[i % 3], "unknown") for i in range(unknown)]
    return history(looks=[one("first", "1"), *together, one("last", after)])


def limited(
    *accepted: tuple[int, int, int],
    begin: float = 0.0,
    tries: int = 12,
    window: float = 60.0,
    other: dict[str, Any] = TOO_OFTEN,
) -> History:
    """What each instance let through of `tries`, for one person after the other. The limit is 10."""
    made: list[Operation] = []
    for person, counts in enumerate(accepted):
        for app, count in zip(APPS, counts, strict=True):
            for i in range(tries):
                ok = {"answer": Answer.DONE, "status": 202} if i < count else other
                due = begin + person * 0.3 + i * 0.01
                made.append(op(due, kind="limited", via=app, visitor=f"p{person}", method="POST", **ok))
    return history(made, setup={"rate_limit": {"limit": 10, "window_seconds": window}})


def setting(
    stale: Callable[[str, int], bool] = lambda app, change: False, *, changes: int = 2, slow: float = 0.0
) -> History:
    """Changed twice; each instance is looked at at once and 5.2 seconds later. `stale`: it shows what was before."""
    made = []
    for change in range(changes):
        at, record = change * 20.0, f"r{change}"
        made.append(op(at, kind="change", via="app-1", method="POST", answer=Answer.DONE, record=record))
        for app in APPS:
            for wait in (0.1 + slow, 5.2 + slow):
                told = WRONG_PAGE if stale(app, change) else {"answer": Answer.DONE}
                made.append(op(at + wait, kind="see", via=app, record=record, **told))
    return history(made)


def jobs(by: Callable[[int], Sequence[str]] = lambda due: ["app-1"], *, times: int = 6) -> History:
    """What was run at the beginning, and so many times later; `by`: who ran what was due."""

    def told(last: int) -> Look:
        runs = [{"due": due, "by": app} for due in range(last, -1, -1) for app in by(due)]
        return look("jobs", "app-1", float(last), value={"runs": runs})

    return history(looks=[told(1), told(1 + times)], setup={"jobs": {"runs": "/jobs", "every_seconds": 0.5}})


def lost_runner(
    next_run_at: float | None = 1.0, *, ran_last: str = "app-2", watched: float = 12.0, **changes: Any
) -> History:
    """app-2 is killed at 0; another instance is asked every half second what was run."""
    old = [{"due": 1, "by": ran_last}]
    looks = [look("jobs", "app-1", -0.5, value={"runs": old})]
    for half in range(int(watched * 2) + 1):
        resumed = next_run_at is not None and half / 2 >= next_run_at
        looks.append(
            look("jobs", "app-1", half / 2, value={"runs": [{"due": 2, "by": "app-3"}, *old] if resumed else old})
        )
    window = fault(
        "kill", "app-2", injected=-0.1, healing=watched + 1, healed=watched + 2, **{"effective": 0.0} | changes
    )
    return history(looks=looks, faults=[window], setup={"jobs": {"runs": "/jobs", "every_seconds": 0.5}})


def boots(
    ended: Sequence[str] = (), *, not_ready: Sequence[str] = (), alone: Sequence[str] = (), seen: Sequence[str] = APPS
) -> History:
    """Two boots: at the first all came up; at the second some did not. `alone`: came up when started once more."""
    looks = [look("boot", app, value={"exit_code": None}, status=None) for app in seen]
    for app in seen:
        error = "ended" if app in ended else "not-ready" if app in not_ready else ""
        looks.append(
            look(
                "boot",
                app,
                10.0,
                value={"exit_code": 1 if app in ended else None},
                status=None,
                error=error,
                seconds=2.0,
            )
        )
    looks += [look("boot-again", app, 20.0, error="" if app in alone else "ended") for app in ended]
    return history(looks=looks)


UNAVAILABLE = {"outcome": Outcome.FAILED, "answer": Answer.OVERLOADED, "status": 503, "error": "http-503"}
SILENT = {"outcome": Outcome.UNKNOWN, "answer": Answer.FAILED, "status": None, "error": "timeout", "answered": None}


def without_database(
    told: Callable[[str], dict[str, Any]] = lambda app: UNAVAILABLE,
    ready: Callable[[str], int | None] = lambda app: 503,
    *,
    before: int = 200,
    after: int = 200,
    asked: Sequence[str] = APPS,
    effective: float | None = 1.1,
) -> History:
    """postgres is away from 1 to 8. `told`: what came instead of what was wanted; `ready`: what the ready path said."""
    looks = [look("ready", app, 0.5, status=before) for app in APPS]
    looks += [look("ready", app, 2.0, status=200) for app in APPS]  # a moment too early for an instance to know
    looks += [look("ready", app, 7.0, status=ready(app), error="" if ready(app) else "ReadTimeout") for app in APPS]
    looks += [look("ready", app, 12.0, status=after) for app in APPS]
    made = [op(3.0, stream="needs-database", kind="write", via=app, method="POST", **told(app)) for app in asked]
    made += [op(8.6, stream="needs-database", kind="write", via=app, method="POST", **UNAVAILABLE) for app in APPS]
    made += [op(9.0, stream="needs-database", kind="write", via=app, method="POST") for app in APPS]
    window = fault("stop", "postgres", injected=1.0, effective=effective, healing=8.0, healed=8.5)
    return history(made, looks=looks, faults=[window])


def talk(hears: Callable[[str, str], bool] = lambda via, at: True, *, connected: Sequence[str] = APPS) -> History:
    """Something is said through each instance, and heard, or not, by somebody connected to each."""
    pairs = [(via, at) for via in connected for at in connected]
    return history(
        looks=[look("heard", at, status=None, value={"said_via": via, "heard": hears(via, at)}) for via, at in pairs]
    )


HEARS = EverybodyHears()


def idle(
    ended: Callable[[str], float | None] = lambda app: None,
    *,
    watched: float = 4.5,
    says_so: bool = False,
    seen: Sequence[str] = APPS,
) -> History:
    """A connection to each instance is left idle; the balancer keeps its own for 4 seconds."""

    def value(app: str) -> dict[str, Any]:
        at = ended(app)
        return {"ended_seconds": at, "says_so": says_so, "watched_seconds": 0.0 if says_so else at or watched}

    return history(looks=[look("idle", app, value=value(app)) for app in seen], setup={"keepalive_seconds": 4.0})


IDLE = IdleConnectionsAreKept()
SERVED: dict[str, Any] = {"answer": Answer.DONE}
BOOTS, READY, ERRORS = BootsTogether(), ReadyIsTruthful(), ErrorsHaveStatus()
SETTING, JOBS, GO_ON = SettingsReachEveryInstance(), JobsRunOnce(), JobsGoOn()
UNIQUE, FILES, NUMBERS, ONCE, TALLY, LIMIT = (
    NamesAreUnique(),
    FilesAreEverywhere(),
    NumbersAreUnique(),
    KeyActsOnce(),
    TallyLosesNothing(),
    LimitIsShared(),
)


@pytest.mark.parametrize(
    ("checker", "record", "status", "says"),
    [
        (FILES, files(), "pass", "3 files, 6 of 6 pairs"),
        (
            FILES,
            files(lambda a, b: {} if a == b else NOT_FOUND),
            "fail",
            "6 of 6 pairs: the file is not there (app-1 -> app-2",
        ),
        (FILES, files(lambda a, b: WRONG_PAGE if (a, b) == ("app-1", "app-3") else {}), "fail", "1 of 6 pairs"),
        (FILES, files(lambda a, b: NOT_FOUND), "inconclusive", "6 of 6 pairs of instances were not tested"),
        (FILES, files(lambda a, b: BROKEN if b == "app-2" else {}), "inconclusive", "4 of 6 pairs"),
        (FILES, files(took=APPS[:2]), "inconclusive", "2 of 6 pairs"),
        (FILES, replace(files(), instances=("app-1",)), "inconclusive", "not two instances"),
        (NUMBERS, numbers(by_sequence), "pass", "60 of 60 numbers are different"),
        (
            NUMBERS,
            numbers(lambda app, i: i),
            "fail",
            "60 numbers given, 20 of them different: 0 by app-1, app-2 and app-3",
        ),
        (
            NUMBERS,
            numbers(lambda app, i: 5 if (app, i) in (("app-1", 0), ("app-3", 9)) else f"{app}{i}"),
            "fail",
            "5 by",
        ),
        (
            NUMBERS,
            numbers(by_sequence, each=9),
            "inconclusive",
            "fewer than 10 numbers were given by app-1, app-2 and app-3",
        ),
        (NUMBERS, replace(numbers(by_sequence), instances=("app-1",)), "inconclusive", "one instance alone"),
        (ONCE, once(), "pass", "7 of 7 keys had one effect each"),
        (ONCE, once((7, None, None), (8, None, None), status=409), "pass", "7 of 7 keys"),
        (ONCE, once((7, None, None), status=404), "inconclusive", "0 of 1 key used in turn"),
        (ONCE, once((7, 7, None), (8, None, None), status=409), "pass", "7 of 7 keys"),
        (
            ONCE,
            once((7, 8, 9)),
            "fail",
            "1 of 7 keys had more than one effect, used one after the other: 7 by app-1, 8 by app-2",
        ),
        (ONCE, once(at_once=(8, 9, 8)), "fail", "6 of 7 keys had more than one effect, used at the same time"),
        (ONCE, once((7, 7, 7), (8, None, None), status=403), "inconclusive", "0 of 3 used at the same time"),
        (ONCE, once(keys=2), "inconclusive", "2 of 3 used at the same time"),
        (UNIQUE, registrations(), "pass", "12 of 12 names registered once, 12 of them asked for at the same time"),
        (UNIQUE, registrations(2), "fail", "12 of 12 names registered twice, by app-1 and app-2"),
        (UNIQUE, registrations(0), "inconclusive", "0 of 12 names"),
        (
            UNIQUE,
            registrations(apart=0.1),
            "inconclusive",
            "0 of 12 names were registered through two instances at the same",
        ),
        (UNIQUE, registrations(names=2), "inconclusive", "2 of 2 names"),
        (
            UNIQUE,
            registrations(late=BROKEN),
            "inconclusive",
            "24 of 36 registrations of 12 names through all instances at the same time ended in an error (500)",
        ),
        (UNIQUE, registrations(3, again={}), "inconclusive", "a name that is taken is acknowledged again"),
        (UNIQUE, registrations(again=BROKEN), "inconclusive", "could not be told from one"),
        (UNIQUE, registrations(first=BROKEN), "inconclusive", "nobody could register"),
        (TALLY, tally(), "pass", "60 of 60 increments counted"),
        (TALLY, tally("41"), "fail", "21 of 60 acknowledged increments lost"),
        (TALLY, tally("70"), "fail", "raised 68 times, and 60 were acknowledged"),
        (TALLY, tally("64", unknown=3), "pass", "60 of 60"),
        (TALLY, tally("66", unknown=3), "fail", "raised 64 times"),
        (TALLY, tally("many"), "inconclusive", "not told as a whole number"),
        (TALLY, tally("21", acknowledged=19), "inconclusive", "19 increments"),
        (LIMIT, limited((4, 3, 3), (2, 4, 4)), "pass", "accepted 10 of 36, 10 of 36"),
        (
            LIMIT,
            limited((10, 10, 10), (10, 10, 10)),
            "fail",
            "accepted 30 of 36, 30 of 36 in one window, and the limit is 10",
        ),
        (LIMIT, limited((10, 10, 0), (10, 10, 0)), "fail", "accepted 20 of 36, 20 of 36"),
        # A window ended in the turn of one of them; it cannot end in the turn of both.
        (LIMIT, limited((7, 7, 6), (4, 3, 3)), "pass", "accepted 20 of 36, 10 of 36"),
        (LIMIT, limited((4, 3, 3), (4, 4, 3)), "pass", "accepted 10 of 36, 11 of 36"),
        # Who is limited by address has nothing left for the second person.
        (LIMIT, limited((10, 10, 10), (0, 0, 0)), "fail", "accepted 30 of 36, 0 of 36"),
        (LIMIT, limited((10, 10, 0), (0, 0, 0)), "inconclusive", "accepted 20 of 36, 0 of 36"),
        (LIMIT, limited((4, 3, 3), (0, 0, 0)), "pass", "accepted 10 of 36, 0 of 36"),
        (LIMIT, limited((2, 3, 3), (2, 3, 3)), "inconclusive", "where 10 were to be accepted"),
        (LIMIT, limited((4, 3, 3), (4, 3, 3), other=BROKEN), "inconclusive", "accepted 10 of 36"),
        (LIMIT, limited((4, 3, 3)), "inconclusive", "by 1 person (2 are needed)"),
        (LIMIT, limited((4, 3, 3), (4, 3, 3), window=0.4), "inconclusive", "a window is 0.4 s"),
        (SETTING, setting(), "pass", "2 changes shown by every instance, the last within"),
        (
            SETTING,
            setting(lambda app, change: change == 1 and app != "app-1"),
            "fail",
            "app-2 and app-3 still showed what was before",
        ),
        (SETTING, setting(changes=1), "inconclusive", "1 change acknowledged"),
        (SETTING, setting(slow=7.0), "inconclusive", "the first proper look came 7.1 s"),
        (
            SETTING,
            without(setting(), lambda each: each.kind == "see" and each.via == "app-2"),
            "inconclusive",
            "what app-2 showed is not known",
        ),
        (JOBS, jobs(), "pass", "6 of 6 jobs run once"),
        (JOBS, jobs(lambda due: APPS), "fail", "6 of 6 jobs run more than once, by app-1, app-2 and app-3"),
        (JOBS, jobs(lambda due: ["app-1", "app-1"] if due == 5 else ["app-2"]), "fail", "1 of 6 jobs"),
        # What had been run before the first look is not known from beginning to end.
        (JOBS, jobs(lambda due: APPS if due < 2 else ["app-1"]), "pass", "6 of 6"),
        (JOBS, jobs(times=3), "inconclusive", "3 jobs seen (4 are needed)"),
        (GO_ON, lost_runner(), "pass", "app-3 ran the next job 1.0 s after app-2 was lost"),
        (GO_ON, lost_runner(10.5), "pass", "10.5 s"),
        (GO_ON, lost_runner(11.0), "fail", "no job was run for 12.0 s"),
        (GO_ON, lost_runner(None), "fail", "no job was run for 12.0 s after app-2 was lost"),
        (GO_ON, lost_runner(None, watched=3.0), "inconclusive", "watched for 3.0 s only"),
        (GO_ON, lost_runner(ran_last="app-3"), "inconclusive", "the last job was run by app-3"),
        (GO_ON, lost_runner(effective=None), "inconclusive", "no instance was lost"),
        (HEARS, talk(), "pass", "9 of 9 pairs heard what was said"),
        (
            HEARS,
            talk(lambda via, at: via == at),
            "fail",
            "heard in 3 of 9 pairs: what was said through app-1 was not heard on app-2 and",
        ),
        (HEARS, talk(lambda via, at: (via, at) != ("app-2", "app-3")), "fail", "heard in 8 of 9 pairs"),
        # Who says something need not hear it, but somebody must.
        (HEARS, talk(lambda via, at: False), "inconclusive", "9 of 9 pairs were not tested"),
        (HEARS, talk(lambda via, at: via != "app-1"), "inconclusive", "3 of 9 pairs were not tested"),
        (HEARS, talk(connected=APPS[:2]), "inconclusive", "5 of 9 pairs"),
        (IDLE, idle(), "pass", "3 of 3 instances kept an idle connection for more than 4 s"),
        (IDLE, idle(lambda app: 4.2), "pass", "3 of 3"),
        (IDLE, idle(says_so=True), "pass", "3 of 3"),
        (
            IDLE,
            idle(lambda app: 2.0 if app != "app-1" else None),
            "fail",
            "app-2 and app-3 ended an idle connection after 2.0 s, and",
        ),
        (IDLE, idle(watched=3.0), "inconclusive", "watched for 3.0 s, and the balancer keeps idle connections for 4 s"),
        (IDLE, idle(seen=APPS[:2]), "inconclusive", "not every instance"),
        (IDLE, replace(idle(), setup={"keepalive_seconds": None}), "inconclusive", "the balancer keeps none"),
        (BOOTS, boots(), "pass", "6 of 6 starts came up"),
        (
            BOOTS,
            boots(["app-2", "app-3"]),
            "fail",
            "app-2 and app-3 ended when 3 instances started at once on an empty database",
        ),
        (BOOTS, boots(not_ready=["app-1"]), "fail", "app-1 did not become ready"),
        (BOOTS, boots(seen=APPS[:2]), "inconclusive", "how app-3 came up was not seen"),
        (
            READY,
            without_database(),
            "pass",
            "3 of 3 instances served nothing without postgres, and none of them said ready",
        ),
        (READY, without_database(ready=lambda app: None), "pass", "3 of 3"),
        (
            READY,
            without_database(ready=lambda app: 200),
            "fail",
            "app-1, app-2 and app-3 said ready 5 s after postgres was gone",
        ),
        (READY, without_database(ready=lambda app: 200 if app == "app-2" else 503), "fail", "app-2 said ready"),
        (READY, without_database(lambda app: WRONG_PAGE, lambda app: 200), "fail", "served nothing"),
        (
            READY,
            without_database(lambda app: SERVED, lambda app: 200),
            "inconclusive",
            "every instance served without postgres",
        ),
        (
            READY,
            without_database(lambda app: SERVED if app == "app-1" else UNAVAILABLE),
            "pass",
            "2 of 3 instances served nothing",
        ),
        (READY, without_database(after=503), "fail", "served again and did not say that it was ready"),
        (READY, without_database(before=503), "inconclusive", "not every instance said ready while nothing was away"),
        (READY, without_database(asked=APPS[:2]), "inconclusive", "app-3 was not asked"),
        (READY, without_database(effective=None), "inconclusive", "nothing that the instances need was away"),
        (ERRORS, without_database(), "pass", "3 of 3 failures were told by their status, 503"),
        (
            ERRORS,
            without_database(lambda app: WRONG_PAGE),
            "fail",
            "3 of 3 answers to what could not be done had status 200",
        ),
        (ERRORS, without_database(lambda app: WRONG_PAGE if app == "app-3" else UNAVAILABLE), "fail", "1 of 3 answers"),
        (
            ERRORS,
            without_database(lambda app: SILENT),
            "inconclusive",
            "app-1, app-2 and app-3 failed nothing, or gave no answer",
        ),
        (ERRORS, without_database(lambda app: SERVED), "inconclusive", "failed nothing"),
        (ERRORS, without_database(effective=None), "inconclusive", "nothing that the instances need was away"),
    ],
)
def test_a_record_is_judged(checker: Checker, record: History, status: str, says: str) -> None:
    """By identities and counts: kept, broken, or not tested."""
    verdict = checker.check(record)
    assert status_of(verdict) == status, verdict.measured
    assert says in verdict.measured
