"""Addresses of IPv6: in brackets wherever a port follows, as servers and balancers expect it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.answers import netloc
from harness.layouts.parts import Instance
from harness.services import answers_well


class Answering(BaseHTTPRequestHandler):
    """Says how it was called."""

    called: list[str] = []  # noqa: RUF012 - one server, one list

    def do_GET(self) -> None:
        self.called.append(self.headers["Host"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *said: object) -> None:
        pass


class Server(HTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def server() -> Iterator[Server]:
    try:
        made = Server(("::1", 0), Answering)
    except OSError as problem:
        pytest.skip(f"this machine has no loopback of IPv6: {problem}")
    Answering.called.clear()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("host", "port", "usual", "told"),
    [
        ("::1", 8080, None, "[::1]:8080"),
        ("::1", 443, 443, "[::1]"),
        ("10.0.0.5", 8080, 443, "10.0.0.5:8080"),
        ("shop.example.org", 80, None, "shop.example.org:80"),
        ("shop.example.org", 80, 80, "shop.example.org"),
    ],
)
def test_host_and_port(host: str, port: int, usual: int | None, told: str) -> None:
    """RFC 3986, 3.2.2; and no port where that goes without saying."""
    assert netloc(host, port, usual=usual) == told


def test_who_is_asked_is_called_as_it_is(server: Server) -> None:
    """Strict servers answer 400 to a host they cannot read."""
    port = int(server.server_address[1])
    assert answers_well("::1", port, "/health")
    assert Answering.called == [f"[::1]:{port}"]


def test_an_instance_is_told_by_its_address() -> None:
    """As balancers write it in their headers and logs."""
    spec: object = None
    assert Instance("web-1", spec, "::1", 8000, spec, spec).address == "[::1]:8000"  # type: ignore[arg-type]
