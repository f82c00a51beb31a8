"""Are all instances up, and are they one application?"""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers import EveryInstanceAnswers, InstancesAgree
from harness.model import Look
from tests.checker_histories import APPS, FAIL, INCONCLUSIVE, PASS, history, look, note, status_of

HEALTHY = [look("health", app, seconds=0.002 + i / 1000) for i, app in enumerate(APPS)]


@pytest.mark.parametrize(
    ("looks", "expected", "said"),
    [
        (HEALTHY, PASS, "3 of 3, slowest 4 ms"),
        ([*HEALTHY, look("health", "app-2", 9.0, status=503)], FAIL, "2 of 3; app-2: status 503"),
        ([*HEALTHY[:2], look("health", "app-3", status=None, error="ConnectionError")], FAIL, "app-3: ConnectionError"),
        ([*HEALTHY[:2], look("health", "app-3", status=302)], FAIL, "app-3: status 302"),
        # Who answers must be who was asked, where the setup names a header that tells.
        ([look("health", app, value={"named": app}) for app in APPS], PASS, "3 of 3"),
        ([*HEALTHY[:2], look("health", "app-3", value={"named": "app-1"})], FAIL, "app-3: answered by app-1"),
        ([*HEALTHY[:2], look("health", "app-3", value={"named": ""})], FAIL, "app-3: the answer does not name"),
        ([look("health", "app-2", 0.0, status=500), *HEALTHY], FAIL, "app-2: status 500"),
        (HEALTHY[:2], INCONCLUSIVE, "never asked: app-3"),
        ([], INCONCLUSIVE, "0 of 3"),
    ],
)
def test_every_instance_answers(looks: list[Look], expected: str, said: str) -> None:
    """A 2xx from each, every time it was asked."""
    verdict = EveryInstanceAnswers().check(history(looks=looks))
    assert status_of(verdict) == expected
    assert said in verdict.measured


def versions(**changes: dict[str, Any]) -> list[Look]:
    """All instances tell the same of themselves, but for changes such as app_2={"config": "b"}."""
    same = {"version": "1", "config": "a", "database": "d", "session_store": "s"}
    return [look("version", app, value=same | changes.get(app.replace("-", "_"), {})) for app in APPS]


NOTES = [note(a, b) for a in APPS for b in APPS]


def notes_but(writer: str, reader: str, **changes: Any) -> list[Look]:
    """All notes read, but for this pair."""
    return [note(a, b, **(changes if (a, b) == (writer, reader) else {})) for a in APPS for b in APPS]


def without_value(key: str, app: str) -> list[Look]:
    """One instance leaves a key out."""
    return [
        look("version", seen.node, value={k: v for k, v in seen.value.items() if seen.node != app or k != key})
        for seen in versions()
    ]


@pytest.mark.parametrize(
    ("looks", "expected", "said"),
    [
        (
            [*versions(), *NOTES],
            PASS,
            "3 instances agree on version, config, database and session_store; 9 of 9 notes read",
        ),
        (NOTES, PASS, "9 of 9 notes read"),
        (versions(), INCONCLUSIVE, "6 of 9 pairs"),
        ([*versions(app_2={"config": "b"}), *NOTES], FAIL, "config differs: a on app-1 and app-3, b on app-2"),
        (
            [*versions(app_1={"session_store": "x"}, app_2={"session_store": "y"}), *NOTES],
            FAIL,
            "session_store differs",
        ),
        ([*versions(app_3={"database": "e"}), *NOTES], FAIL, "database differs"),
        ([*without_value("config", "app-2"), *NOTES], FAIL, "(not told) on app-2"),
        ([*versions(), *notes_but("app-1", "app-2", ok=False, answer="refused")], FAIL, "1 note not found"),
        # A note nobody answered about, or its own writer does not find, says nothing.
        ([*versions(), *notes_but("app-1", "app-2", ok=False, answer="failed")], INCONCLUSIVE, "1 of 9 pairs"),
        ([*versions(), *notes_but("app-1", "app-2", ok=False, error="Timeout")], INCONCLUSIVE, "1 of 9 pairs"),
        ([*versions(), *notes_but("app-1", "app-1", ok=False)], INCONCLUSIVE, "2 of 9 pairs"),
        ([*versions()[:2], *NOTES], INCONCLUSIVE, "app-3 did not say"),
        ([*versions()[:2], look("version", "app-3", status=500), *NOTES], INCONCLUSIVE, "app-3 did not say"),
        ([look("version", app, status=404) for app in APPS] + NOTES, PASS, "9 of 9 notes read"),
        ([], INCONCLUSIVE, "no instance says"),
    ],
)
def test_instances_agree(looks: list[Look], expected: str, said: str) -> None:
    """One answer from all, and every note read everywhere; which key differs and who says what is told."""
    verdict = InstancesAgree().check(history(looks=looks))
    assert status_of(verdict) == expected
    assert said in verdict.measured


def test_the_evidence_groups_the_instances() -> None:
    """A diagnosis reads which key, and who stands with whom."""
    verdict = InstancesAgree().check(history(looks=[*versions(app_2={"config": "b"}), *NOTES]))
    assert verdict.evidence["differing"] == ["config"]
    assert verdict.evidence["groups"]["config"] == {"a": ["app-1", "app-3"], "b": ["app-2"]}
    assert verdict.evidence["notes"]["app-1"] == {"app-1": True, "app-2": True, "app-3": True}


def test_the_latest_word_counts() -> None:
    """After a rollout an instance tells another version than before."""
    looks = [*versions(app_2={"version": "0"}), look("version", "app-2", 5.0, value=dict(versions()[0].value)), *NOTES]
    assert status_of(InstancesAgree().check(history(looks=looks))) == PASS
