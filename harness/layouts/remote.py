"""A site that runs already, somewhere else: what the setup then says, and its instances as nodes.

Must not: ask anybody but the addresses that were named, or run a hook (nodes do) before its owner has said twice that it may.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.answers import ask, netloc
from harness.certificates import believed_here, make_certificates
from harness.errors import BadInput, NodeError
from harness.layouts.choice import Choice
from harness.layouts.parts import Instance, Layout, SomebodysBalancer
from harness.platforms.remote import RemoteNode, RemoteSpec, said, succeeds
from harness.ports import PortLeases
from harness.services import Secure, answers_well, manner_of
from harness.setup import HOOKS, Environment, Setup, Tls, expand
from harness.workspace import Workspace

__all__ = ["adopt", "lay_out"]

_ANSWER_SECONDS = 5.0
_FAULTS = {"kill": "kill", "stop": "stop", "pause": "hang"}
"""What a scenario needs, by the hook that gives it."""
_DEPLOYS = {"deploy": "new-version", "revert": "take-back"}


# -- what the setup says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Site:
    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> _Site:
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def adopt(setup: Setup, choice: Choice, *, owned: str | None) -> tuple[Setup, Choice]:
    """What is known of the site put into the setup, and what cannot be done to it into the choice. Nothing is asked.

    `owned`: the host whose owner has said once more that hooks may be run.

    Raises:
        BadInput: hooks may be run, and nobody has said so twice; or an address that is none.
    """
    remote = setup.remote
    assert remote is not None, "only a setup of a site is taken for one"
    for url in (remote.balancer, remote.http, *(each.address for each in remote.instances.values())):
        if url is not None:
            _must_be_address(url)
    if owned is not None and owned != remote.host:
        raise BadInput(f"--yes-i-own is for another host (got {owned}; the setup is of {remote.host})")
    if remote.allow_faults and owned is None:
        raise BadInput(
            f"the setup allows faults (remote.allow_faults), so that instances of {remote.host} will be stopped, killed or "
            f"replaced: say once more that they are yours, with --yes-i-own {remote.host}, or leave all of it be with --set "
            "remote.allow_faults=false"
        )
    secure = remote.balancer.startswith("https:")
    balancer = setup.balancer.model_copy(
        update={
            "kind": "balancer",
            "algorithm": setup.balancer.algorithm
            if "algorithm" in setup.balancer.model_fields_set
            else "as its own configuration says",
            "tls": (setup.balancer.tls or Tls()) if secure else None,
            "pool": None,
        }
    )
    rollout = setup.rollout.model_copy(update={"drain": "none", "batch": 1, "kind": _kind(setup.rollout.kind)})
    changed = {
        "app": setup.app.with_names(tuple(remote.instances)),
        "balancer": balancer,
        "rollout": rollout,
        "postgres": None,
        "redis": None,
    }
    lacks = {**choice.lacks, **_lacks(setup)} | ({} if secure else {"tls": "its address is one of http"})
    if secure:
        lacks.pop("tls", None)
    return setup.model_copy(update=changed), replace(
        choice, lacks=lacks, notes=_notes(setup), nodes=("balancer", *remote.instances)
    )


def _kind(kind: str) -> str:
    return "rolling" if kind == "blue-green" else kind


def _must_be_address(url: str) -> None:
    try:
        usable = urlsplit(url).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInput(f"{url} is no address: a port is a number from 1 to 65535")


def _lacks(setup: Setup) -> Mapping[str, str]:
    """What cannot be done to this site, and the key that would allow it."""
    remote = setup.remote
    assert remote is not None, "only a setup of a site is asked for its hooks"
    if not remote.instances:
        nobody = "its instances are not known: [remote.instances] names them, with the address of each where it can be reached"
        return dict.fromkeys(("instances", "names", *_FAULTS.values(), *_DEPLOYS.values()), nobody)
    lacks: dict[str, str] = {}
    far = [name for name, each in remote.instances.items() if each.address is None]
    if far:
        lacks["instances"] = (
            f"{far[0]} cannot be asked by itself: remote.instances.{far[0]}.address says where it can be reached from here"
        )
    for hook, need in (*_FAULTS.items(), *_DEPLOYS.items()):
        without = [name for name in remote.instances if remote.hook(hook, name) is None]
        blind = [name for name in far if remote.hook("ready", name) is None]
        if without:
            lacks[need] = f"nobody can {_IN_WORDS[hook]} {without[0]}: the hook remote.{hook} does"
        elif not remote.allow_faults:
            lacks[need] = f"what the hook remote.{hook} does is not allowed: remote.allow_faults = true allows it"
        elif blind:
            lacks[need] = (
                f"nobody would see when {blind[0]} is ready again: its address, or the hook remote.ready, tells it"
            )
    return lacks


_IN_WORDS = {
    "kill": "kill",
    "stop": "stop",
    "pause": "freeze",
    "deploy": "deploy a new version on",
    "revert": "take back a new version on",
}


def _notes(setup: Setup) -> tuple[str, ...]:
    remote = setup.remote
    assert remote is not None, "only a setup of a site has notes of it"
    known = len(remote.instances)
    asked = sum(each.address is not None for each in remote.instances.values())
    hooks = [hook for hook in HOOKS if any(remote.hook(hook, name) for name in remote.instances)]
    allowed = ", ".join(hooks) if hooks and remote.allow_faults else ""
    bounded = f"at most {remote.most_per_second:g} requests a second (remote.most_per_second; what needs more stays inconclusive)"
    return (
        f"the site {remote.balancer}, {bounded}; accounts are made there",
        f"instances: {known} known, {asked} can be asked by themselves" if known else "instances: not known",
        f"hooks that may be run: {allowed}" if allowed else "nothing of it is stopped, killed or replaced",
    )


# -- the nodes -------------------------------------------------------------------------------------------------------


def lay_out(
    setup: Setup,
    *,
    workspace: Workspace,
    environment: Environment,
    ports: PortLeases,
    stack: ExitStack,
    say: Callable[[str], None],
) -> Layout:
    """The site and its instances, as far as they are known. Nothing of it is started, and it is left as it was found.

    Raises:
        BadInput: nobody answers there, or whoever does is not to be believed.
    """
    del environment, ports
    remote = setup.remote
    assert remote is not None, "only a setup of a site is laid out as one"
    site = _Site.of(remote.balancer)
    authority = _authority(setup) if site.scheme == "https" else None
    say(f"asking {remote.balancer}")
    _must_answer(site, authority)
    instances = tuple(
        _instance(setup, name, number, workspace=workspace) for number, name in enumerate(remote.instances)
    )
    node = RemoteNode(
        RemoteSpec(
            name="balancer",
            host=site.host,
            port=site.port,
            is_ready=lambda: _answers(site, authority) == "",
            ready_within_seconds=setup.app.ready_within_seconds,
        ),
        next_spec=None,
        workspace=workspace,
    )
    stack.callback(_leave_alone, instances)
    return Layout(
        platform="remote",
        instances=instances,
        balancer=_FarBalancer(setup, site, _secure(site, authority, workspace=workspace)),
        balancer_node=node,
        count_sessions=lambda: None,
        facts=_facts(setup),
        balancer_log=None if remote.log is None else partial(said, remote.log, within_seconds=remote.hook_seconds),
        borrowed=True,
    )


def _instance(setup: Setup, name: str, number: int, *, workspace: Workspace) -> Instance:
    remote, app = setup.remote, setup.app
    assert remote is not None, "only a setup of a site has instances of it"
    declared = remote.instances[name]
    site = _Site.of(declared.address) if declared.address is not None else None
    values = {"instance": name, "index": str(number)}
    if site is not None:
        values |= {"host": site.host, "port": str(site.port)}
    hooks = {
        hook: tuple(expand(word, values) for word in words)
        for hook in HOOKS
        if (words := remote.hook(hook, name)) is not None and remote.allow_faults
    }
    tells = hooks.pop("ready", None)
    manner = manner_of(setup)

    def is_ready() -> bool:
        if site is not None:
            return answers_well(site.host, site.port, app.ready_path, manner=manner)
        return tells is None or succeeds(tells, within_seconds=remote.hook_seconds)

    def spec() -> RemoteSpec:
        return RemoteSpec(
            name=name,
            host=site.host if site is not None else "",
            port=site.port if site is not None else 0,
            is_ready=is_ready,
            ready_within_seconds=app.ready_within_seconds,
            hooks=hooks,
            hook_seconds=remote.hook_seconds,
            restarts=remote.restarts,
        )

    first, second = spec(), spec()
    known = [name, *declared.seen_as, *([netloc(site.host, site.port)] if site is not None else [])]
    return Instance(
        name,
        RemoteNode(first, next_spec=second, workspace=workspace),
        first.host,
        first.port,
        first,
        second,
        seen_as=tuple(dict.fromkeys(known)),
        reachable=site is not None,
    )


def _leave_alone(instances: Collection[Instance]) -> None:
    """Whatever happened: nobody stays frozen or stopped, or with a version that can be taken back. All are tried.

    Raises:
        ExceptionGroup: of NodeError, for each that could not be given back as it was.
    """
    problems: list[NodeError] = []
    for instance in instances:
        try:
            instance.node.resume()
            instance.node.start(instance.spec)
        except NodeError as problem:
            problems.append(problem)
    if problems:
        raise ExceptionGroup("some instances could not be given back as they were", problems)


# -- the balancer ----------------------------------------------------------------------------------------------------


class _FarBalancer(SomebodysBalancer):
    """A balancer far away: it is asked, and nothing is changed at it."""

    def __init__(self, setup: Setup, site: _Site, secure: Secure | None) -> None:
        remote = setup.remote
        assert remote is not None, "only a setup of a site has a balancer far away"
        plain = _Site.of(remote.http) if remote.http is not None else _Site("http", site.host, 80)
        clear = site if secure is None else plain
        super().__init__(site.host, clear.port, secure=secure)
        self.url = remote.balancer.rstrip("/")

    def reset(self, node: Any) -> None:
        """Nothing: what it remembers is its own affair."""


def _secure(site: _Site, authority: Path | None, *, workspace: Workspace) -> Secure | None:
    if authority is None:
        return None
    # Its own key is its own affair. This one is for trying what the TLS of this machine can speak.
    ours = make_certificates(workspace.scratch / "tls", "localhost").balancer
    return Secure(port=site.port, authority=authority, certificate=ours)


def _authority(setup: Setup) -> Path:
    """Whom to believe. Raises BadInput: there is no such file, or no certificate in it."""
    remote = setup.remote
    assert remote is not None, "only a setup of a site names an authority"
    if remote.authority is None:
        return believed_here(instead="name one, remote.authority")
    path = (setup.file.parent if setup.file is not None else Path()) / remote.authority
    try:
        ssl.create_default_context(cafile=path)
    except OSError as problem:
        raise BadInput(
            f"remote.authority is no certificate that could be believed ({path}: {problem.strerror or problem})"
        ) from None
    return path


def _answers(site: _Site, authority: Path | None) -> str:
    """Why nobody answers there; empty where anybody does, whatever it is: that is for scenarios to judge."""
    context = None if authority is None else ssl.create_default_context(cafile=authority)
    try:
        ask("GET", "/", at=(site.host, site.port), within_seconds=_ANSWER_SECONDS, context=context, reads_body=False)
    except ssl.SSLCertVerificationError as problem:
        return f"its certificate is not to be believed: {problem.verify_message}"
    except (OSError, HTTPException) as problem:
        return str(getattr(problem, "strerror", "") or str(problem) or type(problem).__name__)
    return ""


def _must_answer(site: _Site, authority: Path | None) -> None:
    problem = _answers(site, authority)
    if problem:
        raise BadInput(
            f"nobody answers at {site.scheme}://{netloc(site.host, site.port)} ({problem}): start the site, or correct "
            "remote.balancer" + (", or name who signed for it, remote.authority" if "certificate" in problem else "")
        )


def _facts(setup: Setup) -> Mapping[str, Any]:
    """What is known of the balancer: what it does not say is nobody's to claim."""
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "max_fails",
            "fail_timeout_seconds",
            "next_upstream",
            "read_timeout_seconds",
            "connect_timeout_seconds",
            "resolve",
            "keepalive_seconds",
        )
    )
    algorithm = setup.balancer.algorithm
    known = algorithm if algorithm in ("least_conn", "round_robin") else "unknown"
    return {**unknown, "algorithm": known, "is_closed": True}
