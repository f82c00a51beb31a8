"""How a person registers, logs in, is recognised, writes and reads in this application.

Declared steps become requests, and answers become meanings. Pure: must not send anything, keep
cookies or read clocks; the traffic room does.
"""

from __future__ import annotations

from harness.journeys.compiling import PLACEHOLDERS, compile_journeys, compile_match
from harness.journeys.judging import Judgement, judge, matches, unexpected_outcome
from harness.journeys.own_code import carry, source_of
from harness.journeys.reasons import likely_reason
from harness.journeys.reply import Reply
from harness.journeys.steps import Journey, Match, Request, Step
from harness.journeys.taking import Take
from harness.journeys.templates import MissingValueError, Template

__all__ = [
    "PLACEHOLDERS",
    "Journey",
    "Judgement",
    "Match",
    "MissingValueError",
    "Reply",
    "Request",
    "Step",
    "Take",
    "Template",
    "carry",
    "compile_journeys",
    "compile_match",
    "judge",
    "likely_reason",
    "matches",
    "source_of",
    "unexpected_outcome",
]
