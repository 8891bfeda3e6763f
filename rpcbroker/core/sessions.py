"""The broker's side of one device: its links, and the calls that wait for it. It outlives connections.

Over 400 lines: what a link can do to a call stands in one place. How the device can be reached, and what is said when
it cannot, is in `links`; how calls end is in `device_calls`; what only the store has is in `persistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import intern
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.calls import UNACKNOWLEDGED_STATES, Call, CallState, Cancellation, Reply, Step, SubmitStrategy
from rpcbroker.core.census import Census
from rpcbroker.core.device_calls import DeviceCalls
from rpcbroker.core.errors import BadReply, BrokerError, CallCancelled, CallFailed, CallTimeout, Reason
from rpcbroker.core.events import CallAdvanced, CallOpened, CallProgressed, CallRefused
from rpcbroker.core.links import Links
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import Missed, NearMiss
from rpcbroker.core.pending import PendingCall, Progress
from rpcbroker.core.ports import CloseReason, Link
from rpcbroker.core.presence import Presence
from rpcbroker.core.records import CallRecord, KeptCall, Mark
from rpcbroker.core.surroundings import Surroundings

_IDLE, _GIVING, _AND_AGAIN = range(3)


class DeviceSession:
    """One device, as the broker sees it."""

    __slots__ = ("_around", "_calls", "_giving", "_last_wire_id", "_links")

    def __init__(self, device: Device, presence: Presence, around: Surroundings) -> None:
        self._around = around
        self._links = Links(device, presence, now_ms=around.now_ms, events=around.events)
        self._calls: DeviceCalls | None = None
        self._last_wire_id = around.wire_ids.first - 1
        self._giving = _IDLE

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

    @property
    def calls(self) -> DeviceCalls:
        """Those in memory. Made with the first: most of many devices are not called for long, and take less memory."""
        calls = self._calls
        if calls is None:
            calls = DeviceCalls(self._around, self._links, ended=self.go_on, caller_left=self._caller_left)
            self._calls = calls
        return calls

    def record(self, rpc_id: UUID) -> CallRecord | None:
        """The record of that call, if it is in memory and waits."""
        return self._calls.record(rpc_id) if self._calls else None

    @property
    def kept_count(self) -> int:
        """Persistent calls in memory."""
        return 0 if self._calls is None else self._calls.kept

    def next_wire_id(self) -> int:
        """The wire id of the next call; used once. Raises Unavailable if the store lags far behind."""
        self._last_wire_id = self._around.wire_ids.after(self._last_wire_id)
        return self._last_wire_id

    @property
    def pending_count(self) -> int:
        """Lightweight calls that wait."""
        return 0 if self._calls is None else self._calls.lightweight

    def call(
        self, call: Call, record: CallRecord, *, connect_timeout: float | None, progress: Progress | None = None
    ) -> Deferred[Reply]:
        """Give `call` to the device, now or when it can take calls. The Deferred fails with CallFailed."""
        around = self._around
        refusal = self.refusal(call, connect_timeout)
        if refusal is not None:
            return fail(self.refuse(call, record, refusal))
        calls = self.calls
        pending = calls.open(call, record, progress)
        waiting = pending.waiting
        assert waiting is not None
        around.events.emit(CallOpened, call, record)
        self._begin(pending)
        if connect_timeout is not None and not self._links.callable:
            calls.await_link(pending, connect_timeout)
        return waiting

    def refusal(self, call: Call, connect_timeout: float | None) -> CallFailed | None:
        """Why a new call cannot be taken; None if it can."""
        around, settings = self._around, self._around.settings()
        if call.expiration_time <= call.created_time:
            return CallTimeout(
                "The call had expired when it came in",
                reason=Reason.EXPIRED,
                hint="expirationTime is in the past, or no number: compare the caller's clock with the server's.",
            )
        if call.persistent:
            waiting = around.persistence.waiting(call.device_id)
            if waiting >= settings.max_persistent_per_device:
                return self._links.queue_full(waiting, "max_persistent_per_device")
        elif self.pending_count >= settings.max_pending_per_device:
            return self._links.queue_full(self.pending_count, "max_pending_per_device")
        if connect_timeout is not None and connect_timeout <= 0 and not self._links.callable:
            return self._links.no_connection()
        return None

    def refuse(self, call: Call, record: CallRecord, refusal: CallFailed) -> CallFailed:
        """Write down that the call was not taken; the same error."""
        refusal.rpc_id = call.rpc_id
        refusal.refused = True
        record.reason = refusal.reason
        record.state = CallState.EXPIRED if refusal.reason is Reason.EXPIRED else CallState.FAILED
        record.ended_time = self._around.now_ms()
        record.note(record.ended_time, Mark.REFUSED, refusal.message)
        self._around.events.emit(CallRefused, call, record, refusal.reason)
        return refusal

    def cancel(self, record: CallRecord, why: str) -> Deferred[Cancellation]:
        """End the call without a reply; the device is told if it has it and wants to hear that.

        `why` is half a sentence, such as "by admin@example.org". Fails with Unavailable if the store cannot keep it; it
        ends so all the same, as soon as it can be kept.
        """
        return Deferred.fromCoroutine(self._cancel(record, why))

    async def _cancel(self, record: CallRecord, why: str) -> Cancellation:
        pending = self.calls.get(record.wire_id)
        if pending is None and record.persistent and record.ended_time is None:
            pending = await self._around.persistence.load(self.device.id, record.wire_id)
        if pending is not None and pending.ending is not None and pending.record.rpc_id == record.rpc_id:
            await self.calls.ended(pending)
            pending = None
        if pending is None or pending.record.rpc_id != record.rpc_id:
            return Cancellation(record.rpc_id, False, record.was_sent, False)
        delivered = pending.record.was_sent or pending.state is not CallState.QUEUED
        pending.record.note(self._around.now_ms(), Mark.CANCELLED, why)
        if pending.kept is None:
            told = self._tell_cancelled(pending)
            self.calls.fail(
                pending, Step.CANCELLED, CallCancelled(f"The call was cancelled {why}", reason=Reason.CANCELLED)
            )
            return Cancellation(record.rpc_id, True, delivered, told)
        cancelled = await self.calls.end_kept(pending, Step.CANCELLED, reason=Reason.CANCELLED)
        return Cancellation(record.rpc_id, cancelled, delivered, cancelled and self._tell_cancelled(pending))

    def _caller_left(self, pending: PendingCall) -> None:
        pending.record.note(self._around.now_ms(), Mark.CANCELLED, "for its caller has left")
        self._tell_cancelled(pending)
        self.calls.fail(pending, Step.CANCELLED, CallCancelled("The caller left", reason=Reason.CANCELLED))

    def _tell_cancelled(self, pending: PendingCall) -> bool:
        if not (self.device.hears_cancel and pending.record.was_sent):
            return False
        links = sorted(self._links, key=lambda link: link is not pending.given_to)  # the one that has it first
        told = any(link.cancel(pending.call) for link in links)
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
        self._around.persistence.refill(self.device.id)
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
        """Another link is given what the one that left did not get done. If nothing can take calls any more, nobody is
        impatient, and the store alone keeps what is in the store."""
        if not self._calls:
            return
        if self._links.callable:
            self.go_on()
            return
        for pending in self.calls:
            if pending.state is CallState.DELIVERED:
                pending.stop_waiting()
            if pending.kept is not None and pending.ending is None:
                self.calls.forget(pending)
                self._around.persistence.shelved(pending.call)

    def seen(self, cause: str) -> None:
        """The device sent something."""
        self._links.seen(cause)

    def attributes_changed(self, update: bytes) -> None:
        """Tell the device, over all its links, what became of shared attributes; `update` as Link has it."""
        for link in self._links:
            link.attributes_changed(update)

    # -- what goes out

    def admit(self, kept: KeptCall) -> None:
        """A persistent call is due: it is given to the device when it may; if it is over its time it ends instead."""
        pending = self.calls.adopt(kept)
        if kept.record.expiration_time > self._around.now_ms():
            self._begin(pending)
        else:
            self.calls.fail(pending, Step.EXPIRED, self._links.no_answer(pending.state))

    def _begin(self, pending: PendingCall) -> None:
        around = self._around
        links = self._links.callable
        if not links:
            if pending.state is CallState.QUEUED:
                pending.record.note(around.now_ms(), Mark.QUEUED, f"for the device {self._links.where()}")
        elif pending.call.strategy is SubmitStrategy.BURST:
            for link in links:
                if self._give(pending, link):
                    break
        else:
            self.go_on()
            if pending.given_to is None and (ahead := self.calls.ahead(pending)):
                pending.record.note(around.now_ms(), Mark.QUEUED, f"behind {ahead} others")

    def resume(self, link: Link) -> None:
        """The link can take more. What it was given already it is not given again.

        Harmless for a link that can take no calls any more.
        """
        if not self._calls:
            return
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

    def go_on(self) -> None:
        """Give what had to wait, and need not any more."""
        for link in self._links.callable:
            self.resume(link)

    def _give_all(self, link: Link) -> None:
        """All that this link has to get and may get now: see SubmitStrategy."""
        any_before = unacknowledged_before = False
        reached = self._around.persistence.reached(self.device.id)
        for pending in self.calls:
            strategy = pending.call.strategy
            if link not in self._links.callable:
                return
            if pending not in self.calls:
                continue
            if strategy is SubmitStrategy.BURST and pending.kept is None:
                may_go = True
            elif pending.call.wire_id > reached:  # older ones may be in the store
                may_go = False
            elif strategy is SubmitStrategy.BURST:
                may_go = True
            else:
                may_go = not (any_before if strategy is SubmitStrategy.ON_RESPONSE else unacknowledged_before)
            if may_go:
                if pending.needs_delivery and self._lacks(pending, link):
                    if not self._give(pending, link):
                        return
                elif pending.patience is None and strategy is SubmitStrategy.ON_RESPONSE:
                    self.calls.await_reply(pending)
            if pending in self.calls:
                any_before = True
                unacknowledged_before = unacknowledged_before or pending.state in UNACKNOWLEDGED_STATES

    def _lacks(self, pending: PendingCall, link: Link) -> bool:
        """Whether the device has it neither from this link nor, as far as can be known, from another that is there."""
        before = pending.given_to
        return before is not link and (before not in self._links or pending.state is CallState.TIMEOUT)

    def _give(self, pending: PendingCall, link: Link) -> bool:
        before, pending.given_to = pending.given_to, link
        record, moments = pending.record, pending.record.moments
        record.note(self._around.now_ms(), Mark.SENT, intern(f"over {link.protocol}"))
        with_sent = record.moments
        taken = link.deliver(pending.call)
        if not taken and record.moments is with_sent:
            record.moments = moments
        if taken is None:  # the device has it from an earlier poll, or an earlier stream
            if pending.call.strategy is SubmitStrategy.ON_RESPONSE:
                self.calls.await_reply(pending)
            return True
        if not taken:
            pending.given_to = before
        return taken

    def give_again(self, wire_id: int, link: Link) -> bool:
        """The link writes a lightweight call once more, for the device says that it did not come: the link before this
        one could not know. False, and it is not to be written: nobody waits for it."""
        pending = self.calls.get(wire_id)
        if pending is None or pending.kept is not None:
            return False
        pending.given_to = link
        pending.record.note(self._around.now_ms(), Mark.SENT, intern(f"over {link.protocol}, once more"))
        return True

    def take_back(self, wire_id: int, link: Link, why: str) -> None:
        """The link was given the call, and it did not arrive, or should be given once more: its turn comes again.

        `why` is half a sentence for the time line. Harmless for a call that has ended or went to another link.
        """
        pending = self.calls.get(wire_id)
        if pending is None or pending.given_to is not link or not pending.needs_delivery:
            return
        pending.given_to = None
        pending.record.note(self._around.now_ms(), Mark.PUT_BACK, why)
        if pending.advance(Step.PUT_BACK):
            self.calls.keep(pending)
            self._around.events.emit(CallAdvanced, pending.call, pending.record, pending.state)
        self.go_on()

    def give_unanswered(self, link: Link, idle: float) -> None:
        """The device begins anew on this link: persistent calls that it acknowledged there, and of which nothing was
        heard for `idle` seconds, are given to it again, for it may have lost them."""
        before = self._around.now_ms() - idle * 1000
        for pending in self.calls:
            if pending.state is CallState.DELIVERED and pending.kept and pending.record.moments[-1][0] <= before:
                self.take_back(pending.call.wire_id, link, "for the device has begun anew without a reply")

    def hand_to(self, wire_id: int, link: Link) -> bool:
        """The link has this call from an earlier one of the same kind. False if it need not go out again."""
        pending = self.calls.get(wire_id)
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
        if self.calls.settle(wire_id, payload):
            return True
        return self._with_kept(
            wire_id,
            lambda pending: self.calls.end_kept(pending, Step.REPLIED, response=payload or None),
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
        pending = self.calls.get(wire_id)
        if pending is not None and pending.kept is None:
            self.calls.fail(pending, Step.FAILED, error)
            return True
        response = jsontext.encode({"error": payload.decode(errors="replace")})
        return self._with_kept(
            wire_id, lambda pending: self.calls.end_kept(pending, Step.REPLIED, response=response), None, ""
        )

    def progress(self, wire_id: int, payload: bytes) -> bool | Deferred[bool]:
        """The device is at it, and says so with JSON text: the call goes on longer. False if it does not wait."""
        pending = self.calls.get(wire_id)
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

        pending = self.calls.get(wire_id)
        if pending is None and wire_id > self._around.persistence.reached(self.device.id):
            return self._visit(wire_id, found)
        return found(pending)

    def _visit(self, wire_id: int, act: Callable[[PendingCall | None], Any]) -> Deferred[Any]:
        """`act` on a call that the store has, if it waits: it is in memory for as long as that takes."""

        def found(pending: PendingCall | None) -> Any:
            acted = act(pending)
            persistence = self._around.persistence
            if pending is not None and pending.ending is None and wire_id > persistence.reached(self.device.id):
                self.calls.forget(pending)
            return acted

        return self._around.persistence.load(self.device.id, wire_id).addCallback(found)

    def _progressed(self, pending: PendingCall, payload: bytes) -> bool:
        around, call, record = self._around, pending.call, pending.record
        if pending.ending is not None:
            return False
        now = around.now_ms()
        if pending.state in UNACKNOWLEDGED_STATES:
            self.report(call.wire_id, Step.ACKNOWLEDGED)  # it must have it
            if pending not in self.calls:
                return True
        record.note(now, Mark.PROGRESS)
        self.calls.prolong(pending, now + int(around.settings().progress_extension * 1000))
        if call.strategy is SubmitStrategy.ON_RESPONSE:
            self.calls.await_reply(pending)
        self.calls.keep(pending)
        around.events.emit(CallProgressed, call, record, payload)
        if pending.progress is not None:
            pending.progress(payload)
        return True

    def report(self, wire_id: int, step: Step, error: CallFailed | None = None) -> None:
        """A link tells what became of a call that it was given."""
        calls = self.calls
        pending = calls.get(wire_id)
        if pending is None and step is Step.ACKNOWLEDGED:
            self._acknowledged_late(wire_id)
        if pending is None or pending.ending is not None:
            return
        if step is Step.FAILED:
            assert error is not None
            if error.reason is Reason.TOO_LARGE:
                self.note(NearMiss.OVERSIZED_DOWNLINK, "was called with more than it takes at once")
            calls.fail(pending, step, error)
            return
        before = pending.record.state
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
                calls.hand_over(pending)
                return
        elif call.oneway and pending.kept is None and call.strategy is SubmitStrategy.BURST:
            calls.hand_over(pending)
            return
        if call.strategy is SubmitStrategy.ON_RESPONSE:  # also of one that was acknowledged before, on another link
            calls.await_reply(pending)
        self._went_on(pending)

    def _acknowledged_late(self, wire_id: int) -> None:
        """The device has a call that left memory before it said so, or has ended."""

        def found(pending: PendingCall | None) -> None:
            if pending is not None:
                self.report(wire_id, Step.ACKNOWLEDGED)

        def lost(failure: Failure) -> None:
            failure.trap(BrokerError)  # it is in the log; the device is given the call again

        if wire_id > self._around.persistence.reached(self.device.id):
            self._visit(wire_id, found).addErrback(lost)

    def _unacknowledged(self, pending: PendingCall) -> None:
        pending.unacknowledged += 1
        most = pending.call.max_retries
        pending.record.note(self._around.now_ms(), Mark.UNACKNOWLEDGED, f"{pending.unacknowledged} of {most + 1} times")
        if pending.unacknowledged > most:
            if not self._around.settings().close_session_on_delivery_timeout:
                self.calls.fail(pending, Step.FAILED, self._links.no_ack())
                return
            pending.unacknowledged = 0
            pending.given_to = None
            pending.advance(Step.PUT_BACK)
            pending.record.note(self._around.now_ms(), Mark.PUT_BACK, "and the device's connection closed")
            self.calls.keep(pending)
            self.close(CloseReason.DELIVERY_TIMEOUT)  # before anything is given to that connection once more
            self._around.events.emit(CallAdvanced, pending.call, pending.record, pending.state)
            return
        if pending.call.strategy is not SubmitStrategy.BURST:
            pending.given_to = None  # and so it is given again
        self._went_on(pending)

    def _went_on(self, pending: PendingCall) -> None:
        calls, record = self.calls, pending.record
        if pending.kept is not None:
            calls.keep(pending)
        self._around.events.emit(CallAdvanced, pending.call, record, record.state)
        if calls.sequential:
            self.go_on()

    def end(self, message: str, reason: Reason) -> None:
        """Nothing more will happen here: all lightweight calls fail."""
        self._giving = _GIVING  # none is given instead of those that end
        self.calls.end_all(message, reason)
        self._giving = _IDLE

    # -- what is said of the device

    def where(self) -> str:
        """See Links."""
        return self._links.where()

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
        if self._calls:
            self._calls.count(census.waiting)
