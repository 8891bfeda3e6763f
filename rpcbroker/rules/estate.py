"""What the chains of one tenant reach of the broker: `ports.Estate`. Nothing of another tenant is ever found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn
from uuid import UUID

from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import access, jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Reply
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Attribute, Device, Point, Scope
from rpcbroker.core.ports import Store
from rpcbroker.core.presence import PRESENCE_KEYS
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import Posted, Value, parse_telemetry, points_in
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.ports import MAX_RELATED, Direction, WantedCall
from rpcbroker.rules.rest_requests import RestRequests
from rpcbroker.rules.submissions import Submissions
from rpcbroker.rules.waiting_questions import WaitingQuestions


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
        rest_requests: RestRequests,
    ) -> None:
        self._tenant_id = tenant_id
        self._broker = broker
        self._store = store
        self._submissions = submissions
        self._questions = questions
        self._rest_requests = rest_requests

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
            limit=MAX_RELATED + 1,
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
        if reply.kept:
            return jsontext.encode({"rpcId": str(reply.rpc_id)})
        return reply.payload or b"{}"

    def reply(self, session_id: str, request_id: str, payload: bytes) -> None:
        self._questions.reply(self._tenant_id, session_id, request_id, payload)

    def answer_itself(self, message: RuleMessage) -> bytes | Deferred[bytes] | None:
        return self._questions.own_answer(self._tenant_id, message.metadata.get("sessionId", ""))

    def respond(self, request_id: str, payload: bytes) -> None:
        self._rest_requests.respond(self._tenant_id, request_id, payload)

    # -- values

    def save_telemetry(self, device_id: UUID, data: bytes, *, time: int) -> Deferred[None] | None:
        posted = parse_telemetry(data, self._broker.telemetry.settings, now_ms=time)
        if not points_in(posted):
            raise _empty(data)
        device = self._broker.known_device(device_id)
        if device is not None and device.tenant_id == self._tenant_id:
            return self._keep(device_id, posted)
        return Deferred.fromCoroutine(self._session(device_id)).addCallback(lambda _: self._keep(device_id, posted))

    def _keep(self, device_id: UUID, posted: Posted) -> Deferred[None] | None:
        try:
            kept = self._broker.telemetry.keep(device_id, posted)
        except jsontext.BadJSON as error:
            raise InvalidRequest(str(error)) from None
        return None if kept is None else kept.addErrback(_too_much)

    def save_attributes(
        self, device_id: UUID, scope: Scope, data: bytes, *, tell: bool, only_changed: bool
    ) -> Deferred[Mapping[str, Value]]:
        values = self._broker.attributes.parse(data)
        if not values:
            raise _empty(data)
        known = PRESENCE_KEYS & values.keys() if scope is Scope.SERVER else ()
        if known:
            raise InvalidRequest(f"{', '.join(sorted(known))}: the broker knows that itself, nobody else can change it")
        saving = self._save_attributes(device_id, scope, values, tell=tell, only_changed=only_changed)
        return Deferred.fromCoroutine(saving)

    async def _save_attributes(
        self, device_id: UUID, scope: Scope, values: Mapping[str, Value], *, tell: bool, only_changed: bool
    ) -> Mapping[str, Value]:
        await self._session(device_id)
        saving = self._broker.attributes.save(device_id, scope, values, tell=tell, only_changed=only_changed)
        return {key: values[key] for key in await saving}

    def attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[tuple[Attribute, ...]]:
        return Deferred.fromCoroutine(self._attributes(device_id, scope, keys))

    async def _attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> tuple[Attribute, ...]:
        session = await self._session(device_id)
        stored: tuple[Attribute, ...] = await self._broker.attributes.read(device_id, (scope,), keys)
        if scope is not Scope.SERVER:
            return stored
        known = session.presence.attributes()
        present = (Attribute(scope, key, time, Raw(jsontext.encode(value))) for key, (time, value) in known.items())
        return *stored, *(each for each in present if not keys or each.key in keys)

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


def _empty(data: bytes) -> jsontext.BadJSON:
    return jsontext.BadJSON(f"Msg body is empty: {data[:50].decode(errors='replace')}")


def _too_much(failure: Failure) -> NoReturn:
    """It was JSON: there are too many keys."""
    failure.trap(jsontext.BadJSON)
    raise InvalidRequest(str(failure.value)) from None
