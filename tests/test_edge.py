"""Single looks from outside: what is asked, and what is made of the answers. Servers here are scripted."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import Talk, serving

from harness.certificates import Certificates, make_certificates
from harness.edge import Edge, asking
from harness.edge.asking import VERSIONS, ask, can_offer, shake_hands, speak_http2
from harness.errors import HarnessError, NothingTested
from harness.model import Look
from harness.services import Secure


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "127.0.0.1")


def context_of(certificates: Certificates, *versions: str, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A server's, of the versions from the first to the last."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.balancer)
    if versions:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with asking.warnings.catch_warnings():
            asking.warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = VERSIONS[versions[0]], VERSIONS[versions[-1]]
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_offered_alone(certificates: Certificates, version: str) -> None:
    """A server that speaks only this one agrees, one that speaks only others refuses: what is offered is what is said."""
    if not can_offer(version, certificate=certificates.balancer):
        pytest.skip(f"the TLS of this machine cannot speak {version}")
    with serving(tls=context_of(certificates, version)) as server:
        made = shake_hands(server.address, version=version)
        assert (made.version, made.refusal, made.error) == (f"TLSv{version}".removesuffix(".0"), "", "")
    others = ("1.2", "1.3") if version in ("1.0", "1.1") else ("1.0", "1.1")
    with serving(tls=context_of(certificates, *others)) as server:
        made = shake_hands(server.address, version=version)
        assert made.version is None
        assert made.refusal
        assert not made.error


def test_what_this_machine_cannot_speak_is_known(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody's refusal says anything."""
    assert can_offer("1.3", certificate=certificates.balancer)
    monkeypatch.setattr(asking, "_client", lambda *_: context_without_any())
    assert not can_offer("1.3", certificate=certificates.balancer)


def context_without_any() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_nobody_there_is_no_refusal(certificates: Certificates) -> None:
    """What was not asked was not refused."""
    with serving() as server:
        address = server.address
    assert shake_hands(address).error.startswith("not connected")
    assert ask("GET", "/", at=address, authority=None, headers={}).error.startswith("ConnectionRefusedError")
    assert "refused" in speak_http2(address, "/", authority=certificates.authority).error.lower()


def test_protocols_are_agreed_on(certificates: Certificates, tmp_path: Path) -> None:
    """By ALPN, with somebody whose certificate is the run's, and with nobody else."""
    with serving(tls=context_of(certificates, protocols=("h2", "http/1.1"))) as server:
        offer = ("h2", "http/1.1")
        assert shake_hands(server.address, protocols=offer, authority=certificates.authority).protocol == "h2"
        stranger = make_certificates(tmp_path / "stranger", "127.0.0.1").authority
        assert "certificate" in shake_hands(server.address, protocols=offer, authority=stranger).refusal
    with serving(tls=context_of(certificates)) as server:
        assert shake_hands(server.address, protocols=offer, authority=certificates.authority).protocol is None
        assert speak_http2(server.address, "/", authority=certificates.authority).error == "h2 was not agreed on"


HEADERS_404 = b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x8d"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
GO_AWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x00\x00\x00\x00\x01"


@pytest.mark.parametrize(
    ("frames", "status", "error"),
    [
        (SETTINGS + HEADERS_404, 404, ""),
        (HEADERS_404[:-1] + b"\x48", 0, ""),
        (SETTINGS + GO_AWAY, None, "refused with error 1"),
        (SETTINGS, None, "ended without an answer"),
        (SETTINGS * 30, None, "no answer among its frames"),
    ],
)
def test_an_answer_in_http2_is_read(certificates: Certificates, frames: bytes, status: int | None, error: str) -> None:
    """Frames that are not the answer are passed over; an end or a refusal is none."""

    def talk_http2(talk: Talk) -> None:
        talk.send(frames)
        talk.close()

    # To this server the preface is a request of its own: `PRI * HTTP/2.0`.
    with serving(tls=context_of(certificates, protocols=("h2",))) as server:
        server.scripts["*"] = talk_http2
        reply = speak_http2(server.address, "/", authority=certificates.authority)
        assert (reply.status, reply.error) == (status, error)


def test_one_answer_is_told_as_it_came(certificates: Certificates) -> None:
    """Headers of one name together, the body whole, a redirect not followed."""
    script = {
        "x": lambda talk: talk.answer(b"body", status="303 See Other", headers="Location: /y\r\nA: 1\r\na: 2\r\n")
    }
    with serving(tls=context_of(certificates), **script) as server:
        reply = ask(
            "POST", "/x", at=server.address, authority=certificates.authority, headers={"X-A": "b"}, source="127.0.0.81"
        )
        assert (reply.status, reply.body, reply.error) == (303, b"body", "")
        assert (reply.headers["location"], reply.headers["a"]) == ("/y", "1, 2")
        assert [seen.headers["x-a"] for seen in server.requests("/x")] == ["b"]
        assert not server.requests("/y")


