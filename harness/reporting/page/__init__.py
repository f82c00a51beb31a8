"""Pages of a run: files that open anywhere, also from a mail, with everything in them and nothing fetched.

`document` is the frame of each page; the pages of one run look alike and lead to each other. Whatever an application
sent is text here: templates escape it, JSON inside a page cannot end the element it is in, and the page's own policy
lets no script run but the page's. Must not: measure or judge.
"""

from __future__ import annotations

from markupsafe import Markup

from harness.reporting.page.document import PAGES, Link, document, links_in, read_part, render

__all__ = ["PAGES", "Link", "Markup", "document", "links_in", "read_part", "render"]
