"""What is run once before the first instance of a version: how it is run, and what becomes of one that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_setup_messages import mistakes_in

from harness.cluster import Cluster
from harness.errors import BadInput, NodeNeverReady, NothingTested
from harness.layouts import Instance
from harness.platforms import NodeSpec
from harness.platforms.native import NativePlatform
from harness.services import migration_container, migration_spec
from harness.setup import App, Rollout, Setup
from harness.waiting import set_patience
from harness.workspace import Workspace

VALUES = {"postgres.url": "postgres://app:pw@127.0.0.1:1/app"}


def setup_with(folder: Path, **app: Any) -> Setup:
    wanted: dict[str, Any] = {
        "command": ("./serve", "{port}"),
        "image": "shop:1",
        "directory": str(folder),
        "env": {"DATABASE_URL": "{postgres.url}", "NAME": "{instance}/{index}", "PORT": "{port}"},
        "migrate": ("./serve", "migrate", "{postgres.url}"),
        **app,
    }
    rollout = Rollout(env={"APP_VERSION": "2"}, image="shop:2", migrate=("./serve-2", "migrate"))
    return Setup(app=App(**wanted), rollout=rollout)


# -- how it is run --------------------------------------------------------------------------------------------------


def test_it_finds_what_an_instance_finds(tmp_path: Path) -> None:
    """The same environment and folder, under a name of its own."""
    spec = migration_spec(setup_with(tmp_path), port=20001, values=VALUES)
    assert spec is not None
    assert spec.argv == ("./serve", "migrate", VALUES["postgres.url"])
    assert spec.env == {"DATABASE_URL": VALUES["postgres.url"], "NAME": "migrate/0", "PORT": "20001"}
    assert (spec.name, spec.directory) == ("migrate", tmp_path)


def test_that_of_a_rollout_is_of_the_new_version(tmp_path: Path) -> None:
    spec = migration_spec(setup_with(tmp_path), port=1, values=VALUES, new_version=True)
    assert spec is not None
    assert (spec.name, spec.argv, spec.env["APP_VERSION"]) == ("migrate-next", ("./serve-2", "migrate"), "2")


def test_in_a_container_it_is_the_command_in_the_image(tmp_path: Path) -> None:
    old = migration_container(setup_with(tmp_path), port=20001, values=VALUES)
    new = migration_container(setup_with(tmp_path), port=20001, values=VALUES, new_version=True)
    assert old is not None
    assert new is not None
    assert (old.name, old.image, old.command) == ("migrate", "shop:1", ("./serve", "migrate", VALUES["postgres.url"]))
    assert old.env["PORT"] == "8000"
    assert (new.name, new.image, new.command) == ("migrate-next", "shop:2", ("./serve-2", "migrate"))


def test_without_one_there_is_nothing_to_run(tmp_path: Path) -> None:
    setup = setup_with(tmp_path, migrate=None)
    assert migration_spec(setup, port=1, values=VALUES) is None
    assert migration_container(setup, port=1, values=VALUES) is None


# -- when it is run -------------------------------------------------------------------------------------------------


class Ran:
    """A node that ends by itself, and remembers when it was started among others."""

    def __init__(self, name: str, order: list[str], *, code: int | None = 0) -> None:
        self.name, self.order, self.code = name, order, code
        self.spec = SimpleNamespace(name=name)
        self.exit_code: int | None = None
        self.start_seconds = 0.0
        self.serves = name.startswith(("app", "nginx", "postgres"))
        self.runs = False

    def start(self, spec: Any = None) -> None:
        self.order.append(self.name)
        self.runs = self.serves or self.code is None
        self.exit_code = None if self.runs else self.code

    def is_running(self) -> bool:
        return self.runs

    def wait_ready(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> int:
        self.runs = False
        return 0

    def kill(self) -> None:
        self.order.append(f"kill {self.name}")
        self.runs = False

    def last_log_lines(self, count: int = 10) -> list[str]:
        return ["applying 0002_orders", "relation orders exists already"]


Made = Callable[..., tuple[Cluster, list[str]]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(*, code: int | None = 0, next_code: int | None = 0) -> tuple[Cluster, list[str]]:
        order: list[str] = []
        nodes = [Ran(name, order) for name in ("app-1", "app-2")]
        instances = tuple(
            Instance(node.name, node, "127.0.0.1", 1, node.spec, node.spec)  # type: ignore[arg-type]
            for node in nodes
        )
        store = SimpleNamespace(
            node=Ran("postgres", order),
            prepare=lambda: None,
            after_ready=lambda: None,
            empty=lambda: order.append("empty"),
        )
        layout: Any = SimpleNamespace(
            replicated=None,
            instances=instances,
            standby=(),
            stores=(store,),
            database=store,
            migration=Ran("migrate", order, code=code),
            next_migration=Ran("migrate-next", order, code=next_code),
            balancer_waits=True,
            balancer_node=Ran("nginx", order),
            prepare_balancer=lambda: None,
            borrowed=False,
            whos=dict,
        )
        setup = Setup(app=App(command=("x",), migrate=("x",), migrate_within_seconds=0.01, first_start="serial"))
        cluster = Cluster(setup, layout, recorder=lambda _: None)
        monkeypatch.setattr(cluster, "_wait_answering", lambda: None)
        return cluster, order

    return make


def test_it_is_run_when_the_stores_are_ready_and_before_any_instance(made: Made) -> None:
    cluster, order = made()
    cluster.start(lambda *_: None)
    assert order == ["postgres", "migrate", "app-1", "app-2", "nginx"]
    assert "migrations" in cluster.waits


def test_it_is_run_again_on_a_database_that_was_emptied(made: Made) -> None:
    """As a first deploy does."""
    cluster, order = made()
    cluster.start_all_on_empty_database()
    assert order[:2] == ["empty", "migrate"]
    assert sorted(order[2:]) == ["app-1", "app-2"]


def test_one_that_fails_ends_the_start(made: Made) -> None:
    """With its exit code, and what it said last; no instance was begun."""
    cluster, order = made(code=3)
    with pytest.raises(BadInput) as refused:
        cluster.start(lambda *_: None)
    told = str(refused.value)
    assert told.startswith("app.migrate ended with exit code 3 after")
    assert told.endswith("    relation orders exists already")
    assert order == ["postgres", "migrate", "kill postgres"]


def test_one_that_does_not_end_is_ended(made: Made) -> None:
    """And the key that gives it more time is named."""
    cluster, order = made(code=None)
    with pytest.raises(
        NodeNeverReady, match=r"app\.migrate was still running after 0\.01 s.*app\.migrate_within_seconds"
    ):
        cluster.start(lambda *_: None)
    assert "kill migrate" in order
    assert "app-1" not in order


def test_that_of_a_rollout_comes_before_the_first_instance_is_replaced(made: Made) -> None:
    """Where it fails, nobody is replaced: nothing of a rollout was tested, and why is said."""
    cluster, order = made(next_code=1)
    with pytest.raises(NothingTested, match=r"the rollout was not begun: rollout\.migrate ended with exit code 1"):
        cluster.roll_out()
    with pytest.raises(NothingTested), cluster.new_version_on(cluster.instances[0]):
        raise AssertionError("the body must not run")
    assert order == ["migrate-next", "migrate-next"]


# -- on this machine ------------------------------------------------------------------------------------------------


@contextmanager
def patient(factor: float) -> Iterator[None]:
    set_patience(factor)
    try:
        yield
    finally:
        set_patience(1.0)


def test_a_process_is_waited_for_and_its_words_are_kept(tmp_path: Path, made: Made) -> None:
    """A real one, whose log stays with those of the other nodes."""
    spec = NodeSpec(
        name="migrate",
        argv=(sys.executable, "-S", "-c", "print('no such table'); raise SystemExit(4)"),
        directory=tmp_path,
        port=0,
        is_ready=lambda: False,
    )
    with (
        Workspace.create(reports=tmp_path / "reports", name="shop", seed=1, cache=tmp_path) as workspace,
        closing(NativePlatform(workspace)) as platform,
    ):
        node = platform.add(spec)
        cluster, _ = made()
        with patient(1000), pytest.raises(NodeNeverReady, match=r"exit code 4(?s:.*)    no such table"):
            cluster._migrate(node, key="app.migrate")
        assert "no such table" in node.log_path.read_text(encoding="utf-8")


# -- where it has no place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"app.migrate": ["x"], "app.start_after": "nothing"},
            'app.migrate needs app.start_after = "dependencies" (got ["x"])',
        ),
        ({"app.migrate": ["x"], "compose.file": ["a.yml"]}, 'app.migrate has no place beside [compose] (got ["x"])'),
        (
            {"rollout.migrate": ["x"], "compose.file": ["a.yml"]},
            'rollout.migrate has no place beside [compose] (got ["x"])',
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_a_mistake(change: dict[str, object], message: str) -> None:
    (told,) = mistakes_in(change)
    assert told.startswith(message)
