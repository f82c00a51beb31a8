"""HAProxy as a service: what is rendered, and that HAProxy takes it. None is started that serves anything."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.certificates import make_certificates
from harness.errors import BadInput, MissingPrerequisite, NodeError
from harness.services import Secure, binaries, haproxy
from harness.services.haproxy import HaproxyService, Place, milliseconds, render
from harness.setup import Balancer, Environment, load_setup

ADDRESSES = {"app-1": ("127.0.0.1", 20001), "app-2": ("127.0.0.1", 20002), "app-3": ("127.0.0.1", 20003)}
PROGRAM = Path("/opt/haproxy")
SETUPS = Path(__file__).parents[1] / "fixtures" / "setups"


def haproxy_with(**settings: Any) -> Balancer:
    return Balancer(kind="haproxy", **settings)


def rendered(settings: Balancer | None = None, *, resolver: str = "", tls: str = "", **changes: dict[str, Any]) -> str:
    """`changes`: of single instances, by name with an underscore. `tls`: the file of its certificate."""
    servers = {
        name: haproxy._Server(host=host, port=port, **changes.get(name.replace("-", "_"), {}))
        if not resolver
        else haproxy._Server(host=name, port=8000)
        for name, (host, port) in ADDRESSES.items()
    }
    place = Place(
        program="/opt/haproxy",
        directory="/somewhere",
        listen="127.0.0.1:20100",
        admin_listen="/somewhere/admin,mode,600,level,admin",
        admin=Path("/somewhere/admin"),
        most_connections=4096,
        resolver=resolver,
        tls_listen="127.0.0.1:20443" if tls else "",
        certificate=tls,
    )
    https = "https://127.0.0.1:20443"
    return render(settings or haproxy_with(), place=place, servers=servers, health="/health", https=https)


def lines_of(text: str) -> set[str]:
    """Each line without its comment and its indentation."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return {re.sub(r"\s+", " ", line) for line in lines if line}


@pytest.fixture
def workspace() -> Any:
    return SimpleNamespace(scratch=Path("/tmp/run"), logs=Path("/tmp/run/logs"))


@pytest.fixture
def service(workspace: Any) -> HaproxyService:
    return native(workspace)


def native(workspace: Any, settings: Balancer | None = None) -> HaproxyService:
    return HaproxyService.native(
        settings or haproxy_with(),
        program=PROGRAM,
        workspace=workspace,
        port=20100,
        upstreams=ADDRESSES,
        health="/health",
    )


class StoppedNode:
    name = "haproxy"
    log_path = Path("haproxy.log")

    def is_running(self) -> bool:
        return False


# -- the guide --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "maxconn 4096",
        "log global",
        "mode http",
        "option dontlognull",
        "timeout connect 5000",
        "timeout client 50000",
        "timeout server 50000",
        "balance leastconn",
        "option httpchk GET /health",
        "server app-1 127.0.0.1:20001 check",
        "server app-2 127.0.0.1:20002 check",
        "server app-3 127.0.0.1:20003 check",
    ],
)
def test_the_settings_of_the_guide_are_the_defaults(line: str) -> None:
    """What the guide says is what is judged, unless the setup says otherwise."""
    assert line in lines_of(rendered())


def test_what_the_guide_leaves_is_left() -> None:
    """No retries elsewhere, no cookie, connections to instances kept: as HAProxy has it when it is told nothing."""
    told = " ".join(sorted(lines_of(rendered())))
    for word in ("redispatch", "retry-on", "retries ", "cookie", "http-server-close", "weight", "inter ", "disable-l7"):
        assert word not in told


def test_the_setup_of_the_guide_is_the_default() -> None:
    """Its file says each value, so that a reader sees them; none differs from what is rendered without it."""
    settings = load_setup(SETUPS / "guide-haproxy.toml").balancer
    assert rendered(settings) == rendered()


def test_every_departure_says_why() -> None:
    """A reader who knows the guide finds each difference explained where it is."""
    settings = load_setup(SETUPS / "reference-haproxy.toml").balancer
    text = rendered(settings)
    assert sum("DEPARTURE" in line for line in text.splitlines()) >= 12
    # Each of them explains something: no two stand behind each other, and none at the end.
    code = [line.strip() for line in text.splitlines() if line.strip()]
    for line, following in zip(code, [*code[1:], ""], strict=True):
        if "DEPARTURE" in line:
            assert following
            assert "DEPARTURE" not in following


