"""Tokens against changes of their users: whatever the order of events and the clock, who is out is out."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import EPOCH_MS, TENANT, Slow, result_of
from rest import BASE, PASSWORD, Rest
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import NotAuthenticated
from rpcbroker.core.model import Authority, User
from rpcbroker.schema.people import TokenPair

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
        rest.tokens.revoke_users([user.id])
        with pytest.raises(NotAuthenticated, match="revoked"):
            rest.tokens.verify(pair.token)
        rest.tokens.verify(rest.pair(user).token)

    def test_moments_never_repeat(self, rest: Rest) -> None:
        moments = [rest.tokens.moment() for _ in range(5)]
        assert moments == sorted(set(moments))
        rest.clock.advance(100)
        assert rest.tokens.moment() == EPOCH_MS + 100_000

    def test_a_login_in_the_same_millisecond_as_a_revocation_is_good(self, rest: Rest) -> None:
        rest.tokens.revoke_users([worker(rest).id])
        assert rest.tokens.verify(rest.pair(worker(rest)).token)

    @pytest_twisted.ensureDeferred
    async def test_after_a_restart_in_the_same_millisecond_too(self, rest: Rest) -> None:
        assert (await rest.ask("POST", f"/api/user/{worker(rest).id}/resetPassword"))[0] == 200
        again = Rest(store=rest.store)
        assert again.opened.revoked_users
        assert again.tokens.verify(again.pair(worker(again)).token)


class TestRestarts:
    """What was revoked stays revoked."""

    @pytest.mark.parametrize("change", ["delete", "disable", "reset", "move", "rename"])
    @pytest_twisted.ensureDeferred
    async def test_tokens_of_a_user_who_was_changed(self, rest: Rest, change: str) -> None:
        user, pair = worker(rest), rest.pair(worker(rest))
        path = f"/api/user/{user.id}"
        if change == "delete":
            status = (await rest.ask("DELETE", path))[0]
        elif change == "disable":
            status = (await rest.ask("POST", f"{path}/userCredentialsEnabled?userCredentialsEnabled=false"))[0]
        elif change == "reset":
            status = (await rest.ask("POST", f"{path}/resetPassword"))[0]
        elif change == "rename":
            status = (await rest.ask("POST", "/api/user", (await rest.ask("GET", path))[1] | {"email": "x@y"}))[0]
        else:
            first, second = rest.add_customer("first"), rest.add_customer("second")
            rest.add_user("mover@example.org", Authority.CUSTOMER_USER, customer=first.id)
            user = result_of(rest.store.people.user_by_email("mover@example.org"))
            pair = rest.pair(user)
            body = (await rest.ask("GET", f"/api/user/{user.id}"))[1]
            body["customerId"]["id"] = str(second.id)
            status = (await rest.ask("POST", "/api/user", body))[0]
        assert status == 200
        assert_revoked(rest, Rest(store=rest.store), pair)

    @pytest_twisted.ensureDeferred
    async def test_tokens_of_all_users_of_a_customer_or_a_tenant_that_was_deleted(self, rest: Rest) -> None:
        customer = rest.add_customer("customer")
        rest.add_user("c@example.org", Authority.CUSTOMER_USER, customer=customer.id)
        pair = rest.pair(result_of(rest.store.people.user_by_email("c@example.org")))
        assert (await rest.ask("DELETE", f"/api/customer/{customer.id}"))[0] == 200
        assert_revoked(rest, Rest(store=rest.store), pair)
        pair = rest.pair(worker(rest))
        assert (await rest.ask("DELETE", f"/api/tenant/{TENANT}", token=rest.sys_token))[0] == 200
        assert (await rest.ask("GET", "/api/auth/user", token=pair.token))[0] == 401
        assert worker(rest) is None
        assert rest.dump()["revoked_user"]

    @pytest_twisted.ensureDeferred
    async def test_tokens_of_a_session_that_logged_out(self, rest: Rest) -> None:
        pair, other = rest.pair(), rest.pair()
        assert (await rest.ask("POST", "/api/auth/logout", token=pair.token))[0] == 200
        again = Rest(store=rest.store)
        assert_revoked(rest, again, pair)
        assert again.tokens.verify(other.token)

    @pytest_twisted.ensureDeferred
    async def test_a_change_of_names_ends_no_session(self, rest: Rest) -> None:
        pair = rest.pair(worker(rest))
        body = (await rest.ask("GET", f"/api/user/{worker(rest).id}"))[1]
        assert (await rest.ask("POST", "/api/user", body | {"firstName": "New"}))[0] == 200
        assert rest.tokens.verify(pair.token)

    @pytest.mark.parametrize("lifetimes", [(9_000, 604_800), (604_800, 9_000)])
    @pytest_twisted.ensureDeferred
    async def test_revocations_are_forgotten_when_all_tokens_from_then_have_expired(
        self, lifetimes: tuple[int, int]
    ) -> None:
        rest = Rest(token_lifetime=lifetimes[0], refresh_lifetime=lifetimes[1])
        rest.add_user(EMAIL, Authority.TENANT_ADMIN)
        assert (await rest.ask("POST", f"/api/user/{worker(rest).id}/resetPassword"))[0] == 200
        assert (await rest.ask("POST", "/api/auth/logout", token=rest.pair().token))[0] == 200

        def known_after(seconds: float) -> tuple[int, int, int, int]:
            again = Rest(store=rest.store, now=seconds, token_lifetime=lifetimes[0], refresh_lifetime=lifetimes[1])
            rows, tokens = again.dump(), again.tokens
            stored = len(rows["revoked_user"]), len(rows["revoked_session"])
            return (*stored, len(tokens._revoked_users), len(tokens._revoked))

        assert known_after(604_799) == (1, 1, 1, 1)
        assert known_after(604_801) == (0, 0, 0, 0)


def assert_revoked(rest: Rest, again: Rest, pair: TokenPair) -> None:
    """Neither token of the pair is good, before and after the restart."""
    for each in (rest, again):
        with pytest.raises(NotAuthenticated, match="revoked"):
            each.tokens.verify(pair.token)
        with pytest.raises(NotAuthenticated, match="revoked"):
            each.tokens.verify_refresh(pair.refresh_token)
