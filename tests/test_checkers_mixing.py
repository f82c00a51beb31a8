"""Two versions beside each other: what people have of the one, the other one understands, and so do pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from harness.checkers import AssetsAreEverywhere, SessionsCrossVersions
from harness.errors import NothingTested
from harness.model import Answer, Checker, History, Look
from harness.versions import Versions, _named_in
from tests.checker_histories import APPS, history, look, status_of, step, whoami, without

NEW = "app-2"
SESSIONS, ASSETS = SessionsCrossVersions(), AssetsAreEverywhere()
OLD_STYLE, NEW_STYLE = "/assets/site-1.css", "/assets/site-2.css"
WHERE: Mapping[str, Sequence[str]] = {
    "control": ("app-1", "app-3"),
    "forward": (NEW,),
    "back": ("app-1", "app-3"),
    "used": ("app-1", "app-3"),
    "taken-back": (NEW,),
}


def mixed(
    lost: Callable[[str], bool] = lambda way: False,
    *,
    versions: Callable[[str], str | None] = lambda app: "2" if app == NEW else "1",
    status: Callable[[str, str], int | None] = lambda path, asked: 200,
    named: Callable[[str], Sequence[str]] = lambda app: [NEW_STYLE if app == NEW else OLD_STYLE],
    asked: Sequence[str] = APPS,
    **changes: Any,
) -> History:
    """`lost`: the ways on which nobody is recognised; `status`: of a path asked of an instance; `named`: by its page."""
    made = []
    for number, (way, instances) in enumerate(WHERE.items()):
        for app in instances:
            for person in range(4):
                answer = Answer.LOGGED_OUT if lost(way) else Answer.RECOGNISED
                made.append(whoami(f"v{person}", number + person / 10, via=app, stream=way, answer=answer))
    looks: list[Look] = [
        look("version", app, 1.0, value={"version": told} if (told := versions(app)) else {}) for app in APPS
    ]
    for giver in APPS:
        looks.append(look("page", giver, 1.5, value={"path": "/login", "assets": list(named(giver))}))
        looks += [
            look("asset", app, 1.6, status=status(path, app), value={"page_of": giver, "path": path})
            for path in named(giver)
            for app in asked
        ]
    steps = [step("stop", NEW, 0.4), step("start", NEW, 0.5, version="2"), step("ready", NEW, 0.9, version="2")]
    steps += [step("stop", NEW, 4.0), step("start", NEW, 4.1, version="old"), step("ready", NEW, 4.5, version="old")]
    return replace(history(made, looks=looks, rollout=steps), **changes)


def own_alone(path: str, asked: str) -> int:
    return 200 if (path == NEW_STYLE) is (asked == NEW) else 404


@pytest.mark.parametrize(
    ("checker", "record", "expected", "said"),
    [
        (SESSIONS, mixed(), "pass", "24 of 24 recognised by the other version, there and back"),
        (
            SESSIONS,
            mixed(lambda way: way == "forward"),
            "fail",
            "4 of 4 not recognised who logged in on the old version, by",
        ),
        (
            SESSIONS,
            mixed(lambda way: way in ("back", "used")),
            "fail",
            "8 of 8 not recognised who logged in on the new version",
        ),
        (SESSIONS, mixed(lambda way: way == "taken-back"), "fail", "when the new version was taken back"),
        # Where instances of one version do not share sessions, nothing can be said of two versions.
        (SESSIONS, mixed(lambda way: True), "inconclusive", "sessions are not shared at all"),
        (SESSIONS, mixed(versions=lambda app: "1"), "inconclusive", "tells the same version as the others"),
        (
            SESSIONS,
            mixed(lambda way: way == "back", versions=lambda app: "1"),
            "inconclusive",
            "tells the same version",
        ),
        (SESSIONS, mixed(versions=lambda app: None), "inconclusive", "not every instance told its version"),
        (SESSIONS, without(mixed(), lambda o: o.stream == "forward"), "inconclusive", "only 0 proper answers forward"),
        (SESSIONS, mixed(rollout=()), "inconclusive", "no instance was replaced"),
        (ASSETS, mixed(), "pass", "2 assets of two versions had from all 3 instances"),
        (ASSETS, mixed(status=own_alone), "fail", "2 of 2 assets cannot be had everywhere"),
        (ASSETS, mixed(status=own_alone), "fail", "/assets/site-1.css, which app-1 and app-3 names, not from app-2"),
        (ASSETS, mixed(status=lambda path, asked: None if asked == "app-3" else 200), "fail", "not from app-3"),
        (ASSETS, mixed(named=lambda app: [OLD_STYLE]), "inconclusive", "both versions name the same assets"),
        (ASSETS, mixed(named=lambda app: []), "inconclusive", "names no stylesheet"),
        (ASSETS, mixed(asked=APPS[:2]), "inconclusive", "not every instance was asked"),
        (ASSETS, mixed(versions=lambda app: "1"), "inconclusive", "tells the same version"),
        (ASSETS, mixed(rollout=()), "inconclusive", "no instance was replaced"),
    ],
)
def test_two_versions_are_judged(checker: Checker, record: History, expected: str, said: str) -> None:
    """What crosses from one version to the other passes; what does not is told with its way."""
    verdict = checker.check(record)
    assert (status_of(verdict), said) == (expected, said if said in verdict.measured else verdict.measured)


def test_two_versions_need_an_instance_that_stays() -> None:
    """Where all are replaced in one step there is none, and nothing is tested."""
    names = ("app-1", "app-2")
    instances = [SimpleNamespace(name=name, together=names) for name in names]
    cluster: Any = SimpleNamespace(instances=instances)
    with pytest.raises(NothingTested, match="all instances are replaced together"):
        Versions(cluster=cluster, visitors=None, random=Random(1)).people_beside(instances[0], count=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("html", "paths"),
    [
        (
            '<link rel="stylesheet" href="/a.css"><script src="/b.js"></script><img src="/c.png">',
            ["/a.css", "/b.js", "/c.png"],
        ),
        (
            '<link rel="modulepreload" href="d.js?v=1"><link rel=icon href=../e.ico>',
            ["/shop/d.js?v=1", "/e.ico"],
        ),
        # Of another site, of the page itself, or nothing that is fetched with it.
        ('<img src="https://cdn.example/x.png"><img src="//cdn.example/x.png"><img src="data:image/png,x">', []),
        ('<a href="/page"></a><link rel="canonical" href="/page"><script>1</script><img>', []),
    ],
)
def test_what_a_page_names(html: str, paths: list[str]) -> None:
    """Stylesheets, scripts and images of its own site, as paths from the root."""
    assert list(_named_in(html, "/shop/page")) == paths
