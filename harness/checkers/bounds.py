"""Every number a promise is held against, in one place, with its unit and its reason.

These are promises to people, so they are never scaled by the speed of the machine. The fields of a checker
take their defaults from here; the catalogue of promises quotes the sentences at the end. Must not: judge.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ASKED_IN_GAP",
    "ASKED_SHARE_IN_GAP",
    "DETECT_BY_REQUESTS",
    "EACH_CONNECTION_KIND",
    "EACH_PAIR",
    "EACH_PHASE",
    "EXAMPLES",
    "FORGOTTEN_UNDER",
    "GAP_SECONDS",
    "HANG",
    "HANG_IN_WORDS",
    "IN_FLIGHT_AT_STOP",
    "IN_FLIGHT_PER_INSTANCE",
    "KILL",
    "KILL_IN_WORDS",
    "LATE_AFTER_SECONDS",
    "LATE_SHARE",
    "LEAST_CONN_SHARE",
    "LEAST_CONN_WRONG_BY",
    "LOGOUT_VISITORS",
    "MISSED_BY_CHANCE",
    "MOST_WORKERS",
    "PROBES_PER_SECOND_AND_WORKER",
    "RECOVERED_AFTER",
    "REJOIN_ANSWERS",
    "REJOIN_IN_WORDS",
    "REJOIN_SECONDS",
    "RESTART_SESSIONS",
    "ROUND_ROBIN_EACH",
    "SESSIONS",
    "SESSIONS_ON_VICTIM",
    "SETTLED_SECONDS",
    "SHARE_ALPHA",
    "SHARE_IN_WORDS",
    "SHARE_POWER",
    "SIGHT_SECONDS",
    "STOP",
    "STOP_IN_WORDS",
    "VICTIM_SHARE",
    "VISITS_THROUGH_BALANCER",
    "LossBounds",
]

# -- what is shown ---------------------------------------------------------------------------------------------

EXAMPLES = 5
"""Operations shown as examples: enough to see a pattern, few enough to read."""

# -- whether anything was tested -------------------------------------------------------------------------------

EACH_PHASE = 20
"""Requests before, during and after a fault. With fewer, not one failure would still allow a rate of 14 % (3/n)."""

LATE_AFTER_SECONDS = 0.25
"""A request sent this long after it was due no longer measures what it set out to: it is late."""

LATE_SHARE = 0.01
"""Share of late or unsent requests from which the load was not the one that was planned."""

# -- sessions --------------------------------------------------------------------------------------------------

EACH_PAIR = 3
"""Proper answers for each ordered pair of instances. The faults looked for are all-or-nothing for a pair: three
answers also rule out a pair that is right by accident once or twice."""

VISITS_THROUGH_BALANCER = 30
"""Proper answers through the balancer. Where one of three instances forgets, all of 30 visits miss it with
probability (2/3)^30 = 5e-6."""

SESSIONS = 10
"""Logged-in people. A third of them losing their session is then missed with probability (2/3)^10 = 2 %, and in
practice never: each of them visits many times."""

SESSIONS_ON_VICTIM = 3
"""Logged-in people whose login the lost instance itself had answered: only their sessions could die with it."""

RESTART_SESSIONS = 3
"""Sessions that each instance knew before the restart and was asked about after it."""

LOGOUT_VISITORS = 3
"""People who logged out and whose copied cookie was shown to every instance."""

# -- distribution ----------------------------------------------------------------------------------------------

MISSED_BY_CHANCE = 1e-6
"""Probability with which a fair balancer may leave out an instance by chance: N (1 - 1/N)^n. 3 instances: n = 37."""

ROUND_ROBIN_EACH = 20
"""Requests per instance. The bound is exact, so there are no false alarms; a weight of 2 instead of 1 then shows as
a difference of 15 requests for three instances, where 1 or 2 are allowed."""

SHARE_ALPHA = 0.001
"""False alarms of a statistical check on a healthy balancer, at most one in a thousand. It is never retried."""

SHARE_POWER = 0.99
"""Wrong balancers that must be caught; a sample too small for that is inconclusive."""

LEAST_CONN_SHARE = 0.05
"""Share of choices at which least_conn may take an instance with 2 or more requests in flight above the least
loaded one. One worker with full knowledge: 0. Each worker knows its own requests only: 2 % for two workers
(simulated, 6 to 15 requests in flight); about 5 points more for each worker beyond two."""

LEAST_CONN_WRONG_BY = 0.20
"""What a wrong balancer does more often than that, in points. Simulated: random 35 %, weights 5:1:1 60 %, one
instance missing 99 %, all to one 100 %."""

MOST_WORKERS = 4
"""Balancer workers with knowledge of their own up to which least_conn can be judged from outside."""

IN_FLIGHT_PER_INSTANCE = 2.0
"""Requests in flight per instance from which a choice counts. Below, a wrong balancer could not be told from a
right one, because no instance need have 2 more than another."""

SIGHT_SECONDS = 0.005
"""We see a request begin and end a little before or after the balancer does. What lies this close to a choice is
counted in the balancer's favour."""

# -- loss of an instance ---------------------------------------------------------------------------------------

GAP_SECONDS = 1.0
"""Longest time without one successful answer: a person takes a page that comes within a second for a slow one, not
for an outage."""

ASKED_IN_GAP = 3
"""Requests due in a gap: with fewer, it is a pause of the traffic and not of the setup."""

