"""Links that are beside the one that lasts, as polls are, and calls that are taken back from a link."""

from __future__ import annotations

from dataclasses import replace

from fakes import World, result_of

from rpcbroker.core.calls import CallRequest, CallState, Step, SubmitStrategy
from rpcbroker.core.events import PresenceChanged
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.records import Mark

TWO_WAY = CallRequest(method="get", timeout=10)
ONE_WAY = CallRequest(method="set", oneway=True, timeout=10)
KEPT = CallRequest(method="get", timeout=60, persistent=True)


def test_a_poll_closes_no_connection_and_is_closed_by_none() -> None:
    world = World()
    lasting, poll = world.link(), world.link(transient=True)
    assert not lasting.closed
    newer = world.link()
    assert lasting.closed == [CloseReason.TAKEN_OVER]
    assert not poll.closed
    assert not newer.closed


def test_a_poll_beside_a_connection_does_not_change_since_when_the_device_is_there() -> None:
    world = World()
    world.link()
    since = world.session().presence.connected
    world.clock.advance(5)
    poll = world.link(transient=True)
    assert world.session().presence.connected == since
    world.session().detach(poll, "its poll ended")
    assert world.session().connected
    assert world.session().callable


def test_a_device_stays_callable_by_its_poll_when_its_connection_is_taken_over_by_a_deaf_one() -> None:
    world = World()
    world.link()
    world.link(transient=True)
    world.link(subscribed=False)
    assert world.session().callable


def test_a_call_goes_to_one_link_only() -> None:
    world = World()
    first, second = world.link(transient=True), world.link(transient=True)
    waiting = world.call(TWO_WAY)
    assert (len(first.calls), len(second.calls)) == (1, 0)
    world.session().receive(first.calls[0].wire_id, b"1")
    assert result_of(waiting).payload == b"1"


def test_a_call_goes_to_the_next_link_when_the_first_cannot_take_it() -> None:
    world = World()
    full, other = world.link(transient=True, full=True), world.link(transient=True)
    result_of(world.call(ONE_WAY))
    assert (len(full.calls), len(other.calls)) == (0, 1)


def test_a_call_that_is_taken_back_goes_to_the_next_link_under_the_same_id() -> None:
    world = World()
    lost = world.link(transient=True, step=Step.WRITTEN)
    world.call(TWO_WAY).addErrback(lambda _: None)
    world.session().unsubscribe(lost, "its poll ended")
    world.session().take_back(lost.calls[0].wire_id, lost, "its connection was lost")
    record = world.broker.recorder.find(world.device.tenant_id, lost.calls[0].rpc_id)
    assert record is not None
    assert record.state is CallState.QUEUED
    assert [moment[1] for moment in record.moments][-1] == Mark.PUT_BACK
    again = world.link(transient=True)
    assert [call.wire_id for call in again.calls] == [lost.calls[0].wire_id]


def test_a_call_that_is_taken_back_goes_to_another_link_at_once() -> None:
    world = World()
    lost, other = world.link(transient=True, step=Step.WRITTEN), world.link(transient=True)
    world.call(TWO_WAY).addErrback(lambda _: None)
    assert not other.calls
    lost.full = True
    world.session().take_back(lost.calls[0].wire_id, lost, "its connection was lost")
    assert [call.wire_id for call in other.calls] == [lost.calls[0].wire_id]


def test_nothing_is_taken_back_that_has_ended_or_went_elsewhere() -> None:
    world = World()
    link = world.link()
    waiting = world.call(TWO_WAY)
    wire_id = link.calls[0].wire_id
    world.session().take_back(wire_id, link, "acknowledged already")
    assert len(link.calls) == 1, "an acknowledged lightweight call never goes out again"
    world.session().receive(wire_id, b"1")
    world.session().take_back(wire_id, link, "it has ended")
    assert len(link.calls) == 1
    assert result_of(waiting).payload == b"1"