class Machine:
    """What is looked at: a scripted balancer, and a cluster that says who is who."""

    def __init__(self, certificates: Certificates, http: tuple[str, int], https: tuple[str, int], **app: Any) -> None:
        self.looks: list[Look] = []
        secure = Secure(port=https[1], authority=certificates.authority, certificate=certificates.balancer)
        balancer = SimpleNamespace(host=http[0], port=http[1], secure=secure)
        self.layout = SimpleNamespace(balancer=balancer, entrance=https, platform="native")
        # Of what always goes, what tells where a request came from is left to the balancer here.
        traffic = SimpleNamespace(headers={"X-Tenant": "ada", "x-forwarded-proto": "https"})
        app = SimpleNamespace(**{"forwarded": "/told"} | app)
        self.setup = SimpleNamespace(entry_page="/login", app=app, traffic=traffic)
        self.pool = ("app-1", "app-2")
        self.record = self.looks.append

    def whos(self) -> dict[str, str]:
        return {"10.0.0.1:80": "app-1", "10.0.0.2:80": "app-2"}


def in_turn(talk: Talk) -> None:
    """A page by one instance after the other, told as nginx tells it."""
    number = 1 + len(talk.server.seen) % 2
    told = b'{"client": "127.0.0.81", "proto": "https", "secret": "s"}'
    talk.answer(told, headers=f"X-Harness-Upstream: 10.0.0.{number}:80\r\nX-Harness-Client: 127.0.0.81\r\n")


def test_each_instance_is_asked_once_that_answers(certificates: Certificates) -> None:
    """Natively from two addresses; what is written down is what a checker may know, and no more."""
    with serving(tls=context_of(certificates), told=in_turn) as https, serving() as http:
        machine = Machine(certificates, http.address, https.address)
        Edge(machine).look_at_what_is_told(forged=True)  # type: ignore[arg-type]
        seen = https.requests("/told")
    assert sorted(look.value["who"] for look in machine.looks) == ["app-1", "app-1", "app-2", "app-2"]
    assert {look.what for look in machine.looks} == {"forged"}
    assert all(look.value["told"] == {"client": "127.0.0.81", "proto": "https"} for look in machine.looks)
    assert all(request.headers["x-forwarded-for"] == "203.0.113.77" for request in seen)
    assert {(request.headers["x-tenant"], request.headers["x-forwarded-proto"]) for request in seen} == {
        ("ada", "http")
    }


def test_an_instance_that_never_answers_is_not_waited_for(certificates: Certificates) -> None:
    """So many requests, and no more: that it was not seen is for a checker to say."""
    one = {"told": lambda talk: talk.answer(b"{}", headers="X-Harness-Upstream: 10.0.0.1:80\r\n")}
    with serving(tls=context_of(certificates), **one) as https, serving() as http:
        machine = Machine(certificates, http.address, https.address)
        Edge(machine).look_at_what_is_told(forged=False)  # type: ignore[arg-type]
        assert len(https.requests("/told")) == 48
    assert [look.value["who"] for look in machine.looks] == ["app-1", "app-1"]


def test_redirects_are_asked_for_in_clear(certificates: Certificates) -> None:
    """With every kind of method, and what they should lead to is written down beside what they led to."""
    with serving() as http:
        machine = Machine(certificates, http.address, ("127.0.0.1", 8443))
        Edge(machine).look_at_redirects()  # type: ignore[arg-type]
        assert [seen.method for seen in http.seen] == ["GET", "GET", "HEAD", "POST", "PUT"]
    assert all(look.value["wanted"].startswith("https://127.0.0.1:8443/") for look in machine.looks)


def test_without_a_page_that_tells_nothing_is_tested(certificates: Certificates) -> None:
    """And which key names one is said."""
    machine = Machine(certificates, ("127.0.0.1", 1), ("127.0.0.1", 1), forwarded=None)
    with pytest.raises(NothingTested, match=r"app\.forwarded"):
        Edge(machine).look_at_what_is_told(forged=False)  # type: ignore[arg-type]


def test_without_tls_there_is_no_edge(certificates: Certificates) -> None:
    """A scenario that asks for it without need is ours to mend."""
    machine = Machine(certificates, ("127.0.0.1", 1), ("127.0.0.1", 1))
    machine.layout.balancer.secure = None
    with pytest.raises(HarnessError, match="TLS"):
        Edge(machine)  # type: ignore[arg-type]
