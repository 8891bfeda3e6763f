"""One request for many devices, through crashes and orderly ends of the broker."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from bulk_fleet import Fleet
from fakes import EPOCH_MS, Slow, error_of, result_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from rpcbroker.core.bulk import ENDED, BulkState, EntryState
from rpcbroker.core.errors import Reason
from rpcbroker.core.setting import Rate

S = EntryState


def test_after_a_crash_nobody_knows_of_running_calls_and_they_are_not_made_again() -> None:
    before = Fleet(4)
    before.begin(plan={"concurrency": 2})
    before.reply(0)
    after = Fleet(4, store=before.store, reply=b"1")
    assert after.states() == [S.SUCCESSFUL, S.UNKNOWN, S.UNKNOWN, S.SUCCESSFUL]
    assert after.called() == [0, 0, 0, 1]
    assert after.reasons() == [None, "INTERRUPTED", "INTERRUPTED", None]
    assert after.bulk().state is BulkState.DONE
    assert after.bulk().counts[S.UNKNOWN] == 2
    assert [e.ended for e in after.entries()] == [1, 2, 3, 4]


def test_after_a_start_devices_have_time_to_come_back() -> None:
    before = Fleet(3)
    before.begin(plan={"concurrency": 1}, connect_timeout=0)
    before.bulks.stop()
    after = Fleet(3, store=before.store, resume_after=10.0, reply=b"1")
    assert after.states() == [S.UNKNOWN, S.WAITING, S.WAITING]
    after.clock.advance(9.9)
    assert after.called() == [0, 0, 0]
    after.clock.advance(0.2)
    assert after.called() == [0, 1, 1]


def test_a_canary_that_nobody_knows_of_aborts_the_bulk() -> None:
    before = Fleet(4)
    before.begin(plan={"canary": 2})
    before.reply(0)
    after = Fleet(4, store=before.store, reply=b"1")
    assert after.states() == [S.SUCCESSFUL, S.UNKNOWN, S.ABORTED, S.ABORTED]
    assert after.bulk().reason == "the canary device-201 did not succeed: INTERRUPTED"


def test_canaries_that_succeeded_before_the_crash_count() -> None:
    before = Fleet(3)
    before.begin(plan={"canary": 1, "concurrency": 1})
    before.reply(0)
    after = Fleet(3, store=before.store, reply=b"1")
    assert after.states() == [S.SUCCESSFUL, S.UNKNOWN, S.SUCCESSFUL]


def test_an_aborted_bulk_ends_after_a_crash() -> None:
    before = Fleet(3)
    before.begin(plan={"concurrency": 1})
    before.abort()
    after = Fleet(3, store=before.store, reply=b"1")
    assert after.states() == [S.UNKNOWN, S.ABORTED, S.ABORTED]
    assert (after.bulk().state, after.bulk().ended_time) == (BulkState.ABORTED, EPOCH_MS)
    assert after.called() == [0, 0, 0]


def test_persistent_calls_are_followed_after_a_crash() -> None:
    before = Fleet(3)
    before.begin(persistent=True)
    before.reply(0, b"5")
    after = Fleet(3, store=before.store)
    assert after.states() == [S.SUCCESSFUL, S.RUNNING, S.RUNNING]
    assert after.called() == [0, 1, 1], "the calls themselves are given to their devices again"
    assert after.links[1].calls[0].wire_id == before.links[1].calls[0].wire_id
    after.reply(1, b"6")
    after.reply(2, b"7")
    assert [e.response for e in after.entries()] == [b"5", b"6", b"7"]
    assert after.bulk().state is BulkState.DONE


def test_a_persistent_call_whose_end_was_not_written_is_as_the_store_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Fleet(2)
    before.begin(persistent=True)
    with monkeypatch.context() as crash:
        crash.setattr(before.store.bulks, "save", lambda *_args, **_more: Deferred())
        before.reply(0, b"5")
    assert before.states() == [S.RUNNING, S.RUNNING]
    after = Fleet(2, store=before.store)
    assert after.states() == [S.SUCCESSFUL, S.RUNNING]
    assert after.entries()[0].response == b"5"
    assert after.called() == [0, 1]


def test_a_persistent_call_that_was_about_to_be_made_is_made_after_a_crash() -> None:
    before = Fleet(2)
    with Slow(before.store.bulks, "save"):
        before.create(persistent=True)
    assert before.called() == [0, 0]
    assert before.states() == [S.RUNNING, S.RUNNING]
    after = Fleet(2, store=before.store)
    assert after.called() == [1, 1]
    after.reply(0)
    after.reply(1)
    assert after.states() == [S.SUCCESSFUL] * 2


@pytest.mark.parametrize("plan", [{"concurrency": 2}, {"rate": Rate(((2, 1.0),))}], ids=["concurrency", "rate"])
def test_also_when_devices_are_given_time_to_come_back(plan: Any) -> None:
    before = Fleet(4)
    with Slow(before.store.bulks, "save"):
        before.create(persistent=True, plan=plan, timeout=60.0)
    assert before.states() == [S.RUNNING, S.RUNNING, S.WAITING, S.WAITING]
    after = Fleet(4, store=before.store, resume_after=10.0)
    assert after.states() == [S.WAITING] * 4, "those that had begun wait, too"
    assert after.bulk().counts[S.WAITING] == 4
    after.clock.pump([10.1, 1.1])
    assert after.called() == [1, 1, 1, 1]
    for number in range(4):
        after.reply(number)
    assert after.bulk().counts[S.SUCCESSFUL] == 4
    assert after.bulk().state is BulkState.DONE


def test_bulks_that_only_wait_are_stopped_at_once() -> None:
    fleet = Fleet(3, reply=b"1")
    for number in (1, 2):
        fleet.begin(bulk_id=UUID(int=number), plan={"rate": Rate(((1, 60.0),))})
    fleet.bulks.stop()
    result_of(fleet.bulks.finish())
    assert fleet.called() == [2, 0, 0]


def test_a_bulk_that_is_stopped_in_good_order_goes_on_in_the_next_process() -> None:
    before = Fleet(4)
    before.begin(plan={"concurrency": 2})
    before.bulks.stop()
    drained = before.broker.drain(5.0)
    before.reply(0)
    before.clock.advance(6)
    result_of(drained)
    result_of(before.bulks.finish())
    assert before.states() == [S.SUCCESSFUL, S.UNKNOWN, S.WAITING, S.WAITING]
    assert error_of(before.create(bulk_id=UUID(int=7))).reason is Reason.SHUTTING_DOWN
    after = Fleet(4, store=before.store, reply=b"1")
    assert after.called() == [0, 0, 1, 1]
    assert after.bulk().state is BulkState.DONE


# -- whatever happens


SIZE = 6
steps = st.one_of(
    st.tuples(st.just("reply"), st.integers(0, SIZE - 1), st.sampled_from([b"1", b'{"error":1}'])),
    st.tuples(st.just("crash"), st.booleans()),
    st.tuples(st.just("stop")),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 3.0])),
    st.tuples(st.just("abort")),
)


class Lives:
    """One broker after another on the same store. What devices saw is remembered over all of them."""

    def __init__(self, *, persistent: bool, resume_after: float, **plan: Any) -> None:
        self.resume_after = resume_after
        self.fleet = Fleet(SIZE, resume_after=resume_after)
        self.seen: list[set[int]] = [set() for _ in range(SIZE)]
        self.times = [0] * SIZE
        self.fleet.begin(plan=plan, persistent=persistent, timeout=3600.0)

    def reply(self, number: int, payload: bytes) -> None:
        if self.fleet.links[number].calls:
            self.fleet.reply(number, payload)

    def crash(self, while_writing: bool) -> None:
        if while_writing:  # what is written reaches the disk, and nobody is told
            with Slow(self.fleet.store.bulks, "save"):
                for number in range(SIZE):
                    self.reply(number, b"1")
        self.begin_again()

    def stop(self) -> None:
        self.fleet.bulks.stop()
        drained = self.fleet.broker.drain(1.0)
        self.fleet.clock.advance(2)
        result_of(drained)
        result_of(self.fleet.bulks.finish())
        self.begin_again()

    def begin_again(self) -> None:
        self.look()
        self.times = [before + len(link.calls) for before, link in zip(self.times, self.fleet.links, strict=True)]
        self.fleet = Fleet(SIZE, store=self.fleet.store, resume_after=self.resume_after)

    def wait(self, seconds: float) -> None:
        self.fleet.clock.advance(seconds)

    def abort(self) -> None:
        self.fleet.abort()

    def look(self) -> None:
        for number, link in enumerate(self.fleet.links):
            self.seen[number] |= {call.wire_id for call in link.calls}

    def check(self) -> None:
        self.look()
        assert all(len(wire_ids) <= 1 for wire_ids in self.seen), "a device has seen two calls of one bulk"
        bulk, states = self.fleet.bulk(), self.fleet.states()
        assert {state: count for state, count in bulk.counts.items() if count} == Counter(states)
        ended = [entry.ended for entry in self.fleet.entries() if entry.state in ENDED]
        assert None not in ended
        assert len(set(ended)) == len(ended)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    persistent=st.booleans(),
    resume_after=st.sampled_from([0.0, 2.0]),
    concurrency=st.integers(1, SIZE),
    canary=st.integers(0, 2),
    abort_after=st.none() | st.integers(1, 3),
    rate=st.sampled_from([Rate(()), Rate(((1, 1.0),))]),
    taken=st.lists(steps, max_size=8),
)
def test_no_device_is_called_twice_and_every_bulk_ends(taken: list[Any], persistent: bool, **plan: Any) -> None:
    lives = Lives(persistent=persistent, **plan)
    lives.check()
    for name, *arguments in taken:
        getattr(lives, name)(*arguments)
        lives.check()
    for _ in range(3 * SIZE):
        for number in range(SIZE):
            lives.reply(number, b"1")
        lives.wait(1.1)
    lives.check()
    assert lives.fleet.bulk().ended_time is not None
    assert set(lives.fleet.states()) <= ENDED
    lives.begin_again()
    assert persistent or max(lives.times) <= 1