ASKED_SHARE_IN_GAP = 0.5
"""The same as a share of the requests that the pace of the traffic promises in that time, where there is one."""

VICTIM_SHARE = 0.05
"""Share of requests tried at the lost instance below which the balancer is taken to know of the loss. One that does
not know sends it 1/N of them."""

PROBES_PER_SECOND_AND_WORKER = 1.0
"""A balancer without active checks has to try the lost instance with a real request now and then: nginx once per
fail_timeout (1 s at the least) and worker. That is knowledge, not ignorance, and at low rates more than 5 %."""

DETECT_BY_REQUESTS = 20
"""Requests that must follow the moment at which the balancer is said to have known."""

RECOVERED_AFTER = 10
"""Successes in a row after the last failure, from the first of which service counts as recovered."""

REJOIN_SECONDS = 10.0
"""From ready again to the first answer through the balancer: capacity that is there and unused for longer is lost."""

REJOIN_ANSWERS = 5
"""Answers of the returned instance through the balancer: one might be a lucky probe."""


@dataclass(frozen=True, kw_only=True)
class LossBounds:
    """What the loss of one instance may cost. GETs (and all idempotent methods) may never fail: the balancer can always
    try another instance."""

    detect_within_seconds: float
    """From the proven effect until the balancer has all but stopped trying the lost instance."""
    slowest_seconds: float
    """No answer may take longer, from when its request was due."""
    failed_writes: int
    """Non-idempotent requests (POST, PATCH) that may fail, if they were due before detection had to be complete. They
    were inside the lost instance, and nobody may send them twice."""
    failed_writes_share: float
    """The same as a share of the non-idempotent requests due in that time; the larger of the two counts."""
    longest_gap_seconds: float = GAP_SECONDS


KILL = LossBounds(
    # A refused or reset connection tells the balancer at the first try.
    detect_within_seconds=1.0,
    # The second try costs milliseconds; two seconds leave room for an address that no longer answers at all.
    slowest_seconds=2.0,
    # Those being worked on at that moment: 10 writes/s x 50 ms / 3 instances is less than one.
    failed_writes=3,
    failed_writes_share=0.05,
)
# A stop is announced: the instance can finish what it has. Writes sent in the moment between its last accept and the
# balancer's first refused connection are lost all the same, when balancer and instance keep connections open.
STOP = KILL
HANG = LossBounds(
    # Nothing is refused: the balancer learns of it when its own read timeout ends, which has to be above the slowest
    # honest answer. Three seconds allow a timeout of two.
    detect_within_seconds=3.0,
    # A page that was tried at the frozen instance waits for that timeout once, then another instance answers it.
    slowest_seconds=3.0,
    failed_writes=3,
    # Until then a balancer may give the frozen instance its fair share of the writes, at most a half (two
    # instances), and these cannot be tried again; a tenth is for chance.
    failed_writes_share=0.6,
)

# -- rollout and shutdown --------------------------------------------------------------------------------------

EACH_CONNECTION_KIND = 10
"""Requests on fresh and as many on reused connections while each single instance was replaced: they break apart."""

IN_FLIGHT_AT_STOP = 3
"""Slow requests that were in flight on the instance when it was told to stop."""

SETTLED_SECONDS = 0.05
"""A request counts as in flight when it was sent this long before: then the instance has surely accepted it."""

FORGOTTEN_UNDER = 1.0
"""Seconds an unanswered request without a timeout is taken to have lasted, where its end was not seen."""

# -- in words --------------------------------------------------------------------------------------------------


_BUT_BEGUN = "no failed GET, but for answers that had begun when it struck (they count with the POSTs)"
"""What has begun to reach somebody cannot be taken back, so that nobody may try it elsewhere."""


def _loss_in_words(loss: LossBounds, *, writes: str, reads: str = _BUT_BEGUN) -> str:
    return (
        f"{reads}; {writes}; no gap above {loss.longest_gap_seconds:.1f} s; the balancer knows within "
        f"{loss.detect_within_seconds:.1f} s (fewer than {VICTIM_SHARE:.0%} of requests tried at the lost instance); "
        f"no answer slower than {loss.slowest_seconds:.1f} s"
    )


_FEW_WRITES = (
    f"at most {KILL.failed_writes} failed POSTs (or {KILL.failed_writes_share:.0%}), all due within "
    f"{KILL.detect_within_seconds:.1f} s"
)

KILL_IN_WORDS = _loss_in_words(KILL, writes=_FEW_WRITES)
STOP_IN_WORDS = _loss_in_words(STOP, writes=_FEW_WRITES, reads="no failed GET")
HANG_IN_WORDS = _loss_in_words(
    HANG,
    writes=f"failed POSTs only within {HANG.detect_within_seconds:.1f} s, at most {HANG.failed_writes_share:.0%}",
)
REJOIN_IN_WORDS = (
    f"it answers through the balancer within {REJOIN_SECONDS:.0f} s of being ready, {REJOIN_ANSWERS} times or more, "
    "and no request fails"
)
SHARE_IN_WORDS = (
    "round robin: the counts differ by at most one per balancer worker; least_conn: at most "
    f"{LEAST_CONN_SHARE:.0%} of choices (up to two workers), tested one-sided with {SHARE_ALPHA:.1%} false alarms "
    f"and {SHARE_POWER:.0%} power against {LEAST_CONN_SHARE + LEAST_CONN_WRONG_BY:.0%}"
)
