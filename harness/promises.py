"""The catalogue: every promise the harness can judge, as data.

The numbers in the bounds are those of `harness.checkers.bounds`; a test holds the two together.
Must not: measure or judge anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from harness.checkers import bounds
from harness.model import Promise

__all__ = ["CATALOGUE", "NEEDS", "as_markdown", "matching", "promise", "why_left_out"]

_TESTING = "Testing Your Distributed Setup"
_TRY_ANOTHER = (
    "try another instance (nginx: balancer.next_upstream; HAProxy: balancer.redispatch and balancer.retry_on)"
)
_NOTICE = (
    "notice a loss soon (nginx: a low balancer.max_fails and balancer.fail_timeout_seconds; HAProxy: "
    "balancer.check_interval_seconds and balancer.fall)"
)
_STORE = "Step 2: Configure Persistent Session Storage"
_BALANCING = "Step 3: Configure Load Balancer"
_DEPLOYMENT = "Deployment Strategies: Zero-Downtime Deployment"
_ORCHESTRATION = "Architecture Patterns: Pattern 3: Container Orchestration"

_ALL = (
    Promise(
        id="instances.answer",
        sentence="Every instance is alive and answers its health check.",
        measured="each instance is asked its health path directly, not through the balancer",
        bound="every instance answers with a status below 300, or as app.healthy says",
        broken_by="an instance that did not start, listens elsewhere, or cannot reach what it needs",
        remedy="read the log of the instance that did not answer; check app.command, app.env and app.health",
        guide=f"{_TESTING}: 1. Verify All Instances Are Running",
    ),
    Promise(
        id="instances.agree",
        sentence="Every instance runs the same version and configuration on the same database and session store.",
        measured="what each instance says of itself at app.version; a record written through each and read through each other; "
        "a setting that is changed through one instance, and then through another (journey.change, journey.see)",
        bound=bounds.SETTING_IN_WORDS,
        broken_by="an instance with another version, secret, database or session store; settings that an instance keeps in "
        "memory",
        remedy="give every instance the same image or binary and the same environment",
        guide="Best Practices: DO 10, DON'T 5",
    ),
    Promise(
        id="logs.no-trouble",
        sentence="No instance writes a line that means trouble while people use it and nothing is done to it.",
        measured="what each instance writes to its log while people log in and browse, and while another instance is killed meanwhile, is "
        "held against app.trouble; what an instance writes while it is broken itself does not count",
        bound="no line matches",
        broken_by="an error that is caught and logged while people are answered all the same, or that only the loss of another instance "
        "brings about",
        remedy="read what stands around the line in the log of the instance, and mend it; where it is harmless, narrow the pattern",
        guide=f"{_TESTING}: 1. Verify All Instances Are Running",
    ),
    Promise(
        id="session.every-instance",
        sentence="Whoever logs in on one instance is recognised by every other.",
        measured="people log in on each instance directly and are looked up on each, all ordered pairs; then many visit through the balancer",
        bound="every acknowledged login is recognised on every instance, at every visit",
        broken_by="sessions in the memory of one instance, or a cookie secret that differs between instances",
        remedy="one session store and one secret for all instances",
        guide=f"{_TESTING}: 2. Test Session Persistence",
    ),
    Promise(
        id="session.survives-instance-loss",
        sentence="People who are logged in stay logged in when the instance that served them is lost.",
        measured="people log in through one instance, which is then killed, stopped, hung and (where it has a network of its "
        "own) cut off while they browse through the balancer",
        bound="no acknowledged login is answered as logged out, and each is used again after the instance has returned",
        broken_by="sessions in the memory of one instance, or a secret that changes when an instance starts",
        remedy="keep sessions in Redis or Postgres, and the secret in the environment",
        guide="Step 2: Configure Persistent Session Storage",
    ),
    Promise(
        id="session.survives-restart",
        sentence="People stay logged in when every instance is restarted.",
        measured="sessions recognised by an instance before all instances are restarted are shown to it again afterwards",
        bound="every session an instance knew before the restart it knows after it",
        broken_by="sessions in memory, or a secret generated at boot",
        remedy="keep sessions in Redis or Postgres, and the secret in the environment",
        guide="Common Issues: Sessions lost after deployment",
    ),
    Promise(
        id="session.logout-everywhere",
        sentence="Whoever logs out is logged out on every instance, also for a copy of the cookie.",
        measured="the cookie is copied, its owner logs out through one instance, and the copy is shown to every instance",
        bound="no instance recognises the copy after the logout was acknowledged",
        broken_by="a logout that only clears the cookie in the browser, or a cache of sessions in each instance",
        remedy="destroy the session in the shared store at logout",
        guide="Step 2: Configure Persistent Session Storage",
    ),
    Promise(
        id="session.replay-after-logout",
        sentence="The cookie of somebody who has logged out is worth nothing to whoever kept a copy.",
        measured="cookies are copied, their owners log out, and the copies are shown to the balancer again and again, also after "
        "the owners have logged in anew",
        bound="no copy is recognised by anybody",
        broken_by="a logout that only clears the cookie in the browser, or instances that remember sessions",
        remedy="destroy the session in the shared store at logout, and ask that store at each request",
        guide=_STORE,
    ),
    Promise(
        id="session.fixation",
        sentence="Whoever knew, or planted, somebody's cookie before they logged in is not logged in with it afterwards.",
        measured="the cookies a person holds when the log-in form is shown are copied; the person logs in, and the copy is shown "
        "to every instance",
        bound="no instance recognises the copy",
        broken_by="a log-in that marks the session of before as logged in, instead of beginning another",
        remedy="give the session a new id at every log-in (express-session: req.session.regenerate; Django does it by itself)",
        guide=_STORE,
    ),
    Promise(
        id="session.counter",
        sentence="What is counted in a session counts every step once, whichever instances take them.",
        measured="several browsers of one person raise the counter of their session (journey.counter, which takes count) through "
        "every instance at the same time",
        bound="the last count is the first one and one for each acknowledged step; no count is told twice",
        broken_by="an application that reads the number, adds to it, and writes it back",
        remedy="have the store add: HINCRBY in Redis, UPDATE ... SET n = n + 1; or lock the session while a request changes it",
        guide=_STORE,
    ),
    Promise(
        id="session.concurrent-writes",
        sentence="Two things that are put into one session at the same time are both there afterwards.",
        measured="two browsers of one person each put something into their session (journey.remember) through different "
        "instances at the same time, again and again; then each is looked for (journey.recall)",
        bound="everything that was acknowledged is found",
        broken_by="a session that is read as a whole when a request begins and written as a whole when it ends",
        remedy="keep what changes by itself in a field of its own (a Redis hash, a table), or lock the session while a request "
        "changes it",
        guide=_STORE,
    ),
    Promise(
        id="session.ttl",
        sentence="A session that is used goes on, and one that nobody uses ends when it is said to, on every instance alike.",
        measured="people on each instance go on using their session for longer than it lives unused (sessions.ttl_seconds), and "
        "others leave theirs alone for as long",
        bound="nobody who used their session in time is logged out, and nobody else is still logged in",
        broken_by="a life that is counted from the log-in, or that differs from instance to instance",
        remedy="renew the session at each use (express-session: rolling; Django: SESSION_SAVE_EVERY_REQUEST), with the same "
        "setting on every instance",
        guide=_STORE,
    ),
    Promise(
        id="session.aborted-request",
        sentence="Whoever leaves in the middle of a request is still logged in.",
        measured="people ask for pages and change things through the balancer and close the connection before they are answered; "
        "then they are looked up on every instance",
        bound="everybody who was known everywhere before is known everywhere afterwards",
        broken_by="a session that gets a new id at each use and gives up the old one before the new one has arrived; a lock that "
        "is left behind",
        remedy="let the old id be good for a moment after a new one was given, or change it at log-ins only",
        guide=_STORE,
    ),
    Promise(
        id="session.overload",
        sentence="Whoever meets an instance that has too much to do is told so, and is still logged in.",
        measured="one instance is given more slow requests than it works on at once (app.overloaded_at, app.slow); people who are "
        "logged in ask it meanwhile, and afterwards",
        bound="nobody is answered as logged out, meanwhile or afterwards",
        broken_by="error pages that clear the cookie, or an overload that is answered with the log-in page",
        remedy="answer an overload with 503 or 429 and Retry-After, and touch no cookie in an error",
        guide="Best Practices: DO 5",
    ),
    Promise(
        id="csrf.cross-instance",
        sentence="A form that one instance gave can be posted to any other.",
        measured="for each ordered pair of instances a person takes a token from the one and writes (journey.write) through the "
        "other",
        bound="every instance accepts the tokens of every other",
        broken_by="CSRF tokens kept in the memory of one instance, or made with a secret of its own",
        remedy="one CSRF secret for all instances, or the token in the shared session",
        guide="Scaling Checklist: same SESSION_KEY and CSRF_SECRET",
    ),
    Promise(
        id="login.cross-instance",
        sentence="A log-in that began on one instance can be finished on any other.",
        measured="for each ordered pair of instances a person gets the log-in form from the one, posts it to the other and goes on "
        "at a third; so does whoever wanted a page before logging in (journey.detour)",
        bound="everybody is logged in, and comes to the page they wanted",
        broken_by="the state of a log-in (OAuth, OIDC), the page that was wanted, or a message for the next page in the memory of "
        "one instance",
        remedy="keep such things in the shared session, or in a signed cookie or field",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="cookie.flags",
        sentence="The cookie of a session is kept from scripts, from other sites, and over https from being shown in clear.",
        measured="the cookies of people who log in through the balancer; which of them make the session is seen by leaving one out",
        bound="HttpOnly, SameSite (Lax or Strict) and, where the setup has TLS, Secure",
        broken_by="a framework's defaults, or an application that does not know that people came over https",
        remedy="set the flags where the session's cookie is set; let the application believe X-Forwarded-Proto of its balancer",
        guide=_STORE,
    ),
    Promise(
        id="isolation.identity",
        sentence="Nobody is ever shown a page of somebody else.",
        measured="many people browse at the same time through the balancer, on fresh and reused connections; every body is read "
        "to its end and searched for the names of all others",
        bound="no page names anybody but who asked for it",
        broken_by="a page cached under its address alone, at the balancer or in the application, or a global that two requests "
        "share",
        remedy="never cache pages of people who are logged in (Cache-Control: no-store or private); keep what belongs to a request "
        "with the request",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="distribution.complete",
        sentence="Every instance gets traffic, and nobody else answers.",
        measured="the instances that answered requests sent through the balancer, each on its own connection",
        bound="every instance of the setup appears and no other",
        broken_by="an instance missing from the balancer's pool, or marked down for long",
        remedy="list every instance at the balancer: leave balancer.pool out, or complete it",
        guide=f"{_TESTING}: 3. Test Load Distribution",
    ),
    Promise(
        id="distribution.share",
        sentence="Load is spread as the balancer's algorithm promises.",
        measured="round robin: the counts; least_conn: at how many choices the chosen instance had 2 or more requests "
        "in flight above the least loaded one",
        bound=bounds.SHARE_IN_WORDS,
        broken_by="a wrong weight, accidental stickiness, an instance missing from the pool or often marked down",
        remedy="check weights, the algorithm, and for how long the balancer leaves an instance out",
        guide="Common Issues: Uneven load distribution",
    ),
    Promise(
        id="distribution.drained",
        sentence="An instance that is taken out at the balancer gets nothing more, and what it had is finished.",
        measured="open-loop traffic on fresh and reused connections, with slow requests in flight, while one instance is taken out "
        "at the balancer and put back",
        bound=bounds.DRAINED_IN_WORDS,
        broken_by="a balancer that still sends people there who are bound to it by a cookie, or that was not told to read its "
        "configuration again",
        remedy="take it out for everybody (nginx: `down` and a reload; HAProxy: `set server ... state maint`), and wait until "
        "what it has is answered",
        guide=_DEPLOYMENT,
    ),
    Promise(
        id="distribution.late-joiner",
        sentence="An instance that joins the others late is not given more at once than it can bear.",
        measured="an instance is stopped and started again under traffic; at each request it is given after it was ready, what it has in "
        "flight is held against its share of all that is",
        bound=bounds.JOIN_IN_WORDS,
        broken_by="an instance that is slow at first, behind a balancer that chooses in turn",
        remedy='say ready when caches and pools are filled; choose by what is in flight (balancer.algorithm = "least_conn"); '
        "HAProxy: `slowstart`",
        guide=_BALANCING,
    ),
    Promise(
        id="failover.kill",
        sentence="When an instance dies without warning, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is killed, and (where it has a memory limit of "
        "its own) while one runs out of memory",
        bound=bounds.KILL_IN_WORDS,
        broken_by="a balancer that does not try another instance, or never takes the dead one out",
        remedy=f"{_TRY_ANOTHER}; {_NOTICE}; a short balancer.connect_timeout_seconds, where an address is gone with its "
        "instance",
        guide=f"{_TESTING}: 4. Test Failover",
    ),
    Promise(
        id="failover.stop",
        sentence="When an instance is stopped, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is told to stop",
        bound=bounds.STOP_IN_WORDS,
        broken_by="an application that cuts what is in flight, or a balancer that does not try another instance",
        remedy=f"finish what is in flight on the stop signal; {_TRY_ANOTHER}",
        guide=f"{_TESTING}: 4. Test Failover",
    ),
    Promise(
        id="failover.hang",
        sentence="When an instance stops answering but keeps its connections, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance is frozen",
        bound=bounds.HANG_IN_WORDS,
        broken_by="a long read timeout at the balancer, or a balancer that never takes an instance out",
        remedy=f"balancer.read_timeout_seconds just above the slowest honest answer; {_TRY_ANOTHER}; {_NOTICE}",
        guide="Best Practices: DO 5",
    ),
    Promise(
        id="failover.partition",
        sentence="When an instance is cut off from the network, requests go on being answered.",
        measured="open-loop traffic through the balancer while one instance runs on without a network: once in silence, once "
        "with every connection refused",
        bound=bounds.PARTITION_IN_WORDS,
        broken_by="a long connect or read timeout at the balancer, or a balancer that does not try another instance",
        remedy="balancer.connect_timeout_seconds of a second or less, balancer.read_timeout_seconds just above the slowest "
        f"honest answer; {_TRY_ANOTHER}",
        guide="Best Practices: DO 5",
    ),
    Promise(
        id="failover.new-address",
        sentence="An instance that comes back under a new address is used again, and nobody else answers in its place.",
        measured="open-loop traffic through the balancer while one instance is replaced by one under another address, until it "
        "answers there; who answers says the application itself, where app.instance_header names its header",
        bound=bounds.NEW_ADDRESS_IN_WORDS,
        broken_by="a balancer that looks up the names of instances only once, at its start",
        remedy='balancer.resolve = "always"; or "when-told", where whoever replaces an instance reloads the balancer',
        guide="Deployment Strategies: Zero-Downtime Deployment: 2. Using Docker",
    ),
    Promise(
        id="failover.rejoin",
        sentence="An instance that has returned is used again, and only when it can answer.",
        measured="traffic goes on after each fault is healed, until the returned instance answers through the balancer",
        bound=bounds.REJOIN_IN_WORDS,
        broken_by="a balancer that leaves it out for long, or an instance that says ready before it is",
        remedy="leave an instance out for less long (nginx: balancer.fail_timeout_seconds; HAProxy: "
        "balancer.check_interval_seconds and balancer.rise); /ready true only when requests can be served",
        guide="Health Checks",
    ),
    Promise(
        id="failover.error-burst",
        sentence="When what all instances need is back, people are served again, however many errors there were meanwhile.",
        measured="the database is stopped, and people ask through the balancer for what needs it; when every instance, asked directly, "
        "does it again, they ask until they are served",
        bound=bounds.BURST_IN_WORDS,
        broken_by="a balancer that takes answers of the application for failures of an instance, takes all of them out for that, and "
        "leaves them out for long",
        remedy="leave answers of the application out of what counts (nginx: no http_500 or http_503 in balancer.next_upstream), and use an "
        "instance again soon (balancer.fail_timeout_seconds; HAProxy: balancer.rise)",
        guide=_BALANCING,
    ),
    Promise(
        id="rollout.rolling",
        sentence="A new version reaches every instance and nobody loses a request or a session.",
        measured="open-loop traffic on fresh and reused connections, with slow requests in flight, while the rollout replaces the instances",
        bound="no failed request, none cut in flight, no session lost, the new version on every instance",
        broken_by="instances replaced together, /ready true before warm-up, a listener closed before the balancer knows",
        remedy="one instance at a time: drain at the balancer, stop, start, wait until ready, enable",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="rollout.bad-version",
        sentence="A version that never becomes healthy is taken back by itself, and nobody meets it.",
        measured="a version made to stay unhealthy (rollout.bad_env) is rolled out under open-loop traffic",
        bound=bounds.TAKEN_BACK_IN_WORDS,
        broken_by="no health check, so that a started container counts as a healthy one; an update that pauses or goes on",
        remedy="give the service a health check that asks the ready path, and let a failed update be rolled back",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="rollout.capacity",
        sentence="While a new version comes there are always as many instances in use as the load needs.",
        measured="the steps of the rollout, from the drain of each instance until it is in use again; whatever load there is meanwhile",
        bound="at no moment fewer instances in use than rollout.at_least says (not given: all but one)",
        broken_by="several instances replaced at the same time, or the next one before the last is back",
        remedy='replace one at a time (rollout.batch = 1, rollout.gate = "ready"), or start the new ones first',
        guide="Best Practices: DON'T 6",
    ),
    Promise(
        id="rollout.session-format",
        sentence="Sessions of the old version and of the new one are understood by both, so that no rollout, and none that is taken "
        "back, logs anybody out.",
        measured="one instance is replaced by the new version; people who logged in on the old one are looked up on the new one and on "
        "the old one again, people who logged in on the new one on the old one, and all of them when the new version was taken back",
        bound="everybody is recognised each time",
        broken_by="a new version that keeps sessions in another form: the old one reads nothing, or the new one does not read what was "
        "there",
        remedy="change the form of sessions in two rollouts: first a version that reads both and writes the old one, then one that writes "
        "the new one",
        guide="Common Issues: Sessions lost after deployment",
    ),
    Promise(
        id="rollout.assets",
        sentence="While two versions are there, a page of either finds its stylesheets, scripts and images on every instance.",
        measured="one instance is replaced by the new version; what the page app.assets of each instance names is asked of every instance",
        bound="each of them is had from every instance",
        broken_by="names that differ from build to build, where each instance has the files of its own build alone",
        remedy="put the files of every build where all instances find them, or before the balancer (object storage, a CDN), before the first "
        "new instance comes; keep those of the last builds",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="rollout.bluegreen",
        sentence="A switch to a second set of instances, and back again, costs nobody a request or a session.",
        measured="open-loop traffic on fresh and reused connections, with slow requests in flight, while the new version is started "
        "beside the old one, the balancer is switched to it, and switched back",
        bound="no failed request, none cut in flight, no session lost; after each switch only the set that was switched to answers",
        broken_by="a switch before the other set is ready; the set that was left removed while it still answers",
        remedy='wait until all of the new set is ready (rollout.gate = "ready"), switch, and keep the old one until it has answered '
        'what it had (rollout.drain = "balancer-first")',
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="shutdown.inflight",
        sentence="Requests in flight are finished when an instance is told to stop.",
        measured="slow requests are sent to one instance directly, which is then told to stop while they run",
        bound="every request that was in flight is answered completely",
        broken_by="an application that exits at once on its stop signal, or is killed before it has finished",
        remedy="on the stop signal refuse new work and finish what is in flight; give it time before it is killed",
        guide="Best Practices: DO 9",
    ),
    Promise(
        id="shutdown.signal",
        sentence="An instance that is told to stop ends by itself, and says that all is well.",
        measured="one instance is sent its stop signal (app.stop_signal) while it is asked directly and has requests in flight",
        bound="it ends within app.stop_within_seconds without being killed, with one of app.stop_exit_codes",
        broken_by="a shell as process 1 of a container, which hands no signal on; an application that ignores the signal, or "
        "ends with an error",
        remedy='start the application itself: the exec form of CMD (["server"], not "server"), `exec server` at the end of a script, '
        "or an init such as tini; handle app.stop_signal and exit with 0",
        guide="Best Practices: DO 9",
    ),
    Promise(
        id="shutdown.drain",
        sentence="An instance that is told to stop says so first, and sends nobody away who could not know.",
        measured="one instance is told to stop while it is asked, directly and often, whether it is ready (app.ready) and for a page, "
        "on new connections and on kept ones",
        bound=bounds.DRAIN_IN_WORDS,
        broken_by="a ready path that goes on saying yes; a listener closed with the signal; kept connections that are just ended",
        remedy="on the stop signal turn app.ready off, send Connection: close with each answer, go on accepting until balancers "
        "have noticed, and close the listener only then",
        guide="Deployment Strategies: Zero-Downtime Deployment",
    ),
    Promise(
        id="shutdown.long-request",
        sentence="Also the longest request is finished when its instance is told to stop.",
        measured="requests that each take app.longest_seconds are sent to one instance directly, which is then told to stop",
        bound="every one of them is answered completely",
        broken_by="a time for stopping that is shorter than the longest request: the application's own, or whoever kills it after "
        "that",
        remedy="give the application, and whoever kills it after that, more time than the drain and the longest request take together; "
        "or put long work into a queue",
        guide="Best Practices: DO 9",
    ),
    Promise(
        id="shutdown.streams",
        sentence="Streams that nobody ends do not keep an instance from stopping.",
        measured="people are connected to one instance by WebSocket (app.websocket) and by server-sent events (app.events), and say "
        "nothing; it is told to stop",
        bound="it ends its streams and itself within app.stop_within_seconds, without being killed",
        broken_by="a server that waits for every connection to end, also for those that never do",
        remedy="on the stop signal end every stream with a word (WebSocket: close code 1001 or 1012; server-sent events: the end of "
        "the answer), so that clients connect to another instance",
        guide=f"{_BALANCING}: WebSocket support",
    ),
    Promise(
        id="orchestrator.heals",
        sentence="A replica that dies is replaced without anybody's help, and the others answer meanwhile.",
        measured="open-loop traffic through the balancer while the container of one replica is killed",
        bound=bounds.HEAL_IN_WORDS,
        broken_by="a restart policy that does not restart, or a long delay; a balancer that looks names up only once",
        remedy="restart on any exit after a short delay; have the balancer look the replicas up again and again",
        guide=_ORCHESTRATION,
    ),
    Promise(
        id="orchestrator.scales",
        sentence="Replicas are added and removed under traffic, and nobody loses a request or a session.",
        measured="open-loop traffic, with slow requests in flight, while the number of replicas is doubled and halved again",
        bound=bounds.SCALE_IN_WORDS,
        broken_by="a balancer that looks names up only once, sessions in memory, an application that exits at once",
        remedy="have the balancer look the replicas up again and again; finish what is in flight on the stop signal",
        guide=_ORCHESTRATION,
    ),
    Promise(
        id="tls.redirect",
        sentence="Whoever comes over http is sent to the same page over https, and loses nothing they have posted.",
        measured="the balancer is asked over http to read and to post, with a path and a query",
        bound=bounds.REDIRECT_IN_WORDS,
        broken_by="a balancer that serves http as well, or redirects a POST with a status after which browsers ask with GET",
        remedy="redirect everything: balancer.tls.redirect = 308",
        guide=f"{_BALANCING}: Redirect to HTTPS",
    ),
    Promise(
        id="tls.versions",
        sentence="Connections are made with TLS that is still secure, and with HTTP/2 for whoever offers it.",
        measured="handshakes with the balancer that offer one version each, with weak ciphers allowed for the old ones, and one "
        "that offers HTTP/2; then one request in HTTP/2. The certificate must be signed by the authority of the run",
        bound=bounds.VERSIONS_IN_WORDS,
        broken_by="old versions left on for old clients, or HTTP/2 left off",
        remedy='balancer.tls.versions = ["1.2", "1.3"]; balancer.tls.http2 = true',
        guide=f"{_BALANCING}: listen 443 ssl http2",
    ),
    Promise(
        id="headers.everywhere",
        sentence="Every answer carries the security headers, whoever made it, also when it is an error.",
        measured="a page and a missing page of each instance through the balancer, an answer over http, and the balancer's own "
        "error while every instance is taken out",
        bound="X-Frame-Options, X-Content-Type-Options and, over https where balancer.tls.hsts_seconds is given, "
        "Strict-Transport-Security on each of them",
        broken_by="headers that are only added to answers that are no errors, or only to those an instance made",
        remedy='balancer.tls.security_headers = "always" (nginx: `add_header ... always`; HAProxy: `http-after-response`)',
        guide=f"{_BALANCING}: Security headers",
    ),
    Promise(
        id="edge.proto",
        sentence="The application knows that people came over https.",
        measured="each instance is asked through the balancer over https what it believes of the request (app.forwarded)",
        bound="every instance says https",
        broken_by="a balancer that does not tell, or an application that does not listen: links, redirects and cookies are then "
        "made for http",
        remedy='balancer.tls.forward with "X-Forwarded-Proto" in it; let the application believe its balancer',
        guide=f"{_BALANCING}: Pass original headers",
    ),
    Promise(
        id="edge.client-ip",
        sentence="The application knows the address a person came from.",
        measured="each instance is asked through the balancer what it believes (app.forwarded), natively from two addresses of "
        "this machine; the truth is the address the balancer saw",
        bound="every instance names the address the balancer saw, also in X-Real-IP where it tells that",
        broken_by="a balancer that does not tell: to a limit on requests, or a log, everybody is then one and the same",
        remedy='balancer.tls.forward with "X-Forwarded-For" and "X-Real-IP" in it; let the application believe its balancer',
        guide=f"{_BALANCING}: Pass original headers",
    ),
    Promise(
        id="edge.forged-headers",
        sentence="Nobody can make the application believe that they came from elsewhere.",
        measured="each instance is asked through the balancer by a client that claims another address and scheme in "
        "X-Forwarded-For, X-Real-IP, Forwarded and X-Forwarded-Proto",
        bound="no instance believes any of it",
        broken_by="an application that believes the first address in X-Forwarded-For, which is the client's own word; a "
        "balancer that hands on such headers as they came",
        remedy="believe as many addresses from the end of X-Forwarded-For as there are balancers of your own; have the balancer "
        "set the others anew (balancer.tls.forward)",
        guide=f"{_BALANCING}: Pass original headers",
    ),
    Promise(
        id="files.cross-instance",
        sentence="A file that was handed in through one instance can be had from every other.",
        measured="a person for each instance hands a file in there (journey.upload) and gets it back through each of them "
        "(journey.download), asked directly",
        bound="every acknowledged file is given back by every instance, with what was in it",
        broken_by="files on the disk of the instance that took them",
        remedy="keep files where all instances reach them: object storage such as S3, the database, or a volume they share",
        guide="Best Practices: DON'T 3",
    ),
    Promise(
        id="ids.unique",
        sentence="A number that was given to one person is given to nobody else, whichever instance gives it.",
        measured="many people on each instance are given numbers (journey.number) at the same time",
        bound="no number is given twice",
        broken_by="a counter in the memory of each instance",
        remedy="have the database give the numbers (a sequence, an identity column), or use random ids (UUID)",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="ratelimit.shared",
        sentence="A limit holds for all instances together.",
        measured="one person after the other does what is limited (journey.limited, app.rate_limit), more often through each "
        "instance than all together allow, all at the same time",
        bound="no more are accepted than the limit in one window; a person at its end may be accepted twice as often, the "
        "next one may not",
        broken_by="a limiter that counts in the memory of each instance",
        remedy="count where all instances look: in Redis (INCR and EXPIRE), in the database, or at the balancer",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="post.idempotency-key",
        sentence="A request that is sent again with the same key has one effect, whichever instance it reaches.",
        measured="the same key is sent through every instance (journey.once), first one after the other, then through all at "
        "the same time",
        bound="every answer to one key names the same effect, or says that the key was used",
        broken_by="keys remembered in the memory of each instance, or looked up before they are written down",
        remedy="write the key and its effect down in one transaction, under a unique constraint all instances share",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="post.exactly-once",
        sentence="What is sent once has one effect at most, also when the instance that got it stops answering.",
        measured="many people raise a number of their own (journey.tally) once, through the balancer, while one instance hangs; when it has "
        "gone on each number is looked at",
        bound="no number was raised twice, and each whose raising was acknowledged was raised",
        broken_by="a balancer that sends a POST to another instance when the first one does not answer: both may do it",
        remedy="let the balancer try only what may be done twice (nginx: no non_idempotent in balancer.next_upstream; HAProxy: "
        "balancer.retry_writes = false)",
        guide=f"{_BALANCING} (proxy_next_upstream)",
    ),
    Promise(
        id="consistency.unique",
        sentence="Of two people who ask for the same name at the same moment, one gets it.",
        measured="the same account is registered (journey.register) through all instances at the same time, again and again "
        "with others",
        bound="one registration of a name is acknowledged at most",
        broken_by="an application that looks whether a name is free, and writes it afterwards",
        remedy="a unique constraint in the database, and its refusal told to the person",
        guide="Step 1: Configure PostgreSQL (Shared Database)",
    ),
    Promise(
        id="consistency.counter",
        sentence="A number that many raise at the same time counts every one of them.",
        measured="many people raise one number (journey.tally) through every instance at the same time",
        bound="afterwards it has been raised as often as was acknowledged",
        broken_by="an application that reads a number, adds to it, and writes it back",
        remedy="have the database add: UPDATE ... SET n = n + 1, INCR in Redis; or lock the row that is read",
        guide="Step 1: Configure PostgreSQL (Shared Database)",
    ),
    Promise(
        id="jobs.once",
        sentence="What is to be done at regular times is done once, and not once by each instance.",
        measured="the application tells which jobs were run, for which time and by whom (app.jobs); several times are seen",
        bound="no time has more than one run",
        broken_by="a scheduler that runs in each instance",
        remedy="claim each run in the database (a unique constraint on its time), or let a lock that expires choose who runs",
        guide="Why It Works: Stateless Handlers",
    ),
    Promise(
        id="jobs.failover",
        sentence="When the instance that did the regular jobs is lost, another one does them.",
        measured="the instance that ran the last job is killed, and another one is asked what was run (app.jobs)",
        bound=bounds.JOBS_RESUME_IN_WORDS,
        broken_by="a leader that is chosen once, or a lock that is never given back",
        remedy="a lock that expires unless it is renewed, or a claim on each run in the database",
        guide="Best Practices: DO 8",
    ),
    Promise(
        id="ws.fanout",
        sentence="What one person says is heard by everybody who is connected, whichever instance they are connected to.",
        measured="two people are connected to each instance by WebSocket (app.websocket); one of the two says something",
        bound=bounds.HEARD_IN_WORDS,
        broken_by="messages that are handed on within the process that got them",
        remedy="hand them on through what all instances share: publish/subscribe in Redis, LISTEN and NOTIFY in Postgres, a queue",
        guide=f"{_BALANCING}: WebSocket support",
    ),
    Promise(
        id="keepalive.idle-race",
        sentence="No request is sent on a connection that the instance is about to end.",
        measured="each instance is asked once on a connection that is then left idle, for as long as the balancer would keep it "
        "(balancer.keepalive_seconds)",
        bound="no instance ends an idle connection before the balancer does, unless it had said so with its answer",
        broken_by="an application server that ends idle connections sooner (5 s in many) than the balancer (60 s in nginx)",
        remedy="have the application keep idle connections for longer than the balancer: its keep-alive timeout above "
        "balancer.keepalive_seconds",
        guide="Best Practices: DO 5",
    ),
    Promise(
        id="boot.n-way",
        sentence="All instances can start at the same moment, also on an empty database.",
        measured="all instances are stopped, the database is emptied, and all are started at once; when the setup was booted as "
        "well",
        bound="every instance becomes ready at its first start",
        broken_by="migrations that every instance runs at its start, and that cannot run twice at the same time",
        remedy="run migrations once, before the instances start; or under a lock (pg_advisory_lock)",
        guide="Step 4: Run Multiple Instances",
    ),
    Promise(
        id="ready.truthful",
        sentence="An instance that cannot serve does not say that it is ready.",
        measured="the database is stopped; every instance is asked to do what needs it, and whether it is ready (app.ready)",
        bound=bounds.READY_IN_WORDS,
        broken_by="a ready path that answers 200 whatever is away",
        remedy="have the ready path ask the database and the session store, with a short timeout; have the health path ask nobody",
        guide="Health Checks",
    ),
    Promise(
        id="errors.status",
        sentence="What could not be done is not answered as if it had been.",
        measured="the database is stopped; every instance is asked to do what needs it",
        bound="no such answer has a status that means success",
        broken_by="an error page that is sent with status 200",
        remedy="send errors with their status (503 and Retry-After where something is away): balancers, probes and programs read "
        "nothing else",
        guide="Health Checks",
    ),
    Promise(
        id="lb.reload",
        sentence="The balancer is reloaded under traffic, and nobody notices.",
        measured="open-loop traffic on fresh and reused connections, with slow requests in flight, while the balancer is told to read its "
        "configuration again (balancer.reload)",
        bound=bounds.RELOAD_IN_WORDS,
        broken_by="a reload that is a restart: for a moment nobody listens, and what is in flight is cut",
        remedy='balancer.reload = "graceful": `nginx -s reload`, `systemctl reload haproxy` (master-worker mode), never a restart',
        guide=_DEPLOYMENT,
    ),
    Promise(
        id="lb.reload-streams",
        sentence="A download that is under way when the balancer is reloaded comes to its end.",
        measured="downloads that come bit by bit (app.download) are under way while the balancer is told to read its configuration "
        "again",
        bound="every download that was under way is finished",
        broken_by="a balancer that ends its old processes before they have finished what they have",
        remedy="give old processes more time than the longest download takes: balancer.reload_patience_seconds (nginx: "
        "worker_shutdown_timeout; HAProxy: hard-stop-after)",
        guide=_DEPLOYMENT,
    ),
    Promise(
        id="lb.kill",
        sentence="When the balancer dies and is started again, people are served again, and are still logged in.",
        measured="the balancer is killed under traffic, and started again as whoever keeps it running would (balancer.restart)",
        bound=bounds.BALANCER_IN_WORDS,
        broken_by="a balancer that nobody starts again, or only after a while; or one that knew alone who belongs where",
        remedy="have it started again at once when it dies: balancer.restart (systemd: Restart=always, RestartSec=; containers: "
        "restart: unless-stopped); a second balancer with a floating address where no second may be lost",
        guide=_ORCHESTRATION,
    ),
    Promise(
        id="health.lb-view",
        sentence="What the balancer thinks of each instance is true, also when one has died, and when it is back.",
        measured="the balancer's own word on each instance (HAProxy: its runtime socket) beside the answers of the instances themselves, "
        "while one is killed and started again; nginx has no opinion that could be read",
        bound=bounds.VIEW_IN_WORDS,
        broken_by="health checks that ask the wrong path, or too seldom",
        remedy="have the checks ask the path that says whether an instance wants traffic (balancer.check_path), often enough "
        "(balancer.check_interval_seconds, balancer.fall, balancer.rise)",
        guide="Health Checks",
    ),
    Promise(
        id="affinity.owner-dies",
        sentence="People whom a cookie binds to an instance are served by another when it dies, and are still logged in.",
        measured="people log in and browse through the balancer, which binds them by a cookie (balancer.sticky_cookie); one instance is "
        "killed",
        bound=bounds.MOVED_IN_WORDS,
        broken_by="a balancer that sends people to the instance their cookie names although it is down; sessions in the memory of that "
        "instance",
        remedy="let the balancer move them (HAProxy: no `force-persist`, `option redispatch`), and keep sessions where every instance "
        "finds them",
        guide=_STORE,
    ),
)

CATALOGUE: Mapping[str, Promise] = MappingProxyType({promise.id: promise for promise in _ALL})


def promise(promise_id: str) -> Promise:
    """The promise with this id. Raises KeyError."""
    return CATALOGUE[promise_id]


def matching(pattern: str) -> tuple[str, ...]:
    """The ids a glob such as `failover.*` stands for, in the catalogue's order."""
    return tuple(promise_id for promise_id in CATALOGUE if fnmatchcase(promise_id, pattern))