# -- what a setup says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"algorithm": "round_robin"}, "balance roundrobin"),
        ({"check_path": "/ready"}, "option httpchk GET /ready"),
        (
            {"check_interval_seconds": 0.3, "fall": 2, "rise": 1},
            "server app-1 127.0.0.1:20001 check inter 300 fall 2 rise 1",
        ),
        ({"check_interval_seconds": 0}, "server app-1 127.0.0.1:20001"),
        ({"check_timeout_seconds": 1}, "timeout check 1000"),
        ({"retries": 0}, "retries 0"),
        ({"redispatch": 1}, "option redispatch 1"),
        ({"redispatch": -1}, "option redispatch -1"),
        ({"retry_on": ()}, "retry-on none"),
        ({"retry_on": ("conn-failure", "503")}, "retry-on conn-failure 503"),
        ({"retry_on": ("503",)}, "http-request disable-l7-retry if { method POST LOCK PATCH }"),
        ({"connect_timeout_seconds": 0.25}, "timeout connect 250"),
        ({"read_timeout_seconds": 2}, "timeout server 2000"),
        ({"keepalive": 0}, "option http-server-close"),
        ({"keepalive": 16}, "server app-1 127.0.0.1:20001 check pool-max-conn 16"),
        (
            {"keepalive": 16, "keepalive_seconds": 2.5},
            "server app-1 127.0.0.1:20001 check pool-max-conn 16 pool-purge-delay 2500ms",
        ),
        ({"sticky_cookie": "SERVERID"}, "cookie SERVERID insert indirect nocache"),
        ({"sticky_cookie": "SERVERID"}, "server app-1 127.0.0.1:20001 check cookie app-1"),
        ({"workers": 4}, "nbthread 4"),
    ],
)
def test_each_key_has_its_line(settings: dict[str, Any], line: str) -> None:
    """In the words of HAProxy."""
    assert line in lines_of(rendered(haproxy_with(**settings)))


@pytest.mark.parametrize("retry_on", [("conn-failure",), ("conn-failure", "empty-response")])
@pytest.mark.parametrize("retry_writes", [False, True])
def test_a_post_is_sent_twice_only_when_asked(retry_on: tuple[str, ...], retry_writes: bool) -> None:
    """HAProxy itself sends it again after anything but a refused connection, which surely had no effect."""
    text = rendered(haproxy_with(retry_on=retry_on, retry_writes=retry_writes))
    assert ("disable-l7-retry" in text) == (len(retry_on) > 1 and not retry_writes)


def test_without_checks_no_path_is_asked() -> None:
    """A path would look as if somebody asked it."""
    text = rendered(haproxy_with(check_interval_seconds=0, check_timeout_seconds=1))
    assert "httpchk" not in text
    assert "timeout check" not in text


def test_every_answer_says_who_was_tried() -> None:
    """Also the errors HAProxy makes itself, which have no status of an instance."""
    assert {
        "http-after-response set-header X-Harness-Upstream %s",
        "http-after-response set-header X-Harness-Upstream-Retries %rc",
        "http-after-response set-header X-Harness-Upstream-Status - unless { var(txn.answered) -m found }",
        "http-response set-header X-Harness-Upstream-Status %[status]",
    } <= lines_of(rendered())


def test_listens_on_loopback_only() -> None:
    """Nothing of a run can be reached from another machine; its runtime socket only by this account."""
    assert {line for line in lines_of(rendered()) if line.startswith("bind ")} == {"bind 127.0.0.1:20100"}
    argv = native(SimpleNamespace(scratch=Path("/tmp/run"))).process_spec().argv
    assert argv[argv.index("-S") + 1] == "/tmp/run/haproxy.sock,mode,600,level,admin"


def test_a_drained_instance_stays_so_after_a_reload() -> None:
    """What a verb changed is also what the file says."""
    lines = lines_of(rendered(app_2={"drained": True}))
    assert "server app-2 127.0.0.1:20002 check disabled" in lines
    assert "server app-1 127.0.0.1:20001 check" in lines


def test_weights_are_said_only_when_they_differ() -> None:
    """With a hundred for each, whoever is back would wait for thousands of requests until its turn comes."""
    assert "weight" not in rendered()
    lines = lines_of(rendered(app_3={"weight": 10}))
    assert "server app-1 127.0.0.1:20001 check weight 100" in lines
    assert "server app-3 127.0.0.1:20003 check weight 10" in lines


