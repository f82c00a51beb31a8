"""Is the way in secure, and does the application know who comes?"""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers import (
    ClientAddressIsTrue,
    ForgeriesAreNotBelieved,
    HeadersAreEverywhere,
    HttpIsSentToHttps,
    OnlySecureVersions,
    SchemeIsKnown,
)
from harness.model import Checker, Look
from tests.checker_histories import APPS, FAIL, INCONCLUSIVE, PASS, evidence_is_json, history, look, status_of

TLS = {"versions": ["1.2", "1.3"], "http2": True, "hsts_seconds": 31_536_000}
HOME = "https://127.0.0.1:8443"
PATH = "/a%20b?next=%2Fc&n=1"


def redirect(method: str = "GET", status: int | None = 308, location: str | None = None, **changes: Any) -> Look:
    value = {"method": method, "path": PATH, "wanted": HOME + PATH}
    value["location"] = HOME + PATH if location is None else location
    return look("redirect", "balancer", status=status, value=value, **changes)


BOTH = [redirect("GET"), redirect("HEAD"), redirect("POST"), redirect("PUT")]


@pytest.mark.parametrize(
    ("looks", "expected", "said"),
    [
        (BOTH, PASS, "4 of 4 sent to https with 308, path and method kept"),
        ([redirect("GET", 301), redirect("POST", 307)], PASS, "with 301 and 307"),
        ([*BOTH, redirect("POST", 301)], FAIL, "POST: sent to https with 301, after which browsers ask with GET"),
        ([redirect("POST", 302), redirect("PUT", 302)], FAIL, "POST and PUT: sent to https with 302"),
        ([*BOTH, redirect("GET", 302)], FAIL, "GET: sent to https with 302, which browsers do not remember"),
        ([*BOTH, redirect("GET", 307)], FAIL, "GET: sent to https with 307, which browsers do not remember"),
        ([*BOTH, redirect("GET", 200, "")], FAIL, "GET: answered with 200 in clear"),
        ([*BOTH, redirect("POST", 403, "")], FAIL, "POST: answered with 403 in clear"),
        # A redirect of the application's own is an answer in clear as well: it does not lead to https.
        ([*BOTH, redirect("GET", 303, "/login")], FAIL, "is sent to /login"),
        ([*BOTH, redirect("GET", 308, f"{HOME}/")], FAIL, f"{PATH} is sent to {HOME}/"),
        ([*BOTH, redirect("GET", 308, f"http://127.0.0.1:8443{PATH}")], FAIL, "is sent to http://"),
        ([*BOTH, redirect("GET", 308, f"https://127.0.0.1{PATH}")], FAIL, "is sent to https://127.0.0.1/"),
        (
            [*BOTH, redirect("POST", None, "", error="ConnectionResetError: reset")],
            INCONCLUSIVE,
            "1 request not answered",
        ),
        # What was seen to be wrong stays wrong.
        ([redirect("GET", 200, ""), redirect("POST", None, "", error="Timeout")], FAIL, "in clear"),
        ([redirect("GET")], INCONCLUSIVE, "not both a page that is read and one that is posted to"),
        ([redirect("POST")], INCONCLUSIVE, "not both"),
        ([], INCONCLUSIVE, "not both"),
    ],
)
def test_http_is_sent_to_https(looks: list[Look], expected: str, said: str) -> None:
    """The same address over https, for good, with the method it came with."""
    verdict = HttpIsSentToHttps().check(history(looks=looks))
    assert status_of(verdict) == expected
    assert said in verdict.measured
    evidence_is_json(verdict)


def handshake(offered: str, *, agreed: bool, can_offer: bool = True, error: str = "") -> Look:
    value = {"offered": offered, "agreed": f"TLSv{offered}" if agreed else None, "can_offer": can_offer, "refusal": ""}
    return look("handshake", "balancer", status=None, value=value, error=error)


