"""Whether what belongs to all instances is kept by all of them together: files, numbers, keys, names, counts, limits.

Judged by identities and counts. Must not: take what was never tested at the same time, or never answered, for kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import listed, milliseconds, plural, rounded
from harness.model import Answer, FaultWindow, History, Look, Operation, Outcome, Verdict

__all__ = [
    "BootsTogether",
    "ErrorsHaveStatus",
    "EverybodyHears",
    "FilesAreEverywhere",
    "IdleConnectionsAreKept",
    "JobsGoOn",
    "JobsRunOnce",
    "KeyActsOnce",
    "LimitIsShared",
    "NamesAreUnique",
    "NumbersAreUnique",
    "ReadyIsTruthful",
    "SettingsReachEveryInstance",
    "TallyLosesNothing",
]

_DONE_ALREADY = (409, 422, 425)
"""Statuses by which an application says that this key was used, or is being used (draft-ietf-httpapi-idempotency-key)."""


@dataclass(frozen=True)
class FilesAreEverywhere:
    """A file that was acknowledged by one instance is given back by each of them, with what was in it.

    Expects: final operations of the journeys `upload` (one for each visitor) and `download` (through every instance). What not
    even the instance that took it gives back was never surely kept.

    Evidence: `files`, `pairs`, `found`, `missing` {taken by: {asked: error}}, `untested` [pairs].
    """

    def check(self, history: History) -> Verdict:
        homes = {op.visitor: op.via for op in _last_steps(history, "upload") if op.outcome is Outcome.OK}
        found: dict[str, dict[str, bool | None]] = {home: {} for home in homes.values()}
        errors: dict[str, dict[str, str]] = {}
        for op in _last_steps(history, "download"):
            home = homes.get(op.visitor)
            if home is not None:
                found[home][op.via] = _is_there(op)
                if found[home][op.via] is False:
                    errors.setdefault(home, {})[op.via] = str(op.error)
        kept = {home: row for home, row in found.items() if row.get(home)}
        missing = {home: errors[home] for home in kept if home in errors}
        pairs = [(a, b) for a in history.instances for b in history.instances if a != b]
        untested = [(a, b) for a, b in pairs if kept.get(a, {}).get(b) is None]
        count = sum(ok is True for a, row in kept.items() for b, ok in row.items() if a != b)
        evidence = {
            "files": len(kept),
            "pairs": len(pairs),
            "found": count,
            "missing": missing,
            "untested": [f"{a} -> {b}" for a, b in untested],
        }
        if missing:
            lost = sum(map(len, missing.values()))
            first = ", ".join(f"{a} -> {next(iter(row))}" for a, row in list(missing.items())[:3])
            return Verdict.fail(f"{lost} of {len(pairs)} pairs: the file is not there ({first})", **evidence)
        if len(history.instances) < 2:
            return Verdict.inconclusive("there are not two instances that could share a file", **evidence)
        if untested:
            told = f"{len(untested)} of {plural(len(pairs), 'pair')} of instances were not tested"
            return Verdict.inconclusive(f"{told}: no file was kept there, or nobody answered", **evidence)
        return Verdict.passed(f"{plural(len(kept), 'file')}, {count} of {len(pairs)} pairs found them", **evidence)


def _is_there(op: Operation) -> bool | None:
    """None: no word on the file, because nobody was let in or nothing worked."""
    if op.outcome is Outcome.OK:
        return True
    if op.answer is Answer.REFUSED or op.error == "wrong-body":
        return False
    return None


@dataclass(frozen=True)
class NumbersAreUnique:
    """No number that was given to one person is given to another, whoever gives it.

    Expects: looks named `number` at each instance (`told`: the number), of many people at the same time.

    Evidence: `given`, `different`, `by_instance` {name: count}, `twice` {number: [instances]} (the first few), `repeated`.
    """

    each: int = bounds.NUMBERS_EACH

    def check(self, history: History) -> Verdict:
        givers: dict[str, list[str]] = {}
        for look in history.looks_at("number"):
            if look.value.get("told") is not None:
                givers.setdefault(str(look.value["told"]), []).append(look.node)
        by_instance = Counter(name for names in givers.values() for name in names)
        twice = {number: names for number, names in givers.items() if len(names) > 1}
        given = by_instance.total()
        evidence = {
            "given": given,
            "different": len(givers),
            "by_instance": dict(by_instance),
            "twice": dict(list(twice.items())[: bounds.EXAMPLES]),
            "repeated": len(twice),
        }
        if twice:
            number, names = next(iter(twice.items()))
            return Verdict.fail(
                f"{given} numbers given, {len(givers)} of them different: {number} by {listed(names)}", **evidence
            )
        thin = [name for name in history.instances if by_instance[name] < self.each]
        if thin or len(history.instances) < 2:
            return Verdict.inconclusive(
                f"fewer than {self.each} numbers were given by {listed(thin)}"
                if thin
                else "one instance alone gives numbers",
                **evidence,
            )
        return Verdict.passed(f"{given} of {given} numbers are different", **evidence)


@dataclass(frozen=True)
class KeyActsOnce:
    """One key has one effect, through however many instances it comes: each answer names the same one, or says no more.

    Expects: looks named `once` (`record`: the key, `told`: its effect, `stream`: `in-turn` or `at-once`), each key through
    every instance.

    Evidence: `keys`, `tested` {stream: keys}, `twice` {stream: {key: {instance: effect}}}, `answers` {status: count}.
    """

    keys: int = bounds.ONCE_KEYS

    def check(self, history: History) -> Verdict:
        by_key: dict[tuple[str, str], list[Look]] = {}
        for look in history.looks_at("once"):
            by_key.setdefault((str(look.value.get("stream")), str(look.value.get("record"))), []).append(look)
        twice: dict[str, dict[str, dict[str, str]]] = {}
        tested = dict.fromkeys(("in-turn", "at-once"), 0)
        for (stream, key), looks in by_key.items():
            effects = {look.node: str(look.value["told"]) for look in looks if look.value.get("told") is not None}
            if len(set(effects.values())) > 1:
                twice.setdefault(stream, {})[key] = effects
            said = set(effects) | {look.node for look in looks if look.status in _DONE_ALREADY}
            if effects and len(said) > 1:
                tested[stream] = tested.get(stream, 0) + 1
        evidence = {
            "keys": len(by_key),
            "tested": tested,
            "twice": {stream: dict(list(keys.items())[: bounds.EXAMPLES]) for stream, keys in twice.items()},
            "answers": dict(Counter(str(look.status) for look in history.looks_at("once"))),
        }
        if twice:
            stream, keys = next(iter(twice.items()))
            effects = next(iter(keys.values()))
            told = ", ".join(f"{effect} by {name}" for name, effect in effects.items())
            return Verdict.fail(
                f"{sum(map(len, twice.values()))} of {plural(len(by_key), 'key')} had more than one effect, "
                f"{_STREAMS[stream]}: {told}",
                **evidence,
            )
        if not tested["in-turn"] or tested["at-once"] < self.keys:
            return Verdict.inconclusive(
                f"properly answered by two instances: {tested['in-turn']} of 1 key used in turn, {tested['at-once']} of "
                f"{self.keys} used at the same time",
                **evidence,
            )
        return Verdict.passed(f"{len(by_key)} of {len(by_key)} keys had one effect each", **evidence)


_STREAMS = {"in-turn": "used one after the other", "at-once": "used at the same time"}


@dataclass(frozen=True)
class NamesAreUnique:
    """Of several registrations of one name at the same time, one is acknowledged at most.

    Expects: final operations of the journey `register` in the streams `first` and `again` (the same name, one after the
    other) and `same-name` (through all instances at the same time; who means the same name is one visitor). Whoever
    acknowledges a name again, so as not to tell who is registered, cannot be judged.

    Evidence: `names`, `at_once` (names whose registrations overlapped), `twice` {visitor: [instances]}, `tells`, `errors`
    {status: count} (answers at the same time that say neither yes nor no: a server's own errors).
    """

    names: int = bounds.SAME_NAMES

    def check(self, history: History) -> Verdict:
        registered = list(_last_steps(history, "register"))
        first = any(op.outcome is Outcome.OK for op in registered if op.stream == "first")
        again = [op for op in registered if op.stream == "again"]
        tells = first and bool(again) and all(op.answer is Answer.REFUSED or _said_no(op) for op in again)
        by_name: dict[str, list[Operation]] = {}
        for op in registered:
            if op.stream == "same-name":
                by_name.setdefault(op.visitor, []).append(op)
        winners = {name: [op.via for op in ops if op.outcome is Outcome.OK] for name, ops in by_name.items()}
        twice = {name: vias for name, vias in winners.items() if len(vias) > 1}
        at_once = sum(bool(winners[name]) and _overlap(ops) for name, ops in by_name.items())
        errors = Counter(
            str(op.status) for ops in by_name.values() for op in ops if op.status is not None and op.status >= 500
        )
        evidence = {
            "names": len(by_name),
            "at_once": at_once,
            "twice": dict(list(twice.items())[: bounds.EXAMPLES]),
            "repeated": len(twice),
            "tells": tells,
            "errors": dict(errors),
        }
        if not tells:
            why = "a name that is taken is acknowledged again" if first and again else "nobody could register"
            return Verdict.inconclusive(f"{why}: two of one name could not be told from one", **evidence)
        if twice:
            return Verdict.fail(
                f"{len(twice)} of {plural(len(by_name), 'name')} registered twice, by {listed(next(iter(twice.values())))}",
                **evidence,
            )
        if at_once < self.names and errors:
            return Verdict.inconclusive(
                f"{errors.total()} of {plural(sum(map(len, by_name.values())), 'registration')} of {plural(len(by_name), 'name')} "
                f"through all instances at the same time ended in an error ({listed(errors)}), which "
                "is neither yes nor no: what the database refuses as a duplicate is to be answered like a name that is taken",
                **evidence,
            )
        if at_once < self.names:
            return Verdict.inconclusive(
                f"{at_once} of {plural(len(by_name), 'name')} were registered through two instances at the same time "
                f"({self.names} are needed)",
                **evidence,
            )
        return Verdict.passed(
            f"{len(by_name)} of {plural(len(by_name), 'name')} registered once, {at_once} of them asked for at the same time",
            **evidence,
        )


def _said_no(op: Operation) -> bool:
    """Also a page with the form again, which is no redirect: it is not what success looks like."""
    return op.outcome is not Outcome.OK and op.status is not None and op.status < 500


def _overlap(operations: Sequence[Operation]) -> bool:
    """Whether two of them, through different instances, were in flight at one moment, and both properly answered."""
    spans = sorted(
        (op.sent, op.answered, op.via)
        for op in operations
        if op.sent is not None and op.answered is not None and (op.status or 500) < 500
    )
    return any(later[0] < earlier[1] and later[2] != earlier[2] for earlier, later in pairwise(spans))


@dataclass(frozen=True)
class TallyLosesNothing:
    """A number that many raise at the same time has been raised as often as that was acknowledged.

    Expects: looks named `tally` (`told`: the number after it was raised, `stream`: `first`, `together` or `last`). An
    unknown outcome may have raised it or not.

    Evidence: `before`, `after`, `acknowledged`, `unknown`, `lost`, `too_many`, `same_answer` (how many times a number was told
    that another had been told as well), `by_instance` {name: acknowledged}.
    """

    together: int = bounds.TALLY_TOGETHER

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("tally"))
        by_stream = {stream: [look for look in looks if look.value.get("stream") == stream] for stream in _TALLY}
        together = by_stream["together"]
        told = [number for look in together if (number := _number(look)) is not None]
        by_instance = Counter(look.node for look in together if look.value.get("outcome") == Outcome.OK)
        acknowledged = by_instance.total()
        unknown = sum(look.value.get("outcome") == Outcome.UNKNOWN for look in together)
        before, after = (
            next((number for look in by_stream[stream] if (number := _number(look)) is not None), None)
            for stream in ("first", "last")
        )
        # The last look raises it once itself.
        raised = None if before is None or after is None else after - before - 1
        lost = max(0, acknowledged - raised) if raised is not None else 0
        too_many = max(0, raised - acknowledged - unknown) if raised is not None else 0
        evidence = {
            "before": before,
            "after": after,
            "acknowledged": acknowledged,
            "unknown": unknown,
            "lost": lost,
            "too_many": too_many,
            "same_answer": len(told) - len(set(told)),
            "by_instance": dict(by_instance),
        }
        if lost:
            return Verdict.fail(f"{lost} of {acknowledged} acknowledged increments lost", **evidence)
        if too_many:
            return Verdict.fail(f"raised {raised} times, and {acknowledged} were acknowledged", **evidence)
        if raised is None:
            return Verdict.inconclusive("the number was not told as a whole number before and after", **evidence)
        if acknowledged < self.together or len(by_instance) < 2:
            return Verdict.inconclusive(
                f"{acknowledged} increments acknowledged by {plural(len(by_instance), 'instance')} ({self.together} by two "
                "are needed)",
                **evidence,
            )
        return Verdict.passed(f"{acknowledged} of {acknowledged} increments counted", **evidence)


_TALLY = ("first", "together", "last")


def _number(look: Look) -> int | None:
    try:
        return int(str(look.value.get("told")))
    except ValueError:
        return None


@dataclass(frozen=True)
class LimitIsShared:
    """What all instances together let through is the limit, and not as many times that as there are instances.

    Expects: final operations of the journey `limited`, of one visitor after the other, each more often than the limit through
    every instance; `setup.rate_limit` (`limit`, `window_seconds`).

    Windows may begin at any moment, but a window lasts longer than all of it takes: so one end of a window at most lies
    within, and one person may be let through twice as often. Two people cannot both be. A bucket that is refilled all
    the time lets through what is refilled meanwhile.

    Evidence: `limit`, `window_seconds`, `people` [{"accepted", "refused", "other", "seconds", "allowed", "by_instance"}].
    """

    def check(self, history: History) -> Verdict:
        declared = history.setup.get("rate_limit") or {}
        operations = list(_last_steps(history, "limited"))
        limit, window = int(declared.get("limit", 0)), float(declared.get("window_seconds", 0.0))
        people = [
            _person([op for op in operations if op.visitor == visitor], limit=limit, window_seconds=window)
            for visitor in dict.fromkeys(op.visitor for op in operations)
        ]
        evidence = {"limit": limit, "window_seconds": window, "people": people}
        if not limit or len(people) < bounds.LIMITED_PEOPLE:
            return Verdict.inconclusive(
                f"the limit was used up by {plural(len(people), 'person')} ({bounds.LIMITED_PEOPLE} are needed)",
                **evidence,
            )
        told = ", ".join(f"{each['accepted']} of {_asked(each)}" for each in people)
        over = [each for each in people if each["accepted"] > each["allowed"]]
        if any(each["accepted"] > each["allowed"] + limit for each in people) or len(over) == len(people):
            return Verdict.fail(f"accepted {told} in one window, and the limit is {limit}", **evidence)
        seconds = max(op.answered or op.due for op in operations) - min(op.due for op in operations)
        if seconds >= window:
            return Verdict.inconclusive(
                f"it took {seconds:.1f} s, and a window is {window:g} s: app.rate_limit.window_seconds is too short to tell",
                **evidence,
            )
        thin = [each for each in people if each["accepted"] < limit or not each["refused"] or each["other"]]
        if len(history.instances) < 2 or len(thin) == len(people) or (over and thin):
            return Verdict.inconclusive(
                f"accepted {told}, where {limit} were to be accepted and the rest refused", **evidence
            )
        return Verdict.passed(f"accepted {told}, and the limit is {limit}", **evidence)


def _person(operations: Sequence[Operation], *, limit: int, window_seconds: float) -> dict[str, Any]:
    accepted = [op for op in operations if op.outcome is Outcome.OK]
    refused = sum(op.answer in (Answer.OVERLOADED, Answer.REFUSED) for op in operations)
    sent = [op.sent for op in operations if op.sent is not None]
    ended = [op.answered for op in operations if op.answered is not None]
    seconds = max(ended) - min(sent) if sent and ended else 0.0
    return {
        "accepted": len(accepted),
        "refused": refused,
        "other": len(operations) - len(accepted) - refused,
        "seconds": rounded(seconds),
        "allowed": limit + (ceil(limit * seconds / window_seconds) if window_seconds else 0),
        "by_instance": dict(Counter(op.via for op in accepted)),
    }


def _asked(person: Mapping[str, Any]) -> int:
    return int(person["accepted"] + person["refused"] + person["other"])


def _last_steps(history: History, journey: str) -> Iterable[Operation]:
    return (op for op in history.of_kind(journey) if op.final)


@dataclass(frozen=True)
class SettingsReachEveryInstance:
    """A setting that was changed through one instance is shown by every instance soon after.

    Expects: final operations of the journeys `change` and `see`, both naming the record, two changes or more.

    Evidence: `changes`, `stale` {instance: [seconds after the change at which it still showed something else]},
    `slowest_seconds` (of those that showed it), `unseen` [instances of which nothing can be said].
    """

    within_seconds: float = bounds.SETTING_SECONDS

    def check(self, history: History) -> Verdict:
        changed = {
            op.record: op.answered
            for op in _last_steps(history, "change")
            if op.outcome is Outcome.OK and op.answered is not None
        }
        stale: dict[str, list[float | None]] = {}
        seen: dict[tuple[str | None, str], float] = {}
        for op in _last_steps(history, "see"):
            at = changed.get(op.record)
            if at is None or op.sent is None:
                continue
            if op.outcome is Outcome.OK and op.answered is not None:
                seen.setdefault((op.record, op.via), op.answered - at)
            elif op.error == "wrong-body" and op.sent > at + self.within_seconds:
                stale.setdefault(op.via, []).append(rounded(op.sent - at))
        unseen = sorted({name for name in history.instances for record in changed if (record, name) not in seen})
        slowest = max(seen.values(), default=None)
        evidence = {
            "changes": len(changed),
            "stale": {name: seconds[-bounds.EXAMPLES :] for name, seconds in stale.items()},
            "slowest_seconds": rounded(slowest),
            "unseen": unseen,
        }
        if stale:
            return Verdict.fail(
                f"{listed(sorted(stale))} still showed what was before, {self.within_seconds:g} s after a change",
                **evidence,
            )
        if len(changed) < 2 or len(history.instances) < 2 or slowest is None:
            return Verdict.inconclusive(f"{plural(len(changed), 'change')} acknowledged (2 are needed)", **evidence)
        if unseen:
            return Verdict.inconclusive(f"what {listed(unseen)} showed is not known", **evidence)
        if slowest > self.within_seconds:
            return Verdict.inconclusive(f"the first proper look came {slowest:.1f} s after a change", **evidence)
        return Verdict.passed(
            f"{plural(len(changed), 'change')} shown by every instance, the last within {milliseconds(slowest)}",
            **evidence,
        )


@dataclass(frozen=True)
class JobsRunOnce:
    """For each time that a job was due it was run by one instance, once.

    Expects: looks named `jobs` (`runs`: [{"due", "by"}], the latest ones). What had been run before the first look is left out.

    Evidence: `times` (dues seen), `twice` {due: [instances]} (the first few), `repeated`, `by_instance` {name: runs}.
    """

    runs: int = bounds.JOB_RUNS

    def check(self, history: History) -> Verdict:
        looks = [each for look in history.looks_at("jobs") if (each := _runs(look)) is not None]
        known = {due for due, _ in looks[0]} if looks else set()
        by_due: dict[str, list[str]] = {}
        for due, by in looks[-1] if looks else ():
            if due not in known:
                by_due.setdefault(due, []).append(by)
        twice = {due: names for due, names in by_due.items() if len(names) > 1}
        evidence = {
            "times": len(by_due),
            "twice": dict(list(twice.items())[: bounds.EXAMPLES]),
            "repeated": len(twice),
            "by_instance": dict(Counter(name for names in by_due.values() for name in names)),
        }
        if twice:
            names = next(iter(twice.values()))
            return Verdict.fail(
                f"{len(twice)} of {plural(len(by_due), 'job')} run more than once, by {listed(sorted(names))}",
                **evidence,
            )
        if len(by_due) < self.runs or len(history.instances) < 2:
            return Verdict.inconclusive(
                f"{plural(len(by_due), 'job')} seen ({self.runs} are needed): is app.jobs.every_seconds what the application "
                "does?",
                **evidence,
            )
        return Verdict.passed(f"{len(by_due)} of {plural(len(by_due), 'job')} run once", **evidence)


@dataclass(frozen=True)
class JobsGoOn:
    """When the instance that ran the jobs is lost, another one goes on.

    Expects: one fault window; looks named `jobs` before it and, at another instance, while it lasts; `setup.jobs`
    (`every_seconds`).

    Evidence: `lost`, `ran_last`, `resumed_seconds` (None: never), `by`, `watched_seconds`, `within_seconds`.
    """

    within_seconds: float = bounds.JOBS_RESUME_SECONDS

    def check(self, history: History) -> Verdict:
        window = history.faults[0] if len(history.faults) == 1 else None
        if window is None or window.effective is None:
            return Verdict.inconclusive("no instance was lost")
        within = self.within_seconds + float((history.setup.get("jobs") or {}).get("every_seconds", 0.0))
        told = [(look.at, runs) for look in history.looks_at("jobs") if (runs := _runs(look)) is not None]
        before = [runs for at, runs in told if at < window.injected]
        during = [(at, runs) for at, runs in told if window.effective <= at < window.healing]
        known = {due for due, _ in during[0][1]} if during else set()
        resumed = next(
            (
                (at - window.effective, by)
                for at, runs in during
                for due, by in runs
                if due not in known and by != window.node
            ),
            None,
        )
        ran_last = before[-1][0][1] if before and before[-1] else None
        watched = during[-1][0] - window.effective if during else 0.0
        evidence = {
            "lost": window.node,
            "ran_last": ran_last,
            "resumed_seconds": rounded(resumed[0]) if resumed else None,
            "by": resumed[1] if resumed else None,
            "watched_seconds": rounded(watched),
            "within_seconds": within,
        }
        if ran_last != window.node:
            return Verdict.inconclusive(
                f"{window.node} was lost, and the last job was run by {ran_last or 'nobody'}", **evidence
            )
        if resumed is not None and resumed[0] <= within:
            return Verdict.passed(
                f"{resumed[1]} ran the next job {milliseconds(resumed[0])} after {window.node} was lost", **evidence
            )
        if watched < within:
            return Verdict.inconclusive(f"watched for {watched:.1f} s only", **evidence)
        return Verdict.fail(f"no job was run for {watched:.1f} s after {window.node} was lost", **evidence)


def _runs(look: Look) -> list[tuple[str, str]] | None:
    """Which time each was for, and who ran it, the newest first; None where nobody told."""
    runs = look.value.get("runs")
    if look.error or not isinstance(runs, Sequence) or isinstance(runs, str):
        return None
    return [(str(run.get("due")), str(run.get("by"))) for run in runs if isinstance(run, Mapping)]


@dataclass(frozen=True)
class BootsTogether:
    """Every instance comes up at its first start, when all start at once on an empty database.

    Expects: looks named `boot` at every instance (`error`: `ended` or `not-ready`; `exit_code`), of one boot or more; and one
    named `boot-again` of each that ended, when it was started by itself.

    Evidence: `ended` {name: exit code}, `not_ready` [names], `came_up` [names that did, at one boot or more], `came_up_alone`
    [names], `starts`, `failed_starts`, `slowest_seconds`.
    """

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("boot"))
        ended = {look.node: look.value.get("exit_code") for look in looks if look.error == "ended"}
        not_ready = sorted({look.node for look in looks if look.error and look.error != "ended"})
        came_up = sorted({look.node for look in looks if not look.error})
        evidence = {
            "ended": ended,
            "not_ready": not_ready,
            "came_up": came_up,
            "came_up_alone": [look.node for look in history.looks_at("boot-again") if not look.error],
            "starts": len(looks),
            "failed_starts": sum(bool(look.error) for look in looks),
            "slowest_seconds": rounded(max((look.seconds for look in looks), default=None)),
        }
        if ended or not_ready:
            told = [f"{listed(sorted(ended))} ended"] if ended else []
            told += [f"{listed(not_ready)} did not become ready"] if not_ready else []
            return Verdict.fail(
                f"{' and '.join(told)} when {len(history.instances)} instances started at once on an empty database",
                **evidence,
            )
        unseen = [name for name in history.instances if not _looked_at(looks, name)]
        if unseen or len(history.instances) < 2:
            return Verdict.inconclusive(f"how {listed(unseen)} came up was not seen", **evidence)
        return Verdict.passed(
            f"{len(looks)} of {len(looks)} starts came up, all at once on an empty database", **evidence
        )


def _looked_at(looks: Iterable[Look], name: str) -> bool:
    return any(look.node == name for look in looks)


@dataclass(frozen=True)
class ReadyIsTruthful:
    """An instance that serves nothing, because what it needs is away, does not say that it is ready.

    Expects: one fault window (of what the instances need); looks named `ready` at every instance before, while and after it
    was away; operations straight to every instance in the stream `needs-database` meanwhile and afterwards.

    Evidence: `lost`, `failed` [instances that served nothing], `said_ready` [of these], `served` [instances], `shy` [instances that
    served again and never said so], `statuses` {instance: status while it was away}.
    """

    within_seconds: float = bounds.READY_SECONDS

    def check(self, history: History) -> Verdict:
        window = _one_window(history)
        if window is None or window.effective is None:
            return Verdict.inconclusive("nothing that the instances need was away")
        looks = sorted(history.looks_at("ready"), key=lambda look: look.at)
        before = {look.node: look for look in looks if look.at < window.injected}
        during = {look.node: look for look in looks if window.effective <= look.at < window.healing}
        after = {look.node: look for look in looks if window.healed is not None and look.at >= window.healed}
        failed, served = _who_served(history, begin=window.effective, end=window.healing)
        _, again = _who_served(history, begin=window.healed or float("inf"), end=float("inf"), last=True)
        lied = [name for name in failed if name in during and _says_ready(during[name])]
        shy = [name for name in again if name in after and not _says_ready(after[name])]
        evidence = {
            "lost": window.node,
            "failed": failed,
            "served": served,
            "said_ready": lied,
            "shy": shy,
            "statuses": {name: look.status for name, look in during.items()},
        }
        if lied:
            return Verdict.fail(
                f"{listed(lied)} said ready {self.within_seconds:g} s after {window.node} was gone, and served nothing",
                **evidence,
            )
        if shy:
            return Verdict.fail(f"{listed(shy)} served again and did not say that it was ready", **evidence)
        if any(not _says_ready(look) for look in before.values()) or len(before) < len(history.instances):
            return Verdict.inconclusive("not every instance said ready while nothing was away", **evidence)
        unseen = [name for name in history.instances if name not in during or name not in (*failed, *served)]
        if not failed or unseen:
            why = f"{listed(unseen)} was not asked" if unseen else f"every instance served without {window.node}"
            return Verdict.inconclusive(why, **evidence)
        return Verdict.passed(
            f"{len(failed)} of {len(history.instances)} instances served nothing without {window.node}, and none of them said "
            "ready",
            **evidence,
        )


def _says_ready(look: Look) -> bool:
    return look.well


def _one_window(history: History) -> FaultWindow | None:
    return history.faults[0] if len(history.faults) == 1 else None


def _who_served(history: History, *, begin: float, end: float, last: bool = False) -> tuple[list[str], list[str]]:
    """The instances that failed anything, and those that did everything, of what was begun in that time. `last`: by the last
    of each kind alone, where it was tried until it worked."""
    by_instance: dict[str, dict[object, bool]] = {}
    for number, op in enumerate(history.operations):
        if op.stream == _NEEDS_DATABASE and op.final and begin <= op.due < end:
            key = (op.kind, None if last else number)
            by_instance.setdefault(op.via, {})[key] = op.outcome is Outcome.OK
    served = [name for name, done in by_instance.items() if all(done.values())]
    return sorted(set(by_instance) - set(served)), sorted(served)


_NEEDS_DATABASE = "needs-database"


@dataclass(frozen=True)
class ErrorsHaveStatus:
    """What could not be done is not answered with a status that says it was.

    Expects: one fault window (of what the instances need); operations straight to every instance in the stream
    `needs-database` while it was away.

    Evidence: `failed` (operations that were not done), `as_if_done` {instance: [statuses]}, `statuses` {status: count},
    `details` [first words of such answers].
    """

    def check(self, history: History) -> Verdict:
        window = _one_window(history)
        if window is None or window.effective is None:
            return Verdict.inconclusive("nothing that the instances need was away")
        failed = [
            op
            for op in history.operations
            if op.stream == _NEEDS_DATABASE
            and op.final
            and op.outcome is not Outcome.OK
            and window.effective <= op.due < window.healing
        ]
        wrong = [op for op in failed if op.status is not None and 200 <= op.status < 300]
        as_if_done: dict[str, list[int | None]] = {}
        for op in wrong:
            as_if_done.setdefault(op.via, []).append(op.status)
        evidence = {
            "failed": len(failed),
            "as_if_done": as_if_done,
            "statuses": dict(Counter(str(op.status) for op in failed)),
            "details": list(dict.fromkeys(op.detail for op in wrong))[: bounds.EXAMPLES],
        }
        if wrong:
            return Verdict.fail(
                f"{len(wrong)} of {len(failed)} answers to what could not be done had status {wrong[0].status}",
                **evidence,
            )
        silent = [
            name for name in history.instances if not any(op.via == name and op.status is not None for op in failed)
        ]
        if silent:
            return Verdict.inconclusive(f"{listed(silent)} failed nothing, or gave no answer", **evidence)
        told = listed(sorted({str(op.status) for op in failed if op.status is not None}))
        return Verdict.passed(f"{len(failed)} of {len(failed)} failures were told by their status, {told}", **evidence)


@dataclass(frozen=True)
class EverybodyHears:
    """What is said through one instance is heard by those who are connected to any other.

    Expects: looks named `heard` at every instance (`said_via`, `heard`), of somebody who did not say it. What nobody heard at all
    was never surely said.

    Evidence: `said` [instances through which something was said and heard by anybody], `deaf` {said through: [instances where it
    was not heard]}, `heard_at_home` [instances whose own people heard it], `pairs`, `heard`.
    """

    within_seconds: float = bounds.HEARD_SECONDS

    def check(self, history: History) -> Verdict:
        heard: dict[str, dict[str, bool]] = {}
        for look in history.looks_at("heard"):
            heard.setdefault(str(look.value.get("said_via")), {})[look.node] = bool(look.value.get("heard"))
        said = {via: row for via, row in heard.items() if any(row.values())}
        deaf = {via: [name for name, ok in row.items() if not ok] for via, row in said.items() if not all(row.values())}
        pairs = [(a, b) for a in history.instances for b in history.instances]
        count = sum(ok for row in said.values() for ok in row.values())
        evidence = {
            "said": list(said),
            "deaf": deaf,
            "heard_at_home": [via for via, row in said.items() if row.get(via)],
            "pairs": len(pairs),
            "heard": count,
        }
        if deaf:
            via, names = next(iter(deaf.items()))
            return Verdict.fail(
                f"heard in {count} of {len(pairs)} pairs: what was said through {via} was not heard on {listed(names)} within "
                f"{self.within_seconds:g} s",
                **evidence,
            )
        untested = [(a, b) for a, b in pairs if b not in said.get(a, {})]
        if untested or len(history.instances) < 2:
            return Verdict.inconclusive(
                f"{len(untested)} of {len(pairs)} pairs were not tested: nobody heard anything, or nobody was connected",
                **evidence,
            )
        return Verdict.passed(f"{count} of {len(pairs)} pairs heard what was said", **evidence)


@dataclass(frozen=True)
class IdleConnectionsAreKept:
    """An instance keeps an idle connection for longer than the balancer does, so that no request meets its end.

    Expects: looks named `idle` at every instance (`ended_seconds`, `says_so`, `watched_seconds`); `setup.keepalive_seconds`. Who
    says with the answer that it ends the connection (`Connection: close`) is not sent another request on it.

    Evidence: `balancer_seconds`, `ended` {instance: seconds}, `watched_seconds` (the shortest), `kept` [instances].
    """

    margin_seconds: float = bounds.IDLE_MARGIN_SECONDS

    def check(self, history: History) -> Verdict:
        declared = history.setup.get("keepalive_seconds")
        balancer = float(declared) if declared is not None else 0.0
        looks = {look.node: look for look in history.looks_at("idle") if not look.error}
        seconds = {name: look.value.get("ended_seconds") for name, look in looks.items()}
        ended = {name: rounded(float(at)) for name, at in seconds.items() if at is not None and at < balancer}
        watched = min(
            (float(look.value["watched_seconds"]) for look in looks.values() if not look.value.get("says_so")),
            default=float("inf"),
        )
        evidence = {
            "balancer_seconds": balancer,
            "ended": ended,
            "watched_seconds": rounded(watched),
            "kept": sorted(set(looks) - set(ended)),
        }
        if declared is None or len(looks) < max(1, len(history.instances)):
            return Verdict.inconclusive(
                "not every instance was left with an idle connection, or the balancer keeps none", **evidence
            )
        if ended:
            first = min(float(at) for at in ended.values() if at is not None)
            return Verdict.fail(
                f"{listed(sorted(ended))} ended an idle connection after {first:.1f} s, and the balancer keeps them for "
                f"{balancer:g} s",
                **evidence,
            )
        if all(at is None for at in seconds.values()) and watched < balancer:
            return Verdict.inconclusive(
                f"watched for {watched:.1f} s, and the balancer keeps idle connections for {balancer:g} s "
                "(balancer.keepalive_seconds)",
                **evidence,
            )
        return Verdict.passed(
            f"{len(looks)} of {len(looks)} instances kept an idle connection for more than {balancer:g} s",
            **evidence,
        )