def test_names_are_looked_up_again_and_again_where_they_can_change() -> None:
    """And HAProxy starts although nobody is there yet."""
    lines = lines_of(rendered(resolver="127.0.0.11"))
    assert {"resolvers instances", "nameserver network 127.0.0.11:53"} <= lines
    assert "server app-1 app-1:8000 check resolvers instances resolve-prefer ipv4 init-addr last,libc,none" in lines
    assert "resolvers" not in rendered()


@pytest.mark.parametrize(("seconds", "said"), [(5.0, 5000), (0.25, 250), (0.0001, 1)])
def test_times_are_whole_milliseconds(seconds: float, said: int) -> None:
    """Never 0, which would be for ever."""
    assert milliseconds(seconds) == said


# -- what HAProxy says ------------------------------------------------------------------------------------------------

ALL_AT_ONCE = {
    "algorithm": "round_robin",
    "check_path": "/ready",
    "check_interval_seconds": 0.3,
    "retries": 1,
    "redispatch": -1,
    "retry_on": ("all-retryable-errors", "408", "425", "401", "403", "404", "501", "junk-response"),
    "sticky_cookie": "SERVERID",
    "keepalive": 16,
}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(rendered(), id="guide"),
        pytest.param(rendered(load_setup(SETUPS / "reference-haproxy.toml").balancer), id="reference"),
        pytest.param(rendered(haproxy_with(**ALL_AT_ONCE)), id="everything"),
        pytest.param(rendered(haproxy_with(retry_on=(), retries=0, check_interval_seconds=0)), id="nothing"),
        pytest.param(rendered(app_1={"drained": True}, app_2={"weight": 10}), id="changed while it ran"),
        pytest.param(rendered(resolver="127.0.0.11"), id="names"),
    ],
)
def test_haproxy_takes_it_without_a_warning(text: str, tmp_path: Path) -> None:
    """Every line that can be rendered is one it knows."""
    try:
        program = binaries.find("haproxy", environment=Environment())
    except MissingPrerequisite as missing:
        pytest.skip(str(missing))
    file = tmp_path / "haproxy.cfg"
    file.write_text(text, encoding="utf-8")
    said = subprocess.run([program, "-c", "-f", file], capture_output=True, text=True, check=False)
    # A name that is not known yet is worth a notice, and no more.
    loud = [line for line in said.stderr.splitlines() if not line.startswith("[NOTICE]")]
    assert (said.returncode, loud) == (0, [])


# -- the service ------------------------------------------------------------------------------------------------------