def http2(protocol: str | None = "h2", *, answered: bool = True, refusal: str = "", error: str = "") -> Look:
    value = {"protocol": protocol, "answered": answered, "refusal": refusal}
    return look("http2", "balancer", status=200 if answered else None, value=value, error=error)


def versions(**changes: Look) -> list[Look]:
    """The old ones refused, the new ones spoken, HTTP/2 too, but for changes such as v10=handshake(...)."""
    looks = {"v10": handshake("1.0", agreed=False), "v11": handshake("1.1", agreed=False)}
    looks |= {"v12": handshake("1.2", agreed=True), "v13": handshake("1.3", agreed=True), "h2": http2()}
    return list((looks | changes).values())


@pytest.mark.parametrize(
    ("looks", "tls", "expected", "said"),
    [
        (versions(), TLS, PASS, "TLS 1.2 and 1.3 and nothing older, h2 agreed on and answered"),
        (versions(v10=handshake("1.0", agreed=True)), TLS, FAIL, "TLS 1.0 is spoken"),
        (versions(v11=handshake("1.1", agreed=True)), TLS, FAIL, "TLS 1.1 is spoken"),
        # It is secure, and the setup does not promise it.
        (versions(v13=handshake("1.3", agreed=False)), TLS | {"versions": ["1.2"]}, PASS, "TLS 1.2 and nothing older"),
        (versions(v13=handshake("1.3", agreed=False)), TLS, FAIL, "TLS 1.3 is not spoken"),
        # This machine cannot ask: nobody refused anything.
        (
            versions(v10=handshake("1.0", agreed=False, can_offer=False)),
            TLS,
            INCONCLUSIVE,
            "TLS 1.0 could not be offered",
        ),
        (versions(v11=handshake("1.1", agreed=False, error="not connected")), TLS, INCONCLUSIVE, "TLS 1.1 could not"),
        # What was spoken was offered, whatever this machine thinks of itself.
        (versions(v10=handshake("1.0", agreed=True, can_offer=False)), TLS, FAIL, "TLS 1.0 is spoken"),
        (versions(h2=http2("http/1.1", answered=False)), TLS, FAIL, "HTTP/2 is not spoken"),
        (versions(h2=http2("h2", answered=False)), TLS, FAIL, "HTTP/2 is not spoken"),
        (versions(h2=http2("http/1.1", answered=False)), TLS | {"http2": False}, PASS, "nothing older"),
        (
            versions(h2=http2(None, answered=False, error="not connected")),
            TLS,
            INCONCLUSIVE,
            "HTTP/2 could not be offered",
        ),
        (
            versions(h2=http2(None, answered=False, refusal="the certificate is not to be believed: expired")),
            TLS,
            FAIL,
            "the certificate is not to be believed",
        ),
        (versions()[:4], TLS, INCONCLUSIVE, "HTTP/2 could not be offered"),
        (versions()[1:], TLS, INCONCLUSIVE, "TLS 1.0 could not be offered"),
        ([], TLS, INCONCLUSIVE, "could not be offered"),
    ],
)
def test_only_secure_versions(looks: list[Look], tls: dict[str, Any], expected: str, said: str) -> None:
    """Refused counts only what could have been accepted."""
    verdict = OnlySecureVersions().check(history(looks=looks, setup={"tls": tls}))
    assert status_of(verdict) == expected
    assert said in verdict.measured
    evidence_is_json(verdict)


GUARDED = {
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=31536000",
}
IN_CLEAR = {name: value for name, value in GUARDED.items() if name != "strict-transport-security"}


def answer(case: str, who: str = "", status: int = 200, *, secure: bool = True, **changes: Any) -> Look:
    headers = changes.pop("headers", GUARDED if secure else IN_CLEAR)
    value = {"case": case, "who": who, "is_secure": secure, "headers": headers}
    return look("headers", "balancer", status=status, value=value, **changes)


def answers(*others: Look, without: str = "") -> list[Look]:
    """All there must be, but for a case that is left out, and these."""
    whole = [answer("page", app) for app in APPS] + [answer("missing", app, 404) for app in APPS]
    whole += [answer("redirect", status=308, secure=False), answer("nobody", status=502)]
    return [each for each in whole if each.value["case"] != without] + list(others)


