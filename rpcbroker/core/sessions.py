"""The broker's side of one device: its links, and the calls that wait for it. It outlives connections.

A little over 400 lines: what can happen to a call stands in one place. How the device can be reached, and what is said
when it cannot, is in `links`; what is in the store only, in `persistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.calls import (
    TRANSITIONS,
    UNACKNOWLEDGED_STATES,
    Call,
    CallState,
    Cancellation,
    Reply,
    Step,
    SubmitStrategy,
)
from rpcbroker.core.census import Census
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BadReply, CallCancelled, CallFailed, CallTimeout, QueueFull, Reason
from rpcbroker.core.events import CallAdvanced, CallOpened, CallProgressed, CallRefused, CallSettled, EventBus
from rpcbroker.core.links import Links
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import Missed, NearMiss
from rpcbroker.core.pending import PendingCall, PendingCalls, Progress
from rpcbroker.core.ports import CloseReason, Link
from rpcbroker.core.presence import Presence
from rpcbroker.core.records import CallRecord, KeptCall, Mark, is_device_error
from rpcbroker.core.settings import RpcSettings
from rpcbroker.core.wire_ids import WireIds

ENDED_AGAIN = 1.0
"""Seconds until the end of a persistent call, which could not be written, is written again."""
_IDLE, _GIVING, _AND_AGAIN = range(3)


class Persistence(Protocol):
    """What a session asks of the store of persistent calls."""

    def more(self, device_id: UUID) -> bool:
        """Whether calls of the device wait in the store that are not in memory."""

    def refill(self, session: DeviceSession) -> None:
        """Bring those that are due into memory, if there is room: `session.admit` is called for each."""

    def load(self, session: DeviceSession, wire_id: int) -> Deferred[PendingCall | None]:
        """The one of that wire id, in memory from now on; None if there is none that waits."""

    def shelved(self, device_id: UUID) -> None:
        """Calls of the device were put out of memory."""

    def advance(self, kept: KeptCall) -> None: ...

    def end(self, kept: KeptCall) -> Deferred[bool]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sessions share.

    `now_ms` is the wall clock in epoch ms, `seconds` the clock of the deadlines; `settings` are asked
    for at each call, for they may change.
    """

    now_ms: Callable[[], int]
    seconds: Callable[[], float]
    deadlines: Deadlines
    wire_ids: WireIds
    events: EventBus
    settings: Callable[[], RpcSettings]
    persistence: Persistence


