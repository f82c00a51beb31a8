"""A site that runs already: what the setup comes to, what is asked of its owner first, and what is done by hooks."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from watched_sites import LOGIN

from harness.clock import now
from harness.door import Wishes, read_wishes
from harness.errors import BadInput, NodeError, NodeNeverReady
from harness.faults import Hang, Kill, Stop
from harness.layouts import Choice
from harness.model import FaultWindow
from harness.platforms import Elsewhere
from harness.platforms.remote import RemoteNode, RemoteSpec, succeeds
from harness.reaper import clean_up, read_record
from harness.setup import Setup
from harness.traffic.sources import BatchPace
from harness.waiting import wait_until
from harness.workspace import Workspace

PYTHON = (sys.executable, "-S", "-c")
HOOKS = """
stop = ["stop", "{instance}"]
start = ["start", "{instance}"]
kill = ["kill", "{instance}"]
deploy = ["deploy", "{instance}"]
ready = ["ready", "{instance}"]
"""
TWO = '[remote.instances]\na = { address = "http://127.0.0.1:9" }\nb = {}\n'


def read(tmp_path: Path, remote: str, **wishes: Any) -> tuple[Setup, Choice]:
    file = tmp_path / "far.toml"
    file.write_text(f'[remote]\nbalancer = "http://far.example.org"\n{remote}\n{LOGIN}')
    setup, choice, _ = read_wishes(Wishes(setup=file, **wishes))
    return setup, choice


class TestWhatItComesTo:
    def test_an_address_alone(self, tmp_path: Path) -> None:
        """Nobody is known, so that nobody is asked by themselves, and nothing is done to anybody."""
        setup, choice = read(tmp_path, "")
        assert choice.platform == "remote"
        assert setup.app.names == setup.pool == ()
        assert {"instances", "names", "kill", "stop", "hang", "new-version", "take-back", "tls"} <= set(choice.lacks)
        assert "[remote.instances]" in choice.lacks["kill"]
        assert any("nothing of it is stopped" in note for note in choice.notes)

    def test_what_it_lacks_names_the_key(self, tmp_path: Path) -> None:
        """The hook that is missing, the word that was not given, the address that is not known."""
        _, choice = read(tmp_path, HOOKS + TWO)
        assert "remote.instances.b.address" in choice.lacks["instances"]
        assert "remote.allow_faults = true" in choice.lacks["kill"]
        assert "remote.pause" in choice.lacks["hang"]
        assert "remote.revert" in choice.lacks["take-back"]

    def test_what_is_allowed(self, tmp_path: Path) -> None:
        """With both words of the owner."""
        setup, choice = read(tmp_path, "allow_faults = true" + HOOKS + TWO, owns="far.example.org")
        assert not {"kill", "stop", "new-version"} & set(choice.lacks)
        assert setup.app.names == ("a", "b")
        assert any("stop, start, kill, deploy, ready" in note for note in choice.notes)

    def test_nobody_would_see_that_it_is_back(self, tmp_path: Path) -> None:
        """Without an address the hook that tells is needed."""
        hooks = HOOKS.replace('ready = ["ready", "{instance}"]', "")
        _, choice = read(tmp_path, "allow_faults = true" + hooks + TWO, owns="far.example.org")
        assert "remote.ready" in choice.lacks["kill"]

    def test_over_https(self, tmp_path: Path) -> None:
        """What TLS gives is judged where the address is one of https."""
        file = tmp_path / "far.toml"
        file.write_text(f'[remote]\nbalancer = "https://far.example.org"\n{LOGIN}')
        setup, choice, _ = read_wishes(Wishes(setup=file))
        assert "tls" not in choice.lacks
        assert setup.balancer.tls is not None


class TestTheOwnersWord:
    def test_is_wanted_twice(self, tmp_path: Path) -> None:
        """What the file allows is not enough; and another host's owner has no say here."""
        allowed = "allow_faults = true" + HOOKS + TWO
        with pytest.raises(BadInput, match=r"--yes-i-own far\.example\.org"):
            read(tmp_path, allowed)
        with pytest.raises(BadInput, match="another host"):
            read(tmp_path, allowed, owns="example.org")
        with pytest.raises(BadInput, match=r"no \[remote\]"):
            read_wishes(Wishes(owns="far.example.org"))

    @pytest.mark.parametrize(("typed", "goes_on"), [("far.example.org", True), ("yes", False), ("", False)])
    def test_may_be_typed(self, tmp_path: Path, typed: str, goes_on: bool) -> None:
        """The name, and nothing shorter."""
        asked: list[str] = []

        def confirm(question: str) -> str:
            asked.append(question)
            return typed

        allowed = "allow_faults = true" + HOOKS + TWO
        if goes_on:
            read(tmp_path, allowed, confirm=confirm)
        else:
            with pytest.raises(BadInput, match="--yes-i-own"):
                read(tmp_path, allowed, confirm=confirm)
        assert "far.example.org" in asked[0]

    def test_is_not_asked_for_without_need(self, tmp_path: Path) -> None:
        """Where nothing is allowed, nobody is asked."""
        read(tmp_path, HOOKS + TWO, confirm=lambda _: pytest.fail("nobody should be asked"))

    @pytest.mark.parametrize("platform", ["native", "docker", "compose"])
    def test_other_platforms_are_refused(self, tmp_path: Path, platform: str) -> None:
        """A site is where it is."""
        with pytest.raises(BadInput):
            read(tmp_path, "", platform=platform)

    def test_a_site_must_be_named(self) -> None:
        """The reference setup is none."""
        with pytest.raises(BadInput, match=r"\[remote\]"):
            read_wishes(Wishes(platform="remote"))


