"""What the feed tells of a call is what its time line says, in whatever way the call goes and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from call_model import Disk, DiskState, DiskStore
from fakes import ADMIN, TENANT, World, result_of
from feeding import feed_of, of_call, watch
from msgspec import structs
from rule_world import CALL, DELAY, SWITCH, TRANSFORM, RuleWorld, graph
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest, Step
from rpcbroker.core.errors import Reason, Undeliverable
from rpcbroker.core.feed import FeedEvent
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.records import CallRecord, Mark
from rpcbroker.store.memory import MemoryDatabase

RPC_ID = UUID(int=0xCA11)
TWO_WAY = CallRequest(method="get", params=b'{"pin":1}', timeout=10, request_id=RPC_ID)
ONE_WAY = structs.replace(TWO_WAY, oneway=True)
KEPT = structs.replace(TWO_WAY, persistent=True, timeout=60)
TO_DEVICE = "RPC Request to Device"


def _ignored(waiting: Deferred[Any]) -> Deferred[Any]:
    return waiting.addErrback(lambda _: None)


def _ledger(world: World) -> Ledger:
    return Ledger(broker=world.broker, store=world.store)


def _cancelled(world: World) -> None:
    result_of(Deferred.fromCoroutine(_ledger(world).cancel(ADMIN, RPC_ID)))


def answered(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    world.call(TWO_WAY)
    world.clock.advance(0.5)
    link.session.report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
    world.clock.advance(0.5)
    link.session.receive(link.calls[0].wire_id, b'{"value":1}')


def answered_without_acknowledgement(world: World) -> None:
    world.link(reply=b"1")
    world.call(TWO_WAY)


def answered_with_an_error(world: World) -> None:
    world.link(reply=b'{"error":"no such pin"}')
    world.call(TWO_WAY)


def answered_after_progress(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    world.call(TWO_WAY)
    wire_id = link.calls[0].wire_id
    for number in range(3):
        world.clock.advance(1)
        link.session.progress(wire_id, b"%d" % number)
    link.session.receive(wire_id, b"3")


def answered_with_nonsense(world: World) -> None:
    link = world.link()
    _ignored(world.call(TWO_WAY))
    link.session.receive_bad(link.calls[0].wire_id, "no JSON", b"\xff")


def handed_over(world: World) -> None:
    world.link()
    world.call(ONE_WAY)


def handed_over_when_written(world: World) -> None:
    world.link(step=Step.WRITTEN)
    world.call(ONE_WAY)


def expired_in_the_queue(world: World) -> None:
    _ignored(world.call(TWO_WAY))
    world.clock.advance(10)


def expired_without_a_reply(world: World) -> None:
    world.link()
    _ignored(world.call(TWO_WAY))
    world.clock.advance(10)


def given_when_the_device_came(world: World) -> None:
    world.call(TWO_WAY)
    world.clock.advance(3)
    world.link(reply=b"1")


def given_again_on_a_new_connection(world: World) -> None:
    first = world.link(step=Step.WRITTEN)
    world.call(TWO_WAY)
    world.clock.advance(1)
    first.session.detach(first, "lost")
    world.link(reply=b"1")


def put_back_and_given_again(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    world.call(TWO_WAY)
    world.clock.advance(1)
    link.reply = b"1"
    link.session.take_back(link.calls[0].wire_id, link, "for it did not arrive")


def never_acknowledged(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    _ignored(world.call(structs.replace(TWO_WAY, retries=0)))
    world.clock.advance(1)
    link.session.report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)


def acknowledged_late(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    world.call(structs.replace(TWO_WAY, retries=1))
    world.clock.advance(1)
    link.session.report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
    world.clock.advance(1)
    link.session.report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
    link.session.receive(link.calls[0].wire_id, b"1")


def too_large_for_its_device(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    _ignored(world.call(TWO_WAY))
    error = Undeliverable("It is too large", reason=Reason.TOO_LARGE)
    link.session.report(link.calls[0].wire_id, Step.FAILED, error)


def refused_for_nothing_could_take_it(world: World) -> None:
    _ignored(world.call(structs.replace(TWO_WAY, connect_timeout=0)))


def refused_for_it_had_expired(world: World) -> None:
    _ignored(world.call(structs.replace(TWO_WAY, expiration_time=1)))


def left_by_its_caller(world: World) -> None:
    world.link()
    waiting = _ignored(world.call(TWO_WAY))
    world.clock.advance(1)
    waiting.cancel()


def cancelled(world: World) -> None:
    world.link()
    _ignored(world.call(TWO_WAY))
    world.clock.advance(1)
    _cancelled(world)


def ended_with_the_broker(world: World) -> None:
    _ignored(world.call(TWO_WAY))
    world.broker.drain(1.0)
    world.clock.advance(1.1)


def kept_and_answered(world: World) -> None:
    world.call(KEPT)
    world.clock.advance(1)
    world.link(step=Step.WRITTEN, reply=b"1")
    world.clock.advance(1)


def kept_and_handed_over(world: World) -> None:
    world.link()
    world.call(structs.replace(KEPT, oneway=True))
    world.clock.advance(1)


def kept_and_expired(world: World) -> None:
    world.call(KEPT)
    world.clock.pump([1.0] * 65)


def kept_and_never_acknowledged(world: World) -> None:
    link = world.link(step=Step.WRITTEN)
    world.call(structs.replace(KEPT, retries=0))
    link.session.report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
    world.clock.advance(1)


def kept_and_cancelled(world: World) -> None:
    world.call(KEPT)
    _cancelled(world)
    world.clock.advance(1)


def kept_and_expired_at_once(world: World) -> None:
    _ignored(world.call(structs.replace(KEPT, expiration_time=1)))


WAYS: list[Callable[[World], None]] = [
    answered,
    answered_without_acknowledgement,
    answered_with_an_error,
    answered_after_progress,
    answered_with_nonsense,
    handed_over,
    handed_over_when_written,
    expired_in_the_queue,
    expired_without_a_reply,
    given_when_the_device_came,
    given_again_on_a_new_connection,
    put_back_and_given_again,
    never_acknowledged,
    acknowledged_late,
    too_large_for_its_device,
    refused_for_nothing_could_take_it,
    refused_for_it_had_expired,
    left_by_its_caller,
    cancelled,
    ended_with_the_broker,
    kept_and_answered,
    kept_and_handed_over,
    kept_and_expired,
    kept_and_never_acknowledged,
    kept_and_cancelled,
    kept_and_expired_at_once,
]


def record_of(world: World) -> CallRecord:
    record = world.broker.recorder.find(TENANT, RPC_ID)
    assert record is not None
    return record


def agree(told: list[dict[str, Any]], record: CallRecord) -> None:
    """Every event is a moment of the time line, in its order; the first and the last one are told, too."""
    accepted = record.moments[0][0]
    line = [(mark, time - accepted) for time, mark, _ in record.moments]
    left = iter(line)
    for event in told:
        step = event["step"], event["ms"]
        assert step in left, f"{step} is not, or not so late, in {line}"
    assert [event.get("ended", False) for event in told] == [False] * (len(told) - 1) + [True]
    assert told[-1]["state"] == record.state
    assert told[-1].get("reason") == (record.reason and record.reason.value)
    assert all(event["deviceId"] == str(record.device_id) for event in told)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("make", [World, RuleWorld, lambda: RuleWorld(direct=False)], ids=["bare", "rules", "chain"])
def test_what_is_told_of_a_call_is_its_time_line(make: Callable[[], World], way: Callable[[World], None]) -> None:
    world = make()
    events = watch(feed_of(world))
    way(world)
    told = of_call(events, RPC_ID)
    if told[0]["step"] != Mark.REFUSED:
        assert told[0]["step"] == Mark.ACCEPTED
    agree(told, record_of(world))


def steps(events: list[FeedEvent]) -> list[tuple[str, str]]:
    return [(told["state"], told["step"]) for told in of_call(events, RPC_ID)]


def test_each_step_is_told_with_the_state_that_it_led_to() -> None:
    world = World()
    events = watch(feed_of(world))
    answered(world)
    assert steps(events) == [
        ("QUEUED", "accepted"),
        ("SENT", "sent"),
        ("DELIVERED", "acknowledged"),
        ("SUCCESSFUL", "answered"),
    ]
    assert [event.topic for event in events if "rpcId" in event.fields] == [
        f"rpcbroker.call.{world.device.id}.{state}" for state in ("queued", "sent", "delivered", "successful")
    ]
    assert [event.members(True).keys() - event.fields.keys() for event in events if "rpcId" in event.fields] == [
        {"params"},
        set(),
        set(),
        {"reply"},
    ]


def test_what_no_device_acknowledges_is_not_said_to_be_acknowledged() -> None:
    world = World()
    events = watch(feed_of(world))
    answered_without_acknowledgement(world)
    assert steps(events)[1] == ("DELIVERED", "sent")


# -- through a chain


def chained(*nodes: tuple[str, dict[str, Any]]) -> RuleWorld:
    world = RuleWorld()
    rows = [(SWITCH, "Switch", {}), *((type_, f"N{number}", config) for number, (type_, config) in enumerate(nodes))]
    links = [(number, number + 1, "Success" if number else TO_DEVICE) for number in range(len(nodes))]
    world.put(graph(rows, *links))
    return world


def test_a_call_in_a_chain_is_accepted_once_and_opened_by_the_node_that_gives_it() -> None:
    world = chained((DELAY, {"periodInSeconds": 3}), (CALL, {}))
    world.link(reply=b"1")
    events = watch(feed_of(world))
    world.call(TWO_WAY)
    assert steps(events) == [("QUEUED", "accepted")]
    world.clock.advance(3)
    assert steps(events)[1:] == [("QUEUED", "passed"), ("DELIVERED", "sent"), ("SUCCESSFUL", "answered")]
    agree(of_call(events, RPC_ID), record_of(world))


def test_a_call_that_a_chain_changes_says_so() -> None:
    world = chained((TRANSFORM, {"jsScript": "change"}), (CALL, {}))
    world.scripts.known["change"] = lambda msg, *rest: {"msg": msg | {"method": "other"}}
    link = world.link(reply=b"1")
    events = watch(feed_of(world))
    result_of(world.call(TWO_WAY))
    assert link.calls[0].method == "other"
    assert steps(events)[1] == ("QUEUED", "changed")
    assert [told["method"] for told in of_call(events, RPC_ID)] == ["get", "other", "other", "other"]


def test_a_call_that_no_node_gives_to_its_device_ends_in_the_feed() -> None:
    world = chained()
    events = watch(feed_of(world))
    _ignored(world.call(TWO_WAY))
    world.clock.advance(10)
    assert steps(events) == [("QUEUED", "accepted"), ("EXPIRED", "expired")]
    agree(of_call(events, RPC_ID), record_of(world))
    assert of_call(events, RPC_ID)[-1]["reason"] == Reason.NOT_FORWARDED


def test_a_call_that_is_cancelled_in_a_chain_ends_in_the_feed() -> None:
    world = chained((DELAY, {"periodInSeconds": 3}), (CALL, {}))
    events = watch(feed_of(world))
    _ignored(world.call(TWO_WAY))
    _cancelled(world)
    assert steps(events) == [("QUEUED", "accepted"), ("DELETED", "cancelled")]
    agree(of_call(events, RPC_ID), record_of(world))


# -- in the store


def test_a_call_that_cannot_be_kept_is_told_as_refused() -> None:
    database = MemoryDatabase()
    disk = Disk(database)
    world = World(store=DiskStore(database))
    world.add(world.device)
    events = watch(feed_of(world))
    world.session()
    disk.state = DiskState.FULL
    _ignored(world.call(KEPT))
    assert steps(events) == [("FAILED", "refused")]
    agree(of_call(events, RPC_ID), record_of(world))


def test_a_call_that_goes_on_after_a_restart_is_told_from_there() -> None:
    before = World()
    result_of(before.call(KEPT))
    world = World(store=before.store)
    events = watch(feed_of(world))
    world.link(reply=b"1")
    world.clock.advance(1)
    assert steps(events) == [("DELIVERED", "sent"), ("SUCCESSFUL", "answered")]


def test_a_call_that_is_forgotten_is_told_as_deleted_and_not_as_ended_again() -> None:
    world = World()
    kept_and_answered(world)
    events = watch(feed_of(world))
    result_of(Deferred.fromCoroutine(_ledger(world).delete(ADMIN, RPC_ID)))
    told = of_call(events, RPC_ID)
    assert [(each["state"], each["step"], each["forgotten"], "ended" in each) for each in told] == [
        ("DELETED", "cancelled", True, False)
    ]
