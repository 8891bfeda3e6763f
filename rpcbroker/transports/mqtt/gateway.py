"""What a gateway says for its children: see docs/mqtt.md, Gateways.

A child is a device with a session of its own; its link is the gateway's connection. A message is taken apart by
child. A known child's part is acted on at once. The first one for an unknown child waits until the store has found or
made it, and so does all that comes for that child meanwhile: each child's messages keep their order, and no child
waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredList, fail

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.jsontext import BadJSON, BadShape
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.questions import Question
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.core.values import attributes_of, points_in
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.carrier import Carrier
from rpcbroker.transports.mqtt.face import Outcome, Refused
from rpcbroker.transports.mqtt.gateway_children import GatewayChildren
from rpcbroker.transports.mqtt.gateway_link import ChildLink, Downlink
from rpcbroker.transports.mqtt.questions import ask
from rpcbroker.transports.mqtt.replies import progress, reply
from rpcbroker.wire.mqtt.packets import ReasonCode

T = TypeVar("T")


class Named(msgspec.Struct, frozen=True, gc=False):
    """`v1/gateway/connect` and `disconnect`."""

    device: str
    type: str | None = None


Id = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


class Rpc(msgspec.Struct, frozen=True, gc=False):
    """`v1/gateway/rpc`: a reply if it has `data`, else a report if it has `progress`, else a question to the server."""

    device: str
    id: Id
    data: msgspec.Raw = msgspec.Raw()
    progress: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw()
    method: str | None = None


class AttributesRequest(msgspec.Struct, frozen=True, gc=False):
    """`v1/gateway/attributes/request`: client attributes, or shared ones; of several `keys`, none are all."""

    device: str
    id: Id
    client: bool = False
    key: str | None = None
    keys: list[str] | None = None


Act: TypeAlias = Callable[["GatewayFace", ChildLink, T], Outcome]
"""What is done with the part of a message that is one child's."""