# -- hooks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.create(reports=tmp_path / "reports", name="far", seed=1, cache=tmp_path / "cache") as made:
        yield made


class Site:
    """Something that listens, and can be gone: what hooks would do to an instance far away is done to it by files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
            self.port = tried.getsockname()[1]
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.is_up = threading.Event()
        self._thread.start()
        self.is_up.wait()

    @property
    def down(self) -> Path:
        """While this file is there, nobody listens."""
        return self._folder / "down"

    def _live(self) -> None:
        while not self._over.is_set():
            if self.down.exists():
                self.is_up.clear()
                self._over.wait(0.002)
                continue
            with socket.create_server(("127.0.0.1", self.port), backlog=50) as listening:
                listening.settimeout(0.002)
                self.is_up.set()
                while not self._over.is_set() and not self.down.exists():
                    with suppress(OSError), listening.accept()[0] as talk:
                        talk.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


def node_of(
    site: Site, workspace: Workspace, *, restarts: bool = False, hook_seconds: float = 30.0, **hooks: tuple[str, ...]
) -> RemoteNode:
    down = str(site.down)
    known = {
        "stop": (*PYTHON, "import sys; open(sys.argv[1], 'w')", down),
        "kill": (*PYTHON, "import sys; open(sys.argv[1], 'w')", down),
        "start": (*PYTHON, "import os, sys; os.path.exists(sys.argv[1]) and os.remove(sys.argv[1])", down),
        "pause": (*PYTHON, "print('paused')"),
        "resume": (*PYTHON, "print('goes on')"),
        "deploy": (*PYTHON, "print('new')"),
        "revert": (*PYTHON, "print('old')"),
        **hooks,
    }

    def spec() -> RemoteSpec:
        return RemoteSpec(
            name="web-1",
            host="127.0.0.1",
            port=site.port,
            is_ready=site.is_up.is_set,
            ready_within_seconds=20.0,
            hooks=known,
            hook_seconds=hook_seconds,
            restarts=restarts,
        )

    node = RemoteNode(spec(), next_spec=spec(), workspace=workspace)
    node.start()
    return node


def owed(workspace: Workspace) -> list[str]:
    record = read_record(workspace._record.path)
    assert record is not None
    return [each.name for each in record.owed]


def test_it_is_somebody_elses(site: Site, workspace: Workspace) -> None:
    """What runs is taken as it is: the first start runs no hook."""
    node = node_of(site, workspace, start=(*PYTHON, "raise SystemExit(9)"))
    node.wait_ready()
    assert node.is_running()
    assert node.is_ready()
    assert node.exit_code is None
    assert isinstance(node, Elsewhere)
    assert not node.log_path.exists()


@pytest.mark.parametrize("fault", [Kill(), Stop()], ids=str)
def test_it_is_broken_and_mended(site: Site, workspace: Workspace, fault: Kill | Stop) -> None:
    """A look tells that the fault took; what is owed meanwhile is written down."""
    node = node_of(site, workspace)
    with fault.applied_to(node) as proof:
        assert "accepts no connections any more" in proof
        assert not node.is_running()
        assert owed(workspace) == ["web-1"]
    node.wait_ready()
    assert owed(workspace) == []


def test_a_fault_that_did_not_take_is_told(site: Site, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that ends well is not believed where the instance still accepts connections."""
    monkeypatch.setattr("harness.platforms.remote._EFFECT_WITHIN_SECONDS", 0.05)
    node = node_of(site, workspace, stop=(*PYTHON, "pass"), kill=(*PYTHON, "pass"))
    with pytest.raises(NodeError, match="should accept no connections"):
        node.stop()
    with pytest.raises(NodeError, match="should accept no connections"):
        node_of(site, workspace, kill=(*PYTHON, "pass")).kill()
    again = node_of(site, workspace, kill=(*PYTHON, "pass"), restarts=True)
    with pytest.raises(NodeError, match="never seen to refuse"):
        again.kill()


