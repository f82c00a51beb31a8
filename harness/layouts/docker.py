"""A setup as containers on a network of their own, published on loopback only.

Must not: start anything, or know how the engine is spoken to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from harness import engine, images
from harness.layouts.parts import Database, Instance, Layout, Store, named_port, secured, session_counter
from harness.platforms.docker import ContainerNode, DockerPlatform
from harness.ports import PortLeases
from harness.services import (
    HaproxyService,
    NginxService,
    PostgresContainer,
    RedisContainer,
    Secure,
    instance_container,
    migration_container,
)
from harness.setup import Environment, Setup
from harness.workspace import Workspace

__all__ = ["lay_out", "migration", "nginx_version"]

_HOST = "127.0.0.1"


def lay_out(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """Every node of the setup, as containers of images that are there. The network goes with the stack.

    Raises:
        BadInput: no engine, an image that cannot be had, or a setup that cannot be run in containers.
    """
    balancer_port = named_port(ports, setup.balancer.port)

    def image_of(what: str) -> str:
        return images.resolve(what, setup.images, default=environment.images)

    kinds = [
        setup.balancer.kind,
        *(["postgres"] if setup.postgres is not None else []),
        *(["redis"] if setup.redis is not None else []),
    ]
    wanted = {f"images.{kind}": image_of(kind) for kind in kinds}
    wanted_of_app = {"app.image": setup.image(), "rollout.image": setup.image(new_version=True)}
    images.ensure_all(wanted | wanted_of_app, where=engine.address(environment), on_progress=say)
    platform = stack.enter_context(DockerPlatform(workspace, environment=environment))

    postgres = redis = database = None
    stores: list[Store] = []
    if setup.postgres is not None:
        postgres = PostgresContainer(setup.postgres, image=image_of("postgres"), port=ports.take())
        database = Database(platform.add(postgres.spec), after_ready=postgres.after_ready, empty=postgres.empty)
        stores.append(database)
    if setup.redis is not None:
        redis = RedisContainer(image=image_of("redis"), port=ports.take())
        stores.append(Store(platform.add(redis.spec)))

    secret = secrets.token_urlsafe(32)
    addresses = {name: (platform.new_address(), platform.new_address()) for name in setup.app.names}
    told = setup.balancer.resolve == "when-told"
    balancer = _balancer(
        setup,
        image=image_of(setup.balancer.kind),
        platform=platform,
        ports=ports,
        port=balancer_port,
        # By name, as people write it, what a name means may change while the setup runs.
        hosts={name: first if told else name for name, (first, _) in addresses.items()},
        secure=secured(setup, workspace=workspace, ports=ports),
    )
    values = {
        "secret": secret,
        "sessions.store": setup.sessions.store,
        "run": workspace.run_id,
        "balancer.url": balancer.url,
        **(postgres.values() if postgres is not None else {}),
        **(redis.values() if redis is not None else {}),
    }
    instances = tuple(
        _instance(setup, name, at=at, platform=platform, port=ports.take(), values=values)
        for name, at in addresses.items()
    )
    return Layout(
        platform="docker",
        instances=instances,
        migration=migration(setup, platform=platform, ports=ports, values=values),
        next_migration=migration(setup, platform=platform, ports=ports, values=values, new_version=True),
        balancer=balancer,
        balancer_node=platform.add(balancer.container_spec(image_of(setup.balancer.kind))),
        stores=tuple(stores),
        database=database,
        count_sessions=session_counter(setup, postgres=postgres, redis=redis),
        beside=platform,
        secrets=(secret, *(postgres.secrets if postgres else ()), *(redis.secrets if redis else ())),
        balancer_waits=setup.balancer.resolve == "at-start",
    )


def migration(
    setup: Setup,
    *,
    platform: DockerPlatform,
    ports: PortLeases,
    values: Mapping[str, str],
    new_version: bool = False,
) -> ContainerNode | None:
    """What is run once before the first instance of a version, as a container; None for nothing."""
    spec = migration_container(setup, port=ports.take(), values=values, new_version=new_version)
    return None if spec is None else platform.add(spec)


def _balancer(
    setup: Setup,
    *,
    image: str,
    platform: DockerPlatform,
    ports: PortLeases,
    port: int,
    hosts: Mapping[str, str],
    secure: Secure | None,
) -> NginxService | HaproxyService:
    upstreams = {name: (host, setup.app.port) for name, host in hosts.items()}
    resolves = setup.balancer.resolve == "always"
    if setup.balancer.kind == "haproxy":
        return HaproxyService.in_container(
            setup.balancer,
            port=port,
            admin_port=ports.take(),
            upstreams=upstreams,
            health=setup.app.health,
            check_headers=setup.traffic.headers,
            resolves=resolves,
            secure=secure,
        )
    return NginxService.in_container(
        setup.balancer,
        version=nginx_version(platform, image),
        port=port,
        upstreams=upstreams,
        resolves=resolves,
        secure=secure,
    )


def nginx_version(platform: DockerPlatform, image: str) -> str:
    """As the official image says it in its environment; any other is asked."""
    told = platform.image_env(image).get("NGINX_VERSION")
    return told or platform.ask(image, "nginx", "-v").partition("/")[2]


def _instance(
    setup: Setup,
    name: str,
    *,
    at: tuple[str, str],
    platform: DockerPlatform,
    port: int,
    values: Mapping[str, str],
) -> Instance:
    first, second = at
    spec, next_spec = (
        instance_container(setup, name=name, port=port, address=first, values=values, new_version=new)
        for new in (False, True)
    )
    platform.check(spec)
    inside = setup.app.port
    return Instance(
        name,
        platform.add(spec, moves_to=second),
        _HOST,
        port,
        spec,
        next_spec,
        seen_as=(f"{first}:{inside}", f"{second}:{inside}", name),
    )
