"""A device's session: what becomes of a call, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, World, device, error_of, result_of
from msgspec import structs

from rpcbroker.core.calls import CallRequest, CallState, Step
from rpcbroker.core.errors import (
    BadReply,
    CallCancelled,
    CallTimeout,
    NoActiveConnection,
    NotFound,
    PermissionDenied,
    QueueFull,
    Reason,
    Unavailable,
)
from rpcbroker.core.events import CallOpened, CallSettled, NearlyMissed, PresenceChanged
from rpcbroker.core.model import Authority
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.settings import RpcSettings

TICK = 1 / 32
TWO_WAY = CallRequest(method="get", timeout=10)
ONE_WAY = CallRequest(method="set", oneway=True, timeout=10)


def test_a_reply_ends_the_call() -> None:
    world = World()
    link = world.link()
    waiting = world.call(TWO_WAY)
    assert world.session().receive(link.calls[0].wire_id, b'{"ok":1}')
    assert result_of(waiting).payload == b'{"ok":1}'
    assert world.broker.pending_count == 0


def test_a_link_may_answer_inside_deliver() -> None:
    world = World()
    link = world.link(step=None)
    link.deliver = lambda call: world.session().receive(call.wire_id, b"1")  # type: ignore[method-assign]
    assert result_of(world.call(TWO_WAY)).payload == b"1"


@pytest.mark.parametrize("step", [Step.WRITTEN, Step.ACKNOWLEDGED])
def test_a_oneway_call_ends_when_it_is_handed_over(step: Step) -> None:
    world = World()
    world.link(step=step)
    assert result_of(world.call(ONE_WAY)).payload == b""


def test_a_oneway_call_waits_for_a_device_that_comes_in_time() -> None:
    world = World()
    waiting = world.call(ONE_WAY)
    assert not waiting.called
    link = world.link()
    assert result_of(waiting).payload == b""
    assert [call.method for call in link.calls] == ["set"]


def test_a_late_reply_is_dropped_and_counted(no_dropped_failures: list[str]) -> None:
    world = World()
    link = world.link()
    dropped: list[NearlyMissed] = []
    world.broker.events.listen(NearlyMissed, dropped.append)
    waiting = world.call(TWO_WAY)
    world.clock.advance(10 + TICK)
    assert error_of(waiting).reason is Reason.NO_REPLY
    assert not world.session().receive(link.calls[0].wire_id, b"1")
    assert not world.session().receive(12345, b"1")
    assert world.session().missed(NearMiss.UNKNOWN_REPLY) == len(dropped) == 2


def test_a_device_settles_only_its_own_calls() -> None:
    world = World()
    other = device(101)
    world.add(other)
    link = world.link()
    waiting = world.call(TWO_WAY)
    assert not world.session(other).receive(link.calls[0].wire_id, b"1")
    assert not waiting.called
    world.session().receive(link.calls[0].wire_id, b"2")
    assert result_of(waiting).payload == b"2"


def test_a_reply_that_is_not_json_is_a_bad_reply() -> None:
    world = World()
    link = world.link()
    waiting = world.call(TWO_WAY)
    assert world.session().receive_bad(link.calls[0].wire_id, "not JSON", b"{")
    error = error_of(waiting)
    assert isinstance(error, BadReply)
    assert error.reason is Reason.BAD_REPLY


class TestReasons:
    """Status and reason tell what is true when the call ends."""

    def test_never_connected(self) -> None:
        world = World()
        waiting = world.call(TWO_WAY)
        world.clock.advance(9.9)
        assert not waiting.called, "an offline device costs the whole timeout"
        world.clock.advance(0.2)
        error = error_of(waiting)
        assert isinstance(error, NoActiveConnection)
        assert error.reason is Reason.NEVER_CONNECTED

    def test_connected_without_a_subscription(self) -> None:
        world = World()
        world.link(subscribed=False)
        waiting = world.call(structs.replace(TWO_WAY, connect_timeout=0))
        error = error_of(waiting)
        assert error.reason is Reason.NO_SUBSCRIPTION
        assert error.hint == "The device connected over FAKE 0 s ago, but has not subscribed."

    def test_disconnected(self) -> None:
        world = World()
        link = world.link()
        world.clock.advance(5)
        world.session().detach(link, "the connection was lost")
        world.clock.advance(3)
        error = error_of(world.call(structs.replace(TWO_WAY, connect_timeout=0)))
        assert error.reason is Reason.DISCONNECTED
        assert error.hint == "The device disconnected 3 s ago (the connection was lost)."

    def test_delivered_and_silent_though_it_was_offline_at_first(self) -> None:
        world = World()
        waiting = world.call(TWO_WAY)
        world.link()
        world.clock.advance(10 + TICK)
        error = error_of(waiting)
        assert isinstance(error, CallTimeout)
        assert error.reason is Reason.NO_REPLY

    def test_written_and_not_acknowledged(self) -> None:
        world = World()
        world.link(step=Step.WRITTEN)
        waiting = world.call(TWO_WAY)
        world.clock.advance(10 + TICK)
        assert error_of(waiting).reason is Reason.NO_ACK

    def test_retries_used_up_is_told_at_once(self) -> None:
        world = World()
        link = world.link(step=Step.WRITTEN)
        waiting = world.call(structs.replace(TWO_WAY, retries=0))
        world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
        error = error_of(waiting)
        assert isinstance(error, CallTimeout)
        assert error.reason is Reason.NO_ACK

    def test_expired_when_it_came_in(self) -> None:
        world = World()
        error = error_of(world.call(CallRequest(method="x", expiration_time=EPOCH_MS - 1)))
        assert isinstance(error, CallTimeout)
        assert error.reason is Reason.EXPIRED

    def test_connect_timeout_ends_the_wait_for_a_connection_only(self) -> None:
        world = World()
        waiting = world.call(structs.replace(TWO_WAY, connect_timeout=2))
        world.clock.advance(1)
        world.link()
        world.clock.advance(5)
        assert not waiting.called
        lost = world.call(TWO_WAY)
        lost.cancel()
        assert isinstance(error_of(lost), CallCancelled)
        world.clock.advance(5)
        assert error_of(waiting).reason is Reason.NO_REPLY


def test_the_floor_lifts_a_short_timeout_and_a_setting_lowers_the_floor() -> None:
    world = World()
    waiting = world.call(CallRequest(method="x", timeout=0.1))
    world.clock.advance(4.9)
    assert not waiting.called
    world.clock.advance(0.2)
    assert error_of(waiting)
    low = World(min_timeout=0.2)
    waiting = low.call(CallRequest(method="x", timeout=0.1))
    low.clock.advance(0.25)
    assert error_of(waiting)


def test_a_full_queue_refuses_one_more_and_keeps_the_rest() -> None:
    world = World(max_pending_per_device=1_000)
    waiting = [world.call(TWO_WAY) for _ in range(1_000)]
    error = error_of(world.call(TWO_WAY))
    assert isinstance(error, QueueFull)
    assert error.reason is Reason.QUEUE_FULL
    link = world.link()
    for call in link.calls:
        world.session().receive(call.wire_id, b"1")
    assert [result_of(one).payload for one in waiting] == [b"1"] * 1_000


def test_new_settings_hold_from_the_next_call_on_also_for_devices_that_are_there() -> None:
    world = World(max_pending_per_device=2, min_timeout=5)
    first = world.call(CallRequest(method="x", timeout=1))
    world.broker.reconfigure(RpcSettings(max_pending_per_device=1, min_timeout=0.5))
    assert isinstance(error_of(world.call(TWO_WAY)), QueueFull)
    world.broker.reconfigure(RpcSettings(max_pending_per_device=2, min_timeout=0.5))
    second = world.call(CallRequest(method="x", timeout=1))
    world.clock.advance(1.1)
    assert error_of(second)
    assert not first.called, "it keeps the floor that it came in with"
    world.clock.advance(4)
    assert error_of(first)


class TestResending:
    """The same wire id, and only while the device has not acknowledged the call."""

    def test_what_was_not_acknowledged_is_given_to_the_next_link(self) -> None:
        world = World()
        first = world.link(step=Step.WRITTEN)
        waiting = world.call(TWO_WAY)
        world.session().detach(first, "lost")
        second = world.link()
        assert [call.wire_id for call in second.calls] == [first.calls[0].wire_id]
        world.session().receive(second.calls[0].wire_id, b"1")
        assert result_of(waiting)

    def test_what_was_acknowledged_is_not_sent_again(self) -> None:
        world = World()
        first = world.link(step=Step.ACKNOWLEDGED)
        waiting = world.call(TWO_WAY)
        world.session().detach(first, "lost")
        second = world.link()
        assert second.calls == []
        world.session().receive(first.calls[0].wire_id, b"1")
        assert result_of(waiting)

    def test_a_link_is_not_given_the_same_call_twice(self) -> None:
        world = World()
        link = world.link(step=Step.WRITTEN)
        world.call(TWO_WAY).addErrback(lambda _: None)
        world.session().subscribe(link)
        world.session().resume(link)
        assert len(link.calls) == 1

    def test_a_full_link_takes_the_rest_when_it_can(self) -> None:
        world = World()
        link = world.link(full=True)
        waiting = [world.call(TWO_WAY) for _ in range(3)]
        assert link.calls == []
        link.full = False
        world.session().resume(link)
        assert [call.wire_id for call in link.calls] == [1, 2, 3]
        for call in link.calls:
            world.session().receive(call.wire_id, b"1")
        assert all(result_of(one) for one in waiting)


class TestConnections:
    def test_a_newer_connection_takes_over(self) -> None:
        world = World()
        older, newer = world.link(), world.link()
        assert older.closed == [CloseReason.TAKEN_OVER]
        world.session().detach(older, "lost")
        assert world.session().presence.connected.value
        result_of(world.call(ONE_WAY))
        assert (len(older.calls), len(newer.calls)) == (0, 1)

    def test_three_facts_with_time_and_cause(self) -> None:
        world = World()
        told: list[PresenceChanged] = []
        world.broker.events.listen(PresenceChanged, told.append)
        world.clock.advance(1)
        link = world.link(subscribed=False)
        presence = world.session().presence
        assert (presence.connected.value, presence.callable.value) == (True, False)
        assert presence.seen_time is None, "only what the device sends counts as seen"
        world.clock.advance(1)
        world.session().subscribe(link)
        assert presence.callable.time == EPOCH_MS + 2000
        world.session().unsubscribe(link, "unsubscribed")
        assert (presence.callable.value, presence.callable.cause) == (False, "unsubscribed")
        world.session().detach(link, "gone")
        assert presence.connected.cause == "gone"
        assert [event.sequence for event in told] == [1, 2, 3, 4]

    def test_presence_is_known_after_a_restart(self) -> None:
        world = World()
        link = world.link()
        world.session().detach(link, "gone")
        result_of(world.store.save_presence([world.session().presence.record(world.device.id)]))
        again = World(store=world.store)
        error = error_of(again.call(structs.replace(TWO_WAY, connect_timeout=0)))
        assert error.reason is Reason.DISCONNECTED

    def test_deleting_a_device_ends_its_calls(self) -> None:
        world = World()
        link = world.link()
        waiting = world.call(TWO_WAY)
        world.broker.device_deleted(world.device.id)
        assert error_of(waiting).reason is Reason.DEVICE_DELETED
        assert link.closed == [CloseReason.DEVICE_DELETED]


class TestAccess:
    @pytest.mark.parametrize(
        "principal",
        [
            replace(ADMIN, tenant_id=OTHER_TENANT),
            replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER),
            replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=None),
        ],
    )
    def test_foreign_devices_look_like_unknown_ones(self, principal: object) -> None:
        world = World()
        foreign = error_of(world.call(TWO_WAY, principal))  # type: ignore[arg-type]
        unknown = error_of(world.call(TWO_WAY, ADMIN, UUID(int=999)))
        assert type(foreign) is type(unknown) is NotFound
        assert foreign.message == unknown.message

    def test_a_customer_may_call_its_own(self) -> None:
        world = World()
        mine = device(102, customer_id=CUSTOMER)
        world.add(mine)
        customer = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER)
        assert error_of(world.call(structs.replace(TWO_WAY, connect_timeout=0), customer, mine.id)).reason

    def test_system_administrators_call_nothing(self) -> None:
        world = World()
        assert isinstance(
            error_of(world.call(TWO_WAY, replace(ADMIN, authority=Authority.SYS_ADMIN))), PermissionDenied
        )


class TestDrain:
    def test_running_calls_may_end_and_new_ones_are_refused(self) -> None:
        world = World()
        link = world.link()
        waiting = world.call(TWO_WAY)
        drained = world.broker.drain(5)
        assert isinstance(error_of(world.call(TWO_WAY)), Unavailable)
        world.session().receive(link.calls[0].wire_id, b"1")
        assert result_of(waiting).payload == b"1"
        result_of(drained)
        assert link.closed == [CloseReason.SHUTTING_DOWN]

    def test_it_gives_up_after_its_time(self) -> None:
        world = World()
        world.link()
        waiting = world.call(TWO_WAY)
        drained = world.broker.drain(5)
        world.clock.advance(5 + TICK)
        assert error_of(waiting).reason is Reason.SHUTTING_DOWN
        result_of(drained)


def test_events_tell_each_call_s_life_in_order() -> None:
    world = World()
    told: list[tuple[int, str]] = []
    for kind in (CallOpened, CallSettled):
        world.broker.events.listen(kind, lambda event: told.append((event.sequence, type(event).__name__)))
    settled: list[CallSettled] = []
    world.broker.events.listen(CallSettled, settled.append)
    link = world.link()
    waiting = world.call(TWO_WAY)
    world.session().receive(link.calls[0].wire_id, b"1")
    assert result_of(waiting)
    assert told == [(1, "CallOpened"), (2, "CallSettled")]
    assert (settled[0].state, settled[0].payload) == (CallState.SUCCESSFUL, b"1")


def test_wire_ids_go_on_above_the_store_s_promise() -> None:
    world = World()
    link = world.link()
    for _ in range(3):
        result_of(world.call(ONE_WAY))
    assert [call.wire_id for call in link.calls] == [1, 2, 3]
    again = World(store=world.store)
    link = again.link()
    result_of(again.call(ONE_WAY))
    assert link.calls[0].wire_id == again.opened.wire_ids_reserved + 1 > 3