def test_it_comes_back_by_itself(site: Site, workspace: Workspace) -> None:
    """It is seen to go, and to come back, and no hook starts it."""
    node = node_of(site, workspace, restarts=True, start=(*PYTHON, "raise SystemExit(9)"))
    before = now()
    with Kill().applied_to(node) as proof:
        assert "accepted no connections" in proof
        assert node.back_since is None
        site.down.unlink()
    node.wait_ready()
    assert node.is_running()
    assert node.back_since is not None
    assert node.back_since > before


def test_it_never_comes_back(site: Site, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """That nobody started it again is told, with what should have."""
    monkeypatch.setattr("harness.platforms.remote._BACK_WITHIN_SECONDS", 0.5)
    node = node_of(site, workspace, restarts=True)
    node.kill()
    with pytest.raises(NodeNeverReady, match="did not come back by itself"):
        node.wait_ready()


def test_it_is_frozen(site: Site, workspace: Workspace) -> None:
    """Until it goes on; a hook that froze nothing is told."""
    node = node_of(
        site,
        workspace,
        pause=(*PYTHON, "import sys; open(sys.argv[1], 'w')", str(site.down)),
        resume=(*PYTHON, "import os, sys; os.remove(sys.argv[1])", str(site.down)),
    )
    with Hang().applied_to(node) as proof:
        assert node.is_hung()
        assert "answers nothing" in proof
        assert owed(workspace) == ["web-1"]
    wait_until(node.is_ready, within_seconds=10, because="it goes on")
    assert owed(workspace) == []
    node.resume()


def test_a_new_version_is_owed_back(site: Site, workspace: Workspace) -> None:
    """Beside what else is owed; where there is no way back, nothing is."""
    node = node_of(site, workspace)
    assert node._next is not None
    node.replace(node._next, on_stopped=lambda _: None)
    node.stop()
    assert owed(workspace) == ["web-1", "web-1"]
    node.start()
    assert owed(workspace) == ["web-1"]
    node.start(node._first)
    assert owed(workspace) == []


def test_versions(site: Site, workspace: Workspace) -> None:
    """Deployed and taken back by hooks; where there is no way back, what was deployed is what it is from now on."""
    node = node_of(site, workspace)
    first, second = node.spec, node._next
    assert second is not None
    stopped: list[str] = []
    node.replace(second, on_stopped=stopped.append)
    assert node.spec is second
    assert stopped == ["web-1"]
    node.start(first)
    assert node.spec is first
    assert [line for line in node.last_log_lines() if not line.startswith("--")] == ["new", "old"]


def test_a_deploy_that_fails(site: Site, workspace: Workspace) -> None:
    """Is the setup's own doing, and owed back all the same."""
    node = node_of(site, workspace, deploy=(*PYTHON, "print('text file busy'); raise SystemExit(1)"))
    assert node._next is not None
    with pytest.raises(NodeNeverReady, match="text file busy"):
        node.replace(node._next, on_stopped=lambda _: None)
    assert owed(workspace) == ["web-1"]
    node.start(node._first)
    assert owed(workspace) == []


class TestHooks:
    def test_one_that_fails(self, site: Site, workspace: Workspace) -> None:
        """Its code, and what it said; of its arguments nothing: they may be secret."""
        node = node_of(site, workspace, stop=(*PYTHON, "print('no route'); raise SystemExit(3)", "--token=hush"))
        with pytest.raises(NodeError, match=r"exit code 3, and said: .*no route") as told:
            node.stop()
        assert "hush" not in str(told.value)
        assert "hush" not in node.log_path.read_text()

    def test_one_that_takes_too_long(self, site: Site, workspace: Workspace) -> None:
        """It is ended with what it started."""
        node = node_of(site, workspace, hook_seconds=0.2, stop=(*PYTHON, "import time; time.sleep(600)"))
        with pytest.raises(NodeError, match=r"longer than 0\.2 s"):
            node.stop()

    def test_one_that_is_no_program(self, site: Site, workspace: Workspace) -> None:
        """What could not be run is told."""
        node = node_of(site, workspace, stop=("/nowhere/at-all",))
        with pytest.raises(NodeError, match="cannot be run: No such file"):
            node.stop()

    def test_no_shell_reads_it(self, site: Site, workspace: Workspace, tmp_path: Path) -> None:
        """What would be something else to a shell is an argument."""
        seen = tmp_path / "seen.json"
        words = ["; touch pwned", "$(touch pwned)", "`id`", "a b", "*", "> x"]
        code = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))"
        node = node_of(site, workspace, pause=(*PYTHON, code, str(seen), *words))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("harness.platforms.remote._EFFECT_WITHIN_SECONDS", 0.01)
            with pytest.raises(NodeError, match="should answer nothing"):
                node.hang()
        assert json.loads(seen.read_text()) == words

    def test_ready(self) -> None:
        """Its exit code tells; one that takes too long, or is none, says no."""
        assert succeeds((*PYTHON, "pass"), within_seconds=30)
        assert not succeeds((*PYTHON, "raise SystemExit(1)"), within_seconds=30)
        assert not succeeds((*PYTHON, "import time; time.sleep(600)"), within_seconds=0.1)
        assert not succeeds(("/nowhere/at-all",), within_seconds=1)