class GatewayFace:
    """One connection of one gateway, as far as it speaks for others."""

    def __init__(
        self,
        session: DeviceSession,
        broker: Broker,
        carrier: Carrier,
        granted: Callable[[str], int | None],
        *,
        settings: Callable[[], MqttSettings],
        claim: Callable[[Device, bytes], Deferred[None]],
    ) -> None:
        """`session` is the gateway's own; `granted` tells the QoS of its subscription of exactly this filter, if any.

        `settings` is asked for at the time of use. `claim` keeps a child's offer to be claimed, given as JSON text.
        """
        self._session = session
        self._broker = broker
        self._claim = claim
        self._downlink = Downlink(carrier, granted)
        self._children = GatewayChildren(session, broker, self._downlink, settings)

    # -- the gateway's connection

    def publish(self, topic: str, payload: bytes) -> Outcome:
        """Act on a message to a topic that begins with `v1/gateway/`.

        Raises Refused, BadJSON and BrokerErrors, and fails with the same; by then all is kept of it that can be.
        """
        act = _ACTIONS.get(topic)
        if act is None:
            return ReasonCode.TOPIC_NAME_INVALID
        try:
            return act(self, payload)
        except BadShape as error:
            raise Refused(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, str(error), ends=True) from None

    def gone(self, cause: str) -> None:
        """The connection has ended, and with it the children's links."""
        self._downlink.ended = True
        self._children.leave_all(f"its gateway {self._session.device.name!r}: {cause}")

    def close(self, reason: CloseReason) -> None:
        """The broker ends the connection."""
        self.gone(reason.value)

    # -- what the gateway says

    def _connect(self, payload: bytes) -> Outcome:
        named: Named = jsontext.decode_as(Named, payload)
        self._children.release(named.device)
        return self._hand(named.device, GatewayFace._connected, None, len(payload), type_=named.type)

    def _disconnect(self, payload: bytes) -> Outcome:
        name = jsontext.decode_as(Named, payload).device
        if name not in self._children:
            return ReasonCode.SUCCESS
        return self._hand(name, GatewayFace._disconnected, None, len(payload))

    def _rpc(self, payload: bytes) -> Outcome:
        message: Rpc = jsontext.decode_as(Rpc, payload)
        if message.data:
            return self._hand(message.device, GatewayFace._reply, message, len(payload))
        if message.progress:
            return self._hand(message.device, GatewayFace._progress, message, len(payload))
        if message.method is None:
            raise BadJSON("no 'data', which a reply has, nor 'method', which a question has, nor 'progress'")
        return self._hand(message.device, GatewayFace._ask, message, len(payload))

    def _telemetry(self, payload: bytes) -> Outcome:
        message: dict[str, Any] = jsontext.decode_as(dict[str, Any], payload)
        parts = {name: entries for name, entries in message.items() if type(entries) is list}
        if not parts:
            raise BadShape("there is no child with an array of telemetry")
        return self._each(parts, GatewayFace._keep_telemetry, len(payload))

    def _attributes(self, payload: bytes) -> Outcome:
        return self._each(_children_of(payload), GatewayFace._keep_attributes, len(payload))

    def _attributes_request(self, payload: bytes) -> Outcome:
        request: AttributesRequest = jsontext.decode_as(AttributesRequest, payload)
        if request.key is None and request.keys is None:
            raise BadShape("neither 'key' nor 'keys'")
        return self._hand(request.device, GatewayFace._read_attributes, request, len(payload))

    def _claims(self, payload: bytes) -> Outcome:
        return self._each(_children_of(payload), GatewayFace._offer, len(payload))

    # -- what that is for one child

    def _connected(self, child: ChildLink, _: None) -> Outcome:
        self._charge(child)
        return ReasonCode.SUCCESS

    def _disconnected(self, child: ChildLink, _: None) -> Outcome:
        self._children.leave(child, "its gateway said that it disconnected")
        return ReasonCode.SUCCESS

    def _reply(self, child: ChildLink, message: Rpc) -> Outcome:
        self._charge(child)
        return reply(child.session, message.id, bytes(message.data))

    def _progress(self, child: ChildLink, message: Rpc) -> Outcome:
        self._charge(child)
        return progress(child.session, message.id, bytes(message.progress))

    def _ask(self, child: ChildLink, message: Rpc) -> Outcome:
        assert message.method is not None
        self._charge(child)

        def answered(answer: bytes) -> None:
            if child.attached:
                told = b'{"device":%b,"id":%d,"data":%b}' % (child.spelled, message.id, answer)
                self._downlink.publish(dialect.GATEWAY_RPC, told)

        question = Question(
            method=message.method,
            params=bytes(message.params) or b"null",
            transport=child.protocol,
            number=message.id,
            late=answered,
        )
        ask(self._broker, child.session, question, answered)
        return ReasonCode.SUCCESS

    def _keep_telemetry(self, child: ChildLink, entries: list[Any]) -> Outcome:
        telemetry = self._broker.telemetry
        posted = telemetry.parsed(entries)
        self._charge(child, points_in(posted))
        kept = self._broker.keep_telemetry(child.session, posted)
        return ReasonCode.SUCCESS if kept is None else kept.addCallback(_success)

    def _keep_attributes(self, child: ChildLink, message: Any) -> Outcome:
        attributes = self._broker.attributes
        values = attributes_of(message, attributes.settings)
        self._charge(child, len(values))
        return self._broker.keep_attributes(child.session, values).addCallback(_success)

    def _read_attributes(self, child: ChildLink, request: AttributesRequest) -> Outcome:
        self._charge(child)
        keys = [request.key] if request.key is not None else request.keys
        wanted = (keys, None) if request.client else (None, keys)
        found = Deferred.fromCoroutine(self._broker.attributes.of_device(child.session.device.id, *wanted))

        def answer(halves: tuple[dict[str, msgspec.Raw], dict[str, msgspec.Raw]]) -> int:
            values = halves[0] or halves[1]
            told: dict[str, Any] = {"id": request.id, "device": child.name}
            if request.key is None:
                told["values"] = values
            elif request.key in values:
                told["value"] = values[request.key]
            self._downlink.publish(dialect.GATEWAY_ATTRIBUTES_RESPONSE, jsontext.encode(told))
            return ReasonCode.SUCCESS

        return found.addCallback(answer)

    def _offer(self, child: ChildLink, message: Any) -> Outcome:
        self._charge(child)
        return self._claim(child.session.device, jsontext.encode(message)).addCallback(_success)

    def _charge(self, child: ChildLink, points: int = 0) -> None:
        """Raises Refused if the children have sent as much as they may: [limits]."""
        quotas = self._broker.quotas
        if quotas.any and not quotas.charge(child.session.device, points=points, via=self._session.device):
            child.session.note(NearMiss.RATE_LIMITED, "sends more than the devices behind its gateway may")
            self._downlink.disconnected(child.name, ReasonCode.MESSAGE_RATE_TOO_HIGH)
            raise Refused(ReasonCode.QUOTA_EXCEEDED, "the gateway's devices send more than they may", ends=True)

    # -- who that is

    def _each(self, parts: Mapping[str, T], act: Act[T], size: int) -> Outcome:
        """`act` on each child's part; done when all are. One that fails keeps no other from its own."""
        outcomes = []
        share = size // len(parts)
        for name, part in parts.items():
            try:
                outcome = self._hand(name, act, part, share)
            except (Refused, BadJSON, BrokerError) as error:
                outcome = fail(error)
            if isinstance(outcome, Deferred):
                outcomes.append(outcome)
        return _all(outcomes) if outcomes else ReasonCode.SUCCESS

    def _hand(
        self,
        name: str,
        act: Act[T],
        part: T,
        size: int,
        *,
        type_: str | None = None,
    ) -> Outcome:
        """`act` on the part of the child that is called `name`: now, or when it is there."""
        child = self._children.get(name)
        if child is not None:
            return self._act(child, act, part)
        waiting = self._children.arrival(name, type_, size)

        def arrived(child: ChildLink) -> Outcome:
            if child.attached or self._downlink.ended:
                return self._act(child, act, part)
            return self._hand(name, act, part, size)

        return waiting.addCallback(arrived)

    def _act(self, child: ChildLink, act: Act[T], part: T) -> Outcome:
        child.session.seen(child.protocol)
        try:
            return act(self, child, part)
        except BadJSON as error:
            child.session.note(NearMiss.BAD_PAYLOAD, f"was sent for what cannot be taken: {error}")
            raise BadJSON(f"device {child.name!r}: {error}") from None


