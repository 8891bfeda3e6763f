"""What devices may send: who pays which rate, and that a refusal costs nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from fakes import OTHER_TENANT, World, device
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rpcbroker.core.model import Device
from rpcbroker.core.quotas import Quotas
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import LimitsSettings

DEVICE = device(1)
GATEWAY = device(2, additional_info={"gateway": True})
CHILD = device(3)
NAMES = [each.name for each in fields(LimitsSettings)]


def rate(count: int, seconds: float = 60.0) -> Rate:
    return Rate(((count, seconds),))


def quotas(**rates: Rate) -> Quotas:
    return Quotas(LimitsSettings(**rates), Clock().seconds)


def test_without_rates_everything_may_and_nobody_has_to_ask() -> None:
    free = quotas()
    assert not free.any
    assert all(free.charge(DEVICE, points=10**6) for _ in range(1000))
    assert free.limits_of(DEVICE) == {
        "rateLimits": {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None}
    }


@pytest.mark.parametrize(
    ("what", "limited_by"),
    [
        ({"device": DEVICE}, {"tenant_messages", "device_messages"}),
        (
            {"device": DEVICE, "points": 1},
            {
                "tenant_telemetry_messages",
                "tenant_telemetry_points",
                "device_telemetry_messages",
                "device_telemetry_points",
            },
        ),
        ({"device": GATEWAY}, {"tenant_messages", "gateway_device_messages"}),
        (
            {"device": GATEWAY, "points": 1},
            {
                "tenant_telemetry_messages",
                "tenant_telemetry_points",
                "gateway_device_telemetry_messages",
                "gateway_device_telemetry_points",
            },
        ),
        ({"device": CHILD, "via": GATEWAY}, {"tenant_messages", "gateway_messages"}),
        (
            {"device": CHILD, "via": GATEWAY, "points": 1},
            {
                "tenant_telemetry_messages",
                "tenant_telemetry_points",
                "gateway_telemetry_messages",
                "gateway_telemetry_points",
            },
        ),
    ],
)
def test_every_message_pays_these_rates_and_no_others(what: dict[str, Any], limited_by: set[str]) -> None:
    stopping = set()
    for name in NAMES:
        limited = quotas(**{name: rate(1)})
        assert limited.charge(**what)
        if not limited.charge(**what):
            stopping.add(name)
            assert limited.refusals == {name: 1}
    assert stopping == limited_by


@pytest.mark.parametrize("kind", ["tenant", "device"])
def test_points_are_counted_one_by_one(kind: str) -> None:
    limited = quotas(**{f"{kind}_telemetry_points": rate(10), f"{kind}_telemetry_messages": rate(3)})
    assert limited.charge(DEVICE, points=6)
    assert not limited.charge(DEVICE, points=5)
    assert limited.charge(DEVICE, points=3)
    assert limited.charge(DEVICE, points=1)
    assert not limited.charge(DEVICE, points=1)
    assert limited.charge(DEVICE), "other messages are not limited"


def test_a_refusal_takes_nothing_from_any_rate() -> None:
    limited = quotas(
        tenant_telemetry_messages=rate(5),
        tenant_telemetry_points=rate(50),
        device_telemetry_messages=rate(5),
        device_telemetry_points=rate(10),
    )
    for _ in range(20):
        assert not limited.charge(DEVICE, points=11)
    assert all(limited.charge(device(number), points=10) for number in range(5))
    assert not limited.charge(device(9), points=1)
    assert limited.refusals == {"device_telemetry_points": 20, "tenant_telemetry_messages": 1}


def test_devices_share_the_rate_of_their_tenant_and_nothing_else() -> None:
    limited = quotas(tenant_messages=rate(3), device_messages=rate(2))
    other = device(4, tenant=OTHER_TENANT)
    assert [limited.charge(DEVICE) for _ in range(3)] == [True, True, False]
    assert [limited.charge(CHILD) for _ in range(2)] == [True, False]
    assert [limited.charge(other) for _ in range(3)] == [True, True, False]


def test_those_behind_a_gateway_share_its_rate_and_move_to_that_of_another_with_it() -> None:
    limited = quotas(gateway_messages=rate(2), gateway_device_messages=rate(1), device_messages=rate(1))
    assert [limited.charge(each, via=GATEWAY) for each in (CHILD, DEVICE, CHILD)] == [True, True, False]
    assert [limited.charge(GATEWAY) for _ in range(2)] == [True, False], "its own messages are another rate"
    assert limited.charge(CHILD, via=device(5, additional_info={"gateway": True}))
    assert [limited.charge(CHILD) for _ in range(2)] == [True, False], "by itself it is a device as any"


@pytest.mark.parametrize("info", [None, {}, [], "gateway", {"gateway": "true"}, {"gateway": 1}, {"gateway": False}])
def test_only_true_makes_a_gateway(info: Any) -> None:
    assert not device(1, additional_info=info).is_gateway
    assert GATEWAY.is_gateway


def test_other_rates_hold_at_once() -> None:
    limited = quotas(device_messages=rate(1))
    assert [limited.charge(DEVICE) for _ in range(2)] == [True, False]
    limited.reconfigure(LimitsSettings(device_messages=rate(2)))
    assert [limited.charge(DEVICE) for _ in range(3)] == [True, True, False]
    limited.reconfigure(LimitsSettings())
    assert not limited.any
    assert limited.charge(DEVICE)


def test_a_device_is_told_its_rates_and_a_gateway_those_of_its_children_too() -> None:
    limited = quotas(
        tenant_messages=rate(1),
        device_messages=Rate(((200, 1.0), (6000, 60.0))),
        gateway_telemetry_points=rate(5),
        gateway_device_telemetry_messages=rate(6),
    )
    assert limited.limits_of(DEVICE) == {
        "rateLimits": {"messages": "200:1,6000:60", "telemetryMessages": None, "telemetryDataPoints": None}
    }
    assert limited.limits_of(GATEWAY) == {
        "rateLimits": {"messages": None, "telemetryMessages": "6:60", "telemetryDataPoints": None},
        "gatewayRateLimits": {"messages": None, "telemetryMessages": None, "telemetryDataPoints": "5:60"},
    }


def test_the_broker_has_them_on_its_clock() -> None:
    world = World()
    assert not world.broker.quotas.any
    world.broker.quotas.reconfigure(LimitsSettings(device_messages=rate(1)))
    assert [world.broker.quotas.charge(DEVICE) for _ in range(2)] == [True, False]
    world.clock.advance(60)
    assert world.broker.quotas.charge(DEVICE)


SENDERS: list[tuple[Device, Device | None]] = [(DEVICE, None), (CHILD, None), (GATEWAY, None), (CHILD, GATEWAY)]


@given(
    st.lists(st.tuples(st.sampled_from(SENDERS), st.integers(0, 5)), max_size=60),
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 12)),
)
def test_nothing_ever_takes_more_than_there_is(messages: list[Any], counts: dict[str, int]) -> None:
    """Against plain counters, on a clock that stands still."""
    limited = quotas(**{name: rate(count) for name, count in counts.items()})
    used: dict[Any, int] = {}
    for (who, via), points in messages:
        scope = "gateway" if via else "gateway_device" if who.is_gateway else "device"
        kinds = {"telemetry_messages": 1, "telemetry_points": points} if points else {"messages": 1}
        costs = {
            (f"{whose}_{kind}", key): amount
            for whose, key in (("tenant", who.tenant_id), (scope, (via or who).id))
            for kind, amount in kinds.items()
        }
        may = all(used.get(cost, 0) + amount <= counts.get(cost[0], 10**9) for cost, amount in costs.items())
        assert limited.charge(who, points=points, via=via) is may
        if may:
            used |= {cost: used.get(cost, 0) + amount for cost, amount in costs.items()}
