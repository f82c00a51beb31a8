"""One instance of the application as a node: its command, its environment, and when it is ready.

Must not: know the values of placeholders that belong to other nodes (they are given), or start anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from signal import Signals
from typing import Literal

from harness.errors import BadInput
from harness.platforms.node import ContainerSpec, NodeSpec
from harness.platforms.replica import HealthCheck, ReplicatedSpec
from harness.services._asking import answers_well, manner_of
from harness.setup import Setup, expand

__all__ = [
    "MIGRATION",
    "NEXT_MIGRATION",
    "REPLICATED",
    "instance_container",
    "instance_spec",
    "migration_container",
    "migration_spec",
    "replicated_app",
]

REPLICATED = "app"
"""What all replicas are called together: their name on the network, and the first part of each one's own."""
MIGRATION, NEXT_MIGRATION = "migrate", "migrate-next"
"""What runs once before the first instance of a version: its name, and that of its log."""
_NO_INDEX = "0"
_SLOT = "{{.Task.Slot}}"
"""How Swarm lets an environment name the number of the one replica it is for."""
_SLOT_COMES_HERE = "\0"


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
    app, manner = setup.app, manner_of(setup)
    command = setup.command(new_version=new_version)
    if command is None:
        raise BadInput(f"app.image is {app.image}: to run it natively, give app.command as well")
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
        is_ready=lambda: answers_well(host, port, app.ready_path, manner=manner),
        ready_within_seconds=app.ready_within_seconds,
        stop_signal=Signals[app.stop_signal],
        stop_within_seconds=app.stop_within_seconds,
    )


def migration_spec(
    setup: Setup, *, port: int, values: Mapping[str, str], host: str = "127.0.0.1", new_version: bool = False
) -> NodeSpec | None:
    """What runs once before the first instance of a version; None where there is nothing. It is told the `port`, and need not
    listen there. Raises as `instance_spec`."""
    argv = setup.migration(new_version=new_version)
    if argv is None:
        return None
    name = NEXT_MIGRATION if new_version else MIGRATION
    # Everything but what is run is as for an instance, so that it finds the same database in the same way.
    as_instance = instance_spec(setup, name=name, port=port, values=values, host=host, new_version=new_version)
    own = {**values, "host": host, "port": str(port), "instance": name, "index": _NO_INDEX}
    env = setup.env_of("", new_version=new_version)
    return replace(
        as_instance,
        argv=tuple(expand(word, own) for word in argv),
        env={key: expand(value, own) for key, value in env.items()},
        is_ready=lambda: False,
    )


def migration_container(
    setup: Setup, *, port: int, values: Mapping[str, str], new_version: bool = False
) -> ContainerSpec | None:
    """What runs once before the first instance of a version, as a container of its image; None where there is nothing. `port` is
    published like an instance's."""
    command = setup.migration(new_version=new_version)
    if command is None:
        return None
    name = NEXT_MIGRATION if new_version else MIGRATION
    as_instance = instance_container(setup, name=name, port=port, address=None, values=values, new_version=new_version)
    own = {**values, "host": "0.0.0.0", "port": str(setup.app.port), "instance": name, "index": _NO_INDEX}
    env = setup.env_of("", new_version=new_version)
    return replace(
        as_instance,
        command=tuple(expand(word, own) for word in command),
        env={key: expand(value, own) for key, value in env.items()},
        is_ready=lambda: False,
    )


def instance_container(
    setup: Setup,
    *,
    name: str,
    port: int,
    address: str | None,
    values: Mapping[str, str],
    new_version: bool = False,
) -> ContainerSpec:
    """How the instance `name` is run as a container of `app.image`; otherwise as `instance_spec`.

    `port`: where it is published on loopback; inside it is told, and listens on, `app.port`.
    """
    app, manner = setup.app, manner_of(setup)
    image = setup.image(new_version=new_version)
    if image is None:
        raise BadInput("app.image is not given: say which image an instance is, or use --platform native")
    own = {
        **values,
        "host": "0.0.0.0",
        "port": str(app.port),
        "instance": name,
        "index": name.rpartition("-")[2],
    }
    return ContainerSpec(
        name=name,
        image=image,
        command=None if app.image_command is None else tuple(expand(word, own) for word in app.image_command),
        env={key: expand(value, own) for key, value in setup.env_of(name, new_version=new_version).items()},
        container_port=app.port,
        port=port,
        address=address,
        is_ready=lambda: answers_well("127.0.0.1", port, app.ready_path, manner=manner),
        ready_within_seconds=app.ready_within_seconds,
        # An image says itself how it is stopped, unless the setup does.
        stop_signal=Signals[app.stop_signal] if "stop_signal" in app.model_fields_set else None,
        stop_within_seconds=app.stop_within_seconds,
    )


def replicated_app(
    setup: Setup, *, values: Mapping[str, str], which: Literal["first", "next", "bad"]
) -> ReplicatedSpec:
    """How an orchestrator runs the application: the version it begins with, the next one, or one that is never healthy.

    Every replica has the same environment, but for `{instance}` and `{index}`, which Swarm fills in for each. Raises
    BadInput for what cannot be said of all of them together.
    """
    app, swarm = setup.app, setup.swarm
    image = setup.image(new_version=which == "next")
    if image is None:
        raise BadInput("app.image is not given: a swarm runs images; say which one a replica is")
    if app.instance_env:
        raise BadInput(
            f"app.instance_env names {', '.join(app.instance_env)}: replicas of one service cannot differ, so give all of "
            "them the same environment (app.env), or use --platform docker"
        )
    own = {
        **values,
        "host": "0.0.0.0",
        "port": str(app.port),
        "instance": f"{REPLICATED}-{_SLOT_COMES_HERE}",
        "index": _SLOT_COMES_HERE,
    }
    commands = {"app.image_command": app.image_command, "swarm.health": swarm.health}
    told = {key: tuple(expand(word, own) for word in words) for key, words in commands.items() if words is not None}
    for key, words in told.items():
        if any(_SLOT_COMES_HERE in word for word in words):
            raise BadInput(
                f"{key} uses {{instance}} or {{index}}: the command of a service is the same for all its replicas; "
                "name them in app.env, and read that variable"
            )
    env = setup.bad_env if which == "bad" else setup.env_of("", new_version=which == "next")
    return ReplicatedSpec(
        name=REPLICATED,
        version=env.get("APP_VERSION", {"first": "old", "next": "new", "bad": "bad"}[which]),
        image=image,
        command=told.get("app.image_command"),
        env={key: _for_swarm(expand(value, own)) for key, value in env.items()},
        container_port=app.port,
        health=HealthCheck(
            command=told.get("swarm.health"),
            interval_seconds=swarm.health_interval_seconds,
            start_seconds=swarm.health_start_seconds,
            retries=swarm.health_retries,
        ),
        stop_signal=app.stop_signal if "stop_signal" in app.model_fields_set else None,
        stop_within_seconds=app.stop_within_seconds,
        ready_within_seconds=app.ready_within_seconds,
    )


def _for_swarm(value: str) -> str:
    """A value of the environment as Swarm must be told it: what looks like one of its templates is none of ours."""
    return value.replace("{{", '{{"{{"}}').replace(_SLOT_COMES_HERE, _SLOT)
