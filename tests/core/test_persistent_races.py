"""Persistent calls while something else happens at the same time: reads on their way, links that end, ends that fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from fakes import ADMIN, EPOCH_MS, TENANT, FakeLink, Slow, World, device, error_of, result_of
from msgspec import structs
from twisted.internet.defer import Deferred, fail

from rpcbroker.core import wire_ids
from rpcbroker.core.calls import Call, CallRequest, CallState, Step, SubmitStrategy
from rpcbroker.core.errors import NotFound, Reason, Unavailable
from rpcbroker.core.ledger import Ledger
from rpcbroker.core.persistent import SWEPT_AT_ONCE, WINDOW
from rpcbroker.core.records import CallRecord, KeptCall

TICK = 1 / 32
CALL = CallRequest(method="get", persistent=True, timeout=60)
LIGHT = structs.replace(CALL, persistent=False)
ON_ACK = structs.replace(CALL, strategy=SubmitStrategy.ON_ACK)
ON_RESPONSE = structs.replace(CALL, strategy=SubmitStrategy.ON_RESPONSE)
SEQUENTIAL = pytest.mark.parametrize("strategy", [SubmitStrategy.ON_ACK, SubmitStrategy.ON_RESPONSE])


def accept(world: World, request: CallRequest = CALL) -> UUID:
    rpc_id: UUID = result_of(world.call(request)).rpc_id
    return rpc_id


def kept(world: World, rpc_id: UUID) -> KeptCall:
    found = result_of(world.store.calls.call(TENANT, rpc_id))
    assert found is not None
    return found  # type: ignore[no-any-return]


def recorded(world: World, rpc_id: UUID) -> CallRecord:
    found = world.broker.recorder.find(TENANT, rpc_id)
    assert found is not None
    return found


def restarted(world: World, **rpc: Any) -> World:
    after = World(store=world.store, **rpc)
    after.clock.rightNow = world.clock.rightNow
    return after


def answer(world: World, link: FakeLink, number: int) -> None:
    assert result_of(world.session().receive(link.calls[number].wire_id, b"1")) is True


@dataclass(eq=False)
class Fickle(FakeLink):
    """It does something when it is given its first call."""

    then: Callable[[FakeLink], object] = lambda _: None

    def deliver(self, call: Call) -> bool:
        taken = super().deliver(call)
        if len(self.calls) == 1:
            self.then(self)
        return taken


class TestBacklog:
    def test_calls_are_not_forgotten_when_the_link_ends_while_it_is_given_them(self) -> None:
        world = World()
        ids = [accept(world) for _ in range(3)]
        session = world.session()
        link = Fickle(session, then=lambda link: session.detach(link, "lost"))
        session.attach(link)
        session.subscribe(link)
        assert [call.rpc_id for call in world.link().calls] == ids

    def test_a_few_free_places_are_used_too(self) -> None:
        world = World()
        link = world.link()
        for _ in range(WINDOW + 1):
            accept(world)
        answer(world, link, 0)
        world.clock.advance(1)
        assert len(link.calls) == WINDOW + 1

    def test_who_reports_progress_before_it_subscribes_is_given_the_call_again(self) -> None:
        world = World()
        rpc_id = accept(world)
        wire_id = world.link().calls[0].wire_id
        after = restarted(world, progress_extension=100.0)
        link = after.link(subscribed=False)
        with Slow(after.store.calls, "waiting_call") as reading:
            after.session().progress(wire_id, b"1")
            with Slow(after.store.calls, "waiting") as refilling:
                after.session().subscribe(link)
        reading.arrive()
        refilling.arrive()
        assert [call.wire_id for call in link.calls] == [wire_id]
        after.clock.advance(1)
        assert kept(after, rpc_id).record.expiration_time == EPOCH_MS + 100_000

    @SEQUENTIAL
    def test_progress_of_one_does_not_let_it_pass_those_before_it(self, strategy: SubmitStrategy) -> None:
        world = World()
        ids = [accept(world, structs.replace(CALL, strategy=strategy)) for _ in range(3)]
        last = kept(world, ids[2]).call.wire_id
        link = world.link(step=Step.WRITTEN, subscribed=False)
        world.session().progress(last, b"1")
        with Slow(world.store.calls, "waiting") as refilling:
            world.session().subscribe(link)
            assert link.calls == []
        refilling.arrive()
        assert [call.rpc_id for call in link.calls] == ids[:1]

    def test_reports_of_what_is_not_due_do_not_fill_the_memory(self) -> None:
        world = World()
        wire_ids = [kept(world, accept(world)).call.wire_id for _ in range(WINDOW + 50)]
        for wire_id in wire_ids:
            world.session().progress(wire_id, b"1")
        assert len(world.session().calls) == 0
        assert len(world.link().calls) == WINDOW

    @SEQUENTIAL
    def test_others_go_on_when_nothing_is_found_in_the_store(self, strategy: SubmitStrategy) -> None:
        world = World()
        before = accept(world)
        result_of(world.session().cancel(kept(world, before).record, "by me"))
        waiting = world.call(structs.replace(LIGHT, strategy=strategy))
        with Slow(world.store.calls, "waiting") as refilling:
            link = world.link()
            assert link.calls == [], "older ones may be in the store"
        refilling.arrive()
        assert len(link.calls) == 1
        assert world.session().receive(link.calls[0].wire_id, b"1") is True
        result_of(waiting)

    def test_a_lightweight_call_does_not_wait_for_newer_ones_in_the_store(self) -> None:
        world = World()
        link = world.link(step=Step.WRITTEN)
        for _ in range(WINDOW):
            accept(world)
        waiting = world.call(structs.replace(LIGHT, strategy=SubmitStrategy.ON_ACK))
        accept(world)
        assert len(link.calls) == WINDOW
        for call in link.calls[:WINDOW]:
            world.session().report(call.wire_id, Step.ACKNOWLEDGED)
        assert len(link.calls) == WINDOW + 1
        assert world.session().receive(link.calls[-1].wire_id, b"1") is True
        result_of(waiting)

    def test_when_wire_ids_begin_again_new_calls_are_found_behind_old_ones(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World()
        world.session()._last_wire_id = 5_000
        for _ in range(WINDOW):
            accept(world)
        monkeypatch.setattr(wire_ids, "BEGIN_AGAIN", 1_000)
        after = restarted(world)
        link = after.link()
        new = accept(after)
        assert kept(after, new).call.wire_id == 1
        assert len(link.calls) == WINDOW
        for number in range(WINDOW):
            answer(after, link, number)
        assert [call.rpc_id for call in link.calls[WINDOW:]] == [new]

    def test_nothing_is_remembered_of_a_deleted_device(self) -> None:
        world = World()
        world.link()
        accept(world)
        result_of(world.store.delete_device(world.device.id))
        world.broker.device_deleted(world.device.id)
        persistent = world.broker.persistent
        assert (persistent.waiting_count, persistent._behind) == (0, {})


class TestLinks:
    def test_a_link_that_takes_no_calls_any_more_is_given_none(self) -> None:
        world = World()
        link = world.link(full=True)
        waiting = world.call(LIGHT)
        world.session().detach(link, "moved to another gateway")
        link.full = False
        world.session().resume(link)
        assert link.calls == []
        world.link(reply=b"1")
        result_of(waiting)

    @pytest.mark.parametrize("persistent", [False, True])
    def test_a_call_that_begins_anew_waits_for_the_next_link(self, persistent: bool) -> None:
        world = World(close_session_on_delivery_timeout=True)
        link = world.link(step=Step.WRITTEN)
        waiting = world.call(structs.replace(ON_ACK, persistent=persistent, retries=0))
        world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
        assert len(link.calls) == 1
        again = world.link(reply=b"1")
        assert len(again.calls) == 1
        result_of(waiting)

    def test_others_do_not_wait_for_ever_for_one_that_was_acknowledged_on_an_earlier_link(self) -> None:
        world = World(response_timeout=20.0)
        first = accept(world, ON_RESPONSE)
        accept(world, ON_RESPONSE)
        world.link()
        link = world.link(step=Step.WRITTEN)
        world.session().report(link.calls[0].wire_id, Step.UNACKNOWLEDGED)
        world.clock.advance(20.1)
        assert kept(world, first).record.reason is Reason.NO_REPLY
        assert len(link.calls) == 2


class TestSweep:
    def test_calls_that_wait_for_their_turn_do_not_hide_others_that_expire(self) -> None:
        world = World(max_persistent_per_device=1_000)
        others = [device(200 + number) for number in range(SWEPT_AT_ONCE // WINDOW + 1)]
        for other in others:
            world.add(other)
            world.link(other, step=Step.WRITTEN)
            for _ in range(WINDOW):
                result_of(world.call(structs.replace(ON_RESPONSE, connect_timeout=2.0), device_id=other.id))
        alone = accept(world, structs.replace(CALL, timeout=10))
        world.clock.pump([1] * 12)
        assert kept(world, alone).record.state is CallState.EXPIRED

    def test_one_that_is_overdue_by_the_wall_clock_ends_wherever_it_is(self) -> None:
        world = World()
        world.link()
        rpc_id = accept(world)
        accept(world, structs.replace(CALL, expiration_time=EPOCH_MS + 5_000))
        later = world.now_ms() + 3_600_000
        world.broker.persistent._now_ms = lambda: later
        world.clock.pump([1] * 8)
        assert kept(world, rpc_id).record.ended_time is not None

    def test_one_that_ends_while_the_sweep_is_under_way_is_told_of_as_it_ended(self) -> None:
        world = World()
        rpc_id = accept(world)
        after = restarted(world)
        with Slow(after.store, "device") as looking:
            after.clock.rightNow += 60
            after.clock.advance(2)
        link = after.link(subscribed=False)
        assert result_of(after.session().receive(kept(after, rpc_id).call.wire_id, b"1")) is True
        assert link.calls == []
        looking.arrive()
        assert kept(after, rpc_id).record.state is CallState.SUCCESSFUL
        assert recorded(after, rpc_id).state is CallState.SUCCESSFUL
        assert recorded(after, rpc_id).ended_time is not None
        assert after.broker.persistent.waiting_count == 0


class TestEnds:
    def ending(
        self, world: World, monkeypatch: pytest.MonkeyPatch, request: CallRequest = CALL
    ) -> tuple[FakeLink, UUID]:
        """A call that was answered, and the answer could not be written."""
        link = world.link()
        rpc_id = accept(world, request)
        with monkeypatch.context() as full:
            full.setattr(world.store.calls, "end", lambda kept: fail(Unavailable("disk full")))
            assert isinstance(error_of(world.session().receive(link.calls[0].wire_id, b"1")), Unavailable)
        return link, rpc_id

    def test_one_whose_end_is_not_written_yet_is_not_deleted_under_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        link, rpc_id = self.ending(world, monkeypatch, ON_RESPONSE)
        accept(world, ON_RESPONSE)
        ledger = Ledger(broker=world.broker, store=world.store)
        deleting = Deferred.fromCoroutine(ledger.delete(ADMIN, rpc_id))
        assert not deleting.called
        world.clock.advance(1 + TICK)
        assert result_of(deleting).call.rpc_id == rpc_id
        assert result_of(world.store.calls.call(TENANT, rpc_id)) is None
        assert world.broker.persistent.waiting_count == 1
        assert len(link.calls) == 2, "the next one has its turn"

    def test_the_next_has_its_turn_when_one_is_gone_from_the_store(self) -> None:
        world = World()
        link = world.link()
        first = accept(world, ON_RESPONSE)
        accept(world, ON_RESPONSE)
        result_of(world.store.calls.delete(TENANT, first))
        assert result_of(world.session().receive(link.calls[0].wire_id, b"1")) is False
        assert len(link.calls) == 2

    def test_the_calls_of_a_deleted_device_are_not_told_of_as_going_on(self) -> None:
        world = World()
        rpc_id = accept(world)
        result_of(world.store.delete_device(world.device.id))
        world.broker.device_deleted(world.device.id)
        ledger = Ledger(broker=world.broker, store=world.store)
        assert isinstance(error_of(Deferred.fromCoroutine(ledger.find(ADMIN, rpc_id))), NotFound)

    def test_a_lightweight_call_of_the_same_id_is_another_one(self) -> None:
        """It is taken only after the persistent one was forgotten here: a result, and a record, are not kept for ever."""
        world = World(idempotency_window=1.0, record_recent=1)
        named = structs.replace(CALL, request_id=UUID(int=77), once=True)
        accept(world, named)
        world.clock.advance(2)
        accept(world)
        other = device(200)
        world.add(other)
        other_link = world.link(other)
        waiting = world.call(structs.replace(named, persistent=False), device_id=other.id)
        link = world.link(step=Step.WRITTEN)
        world.session(other).receive(other_link.calls[0].wire_id, b"2")
        assert result_of(waiting).payload == b"2"
        answer(world, link, 0)
        assert kept(world, UUID(int=77)).response == b"1"

    def test_cancelled_after_a_restart_the_device_that_has_it_is_told(self) -> None:
        world = World()
        world.link(step=Step.WRITTEN)
        rpc_id = accept(world)
        assert kept(world, rpc_id).record.state is CallState.SENT
        after = restarted(world)
        after.session()
        after.broker.device_changed(replace(world.device, additional_info={"rpcCancel": True}))
        link = after.link(subscribed=False)
        cancelled = result_of(after.session().cancel(kept(after, rpc_id).record, "by me"))
        assert (cancelled.cancelled, cancelled.delivered_before, cancelled.device_told) == (True, True, True)
        assert [call.rpc_id for call in link.cancelled] == [rpc_id]
