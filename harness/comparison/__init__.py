"""Two or more runs of one setup: what got better or worse beyond noise. The method is told in docs/compare.md.

Must not: judge a promise again, or compare what is not alike without saying so.
"""

from __future__ import annotations

from harness.comparison.baseline import baseline_text, read_baseline
from harness.comparison.comparing import Comparison, Difference, Outcome, compare
from harness.comparison.figures import Figures, figures_of
from harness.comparison.rendering import as_lines, as_plain_data

__all__ = [
    "Comparison",
    "Difference",
    "Figures",
    "Outcome",
    "as_lines",
    "as_plain_data",
    "baseline_text",
    "compare",
    "figures_of",
    "read_baseline",
]
