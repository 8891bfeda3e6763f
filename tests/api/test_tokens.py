"""Tokens against changes of their users: whatever the order of events and the clock, who is out is out."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import EPOCH_MS, Slow, result_of
from rest import BASE, PASSWORD, Rest
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import NotAuthenticated
from rpcbroker.core.model import Authority, User

EMAIL = "worker@example.org"
LOGIN = {"username": EMAIL, "password": PASSWORD}


@pytest.fixture
def rest() -> Rest:
    made = Rest()
    made.add_user(EMAIL, Authority.TENANT_ADMIN)
    return made


def worker(rest: Rest) -> User:
    return result_of(rest.store.people.user_by_email(EMAIL))  # type: ignore[no-any-return]


def begin(rest: Rest, path: str, body: Any) -> Deferred[Any]:
    waiting: Deferred[Any] = rest.treq.request("POST", BASE + path, json=body)
    rest.treq.flush()
    return waiting


class TestRaces:
    """The record was read before the change, and its answer comes after it."""

    @pytest_twisted.ensureDeferred
    async def test_a_login_that_overlaps_with_being_disabled_gives_no_good_token(self, rest: Rest) -> None:
        with Slow(rest.store.people, "user_by_email") as slow:
            waiting = begin(rest, "/api/auth/login", LOGIN)
        path = f"/api/user/{worker(rest).id}/userCredentialsEnabled?userCredentialsEnabled=false"
        assert (await rest.ask("POST", path))[0] == 200
        slow.arrive()
        rest.treq.flush()
        assert (await waiting).code == 401

    @pytest.mark.parametrize("change", ["DELETE", "disable", "reset"])
    @pytest_twisted.ensureDeferred
    async def test_a_refresh_that_overlaps_with_a_change_gives_no_good_token(self, rest: Rest, change: str) -> None:
        user = worker(rest)
        refresh = rest.pair(user).refresh_token
        with Slow(rest.store.people, "user") as slow:
            waiting = begin(rest, "/api/auth/token", {"refreshToken": refresh})
        if change == "DELETE":
            status = (await rest.ask("DELETE", f"/api/user/{user.id}"))[0]
        elif change == "disable":
            path = f"/api/user/{user.id}/userCredentialsEnabled?userCredentialsEnabled=false"
            status = (await rest.ask("POST", path))[0]
        else:
            status = (await rest.ask("POST", f"/api/user/{user.id}/resetPassword"))[0]
        assert status == 200
        slow.arrive()
        rest.treq.flush()
        assert (await waiting).code == 401


class TestTheClock:
    def test_a_clock_that_was_set_back_revokes_all_the_same(self, rest: Rest) -> None:
        user = worker(rest)
        rest.clock.advance(3600)
        pair = rest.pair(user)
        rest.clock.rightNow = 0.0
        result_of(rest.tokens.revoke_users([user.id]))
        with pytest.raises(NotAuthenticated, match="revoked"):
            rest.tokens.verify(pair.token)
        rest.tokens.verify(rest.pair(user).token)

    def test_moments_never_repeat(self, rest: Rest) -> None:
        moments = [rest.tokens.moment() for _ in range(5)]
        assert moments == sorted(set(moments))
        rest.clock.advance(100)
        assert rest.tokens.moment() == EPOCH_MS + 100_000

    def test_a_login_in_the_same_millisecond_as_a_revocation_is_good(self, rest: Rest) -> None:
        result_of(rest.tokens.revoke_users([worker(rest).id]))
        assert rest.tokens.verify(rest.pair(worker(rest)).token)

    def test_after_a_restart_in_the_same_millisecond_too(self, rest: Rest) -> None:
        result_of(rest.tokens.revoke_users([worker(rest).id]))
        again = Rest(store=rest.store)
        assert again.tokens.verify(again.pair(worker(again)).token)


class TestRevocations:
    def test_they_outlive_a_restart(self, rest: Rest) -> None:
        user = worker(rest)
        out, logged_out = rest.pair(user), rest.pair()
        result_of(rest.tokens.revoke_users([user.id]))
        result_of(rest.tokens.revoke(rest.tokens.verify(logged_out.token).session_id))
        again = Rest(store=rest.store)
        for token in (out.token, logged_out.token):
            with pytest.raises(NotAuthenticated, match="revoked"):
                again.tokens.verify(token)
        for token in (out.refresh_token, logged_out.refresh_token):
            with pytest.raises(NotAuthenticated, match="revoked"):
                again.tokens.verify_refresh(token)

    @pytest.mark.parametrize("lifetimes", [(9_000, 604_800), (604_800, 9_000)])
    def test_they_are_forgotten_when_all_tokens_from_then_have_expired(self, lifetimes: tuple[int, int]) -> None:
        rest = Rest(token_lifetime=lifetimes[0], refresh_lifetime=lifetimes[1])

        def known() -> tuple[int, int, int, int]:
            rows = rest.dump()
            tokens = rest.tokens
            stored = len(rows["revoked_user"]), len(rows["revoked_session"])
            return (*stored, len(tokens._revoked_users), len(tokens._revoked))

        for number in range(3):
            rest.add_user(f"{number}@example.org", Authority.TENANT_ADMIN)
            user = result_of(rest.store.people.user_by_email(f"{number}@example.org"))
            result_of(rest.tokens.revoke(rest.tokens.verify(rest.pair(user).token).session_id))
            result_of(rest.tokens.revoke_users([user.id]))
        rest.clock.advance(604_799)
        result_of(rest.tokens.revoke_users([rest.user.id]))
        result_of(rest.tokens.revoke("one"))
        assert known() == (4, 4, 4, 4)
        rest.clock.advance(2)
        result_of(rest.tokens.revoke_users([rest.user.id]))
        result_of(rest.tokens.revoke("two"))
        assert known() == (1, 2, 1, 2)