def lacking(name: str, **changes: str) -> dict[str, str]:
    return {key: value for key, value in GUARDED.items() if key != name} | changes


@pytest.mark.parametrize(
    ("looks", "expected", "said"),
    [
        (answers(), PASS, "8 of 8 answers have X-Frame-Options, X-Content-Type-Options and Strict-Transport-Security"),
        (answers(answer("nobody", status=503)), PASS, "9 of 9"),
        (
            answers(answer("missing", "app-2", 404, headers={})),
            FAIL,
            "errors of the application (app-2) without X-Frame-Options, X-Content-Type-Options and Strict-Transport",
        ),
        (
            answers(answer("page", "app-3", headers=lacking("x-frame-options"))),
            FAIL,
            "pages (app-3) without X-Frame-Options",
        ),
        (answers(answer("nobody", status=502, headers={})), FAIL, "errors of the balancer without X-Frame-Options"),
        (answers(answer("redirect", status=308, secure=False, headers={})), FAIL, "answers over http without X-Frame"),
        # A header that does nothing is none.
        (answers(answer("page", "app-1", headers=GUARDED | {"x-frame-options": "ALLOWALL"})), FAIL, "X-Frame-Options"),
        (answers(answer("page", "app-1", headers=GUARDED | {"x-content-type-options": "x"})), FAIL, "X-Content-Type"),
        (
            answers(answer("page", "app-1", headers=GUARDED | {"strict-transport-security": "max-age=0"})),
            FAIL,
            "Strict-Transport-Security",
        ),
        # Told by balancer and application alike.
        (answers(answer("page", "app-1", headers=GUARDED | {"x-frame-options": "SAMEORIGIN, DENY"})), PASS, "9 of 9"),
        (answers(without="nobody"), INCONCLUSIVE, "no error of the balancer's own was seen"),
        # Somebody answered although nobody should have been there.
        ([*answers(without="nobody"), answer("nobody", "app-1", 200)], INCONCLUSIVE, "no error of the balancer's own"),
        ([*answers(without="missing"), answer("missing", "app-1", 404)], INCONCLUSIVE, "an error of app-2 and app-3"),
        (
            [*answers(without="missing"), *(answer("missing", app, 200) for app in APPS)],
            INCONCLUSIVE,
            "an error of app-1",
        ),
        (answers(without="page"), INCONCLUSIVE, "a page of app-1, app-2 and app-3 was not seen"),
        (answers(without="redirect"), INCONCLUSIVE, "no answer over http was seen"),
        ([], INCONCLUSIVE, "was not seen"),
    ],
)
def test_headers_are_everywhere(looks: list[Look], expected: str, said: str) -> None:
    """On pages and errors, whoever made them; an instance that was not seen was not judged."""
    verdict = HeadersAreEverywhere().check(history(looks=looks, setup={"tls": TLS, "pool": list(APPS)}))
    assert status_of(verdict) == expected
    assert said in verdict.measured
    evidence_is_json(verdict)


def test_no_hsts_is_wanted_where_the_setup_names_no_time() -> None:
    """The guide has none."""
    looks = [answer(each.value["case"], each.value["who"], each.status or 0, headers=IN_CLEAR) for each in answers()]
    verdict = HeadersAreEverywhere().check(history(looks=looks, setup={"tls": TLS | {"hsts_seconds": 0}}))
    assert status_of(verdict) == PASS
    assert "Strict" not in verdict.measured


SEEN, FORGED = "127.0.0.81", "203.0.113.77"
HONEST = {"client": SEEN, "proto": "https", "peer": "127.0.0.1", "real_ip": SEEN}


