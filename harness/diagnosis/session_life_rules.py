"""Rules about what a session keeps, who else gets hold of it, and what costs somebody theirs.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Where sessions themselves are known
to some instances only, whatever else fails between two of them follows from that. Must not: conclude from the absence of a
look that nobody took.
"""

from __future__ import annotations

from harness.checkers.evidence import listed, plural
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "balancer_caches_pages",
    "cookie_cleared_on_errors",
    "cookie_without_flags",
    "csrf_in_memory",
    "id_kept_at_login",
    "last_write_wins",
    "login_state_in_memory",
    "pages_shared",
    "session_counter_read_modify_write",
    "session_not_renewed",
    "session_renewed_without_grace",
    "session_ttl_differs",
]

_STEP_2 = "Step 2: Configure Persistent Session Storage"
_STATELESS = "Why It Works: Stateless Handlers"
_NOBODY = "(nobody)"


def last_write_wins(case: Case) -> Cause | None:
    """Changes that met another of the same session are gone, whatever they changed."""
    changes, steps = case.evidence("ChangesSurvive"), case.evidence("StepsAreCounted")
    everywhere = next((seen for seen in case.elsewhere("ChangesSurvive") if seen.get("lost_together")), None)
    if not changes.get("lost_together") and not (_miscounted(case) and everywhere is not None):
        return None
    seen = everywhere or changes
    evidence = [
        (
            f"of {seen['changes']} acknowledged changes {seen['lost']} were gone, {seen['lost_together']} of them made at the same "
            "time as another of the same session"
        )
    ]
    counted = steps or next(iter(case.elsewhere("StepsAreCounted")), {})
    if counted.get("lost") or counted.get("repeated"):
        evidence.append(f"steps of a counter in the session: {counted['lost']} lost, {counted['repeated']} repeated")
    alone = seen["lost"] == seen["lost_together"]
    return Cause(
        id="last-write-wins",
        sentence="a request that changes a session writes all of it, and takes back what another wrote meanwhile",
        confidence=Confidence.CERTAIN if alone and len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=() if alone else ("changes that met no other were lost as well",),
        remedy="change single fields in the store (a Redis hash, jsonb_set, a row each), or lock the session while a request "
        "changes it; with express-session set resave: false",
        guide=_STEP_2,
    )


def session_counter_read_modify_write(case: Case) -> Cause | None:
    """Steps of a counter are lost or told twice, while other changes that meet survive."""
    if not _miscounted(case):
        return None
    steps = case.evidence("StepsAreCounted")
    others = [seen for seen in case.elsewhere("ChangesSurvive") if seen.get("together")]
    if any(seen.get("lost") for seen in others):
        return None
    evidence = [f"of {steps['steps']} acknowledged steps {steps['lost']} were lost and {steps['repeated']} told twice"]
    if others:
        evidence.append(f"{others[0]['together']} other changes of sessions that met survived")
    return Cause(
        id="session-counter-read-modify-write",
        sentence="the counter is read, raised in the instance, and written back",
        confidence=Confidence.CERTAIN if others else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=() if others else ("whether other changes survive was not seen",),
        remedy="have the store add: HINCRBY in Redis, UPDATE ... SET n = n + 1 in a database",
        guide=_STEP_2,
    )


def _miscounted(case: Case) -> bool:
    steps = case.evidence("StepsAreCounted")
    return bool(steps.get("lost") or steps.get("repeated"))


def id_kept_at_login(case: Case) -> Cause | None:
    """What was known before the log-in is logged in after it."""
    seen = case.evidence("OldIdIsNobody")
    if not seen.get("accepted"):
        return None
    evidence = [f"cookies copied before the log-in were accepted after it by {listed(sorted(seen['accepted_by']))}"]
    if seen["kept"]:
        evidence.append(f"the log-in left {listed(sorted(seen['kept']))} as it was")
    return Cause(
        id="id-kept-at-login",
        sentence="the session keeps its id when somebody logs in",
        confidence=Confidence.CERTAIN if seen["kept"] else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="begin a new session at the log-in and end the old one (express-session: req.session.regenerate; Flask-Login: "
        "session_protection; PHP: session_regenerate_id)",
        guide=_STEP_2,
    )


def session_not_renewed(case: Case) -> Cause | None:
    """People are thrown out although they used their session, on every instance, one life after their log-in."""
    seen = case.evidence("LifeIsKept")
    thrown_out, renewed = seen.get("thrown_out"), seen.get("renewed")
    first = seen.get("first_thrown_out_seconds")
    if not thrown_out or renewed or first is None:
        return None
    evidence = [
        (
            f"{plural(sum(thrown_out.values()), 'person')} were logged out although they had just used their session, on "
            f"{listed(sorted(thrown_out))}"
        ),
        f"the first {first:.1f} s after the log-in; a session lives {seen['ttl_seconds']:g} s",
    ]
    at_its_end = first >= 0.75 * seen["ttl_seconds"]
    return Cause(
        id="session-not-renewed",
        sentence="a session ends so long after the log-in, whether or not it is used",
        confidence=Confidence.CERTAIN if at_its_end and len(thrown_out) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=() if at_its_end else ("it ended well before its life was over",),
        remedy="renew the session at each use: EXPIRE with each read in Redis; express-session: rolling: true; Django: "
        "SESSION_SAVE_EVERY_REQUEST = True",
        guide=_STEP_2,
    )


