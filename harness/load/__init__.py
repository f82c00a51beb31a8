"""Load runs with Locust, which is always a process of its own: what it does, how it is started, what came of it.

For load, never for verdicts: Locust waits for answers. Must not: import Locust or gevent, judge a promise, or be
imported by what judges.
"""

from __future__ import annotations

from harness.load.settings import LoadSettings

__all__ = ["LoadSettings"]
