"""Whether people stay logged in where they should, and logged out where they should.

A session begins with an acknowledged login and ends when its owner logs in again, logs out or registers: from then
on its fate is nobody's promise. A request that failed says nothing of a session; being sent to the login page, or
shown somebody else's page, does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.checkers import bounds
from harness.checkers.evidence import done_to, examples, goes_on, listed, plural, rounded
from harness.model import Answer, FaultWindow, History, Operation, Outcome, Verdict

__all__ = ["LogoutHoldsEverywhere", "NoSessionLost", "SessionOnEveryInstance", "SessionsSurviveRestart"]

_CHANGES_THE_SESSION = ("login", "logout", "register")
_NOT_HERS = (Answer.LOGGED_OUT, Answer.SOMEBODY_ELSE)
_PROPER = (Answer.RECOGNISED, *_NOT_HERS)

Matrix = dict[str, dict[str, dict[str, int]]]
"""logged in on -> asked -> {"asked", "recognised", "logged_out", "somebody_else", "failed"}."""
_NOTHING: Mapping[str, int] = {"asked": 0, "recognised": 0, "logged_out": 0, "somebody_else": 0, "failed": 0}


# The lookup in the enumeration costs more than the comparison.
_RECOGNISED, _LOGGED_OUT, _SOMEBODY_ELSE = Answer.RECOGNISED, Answer.LOGGED_OUT, Answer.SOMEBODY_ELSE


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    """One acknowledged login. Made once, and compared as what it is: two are never the same."""

    visitor: str
    home: str | None
    """The instance that answered the login."""
    acknowledged: float
    ends: float
    """When its owner began to change it."""


class _Sessions:
    """Every acknowledged login of a history, to be found by who asked and when."""

    def __init__(self, history: History) -> None:
        changes: defaultdict[str, list[Operation]] = defaultdict(list)
        for op in history.of_kind(*_CHANGES_THE_SESSION):
            changes[op.visitor].append(op)
        self._of: dict[str, list[_Session]] = {}
        for visitor, operations in changes.items():
            operations.sort(key=lambda op: op.due)
            begun = []
            for index, op in enumerate(operations):
                if op.kind == "login" and op.final and op.outcome is Outcome.OK and op.answered is not None:
                    ends = operations[index + 1].due if index + 1 < len(operations) else float("inf")
                    home = op.instance if op.via == "balancer" else op.via
                    begun.append(_Session(visitor, home, op.answered, ends))
            self._of[visitor] = begun
        self._begins = {visitor: [s.acknowledged for s in sessions] for visitor, sessions in self._of.items()}
        self._logins = {
            visitor: [op.due for op in operations if op.kind != "logout"] for visitor, operations in changes.items()
        }

    def __iter__(self) -> Iterator[_Session]:
        return (session for sessions in self._of.values() for session in sessions)

    def at(self, visitor: str, when: float) -> _Session | None:
        """The last session this visitor had begun by then, whether or not it still works."""
        begins = self._begins.get(visitor)
        index = bisect_right(begins, when) - 1 if begins else -1
        return self._of[visitor][index] if index >= 0 else None

    def next_login(self, visitor: str, when: float) -> float:
        """When the visitor next began to log in; infinity for never."""
        return min((due for due in self._logins.get(visitor, []) if due > when), default=float("inf"))

    def behind(self, op: Operation) -> _Session | None:
        """The session this request showed. None: it had none, or its owner was changing it meanwhile."""
        sent = op.sent
        if sent is None:
            return None
        session = self.at(op.visitor, sent)
        over = op.answered if op.answered is not None else sent
        return session if session is not None and over <= session.ends else None


def _asks(history: History) -> list[Operation]:
    """The requests whose answer tells whether a session works."""
    return [op for op in history.operations if op.final and op.kind not in _CHANGES_THE_SESSION]


def _who_answered(op: Operation) -> str | None:
    return op.instance if op.via == "balancer" else op.via


def _tally(matrix: Matrix, row: str, column: str, op: Operation) -> None:
    try:
        cell = matrix[row][column]
    except KeyError:
        cell = matrix.setdefault(row, {})[column] = dict(_NOTHING)
    cell["asked"] += 1
    if op.answer is _RECOGNISED:
        cell["recognised"] += 1
    elif op.answer is _LOGGED_OUT:
        cell["logged_out"] += 1
    elif op.answer is _SOMEBODY_ELSE:
        cell["somebody_else"] += 1
    else:
        cell["failed"] += 1


def _properly(cell: Mapping[str, int]) -> int:
    """How often it was properly answered, whatever the answer."""
    return cell["recognised"] + cell["logged_out"] + cell["somebody_else"]


def _not_hers(cell: Mapping[str, int]) -> int:
    return cell["logged_out"] + cell["somebody_else"]


_NOT_TOLD = "(nobody)"


@dataclass(frozen=True)
class SessionOnEveryInstance:
    """Whoever logged in on one instance is recognised by every other, and at every visit through the balancer.

    Expects: `login` operations with `via` an instance (or the balancer), then `whoami` of the same visitors with `via`
    each instance, so that all ordered pairs are asked, i -> i included; and `whoami` with `via` the balancer.
    A pair with fewer than `each_pair` proper answers was not tested; failed requests are no answers. Of a site whose
    instances cannot be asked (`setup["is_closed"]`) visits through its balancer are judged alone.

    Evidence: `matrix` {logged in via: {asked: {"asked", "recognised", "logged_out", "somebody_else", "failed"}}},
    `balancer_matrix` (the same, column = who answered), `pairs_of`, `pairs_tested`, `pairs_recognised`,
    `untested_pairs`, `visitors`, `visits`, `logged_out`, `somebody_else`, `same_instance` and `other_instances`
    {"asked", "recognised"}, `examples`; of such a site `balancer_matrix`, `pairs_seen`, `visitors` and the counts.
    """

    each_pair: int = bounds.EACH_PAIR
    balancer_visits: int = bounds.VISITS_THROUGH_BALANCER

    def check(self, history: History) -> Verdict:
        sessions = _Sessions(history)
        is_closed = bool(history.setup.get("is_closed"))
        matrix: Matrix = {}
        through: Matrix = {}
        wrong: list[Operation] = []
        visitors: set[str] = set()
        for op in _asks(history):
            session = sessions.behind(op)
            if op.kind != "whoami" or session is None or (session.home is None and not is_closed):
                continue
            home = session.home or _NOT_TOLD
            if op.via == "balancer":
                _tally(through, home, op.instance or _NOT_TOLD, op)
            else:
                _tally(matrix, home, op.via, op)
            if op.answer in _PROPER:
                visitors.add(op.visitor)
            if op.answer in _NOT_HERS:
                wrong.append(op)

        if is_closed and not matrix:
            return self._from_outside(history, through, visitors, wrong)
        pairs = [(a, b) for a in history.instances for b in history.instances]
        cells = {(a, b): matrix.get(a, {}).get(b, _NOTHING) for a, b in pairs}
        untested = [pair for pair, cell in cells.items() if _properly(cell) < self.each_pair]
        broken = [pair for pair, cell in cells.items() if _not_hers(cell)]
        recognised = len(pairs) - len([p for p in pairs if p in set(untested) | set(broken)])
        at_balancer = [cell for row in through.values() for cell in row.values()]
        visits = sum(_properly(cell) for cell in [*cells.values(), *at_balancer])
        through_balancer = sum(_properly(cell) for cell in at_balancer)
        evidence: dict[str, Any] = {
            "matrix": matrix,
            "balancer_matrix": through,
            "pairs_of": len(pairs),
            "pairs_tested": len(pairs) - len(untested),
            "pairs_recognised": recognised,
            "untested_pairs": [f"{a} -> {b}" for a, b in untested],
            "visitors": len(visitors),
            "visits": visits,
            "balancer_visits": through_balancer,
            "logged_out": sum(op.answer is Answer.LOGGED_OUT for op in wrong),
            "somebody_else": sum(op.answer is Answer.SOMEBODY_ELSE for op in wrong),
            "same_instance": _together(cell for (a, b), cell in cells.items() if a == b),
            "other_instances": _together(cell for (a, b), cell in cells.items() if a != b),
            "examples": examples(wrong, since=history.operations[0].due if history.operations else 0.0),
        }
        told = f"{recognised} of {len(pairs)} pairs, {plural(len(visitors), 'visitor')}, {plural(visits, 'visit')}"
        if wrong:
            strangers = evidence["somebody_else"]
            mixed_up = f", {strangers} shown somebody else's page" if strangers else ""
            return Verdict.fail(f"{told}: {evidence['logged_out']} answered as logged out{mixed_up}", **evidence)
        if not pairs or untested:
            return Verdict.inconclusive(
                f"{told}: {len(untested)} pairs had fewer than {self.each_pair} proper answers", **evidence
            )
        if through_balancer < self.balancer_visits:
            return Verdict.inconclusive(
                f"{told}: only {through_balancer} visits through the balancer ({self.balancer_visits} are needed)",
                **evidence,
            )
        return Verdict.passed(told, **evidence)

    def _from_outside(self, history: History, through: Matrix, visitors: set[str], wrong: list[Operation]) -> Verdict:
        """Of a site whose instances nobody can ask: visits through its balancer, each on a connection of its own."""
        cells = {(home, who): cell for home, row in through.items() for who, cell in row.items()}
        visits = sum(_properly(cell) for cell in cells.values())
        known = [pair for pair, cell in cells.items() if set(pair) <= set(history.instances) and _properly(cell)]
        evidence: dict[str, Any] = {
            "balancer_matrix": through,
            "pairs_seen": len(known),
            "visitors": len(visitors),
            "visits": visits,
            "balancer_visits": visits,
            "logged_out": sum(op.answer is Answer.LOGGED_OUT for op in wrong),
            "somebody_else": sum(op.answer is Answer.SOMEBODY_ELSE for op in wrong),
            "examples": examples(wrong, since=history.operations[0].due if history.operations else 0.0),
        }
        by = f"over {plural(len(known), 'pair')} of instances" if known else "by whom is not told"
        told = f"{plural(len(visitors), 'visitor')}, {plural(visits, 'visit')} on connections of their own, {by}"
        if wrong:
            strangers = evidence["somebody_else"]
            mixed_up = f", {strangers} shown somebody else's page" if strangers else ""
            return Verdict.fail(f"{told}: {evidence['logged_out']} answered as logged out{mixed_up}", **evidence)
        if visits < self.balancer_visits:
            return Verdict.inconclusive(f"{told}: {self.balancer_visits} are needed", **evidence)
        return Verdict.passed(told, **evidence)


def _together(cells: Iterable[Mapping[str, int]]) -> dict[str, int]:
    held = list(cells)
    return {"asked": sum(_properly(c) for c in held), "recognised": sum(c["recognised"] for c in held)}


@dataclass(frozen=True)
class NoSessionLost:
    """Every session whose login was acknowledged still works after the last heal, or after the rollout.

    A session answered as logged out, or with somebody else's page, at any time after the fault or rollout began is
    lost. One that nobody used afterwards was not tested.

    Expects: `login` operations acknowledged before the end, and other operations of the same visitors during and after.
    With `after="heal"`: fault windows, and sessions whose login the lost instance had answered. With `after="rollout"`:
    steps named `begin` and `end`. Without: faults where there are any, else the rollout. What counts is an answer with
    an identity (`whoami`, a write sent to the login page).

    Evidence:
    - `promised`, `lost`, `survived`, `unused`: sessions; `lost_by_home` {logged in on: {"promised", "lost"}};
    - `lost_matrix` {logged in on: {the first that said so: sessions}}; `said_by` {instance: such answers};
    - `said_by_replaced`: such answers of instances that had been started again before; `since_start_seconds`
      {instance: from its return to its first such answer}; `said_while` {"during", "after"}: such answers;
    - `matrix`: everything asked since the begin, as in SessionOnEveryInstance;
    - `logged_out_before`: sessions that were answered as logged out before the begin already; `lost_before_start`: lost
      ones that were refused before any instance had been started anew (all of them where none was, as in a hang);
    - `first_lost_seconds`, `last_lost_seconds` since the begin; `somebody_else`; `victims` [names];
    - `guards`, `examples`.
    """

    after: Literal["heal", "rollout"] | None = None
    sessions: int = bounds.SESSIONS
    sessions_on_victim: int = bounds.SESSIONS_ON_VICTIM

    def check(self, history: History) -> Verdict:
        after = self.after or ("rollout" if history.rollout and not history.faults else "heal")
        span = _span_of(history, after)
        if span is None:
            nothing = "no fault was injected" if after == "heal" else "no rollout was carried out"
            return Verdict.inconclusive(nothing, guards=[nothing])
        sessions = _Sessions(history)
        told = _Told(sessions, span)
        told.hear(_asks(history))

        # Who logged out or in again before the end cannot be asked afterwards; a loss that was seen counts anyway.
        promised = [s for s in sessions if s.acknowledged < span.end and (s.ends >= span.end or s in told.lost_at)]
        lost = [s for s in promised if s in told.lost_at]
        unused = [s for s in promised if s not in told.lost_at and s not in told.survived]
        guards = self._guards(history.faults if after == "heal" else (), promised, unused)
        if span.end == float("inf") and after == "rollout":
            guards.insert(0, "the rollout did not come to its end")
        evidence = {
            "promised": len(promised),
            "lost": len(lost),
            "survived": len(promised) - len(lost) - len(unused),
            "unused": len(unused),
            "lost_by_home": _by_home(promised, lost),
            **told.evidence(),
            "victims": [fault.node for fault in history.faults] if after == "heal" else list(history.instances),
            "guards": guards,
        }
        when = span.in_words
        if lost:
            return Verdict.fail(f"{len(lost)} of {plural(len(promised), 'person')} logged out {when}", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(promised)} of {plural(len(promised), 'person')} stayed logged in {when}", **evidence
        )

    def _guards(self, faults: tuple[FaultWindow, ...], promised: list[_Session], unused: list[_Session]) -> list[str]:
        guards = [f"{fault.fault} on {fault.node} had no effect" for fault in faults if fault.effective is None]
        guards += [f"{fault.node} never came back" for fault in faults if fault.healed is None]
        for victim in dict.fromkeys(fault.node for fault in faults):
            begun = sum(s.home == victim for s in promised)
            if begun < self.sessions_on_victim:
                guards.append(
                    f"only {plural(begun, 'person')} had logged in on {victim} ({self.sessions_on_victim} are needed)"
                )
        if len(promised) < self.sessions:
            guards.append(f"only {plural(len(promised), 'person')} had logged in ({self.sessions} are needed)")
        if unused:
            guards.append(f"{len(unused)} of {plural(len(promised), 'session')} were not used afterwards")
        return guards


@dataclass(frozen=True, slots=True)
class _Span:
    """From the begin of what was done to its end, and when each instance came up anew."""

    begin: float
    end: float
    returned: Mapping[str, float]
    first_start: float
    """When the first of them was started; infinity when none was."""
    in_words: str


def _span_of(history: History, after: Literal["heal", "rollout"]) -> _Span | None:
    if after == "rollout":
        begins = [step.at for step in history.rollout if step.step == "begin"]
        ends = [step.at for step in history.rollout if step.step == "end"]
        if not begins:
            return None
        ready = {step.node: step.at for step in history.rollout if step.step == "ready"}
        starts = [step.at for step in history.rollout if step.step == "start"]
        first = min(starts, default=min(ready.values(), default=float("inf")))
        return _Span(min(begins), max(ends, default=float("inf")), ready, first, "during the rollout")
    if not history.faults:
        return None
    returned = {fault.node: fault.healing for fault in history.faults}
    in_words = f"when {done_to(history.faults[0])}" if len(history.faults) == 1 else _several(history.faults)
    # Whoever hangs, or is cut off, goes on as the same process: nothing is started.
    first = min((fault.healing for fault in history.faults if not goes_on(fault)), default=float("inf"))
    return _Span(min(fault.injected for fault in history.faults), history.healed_at, returned, first, in_words)


def _several(faults: tuple[FaultWindow, ...]) -> str:
    kinds = dict.fromkeys(fault.fault for fault in faults)
    return f"when {listed(dict.fromkeys(fault.node for fault in faults))} had {listed(kinds)}"


class _Told:
    """What was said of each session since the begin."""

    def __init__(self, sessions: _Sessions, span: _Span) -> None:
        self._sessions = sessions
        self._span = span
        self.survived: set[_Session] = set()
        self.lost_at: dict[_Session, Operation] = {}
        self._before: set[_Session] = set()
        self._bad: list[Operation] = []
        self._matrix: Matrix = {}

    def hear(self, operations: Iterable[Operation]) -> None:
        begin, end = self._span.begin, self._span.end
        for op in operations:
            answer, sent = op.answer, op.sent
            if sent is None:
                continue
            # What was answered after the begin was judged by what was left; when it was asked does not matter.
            since = op.answered is not None and op.answered >= begin
            is_hers = answer is _RECOGNISED
            is_not_hers = answer is _LOGGED_OUT or answer is _SOMEBODY_ELSE
            counts = since and (is_hers or is_not_hers or op.kind == "whoami")
            # Whose session it was is looked up only where it matters: most of what is said says nothing of one.
            if not (counts or is_not_hers or (is_hers and sent >= end)):
                continue
            session = self._sessions.behind(op)
            if session is None:
                continue
            if counts:
                _tally(self._matrix, session.home or "(nobody)", _who_answered(op) or "(nobody)", op)
            if is_hers:
                if sent >= end:
                    self.survived.add(session)
            elif is_not_hers:
                if since:
                    self._bad.append(op)
                    self.lost_at.setdefault(session, op)
                else:
                    self._before.add(session)

    def evidence(self) -> dict[str, Any]:
        begin, end, returned = self._span.begin, self._span.end, self._span.returned
        lost_matrix: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for session, op in self.lost_at.items():
            lost_matrix[session.home or "(nobody)"][_who_answered(op) or "(nobody)"] += 1
        times = [op.answered - begin for op in self._bad if op.answered is not None]
        since_start: dict[str, float] = {}
        replaced = 0
        for op in self._bad:
            who = _who_answered(op)
            if who is not None and who in returned and op.due >= returned[who]:
                replaced += 1
                since_start.setdefault(who, op.due - returned[who])
        return {
            "lost_matrix": {home: dict(row) for home, row in lost_matrix.items()},
            "said_by": dict(Counter(_who_answered(op) or "(nobody)" for op in self._bad)),
            "said_by_replaced": replaced,
            "said_while": {
                "during": sum(op.due < end for op in self._bad),
                "after": sum(op.due >= end for op in self._bad),
            },
            "matrix": self._matrix,
            "logged_out_before": len(self._before),
            "lost_before_start": sum(
                op.answered is not None and op.answered < self._span.first_start for op in self.lost_at.values()
            ),
            "first_lost_seconds": rounded(min(times, default=None)),
            "last_lost_seconds": rounded(max(times, default=None)),
            "since_start_seconds": {name: rounded(seconds) for name, seconds in since_start.items()},
            "somebody_else": sum(op.answer is Answer.SOMEBODY_ELSE for op in self._bad),
            "examples": examples(self._bad, since=begin),
        }


def _by_home(promised: list[_Session], lost: list[_Session]) -> dict[str, dict[str, int]]:
    by_home: dict[str, dict[str, int]] = {}
    for session in promised:
        by_home.setdefault(session.home or "(nobody)", {"promised": 0, "lost": 0})["promised"] += 1
    for session in lost:
        by_home[session.home or "(nobody)"]["lost"] += 1
    return by_home


@dataclass(frozen=True)
class SessionsSurviveRestart:
    """A session that an instance knew before all instances were restarted is known to it afterwards.

    Expects: `whoami` operations of streams `before` and `after` the restart (through the balancer or directly), and
    something that marks the restart of each instance: a fault window with an effect, or rollout steps `stopped` and
    `ready`. Only (session, instance) pairs that were recognised before count: what never worked is another promise.

    Evidence: `pairs_known` (recognised before), `pairs_kept`, `pairs_lost`, `pairs_unused`, `by_instance` {name:
    {"known", "kept", "lost", "unused"}}, `lost_matrix` {logged in on: {asked: pairs}}, `visitors`, `somebody_else`,
    `not_restarted` [instances], `guards`, `examples`.
    """

    each_instance: int = bounds.RESTART_SESSIONS

    def check(self, history: History) -> Verdict:
        down, up = _restarts(history)
        sessions = _Sessions(history)
        known: set[tuple[_Session, str]] = set()
        kept: set[tuple[_Session, str]] = set()
        lost: dict[tuple[_Session, str], Operation] = {}
        for op in _asks(history):
            session, who = sessions.behind(op), _who_answered(op)
            if session is None or op.answered is None or op.sent is None or who is None or who not in up:
                continue
            pair = (session, who)
            if op.stream == "before" and op.answered <= down[who] and op.answer is Answer.RECOGNISED:
                known.add(pair)
            elif op.stream == "after" and op.sent >= up[who] and pair in known:
                if op.answer in _NOT_HERS:
                    lost.setdefault(pair, op)
                elif op.answer is Answer.RECOGNISED:
                    kept.add(pair)
        kept -= set(lost)
        unused = known - kept - set(lost)
        by_instance = {
            name: {
                "known": sum(who == name for _, who in known),
                "kept": sum(who == name for _, who in kept),
                "lost": sum(who == name for _, who in lost),
                "unused": sum(who == name for _, who in unused),
            }
            for name in history.instances
        }
        guards = self._guards(history, up, by_instance)
        lost_matrix: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for session, who in lost:
            lost_matrix[session.home or "(nobody)"][who] += 1
        evidence = {
            "pairs_known": len(known),
            "pairs_kept": len(kept),
            "pairs_lost": len(lost),
            "pairs_unused": len(unused),
            "by_instance": by_instance,
            "lost_matrix": {home: dict(row) for home, row in lost_matrix.items()},
            "visitors": len({session.visitor for session, _ in known}),
            "somebody_else": sum(op.answer is Answer.SOMEBODY_ELSE for op in lost.values()),
            "not_restarted": [name for name in history.instances if name not in up],
            "guards": guards,
            "examples": examples(lost.values(), since=max(up.values(), default=0.0)),
        }
        if lost:
            people = len({session.visitor for session, _ in lost})
            of = plural(len({session.visitor for session, _ in known}), "person")
            return Verdict.fail(f"{people} of {of} logged out by the restart", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        people = len({session.visitor for session, _ in known})
        told = f"{len(kept)} of {len(known)} sessions known again after the restart"
        return Verdict.passed(f"{told}, {plural(people, 'visitor')}", **evidence)

    def _guards(
        self, history: History, up: Mapping[str, float], by_instance: Mapping[str, Mapping[str, int]]
    ) -> list[str]:
        if not up:
            return ["no instance was restarted"]
        guards = [f"{name} was not restarted" for name in history.instances if name not in up]
        for name, counts in by_instance.items():
            if counts["known"] < self.each_instance:
                guards.append(
                    f"{name} had recognised only {plural(counts['known'], 'session')} before the restart "
                    f"({self.each_instance} are needed)"
                )
            elif counts["kept"] < self.each_instance:
                guards.append(
                    f"{name} was asked about only {plural(counts['kept'], 'session')} after the restart "
                    f"({self.each_instance} are needed)"
                )
        return guards


def _restarts(history: History) -> tuple[dict[str, float], dict[str, float]]:
    """When each instance went down first and came up last, for those that did both."""
    down: dict[str, float] = {}
    up: dict[str, float] = {}
    marks: list[tuple[str, float, float]] = [
        (fault.node, fault.injected, fault.healed)
        for fault in history.faults
        if fault.effective is not None and fault.healed is not None
    ]
    stopped = {step.node: step.at for step in history.rollout if step.step == "stopped"}
    ready = {step.node: step.at for step in history.rollout if step.step == "ready"}
    marks += [(node, at, ready[node]) for node, at in stopped.items() if ready.get(node, at) > at]
    for node, begin, end in marks:
        down[node] = min(begin, down.get(node, begin))
        up[node] = max(end, up.get(node, end))
    return down, up


@dataclass(frozen=True)
class LogoutHoldsEverywhere:
    """Whoever logs out is logged out on every instance, also for a copy of the cookie.

    Expects, for each visitor: `whoami` recognised by at least two instances, a `logout` that was acknowledged, then
    `whoami` in the stream `replay`, which shows the cookie of before to every instance. Anything recognised that was
    due after the logout's answer breaks the promise, until the visitor logs in again.

    Evidence:
    - `logouts` (acknowledged), `visitors` (fully tested), `logout_via` {instance: logouts};
    - `accepted` (visitors), `accepted_by` {instance: answers}, `accepted_on_logout_instance`, `accepted_on_others`;
    - `refused_by` {instance: visitors}, `accepted_before` {visitor: [instances]} (up to five);
    - `first_accepted_seconds`, `last_accepted_seconds`: since the logout's answer;
    - `guards`, `examples`.
    """

    visitors: int = bounds.LOGOUT_VISITORS

    def check(self, history: History) -> Verdict:
        trials = _logouts(history)
        accepted = [(trial, op) for trial in trials for op in trial.accepted]
        tested = [trial for trial in trials if not trial.untested(history.instances)]
        guards = self._guards(history, trials, tested)
        after = [op.due - trial.at for trial, op in accepted]
        at_home = sum(_who_answered(op) == trial.via for trial, op in accepted)
        evidence = {
            "logouts": len(trials),
            "visitors": len(tested),
            "accepted": len({trial.visitor for trial, _ in accepted}),
            "accepted_by": dict(Counter(_who_answered(op) or "(nobody)" for _, op in accepted)),
            "accepted_on_logout_instance": at_home,
            "accepted_on_others": len(accepted) - at_home,
            "logout_via": dict(Counter(trial.via or "(nobody)" for trial in trials)),
            "refused_by": dict(Counter(name for trial in trials for name in sorted(trial.refused))),
            "first_accepted_seconds": rounded(min(after, default=None)),
            "last_accepted_seconds": rounded(max(after, default=None)),
            "accepted_before": {trial.visitor: sorted(trial.before) for trial in trials[: bounds.EXAMPLES]},
            "guards": guards,
            "examples": examples((op for _, op in accepted), since=min((trial.at for trial in trials), default=0.0)),
        }
        if accepted:
            people = len({trial.visitor for trial, _ in accepted})
            by = listed(sorted({_who_answered(op) or "(nobody)" for _, op in accepted}))
            return Verdict.fail(
                f"{people} of {plural(len(trials), 'person')} still accepted by {by} after the logout", **evidence
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        told = f"{len(tested)} of {plural(len(tested), 'person')} logged out on all {len(history.instances)} instances"
        return Verdict.passed(told, **evidence)

    def _guards(self, history: History, trials: list[_Logout], tested: list[_Logout]) -> list[str]:
        if not trials:
            return ["nobody logged out"]
        reasons = Counter(reason for trial in trials if (reason := trial.untested(history.instances)))
        guards = [f"{count} of {plural(len(trials), 'session')}: {reason}" for reason, count in reasons.most_common()]
        if len(tested) < self.visitors and not guards:
            guards.append(f"only {plural(len(tested), 'person')} logged out ({self.visitors} are needed)")
        return guards


@dataclass(frozen=True, slots=True)
class _Logout:
    """One acknowledged logout and what was seen on both sides of it."""

    visitor: str
    via: str | None
    at: float
    before: frozenset[str]
    accepted: tuple[Operation, ...]
    refused: frozenset[str]

    def untested(self, instances: tuple[str, ...]) -> str:
        """Why this logout proves nothing; empty when it does."""
        if len(self.before) < 2:
            return "only ever accepted by one instance" if self.before else "never accepted by any instance"
        if set(instances) - self.refused:
            return "not shown to every instance after the logout"
        return ""


def _logouts(history: History) -> list[_Logout]:
    sessions = _Sessions(history)
    asks: defaultdict[str, list[Operation]] = defaultdict(list)
    for op in _asks(history):
        asks[op.visitor].append(op)
    trials = []
    for out in history.of_kind("logout"):
        session = sessions.at(out.visitor, out.due)
        if not out.final or out.outcome is not Outcome.OK or out.answered is None or session is None:
            continue
        at, again = out.answered, sessions.next_login(out.visitor, out.due)
        later = [op for op in asks[out.visitor] if at <= op.due < again]
        trials.append(
            _Logout(
                visitor=out.visitor,
                via=_who_answered(out),
                at=at,
                before=_names(
                    op for op in asks[out.visitor] if op.answer is Answer.RECOGNISED and sessions.behind(op) == session
                ),
                accepted=tuple(op for op in later if op.answer in (Answer.RECOGNISED, Answer.SOMEBODY_ELSE)),
                refused=_names(op for op in later if op.stream == "replay" and op.answer is Answer.LOGGED_OUT),
            )
        )
    return trials


def _names(operations: Iterable[Operation]) -> frozenset[str]:
    """The instances that answered them."""
    return frozenset(who for op in operations if (who := _who_answered(op)) is not None)
