"""Server-side RPC over REST: the four URLs that call a device."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.api.audit import recorded
from rpcbroker.api.event_stream import Backlog, Events
from rpcbroker.api.ids import parse_uuid
from rpcbroker.api.routes import Answer, Note
from rpcbroker.core import access, jsontext
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallRequest, Reply, SubmitStrategy
from rpcbroker.core.errors import BrokerError, InvalidRequest
from rpcbroker.core.model import Principal
from rpcbroker.schema.calls import RpcIdJSON
from rpcbroker.schema.common import MAX_TEXT
from rpcbroker.wire.events import Event

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_FAR = 2**62


class Calls:
    """The handlers of `/api/rpc` and `/api/plugins/rpc`."""

    def __init__(self, *, broker: Broker, audit: AuditTrail, new_uuid: Callable[[], UUID]) -> None:
        self._broker = broker
        self._audit = audit
        self._new_uuid = new_uuid

    async def oneway(self, principal: Principal, *, device_id: UUID, body: bytes, note: Note, events: bool) -> Answer:
        """Give a command to a device; answered, without a body, when it was handed over.

        A persistent call is answered with its id as soon as it is kept. With `Accept: text/event-stream` the answer
        is the event `result`, or `error`.
        """
        return await self._call(principal, device_id, body, note, oneway=True, events=events)

    async def twoway(self, principal: Principal, *, device_id: UUID, body: bytes, note: Note, events: bool) -> Answer:
        """Ask a device; answered with its JSON, whatever that is, or empty, if the device said nothing.

        A persistent call is answered with its id as soon as it is kept. With `Accept: text/event-stream` the answer
        is an event `progress` for each interim answer of the device, then `result`, or `error`.
        """
        return await self._call(principal, device_id, body, note, oneway=False, events=events)

    async def _call(
        self, principal: Principal, device_id: UUID, body: bytes, note: Note, *, oneway: bool, events: bool
    ) -> Answer:
        rpc_id = self._new_uuid()
        try:
            request = parse_call(body, oneway=oneway, rpc_id=rpc_id)
            rpc_id = request.request_id or rpc_id
            note.data = {"rpcId": str(rpc_id), "oneWay": oneway, "method": request.method[:MAX_TEXT]}
            if request.persistent:
                note.data["persistent"] = True
            if self._audit.settings.payloads:
                note.data["params"] = recorded(jsontext.decode(request.params))
            if events:  # what is wrong with the request is a status; what goes wrong with the call is an event
                await self._broker.session_for(principal, device_id)
                access.require_callable(principal, request.method, oneway=oneway)
                return Answer(self._events(principal, device_id, request), {"X-RPC-Id": str(rpc_id)})
            reply = await self._broker.call(principal, device_id, request)
        except BrokerError as error:
            error.rpc_id = rpc_id
            raise
        finally:
            note.name = self._broker.name_of(principal, device_id)
        return Answer(_told(reply), {"X-RPC-Id": str(reply.rpc_id)})

    async def _events(self, principal: Principal, device_id: UUID, request: CallRequest) -> Events:
        """The call, as it goes on. Raises CallFailed."""
        backlog, outcome = Backlog(), Deferred[Reply]()
        call = self._broker.call(
            principal, device_id, request, progress=lambda text: backlog.put(Event("progress", text))
        )
        calling = Deferred.fromCoroutine(call)
        calling.addBoth(outcome.callback).addBoth(lambda _: backlog.end())
        try:
            async for event in backlog:
                yield event
        except CancelledError:
            calling.cancel()
        yield Event("result", _told(await outcome) or b"null")


def _told(reply: Reply) -> bytes:
    """What the caller gets, as JSON text; empty if that is nothing."""
    return jsontext.encode(RpcIdJSON(reply.rpc_id)) if reply.kept else reply.payload


def parse_call(body: bytes, *, oneway: bool, rpc_id: UUID) -> CallRequest:
    """The call that a body asks for. Raises InvalidRequest, which names the member.

    Members are read as leniently as the clients in the field need it: see docs/rest.md.
    """
    if not body.strip():
        raise InvalidRequest("Invalid request body: it is empty, and must be a JSON object with a method")
    try:
        members = jsontext.decode(body)
    except jsontext.BadJSON as error:
        raise InvalidRequest(f"Invalid request body: {error}") from None
    if not isinstance(members, dict):
        raise InvalidRequest("Invalid request body: it must be a JSON object with a method")
    if "method" not in members:
        raise InvalidRequest("Invalid request body: the member 'method' is missing")
    return CallRequest(
        method=_loose_text(members["method"]),
        params=jsontext.encode(members.get("params")),
        oneway=oneway,
        persistent=_loose_bool(members.get("persistent")),
        timeout=_loose_int(members["timeout"]) / 1000 if "timeout" in members else None,
        expiration_time=max(0, _loose_int(members["expirationTime"])) if "expirationTime" in members else None,
        connect_timeout=_connect_timeout(members.get("connectTimeout")),
        retries=_loose_int(members["retries"]) if "retries" in members else None,
        strategy=_strategy(members.get("submitStrategy")),
        once="requestUUID" in members,
        request_id=_request_uuid(members["requestUUID"]) if "requestUUID" in members else rpc_id,
        additional_info=members.get("additionalInfo"),
    )


def _loose_text(value: Any) -> str:
    """A scalar as text; an object or an array is no text at all."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, (dict, list)) else jsontext.encode(value).decode()


def _loose_int(value: Any) -> int:
    """A number, or a string that spells one; anything else counts as 0."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else 0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return int(max(-_FAR, min(_FAR, value)))


def _loose_bool(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _connect_timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise InvalidRequest("Invalid request body: 'connectTimeout' must be a number of milliseconds")
    return min(float(value), float(_FAR)) / 1000


def _strategy(value: Any) -> SubmitStrategy | None:
    if value is None:
        return None
    try:
        return SubmitStrategy(value)
    except ValueError:
        words = ", ".join(SubmitStrategy)
        raise InvalidRequest(f"Invalid request body: 'submitStrategy' must be one of {words}") from None


def _request_uuid(value: Any) -> UUID:
    if not isinstance(value, str):
        raise InvalidRequest("Invalid request body: 'requestUUID' must be a UUID")
    try:
        return parse_uuid(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"Invalid request body: 'requestUUID': {error.message}") from None
