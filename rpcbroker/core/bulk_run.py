"""One bulk that goes on: which device is called next, and what becomes of that.

One loop, one write at a time: what ends or may begin meanwhile is in the next write. A call is made only after the
store has that it begins, so that a crash leaves nobody in doubt which devices may have been called.

A little over 400 lines: one class, for all of them change the same counts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcbroker.core.bell import Bell
from rpcbroker.core.bulk import (
    NOT_SUCCESSFUL,
    TRANSITIONS,
    Bulk,
    BulkState,
    Change,
    EntryState,
    EntryStep,
    Target,
    Why,
)
from rpcbroker.core.calls import CallRequest, CallState, Reply
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import BrokerError, Reason, Unavailable, VersionConflict
from rpcbroker.core.events import BulkChanged, CallSettled, EventBus
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.ports import Store
from rpcbroker.core.records import Recorder, is_device_error
from rpcbroker.core.sessions import DeviceSession

AT_ONCE = 100
"""Calls that are made in one turn of the reactor: others have their turn between."""
PAGE = 500
"""Devices that are read ahead."""
RETRY = 1.0
"""Seconds after which a store that could not be used, or a broker that took no calls, is asked again."""
TELL_EVERY = 0.2
"""Seconds between two events of a bulk that goes on; its end is told at once."""

T = TypeVar("T")


class Caller(Protocol):
    """The part of the Broker that makes calls."""

    events: EventBus
    deadlines: Deadlines
    recorder: Recorder

    async def session(self, device_id: UUID) -> DeviceSession | None: ...

    def submit(self, session: DeviceSession, request: CallRequest, *, by: str) -> Deferred[Reply]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all bulks share. `seconds` is the clock of the rates, `max_response_size` is asked for each time."""

    caller: Caller
    store: Store
    now_ms: Callable[[], int]
    seconds: Callable[[], float]
    max_response_size: Callable[[], int]


