"""Who asks: headers and schemes, and how often each may."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from fakes import OTHER_TENANT, result_of, tenant
from rest import Rest

from rpcbroker.core.model import Authority
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import HttpSettings, Settings

ME = "/api/auth/user"


@pytest.fixture
def rest() -> Rest:
    return Rest()


class TestHeaders:
    @pytest_twisted.ensureDeferred
    async def test_x_authorization_comes_first_and_authorization_if_it_is_blank(self, rest: Rest) -> None:
        good, bad = f"Bearer {rest.token}", "Bearer a.b.c"
        for headers, status in (
            ({"X-Authorization": good}, 200),
            ({"Authorization": good}, 200),
            ({"X-Authorization": good, "Authorization": bad}, 200),
            ({"X-Authorization": bad, "Authorization": good}, 401),
            ({"X-Authorization": "", "Authorization": good}, 200),
            ({"X-Authorization": "   ", "Authorization": good}, 200),
            ({"X-Authorization": "Basic eDp5", "Authorization": good}, 401),
            ({}, 401),
        ):
            assert (await rest.ask("GET", ME, token=None, headers=headers))[0] == status, headers

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer "])
    @pytest_twisted.ensureDeferred
    async def test_the_case_of_the_scheme_and_blanks_do_not_matter(self, rest: Rest, scheme: str) -> None:
        headers = {"Authorization": f"{scheme}   {rest.token} "}
        assert (await rest.ask("GET", ME, token=None, headers=headers))[0] == 200

    @pytest.mark.parametrize(
        ("header", "hint"),
        [
            ("Bearer", "The scheme must be"),
            ("Bearer ", "The scheme must be"),
            ("ApiKey", "The scheme must be"),
            ("Basic YTpi", "The scheme must be"),
            ("Digest x", "The scheme must be"),
            ("token", "The scheme must be"),
            (" ", "Send X-Authorization"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_junk_is_401_and_says_what_to_send(self, rest: Rest, header: str, hint: str) -> None:
        status, answer, headers = await rest.ask("GET", ME, token=None, headers={"X-Authorization": header})
        assert (status, answer["errorCode"], answer["message"]) == (401, 10, "Authentication failed")
        assert answer["hint"].startswith(hint)
        assert headers.getRawHeaders("www-authenticate") == ["Bearer, ApiKey"]

    @pytest_twisted.ensureDeferred
    async def test_a_token_in_the_query_is_none(self, rest: Rest) -> None:
        assert (await rest.refused("GET", f"{ME}?token={rest.token}", token=None))[0] == 401

    @pytest_twisted.ensureDeferred
    async def test_a_key_is_no_token_and_a_token_no_key(self, rest: Rest) -> None:
        key = (await rest.ok("POST", "/api/apiKey", {"description": "k"}))["value"]
        for header in (f"Bearer {key}", f"ApiKey {rest.token}", f"Bearer ApiKey {key}"):
            headers = {"X-Authorization": header}
            assert (await rest.refused("GET", ME, token=None, headers=headers))[0] == 401


class Rates:
    """Two customers of one tenant, their users, and what each is told."""

    def __init__(self, **http: Any) -> None:
        self.rest = Rest(http={name: Rate(tuple(value)) for name, value in http.items()})
        one, two = self.rest.add_customer("one"), self.rest.add_customer("two")
        self.tokens = {
            "admin": self.rest.token,
            "one a": self.rest.add_user("a@x", Authority.CUSTOMER_USER, customer=one.id),
            "one b": self.rest.add_user("b@x", Authority.CUSTOMER_USER, customer=one.id),
            "two": self.rest.add_user("c@x", Authority.CUSTOMER_USER, customer=two.id),
            "system": self.rest.sys_token,
        }
        result_of(self.rest.store.people.create_tenant(tenant()))
        self.tokens["others"] = self.rest.add_user("d@x", Authority.TENANT_ADMIN, tenant=OTHER_TENANT)

    async def ask(self, who: str) -> str:
        """Whose rate is used up; empty if nobody's."""
        status, answer, headers = await self.rest.ask("GET", ME, token=self.tokens[who])
        if status == 200:
            return ""
        assert (status, answer["errorCode"]) == (429, 33)
        assert int(headers.getRawHeaders("retry-after")[0]) >= 1
        message: str = answer["message"]
        return message.removeprefix("Too many requests for current ").removesuffix("!")


