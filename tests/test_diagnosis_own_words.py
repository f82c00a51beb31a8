"""A compose project is its owner's: what is wrong with it is said in words of its own files."""

from __future__ import annotations

import re

import pytest

from harness.diagnosis.balancers import ways_of
from harness.diagnosis.own_words import in_own_words, promise_in_own_words, translated
from harness.model import Cause, Confidence
from harness.promises import CATALOGUE

KEYS = re.compile(r"\b(balancer|rollout)\.[a-z_]+|\bapp\.(env|ready|stop|instance)")
CAUSE = Cause(
    id="x",
    sentence="the balancer waits too long",
    confidence=Confidence.CERTAIN,
    evidence=("balancer.read_timeout_seconds is 60",),
    remedy="balancer.read_timeout_seconds just above the slowest honest answer, 2 for example",
    guide="Best Practices: DO 5",
)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ('balancer.next_upstream = ["error", "timeout"]', "proxy_next_upstream error timeout"),
        ("balancer.connect_timeout_seconds = 1 or less", "proxy_connect_timeout = 1 or less"),
        ("balancer.max_fails = 1, balancer.fail_timeout_seconds = 1", "max_fails = 1, fail_timeout = 1"),
        (
            'balancer.resolve = "always" (nginx: a `resolver`, and more); or "when-told", where somebody reloads it',
            "give each instance a fixed address (networks: ipv4_address), or reload the balancer after each replacement",
        ),
        (
            'rollout.drain = "balancer-first": the balancer stops sending before the instance is told to stop',
            "take each instance out of the balancer first: it stops sending before the instance is told to stop",
        ),
        (
            'replace one instance at a time: rollout.kind = "rolling"',
            (
                "replace one instance at a time: compose replaces all containers of a service together, so give each "
                "instance a service of its own"
            ),
        ),
        ('balancer.restart is "none"', "its service has no `restart:` in the compose file"),
        (
            'balancer.restart = "any": have whoever keeps it running start it again',
            "have whoever keeps it running start it again",
        ),
        ('the same store: app.env.REDIS_URL = "{redis.url}", or', "the same store: REDIS_URL in its environment, or"),
    ],
)
def test_keys_of_a_setup_become_lines_of_nginx(text: str, own: str) -> None:
    """As one would type them."""
    assert translated(text, balancer="nginx") == own


@pytest.mark.parametrize("balancer", ["nginx", "haproxy", "traefik"])
def test_no_key_of_a_setup_is_left(balancer: str) -> None:
    """Nobody is told to change what they have not."""
    ways = ways_of({"balancer": balancer})
    said = [
        ways.retry_remedy,
        ways.notice_remedy,
        ways.left_out_remedy,
        ways.left_out_said,
        ways.early_remedy,
        ways.pace[1],
    ]
    for text in (*said, *(promise.remedy for promise in CATALOGUE.values())):
        assert not KEYS.search(translated(text, balancer=balancer)), text


def test_only_a_compose_project_has_words_of_its_own() -> None:
    """Everybody else has a setup file."""
    facts = {"platform": "compose", "balancer": "nginx"}
    told = in_own_words(CAUSE, facts)
    assert (told.evidence, told.remedy) == (
        ("proxy_read_timeout is 60",),
        "proxy_read_timeout just above the slowest honest answer, 2 for example",
    )
    assert in_own_words(CAUSE, {**facts, "platform": "docker"}) is CAUSE
    promise = CATALOGUE["failover.hang"]
    assert promise_in_own_words(promise, {"platform": "native"}) is promise
    assert "balancer." not in promise_in_own_words(promise, facts).remedy