def told(who: str = "app-1", *, seen: str = SEEN, forged: bool = False, **changes: Any) -> Look:
    """What an instance believes; a change to None leaves it out."""
    believed = {key: value for key, value in (HONEST | changes).items() if value is not None}
    lie = {"X-Forwarded-For": FORGED, "X-Real-IP": FORGED, "X-Forwarded-Proto": "http"} if forged else {}
    value = {"who": who, "seen": seen, "forged": lie, "told": believed}
    return look("forged" if forged else "forwarded", "balancer", value=value)


def by_all(**changes: Any) -> list[Look]:
    return [told(app, **changes) for app in APPS]


@pytest.mark.parametrize(
    ("checker", "looks", "expected", "said"),
    [
        (SchemeIsKnown(), by_all(), PASS, "3 requests over https known as such by app-1, app-2 and app-3"),
        (SchemeIsKnown(), [*by_all(), told("app-2", proto="http")], FAIL, "app-2 took https for http"),
        (SchemeIsKnown(), by_all()[:2], INCONCLUSIVE, "app-3 did not tell proto at app.forwarded"),
        (SchemeIsKnown(), by_all(proto=None), INCONCLUSIVE, "did not tell proto"),
        (SchemeIsKnown(), [], INCONCLUSIVE, "did not tell"),
        (ClientAddressIsTrue(), by_all(), PASS, f"3 requests from {SEEN}, each known as its own"),
        (ClientAddressIsTrue(), by_all(real_ip=None, peer=None), PASS, "3 requests"),
        (
            ClientAddressIsTrue(),
            [*by_all(), told("app-2", client="127.0.0.1")],
            FAIL,
            f"app-2 took {SEEN} for 127.0.0.1",
        ),
        (ClientAddressIsTrue(), [*by_all(), told("app-2", real_ip="10.0.0.1")], FAIL, "for 10.0.0.1 in X-Real-IP"),
        # Whoever took the balancer for its client would be right by accident.
        (
            ClientAddressIsTrue(),
            by_all(seen="127.0.0.1", client="127.0.0.1", real_ip=None),
            INCONCLUSIVE,
            "the same address",
        ),
        (ClientAddressIsTrue(), by_all(seen=""), INCONCLUSIVE, "does not say from which address"),
        (ClientAddressIsTrue(), by_all()[1:], INCONCLUSIVE, "app-1 did not tell client"),
        (ClientAddressIsTrue(), by_all(client=None, real_ip=None), INCONCLUSIVE, "did not tell client"),
        (ClientAddressIsTrue(), [], INCONCLUSIVE, "did not tell client"),
        (ForgeriesAreNotBelieved(), by_all(forged=True), PASS, "0 of 3 forged requests believed"),
        (ForgeriesAreNotBelieved(), by_all(forged=True, client=FORGED), FAIL, f"app-1 took {SEEN} for {FORGED}"),
        (ForgeriesAreNotBelieved(), by_all(forged=True, proto="http"), FAIL, "app-1 took https for http"),
        (ForgeriesAreNotBelieved(), by_all(forged=True, real_ip=FORGED), FAIL, f"{FORGED} for X-Real-IP"),
        # Wrong, and no forgery: another promise's affair.
        (ForgeriesAreNotBelieved(), by_all(forged=True, client="127.0.0.1"), PASS, "0 of 3"),
        (ForgeriesAreNotBelieved(), by_all(forged=True)[:1], INCONCLUSIVE, "app-2 and app-3 did not tell client"),
        (ForgeriesAreNotBelieved(), by_all(forged=True, proto=None), INCONCLUSIVE, "did not tell proto"),
        (ForgeriesAreNotBelieved(), by_all(), INCONCLUSIVE, "did not tell client"),
        (ForgeriesAreNotBelieved(), [], INCONCLUSIVE, "did not tell client"),
    ],
)
def test_what_the_application_believes(checker: Checker, looks: list[Look], expected: str, said: str) -> None:
    """The truth is what the balancer saw; an instance that told nothing was not judged."""
    verdict = checker.check(history(looks=looks, setup={"tls": TLS, "pool": list(APPS)}))
    assert status_of(verdict) == expected
    assert said in verdict.measured
    evidence_is_json(verdict)
