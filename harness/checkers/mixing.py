"""Whether two versions can stand beside each other: what people have of the one, the other one understands.

Must not: judge a rollout as a whole (`rollout` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.checkers import bounds
from harness.checkers.evidence import examples, listed, plural
from harness.model import Answer, History, Operation, RolloutStep, Verdict

__all__ = ["AssetsAreEverywhere", "SessionsCrossVersions"]

_PROPER = (Answer.RECOGNISED, Answer.LOGGED_OUT, Answer.SOMEBODY_ELSE)
_WAYS: Mapping[str, str] = {
    "forward": "who logged in on the old version, by the new one",
    "back": "who logged in on the new version, by the old one",
    "used": "who came from the old version and had used the new one, by the old one",
    "taken-back": "when the new version was taken back",
}


def _new_one(steps: Iterable[RolloutStep]) -> str | None:
    """The instance that was replaced."""
    return next((step.node for step in steps if step.step == "start"), None)


def _versions(history: History, *, new: str | None) -> tuple[str | None, set[str]]:
    """What the replaced instance told while it ran the new version, and what the others told."""
    told = [look for look in history.looks_at("version") if look.value.get("version")]
    starts = [step.at for step in history.rollout if step.step == "start" and step.node == new]
    during = [look for look in told if starts and starts[0] <= look.at and (len(starts) < 2 or look.at < starts[1])]
    mine = next((str(look.value["version"]) for look in reversed(during) if look.node == new), None)
    return mine, {str(look.value["version"]) for look in during if look.node != new}


def _unmixed(history: History) -> str | None:
    """Why there were no two versions beside each other; None where there were."""
    new = _new_one(history.rollout)
    if new is None:
        return "no instance was replaced by the new version"
    mine, others = _versions(history, new=new)
    if mine is None or not others:
        return "not every instance told its version while two of them were there"
    if mine in others:
        return f"{new} tells the same version as the others: nothing can be said of two versions"
    return None


@dataclass(frozen=True)
class SessionsCrossVersions:
    """Whoever is logged in on the old version is so on the new one, and the other way round, also when the new one is taken back.

    Expects: one instance that is replaced by the new version (steps `start` and `ready`) and taken back; looks named `version` at
    every instance meanwhile; `whoami` operations straight to instances, in the streams `control` (in the version they logged in
    on), `forward`, `back`, `used` and `taken-back`.

    Evidence: `new` (the instance), `broken` [ways], `ways` {way: {"asked", "recognised", "lost"}}, `guards`, `examples`.
    """

    each: int = bounds.EACH_PAIR

    def check(self, history: History) -> Verdict:
        ways = {way: _counted(_asked(history, way)) for way in ("control", *_WAYS)}
        broken = [way for way in _WAYS if ways[way]["lost"]]
        lost = [op for way in _WAYS for op in _asked(history, way) if op.answer is not Answer.RECOGNISED]
        guards = [why] if (why := _unmixed(history)) is not None else []
        if ways["control"]["lost"]:
            guards.append(
                "people were not recognised by the version they had logged in on: sessions are not shared at all"
            )
        for way in ("control", *_WAYS):
            if ways[way]["asked"] < self.each:
                guards.append(f"only {plural(ways[way]['asked'], 'proper answer')} {way} ({self.each} are needed)")
        evidence = {
            "new": _new_one(history.rollout),
            "broken": broken,
            "ways": ways,
            "guards": guards,
            "examples": examples(lost, since=history.rollout[0].at if history.rollout else 0.0),
        }
        if broken and not ways["control"]["lost"] and _unmixed(history) is None:
            told = listed(f"{ways[way]['lost']} of {ways[way]['asked']} not recognised {_WAYS[way]}" for way in broken)
            return Verdict.fail(told, **evidence)
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        asked = sum(ways[way]["asked"] for way in _WAYS)
        return Verdict.passed(f"{asked} of {asked} recognised by the other version, there and back", **evidence)


def _asked(history: History, way: str) -> list[Operation]:
    return [
        op
        for op in history.operations
        if op.stream == way and op.kind == "whoami" and op.final and op.answer in _PROPER
    ]


def _counted(operations: list[Operation]) -> dict[str, int]:
    recognised = sum(op.answer is Answer.RECOGNISED for op in operations)
    return {"asked": len(operations), "recognised": recognised, "lost": len(operations) - recognised}


@dataclass(frozen=True)
class AssetsAreEverywhere:
    """What a page names is had from every instance, whichever version made the page and whichever is asked.

    Expects: one instance that is replaced by the new version (steps `start` and `ready`); looks named `version` at every instance
    meanwhile; looks named `page`, one for each instance, whose value holds `assets` [paths]; looks named `asset` at every instance
    for each of these, whose value holds `page_of` (the instance) and `path`.

    Evidence: `new` (the instance), `assets` (how many different ones), `differ` (those that only one of the versions names),
    `asked`, `missing` {path: {"named_by": [instances], "missing_on": [instances], "status"}}, `gone` (not even had from an instance that
    names it), `guards`.
    """

    def check(self, history: History) -> Verdict:
        new = _new_one(history.rollout)
        named: dict[str, set[str]] = {}
        for look in history.looks_at("page"):
            for path in look.value.get("assets", ()):
                named.setdefault(str(path), set()).add(look.node)
        looks = list(history.looks_at("asset"))
        bad = [look for look in looks if look.status is None or look.status >= 400]
        missing: dict[str, dict[str, Any]] = {}
        for look in bad:
            path = str(look.value.get("path"))
            row = missing.setdefault(
                path, {"named_by": sorted(named.get(path, ())), "missing_on": [], "status": look.status}
            )
            if look.node not in row["missing_on"]:
                row["missing_on"].append(look.node)
        gone = sorted(path for path, row in missing.items() if set(row["missing_on"]) & named.get(path, set()))
        differ = [path for path, who in named.items() if (new in who) is not bool(who - {new})]
        guards = [why] if (why := _unmixed(history)) is not None else []
        if not named:
            guards.append("the page names no stylesheet, script or image")
        elif not differ:
            guards.append("both versions name the same assets: nothing could be missing")
        if len({look.node for look in looks}) < len(history.instances):
            guards.append("not every instance was asked")
        evidence = {
            "new": new,
            "assets": len(named),
            "differ": sorted(differ),
            "asked": len(looks),
            "missing": missing,
            "gone": gone,
            "guards": guards,
        }
        if missing and _unmixed(history) is None:
            path, row = next(iter(missing.items()))
            return Verdict.fail(
                f"{len(missing)} of {plural(len(named), 'asset')} cannot be had everywhere: {path}, which {listed(row['named_by'])} "
                f"names, not from {listed(row['missing_on'])}",
                **evidence,
            )
        if guards:
            return Verdict.inconclusive(guards[0], **evidence)
        return Verdict.passed(
            f"{plural(len(named), 'asset')} of two versions had from all {plural(len(history.instances), 'instance')}",
            **evidence,
        )
