"""Every number a promise is held against, in one place, with its unit and its reason.

These are promises to people, so they are never scaled by the speed of the machine. The fields of a checker
take their defaults from here; the catalogue of promises quotes the sentences at the end. Must not: judge.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADDRESSES",
    "ASKED_BEFORE",
    "ASKED_IN_GAP",
    "ASKED_SHARE_IN_GAP",
    "BALANCER_IN_WORDS",
    "BALANCER_SECONDS",
    "BOUND_ANSWERS",
    "BOUND_SHARE",
    "BURST_ERRORS",
    "BURST_IN_WORDS",
    "BURST_SECONDS",
    "BUSY_SHARE",
    "CHANGES_TOGETHER",
    "DETECT_BY_REQUESTS",
    "DRAINED_IN_WORDS",
    "DRAINED_SECONDS",
    "DRAIN_ASKED",
    "DRAIN_IN_WORDS",
    "DRAIN_KEPT",
    "DRAIN_STALLED_SECONDS",
    "DRAIN_TOLD_TIMES",
    "EACH_ADDRESS",
    "EACH_CONNECTION_KIND",
    "EACH_PAIR",
    "EACH_PHASE",
    "EXAMPLES",
    "FLOOD_MOMENTS",
    "FLOOD_SLACK",
    "FLOOD_TIMES",
    "FORGOTTEN_UNDER",
    "GAP_SECONDS",
    "GAVE_UP",
    "HANG",
    "HANG_IN_WORDS",
    "HAPROXY_ROUND_TURNS",
    "HEAL_IN_WORDS",
    "HEAL_SECONDS",
    "HEARD_IN_WORDS",
    "HEARD_SECONDS",
    "IDLE_MARGIN_SECONDS",
    "IDLE_WATCHED_SECONDS",
    "INSECURE_VERSIONS",
    "IN_FLIGHT_AT_RELOAD",
    "IN_FLIGHT_AT_STOP",
    "IN_FLIGHT_PER_INSTANCE",
    "JOBS_RESUME_IN_WORDS",
    "JOBS_RESUME_SECONDS",
    "JOB_RUNS",
    "JOIN_IN_WORDS",
    "JOIN_SECONDS",
    "KILL",
    "KILL_IN_WORDS",
    "LATE_AFTER_SECONDS",
    "LATE_SHARE",
    "LEAST_CONN_SHARE",
    "LEAST_CONN_WRONG_BY",
    "LEFT_ALONE_SECONDS",
    "LIFE_SLACK_SECONDS",
    "LIMITED_PEOPLE",
    "LOGOUT_VISITORS",
    "MET_BY_POSTS",
    "MET_OVERLOAD",
    "MISSED_BY_CHANCE",
    "MOST_WORKERS",
    "MOVED_IN_WORDS",
    "MOVED_SECONDS",
    "NEW_ADDRESS_IN_WORDS",
    "NUMBERS_EACH",
    "ONCE_KEYS",
    "OTHERS_SHARE",
    "OWN_PAGES",
    "PARTITION_IN_WORDS",
    "PROBES_PER_SECOND_AND_WORKER",
    "READY_IN_WORDS",
    "READY_SECONDS",
    "RECOVERED_AFTER",
    "REDIRECTS_READING",
    "REDIRECTS_WRITING",
    "REDIRECT_IN_WORDS",
    "REFUSAL",
    "REJOIN_ANSWERS",
    "REJOIN_IN_WORDS",
    "REJOIN_SECONDS",
    "RELOAD_IN_WORDS",
    "REPLAYS_REFUSED",
    "RESTART_SESSIONS",
    "ROUND_ROBIN_EACH",
    "SAME_NAMES",
    "SAME_SITE",
    "SCALE_IN_WORDS",
    "SCALE_SECONDS",
    "SECURE_VERSIONS",
    "SESSIONS",
    "SESSIONS_ON_VICTIM",
    "SETTING_IN_WORDS",
    "SETTING_SECONDS",
    "SETTLED_SECONDS",
    "SHARE_ALPHA",
    "SHARE_IN_WORDS",
    "SHARE_POWER",
    "SIGHT_SECONDS",
    "SILENCE",
    "STEPS_OVERLAPPING",
    "STEPS_TOGETHER",
    "STOP",
    "STOP_IN_WORDS",
    "STREAMS_AT_STOP",
    "TAKEN_BACK_IN_WORDS",
    "TAKEN_BACK_SECONDS",
    "TALLY_TOGETHER",
    "UNMET_BY_CHANCE",
    "VERSIONS_IN_WORDS",
    "VICTIM_SHARE",
    "VIEW_IN_WORDS",
    "VIEW_SECONDS",
    "VISITS_THROUGH_BALANCER",
    "WAITED_MUCH_SHARE",
    "WAITED_SHARE",
    "LossBounds",
]

# -- what is shown ---------------------------------------------------------------------------------------------

EXAMPLES = 5
"""Operations shown as examples: enough to see a pattern, few enough to read."""

# -- whether anything was tested -------------------------------------------------------------------------------

UNMET_BY_CHANCE = 0.01
"""Probability up to which requests while an instance was lost may all have been for others by chance, where nobody tells whom
the balancer tried: (1 - share)^n. A third of the traffic: n = 12."""

EACH_PHASE = 20
"""Requests before, during and after a fault. With fewer, not one failure would still allow a rate of 14 % (3/n)."""

LATE_AFTER_SECONDS = 0.25
"""A request sent this long after it was due no longer measures what it set out to: it is late."""

LATE_SHARE = 0.01
"""Share of late or unsent requests from which the load was not the one that was planned."""

WAITED_SHARE = 0.3
"""Part of a scenario that two of those who serve (the balancer, instances) stood ready and were given no core, from which nothing can
be concluded from requests that were answered late or not at all, if others had the cores meanwhile. Measured on two cores: 0.05 on a
quiet machine, 0.13 with both cores kept busy, 0.1 beside another setup under traffic; 0.4 to 0.9 with eight busy programs beside it."""

BUSY_SHARE = 0.9
"""Part of the processor time of this machine that was used by anybody, below which nobody waits for long: a kernel that says
otherwise was paused together with its machine, and takes that for the waiting of whoever was next."""

OTHERS_SHARE = 1 / 3
"""Part of the processor time of this machine that others than the harness and the setup used, from which that was their doing. An
application that uses up two cores itself has its own threads wait as much, on a machine that is otherwise quiet: it is too slow
for the traffic, and nobody else's fault."""

