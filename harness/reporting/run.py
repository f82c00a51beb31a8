"""What a run came to, as data: its findings gathered by promise, and what follows from them for the whole.

Everything that is shown or stored is a rendering of `RunResult`. Must not: do I/O, or judge anything again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.model import Cause, Confidence, Finding, Promise, Status, worst
from harness.reporting.text import plural

__all__ = ["WAIVED", "Explanation", "PromiseResult", "RunHeader", "RunResult", "merge"]

WAIVED = "waived"
"""The word for a promise that the setup says it does not make, when it is indeed not kept."""

_EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.INCONCLUSIVE: 3, Status.RIG_ERROR: 4}
# What needs a person first, first: the order of `worst`, which `_rank` reads from it.
_BY_NEED = (Status.FAIL, Status.RIG_ERROR, Status.INCONCLUSIVE, Status.PASS)
_CONFIDENCE = tuple(Confidence)
_PARAMETERS = re.compile(r"\[(.+)\]$")
_HARNESS_VERIFY = ["harness", "verify"]
# More names than this make a command longer than it is useful: then the whole run is repeated.
_NAMED_IN_COMMAND = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What is known of a run before anything has started."""

    setup: str
    platform: str
    balancer: str
    """Kind and algorithm, such as `nginx least_conn`."""
    instances: int
    sessions: str
    """The session store: `redis`, `postgres`, `memory` or `other`."""
    seed: int
    promises: tuple[str, ...] = ()
    """The ids that will be judged, in order; may be left out, then they show as they come."""
    nodes: tuple[str, ...] = ()
    """The nodes in the order in which to show them; may be left out, then they show as they come."""
    why_platform: str = ""
    """Why this platform, where nobody named one."""
    notes: tuple[str, ...] = ()
    """What a person should know of it, one line each."""

    def __str__(self) -> str:
        if not self.instances:  # of a site that runs already nothing else is known
            return " · ".join((self.setup, self.platform, f"seed {self.seed}"))
        what = (self.setup, self.platform, self.balancer, plural(self.instances, "instance"))
        return " · ".join((*what, f"{self.sessions} sessions", f"seed {self.seed}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseResult:
    """One promise with all scenarios that judged it. Made by `merge`."""

    id: str
    status: Status
    """The worst of its scenarios."""
    measured: str
    """One line: what was measured; with several scenarios those that are not green come first."""
    seen: str
    """One line: what was seen in the worst scenario."""
    causes: tuple[Cause, ...] = ()
    """Those of all scenarios that are not green, the most certain first, each once."""
    findings: tuple[Finding, ...] = ()
    untried: int = 0
    """How many of its scenarios were never finished."""
    waived: str = ""
    """Why the setup does not make this promise; empty when it does."""
    promise: Promise | None = None

    @property
    def word(self) -> str:
        """The status, or `waived` for what is not kept and need not be."""
        return WAIVED if self.waived and self.status is not Status.PASS else self.status.value

    @property
    def is_green(self) -> bool:
        """Whether nothing has to be done about it: kept, or waived."""
        return self.status is Status.PASS or bool(self.waived)

    @property
    def group(self) -> str:
        """The first part of the id, such as `session`."""
        return self.id.partition(".")[0]

    @property
    def remedy(self) -> str:
        """What to change, with the section of the guide: the likeliest cause's word, else what usually mends it."""
        if self.status is Status.RIG_ERROR:
            return "run it again; if it comes back, the logs beside the report say what failed"
        if self.causes:
            return _with_guide(self.causes[0].remedy, self.causes[0].guide)
        if self.status is Status.INCONCLUSIVE:
            return "give it what was missing and run it again: only pass is green"
        if self.promise is not None:
            return _with_guide(f"usually: {self.promise.remedy}", self.promise.guide)
        return "none is known"

    @property
    def cause_lines(self) -> tuple[str, ...]:
        """The likeliest cause with its first evidence, then its rivals; says so when none was found."""
        if self.status is Status.RIG_ERROR:
            return ("the harness or this machine failed: this says nothing about the setup",)
        if self.causes:
            return tuple(_told(cause) for cause in self.causes)
        if self.status is Status.INCONCLUSIVE:
            reasons = [
                str(reason) for finding in self.findings for reason in _gathered(finding.verdict.evidence, "guards")
            ]
            further = [reason for reason in dict.fromkeys(reasons) if reason not in self.measured]
            why = f": {'; '.join(further[:_NAMED_IN_COMMAND])}" if further else ""
            return (f"too little was tested to say anything{why}",)
        usual = f"; usually: {self.promise.broken_by}" if self.promise is not None else ""
        return (f"no known cause fits what was recorded{usual}",)


def _with_guide(remedy: str, guide: str) -> str:
    return f"{remedy}; guide, {guide}" if guide else remedy


def _told(cause: Cause) -> str:
    evidence = f": {cause.evidence[0]}" if cause.evidence else ""
    return f"{cause.sentence} ({cause.confidence}{evidence})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A promise that is not green, as it is told in a report that tells of others as well."""

    result: PromiseResult
    causes: tuple[str, ...]
    """One line each, the likeliest first; at least one."""
    remedy: str


def merge(
    promise_id: str,
    findings: Sequence[Finding],
    *,
    planned: int = 0,
    waived: str = "",
    promise: Promise | None = None,
) -> PromiseResult:
    """One result of all findings on one promise. `planned` scenarios that have no finding yet count as inconclusive."""
    untried = max(planned - len(findings), 0 if findings else 1)
    ordered = sorted(findings, key=lambda finding: _BY_NEED.index(finding.verdict.status))
    statuses = [finding.verdict.status for finding in ordered] + [Status.INCONCLUSIVE] * untried
    status = worst(statuses)
    causes: dict[str, Cause] = {}
    for finding in ordered:
        if finding.verdict.status is not Status.PASS:
            for cause in finding.causes:
                known = causes.get(cause.id)
                if known is None or _CONFIDENCE.index(cause.confidence) < _CONFIDENCE.index(known.confidence):
                    causes[cause.id] = cause
    return PromiseResult(
        id=promise_id,
        status=status,
        measured=_measured(ordered, untried),
        seen=_seen(ordered, untried),
        causes=tuple(sorted(causes.values(), key=lambda cause: _CONFIDENCE.index(cause.confidence))),
        findings=tuple(findings),
        untried=untried,
        waived=waived,
        promise=promise,
    )


def _labels(findings: Sequence[Finding]) -> list[str]:
    """What tells the scenarios of one promise apart: `kill`, `stop`, `hang`."""
    names = [finding.scenario for finding in findings]
    if all(_PARAMETERS.search(name) for name in names):
        return [_PARAMETERS.findall(name)[0] for name in names]
    words = [re.split(r"[-_.\s]", name) for name in names]
    shared = 0
    while all(len(each) > shared + 1 for each in words) and len({each[shared] for each in words}) == 1:
        shared += 1
    return [" ".join(each[shared:]) for each in words]


def _measured(ordered: Sequence[Finding], untried: int) -> str:
    if not ordered:
        return "not tried: the run ended before it"
    total = len(ordered) + untried
    if total == 1:
        return ordered[0].verdict.measured
    labels = _labels(ordered)
    bad = sum(finding.verdict.status is not Status.PASS for finding in ordered)
    if not bad and not untried:
        same = len({finding.verdict.measured for finding in ordered}) == 1
        said = ordered[0].verdict.measured if same else _one_after_the_other(labels[:1], ordered)
        return f"all {total} ({', '.join(labels)}){':' if same else ';'} {said}"
    statuses = [finding.verdict.status for finding in ordered]
    told = [(statuses.count(status), status.value) for status in _BY_NEED[:-1] if status in statuses]
    told += [(untried, "not tried")] if untried else []
    counts = [f"{count} of {total} {word}" for count, word in told]
    # The numbers come last: on a narrow screen what was seen must stay.
    return f"{_one_after_the_other(labels[: max(bad, 1)], ordered)} ({', '.join(counts)})"


def _one_after_the_other(labels: Sequence[str], findings: Sequence[Finding]) -> str:
    told = zip(labels, findings, strict=False)
    return " · ".join(f"{label}: {finding.verdict.measured}" for label, finding in told)


def _seen(ordered: Sequence[Finding], untried: int) -> str:
    if not ordered:
        return "nothing: the run ended before it was tried"
    worst_of_all = ordered[0].verdict.status
    if worst_of_all is Status.PASS and not untried:
        return _measured(ordered, untried)
    if worst_of_all is Status.PASS:
        return f"{plural(untried, 'scenario')} of {len(ordered) + untried} not tried: the run ended before"
    alike = [finding for finding in ordered if finding.verdict.status is worst_of_all]
    told = alike[0].verdict.measured if len(ordered) == 1 else _one_after_the_other(_labels(ordered), alike)
    return told + _example(alike[0].verdict.evidence)


def _example(evidence: Mapping[str, Any]) -> str:
    """One request that shows it, from what checkers keep under `examples`; empty when they keep none."""
    for op in _gathered(evidence, "examples"):
        if isinstance(op, Mapping) and {"method", "path", "visitor"} <= op.keys():
            answer = f" ({op['status']} from {op.get('instance') or 'the balancer'})" if op.get("status") else ""
            how = op.get("error") or op.get("answer") or "answered"
            return f"; such as {op['method']} {op['path']} of {op['visitor']}: {how}{answer}"
    return ""


def _gathered(evidence: Mapping[str, Any], key: str) -> list[Any]:
    """What is kept under a key, at the top or one level down, where several checkers judged together."""
    found: list[Any] = []
    for facts in (evidence, *evidence.values()):
        if isinstance(facts, Mapping) and isinstance(facts.get(key), (list, tuple)):
            found += facts[key]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run: what was verified, what was found, where the time went and how to repeat it."""

    run_id: str
    setup: str
    platform: str
    balancer: str
    instances: int
    sessions: str
    seed: int
    started: str
    """Date and time in UTC, ISO 8601."""
    version: str
    """Of the harness."""
    command: str
    """The command line that repeats the whole run with its seed."""
    results: Path
    """The folder everything was written to."""
    findings: tuple[Finding, ...]
    promises: tuple[Promise, ...] = ()
    """Those chosen for this run, in order. One without a finding was not tried: then the run is inconclusive."""
    planned: Mapping[str, int] = field(default_factory=dict)
    """How many scenarios each promise was to be judged by; 1 where nothing is said."""
    waived: Mapping[str, str] = field(default_factory=dict)
    """{promise id, or a glob of ids: why the setup does not make it}."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """{promise id: why it cannot be judged on this platform}. These are neither kept nor broken."""
    complete: bool = True
    """False: the run ended before its time, so it cannot be a pass."""
    seconds: float
    """From the start of the first node to the end of the last scenario."""
    boot_seconds: float
    node_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each node took to be ready."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Where the time went besides the boot: {in words: seconds}."""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    """What the balancer counted itself, by instance; empty where it does not tell."""
    page: str = "index.html"
    """What to open first, a name in `results`."""

    @property
    def header(self) -> RunHeader:
        return RunHeader(
            setup=self.setup,
            platform=self.platform,
            balancer=self.balancer,
            instances=self.instances,
            sessions=self.sessions,
            seed=self.seed,
            promises=tuple(result.id for result in self.results_by_promise),
            nodes=tuple(self.node_seconds),
        )

    @property
    def results_by_promise(self) -> tuple[PromiseResult, ...]:
        """One for each promise chosen or judged, in the order of the catalogue."""
        chosen = {promise.id: promise for promise in self.promises}
        found: dict[str, list[Finding]] = {promise_id: [] for promise_id in chosen}
        for finding in self.findings:
            found.setdefault(finding.promise, []).append(finding)
        return tuple(
            merge(
                promise_id,
                findings,
                planned=self.planned.get(promise_id, 1),
                waived=self.why_waived(promise_id),
                promise=chosen.get(promise_id),
            )
            for promise_id, findings in found.items()
        )

    def why_waived(self, promise_id: str) -> str:
        """The setup's reason; empty when the promise is made."""
        reasons = (reason for pattern, reason in self.waived.items() if fnmatchcase(promise_id, pattern))
        return next(reasons, "")

    @property
    def status(self) -> Status:
        """The worst of the promises that the setup makes. Nothing judged, or an unfinished run, is never a pass."""
        counted = [
            result.status for result in self.results_by_promise if not result.waived or result.status is Status.PASS
        ]
        return worst(counted if self.complete else [*counted, Status.INCONCLUSIVE])

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive, 4 rig error. (2 is bad input: then there is no result.)"""
        return _EXIT_CODES[self.status]

    @property
    def not_green(self) -> tuple[PromiseResult, ...]:
        """What was tried and needs a person, the most needed first."""
        bad = [result for result in self.results_by_promise if result.findings and not result.is_green]
        return tuple(sorted(bad, key=lambda result: _BY_NEED.index(result.status)))

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """What is not green, and why. One mistake breaks many promises: its cause and remedy are told once, at the first."""
        first: dict[tuple[str, str], str] = {}
        told = []
        for result in self.not_green:
            causes, remedy = result.cause_lines, result.remedy
            if result.causes:
                cause = result.causes[0]
                like = first.setdefault((cause.id, remedy), result.id)
                if like != result.id:
                    causes, remedy = (f"as for {like}: {cause.sentence}", *causes[1:]), f"as for {like}"
            elif result.status is Status.INCONCLUSIVE and self.status is Status.FAIL:
                remedy = "mend what is broken first; if it stays so, give it what was missing: only pass is green"
            told.append(Explanation(result=result, causes=causes, remedy=remedy))
        return tuple(told)

    @property
    def untried(self) -> tuple[PromiseResult, ...]:
        """What was chosen and never tried. Nothing can be said of it, so it is not told promise by promise."""
        return tuple(result for result in self.results_by_promise if not result.findings and not result.is_green)

    @property
    def untried_in_words(self) -> str:
        """Such as `2 promises were not tried: rollout.rolling, shutdown.inflight`; empty when all were."""
        ids = [result.id for result in self.untried]
        if not ids:
            return ""
        return f"{plural(len(ids), 'promise')} {'was' if len(ids) == 1 else 'were'} not tried: {_named(ids)}"

    @property
    def left_out_in_words(self) -> tuple[str, ...]:
        """Such as `not judged here: failover.partition (reason)`, one for each reason."""
        by_reason: dict[str, list[str]] = {}
        for promise_id, reason in self.left_out.items():
            by_reason.setdefault(reason, []).append(promise_id)
        return tuple(f"not judged here: {', '.join(ids)} ({reason})" for reason, ids in by_reason.items())

    @property
    def counts(self) -> Mapping[str, int]:
        """How many promises came to which word, in the order pass, fail, inconclusive, rig-error, waived."""
        words = [result.word for result in self.results_by_promise]
        return {word: words.count(word) for word in (*map(str, Status), WAIVED)}

    @property
    def headline(self) -> str:
        """May we ship? In one sentence."""
        bad = (*self.not_green, *self.untried)
        total = len(self.results_by_promise)
        broken = [result.id for result in bad if result.status is Status.FAIL]
        crashed = [result.id for result in bad if result.status is Status.RIG_ERROR]
        unsure = [result.id for result in bad if result.status is Status.INCONCLUSIVE]
        ended = "" if self.complete else "the run ended before its time; "
        if broken:
            verb = "is" if len(broken) == 1 else "are"
            return f"{ended}{len(broken)} of {plural(total, 'promise')} {verb} broken: {_named(broken)}"
        if crashed:
            return f"{ended}the harness failed on {len(crashed)} of {plural(total, 'promise')}: {_named(crashed)}"
        if unsure:
            could = f"{len(unsure)} of {plural(total, 'promise')} could not be judged: {_named(unsure)}"
            return f"{ended}nothing was seen to break, but {could}"
        if not self.complete:
            return "the run ended before its time; nothing was seen to break until then"
        waived = self.counts[WAIVED]
        if self.status is not Status.PASS:
            return "nothing was judged" if not waived else "nothing was judged that the setup does not waive"
        kept = self.counts[Status.PASS]
        said = f"all {plural(kept, 'promise')} are kept" if kept != 1 else "the one promise is kept"
        return said + (f", {waived} more waived" if waived else "")

    @property
    def repeat_command(self) -> str:
        """Repeats what is not green, when that is little; else the whole run. Always with the seed."""
        ids = [result.id for result in self.not_green]
        return self.command_for(*ids) if 0 < len(ids) <= _NAMED_IN_COMMAND else self.command

    def command_for(self, *promise_ids: str) -> str:
        """The command narrowed to these promises; the whole command where it is not one of `harness verify`."""
        try:
            words = shlex.split(self.command)
        except ValueError:
            return self.command
        if words[:2] != _HARNESS_VERIFY:
            return self.command
        kept: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--only":
                next(rest, None)
            elif not word.startswith("--only="):
                kept.append(word)
        wanted = [part for promise_id in promise_ids for part in ("--only", promise_id)]
        place = kept.index("--seed") if "--seed" in kept else len(kept)
        return shlex.join([*kept[:place], *wanted, *kept[place:]])

    def with_findings(self, findings: Iterable[Finding]) -> RunResult:
        """The same run judged anew."""
        return replace(self, findings=tuple(findings))


def _named(ids: Sequence[str]) -> str:
    if len(ids) <= _NAMED_IN_COMMAND:
        return ", ".join(ids)
    return f"{', '.join(ids[: _NAMED_IN_COMMAND - 1])} and {len(ids) - _NAMED_IN_COMMAND + 1} more"
