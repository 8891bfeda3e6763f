"""What changes of presence is written behind, gathered; and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import World, result_of
from twisted.internet.defer import fail
from twisted.logger import capturedLogs

from rpcbroker.core.errors import Unavailable
from rpcbroker.core.feed_settings import FeedSettings
from rpcbroker.core.presence import MOST_CHANGES
from rpcbroker.core.presence_keeper import INTERVAL, SWEEP_MS, PresenceKeeper


class Kept(World):
    """A broker whose device's presence is kept."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.keeper = PresenceKeeper(
            self.store,
            self.broker.deadlines,
            self.broker.events,
            settings=FeedSettings(**settings),
            now_ms=self.now_ms,
        )

    def later(self) -> None:
        self.clock.advance(INTERVAL + 0.02)

    def changes(self) -> list[tuple[bool, bool, str | None]]:
        found = result_of(self.store.presence_changes(self.device.id, 0))
        return [(each.connected, each.callable, each.cause) for each in found]


def test_each_change_is_kept_with_its_cause_in_one_write() -> None:
    world = Kept()
    link = world.link(subscribed=False)
    session = world.session()
    session.subscribe(link)
    session.detach(link, "it has left")
    assert world.changes() == []
    world.later()
    assert world.changes() == [
        (True, False, "connected over FAKE"),
        (True, True, "subscribed over FAKE"),
        (True, False, "it has left"),
        (False, False, "it has left"),
    ]
    kept = result_of(world.store.presence(world.device.id))
    assert kept.disconnected_cause == "it has left"


def test_that_it_was_seen_is_no_change() -> None:
    world = Kept()
    session = world.session()
    session.seen("HTTP")
    world.later()
    assert result_of(world.store.presence(world.device.id)).seen_cause == "HTTP"
    assert world.changes() == []


def test_one_that_connects_all_the_time_does_not_fill_the_memory() -> None:
    world = Kept()
    for number in range(MOST_CHANGES):
        world.session().detach(world.link(subscribed=False), f"for the time {number}")
    assert sum(map(len, world.keeper._changes.values())) == MOST_CHANGES
    world.later()
    assert len(world.changes()) == MOST_CHANGES
    assert world.changes()[-1] == (False, False, f"for the time {MOST_CHANGES - 1}")


def test_old_ones_are_forgotten_now_and_then_but_for_the_last() -> None:
    world = Kept(presence_history=100.0)
    for wait in (0, SWEEP_MS / 1000, 99):
        world.clock.advance(wait)
        link = world.link(subscribed=False)
        world.session().detach(link, f"after {wait:g}")
        world.later()
    assert [cause for _, _, cause in world.changes()] == [
        "after 0",
        "connected over FAKE",
        "after 600",
        "connected over FAKE",
        "after 99",
    ]


def test_none_are_kept_if_that_is_how_it_is_set() -> None:
    world = Kept(presence_history=0.0)
    world.link()
    world.later()
    assert world.changes() == []
    assert result_of(world.store.presence(world.device.id)).connected_cause == "connected over FAKE"
    world.keeper.settings = FeedSettings()
    world.link()
    world.later()
    assert world.changes()


def test_a_store_that_fails_is_told_of_and_later_ones_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Kept()
    with monkeypatch.context() as patch, capturedLogs() as logs:
        patch.setattr(world.store, "save_presence", lambda *_, **__: fail(Unavailable("the disk is full")))
        link = world.link(subscribed=False)
        world.later()
    assert any("could not be kept" in each["log_format"] for each in logs)
    world.session().detach(link, "it has left")
    world.later()
    assert world.changes() == [(False, False, "it has left")]
