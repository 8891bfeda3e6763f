"""The whole life of calls, restarts included, against a model: what each device was given, when, and how each ended.

A disk may be slow or full, and a kill loses what it has not written. The model knows what was accepted, what devices
acknowledged and answered, and demands: one end for each call; no call given again but by the rule of
ARCHITECTURE.md ("Given again"), under one wire id; the order of its submit strategy; nothing kept in memory for what has ended.

Over 400 lines, for a machine is one class: each rule and each thing that must hold stands beside the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any, TypeVar, cast
from unittest.mock import patch
from uuid import UUID

import pytest
from call_model import (
    LONGEST,
    Acks,
    Disk,
    DiskState,
    DiskStore,
    Place,
    Row,
    Told,
    Way,
    emptied,
    id_of,
    payloads,
    picks,
    requests,
)
from call_polls import PollingDevices
from fakes import EPOCH_MS, TENANT, World, device, error_of, result_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from rpcbroker.core import persistent
from rpcbroker.core.calls import FINAL_STATES, Call, CallRequest, CallState, Reply, Step, SubmitStrategy
from rpcbroker.core.errors import CallFailed, Unavailable, VersionConflict
from rpcbroker.core.events import CallOpened, CallSettled
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.store.memory import MemoryDatabase

LATE = 1.5
"""Seconds that a persistent call may outlive its expiration."""
RECENT = 8
RESPONSE_TIMEOUT = 4.0
WINDOW = 4
"""In the place of that of core.persistent, for a few calls must go beyond it."""
STEP = 0.25
"""Seconds that the clock jumps at most."""
EXTENSION = 3.0
DEVICES = (
    device(100, additional_info={"rpcCancel": True}),
    device(101, additional_info={"rpcSubmitStrategy": SubmitStrategy.ON_ACK.value}),
)

DATABASE = MemoryDatabase()

Method = TypeVar("Method", bound=Callable[..., Any])


def noticed(method: Method) -> Method:
    """What is wrong is kept until the step is over: the broker survives, and logs, what its listeners raise."""

    @wraps(method)
    def look(self: CallsMachine, *args: Any) -> Any:
        try:
            return method(self, *args)
        except BaseException as error:
            self.wrong.append(error)
            raise

    return cast(Method, look)


def _wire_id(told: Told) -> int:
    assert told.wire_id is not None
    return told.wire_id


class CallsMachine(PollingDevices, RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patched = patch.object(persistent, "WINDOW", WINDOW)
        self.patched.start()
        self.numbers = count(1)
        self.order = count(1)
        self.life = 0
        self.elapsed = 0.0
        self.able_since = 0.0
        """Since when the broker runs and its disk works."""
        self.tries_again = 0.0
        """Until when it may wait before it asks a disk again that was full."""
        self.wrong: list[BaseException] = []
        self.calls: list[Told] = []
        self.by_id: dict[Any, Told] = {}
        self.database = emptied(DATABASE)
        self.disk = Disk(self.database)
        self.places = [Place(one) for one in DEVICES]
        self.start()
        for place in self.places:
            self.world.add(place.device)

    def start(self) -> None:
        """A broker on the store, at the time that it is."""
        self.life += 1
        self.able_since = self.elapsed
        self.store = DiskStore(self.database)
        self.world = World(
            store=self.store,
            record_recent=RECENT,
            min_timeout=0.0,
            response_timeout=RESPONSE_TIMEOUT,
            progress_extension=EXTENSION,
        )
        self.world.broker.events.listen(CallOpened, self.has_opened)
        self.world.broker.events.listen(CallSettled, self.has_settled)
        self.world.clock.advance(self.elapsed)

    # -- what the broker does is looked at when it does it

    @noticed
    def has_opened(self, event: CallOpened) -> None:
        told = self.by_id[event.call.rpc_id]
        assert told.opened is None, "a call begins once"
        told.opened, told.since = next(self.order), self.elapsed  # who asked may have waited for a slow disk
        self.has_wire_id(told, event.call.wire_id)
        if told.request.persistent:
            assert event.call.rpc_id in self.rows(), "a persistent call is kept before anything is done with it"

    @noticed
    def has_settled(self, event: CallSettled) -> None:
        told = self.by_id[event.call.rpc_id]
        assert told.settled is None, f"it ended as {told.settled} and again as {event.state}"
        told.settled = event.state
        if event.state is CallState.SUCCESSFUL:
            assert told.answered, "nobody answered it"
        if told.request.persistent and told.place in self.places:
            state, ended_time, *_ = self.rows()[event.call.rpc_id]
            assert (state, ended_time is None) == (event.state, False), "the end of a persistent call is kept first"

    def has_wire_id(self, told: Told, wire_id: int) -> None:
        assert told.wire_id in (None, wire_id), "a call has one wire id"
        assert told.place.seen.setdefault(wire_id, told) is told, "a wire id is used for one call of a device"
        told.wire_id = wire_id

    @noticed
    def given_to(self, way: Way, call: Call) -> Told:
        told = self.by_id[call.rpc_id]
        place = told.place
        assert told.open, "what does not wait is given to nobody"
        assert way in (place.way, place.polls), "calls go to the device that they are for, over the ways that it has"
        assert way.subscribed
        assert told.has in (None, way), "what one way has goes out on no other while that one is there"
        over = max(call.expiration_time, EPOCH_MS + 1000 * told.prolonged)
        assert self.world.now_ms() <= over + 1000 * (STEP + 1 / 64), "what is over its time is given to nobody"
        self.has_wire_id(told, call.wire_id)
        if way in told.given:
            assert way in told.again, "one way is given a call again only if the device did not acknowledge it"
            told.again.discard(way)
        if told.acknowledged is not None:
            assert told.request.persistent, "a lightweight call that was acknowledged is not given again"
            assert not told.request.oneway, "a one-way call that was acknowledged is not given again"
        self.gate(told)
        told.given.append(way)
        told.has, told.overdue = way, False
        return told

    def gate(self, told: Told) -> None:
        assert not self.in_front(told), f"{told.strategy} waits for older calls"

    def in_front(self, told: Told, *, perhaps: bool = False) -> list[Told]:
        """The older calls that this one must wait for; `perhaps` it may also for those that began to wait after it."""
        if told.strategy is SubmitStrategy.BURST:
            return []
        assert told.opened is not None
        older = [
            one
            for one in self.calls
            if one.place is told.place and one.open and one.wire_id < told.wire_id
            if perhaps or one.opened < told.opened
        ]
        if told.strategy is SubmitStrategy.ON_ACK:
            return [one for one in older if one.acknowledged is None]
        return older

    def rows(self) -> dict[UUID, Row]:
        return self.store.rows()

    # -- callers

    @rule(pick=picks, request=requests, expires=st.sampled_from((None, None, None, -1.0, 0.5, 20.0)))
    def submit(self, pick: int, request: CallRequest, expires: float | None) -> None:
        number = next(self.numbers)
        expiration = None if expires is None else self.world.now_ms() + int(expires * 1000)
        request = structs.replace(request, request_id=id_of(number), expiration_time=expiration)
        self.ask(Told(request, self.places[pick % len(self.places)], self.life, self.elapsed))

    def ask(self, told: Told) -> None:
        self.calls.append(told)
        self.by_id[told.request.request_id] = told
        self.join(told)

    def join(self, told: Told) -> list[Any]:
        """One more caller."""
        outcome: list[Any] = []
        told.callers.append(outcome)
        life = self.life

        waiting = self.world.call(told.request, device_id=told.place.device.id)
        told.waiting.append(waiting)
        waiting.addBoth(outcome.append).addCallback(lambda _: self.is_told(told, outcome[0], life))
        return outcome

    @noticed
    def is_told(self, told: Told, result: Any, life: int) -> None:
        assert life == self.life, "the dead say nothing"
        if isinstance(result, Reply):
            assert result.rpc_id == told.request.request_id
            if told.request.persistent:
                told.accepted = True
                assert result.rpc_id in self.rows(), "who is told that a call is kept can rely on it"
        else:
            assert isinstance(result.value, CallFailed | Unavailable | CancelledError), result

    @rule(pick=picks, first=requests, others=st.lists(requests, min_size=1, max_size=6))
    def submit_many(self, pick: int, first: CallRequest, others: list[CallRequest]) -> None:
        for request in (first, *others):
            self.submit(pick, request, None)

    @precondition(lambda self: self.calls)
    @rule(pick=picks, other=st.booleans())
    def ask_again(self, pick: int, other: bool) -> None:
        told = self.calls[pick % len(self.calls)]
        if not told.request.once or self.by_id[told.request.request_id] is not told or told.place not in self.places:
            return
        if other:
            if told.open and self.disk.state is not DiskState.SLOW:
                wrong = structs.replace(told.request, method="other")
                error = error_of(self.world.call(wrong, device_id=told.place.device.id))
                assert isinstance(error, VersionConflict | Unavailable), error
        elif told.open or told.accepted:
            self.join(told)
        elif told.lost and not told.request.persistent:
            self.ask(Told(told.request, told.place, self.life, self.elapsed))

    @precondition(lambda self: self.calls)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        """A caller hangs up. Only a lightweight call that has no requestUUID ends by that."""
        told = self.calls[pick % len(self.calls)]
        if told.lost or told.callers[-1:] != [[]]:
            return
        goes_on = told.request.once or told.request.persistent
        before = told.open
        told.waiting[-1].cancel()
        assert told.callers[-1], "who leaves does not wait"
        if before:
            assert told.open == goes_on

    @precondition(lambda self: self.calls)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        told = self.calls[pick % len(self.calls)]
        record = self.world.broker.recorder.find(TENANT, told.request.request_id)
        if told.lost or told.place not in self.places or record is None:
            return
        was_open, was_given = told.open, bool(told.given)
        done = Deferred.fromCoroutine(self.cancelled(told, record))
        if not self.disk.settled:
            done.addErrback(lambda failure: failure.trap(Unavailable))
            return
        answer = result_of(done)
        assert answer.cancelled == was_open
        if was_open:
            assert told.settled is CallState.DELETED
            assert answer.delivered_before == was_given or told.life != self.life
            ways = (told.place.way, told.place.polls)
            heard = any(way is not None and told.wire_id in way.cancelled for way in ways)
            assert answer.device_told == heard
            assert not heard or told.place.device.hears_cancel

    async def cancelled(self, told: Told, record: Any) -> Any:
        return await self.session(told.place).cancel(record, "by admin@example.org")

    # -- devices

    def session(self, place: Place) -> DeviceSession:
        with self.disk.past_the_queue():
            return self.world.session(place.device)

    @rule(
        pick=picks,
        acks=st.sampled_from(Acks),
        replies=st.booleans(),
        how=st.sampled_from((None, None, "full", "breaks")),
    )
    def connect(self, pick: int, acks: Acks, replies: bool, how: str | None) -> None:
        place = self.places[pick % len(self.places)]
        before, place.way = (
            place.way,
            Way(self.session(place), acks, replies, self.given_to, how == "full", how == "breaks"),
        )
        if before is not None:
            self.gone(before)
            self.shelved(place, before)
        place.way.session.attach(place.way)
        self.subscribe(pick)

    def at(self, pick: int) -> tuple[Place, Way | None]:
        place = self.places[pick % len(self.places)]
        way = place.way
        return place, None if way is None or way.closed else way

    @rule(pick=picks)
    def subscribe(self, pick: int) -> None:
        _, way = self.at(pick)
        if way is not None:
            way.subscribed = True
            way.session.subscribe(way)

    @rule(pick=picks)
    def unsubscribe(self, pick: int) -> None:
        _, way = self.at(pick)
        if way is not None:
            way.subscribed = False
            for told in self.calls:
                if told.request.persistent and way in told.given:
                    told.again.add(way)  # who subscribes again is given all that it has not answered again
            self.shelved(self.places[pick % len(self.places)], way)
            way.session.unsubscribe(way, "unsubscribed")

    @rule(pick=picks)
    def disconnect(self, pick: int) -> None:
        place, way = self.at(pick)
        if way is not None:
            place.way = None
            way.subscribed = False
            self.gone(way)
            self.shelved(place, way)
            way.session.detach(way, "lost")

    @rule(pick=picks)
    def takes_more(self, pick: int) -> None:
        _, way = self.at(pick)
        if way is not None and way.full:
            way.full = False
            way.session.resume(way)

    def one_of(self, pick: int, which: int) -> tuple[Way, Told] | None:
        """A call that a connected device was given once, on this way or another, in this life or another."""
        place, way = self.at(pick)
        way = way or place.polls
        known = [told for told in place.seen.values() if told.given]
        return (way, known[which % len(known)]) if way is not None and known else None

    @rule(pick=picks, which=picks, in_time=st.booleans())
    def acknowledge(self, pick: int, which: int, in_time: bool) -> None:
        """The device acknowledges what it was given over this way, or the link gives up waiting for that."""
        found = self.one_of(pick, which)
        if found is None or found[1].given[-1] is not found[0]:
            return
        way, told = found
        if told.acknowledged is not None or way.acks is Acks.AT_ONCE or way.transient:
            return
        if in_time:
            way.acknowledge(told)
        else:
            told.again.add(way)
            told.has, told.overdue = None, True
            way.session.report(told.wire_id, Step.UNACKNOWLEDGED)

    @rule(pick=picks, which=picks, payload=payloads, good=st.booleans())
    def reply(self, pick: int, which: int, payload: bytes, good: bool) -> None:
        """In time, late, or once more."""
        found = self.one_of(pick, which)
        if found is None:
            return
        way, told = found
        was_open, there = told.open, way.session.calls.get(told.wire_id)
        ending = there is not None and there.ending is not None  # by something else, and it will be written again
        said = way.reply(told, payload) if good else way.reply_badly(told)
        if self.disk.settled and not ending:
            assert len(said) == 1
            assert said[0] == was_open
            if was_open:
                assert told.settled is (CallState.SUCCESSFUL if good or told.request.persistent else CallState.FAILED)
        elif not was_open and said:
            assert said[0] is False or isinstance(said[0], Failure)

    @rule(pick=picks, which=picks)
    def progress(self, pick: int, which: int) -> None:
        found = self.one_of(pick, which)
        if found is not None and self.is_at_hand(found[1]):
            way, told = found
            was_open, told.prolonged = told.open, self.elapsed + EXTENSION
            if told.open and told.acknowledged is None:
                told.acknowledged = self.elapsed  # it must have it
            heard = Way.said(way.session.progress(told.wire_id, b"50"))
            assert heard != [True] or was_open

    @rule(pick=picks)
    def delete_device(self, pick: int) -> None:
        """Another comes in its place."""
        if not self.disk.settled:
            return
        index = pick % len(self.places)
        place = self.places[index]
        self.places[index] = Place(device(next(self.numbers) + 1000, additional_info=place.device.additional_info))
        for told in self.calls:
            if told.place is place and told.request.persistent:
                told.lost = True
        assert result_of(self.store.delete_device(place.device.id))
        self.world.broker.device_deleted(place.device.id)
        self.world.add(self.places[index].device)
        for told in self.calls:
            if told.place is place:
                assert not told.open, "nothing waits for a device that is gone"
                told.lost = True

    # -- the world

    @rule(seconds=st.sampled_from((0.0, 1 / 64, 0.1, 0.6, 1.0, 2.1, 5.0, 11.0, 65.0)))
    def tick(self, seconds: float) -> None:
        """In small steps, for the clock of the tests jumps over what a real one would do on the way."""
        end = self.elapsed + seconds
        while self.elapsed < end:
            step = min(STEP, end - self.elapsed)
            self.elapsed += step
            self.world.clock.advance(step)

    @rule(state=st.sampled_from(DiskState))
    def disk_becomes(self, state: DiskState) -> None:
        self.disk.state = state
        if state is not DiskState.SLOW:
            self.commit()

    @rule()
    def commit(self) -> None:
        self.disk.commit()

    @rule(away=st.sampled_from((0.0, 1.0, 70.0)), kill=st.booleans())
    def restart(self, away: float, kill: bool) -> None:
        if not kill:
            drained = self.world.broker.drain(0.0)
            self.tick(1.0)
            self.disk.state = DiskState.WELL
            self.commit()
            assert drained.called
        self.disk.kill()
        for told in self.calls:
            if not told.request.persistent or (told.request.request_id not in self.rows()):
                assert kill or told.request.persistent or not told.open, "a stop fails what it cannot finish"
                assert told.lost or not told.accepted, "lost"
                told.lost = told.lost or told.settled is None
        for place in self.places:
            place.way = place.polls = None
        for told in self.calls:
            told.has = None
            told.callers = [outcome for outcome in told.callers if outcome]  # the others have died with it
        self.elapsed += away
        self.start()
        rows = self.rows()
        for told in self.calls:
            row = rows.get(told.request.request_id)
            if row is not None and row.unacknowledged:
                told.acknowledged = None  # which was not written
            if row is not None and told.opened is None:  # its row was written, and nobody was told any more
                told.opened = next(self.order)
                told.settled = None if row.ended_time is None else row.state

    # -- what holds after each step

    @invariant()
    def nothing_was_wrong(self) -> None:
        if self.wrong:
            raise self.wrong[0]

    @invariant()
    def an_end_is_one(self) -> None:
        rows = self.rows()
        for told in self.calls:
            row = rows.get(told.request.request_id)
            if not told.request.persistent or told.place not in self.places:
                continue
            if row is None:
                assert not told.accepted, "an accepted call is there"
                continue
            state, ended_time, wire_id, _ = row
            self.has_wire_id(told, wire_id)
            ended = ended_time is not None
            assert ended or state not in FINAL_STATES
            assert not ended or state in FINAL_STATES or (state is CallState.DELIVERED and told.request.oneway)
            if ended:
                assert told.final in (None, row), "a final state stays"
                told.final = row
            else:
                assert told.final is None
                assert told.settled is None

    @invariant()
    def nothing_outlives_its_time(self) -> None:
        if not self.disk.settled:
            self.able_since = self.elapsed
            if self.disk.state is DiskState.FULL:
                self.tries_again = self.elapsed + LATE
            return
        latest = self.world.now_ms() - LATE * 1000
        if latest > EPOCH_MS + self.able_since * 1000:
            for row in self.rows().values():
                assert row.ended_time is not None or row.expiration_time > latest
        for told in self.calls:
            if told.open and not told.request.persistent:
                latest = max(told.since + (told.request.timeout or 0.0), told.prolonged)
                if told.request.expiration_time is None:
                    assert self.elapsed <= latest + 1 / 16

    @invariant()
    def what_can_be_given_was_given(self) -> None:
        if not self.disk.settled or self.elapsed < self.tries_again:
            return
        for place in self.places:
            ways = [way for way in (place.way, place.polls) if way is not None and way.subscribed and not way.full]
            if not ways:
                continue
            if place.device.id in self.world.broker.persistent._to_load:
                continue  # they follow in a moment
            waiting = sorted((told for told in self.calls if told.place is place and told.open), key=_wire_id)
            window = [told for told in waiting if told.request.persistent][:WINDOW]
            for told in waiting:
                if (told in window or not told.request.persistent) and not self.in_front(told, perhaps=True):
                    again = told.request.persistent or told.acknowledged is None
                    held = place.polls is not None and place.polls.holds(told)
                    assert not again or told.has or told.overdue or held, (
                        f"nothing is in its way, and the device does not have it: {told.summary}"
                    )

    @invariant()
    def memory_is_bounded(self) -> None:
        broker = self.world.broker
        assert len(broker.recorder) <= RECENT
        if self.disk.settled:
            persistent = [told for told in self.calls if told.request.persistent and told.open]
            assert broker.persistent._waiting == Counter(told.place.device.id for told in persistent)
        assert broker.persistent._behind.keys() <= {place.device.id for place in self.places}
        for place in self.places:
            session = broker._sessions.get(place.device.id)
            loose = (
                2 if self.disk.settled else 2 + len(self.calls)
            )  # of a wire id that a device spoke of, or that expires
            assert session is None or session.calls.kept <= WINDOW + loose
        if not any(told.open for told in self.calls):
            self.nothing_is_left()

    def nothing_is_left(self) -> None:
        assert self.world.broker.pending_count == 0

    def teardown(self) -> None:
        """All that still waits gets its chance, and all that then waits gets its end."""
        try:
            self.come_to_an_end()
        finally:
            self.patched.stop()

    def come_to_an_end(self) -> None:
        self.disk.state = DiskState.WELL
        self.commit()
        for number in range(len(self.places)):
            self.connect(number, Acks.AT_ONCE, True, None)
        self.tick(4 * LONGEST)
        self.nothing_was_wrong()
        for told in self.calls:
            assert not told.open
            assert told.lost or all(told.callers), "each caller is told"
        self.nothing_is_left()
        for told in self.calls:
            for outcome in told.callers:
                outcome.clear()


class LongMachine(CallsMachine):
    """The same, for many more lives."""


often = settings(max_examples=60, stateful_step_count=40, deadline=None)
CallsMachine.TestCase.settings = often
LongMachine.TestCase.settings = settings(often, max_examples=2_000)
TestCalls = CallsMachine.TestCase
TestCallsForLong = pytest.mark.soak(LongMachine.TestCase)
