"""What can go wrong without being a bug. Must not: import anything of the application.

ApplicationError
├── SettingsError       the environment is wrong: told once, exit code 2
├── StartError          the settings are fine, what is behind them did not answer in time: exit code 3
└── UnavailableError    the database or the session store did not answer: the request gets a 503
"""

from __future__ import annotations

__all__ = ["ApplicationError", "SettingsError", "StartError", "UnavailableError"]


class ApplicationError(Exception):
    """Base of all of them."""


class SettingsError(ApplicationError):
    """Names each setting that is wrong and what it should be, and no secret."""


class StartError(ApplicationError):
    """Says what was waited for, how long, and what was seen last."""


class UnavailableError(ApplicationError):
    """A dependency did not do its part within its time. What was asked of it may or may not have been done."""
