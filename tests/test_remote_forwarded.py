"""Instances elsewhere whose port somebody forwards (docker, `ssh -L`): who forwards accepts for nobody, too."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.errors import NodeError
from harness.platforms.remote import RemoteNode, RemoteSpec
from harness.workspace import Workspace

DOES = (sys.executable, "-S", "-c", "")
FAILS = (sys.executable, "-S", "-c", "raise SystemExit(3)")


@pytest.fixture
def forwarder() -> Iterator[int]:
    """Its port: it accepts and closes, because whom it forwards to is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:  # the test is over
                    return

        threading.Thread(target=forward, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="test", seed=os.getpid(), runtime=tmp_path) as made:
        yield made


def node(workspace: Workspace, port: int, hooks: Mapping[str, tuple[str, ...]]) -> RemoteNode:
    spec = RemoteSpec(name="web-1", host="127.0.0.1", port=port, is_ready=lambda: True, hooks=hooks)
    made = RemoteNode(spec, next_spec=None, workspace=workspace)
    made.start()  # it was there before
    return made


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_who_accepts_and_says_nothing_is_gone(workspace: Workspace, forwarder: int, how: str) -> None:
    """It counts as stopped although a connection can be had."""
    web = node(workspace, forwarder, {how: DOES, "start": DOES})
    web.stop() if how == "stop" else web.kill()
    assert not web.is_running()
    assert "accepts no connections" in web.proof
    web.start()
    assert web.is_running()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_hook_that_fails_may_have_done_half_of_it(workspace: Workspace, forwarder: int, how: str) -> None:
    """So the instance is started before it is given back, as one that was stopped."""
    web = node(workspace, forwarder, {how: FAILS, "start": DOES})
    with pytest.raises(NodeError, match="ended with exit code 3"):
        web.stop() if how == "stop" else web.kill()
    assert not web.is_running()


def test_a_freeze_that_fails_is_undone(workspace: Workspace, forwarder: int) -> None:
    """By the hook that lets it go on."""
    web = node(workspace, forwarder, {"pause": FAILS, "resume": DOES})
    with pytest.raises(NodeError, match="ended with exit code 3"):
        web.hang()
    assert web.is_hung()
    web.resume()
    assert not web.is_hung()
