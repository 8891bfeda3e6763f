"""The broker: the one object that every wing speaks to.

Over 400 lines: it is the facade, and whoever looks for what a wing may ask for finds it here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred, fail

from rpcbroker.core import access, jsontext
from rpcbroker.core.attributes import Attributes
from rpcbroker.core.calls import Call, CallRequest, Cancellation, Reply, SubmitStrategy
from rpcbroker.core.census import Census
from rpcbroker.core.children import Children
from rpcbroker.core.credentials import DeviceLogin, authenticate, by_token
from rpcbroker.core.deadlines import Clock, Deadlines
from rpcbroker.core.entrance import Entrance
from rpcbroker.core.errors import CallCancelled, NotFound, PayloadTooLarge, Reason, Unavailable
from rpcbroker.core.events import AttributesChanged, CallSettled, DeviceExpelled, EventBus, QuestionAnswered
from rpcbroker.core.model import Device, LastPresence, Principal, Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.once import Once, conflict, content_of
from rpcbroker.core.pending import Progress
from rpcbroker.core.persistent import PersistentCalls
from rpcbroker.core.ports import CloseReason, OpenedStore, Store
from rpcbroker.core.presence import Presence
from rpcbroker.core.questions import OwnAnswers, Question
from rpcbroker.core.quotas import Quotas
from rpcbroker.core.records import CallRecord, Recorder, begun
from rpcbroker.core.routes import NoRules, Rules
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import AttributeSettings, LimitsSettings, RpcSettings, TelemetrySettings
from rpcbroker.core.surroundings import Surroundings
from rpcbroker.core.telemetry import Telemetry
from rpcbroker.core.values import Posted, Value
from rpcbroker.core.wire_ids import WireIds

_STRATEGIES: dict[str | None, SubmitStrategy] = {each.value: each for each in SubmitStrategy}

Found = tuple[Device, LastPresence | None]
"""A device in the store, and its presence from before this process."""


class Broker:
    """Calls to devices, devices' questions to the server, and what devices tell of themselves."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
        settings: RpcSettings,
        limits: LimitsSettings | None = None,
        telemetry: TelemetrySettings | None = None,
        attributes: AttributeSettings | None = None,
    ) -> None:
        """`limits` are those for what devices send; None is without any."""
        self.events = EventBus()
        self.quotas = Quotas(limits or LimitsSettings(), clock.seconds)
        self.deadlines = Deadlines(clock)
        self.wire_ids = WireIds(store.reserve_wire_ids)
        self.telemetry = Telemetry(
            store.values,
            settings=telemetry or TelemetrySettings(),
            deadlines=self.deadlines,
            now_ms=now_ms,
            events=self.events,
        )
        self.attributes = Attributes(
            store.values,
            settings=attributes or AttributeSettings(),
            now_ms=now_ms,
            tell=self._tell_attributes,
            events=self.events,
        )
        self._store = store
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._settings = settings
        self._sessions: dict[int, DeviceSession] = {}
        """By the numbers of devices' ids, for a UUID takes its time to be hashed."""
        self._kept_calls = store.calls
        self.entrance = Entrance(self._enter_by_token, self.events)
        self.recorder = Recorder(settings.record_recent)
        self.once = Once(self.deadlines, lambda: self._settings)
        self.persistent = PersistentCalls(
            store.calls,
            recorder=self.recorder,
            deadlines=self.deadlines,
            events=self.events,
            now_ms=now_ms,
            settings=lambda: self._settings,
            session=self.session,
            present=self.known_session,
        )
        self._children = Children(
            store=store, now_ms=now_ms, new_uuid=new_uuid, new_token=new_token, changed=self.device_changed
        )
        self._around = Surroundings(
            now_ms=now_ms,
            seconds=clock.seconds,
            deadlines=self.deadlines,
            wire_ids=self.wire_ids,
            events=self.events,
            settings=lambda: self._settings,
            persistence=self.persistent,
        )
        self._looking_up = 0
        self._changes = 0
        self._changed: dict[UUID, int] = {}
        """Devices that were changed while any was looked up, and which change it was: of `_changes`, counted."""
        self._stopping = False
        self.own_answers = OwnAnswers(self.attributes.of_device, now_ms)
        self.rules: Rules = NoRules(self.own_answers, self.answered)
        """Others are put here by who assembles the broker."""

    def reconfigure(self, settings: RpcSettings) -> None:
        """Other limits for the calls that come from now on."""
        self._settings = settings
        self.recorder.most = settings.record_recent

    def start(self, opened: OpenedStore) -> None:
        """Go on where the store says that things were."""
        self.wire_ids.start(opened.wire_ids_reserved)
        self.persistent.start(opened)

    # -- callers

    async def call(
        self, principal: Principal, device_id: UUID, request: CallRequest, progress: Progress | None = None
    ) -> Reply:
        """Call a device and wait for what becomes of it; of a persistent call, until it is kept.

        `progress` is told each interim answer, as JSON text. Raises CallFailed when the call ends without a reply,
        NotFound, PermissionDenied, Unavailable, and VersionConflict for an id that names another call.
        Cancelling the Deferred of this coroutine cancels the call; one that was begun goes on if its caller gave it an
        id, or if it is kept.
        """
        accepted = None  # which is when the call is made
        known = self._sessions.get(device_id.int)
        if known is not None:
            session = _visible(principal, known)
        else:
            accepted = self._now_ms()
            session = await self.session_to_call(principal, device_id)
        access.require_callable(principal, request.method, oneway=request.oneway)
        by = principal.key_name or principal.email
        return await self.submit(session, request, by=by, accepted=accepted, progress=progress)

    def submit(
        self,
        session: DeviceSession,
        request: CallRequest,
        *,
        by: str,
        accepted: int | None = None,
        progress: Progress | None = None,
        straight: bool = False,
    ) -> Deferred[Reply]:
        """As `call`, of somebody whose rights are known; `by` is their name, `accepted` when they asked (epoch ms).

        `straight`: not through the rule chain, which made the call itself.
        """
        if self._stopping:
            return fail(Unavailable("The server is shutting down", reason=Reason.SHUTTING_DOWN))
        if not request.once:
            return self._begin(session, request, by, accepted, progress, straight)
        rpc_id = request.request_id
        assert rpc_id is not None
        content = content_of(session.device.id, request)

        def start(every: Progress) -> Deferred[Reply]:
            known = self.recorder.find(session.device.tenant_id, rpc_id)
            if known is not None and (not request.persistent if known.persistent else known.ended_time is None):
                return fail(conflict())  # one of the broker's own ids, or a kept call asked for as one that is not
            if request.persistent:
                return Deferred.fromCoroutine(self._begin_once(session, request, content, by, accepted))
            return self._begin(session, request, by, accepted, every)

        return self.once.join((session.device.tenant_id, rpc_id), content, start, progress)

    async def _begin_once(
        self, session: DeviceSession, request: CallRequest, content: bytes, by: str, accepted: int | None
    ) -> Reply:
        """What is in the store has been asked for before, however long ago.

        Of what a rule chain has changed nobody knows any more what was asked for: there the id has to be enough.
        """
        assert request.request_id is not None
        there = await self._kept_calls.call(session.device.tenant_id, request.request_id)
        if there is None:
            return await self._begin(session, request, by, accepted, None)
        if not there.record.was_changed and content_of(there.call.device_id, there.call) != content:
            raise conflict()
        return Reply(there.call.rpc_id, kept=True)

    def _begin(
        self,
        session: DeviceSession,
        request: CallRequest,
        by: str,
        accepted: int | None,
        progress: Progress | None,
        straight: bool = False,
    ) -> Deferred[Reply]:
        now = self._now_ms()
        try:
            call = self.make(session, request, now)
        except (Unavailable, PayloadTooLarge) as error:
            return fail(error)
        straight = straight or self.rules.routes(call.tenant_id).calls
        accepted = now if accepted is None else accepted
        routed = "straight to the device" if straight else "through the rule chain"
        record = begun(call, accepted=accepted, by=by, routed=routed)
        self.recorder.add(record)
        go = self.give if straight else self.rules.call
        return go(session, call, record, connect_timeout=request.connect_timeout, progress=progress)

    def make(self, session: DeviceSession, request: CallRequest, now: int, *, wire_id: int | None = None) -> Call:
        """The call that is asked for, under its next wire id unless it has one. Raises Unavailable, PayloadTooLarge."""
        settings, device = self._settings, session.device
        if request.persistent and _size(request) > settings.max_persistent_size:
            raise PayloadTooLarge(
                f"A persistent call has at most {settings.max_persistent_size} bytes",
                reason=Reason.TOO_LARGE,
                hint="These are its method, params and additionalInfo. The limit is rpc.max_persistent_size.",
            )
        expiration, latest = self._times(request, now)
        most = settings.max_retries
        return Call(
            request.request_id or self._new_uuid(),
            session.next_wire_id() if wire_id is None else wire_id,
            device.tenant_id,
            device.id,
            request.method,
            request.params,
            request.oneway,
            now,
            expiration,
            latest,
            most if request.retries is None else max(0, min(request.retries, most)),
            request.strategy or self._strategy(device),
            request.persistent,
            request.retries,
            request.additional_info,
        )

    def give(
        self,
        session: DeviceSession,
        call: Call,
        record: CallRecord,
        *,
        connect_timeout: float | None,
        progress: Progress | None,
    ) -> Deferred[Reply]:
        """A call that is made goes to its device; as `call`."""
        if call.persistent:
            return self.persistent.accept(session, call, record, connect_timeout=connect_timeout)
        return session.call(call, record, connect_timeout=connect_timeout, progress=progress)

    async def cancel(self, record: CallRecord, why: str) -> Cancellation:
        """As DeviceSession.cancel, wherever the call is."""
        if self.rules.cancel(record, why):
            return Cancellation(record.rpc_id, cancelled=True, delivered_before=False, device_told=False)
        session = await self.session(record.device_id)
        if session is None:  # the calls of a device end with it
            return Cancellation(record.rpc_id, cancelled=False, delivered_before=False, device_told=False)
        return await session.cancel(record, why)

    async def session_for(self, principal: Principal, device_id: UUID) -> DeviceSession:
        """The session of a device that `principal` may call. Raises NotFound, PermissionDenied."""
        return _visible(principal, await self.session(device_id))

    async def session_to_call(self, principal: Principal, device_id: UUID) -> DeviceSession:
        """As `session_for`, for a call that ends if its caller leaves meanwhile: raises CallCancelled then."""
        try:
            return await self.session_for(principal, device_id)
        except CancelledError:
            raise CallCancelled("The caller left", reason=Reason.CANCELLED) from None

    async def session(self, device_id: UUID) -> DeviceSession | None:
        """The session of a device, whoever asks; None if there is no such device."""
        return self._sessions.get(device_id.int) or await self._session(lambda: self._find(device_id))

    def waiting_record(self, tenant_id: UUID, rpc_id: UUID) -> CallRecord | None:
        """The record of a call in memory. Slow: for those that the recorder has forgotten."""
        for session in self._sessions.values():
            if session.device.tenant_id == tenant_id and (record := session.record(rpc_id)):
                return record
        return None

    def known_session(self, device_id: UUID) -> DeviceSession | None:
        """The session of a device that was here since the start; None of others."""
        return self._sessions.get(device_id.int)

    def known_device(self, device_id: UUID) -> Device | None:
        """The record of such a device."""
        session = self._sessions.get(device_id.int)
        return session.device if session else None

    def sessions_of(self, tenant_id: UUID) -> Iterator[DeviceSession]:
        """Those of the tenant's devices that were needed since the start."""
        return (session for session in self._sessions.values() if session.device.tenant_id == tenant_id)

    def name_of(self, principal: Principal, device_id: UUID) -> str | None:
        """The name of a device that was called lately, if it exists for `principal`."""
        device = self.known_device(device_id)
        return device.name if device and access.may_see(principal, device) else None

    def _times(self, request: CallRequest, now: int) -> tuple[int, int]:
        """When the call ends without a reply, and the latest that progress may move that to."""
        settings = self._settings
        most = settings.max_persistent_timeout if request.persistent else settings.max_timeout
        latest = now + int(most * 1000)
        if request.expiration_time is not None:
            expiration = min(request.expiration_time, latest)
            return expiration, expiration
        timeout = settings.default_timeout if request.timeout is None else request.timeout
        return now + int(min(max(timeout, settings.min_timeout), most) * 1000), latest

    def _strategy(self, device: Device) -> SubmitStrategy:
        """The device's own, or the one of the settings."""
        return _STRATEGIES.get(device.submit_strategy) or _STRATEGIES[self._settings.submit_strategy]

    # -- devices

    async def enter(self, login: DeviceLogin, *, certificate: bytes | None = None) -> DeviceSession | None:
        """The session of the device that `login` proves to be; None if it proves nothing.

        `certificate` (DER) is what the device has shown in the TLS handshake: it decides alone then.
        A link must be attached to the session at once: it is sure to be the right one only by now.
        """
        return await self._session(lambda: self._authenticate(login, certificate))

    async def child(self, gateway: DeviceSession, name: str, type_: str | None = None) -> DeviceSession:
        """The session of the device that a gateway calls `name`; made, of `type_`, if its tenant has none.

        As after `enter`, a link must be attached to it at once. Raises InvalidRequest, Unavailable.
        """

        async def find() -> Found:
            device = await self._children.device(gateway, name, type_)
            return device, await self._store.presence(device.id)

        session = await self._session(find)
        assert session is not None, "a child that is not found is made"
        return session

    async def _enter_by_token(self, token: str) -> DeviceSession | None:
        async def find() -> Found | None:
            known = await by_token(self._store, token)
            return None if known is None else (known.device, known.presence)

        return await self._session(find)

    async def _authenticate(self, login: DeviceLogin, certificate: bytes | None) -> Found | None:
        known = await authenticate(self._store, login, certificate=certificate, now=self._now_ms())
        return None if known is None else (known.device, known.presence)

    async def _find(self, device_id: UUID) -> Found | None:
        device = await self._store.device(device_id)
        return None if device is None else (device, await self._store.presence(device_id))

    async def _session(self, find: Callable[[], Awaitable[Found | None]]) -> DeviceSession | None:
        """The session of what `find` finds in the store; made if this is the first time that it is needed.

        What was read while the device was changed or deleted, or got other credentials, may be old: it is read again.
        """
        self._looking_up += 1
        try:
            while True:
                since = self._changes
                found = await find()
                if found is None:
                    return None
                device, presence = found
                if self._changed.get(device.id, 0) > since:
                    continue
                session = self._sessions.get(device.id.int)
                if session is None:
                    session = self._sessions[device.id.int] = DeviceSession(device, Presence(presence), self._around)
                return session
        finally:
            self._looking_up -= 1
            if not self._looking_up:
                self._changed.clear()

    def _note_change(self, device_id: UUID) -> None:
        if self._looking_up:
            self._changes += 1
            self._changed[device_id] = self._changes

    # -- what devices say

    def ask(self, session: DeviceSession, question: Question) -> bytes | Deferred[bytes]:
        """The answer to a device's question (client-side RPC), as JSON text.

        Raises, or fails with, NobodyAnswers, which names the method; CallFailed;
        QuestionTimedOut; InvalidRequest, Unavailable.
        """
        return self.rules.ask(session, question)

    def answered(self, session: DeviceSession, question: Question, reason: Reason | None) -> None:
        """Tell how a question ended; None is with an answer."""
        if reason is Reason.NO_HANDLER:
            session.note(NearMiss.NO_HANDLER, f"has asked {question.method!r}, which nobody answers")
        self.events.emit(QuestionAnswered, session.device, question.method, question.transport, reason)

    def keep_telemetry(self, session: DeviceSession, posted: Posted) -> Deferred[None] | None:
        """What a device measured; as Telemetry.keep."""
        device = session.device
        if self.rules.routes(device.tenant_id).telemetry:
            return self.telemetry.keep(device.id, posted)
        return self.rules.telemetry(session, posted)

    def keep_attributes(self, session: DeviceSession, values: Mapping[str, Value]) -> Deferred[None]:
        """What a device says of itself; as Attributes.save. What is as it was keeps the time of its change."""
        if self.rules.routes(session.device.tenant_id).attributes:
            return self.attributes.save(session.device.id, Scope.CLIENT, values, only_changed=True)
        return self.rules.attributes(session, values)

    # -- what applications say of devices

    async def write_attributes(self, session: DeviceSession, scope: Scope, values: Mapping[str, Value]) -> None:
        """Done when they are stored, and the device has heard of shared ones; raises as Attributes.save fails."""
        await self.attributes.save(session.device.id, scope, values)
        self.events.emit(AttributesChanged, session.device, scope, values, ())

    async def delete_attributes(self, session: DeviceSession, scope: Scope, keys: Sequence[str]) -> None:
        """As `write_attributes`."""
        gone = await self.attributes.delete(session.device.id, scope, keys)
        if gone:
            self.events.emit(AttributesChanged, session.device, scope, {}, gone)

    # -- changes

    def device_changed(self, device: Device) -> None:
        """The record of a device was changed and is stored."""
        self._note_change(device.id)
        session = self._sessions.get(device.id.int)
        if session is not None:
            before, session.device = session.device, device
            if before.topic_rights != device.topic_rights:
                session.close(CloseReason.RIGHTS_CHANGED)

    def device_unassigned(self, device_id: UUID) -> None:
        """Its customer was deleted; that is stored, as a new version."""
        self._note_change(device_id)
        session = self._sessions.get(device_id.int)
        if session is not None:
            session.device = replace(session.device, customer_id=None, version=session.device.version + 1)

    def credentials_changed(self, device_id: UUID) -> None:
        """What let the device in may let it in no longer: it has to come again."""
        self._note_change(device_id)
        session = self._sessions.get(device_id.int)
        if session is not None:
            session.close(CloseReason.CREDENTIALS_CHANGED)
        self.events.emit(DeviceExpelled, device_id)

    def device_deleted(self, device_id: UUID) -> None:
        """The device is gone from the store."""
        self._note_change(device_id)
        self.telemetry.forget(device_id)
        session = self._sessions.pop(device_id.int, None)
        if session is not None:
            session.close(CloseReason.DEVICE_DELETED)
            session.end("The device was deleted", Reason.DEVICE_DELETED)
        self.persistent.forget_device(device_id)  # after that, for its calls were left to the store as it was closed
        self.events.emit(DeviceExpelled, device_id)

    def _tell_attributes(self, device_id: UUID, update: bytes) -> None:
        session = self._sessions.get(device_id.int)
        if session is not None:
            session.attributes_changed(update)

    # -- the end

    def drain(self, seconds: float) -> Deferred[None]:
        """Take no more calls; fires when the running ones have ended, after `seconds` at the latest.

        Those that then still run fail with the reason SHUTTING_DOWN, and all links are closed.
        """
        self._stopping = True
        self.rules.stop()
        drained: Deferred[None] = Deferred()

        def give_up(_: None) -> None:
            for session in tuple(self._sessions.values()):
                session.end("The server is shutting down", Reason.SHUTTING_DOWN)

        def finish() -> None:
            patience.cancel()
            for session in tuple(self._sessions.values()):
                session.close(CloseReason.SHUTTING_DOWN)
            drained.callback(None)

        patience = self.deadlines.after(seconds, give_up, None)

        running = self.pending_count

        def settled(event: CallSettled) -> None:
            nonlocal running
            if event.call.persistent:  # it goes on after the next start
                return
            running -= 1
            if not running:
                finish()

        self.events.listen(CallSettled, settled)
        if not running:
            finish()
        return drained

    def census(self) -> Census:
        """Devices and waiting calls, counted now: one step for each device that was ever needed."""
        census = Census()
        for session in self._sessions.values():
            session.count(census)
        return census

    @property
    def pending_count(self) -> int:
        """Lightweight calls that wait now."""
        return sum(session.pending_count for session in self._sessions.values())


def _visible(principal: Principal, session: DeviceSession | None) -> DeviceSession:
    """The session, if there is one that `principal` may call. Raises NotFound, PermissionDenied."""
    if session is None or not access.may_see(principal, session.device):
        access.require_not_sys_admin(principal)
        raise NotFound(access.DEVICE_NOT_FOUND)
    return session


def _size(request: CallRequest) -> int:
    """Bytes that the store has to keep of it."""
    return len(request.method.encode()) + len(request.params) + len(jsontext.encode(request.additional_info))
