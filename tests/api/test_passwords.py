"""Password hashes: what takes time takes it for everybody."""

from __future__ import annotations

import pytest
import pytest_twisted
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError
from fakes import error_of, result_of
from rest import HASH, PASSWORD, Rest
from twisted.internet.defer import Deferred, maybeDeferred

from rpcbroker.api import passwords
from rpcbroker.api.passwords import Passwords
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.settings import AuthSettings


def test_nobodys_hash_takes_as_long_as_any() -> None:
    """One that could not be read would be refused at once, and tell that there is no such user."""
    assert extract_parameters(passwords._NOBODY) == extract_parameters(HASH)
    with pytest.raises(VerifyMismatchError):
        passwords._hasher().verify(passwords._NOBODY, PASSWORD)


@pytest.mark.parametrize(
    ("hashed", "password", "good"),
    [(HASH, PASSWORD, True), (HASH, "x", False), (None, "", False)],
    ids=["the right one", "a wrong one", "nobody's"],
)
def test_verifying(hashed: str | None, password: str, good: bool) -> None:
    made = Passwords(maybeDeferred, AuthSettings())
    assert result_of(made.verify(hashed, password)) is good


def test_so_many_wait_and_one_more_is_refused() -> None:
    waiting: list[Deferred[bool]] = []

    def later(*_: object) -> Deferred[bool]:
        waiting.append(Deferred())
        return waiting[-1]

    made = Passwords(later, AuthSettings(max_waiting_logins=2))
    first, second = made.verify(HASH, "x"), made.verify(HASH, "x")
    assert isinstance(error_of(made.verify(HASH, "x")), Unavailable)
    waiting[0].callback(True)
    assert result_of(first)
    third = made.verify(HASH, "x")
    waiting[1].errback(RuntimeError())
    error_of(second)
    waiting[2].callback(False)
    assert not result_of(third)


@pytest_twisted.ensureDeferred
async def test_a_login_hashes_once_whoever_it_is() -> None:
    rest, hashed = Rest(), []
    run = rest.rest._passwords._run
    rest.rest._passwords._run = lambda f, *args: hashed.append(args[0]) or run(f, *args)  # type: ignore[func-returns-value]
    for email in (rest.user.email, "nobody@example.org"):
        await rest.refused("POST", "/api/auth/login", {"username": email, "password": "wrong"}, token=None)
    assert hashed == [HASH, None]
