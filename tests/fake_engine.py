"""A played engine as a whole run or `harness doctor` meets it: empty, unless a test says what is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.scripted_engine import Answer, scripted_engine

INFO: Mapping[str, Any] = {
    "Driver": "overlay2",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "OperatingSystem": "Some Linux 1",
    "Architecture": "x86_64",
    "DockerRootDir": "/",
    "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": False},
}


def version(api: str = "1.41", number: str = "20.10.24") -> dict[str, Any]:
    return {"Version": number, "ApiVersion": api, "Arch": "amd64"}


@contextmanager
def fake_engine(socket: Path, answers: Mapping[str, Any] | None = None, *, silent: bool = False) -> Iterator[list[str]]:
    """One that answers on this socket. `silent`: it accepts, and says nothing.

    `answers`: by path without the API's version, what is sent as JSON, or a pair of status and that. Gives what it was
    asked, as it is asked: `GET /version`.
    """
    known = {"version": version(), "info": INFO, "images/json": [], **(answers or {})}
    over = threading.Event()

    def say(said: Any, *, labelled: bool = False) -> Answer:
        if silent:
            over.wait()
        if isinstance(said, tuple):
            return said
        # The only filter that is ever used for images is one for a label.
        return 200, [each for each in said if each.get("Labels")] if labelled else said

    with scripted_engine(socket) as played:
        for path, said in known.items():
            played.answers[f"GET /{path}"] = lambda said=said: say(said)
            played.answers[f"GET /v1.41/{path}?"] = lambda said=said, path=path: say(
                said, labelled=path == "images/json"
            )
            for method in ("GET", "POST"):
                played.answers[f"{method} /v1.41/{path}"] = lambda said=said: say(said)
        played.answers["GET /v1.41/images/"] = lambda: (404, {"message": "no such image"})
        try:
            yield played.asked
        finally:
            over.set()
    socket.unlink()
