"""The calls of one device that are in memory: their deadlines, and how they end.

A lightweight call ends at once, and who waits for it is told. The end of a persistent one is written first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.calls import TRANSITIONS, Call, CallState, Step, SubmitStrategy
from rpcbroker.core.errors import CallCancelled, CallFailed, Reason
from rpcbroker.core.events import CallSettled
from rpcbroker.core.links import Links
from rpcbroker.core.pending import PendingCall, PendingCalls, Progress
from rpcbroker.core.records import CallRecord, KeptCall, Mark
from rpcbroker.core.surroundings import Surroundings

AGAIN = 1.0
"""Seconds until the end of a persistent call, which could not be written, is written again."""
_WORDS_OF_THE_WIRE = {
    Reason.NO_ACK: "There was a Timeout and all retry attempts have been exhausted. Retry attempts set: {max_retries}",
    Reason.NO_REPLY: "There was a timeout awaiting for RPC response from device.",
}
"""What persistent calls that failed have as their response."""


class DeviceCalls:
    """All calls that wait for one device in memory, oldest first."""

    __slots__ = ("_around", "_ended", "_links", "_pending", "get", "kept", "lightweight", "sequential")

    def __init__(
        self,
        around: Surroundings,
        links: Links,
        *,
        ended: Callable[[], object],
        caller_left: Callable[[PendingCall], object],
    ) -> None:
        """`ended` is told after a call has ended, if there are sequential ones; `caller_left(pending)` has to end a
        call that nobody waits for."""
        self._around = around
        self._links = links
        self._ended = ended
        self._pending = PendingCalls(self._settled, caller_left)
        self.get = self._pending.get
        self.kept = 0
        """Persistent ones."""
        self.lightweight = 0
        """The others."""
        self.sequential = 0
        """Those that wait for older ones."""

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[PendingCall]:
        """Over a copy: what is done with one may end another."""
        return iter(self._pending)

    def __contains__(self, pending: PendingCall) -> bool:
        """Whether it has not ended."""
        return self._pending.get(pending.call.wire_id) is pending

    def record(self, rpc_id: UUID) -> CallRecord | None:
        """The record of that call, if it is here."""
        return next((each.record for each in self if each.call.rpc_id == rpc_id), None)

    def ahead(self, pending: PendingCall) -> int:
        """How many are older."""
        return next((number for number, each in enumerate(self._pending) if each is pending), 0)

    def count(self, by_state: Counter[CallState]) -> None:
        """Add how many wait in which state."""
        self._pending.count(by_state)

    # -- how they begin

    def open(self, call: Call, record: CallRecord, progress: Progress | None) -> PendingCall:
        """A new lightweight call."""
        pending = self._pending.open(call, record)
        pending.progress = progress
        pending.since = self._around.seconds()
        self.lightweight += 1
        self._added(pending, call.created_time)
        return pending

    def adopt(self, kept: KeptCall) -> PendingCall:
        """A persistent call comes into memory."""
        pending = self._pending.admit(kept)
        self.kept += 1
        self._added(pending, self._around.now_ms())
        return pending

    def _added(self, pending: PendingCall, now: int) -> None:
        if pending.call.strategy is not SubmitStrategy.BURST:
            self.sequential += 1
        self._set_deadline(pending, now)

    # -- how they go on

    def keep(self, pending: PendingCall) -> None:
        """It went on; of a persistent call that is written, a little later."""
        kept = pending.kept
        if kept is not None:
            kept.unacknowledged = pending.unacknowledged
            kept.due_time = pending.record.expiration_time
            self._around.persistence.advance(kept)

    def prolong(self, pending: PendingCall, until: int) -> None:
        """It ends at `until` (epoch ms) at the earliest, as far as its caller allows."""
        until = min(until, pending.call.latest_time)
        if until > pending.record.expiration_time:
            pending.record.expiration_time = until
            assert pending.deadline is not None
            pending.deadline.cancel()
            self._set_deadline(pending, self._around.now_ms())

    def await_link(self, pending: PendingCall, seconds: float) -> None:
        """Something must be able to take it in so many seconds."""
        pending.patience = self._around.deadlines.after(seconds, self._connect_expire, pending.call.wire_id)

    def await_reply(self, pending: PendingCall) -> None:
        """Others wait until this call has ended: not for ever."""
        pending.stop_waiting()
        if pending.state is CallState.DELIVERED:
            timeout = self._around.settings().response_timeout
            pending.patience = self._around.deadlines.after(timeout, self._reply_overdue, pending.call.wire_id)

    def _set_deadline(self, pending: PendingCall, now: int) -> None:
        left = (pending.record.expiration_time - now) / 1000
        pending.deadline = self._around.deadlines.after(left, self._expire, pending.call.wire_id)

    def _expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.ending is None:
            self.fail(pending, Step.EXPIRED, self._links.no_answer(pending.state))

    def _connect_expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.state is CallState.QUEUED and not self._links.callable:
            self.fail(pending, Step.EXPIRED, self._links.no_connection())

    def _reply_overdue(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.ending is None:
            self.fail(pending, Step.FAILED, self._links.no_reply())

    # -- how they end

    def settle(self, wire_id: int, payload: bytes) -> bool:
        """The device replied. False if no lightweight call waits for that."""
        return self._pending.settle(wire_id, payload)

    def hand_over(self, pending: PendingCall) -> None:
        """The one-way call is with the device."""
        if pending.kept is None:
            self._pending.hand_over(pending.call.wire_id)
        else:
            self.end_kept(pending, None).addErrback(_ignore)

    def expire(self, pending: PendingCall) -> Deferred[bool]:
        """A persistent call is over its time; as `end_kept`."""
        return self.end_kept(pending, Step.EXPIRED, reason=self._links.no_answer(pending.state).reason)

    def fail(self, pending: PendingCall, step: Step, error: CallFailed) -> None:
        """It ends without a reply."""
        if pending.kept is None:
            self._pending.fail(pending.call.wire_id, step, error)
            return
        response = None
        if step is Step.FAILED:
            words = _WORDS_OF_THE_WIRE.get(error.reason)  # type: ignore[arg-type]
            text = words.format(max_retries=pending.call.max_retries) if words else error.message
            response = jsontext.encode({"error": text})
        self.end_kept(pending, step, reason=error.reason, response=response).addErrback(_ignore)

    def _settled(self, pending: PendingCall, reason: Reason | None, payload: bytes) -> None:
        """A lightweight call has ended; who waits for it is told next."""
        self.lightweight -= 1
        pending.record.end(self._around.now_ms(), reason, payload)
        if pending.call.strategy is not SubmitStrategy.BURST:
            self.sequential -= 1
        self._announce(pending, reason, payload)

    def _announce(self, pending: PendingCall, reason: Reason | None, payload: bytes) -> None:
        around, link, call = self._around, pending.given_to, pending.call
        transport = None if link is None else link.protocol
        if pending.kept is None:
            seconds = around.seconds() - pending.since
        else:
            seconds = (around.now_ms() - call.created_time) / 1000
        record = pending.record
        around.events.emit(CallSettled, call, record, record.state, reason, payload, transport, seconds)
        if self.sequential:
            self._ended()

    def end_kept(
        self, pending: PendingCall, step: Step | None, *, reason: Reason | None = None, response: bytes | None = None
    ) -> Deferred[bool]:
        """Write the end of a persistent call; then it has ended. Without a step it ends in the state in which it is.

        What fires tells whether it ended by this, or, if it was replied to meanwhile, by what ended it before; False if
        it is gone. It fails with Unavailable if the store cannot keep it now; that is tried again.
        """
        if pending.ending is not None:  # how it ends is decided already
            return self.ended(pending) if step is Step.REPLIED else succeed(False)
        told: Deferred[bool] = Deferred()
        pending.ending = [told]
        record, kept = pending.record, pending.kept
        assert kept is not None
        state = record.state if step is None else TRANSITIONS[record.state, step]
        ended = msgspec.structs.replace(record, state=state)
        ended.end(self._around.now_ms(), reason, response or b"")
        kept = msgspec.structs.replace(kept, record=ended, response=response, unacknowledged=pending.unacknowledged)
        pending.stop_waiting()
        self._write_end((pending, kept))
        return told

    def ended(self, pending: PendingCall) -> Deferred[bool]:
        """Fires when the end of a persistent call, which is known, is written; as `end_kept`."""
        told: Deferred[bool] = Deferred()
        assert pending.ending is not None
        pending.ending.append(told)
        return told

    def _write_end(self, end: tuple[PendingCall, KeptCall]) -> None:
        pending, kept = end

        def written(changed: bool) -> None:
            told, pending.record = pending.ending or (), kept.record
            self.forget(pending)
            if changed:
                self._announce(pending, kept.record.reason, kept.response or b"")
            elif self.sequential:
                self._ended()  # others need not wait for it
            self._around.persistence.refill(self._links.device.id)
            for each in told:
                each.callback(changed)

        def failed(failure: Failure) -> None:
            told, pending.ending = pending.ending or (), []
            self._around.deadlines.after(AGAIN, self._write_end, end)
            for each in told:
                each.errback(failure)

        self._around.persistence.end(kept).addCallbacks(written, failed)

    def forget(self, pending: PendingCall) -> None:
        """A persistent call leaves memory."""
        if self._pending.get(pending.call.wire_id) is pending:
            self._pending.close(pending)
            self.kept -= 1
            if pending.call.strategy is not SubmitStrategy.BURST:
                self.sequential -= 1

    def end_all(self, message: str, reason: Reason) -> None:
        """Nothing more will happen here: fail all lightweight calls; persistent ones have the store."""
        for pending in self._pending:
            if pending.kept is not None:
                self.forget(pending)
            else:
                pending.record.note(self._around.now_ms(), Mark.CANCELLED, f"for {message[0].lower()}{message[1:]}")
                self._pending.fail(pending.call.wire_id, Step.CANCELLED, CallCancelled(message, reason=reason))


def _ignore(_: Failure) -> None:
    """It is in the log, and tried again."""
