"""A container engine that is played: it speaks HTTP on a socket, knows a few things with labels, and can misbehave."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

VERSION = {"Version": "27.0", "ApiVersion": "1.46", "Arch": "amd64"}

Answer = tuple[int, Any]


class ScriptedEngine:
    """What it has, what it was asked, and how it answers where it does not do as an engine does."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.asked: list[str] = []
        self.sent: list[Any] = []
        """The bodies of what it was asked."""
        self.things: dict[str, list[dict[str, Any]]] = {"containers": [], "networks": [], "volumes": []}
        self.answers: dict[str, Callable[[], Answer]] = {"GET /version": lambda: (200, VERSION)}
        """By the begin of method and path: what is said instead of what an engine says."""
        self._changing = threading.Lock()

    def has(
        self,
        kind: str,
        name: str,
        *,
        running: bool = False,
        created: float = 0.0,
        network: str = "bridge",
        **labels: str,
    ) -> None:
        """Put a thing there, with the labels `harness.<key>`."""
        thing: dict[str, Any] = {"Labels": {f"harness.{key}": value for key, value in labels.items()}}
        if kind == "containers":
            thing |= {"Id": name, "Names": [f"/{name}"], "State": "running" if running else "exited"}
            thing["Created"] = int(created)
            thing["NetworkSettings"] = {"Networks": {network: {}}}
        else:
            thing |= {"Id": name, "Name": name, "Created": "1970-01-01T00:00:00.123456789Z"}
        self.things[kind].append(thing)

    def names(self) -> list[str]:
        return [each["Id"] for things in self.things.values() for each in things]

    def answer(self, method: str, target: str) -> Answer:
        asked = f"{method} {unquote(target)}"
        self.asked.append(asked)
        for begin, scripted in self.answers.items():
            if asked.startswith(begin):
                return scripted()
        url = urlsplit(target)
        if url.path in ("/services", "/swarm", "/nodes"):
            return 503, {"message": "This node is not a swarm manager."}
        kind, _, name = url.path.lstrip("/").partition("/")
        with self._changing:
            if method == "DELETE":
                before = len(self.names())
                self.things[kind] = [each for each in self.things[kind] if each["Id"] != unquote(name)]
                return (204, None) if len(self.names()) < before else (404, {"message": f"no such thing: {name}"})
            if not url.query:
                return 200, [each for each in self.things[kind] if each.get("State") == "running"]
            wanted, _, value = json.loads(parse_qs(url.query)["filters"][0])["label"][0].partition("=")
            found = [
                each
                for each in self.things[kind]
                if wanted in each["Labels"] and (not value or each["Labels"][wanted] == value)
            ]
        return 200, {"Volumes": found or None} if kind == "volumes" else found


@contextmanager
def scripted_engine(path: Path) -> Iterator[ScriptedEngine]:
    """One that answers on this socket."""
    played = ScriptedEngine(path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if sent:
                played.sent.append(json.loads(sent))
            status, said = played.answer(self.command, self.path)
            body = b"" if said is None else said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_POST = handle_one  # noqa: N815 - the names http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """An answer that raises is a connection that breaks."""

    with Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield played
        finally:
            server.shutdown()
