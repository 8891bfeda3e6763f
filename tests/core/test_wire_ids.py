"""The promise about wire ids, as the probe for readiness sees it."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import Unavailable
from rpcbroker.core.wire_ids import BLOCK, WireIds


class Store:
    def __init__(self) -> None:
        self.asked: list[tuple[int, Deferred[None]]] = []

    def reserve(self, upto: int) -> Deferred[None]:
        self.asked.append((upto, Deferred()))
        return self.asked[-1][1]


def test_before_it_is_known_what_was_promised_nothing_is_asked_for() -> None:
    store = Store()
    wire_ids = WireIds(store.reserve)
    assert not wire_ids.assure()
    assert store.asked == []
    wire_ids.start(5)
    assert [upto for upto, _ in store.asked] == [5 + BLOCK]


def test_ids_are_assured_once_the_store_has_promised_them() -> None:
    store = Store()
    wire_ids = WireIds(store.reserve)
    wire_ids.start(0)
    assert not wire_ids.assure()
    store.asked[0][1].callback(None)
    assert wire_ids.assure()
    assert len(store.asked) == 1


def test_a_store_that_failed_is_asked_again_by_the_probe() -> None:
    store = Store()
    wire_ids = WireIds(store.reserve)
    wire_ids.start(0)
    store.asked[0][1].errback(Unavailable("full"))
    assert not wire_ids.assure()
    assert not wire_ids.assure()
    assert [upto for upto, _ in store.asked] == [BLOCK, BLOCK]
    store.asked[1][1].callback(None)
    assert wire_ids.assure()


def test_a_store_that_fell_behind_is_not_assured_until_it_has_caught_up() -> None:
    store = Store()
    wire_ids = WireIds(store.reserve)
    wire_ids.start(0)
    store.asked[0][1].callback(None)
    wire_ids.after(BLOCK - 1)
    assert wire_ids.assure(), "the next block is late, but nobody had to be refused"
    with pytest.raises(Unavailable):
        wire_ids.after(BLOCK)
    assert not wire_ids.assure()
    store.asked[1][1].callback(None)
    assert wire_ids.assure()
