"""The replicas of a running setup that an orchestrator keeps: one is killed, more or fewer are wanted, a version follows.

A thread of its own looks at them all the time, so that it is known when each came, was healthy, was told to go and
ended, and whose address is whose. What is seen is written down; what is done is done through the orchestrator alone.
Must not: help the orchestrator, or judge it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from random import Random

from harness import clock
from harness.checkers import bounds
from harness.errors import HarnessError, NodeNeverReady, NothingTested, WaitTimeout
from harness.layouts import Replicated
from harness.model import FaultWindow, Look, RolloutStep
from harness.platforms import Outcome, Replica, ReplicatedSpec, Update
from harness.waiting import patience, wait_until

__all__ = ["Replicas"]

_LOOK_EVERY_SECONDS = 0.1
_ASK_EVERY_SECONDS = 0.02
_BEYOND_THE_BOUND_SECONDS = 1.0
"""What is promised within a time is waited for a little longer: then it was late, and nobody gave up too early."""
_UPDATE_WITHIN_SECONDS = 180.0
_GONE_WITHIN_SECONDS = 60.0
_FAILED_TOO_OFTEN = 3
_LAST_LINES = 5

Record = Callable[[FaultWindow | RolloutStep | Look], None]


class Replicas:
    """What can be done to the replicas, and what is known of them."""

    def __init__(self, replicated: Replicated, *, wanted: int, record: Record) -> None:
        self._orchestrator = replicated.orchestrator
        self._versions = replicated
        self._home = wanted
        self._wanted = wanted
        self._record = record
        self._current = replicated.first
        self._now: tuple[Replica, ...] = ()
        self._known: dict[str, Replica] = {}
        self._told = (-1, frozenset[str]())
        self._is_writing = False
        self._problem: HarnessError | None = None
        self._watcher: threading.Thread | None = None
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._listener: Callable[[Mapping[str, str]], None] | None = None
        self._addresses: dict[str, str] = {}

    # -- life -------------------------------------------------------------------------------------------------

    def start(self) -> float:
        """Have the first version started, and return how many seconds it took until all were healthy.

        Raises:
            NodeNeverReady: they were not in time, or end again and again.
        """
        began = clock.now()
        self._orchestrator.start(self._current, replicas=self._wanted)
        self._watcher = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._watcher.start()
        try:
            wait_until(
                lambda: self._all_healthy() or self._fails_again_and_again() or self._over.is_set(),
                within_seconds=self._current.ready_within_seconds,
                every_seconds=_ASK_EVERY_SECONDS,
                because=f"{self._wanted} replicas should be healthy",
            )
        except WaitTimeout:
            raise NodeNeverReady(self._why_not_healthy("were not healthy in time")) from None
        if not self._all_healthy():
            raise NodeNeverReady(self._why_not_healthy("end again and again"))
        return clock.now() - began

    def give_up(self) -> None:
        """Whoever waits for the replicas to be healthy need not wait any longer."""
        self._over.set()

    def stop(self) -> None:
        """Stop looking, and have the replicas removed. Raises NodeError when they are not."""
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()
        self._orchestrator.remove()

    def reset(self) -> None:
        """The first version again, as many as the setup says, and nobody else."""
        self._check()
        self._wanted = self._home
        if not self._is_as_at_first():
            self._current = self._versions.first
            # All of them are replaced, also those that are of the first version: it is not over while one is there.
            before = {replica.id for replica in self._now if replica.alive}
            self._orchestrator.replace_at_once(self._current, replicas=self._home)
            wait_until(
                lambda: (
                    self._is_as_at_first() and before.isdisjoint(replica.id for replica in self._now if replica.alive)
                ),
                within_seconds=self._current.ready_within_seconds + _GONE_WITHIN_SECONDS,
                every_seconds=_ASK_EVERY_SECONDS,
                because=f"{self._home} replicas of the first version should be healthy, and nobody else be there",
            )

    def listen(self, to_addresses: Callable[[Mapping[str, str]], None] | None) -> None:
        """Be told whose address is whose, now and whenever that changes; nobody is told any more with None."""
        with self._looking:
            self._listener = to_addresses
            if to_addresses is not None:
                to_addresses(dict(self._addresses))

    @property
    def addresses(self) -> Mapping[str, str]:
        """The replica behind each address, as the balancer tells it."""
        with self._looking:
            return dict(self._addresses)

    # -- what is done -----------------------------------------------------------------------------------------

    def lose_one(self, choose: Random) -> str:
        """Kill the container of a healthy replica, and wait until its orchestrator has replaced it, or should have.

        Raises:
            NothingTested: all of them run on other machines, out of reach.
        """
        healthy = [replica for replica in self._now if replica.healthy]
        here = [replica for replica in healthy if replica.is_here]
        if not here:
            places = ", ".join(sorted({replica.node for replica in healthy})) or "nowhere"
            raise NothingTested(
                f"every replica runs on another machine ({places}): only containers of the engine the harness speaks to "
                "can be killed; run it where at least one replica is"
            )
        victim = choose.choice(here)
        proof, effective, healed = "", None, None
        with self._writing():
            injected = clock.now()
            try:
                proof = self._orchestrator.kill(victim)
                effective = clock.now()
                healed = self._replaced(victim)
            finally:
                self._record(
                    FaultWindow(
                        fault="kill",
                        node=victim.name,
                        injected=injected,
                        effective=effective,
                        healing=healed if healed is not None else clock.now(),
                        healed=healed,
                        proof=proof,
                    )
                )
        return victim.name

    def scale_by(self, factor: int) -> tuple[str, ...]:
        """Want so many times as many, and wait until they are there, or should be. Returns the names of the new ones."""
        before = {replica.name for replica in self._now if replica.healthy}
        self._scale(self._wanted * factor)
        return tuple(sorted({replica.name for replica in self._now if replica.healthy} - before))

    def scale_back(self) -> None:
        """Want as many as at first, and wait until the others are gone, or should be."""
        self._scale(self._home)

    def update(self) -> None:
        """Roll out the next version, and wait until the update is over and everyone it replaced is gone."""
        self._update(self._versions.next, within_seconds=_UPDATE_WITHIN_SECONDS * patience())

    def update_to_bad(self) -> None:
        """Roll out a version that never becomes healthy, and wait until it was taken back, or should have been.

        Raises:
            NothingTested: the setup names no such version.
        """
        if self._versions.bad is None:
            raise NothingTested(
                "rollout.bad_env is not given: name variables with which the application starts and never becomes "
                'healthy, such as bad_env = { DATABASE_URL = "postgres://nobody@nowhere/none" }'
            )
        self._update(self._versions.bad, within_seconds=bounds.TAKEN_BACK_SECONDS + _BEYOND_THE_BOUND_SECONDS)

    def _replaced(self, victim: Replica) -> float | None:
        """When as many as are wanted were healthy again, without the victim; None when it was not seen in time."""

        def back() -> bool:
            healthy = [replica for replica in self._now if replica.healthy]
            return len(healthy) >= self._wanted and victim.id not in {replica.id for replica in healthy}

        within = bounds.HEAL_SECONDS + _BEYOND_THE_BOUND_SECONDS
        return clock.now() if self._comes_true(back, within_seconds=within) else None

    def _scale(self, wanted: int) -> None:
        before, self._wanted = self._wanted, wanted
        with self._writing():
            began = clock.now()
            self._record(RolloutStep(step="begin", node="", at=began, detail=f"{before} to {wanted} replicas"))
            self._orchestrator.scale(wanted)
            within = bounds.SCALE_SECONDS + _BEYOND_THE_BOUND_SECONDS
            reached = self._comes_true(self._all_healthy_alone, within_seconds=within)
            ended = clock.now()
            self._record(RolloutStep(step="end", node="", at=ended))
            value = {"from": before, "to": wanted, "reached": reached}
            self._record(Look(what="scale", node="", at=began, status=None, value=value, seconds=ended - began))

    def _update(self, spec: ReplicatedSpec, *, within_seconds: float) -> None:
        last = Update(Outcome.UNFINISHED)

        def over() -> bool:
            nonlocal last
            last = self._orchestrator.last_update()
            return last.outcome is not Outcome.UNFINISHED

        self._current = spec
        with self._writing():
            began = clock.now()
            told = RolloutStep(step="begin", node="", at=began, version=spec.version, detail="by the orchestrator")
            self._record(told)
            self._orchestrator.update(spec)
            self._comes_true(over, within_seconds=within_seconds, every_seconds=_LOOK_EVERY_SECONDS)
            if last.outcome is Outcome.COMPLETED:
                # Those it replaced finish what they have; an update is not over for people who wait for that.
                self._comes_true(lambda: not self._leaving(), within_seconds=_GONE_WITHIN_SECONDS)
            ended = clock.now()
            self._record(RolloutStep(step="end", node="", at=ended))
            value = {"outcome": str(last.outcome), "message": last.message}
            self._record(Look(what="update", node="", at=ended, status=None, value=value, seconds=ended - began))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the watcher sees belongs to the scenario that is under way, for the length of the block."""
        self._check()
        self._told = (-1, frozenset())
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False

    def _comes_true(
        self,
        condition: Callable[[], bool],
        *,
        within_seconds: float,
        every_seconds: float = _ASK_EVERY_SECONDS,
    ) -> bool:
        """Whether it did in this time, which is a bound of a promise and therefore not scaled."""

        def asked() -> bool:
            self._check()
            return condition()

        with suppress(WaitTimeout):
            wait_until(
                asked,
                within_seconds=within_seconds / patience(),
                every_seconds=every_seconds,
                because="what the orchestrator was told should be so",
            )
            return True
        return False

    # -- what is seen -----------------------------------------------------------------------------------------

    def _all_healthy(self) -> bool:
        return sum(replica.healthy for replica in self._now) == self._wanted

    def _leaving(self) -> bool:
        return any(replica.alive and not replica.wanted for replica in self._now)

    def _all_healthy_alone(self) -> bool:
        """Nobody is about to go, nor about to come and take the place of somebody."""
        return self._all_healthy() and all(replica.healthy for replica in self._now if replica.alive)

    def _is_as_at_first(self) -> bool:
        self._check()
        version = self._versions.first.version
        return self._all_healthy_alone() and all(replica.version == version for replica in self._now if replica.alive)

    def _failed(self) -> list[Replica]:
        return [replica for replica in self._now if not replica.alive and replica.message]

    def _fails_again_and_again(self) -> bool:
        self._check()
        return len(self._failed()) >= _FAILED_TOO_OFTEN

    def _why_not_healthy(self, what: str) -> str:
        states = ", ".join(f"{replica.name} {replica.state}" for replica in self._now if replica.alive)
        failed = self._failed()
        why = f": {failed[-1].name} on {failed[-1].node}: {failed[-1].message}" if failed else ""
        lines = self._orchestrator.last_log_lines(_LAST_LINES)
        said = "; the last they wrote:\n  " + "\n  ".join(lines) if lines else "; they wrote nothing"
        return (
            f"the {self._wanted} replicas of {self._orchestrator.name} {what}{why} (now: {states or 'none'}){said}\n"
            "check swarm.health, app.image and app.env; app.ready_within_seconds is "
            f"{self._current.ready_within_seconds:g}"
        )

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    # -- the watcher ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_SECONDS):
            try:
                self._look()
            except HarnessError as problem:  # whoever does something next is told
                if not self._over.is_set():
                    self._problem = problem
                return

    def _look(self) -> None:
        seen = self._orchestrator.replicas()
        at = clock.now()
        with self._looking:
            addresses = {
                f"{replica.address}:{self._current.container_port}": replica.name
                for replica in seen
                if replica.address is not None
            }
            if not addresses.items() <= self._addresses.items():
                # Those who are gone stay known: they may be asked for a while. The latest owner of an address has it.
                self._addresses |= addresses
                if self._listener is not None:
                    self._listener(dict(self._addresses))
        written = self._is_writing
        # Whoever was removed may be forgotten between two looks: it has ended as well.
        present = {replica.id for replica in seen}
        forgotten = [
            replace(known, alive=False, healthy=False, wanted=False)
            for known in self._known.values()
            if known.alive and known.id not in present
        ]
        for replica in (*seen, *forgotten):
            before = self._known.get(replica.id)
            self._known[replica.id] = replica
            for step in _steps(before, replica) if written else ():
                self._record(RolloutStep(step=step, node=replica.name, at=at, version=replica.version))
        self._now = seen
        healthy = frozenset(replica.name for replica in seen if replica.healthy)
        if written and (self._wanted, healthy) != self._told:
            self._told = (self._wanted, healthy)
            value = {"wanted": self._wanted, "healthy": sorted(healthy)}
            self._record(Look(what="replicas", node="", at=at, status=None, value=value))


def _steps(before: Replica | None, now: Replica) -> list[str]:
    """What has become of one replica since the last look, in the words of a rollout."""
    steps = []
    if before is None and now.alive and now.wanted:
        steps.append("start")
    if now.healthy and not (before is not None and before.healthy):
        steps.append("ready")
    if before is not None and before.alive and before.wanted and not now.wanted:
        steps.append("stop")
    if before is not None and before.alive and not now.alive:
        steps.append("stopped")
    return steps
