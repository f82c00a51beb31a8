"""The file that is laid over a person's compose files for one run, so that theirs need not be changed.

It adds labels, by which all of it is found and removed; the harness's own way to each instance, on loopback; the
environment of a new version; and names of its own for volumes and networks, so that a run never meets the data of
another project. Pure. Must not: change how anything is run beyond that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.compose.project import Project
from harness.compose.roles import Roles

__all__ = ["override_for"]

_DATA = ("/var/lib/postgresql", "/var/lib/mysql", "/data", "/bitnami")
"""Where servers keep what they store."""


def override_for(
    project: Project,
    roles: Roles,
    *,
    name: str,
    labels: Mapping[str, str],
    node_label: str,
    app_port: int | None,
    ports: Mapping[str, int],
    images: Mapping[str, str],
    env: Mapping[str, Mapping[str, str]],
    pools: Mapping[str, tuple[str, str]],
) -> str:
    """The text of the override: JSON, which every reader of YAML reads.

    Args:
        name: of the project of this run; its volumes and networks are named after it.
        labels: on everything; `node_label` on containers as well, with the name of their service.
        ports: for each instance the port on loopback under which the harness asks it directly. Containers of one
            service share a range, from its lowest to its highest.
        images: what to call what is built and has no name.
        env: variables of a service on top of its own.
        pools: for a network its subnet, and the part of it that is given away: only then addresses can be chosen.
    """
    services: dict[str, Any] = {}
    for service in project.services.values():
        own: dict[str, Any] = {"labels": {**labels, node_label: service.name}}
        if service.name in roles.app and app_port is not None:
            mine = sorted(ports[place.name] for place in roles.instances if place.service == service.name)
            own["ports"] = [
                {
                    "target": app_port,
                    "host_ip": "127.0.0.1",
                    "published": str(mine[0]) if len(mine) == 1 else f"{mine[0]}-{mine[-1]}",
                    "protocol": "tcp",
                    "mode": "host",
                }
            ]
        if service.name in images:
            own["image"] = images[service.name]
        if service.name in env:
            own["environment"] = dict(env[service.name])
        # Data in a folder of this machine is somebody's, and perhaps in use.
        if mounts := [
            {"type": "volume", "target": mount.target}
            for mount in service.mounts
            if mount.kind == "bind" and not mount.read_only and mount.target.startswith(_DATA)
        ]:
            own["volumes"] = mounts
        services[service.name] = own
    networks: dict[str, Any] = {}
    for key, network in project.networks.items():
        if not network.external:
            networks[key] = {"name": f"{name}_{key}", "labels": dict(labels)}
            if key in pools:
                subnet, given = pools[key]
                networks[key]["ipam"] = {"config": [{"subnet": subnet, "ip_range": given}]}
    volumes = {
        key: {"name": f"{name}_{key}", "labels": dict(labels)}
        for key, external in project.volumes.items()
        if not external
    }
    override = {"services": services, "networks": networks, "volumes": volumes}
    return json.dumps(override, indent=2)
