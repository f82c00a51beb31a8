"""A person's compose project: what is what in it, what is laid over it, and what is said when it cannot be judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import assets
from harness.compose import Place, Roles, find_roles, find_tool, override_for, parse_project, read_haproxy, read_nginx
from harness.compose.project import Project
from harness.compose.tool import Said
from harness.errors import BadInput, MissingPrerequisite
from harness.setup import Compose

Services = Mapping[str, Any]

PORTS = [{"target": 80, "published": "8080", "protocol": "tcp"}]
NGINX = {"image": "nginx:alpine", "ports": PORTS}
DB = {"image": "postgres:15-alpine"}
REDIS = {"image": "redis:7-alpine"}
APP = {"build": {"context": "/shop"}, "environment": {"PORT": "8080"}}
WEB = {"image": "shop:1"}


def project(services: Services, **more: Any) -> Project:
    return parse_project({"services": services, **more}, files=(Path("shop.yml"),))


def behind(*names: str, **more: Any) -> dict[str, Any]:
    """An nginx that waits for these."""
    return {**NGINX, "depends_on": {name: {"condition": "service_started"} for name in names}, **more}


def roles(services: Services, **wishes: Any) -> Roles:
    return find_roles(project(services), Compose.model_validate({"file": ["shop.yml"], **wishes}))


def in_words(found: Roles) -> str:
    """The places, the balancer with its kind and port, and the stores, on one line."""
    stores = [name for name in (found.database, found.session_store) if name]
    names = " ".join(place.name for place in found.instances)
    return (
        f"{names}:{found.app_port} < {found.balancer} {found.balancer_kind}:{found.balancer_port} | {' '.join(stores)}"
    )


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        pytest.param(
            {"app1": APP, "app2": APP, "app3": APP, "nginx": behind("app1", "app2", "app3"), "db": DB, "redis": REDIS},
            "app1 app2 app3:8080 < nginx nginx:80 | db redis",
            id="the-guide",
        ),
        pytest.param(
            {"app": {**APP, "deploy": {"replicas": 3}}, "nginx": behind("app"), "db": DB},
            "app-1 app-2 app-3:8080 < nginx nginx:80 | db",
            id="replicas",
        ),
        pytest.param(
            {"web": {**WEB, "scale": 2, "expose": ["3000"]}, "lb": {**NGINX, "image": "haproxy:3.0"}, "cache": REDIS},
            "web-1 web-2:3000 < lb haproxy:80 | cache",
            id="scale-and-expose",
        ),
        pytest.param(
            {"web": {**WEB, "scale": 2}, "proxy": {"image": "traefik:v3", "ports": [*PORTS, {"target": 8080}]}},
            "web-1 web-2:None < proxy traefik:80 | ",
            id="traefik-with-its-own-page",
        ),
        pytest.param(
            {
                "web": {**WEB, "scale": 2},
                "front": {"build": {"context": "/lb"}, "ports": PORTS, "depends_on": {"web": {}}},
            },
            "web-1 web-2:None < front unknown:80 | ",
            id="somebody's-own-balancer",
        ),
        pytest.param(
            {
                "web": {**WEB, "scale": 2},
                "front": {
                    "build": {"context": "/lb"},
                    "ports": PORTS,
                    "volumes": [{"type": "bind", "source": "/x", "target": "/etc/nginx/nginx.conf", "read_only": True}],
                },
            },
            "web-1 web-2:None < front nginx:80 | ",
            id="known-by-its-configuration",
        ),
        pytest.param(
            {"a1": WEB, "a2": WEB, "worker": {**WEB, "command": ["work"]}, "nginx": behind("a1", "a2")},
            "a1 a2:None < nginx nginx:80 | ",
            id="a-worker-of-the-same-image-is-no-instance",
        ),
        pytest.param(
            {"a1": WEB, "a2": WEB, "b1": APP, "b2": APP, "nginx": behind("b1", "b2")},
            "b1 b2:8080 < nginx nginx:80 | ",
            id="what-the-balancer-waits-for",
        ),
        pytest.param(
            {
                "a": {**WEB, "scale": 2},
                "nginx": behind("a"),
                "files": {"image": "nginx:1"},
                "pg": {"image": "prometheuscommunity/postgres-exporter:1"},
                "admin": {"image": "dpage/pgadmin4", "ports": PORTS},
            },
            "a-1 a-2:None < nginx nginx:80 | ",
            id="what-stands-beside-is-nothing",
        ),
        pytest.param(
            {
                "a": {**WEB, "scale": 2, "environment": {"DATABASE_URL": "postgres://u:p@primary:5432/x"}},
                "nginx": behind("a"),
                "primary": DB,
                "replica": DB,
            },
            "a-1 a-2:None < nginx nginx:80 | primary",
            id="the-database-the-application-is-told-of",
        ),
        pytest.param(
            {"a": {**WEB, "scale": 2}, "nginx": behind("a"), "one": REDIS, "other": {"image": "valkey/valkey:8"}},
            "a-1 a-2:None < nginx nginx:80 | ",
            id="of-two-stores-none-is-looked-into",
        ),
        pytest.param(
            {"a": {**WEB, "scale": 2}, "nginx": behind("a"), "once": {**WEB, "command": ["migrate"]}},
            "a-1 a-2:None < nginx nginx:80 | ",
            id="a-task-that-runs-once",
        ),
        pytest.param(
            {"a": {**WEB, "scale": 2}, "nginx": behind("a"), "off": {**WEB, "scale": 0}},
            "a-1 a-2:None < nginx nginx:80 | ",
            id="what-does-not-run",
        ),
    ],
)
def test_what_is_what(services: Services, expected: str) -> None:
    """Told by images, mounts, names, ports and who waits for whom."""
    assert in_words(roles(services)) == expected


def test_every_role_has_its_reason() -> None:
    """A person can check what was taken for what, and why."""
    found = roles({"app1": APP, "app2": APP, "nginx": behind("app1", "app2"), "db": DB, "redis": REDIS})
    assert found.reasons == {
        "app": "app1 and app2 (the same build /shop, nginx depends on it)",
        "balancer": "nginx (image nginx:alpine, publishes 8080)",
        "database": "db (image postgres:15-alpine)",
        "session store": "redis (image redis:7-alpine)",
    }


@pytest.mark.parametrize(
    ("services", "wishes", "expected"),
    [
        ({"a": WEB, "b": APP, "nginx": NGINX}, {"app": ["a", "b"]}, "a b:8080 < nginx nginx:80 | "),
        ({"a": WEB, "nginx": NGINX}, {"scale": {"a": 2}, "port": 5000}, "a-1 a-2:5000 < nginx nginx:80 | "),
        (
            {"a": {**WEB, "scale": 2}, "b": NGINX, "c": NGINX},
            {"balancer": "c", "app": "a"},
            "a-1 a-2:None < c nginx:80 | ",
        ),
        (
            {"a": {**WEB, "scale": 2}, "nginx": {**NGINX, "ports": [{"target": 8000}, {"target": 9000}]}},
            {"balancer_port": 9000},
            "a-1 a-2:None < nginx nginx:9000 | ",
        ),
        (
            {"a": {**WEB, "scale": 2}, "nginx": NGINX, "p": {"image": "own/db"}, "q": {"image": "own/kv"}},
            {"database": "p", "session_store": "q", "app": "a"},
            "a-1 a-2:None < nginx nginx:80 | p q",
        ),
    ],
    ids=["app", "scale", "balancer", "port", "stores"],
)
def test_the_setup_file_corrects_it(services: Services, wishes: Mapping[str, Any], expected: str) -> None:
    """What a person names is taken, whatever it looks like."""
    assert in_words(roles(services, **wishes)) == expected


@pytest.mark.parametrize(
    ("services", "wishes", "message"),
    [
        (
            {"a": {**WEB, "scale": 2}, "db": DB},
            {},
            (
                "shop.yml: no balancer was found: no service has an image of nginx, HAProxy, Traefik, Caddy or Envoy, mounts the "
                'configuration of one, or is called so (a and db); name it: [compose] balancer = "..."'
            ),
        ),
        (
            {"a": {**WEB, "scale": 2}, "one": NGINX, "two": {**NGINX, "image": "caddy"}},
            {},
            (
                "shop.yml: one (image nginx:alpine) and two (image caddy) could each be the balancer: name it: "
                '[compose] balancer = "one"'
            ),
        ),
        (
            {"a": WEB, "nginx": behind("a")},
            {},
            (
                "shop.yml: a (nginx depends on it), and as one instance only: failover needs a survivor; --scale a=3, or "
                "deploy: { replicas: 3 } in the file"
            ),
        ),
        (
            {"a": {**WEB, "container_name": "shop"}, "nginx": behind("a")},
            {},
            (
                "shop.yml: a (nginx depends on it), and as one instance only: failover needs a survivor; take container_name "
                "shop out of a, then --scale a=3"
            ),
        ),
        (
            {"a": {**WEB, "ports": [{"target": 3000, "published": "3000"}]}, "nginx": behind("a")},
            {},
            (
                "shop.yml: a (nginx depends on it), and as one instance only: failover needs a survivor; let a publish no "
                "fixed port (3000), then --scale a=3"
            ),
        ),
        (
            {"a": {**WEB, "scale": 2}, "b": {**APP, "scale": 2}, "nginx": NGINX},
            {},
            'shop.yml: a and b could each be the application: name its services: [compose] app = ["a"]',
        ),
        (
            {"nginx": NGINX, "db": DB},
            {},
            "shop.yml: no application was found beside nginx and db: name its services: [compose] app = [...]",
        ),
        (
            {"a": {**WEB, "scale": 2}, "nginx": {"image": "nginx"}},
            {},
            (
                "the balancer nginx publishes no port, so nobody can reach it: give it one, such as "
                'ports: ["127.0.0.1:8080:80"]'
            ),
        ),
        (
            {"a": {**WEB, "scale": 2}, "nginx": {**NGINX, "ports": [{"target": 443}]}},
            {},
            "the balancer nginx publishes 443 alone, and TLS is not judged yet: publish a port without TLS as well",
        ),
        (
            {"a": {**WEB, "scale": 2}, "nginx": {**NGINX, "ports": [{"target": 8000}, {"target": 9000}]}},
            {},
            "the balancer nginx publishes 8000 and 9000: say on which of them people come, [compose] balancer_port = 8000",
        ),
        (
            {"app1": APP, "app2": APP, "nginx": NGINX},
            {"scale": {"app": 3}},
            "shop.yml: compose.scale names no service (got app): did you mean app2?",
        ),
        (
            {"app1": APP, "app2": APP, "nginx": NGINX},
            {"balancer": "front"},
            "shop.yml: compose.balancer names no service (got front): there are app1, app2, nginx",
        ),
    ],
)
def test_what_is_not_clear_is_asked(services: Services, wishes: Mapping[str, Any], message: str) -> None:
    """One message: what is wrong, what was seen, what to do. Nothing is guessed."""
    with pytest.raises(BadInput) as told:
        roles(services, **wishes)
    assert str(told.value) == message


# -- what is laid over it ---------------------------------------------------------------------------------------------


def overlaid(services: Services, **more: Any) -> Any:
    held = project(services, **more)
    found = find_roles(held, Compose(file=("shop.yml",)))
    ports = {place.name: 20_000 + number for number, place in enumerate(found.instances)}
    return json.loads(
        override_for(
            held,
            found,
            name="harness-7",
            labels={"harness.run": "7"},
            node_label="harness.node",
            app_port=8080,
            ports=ports,
            images={"app1": "harness/compose-app1"} if "app1" in services else {},
            env={name: {"APP_VERSION": "2"} for name in found.app},
            pools={"default": ("10.1.2.0/24", "10.1.2.128/25")},
        )
    )


def test_all_of_it_can_be_found_and_removed() -> None:
    """Labels on everything that is made; volumes and networks have names of the run's, so that nobody's data is met."""
    over = overlaid(
        {"app1": APP, "app2": APP, "nginx": NGINX, "db": DB},
        networks={"default": {"name": "shop_default"}, "shared": {"external": True}},
        volumes={"data": {"name": "shop-data"}, "kept": {"external": True}},
    )
    assert {name: told["labels"] for name, told in over["services"].items()} == {
        name: {"harness.run": "7", "harness.node": name} for name in ("app1", "app2", "nginx", "db")
    }
    assert over["networks"] == {
        "default": {
            "name": "harness-7_default",
            "labels": {"harness.run": "7"},
            "ipam": {"config": [{"subnet": "10.1.2.0/24", "ip_range": "10.1.2.128/25"}]},
        }
    }
    assert over["volumes"] == {"data": {"name": "harness-7_data", "labels": {"harness.run": "7"}}}


def test_instances_can_be_asked_on_loopback() -> None:
    """Each on a port of its own; those of one service share a range. Nobody else gets a port more."""
    one = overlaid({"app1": APP, "app2": APP, "nginx": NGINX})["services"]
    assert [port["published"] for name in ("app1", "app2") for port in one[name]["ports"]] == ["20000", "20001"]
    assert one["app1"]["ports"][0] | {"target": 8080, "host_ip": "127.0.0.1"} == one["app1"]["ports"][0]
    assert "ports" not in one["nginx"]
    assert one["app1"]["image"] == "harness/compose-app1"
    assert one["app1"]["environment"] == {"APP_VERSION": "2"}
    many = overlaid({"app": {**APP, "scale": 3}, "nginx": NGINX})["services"]
    assert [port["published"] for port in many["app"]["ports"]] == ["20000-20002"]


def test_nobody_s_data_is_written() -> None:
    """A database that keeps its data in a folder of this machine gets an empty volume instead."""
    mounts = [
        {"type": "bind", "source": "/home/me/data", "target": "/var/lib/postgresql/data"},
        {"type": "bind", "source": "/home/me/init.sql", "target": "/docker-entrypoint-initdb.d/init.sql"},
    ]
    over = overlaid({"a": {**WEB, "scale": 2}, "nginx": NGINX, "db": {**DB, "volumes": mounts}})
    assert over["services"]["db"]["volumes"] == [{"type": "volume", "target": "/var/lib/postgresql/data"}]


# -- nginx ------------------------------------------------------------------------------------------------------------


def test_the_guide_s_nginx_is_read() -> None:
    """What verdicts and causes depend on is taken from the configuration itself."""
    text = (assets.path("fixtures/compose/guide") / "nginx.conf").read_text()
    assert read_nginx(text, names=["app1", "app2", "app3"]) == {
        "algorithm": "least_conn",
        "balancer_workers": 1,
        "max_fails": 3,
        "fail_timeout_seconds": 30.0,
        "connect_timeout_seconds": 60.0,
        "read_timeout_seconds": 60.0,
        "next_upstream": ["error", "timeout", "invalid_header", "http_500", "http_502", "http_503"],
        "resolve": "at-start",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "http { upstream u { server a:1; } }",
            {"algorithm": "round_robin", "max_fails": 1, "fail_timeout_seconds": 10.0},
        ),
        ("upstream u { least_conn; server a:1; }", {"algorithm": "least_conn"}),
        ("http { upstream u { ip_hash; server a:1 max_fails=0; } }", {"algorithm": "ip_hash", "max_fails": 0}),
        ("upstream u { zone z 64k; server a:1 resolve; }", {"resolve": "always", "max_fails": 1}),
        ("http { upstream u { server a:1 weight=5; server b:1; } }", {"algorithm": "round_robin with weights"}),
        (
            "worker_processes 4; http { upstream x { server z:1; } upstream u { zone z 64k; server a:1; } }",
            {"balancer_workers": 1},
        ),
        ("worker_processes 4; http { upstream u { server a:1; } }", {"balancer_workers": 4}),
        (
            (
                "http { proxy_read_timeout 1m30s; upstream u { server a; } server { location / { proxy_connect_timeout 250ms; "
                "proxy_next_upstream off; proxy_pass http://u/; } } }"
            ),
            {"read_timeout_seconds": 90.0, "connect_timeout_seconds": 0.25, "next_upstream": []},
        ),
        (
            (
                "http { upstream u { server 'a:1'; } # server b:2 { }\n server { location /x { proxy_read_timeout 9; "
                'proxy_pass http://other; } location / { add_header X "a;b{"; proxy_pass http://u; } } }'
            ),
            {"read_timeout_seconds": 60.0, "next_upstream": ["error", "timeout"]},
        ),
    ],
)
def test_other_ways_to_write_it(text: str, expected: Mapping[str, Any]) -> None:
    """With nginx's own defaults where nothing is said, and what is set outside where it is not set inside."""
    found = read_nginx(text, names=["a"])
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "text", ["", "http { upstream u { server z:1; } }", "http {{{", "worker_processes auto; http { server { } }"]
)
def test_what_is_not_there_is_not_made_up(text: str) -> None:
    """Without an upstream of the instances nothing is known."""
    assert read_nginx(text, names=["a"]) == {}