WAITED_MUCH_SHARE = 0.2
"""From this on it is worth a word."""

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

STEPS_TOGETHER = 20
"""Acknowledged steps of counters. A store that loses one of two that meet loses several of so many."""

STEPS_OVERLAPPING = 10
"""Those of them that were under way at the same time as another of the same session through another instance."""

CHANGES_TOGETHER = 10
"""Changes of a session that were made at the same time as another and looked for afterwards: two that meet and overwrite each
other leave one, so that one pair would do where they surely meet."""

REPLAYS_REFUSED = 3
"""Refusals of a replayed cookie through the balancer, after the logout and after the next log-in, that make one person's a
tested one."""

SAME_SITE = ("lax", "strict")
"""Values of SameSite with which a browser keeps a cookie from forms of other sites. Without one, only some browsers do."""

OWN_PAGES = 60
"""Pages that named who had asked. Pages that are mixed up among people who browse at the same time are mixed up often; that
one in twenty is would be missed with probability 0.95^60 = 5 %, and fewer than that needs a longer look."""

LIFE_SLACK_SECONDS = 1.0
"""How much longer than it is said to a session may live: stores count in whole seconds."""

GAVE_UP = 5
"""People who left in the middle of a request and were looked up afterwards."""

MET_OVERLOAD = 5
"""People who were told that an instance is overloaded and were looked up afterwards."""

# -- what the instances keep together --------------------------------------------------------------------------

NUMBERS_EACH = 10
"""Numbers given by each instance. Instances that count by themselves begin at the same number, or near it."""

ONCE_KEYS = 3
"""Keys that came through two instances at the same time and were properly answered by both."""

SAME_NAMES = 3
"""Names that were asked for through two instances at the same time. What checks first and writes then is caught whenever both
have checked before one has written, which is nearly always where a password is hashed in between."""

TALLY_TOGETHER = 20
"""Acknowledged increments at the same time, through all instances: what reads, adds and writes loses most of them."""

LIMITED_PEOPLE = 2
"""People who use up their limit one after the other: the end of a window lies in the turn of one of them at most."""

SETTING_SECONDS = 5.0
"""From the answer to a change until every instance follows it: one who has changed something looks again at once."""

JOB_RUNS = 4
"""Times for which a job was run, seen from beginning to end. Who runs it everywhere does so each time."""

JOBS_RESUME_SECONDS = 10.0
"""From the loss of the instance that ran the jobs to the next run by another, beside the time between two: a lock that
expires takes some seconds to do so."""