def test_what_a_dead_run_owed_is_made_good(site: Site, workspace: Workspace) -> None:
    """Whoever puts it away runs the hook that undoes what was done; once a run is over in peace, nobody does."""
    node = node_of(site, workspace)
    node.stop()
    record = read_record(workspace._record.path)
    assert record is not None
    peaceful = record._replace(leases=(), path=Path("/nowhere"), scratch=Path("/nowhere"))
    clean_up(peaceful, trust_old_groups=True, harness_was_killed=False, within_seconds=0)
    assert site.down.exists()
    done = clean_up(peaceful, trust_old_groups=True, within_seconds=0)
    assert not done.problems
    assert not site.down.exists()


def test_what_cannot_be_made_good_is_told(site: Site, workspace: Workspace) -> None:
    """By name, with how the hook ended."""
    node = node_of(site, workspace, start=(*PYTHON, "raise SystemExit(4)"))
    node.stop()
    record = read_record(workspace._record.path)
    assert record is not None
    record = record._replace(leases=(), path=Path("/nowhere"), scratch=Path("/nowhere"))
    done = clean_up(record, trust_old_groups=True, within_seconds=0)
    assert done.problems == ("web-1 could not be given back as it was (its hook ended with exit code 4)",)


# -- rate ------------------------------------------------------------------------------------------------------------


def test_no_more_than_is_borne() -> None:
    """After a pause a second's worth at once, then one after the other; never more than that in any second."""
    pace = BatchPace(10)
    moments = [pace.next_time(100.0, requests=1) for _ in range(30)]
    assert moments[:10] == [100.0] * 10
    assert moments == sorted(moments)
    for begin in moments:
        assert sum(begin <= each < begin + 1.0 for each in moments) <= 20
    assert moments[-1] == pytest.approx(102.0, abs=0.11)
    assert pace.next_time(200.0, requests=2) == 200.0


def test_a_window_knows_who_ended_it() -> None:
    """By default the harness did."""
    window = FaultWindow(fault="kill", node="a", injected=0, effective=1, healing=2, healed=3)
    assert not window.by_itself
