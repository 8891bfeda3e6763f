"""Who may connect, and how often."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock

from rpcbroker.core import connects as module
from rpcbroker.core.connects import Connects, address_of
from rpcbroker.core.setting import Rate
from rpcbroker.core.settings import MqttSettings

ONE, OTHER = UUID(int=1), UUID(int=2)
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(clock: Clock, **settings: Any) -> Connects:
    return Connects(MqttSettings(**settings), clock.seconds)


def test_by_default_no_address_has_a_limit(clock: Clock) -> None:
    connects = made(clock)
    for _ in range(1000):
        connects.refused(HERE)
        assert connects.admits(HERE)


def test_a_device_may_always_take_over_twice_a_second(clock: Clock) -> None:
    connects = made(clock)
    for _ in range(1000):
        assert connects.device(ONE)
        clock.advance(0.5)


def test_two_that_throw_each_other_out_for_ever_are_slowed_down_and_nobody_else_is(clock: Clock) -> None:
    connects = made(clock)
    entered = 0
    for _ in range(10_000):
        entered += connects.device(ONE)
        clock.advance(0.01)
    assert 200 <= entered <= 320, "in 100 seconds"
    assert connects.device(OTHER)


def test_ten_connections_at_once_are_let_in_and_the_eleventh_is_not(clock: Clock) -> None:
    connects = made(clock)
    assert [connects.device(ONE) for _ in range(11)] == [True] * 10 + [False]


def test_connections_of_an_address_are_counted_until_they_are_gone(clock: Clock) -> None:
    connects = made(clock, max_connections_per_address=2)
    assert [connects.admits(HERE) for _ in range(3)] == [True, True, False]
    assert connects.admits(THERE)
    connects.left(HERE)  # the one that was not admitted
    assert not connects.admits(HERE)
    connects.left(HERE)
    connects.left(HERE)
    assert connects.admits(HERE)


def test_what_is_gone_is_forgotten(clock: Clock) -> None:
    connects = made(clock)
    for address in (HERE, THERE, None):
        connects.admits(address)
        connects.left(address)
    assert not connects._open


def test_an_address_may_connect_so_often(clock: Clock) -> None:
    connects = made(clock, address_connect_rate=Rate(((2, 1.0),)))
    assert [connects.admits(HERE) for _ in range(3)] == [True, True, False]
    assert connects.admits(THERE)
    clock.advance(0.5)
    assert connects.admits(HERE)


def test_wrong_credentials_block_their_address_for_a_while(clock: Clock) -> None:
    connects = made(clock, max_wrong_credentials=3, wrong_credentials_block=60.0)
    for _ in range(3):
        assert connects.admits(HERE)
        clock.advance(59)
        connects.refused(HERE)
    assert not connects.admits(HERE)
    assert connects.admits(THERE)
    clock.advance(59.9)
    assert not connects.admits(HERE)
    clock.advance(0.1)
    assert connects.admits(HERE)
    connects.refused(HERE)
    assert connects.admits(HERE), "those of before are forgotten"


def test_wrong_ones_that_are_rare_block_nobody(clock: Clock) -> None:
    connects = made(clock, max_wrong_credentials=2, wrong_credentials_block=60.0)
    for _ in range(10):
        connects.refused(HERE)
        assert connects.admits(HERE)
        clock.advance(60)


def test_a_blocked_address_takes_nothing_from_its_rate(clock: Clock) -> None:
    connects = made(
        clock, max_wrong_credentials=1, wrong_credentials_block=5.0, address_connect_rate=Rate(((1, 1000.0),))
    )
    connects.refused(HERE)
    assert not connects.admits(HERE)
    clock.advance(5)
    assert connects.admits(HERE)


def test_how_many_wrong_ones_are_remembered_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    connects = made(clock, max_wrong_credentials=1)
    for address in range(5):
        connects.refused(address)
    assert [connects.admits(address) for address in range(5)] == [True, True, False, False, False]


def test_other_settings_hold_at_once(clock: Clock) -> None:
    connects = made(clock, connect_rate=Rate(((1, 60.0),)))
    assert [connects.device(ONE) for _ in range(2)] == [True, False]
    connects.refused(HERE)
    connects.settings = MqttSettings(
        connect_rate=Rate(()), max_wrong_credentials=1, address_connect_rate=Rate(((1, 60.0),))
    )
    assert connects.device(ONE)
    assert [connects.admits(HERE) for _ in range(2)] == [True, False]
    connects.refused(THERE)
    assert not connects.admits(THERE)
    connects.settings = MqttSettings()
    assert connects.admits(THERE)


def test_who_has_no_address_has_no_limit(clock: Clock) -> None:
    address = address_of(UNIXAddress(b"/run/x"))
    connects = made(
        clock, max_connections_per_address=1, max_wrong_credentials=1, address_connect_rate=Rate(((1, 60.0),))
    )
    for _ in range(5):
        connects.refused(address)
        assert connects.admits(address)
    assert address_of(IPv4Address("TCP", HERE, 1)) == HERE
