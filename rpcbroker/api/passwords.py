"""Password hashes: argon2id, off the reactor thread, one at a time (RFC 9106; OWASP's parameters)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from twisted.internet.defer import Deferred, fail

from rpcbroker.core.errors import InvalidRequest, Unavailable
from rpcbroker.core.settings import AuthSettings

MIN_LENGTH = 8
MAX_LENGTH = 1024

_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keS1ubw$2H8mVzC1m0cMdsDhBqLTVlGZ1QqLVbK3H1hYd9Gk3hQ"
"""Verified against where there is no such user, so that the answer takes as long."""


@cache
def _hasher() -> Any:
    """Loads argon2 with the first password, in the thread that works on them."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """Takes some 30 ms and 19 MiB. Raises ValueError if the password is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"a password must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    hashed: str = _hasher().hash(password)
    return hashed


class Passwords:
    """Verifies passwords, and hashes new ones, one at a time."""

    def __init__(self, run: Callable[..., Deferred[Any]], settings: AuthSettings) -> None:
        """`run(f, *args)` calls `f` in the one thread that there is for this."""
        self.settings = settings
        self._run = run
        self._waiting = 0

    def verify(self, hashed: str | None, password: str) -> Deferred[bool]:
        """Whether `password` belongs to `hashed`; None never matches and takes as long as any."""
        return self._queued(_matches, hashed, password)

    def hash(self, password: str) -> Deferred[str]:
        """The hash to keep. Fails with InvalidRequest if the password is too short or too long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            return fail(InvalidRequest(f"A password must have {MIN_LENGTH} to {MAX_LENGTH} characters"))
        return self._queued(hash_password, password)

    def _queued(self, f: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self._waiting >= self.settings.max_waiting_logins:
            return fail(Unavailable("Too many logins at once", hint="Try again in a second."))
        self._waiting += 1

        def done(result: Any) -> Any:
            self._waiting -= 1
            return result

        return self._run(f, *args).addBoth(done)


def _matches(hashed: str | None, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(hashed or _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return hashed is not None