class DeviceSession:
    """One device, as the broker sees it."""

    __slots__ = ("_around", "_giving", "_last_wire_id", "_links", "_pending", "_sequential", "kept")

    def __init__(self, device: Device, presence: Presence, around: Surroundings) -> None:
        self._around = around
        self._links = Links(device, presence, now_ms=around.now_ms, events=around.events)
        self._pending = PendingCalls(self._settled, self._caller_left)
        self._last_wire_id = around.wire_ids.first - 1
        self._sequential = 0
        """Calls in memory that wait for older ones, or may be waited for."""
        self._giving = _IDLE
        self.kept = 0
        """Persistent calls in memory."""

    # -- the device

    @property
    def device(self) -> Device:
        return self._links.device

    @device.setter
    def device(self, device: Device) -> None:
        self._links.device = device

    @property
    def presence(self) -> Presence:
        return self._links.presence

    @property
    def connected(self) -> bool:
        """Whether there is any way to the device now."""
        return bool(self._links)

    @property
    def callable(self) -> bool:
        """Whether something can take a call now."""
        return bool(self._links.callable)

    # -- the caller's side

    def next_wire_id(self) -> int:
        """The wire id of the next call; used once. Raises Unavailable if the store lags far behind."""
        self._last_wire_id = self._around.wire_ids.after(self._last_wire_id)
        return self._last_wire_id

    @property
    def pending_count(self) -> int:
        """Lightweight calls that wait."""
        return len(self._pending) - self.kept

    def call(
        self, call: Call, record: CallRecord, *, connect_timeout: float | None, progress: Progress | None = None
    ) -> Deferred[Reply]:
        """Give `call` to the device, now or when it can take calls. The Deferred fails with CallFailed."""
        around = self._around
        refusal = self.refusal(call, connect_timeout)
        if refusal is not None:
            return fail(self.refuse(call, record, refusal))
        pending = self._pending.open(call, record)
        pending.progress = progress
        pending.since = around.seconds()
        waiting = pending.waiting
        assert waiting is not None
        if call.strategy is not SubmitStrategy.BURST:
            self._sequential += 1
        self._set_deadline(pending)
        around.events.emit(CallOpened, call)
        self._begin(pending)
        if connect_timeout is not None and not self._links.callable:
            pending.patience = around.deadlines.after(connect_timeout, self._connect_expire, call.wire_id)
        return waiting

    def refusal(self, call: Call, connect_timeout: float | None) -> CallFailed | None:
        """Why a new call cannot be taken; None if it can."""
        around = self._around
        if call.expiration_time <= around.now_ms():
            return CallTimeout(
                "The call had expired when it came in",
                reason=Reason.EXPIRED,
                hint="expirationTime is in the past: compare the caller's clock with the server's.",
            )
        if not call.persistent and self.pending_count >= around.settings().max_pending_per_device:
            return self.queue_full(self.pending_count, "max_pending_per_device")
        if connect_timeout is not None and connect_timeout <= 0 and not self._links.callable:
            return self._links.no_connection()
        return None

    def queue_full(self, number: int, setting: str) -> QueueFull:
        """One call too many."""
        return QueueFull(
            f"{number} calls wait for this device already",
            reason=Reason.QUEUE_FULL,
            hint=f"The device {self._links.whereabouts(Reason.QUEUE_FULL)}. The limit is rpc.{setting}.",
        )

    def refuse(self, call: Call, record: CallRecord, refusal: CallFailed) -> CallFailed:
        """Write down that the call was not taken; the same error."""
        refusal.rpc_id = call.rpc_id
        refusal.refused = True
        record.reason = refusal.reason
        record.state = CallState.EXPIRED if refusal.reason is Reason.EXPIRED else CallState.FAILED
        record.ended_time = self._around.now_ms()
        record.note(record.ended_time, Mark.REFUSED, refusal.message)
        self._around.events.emit(CallRefused, call, refusal.reason)
        return refusal

    def cancel(self, record: CallRecord, why: str) -> Deferred[Cancellation]:
        """End the call without a reply; the device is told if it has it and wants to hear that.

        `why` is half a sentence, such as "by admin@example.org". Fails with Unavailable if the store cannot keep it.
        """
        return Deferred.fromCoroutine(self._cancel(record, why))

    async def _cancel(self, record: CallRecord, why: str) -> Cancellation:
        pending = self._pending.get(record.wire_id)
        if pending is None and record.persistent and record.ended_time is None:
            pending = await self._around.persistence.load(self, record.wire_id)
        if pending is None or pending.record.rpc_id != record.rpc_id or pending.ending is not None:
            return Cancellation(record.rpc_id, False, _was_sent(record), False)
        delivered = pending.state is not CallState.QUEUED
        pending.record.note(self._around.now_ms(), Mark.CANCELLED, why)
        if pending.kept is None:
            told = self._tell_cancelled(pending)
            error = CallCancelled(f"The call was cancelled {why}", reason=Reason.CANCELLED)
            return Cancellation(
                record.rpc_id, self._pending.fail(record.wire_id, Step.CANCELLED, error), delivered, told
            )
        cancelled = await self._end_kept(pending, Step.CANCELLED, reason=Reason.CANCELLED)
        return Cancellation(record.rpc_id, cancelled, delivered, cancelled and self._tell_cancelled(pending))

    def _caller_left(self, pending: PendingCall) -> None:
        pending.record.note(self._around.now_ms(), Mark.CANCELLED, "for its caller has left")
        self._tell_cancelled(pending)
        error = CallCancelled("The caller left", reason=Reason.CANCELLED)
        self._pending.fail(pending.call.wire_id, Step.CANCELLED, error)

    def _tell_cancelled(self, pending: PendingCall) -> bool:
        if pending.given_to is None or not self.device.hears_cancel:
            return False
        told = any(link.cancel(pending.call) for link in self._links)
        if told:
            pending.record.note(self._around.now_ms(), Mark.DEVICE_TOLD)
        return told

    # -- the device's connections

    def attach(self, link: Link) -> None:
        """A connection of the device. One device has one: an older one is closed."""
        self._links.attach(link, self._around.seconds())
        self._left()

    def detach(self, link: Link, cause: str) -> None:
        """The connection is gone; calls go on waiting. Harmless if it was closed from here."""
        self._links.detach(link, cause)
        self._left()

    def subscribe(self, link: Link) -> None:
        """The link can take calls now: it is given all that the device has to get still, oldest first."""
        if link not in self._links:
            return
        self._links.subscribe(link)
        self._around.persistence.refill(self)
        self.resume(link)

    def unsubscribe(self, link: Link, cause: str) -> None:
        """The link can take no more calls."""
        self._links.unsubscribe(link, cause)
        self._left()

    def close(self, reason: CloseReason) -> None:
        """End all links; calls go on waiting."""
        self._links.close(reason)
        self._left()

    def _left(self) -> None:
        """If nothing can take calls any more, nobody is impatient, and the store alone keeps what is in the store."""
        if self._links.callable or not self._pending:
            return
        for pending in self._pending:
            if pending.state is CallState.DELIVERED:
                pending.stop_waiting()
            if pending.kept is not None and pending.ending is None:
                self._forget(pending)
                self._around.persistence.shelved(self.device.id)

    def seen(self, cause: str) -> None:
        """The device sent something."""
        self.presence.seen(self._around.now_ms(), cause)

    def attributes_changed(self, update: bytes) -> None:
        """Tell the device, over all its links, what became of shared attributes; `update` as Link has it."""
        for link in self._links:
            link.attributes_changed(update)

    # -- what goes out

    def waiting(self, wire_id: int) -> PendingCall | None:
        """The call of that wire id, if it is in memory."""
        return self._pending.get(wire_id)

    def record(self, rpc_id: UUID) -> CallRecord | None:
        """The record of that call, if it is in memory."""
        return next((each.record for each in self._pending if each.call.rpc_id == rpc_id), None)

    def admit(self, kept: KeptCall) -> None:
        """A persistent call is due: it is given to the device when it may."""
        self._begin(self.adopt(kept))

    def adopt(self, kept: KeptCall) -> PendingCall:
        """A persistent call comes into memory, for something has happened to it."""
        pending = self._pending.admit(kept)
        self.kept += 1
        if kept.call.strategy is not SubmitStrategy.BURST:
            self._sequential += 1
        self._set_deadline(pending)
        return pending

    def expire(self, kept: KeptCall) -> Deferred[bool]:
        """A persistent call that is not in memory is over its time; as `_end_kept`."""
        pending = self.adopt(kept)
        return self._end_kept(pending, Step.EXPIRED, reason=self.why_expired(pending.state).reason)

    def _begin(self, pending: PendingCall) -> None:
        around = self._around
        links = self._links.callable
        if not links:
            if pending.state is CallState.QUEUED:
                pending.record.note(around.now_ms(), Mark.QUEUED, f"for the device {self._links.where()}")
        elif pending.call.strategy is SubmitStrategy.BURST:
            for link in links:
                self._give(pending, link)
        else:
            self._next()
            if pending.given_to is None and (ahead := self._ahead(pending)):
                pending.record.note(around.now_ms(), Mark.QUEUED, f"behind {ahead} others")

    def _ahead(self, pending: PendingCall) -> int:
        """How many older calls wait."""
        return next((number for number, each in enumerate(self._pending) if each is pending), 0)

    def resume(self, link: Link) -> None:
        """The link can take more. What it was given already it is not given again."""
        if self._giving is not _IDLE:  # a link may report, and so end a call, while it is given one
            self._giving = _AND_AGAIN
            return
        self._giving = _AND_AGAIN
        try:
            while self._giving is _AND_AGAIN:
                self._giving = _GIVING
                self._give_all(link)
        finally:
            self._giving = _IDLE

    def _next(self) -> None:
        """Give what waited for others, and need not any more."""
        if self._sequential:
            for link in self._links.callable:
                self.resume(link)

    def _give_all(self, link: Link) -> None:
        """All that this link has to get and may get now: see SubmitStrategy."""
        any_before = unacknowledged_before = False
        more = self._around.persistence.more(self.device.id)
        for pending in self._pending:
            call, strategy = pending.call, pending.call.strategy
            if self._pending.get(call.wire_id) is not pending:
                continue
            if strategy is SubmitStrategy.BURST:
                may_go = True
            elif more and pending.kept is None:  # older ones may be in the store
                may_go = False
            else:
                may_go = not (any_before if strategy is SubmitStrategy.ON_RESPONSE else unacknowledged_before)
            if may_go and pending.given_to is not link:
                if pending.needs_delivery:
                    if not self._give(pending, link):
                        return
                elif pending.patience is None and strategy is SubmitStrategy.ON_RESPONSE:
                    self._await_reply(pending)
            if self._pending.get(call.wire_id) is pending:
                any_before = True
                unacknowledged_before = unacknowledged_before or pending.state in UNACKNOWLEDGED_STATES

    def _give(self, pending: PendingCall, link: Link) -> bool:
        before, pending.given_to = pending.given_to, link
        moments = pending.record.moments
        pending.record.note(self._around.now_ms(), Mark.SENT, f"over {link.protocol}")
        taken = link.deliver(pending.call)
        if not taken:
            pending.given_to = before
            if moments[-1][1] is Mark.SENT:
                moments.pop()
        return taken

    def hand_to(self, wire_id: int, link: Link) -> bool:
        """The link has this call from an earlier one of the same kind. False if it need not go out again."""
        pending = self._pending.get(wire_id)
        if pending is None or pending.ending is not None or pending.state not in UNACKNOWLEDGED_STATES:
            return False
        pending.given_to = link
        return True

    # -- what comes back

    def receive(self, wire_id: int, payload: bytes) -> bool | Deferred[bool]:
        """The device replied with JSON text, or nothing. False, counted, logged once, if nobody waits.

        Of a persistent call a Deferred, which fires when the reply is in the store, and fails with Unavailable while it
        cannot be; it will be written then, as long as this process lives.
        """
        if self._pending.settle(wire_id, payload):
            return True
        return self._with_kept(
            wire_id,
            lambda pending: self._end_kept(pending, Step.REPLIED, response=payload or None),
            NearMiss.UNKNOWN_REPLY,
            f"replied to call {wire_id}, which does not wait: it was one-way, or the reply came too late",
        )

    def receive_bad(self, wire_id: int, why: str, payload: bytes) -> bool | Deferred[bool]:
        """The device replied with something that is not JSON. As `receive`."""
        self.note(NearMiss.BAD_PAYLOAD, f"replied to call {wire_id} with what is not JSON: {why}")
        error = BadReply(
            "The device's reply is not JSON",
            reason=Reason.BAD_REPLY,
            hint=f"The device published a reply that cannot be passed on: {why}.",
        )
        if self._pending.fail(wire_id, Step.FAILED, error):
            return True
        response = jsontext.encode({"error": payload.decode(errors="replace")})
        return self._with_kept(
            wire_id, lambda pending: self._end_kept(pending, Step.REPLIED, response=response), None, ""
        )

    def progress(self, wire_id: int, payload: bytes) -> bool | Deferred[bool]:
        """The device is at it, and says so with JSON text: the call goes on longer. False if it does not wait."""
        pending = self._pending.get(wire_id)
        if pending is not None and pending.kept is None:
            return self._progressed(pending, payload)
        return self._with_kept(
            wire_id,
            lambda pending: self._progressed(pending, payload),
            NearMiss.UNKNOWN_REPLY,
            f"reported progress of call {wire_id}, which does not wait",
        )

    def _with_kept(
        self,
        wire_id: int,
        act: Callable[[PendingCall], bool | Deferred[bool]],
        miss: NearMiss | None,
        detail: str,
    ) -> bool | Deferred[bool]:
        """`act` on a persistent call, which may have to be read from the store first."""

        def found(pending: PendingCall | None) -> bool | Deferred[bool]:
            if pending is not None:
                return act(pending)
            if miss is not None:
                self.note(miss, detail)
            return False

        pending = self._pending.get(wire_id)
        persistence = self._around.persistence
        if pending is None and persistence.more(self.device.id):
            return persistence.load(self, wire_id).addCallback(found)  # type: ignore[arg-type, return-value]
        return found(pending)

    def _progressed(self, pending: PendingCall, payload: bytes) -> bool:
        around, call, record = self._around, pending.call, pending.record
        if pending.ending is not None:
            return False
        now = around.now_ms()
        record.note(now, Mark.PROGRESS)
        if pending.state in UNACKNOWLEDGED_STATES:
            self.report(call.wire_id, Step.ACKNOWLEDGED)  # it must have it
            if self._pending.get(call.wire_id) is not pending:
                return True
        extended = min(now + int(around.settings().progress_extension * 1000), call.latest_time)
        if extended > record.expiration_time:
            record.expiration_time = extended
            assert pending.deadline is not None
            pending.deadline.cancel()
            self._set_deadline(pending)
        if call.strategy is SubmitStrategy.ON_RESPONSE:
            self._await_reply(pending)
        self._keep(pending)
        around.events.emit(CallProgressed, call, payload)
        if pending.progress is not None:
            pending.progress(payload)
        return True

    def report(self, wire_id: int, step: Step, error: CallFailed | None = None) -> None:
        """A link tells what became of a call that it was given."""
        pending = self._pending.get(wire_id)
        if pending is None or pending.ending is not None:
            return
        if step is Step.FAILED:
            assert error is not None
            if error.reason is Reason.TOO_LARGE:
                self.note(NearMiss.OVERSIZED_DOWNLINK, "was called with more than it takes at once")
            self._fail(pending, step, error)
            return
        before = pending.state
        if not pending.advance(step):
            return
        pending.stop_waiting()
        if step is Step.UNACKNOWLEDGED:
            self._unacknowledged(pending)
            return
        call, record = pending.call, pending.record
        if step is Step.ACKNOWLEDGED:
            if before is not CallState.QUEUED and before is not CallState.DELIVERED:
                record.note(self._around.now_ms(), Mark.ACKNOWLEDGED)
            if call.oneway:
                if pending.kept is None:
                    self._pending.hand_over(wire_id)
                else:
                    self._end_kept(pending, None).addErrback(_ignore)
                return
            if call.strategy is SubmitStrategy.ON_RESPONSE:
                self._await_reply(pending)
        elif call.oneway and pending.kept is None and call.strategy is SubmitStrategy.BURST:
            self._pending.hand_over(wire_id)
            return
        self._went_on(pending)

    def _unacknowledged(self, pending: PendingCall) -> None:
        pending.unacknowledged += 1
        most = pending.call.max_retries
        pending.record.note(
            self._around.now_ms(), Mark.UNACKNOWLEDGED, f"{pending.unacknowledged} times, {most} are forgiven"
        )
        if pending.unacknowledged > most:
            if not self._around.settings().close_session_on_delivery_timeout:
                self._fail(pending, Step.FAILED, self._links.no_ack())
                return
            pending.unacknowledged = 0
            pending.given_to = None
            pending.advance(Step.PUT_BACK)
            pending.record.note(self._around.now_ms(), Mark.PUT_BACK, "and the device's connection closed")
            self._went_on(pending)
            self.close(CloseReason.DELIVERY_TIMEOUT)
            return
        if pending.call.strategy is not SubmitStrategy.BURST:
            pending.given_to = None  # and so it is given again
        self._went_on(pending)

    def _went_on(self, pending: PendingCall) -> None:
        self._keep(pending)
        self._around.events.emit(CallAdvanced, pending.call, pending.state)
        self._next()

    def _keep(self, pending: PendingCall) -> None:
        kept = pending.kept
        if kept is not None:
            kept.unacknowledged = pending.unacknowledged
            kept.due_time = pending.record.expiration_time
            self._around.persistence.advance(kept)

    # -- how calls end

    def _fail(self, pending: PendingCall, step: Step, error: CallFailed) -> None:
        if pending.kept is None:
            self._pending.fail(pending.call.wire_id, step, error)
            return
        response = None
        if step is Step.FAILED:
            text = _WORDS_OF_THE_WIRE.get(error.reason, error.message)  # type: ignore[arg-type]
            response = jsontext.encode({"error": text.format(max_retries=pending.call.max_retries)})
        self._end_kept(pending, step, reason=error.reason, response=response).addErrback(_ignore)

    def _settled(self, pending: PendingCall, reason: Reason | None, payload: bytes) -> None:
        """A lightweight call has ended; who waits for it is told next."""
        _complete(pending.record, self._around.now_ms(), reason, payload)
        if pending.call.strategy is not SubmitStrategy.BURST:
            self._sequential -= 1
        self._announce(pending, reason, payload)

    def _announce(self, pending: PendingCall, reason: Reason | None, payload: bytes) -> None:
        around, link, call = self._around, pending.given_to, pending.call
        transport = None if link is None else link.protocol
        if pending.kept is None:
            seconds = around.seconds() - pending.since
        else:
            seconds = (around.now_ms() - call.created_time) / 1000
        around.events.emit(CallSettled, call, pending.state, reason, payload, transport, seconds)
        self._next()

    def _end_kept(
        self, pending: PendingCall, step: Step | None, *, reason: Reason | None = None, response: bytes | None = None
    ) -> Deferred[bool]:
        """Write the end of a persistent call; then it has ended. Without a step it ends in the state in which it is.

        What fires tells whether it ended so. It fails with Unavailable if the store cannot keep it now; that is tried
        again.
        """
        told: Deferred[bool] = Deferred()
        if pending.ending is not None:  # how it ends is decided already
            if step is not Step.REPLIED:
                return succeed(False)
            pending.ending.append(told)
            return told
        pending.ending = [told]
        record, kept = pending.record, pending.kept
        assert kept is not None
        state = record.state if step is None else TRANSITIONS[record.state, step]
        ended = msgspec.structs.replace(record, state=state, moments=list(record.moments))
        _complete(ended, self._around.now_ms(), reason, response or b"")
        kept = msgspec.structs.replace(kept, record=ended, response=response, unacknowledged=pending.unacknowledged)
        pending.stop_waiting()
        self._write_end((pending, kept))
        return told

    def _write_end(self, end: tuple[PendingCall, KeptCall]) -> None:
        pending, kept = end

        def written(changed: bool) -> None:
            told, pending.record = pending.ending or (), kept.record
            self._forget(pending)
            if changed:
                self._announce(pending, kept.record.reason, kept.response or b"")
            self._around.persistence.refill(self)
            for each in told:
                each.callback(changed)

        def failed(failure: Failure) -> None:
            told, pending.ending = pending.ending or (), []
            self._around.deadlines.after(ENDED_AGAIN, self._write_end, end)
            for each in told:
                each.errback(failure)

        self._around.persistence.end(kept).addCallbacks(written, failed)

    def _forget(self, pending: PendingCall) -> None:
        """A persistent call leaves memory."""
        if self._pending.get(pending.call.wire_id) is pending:
            self._pending.close(pending)
            self.kept -= 1
            if pending.call.strategy is not SubmitStrategy.BURST:
                self._sequential -= 1

    def end(self, message: str, reason: Reason) -> None:
        """Nothing more will happen here: fail all lightweight calls; persistent ones have the store."""
        self._giving = _GIVING  # none is given instead of those that end
        for pending in self._pending:
            if pending.kept is not None:
                self._forget(pending)
            else:
                pending.record.note(self._around.now_ms(), Mark.CANCELLED, f"for {message[0].lower()}{message[1:]}")
                self._pending.fail(pending.call.wire_id, Step.CANCELLED, CallCancelled(message, reason=reason))
        self._giving = _IDLE

    # -- deadlines

    def _set_deadline(self, pending: PendingCall) -> None:
        left = (pending.record.expiration_time - self._around.now_ms()) / 1000
        pending.deadline = self._around.deadlines.after(left, self._expire, pending.call.wire_id)

    def _expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.ending is None:
            self._fail(pending, Step.EXPIRED, self.why_expired(pending.state))

    def _connect_expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.state is CallState.QUEUED and not self.callable:
            self._fail(pending, Step.EXPIRED, self._links.no_connection())

    def why_expired(self, state: CallState) -> CallFailed:
        """Why a call that expires in this state was not answered."""
        if state is CallState.DELIVERED:
            return self._links.no_reply()
        if state is not CallState.QUEUED:
            return self._links.no_ack()
        if not self.callable:
            return self._links.no_connection()
        return CallTimeout(
            "The call was still waiting for its turn",
            reason=Reason.EXPIRED,
            hint=f"The device {self._links.where()}, but has not done with the calls before this one.",
        )

    def _await_reply(self, pending: PendingCall) -> None:
        """Others wait until this call has ended: not for ever."""
        pending.stop_waiting()
        if pending.state is CallState.DELIVERED:
            timeout = self._around.settings().response_timeout
            pending.patience = self._around.deadlines.after(timeout, self._reply_overdue, pending.call.wire_id)

    def _reply_overdue(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.ending is None:
            self._fail(pending, Step.FAILED, self._links.no_reply())

    # -- what is said of the device

    def note(self, miss: NearMiss, detail: str) -> None:
        """See Links."""
        self._links.note(miss, detail)

    def near_misses(self) -> tuple[tuple[NearMiss, Missed], ...]:
        """See Links."""
        return self._links.near_misses()

    def missed(self, miss: NearMiss) -> int:
        """See Links."""
        return self._links.missed(miss)

    def taken_over(self) -> None:
        """See Links."""
        self._links.taken_over(self._around.seconds())

    def whereabouts(self) -> str:
        """A sentence for people: whether the device can be called, and if not, what is in the way."""
        reason = Reason.NO_REPLY if self.callable else self._links.why_not()
        return f"The device {self._links.whereabouts(reason)}."

    def count(self, census: Census) -> None:
        """Add this device, and the calls in memory that wait for it."""
        self._links.count(census)
        if self._pending:
            self._pending.count(census.waiting)


_ENDS = {CallState.FAILED: Mark.FAILED, CallState.EXPIRED: Mark.EXPIRED}
_WORDS_OF_THE_WIRE = {
    Reason.NO_ACK: "There was a Timeout and all retry attempts have been exhausted. Retry attempts set: {max_retries}",
    Reason.NO_REPLY: "There was a timeout awaiting for RPC response from device.",
}
"""What persistent calls that failed have as their response."""


def _complete(record: CallRecord, now: int, reason: Reason | None, payload: bytes) -> None:
    """The call has ended, in the state that the record has. Who cancelled it has noted that before."""
    record.ended_time = now
    record.reason = reason
    state = record.state
    if state is CallState.SUCCESSFUL:
        record.device_error = is_device_error(payload)
        record.note(now, Mark.ANSWERED, "with an error" if record.device_error else None)
    elif state in _ENDS:
        record.note(now, _ENDS[state], reason)
    elif state is not CallState.DELETED:
        record.note(now, Mark.HANDED_OVER)


def _was_sent(record: CallRecord) -> bool:
    return any(mark == Mark.SENT for _, mark, _ in record.moments)


def _ignore(_: Failure) -> None:
    """It is in the log, and tried again."""
