"""Whether the way in is secure, and whether the application knows who comes and how.

All of it is judged from looks at the balancer from outside. Must not: take an answer that did not come for one that was
right, or blame the setup for what this machine cannot ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.checkers import bounds
from harness.checkers.evidence import listed, plural
from harness.model import History, Look, Verdict

__all__ = [
    "ClientAddressIsTrue",
    "ForgeriesAreNotBelieved",
    "HeadersAreEverywhere",
    "HttpIsSentToHttps",
    "OnlySecureVersions",
    "SchemeIsKnown",
]

_FRAME_OPTIONS = frozenset({"deny", "sameorigin"})


@dataclass(frozen=True)
class HttpIsSentToHttps:
    """Over http nothing is served: everybody is sent to the same address over https, for good, and with their method.

    Expects: looks named `redirect` (`method`, `path`, `location`, `wanted`), at least one of a page that is read and one of
    a page that is posted to.

    Evidence: `asked` [{"method", "path", "status", "location", "problem"}], `broken` [problems]: `served-in-clear`,
    `sent-elsewhere`, `temporary`, `method-lost`.
    """

    for_reading: tuple[int, ...] = bounds.REDIRECTS_READING
    for_writing: tuple[int, ...] = bounds.REDIRECTS_WRITING

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("redirect"))
        problems = [self._problem(look) for look in looks]
        evidence = {
            "asked": [
                {
                    "method": look.value.get("method"),
                    "path": look.value.get("path"),
                    "status": look.status,
                    "location": look.value.get("location"),
                    "problem": problem or look.error,
                }
                for look, problem in zip(looks, problems, strict=True)
            ],
            "broken": sorted({problem for problem in problems if problem}),
        }
        wrong = [(look, problem) for look, problem in zip(looks, problems, strict=True) if problem]
        if wrong:
            by_result: dict[str, dict[str, None]] = {}
            for look, problem in wrong:
                by_result.setdefault(_RESULT[problem](look), {})[str(look.value["method"])] = None
            told = [f"{listed(methods)}: {result}" for result, methods in by_result.items()]
            return Verdict.fail("; ".join(told), **evidence)
        answered = {str(look.value.get("method")) for look in looks if not look.error}
        unanswered = [look for look in looks if look.error]
        if unanswered:
            return Verdict.inconclusive(f"{_unanswered(unanswered)} over http", **evidence)
        if not answered & {"GET", "HEAD"} or not answered - {"GET", "HEAD"}:
            return Verdict.inconclusive("not both a page that is read and one that is posted to were asked", **evidence)
        statuses = listed(sorted({str(look.status) for look in looks}))
        return Verdict.passed(
            f"{len(looks)} of {len(looks)} sent to https with {statuses}, path and method kept", **evidence
        )

    def _problem(self, look: Look) -> str:
        if look.error or look.status is None:
            return ""
        location = str(look.value.get("location", ""))
        if not 300 <= look.status < 400 or not location:
            return "served-in-clear"
        if urlsplit(location) != urlsplit(str(look.value.get("wanted"))):
            return "sent-elsewhere"
        if look.value.get("method") in ("GET", "HEAD"):
            return "" if look.status in self.for_reading else "temporary"
        return "" if look.status in self.for_writing else "method-lost"


_RESULT = {
    "served-in-clear": lambda look: f"answered with {look.status} in clear",
    "sent-elsewhere": lambda look: f"{look.value['path']} is sent to {look.value['location']}",
    "temporary": lambda look: f"sent to https with {look.status}, which browsers do not remember",
    "method-lost": lambda look: f"sent to https with {look.status}, after which browsers ask with GET",
}


@dataclass(frozen=True)
class OnlySecureVersions:
    """Each version of TLS that is not secure any more is refused; those the setup names are spoken, and HTTP/2 is.

    Expects: looks named `handshake` (`offered`, `can_offer`, `agreed`, `refusal`) for every version, and one named `http2`
    (`protocol`, `answered`, `refusal`). What this machine cannot offer was not refused by anybody.

    Evidence: `agreed` {version: whether}, `not_offered` [versions], `insecure` [versions], `missing` [versions],
    `protocol`, `answered`, `broken`: `insecure-version`, `version-missing`, `no-http2`, `certificate`.
    """

    secure: tuple[str, ...] = bounds.SECURE_VERSIONS
    insecure: tuple[str, ...] = bounds.INSECURE_VERSIONS

    def check(self, history: History) -> Verdict:
        looks = {str(look.value.get("offered")): look for look in history.looks_at("handshake")}
        tls = history.setup.get("tls") or {}
        agreed = {version: look.value.get("agreed") is not None for version, look in looks.items()}
        unasked = [
            version
            for version in (*self.insecure, *self.secure)
            if version not in looks
            or looks[version].error
            or not (agreed[version] or looks[version].value["can_offer"])
        ]
        insecure = [version for version in self.insecure if agreed.get(version)]
        promised = [version for version in self.secure if version in tls.get("versions", self.secure)]
        missing = [version for version in promised if version not in unasked and not agreed[version]]
        http2 = next(iter(history.looks_at("http2")), None)
        protocol = http2.value.get("protocol") if http2 is not None else None
        refusal = str(http2.value.get("refusal", "")) if http2 is not None else ""
        answered = bool(http2.value.get("answered")) if http2 is not None else False
        no_http2 = bool(tls.get("http2", True)) and http2 is not None and not http2.error and not answered
        found = {
            "insecure-version": f"TLS {listed(insecure)} is spoken" if insecure else "",
            "version-missing": f"TLS {listed(missing)} is not spoken" if missing else "",
            "certificate": refusal if "certificate" in refusal else "",
            "no-http2": "HTTP/2 is not spoken" if no_http2 and not refusal else "",
        }
        evidence = {
            "agreed": agreed,
            "not_offered": unasked,
            "insecure": insecure,
            "missing": missing,
            "protocol": protocol,
            "answered": answered,
            "broken": [problem for problem, words in found.items() if words],
        }
        if any(found.values()):
            return Verdict.fail("; ".join(words for words in found.values() if words), **evidence)
        if unasked:
            return Verdict.inconclusive(
                f"TLS {listed(unasked)} could not be offered: the TLS of this machine cannot, or nobody answered",
                **evidence,
            )
        if http2 is None or http2.error or refusal:
            return Verdict.inconclusive(f"HTTP/2 could not be offered ({refusal or 'nobody answered'})", **evidence)
        spoken = f", {protocol} agreed on and answered" if answered else ""
        return Verdict.passed(f"TLS {listed(promised)} and nothing older{spoken}", **evidence)


@dataclass(frozen=True)
class HeadersAreEverywhere:
    """Every answer has the security headers: pages and errors of each instance, the balancer's own, and the redirect.

    Expects: looks named `headers` (`case`, `who`, `is_secure`, `headers`): `page` and `missing` of each instance of the pool,
    `redirect`, and `nobody` while no instance could be asked (not of a balancer that is somebody else's,
    `setup["is_closed"]`; where nobody says who answered, one page and one error of anybody). HSTS is wanted over TLS, where the setup names a time for it.

    Evidence: `missing` {case: {header: [instances; empty for the balancer]}}, `seen` {case: count}, `wanted` [headers].
    """

    def check(self, history: History) -> Verdict:
        looks = [look for look in history.looks_at("headers") if not look.error]
        hsts = bool((history.setup.get("tls") or {}).get("hsts_seconds"))
        missing: dict[str, dict[str, list[str]]] = {}
        for look in looks:
            for name in _lacking(look, hsts=hsts):
                where = missing.setdefault(str(look.value.get("case")), {}).setdefault(name, [])
                where.append(str(look.value.get("who", "")))
        seen = {case: sum(look.value.get("case") == case for look in looks) for case in _CASES}
        wanted = ["X-Frame-Options", "X-Content-Type-Options", *(["Strict-Transport-Security"] if hsts else [])]
        evidence = {"missing": missing, "seen": seen, "wanted": wanted}
        if missing:
            told = [f"{_in_case(case, names)} without {listed(names)}" for case, names in missing.items()]
            return Verdict.fail("; ".join(told), **evidence)
        guards = self._guards(history, looks)
        if guards:
            return Verdict.inconclusive("; ".join(guards), **evidence, guards=guards)
        return Verdict.passed(f"{len(looks)} of {len(looks)} answers have {listed(wanted)}", **evidence)

    @staticmethod
    def _guards(history: History, looks: Sequence[Look]) -> list[str]:
        pool = [str(name) for name in history.setup.get("pool", history.instances)]
        # A balancer that is somebody else's is asked as it is, and perhaps nobody says who answered.
        is_closed = bool(history.setup.get("is_closed"))
        if is_closed and not any(look.value.get("who") for look in looks):
            pool = [""]
        guards = []
        for case, words in (("page", "a page"), ("missing", "an error")):
            of_case = [look for look in looks if look.value.get("case") == case]
            if case == "missing":
                of_case = [look for look in of_case if (look.status or 0) >= 400]
            absent = sorted(set(pool) - {str(look.value.get("who")) for look in of_case})
            if absent:
                guards.append(f"{words} of {listed(absent)} was not seen")
        own = [look for look in looks if look.value.get("case") == "nobody" and not look.value.get("who")]
        if not is_closed and not any(look.status in (502, 503) for look in own):
            guards.append("no error of the balancer's own was seen")
        if not any(look.value.get("case") == "redirect" for look in looks):
            guards.append("no answer over http was seen")
        return guards


_CASES = {
    "page": "pages",
    "missing": "errors of the application",
    "nobody": "errors of the balancer",
    "redirect": "answers over http",
}


def _in_case(case: str, names: Mapping[str, Sequence[str]]) -> str:
    whos = sorted({who for each in names.values() for who in each if who})
    return _CASES.get(case, case) + (f" ({listed(whos)})" if whos else "")


def _lacking(look: Look, *, hsts: bool) -> list[str]:
    """The headers this answer should have and has not, or not with a value that does anything."""
    headers = look.value.get("headers", {})

    def values(name: str) -> set[str]:
        return {part.strip().lower() for part in str(headers.get(name, "")).split(",") if part.strip()}

    lacking = []
    frame = values("x-frame-options")
    if not frame or not frame <= _FRAME_OPTIONS:
        lacking.append("X-Frame-Options")
    if values("x-content-type-options") != {"nosniff"}:
        lacking.append("X-Content-Type-Options")
    if (
        hsts
        and look.value.get("is_secure")
        and not any(_has_age(value) for value in values("strict-transport-security"))
    ):
        lacking.append("Strict-Transport-Security")
    return lacking


def _has_age(value: str) -> bool:
    """Whether a value of Strict-Transport-Security holds for any time: 0 takes it back (RFC 6797, 6.1.1)."""
    for part in value.split(";"):
        name, _, age = part.strip().partition("=")
        if name == "max-age":
            return age.strip('"').isdecimal() and int(age.strip('"')) > 0
    return False


@dataclass(frozen=True)
class SchemeIsKnown:
    """Every instance takes a request that came over https for one.

    Expects: looks named `forwarded` (`who`, `told` with `proto`), one or more of each instance of the pool.

    Evidence: `believed` {instance: scheme}, `wrong` [instances].
    """

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("forwarded"))
        believed = {str(look.value["who"]): _told(look, "proto") for look in looks if _told(look, "proto")}
        wrong = sorted({str(look.value["who"]) for look in looks if _told(look, "proto") not in ("", "https")})
        evidence = {"believed": believed, "wrong": wrong}
        if wrong:
            first = next(look for look in looks if _told(look, "proto") not in ("", "https"))
            return Verdict.fail(f"{listed(wrong)} took https for {_told(first, 'proto')}", **evidence)
        guard = _not_told(history, looks, "proto")
        if guard:
            return Verdict.inconclusive(guard, **evidence)
        return Verdict.passed(
            f"{plural(len(looks), 'request')} over https known as such by {listed(believed)}", **evidence
        )


@dataclass(frozen=True)
class ClientAddressIsTrue:
    """Every instance believes the address that the balancer saw a request come from.

    Expects: looks named `forwarded` (`who`, `seen`, `told` with `client`, and `peer` and `real_ip` where they are told), one
    or more of each instance of the pool. Where the address is the balancer's own it cannot be told from its client's.

    Evidence: `wrong` [{"who", "seen", "client", "real_ip", "peer"}], `addresses` [seen].
    """

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("forwarded"))
        rows = [_row(look) for look in looks]
        wrong = [
            row
            for row in rows
            if row["seen"]
            and row["client"]
            and (row["client"] != row["seen"] or row["real_ip"] not in ("", row["seen"]))
        ]
        addresses = sorted({row["seen"] for row in rows if row["seen"]})
        evidence = {"wrong": wrong[: bounds.EXAMPLES], "addresses": addresses}
        if wrong:
            first = wrong[0]
            took = first["client"] if first["client"] != first["seen"] else f"{first['real_ip']} in X-Real-IP"
            return Verdict.fail(
                f"{plural(len(wrong), 'request')} of {len(rows)} taken for somebody else's: {first['who']} took "
                f"{first['seen']} for {took}",
                **evidence,
            )
        guard = _not_told(history, looks, "client")
        if not guard and not addresses:
            guard = "the balancer does not say from which address it saw a request come"
        if not guard and any(row["peer"] == row["seen"] for row in rows):
            guard = "the balancer and its client have the same address: one cannot be told from the other"
        if guard:
            return Verdict.inconclusive(guard, **evidence)
        return Verdict.passed(
            f"{plural(len(rows), 'request')} from {listed(addresses)}, each known as its own", **evidence
        )


@dataclass(frozen=True)
class ForgeriesAreNotBelieved:
    """No instance believes what a client says of its own address and scheme.

    Expects: looks named `forged` (`who`, `seen`, `forged`, `told`), one or more of each instance of the pool.

    Evidence: `believed` [{"who", "seen", "client", "real_ip", "peer", "proto"}], `what` [`address`, `real-ip`, `scheme`].
    """

    def check(self, history: History) -> Verdict:
        looks = list(history.looks_at("forged"))
        what: dict[str, None] = {}
        believed = []
        for look in looks:
            found = _believed(look)
            if found:
                believed.append(_row(look) | {"proto": _told(look, "proto")})
                what.update(dict.fromkeys(found))
        evidence = {"believed": believed[: bounds.EXAMPLES], "what": list(what)}
        if believed:
            first = believed[0]
            took = [_BELIEF[kind](first) for kind in what]
            return Verdict.fail(
                f"{len(believed)} of {len(looks)} forged requests believed: {first['who']} took {listed(took)}",
                **evidence,
            )
        guard = _not_told(history, looks, "client") or _not_told(history, looks, "proto")
        if guard:
            return Verdict.inconclusive(guard, **evidence)
        return Verdict.passed(f"0 of {plural(len(looks), 'forged request')} believed", **evidence)


_BELIEF = {
    "address": lambda row: f"{row['seen']} for {row['client']}",
    "real-ip": lambda row: f"{row['real_ip']} for X-Real-IP",
    "scheme": lambda row: f"https for {row['proto']}",
}


def _believed(look: Look) -> list[str]:
    forged = look.value.get("forged", {})
    address, scheme = forged.get("X-Forwarded-For"), forged.get("X-Forwarded-Proto")
    return [
        kind
        for kind, told, lie in (
            ("address", "client", address),
            ("real-ip", "real_ip", address),
            ("scheme", "proto", scheme),
        )
        if lie is not None and _told(look, told) == lie
    ]


def _told(look: Look, key: str) -> str:
    value = look.value.get("told", {}).get(key)
    return "" if value is None else str(value)


def _row(look: Look) -> dict[str, str]:
    return {
        "who": str(look.value.get("who", "")),
        "seen": str(look.value.get("seen", "")),
        "client": _told(look, "client"),
        "real_ip": _told(look, "real_ip"),
        "peer": _told(look, "peer"),
    }


def _not_told(history: History, looks: Iterable[Look], key: str) -> str:
    """Why nothing was tested; empty when every instance told what is asked for."""
    pool = [str(name) for name in history.setup.get("pool", history.instances)]
    telling = {str(look.value.get("who")) for look in looks if _told(look, key)}
    if telling == {""} and history.setup.get("is_closed"):
        return ""  # whoever it was: nobody says who answers behind a balancer of somebody else's
    silent = [name for name in pool if name not in telling]
    return f"{listed(silent) or 'nobody'} did not tell {key} at app.forwarded" if silent or not pool else ""


def _unanswered(looks: Sequence[Look]) -> str:
    return f"{plural(len(looks), 'request')} not answered ({looks[0].error})"
