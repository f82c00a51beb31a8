"""Two versions beside each other: one instance runs the new one, the others still the old one, and people and pages go from one
to the other; then it is taken back.

Roles are told by streams: `control`, `forward`, `back`, `used` and `taken-back`. Must not: conclude anything from an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from random import Random
from urllib.parse import urljoin, urlsplit

from harness import clock
from harness.answers import read_page
from harness.cluster import Cluster
from harness.errors import HarnessError, NothingTested
from harness.layouts import Instance
from harness.model import Look
from harness.traffic import Task
from harness.visitors import Visitor, Visitors

__all__ = ["Versions"]

_MOST_ASSETS = 20
"""Of one page: a page with more has them named in the same way."""
_LONGEST_PATH = 8192
"""Characters; servers take no longer one."""


class Versions:
    """One scenario's two versions."""

    def __init__(self, *, cluster: Cluster, visitors: Visitors, random: Random) -> None:
        self._cluster = cluster
        self._visitors = visitors
        self._random = random

    def people_beside(self, new: Instance, *, count: int) -> tuple[Visitor, ...]:
        """So many people log in on an instance that stays as it is, and are looked up on every such instance.

        Raises:
            NothingTested: there is none, because all are replaced together.
        """
        others = self._others(new)
        if not others:
            raise NothingTested(
                "all instances are replaced together here, so that no two versions stand beside each other: give each a service "
                "of its own"
            )
        people = self._visitors.log_in(count=count, via=self._random.choice(others))
        self._look_up(people, others, stream="control")
        return people

    def cross(self, people: Sequence[Visitor], *, new: Instance) -> tuple[Visitor, ...]:
        """Those who logged in on the old version go to the new one and back again; as many log in on the new one, and go to the
        old one. These are returned."""
        others = self._others(new)
        self._look_up(people, [new], stream="forward")
        newcomers = self._visitors.log_in(count=len(people), via=new)
        self._look_up(newcomers, [new], stream="control")
        self._look_up(newcomers, others, stream="back")
        self._look_up(people, others, stream="used")
        return newcomers

    def look_up_again(self, people: Sequence[Visitor], *, at: Instance) -> None:
        """Everybody is looked up where the new version was, and was taken back."""
        self._look_up(people, [at], stream="taken-back")

    def ask_for_assets(self) -> None:
        """What the page of each instance names is asked of every instance."""
        page = self._cluster.setup.app.assets
        if page is None:
            raise HarnessError("only a setup with app.assets has a page that names something")
        for giver in self._cluster.instances:
            named = list(dict.fromkeys(_named_in(self._cluster.page(giver, page), page)))[:_MOST_ASSETS]
            self._cluster.record(
                Look(what="page", node=giver.name, at=clock.now(), status=200, value={"path": page, "assets": named})
            )
            for asset in named:
                for asked in self._cluster.instances:
                    look = self._cluster.look("asset-asked", asked, asset)
                    value = {"page_of": giver.name, "path": asset}
                    self._cluster.record(
                        Look(
                            what="asset", node=asked.name, at=look.at, status=look.status, value=value, error=look.error
                        )
                    )

    def _others(self, new: Instance) -> list[Instance]:
        with_it = new.together or (new.name,)
        return [each for each in self._cluster.instances if each.name not in with_it]

    def _look_up(self, people: Sequence[Visitor], where: Sequence[Instance], *, stream: str) -> None:
        self._visitors.perform(
            [Task(person.id, "whoami", each.name, stream=stream) for each in where for person in people]
        )


class _Named(HTMLParser):
    """The stylesheets, scripts and images of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and {"stylesheet", "icon", "preload", "modulepreload"} & set((given.get("rel") or "").split()):
            self.found.append(given.get("href") or "")
        elif tag in ("script", "img"):
            self.found.append(given.get("src") or "")


def _named_in(html: str, page: str) -> Iterator[str]:
    """The paths of what a page names on its own site, absolute."""
    parser = _Named()
    read_page(parser, html)
    for named in parser.found:
        try:
            parts = urlsplit(named)
            path = urljoin(page, named)
        except ValueError:  # such as an address with a lone bracket
            continue
        if (
            named and len(path) <= _LONGEST_PATH and not parts.scheme and not parts.netloc
        ):  # else of another site, or in the page itself
            yield path
