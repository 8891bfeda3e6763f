"""Persistent calls: kept before anybody is told, in memory while they are due, each ending once.

Over 400 lines: a call's whole life, the easy cases; the races are in test_persistent_races.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from call_model import Disk, DiskState
from fakes import EPOCH_MS, TENANT, FakeLink, World, device, error_of, result_of
from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred, fail

from rpcbroker.core.calls import Call, CallRequest, CallState, Step, SubmitStrategy
from rpcbroker.core.errors import (
    CallTimeout,
    NoActiveConnection,
    PayloadTooLarge,
    QueueFull,
    Reason,
    Unavailable,
    VersionConflict,
)
from rpcbroker.core.events import CallSettled
from rpcbroker.core.model import PageLink
from rpcbroker.core.persistent import WINDOW
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.records import KeptCall, Mark

TICK = 1 / 32
TWO_WAY = CallRequest(method="get", persistent=True, timeout=60)
ONE_WAY = structs.replace(TWO_WAY, method="set", oneway=True)


def kept(world: World, rpc_id: UUID) -> KeptCall:
    found = result_of(world.store.calls.call(TENANT, rpc_id))
    assert found is not None
    return found  # type: ignore[no-any-return]


def accept(world: World, request: CallRequest = TWO_WAY) -> UUID:
    rpc_id: UUID = result_of(world.call(request)).rpc_id
    return rpc_id


def state(world: World, rpc_id: UUID) -> CallState:
    return kept(world, rpc_id).record.state


def restarted(world: World) -> World:
    """A new broker over the same store, at the same time."""
    after = World(store=world.store)
    after.clock.rightNow = world.clock.rightNow
    return after


def marks(world: World, rpc_id: UUID) -> list[str]:
    return [mark for _, mark, _ in kept(world, rpc_id).record.moments]


class TestLife:
    def test_a_call_to_nobody_waits_in_the_store_alone(self) -> None:
        world = World()
        rpc_id = accept(world)
        assert state(world, rpc_id) is CallState.QUEUED
        assert len(world.session().calls) == 0
        assert world.broker.persistent.waiting_count == 1

    def test_it_is_given_to_the_device_when_that_comes_and_ends_with_the_reply(self) -> None:
        world = World()
        rpc_id = accept(world)
        link = world.link(step=Step.WRITTEN)
        (call,) = link.calls
        world.session().report(call.wire_id, Step.ACKNOWLEDGED)
        assert result_of(world.session().receive(call.wire_id, b'{"ok":true}')) is True
        ended = kept(world, rpc_id)
        assert (ended.record.state, ended.response) == (CallState.SUCCESSFUL, b'{"ok":true}')
        assert ended.record.ended_time == world.now_ms()
        assert world.broker.persistent.waiting_count == 0
        assert marks(world, rpc_id)[-3:] == [Mark.SENT, Mark.ACKNOWLEDGED, Mark.ANSWERED]

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ([], CallState.QUEUED),
            ([Step.WRITTEN], CallState.SENT),
            ([Step.WRITTEN, Step.ACKNOWLEDGED], CallState.DELIVERED),
            ([Step.ACKNOWLEDGED], CallState.DELIVERED),
            ([Step.WRITTEN, Step.UNACKNOWLEDGED], CallState.TIMEOUT),
        ],
    )
    def test_the_state_in_the_store_follows(self, steps: list[Step], expected: CallState) -> None:
        world = World()
        link = world.link(step=None)
        rpc_id = accept(world)
        for step in steps:
            world.session().report(link.calls[0].wire_id, step)
        world.clock.advance(1)
        assert state(world, rpc_id) is expected

    def test_a_oneway_call_ends_when_it_is_acknowledged_and_not_before(self) -> None:
        world = World()
        link = world.link(step=Step.WRITTEN)
        rpc_id = accept(world, ONE_WAY)
        assert kept(world, rpc_id).record.ended_time is None
        world.session().report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
        ended = kept(world, rpc_id).record
        assert (ended.state, ended.ended_time) == (CallState.DELIVERED, world.now_ms())

    def test_a_reply_that_is_not_json_is_kept_as_an_error_in_its_words(self) -> None:
        world = World()
        link = world.link()
        rpc_id = accept(world)
        result_of(world.session().receive_bad(link.calls[0].wire_id, "not JSON", b"busy"))
        ended = kept(world, rpc_id)
        assert (ended.record.state, ended.response) == (CallState.SUCCESSFUL, b'{"error":"busy"}')
        assert ended.record.device_error

    def test_an_acknowledgement_counts_that_comes_after_the_call_has_left_memory(self) -> None:
        world = World()
        link = world.link(step=Step.WRITTEN)
        rpc_id = accept(world, ONE_WAY)
        world.session().unsubscribe(link, "unsubscribed")
        assert len(world.session().calls) == 0
        world.session().report(link.calls[0].wire_id, Step.ACKNOWLEDGED)
        assert state(world, rpc_id) is CallState.DELIVERED
        world.session().subscribe(link)
        assert len(link.calls) == 1

    def test_it_fails_when_nobody_acknowledges_it_often_enough(self) -> None:
        world = World()
        rpc_id = accept(world, structs.replace(TWO_WAY, retries=1))
        for _ in range(2):
            link = world.link(step=Step.WRITTEN)
            world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
        ended = kept(world, rpc_id)
        assert ended.record.state is CallState.FAILED
        assert ended.response == (
            b'{"error":"There was a Timeout and all retry attempts have been exhausted. Retry attempts set: 1"}'
        )

    def test_or_the_device_is_disconnected_and_it_begins_anew(self) -> None:
        world = World(close_session_on_delivery_timeout=True)
        rpc_id = accept(world, structs.replace(TWO_WAY, retries=0))
        link = world.link(step=Step.WRITTEN)
        world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
        world.clock.advance(1)
        assert link.closed == [CloseReason.DELIVERY_TIMEOUT]
        assert state(world, rpc_id) is CallState.QUEUED
        again = world.link(step=Step.WRITTEN)
        assert [call.wire_id for call in again.calls] == [link.calls[0].wire_id]

    def test_it_is_given_to_each_new_link_until_it_is_answered_under_the_same_wire_id(self) -> None:
        world = World()
        accept(world)
        links = [world.link() for _ in range(3)]
        assert len({call.wire_id for link in links for call in link.calls}) == 1
        assert [len(link.calls) for link in links] == [1, 1, 1]
        result_of(world.session().receive(links[0].calls[0].wire_id, b"1"))
        assert world.link().calls == []

    def test_a_listener_hears_how_it_ended(self) -> None:
        world = World()
        heard: list[CallSettled] = []
        world.broker.events.listen(CallSettled, heard.append)
        link = world.link()
        rpc_id = accept(world)
        world.clock.advance(2)
        result_of(world.session().receive(link.calls[0].wire_id, b"1"))
        assert [(event.call.rpc_id, event.state, event.payload) for event in heard] == [
            (rpc_id, CallState.SUCCESSFUL, b"1")
        ]
        assert heard[0].seconds == 2


class TestExpiry:
    @pytest.mark.parametrize("connected", [False, True])
    def test_it_expires_in_time_wherever_it_is(self, connected: bool) -> None:
        world = World()
        if connected:
            world.link()
        rpc_id = accept(world)
        world.clock.pump([1] * 59)
        assert kept(world, rpc_id).record.ended_time is None
        world.clock.pump([TICK] * 64)
        ended = kept(world, rpc_id).record
        assert ended.state is CallState.EXPIRED
        assert ended.reason is (Reason.NO_REPLY if connected else Reason.NEVER_CONNECTED)
        assert ended.ended_time is not None
        assert 0 <= ended.ended_time - ended.expiration_time <= 1_000 * TICK
        assert world.broker.persistent.waiting_count == 0

    def test_one_that_had_expired_is_kept_as_that(self) -> None:
        world = World()
        error = error_of(world.call(structs.replace(TWO_WAY, expiration_time=EPOCH_MS - 1)))
        assert (type(error), error.reason) == (CallTimeout, Reason.EXPIRED)
        assert state(world, error.rpc_id) is CallState.EXPIRED
        assert world.broker.persistent.waiting_count == 0

    def test_one_that_nothing_takes_in_time_expires_then(self) -> None:
        world = World()
        rpc_id = accept(world, structs.replace(TWO_WAY, connect_timeout=5))
        world.clock.pump([1] * 7)
        assert kept(world, rpc_id).record.reason is Reason.NEVER_CONNECTED

    def test_one_that_something_took_lives_on(self) -> None:
        world = World()
        rpc_id = accept(world, structs.replace(TWO_WAY, connect_timeout=5))
        world.link()
        world.clock.pump([1] * 50)
        assert state(world, rpc_id) is CallState.DELIVERED

    def test_one_that_may_not_wait_at_all_is_refused(self) -> None:
        world = World()
        assert isinstance(error_of(world.call(structs.replace(TWO_WAY, connect_timeout=0))), NoActiveConnection)
        assert world.broker.persistent.waiting_count == 0

    def test_hundreds_expire_together(self) -> None:
        world = World()
        ids = [accept(world) for _ in range(700)]
        world.clock.pump([1] * 63)
        assert {state(world, rpc_id) for rpc_id in ids} == {CallState.EXPIRED}

    def test_an_overdue_call_is_not_delivered(self) -> None:
        world = World()
        accept(world)
        world.clock.advance(60.5)  # a sweep is about to come
        link = world.link()
        world.clock.advance(1)
        assert link.calls == []

    def test_it_may_be_far_away_but_not_for_ever(self) -> None:
        world = World(max_persistent_timeout=100.0)
        rpc_id = accept(world, structs.replace(TWO_WAY, expiration_time=2**62))
        assert kept(world, rpc_id).record.expiration_time == EPOCH_MS + 100_000


class TestRestart:
    """Whatever has not ended goes on."""

    @pytest.mark.parametrize("steps", [[], [Step.WRITTEN], [Step.ACKNOWLEDGED], [Step.WRITTEN, Step.UNACKNOWLEDGED]])
    def test_it_is_given_again_under_the_same_wire_id(self, steps: list[Step]) -> None:
        world = World()
        link = world.link(step=None)
        rpc_id = accept(world)
        for step in steps:
            world.session().report(link.calls[0].wire_id, step)
        world.clock.advance(1)
        after = restarted(world)
        again = after.link()
        assert [call.wire_id for call in again.calls] == [link.calls[0].wire_id]
        result_of(after.session().receive(again.calls[0].wire_id, b"1"))
        assert state(after, rpc_id) is CallState.SUCCESSFUL
        assert Mark.RESUMED in marks(after, rpc_id)

    def test_a_reply_to_a_call_from_before_is_taken_before_the_device_has_subscribed(self) -> None:
        world = World()
        link = world.link()
        rpc_id = accept(world)
        after = restarted(world)
        after.link(subscribed=False)
        assert result_of(after.session().receive(link.calls[0].wire_id, b"1")) is True
        assert state(after, rpc_id) is CallState.SUCCESSFUL
        assert result_of(after.session().receive(link.calls[0].wire_id, b"2")) is False

    def test_what_expired_meanwhile_ends_at_once(self) -> None:
        world = World()
        rpc_id = accept(world)
        after = restarted(world)
        after.clock.rightNow += 1_000_000.0
        after = restarted(after)
        after.clock.advance(1 + TICK)
        assert state(after, rpc_id) is CallState.EXPIRED

    def test_what_expired_meanwhile_is_not_given_to_a_device_that_comes_before_it_ends(self) -> None:
        world = World()
        rpc_id = accept(world)
        after = restarted(world)
        after.clock.rightNow += 1_000_000.0
        after = restarted(after)
        link = after.link()
        assert link.calls == []
        assert state(after, rpc_id) is CallState.EXPIRED

    def test_new_calls_have_higher_wire_ids(self) -> None:
        world = World()
        accept(world)
        after = restarted(world)
        accept(after)
        link = after.link()
        assert len({call.wire_id for call in link.calls}) == 2

    def test_the_limit_counts_those_from_before(self) -> None:
        world = World()
        accept(world)
        after = World(store=world.store, max_persistent_per_device=1)
        assert isinstance(error_of(after.call(TWO_WAY)), QueueFull)


class TestWindow:
    """Memory holds what is due, and not more."""

    def test_a_backlog_comes_in_order_and_a_part_at_a_time(self) -> None:
        world = World()
        ids = [accept(world) for _ in range(3 * WINDOW)]
        link = world.link()
        assert len(link.calls) == WINDOW
        done = 0
        while done < len(link.calls):
            result_of(world.session().receive(link.calls[done].wire_id, b"1"))
            done += 1
            assert world.session().calls.kept <= WINDOW
        assert [call.rpc_id for call in link.calls] == ids
        assert world.broker.persistent.waiting_count == 0

    def test_it_leaves_memory_with_the_last_link(self) -> None:
        world = World()
        for _ in range(5):
            accept(world)
        link = world.link()
        world.session().detach(link, "gone")
        assert len(world.session().calls) == 0
        assert len(world.link().calls) == 5

    def test_what_comes_while_the_window_is_full_is_not_forgotten(self) -> None:
        world = World()
        link = world.link()
        for _ in range(WINDOW + 10):
            accept(world)
        assert len(link.calls) == WINDOW
        for call in link.calls:
            result_of(world.session().receive(call.wire_id, b"1"))
        assert len(link.calls) == WINDOW + 10


@pytest.mark.parametrize(
    "large", [{"method": "m" * 1_001}, {"params": b'"%b"' % (b"x" * 1_000)}, {"additional_info": {"k": "x" * 1_000}}]
)
def test_one_that_is_too_large_is_refused(large: dict[str, Any]) -> None:
    world = World(max_persistent_size=1_000)
    error = error_of(world.call(structs.replace(TWO_WAY, **large)))
    assert isinstance(error, PayloadTooLarge)
    assert error.reason is Reason.TOO_LARGE
    assert world.broker.persistent.waiting_count == 0
    world.link(reply=b"1")
    result_of(world.call(structs.replace(TWO_WAY, persistent=False, **large)))


class TestStoreInTrouble:
    def test_nothing_is_taken_that_cannot_be_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        link = world.link()
        monkeypatch.setattr(world.store.calls, "insert", lambda kept: fail(Unavailable("disk full")))
        error = error_of(world.call(TWO_WAY))
        assert isinstance(error, Unavailable)
        assert link.calls == []
        assert world.broker.persistent.waiting_count == 0

    def test_a_reply_that_cannot_be_kept_is_written_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        link = world.link()
        rpc_id = accept(world)
        end = world.store.calls.end
        monkeypatch.setattr(world.store.calls, "end", lambda kept: fail(Unavailable("disk full")))
        refused: Any = world.session().receive(link.calls[0].wire_id, b"1")
        assert isinstance(error_of(refused), Unavailable), "the device is not told that it is kept"
        assert kept(world, rpc_id).record.ended_time is None
        monkeypatch.setattr(world.store.calls, "end", end)
        world.clock.advance(1 + TICK)
        assert state(world, rpc_id) is CallState.SUCCESSFUL
        assert len(world.session().calls) == 0

    def test_a_caller_that_leaves_while_it_is_written_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        insert, writing = world.store.calls.insert, Deferred[None]()
        monkeypatch.setattr(world.store.calls, "insert", lambda kept: writing.addCallback(lambda _: insert(kept)))
        waiting = world.call(TWO_WAY)
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        waiting.cancel()
        writing.callback(None)
        assert world.broker.persistent.waiting_count == 1
        assert len(world.link().calls) == 1


class TestCancel:
    def test_one_that_was_not_sent_never_is(self) -> None:
        world = World()
        rpc_id = accept(world)
        record = kept(world, rpc_id).record
        cancelled = result_of(world.session().cancel(record, "by admin@example.org"))
        assert (cancelled.cancelled, cancelled.delivered_before, cancelled.device_told) == (True, False, False)
        assert world.link().calls == []
        assert state(world, rpc_id) is CallState.DELETED

    @pytest.mark.parametrize("persistent", [False, True])
    @pytest.mark.parametrize("hears", [False, True])
    def test_the_device_is_told_if_it_wants_to_be(self, persistent: bool, hears: bool) -> None:
        world = World()
        world.broker.device_changed(replace(world.device, additional_info={"rpcCancel": hears}))
        link = world.link()
        world.broker.device_changed(replace(world.device, additional_info={"rpcCancel": hears}))
        waiting = world.call(structs.replace(TWO_WAY, persistent=persistent))
        record = next(world.broker.recorder.newest_first())
        cancelled = result_of(world.session().cancel(record, "by admin@example.org"))
        assert (cancelled.cancelled, cancelled.delivered_before, cancelled.device_told) == (True, True, hears)
        assert len(link.cancelled) == hears
        if not persistent:
            assert error_of(waiting).reason is Reason.CANCELLED

    def test_one_that_has_ended_stays_as_it_is(self) -> None:
        world = World()
        link = world.link()
        rpc_id = accept(world)
        result_of(world.session().receive(link.calls[0].wire_id, b"1"))
        cancelled = result_of(world.session().cancel(kept(world, rpc_id).record, "by me"))
        assert (cancelled.cancelled, cancelled.delivered_before) == (False, True)
        assert state(world, rpc_id) is CallState.SUCCESSFUL


def test_progress_moves_the_end_and_is_told_to_who_waits() -> None:
    world = World(progress_extension=20.0)
    link = world.link()
    told: list[bytes] = []
    waiting = world.call(CallRequest(method="get", timeout=10), progress=told.append)
    world.clock.advance(8)
    assert world.session().progress(link.calls[0].wire_id, b'{"done":1}') is True
    world.clock.advance(15)
    assert not waiting.called
    world.clock.advance(6)
    assert error_of(waiting).reason is Reason.NO_REPLY
    assert told == [b'{"done":1}']


def test_progress_never_moves_the_end_beyond_the_expiration_time() -> None:
    world = World(progress_extension=20.0)
    link = world.link()
    waiting = world.call(CallRequest(method="get", expiration_time=EPOCH_MS + 10_000))
    world.session().progress(link.calls[0].wire_id, b"1")
    world.clock.advance(10 + TICK)
    assert waiting.called
    error_of(waiting)


def test_progress_of_a_persistent_call_survives_a_restart() -> None:
    world = World(progress_extension=100.0)
    link = world.link()
    rpc_id = accept(world)
    world.session().progress(link.calls[0].wire_id, b"1")
    world.clock.advance(1)
    assert kept(world, rpc_id).record.expiration_time == EPOCH_MS + 100_000
    after = restarted(world)
    after.clock.pump([1] * 70)
    assert kept(after, rpc_id).record.ended_time is None


def test_what_has_ended_is_forgotten_after_a_while() -> None:
    world = World(ttl=1_000.0)
    link = world.link()
    rpc_id = accept(world)
    result_of(world.session().receive(link.calls[0].wire_id, b"1"))
    world.clock.pump([600, 600, 600])
    assert result_of(world.store.calls.call(TENANT, rpc_id)) is None


def test_a_deleted_device_takes_its_calls_along() -> None:
    world = World()
    accept(world)
    result_of(world.store.delete_device(world.device.id))
    world.broker.device_deleted(world.device.id)
    assert world.broker.persistent.waiting_count == 0
    assert result_of(world.store.calls.of_device(world.device.id, PageLink(page_size=10))).total == 0


class TestOnce:
    NAMED = structs.replace(TWO_WAY, request_id=UUID(int=77), once=True)

    def test_a_persistent_call_is_made_once_whenever_it_is_asked_for_again(self) -> None:
        world = World()
        assert accept(world, self.NAMED) == accept(world, self.NAMED) == UUID(int=77)
        after = restarted(world)
        assert accept(after, self.NAMED) == UUID(int=77)
        assert len(after.link().calls) == 1

    def test_with_another_content_it_is_a_conflict(self) -> None:
        world = World()
        accept(world, self.NAMED)
        for other in (
            structs.replace(self.NAMED, method="other"),
            structs.replace(self.NAMED, params=b"1"),
            structs.replace(self.NAMED, oneway=True),
            structs.replace(self.NAMED, persistent=False),
        ):
            assert isinstance(error_of(world.call(other)), VersionConflict)
        after = restarted(world)
        assert isinstance(error_of(after.call(structs.replace(self.NAMED, params=b"1"))), VersionConflict)

    def test_the_id_of_a_call_that_has_one_of_the_brokers_is_taken_too(self) -> None:
        world = World()
        other = device(200)
        world.add(other)
        kept_id = accept(world)
        plain = CallRequest(method="get")
        world.call(plain).addErrback(lambda _: None)
        plain_id = next(world.broker.recorder.newest_first()).rpc_id
        for rpc_id, persistent in ((kept_id, False), (kept_id, True), (plain_id, False), (plain_id, True)):
            request = structs.replace(plain, persistent=persistent, request_id=rpc_id, once=True)
            assert isinstance(error_of(world.call(request, device_id=other.id)), VersionConflict)
            record = world.broker.recorder.find(TENANT, rpc_id)
            assert record is not None
            assert record.device_id == world.device.id

    def test_a_lightweight_call_of_the_same_id_never_lends_its_record_to_one_from_the_store(self) -> None:
        before = World()
        other = device(200)
        before.add(other)
        rpc_id = accept(before, self.NAMED)
        world = restarted(before)
        plain = CallRequest(method="other", request_id=rpc_id, once=True)
        world.call(plain, device_id=other.id).addErrback(lambda _: None)
        (call,) = world.link(step=Step.WRITTEN).calls
        (lightweight,) = world.session(other).calls
        assert lightweight.record.state is CallState.QUEUED
        result_of(world.session().receive(call.wire_id, b"1"))
        assert kept(world, rpc_id).record.state is CallState.SUCCESSFUL
        assert marks(world, rpc_id).count(Mark.ACCEPTED) == 1
        assert Mark.RESUMED in marks(world, rpc_id)


class TestWhatWaitsBehindTheStore:
    """Lightweight calls that wait for older ones, while some of these may be in the store only."""

    def test_a_lightweight_call_goes_once_it_is_known_that_nothing_older_waits(self) -> None:
        world = World()
        disk = Disk(world.store.database)
        accept(world)
        world.call(CallRequest(method="light", oneway=True, strategy=SubmitStrategy.ON_ACK))
        disk.state = DiskState.SLOW
        link = world.link()
        assert link.calls == [], "what waits in the store is being read"
        disk.commit()
        assert [call.method for call in link.calls] == ["get", "light"]

    def test_more_calls_than_memory_holds_do_not_stop_a_lightweight_one_that_is_older_than_they(self) -> None:
        world = World()
        outcome = world.call(CallRequest(method="light", strategy=SubmitStrategy.ON_RESPONSE))
        behind = structs.replace(TWO_WAY, strategy=SubmitStrategy.ON_ACK)
        for _ in range(WINDOW + 1):
            accept(world, behind)
        link = world.link(reply=b"1")
        assert len(link.calls) == WINDOW + 2
        assert result_of(outcome).payload == b"1"


@pytest.mark.parametrize("persistent", [False, True])
def test_all_are_given_again_after_a_link_that_was_lost_by_a_write(persistent: bool) -> None:
    world = World()
    for _ in range(3):
        world.call(structs.replace(TWO_WAY, persistent=persistent))

    class Breaking(FakeLink):
        def deliver(self, call: Call) -> bool:
            self.calls.append(call)
            self.session.detach(self, "lost")
            return True

    broken = Breaking(world.session())
    world.session().attach(broken)
    world.session().subscribe(broken)
    assert len(broken.calls) == 1
    assert len(world.link().calls) == 3


def test_a_call_that_was_given_to_a_link_may_have_been_delivered_though_nobody_said_so() -> None:
    world = World()
    link = world.link(step=None)
    accept(world)
    session = world.session()
    record = world.broker.recorder.find(TENANT, link.calls[0].rpc_id)
    assert record is not None
    assert result_of(session.cancel(record, "by a test")).delivered_before
