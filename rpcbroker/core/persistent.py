"""Persistent calls: in the store all of them, in memory only those that are due.

A call is due while its device can be called, and then at most WINDOW of each device are in memory; the others follow as
these end. What nobody has in memory expires by a sweep of the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from rpcbroker.core.calls import Call, CallState, Reply
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError, Reason
from rpcbroker.core.events import CallOpened, EventBus
from rpcbroker.core.pending import PendingCall
from rpcbroker.core.ports import KeptCalls, OpenedStore
from rpcbroker.core.records import CallRecord, KeptCall, Mark, Recorder
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import RpcSettings

WINDOW = 100
"""Persistent calls of one device that are in memory at once."""
SWEPT_AT_ONCE = 500
LEAST_SWEEP = 1.0
"""Seconds between two sweeps: so late may a call expire that is not in memory."""
FORGOTTEN_AT_ONCE = 1_000
FORGET_EVERY = 600.0
AGAIN = 1.0
"""Seconds until the store, which could not be read, is asked again."""


class PersistentCalls:
    """What is in the store, as far as memory has to know of it."""

    def __init__(
        self,
        store: KeptCalls,
        *,
        recorder: Recorder,
        deadlines: Deadlines,
        events: EventBus,
        now_ms: Callable[[], int],
        settings: Callable[[], RpcSettings],
        session: Callable[[UUID], Awaitable[DeviceSession | None]],
        present: Callable[[UUID], DeviceSession | None],
    ) -> None:
        """`session` finds the session of a device; `present` the one that is in memory."""
        self._store = store
        self._recorder = recorder
        self._deadlines = deadlines
        self._events = events
        self._now_ms = now_ms
        self._settings = settings
        self._session = session
        self._present = present
        self._waiting: dict[UUID, int] = {}
        """Device -> its calls that have not ended."""
        self._behind: dict[UUID, int] = {}
        """Devices with calls that are not in memory, and how often one was left out: it tells if there are new ones."""
        self._upto: dict[UUID, int] = {}
        """Of these, the wire id up to which all are in memory or have ended."""
        self._loading: set[UUID] = set()
        self._sweep_time = 0
        self._sweep: Deadline | None = None
        self._sweeping = False

    def start(self, opened: OpenedStore) -> None:
        """Go on where the process before this one ended."""
        self._waiting = dict(opened.waiting_calls)
        self._behind = dict.fromkeys(self._waiting, 0)
        self._sweep_at(opened.next_due)
        self._deadlines.after(FORGET_EVERY, self._forget_old, None)

    @property
    def waiting_count(self) -> int:
        """Calls that have not ended, in memory or not."""
        return sum(self._waiting.values())

    def waiting(self, device_id: UUID) -> int:
        """Those of one device."""
        return self._waiting.get(device_id, 0)

    # -- new calls

    def accept(
        self, session: DeviceSession, call: Call, record: CallRecord, *, connect_timeout: float | None
    ) -> Deferred[Reply]:
        """Keep the call; it is given to the device after that. Fires when it is on disk.

        Fails with CallFailed if it is not taken, with Unavailable if it cannot be kept. To cancel it changes nothing: a
        call that is on its way to the disk may be there already.
        """
        accepted: Deferred[Reply] = Deferred(lambda _: None)
        keeping = Deferred.fromCoroutine(self._accept(session, call, record, connect_timeout))
        keeping.addBoth(lambda result: None if accepted.called else accepted.callback(result))
        return accepted

    async def _accept(
        self, session: DeviceSession, call: Call, record: CallRecord, connect_timeout: float | None
    ) -> Reply:
        device_id = call.device_id
        refusal = session.refusal(call, connect_timeout)
        due = call.expiration_time
        if connect_timeout is not None:
            due = min(due, call.created_time + int(connect_timeout * 1000))
        kept = KeptCall(call=call, record=record, due_time=due)
        if refusal is not None:
            session.refuse(call, record, refusal)
            if refusal.reason is Reason.EXPIRED:
                await self._store.insert(kept)
            raise refusal
        self._waiting[device_id] = self.waiting(device_id) + 1
        try:
            await self._store.insert(kept)
        except BrokerError as error:
            self._one_less(device_id)
            record.ended_time, record.state = self._now_ms(), CallState.FAILED
            record.note(record.ended_time, Mark.REFUSED, error.message)
            raise
        record.note(self._now_ms(), Mark.STORED)
        self._events.emit(CallOpened, call)
        self._sweep_at(due)
        if device_id not in self._behind and session.callable and session.calls.kept < WINDOW:
            session.admit(kept)
        else:
            self._leave_out(device_id)
        return Reply(call.rpc_id)

    # -- what is in memory

    def more(self, device_id: UUID) -> bool:
        """See Persistence."""
        return device_id in self._behind

    def older(self, device_id: UUID, wire_id: int) -> bool:
        """See Persistence."""
        return device_id in self._behind and wire_id > self._upto.get(device_id, 0)

    def shelved(self, device_id: UUID) -> None:
        """See Persistence."""
        self._upto.pop(device_id, None)
        self._leave_out(device_id)

    def _leave_out(self, device_id: UUID) -> None:
        self._behind[device_id] = self._behind.get(device_id, 0) + 1

    def refill(self, device_id: UUID) -> None:
        """See Persistence."""
        if device_id not in self._behind or device_id in self._loading:
            return
        session = self._present(device_id)
        if session is None or session.calls.kept > WINDOW // 2:
            return

        def failed(failure: Failure) -> None:
            failure.trap(BrokerError)
            self._deadlines.after(AGAIN, self.refill, device_id)

        self._loading.add(device_id)
        Deferred.fromCoroutine(self._refill(session)).addErrback(failed)

    async def _refill(self, session: DeviceSession) -> None:
        device_id = session.device.id
        try:
            while session.callable and device_id in self._behind and (room := WINDOW - session.calls.kept) > 0:
                left_out, after = self._behind[device_id], self._upto.get(device_id, 0)
                found = await self._store.waiting(device_id, after=after, limit=room)
                if self._upto.get(device_id, 0) != after:
                    continue  # what was read has left memory meanwhile, with what came before it
                for kept in found:
                    if not session.callable:
                        return
                    self._upto[device_id] = kept.call.wire_id
                    self._admit(session, kept)
                    if device_id not in self._upto:
                        break  # to be given a call may end the link, and then all leave memory
                else:
                    if len(found) < room and self._behind.get(device_id) == left_out:
                        del self._behind[device_id]
                        self._upto.pop(device_id, None)
                session.give_next()  # lightweight calls need not wait any more for what may have been in the store
        finally:
            self._loading.discard(device_id)

    def load(self, device_id: UUID, wire_id: int) -> Deferred[PendingCall | None]:
        """See Persistence."""
        return Deferred.fromCoroutine(self._load(device_id, wire_id))

    async def _load(self, device_id: UUID, wire_id: int) -> PendingCall | None:
        kept = await self._store.waiting_call(device_id, wire_id)
        session = self._present(device_id)
        if session is None:
            return None
        there = session.calls.get(wire_id)
        return there if there or kept is None else session.calls.adopt(self._resumed(kept))

    def _admit(self, session: DeviceSession, kept: KeptCall) -> None:
        if session.calls.get(kept.call.wire_id) is None:
            session.admit(self._resumed(kept))

    def _resumed(self, kept: KeptCall) -> KeptCall:
        """With the record that memory has, if it has one: that tells more."""
        record = self._recorder.find(kept.call.tenant_id, kept.call.rpc_id)
        if record is not None and record.ended_time is None:
            kept.record = record
        else:
            kept.record.note(self._now_ms(), Mark.RESUMED, "from the store")
            self._recorder.add(kept.record)
        return kept

    def advance(self, kept: KeptCall) -> None:
        """See Persistence."""
        self._store.advance(kept)

    def end(self, kept: KeptCall) -> Deferred[bool]:
        """See Persistence."""

        def ended(changed: bool) -> bool:
            if changed:
                self._one_less(kept.call.device_id)
                self._recorder.add(kept.record)
            return changed

        return self._store.end(kept).addCallback(ended)

    def forget_device(self, device_id: UUID) -> None:
        """It is deleted, and its calls with it."""
        for each in (self._waiting, self._behind, self._upto):
            each.pop(device_id, None)

    def _one_less(self, device_id: UUID) -> None:
        waiting = self._waiting.get(device_id, 0) - 1
        if waiting > 0:
            self._waiting[device_id] = waiting
        else:
            self._waiting.pop(device_id, None)

    # -- what expires

    def _sweep_at(self, due: int | None) -> None:
        """Look for calls that are due at `due` (epoch ms), unless that is done earlier."""
        if due is None or self._sweeping or (self._sweep is not None and self._sweep_time <= due):
            return
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_time = due
        left = max((due - self._now_ms()) / 1000, LEAST_SWEEP)
        self._sweep = self._deadlines.after(left, self._start_sweep, None)

    def _start_sweep(self, _: None) -> None:
        self._sweep, self._sweeping = None, True

        def swept(result: int | Failure | None) -> None:
            self._sweeping = False
            if isinstance(result, Failure):
                result.trap(BrokerError)
                result = self._now_ms() + int(AGAIN * 1000)
            self._sweep_at(result)

        Deferred.fromCoroutine(self._sweep_all()).addBoth(swept)

    async def _sweep_all(self) -> int | None:
        """End what is due, and tell when to look again."""
        while True:
            due = await self._store.due(self._now_ms(), limit=SWEPT_AT_ONCE)
            ending = [each for kept in due if (each := await self._overdue(kept)) is not None]
            await DeferredList(ending, consumeErrors=True)
            if len(due) < SWEPT_AT_ONCE or not ending:
                return await self._store.next_due()

    async def _overdue(self, kept: KeptCall) -> Deferred[bool] | None:
        """End a call that nobody has in memory; None if that is not for here."""
        session = await self._session(kept.call.device_id)
        if session is None or session.calls.get(kept.call.wire_id) is not None:
            return None
        kept = self._resumed(kept)
        record = kept.record
        if record.expiration_time > self._now_ms() and (session.callable or record.state is not CallState.QUEUED):
            kept.due_time = record.expiration_time  # something could take it in time
            self._store.advance(kept)
            return None
        return session.calls.expire(kept)

    def _forget_old(self, _: None) -> None:
        def forgotten(number: int | Failure) -> None:
            more = number == FORGOTTEN_AT_ONCE
            self._deadlines.after(AGAIN if more else FORGET_EVERY, self._forget_old, None)

        before = self._now_ms() - int(self._settings().ttl * 1000)
        self._store.forget_ended(before, limit=FORGOTTEN_AT_ONCE).addBoth(forgotten)
