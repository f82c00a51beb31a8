"""One instance of the application as a node: its command, its environment, and when it is ready.

Must not: know the values of placeholders that belong to other nodes (they are given), or start anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from signal import Signals

from harness.errors import BadInput
from harness.platforms.node import NodeSpec
from harness.services._asking import answers_well
from harness.setup import Setup, expand

__all__ = ["instance_spec"]


def instance_spec(
    setup: Setup,
    *,
    name: str,
    port: int,
    values: Mapping[str, str],
    host: str = "127.0.0.1",
    new_version: bool = False,
) -> NodeSpec:
    """How the instance `name` (`app-1` …) is run, its placeholders filled in from `values` and from what is its own.

    With `new_version` as the setup's rollout says: its env on top of the application's, its command in place of it.
    Ready is a 2xx of the ready path, asked directly. Raises BadInput for an image, and for a folder that is not there.
    """
    app = setup.app
    command = setup.command(new_version=new_version)
    if command is None:
        raise BadInput(f"app.image is {app.image}: to run it natively, give app.command instead")
    own = {
        **values,
        "host": host,
        "port": str(port),
        "instance": name,
        "index": name.rpartition("-")[2],
    }
    directory = setup.directory(own)
    if not directory.is_dir():
        raise BadInput(f"app.directory is {directory}, which is no folder: name the folder the command is run in")
    return NodeSpec(
        name=name,
        argv=tuple(expand(word, own) for word in command),
        env={key: expand(value, own) for key, value in setup.env_of(name, new_version=new_version).items()},
        directory=directory,
        host=host,
        port=port,
        is_ready=lambda: answers_well(host, port, app.ready_path),
        ready_within_seconds=app.ready_within_seconds,
        stop_signal=Signals[app.stop_signal],
        stop_within_seconds=app.stop_within_seconds,
    )
