"""Rules about what instances keep together: why each has its own, or why two at the same time undo each other.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Must not: tell a race from a
memory by anything but what was seen with and without others at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "broadcast_in_process",
    "checked_before_insert",
    "counter_per_instance",
    "error_page_with_200",
    "files_on_local_disk",
    "idle_shorter_than_balancer",
    "job_on_each_instance",
    "keys_in_memory",
    "leader_for_ever",
    "limit_per_instance",
    "migrations_raced",
    "other_version",
    "read_modify_write",
    "ready_whatever_is_away",
    "setting_cached",
]

_STATELESS = "Why It Works: Stateless Handlers"
_STEP_1 = "Step 1: Configure PostgreSQL (Shared Database)"


def files_on_local_disk(case: Case) -> Cause | None:
    """Each file is had from the instance that took it, and from no other."""
    seen = case.evidence("FilesAreEverywhere")
    missing: Mapping[str, Mapping[str, str]] = seen.get("missing") or {}
    if not missing:
        return None
    evidence = [f"what {home} took is not to be had from {listed(row)}" for home, row in missing.items()]
    evidence.append("each of them gives back what it took itself")
    apart = not seen.get("found")
    against = [] if apart else [f"{seen['found']} of {seen['pairs']} pairs found the file: some share a place"]
    return Cause(
        id="files-on-local-disk",
        sentence="files lie on the disk of the instance that took them",
        confidence=Confidence.CERTAIN if apart else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="keep files where all instances reach them: object storage such as S3, the database, or a volume that all of "
        "them mount",
        guide="Best Practices: DON'T 3",
    )


def counter_per_instance(case: Case) -> Cause | None:
    """The same numbers are given by different instances."""
    seen = case.evidence("NumbersAreUnique")
    twice: Mapping[str, list[str]] = seen.get("twice") or {}
    if not twice:
        return None
    across = {number: names for number, names in twice.items() if len(set(names)) == len(names)}
    evidence = [f"{number} was given by {listed(names)}" for number, names in list(twice.items())[:3]]
    evidence.append(f"{seen['given']} were given, and {seen['different']} of them are different")
    if len(across) < len(twice):
        return Cause(
            id="counter-per-instance",
            sentence="numbers are given twice, also by one instance alone",
            confidence=Confidence.POSSIBLE,
            evidence=tuple(evidence),
            against=("an instance that counts by itself does not give one number twice",),
            remedy="have the database give the numbers: a sequence or an identity column, not max(id) + 1",
            guide=_STATELESS,
        )
    return Cause(
        id="counter-per-instance",
        sentence="each instance counts by itself",
        confidence=Confidence.CERTAIN,
        evidence=(*evidence, "no instance gave a number twice itself"),
        remedy="have the database give the numbers (a sequence, an identity column), or use random ids (UUID)",
        guide=_STATELESS,
    )


def limit_per_instance(case: Case) -> Cause | None:
    """Every instance let through about the whole limit by itself."""
    seen = case.evidence("LimitIsShared")
    over = [each for each in seen.get("people", ()) if each["accepted"] > each["allowed"]]
    if not over:
        return None
    limit = seen["limit"]
    counts: Mapping[str, int] = max(over, key=_accepted)["by_instance"]
    full = [name for name, count in counts.items() if count >= limit]
    evidence = [", ".join(f"{name} accepted {count}" for name, count in counts.items()) + f"; the limit is {limit}"]
    if len(full) > 1:
        evidence.append(f"{listed(full)} each accepted the whole limit, and refused after it")
    return Cause(
        id="limit-per-instance",
        sentence="each instance counts for itself what it lets through",
        confidence=Confidence.CERTAIN if len(full) == len(counts) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="count where all instances look: in Redis (INCR and EXPIRE in one step), in the database, or at the balancer",
        guide=_STATELESS,
    )


def _accepted(person: Mapping[str, Any]) -> int:
    return int(person["accepted"])


def keys_in_memory(case: Case) -> Cause | None:
    """A key that was answered by one instance is new to the next one."""
    twice: Mapping[str, Mapping[str, Mapping[str, str]]] = case.evidence("KeyActsOnce").get("twice") or {}
    if "in-turn" not in twice:
        return None
    effects = next(iter(twice["in-turn"].values()))
    evidence = ["one key, used through one instance after the other: " + _effects_in_words(effects)]
    if len(set(effects.values())) == len(effects):
        evidence.append("each instance has an effect of its own")
    return Cause(
        id="keys-in-memory",
        sentence="an instance remembers only the keys that it has seen itself",
        confidence=Confidence.CERTAIN if len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="write the key and its effect down in one transaction in the database, under a unique constraint",
        guide=_STATELESS,
    )


def checked_before_insert(case: Case) -> Cause | None:
    """What is refused when it comes later is accepted when it comes at the same time."""
    names = case.evidence("NamesAreUnique")
    keys: Mapping[str, Mapping[str, Mapping[str, str]]] = case.evidence("KeyActsOnce").get("twice") or {}
    evidence = []
    if names.get("twice"):
        evidence.append(
            f"{names['repeated']} of {names['names']} names were registered by two instances at the same time"
        )
        evidence.append("a name that is registered is refused when it comes later")
        first = next(iter(names["twice"].values()))
        evidence.append(f"one of them was acknowledged by {listed(first)}")
    elif "at-once" in keys and "in-turn" not in keys:
        evidence.append("one key at the same time: " + _effects_in_words(next(iter(keys["at-once"].values()))))
        evidence.append("a key that comes later is known to every instance")
    if not evidence:
        return None
    return Cause(
        id="checked-before-insert",
        sentence="the application looks whether there is one already, and writes afterwards: two do so at the same time",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="a unique constraint in the database, and an insert that may fail (INSERT ... ON CONFLICT); the look before it "
        "is only a courtesy",
        guide=_STEP_1,
    )


def read_modify_write(case: Case) -> Cause | None:
    """Increments at the same time are lost, and answers repeat: two have read the same number."""
    seen = case.evidence("TallyLosesNothing")
    if not seen.get("lost"):
        return None
    evidence = [f"{seen['lost']} of {seen['acknowledged']} acknowledged increments are not in the number"]
    if seen.get("same_answer"):
        evidence.append(
            f"{seen['same_answer']} answers told a number that had been told before: both had read the same one"
        )
    against = () if seen.get("same_answer") else ("no two answers told the same number",)
    return Cause(
        id="read-modify-write",
        sentence="the application reads the number, adds to it and writes it back, and others do so meanwhile",
        confidence=Confidence.CERTAIN if seen.get("same_answer") else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=against,
        remedy="have the database add (UPDATE ... SET n = n + 1; INCR in Redis), or lock the row that is read (SELECT ... FOR "
        "UPDATE)",
        guide=_STEP_1,
    )


def other_version(case: Case) -> Cause | None:
    """Some instances say that they run another version than the others."""
    if not case.differs("version"):
        return None
    told: Mapping[str, list[str]] = case.evidence("InstancesAgree")["groups"]["version"]
    fewest = min(told, key=lambda version: len(told[version]))
    evidence = [
        f"{listed(names)} {'say' if len(names) > 1 else 'says'} version {version}" for version, names in told.items()
    ]
    return Cause(
        id="other-version",
        sentence=f"{listed(told[fewest])} runs another version than the others"
        if len(told[fewest]) == 1
        else "the instances run different versions",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="give every instance the same image or binary: the same app.env for all, nothing of it in app.instance_env; finish "
        "or take back a rollout that stopped halfway",
        guide="Best Practices: DON'T 6",
    )


def setting_cached(case: Case) -> Cause | None:
    """An instance goes on showing what it showed before a change."""
    seen = case.evidence("SettingsReachEveryInstance")
    stale: Mapping[str, list[float]] = seen.get("stale") or {}
    if not stale:
        return None
    evidence = [
        f"{name} still showed something else {seconds[-1]:.1f} s after the change" for name, seconds in stale.items()
    ]
    if seen.get("slowest_seconds") is not None:
        evidence.append("other looks at the same setting showed the change")
    return Cause(
        id="setting-cached",
        sentence="settings are read once and kept in the memory of each instance",
        confidence=Confidence.CERTAIN if seen.get("slowest_seconds") is not None else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="read the setting where it is kept, keep it for a second or two at the most, or tell all instances of a change "
        "(LISTEN/NOTIFY, publish/subscribe)",
        guide=_STATELESS,
    )


def job_on_each_instance(case: Case) -> Cause | None:
    """One time has a run by each of several instances."""
    seen = case.evidence("JobsRunOnce")
    twice: Mapping[str, list[str]] = seen.get("twice") or {}
    if not twice:
        return None
    evidence = [f"the job due at {due} was run by {listed(sorted(names))}" for due, names in list(twice.items())[:3]]
    always = seen["repeated"] >= seen["times"] - 1
    across = all(len(set(names)) == len(names) for names in twice.values())
    if always:
        evidence.append(f"{seen['repeated']} of {seen['times']} were run more than once")
    return Cause(
        id="job-on-each-instance",
        sentence="the scheduler runs in each instance, and each runs the jobs",
        confidence=Confidence.CERTAIN if always and across else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="claim each run in the database (a unique constraint on its time, INSERT ... ON CONFLICT DO NOTHING), or let a lock "
        "that expires choose who runs",
        guide=_STATELESS,
    )


def leader_for_ever(case: Case) -> Cause | None:
    """With the instance that ran the jobs the jobs are gone, though others are there."""
    seen = case.evidence("JobsGoOn")
    if not seen or seen.get("ran_last") != seen.get("lost") or seen.get("resumed_seconds") is not None:
        return None
    evidence = (
        f"{seen['lost']} ran the last job, and was killed",
        f"nobody ran another one for {seen['watched_seconds']:.1f} s, while the other instances answered",
    )
    return Cause(
        id="leader-for-ever",
        sentence="one instance leads, and nobody takes its place when it is gone",
        confidence=Confidence.LIKELY,
        evidence=evidence,
        against=("a lock that expires later than that looks the same",),
        remedy="a lock that expires unless its holder renews it (SET ... NX PX in Redis, a lease in the database), or an advisory "
        "lock, which ends with the connection of whoever holds it",
        guide="Best Practices: DO 8",
    )


def broadcast_in_process(case: Case) -> Cause | None:
    """What is said is heard by those on the same instance, and by nobody else."""
    seen = case.evidence("EverybodyHears")
    deaf: Mapping[str, list[str]] = seen.get("deaf") or {}
    if not deaf:
        return None
    evidence = [f"what was said through {via} was not heard on {listed(names)}" for via, names in deaf.items()]
    at_home = seen["heard_at_home"]
    if at_home:
        evidence.append(f"others on {listed(at_home)} itself heard it")
    alone = len(at_home) == len(seen["said"]) == seen["heard"]
    return Cause(
        id="broadcast-in-process",
        sentence="messages are handed on within the process that got them",
        confidence=Confidence.CERTAIN if alone else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=()
        if alone
        else (f"{seen['heard']} of {seen['pairs']} pairs heard it: some instances share something",),
        remedy="hand messages on through what all instances share: publish/subscribe in Redis, LISTEN and NOTIFY in Postgres, a "
        "queue; every instance then tells those who are connected to it",
        guide="Step 3: Configure Load Balancer: WebSocket support",
    )


def idle_shorter_than_balancer(case: Case) -> Cause | None:
    """The instance ends idle connections first, and the balancer may be sending on one of them just then."""
    seen = case.evidence("IdleConnectionsAreKept")
    ended: Mapping[str, float] = seen.get("ended") or {}
    if not ended:
        return None
    return Cause(
        id="idle-shorter-than-balancer",
        sentence="the application ends idle connections sooner than the balancer does",
        confidence=Confidence.CERTAIN,
        evidence=(
            ", ".join(f"{name} ended one after {seconds:.1f} s" for name, seconds in ended.items()),
            f"the balancer keeps them for {seen['balancer_seconds']:g} s, and may send a request at that very moment",
        ),
        remedy="raise the keep-alive timeout of the application server above balancer.keepalive_seconds (uvicorn: "
        "--timeout-keep-alive; Node.js: server.keepAliveTimeout), or lower that of the balancer",
        guide="Best Practices: DO 5",
    )


def migrations_raced(case: Case) -> Cause | None:
    """Some instances end when all start at once, and come up when they start alone."""
    seen = case.evidence("BootsTogether")
    ended: Mapping[str, Any] = seen.get("ended") or {}
    if not ended or not seen.get("came_up"):
        return None
    alone = sorted(set(seen["came_up_alone"]) & set(ended))
    codes = ", ".join(f"{name} (exit code {code})" for name, code in ended.items())
    evidence = [
        f"{seen['failed_starts']} of {seen['starts']} starts at the same moment failed: {codes} ended",
        f"{listed(seen['came_up'])} came up at such a start",
    ]
    if alone:
        evidence.append(f"{listed(alone)} came up when started once more, after the others")
    return Cause(
        id="migrations-raced",
        sentence="every instance makes or changes the tables at its start, and two cannot do so at the same time",
        confidence=Confidence.LIKELY if alone else Confidence.POSSIBLE,
        evidence=tuple(evidence),
        against=() if alone else ("no instance that ended was started once more: it may not come up at all",),
        remedy="run migrations once, before the instances start; or under a lock that all of them take (SELECT "
        "pg_advisory_lock)",
        guide="Step 4: Run Multiple Instances",
    )


def ready_whatever_is_away(case: Case) -> Cause | None:
    """Instances say ready while they serve nothing."""
    seen = case.evidence("ReadyIsTruthful")
    lied = seen.get("said_ready")
    if not lied:
        return None
    evidence = [
        f"{listed(lied)} answered its ready path with {seen['statuses'][lied[0]]} while {seen['lost']} was away"
    ]
    evidence.append(f"{listed(lied)} could do nothing that needs it")
    return Cause(
        id="ready-whatever-is-away",
        sentence="the ready path asks nothing that the application needs",
        confidence=Confidence.CERTAIN if len(lied) == len(seen["failed"]) else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="have app.ready ask the database and the session store, each with a timeout of a second; have app.health ask nobody",
        guide="Health Checks",
    )


def error_page_with_200(case: Case) -> Cause | None:
    """The page says that something failed, and the status that nothing did."""
    seen = case.evidence("ErrorsHaveStatus")
    wrong: Mapping[str, list[int]] = seen.get("as_if_done") or {}
    if not wrong:
        return None
    statuses = sorted({str(status) for each in wrong.values() for status in each})
    evidence = [f"{listed(sorted(wrong))} answered with {listed(statuses)} while what was asked for could not be done"]
    evidence += [f"the page says: {words}" for words in seen.get("details", ())[:1] if words]
    return Cause(
        id="error-page-with-200",
        sentence="errors are shown to people, and told as success to everybody else",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="send the error page with its status: 503 and Retry-After where something is away, 500 where it is a mistake",
        guide="Health Checks",
    )


def _effects_in_words(effects: Mapping[str, str]) -> str:
    return ", ".join(f"{effect} by {name}" for name, effect in effects.items())
