"""What people and tools are shown of a run: the terminal, `verdicts.json`, `summary.md` and `junit.xml`.

All are renderings of one `RunResult`; none of them decides anything. Must not: measure, judge, or show a secret.
"""

from __future__ import annotations

from harness.reporting.closing import closing_lines, promise_lines
from harness.reporting.junit import to_junit
from harness.reporting.redaction import Redactor, redact
from harness.reporting.results import read_results, write_results
from harness.reporting.run import PromiseResult, RunHeader, RunResult, merge
from harness.reporting.summary import to_markdown
from harness.reporting.terminal import JsonView, LiveView, PlainView, QuietView, View, choose_view, progress_text
from harness.reporting.verdicts import from_json, to_json

__all__ = [
    "JsonView",
    "LiveView",
    "PlainView",
    "PromiseResult",
    "QuietView",
    "Redactor",
    "RunHeader",
    "RunResult",
    "View",
    "choose_view",
    "closing_lines",
    "from_json",
    "merge",
    "progress_text",
    "promise_lines",
    "read_results",
    "redact",
    "to_json",
    "to_junit",
    "to_markdown",
    "write_results",
]