def test_a_persistent_call_that_is_taken_back_is_given_once_more_while_it_is_not_answered() -> None:
    world = World()
    link = world.link(transient=True)
    result_of(world.call(KEPT))
    wire_id = link.calls[0].wire_id
    world.session().take_back(wire_id, link, "no reply for 30 s")
    assert [call.wire_id for call in link.calls] == [wire_id, wire_id]
    result_of(world.session().receive(wire_id, b"1"))
    world.session().take_back(wire_id, link, "no reply for 30 s")
    assert len(link.calls) == 2


def test_a_device_that_only_reports_is_told_from_one_that_was_never_here() -> None:
    world = World()
    session = world.session()
    assert session.where() == "has never connected; its credentials have not been used yet"
    session.seen("HTTP")
    world.clock.advance(3)
    assert session.where() == "was last seen 3 s ago over HTTP, but has never waited for calls"


def test_that_a_device_without_a_link_was_seen_is_told_once_a_minute() -> None:
    world = World()
    told: list[PresenceChanged] = []
    world.broker.events.listen(PresenceChanged, told.append)
    session = world.session()
    for _ in range(13):
        session.seen("HTTP")
        world.clock.advance(10)
    assert len(told) == 3
    world.link()
    told.clear()
    world.clock.advance(100)
    session.seen("HTTP")
    assert not told, "with a link it is told at its end"


SEQUENTIAL = CallRequest(method="get", oneway=True, timeout=10, strategy=SubmitStrategy.ON_ACK)


def test_what_one_link_has_is_not_given_to_another_that_is_beside_it() -> None:
    world = World()
    lasting, poll = world.link(), world.link(transient=True)
    result_of(world.call(KEPT))
    for _ in range(3):
        result_of(world.call(SEQUENTIAL))
        world.session().unsubscribe(poll, "its poll ended")
        world.session().subscribe(poll)
    assert [call.persistent for call in (*lasting.calls, *poll.calls)].count(True) == 1


def test_what_was_not_acknowledged_in_time_goes_to_the_next_poll() -> None:
    world = World()
    lasting = world.link(step=Step.WRITTEN)
    world.call(TWO_WAY).addErrback(lambda _: None)
    world.session().report(lasting.calls[0].wire_id, Step.UNACKNOWLEDGED)
    assert world.link(transient=True).calls == lasting.calls


def test_what_a_lost_connection_has_not_acknowledged_goes_to_a_poll_that_waits_at_once() -> None:
    world = World()
    lasting, poll = world.link(step=Step.WRITTEN), world.link(transient=True)
    world.call(TWO_WAY).addErrback(lambda _: None)
    result_of(world.call(KEPT))
    assert (len(lasting.calls), len(poll.calls)) == (2, 0)
    world.session().detach(lasting, "lost")
    assert poll.calls == lasting.calls


def test_that_nobody_waits_is_told_over_the_link_that_has_the_call() -> None:
    world = World()
    lasting = world.link()
    world.broker.device_changed(replace(world.device, additional_info={"rpcCancel": True}))
    waiting = world.call(TWO_WAY)
    waiting.addErrback(lambda _: None)
    poll = world.link(transient=True)
    waiting.cancel()
    assert (lasting.cancelled, poll.cancelled) == (lasting.calls, [])


def test_what_is_said_of_a_device_names_a_link_that_it_has() -> None:
    world = World()
    presence = world.session().presence
    lasting = world.link(protocol="MQTT")
    since = presence.callable.time
    world.clock.advance(5)
    poll = world.link(transient=True, protocol="HTTP")
    assert (presence.callable.time, presence.callable.cause) == (since, "subscribed over MQTT")
    world.session().unsubscribe(lasting, "unsubscribed")
    assert (presence.callable.time, presence.callable.cause) == (since, "subscribed over HTTP")
    world.session().detach(lasting, "lost")
    assert (presence.connected.time, presence.connected.cause) == (since, "connected over HTTP")
    world.session().detach(poll, "it has not polled since")
    assert (presence.connected.value, presence.connected.cause) == (False, "it has not polled since")
