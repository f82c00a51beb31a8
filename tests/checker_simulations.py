"""Small simulations of nginx, for the error rates of checkers: who is chosen, who is set aside, and what a loss does.

Modelled on ngx_http_upstream_round_robin.c and ngx_http_upstream_least_conn_module.c: smooth weighted round robin,
fewest connections by weight with round robin among equals, passive checks in whole seconds (a peer with `max_fails`
failures is left out until more than `fail_timeout` has passed since it was last tried; then one request tries it).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from harness.model import Answer, Connection, History, Operation, Outcome, Pace
from tests.checker_histories import APPS, fault, history, op, pace

__all__ = ["Balancer", "Nginx", "loss", "spread"]


class Balancer:
    """Chooses, worker by worker; knows nothing of failures."""

    def __init__(self, algorithm: str, *, random: Random, workers: int = 1, weights: Sequence[int] = (1, 1, 1)) -> None:
        self.algorithm, self.random, self.weights = algorithm, random, weights
        self.in_flight = [[0] * len(weights) for _ in range(workers)]
        self._turns = [[0] * len(weights) for _ in range(workers)]
        # Workers have been at it before.
        for worker in range(workers):
            for _ in range(random.randrange(len(weights))):
                self._turn(worker, range(len(weights)))

    def worker(self) -> int:
        return self.random.randrange(len(self.in_flight))

    def _turn(self, worker: int, among: Sequence[int]) -> int:
        turns = self._turns[worker]
        for i in among:
            turns[i] += self.weights[i]
        best = max(among, key=lambda i: turns[i])
        turns[best] -= sum(self.weights[i] for i in among)
        return best

    def choose(self, worker: int, among: Sequence[int]) -> int:
        among = [i for i in among if self.weights[i]]
        if self.algorithm == "round_robin":
            return self._turn(worker, among)
        if self.algorithm == "random":
            return self.random.choices(among, [self.weights[i] for i in among])[0]
        load = self.in_flight[worker]
        least = min(load[i] / self.weights[i] for i in among)
        ties = [i for i in among if load[i] / self.weights[i] == least]
        return self._turn(worker, ties) if len(ties) > 1 else ties[0]


def spread(
    algorithm: str,
    *,
    seed: int,
    n: int = 400,
    rate: float = 100.0,
    service: Callable[[Random], float] = lambda random: 0.1,
    workers: int = 1,
    weights: Sequence[int] = (1, 1, 1),
    told: str | None = None,
    blur: float = 0.001,
    slow_instance: float = 1.0,
) -> History:
    """`n` requests at a rate. `told`: the algorithm the setup claims; `slow_instance`: how much longer app-1 takes."""
    random = Random(seed)
    balancer = Balancer(algorithm, random=random, workers=workers, weights=weights)
    ending: list[tuple[float, int, int]] = []
    made = []
    for k in range(n):
        due = k / rate
        sent = due + random.random() * 0.0005
        decided = sent + random.random() * blur
        while ending and ending[0][0] <= decided:
            _, worker, instance = heapq.heappop(ending)
            balancer.in_flight[worker][instance] -= 1
        worker = balancer.worker()
        instance = balancer.choose(worker, range(len(weights)))
        ends = decided + service(random) * (slow_instance if instance == 0 else 1.0)
        balancer.in_flight[worker][instance] += 1
        heapq.heappush(ending, (ends, worker, instance))
        made.append(
            op(
                due,
                sent=sent,
                answered=ends + random.random() * blur,
                instance=APPS[instance],
                visitor=f"v{k % 20}",
                connection=Connection.REUSED if k % 2 else Connection.FRESH,
            )
        )
    return history(made, setup={"algorithm": told or algorithm, "balancer_workers": workers})


@dataclass
class Nginx:
    """The settings that matter when an instance is lost."""

    algorithm: str = "least_conn"
    workers: int = 1
    max_fails: int = 1
    fail_timeout: int = 1
    connect_timeout: float = 1.0
    read_timeout: float = 2.0
    retries: bool = True


@dataclass
class _Peer:
    fails: int = 0
    checked: float = 0.0


@dataclass(order=True)
class _Event:
    at: float
    order: int
    act: Callable[[float], None] = field(compare=False)


def loss(
    kind: str,
    nginx: Nginx,
    *,
    seed: int,
    rate: float = 100.0,
    window: float = 4.0,
    latency: Callable[[Random], float] = lambda random: 0.003 + random.expovariate(200),
    sent_late: Callable[[Random], float] = lambda random: random.random() * 0.001,
    back_after: float = 0.5,
    before: float = 1.0,
    after: float = 4.0,
    slow: float = 0.0,
    gone_after: float = float("inf"),
) -> History:
    """Open-loop traffic while app-1 is lost, as nginx would carry it. 15 % are writes; half of it on reused connections.

    `slow`: also so many GETs per second that take a second each, in a stream of that name. `gone_after`: so long after
    its death an instance's address is gone as well, as a container's is, and connecting is answered by silence.
    """
    random = Random(seed)
    start = random.random()  # whole seconds fall anywhere
    injected = start + before
    effective = injected + 0.01
    healing = effective + window
    goes_on = kind not in ("kill", "stop", "out-of-memory")
    healed = healing + (back_after if not goes_on else 0.01)
    end = healed + after
    balancer = Balancer(nginx.algorithm, random=random, workers=nginx.workers)
    peers = [[_Peer() for _ in APPS] for _ in range(nginx.workers)]
    events: list[_Event] = []
    order = iter(range(10**9))
    made: list[Operation] = []

    def at(moment: float, act: Callable[[float], None]) -> None:
        heapq.heappush(events, _Event(moment, next(order), act))

    def usable(worker: int, now: float, tried: Sequence[int]) -> list[int]:
        found = []
        for i in range(len(APPS)):
            peer = peers[worker][i]
            out = (
                nginx.max_fails and peer.fails >= nginx.max_fails and int(now) - int(peer.checked) <= nginx.fail_timeout
            )
            if i not in tried and not out:
                found.append(i)
        return found

    def begin(now: float, request: dict[str, Any], tried: tuple[int, ...] = ()) -> None:
        worker = request["worker"]
        among = usable(worker, now, tried)
        if not among:
            end_with(now, request, tried, error="http-502", instance=None)
            return
        i = balancer.choose(worker, among)
        peer = peers[worker][i]
        if int(now) - int(peer.checked) > nginx.fail_timeout:
            peer.checked = now
        balancer.in_flight[worker][i] += 1
        tried = (*tried, i)
        took = latency(random) + request["seconds"]

        def done(then: float) -> None:
            balancer.in_flight[worker][i] -= 1
            if peer.fails and peer.checked >= now - 1e-9:
                peer.fails = 0
            end_with(then, request, tried, error=None, instance=i)

        def broke(then: float, error: str, sent: bool) -> None:
            balancer.in_flight[worker][i] -= 1
            peer.fails += 1
            peer.checked = then
            if nginx.retries and (not sent or request["method"] == "GET"):
                begin(then, request, tried)
            else:
                end_with(then, request, tried, error=error, instance=None)

        def silent(seconds: float, sent: bool) -> None:
            """It is answered when the instance goes on, or given up when this timeout ends."""
            if now + seconds < healing:
                at(now + seconds, lambda then: broke(then, "http-504", sent=sent))
            else:
                at(healing + took, done)

        lost = i == 0 and now + took >= injected and now < (healing if goes_on else healed)
        if not lost:
            at(now + took, done)
        elif kind == "hang" or (goes_on and now < injected):
            silent(nginx.read_timeout, sent=True)
        elif kind == "cut-off-silence":
            silent(nginx.connect_timeout, sent=False)
        elif not goes_on and now >= injected + gone_after:
            at(min(now + nginx.connect_timeout, healed + 1.0), lambda then: broke(then, "http-504", sent=False))
        elif now < injected and not goes_on:
            # Under way when it died; one that is stopped finishes it.
            at(max(now, injected), done if kind == "stop" else lambda then: broke(then, "http-502", sent=True))
        else:
            at(now + 0.0005, lambda then: broke(then, "http-502", sent=False))

    def end_with(
        now: float, request: dict[str, Any], tried: tuple[int, ...], *, error: str | None, instance: int | None
    ) -> None:
        given = {key: request[key] for key in ("sent", "connection", "visitor", "method", "kind", "path", "stream")}
        given |= {"answered": now, "attempts": tuple(APPS[i] for i in tried)}
        given |= {"instance": None if instance is None else APPS[instance]}
        given |= {"answer": Answer.DONE if request["method"] == "POST" else Answer.RECOGNISED}
        if error is not None:
            given |= {"outcome": Outcome.UNKNOWN, "answer": Answer.FAILED, "error": error, "status": int(error[5:])}
        made.append(op(request["due"], **given))

    total = int((end - start) * rate)
    for k in range(total):
        due = start + k / rate
        post = random.random() < 0.15
        request = {
            "due": due,
            "sent": due + sent_late(random),
            "worker": balancer.worker(),
            "method": "POST" if post else "GET",
            "kind": "write" if post else "whoami",
            "path": "/notes" if post else "/dashboard",
            "connection": Connection.REUSED if random.random() < 0.5 else Connection.FRESH,
            "visitor": f"v{random.randrange(20)}",
            "stream": "browse",
            "seconds": 0.0,
        }
        at(request["sent"], lambda now, request=request: begin(now, request))
    for k in range(int((end - start) * slow)):
        due = start + k / slow
        request = {
            "due": due,
            "sent": due + sent_late(random),
            "worker": balancer.worker(),
            "method": "GET",
            "kind": "slow",
            "path": "/slow?seconds=1",
            "connection": Connection.FRESH,
            "visitor": f"v{k % 20}",
            "stream": "slow",
            "seconds": 1.0,
        }
        at(request["sent"], lambda now, request=request: begin(now, request))
    while events:
        event = heapq.heappop(events)
        event.act(event.at)
    paces: list[Pace] = [pace("browse", rate=rate, begin=start, end=end, planned=total)]
    window_of = fault(kind, injected=injected, effective=effective, healing=healing, healed=healed)
    return history(
        made, faults=[window_of], paces=paces, setup={"balancer_workers": nginx.workers, "timeout_seconds": 5.0}
    )