def session_ttl_differs(case: Case) -> Cause | None:
    """Some instances end sessions at another time than the others do."""
    own = case.evidence("LifeIsKept")
    seen = own or next(iter(case.elsewhere("LifeIsKept")), {})
    wrong = {name for word in ("thrown_out", "outlived") for name in seen.get(word, ())}
    right = {name for word in ("renewed", "ended") for name in seen.get(word, ())} - wrong
    if not wrong or not right or not (own or case.differs("config")):
        return None
    evidence = [f"sessions end when they are said to on {listed(sorted(right))}, and not on {listed(sorted(wrong))}"]
    differs = "config" in case.differing
    if differs:
        evidence.append("the instances tell different configurations")
    return Cause(
        id="session-ttl-differs",
        sentence="sessions do not live equally long on all instances",
        confidence=Confidence.CERTAIN if differs else Confidence.LIKELY,
        evidence=tuple(evidence),
        against=("the instances tell the same configuration",) if "config" in case.agreed else (),
        remedy="give every instance the same setting: app.env for all, nothing of it in app.instance_env",
        guide="Best Practices: DO 10, DON'T 5",
    )


def csrf_in_memory(case: Case) -> Cause | None:
    """Tokens of forms are good for the instance that made them, and for no other."""
    posted, log_in = case.evidence("TokenIsAcceptedElsewhere"), case.evidence("LoginCrossesInstances")
    if case.apart:
        return None
    tokens = next((seen for seen in case.elsewhere("TokenIsAcceptedElsewhere") if seen.get("refused")), None)
    if not posted.get("refused") and not (log_in.get("refused") and tokens is not None):
        return None
    seen = tokens or posted
    evidence = [
        (
            f"tokens were accepted by the instance that gave them, and refused by another for {seen['refused']} of "
            f"{seen['pairs_of']} pairs"
        )
    ]
    crossed = next((each for each in case.elsewhere("LoginCrossesInstances") if each.get("refused")), None)
    if crossed is not None:
        evidence.append(f"log-in forms as well, for {crossed['refused']} of {crossed['pairs_of']} pairs")
    if case.shared:
        evidence.append("sessions are recognised by every instance: it is the token alone")
    return Cause(
        id="csrf-in-memory",
        sentence="tokens of forms are kept in the memory of one instance, or made with a secret of its own",
        confidence=Confidence.CERTAIN
        if not seen["accepted"] and set(seen["statuses"]) <= {"403", "400", "419", "422"}
        else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='give every instance the same CSRF secret, such as app.env.CSRF_SECRET = "{secret}", or keep the token in the '
        "shared session",
        guide="Scaling Checklist: same SESSION_KEY and CSRF_SECRET",
    )


def login_state_in_memory(case: Case) -> Cause | None:
    """A log-in cannot be finished elsewhere although tokens and sessions are good everywhere."""
    seen = case.evidence("LoginCrossesInstances")
    if case.apart or not seen.get("refused"):
        return None
    tokens = [
        each for each in case.elsewhere("TokenIsAcceptedElsewhere") if each.get("accepted") or each.get("refused")
    ]
    if any(each.get("refused") for each in tokens):
        return None
    by_journey = seen["by_journey"]
    broken = [kind for kind, counts in by_journey.items() if counts["refused"]]
    evidence = [
        (
            f"{' and '.join(f'journey.{kind}' for kind in broken)} could be finished by the instance on which it began, and not by "
            f"another, for {seen['refused']} of {seen['pairs_of']} pairs"
        )
    ]
    if "login" in by_journey and "login" not in broken:
        evidence.append("without a page that was wanted before, log-ins are finished anywhere")
    if tokens:
        evidence.append("tokens of forms are accepted everywhere")
    if case.shared:
        evidence.append("sessions are recognised by every instance")
    return Cause(
        id="login-state-in-memory",
        sentence="what a log-in has to know of its beginning is in the memory of the instance on which it began",
        confidence=Confidence.CERTAIN if len(evidence) > 1 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="keep the state of a log-in (OAuth state and nonce, the page that was wanted, messages) in the shared session, or "
        "in a signed cookie or field",
        guide=_STATELESS,
    )


