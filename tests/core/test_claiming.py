"""A device says that it can be claimed, and by what secret; a customer's user takes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import CUSTOMER, OTHER_TENANT, TENANT, World, customer, device, error_of, result_of
from twisted.internet.defer import Deferred

from rpcbroker.core.claiming import Claiming
from rpcbroker.core.errors import ClaimRefused, NotFound, TooManyRequests
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.settings import EnrolmentSettings

OTHERS = customer(4)
DAY = 86_400


class Market(World):
    def __init__(self, **limits: Any) -> None:
        super().__init__()
        for each in (customer(), OTHERS):
            result_of(self.store.people.create_customer(each))
        self.claiming = Claiming(
            store=self.store,
            broker=self.broker,
            settings=EnrolmentSettings(**limits),
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
        )

    def offer(self, payload: bytes = b"", **members: Any) -> None:
        assert result_of(self.claiming.offer(self.device, payload or (json.dumps(members).encode()))) is None

    def claim(self, secret: str = "", *, by: Any = CUSTOMER, name: str = "device-100") -> Deferred[Any]:
        return Deferred.fromCoroutine(self.claiming.claim(TENANT, by, name, secret))

    def response(self, *args: Any, **more: Any) -> str:
        error = error_of(self.claim(*args, **more))
        assert isinstance(error, ClaimRefused), error
        return error.response


def test_who_knows_the_secret_gets_the_device() -> None:
    market = Market()
    session = market.session()
    market.offer(secretKey="s", durationMs=60_000)
    taken = result_of(market.claim("s"))
    assert (taken.customer_id, taken.version) == (CUSTOMER, 2)
    assert result_of(market.store.device(market.device.id)) == session.device == taken


@pytest.mark.parametrize("payload", [b" ", b"{}", b'{"secretKey":""}', b'{"secretKey":null,"durationMs":null}'])
def test_without_a_secret_whoever_comes_first_gets_it(payload: bytes) -> None:
    market = Market()
    market.offer(payload)
    assert result_of(market.claim())


def test_a_wrong_secret_and_none_are_refused() -> None:
    market = Market()
    assert market.response("s") == "FAILURE", "nothing was offered"
    market.offer(secretKey="s")
    assert {market.response("S"), market.response("")} == {"FAILURE"}
    assert result_of(market.claim("s"))


def test_only_what_is_claimed_already_by_the_same_customer_is_told() -> None:
    market = Market()
    market.offer(secretKey="s")
    result_of(market.claim("s"))
    market.offer(secretKey="s")
    assert market.response("s") == "CLAIMED"
    assert market.response("s", by=OTHERS.id) == market.response("s", name="no such device") == "FAILURE"


def test_a_device_of_another_tenant_is_not_there() -> None:
    market = Market()
    foreign = device(101, tenant=OTHER_TENANT)
    market.add(foreign)
    result_of(market.claiming.offer(foreign, b""))
    assert market.response(name="device-101") == "FAILURE"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({"durationMs": 60_000}, 60), ({}, DAY), ({"durationMs": 0}, DAY), ({"durationMs": 2**40}, DAY)],
)
def test_an_offer_ends(given: dict[str, Any], seconds: float) -> None:
    market = Market()
    market.offer(**given)
    market.clock.advance(seconds + 1)
    assert market.response() == "FAILURE"
    market.offer(**given)
    market.clock.advance(seconds - 1)
    assert result_of(market.claim())


def test_the_newest_offer_counts() -> None:
    market = Market()
    market.offer(secretKey="a")
    market.offer(secretKey="b")
    assert market.response("a") == "FAILURE"
    assert result_of(market.claim("b"))


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"secretKey":1}', b'{"durationMs":"1"}', b"null"])
def test_what_is_no_offer_is_bad_json_and_changes_nothing(payload: bytes) -> None:
    market = Market()
    market.offer(secretKey="s")
    assert isinstance(error_of(market.claiming.offer(market.device, payload)), BadJSON)
    assert result_of(market.claim("s"))


def test_a_device_that_is_gone_offers_nothing() -> None:
    market = Market()
    assert isinstance(error_of(market.claiming.offer(device(999), b"")), NotFound)


def test_guessing_ends_also_for_the_right_secret_but_only_for_who_guesses() -> None:
    market = Market(claim_failures=((3, 60.0),))
    market.offer(secretKey="s")
    for _ in range(3):
        assert market.response("guess") == "FAILURE"
        assert market.response("guess", name="no such device") == "FAILURE"
    for name in ("device-100", "no such device"):
        error = error_of(market.claim("s", name=name))
        assert isinstance(error, TooManyRequests)
        assert 0 < error.retry_after <= 20
    market.clock.advance(21)
    assert result_of(market.claim("s"))


def test_another_customer_is_not_kept_out_by_it() -> None:
    market = Market(claim_failures=((1, 60.0),))
    market.offer(secretKey="s")
    market.response("guess")
    assert result_of(market.claim("s", by=OTHERS.id))


def test_other_settings_hold_at_once() -> None:
    market = Market(claim_failures=((1, 60.0),))
    market.response("guess")
    market.claiming.reconfigure(EnrolmentSettings(claim_failures=(), claim_duration=5.0))  # type: ignore[arg-type]
    market.offer()
    market.clock.advance(6)
    assert market.response() == "FAILURE"
