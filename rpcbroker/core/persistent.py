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
from rpcbroker.core.events import CallOpened, CallRefused, EventBus
from rpcbroker.core.pending import PendingCall
from rpcbroker.core.ports import KeptCalls, OpenedStore
from rpcbroker.core.records import CallRecord, KeptCall, Mark, Recorder
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import RpcSettings
from rpcbroker.core.wire_ids import HIGHEST

WINDOW = 100
"""Persistent calls of one device that are in memory at once."""
SWEPT_AT_ONCE = 500
LEAST_SWEEP = 1.0
"""Seconds between two sweeps: so late may a call expire that is not in memory."""
SOON = 0.1
"""Seconds until a few free places of a window are used: more may get free, and one read then serves them all."""
FORGOTTEN_AT_ONCE = 1_000
FORGET_EVERY = 600.0
AGAIN = 1.0
"""Seconds until the store, which could not be read, is asked again."""


class _Backlog:
    """That a device has calls which are not in memory."""

    __slots__ = ("left_out", "upto")

    def __init__(self, upto: int) -> None:
        self.left_out = 0
        """How often a call was left out of memory: it tells if there are new ones."""
        self.upto = upto
        """The wire id up to which all are in memory or have ended."""


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
        self._behind: dict[UUID, _Backlog] = {}
        self._loading: set[UUID] = set()
        """Devices whose calls are being read."""
        self._to_load: set[UUID] = set()
        """Those for which that is going to begin."""
        self._sweep_time = 0
        self._sweep: Deadline | None = None
        self._sweeping = False

    def start(self, opened: OpenedStore) -> None:
        """Go on where the process before this one ended."""
        self._waiting = dict(opened.waiting_calls)
        self._behind = {device_id: _Backlog(0) for device_id in self._waiting}
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
            record.ended_time, record.state, record.reason = self._now_ms(), CallState.FAILED, error.reason
            record.note(record.ended_time, Mark.REFUSED, error.message)
            self._events.emit(CallRefused, call, record, error.reason)
            raise
        record.note(self._now_ms(), Mark.STORED)
        self._events.emit(CallOpened, call, record)
        self._sweep_at(due)
        if device_id not in self._behind and session.callable and session.kept_count < WINDOW:
            session.admit(kept)
        else:
            waits = (
                f"behind {self.waiting(device_id) - 1} others"
                if session.callable
                else f"for the device {session.where()}"
            )
            record.note(self._now_ms(), Mark.QUEUED, waits)
            self._leave_out(call)
            self.refill(device_id)
        return Reply(call.rpc_id, kept=True)

    # -- what is in memory

    def reached(self, device_id: UUID) -> int:
        """See Persistence."""
        backlog = self._behind.get(device_id)
        return HIGHEST if backlog is None else backlog.upto

    def shelved(self, call: Call) -> None:
        """See Persistence."""
        self._leave_out(call)

    def _leave_out(self, call: Call) -> None:
        backlog = self._behind.get(call.device_id)
        if backlog is None:
            backlog = self._behind[call.device_id] = _Backlog(HIGHEST)
        backlog.left_out += 1
        backlog.upto = min(backlog.upto, call.wire_id - 1)

    def refill(self, device_id: UUID) -> None:
        """See Persistence."""
        session = self._present(device_id)
        if session is None or not session.callable or device_id not in self._behind:
            return
        if session.kept_count <= WINDOW // 2:
            self._refill_now(device_id)
        elif session.kept_count < WINDOW:
            self._refill_after(SOON, device_id)

    def _refill_after(self, seconds: float, device_id: UUID) -> None:
        if device_id not in self._to_load:
            self._to_load.add(device_id)
            self._deadlines.after(seconds, self._refill_now, device_id)

    def _refill_now(self, device_id: UUID) -> None:
        self._to_load.discard(device_id)
        session = self._present(device_id)
        if session is None or device_id in self._loading:
            return

        def refilled(result: Failure | None) -> None:
            self._loading.discard(device_id)
            if isinstance(result, Failure):
                self._refill_after(AGAIN, device_id)
                result.trap(BrokerError)

        self._loading.add(device_id)
        Deferred.fromCoroutine(self._refill(session)).addBoth(refilled)

    async def _refill(self, session: DeviceSession) -> None:
        device_id = session.device.id
        while session.callable and (backlog := self._behind.get(device_id)) is not None:
            left_out, after, room = backlog.left_out, backlog.upto, WINDOW - session.kept_count
            if room <= 0:
                return
            found = await self._store.waiting(device_id, after=after, limit=room + 1)
            if backlog.upto != after:
                continue  # what was read has left memory meanwhile, with what came before it
            for kept in found[:room]:
                if not session.callable:
                    return
                backlog.upto = kept.call.wire_id
                if session.calls.get(kept.call.wire_id) is None:
                    session.admit(self._resumed(kept))
                if backlog.upto != kept.call.wire_id:
                    break  # it has left memory again
            else:
                if len(found) > room:
                    backlog.upto = found[room].call.wire_id - 1
                    session.go_on()
                elif backlog.left_out == left_out:
                    del self._behind[device_id]
                    session.go_on()

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

    def _resumed(self, kept: KeptCall) -> KeptCall:
        """With the record that memory has, if it has one: that tells more."""
        call = kept.call
        record = self._recorder.find(call.tenant_id, call.rpc_id)
        if (
            record is not None
            and record.ended_time is None
            and record.persistent
            and record.device_id == call.device_id
        ):
            kept.record = record  # there may also be a lightweight call that was given this id, much later
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
        self._waiting.pop(device_id, None)
        self._behind.pop(device_id, None)

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
            if not isinstance(result, Failure):
                self._sweep_at(result)
                return
            self._sweep_at(self._now_ms() + int(AGAIN * 1000))
            result.trap(BrokerError)

        Deferred.fromCoroutine(self._sweep_all()).addBoth(swept)

    async def _sweep_all(self) -> int | None:
        """End what is due, and tell when to look again."""
        while True:
            due = await self._store.due(self._now_ms(), limit=SWEPT_AT_ONCE)
            away = {kept.call.device_id for kept in due if self._present(kept.call.device_id) is None}
            for device_id in away:
                await self._session(device_id)
            if away:  # much may have happened meanwhile
                due = await self._store.due(self._now_ms(), limit=SWEPT_AT_ONCE)
            ending = [each for kept in due if (each := self._overdue(kept)) is not None]
            await DeferredList(ending, consumeErrors=True)
            if len(due) < SWEPT_AT_ONCE or not ending:
                return await self._store.next_due()

    def _overdue(self, kept: KeptCall) -> Deferred[bool] | None:
        """End a call, which was read in this turn, unless something could take it in time, or it is ending; None then.

        Those in memory have deadlines of their own, but the wall clock may be ahead of these.
        """
        session = self._present(kept.call.device_id)
        if session is None:
            return None
        pending = session.calls.get(kept.call.wire_id)
        if pending is not None and pending.ending is not None:
            return None
        record = self._resumed(kept).record if pending is None else pending.record
        if record.expiration_time > self._now_ms() and (session.callable or record.state is not CallState.QUEUED):
            if pending is None:
                kept.due_time = record.expiration_time
                self._store.advance(kept)
            else:
                session.calls.keep(pending)
            return None
        return session.calls.expire(pending or session.calls.adopt(kept))

    def _forget_old(self, _: None) -> None:
        def forgotten(number: int | Failure) -> None:
            more = number == FORGOTTEN_AT_ONCE
            self._deadlines.after(AGAIN if more else FORGET_EVERY, self._forget_old, None)

        before = self._now_ms() - int(self._settings().ttl * 1000)
        self._store.forget_ended(before, limit=FORGOTTEN_AT_ONCE).addBoth(forgotten)
