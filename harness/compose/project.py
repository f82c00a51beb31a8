"""What `docker compose config --format json` says of a project, as frozen facts.

Must not: run anything, or decide what a service is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Mount", "Network", "Project", "Published", "Service", "parse_project"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A port of a container that is published on this machine."""

    target: int
    """Inside the container."""
    published: str = ""
    """On this machine: a port, a range such as `8000-8002`, or nothing for any free one."""
    host_ip: str = ""
    """Empty: every address of this machine."""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Something of this machine, or a volume, inside a container."""

    kind: str
    """`bind`, `volume` or `tmpfs`."""
    source: str = ""
    target: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the project."""

    name: str
    image: str | None = None
    build: str | None = None
    """The folder it is built from, absolute."""
    build_file: str = ""
    command: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    exposed: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()
    depends_on: tuple[str, ...] = ()
    replicas: int = 1
    container_name: str | None = None
    network_mode: str | None = None
    networks: tuple[str, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Fixed addresses, by network."""
    restarts: bool = False
    """Whether its containers are started again when they die."""

    @property
    def image_word(self) -> str:
        """The last part of the image's name, without registry and tag: `postgres` of `docker.io/library/postgres:17`."""
        return (self.image or "").partition("@")[0].rpartition("/")[2].partition(":")[0].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the project."""

    external: bool = False
    """Made and kept by somebody else."""
    name: str = ""
    """On the engine."""
    subnet: str = ""
    """The one it is to have; empty for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A compose project as its files say it."""

    files: tuple[Path, ...]
    services: Mapping[str, Service]
    networks: Mapping[str, Network]
    volumes: Mapping[str, bool]
    """By name, whether it is external: made and kept by somebody else."""
    unset: tuple[str, ...] = ()
    """Variables that the files use and nobody has set."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.files))


def parse_project(config: Mapping[str, Any], *, files: tuple[Path, ...] = (), unset: tuple[str, ...] = ()) -> Project:
    """The project in the canonical form that the compose command prints."""
    return Project(
        files=files,
        services={name: _service(name, told or {}) for name, told in (config.get("services") or {}).items()},
        networks={name: _network(told or {}) for name, told in (config.get("networks") or {}).items()},
        volumes={name: bool((told or {}).get("external")) for name, told in (config.get("volumes") or {}).items()},
        unset=unset,
    )


def _network(told: Mapping[str, Any]) -> Network:
    pools = (told.get("ipam") or {}).get("config") or []
    return Network(
        external=bool(told.get("external")),
        name=told.get("name") or "",
        subnet=next((pool["subnet"] for pool in pools if pool.get("subnet")), ""),
    )


def _is_restarted(told: Mapping[str, Any]) -> bool:
    """By its `restart:`, or by `deploy.restart_policy`, which comes first."""
    policy = (told.get("deploy") or {}).get("restart_policy")
    if policy is not None:
        return (policy.get("condition") or "any") != "none"
    return (told.get("restart") or "no") != "no"


def _service(name: str, told: Mapping[str, Any]) -> Service:
    build = told.get("build") or {}
    command = told.get("command")
    deploy = told.get("deploy") or {}
    replicas = told.get("scale", deploy.get("replicas"))
    return Service(
        name=name,
        restarts=_is_restarted(told),
        image=told.get("image"),
        build=build.get("context"),
        build_file=build.get("dockerfile", ""),
        command=tuple(command) if command else None,
        environment={
            key: "" if value is None else str(value) for key, value in (told.get("environment") or {}).items()
        },
        published=tuple(
            Published(
                target=int(port["target"]),
                published=str(port.get("published") or ""),
                host_ip=port.get("host_ip") or "",
                protocol=port.get("protocol") or "tcp",
            )
            for port in told.get("ports") or ()
        ),
        exposed=tuple(int(str(port).partition("/")[0].partition("-")[0]) for port in told.get("expose") or ()),
        mounts=tuple(
            Mount(
                kind=mount["type"],
                source=mount.get("source") or "",
                target=mount.get("target") or "",
                read_only=bool(mount.get("read_only")),
            )
            for mount in [
                *(told.get("volumes") or ()),
                *({"type": "bind", **each, "read_only": True} for each in told.get("configs") or ()),
            ]
        ),
        depends_on=tuple(told.get("depends_on") or ()),
        replicas=1 if replicas is None else int(replicas),
        container_name=told.get("container_name"),
        network_mode=told.get("network_mode"),
        networks=tuple(told.get("networks") or ()),
        addresses={
            name: each["ipv4_address"]
            for name, each in (told.get("networks") or {}).items()
            if (each or {}).get("ipv4_address")
        },
    )
