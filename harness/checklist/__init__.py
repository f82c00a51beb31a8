"""A checklist beside a run: which items are proven, which are contradicted, which somebody signed, and which are open.

Must not: measure or judge a promise; what it says of one is what the run concluded.
"""

from __future__ import annotations

from harness.checklist.files import write_beside
from harness.checklist.items import ChecklistResult, Evidence, GroupResult, ItemResult, State, hold_against
from harness.checklist.rendering import as_lines, as_markdown, as_page, as_plain_data, sign_off_lines
from harness.checklist.signing import sign, withdraw, write_sign_offs

__all__ = [
    "ChecklistResult",
    "Evidence",
    "GroupResult",
    "ItemResult",
    "State",
    "as_lines",
    "as_markdown",
    "as_page",
    "as_plain_data",
    "hold_against",
    "sign",
    "sign_off_lines",
    "withdraw",
    "write_beside",
    "write_sign_offs",
]