def test_the_configuration_is_written_into_the_folder_of_the_node(tmp_path: Path) -> None:
    """So that two runs never meet, and all of it goes with the run."""
    place = Place(
        program="/opt/haproxy",
        directory=str(tmp_path / "haproxy"),
        listen="127.0.0.1:20100",
        admin_listen="/a",
        admin=Path("/a"),
        most_connections=4096,
    )
    made = HaproxyService(haproxy_with(), place=place, port=20100, upstreams=ADDRESSES, health="/health")
    made.prepare()
    assert "bind 127.0.0.1:20100" in lines_of((tmp_path / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8"))
    assert made.process_spec().argv == (
        "/opt/haproxy",
        "-W",
        "-db",
        "-S",
        "/a",
        "-f",
        f"{tmp_path}/haproxy/haproxy.cfg",
    )
    assert made.url == "http://127.0.0.1:20100"
    assert made.values() == {"balancer.url": made.url}


def test_a_folder_with_a_long_name_is_told_before_haproxy_does() -> None:
    """A unix socket has a path of about a hundred bytes, and HAProxy needs some of them."""
    long = SimpleNamespace(scratch=Path("/tmp") / ("x" * 80), logs=Path("/tmp"))
    with pytest.raises(BadInput, match=r"97 bytes or fewer .*set TMPDIR to a folder with a shorter name"):
        native(long)


@pytest.mark.parametrize(
    ("open_files", "connections"), [(1_048_576, 4096), (4096, 1998), (resource.RLIM_INFINITY, 4096), (10, 1)]
)
def test_no_more_connections_than_there_may_be_open_files(
    open_files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy does not start with fewer files than it would need."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (open_files, open_files))
    assert haproxy._most_connections() == connections


def test_in_a_container_it_has_its_configuration_and_a_second_port() -> None:
    """The runtime socket is published on loopback beside the port people use."""
    made = HaproxyService.in_container(
        haproxy_with(),
        port=20100,
        admin_port=20101,
        upstreams={"app-1": ("app-1", 8000)},
        health="/health",
        resolves=True,
    )
    spec = made.container_spec("haproxy:3.0")
    text = lines_of(spec.files["/usr/local/etc/haproxy/haproxy.cfg"].decode())
    assert "bind *:8080" in text
    assert (spec.image, spec.container_port, spec.port, spec.extra_ports) == ("haproxy:3.0", 8080, 20100, {9999: 20101})
    socket = "ipv4@*:9999,level,admin"
    assert spec.command == ("haproxy", "-W", "-db", "-S", socket, "-f", "/usr/local/etc/haproxy/haproxy.cfg")


@pytest.mark.parametrize(("pool", "reached"), [(None, {20001, 20002, 20003}), (("app-1", "app-3"), {20001, 20003})])
def test_only_the_pool_is_sent_requests(pool: tuple[str, ...] | None, reached: set[int], workspace: Any) -> None:
    """An instance outside the pool runs, and nobody is sent to it."""
    text = native(workspace, haproxy_with(pool=pool))._rendered()
    assert {int(port) for port in re.findall(r"server app-\d 127\.0\.0\.1:(\d+)", text)} == reached


def test_a_pool_of_strangers_is_refused(workspace: Any) -> None:
    """The message names the instances there are."""
    with pytest.raises(BadInput, match=r"app-9.*known are app-1, app-2, app-3"):
        native(workspace, haproxy_with(pool=("app-1", "app-9")))


def test_who_stands_by_is_in_the_list_and_disabled(workspace: Any) -> None:
    """From the start, until the balancer is switched to them."""
    made = HaproxyService.native(
        haproxy_with(),
        program=Path("/opt/haproxy"),
        workspace=workspace,
        port=20100,
        upstreams={"app-1": ("127.0.0.1", 20001)},
        health="/health",
        standby={"app-1-green": ("127.0.0.1", 21001)},
    )
    lines = lines_of(made._rendered())
    assert [line.split()[1] for line in lines if line.startswith("server app-1") and line.endswith("disabled")] == [
        "app-1-green"
    ]
    assert made.drained == {"app-1-green"}
    with pytest.raises(ValueError, match="app-9 is no instance"):
        made.switch(["app-9"], StoppedNode())  # type: ignore[arg-type]
    with pytest.raises(NodeError, match="does not run"):
        made.switch(["app-1-green"], StoppedNode())  # type: ignore[arg-type]


def test_draining_an_instance_outside_the_pool_is_done_at_once(workspace: Any) -> None:
    """It gets no requests, so that there is nothing to wait for."""
    outside = native(workspace, haproxy_with(pool=("app-1", "app-2")))
    assert outside.drain("app-3", StoppedNode()).old_workers_gone  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["drain", "enable"])
def test_a_verb_on_an_haproxy_that_does_not_run_says_so(verb: str, service: HaproxyService) -> None:
    """Nobody would hear it."""
    with pytest.raises(NodeError, match="does not run"):
        getattr(service, verb)("app-1", StoppedNode())
    assert service.drained == frozenset()


def test_a_verb_on_a_stranger_is_a_mistake_of_the_caller(service: HaproxyService) -> None:
    """Not of the person: the message is for whoever wrote the call."""
    with pytest.raises(ValueError, match="app-9 is no instance"):
        service.enable("app-9", StoppedNode())  # type: ignore[arg-type]


# -- TLS --------------------------------------------------------------------------------------------------------------


def with_tls(certificate: str = "/somewhere/balancer.pem", **settings: Any) -> str:
    return rendered(haproxy_with(tls=settings), tls=certificate)


def section(text: str, name: str) -> set[str]:
    """The lines of one frontend or backend."""
    found = re.search(rf"^\w+ {name}\n(.*?)(?=^\w|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found
    return lines_of(found[1])


BIND = "bind 127.0.0.1:20443 ssl crt /somewhere/balancer.pem ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.3 alpn h2,http/1.1"


def test_tls_is_the_guide_s_by_default() -> None:
    """A frontend of its own; no security headers and nothing forwarded, as there."""
    text = with_tls()
    secure = section(text, "https_front")
    assert {BIND, "default_backend instances", "http-after-response set-header X-Harness-Client %[src]"} <= secure
    assert "http-request redirect prefix https://127.0.0.1:20443 code 301" in section(text, "http_front")
    assert "default_backend instances" not in section(text, "http_front")
    assert not re.search("X-Frame-Options|Strict-Transport|forwardfor|X-Real-IP|X-Forwarded", text)


def test_without_a_redirect_http_is_served_as_well() -> None:
    """As on a balancer where somebody forgot it."""
    served = section(with_tls(redirect=0), "http_front")
    assert "default_backend instances" in served
    assert not [line for line in served if "redirect" in line]


@pytest.mark.parametrize(("word", "rule"), [("always", "http-after-response"), ("not-on-errors", "http-response")])
def test_headers_are_set_where_they_were_asked_for(word: str, rule: str) -> None:
    """After a response is also on what HAProxy makes itself; HSTS goes out over TLS alone."""
    text = with_tls(security_headers=word, hsts_seconds=60)
    both = {f"{rule} set-header X-Frame-Options SAMEORIGIN", f"{rule} set-header X-Content-Type-Options nosniff"}
    assert both <= section(text, "https_front") & section(text, "http_front")
    assert f"{rule} set-header Strict-Transport-Security max-age=60" in section(text, "https_front")
    assert not [line for line in section(text, "http_front") if "Strict-Transport-Security" in line]


def test_the_application_is_told_what_is_listed() -> None:
    """The address is added at the end of what came, the others are set anew."""
    told = section(with_tls(forward=["X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"]), "instances")
    assert {
        "option forwardfor",
        "http-request set-header X-Real-IP %[src]",
        "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "http-request set-header X-Forwarded-Proto http unless { ssl_fc }",
    } <= told


def test_versions_and_protocols_are_those_of_the_setup() -> None:
    """The old ones need ciphers that OpenSSL refuses by itself."""
    secure = section(with_tls(versions=["1.0", "1.1", "1.2"], http2=False), "https_front")
    (bind,) = [line for line in secure if line.startswith("bind")]
    assert bind.endswith("ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.2 alpn http/1.1 ciphers ALL:@SECLEVEL=0")


def test_haproxy_takes_its_configuration_with_tls(tmp_path: Path) -> None:
    """Every key at once, with a certificate that is one."""
    made = make_certificates(tmp_path / "tls", "127.0.0.1")
    try:
        program = binaries.find("haproxy", environment=Environment())
    except MissingPrerequisite as missing:
        pytest.skip(str(missing))
    everything: dict[str, Any] = {
        "versions": ["1.0", "1.1", "1.2", "1.3"],
        "redirect": 308,
        "hsts_seconds": 60,
        "security_headers": "not-on-errors",
        "forward": ["X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto"],
    }
    for number, text in enumerate((with_tls(str(made.balancer)), with_tls(str(made.balancer), **everything))):
        path = tmp_path / f"{number}.cfg"
        path.write_text(text)
        done = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr


def test_a_container_brings_its_certificate(tmp_path: Path) -> None:
    """And publishes its ports; the way in is https."""
    (tmp_path / "balancer.pem").write_bytes(b"key and certificate")
    secure = Secure(port=20443, authority=tmp_path / "authority.pem", certificate=tmp_path / "balancer.pem")
    service = HaproxyService.in_container(
        haproxy_with(tls={}),
        port=20100,
        admin_port=20101,
        upstreams=ADDRESSES,
        health="/health",
        resolves=False,
        secure=secure,
    )
    spec = service.container_spec("haproxy")
    assert spec.files["/usr/local/etc/haproxy/balancer.pem"] == b"key and certificate"
    assert spec.extra_ports == {9999: 20101, 8443: 20443}
    assert service.url == "https://127.0.0.1:20443"


def test_weights_and_addresses_are_told() -> None:
    """A weight where one is asked for, as a share of the largest once one has less; and who is bound by address."""
    shares = {"app_1": {"share": 4}}
    assert "server app-1 127.0.0.1:20001 check weight 4" in lines_of(rendered(**shares))
    assert "server app-2 127.0.0.1:20002 check weight 1" in lines_of(rendered(**shares))
    half = rendered(app_1={"share": 4, "weight": 50}, app_2={}, app_3={})
    assert "server app-1 127.0.0.1:20001 check weight 50" in lines_of(half)
    assert "server app-2 127.0.0.1:20002 check weight 25" in lines_of(half)
    assert "weight" not in rendered()
    assert "balance source" in rendered(haproxy_with(sticky_address=True))


def test_old_processes_have_their_time() -> None:
    """Half a minute unless the setup says more or less."""
    assert "hard-stop-after 30s" in lines_of(rendered())
    assert "hard-stop-after 1s" in lines_of(rendered(haproxy_with(reload_patience_seconds=1)))