class TestRates:
    @pytest_twisted.ensureDeferred
    async def test_of_a_tenant_all_its_users_share_one(self) -> None:
        rates = Rates(tenant_rate=[(4, 60.0)])
        assert [await rates.ask(who) for who in ("admin", "one a", "one b", "two", "admin", "two")] == [
            *[""] * 4,
            *["tenant"] * 2,
        ]
        assert await rates.ask("others") == ""
        assert [await rates.ask("system") for _ in range(9)] == [""] * 9
        rates.rest.clock.advance(15)
        assert [await rates.ask("one a"), await rates.ask("one a")] == ["", "tenant"]

    @pytest_twisted.ensureDeferred
    async def test_of_a_customer(self) -> None:
        rates = Rates(customer_rate=[(2, 60.0)])
        assert [await rates.ask(who) for who in ("one a", "one b", "one a", "two")] == ["", "", "customer", ""]
        assert [await rates.ask("admin") for _ in range(5)] == [""] * 5

    @pytest_twisted.ensureDeferred
    async def test_of_a_user_and_its_keys_together(self) -> None:
        rates = Rates(user_rate=[(3, 60.0)])
        key = (await rates.rest.ok("POST", "/api/apiKey", {"description": "k"}))["value"]
        rates.tokens["key"] = f"ApiKey {key}"
        assert [await rates.ask(who) for who in ("key", "admin", "key", "admin")] == ["", "", "user", "user"]
        assert [await rates.ask(who) for who in ("one a", "one b")] == ["", ""]
        assert [await rates.ask("system") for _ in range(4)] == ["", "", "", "user"]

    @pytest_twisted.ensureDeferred
    async def test_a_user_who_asks_too_much_does_not_use_up_what_others_may(self) -> None:
        rates = Rates(tenant_rate=[(6, 60.0)], customer_rate=[(4, 60.0)], user_rate=[(2, 60.0)])
        assert [await rates.ask("one a") for _ in range(50)] == ["", "", *["user"] * 48]
        assert [await rates.ask("one b") for _ in range(3)] == ["", "", "user"]
        assert [await rates.ask("admin") for _ in range(2)] == ["", ""]

    @pytest_twisted.ensureDeferred
    async def test_whoever_is_not_known_uses_up_nothing(self) -> None:
        rates = Rates(tenant_rate=[(1, 60.0)])
        for token in (None, "a.b.c", "ApiKey x"):
            assert (await rates.rest.refused("GET", ME, token=token))[0] == 401
        assert await rates.ask("admin") == ""

    @pytest_twisted.ensureDeferred
    async def test_what_is_refused_to_a_role_counts_too(self) -> None:
        rates = Rates(user_rate=[(2, 60.0)])
        token = rates.tokens["two"]
        told = [(await rates.rest.ask("GET", "/api/users?pageSize=1", token=token))[0] for _ in range(3)]
        assert told == [403, 403, 429]

    @pytest_twisted.ensureDeferred
    async def test_retry_after_is_in_whole_seconds_and_true(self) -> None:
        rates = Rates(user_rate=[(1, 90.0)])
        await rates.ask("admin")
        _, _, headers = await rates.rest.ask("GET", ME)
        assert headers.getRawHeaders("retry-after") == ["90"]
        rates.rest.clock.advance(89.5)
        _, _, headers = await rates.rest.ask("GET", ME)
        assert headers.getRawHeaders("retry-after") == ["1"]
        rates.rest.clock.advance(0.6)
        assert await rates.ask("admin") == ""

    @pytest_twisted.ensureDeferred
    async def test_other_rates_hold_at_once(self) -> None:
        rates = Rates(user_rate=[(1, 60.0)])
        assert [await rates.ask("admin"), await rates.ask("admin")] == ["", "user"]
        rates.rest.rest.reconfigure(Settings(http=HttpSettings(user_rate=Rate(((2, 60.0),)))))
        assert [await rates.ask("admin") for _ in range(3)] == ["", "", "user"]
        rates.rest.rest.reconfigure(Settings())
        assert [await rates.ask("admin") for _ in range(9)] == [""] * 9
