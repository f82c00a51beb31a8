"""Rules about the way in: why it is not secure, or why the application does not know who comes.

A rule answers None unless the finding it is asked about shows the symptom its cause has. Remedies are in the terms of the
user's own setup file, and of the balancer's. Must not: blame the balancer for what the application does with what it was
told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.checkers.evidence import listed
from harness.diagnosis.case import Case
from harness.model import Cause, Confidence

__all__ = [
    "address_not_forwarded",
    "first_address_believed",
    "forwarded_not_believed",
    "headers_not_on_errors",
    "no_redirect",
    "no_security_headers",
    "old_tls_versions",
    "redirect_loses_posts",
    "redirect_not_for_good",
    "scheme_not_forwarded",
]

_STEP_3 = "Step 3: Configure Load Balancer"
_HEADERS = f"{_STEP_3}: Pass original headers"
_REDIRECT_REMEDY = "balancer.tls.redirect = 308 (nginx: `return 308 https://$host$request_uri`; HAProxy: `redirect scheme https code 308`)"


def no_redirect(case: Case) -> Cause | None:
    """The application is served over http as well."""
    seen = case.evidence("HttpIsSentToHttps")
    if "served-in-clear" not in seen.get("broken", ()):
        return None
    status = _tls(case).get("redirect")
    clear = [asked for asked in seen["asked"] if asked["problem"] == "served-in-clear"]
    evidence = [
        f"{asked['method']} {asked['path']} over http is answered with {asked['status']}" for asked in clear[:2]
    ]
    if status == 0:
        evidence.append("balancer.tls.redirect is 0: http is served as well")
    return Cause(
        id="no-redirect",
        sentence="the balancer serves over http instead of sending everybody to https",
        confidence=Confidence.CERTAIN if status == 0 else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy=_REDIRECT_REMEDY,
        guide=f"{_STEP_3}: Redirect to HTTPS",
    )


def redirect_loses_posts(case: Case) -> Cause | None:
    """A POST is sent to https with a status after which it comes back as a GET."""
    seen = case.evidence("HttpIsSentToHttps")
    if "method-lost" not in seen.get("broken", ()):
        return None
    lost = [asked for asked in seen["asked"] if asked["problem"] == "method-lost"]
    evidence = [f"{listed(asked['method'] for asked in lost)} over http is sent to https with {lost[0]['status']}"]
    evidence.append("after that status browsers ask with GET (RFC 9110, 15.4), and what was posted is lost")
    if "temporary" in seen["broken"]:
        evidence.append("it is also no redirect for good: the next visit begins over http again")
    if _tls(case).get("redirect") == lost[0]["status"]:
        evidence.append(f"balancer.tls.redirect is {lost[0]['status']}")
    return Cause(
        id="redirect-loses-posts",
        sentence="the redirect to https loses what is posted",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy=_REDIRECT_REMEDY,
        guide=f"{_STEP_3}: Redirect to HTTPS (it has 301)",
    )


def redirect_not_for_good(case: Case) -> Cause | None:
    """Readers are sent to https for this once only."""
    seen = case.evidence("HttpIsSentToHttps")
    broken = seen.get("broken", ())
    if "temporary" not in broken or "method-lost" in broken:
        return None
    status = next(asked["status"] for asked in seen["asked"] if asked["problem"] == "temporary")
    return Cause(
        id="redirect-not-for-good",
        sentence="the redirect to https is a temporary one",
        confidence=Confidence.CERTAIN,
        evidence=(f"a page is sent to https with {status}: browsers do not remember that, and begin over http again",),
        remedy=_REDIRECT_REMEDY,
        guide=f"{_STEP_3}: Redirect to HTTPS",
    )


def old_tls_versions(case: Case) -> Cause | None:
    """Versions of TLS that are not secure any more are spoken."""
    insecure = case.evidence("OnlySecureVersions").get("insecure")
    if not insecure:
        return None
    named = sorted(set(insecure) & set(_tls(case).get("versions", ())))
    evidence = [f"a handshake with TLS {listed(insecure)} succeeded"]
    if named:
        evidence.append(f"balancer.tls.versions has {listed(named)}")
    return Cause(
        id="old-tls-versions",
        sentence="the balancer speaks versions of TLS that are not secure any more",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy='balancer.tls.versions = ["1.2", "1.3"] (nginx: `ssl_protocols TLSv1.2 TLSv1.3`; HAProxy: `ssl-min-ver TLSv1.2`)',
        guide=f"{_STEP_3}: listen 443 ssl http2 (it names no version)",
    )


def headers_not_on_errors(case: Case) -> Cause | None:
    """Pages have the security headers, and errors have not."""
    missing = case.evidence("HeadersAreEverywhere").get("missing", {})
    if not missing or "page" in missing or not {"missing", "nobody"} & set(missing):
        return None
    word = _tls(case).get("security_headers")
    evidence = [f"{_WHERE[at]}: no {listed(missing[at])}" for at in ("missing", "nobody") if at in missing]
    evidence.append("pages of every instance have them")
    if word == "not-on-errors":
        evidence.append('balancer.tls.security_headers is "not-on-errors"')
    return Cause(
        id="headers-not-on-errors",
        sentence="the security headers are added to answers that are no errors, and to no others",
        confidence=Confidence.CERTAIN if word == "not-on-errors" else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.tls.security_headers = "always" (nginx: `add_header ... always`; HAProxy: `http-after-response '
        "set-header`)",
        guide=f"{_STEP_3}: Security headers",
    )


def no_security_headers(case: Case) -> Cause | None:
    """Not even pages have the security headers."""
    missing = case.evidence("HeadersAreEverywhere").get("missing", {})
    if "page" not in missing:
        return None
    none = _tls(case).get("security_headers") == "none"
    whos = sorted({who for each in missing["page"].values() for who in each if who})
    evidence = [f"pages of {listed(whos) if whos else 'the balancer'} have no {listed(missing['page'])}"]
    if none:
        evidence.append('balancer.tls.security_headers is "none"')
    return Cause(
        id="no-security-headers",
        sentence="the balancer adds no security headers, and nobody else does",
        confidence=Confidence.CERTAIN if none else Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy='balancer.tls.security_headers = "always"',
        guide=f"{_STEP_3}: Security headers (for nginx alone)",
    )


def scheme_not_forwarded(case: Case) -> Cause | None:
    """Nobody tells the application how a request came: it believes its own socket, or whoever asks."""
    wrong = case.evidence("SchemeIsKnown").get("wrong", ())
    forged = "scheme" in case.evidence("ForgeriesAreNotBelieved").get("what", ())
    if not (wrong or forged) or "X-Forwarded-Proto" in _forward(case):
        return None
    evidence = ["balancer.tls.forward has no X-Forwarded-Proto"]
    if wrong:
        evidence.append(f"{listed(wrong)} took https for http")
    if forged:
        evidence.append("what a client wrote into X-Forwarded-Proto was handed on, and believed")
    return Cause(
        id="scheme-not-forwarded",
        sentence="the balancer does not tell the application that a request came over https",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy='put "X-Forwarded-Proto" into balancer.tls.forward (nginx: `proxy_set_header X-Forwarded-Proto $scheme`; '
        "HAProxy: `http-request set-header X-Forwarded-Proto https if { ssl_fc }`)",
        guide=_HEADERS,
    )


def address_not_forwarded(case: Case) -> Cause | None:
    """Nobody tells the application where a request came from: it believes its own socket, or whoever asks."""
    wrong: Sequence[Mapping[str, str]] = case.evidence("ClientAddressIsTrue").get("wrong", ())
    forged = set(case.evidence("ForgeriesAreNotBelieved").get("what", ())) & {"address", "real-ip"}
    lacking = [name for name in ("X-Forwarded-For", "X-Real-IP") if name not in _forward(case)]
    if not (wrong or forged) or not lacking:
        return None
    evidence = [f"balancer.tls.forward has no {listed(lacking)}"]
    if wrong:
        evidence.append(f"{wrong[0]['who']} took {wrong[0]['seen']} for {wrong[0]['client']}")
        if wrong[0]["client"] == wrong[0]["peer"]:
            evidence.append("that is who connected to it: the balancer")
    if forged:
        evidence.append("what a client wrote there was handed on, and believed")
    return Cause(
        id="address-not-forwarded",
        sentence="the balancer does not tell the application which address a request came from",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy='put "X-Forwarded-For" and "X-Real-IP" into balancer.tls.forward (nginx: `proxy_set_header X-Forwarded-For '
        "$proxy_add_x_forwarded_for`; HAProxy: `option forwardfor`)",
        guide=_HEADERS,
    )


def first_address_believed(case: Case) -> Cause | None:
    """The balancer adds the true address at the end, and the application reads the beginning."""
    seen = case.evidence("ForgeriesAreNotBelieved")
    if "address" not in seen.get("what", ()) or "X-Forwarded-For" not in _forward(case):
        return None
    first = seen["believed"][0]
    evidence = [
        f"a client that wrote {first['client']} into X-Forwarded-For was believed by {first['who']}",
        f"the balancer had seen it come from {first['seen']}, and adds that at the end",
    ]
    if any(each.get("addresses") and not each.get("wrong") for each in case.elsewhere("ClientAddressIsTrue")):
        evidence.append("without such a header the address is right")
    return Cause(
        id="first-address-believed",
        sentence="the application believes the first address in X-Forwarded-For, which is the client's own word",
        confidence=Confidence.CERTAIN,
        evidence=tuple(evidence),
        remedy="believe the last address, or as many from the end as you have balancers (trusted proxies, hops); or have the "
        "balancer write the header anew (nginx: `proxy_set_header X-Forwarded-For $remote_addr`)",
        guide=f"{_HEADERS} (it adds to what came)",
    )


def forwarded_not_believed(case: Case) -> Cause | None:
    """The application is told, and does not listen."""
    wrong_scheme = case.evidence("SchemeIsKnown").get("wrong", ())
    wrong = case.evidence("ClientAddressIsTrue").get("wrong", ())
    told = _forward(case)
    deaf = [row for row in wrong if row["client"] == row["peer"] != ""]
    evidence = []
    if wrong_scheme and "X-Forwarded-Proto" in told:
        evidence.append(f"the balancer sends X-Forwarded-Proto, and {listed(wrong_scheme)} took https for http")
    if deaf and "X-Forwarded-For" in told:
        evidence.append(
            f"the balancer sends X-Forwarded-For, and {deaf[0]['who']} took who connected to it for the client"
        )
    if not evidence:
        return None
    return Cause(
        id="forwarded-not-believed",
        sentence="the application does not believe what its balancer tells of a request",
        confidence=Confidence.LIKELY,
        evidence=tuple(evidence),
        remedy="tell the application which balancers to believe (trusted proxies; the reference application: "
        'app.env.PROXY_HOPS = "1")',
        guide=_HEADERS,
    )


_WHERE = {"missing": "errors of the application", "nobody": "errors of the balancer"}


def _tls(case: Case) -> Mapping[str, Any]:
    found: Mapping[str, Any] = case.facts.get("tls") or {}
    return found


def _forward(case: Case) -> Sequence[str]:
    """The headers the balancer sets; every one where nobody knows."""
    found: Sequence[str] = _tls(case).get("forward", ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto"))
    return found
