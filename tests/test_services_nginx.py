"""nginx as a service: what is rendered, and how its workers are read. No nginx is started."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import BadInput, NodeError
from harness.services import Secure, nginx
from harness.services.nginx import NginxService, Place, nginx_time, only_new_serve, render
from harness.setup import Balancer, Tls

ADDRESSES = {"app-1": ("127.0.0.1", 20001), "app-2": ("127.0.0.1", 20002), "app-3": ("127.0.0.1", 20003)}
NEWEST = (1, 31, 3)
DEBIAN_12 = (1, 22, 1)
PROGRAM = Path("/opt/nginx")


def rendered(
    settings: Balancer | None = None,
    *,
    drained: frozenset[str] = frozenset(),
    version: tuple[int, ...] = NEWEST,
    user: str = "",
    resolver: str = "",
    tls: bool = False,
) -> str:
    return render(
        settings or Balancer(),
        place=Place(
            program="/opt/nginx",
            directory="/somewhere",
            listen="127.0.0.1:20100",
            version=version,
            access_log="/somewhere else/access.log",
            user=user,
            open_files=8192,
            resolver=resolver,
            tls_listen="127.0.0.1:20443" if tls else "",
            certificate="/somewhere/balancer.pem" if tls else "",
        ),
        pool=ADDRESSES,
        drained=drained,
        https="https://127.0.0.1:20443",
    )


def server_of(text: str, listen: str) -> set[str]:
    """The directives of the server that listens there, those of its locations too."""
    (block,) = [part for part in re.split(r"^    server \{", text, flags=re.MULTILINE) if f"listen {listen}" in part]
    return directives(block)


def with_tls(version: tuple[int, ...] = NEWEST, **settings: Any) -> str:
    return rendered(Balancer(tls=Tls(**settings)), tls=True, version=version)


def in_clear(text: str) -> set[str]:
    return server_of(text, "127.0.0.1:20100 default_server")


def over_tls(text: str) -> set[str]:
    return server_of(text, "127.0.0.1:20443 ssl")


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
    return NginxService.native(Balancer(), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES)


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


def test_idle_connections_to_instances_are_kept_for_so_long() -> None:
    """Only where any are kept, and only where it is not nginx's own time."""
    assert "keepalive_timeout 3s;" in directives(rendered(Balancer(keepalive=8, keepalive_seconds=3)))
    assert "keepalive_timeout 3s;" not in directives(rendered(Balancer(keepalive_seconds=3)))
    assert "keepalive_timeout 60s;" not in directives(rendered(Balancer(keepalive=8)))


@pytest.mark.parametrize(
    ("seconds", "said"), [(60.0, "60s"), (0.25, "250ms"), (1.5, "1500ms"), (0.0001, "1ms"), (5, "5s")]
)
def test_times_have_no_fractions(seconds: float, said: str) -> None:
    """nginx refuses `0.25s`, and takes 0 for something else."""
    assert nginx_time(seconds) == said


