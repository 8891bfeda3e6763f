"""PendingCalls against a dict: after each step map, deadlines and fired Deferreds agree."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest
from fakes import EPOCH_MS, TENANT
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rpcbroker.core.calls import TRANSITIONS, Call, CallState, Reply, Step
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import CallFailed, Reason
from rpcbroker.core.pending import PendingCall, PendingCalls
from rpcbroker.core.records import record_of

ENDS = {CallState.SUCCESSFUL, CallState.EXPIRED, CallState.FAILED, CallState.DELETED}


class PendingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.settled: list[int] = []
        self.pending = PendingCalls(
            lambda one, reason, payload: self.settled.append(one.call.wire_id),
            lambda one: self._fail(one.call.wire_id, Step.CANCELLED, Reason.CANCELLED),
        )
        self.model: dict[int, float] = {}
        self.outcomes: dict[int, list[Any]] = {}
        self.deferreds: dict[int, Any] = {}
        self.next_id = 0

    @rule(seconds=st.floats(0.1, 30))
    def open(self, seconds: float) -> None:
        self.next_id += 1
        call = Call(
            UUID(int=self.next_id),
            self.next_id,
            TENANT,
            UUID(int=1),
            "m",
            b"{}",
            False,
            EPOCH_MS,
            EPOCH_MS,
            EPOCH_MS,
            5,
        )
        one = self.pending.open(call, record_of(call, ()))
        one.deadline = self.deadlines.after(seconds, self._expire, call.wire_id)
        outcome: list[Any] = []
        self.deferreds[self.next_id] = one.waiting
        one.waiting.addBoth(outcome.append)
        self.outcomes[self.next_id] = outcome
        self.model[self.next_id] = self.clock.seconds() + seconds

    def _expire(self, wire_id: int) -> None:
        self._fail(wire_id, Step.EXPIRED, Reason.NO_REPLY)

    def _fail(self, wire_id: int, step: Step, reason: Reason) -> None:
        self.pending.fail(wire_id, step, CallFailed("no", reason=reason))

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        wire_id = data.draw(st.integers(0, self.next_id + 1))
        assert self.pending.settle(wire_id, b"1") == (self.model.pop(wire_id, None) is not None)

    @precondition(lambda self: self.next_id)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        wire_id = data.draw(st.integers(1, self.next_id))
        self.deferreds[wire_id].cancel()
        self.model.pop(wire_id, None)

    @rule(seconds=st.floats(0, 20))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        now = self.clock.seconds()
        for wire_id, due in list(self.model.items()):
            if due + 1 / 64 <= now or (due <= now and self.pending.get(wire_id) is None):
                del self.model[wire_id]

    @rule()
    def drop(self) -> None:
        for one in self.pending:
            self._fail(one.call.wire_id, Step.CANCELLED, Reason.DISCONNECTED)
        self.model.clear()

    @invariant()
    def they_agree(self) -> None:
        assert {one.call.wire_id for one in self.pending} == set(self.model)
        for wire_id, outcome in self.outcomes.items():
            assert len(outcome) == (0 if wire_id in self.model else 1)
            if outcome and isinstance(outcome[0], Reply):
                assert outcome[0].rpc_id == UUID(int=wire_id)
        assert sorted(self.settled) == sorted(set(self.outcomes) - set(self.model))
        assert sum(map(len, self.deadlines._slots.values())) == len(self.model), "each waiting call has its deadline"

    def teardown(self) -> None:
        self.drop()
        for outcome in self.outcomes.values():
            outcome.clear()


PendingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPendingCalls = PendingMachine.TestCase


@pytest.mark.parametrize("answered", [True, False])
def test_one_that_is_cancelled_while_its_end_is_told_has_ended_once(answered: bool) -> None:
    told: list[CallState] = []

    def settled(one: PendingCall, reason: Reason | None, payload: bytes) -> None:
        told.append(one.state)
        waiting.cancel()

    pending = PendingCalls(settled, lambda one: pytest.fail("it has ended"))
    call = Call(UUID(int=1), 1, TENANT, UUID(int=1), "m", b"{}", False, EPOCH_MS, EPOCH_MS, EPOCH_MS, 5)
    waiting = cast(Deferred[Reply], pending.open(call, record_of(call, ())).waiting)
    outcome: list[Any] = []
    waiting.addBoth(outcome.append)
    if answered:
        assert pending.settle(1, b"1")
    else:
        assert pending.fail(1, Step.EXPIRED, CallFailed("no", reason=Reason.NO_REPLY))
    assert told == [CallState.SUCCESSFUL if answered else CallState.EXPIRED]
    assert [each.type for each in outcome] == [CancelledError]
    assert not pending


def test_final_states_have_no_way_out() -> None:
    assert not {state for state, _ in TRANSITIONS} & ENDS


def test_every_other_state_can_end() -> None:
    for state in {state for state, _ in TRANSITIONS}:
        assert {TRANSITIONS.get((state, step)) for step in Step} >= {CallState.SUCCESSFUL, CallState.EXPIRED}
