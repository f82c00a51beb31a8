"""A setup as processes of this machine, every server from a wheel or from PATH.

Must not: start anything.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

from harness import assets
from harness.layouts.parts import Database, Instance, Layout, Store, named_port, secured, session_counter
from harness.platforms.native import NativeNode, NativePlatform
from harness.ports import PortLeases
from harness.services import (
    HaproxyService,
    NginxService,
    PostgresService,
    RedisService,
    Secure,
    binaries,
    instance_spec,
    migration_spec,
)
from harness.setup import Environment, Setup
from harness.workspace import Workspace

__all__ = ["lay_out"]

_HOST = "127.0.0.1"
GREEN = "-green"
"""What is added to the name of an instance for the one that stands by for it."""


def lay_out(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """Every node of the setup, as processes.

    Raises:
        BadInput: the setup cannot be run natively, or a server is missing.
    """
    del stack, say  # processes leave nothing but themselves, and nothing takes long
    platform = NativePlatform(workspace, passed_on=environment.passed_on)
    balancer_port = named_port(ports, setup.balancer.port)
    addresses = {name: (_HOST, ports.take()) for name in setup.app.names}
    postgres = redis = database = None
    stores: list[Store] = []
    if setup.postgres is not None:
        program = binaries.find(f"postgres-{setup.postgres.version}", environment=environment)
        postgres = PostgresService(setup.postgres, program=program, workspace=workspace, port=ports.take())
        database = Database(platform.add(postgres.spec), postgres.prepare, postgres.after_ready, empty=postgres.empty)
        stores.append(database)
    if setup.redis is not None:
        program = binaries.find("redis", environment=environment)
        redis = RedisService(setup.redis, program=program, workspace=workspace, port=ports.take())
        stores.append(Store(platform.add(redis.spec), redis.prepare))
    standing_by = (
        {f"{name}{GREEN}": (_HOST, ports.take()) for name in setup.app.names}
        if setup.rollout.kind == "blue-green"
        else {}
    )
    balancer = _balancer(
        setup,
        environment=environment,
        workspace=workspace,
        port=balancer_port,
        upstreams=addresses,
        standby=standing_by,
        secure=secured(setup, workspace=workspace, ports=ports),
    )
    secret = secrets.token_urlsafe(32)
    values = {
        "secret": secret,
        "sessions.store": setup.sessions.store,
        "python": sys.executable,
        "reference_app": str(assets.path("reference_app").parent),
        "run": workspace.run_id,
        **balancer.values(),
        **(postgres.values() if postgres is not None else {}),
        **(redis.values() if redis is not None else {}),
    }
    instances = []
    for name, (host, port) in addresses.items():
        spec = instance_spec(setup, name=name, port=port, values=values, host=host)
        next_spec = instance_spec(setup, name=name, port=port, values=values, host=host, new_version=True)
        platform.check(spec, what="app.command")
        platform.check(next_spec, what="rollout.command")
        instances.append(
            Instance(name, platform.add(spec), host, port, spec, next_spec, seen_as=(f"{host}:{port}", name))
        )

    migrations: dict[bool, NativeNode] = {}
    for new_version in (False, True):
        ran_once = migration_spec(setup, port=ports.take(), values=values, host=_HOST, new_version=new_version)
        if ran_once is not None:
            platform.check(ran_once, what="rollout.migrate" if new_version else "app.migrate")
            migrations[new_version] = platform.add(ran_once)

    standby = []
    for name, (host, port) in standing_by.items():
        # Its own word is that of the one it will stand for; only the harness and the balancer call it something else.
        role = name.removesuffix(GREEN)
        spec = replace(
            instance_spec(setup, name=role, port=port, values=values, host=host, new_version=True), name=name
        )
        standby.append(Instance(name, platform.add(spec), host, port, spec, spec, seen_as=(f"{host}:{port}", name)))

    return Layout(
        platform="native",
        instances=tuple(instances),
        standby=tuple(standby),
        migration=migrations.get(False),
        next_migration=migrations.get(True),
        balancer=balancer,
        balancer_node=platform.add(balancer.process_spec()),
        prepare_balancer=balancer.prepare,
        stores=tuple(stores),
        database=database,
        count_sessions=session_counter(setup, postgres=postgres, redis=redis),
        secrets=(secret, *(postgres.secrets if postgres else ()), *(redis.secrets if redis else ())),
    )


def _balancer(
    setup: Setup,
    *,
    environment: Environment,
    workspace: Workspace,
    port: int,
    upstreams: Mapping[str, tuple[str, int]],
    standby: Mapping[str, tuple[str, int]],
    secure: Secure | None,
) -> NginxService | HaproxyService:
    settings = setup.balancer
    program = binaries.find(settings.kind, environment=environment)
    if settings.kind == "nginx":
        return NginxService.native(
            settings,
            program=program,
            workspace=workspace,
            port=port,
            upstreams=upstreams,
            secure=secure,
            standby=standby,
        )
    return HaproxyService.native(
        settings,
        program=program,
        workspace=workspace,
        port=port,
        upstreams=upstreams,
        health=setup.app.health,
        check_headers=setup.traffic.headers,
        secure=secure,
        standby=standby,
    )