def test_as_many_workers_as_processors_is_not_a_number() -> None:
    """How many there are is for whoever counts them."""
    assert "balancer_workers" not in read_nginx(
        "worker_processes auto; http { upstream u { server a:1; } }", names=["a"]
    )


# -- HAProxy ----------------------------------------------------------------------------------------------------------

HAPROXY = """
global
    maxconn 4096
defaults
    timeout connect 5000
    timeout server 50s
frontend front
    bind *:80
    default_backend other
backend other
    balance source
    server x 10.0.0.9:80
backend gojang_backend
    balance leastconn  # as in the guide
    timeout server 2s
    server app1 app1:8080 check
    server app2 app2:8080 check
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HAPROXY,
            {
                "algorithm": "least_conn",
                "balancer_workers": 1,
                "connect_timeout_seconds": 5.0,
                "read_timeout_seconds": 2.0,
                "resolve": "at-start",
            },
        ),
        (
            "listen x\n server-template app 1-3 app1:8080 resolvers docker\n",
            {"algorithm": "round_robin", "balancer_workers": 1, "resolve": "always"},
        ),
        (
            "backend b\n balance uri\n server a app1:1\n",
            {"algorithm": "uri", "balancer_workers": 1, "resolve": "at-start"},
        ),
        (
            "backend b\n server a app1:1 weight 5\n server b app2:1 weight 1\n",
            {"algorithm": "round_robin with weights", "balancer_workers": 1, "resolve": "at-start"},
        ),
        ("backend b\n server a elsewhere:1\n", {}),
        ("", {}),
    ],
)
def test_a_person_s_haproxy_is_read(text: str, expected: Mapping[str, Any]) -> None:
    """The backend that holds the instances, with what stands in `defaults` before it."""
    assert read_haproxy(text, names=["app1", "app2"]) == pytest.approx(expected)


# -- the command ------------------------------------------------------------------------------------------------------


def fake(folder: Path, name: str, script: str) -> Mapping[str, str]:
    """An environment in which this command, and no other, is there."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize(
    ("name", "script", "found"),
    [
        ("docker", '[ "$4" = version ] && echo 2.26.1-4', ("docker", "compose")),
        ("docker-compose", "echo v2.20.0", ("docker-compose",)),
    ],
)
def test_the_command_is_found(tmp_path: Path, name: str, script: str, found: tuple[str, ...]) -> None:
    """The plugin of docker, or the program of its own."""
    assert find_tool(fake(tmp_path, name, script)).argv == found


