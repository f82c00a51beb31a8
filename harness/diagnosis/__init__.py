"""From verdicts and their evidence to causes: why a promise is not kept, how sure that is, and what mends it.

Must not: give a cause without evidence, measure anything, or change a verdict.
"""

from __future__ import annotations

from harness.diagnosis.case import Case
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.own_words import promise_in_own_words
from harness.diagnosis.rules import RULES

__all__ = ["RULES", "Case", "diagnose", "promise_in_own_words"]
