"""nginx as a service: what is rendered, and how its workers are read. No nginx is started."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import BadInput, NodeError
from harness.services import nginx
from harness.services.nginx import NginxService, nginx_time, only_new_serve, render, workers_of
from harness.setup import Balancer

ADDRESSES = {"app-1": ("127.0.0.1", 20001), "app-2": ("127.0.0.1", 20002), "app-3": ("127.0.0.1", 20003)}
NEWEST = (1, 31, 3)
DEBIAN_12 = (1, 22, 1)
PROGRAM = Path("/opt/nginx")


def rendered(
    settings: Balancer | None = None,
    *,
    drained: frozenset[str] = frozenset(),
    version: tuple[int, ...] = NEWEST,
) -> str:
    return render(
        settings or Balancer(),
        host="127.0.0.1",
        port=20100,
        pool=ADDRESSES,
        drained=drained,
        version=version,
        access_log=Path("/somewhere else/access.log"),
    )


def directives(text: str) -> set[str]:
    """Each directive on one line, without comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return {line for line in lines if line}


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    (tmp_path / "logs").mkdir()
    return SimpleNamespace(scratch=tmp_path, logs=tmp_path / "logs", marks={"HARNESS_RUN": "test"})


@pytest.fixture
def service(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> NginxService:
    """A service whose nginx is said to be there, and which is never run."""
    monkeypatch.setattr(nginx, "_version_of", lambda _binary: NEWEST)
    return NginxService(Balancer(), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES)


class StoppedNode:
    name = "nginx"
    log_path = Path("nginx.log")

    def is_running(self) -> bool:
        return False


@pytest.mark.parametrize(
    "setting",
    [
        "least_conn;",
        "server 127.0.0.1:20001 max_fails=3 fail_timeout=30s;",
        "server 127.0.0.1:20002 max_fails=3 fail_timeout=30s;",
        "server 127.0.0.1:20003 max_fails=3 fail_timeout=30s;",
        'add_header X-Frame-Options "SAMEORIGIN" always;',
        'add_header X-Content-Type-Options "nosniff" always;',
        "proxy_set_header X-Real-IP $remote_addr;",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_connect_timeout 60s;",
        "proxy_send_timeout 60s;",
        "proxy_read_timeout 60s;",
        "proxy_next_upstream error timeout invalid_header http_500 http_502 http_503;",
    ],
)
def test_the_settings_of_the_guide_are_the_defaults(setting: str) -> None:
    """What the guide says is what is judged, unless the setup says otherwise."""
    assert setting in directives(rendered())


def test_every_answer_says_who_was_tried() -> None:
    """Also the errors nginx makes itself carry the attempts, or they could not be counted."""
    assert {
        "add_header X-Harness-Upstream $upstream_addr always;",
        "add_header X-Harness-Upstream-Status $upstream_status always;",
    } <= directives(rendered())


def test_listens_on_loopback_only() -> None:
    """Nothing of a run can be reached from another machine."""
    listening = {line for line in directives(rendered()) if line.startswith("listen ")}
    assert listening == {"listen 127.0.0.1:20100 default_server;", "listen 127.0.0.1:20100;"}


def test_round_robin_is_what_nginx_does_when_told_nothing() -> None:
    """There is no directive of that name."""
    text = rendered(Balancer(algorithm="round_robin"))
    assert not {"least_conn;", "round_robin;"} & directives(text)


def test_no_retry_is_said_aloud() -> None:
    """Without the directive nginx would retry after errors and timeouts."""
    assert "proxy_next_upstream off;" in directives(rendered(Balancer(next_upstream=())))


def test_a_drained_instance_stays_in_the_list_and_is_down() -> None:
    """Left out altogether, the last one drained would leave a configuration nginx refuses."""
    lines = directives(rendered(drained=frozenset({"app-2"})))
    assert "server 127.0.0.1:20002 max_fails=3 fail_timeout=30s down;" in lines
    assert "server 127.0.0.1:20001 max_fails=3 fail_timeout=30s;" in lines


def test_plain_requests_do_not_ask_for_an_upgrade() -> None:
    """The guide sends `Connection: upgrade` with all of them."""
    lines = directives(rendered())
    assert "proxy_set_header Connection $connection_upgrade;" in lines
    assert "'' 'close';" in lines


@pytest.mark.parametrize(
    ("keepalive", "version", "said", "connection"),
    [
        (0, NEWEST, "keepalive 0;", "'' 'close';"),
        (16, NEWEST, "keepalive 16;", "'' '';"),
        (0, DEBIAN_12, None, "'' 'close';"),
        (16, DEBIAN_12, "keepalive 16;", "'' '';"),
    ],
)
def test_connections_to_instances_are_kept_only_when_asked(
    keepalive: int, version: tuple[int, ...], said: str | None, connection: str
) -> None:
    """Newer versions keep them by default, older ones refuse `keepalive 0`."""
    lines = directives(rendered(Balancer(keepalive=keepalive), version=version))
    assert {line for line in lines if line.startswith("keepalive ")} == ({said} if said else set())
    assert connection in lines


def test_an_old_nginx_is_not_told_what_it_does_not_know() -> None:
    """An nginx of the machine may be years older than the wheel."""
    assert "keepalive_min_timeout 5s;" in directives(rendered())
    assert "keepalive_min_timeout" not in rendered(version=DEBIAN_12)


@pytest.mark.parametrize(
    ("seconds", "said"), [(60.0, "60s"), (0.25, "250ms"), (1.5, "1500ms"), (0.0001, "1ms"), (5, "5s")]
)
def test_times_have_no_fractions(seconds: float, said: str) -> None:
    """nginx refuses `0.25s`, and takes 0 for something else."""
    assert nginx_time(seconds) == said


def test_the_account_is_named_only_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, nginx warns about the directive; root, it would drop to an account that may not exist."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "user " not in {line[:5] for line in directives(rendered())}


def test_every_departure_says_why() -> None:
    """A reader who knows the guide finds each difference explained where it is."""
    lines = rendered().splitlines()
    assert sum("DEPARTURE" in line for line in lines) >= 10


def test_the_configuration_is_written_into_the_folder_of_the_node(service: NginxService, tmp_path: Path) -> None:
    """So that two runs never meet, and all of it goes with the run."""
    service.prepare()
    text = (tmp_path / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert f'access_log "{tmp_path}/logs/nginx-access.log" attempts;' in directives(text)
    assert service.spec.argv[1:5] == ("-p", f"{tmp_path}/nginx/", "-c", "nginx.conf")
    assert service.url == "http://127.0.0.1:20100"
    assert service.values() == {"balancer.url": service.url}


@pytest.mark.parametrize(("pool", "reached"), [(None, {20001, 20002, 20003}), (("app-1", "app-3"), {20001, 20003})])
def test_only_the_pool_is_sent_requests(
    pool: tuple[str, ...] | None, reached: set[int], service: NginxService, workspace: Any, tmp_path: Path
) -> None:
    """An instance outside the pool runs, and nobody is sent to it."""
    NginxService(Balancer(pool=pool), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES).prepare()
    text = (tmp_path / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert {int(port) for port in re.findall(r"server 127\.0\.0\.1:(\d+) ", text)} == reached


def test_a_pool_of_strangers_is_refused(service: NginxService, workspace: Any) -> None:
    """The message names the instances there are."""
    with pytest.raises(BadInput, match=r"app-9.*known are app-1, app-2, app-3"):
        NginxService(
            Balancer(pool=("app-1", "app-9")), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES
        )


def test_draining_an_instance_outside_the_pool_is_done_at_once(service: NginxService, workspace: Any) -> None:
    """It gets no requests, so that there is nothing to wait for."""
    outside = NginxService(
        Balancer(pool=("app-1", "app-2")), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES
    )
    assert outside.drain("app-3", StoppedNode()).old_workers_gone  # type: ignore[arg-type]


def test_a_verb_on_an_nginx_that_does_not_run_says_so(service: NginxService) -> None:
    """Its file would be changed and nobody would read it."""
    service.prepare()
    with pytest.raises(NodeError, match="does not run"):
        service.drain("app-1", StoppedNode())  # type: ignore[arg-type]
    assert service.drained == frozenset()


def test_a_verb_on_a_stranger_is_a_mistake_of_the_caller(service: NginxService) -> None:
    """Not of the person: the message is for whoever wrote the call."""
    with pytest.raises(ValueError, match="app-9 is no instance"):
        service.enable("app-9", StoppedNode())  # type: ignore[arg-type]


WORKER = "nginx: worker process       "
LEAVING = "nginx: worker process is shutting down"
JUST_FORKED = "nginx: master process /opt/nginx -p /somewhere/"


@pytest.mark.parametrize(
    ("now", "before", "in_force"),
    [
        pytest.param({1: WORKER, 2: WORKER}, {1, 2}, False, id="nothing has happened yet"),
        pytest.param({1: WORKER, 2: WORKER, 3: WORKER, 4: WORKER}, {1, 2}, False, id="old ones still accept"),
        pytest.param({1: LEAVING, 2: WORKER, 3: WORKER, 4: WORKER}, {1, 2}, False, id="one old one still accepts"),
        pytest.param({1: LEAVING, 2: LEAVING, 3: WORKER, 4: JUST_FORKED}, {1, 2}, False, id="a new one just begins"),
        pytest.param({1: LEAVING, 2: LEAVING, 3: WORKER, 4: WORKER}, {1, 2}, True, id="old ones finish"),
        pytest.param({3: WORKER, 4: WORKER}, {1, 2}, True, id="old ones are gone"),
        pytest.param({0: LEAVING, 2: LEAVING, 3: WORKER, 4: WORKER}, {0, 2}, True, id="older ones finish as well"),
        pytest.param({1: "", 2: "", 3: WORKER, 4: WORKER}, {1, 2}, True, id="old ones ended a moment ago"),
        pytest.param({}, {1, 2}, False, id="nginx is gone"),
    ],
)
def test_a_configuration_is_in_force_when_only_new_workers_accept(
    now: dict[int, str], before: set[int], in_force: bool
) -> None:
    """Not when it was ordered, and not while an old worker may still accept a connection."""
    assert only_new_serve(now, before, expected=2) is in_force


def test_a_process_that_is_gone_has_no_workers() -> None:
    """Rather than an error in the middle of a wait."""
    assert workers_of(2**22 + 1) == {}