@pytest.mark.parametrize(
    ("name", "script", "message"),
    [
        (
            "docker",
            "echo 'unknown command: docker compose' >&2; exit 1",
            "there is no docker compose on this machine: install",
        ),
        ("docker-compose", "echo 1.29.2", "docker-compose is 1.29.2, which is too old: install docker compose 2"),
        ("other", "", "there is no docker compose on this machine: install"),
    ],
)
def test_no_command_is_told_with_the_remedy(tmp_path: Path, name: str, script: str, message: str) -> None:
    """Before anything is started."""
    with pytest.raises(MissingPrerequisite, match=message):
        find_tool(fake(tmp_path, name, script))


def test_a_file_that_is_wrong_is_told_in_the_command_s_words(tmp_path: Path) -> None:
    """Shortened to the one sentence that helps."""
    script = 'case "$*" in *version*) echo 2.26.1;; *) echo "validating shop.yml: services.a Additional property x" >&2; exit 15;; esac'
    tool = find_tool(fake(tmp_path, "docker", script))
    with pytest.raises(BadInput) as told:
        tool.config([Path("shop.yml")])
    assert str(told.value) == (
        "shop.yml is no compose project: services.a Additional property x; see `docker compose config`"
    )


@pytest.mark.parametrize(
    ("err", "problem"),
    [
        (
            ' Container x  Creating\nError response from daemon: Conflict. The container name "/x" is in use.\n',
            'Conflict. The container name "/x" is in use.',
        ),
        (
            (
                "#5 ERROR: executor failed\n------\n > [a 2/2] RUN exit 3:\n------\n"
                "failed to solve: executor failed running [/bin/sh -c exit 3]: exit code: 3\n"
            ),
            "[/bin/sh -c exit 3]: exit code: 3",
        ),
        ("", "it ended with code 1 and said nothing"),
        ('time="x" level=warning msg="something"\n', "it ended with code 1 and said nothing"),
    ],
)
def test_what_went_wrong_is_one_sentence(err: str, problem: str) -> None:
    """Of many lines the last one that says something."""
    assert Said(1, "", err).problem == problem


