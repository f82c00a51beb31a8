"""The frame every page has, and the only way to put something into one. Must not: know what a page tells."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

__all__ = ["PAGES", "Link", "document", "json_in_page", "links_in", "read_part", "render"]

PAGES: Mapping[str, str] = {"index.html": "Report", "checklist.html": "Checklist", "load.html": "Load"}
"""The pages that a folder of a run can hold, in the order in which they are linked, and what each is called."""

_FOLDER = Path(__file__).resolve().parent
# `<` and `>` could end the element, U+2028 and U+2029 end a line in old scripts, `&` is for readers of XHTML.
_IN_JSON = re.compile("[<>&\u2028\u2029\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A page of the same folder."""

    href: str
    text: str


def links_in(folder: Path, *, here: str) -> tuple[Link, ...]:
    """The pages that lie in this folder, and `here`, which is about to: its own name, such as `index.html`.

    A page alone needs no way to others: then there is none.
    """
    found = [name for name in PAGES if name == here or (folder / name).is_file()]
    return tuple(Link(href=name, text=PAGES[name]) for name in found) if len(found) > 1 else ()


@cache
def read_part(name: str) -> str:
    """A file that lies beside this module, such as `style.css`."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    parts = {path.name: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.html"))}
    return Environment(
        loader=DictLoader(parts), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def render(template: str, /, **values: Any) -> Markup:
    """A template of this folder with these values; whatever is not `Markup` is escaped."""
    return Markup(_templates().get_template(template).render(**values))  # noqa: S704 - the template escaped it


def json_in_page(value: Any) -> Markup:
    """The value as JSON that can stand inside a `<script>` of a page, whatever texts are in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", text))  # noqa: S704 - nothing left to end it


def document(
    *,
    title: str,
    body: Markup,
    here: str = "",
    links: Sequence[Link] = (),
    run: str = "",
    styles: Iterable[str] = (),
    script: str = "",
    data: Mapping[str, Any] | None = None,
) -> str:
    """A whole page.

    Args:
        title: what the window is called.
        body: what is between the links and the end. Make it with `render`, or from `Markup` by hand.
        here: the file's own name, such as `checklist.html`; with `links` from `links_in`, the way to its siblings.
        run: shown beside the links, such as the run's id.
        styles: CSS beyond what all pages share; colours are to come from its variables.
        script: JavaScript of the page. Both must be the page's own, never made from what an application sent.
        data: {id of an element: value}: JSON for the script, as `JSON.parse(document.getElementById(id).textContent)`.

    No attribute `style=` and no handler such as `onclick=` has an effect: the page's policy refuses both.
    """
    style = "\n".join((read_part("style.css"), *styles))
    for name, text in {"style": style, "script": script}.items():
        if f"</{name}" in text.lower():
            raise ValueError(f"the {name} of a page must not hold the end of its own element")
    return str(
        render(
            "document.html",
            title=title,
            body=body,
            here=here,
            links=links,
            run=run,
            style=Markup(style),  # noqa: S704 - ours, and checked above
            script=Markup(script),  # noqa: S704 - ours, and checked above
            data={name: json_in_page(value) for name, value in (data or {}).items()},
            policy=_policy(style=style, script=script),
        )
    )


def _policy(*, style: str, script: str) -> str:
    """Nothing is fetched, and nothing runs but these very texts."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}" if script else "script-src 'none'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
