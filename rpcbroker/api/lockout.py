"""Failed logins: a few are free, then the account has to wait, longer each time."""

from __future__ import annotations

from collections.abc import Callable

from rpcbroker.core.errors import TooManyAttempts
from rpcbroker.core.settings import AuthSettings

MAX_ACCOUNTS = 10_000
"""Accounts whose failures are remembered; the oldest is forgotten first."""


class Lockout:
    """Counts attempts for each account, before they are verified: many at once gain nothing."""

    def __init__(self, settings: AuthSettings, seconds: Callable[[], float]) -> None:
        self.settings = settings
        self._seconds = seconds
        self._accounts: dict[str, tuple[int, float]] = {}

    def attempt(self, account: str) -> bool:
        """One more attempt, taken for a failure until `succeeded`. Raises TooManyAttempts.

        True if the next one has to wait, should this one fail.
        """
        now = self._seconds()
        failures, locked_until = self._accounts.pop(account, (0, 0.0))
        if now < locked_until:
            self._accounts[account] = failures, locked_until
            raise TooManyAttempts("Too many failed logins: this account has to wait", retry_after=locked_until - now)
        failures += 1
        beyond = failures - self.settings.free_failures
        if beyond >= 0:
            wait = self.settings.lockout_first * 2 ** min(beyond, 60)
            locked_until = now + min(wait, self.settings.lockout_max)
        if len(self._accounts) >= MAX_ACCOUNTS:
            self._accounts.pop(next(iter(self._accounts)))
        self._accounts[account] = failures, locked_until
        return beyond >= 0

    def succeeded(self, account: str) -> None:
        """The attempt was none of an intruder's: forget all failures."""
        self._accounts.pop(account, None)