class BulkRun:
    """The life of one bulk in this process. `go` is called once."""

    _log = Logger()

    def __init__(self, bulk: Bulk, around: Surroundings) -> None:
        self.bulk = bulk
        self.watchers: list[Callable[[], object]] = []
        """Told after each write."""
        self._around = around
        self._kept = around.store.bulks
        self._limit = RateLimit(bulk.plan.rate, around.seconds)
        self._counts: Counter[EntryState] = Counter(bulk.counts)
        self._canaries = min(bulk.plan.canary, bulk.total)
        self._canaries_left = self._canaries
        self._next: deque[Target] = deque()
        self._were_put_back: set[int] = set()
        """These are remembered here, and not to be read."""
        self._read_upto = -1
        self._read_all = False
        self._in_flight = 0
        self._following: dict[UUID, Target] = {}
        """Persistent calls, by their rpc ids, from before they are made until they have ended."""
        self._looking = False
        self._changes: list[Change] = []
        self._unsaved = False
        self._ended = 0
        self._stopping = False
        self._not_before = 0.0
        self._bell = Bell(around.caller.deadlines)
        self._until_saved: list[Deferred[None]] = []
        self._saved = bulk
        self._told = float("-inf")
        self._to_tell = False

    # -- from outside

    async def go(self, *, anew: bool, begin_after: float = 0.0) -> None:
        """Call the devices, until the bulk has ended or is stopped.

        Not `anew`: as the store has it after a restart. No call is made before `begin_after` seconds from now.
        """
        self._not_before = self._around.seconds() + begin_after
        if anew:
            self._tell()
        else:
            await self._patiently(self._resume)
        while True:
            begun = await self._begin()
            if begun or self._changes or self._unsaved:
                if not await self._save():
                    return
                for target in begun:
                    self._call(target)
            elif self._is_over():
                self._end()
            elif self.bulk.ended_time is not None or self._is_gone() or (self._stopping and not self._in_flight):
                return
            else:
                await self._bell.sleep()

    def abort(self, why: str) -> Deferred[None]:
        """Begin no more. Fires when that is durable; fails with Unavailable. `why` is for people."""
        if self.bulk.state is BulkState.RUNNING and self.bulk.ended_time is None:
            self._abort(why)
        saved: Deferred[None] = Deferred()
        self._until_saved.append(saved)
        self._unsaved = True
        self._bell.ring()
        return saved

    def stop(self) -> None:
        """Begin no more in this process; the loop ends when the calls on their way have."""
        self._stopping = True
        self._bell.ring()

    def settled(self, event: CallSettled) -> None:
        """A persistent call has ended: perhaps one of these."""
        target = self._following.get(event.call.rpc_id)
        if target is not None and event.call.tenant_id == self.bulk.tenant_id:
            self._end_call(target, event.state, event.reason, event.payload)
            self._bell.ring()

    # -- who is next

    async def _begin(self) -> list[Target]:
        """Those that may be called now; they count as running from here on."""
        begun: list[Target] = []
        plan = self.bulk.plan
        room = min(AT_ONCE, plan.concurrency - self._in_flight)
        while len(begun) < room and self._may_begin() and await self._has_next():
            target = self._next[0]
            if self._canaries_left and target.number >= self._canaries:
                break
            wait = self._limit.take(None)
            if wait:
                self._bell.ring_after(wait)
                break
            self._next.popleft()
            self._move(target, EntryState.WAITING, EntryStep.BEGUN)
            begun.append(target)
        return begun

    def _may_begin(self) -> bool:
        if self._stopping or self.bulk.state is not BulkState.RUNNING:
            return False
        wait = self._not_before - self._around.seconds()
        if wait > 0:
            self._bell.ring_after(wait)
        return wait <= 0

    async def _has_next(self) -> bool:
        while not self._next and not self._read_all:
            try:
                page = await self._kept.in_state(
                    self.bulk.sequence, EntryState.WAITING, after=self._read_upto, limit=PAGE
                )
            except Unavailable:
                self._wait_a_moment()
                return False
            self._read_all = len(page) < PAGE
            self._next.extend(target for target in page if target.number not in self._were_put_back)
            if page:
                self._read_upto = page[-1].number
        return bool(self._next) and self._may_begin()

    # -- one call

    def _call(self, target: Target) -> None:
        if self.bulk.request.persistent:
            self._following[self.bulk.rpc_id(target.device_id)] = target
        self._in_flight += 1
        Deferred.fromCoroutine(self._called(target))

    async def _called(self, target: Target) -> None:
        try:
            await self._make(target)
        except Exception:
            self._log.failure("a call of a bulk failed")
            self._end_entry(target, EntryStep.LOST, Why.FAULT)
        self._in_flight -= 1
        self._bell.ring()

    async def _make(self, target: Target) -> None:
        bulk, caller = self.bulk, self._around.caller
        try:
            session = await caller.session(target.device_id)
            if not self._may_begin():
                self._put_back(target)
                return
            if session is None or session.device.tenant_id != bulk.tenant_id:
                self._end_entry(target, EntryStep.FAILED, Reason.DEVICE_DELETED)
                return
            if bulk.customer_id is not None and session.device.customer_id != bulk.customer_id:
                self._end_entry(target, EntryStep.FAILED, Why.NOT_ALLOWED)
                return
            reply = await caller.submit(session, bulk.request_for(target.device_id), by=bulk.user_name)
        except Unavailable:  # and so it was not made, or will be joined
            self._put_back(target)
            self._wait_a_moment()
        except BrokerError as error:
            lost = error.reason is Reason.SHUTTING_DOWN
            why = Why.CONFLICT if isinstance(error, VersionConflict) else error.reason or Why.FAULT
            step = EntryStep.LOST if lost else EntryStep.FAILED
            self._end_entry(target, step, Why.INTERRUPTED if lost else why)
        else:
            if bulk.request.persistent and reply.kept:
                await self._accepted(target)
            else:
                self._end_call(target, CallState.SUCCESSFUL, None, reply.payload)

    async def _accepted(self, target: Target) -> None:
        """The persistent call is kept. If it is an older one of the same id, its end may have been told already."""
        rpc_id = self.bulk.rpc_id(target.device_id)
        record = self._around.caller.recorder.find(self.bulk.tenant_id, rpc_id)
        if rpc_id in self._following and (record is None or record.ended_time is not None):
            await self._patiently(lambda: self._look(target, again=False))

    def _put_back(self, target: Target) -> None:
        self._following.pop(self.bulk.rpc_id(target.device_id), None)
        self._move(target, EntryState.RUNNING, EntryStep.PUT_BACK)
        self._next.appendleft(target)
        self._were_put_back.add(target.number)

    def _wait_a_moment(self) -> None:
        self._not_before = self._around.seconds() + RETRY
        self._bell.ring_after(RETRY)

    def _end_call(self, target: Target, state: CallState, reason: str | None, payload: bytes) -> None:
        """The call ended in `state`; a one-way one has succeeded when it was delivered."""
        if state is CallState.SUCCESSFUL and is_device_error(payload):
            self._end_entry(target, EntryStep.FAILED, Why.DEVICE_ERROR, payload)
        elif state in (CallState.SUCCESSFUL, CallState.DELIVERED):
            self._end_entry(target, EntryStep.SUCCEEDED, None, payload)
        else:
            self._end_entry(target, EntryStep.FAILED, reason or state.value)

    def _end_entry(self, target: Target, step: EntryStep, reason: str | None, payload: bytes = b"") -> None:
        self._following.pop(self.bulk.rpc_id(target.device_id), None)
        if len(payload) > self._around.max_response_size():
            payload, reason = b"", reason or Why.RESPONSE_TOO_LARGE
        self._ended += 1
        state = self._move(target, EntryState.RUNNING, step, reason=reason, response=payload or None, ended=self._ended)
        if state is EntryState.SUCCESSFUL:
            self._canaries_left -= target.number < self._canaries
        elif target.number < self._canaries:
            self._abort(f"the canary {target.device_name} did not succeed: {reason}")
        else:
            failures = sum(self._counts[each] for each in NOT_SUCCESSFUL)
            if self.bulk.plan.abort_after is not None and failures >= self.bulk.plan.abort_after:
                self._abort(f"{failures} calls did not succeed")

    def _move(
        self,
        target: Target,
        state: EntryState,
        step: EntryStep,
        *,
        reason: str | None = None,
        response: bytes | None = None,
        ended: int | None = None,
    ) -> EntryState:
        after = TRANSITIONS[state, step]
        self._counts[state] -= 1
        self._counts[after] += 1
        self._changes.append(Change(target.number, after, reason, response, ended))
        return after

    # -- its end

    def _abort(self, why: str) -> None:
        if self.bulk.state is BulkState.RUNNING:
            self.bulk = replace(self.bulk, state=BulkState.ABORTED, reason=why)
            self._unsaved = True

    def _is_over(self) -> bool:
        """Whether nothing is left to be done or waited for, and that is not written yet."""
        if self.bulk.ended_time is not None or self._in_flight or self._following or self._looking:
            return False
        return not self._counts[EntryState.WAITING] and not self._counts[EntryState.RUNNING]

    def _is_gone(self) -> bool:
        """Whether it was deleted, with its tenant: there are fewer devices than were written."""
        waits = self._next or self._in_flight or self._following or self._looking
        return self._read_all and not waits and self._counts[EntryState.WAITING] > 0

    def _end(self) -> None:
        state = BulkState.DONE if self.bulk.state is BulkState.RUNNING else self.bulk.state
        self.bulk = replace(self.bulk, state=state, ended_time=self._around.now_ms())
        self._unsaved = True

    # -- writing

    async def _save(self) -> bool:
        """Write all that has changed. False if the store does not take it, and there is no time to wait."""
        changes, self._changes = self._changes, []
        abort_from = None
        if self.bulk.state is BulkState.ABORTED and self._counts[EntryState.WAITING]:
            abort_from = self._ended + 1
            self._ended += self.bulk.total
            self._next.clear()
            aborted = TRANSITIONS[EntryState.WAITING, EntryStep.ABORTED]
            self._counts[aborted] += self._counts.pop(EntryState.WAITING)
        self.bulk = replace(self.bulk, counts=dict(self._counts))
        bulk, self._unsaved = self.bulk, False
        until_saved, self._until_saved = self._until_saved, []
        while True:
            try:
                await self._kept.save(bulk, changes, abort_from=abort_from)
                break
            except Unavailable as error:
                for waiting in until_saved:
                    waiting.errback(error)
                until_saved = []
                if self._stopping:
                    return False
                self._bell.ring_after(RETRY)
                await self._bell.sleep()
        for waiting in until_saved:
            waiting.callback(None)
        for watcher in tuple(self.watchers):
            watcher()
        self._saved = bulk
        self._tell()
        return True

    def _tell(self) -> None:
        """What is written: of many writes the last."""
        wait = self._told + TELL_EVERY - self._around.seconds()
        if wait <= 0 or self._saved.ended_time is not None:
            self._to_tell, self._told = False, self._around.seconds()
            self._around.caller.events.emit(BulkChanged, self._saved)
        elif not self._to_tell:
            self._to_tell = True
            self._around.caller.deadlines.after(wait, self._tell_rest, None)

    def _tell_rest(self, _: None) -> None:
        if self._to_tell:
            self._told = float("-inf")
            self._tell()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What the store says, as soon as it can; None if it is too late for that."""
        while not self._stopping:
            try:
                return await ask()
            except Unavailable:
                moment: Deferred[None] = Deferred()
                self._around.caller.deadlines.after(RETRY, moment.callback, None)
                await moment
        return None

    # -- after a restart

    async def _resume(self) -> None:
        """Of a lightweight call that had begun nobody knows what the device did; a persistent one can be found."""
        sequence = self.bulk.sequence
        self._ended, successes = await self._kept.progress(sequence, below=self._canaries)
        running: list[Target] = []
        while page := await self._kept.in_state(
            sequence, EntryState.RUNNING, after=running[-1].number if running else -1, limit=PAGE
        ):
            running += page
        self._canaries_left = self._canaries - successes
        if not self.bulk.request.persistent:
            for target in running:
                self._end_entry(target, EntryStep.LOST, Why.INTERRUPTED)
            return
        self._following = {self.bulk.rpc_id(target.device_id): target for target in running}
        self._looking = True
        Deferred.fromCoroutine(self._look_for(running))

    async def _look_for(self, running: list[Target]) -> None:
        for target in running:
            await self._patiently(lambda target=target: self._look(target, again=True))  # type: ignore[misc]
        self._looking = False
        self._bell.ring()

    async def _look(self, target: Target, *, again: bool) -> None:
        """Whether the call has ended, as the store has it. One that was never made is made now, if `again`."""
        rpc_id = self.bulk.rpc_id(target.device_id)
        kept = await self._around.store.calls.call(self.bulk.tenant_id, rpc_id)
        if rpc_id not in self._following:
            return
        if kept is not None and kept.record.ended_time is not None:
            self._end_call(target, kept.record.state, kept.record.reason, kept.response or b"")
        elif kept is None and again:
            self._call(target)
        elif kept is None:
            self._end_entry(target, EntryStep.LOST, Why.INTERRUPTED)
