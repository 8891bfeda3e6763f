"""The calls that wait for one device: wire id -> the Deferred of who waits. One way in, one way out.

`open` comes before `deliver`, for a link may answer inside `deliver`. What is late or unknown is
told by a False, never by an exception. Cancelling the Deferred takes the call out.

Nobody waits for a persistent call: its end is written first, and then it leaves by `close`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import TRANSITIONS, UNACKNOWLEDGED_STATES, Call, CallState, Reply, Step
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import CallFailed, Reason
from rpcbroker.core.ports import Link
from rpcbroker.core.records import CallRecord, KeptCall

Progress = Callable[[bytes], object]
"""Is told each interim answer, as JSON text."""


class PendingCall(msgspec.Struct, eq=False):
    """A call that waits, its record, and what will end the wait."""

    call: Call
    record: CallRecord
    waiting: Deferred[Reply] | None = None
    kept: KeptCall | None = None
    """Of a persistent call, for which nobody waits."""
    since: float = 0.0
    """Seconds on the clock of whoever opened it."""
    unacknowledged: int = 0
    given_to: Link | None = None
    deadline: Deadline | None = None
    patience: Deadline | None = None
    """Ends the wait for what comes next: a link that can take it, or a reply that others wait behind."""
    progress: Progress | None = None
    ending: list[Deferred[bool]] | None = None
    """How it ends is known and being written; these are told when it is."""

    @property
    def state(self) -> CallState:
        return self.record.state

    @property
    def needs_delivery(self) -> bool:
        """Whether a new link is given it: lightweight until it is acknowledged, persistent until it ends."""
        return self.ending is None and (self.kept is not None or self.record.state in UNACKNOWLEDGED_STATES)

    def advance(self, step: Step) -> bool:
        """Go where the table says; False, and stay, if it has no such way."""
        state = TRANSITIONS.get((self.record.state, step))
        if state is None:
            return False
        self.record.state = state
        return True

    def stop_waiting(self) -> None:
        """Whatever comes next, nobody is impatient for it."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None


Settled = Callable[[PendingCall, Reason | None, bytes], object]


class PendingCalls:
    """All that wait for one device, oldest first."""

    __slots__ = ("_caller_left", "_calls", "_settled", "get")

    def __init__(self, settled: Settled, caller_left: Callable[[PendingCall], object]) -> None:
        """`settled(pending, reason, payload)` is told when a call has ended, before its Deferred fires.

        `caller_left(pending)` is called when a Deferred is cancelled, and has to end the call.
        """
        self._calls: dict[int, PendingCall] = {}
        self.get: Callable[[int], PendingCall | None] = self._calls.get
        """The call of that wire id, if it waits."""
        self._settled = settled
        self._caller_left = caller_left

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall]:
        """Over a copy: what is done with one may end another."""
        return iter(tuple(self._calls.values()))

    def count(self, by_state: Counter[CallState]) -> None:
        """Add how many wait in which state."""
        for pending in self._calls.values():
            by_state[pending.state] += 1

    def open(self, call: Call, record: CallRecord) -> PendingCall:
        """Let `call` wait. Its wire id must be free."""
        assert call.wire_id not in self._calls
        wire_id = call.wire_id
        waiting: Deferred[Reply] = Deferred(lambda _: self._cancelled(wire_id))
        pending = self._calls[wire_id] = PendingCall(call, record, waiting)
        return pending

    def _cancelled(self, wire_id: int) -> None:
        pending = self._calls.get(wire_id)
        if pending is not None:  # or it has ended, and `settled` is being told
            self._caller_left(pending)

    def admit(self, kept: KeptCall) -> PendingCall:
        """Let a persistent call wait, in its place among the others. Its wire id must be free."""
        call = kept.call
        assert call.wire_id not in self._calls
        newest = next(reversed(self._calls), 0)
        pending = self._calls[call.wire_id] = PendingCall(
            call, kept.record, kept=kept, unacknowledged=kept.unacknowledged
        )
        if call.wire_id < newest:
            ordered = sorted(self._calls.items())
            self._calls.clear()
            self._calls.update(ordered)
        return pending

    def settle(self, wire_id: int, payload: bytes) -> bool:
        """The device replied. False if nobody waits for that."""
        return self._end(wire_id, Step.REPLIED, None, payload) is not None

    def hand_over(self, wire_id: int) -> bool:
        """Nobody waits for more: the one-way call is with the device. Its state stays as it is."""
        return self._end(wire_id, None, None, b"") is not None

    def fail(self, wire_id: int, step: Step, error: CallFailed) -> bool:
        """The call ends without a reply. False if it does not wait."""
        return self._end(wire_id, step, error, b"") is not None

    def close(self, pending: PendingCall) -> None:
        """Take it out, and tell nobody."""
        self._calls.pop(pending.call.wire_id, None)
        if pending.patience is not None:
            pending.stop_waiting()
        if pending.deadline is not None:
            pending.deadline.cancel()

    def _end(self, wire_id: int, step: Step | None, error: CallFailed | None, payload: bytes) -> PendingCall | None:
        pending = self._calls.get(wire_id)
        if pending is None or pending.waiting is None:
            return None
        self.close(pending)
        if step is not None:
            pending.advance(step)
        self._settled(pending, error.reason if error else None, payload)
        if pending.waiting.called:  # whom `settled` told has cancelled it
            return pending
        rpc_id = pending.call.rpc_id
        if error is None:
            pending.waiting.callback(Reply(rpc_id, payload))
        else:
            error.rpc_id = rpc_id
            pending.waiting.errback(error)
        return pending
