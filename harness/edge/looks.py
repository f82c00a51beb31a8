"""What is looked at from outside, and under which names it is written down.

Must not: ask twice because an answer was not liked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness import clock
from harness.answers import netloc, object_in
from harness.cluster import Cluster
from harness.edge.asking import VERSIONS, Reply, ask, can_offer, shake_hands, speak_http2
from harness.errors import HarnessError, NothingTested
from harness.model import Look
from harness.services import CLIENT_HEADER, Secure

__all__ = ["Edge"]

_BALANCER = "balancer"
# With a query, something quoted, and nothing that is there: whoever serves it instead of sending it on does no harm.
_REDIRECTED = (
    ("GET", "/"),
    ("GET", "/harness/a%20b?next=%2Fdashboard&n=1"),
    ("HEAD", "/harness/a%20b?next=%2Fdashboard&n=1"),
    ("POST", "/harness/a%20b?next=%2Fdashboard&n=1"),
    ("PUT", "/harness/a%20b?next=%2Fdashboard&n=1"),
)
_USUAL_PORT = 443
"""Of https: nobody writes it (RFC 9110, 4.2.2)."""
_MISSING = "/harness-is-not-here"
_ASKED_PER_INSTANCE = 12
"""So often the balancer is asked at most for each instance it should give a request to."""
_KEPT_HEADERS = ("x-frame-options", "x-content-type-options", "strict-transport-security", "location")
FORGED_ADDRESS = "203.0.113.77"
"""Of a range that is nobody's (RFC 5737)."""
_FORGED = {
    "X-Forwarded-For": FORGED_ADDRESS,
    "X-Real-IP": FORGED_ADDRESS,
    "Forwarded": f"for={FORGED_ADDRESS};proto=http",
    "X-Forwarded-Proto": "http",
}
# Two that are not the one everybody uses: whoever mixes up the balancer's address with its clients' is found out.
_SOURCES = ("127.0.0.81", "127.0.0.82")


