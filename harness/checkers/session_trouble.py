"""Whether a session lives as long as it is said to, and what costs nobody theirs: leaving in the middle of a request, and
meeting an instance that is overloaded.

Must not: judge the loss of an instance; that is `sessions`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, listed, plural, rounded
from harness.model import Answer, History, Operation, Outcome, Verdict

__all__ = ["GivingUpCostsNothing", "LifeIsKept", "OverloadIsNoLogout"]

_NOT_THEIRS = (Answer.LOGGED_OUT, Answer.SOMEBODY_ELSE)
_BUSY = (429, 503)


@dataclass(frozen=True)
class LifeIsKept:
    """A session that is used goes on, and one that nobody uses ends when it is said to, on every instance alike.

    Expects: `session_ttl_seconds` in the setup's facts; a `login` of each person through one instance; `whoami` in the stream
    `used` of some, again and again on the same instance, for longer than a session lives; and one `whoami` in the stream
    `idle` of each of the others, on another instance, after that time. Only what is certain on our clock counts: two requests
    lie less apart than from the one's sending to the other's answer, and more than from the one's answer to the other's
    sending. Whoever was looked up too late or too early, because this machine was busy, was not tested.

    Evidence: `ttl_seconds`; `renewed`, `thrown_out`, `ended`, `outlived`: {instance they logged in on: people};
    `first_thrown_out_seconds` after their login; `not_tested`: people; `guards`, `examples`.
    """

    slack_seconds: float = bounds.LIFE_SLACK_SECONDS

    def check(self, history: History) -> Verdict:
        ttl = history.setup.get("session_ttl_seconds")
        if ttl is None:
            return Verdict.inconclusive(
                "nobody says how long a session lives", guards=["sessions.ttl_seconds is not given"]
            )
        logins = {op.visitor: op for op in history.of_kind("login") if op.final and op.outcome is Outcome.OK}
        asked: defaultdict[str, list[Operation]] = defaultdict(list)
        for op in history.of_kind("whoami"):
            if op.visitor in logins and op.stream in ("used", "idle") and op.answered is not None:
                asked[op.visitor].append(op)
        counts: dict[str, Counter[str]] = {word: Counter() for word in _LIVES}
        wrong: list[Operation] = []
        for visitor, login in logins.items():
            word, decided = self._life(login, asked[visitor], float(ttl))
            counts[word][login.via] += 1
            if word in ("thrown_out", "outlived") and decided is not None:
                wrong.append(decided)
        thrown_out = [op for op in wrong if op.answer in _NOT_THEIRS]
        guards = [
            f"nobody who had logged in on {name} could be seen to {what}"
            for word, what in (("renewed", "go on"), ("ended", "be logged out in the end"))
            for name in history.instances
            if not counts[word][name]
        ]
        evidence: dict[str, Any] = {
            "ttl_seconds": ttl,
            **{word: dict(counts[word]) for word in _LIVES if word != "not_tested"},
            "not_tested": counts["not_tested"].total(),
            "first_thrown_out_seconds": rounded(
                min((op.due - (logins[op.visitor].answered or op.due) for op in thrown_out), default=None)
            ),
            "guards": guards,
            "examples": examples(wrong, since=min((op.due for op in logins.values()), default=0.0)),
        }
        found = [
            f"{plural(counts[word].total(), 'person')} {what} (logged in on {listed(sorted(counts[word]))})"
            for word, what in (
                ("thrown_out", f"logged out although used within {ttl:g} s"),
                ("outlived", f"still logged in after more than {ttl:g} s alone"),
            )
            if counts[word]
        ]
        if found:
            return Verdict.fail("; ".join(found), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(counts['renewed'].total(), 'session')} in use went on for longer than {ttl:g} s, "
            f"{plural(counts['ended'].total(), 'session')} left alone ended",
            **evidence,
        )

    def _life(self, login: Operation, asked: list[Operation], ttl: float) -> tuple[str, Operation | None]:
        """What became of one session, and by which answer."""
        if login.sent is None or login.answered is None:
            return "not_tested", None
        used_at = login.sent
        word: str = "not_tested"
        for op in asked:
            if op.sent is None or op.answered is None:
                continue
            is_idle = op.stream == "idle"
            if op.answer in _NOT_THEIRS:
                if op.answered - used_at < ttl:
                    return "thrown_out", op
                return ("ended" if is_idle else word), op
            if op.answer is not Answer.RECOGNISED:
                continue
            if is_idle:
                lasted = op.sent - login.answered > ttl + self.slack_seconds
                return ("outlived" if lasted else "not_tested"), op
            used_at = op.sent
            if op.sent - login.answered > ttl:
                word = "renewed"
        return word, None


_LIVES = ("renewed", "thrown_out", "ended", "outlived", "not_tested")


@dataclass(frozen=True)
class GivingUpCostsNothing:
    """Whoever leaves in the middle of a request is still logged in.

    Expects: people recognised by every instance in the stream `before`; requests of theirs in the stream `given-up`, with the
    error `given-up`: the connection was closed after the request was sent and before its answer; and `whoami` in the stream
    `after` on every instance. Looks named `cookies-renewed` {"journey", "renewed", "of"} tell whose cookie the same request
    changes where it is waited for.

    Evidence: `people` (fully tested), `requests` that were given up, `lost`: people; `by_journey` {journey: {"people",
    "lost"}}, `renewed` {journey: people whose cookie it changed}, `guards`, `examples`.
    """

    people: int = bounds.GAVE_UP

    def check(self, history: History) -> Verdict:
        everywhere = set(history.instances)
        before: defaultdict[str, set[str]] = defaultdict(set)
        after: defaultdict[str, list[Operation]] = defaultdict(list)
        given_up: dict[str, list[Operation]] = {}
        for op in history.operations:
            if op.stream == "given-up" and op.error == "given-up":
                given_up.setdefault(op.visitor, []).append(op)
            elif op.stream == "before" and op.answer is Answer.RECOGNISED:
                before[op.visitor].add(op.via)
            elif op.stream == "after" and op.answered is not None:
                after[op.visitor].append(op)
        known = [visitor for visitor in given_up if everywhere and before[visitor] >= everywhere]
        lost = [v for v in known if any(op.answer in _NOT_THEIRS for op in after[v])]
        kept = [v for v in known if v not in lost and {op.via for op in after[v] if _is_recognised(op)} >= everywhere]
        guards = []
        if len(lost) + len(kept) < self.people:
            guards.append(
                f"only {plural(len(lost) + len(kept), 'person')} who were known everywhere gave up a request and were looked "
                f"up everywhere afterwards ({self.people} are needed)"
            )
        journeys = {visitor: given_up[visitor][0].kind for visitor in (*lost, *kept)}
        evidence = {
            "people": len(lost) + len(kept),
            "requests": sum(map(len, given_up.values())),
            "lost": len(lost),
            "by_journey": {
                kind: {
                    "people": sum(each == kind for each in journeys.values()),
                    "lost": sum(journeys[visitor] == kind for visitor in lost),
                }
                for kind in dict.fromkeys(journeys.values())
            },
            "renewed": {
                str(look.value["journey"]): look.value["renewed"] for look in history.looks_at("cookies-renewed")
            },
            "guards": guards,
            "examples": examples(
                (op for visitor in lost for op in after[visitor] if op.answer in _NOT_THEIRS),
                since=min((op.due for ops in given_up.values() for op in ops), default=0.0),
            ),
        }
        if lost:
            return Verdict.fail(
                f"{len(lost)} of {plural(len(lost) + len(kept), 'person')} logged out after they had left in the middle of a "
                "request",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(kept)} of {plural(len(kept), 'person')} still logged in after giving up "
            f"{plural(sum(map(len, given_up.values())), 'request')}",
            **evidence,
        )


def _is_recognised(op: Operation) -> bool:
    return op.answer is Answer.RECOGNISED


@dataclass(frozen=True)
class OverloadIsNoLogout:
    """An instance that has too much to do says so, and nobody is logged out by it.

    Expects: `whoami` of people who are logged in, in the streams `before`, `overload` (while the instance has more requests
    than it works on at once) and `after`. An overload is answered with 503 or 429, or as the setup says it is.

    Evidence: `people` who met it and were looked up afterwards, `overloaded`: answers; `statuses` {status: answers} in the
    overload; `recognised_meanwhile`: answers; `logged_out_meanwhile`, `logged_out_after`: people; `guards`, `examples`.
    """

    people: int = bounds.MET_OVERLOAD

    def check(self, history: History) -> Verdict:
        told: dict[str, dict[str, list[Operation]]] = {stream: {} for stream in ("before", "overload", "after")}
        for op in history.of_kind("whoami"):
            if op.stream in told and op.answered is not None:
                told[op.stream].setdefault(op.visitor, []).append(op)
        known = [visitor for visitor, ops in told["before"].items() if all(map(_is_recognised, ops))]
        meanwhile = [op for visitor in known for op in told["overload"].get(visitor, ())]
        met = {op.visitor for op in meanwhile if op.answer is Answer.OVERLOADED or op.status in _BUSY}
        out_meanwhile = {op.visitor for op in meanwhile if op.answer in _NOT_THEIRS}
        out_after = {
            visitor
            for visitor in met
            for op in told["after"].get(visitor, ())
            if op.answer in _NOT_THEIRS and visitor not in out_meanwhile
        }
        tested = {visitor for visitor in met if any(map(_is_recognised, told["after"].get(visitor, ())))} | out_after
        guards = []
        if not met:
            guards.append("nobody was told that the instance is overloaded")
        elif len(tested) < self.people:
            guards.append(
                f"only {plural(len(tested), 'person')} met the overload and were looked up afterwards ({self.people} are needed)"
            )
        evidence = {
            "people": len(tested),
            "overloaded": sum(op.answer is Answer.OVERLOADED or op.status in _BUSY for op in meanwhile),
            "statuses": dict(Counter(str(op.status) for op in meanwhile)),
            "recognised_meanwhile": sum(map(_is_recognised, meanwhile)),
            "logged_out_meanwhile": len(out_meanwhile),
            "logged_out_after": len(out_after),
            "guards": guards,
            "examples": examples(
                (
                    op
                    for stream in ("overload", "after")
                    for ops in told[stream].values()
                    for op in ops
                    if op.answer in _NOT_THEIRS
                ),
                since=min((op.due for op in meanwhile), default=0.0),
            ),
        }
        if out_meanwhile or out_after:
            return Verdict.fail(
                f"{plural(len(out_meanwhile | out_after), 'person')} logged out by an overload: {len(out_meanwhile)} in it, "
                f"{len(out_after)} after it",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(len(tested), 'person')} were told that it is overloaded and are still logged in", **evidence
        )
