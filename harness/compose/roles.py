"""Which service of a compose project is what: the application, its balancer, its stores. Pure, with a reason for each.

Must not: ask an engine, read files, or choose where two services fit equally: then the person is asked to name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from harness.compose.project import Project, Published, Service
from harness.errors import BadInput
from harness.setup import Compose

__all__ = ["Place", "Roles", "find_roles"]

_BALANCERS = {
    "nginx": "nginx",
    "openresty": "nginx",
    "angie": "nginx",
    "haproxy": "haproxy",
    "traefik": "traefik",
    "caddy": "caddy",
    "envoy": "envoy",
}
_DATABASES = (
    "postgres",
    "postgresql",
    "postgis",
    "pgvector",
    "timescaledb",
    "mysql",
    "mariadb",
    "percona",
    "cockroach",
)
_STORES = ("redis", "valkey", "keydb", "dragonfly", "memcached")
_BESIDE = {
    "exporter",
    "admin",
    "pgadmin",
    "adminer",
    "commander",
    "insight",
    "redisinsight",
    "backup",
    "metrics",
    "sentinel",
}
"""Words in the name of an image that is about a server, and not that server."""
_CONFIGURATIONS = {
    "nginx": ("/etc/nginx/", "nginx.conf"),
    "haproxy": ("haproxy.cfg", "/usr/local/etc/haproxy"),
    "traefik": ("/etc/traefik",),
    "caddy": ("Caddyfile", "/etc/caddy"),
    "envoy": ("/etc/envoy", "envoy.yaml"),
}
_BALANCER_NAMES = {"lb", "loadbalancer", "balancer", "proxy", "gateway", "edge", "ingress"}
_TLS_PORTS = (443, 8443)
_ADMIN_PORTS = (8404, 9901, 1936, 2019)
"""Where HAProxy, Envoy and Caddy show their statistics."""
_PORT_VARIABLES = ("PORT", "APP_PORT", "HTTP_PORT", "SERVER_PORT", "LISTEN_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """One instance: a container of a service."""

    name: str
    """What it is called in results."""
    service: str
    number: int
    """Which of the containers of its service, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What is what in a project."""

    instances: tuple[Place, ...]
    app_port: int | None
    """Where the instances listen inside; None: what their image exposes."""
    balancer: str
    balancer_kind: str
    """`nginx`, `haproxy`, `traefik`, `caddy`, `envoy`, or `unknown`."""
    balancer_port: int
    """Where the balancer listens inside."""
    database: str | None
    session_store: str | None
    others: tuple[str, ...]
    reasons: Mapping[str, str]
    """For each role, in words, what was taken for it and why."""

    @property
    def app(self) -> tuple[str, ...]:
        """The services of the application."""
        return tuple(dict.fromkeys(place.service for place in self.instances))


def find_roles(project: Project, wishes: Compose) -> Roles:
    """What is what; what the person named, and for the rest what only one service can be.

    Raises:
        BadInput: no balancer, no application or one instance of it only, or more than one service for a role.
    """
    _names_exist(project, wishes)
    services = {name: service for name, service in project.services.items() if _replicas(service, wishes) > 0}
    reasons: dict[str, str] = {}
    database = _server(services, wishes.database, _DATABASES, "database", reasons)
    store = _server(services, wishes.session_store, _STORES, "session store", reasons)
    taken = {name for name in (database, store) if name is not None}
    taken |= {name for name, service in services.items() if _is_server(service) or _is_beside(service)}
    taken -= set(wishes.app)
    balancer, kind = _balancer(project, services, wishes, taken, reasons)
    port = _balancer_port(services[balancer], wishes)
    app = _application(project, services, wishes, balancer, taken - {balancer}, reasons)
    places = tuple(place for name in app for place in _places(services[name], wishes))
    if len(places) < 2:
        raise BadInput(
            f"{project}: {reasons['app']}, and as one instance only: failover needs a survivor; {_scale(services[app[0]])}"
        )
    return Roles(
        instances=places,
        app_port=_app_port([services[name] for name in app], wishes),
        balancer=balancer,
        balancer_kind=kind,
        balancer_port=port,
        database=database,
        session_store=store,
        others=tuple(name for name in services if name not in {balancer, database, store, *app}),
        reasons=reasons,
    )


# -- what was named --------------------------------------------------------------------------------------------------


def _names_exist(project: Project, wishes: Compose) -> None:
    named = [
        *(("compose.app", name) for name in wishes.app),
        ("compose.balancer", wishes.balancer),
        ("compose.database", wishes.database),
        ("compose.session_store", wishes.session_store),
        *(("compose.scale", name) for name in wishes.scale),
    ]
    for key, name in named:
        if name is not None and name not in project.services:
            near = get_close_matches(name, project.services, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(project.services) or 'none'}"
            raise BadInput(f"{project}: {key} names no service (got {name}): {hint}")


def _replicas(service: Service, wishes: Compose) -> int:
    return wishes.scale.get(service.name, service.replicas)


def _places(service: Service, wishes: Compose) -> list[Place]:
    count = _replicas(service, wishes)
    if count == 1:
        return [Place(service.name, service.name, 1)]
    return [Place(f"{service.name}-{number}", service.name, number) for number in range(1, count + 1)]


# -- servers ---------------------------------------------------------------------------------------------------------


def _words(service: Service) -> set[str]:
    return set(re.split(r"[-_.]", service.image_word))


def _is_beside(service: Service) -> bool:
    return bool(_words(service) & _BESIDE)


def _is_server(service: Service) -> bool:
    return bool(_words(service) & {*_DATABASES, *_STORES}) and not _is_beside(service)


def _server(
    services: Mapping[str, Service], named: str | None, known: Sequence[str], role: str, reasons: dict[str, str]
) -> str | None:
    """A database or session store. Nobody has to have one, so that several are no mistake: then none is looked into."""
    if named is not None:
        reasons[role] = f"{named} (named in the setup)"
        return named
    found = [name for name, each in services.items() if _words(each) & set(known) and not _is_beside(each)]
    if len(found) > 1:
        # The one the application is told of: a replica or a cache of somebody else is not.
        values = [value for each in services.values() if each.name not in found for value in each.environment.values()]
        told = [name for name in found if any(re.search(rf"\b{re.escape(name)}\b", value) for value in values)]
        found = told if len(told) == 1 else found
    if len(found) > 1:
        reasons[role] = f"not known: {_listed(found)} could each be it"
        return None
    if found:
        reasons[role] = f"{found[0]} (image {services[found[0]].image})"
        return found[0]
    return None


# -- the balancer ----------------------------------------------------------------------------------------------------


def _balancer(
    project: Project, services: Mapping[str, Service], wishes: Compose, taken: set[str], reasons: dict[str, str]
) -> tuple[str, str]:
    if wishes.balancer is not None:
        service = services[wishes.balancer]
        reasons["balancer"] = f"{service.name} (named in the setup{_publishes(service)})"
        return service.name, _kind(service)[0]
    signs = {name: _signs(each) for name, each in services.items() if name not in taken and name not in wishes.app}
    found = [name for name, why in signs.items() if why]
    if not found:
        # Somebody's own: it publishes a port, and waits for what runs more than once.
        found = [
            name for name in signs if services[name].published and _is_before_many(services[name], services, wishes)
        ]
        signs |= {name: f"depends on {_listed(services[name].depends_on)}" for name in found}
    # One that serves files, or is behind another, publishes nothing.
    reached = [name for name in found if services[name].published]
    found = reached or found
    before = [name for name in found if set(services[name].depends_on) - taken]
    if len(found) > 1 and len(before) == 1:
        found = before
    if not found:
        raise BadInput(
            f"{project}: no balancer was found: no service has an image of nginx, HAProxy, Traefik, Caddy or Envoy, mounts "
            f'the configuration of one, or is called so ({_listed(services)}); name it: [compose] balancer = "..."'
        )
    if len(found) > 1:
        told = " and ".join(f"{name} ({signs[name]})" for name in found)
        raise BadInput(f'{project}: {told} could each be the balancer: name it: [compose] balancer = "{found[0]}"')
    service = services[found[0]]
    reasons["balancer"] = f"{service.name} ({signs[service.name]}{_publishes(service)})"
    return service.name, _kind(service)[0]


def _is_before_many(service: Service, services: Mapping[str, Service], wishes: Compose) -> bool:
    others = [services[name] for name in service.depends_on if name in services and not _is_server(services[name])]
    return sum(_replicas(each, wishes) for each in others) > 1


def _kind(service: Service) -> tuple[str, str]:
    """What kind of balancer it is, and by which sign; `unknown` and nothing where there is none."""
    if not _is_beside(service):
        for word, kind in _BALANCERS.items():
            if word in _words(service):
                return kind, f"image {service.image}"
    for kind, places in _CONFIGURATIONS.items():
        for mount in service.mounts:
            if any(place in mount.target for place in places):
                return kind, f"mounts {mount.target}"
    for word, kind in _BALANCERS.items():
        if word in re.split(r"[-_]", service.name.lower()):
            return kind, "by its name"
    return "unknown", ""


def _signs(service: Service) -> str:
    kind, why = _kind(service)
    if kind != "unknown":
        return why
    return "by its name" if set(re.split(r"[-_]", service.name.lower())) & _BALANCER_NAMES else ""


def _publishes(service: Service) -> str:
    ports = list(dict.fromkeys(port.published or str(port.target) for port in service.published))
    return f", publishes {_listed(ports)}" if ports else ""


def _balancer_port(service: Service, wishes: Compose) -> int:
    if wishes.balancer_port is not None:
        return wishes.balancer_port
    targets = list(dict.fromkeys(port.target for port in _tcp(service.published)))
    plain = [port for port in targets if port not in _TLS_PORTS]
    plain = [port for port in plain if port not in _ADMIN_PORTS] or plain
    if 80 in plain:
        return 80
    if len(plain) == 1:
        return plain[0]
    if not targets:
        raise BadInput(
            f"the balancer {service.name} publishes no port, so nobody can reach it: give it one, such as "
            'ports: ["127.0.0.1:8080:80"]'
        )
    if not plain:
        raise BadInput(
            f"the balancer {service.name} publishes {_listed(targets)} alone, and TLS is not judged yet: publish a port "
            "without TLS as well"
        )
    raise BadInput(
        f"the balancer {service.name} publishes {_listed(plain)}: say on which of them people come, "
        f"[compose] balancer_port = {plain[0]}"
    )


def _tcp(published: Iterable[Published]) -> list[Published]:
    return [port for port in published if port.protocol == "tcp"]


# -- the application -------------------------------------------------------------------------------------------------


def _application(
    project: Project,
    services: Mapping[str, Service],
    wishes: Compose,
    balancer: str,
    taken: set[str],
    reasons: dict[str, str],
) -> tuple[str, ...]:
    if wishes.app:
        reasons["app"] = f"{_listed(wishes.app)} (named in the setup)"
        return wishes.app
    groups: dict[object, list[str]] = {}
    for name, each in services.items():
        if name != balancer and name not in taken and not _is_beside(each):
            groups.setdefault(_alike(each), []).append(name)
    if not groups:
        raise BadInput(
            f"{project}: no application was found beside {_listed(services)}: name its services: [compose] app = [...]"
        )
    found = list(groups.values())
    many = [names for names in found if sum(_replicas(services[name], wishes) for name in names) > 1]
    behind = [names for names in found if set(names) & set(services[balancer].depends_on)]
    # What the balancer waits for says most; then that there are several of it.
    for chosen, why in (
        (behind, f"{balancer} depends on it"),
        (many, "the same image several times"),
        (found, "the only one"),
    ):
        if len(chosen) > 1:
            chosen = [names for names in chosen if names in many] or chosen
        if len(chosen) == 1:
            names = chosen[0]
            of_several = len(names) > 1 or _replicas(services[names[0]], wishes) > 1
            because = f"the same {_source(services[names[0]])}, {why}" if of_several and chosen is behind else why
            reasons["app"] = f"{_listed(names)} ({because})"
            return tuple(names)
        if len(chosen) > 1:
            told = " and ".join(_listed(names) for names in chosen)
            # Where none runs more than once, all of them together may be what is meant.
            named = chosen[0] if chosen[0] in many else [name for names in chosen for name in names]
            quoted = ", ".join(f'"{name}"' for name in named)
            raise BadInput(
                f"{project}: {told} could each be the application: name its services: [compose] app = [{quoted}]"
            )
    raise AssertionError("a group is the only one, or one of several")


def _alike(service: Service) -> object:
    """What services of one application have in common: what they are made of, and what is run."""
    return (service.build, service.build_file, service.image if service.build is None else None, service.command)


def _source(service: Service) -> str:
    return f"build {service.build}" if service.build is not None else f"image {service.image}"


def _scale(service: Service) -> str:
    """How to have more of it."""
    if service.container_name is not None:
        return f"take container_name {service.container_name} out of {service.name}, then --scale {service.name}=3"
    if any(port.published and "-" not in port.published for port in service.published):
        port = next(port for port in service.published if port.published)
        return f"let {service.name} publish no fixed port ({port.published}), then --scale {service.name}=3"
    return f"--scale {service.name}=3, or deploy: {{ replicas: 3 }} in the file"


def _app_port(services: Sequence[Service], wishes: Compose) -> int | None:
    if wishes.port is not None:
        return wishes.port
    for service in services:
        for name in _PORT_VARIABLES:
            value = service.environment.get(name, "")
            if value.isdecimal() and 0 < int(value) < 65_536:
                return int(value)
        ports = [port.target for port in _tcp(service.published)] or list(service.exposed)
        if len(set(ports)) == 1:
            return ports[0]
    return None


def _listed(names: Iterable[object]) -> str:
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "nothing"
