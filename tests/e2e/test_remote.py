"""A site that runs already, with an owner who lets instances of it be stopped, killed and replaced; all on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from end_to_end import REFERENCE, Harness
from site_owner import hooks, of_processes

from harness.ports import PortLeases, is_free, who_listens
from harness.services.binaries import find
from harness.setup import read_environment
from harness.waiting import wait_until

pytestmark = pytest.mark.judged

KNOWN = """
[app]
ready = "/ready"
slow = "/slow?seconds={seconds}"
instance_header = "X-App-Instance"
version_header = "X-App-Version"
"""


@dataclass(frozen=True)
class Site:
    """Where it is, and what its owner knows of it."""

    balancer: str
    instances: dict[str, str]
    known_to_owner: Path

    def port(self, name: str) -> int:
        return int(self.instances[name].rpartition(":")[2])

    @property
    def all_run(self) -> bool:
        return not any(is_free("127.0.0.1", self.port(name)) for name in self.instances)


@contextmanager
def running(folder: Path, *words: str) -> Iterator[Site]:
    """The reference setup, kept running by another harness, which thinks nothing of instances that come and go."""
    owner = Harness(folder, on_engine=False)
    process = owner.start("up", str(REFERENCE), "--json", *words)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        file = folder / "owner.json"
        found = Site(told["balancer"], told["instances"], file)
        file.write_text(of_processes({name: who_listens(found.port(name))[0] for name in found.instances}))
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site")) as found:
        yield found


def journeys() -> str:
    """How people use the reference app, as its setup file has it."""
    text = REFERENCE.read_text(encoding="utf-8")
    return text[text.index("[journey.register]") :]


def setup(folder: Path, site: Site, *, instances: bool, remote: str = "") -> Path:
    listed = "\n".join(f'{name} = {{ address = "{address}" }}' for name, address in site.instances.items())
    text = f'{KNOWN}\n[remote]\nbalancer = "{site.balancer}"\nmost_per_second = 100\n{remote}\n'
    text += f"[remote.instances]\n{listed}\n" if instances else ""
    file = folder / "far.toml"
    file.write_text(text + journeys())
    tomllib.loads(file.read_text())
    return file


def told(harness: Harness) -> dict[str, Any]:
    return dict(json.loads((harness.reports / "latest/verdicts.json").read_text(encoding="utf-8")))


def verdicts(harness: Harness) -> dict[str, str]:
    return {promise["id"]: promise["status"] for promise in told(harness)["promises"]}


def test_from_outside_alone(site: Site, harness: Harness, tmp_path: Path) -> None:
    """What people see is judged; for the rest the key is told that would allow it."""
    wanted = (
        "session.every-instance",
        "isolation.identity",
        "cookie.flags",
        "session.replay-after-logout",
        "distribution.complete",
        "failover.kill",
    )
    only = [word for promise in wanted for word in ("--only", promise)]
    ended = harness.verify(str(setup(tmp_path, site, instances=False)), *only)
    assert ended.code == 0, ended.out + ended.err
    assert verdicts(harness) == dict.fromkeys(wanted[:4], "pass")
    assert "failover.kill (remote: its instances are not known: [remote.instances] names them" in ended.out


def test_what_is_broken_is_seen_from_outside(harness: Harness, tmp_path: Path) -> None:
    """Sessions in the memory of each instance: people who come back are strangers."""
    folder = tmp_path / "broken"
    folder.mkdir()
    with running(folder, "--set", "sessions.store=memory") as broken:
        ended = harness.verify(str(setup(tmp_path, broken, instances=False)), "--only", "session.every-instance")
    assert ended.code == 1, ended.out + ended.err
    assert verdicts(harness) == {"session.every-instance": "fail"}


LOGGED = """
daemon off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    log_format told '$status id=$http_x_request_id upstream="$upstream_addr" tried="$upstream_status"';
    access_log access.log told;
    upstream app {{ {servers} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; }}
    }}
}}
"""
READ = r"""'^(?P<status>\d+) id=(?P<request>\S+) upstream="(?P<upstream>[^"]*)" tried="(?P<upstream_status>[^"]*)"'"""


@contextmanager
def behind_a_log(folder: Path, site: Site, port: int) -> Iterator[Site]:
    """A balancer of its owner's in front of the same instances, which tells nobody who answered but its log."""
    servers = " ".join(f"server {address.removeprefix('http://')};" for address in site.instances.values())
    (folder / "nginx.conf").write_text(LOGGED.format(servers=servers, port=port))
    program = find("nginx", environment=read_environment())
    words = [str(program), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: not is_free("127.0.0.1", port), within_seconds=20, because="the balancer should listen")
        yield replace(site, balancer=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


def test_a_log_tells_who_answered(site: Site, harness: Harness, tmp_path: Path) -> None:
    """Request by request, also whom the balancer tried before; without it nobody would."""
    with PortLeases() as leases, behind_a_log(tmp_path, site, leases.take()) as logged:
        hook = json.dumps(["tail", "-n", "5000", str(tmp_path / "access.log")])
        file = setup(tmp_path, logged, instances=True, remote=f"log = {hook}")
        own = 'instance_header = "X-App-Instance"\n'
        blind = file.read_text().replace(own, "").replace(f"log = {hook}\n", "")
        (tmp_path / "blind.toml").write_text(blind)
        file.write_text(file.read_text().replace(own, f"identity = {{ log = {READ} }}\n"))
        ended = harness.verify(str(file), "--only", "distribution.complete")
        assert ended.code == 0, ended.out + ended.err
        assert "3 of 3 instances" in ended.out
        assert harness.verify(str(tmp_path / "blind.toml"), "--only", "distribution.complete").code == 3


def test_what_its_owner_allows(site: Site, harness: Harness, tmp_path: Path) -> None:
    """Killed and replaced by hooks; and then everything is as it was found."""
    wanted = ("session.every-instance", "failover.kill", "rollout.rolling")
    only = [word for promise in wanted for word in ("--only", promise)]
    remote = "allow_faults = true\n" + hooks(site.known_to_owner)
    # What one instance is replaced in is short: this needs as many requests as the reference setup has.
    file = setup(tmp_path, site, instances=True, remote=remote)
    # Nobody takes them out at the balancer first, and it asks one that failed again after a second, with one request, which may take
    # another: whoever goes on before that has two of three away.
    file.write_text("[rollout]\npause_seconds = 4\n" + file.read_text())
    ended = harness.verify(str(file), "--yes-i-own", "127.0.0.1", *only)
    assert verdicts(harness) == dict.fromkeys(wanted, "pass"), ended.out
    assert ended.code == 0
    assert site.all_run
    owner = json.loads(site.known_to_owner.read_text())
    assert {each["env"].get("APP_VERSION") for each in owner.values()} == {"1"}  # the way back was gone
    journal = (harness.reports / "latest/history.jsonl").read_text(encoding="utf-8")
    assert str(site.known_to_owner) not in journal  # of hooks the program alone is told


def test_nothing_is_done_without_both_words(site: Site, harness: Harness, tmp_path: Path) -> None:
    """The file alone does not do, and nothing was asked or begun."""
    remote = "allow_faults = true\n" + hooks(site.known_to_owner)
    ended = harness.verify(str(setup(tmp_path, site, instances=True, remote=remote)))
    assert ended.code == 2
    assert "--yes-i-own 127.0.0.1" in ended.err
    assert not harness.reports.exists()


def test_a_killed_harness_leaves_the_site_as_it_was(site: Site, harness: Harness, tmp_path: Path) -> None:
    """An instance that it had stopped is started again by whoever puts the run away."""
    remote = "allow_faults = true\n" + hooks(site.known_to_owner)
    file = setup(tmp_path, site, instances=True, remote=remote)
    process = harness.start("verify", str(file), "--yes-i-own", "127.0.0.1", "--only", "failover.stop")
    wait_until(lambda: not site.all_run, within_seconds=60, because="an instance should be stopped")
    process.kill()
    process.communicate()
    wait_until(lambda: site.all_run, within_seconds=60, because="the instance should be started again")


def test_nobody_is_there(harness: Harness, tmp_path: Path) -> None:
    """That is told in one message, before anything is made."""
    nowhere = Site("http://127.0.0.1:9", {}, tmp_path)
    ended = harness.verify(str(setup(tmp_path, nowhere, instances=False)), "--only", "cookie.flags")
    assert ended.code == 2
    assert "nobody answers at http://127.0.0.1:9" in ended.err