class Edge:
    """The balancer of a running setup with TLS, seen from outside."""

    def __init__(self, cluster: Cluster) -> None:
        secure = cluster.layout.balancer.secure
        if secure is None:
            raise HarnessError("only a setup with TLS is looked at from outside")
        self._cluster = cluster
        self._secure: Secure = secure
        # Where a request came from is what the balancer is to say here, and nobody else.
        forwarding = {name.lower() for name in _FORGED}
        self._always = {
            name: value for name, value in cluster.setup.traffic.headers.items() if name.lower() not in forwarding
        }
        self._http = cluster.layout.balancer.host, cluster.layout.balancer.port
        self._https = cluster.layout.entrance
        self._called = netloc(*self._https, usual=_USUAL_PORT)

    def look_at_redirects(self) -> None:
        """Ask over http, with and without a body, and see where one is sent."""
        for method, path in _REDIRECTED:
            reply = self._ask(method, path, over_tls=False)
            self._note(
                "redirect",
                reply,
                method=method,
                path=path,
                location=reply.headers.get("location", ""),
                wanted=f"https://{self._called}{path}",
            )

    def look_at_versions(self) -> None:
        """Offer each version of TLS alone; then all that a browser offers, with HTTP/2."""
        for version in VERSIONS:
            possible = can_offer(version, certificate=self._secure.certificate)
            made = shake_hands(self._https, version=version)
            self._record(
                "handshake",
                error=made.error,
                value={
                    "offered": version,
                    "can_offer": possible,
                    "agreed": made.version,
                    "refusal": made.refusal,
                },
            )
        made = shake_hands(self._https, protocols=("h2", "http/1.1"), authority=self._secure.authority)
        reply = speak_http2(self._https, self._cluster.setup.entry_page, authority=self._secure.authority)
        self._record(
            "http2",
            status=reply.status,
            error=made.error,
            value={"protocol": made.protocol, "refusal": made.refusal, "answered": reply.status is not None}
            | ({"words": reply.error} if reply.error else {}),
        )

    def look_at_headers(self) -> None:
        """A page and a missing page of each instance, the redirect, and the balancer's own error when nobody is there."""
        for case, path in (("page", self._cluster.setup.entry_page), ("missing", _MISSING)):
            for reply, who in self._from_each_instance(path):
                self._note_headers(case, reply, who=who)
        self._note_headers("redirect", self._ask("GET", "/", over_tls=False), is_secure=False)
        if not self._cluster.layout.borrowed:
            with self._cluster.nobody_in_the_pool():
                self._note_headers("nobody", self._ask("GET", self._cluster.setup.entry_page))

    def look_at_what_is_told(self, *, forged: bool) -> None:
        """Ask what the application believes of a request: over https, from more than one address where there are some.

        `forged`: the request claims that it came from elsewhere, and over http.

        Raises:
            NothingTested: the setup names no page that tells.
        """
        path = self._cluster.setup.app.forwarded
        if path is None:
            raise NothingTested(
                "the setup names no page that tells what the application believes of a request: app.forwarded"
            )
        headers = _FORGED if forged else {}
        for source in self._sources():
            for reply, who in self._from_each_instance(path, headers=headers, source=source):
                told = object_in(reply.body)
                self._note(
                    "forged" if forged else "forwarded",
                    reply,
                    who=who,
                    seen=reply.headers.get(CLIENT_HEADER.lower(), ""),
                    forged=dict(headers),
                    told={key: told[key] for key in ("client", "proto", "peer", "real_ip") if key in told},
                )

    # -- how --------------------------------------------------------------------------------------------------

    def _sources(self) -> tuple[str, ...]:
        # A container is reached through the engine, which comes from one address whatever ours is.
        return _SOURCES if self._cluster.layout.platform == "native" else ("",)

    def _from_each_instance(
        self, path: str, *, headers: Mapping[str, str] | None = None, source: str = ""
    ) -> Iterator[tuple[Reply, str]]:
        """Ask through the balancer until each instance of its pool has answered, or it had every chance to.

        Each instance's first answer, and every one that is nobody's.
        """
        wanted = set(self._cluster.pool)
        times = _ASKED_PER_INSTANCE * max(1, len(wanted))
        seen: Counter[str] = Counter()
        for _ in range(times):
            reply = self._ask("GET", path, headers=headers, source=source)
            who = self._who(reply)
            seen[who] += 1
            if seen[who] == 1 or not who:
                yield reply, who
            if wanted <= set(seen) and (wanted or seen.total() >= _ASKED_PER_INSTANCE):
                return

    def _who(self, reply: Reply) -> str:
        """The instance that answered; empty for the balancer itself."""
        listed = reply.headers.get("x-harness-upstream", "").split(",")[-1].strip()
        return self._cluster.whos().get(listed, "")

    def _ask(
        self,
        method: str,
        path: str,
        *,
        over_tls: bool = True,
        headers: Mapping[str, str] | None = None,
        source: str = "",
    ) -> Reply:
        body = {"Content-Length": "0"} if method in ("POST", "PUT") else {}
        return ask(
            method,
            path,
            at=self._https if over_tls else self._http,
            authority=self._secure.authority if over_tls else None,
            headers={**self._always, **body, **(headers or {})},
            source=source,
        )

    def _note_headers(self, case: str, reply: Reply, *, who: str = "", is_secure: bool = True) -> None:
        self._note(
            "headers",
            reply,
            case=case,
            who=who,
            is_secure=is_secure,
            headers={name: reply.headers[name] for name in _KEPT_HEADERS if name in reply.headers},
        )

    def _note(self, what: str, reply: Reply, **value: Any) -> None:
        self._record(what, status=reply.status, error=reply.error, value=value)

    def _record(self, what: str, *, status: int | None = None, error: str = "", value: Mapping[str, Any]) -> None:
        self._cluster.record(Look(what=what, node=_BALANCER, at=clock.now(), status=status, value=value, error=error))
