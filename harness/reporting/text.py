"""Words as they may be shown: whatever an application sent is data here, never an instruction to a terminal or a page.

Must not: know what a verdict is.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["cut", "duration", "for_markdown", "one_line", "plural", "seconds", "without_controls"]

# ECMA-48: CSI with its parameters, OSC and its like with what they hold, then short ones. One without its end takes
# nothing with it but its beginning: it must not hide what follows.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
_MARKDOWN = re.compile(r"[\\`*|\[\]~]|(?<!\w)_|_(?!\w)")
# Links, mentions and references to issues are made by GitHub and GitLab from bare text; entities keep the look only.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "#": "&#35;", "!": "&#33;"}
_MARKUP = re.compile("[" + "".join(_ENTITIES) + "]")
_LINKS = re.compile(r"://|\bwww\.", re.IGNORECASE)


def without_controls(text: str) -> str:
    """The text without terminal sequences and control, invisible and direction characters; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        "\n" if character in "\u2028\u2029" else character
        for character in text
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )


def one_line(text: str) -> str:
    """The text on one line, without controls, with single spaces."""
    return " ".join(without_controls(text).split())


def cut(text: str, characters: int) -> str:
    """At most that many characters; an ellipsis marks the cut."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def for_markdown(text: str, *, characters: int = 300) -> str:
    """One line of Markdown that shows the text and does nothing else: no link, mention, image, HTML or table cell."""
    text = cut(one_line(text), characters)
    text = _MARKUP.sub(lambda match: _ENTITIES[match.group()], text)
    text = _LINKS.sub(lambda match: match.group().replace(":", "&#58;").replace(".", "&#46;"), text)
    return _MARKDOWN.sub(lambda match: "\\" + match.group(), text)


def plural(count: int, thing: str) -> str:
    """`1 promise`, `14 promises`, `1,204 requests`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def seconds(value: float) -> str:
    """A length in seconds for a column of lengths: `0.6`, `9`, `38`. The unit is the reader's."""
    return f"{value:.1f}" if value < 2.95 else f"{value:.0f}"


def duration(value: float) -> str:
    """A length with its units: `0.6 s`, `38 s`, `2 min 14 s`."""
    if value < 99.5:
        return f"{seconds(value)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"
