"""Which platform a setup runs on: the one that was asked for, or the one that fits, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import assets
from harness.errors import BadInput
from harness.layouts import ABILITIES, choose, missing, undeclared
from harness.promises import NEEDS
from harness.setup import Compose, Journey, Setup, load_setup

REFERENCE = load_setup(assets.path("fixtures/setups/reference.toml"))
PAGE = (Path(__file__).parents[1] / "docs/platforms.md").read_text(encoding="utf-8")


def setup_with(**changes: Any) -> Setup:
    """The reference setup with other ways to run an instance."""
    compose = changes.pop("compose", None)
    app = REFERENCE.app.model_copy(update=changes)
    return REFERENCE.model_copy(update={"app": app, "compose": compose})


BOTH = setup_with(command=("./server",), image="shop:1")
COMMAND = setup_with(command=("./server",), image=None)
IMAGE = setup_with(command=None, image="shop:1")
PROJECT = setup_with(command=None, image=None, compose=Compose())


@pytest.mark.parametrize(
    ("setup", "wished", "platform", "why"),
    [
        (BOTH, "auto", "native", "the setup has a command; --platform docker runs its image"),
        (COMMAND, "auto", "native", "the setup has a command for an instance"),
        (IMAGE, "auto", "docker", "the setup names an image for an instance (shop:1) and no command"),
        (PROJECT, "auto", "compose", ""),
        (BOTH, "docker", "docker", ""),
        (BOTH, "swarm", "swarm", ""),
        (COMMAND, "native", "native", ""),
        (IMAGE, "docker", "docker", ""),
        (PROJECT, "compose", "compose", ""),
    ],
)
def test_a_platform_is_chosen(setup: Setup, wished: str, platform: str, why: str) -> None:
    """The reason is told where nobody named one and another would do, too."""
    choice = choose(setup, wished=wished)
    assert (choice.platform, choice.why) == (platform, why)
    if why:
        assert f"`{platform}: {why}`" in PAGE


@pytest.mark.parametrize(
    ("setup", "wished", "words"),
    [
        (IMAGE, "native", ("app.command", "shop:1", "--platform docker")),
        (COMMAND, "docker", ("app.image", "./server", "--platform native")),
        (COMMAND, "swarm", ("app.image", "./server", "--platform native")),
        (BOTH, "compose", ("compose project", "--compose")),
        (PROJECT, "native", ("compose project", "--platform native", "leave --platform out")),
        (PROJECT, "docker", ("compose project", "--platform docker", "leave --platform out")),
        (PROJECT, "swarm", ("compose project", "--platform swarm", "leave --platform out")),
    ],
)
def test_a_platform_that_does_not_fit_is_told(setup: Setup, wished: str, words: tuple[str, ...]) -> None:
    """What is missing, what is there instead, and what would do."""
    with pytest.raises(BadInput) as refused:
        choose(setup, wished=wished)
    for word in words:
        assert word in str(refused.value)
    assert "None" not in str(refused.value)


def test_every_need_is_met_somewhere_and_has_its_words() -> None:
    """A scenario that no platform can run is no scenario; one that is left out is told why."""
    assert set(NEEDS) == {ability for abilities in ABILITIES.values() for ability in abilities}
    assert missing({"instances", "cut-off"}, "native") == "cut-off"
    assert missing({"instances"}, "native") is None


def test_without_tls_its_promises_are_not_judged_anywhere() -> None:
    """What the setup has not is told in its own words, on each platform; with the table there is nothing to tell."""
    secure = load_setup(assets.path("fixtures/setups/reference-tls.toml"))
    for platform in ("native", "docker", "swarm", "auto"):
        assert "[balancer.tls]" in choose(REFERENCE, wished=platform).lacks["tls"]
        assert not choose(secure, wished=platform).lacks
    assert missing({"tls"}, "compose") == "tls"


def test_what_a_setup_does_not_say_is_told_by_its_key() -> None:
    """A scenario that needs a journey or a key is left out where it is not given; a platform has no part in that."""
    bare = REFERENCE.model_copy(update={"journey": {"login": REFERENCE.journey["login"]}})
    assert undeclared(["instances", "journey.upload"], bare) == (
        "the setup does not say how a person hands in a file: [journey.upload] does"
    )
    assert undeclared(["app.websocket"], setup_with(websocket=None)) == (
        "the setup does not say where people hear of each other at once: app.websocket does"
    )
    assert undeclared(["instances", "journey.upload", "app.rate_limit"], REFERENCE) is None
    assert missing(["journey.upload", "instances"], "native") is None


def test_what_a_setup_does_not_say_is_told_with_the_key_that_says_it() -> None:
    """A journey, a key of the application, or what is to be known of sessions: the first that is missing, and where it goes."""
    assert (
        undeclared({"instances", "journey.recall", "app.overloaded_at", "session.count", "session.token"}, REFERENCE)
        is None
    )
    without = {
        name: journey for name, journey in REFERENCE.journey.items() if name not in ("recall", "write", "counter")
    }
    bare = setup_with(overloaded_at=None).model_copy(update={"journey": without})
    for need, said in (
        ("journey.recall", "[journey.recall] does"),
        ("app.overloaded_at", "app.overloaded_at does"),
        ("session.count", "[journey.counter] does"),
        ("session.token", "[journey.write] does"),
        ("session.short-life", "sessions.ttl_seconds does"),
    ):
        assert said in (undeclared({need}, bare) or "")


def test_any_stream_will_do() -> None:
    """A WebSocket or events: one of them is enough."""
    for given in ({"websocket": None}, {"events": None}):
        assert undeclared(["app.streams"], setup_with(**given)) is None
    assert "app.websocket or app.events does" in (
        undeclared(["app.streams"], setup_with(websocket=None, events=None)) or ""
    )


def test_a_second_set_of_instances_is_native_alone() -> None:
    """Which of the promises on rollouts is judged follows from the kind; who has no second set says so before anything starts."""
    switching = REFERENCE.model_copy(update={"rollout": REFERENCE.rollout.model_copy(update={"kind": "blue-green"})})
    assert undeclared(["rollout.in-place"], REFERENCE) is None
    assert undeclared(["rollout.blue-green"], switching) is None
    assert 'rollout.kind = "blue-green" has one' in (undeclared(["rollout.blue-green"], REFERENCE) or "")
    assert "rollout.bluegreen judges the switch" in (undeclared(["rollout.in-place"], switching) or "")
    assert choose(switching, wished="auto").platform == "native"
    with pytest.raises(BadInput, match="only the native platform has one"):
        choose(switching, wished="docker")


@pytest.mark.parametrize(("seconds", "is_told"), [(2.0, False), (10.0, False), (1800.0, True)])
def test_only_a_short_life_is_waited_for(seconds: float, is_told: bool) -> None:
    """A session that lives longer is left alone, and the reason says how to make it shorter."""
    sessions = REFERENCE.sessions.model_copy(update={"ttl_seconds": seconds})
    why = undeclared({"session.short-life"}, REFERENCE.model_copy(update={"sessions": sessions}))
    assert (why is not None) is is_told
    assert why is None or "sessions.ttl_seconds = 1800" in why


def test_a_count_must_be_taken_and_a_token_sent() -> None:
    """A counter that tells no number, or a form without anything a page gave, has nothing to be judged by."""
    steps = {name: journey.steps[-1] for name, journey in REFERENCE.journey.items()}
    journeys = dict(REFERENCE.journey)
    journeys["counter"] = Journey(steps=(steps["counter"].model_copy(update={"take": {}}),))
    journeys["write"] = Journey(steps=(steps["write"].model_copy(update={"form": {"id": "{record}"}}),))
    setup = REFERENCE.model_copy(update={"journey": journeys})
    assert "take = { count" in (undeclared({"session.count"}, setup) or "")
    assert "holds no token" in (undeclared({"session.token"}, setup) or "")
