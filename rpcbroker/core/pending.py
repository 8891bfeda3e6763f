"""The calls that wait for one device: wire id -> the Deferred of who waits. One way in, one way out.

`open` comes before `deliver`, for a link may answer inside `deliver`. What is late or unknown is
told by a False, never by an exception. Cancelling the Deferred takes the call out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred

from rpcbroker.core.calls import TRANSITIONS, Call, CallState, Reply, Step
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import CallCancelled, CallFailed, Reason
from rpcbroker.core.ports import Link


class PendingCall:
    """A call that waits, its state, and what will end the wait."""

    __slots__ = ("call", "connect_deadline", "deadline", "given_to", "since", "state", "unacknowledged", "waiting")

    def __init__(self, call: Call, waiting: Deferred[Reply]) -> None:
        self.call = call
        self.waiting = waiting
        self.since = 0.0
        """Seconds on the clock of whoever opened it."""
        self.state = CallState.QUEUED
        self.unacknowledged = 0
        self.given_to: Link | None = None
        self.deadline: Deadline | None = None
        self.connect_deadline: Deadline | None = None

    def advance(self, step: Step) -> bool:
        """Go where the table says; False, and stay, if it has no such way."""
        state = TRANSITIONS.get((self.state, step))
        if state is None:
            return False
        self.state = state
        return True


Settled = Callable[[PendingCall, Reason | None, bytes], object]


class PendingCalls:
    """All that wait for one device, oldest first."""

    __slots__ = ("_calls", "_settled")

    def __init__(self, settled: Settled) -> None:
        """`settled(pending, reason, payload)` is told when a call has ended, before its Deferred fires."""
        self._calls: dict[int, PendingCall] = {}
        self._settled = settled

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall]:
        """Over a copy: what is done with one may end another."""
        return iter(tuple(self._calls.values()))

    def count(self, by_state: Counter[CallState]) -> None:
        """Add how many wait in which state."""
        for pending in self._calls.values():
            by_state[pending.state] += 1

    def get(self, wire_id: int) -> PendingCall | None:
        return self._calls.get(wire_id)

    def open(self, call: Call) -> PendingCall:
        """Let `call` wait. Its wire id must be free."""
        assert call.wire_id not in self._calls
        wire_id = call.wire_id
        waiting: Deferred[Reply] = Deferred(lambda _: self._cancel(wire_id))
        pending = self._calls[wire_id] = PendingCall(call, waiting)
        return pending

    def settle(self, wire_id: int, payload: bytes) -> bool:
        """The device replied. False if nobody waits for that."""
        pending = self._close(wire_id, Step.REPLIED, None, payload)
        if pending is None:
            return False
        pending.waiting.callback(Reply(pending.call.rpc_id, payload))
        return True

    def hand_over(self, wire_id: int) -> bool:
        """Nobody waits for more: the one-way call is with the device. Its state stays as it is."""
        pending = self._close(wire_id, None, None, b"")
        if pending is None:
            return False
        pending.waiting.callback(Reply(pending.call.rpc_id))
        return True

    def fail(self, wire_id: int, step: Step, error: CallFailed) -> bool:
        """The call ends without a reply. False if it does not wait."""
        pending = self._close(wire_id, step, error.reason, b"")
        if pending is None:
            return False
        error.rpc_id = pending.call.rpc_id
        pending.waiting.errback(error)
        return True

    def fail_all(self, step: Step, make_error: Callable[[], CallFailed]) -> None:
        """None of them will be answered."""
        for pending in self:
            self.fail(pending.call.wire_id, step, make_error())

    def _cancel(self, wire_id: int) -> None:
        self.fail(wire_id, Step.CANCELLED, CallCancelled("The caller left", reason=Reason.CANCELLED))

    def _close(self, wire_id: int, step: Step | None, reason: Reason | None, payload: bytes) -> PendingCall | None:
        pending = self._calls.pop(wire_id, None)
        if pending is None:
            return None
        if step is not None:
            pending.advance(step)
        for deadline in (pending.deadline, pending.connect_deadline):
            if deadline is not None:
                deadline.cancel()
        self._settled(pending, reason, payload)
        return pending