HEARD_SECONDS = 5.0
"""From what is said to the last who hears it: later, a conversation is none."""

IDLE_MARGIN_SECONDS = 0.5
"""Beyond the time for which the balancer keeps an idle connection: by then nothing is sent on it any more."""

IDLE_WATCHED_SECONDS = 10.0
"""No longer is waited for the end of an idle connection: many servers end theirs after 2 to 5 s."""

READY_SECONDS = 5.0
"""From the loss of what an instance needs until its ready path says so: many ask what they need every few seconds."""

# -- distribution ----------------------------------------------------------------------------------------------

MISSED_BY_CHANCE = 1e-6
"""Probability with which a fair balancer may leave out an instance by chance: N (1 - 1/N)^n. 3 instances: n = 37."""

EACH_ADDRESS = 8
"""Requests from one address: that a balancer that binds nobody gives all of them to one of three has probability 3^-7 = 0.05 %."""

ADDRESSES = 10
"""Addresses from which to tell that requests of one address stay together. That nine of ten do so by chance is out of the question."""

ROUND_ROBIN_EACH = 20
"""Requests per instance. The bound is exact, so there are no false alarms; a weight of 2 instead of 1 then shows as
a difference of 15 requests for three instances, where 1 or 2 are allowed."""

HAPROXY_ROUND_TURNS = 16
"""Turns each instance has in one round of HAProxy's round robin, with equal weights. Whoever comes up in the middle of one
joins where it stands or with the next, and is so much behind at the most (measured: up to 11); after that it is exact."""

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
# Silence is silence: a kept connection to an instance that is cut off looks as one to a frozen instance does, and is given
# up when the read timeout ends. A new one is given up when the connect timeout ends, which needs to be no longer:
# accepting a connection is no work. Who is cut off also may have had its share of the writes on kept connections.
SILENCE = HANG
REFUSAL = LossBounds(
    # The first new connection is refused: that tells as much as a dead process does.
    detect_within_seconds=1.0,
    # What was in flight is not refused: its answer is lost on the way, and the read timeout has to end. Two seconds of
    # that, and another instance's answer.
    slowest_seconds=3.0,
    failed_writes=3,
    failed_writes_share=0.05,
)

# -- rollout and shutdown --------------------------------------------------------------------------------------

EACH_CONNECTION_KIND = 10
"""Requests on fresh and as many on reused connections while each single instance was replaced: they break apart."""

IN_FLIGHT_AT_STOP = 3
"""Slow requests that were in flight on the instance when it was told to stop."""

SETTLED_SECONDS = 0.05
"""A request counts as in flight when it was sent this long before: then the instance has surely accepted it."""

DRAIN_ASKED = 3
"""Times an instance must have said that it was ready before it is told to stop, so that it has something to take back."""

DRAIN_TOLD_TIMES = 3
"""Times it must say that it is not ready before it refuses anybody, asked 50 times a second. Whoever asks must have had an
occasion to hear it: a listener that is closed with the signal leaves none, also where its last answer says no."""

DRAIN_KEPT = 2
"""Kept connections that ended, each of which had an occasion to be told."""

DRAIN_STALLED_SECONDS = 0.1
"""Longest time in which the instance was not asked while it stopped: beyond five turns nobody knows what it would have said."""

STREAMS_AT_STOP = 2
"""Streams that were open when their instance was told to stop; who never ends one keeps all of them."""

FORGOTTEN_UNDER = 1.0
"""Seconds an unanswered request without a timeout is taken to have lasted, where its end was not seen."""

# -- looking after the balancer ------------------------------------------------------------------------------------

IN_FLIGHT_AT_RELOAD = 3
"""Requests, and downloads, that were under way when the balancer was told to reload: what could be cut."""

DRAINED_SECONDS = 5.0
"""From the order to take an instance out until it surely gets nothing more. Whoever stops it does so when the balancer says
that it is done, and waits no longer than a page may take for a balancer that never does."""

VIEW_SECONDS = 3.0
"""From the death of an instance, and from when it is ready again, until the balancer's own opinion of it is right. It is what
somebody reads who wonders why pages are slow; longer than a frozen instance may go unnoticed it may not be wrong."""

MET_BY_POSTS = 3
"""POSTs that were given to an instance which then said nothing: only these could be sent a second time."""

BURST_SECONDS = 5.0
"""From when every instance does again what it could not do, until people are served again. What was away is back: an outage
that goes on is the balancer's own."""

