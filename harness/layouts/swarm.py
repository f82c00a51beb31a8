"""A setup as a service of Docker Swarm, with its stores and its balancer as containers on the same overlay network.

Must not: start anything, or know how the engine is spoken to.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack

from harness import engine, images
from harness.errors import BadInput
from harness.layouts.docker import migration, nginx_version
from harness.layouts.parts import Layout, Replicated, Store, named_port, secured, session_counter
from harness.platforms.swarm import SwarmPlatform, SwarmService
from harness.ports import PortLeases
from harness.services import REPLICATED, NginxService, PostgresContainer, RedisContainer, replicated_app
from harness.setup import Environment, Setup
from harness.workspace import Workspace

__all__ = ["lay_out"]


def lay_out(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """Every node of the setup: one service, and containers. Network, and a swarm made for this, go with the stack.

    Raises:
        BadInput: no engine, no manager of a swarm, an image that cannot be had, or a setup a swarm cannot run.
    """
    if setup.balancer.kind != "nginx":
        raise BadInput(
            f"balancer.kind is {setup.balancer.kind}, and on the platform swarm replicas are balanced by nginx alone: write "
            'balancer.kind = "nginx", or use --platform docker'
        )
    if setup.balancer.pool is not None:
        raise BadInput(
            "balancer.pool names single instances: replicas of a swarm come and go, and the balancer is told their "
            "common name; leave it out, or use --platform docker"
        )
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
    platform = stack.enter_context(SwarmPlatform(workspace, environment=environment))

    postgres = redis = None
    stores: list[Store] = []
    if setup.postgres is not None:
        postgres = PostgresContainer(setup.postgres, image=image_of("postgres"), port=ports.take())
        stores.append(Store(platform.add(postgres.spec), after_ready=postgres.after_ready))
    if setup.redis is not None:
        redis = RedisContainer(image=image_of("redis"), port=ports.take())
        stores.append(Store(platform.add(redis.spec)))
    balancer = NginxService.in_container(
        setup.balancer,
        version=nginx_version(platform, image_of("nginx")),
        port=balancer_port,
        # One name for all of them: who that is changes while the setup runs.
        upstreams={REPLICATED: (REPLICATED, setup.app.port)},
        resolves=setup.balancer.resolve != "at-start",
        secure=secured(setup, workspace=workspace, ports=ports),
    )
    secret = secrets.token_urlsafe(32)
    values = {
        "secret": secret,
        "sessions.store": setup.sessions.store,
        "run": workspace.run_id,
        "balancer.url": balancer.url,
        **(postgres.values() if postgres is not None else {}),
        **(redis.values() if redis is not None else {}),
    }
    if setup.rollout.migrate is not None:
        raise BadInput(
            f"rollout.migrate is {' '.join(setup.rollout.migrate)}, and an update of a swarm is one order to it, with nothing before: "
            "leave it out, or use --platform docker"
        )
    swarm = setup.swarm
    first = replicated_app(setup, values=values, which="first")
    checked = bool(swarm.health) if swarm.health is not None else platform.checks_health(first.image)
    return Layout(
        platform="swarm",
        instances=(),
        replicated=Replicated(
            orchestrator=SwarmService(
                platform, name=REPLICATED, settings=swarm, log=workspace.logs / f"{REPLICATED}.log"
            ),
            first=first,
            next=replicated_app(setup, values=values, which="next"),
            bad=replicated_app(setup, values=values, which="bad") if setup.rollout.bad_env else None,
        ),
        migration=migration(setup, platform=platform, ports=ports, values=values),
        balancer=balancer,
        balancer_node=platform.add(balancer.container_spec(image_of("nginx"))),
        stores=tuple(stores),
        count_sessions=session_counter(setup, postgres=postgres, redis=redis),
        beside=platform,
        secrets=(secret, *(postgres.secrets if postgres else ()), *(redis.secrets if redis else ())),
        facts={
            # Neither is done by the harness here.
            "rollout": "by-orchestrator",
            "drain": "by-orchestrator",
            "resolve": setup.balancer.resolve,
            "swarm": {**swarm.model_dump(mode="json"), "checked": checked},
        },
        # It finds nobody before they are there, and would look again only a second later.
        balancer_waits=True,
    )
