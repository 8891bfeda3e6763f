"""What the chains of one tenant reach of the broker: `ports.Estate`. Nothing of another tenant is ever found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core import access, jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Reply
from rpcbroker.core.errors import NotFound
from rpcbroker.core.model import Attribute, Device, Point, Scope
from rpcbroker.core.ports import Store
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.ports import Direction, WantedCall
from rpcbroker.rules.submissions import Submissions
from rpcbroker.rules.waiting_questions import WaitingQuestions

MAX_RELATED = 1_000
"""Devices that one message may be sent on to."""


class TenantEstate:
    """One tenant's."""

    def __init__(
        self,
        tenant_id: UUID,
        *,
        broker: Broker,
        store: Store,
        submissions: Submissions,
        questions: WaitingQuestions,
    ) -> None:
        self._tenant_id = tenant_id
        self._broker = broker
        self._store = store
        self._submissions = submissions
        self._questions = questions

    # -- devices

    def device(self, device_id: UUID) -> Deferred[Device | None]:
        return Deferred.fromCoroutine(self._device(device_id))

    async def _device(self, device_id: UUID) -> Device | None:
        session = await self._broker.session(device_id)
        return None if session is None or session.device.tenant_id != self._tenant_id else session.device

    def device_named(self, name: str) -> Deferred[Device | None]:
        return self._store.device_by_name(self._tenant_id, name)

    def related(self, device_id: UUID, direction: Direction, relation: str, *, levels: int) -> Deferred[list[UUID]]:
        return self._store.rules.related(
            self._tenant_id,
            device_id,
            outward=direction is Direction.FROM,
            type_=relation,
            levels=levels,
            limit=MAX_RELATED,
        )

    async def _session(self, device_id: UUID) -> DeviceSession:
        session = await self._broker.session(device_id)
        if session is None or session.device.tenant_id != self._tenant_id:
            raise NotFound(access.DEVICE_NOT_FOUND)
        return session

    # -- RPC

    def call(self, message: RuleMessage, wanted: WantedCall) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._call(message, wanted))

    async def _call(self, message: RuleMessage, wanted: WantedCall) -> bytes:
        session = await self._session(message.originator.id)
        reply: Reply = await self._submissions.take(message, wanted, session)
        if wanted.persistent:
            return jsontext.encode({"rpcId": str(reply.rpc_id)})
        return reply.payload or b"{}"

    def reply(self, session_id: str, request_id: str, payload: bytes) -> None:
        self._questions.reply(self._tenant_id, session_id, request_id, payload)

    def answer_itself(self, message: RuleMessage) -> Deferred[bytes | None]:
        return self._questions.own_answer(self._tenant_id, message.metadata.get("sessionId", ""))

    def respond(self, service_id: str, request_id: str, payload: bytes) -> None:
        raise NotImplementedError

    # -- values

    def save_telemetry(self, device_id: UUID, data: bytes, *, time: int | None) -> Deferred[None] | None:
        raise NotImplementedError

    def save_attributes(
        self, device_id: UUID, scope: Scope, data: bytes, *, tell: bool, only_changed: bool
    ) -> Deferred[None]:
        raise NotImplementedError

    def attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[tuple[Attribute, ...]]:
        return Deferred.fromCoroutine(self._attributes(device_id, scope, keys))

    async def _attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> tuple[Attribute, ...]:
        await self._session(device_id)
        found: tuple[Attribute, ...] = await self._broker.attributes.read(device_id, (scope,), keys)
        return found

    def latest(self, device_id: UUID, keys: Sequence[str]) -> Deferred[Mapping[str, Point]]:
        return Deferred.fromCoroutine(self._latest(device_id, keys))

    async def _latest(self, device_id: UUID, keys: Sequence[str]) -> Mapping[str, Point]:
        await self._session(device_id)
        return await self._broker.telemetry.latest(device_id, keys)

    def history(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int
    ) -> Deferred[Mapping[str, list[Point]]]:
        return Deferred.fromCoroutine(self._history(device_id, keys, start, end))

    async def _history(self, device_id: UUID, keys: Sequence[str], start: int, end: int) -> Mapping[str, list[Point]]:
        await self._session(device_id)
        return await self._broker.telemetry.history(device_id, keys, start=start, end=end)
