"""What the balancer makes of the instances behind it: what it thinks of them, what it sends twice, and whom it binds to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import done_to, examples, listed, milliseconds, plural, rounded
from harness.checkers.guards import late_as_evidence, late_in_words
from harness.checkers.measures import error_class, error_classes, late_ones, may_have_tried, through_balancer, was_sent
from harness.model import Answer, FaultWindow, History, Look, Operation, Outcome, Verdict

__all__ = ["BalancerSeesTheTruth", "BoundPeopleMove", "BurstIsForgotten", "SentOnce"]

_VIEW = "lb-view"
_BURST, _AFTER_BURST, _DIRECT = "burst", "after-burst", "needs-database"
_SENT, _COUNTED = "sent-once", "counted"
_OF_WAITING = ("timeout", "unsent")
"""What a rig that was late can have made itself."""


def _window(history: History) -> FaultWindow | None:
    return history.faults[0] if len(history.faults) == 1 else None


@dataclass(frozen=True)
class BalancerSeesTheTruth:
    """What the balancer thinks of each instance is true: before one dies, while it is dead, and when it is back.

    Expects: one fault window (of an instance that is killed); looks named `lb-view` at each instance of its pool (`status`, `up`,
    `check`, `said`), and looks named `health` at the same moments, which are the truth.

    Evidence (seconds count from the death, and from ready): `victim`, `broken` ["down-though-alive", "up-though-dead",
    "down-though-back"], `wrongly_down` [names], `checks` {name: the balancer's last check of it}, `said` {name: its words},
    `views` {"before", "dead", "back": {name: its status}}, `down_seconds`, `up_seconds` (None: not seen), `watched_seconds`
    (how long it was dead), `guards`.
    """

    within_seconds: float = bounds.VIEW_SECONDS

    def check(self, history: History) -> Verdict:
        window = _window(history)
        views = sorted(history.looks_at(_VIEW), key=lambda look: look.at)
        if window is None or window.effective is None or not views:
            why = "no instance was lost" if window is None or window.effective is None else _NO_OPINION
            return Verdict.inconclusive(why, guards=[why])
        victim, died, end = window.node, window.effective, float("inf")
        ready = window.healed if window.healed is not None else end
        truth = sorted(history.looks_at("health"), key=lambda look: look.at)
        before = _last(views, end=window.injected)
        dead = _last(views, begin=died, end=window.healing)
        back = _last(views, begin=ready, end=end)
        of_victim = [look for look in views if look.node == victim]
        down = next((look.at for look in of_victim if died <= look.at < window.healing and not look.value["up"]), None)
        up = next((look.at for look in of_victim if look.at >= ready and look.value["up"]), None)
        seen_until = max((look.at for look in of_victim if look.at < window.healing), default=died)
        seen_back_until = max((look.at for look in of_victim), default=ready)
        wrongly = {
            name: look
            for seen, until in ((before, window.injected), (dead, window.healing))
            for name, look in seen.items()
            if not look.value["up"] and _is_alive(truth, name, until=until) and (seen is before or name != victim)
        }
        broken: dict[str, str] = {}
        if wrongly:
            broken["down-though-alive"] = (
                f"the balancer takes {listed(sorted(wrongly))} for down, and asked directly "
                f"{'each is' if len(wrongly) > 1 else 'it is'} alive"
            )
        late = down is None or down - died > self.within_seconds
        if (
            late
            and seen_until - died >= self.within_seconds
            and not (victim in before and not before[victim].value["up"])
        ):
            seen = "" if down is None else f", and knew after {down - died:.1f} s"
            broken["up-though-dead"] = (
                f"the balancer took {victim} for up {self.within_seconds:.0f} s after its death{seen}"
            )
        late = up is None or up - ready > self.within_seconds
        if late and seen_back_until - ready >= self.within_seconds and not wrongly:
            broken["down-though-back"] = (
                f"the balancer took {victim} for down {self.within_seconds:.0f} s after it was ready again"
            )
        guards = self._guards(history, window, before, truth, down=down, up=up)
        evidence: dict[str, Any] = {
            "victim": victim,
            "broken": list(broken),
            "wrongly_down": sorted(wrongly),
            "checks": {name: look.value["check"] for name, look in (before | wrongly).items()},
            "said": {name: look.value["said"] for name, look in (before | wrongly).items()},
            "views": {
                phase: {name: look.value["status"] for name, look in seen.items()}
                for phase, seen in (("before", before), ("dead", dead), ("back", back))
            },
            "down_seconds": rounded(None if down is None else down - died),
            "up_seconds": rounded(None if up is None else up - ready),
            "watched_seconds": rounded(seen_until - died),
            "guards": guards,
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        assert down is not None
        assert up is not None
        return Verdict.passed(
            f"the balancer knew of the death of {victim} after {milliseconds(down - died)}, of its return "
            f"{milliseconds(up - ready)} after it was ready, and took nobody else for down",
            **evidence,
        )

    @staticmethod
    def _guards(
        history: History,
        window: FaultWindow,
        before: Mapping[str, Look],
        truth: Sequence[Look],
        *,
        down: float | None,
        up: float | None,
    ) -> list[str]:
        guards = []
        pool = history.setup.get("pool") or history.instances
        unseen = [name for name in pool if name not in before]
        if unseen:
            guards.append(f"the balancer was not asked about {listed(unseen)} before {done_to(window)}")
        dead = [name for name in before if not _is_alive(truth, name, until=window.injected)]
        if dead:
            guards.append(f"asked directly, {listed(dead)} did not answer before {done_to(window)}")
        if window.healed is None:
            guards.append(f"{window.node} never came back")
        if down is None:
            guards.append(f"{window.node} came back before the balancer was seen to know of its death")
        if up is None:
            guards.append(f"the balancer was not asked until it knew that {window.node} was back")
        return guards


_NO_OPINION = "the balancer has no opinion that can be read"


def _last(looks: Iterable[Look], *, end: float, begin: float = float("-inf")) -> dict[str, Look]:
    """The last of each node in that time."""
    return {look.node: look for look in looks if begin <= look.at < end}


def _is_alive(truth: Sequence[Look], name: str, *, until: float) -> bool:
    """By its last answer to the harness itself until then."""
    last = next((look for look in reversed(truth) if look.node == name and look.at < until), None)
    return last is not None and last.well


@dataclass(frozen=True)
class SentOnce:
    """Whatever is sent once has one effect, also when the instance that got it stops answering in the middle.

    Expects: one fault window (of an instance that hangs and goes on); looks named `tally` of POSTs that each raised a number of
    their own through the balancer meanwhile (stream `sent-once`), and of later ones that raised each again and told how high it
    is (stream `counted`); the operations of both.

    Evidence: `sent`, `acknowledged`, `unknown` (those that failed and may have had their effect), `met` (tried at the instance that
    hung), `counted` (numbers that were looked at afterwards), `twice` (with more than one effect), `lost` (acknowledged, without
    effect), `most` (effects of one), `retried` (sent to more than one instance), `retried_twice` (of those with two effects),
    `victim`, `guards`, `examples`.
    """

    met: int = bounds.MET_BY_POSTS

    def check(self, history: History) -> Verdict:
        window = _window(history)
        if window is None or window.effective is None:
            why = "no instance hung"
            return Verdict.inconclusive(why, guards=[why])
        looks = list(history.looks_at("tally"))
        sent = {str(look.value["record"]): look for look in looks if look.value["stream"] == _SENT}
        effects = _effects([look for look in looks if look.value["stream"] == _COUNTED])
        tried = {
            op.record: op for op in history.operations if op.stream == _SENT and op.record is not None and was_sent(op)
        }
        met = [record for record, op in tried.items() if may_have_tried(op, window.node)]
        known = {record: effects[record] for record in sent if record in effects}
        twice = [record for record, count in known.items() if count > 1]
        acknowledged = [record for record, look in sent.items() if look.value["outcome"] == Outcome.OK]
        lost = [record for record in acknowledged if known.get(record) == 0]
        retried = [record for record, op in tried.items() if len(op.attempts) > 1]
        guards = []
        if len(met) < self.met:
            guards.append(f"{plural(len(met), 'POST')} met {window.node} while it hung ({self.met} are needed)")
        if window.healed is None:
            guards.append(f"{window.node} did not go on")
        if uncounted := len(sent) - len(known):
            guards.append(f"of {uncounted} of {len(sent)} POSTs nobody could tell afterwards how many effects they had")
        evidence: dict[str, Any] = {
            "victim": window.node,
            "sent": len(sent),
            "acknowledged": len(acknowledged),
            "unknown": sum(look.value["outcome"] == Outcome.UNKNOWN for look in sent.values()),
            "met": len(met),
            "counted": len(known),
            "twice": len(twice),
            "lost": len(lost),
            "most": max(known.values(), default=0),
            "retried": len(retried),
            "retried_twice": len(set(twice) & set(retried)),
            "guards": guards,
            "examples": examples(
                [tried[record] for record in (*twice, *lost) if record in tried], since=window.effective
            ),
        }
        told = [f"{len(twice)} of {plural(len(known), 'POST')} had more than one effect"] if twice else []
        told += [f"{len(lost)} of {len(acknowledged)} that were acknowledged had none"] if lost else []
        if told:
            return Verdict.fail(f"{' and '.join(told)} when {done_to(window)}", **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(known)} of {plural(len(known), 'POST')} had one effect at most, {len(met)} of them tried at {window.node} "
            "while it hung",
            **evidence,
        )


def _effects(looks: Sequence[Look]) -> dict[str, int]:
    """How often each number had been raised by others than those who looked: what the last of these was told, less what they
    raised themselves. Not told where one of them failed: it may have raised it."""
    by_record: dict[str, list[Look]] = {}
    for look in looks:
        by_record.setdefault(str(look.value["record"]), []).append(look)
    found = {}
    for record, told in by_record.items():
        totals = [look.value["told"] for look in told]
        if all(total is not None and str(total).isdecimal() for total in totals):
            found[record] = max(int(total) for total in totals) - len(totals)
    return found


@dataclass(frozen=True)
class BurstIsForgotten:
    """When what the instances need was away and is back, people are served again, whatever errors the balancer has seen meanwhile.

    Counted from when every instance, asked directly, does again what it could not do.

    Expects: one fault window (of what the instances need); operations through the balancer in the streams `burst` (meanwhile) and
    `after-burst` (when every instance is able again, until it works or the bound has passed); operations straight to every
    instance in the stream `needs-database`.

    Evidence (seconds count from able again): `lost`, `burst` {class: errors meanwhile}, `able` [instances], `recover_seconds` (None: not
    seen), `watched_seconds`, `asked`, `errors` (afterwards), `broken` (where it is not kept) ["not-recovered"], `guards`, `examples`.
    """

    within_seconds: float = bounds.BURST_SECONDS
    errors: int = bounds.BURST_ERRORS

    def check(self, history: History) -> Verdict:
        window = _window(history)
        if window is None or window.effective is None or window.healed is None:
            why = "nothing that the instances need was away" if window is None else f"{window.node} did not come back"
            return Verdict.inconclusive(why, guards=[why])
        burst = [op for op in history.operations if op.stream == _BURST and op.final and was_sent(op)]
        # Who left before anything came has seen no error.
        failed = [op for op in burst if not op.available and op.error != "given-up"]
        able = _able_again(history, since=window.healed)
        after = sorted(
            (op for op in history.operations if op.stream == _AFTER_BURST and op.final and was_sent(op)),
            key=lambda op: op.due,
        )
        guards = []
        if len(failed) < self.errors:
            guards.append(
                f"{plural(len(failed), 'error')} came through the balancer meanwhile ({self.errors} are needed)"
            )
        if unable := [name for name in history.instances if name not in able]:
            guards.append(f"asked directly, {listed(unable)} did not serve again")
        if not after:
            guards.append("nobody asked through the balancer afterwards")
        start = max(able.values(), default=window.healed)
        wrong = [op for op in after if not op.available]
        good = after[max((after.index(op) for op in wrong), default=-1) + 1 :]
        first = next((op.answered for op in good if op.answered is not None), None)
        recovered = None if first is None else max(0.0, first - start)
        watched = max((op.due for op in after), default=start) - start
        evidence: dict[str, Any] = {
            "lost": window.node,
            "burst": error_classes(failed),
            "able": sorted(able),
            "recover_seconds": rounded(recovered),
            "watched_seconds": rounded(watched),
            "asked": len(after),
            "errors": error_classes(wrong),
            "guards": guards,
            "examples": examples(wrong, since=start),
        }
        late = watched > self.within_seconds if recovered is None else recovered > self.within_seconds
        if late and not guards:
            seen = f"served after {recovered:.1f} s" if recovered is not None else f"not served in {watched:.1f} s"
            return Verdict.fail(
                f"every instance served again, and through the balancer people were {seen} "
                f"({', '.join(f'{name} {count}' for name, count in error_classes(wrong).items())}; allowed "
                f"{self.within_seconds:.0f} s)",
                **evidence,
                broken=["not-recovered"],
            )
        if guards or recovered is None:
            return Verdict.inconclusive(
                guards[0] if guards else "it was not watched until people were served", **evidence
            )
        return Verdict.passed(
            f"people were served {milliseconds(recovered)} after every instance served again, {len(failed)} errors had come "
            "through the balancer before",
            **evidence,
        )


def _able_again(history: History, *, since: float) -> dict[str, float]:
    """When each instance first did properly, asked directly, what it could not do."""
    able: dict[str, float] = {}
    for op in history.operations:
        if op.stream == _DIRECT and op.final and op.available and op.due >= since and op.answered is not None:
            able[op.via] = min(op.answered, able.get(op.via, float("inf")))
    return able


@dataclass(frozen=True)
class BoundPeopleMove:
    """People whom a cookie binds to an instance are served by another when it dies, and are still logged in.

    Bound to it is whoever was answered by it alone before it died. From `within_seconds` after its death none of their requests
    may fail.

    Expects: one fault window (of an instance that is killed); operations of people who are logged in through the balancer, before and
    meanwhile.

    Evidence (seconds count from the death): `victim`, `bound` (people bound to it), `bound_elsewhere`, `moved` (of them), `slowest_seconds`
    (until the last of these was served by another), `stuck` [people never served by another], `logged_out` [people], `failed`
    (requests of theirs, too late), `errors`, `broken` ["not-moved", "logged-out", "failed-requests"], `late`, `late_share`, `guards`,
    `examples`.
    """

    within_seconds: float = bounds.MOVED_SECONDS
    people: int = bounds.SESSIONS_ON_VICTIM
    late_share: float = bounds.LATE_SHARE
    late_after_seconds: float = bounds.LATE_AFTER_SECONDS

    def check(self, history: History) -> Verdict:
        window = _window(history)
        if window is None or window.effective is None:
            return Verdict.inconclusive("no instance was lost", guards=["no instance was lost"])
        victim, died = window.node, window.effective
        operations = through_balancer(history)
        owners = _owners(operations, until=window.injected)
        bound = [who for who, names in owners.items() if set(names) == {victim}]
        elsewhere = [who for who, names in owners.items() if len(names) == 1 and victim not in names]
        theirs = [
            op for op in operations if op.visitor in set(bound) and died <= op.due < window.healing and was_sent(op)
        ]
        moved: dict[str, float] = {}
        for op in theirs:
            if op.available and op.answered is not None and op.instance not in (None, victim):
                moved.setdefault(op.visitor, op.answered - died)
        deadline = died + self.within_seconds
        asked_late = {op.visitor for op in theirs if op.due >= deadline}
        slow = [who for who in bound if who in asked_late and moved.get(who, float("inf")) > self.within_seconds]
        out = sorted({op.visitor for op in theirs if op.answer is Answer.LOGGED_OUT})
        failed = [op for op in theirs if op.due >= deadline and not op.available]
        late = late_ones(operations, after_seconds=self.late_after_seconds)
        was_late = len(late) > self.late_share * len(operations)
        guards = [late_in_words(late, operations, self.late_after_seconds)] if was_late else []
        if len(bound) < self.people:
            guards.append(f"{plural(len(bound), 'person')} bound to {victim} ({self.people} are needed)")
        if len(bound) + len(elsewhere) < bounds.BOUND_SHARE * len(owners):
            guards.append(
                f"only {len(bound) + len(elsewhere)} of {plural(len(owners), 'person')} were bound to one instance"
            )
        if unasked := len(set(bound) - asked_late):
            guards.append(
                f"{unasked} of {len(bound)} people bound to {victim} asked nothing from {self.within_seconds:.0f} s on"
            )
        of_waiting = was_late and all(error_class(op) in _OF_WAITING for op in failed)
        broken: dict[str, str] = {}
        if out:
            broken["logged-out"] = f"{len(out)} of {plural(len(bound), 'person')} bound to {victim} were logged out"
        if slow and not of_waiting:
            broken["not-moved"] = (
                f"{len(slow)} of {plural(len(bound), 'person')} bound to {victim} were served by nobody else within "
                f"{self.within_seconds:.0f} s of its death"
            )
        if failed and not of_waiting:
            broken["failed-requests"] = (
                f"{plural(len(failed), 'request')} of people bound to {victim} failed later than {self.within_seconds:.0f} s "
                "after its death"
            )
        if len(bound) < self.people:
            broken = {}
        evidence: dict[str, Any] = {
            "victim": victim,
            "bound": len(bound),
            "bound_elsewhere": len(elsewhere),
            "moved": len(moved),
            "slowest_seconds": rounded(max(moved.values(), default=None)),
            "stuck": sorted(set(bound) - set(moved)),
            "logged_out": out,
            "failed": len(failed),
            "errors": error_classes(op for op in theirs if not op.available),
            "broken": list(broken),
            **late_as_evidence(late, operations),
            "guards": guards,
            "examples": examples([op for op in theirs if not op.available], since=died),
        }
        if broken:
            return Verdict.fail("; ".join(broken.values()), **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{len(moved)} of {plural(len(bound), 'person')} bound to {victim} were served by another, the last "
            f"{milliseconds(max(moved.values(), default=0.0))} after its death, and all were still logged in",
            **evidence,
        )


def _owners(operations: Iterable[Operation], *, until: float) -> dict[str, Counter[str]]:
    """Who answered each person under load until then, for those who were answered often enough to tell."""
    owners: dict[str, Counter[str]] = {}
    for op in operations:
        if op.stream == "browse" and op.due < until and op.available and op.instance is not None:
            owners.setdefault(op.visitor, Counter())[op.instance] += 1
    return {who: names for who, names in owners.items() if names.total() >= bounds.BOUND_ANSWERS}
