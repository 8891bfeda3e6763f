"""What a device nearly got right is kept, counted, logged once, and told where it may help."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, FakeLink, World, error_of
from msgspec import structs
from twisted.logger import globalLogPublisher

from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.errors import Reason, Undeliverable
from rpcbroker.core.links import FLAP_WINDOW, FLAPS
from rpcbroker.core.near_misses import HINTS, MAX_DETAIL, RELEVANT, NearMiss

TICK = 1 / 32
TWO_WAY = CallRequest(method="get", timeout=10)
AT_ONCE = structs.replace(TWO_WAY, connect_timeout=0)
SLASH = "has subscribed to '/x', which begins with a slash"


def kinds(world: World) -> dict[NearMiss, int]:
    return {miss: missed.count for miss, missed in world.session().near_misses()}


@pytest.mark.parametrize("miss", NearMiss)
def test_every_kind_says_what_to_do_about_it(miss: NearMiss) -> None:
    assert HINTS[miss].endswith(".")


def test_every_kind_may_explain_a_failed_call() -> None:
    assert frozenset[NearMiss]().union(*RELEVANT.values()) == set(NearMiss)


def test_a_device_that_missed_nothing_has_nothing() -> None:
    world = World()
    world.link()
    assert world.session()._links._diagnostics is None
    assert kinds(world) == {}


def test_each_kind_has_a_count_two_times_and_the_last_detail() -> None:
    world = World()
    session = world.session()
    session.note(NearMiss.LEADING_SLASH, "first")
    world.clock.advance(1)
    session.note(NearMiss.UNKNOWN_TOPIC, "other")
    world.clock.advance(1)
    session.note(NearMiss.LEADING_SLASH, "second")
    (newest, slash), (oldest, topic) = session.near_misses()
    assert (newest, slash.count, slash.first_time, slash.last_time, slash.detail) == (
        NearMiss.LEADING_SLASH,
        2,
        EPOCH_MS,
        EPOCH_MS + 2000,
        "second",
    )
    assert (oldest, topic.count, topic.first_time) == (NearMiss.UNKNOWN_TOPIC, 1, EPOCH_MS + 1000)


def test_a_detail_is_one_line_that_is_not_long() -> None:
    world = World()
    world.session().note(NearMiss.UNKNOWN_TOPIC, "a\x1b[2J\nb" + "x" * 1000)
    ((_, missed),) = world.session().near_misses()
    assert len(missed.detail) == MAX_DETAIL
    assert missed.detail.isprintable()


def test_the_log_has_a_line_for_each_kind_however_often_it_comes() -> None:
    world = World()
    lines: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(lines.append)
    for _ in range(100):
        world.session().note(NearMiss.LEADING_SLASH, SLASH)
        world.session().note(NearMiss.BAD_PAYLOAD, "sent nonsense")
    globalLogPublisher.removeObserver(lines.append)
    assert [line["miss"] for line in lines] == ["LEADING_SLASH", "BAD_PAYLOAD"]


def test_a_reply_that_is_not_json_is_a_bad_payload() -> None:
    world = World()
    world.link()
    world.session().receive_bad(3, "not JSON", b"{")
    assert kinds(world) == {NearMiss.BAD_PAYLOAD: 1}


def test_a_call_that_is_larger_than_the_device_takes_is_an_oversized_downlink() -> None:
    world = World()
    link = world.link(step=None)
    waiting = [world.call(TWO_WAY) for _ in range(2)]
    session = world.session()
    session.report(link.calls[0].wire_id, Step.FAILED, Undeliverable("too large", reason=Reason.TOO_LARGE))
    session.report(link.calls[1].wire_id, Step.FAILED, Undeliverable("other", reason=Reason.NO_SUBSCRIPTION))
    assert all(error_of(each) for each in waiting)
    assert kinds(world) == {NearMiss.OVERSIZED_DOWNLINK: 1}


class TestHints:
    def test_a_caller_is_told_why_nothing_can_take_the_call(self) -> None:
        world = World()
        world.link(subscribed=False)
        world.session().note(NearMiss.LEADING_SLASH, SLASH)
        assert error_of(world.call(AT_ONCE)).hint == (
            "The device connected over FAKE 0 s ago, but has not subscribed; "
            "it has subscribed to '/x', which begins with a slash."
        )

    def test_the_newest_one_only(self) -> None:
        world = World()
        world.link(subscribed=False)
        world.session().note(NearMiss.UNKNOWN_FILTER, "did one thing")
        world.clock.advance(1)
        world.session().note(NearMiss.UNKNOWN_FILTER, "did another")
        hint = error_of(world.call(AT_ONCE)).hint
        assert "it did another." in hint
        assert "one thing" not in hint

    def test_none_that_has_nothing_to_do_with_it(self) -> None:
        world = World()
        world.link(subscribed=False)
        world.session().note(NearMiss.OVERSIZED_DOWNLINK, "is too small")
        world.session().note(NearMiss.UNKNOWN_TOPIC, "published elsewhere")
        assert error_of(world.call(AT_ONCE)).hint.endswith("but has not subscribed.")

    def test_none_of_an_earlier_connection(self) -> None:
        world = World()
        world.link(subscribed=False)
        world.session().note(NearMiss.LEADING_SLASH, SLASH)
        world.clock.advance(1)
        world.link(subscribed=False)
        assert "slash" not in error_of(world.call(AT_ONCE)).hint

    def test_a_device_that_left_is_told_by_what_it_did_last(self) -> None:
        world = World()
        link = world.link()
        world.session().note(NearMiss.OVERSIZED_PACKET, "sent 70000 bytes at once")
        world.session().detach(link, "protocol violation")
        error = error_of(world.call(AT_ONCE))
        assert error.reason is Reason.DISCONNECTED
        assert error.hint == "The device disconnected 0 s ago (protocol violation); it sent 70000 bytes at once."

    def test_late_replies_explain_a_missing_one(self) -> None:
        world = World()
        world.link()
        waiting = world.call(TWO_WAY)
        world.session().receive(77, b"1")
        world.clock.advance(10 + TICK)
        error = error_of(waiting)
        assert error.reason is Reason.NO_REPLY
        assert "; it replied to call 77, which does not wait: " in error.hint

    def test_what_a_call_that_nobody_acknowledged_is_told(self) -> None:
        world = World()
        world.link(step=Step.WRITTEN)
        world.session().note(NearMiss.OVERSIZED_DOWNLINK, "takes packets of 100 bytes only")
        waiting = world.call(TWO_WAY)
        world.clock.advance(10 + TICK)
        assert error_of(waiting).hint.endswith("; it takes packets of 100 bytes only.")


class TestFlapping:
    def replace(self, world: World, times: int, seconds: float, **link: Any) -> None:
        for _ in range(times):
            world.clock.advance(seconds)
            world.link(**link)

    def test_two_clients_that_replace_each_other_are_noticed(self) -> None:
        world = World()
        world.link()
        self.replace(world, FLAPS - 1, 5)
        assert kinds(world) == {}
        self.replace(world, 1, 5)
        assert kinds(world) == {NearMiss.CONNECTION_FLAPPING: 1}
        assert "was replaced 4 times within 60 s" in world.session().whereabouts()

    def test_a_device_on_a_bad_line_is_none(self) -> None:
        world = World()
        world.link()
        self.replace(world, 20, FLAP_WINDOW / (FLAPS - 1) + 1)
        assert kinds(world) == {}

    def test_nor_is_one_whose_connections_end_before_the_next_one(self) -> None:
        world = World()
        for _ in range(20):
            world.session().detach(world.link(), "gone")
        assert kinds(world) == {}

    def test_nor_one_that_comes_over_another_protocol(self) -> None:
        world = World()
        for number in range(20):
            session = world.session()
            session.attach(FakeLink(session, protocol=f"FAKE{number % 2}"))
        assert kinds(world) == {}