def _children_of(payload: bytes) -> dict[str, Any]:
    """Name of a child -> its part. Raises BadJSON."""
    parts: dict[str, Any] = jsontext.decode_as(dict[str, Any], payload)
    if not parts:
        raise BadShape("no child is named")
    return parts


def _success(_: object) -> int:
    return ReasonCode.SUCCESS


def _all(outcomes: list[Deferred[int]]) -> Deferred[int]:
    """Fires when all have; fails, then, with the first failure."""

    def done(results: list[tuple[bool, Any]]) -> Any:
        return next((failure for success, failure in results if not success), ReasonCode.SUCCESS)

    return DeferredList(outcomes, consumeErrors=True).addCallback(done)


_ACTIONS: dict[str, Callable[[GatewayFace, bytes], Outcome]] = {
    dialect.GATEWAY_CONNECT: GatewayFace._connect,
    dialect.GATEWAY_DISCONNECT: GatewayFace._disconnect,
    dialect.GATEWAY_RPC: GatewayFace._rpc,
    dialect.GATEWAY_TELEMETRY: GatewayFace._telemetry,
    dialect.GATEWAY_ATTRIBUTES: GatewayFace._attributes,
    dialect.GATEWAY_ATTRIBUTES_REQUEST: GatewayFace._attributes_request,
    dialect.GATEWAY_CLAIM: GatewayFace._claims,
}