def test_the_account_is_named_only_as_root(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, service: NginxService
) -> None:
    """Nobody else could change to it, and nginx would complain."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    service = NginxService.native(Balancer(), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES)
    service.prepare()
    text = (workspace.scratch / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert "user " not in {line[:5] for line in directives(text)}
    assert "user app app;" in directives(rendered(user="app app"))


def test_every_departure_says_why() -> None:
    """A reader who knows the guide finds each difference explained where it is."""
    lines = rendered().splitlines()
    assert sum("DEPARTURE" in line for line in lines) >= 10


def test_the_configuration_is_written_into_the_folder_of_the_node(service: NginxService, tmp_path: Path) -> None:
    """So that two runs never meet, and all of it goes with the run."""
    service.prepare()
    text = (tmp_path / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert f'access_log "{tmp_path}/logs/nginx-access.log" attempts;' in directives(text)
    assert service.process_spec().argv[1:5] == ("-p", f"{tmp_path}/nginx/", "-c", "nginx.conf")
    assert service.url == "http://127.0.0.1:20100"
    assert service.values() == {"balancer.url": service.url}


@pytest.mark.parametrize(("pool", "reached"), [(None, {20001, 20002, 20003}), (("app-1", "app-3"), {20001, 20003})])
def test_only_the_pool_is_sent_requests(
    pool: tuple[str, ...] | None, reached: set[int], service: NginxService, workspace: Any, tmp_path: Path
) -> None:
    """An instance outside the pool runs, and nobody is sent to it."""
    NginxService.native(
        Balancer(pool=pool), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES
    ).prepare()
    text = (tmp_path / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert {int(port) for port in re.findall(r"server 127\.0\.0\.1:(\d+) ", text)} == reached


def test_a_pool_of_strangers_is_refused(service: NginxService, workspace: Any) -> None:
    """The message names the instances there are."""
    with pytest.raises(BadInput, match=r"app-9.*known are app-1, app-2, app-3"):
        NginxService.native(
            Balancer(pool=("app-1", "app-9")), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES
        )


def test_who_stands_by_is_in_the_list_and_down(service: NginxService, workspace: Any, tmp_path: Path) -> None:
    """From the start, until the balancer is switched to them; a reset has it so again."""
    standby = {f"{name}-green": (host, port + 1000) for name, (host, port) in ADDRESSES.items()}
    made = NginxService.native(
        Balancer(), program=PROGRAM, workspace=workspace, port=20100, upstreams=ADDRESSES, standby=standby
    )
    made.prepare()
    text = (tmp_path / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert sorted(re.findall(r"server 127\.0\.0\.1:(\d+) [^;]*down;", text)) == ["21001", "21002", "21003"]
    assert made.drained == set(standby)
    with pytest.raises(ValueError, match="app-9 is no instance"):
        made.switch(["app-9"], StoppedNode())  # type: ignore[arg-type]
    with pytest.raises(NodeError, match="does not run"):
        made.switch(list(standby), StoppedNode())  # type: ignore[arg-type]


def test_draining_an_instance_outside_the_pool_is_done_at_once(service: NginxService, workspace: Any) -> None:
    """It gets no requests, so that there is nothing to wait for."""
    outside = NginxService.native(
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


def test_a_container_brings_its_configuration_and_looks_names_up_again() -> None:
    """Nothing is mounted, so that it works with an engine on another machine as well."""
    service = NginxService.in_container(
        Balancer(), version="1.28.0", port=20100, upstreams={"app-1": ("app-1", 8000)}, resolves=True
    )
    spec = service.container_spec("nginx:1.28")
    text = directives(spec.files["/etc/nginx/nginx.conf"].decode())
    assert "resolver 127.0.0.11 valid=1s ipv6=off;" in text
    assert "server app-1:8000 max_fails=3 fail_timeout=30s resolve;" in text
    assert "listen 0.0.0.0:80 default_server;" in text
    assert (spec.image, spec.container_port, spec.port) == ("nginx:1.28", 80, 20100)


@pytest.mark.parametrize(
    ("resolves", "next_upstream", "again"),
    [(True, ("error", "timeout"), True), (True, (), False), (False, ("error", "timeout"), False)],
)
def test_what_is_given_up_while_addresses_change_is_begun_anew(
    resolves: bool, next_upstream: tuple[str, ...], again: bool
) -> None:
    """Where names are looked up again, and only what would have been tried elsewhere anyway."""
    service = NginxService.in_container(
        Balancer.model_validate({"next_upstream": next_upstream}),
        version="1.28.0",
        port=20100,
        upstreams={"app": ("app", 8000)},
        resolves=resolves,
    )
    text = service.container_spec("nginx:1.28").files["/etc/nginx/nginx.conf"].decode()
    assert ("error_page 502 = @again;" in text) is again
    assert ('if ($upstream_addr !~ "instances$") {' in text) is again
    assert text.count("proxy_pass http://instances;") == 1 + again
    assert text.count(f"proxy_next_upstream {' '.join(next_upstream) or 'off'};") == 1 + again


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "listen 127.0.0.1:20443 ssl default_server;",
        "http2 on;",
        'ssl_certificate "/somewhere/balancer.pem";',
        "ssl_protocols TLSv1.2 TLSv1.3;",
        'add_header X-Frame-Options "SAMEORIGIN" always;',
        'add_header X-Content-Type-Options "nosniff" always;',
        "add_header X-Harness-Client $remote_addr always;",
        "proxy_pass http://instances;",
        "proxy_set_header X-Real-IP $remote_addr;",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
    ],
)
def test_tls_is_the_guide_s_by_default(setting: str) -> None:
    """What the guide says of its server on port 443; HSTS is not in it."""
    directives_of_it = over_tls(with_tls())
    assert setting in directives_of_it
    assert not [line for line in directives_of_it if "Strict-Transport-Security" in line]


def test_http_is_redirected_and_nothing_else() -> None:
    """With the status that was asked for, to the same address over https; the security headers are on it as well."""
    served = in_clear(with_tls(redirect=308))
    assert "return 308 https://127.0.0.1:20443$request_uri;" in served
    assert "proxy_pass http://instances;" not in served
    assert 'add_header X-Content-Type-Options "nosniff" always;' in served
    assert "return 301 https://127.0.0.1:20443$request_uri;" in in_clear(with_tls())


def test_without_a_redirect_http_is_served_as_well() -> None:
    """As on a balancer where somebody forgot it."""
    served = in_clear(with_tls(redirect=0))
    assert "proxy_pass http://instances;" in served
    assert not [line for line in served if line.startswith("return 3")]


def test_hsts_goes_out_over_tls_alone() -> None:
    """In clear it has no meaning (RFC 6797, 7.2)."""
    text = with_tls(hsts_seconds=60)
    line = 'add_header Strict-Transport-Security "max-age=60" always;'
    assert line in over_tls(text)
    assert line not in in_clear(text)


def test_headers_can_be_left_off_errors_and_left_out() -> None:
    """`always` is the word that decides; what the harness itself needs is there in any case."""
    some, none = (over_tls(with_tls(security_headers=word, hsts_seconds=60)) for word in ("not-on-errors", "none"))
    assert 'add_header X-Frame-Options "SAMEORIGIN";' in some
    assert 'add_header Strict-Transport-Security "max-age=60";' in some
    assert not [line for line in none if "X-Frame-Options" in line or "Strict-Transport" in line]
    assert "add_header X-Harness-Upstream $upstream_addr always;" in some & none


def test_old_versions_need_weak_ciphers_and_new_ones_get_none() -> None:
    """OpenSSL would refuse the old ones by itself."""
    old = over_tls(with_tls(versions=("1.0", "1.1", "1.2")))
    assert {"ssl_protocols TLSv1 TLSv1.1 TLSv1.2;", "ssl_ciphers ALL:@SECLEVEL=0;"} <= old
    assert not [line for line in over_tls(with_tls()) if line.startswith("ssl_ciphers")]


def test_http2_is_said_in_the_words_of_the_version() -> None:
    """A directive since 1.25.1, a word after `listen` before."""
    assert "http2 off;" in over_tls(with_tls(http2=False))
    older = over_tls(with_tls(DEBIAN_12))
    assert "listen 127.0.0.1:20443 ssl http2 default_server;" in older
    assert not [line for line in older if line.startswith("http2")]
    assert "listen 127.0.0.1:20443 ssl default_server;" in over_tls(with_tls(DEBIAN_12, http2=False))


def test_only_what_is_listed_is_forwarded() -> None:
    """The rest of what came is handed on as it came."""
    told = over_tls(with_tls(forward=("X-Forwarded-Proto",)))
    assert "proxy_set_header X-Forwarded-Proto $scheme;" in told
    assert not [line for line in told if "X-Real-IP" in line or "X-Forwarded-For" in line]


def test_a_container_brings_its_certificate(tmp_path: Path) -> None:
    """And publishes both ports; the way in is https."""
    (tmp_path / "balancer.pem").write_bytes(b"key and certificate")
    secure = Secure(port=20443, authority=tmp_path / "authority.pem", certificate=tmp_path / "balancer.pem")
    service = NginxService.in_container(
        Balancer(tls=Tls()), version="1.31.3", port=20100, upstreams=ADDRESSES, resolves=False, secure=secure
    )
    spec = service.container_spec("nginx")
    assert spec.files["/etc/nginx/balancer.pem"] == b"key and certificate"
    assert (spec.container_port, spec.port, spec.extra_ports) == (80, 20100, {443: 20443})
    assert service.url == "https://127.0.0.1:20443"
    assert b'ssl_certificate "/etc/nginx/balancer.pem";' in spec.files["/etc/nginx/nginx.conf"]


def test_weights_and_addresses_are_told() -> None:
    """A weight where one is asked for; who is bound by address is chosen by nothing else."""
    text = rendered(Balancer(weights={"app-1": 5}))
    assert text.count(" weight=") == 1
    assert "server 127.0.0.1:20001 weight=5 max_fails=3" in text
    bound = rendered(Balancer(sticky_address=True))
    assert "ip_hash;" in bound
    assert "least_conn;" not in bound


def test_old_workers_have_their_time() -> None:
    """Half a minute unless the setup says more or less."""
    assert "worker_shutdown_timeout 30s;" in rendered()
    assert "worker_shutdown_timeout 1s;" in rendered(Balancer(reload_patience_seconds=1))