def as_markdown() -> str:
    """The page on the promises, as it stands in docs/promises.md."""
    groups = dict.fromkeys(promise_id.partition(".")[0] for promise_id in CATALOGUE)
    lines = [_PAGE]
    for group in groups:
        lines += [f"## {_GROUPS[group]}", ""]
        for promise_id in matching(f"{group}.*"):
            each = CATALOGUE[promise_id]
            lines += [
                f"### `{each.id}`",
                "",
                each.sentence,
                "",
                f"- **measured**: {each.measured}",
                f"- **bound**: {each.bound}",
                f"- **usually broken by**: {each.broken_by}",
                f"- **usually mended by**: {each.remedy}",
                f"- **guide**: {each.guide}",
                "",
            ]
    return "\n".join(lines)


_PAGE = f"""\
# Promises

What a setup promises its users, and how it is judged. A promise is judged only when it was really tested: else its
verdict is inconclusive, which is no pass. `--only 'failover.*'` chooses, `[promises.waived]` in the setup file says which
ones you do not make, with your reason.

The bounds are promises to people. They are never scaled by the speed of the machine. Requests are counted from when they
were due; fresh and reused connections are told apart. Fewer than {bounds.EACH_PHASE} requests before, during or after a
fault test nothing.

This page is made from the catalogue: `harness promises --markdown > docs/promises.md`.
"""
_GROUPS = {
    "instances": "Are all instances up, and are they one application?",
    "logs": "Do instances write of trouble?",
    "session": "Do people stay logged in, and do they stay logged out?",
    "csrf": "Is a form that one instance gave good for all of them?",
    "login": "Is a log-in that one instance began good for all of them?",
    "cookie": "Is a session's cookie guarded?",
    "isolation": "Does everybody see their own pages alone?",
    "distribution": "Does load spread?",
    "failover": "Is the loss of an instance survived?",
    "rollout": "Does a deploy cost anybody a request?",
    "shutdown": "Does an instance go in order, with everything finished?",
    "orchestrator": "Does whoever keeps the replicas running do so?",
    "tls": "Is the way in secure?",
    "headers": "Is every answer as guarded as the others?",
    "edge": "Does the application know who comes, and how?",
    "files": "Is a file that one instance took everybody's?",
    "ids": "Is a number given once?",
    "ratelimit": "Is a limit one limit?",
    "post": "Is what is sent twice done once?",
    "jobs": "Is what is done regularly done, and once?",
    "ws": "Are all who are connected in one room?",
    "keepalive": "Are idle connections ended in the right order?",
    "boot": "Do all come up?",
    "ready": "Is what instances say of themselves true?",
    "errors": "Are errors told as errors?",
    "health": "Does the balancer know how the instances are?",
    "affinity": "Is whoever is bound to an instance free when it dies?",
    "lb": "Can the balancer be looked after without anybody's notice?",
    "consistency": "Does what happens at the same time end as if it had not?",
}


NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "instances": "it asks single instances, which this platform does not let one do",
        "names": "it is not known which instances there are",
        "visits": "people are looked up on instances, which this platform does not let one do",
        "kill": "its instances are not the harness's to kill",
        "stop": "its instances are not the harness's to stop",
        "hang": "its instances are not the harness's to freeze",
        "signals": "how an instance ends after it was told to stop cannot be watched there",
        "balancer": "its balancer is not the harness's to break",
        "headers": "not every kind of answer can be had there, such as the balancer's own errors",
        "overload": "nobody is given more than is sent to it anyway",
        "take-back": "its instances are not the harness's to put back to the version of before",
        "new-version": "its instances are not the harness's to replace",
        "database": "its database is not the harness's to stop or to empty",
        "cut-off": "its nodes have no network of their own to be cut off from: --platform docker has",
        "out-of-memory": "its nodes have no memory limit of their own: --platform docker gives them one",
        "new-address": "its instances keep their addresses: --platform docker gives them new ones",
        "tls": "its balancer has certificates of its own, which the harness has no reason to believe",
        "reload": "its balancer is not the harness's to reload, or to take an instance out at",
        "orchestrator": "nobody but the harness itself replaces instances there: --platform swarm does",
    }
)
"""What a scenario may need of a platform, and why a promise is not judged where it is missing."""


def why_left_out(need: str, platform: str) -> str:
    """Why a promise that needs this is not judged on a platform that has it not."""
    return f"{platform}: {NEEDS[need]}"
