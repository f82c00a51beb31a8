"""A setup that stands, with the folders of a run: for whoever wants it running and judges nothing.

Must not: send traffic, judge, or print but through a view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import Cluster, boot
from harness.errors import HarnessError
from harness.layouts import Choice
from harness.reporting import Redactor, RunHeader, View
from harness.setup import Environment, Setup
from harness.workspace import Workspace, sweep

__all__ = ["Standing", "balancer_url", "folders", "header_of", "standing"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is there while it stands."""

    setup: Setup
    cluster: Cluster
    workspace: Workspace
    redactor: Redactor
    hide: Callable[[Sequence[str]], None]
    """Told of further secrets."""

    @property
    def url(self) -> str:
        """Where people reach the application."""
        return balancer_url(self.cluster)

    @property
    def authority(self) -> str:
        """The certificate (PEM) that signed for the balancer, in this run alone; empty without TLS."""
        secure = self.cluster.layout.balancer.secure
        return "" if secure is None else secure.authority.read_text(encoding="ascii")


def balancer_url(cluster: Cluster) -> str:
    """The address of the balancer, as a person types it."""
    balancer = cluster.layout.balancer
    # A project of a person's own may be reached another way than by http.
    return str(getattr(balancer, "url", "") or f"http://{balancer.host}:{balancer.port}")


def header_of(setup: Setup, choice: Choice, *, seed: int) -> RunHeader:
    """What is known of it before anything has started."""
    nodes = ["postgres"] * (setup.postgres is not None) + ["redis"] * (setup.redis is not None)
    return RunHeader(
        setup=setup.name,
        platform=choice.platform,
        why_platform=choice.why,
        notes=choice.notes,
        balancer=f"{setup.balancer.kind} {setup.balancer.algorithm}",
        instances=setup.app.instances,
        sessions=setup.sessions.store,
        seed=seed,
        nodes=choice.nodes or (*nodes, setup.balancer.kind, *setup.app.names),
    )


@contextmanager
def folders(*, name: str, environment: Environment, seed: int, reports: Path) -> Iterator[tuple[Workspace, Redactor]]:
    """The folders of a run, cleared up at the end, with the logs of its nodes kept.

    Raises:
        BadInput: the reports cannot be written.
    """
    sweep()
    redactor = Redactor()
    with ExitStack() as stack:
        workspace = stack.enter_context(
            Workspace.create(reports=reports, name=name, seed=seed, cache=environment.cache)
        )
        # After every node has said its last words, and before the folder they are in is removed.
        stack.callback(workspace.collect_logs, redactor.copy_file)
        try:
            yield workspace, redactor
        except HarnessError as problem:
            # What a node said last is part of the message, and an application may say anything.
            problem.args = tuple(redactor(str(part)) for part in problem.args)
            raise


@contextmanager
def standing(
    *, setup: Setup, choice: Choice, environment: Environment, seed: int, reports: Path, view: View
) -> Iterator[Standing]:
    """Boot a setup, and stop it when the block is left, whatever happened in it.

    Raises:
        BadInput: it cannot be run here; nothing is left running.
        HarnessError: something could not be stopped; the next run or `harness clean` tries again.
    """
    with ExitStack() as stack:
        workspace, redactor = stack.enter_context(
            folders(name=setup.name, environment=environment, seed=seed, reports=reports)
        )

        def hide(secrets: Sequence[str]) -> None:
            redactor.add(*secrets)
            view.hide(*secrets)

        hide([each.password for each in setup.people if each.password])
        view.begin(header_of(setup, choice, seed=seed))
        cluster = stack.enter_context(
            boot(
                setup,
                platform=choice.platform,
                workspace=workspace,
                environment=environment,
                hide=hide,
                on_ready=view.node_ready,
                say=view.preparing,
            )
        )
        view.up(cluster.up_seconds)
        yield Standing(setup=setup, cluster=cluster, workspace=workspace, redactor=redactor, hide=hide)