def cookie_without_flags(case: Case) -> Cause | None:
    """The session's cookie is set without what guards it."""
    seen = case.evidence("CookieIsGuarded")
    missing = seen.get("missing")
    if not missing:
        return None
    evidence = [f"{listed(seen['session_cookies'])} makes the session, and has no {listed(missing)}"]
    against = []
    if missing == ["Secure"] and any(each.get("wrong") for each in case.elsewhere("SchemeIsKnown")):
        against.append("the application does not know that people come over https: see edge.proto")
    return Cause(
        id="cookie-without-flags",
        sentence=f"the session's cookie is set without {listed(missing)}",
        confidence=Confidence.LIKELY if against else Confidence.CERTAIN,
        evidence=tuple(evidence),
        against=tuple(against),
        remedy="where the cookie is set: HttpOnly, SameSite=Lax, and Secure over https (express-session: cookie: { httpOnly, "
        "sameSite: 'lax', secure: 'auto' } with trust proxy; Flask: SESSION_COOKIE_SAMESITE = 'Lax')",
        guide=_STEP_2,
    )


def pages_shared(case: Case) -> Cause | None:
    """Pages of somebody else that instances themselves gave."""
    by = _whose_pages(case)
    inside = {name: count for name, count in by.items() if name != _NOBODY}
    if not inside:
        return None
    total = sum(by.values())
    return Cause(
        id="pages-shared",
        sentence="the application gives pages made for one person to another",
        confidence=Confidence.CERTAIN if len(inside) == len(by) else Confidence.LIKELY,
        evidence=(
            f"{sum(inside.values())} of {plural(total, 'page')} of somebody else were answered by {listed(sorted(inside))}",
        ),
        against=(f"{by[_NOBODY]} were the balancer's own answers",) if _NOBODY in by else (),
        remedy="keep what belongs to a request with the request, not in a global; put the person into the key of every cache",
        guide=_STATELESS,
    )


def balancer_caches_pages(case: Case) -> Cause | None:
    """Pages of somebody else that no instance was asked for."""
    by = _whose_pages(case)
    if not by.get(_NOBODY):
        return None
    evidence = [
        f"{by[_NOBODY]} of {plural(sum(by.values()), 'page')} of somebody else were given without asking an instance"
    ]
    configured = case.facts.get("cache_seconds")
    if configured:
        evidence.append(f"balancer.cache_seconds is {configured:g}")
    return Cause(
        id="balancer-caches-pages",
        sentence="the balancer keeps pages and gives them to others",
        confidence=Confidence.CERTAIN if configured else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="cache nothing that a cookie was sent for or set with (nginx: no proxy_ignore_headers, proxy_no_cache and "
        "proxy_cache_bypass $http_cookie); balancer.cache_seconds = 0",
        guide=_STATELESS,
    )


def _whose_pages(case: Case) -> dict[str, int]:
    """Who gave pages of somebody else, where this finding is about such pages."""
    own = case.evidence("NobodyElsesPage")
    if own.get("somebody_else"):
        return dict(own["by"])
    shown = case.evidence("SessionOnEveryInstance")
    if not shown.get("somebody_else"):
        return {}
    by: dict[str, int] = {}
    for key in ("matrix", "balancer_matrix"):
        for row in shown.get(key, {}).values():
            for name, cell in row.items():
                if cell["somebody_else"]:
                    by[name] = by.get(name, 0) + cell["somebody_else"]
    return by


def session_renewed_without_grace(case: Case) -> Cause | None:
    """Only requests that change the cookie cost a session when they are given up."""
    seen = case.evidence("GivingUpCostsNothing")
    if not seen.get("lost"):
        return None
    lost = {kind for kind, counts in seen["by_journey"].items() if counts["lost"]}
    renewing = {kind for kind, renewed in seen["renewed"].items() if renewed}
    if not lost & renewing:
        return None
    spared = [kind for kind, counts in seen["by_journey"].items() if not counts["lost"]]
    evidence = [
        f"{listed(f'journey.{kind}' for kind in sorted(lost & renewing))} gives a new cookie where it is waited for"
    ]
    evidence.append(
        f"{seen['lost']} of {plural(seen['people'], 'person')} who did not wait for it were logged out"
        + (f", and nobody who gave up {listed(f'journey.{kind}' for kind in spared)}" if spared else "")
    )
    return Cause(
        id="session-renewed-without-grace",
        sentence="the session gets a new id, and the old one is void before the new one has arrived",
        confidence=Confidence.CERTAIN if lost <= renewing else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="let the old id be good for some seconds after a new one was given, or change it at log-ins only",
        guide=_STEP_2,
    )


def cookie_cleared_on_errors(case: Case) -> Cause | None:
    """Nobody was logged out in the overload; who had met it is, afterwards."""
    seen = case.evidence("OverloadIsNoLogout")
    if not seen.get("logged_out_after"):
        return None
    return Cause(
        id="cookie-cleared-on-errors",
        sentence="answers that are errors clear the session's cookie",
        confidence=Confidence.CERTAIN if not seen["recognised_meanwhile"] or seen["overloaded"] else Confidence.LIKELY,
        evidence=(
            (
                f"{plural(seen['logged_out_after'], 'person')} were logged out when the overload was over, who had been answered "
                f"that there was one ({', '.join(f'{status} {count} times' for status, count in seen['statuses'].items())})"
            ),
        ),
        remedy="touch no cookie in an error: the session is still in the store when it is over",
        guide="Best Practices: DO 5",
    )