BALANCER_SECONDS = 5.0
"""From the death of the balancer until people are served again, by all instances. While it is away nobody is: it takes as long as
whoever keeps it running waits, and as long as the balancer takes to start. A browser that is told nothing is patient for that long."""

ASKED_BEFORE = 4
"""How often somebody was recognised before the balancer died, and never taken for a stranger, for their session to be held against it.
Of sessions that one instance of three knows alone, one in 81 gets so far by chance."""

BURST_ERRORS = 6
"""Errors that came through the balancer meanwhile: with one or two for each instance one that counts errors has counted enough."""

JOIN_SECONDS = 5.0
"""From when an instance is ready: in that time it is new to the others' work. A cache is cold for so long, a pool empty."""

FLOOD_TIMES = 1.5
"""How many times its fair share of what is in flight one may have that has just joined. With least_conn it has no more than the others;
choosing in turn it has more for as long as it is slower than they are."""

FLOOD_SLACK = 4.0
"""And so many requests beside that: six slow ones a second may all meet at one, by chance."""

FLOOD_MOMENTS = 5
"""Moments at which it was given yet another one although it had more: one or two may be the traffic's own."""

MOVED_SECONDS = 3.0
"""From the death of an instance until everybody who was bound to it is served by another: the time in which a balancer has to
know of the slowest kind of loss."""

BOUND_SHARE = 0.9
"""Share of people who were answered by one instance alone, below which it is not seen that a cookie binds anybody."""

BOUND_ANSWERS = 3
"""Answers from which it is told who serves a person: that a balancer which binds nobody sends all of them to one of three
instances has probability 1/9, and for nine of ten people never."""

# -- an orchestrator ------------------------------------------------------------------------------------------------

HEAL_SECONDS = 15.0
"""From the death of a replica until as many as are wanted are healthy again. Swarm waits 5 s before it starts another
unless told otherwise, a container and its application take a few seconds, and a health check has to pass; what takes
longer leaves the setup one loss away from an outage for too long."""

SCALE_SECONDS = 30.0
"""From an order until the wanted number is there, or the unwanted are gone. Who scales has the load now: a start, a
health check and a graceful stop of up to ten seconds fit in, one after the other for no more than two rounds."""

LEFT_ALONE_SECONDS = 1.0
"""After a removed replica has ended nobody may ask it any longer than this. A removal is announced: a balancer that
learns of it only by being refused makes a visitor wait for the second try."""

TAKEN_BACK_SECONDS = 60.0
"""Until a bad version is gone by itself. While it is tried a replica is missing or its place is taken, and the good
version that mends it cannot be rolled out."""

# -- the way in ---------------------------------------------------------------------------------------------------

SECURE_VERSIONS = ("1.2", "1.3")
INSECURE_VERSIONS = ("1.0", "1.1")
"""Versions of TLS that nobody may speak any more (RFC 8996). SSL before them is not even offered by libraries of today."""

REDIRECTS_READING = (301, 308)
"""Statuses that send a reader to https for good (RFC 9110, 15.4): a browser that was there once asks over https by itself.
After a temporary one it goes on asking in clear."""

