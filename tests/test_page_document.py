"""The frame of every page: what is put into it stays text, and its own policy lets nothing else in."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.reporting.page import Link, Markup, document, links_in, render
from harness.reporting.page.document import json_in_page

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\u2028'\"&"


class Seen(HTMLParser):
    """Which elements a page has, and what is in its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in self.texts:
            self._in = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.texts[self._in][-1] += data


def test_whatever_is_put_in_stays_text() -> None:
    """Title, links, run, body and data may all come from an application: no element, no handler is made of them."""
    plain = Seen(document(title="t", body=Markup("b"), run="r", links=[Link(href="a", text="b")], data={"d": 1}))
    page = document(
        title=HOSTILE,
        body=Markup("<p>{}</p>").format(HOSTILE),
        run=HOSTILE,
        here=HOSTILE,
        links=[Link(href="a", text=HOSTILE)],
        data={"d": {HOSTILE: [HOSTILE]}},
    )
    seen = Seen(page)
    assert seen.tags == [*plain.tags[: plain.tags.index("main") + 1], "p", *plain.tags[plain.tags.index("main") + 1 :]]
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert json.loads(seen.texts["script"][0]) == {HOSTILE: [HOSTILE]}


def test_json_in_a_page_cannot_end_its_element() -> None:
    """And reads back as it was."""
    text = json_in_page({"body": HOSTILE + "\ud800\x7f"})
    assert not re.search("[<>&\u2028\u2029\x7f\ud800]", text)
    assert json.loads(text) == {"body": HOSTILE + "\ud800\x7f"}


def test_only_the_pages_own_style_and_script_run() -> None:
    """Their hashes are the policy's only exceptions; nothing can be fetched, and no form sent."""
    page = document(title="t", body=Markup("b"), script="let a = 1 < 2 && '';", styles=["p > a { color: red }"])
    seen = Seen(page)
    policy = next(value for name, value in seen.attributes if name == "content" and value and "default-src" in value)
    for kind in ("style", "script"):
        (text,) = seen.texts[kind]
        assert f"{kind}-src 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)\s*=\s*\"?(https?:)?//", page)


def test_a_script_must_not_end_its_own_element() -> None:
    """It would be cut there: that is a mistake of ours, told when the page is made."""
    with pytest.raises(ValueError, match="script"):
        document(title="t", body=Markup("b"), script="x = '</script>'")


def test_pages_of_a_run_lead_to_each_other(tmp_path: Path) -> None:
    """To those that are there, in a fixed order; a page alone has no links."""
    assert links_in(tmp_path, here="index.html") == ()
    (tmp_path / "load.html").touch()
    links = links_in(tmp_path, here="index.html")
    assert [link.href for link in links] == ["index.html", "load.html"]
    page = document(title="t", body=Markup("b"), here="index.html", links=links)
    assert '<a href="index.html" aria-current="page">' in page
    assert '<a href="load.html">' in page


def test_a_page_is_the_same_each_time() -> None:
    """So that it can be compared."""
    made = [document(title="t", body=render("document.html", **_nothing()), data={"a": {"b": 1}}) for _ in range(2)]
    assert made[0] == made[1]


def _nothing() -> dict[str, object]:
    return dict.fromkeys(("title", "body", "here", "links", "run", "style", "script", "policy"), "") | {"data": {}}
