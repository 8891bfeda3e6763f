"""Server-side RPC over REST: the four URLs that call a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from rpcbroker.api.event_stream import Backlog, Events
from rpcbroker.api.routes import Answer, Note
from rpcbroker.core import access, jsontext
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import CallRequest, Reply
from rpcbroker.core.errors import BrokerError, InvalidRequest
from rpcbroker.core.model import Principal
from rpcbroker.schema.call_members import call_request
from rpcbroker.schema.calls import RpcIdJSON
from rpcbroker.wire.events import Event


class Calls:
    """The handlers of `/api/rpc` and `/api/plugins/rpc`."""

    def __init__(self, *, broker: Broker, audit: AuditTrail, new_uuid: Callable[[], UUID]) -> None:
        self._broker = broker
        self._audit = audit
        self._new_uuid = new_uuid

    def oneway(
        self, principal: Principal, *, device_id: UUID, body: bytes, note: Note, events: bool
    ) -> Awaitable[Answer]:
        """Give a command to a device; answered, without a body, when it was handed over.

        A persistent call is answered with its id as soon as it is kept. With `Accept: text/event-stream` the answer
        is the event `result`, or `error`.
        """
        return self._call(principal, device_id, body, note, oneway=True, events=events)

    def twoway(
        self, principal: Principal, *, device_id: UUID, body: bytes, note: Note, events: bool
    ) -> Awaitable[Answer]:
        """Ask a device; answered with its JSON, whatever that is, or empty, if the device said nothing.

        A persistent call is answered with its id as soon as it is kept. With `Accept: text/event-stream` the answer
        is an event `progress` for each interim answer of the device, then `result`, or `error`.
        """
        return self._call(principal, device_id, body, note, oneway=False, events=events)

    async def _call(
        self, principal: Principal, device_id: UUID, body: bytes, note: Note, *, oneway: bool, events: bool
    ) -> Answer:
        rpc_id = self._new_uuid()
        try:
            request = parse_call(body, oneway=oneway, rpc_id=rpc_id)
            rpc_id = request.request_id or rpc_id
            note.data = self._audit.of_call(request, rpc_id)
            if events:  # what is wrong with the request is a status; what goes wrong with the call is an event
                await self._broker.session_to_call(principal, device_id)
                access.require_callable(principal, request.method, oneway=oneway)
                return Answer(self._events(principal, device_id, request), {"X-RPC-Id": str(rpc_id)})
            reply = await self._broker.call(principal, device_id, request)
        except BrokerError as error:
            error.rpc_id = rpc_id
            raise
        finally:
            note.name = self._broker.name_of(principal, device_id)
        return Answer(_told(reply), {"X-RPC-Id": msgspec.to_builtins(reply.rpc_id)})  # str() takes six times as long

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
    try:
        return call_request(members, oneway=oneway, rpc_id=rpc_id)
    except InvalidRequest as error:
        raise InvalidRequest(f"Invalid request body: {error.message}") from None