REDIRECTS_WRITING = (307, 308)
"""Statuses after which a form is posted again as it was. After 301 and 302 browsers ask with GET, and what was posted is
lost (RFC 9110, 15.4.2 and 15.4.3)."""

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
PARTITION_IN_WORDS = (
    f"{_BUT_BEGUN}; no gap above {SILENCE.longest_gap_seconds:.1f} s; no answer slower than "
    f"{SILENCE.slowest_seconds:.1f} s; the balancer knows within {SILENCE.detect_within_seconds:.1f} s of silence, "
    f"{REFUSAL.detect_within_seconds:.1f} s of refusals, and POSTs fail only until then: at most "
    f"{SILENCE.failed_writes_share:.0%} of them in silence, {REFUSAL.failed_writes} (or "
    f"{REFUSAL.failed_writes_share:.0%}) when refused"
)
NEW_ADDRESS_IN_WORDS = (
    f"no failed GET (but for answers that had begun), at most {KILL.failed_writes} failed POSTs, no gap above "
    f"{KILL.longest_gap_seconds:.1f} s, no answer slower than {KILL.slowest_seconds:.1f} s; it answers through the "
    f"balancer within {REJOIN_SECONDS:.0f} s of being ready, {REJOIN_ANSWERS} times or more; no answer by anybody who is "
    "no instance of the setup"
)
RELOAD_IN_WORDS = f"no failed request, and no gap above {GAP_SECONDS:.1f} s; {IN_FLIGHT_AT_RELOAD} or more were under way at the order"
DRAINED_IN_WORDS = (
    f"no request is given to it once the balancer has said so, or {DRAINED_SECONDS:.0f} s after the order; what was under way "
    "there is answered, and no request fails"
)
VIEW_IN_WORDS = (
    f"up for every instance that answers; down within {VIEW_SECONDS:.0f} s of the death of one, and up again within "
    f"{VIEW_SECONDS:.0f} s of its return"
)
BALANCER_IN_WORDS = f"people are served again within {BALANCER_SECONDS:.0f} s of its death, by every instance, and everybody is still logged in"
BURST_IN_WORDS = f"people are served within {BURST_SECONDS:.0f} s of when every instance, asked directly, serves again"
JOIN_IN_WORDS = (
    f"in the first {JOIN_SECONDS:.0f} s it is given nothing more while it has more than {FLOOD_TIMES:g} times its fair share of what is in "
    f"flight (and {FLOOD_SLACK:.0f} beside that); {FLOOD_MOMENTS} such moments break it"
)
MOVED_IN_WORDS = (
    f"everybody who was bound to it is served by another within {MOVED_SECONDS:.0f} s, and no request of theirs fails from then "
    "on; nobody is logged out"
)
REJOIN_IN_WORDS = (
    f"it answers through the balancer within {REJOIN_SECONDS:.0f} s of being ready, {REJOIN_ANSWERS} times or more, "
    "and no request fails"
)
HEAL_IN_WORDS = (
    f"the wanted number of healthy replicas is there again within {HEAL_SECONDS:.0f} s, the replacement answers through "
    f"the balancer within {REJOIN_SECONDS:.0f} s of being healthy ({REJOIN_ANSWERS} times or more); no gap above "
    f"{GAP_SECONDS:.1f} s"
)
SCALE_IN_WORDS = (
    f"no failed request, no session lost, no gap above {GAP_SECONDS:.1f} s; each number reached within "
    f"{SCALE_SECONDS:.0f} s; an added replica answers {REJOIN_ANSWERS} times or more within {REJOIN_SECONDS:.0f} s of "
    f"being healthy, a removed one is not asked from {LEFT_ALONE_SECONDS:.1f} s after its end"
)
TAKEN_BACK_IN_WORDS = (
    f"taken back by itself within {TAKEN_BACK_SECONDS:.0f} s; it answers nobody, no request fails, no session is lost"
)
SHARE_IN_WORDS = (
    "round robin: the counts differ by at most one per balancer worker (HAProxy: and by one round, "
    f"{HAPROXY_ROUND_TURNS} turns, after an instance came up); least_conn: at most "
    f"{LEAST_CONN_SHARE:.0%} of choices (up to two workers), tested one-sided with {SHARE_ALPHA:.1%} false alarms "
    f"and {SHARE_POWER:.0%} power against {LEAST_CONN_SHARE + LEAST_CONN_WRONG_BY:.0%}"
    "; nobody is bound to an instance by the address they come from"
)
REDIRECT_IN_WORDS = (
    f"nothing is served over http; {' or '.join(map(str, REDIRECTS_READING))} to the same path and query where a page is "
    f"read, {' or '.join(map(str, REDIRECTS_WRITING))} where something is posted"
)
VERSIONS_IN_WORDS = (
    f"no handshake with TLS {' or '.join(INSECURE_VERSIONS)}; one with each of {' and '.join(SECURE_VERSIONS)} that "
    "the setup names; HTTP/2 agreed on and answered, unless the setup says it is off"
)
SETTING_IN_WORDS = (
    "one answer from all instances; every written record is read everywhere; a setting that was changed is shown by every "
    f"instance within {SETTING_SECONDS:.0f} s"
)
JOBS_RESUME_IN_WORDS = f"another instance runs the next job within {JOBS_RESUME_SECONDS:.0f} s and the time between two"
READY_IN_WORDS = f"within {READY_SECONDS:.0f} s no instance that serves nothing says ready; afterwards each that serves says it again"
HEARD_IN_WORDS = f"whoever is connected hears it within {HEARD_SECONDS:.0f} s, whichever instance they are connected to"
DRAIN_IN_WORDS = (
    f"it says {DRAIN_TOLD_TIMES} times that it is not ready before it refuses anybody, and serves every page until then; every "
    "kept connection has been told with an answer (Connection: close) before it is ended"
)