@pytest.mark.parametrize(
    ("told", "restarts"),
    [
        ({}, False),
        ({"restart": "no"}, False),
        ({"restart": "unless-stopped"}, True),
        ({"restart": "on-failure:3"}, True),
        ({"deploy": {"restart_policy": {}}}, True),
        ({"restart": "always", "deploy": {"restart_policy": {"condition": "none"}}}, False),
    ],
)
def test_whether_a_service_is_started_again(told: Mapping[str, Any], restarts: bool) -> None:
    """By default it is not."""
    assert project({"lb": {"image": "nginx", **told}}).services["lb"].restarts is restarts


def test_variables_nobody_set_are_known() -> None:
    """An empty secret is a likely reason when instances do not start."""
    line = 'time="x" level=warning msg="The \\"SESSION_KEY\\" variable is not set. Defaulting to a blank string."\n'
    assert Said(0, "", line * 2).unset == ("SESSION_KEY",)


def test_a_place_has_a_name_of_its_own() -> None:
    """Of several containers of one service each is told apart by its number."""
    found = roles({"a": {**WEB, "scale": 2}, "b": WEB, "nginx": NGINX}, app=["a", "b"])
    assert found.instances == (Place("a-1", "a", 1), Place("a-2", "a", 2), Place("b", "b", 1))
