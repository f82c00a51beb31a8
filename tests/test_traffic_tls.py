"""The traffic over TLS: what it believes, what it takes for sent, and what it takes for an answer."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted_server import Talk, serving

from harness.certificates import Certificates, make_certificates
from harness.model import Connection, Operation, Outcome
from harness.traffic import Stream
from tests.test_traffic import GET, Rig, paths

FRESH, REUSED = Connection.FRESH, Connection.REUSED
POST = {"get": {"steps": [{"post": "/x", "form": {"n": "1"}}]}}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "127.0.0.1")


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.balancer)
    return context


@contextmanager
def rigged(
    tmp_path: Path, certificates: Certificates, journeys: dict = GET, *, speaks: ssl.SSLContext | None = None, **server
) -> Iterator[Rig]:
    """A rig whose balancer speaks TLS; the instance behind it, asked directly, does not."""
    context = speaks or server_context(certificates)
    with serving(tls=context, **server) as balancer, serving(**server) as instance:
        targets = {"balancer": balancer.address, "app-1": instance.address}
        with Rig(tmp_path, balancer, journeys, targets=targets, secure={"balancer": certificates.authority}) as rig:
            yield rig


def only(operations: list[Operation]) -> Operation:
    (operation,) = operations
    return operation


def surely_without_effect(operation: Operation) -> bool:
    return operation.outcome is Outcome.FAILED and operation.sent is None and operation.answered is None


class TestConnections:
    def test_each_fresh_one_shakes_hands_anew(self, tmp_path, certificates):
        """No session is resumed: each stands for somebody who was never here."""
        with rigged(tmp_path, certificates) as rig:
            operations = rig.ask(times=3)
            assert [(op.outcome, op.connection) for op in operations] == [(Outcome.OK, FRESH)] * 3
            assert rig.server.handshakes == [False] * 3
            assert all(op.due <= op.sent <= op.answered for op in operations)

    def test_a_reused_one_shakes_hands_once(self, tmp_path, certificates):
        """Tickets for later sessions, which come unasked, disturb nobody."""
        with rigged(tmp_path, certificates) as rig:
            operations = rig.ask(times=4, connection=REUSED)
            assert [op.connection for op in operations] == [FRESH, REUSED, REUSED, REUSED]
            assert {op.outcome for op in operations} == {Outcome.OK}
            assert rig.server.handshakes == [False]

    def test_one_that_was_ended_while_idle_is_nobody_s_failure(self, tmp_path, certificates):
        """It was gone before anything was sent."""
        with rigged(tmp_path, certificates) as rig:
            only(rig.ask(connection=REUSED))
            rig.server.end_connections()
            again = only(rig.ask(connection=REUSED))
            assert (again.outcome, again.connection) == (Outcome.OK, FRESH)

    def test_one_that_says_goodbye_with_its_answer_carries_no_other_request(self, tmp_path, certificates):
        """Though the answer did not say so in its head."""

        def answer_and_leave(talk: Talk) -> None:
            talk.answer()
            talk.close()

        with rigged(tmp_path, certificates, x=answer_and_leave) as rig:
            operations = rig.ask(times=3, connection=REUSED)
            assert [op.outcome for op in operations] == [Outcome.OK] * 3
            assert [op.connection for op in operations] == [FRESH] * 3

    def test_an_instance_asked_directly_is_asked_in_clear(self, tmp_path, certificates):
        """TLS ends at the balancer."""
        with rigged(tmp_path, certificates) as rig:
            assert only(rig.ask(via="app-1")).outcome is Outcome.OK
            assert rig.server.seen == []

    def test_a_stream_is_all_answered(self, tmp_path, certificates):
        """Fresh and reused connections beside each other, many at a time."""
        with rigged(tmp_path, certificates) as rig:
            rig.traffic.start_stream(Stream("s", 50, rig.traffic.new_visitors(3), journeys={"get": 1.0}))
            rig.server.wait_for(20, "/x")
            assert rig.traffic.stop_stream("s").sent >= 20
            operations = [op for op in rig.operations() if op.error != "unsent"]
            assert {op.outcome for op in operations} == {Outcome.OK}
            assert {op.connection for op in operations} == {FRESH, REUSED}


class TestAnswers:
    @pytest.mark.parametrize("size", [0, 1, 16_384, 300_000])
    def test_a_body_of_any_size_arrives_whole(self, tmp_path, certificates, size):
        """Also where it takes many records."""
        journeys = {
            "get": {"steps": [{"get": "/x", "expect": {"status": 200, **({"contains": "end"} if size > 3 else {})}}]}
        }
        body = (b"x" * size)[:-3] + b"end"[: min(3, size)]
        with rigged(tmp_path, certificates, journeys, x=lambda talk: talk.answer(body)) as rig:
            assert {op.outcome for op in rig.ask(times=2, connection=REUSED)} == {Outcome.OK}

    def test_one_of_unsaid_length_ends_with_a_goodbye(self, tmp_path, certificates):
        """That is what close_notify is for."""

        def until_the_end(talk: Talk) -> None:
            talk.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            talk.close()

        with rigged(tmp_path, certificates, x=until_the_end) as rig:
            assert only(rig.ask()).outcome is Outcome.OK

    @pytest.mark.parametrize(
        ("said", "error"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nhalf", "truncated"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "truncated"),
            (b"HTTP/1.1 200 OK\r\nX-H", "truncated"),
            (b"", "closed"),
        ],
        ids=["unsaid length", "said length", "head", "nothing"],
    )
    def test_one_that_is_cut_is_none(self, tmp_path, certificates, said, error):
        """Anybody on the way can end a connection: only TLS's own goodbye ends an answer. It may have had its effect."""

        def cut(talk: Talk) -> None:
            talk.send(said)
            talk.cut()

        with rigged(tmp_path, certificates, x=cut) as rig:
            operation = only(rig.ask())
            assert (operation.error, operation.outcome) == (error, Outcome.UNKNOWN)
            assert operation.sent is not None
            assert len(rig.server.requests("/x")) == 1

    @pytest.mark.parametrize("connection", [FRESH, REUSED])
    def test_a_reset_after_the_request_is_unknown_and_never_sent_again(self, tmp_path, certificates, connection):
        """On fresh and on reused connections."""

        def reset(talk: Talk) -> None:
            if len(talk.server.requests("/x")) == times:
                talk.says_goodbye = False
                talk.reset()
            else:
                talk.answer()

        times = 1 if connection is FRESH else 2
        with rigged(tmp_path, certificates, POST, x=reset) as rig:
            last = rig.ask(times=times, connection=connection)[-1]
            assert (last.error, last.outcome, last.connection) == ("reset", Outcome.UNKNOWN, connection)
            assert len(rig.server.requests("/x")) == times

    def test_silence_is_a_timeout(self, tmp_path, certificates):
        """After a request that was sent."""
        with rigged(tmp_path, certificates, x=Talk.wait_until_released) as rig:
            operation = only(rig.ask(timeout_seconds=0.3))
            rig.server.released.set()
            assert (operation.error, operation.outcome) == ("timeout", Outcome.UNKNOWN)
            assert "no whole answer" in operation.detail


