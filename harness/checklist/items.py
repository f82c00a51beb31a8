"""What each item of a checklist comes to, from a run and from sign-offs. Must not: do I/O, or read a clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from harness.model import Status
from harness.promises import matching
from harness.reporting import PromiseResult, RunResult
from harness.setup import Checklist, Item, SignOff, SignOffs

__all__ = ["ChecklistResult", "Evidence", "GroupResult", "ItemResult", "State", "hold_against", "stale_because"]


class State(StrEnum):
    """What an item comes to. Only VERIFIED and SIGNED are done."""

    VERIFIED = "verified"
    """Every promise it is bound to was judged and kept; where a person must look as well, somebody signed."""
    CONTRADICTED = "contradicted"
    """A promise it is bound to was seen to be broken. No sign-off outweighs that, and no waiver makes it true."""
    SIGNED = "signed"
    """Somebody says so, with evidence; no run does, or not all of it."""
    OPEN = "open"
    """Nobody knows."""

    @property
    def is_done(self) -> bool:
        return self in (State.VERIFIED, State.SIGNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the run says of one promise."""

    promise: str
    word: str
    """`kept`, `broken`, else why it says nothing: `inconclusive`, `rig-error`, `waived`, `not judged`."""
    measured: str
    """What was measured against the bound, or why nothing was."""

    def __str__(self) -> str:
        return f"{self.promise} {self.word}: {self.measured}" if self.measured else f"{self.promise} {self.word}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """One item, held against a run."""

    id: str
    """Group and name, such as `do.redis`."""
    text: str
    state: State
    told: str
    """Why, in one line."""
    evidence: tuple[Evidence, ...] = ()
    sign: str = ""
    """What a person must look at; empty where a run says it all."""
    note: str = ""
    sign_off: SignOff | None = None
    stale: str = ""
    """Why the sign-off counts no more; empty when it does, or there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """A group of items."""

    title: str
    items: tuple[ItemResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistResult:
    """A checklist held against a run, or against none."""

    title: str
    groups: tuple[GroupResult, ...]
    run: RunResult | None
    on: date
    """The day by which the age of sign-offs was counted."""
    for_nothing: tuple[str, ...] = field(default=())
    """Sign-offs for items that this checklist does not have."""

    @property
    def items(self) -> tuple[ItemResult, ...]:
        return tuple(item for group in self.groups for item in group.items)

    @property
    def counts(self) -> dict[State, int]:
        """How many items came to each state."""
        states = [item.state for item in self.items]
        return {state: states.count(state) for state in State}

    @property
    def is_done(self) -> bool:
        return all(item.state.is_done for item in self.items)

    @property
    def exit_code(self) -> int:
        """0: every item is verified or signed. 1: something is contradicted or open."""
        return 0 if self.is_done else 1

    @property
    def headline(self) -> str:
        """The whole in one sentence."""
        total = len(self.items)
        told = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"all {total} items are done: {told}" if self.is_done else f"{total} items: {told}"


def hold_against(checklist: Checklist, *, run: RunResult | None, sign_offs: SignOffs, on: date) -> ChecklistResult:
    """Hold each item against what the run concluded and what was signed. `on`: the day by which sign-offs age."""
    known = {result.id: result for result in run.results_by_promise} if run is not None else {}
    groups = tuple(
        GroupResult(
            title=group.title,
            items=tuple(
                _item(
                    f"{name}.{short}",
                    item,
                    evidence=tuple(_evidence(item, run=run, known=known)),
                    sign_off=sign_offs.signed.get(f"{name}.{short}"),
                    valid_days=checklist.valid_days,
                    on=on,
                )
                for short, item in group.item.items()
            ),
        )
        for name, group in checklist.group.items()
    )
    return ChecklistResult(
        title=checklist.title,
        groups=groups,
        run=run,
        on=on,
        for_nothing=tuple(sorted(set(sign_offs.signed) - set(checklist.items))),
    )


def stale_because(sign_off: SignOff, item: Item, *, valid_days: int | None, on: date) -> str:
    """Why a sign-off counts no more; empty when it does.

    It was given for certain words: when the item says something else, nobody signed that. And what somebody saw half a
    year ago may not be so today, where the checklist sets a limit.
    """
    assert sign_off.when is not None, "a sign-off that was read has a day"
    if sign_off.words != item.words:
        return f"the item has other words since (signed was: {sign_off.words})"
    if sign_off.when > on + timedelta(days=1):  # somewhere it is tomorrow already
        return f"it is dated {sign_off.when}, which is not yet"
    if valid_days is not None and on - sign_off.when > timedelta(days=valid_days):
        return f"it is of {sign_off.when}, more than {valid_days} days ago"
    return ""


def _evidence(item: Item, *, run: RunResult | None, known: dict[str, PromiseResult]) -> Iterator[Evidence]:
    ids = dict.fromkeys(promise_id for pattern in item.promises for promise_id in matching(pattern))
    for promise_id in ids:
        result = known.get(promise_id)
        if run is None:
            yield Evidence(promise=promise_id, word="not judged", measured="there is no run")
        elif promise_id in run.left_out:
            yield Evidence(promise=promise_id, word="not judged", measured=run.left_out[promise_id])
        elif result is None:
            yield Evidence(promise=promise_id, word="not judged", measured="this run was not asked for it")
        elif result.status is Status.FAIL:
            yield Evidence(promise=promise_id, word="broken", measured=result.seen)
        elif result.status is Status.PASS:
            yield Evidence(promise=promise_id, word="kept", measured=result.measured)
        else:
            why = f" (waived: {result.waived})" if result.waived else ""
            yield Evidence(promise=promise_id, word=result.word, measured=result.measured + why)


def _item(
    item_id: str,
    item: Item,
    *,
    evidence: tuple[Evidence, ...],
    sign_off: SignOff | None,
    valid_days: int | None,
    on: date,
) -> ItemResult:
    stale = stale_because(sign_off, item, valid_days=valid_days, on=on) if sign_off is not None else ""
    signed = sign_off if not stale else None
    broken = [each for each in evidence if each.word == "broken"]
    unsure = [each for each in evidence if each.word not in ("kept", "broken")]
    kept = ", ".join(each.promise for each in evidence if each.word == "kept")
    if broken:
        state, parts = State.CONTRADICTED, [str(each) for each in broken]
        parts += ["it was signed all the same, which does not outweigh this"] if signed is not None else []
    elif evidence and not unsure and (signed is not None or not item.sign):
        state, parts = State.VERIFIED, [f"kept: {kept}"]
        parts += [_signed(signed)] if signed is not None else []
    elif signed is not None:
        state, parts = State.SIGNED, [_signed(signed)]
        parts += [f"not proven by this run: {_listed(unsure)}"] if unsure else []
    else:
        state, parts = State.OPEN, []
        parts += [f"not proven: {_listed(unsure)}"] if unsure else []
        parts += [f"kept: {kept}, which is not all of it"] if kept and not unsure else []
        parts += [f"the sign-off of {sign_off.who} is stale: {stale}"] if sign_off is not None else []
        parts += [f"to be signed: {item.sign}"] if item.sign else []
    return ItemResult(
        id=item_id,
        text=item.text,
        state=state,
        told="; ".join(parts),
        evidence=evidence,
        sign=item.sign,
        note=item.note,
        sign_off=sign_off,
        stale=stale,
    )


def _signed(sign_off: SignOff) -> str:
    return f"signed by {sign_off.who} on {sign_off.when}: {sign_off.evidence}"


def _listed(unsure: list[Evidence]) -> str:
    """What is not known, each reason once."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for each in unsure:
        by_reason.setdefault((each.word, each.measured), []).append(each.promise)
    return "; ".join(f"{', '.join(ids)} {word} ({why})" for (word, why), ids in by_reason.items())
