"""What people and tools are shown of a run: the terminal, `verdicts.json`, `summary.md`, `junit.xml` and `index.html`.

All are renderings of one `RunResult`; none of them decides anything. Must not: measure, judge, or show a secret.
"""

from __future__ import annotations

from harness.reporting.closing import closing_lines, promise_line, promise_lines, shown_path
from harness.reporting.files import write_text
from harness.reporting.junit import to_junit
from harness.reporting.page.report import write_page
from harness.reporting.redaction import Redactor, redact
from harness.reporting.results import read_results, write_results
from harness.reporting.run import PromiseResult, RunHeader, RunResult, merge
from harness.reporting.step_summary import append_summary
from harness.reporting.summary import to_markdown
from harness.reporting.terminal import (
    JsonView,
    Line,
    LiveView,
    PlainView,
    QuietView,
    View,
    choose_view,
    progress_text,
    show,
)
from harness.reporting.text import without_controls
from harness.reporting.verdicts import from_json, to_json

__all__ = [
    "JsonView",
    "Line",
    "LiveView",
    "PlainView",
    "PromiseResult",
    "QuietView",
    "Redactor",
    "RunHeader",
    "RunResult",
    "View",
    "append_summary",
    "choose_view",
    "closing_lines",
    "from_json",
    "merge",
    "progress_text",
    "promise_line",
    "promise_lines",
    "read_results",
    "redact",
    "show",
    "shown_path",
    "to_json",
    "to_junit",
    "to_markdown",
    "without_controls",
    "write_page",
    "write_results",
    "write_text",
]