class TestHandshakes:
    """One that fails has surely had no effect, whatever broke it."""

    def test_somebody_else_s_certificate_is_not_believed(self, tmp_path, certificates):
        """One that another authority signed, for the right name."""
        stranger = make_certificates(tmp_path / "stranger", "127.0.0.1")
        with rigged(tmp_path, certificates, POST, speaks=server_context(stranger)) as rig:
            operation = only(rig.ask())
            assert operation.error == "tls"
            assert "the certificate is not to be believed" in operation.detail
            assert surely_without_effect(operation)
            assert rig.server.seen == []

    def test_a_certificate_for_another_name_is_not_believed(self, tmp_path):
        """Though the right authority signed it."""
        other = make_certificates(tmp_path / "other", "127.0.0.2")
        with rigged(tmp_path, other) as rig:
            operation = only(rig.ask())
            assert operation.error == "tls"
            assert "127.0.0.1" in operation.detail

    def test_old_versions_are_not_spoken(self, tmp_path, certificates):
        """By the traffic, whatever the balancer would."""
        context = server_context(certificates)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with rigged(tmp_path, certificates, speaks=context) as rig:
            assert surely_without_effect(only(rig.ask()))

    def test_http_in_clear_is_no_tls(self, tmp_path, certificates):
        """As from a balancer that forgot the word ssl."""
        with rigged(tmp_path, certificates, on_connect=_answer_in_clear) as rig:
            operation = only(rig.ask())
            assert operation.error == "tls"
            assert surely_without_effect(operation)

    def test_an_end_is_told_as_one(self, tmp_path, certificates):
        """A balancer that stops may accept and say nothing more."""
        with rigged(tmp_path, certificates, POST, on_connect=_hear_then_leave) as rig:
            operation = only(rig.ask())
            assert (operation.error, "handshake" in operation.detail) == ("closed", True)
            assert surely_without_effect(operation)

    def test_a_reset_is_told_as_one(self, tmp_path, certificates):
        """Before the request had left."""
        with rigged(tmp_path, certificates, POST, on_connect=_reset) as rig:
            operation = only(rig.ask())
            assert operation.error == "reset"
            assert surely_without_effect(operation)

    def test_silence_is_told_as_one(self, tmp_path, certificates):
        """Connected, and no handshake: a balancer that is frozen."""
        held: list[socket.socket] = []

        def keep_silent(connection: socket.socket) -> bool:
            held.append(connection.dup())
            return False

        with rigged(tmp_path, certificates, on_connect=keep_silent) as rig:
            operation = only(rig.ask(timeout_seconds=0.3))
            assert (operation.error, operation.detail) == ("timeout", "no handshake of TLS within 0.3 s")
            assert surely_without_effect(operation)
        for connection in held:
            connection.close()

    def test_a_refusal_is_told_as_one(self, tmp_path, certificates):
        """Nobody listens there."""
        with rigged(tmp_path, certificates, paths("x")) as rig, socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            rig.traffic.retarget({"balancer": unused.getsockname()}, {})
            operation = only(rig.ask("x"))
            assert operation.error == "refused"
            assert surely_without_effect(operation)


def _answer_in_clear(connection: socket.socket) -> bool:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    return False


def _hear_then_leave(connection: socket.socket) -> bool:
    connection.recv(4096)
    return False


def _reset(connection: socket.socket) -> bool:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def test_certificates_are_private(tmp_path: Path) -> None:
    """The key is its owner's alone, and the authority's own key is nowhere."""
    made = make_certificates(tmp_path / "tls", "127.0.0.1", "localhost")
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert made.balancer.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE KEY" in made.balancer.read_bytes()
    assert b"PRIVATE KEY" not in made.authority.read_bytes()
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {"authority.pem", "balancer.pem"}


def test_each_run_has_its_own(tmp_path: Path) -> None:
    """What one run believes says nothing to another."""
    one, other = (make_certificates(tmp_path / name, "127.0.0.1") for name in ("a", "b"))
    assert one.authority.read_bytes() != other.authority.read_bytes()
