"""What a gateway says for its children, and what they are told through it (contract 3.7).

A child is a device with a session of its own; its link is the gateway's connection. A message is taken apart by
child. A known child's part is acted on at once. The first one for an unknown child waits until the store has found or
made it, and so does all that comes for that child meanwhile: each child's messages keep their order, and no child
waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call
from rpcbroker.core.errors import BrokerError, CallFailed, InvalidRequest, Unavailable
from rpcbroker.core.jsontext import BadJSON, BadShape
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.face import Outcome, Refused
from rpcbroker.wire.mqtt.packets import ReasonCode

T = TypeVar("T")

LOOKUPS = 64
"""Children of one gateway that are looked up or made at one time: one gateway must not fill the store's queue."""
PART_SIZE = 500
"""Bytes of memory that a waiting part of a message takes, beside its text."""

_MODERN = 5
_TOLD = {
    CloseReason.TAKEN_OVER: ReasonCode.SESSION_TAKEN_OVER,
    CloseReason.DEVICE_DELETED: ReasonCode.ADMINISTRATIVE_ACTION,
}
"""What a gateway is told when the broker ends a child's link; the others end the gateway's connection too."""


class Carrier(Protocol):
    """The gateway's connection, as its children need it."""

    @property
    def level(self) -> int:
        """The protocol's version: 3, 4 or 5."""

    def carry(self, session: DeviceSession, link: ChildLink, call: Call, topic: str, payload: bytes, qos: int) -> bool:
        """Write the call and report what becomes of it to `session`, as Link.deliver says.

        False: not now. `session.resume(link)` is called when there is room.
        """

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Something that nobody waits for. Never raises."""


class Named(msgspec.Struct, frozen=True, gc=False):
    """`v1/gateway/connect` and `disconnect`."""

    device: str
    type: str | None = None


Id = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]


class Rpc(msgspec.Struct, frozen=True, gc=False):
    """`v1/gateway/rpc`: a reply if it has `data`, else a question to the server."""

    device: str
    id: Id
    data: msgspec.Raw = msgspec.Raw()
    method: str | None = None


class ChildLink:
    """A device that speaks through a gateway: the Link that its calls go over."""

    __slots__ = ("_face", "attached", "name", "session", "spelled")

    protocol = "MQTT gateway"

    def __init__(self, session: DeviceSession, name: str, face: GatewayFace) -> None:
        """`name` is what the gateway calls the device, whatever its record says by now."""
        self.session = session
        self.name = name
        self.spelled = jsontext.encode(name)
        """The name as JSON text."""
        self.attached = False
        """Whether it is the device's way now; False once something else is, or nothing."""
        self._face = face

    def attach(self) -> None:
        """From now on this is the device's way, and it takes calls."""
        self.attached = True
        self.session.attach(self)
        self.session.subscribe(self)

    def detach(self, cause: str) -> None:
        self.attached = False
        self.session.detach(self, cause)

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool:
        payload = b'{"device":%b,"data":{"id":%d,"method":%b,"params":%b}}' % (
            self.spelled,
            call.wire_id,
            jsontext.encode(call.method),
            call.params,
        )
        return self._face.carry(self, call, payload)

    def close(self, reason: CloseReason) -> None:
        self.attached = False
        self._face.closed(self, reason)

    def why_not_callable(self) -> str:
        return "its gateway has not finished connecting it"


class GatewayFace:
    """One connection of one gateway, as far as it speaks for others."""

    _log = Logger()

    def __init__(
        self,
        session: DeviceSession,
        broker: Broker,
        carrier: Carrier,
        granted: Callable[[str], int | None],
        *,
        settings: Callable[[], MqttSettings],
    ) -> None:
        """`session` is the gateway's own; `granted` tells the QoS of its subscription of exactly this filter, if any.

        `settings` is asked for at the time of use.
        """
        self._session = session
        self._broker = broker
        self._carrier = carrier
        self._granted = granted
        self._settings = settings
        self._children: dict[str, ChildLink] = {}
        self._arriving: dict[str, list[Deferred[ChildLink]]] = {}
        """For each child that is being found: the parts of messages that wait for it, in their order."""
        self._waiting_size = 0
        self._lookups = DeferredSemaphore(LOOKUPS)
        self._ended = False

    # -- the gateway's connection

    def publish(self, topic: str, payload: bytes) -> Outcome:
        """Act on a message to a topic that begins with `v1/gateway/`.

        Raises Refused and BadJSON, and fails with the same; by then all is kept of it that can be.
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
        self._ended = True
        children, self._children = self._children, {}
        for child in children.values():
            child.detach(f"its gateway {self._session.device.name!r}: {cause}")

    def close(self, reason: CloseReason) -> None:
        """The broker ends the connection."""
        self.gone(reason.value)

    # -- the children's links

    def carry(self, child: ChildLink, call: Call, payload: bytes) -> bool:
        """Give a call to the gateway, subscribed or not."""
        qos = self._granted(dialect.GATEWAY_RPC)
        return self._carrier.carry(child.session, child, call, dialect.GATEWAY_RPC, payload, 1 if qos is None else qos)

    def closed(self, child: ChildLink, reason: CloseReason) -> None:
        """The broker has ended a child's link."""
        if reason is CloseReason.CREDENTIALS_CHANGED:
            # It was the gateway that proved who it is, not the child: the link is good as ever, once this is over.
            self._broker.deadlines.after(0, self._attach_again, child)
        elif reason is not CloseReason.TAKEN_OVER and self._children.get(child.name) is child:
            del self._children[child.name]
        if reason in _TOLD:
            self._tell(child.name, _TOLD[reason])

    def _attach_again(self, child: ChildLink) -> None:
        if self._children.get(child.name) is child and not child.session.connected:
            child.attach()

    # -- what the gateway says

    def _connect(self, payload: bytes) -> Outcome:
        named: Named = jsontext.decode_as(Named, payload)
        child = self._children.get(named.device)
        if child is not None and not child.attached:
            del self._children[named.device]
        return self._hand(named.device, GatewayFace._connected, None, len(payload), type_=named.type)

    def _disconnect(self, payload: bytes) -> Outcome:
        name = jsontext.decode_as(Named, payload).device
        if name not in self._children and name not in self._arriving:
            return ReasonCode.SUCCESS
        return self._hand(name, GatewayFace._disconnected, None, len(payload))

    def _rpc(self, payload: bytes) -> Outcome:
        message: Rpc = jsontext.decode_as(Rpc, payload)
        if message.data:
            return self._hand(message.device, GatewayFace._reply, message, len(payload))
        if message.method is None:
            raise BadJSON("neither 'data', which a reply has, nor 'method', which a question has")
        return self._hand(message.device, GatewayFace._ask, message, len(payload))

    # -- what that is for one child

    def _connected(self, child: ChildLink, _: None) -> Outcome:
        return ReasonCode.SUCCESS

    def _disconnected(self, child: ChildLink, _: None) -> Outcome:
        if self._children.get(child.name) is child:
            del self._children[child.name]
        child.detach("its gateway said that it disconnected")
        return ReasonCode.SUCCESS

    def _reply(self, child: ChildLink, message: Rpc) -> Outcome:
        data = bytes(message.data)
        try:
            jsontext.decode(data)
        except BadJSON as error:
            child.session.receive_bad(message.id, str(error))
            return ReasonCode.PAYLOAD_FORMAT_INVALID
        child.session.receive(message.id, data)
        return ReasonCode.SUCCESS

    def _ask(self, child: ChildLink, message: Rpc) -> Outcome:
        assert message.method is not None
        try:
            answer = self._broker.ask(message.method, transport=child.protocol, own={})
        except CallFailed as error:
            answer = jsontext.encode({"error": error.message})
        self._publish(dialect.GATEWAY_RPC, b'{"device":%b,"id":%d,"data":%b}' % (child.spelled, message.id, answer))
        return ReasonCode.SUCCESS

    # -- who that is

    def _each(self, parts: Mapping[str, T], act: Callable[[GatewayFace, ChildLink, T], Outcome], size: int) -> Outcome:
        """`act` on each child's part; done when all are. One that fails keeps no other from its own."""
        outcomes = []
        share = size // len(parts)
        for name, part in parts.items():
            try:
                outcome = self._hand(name, act, part, share)
            except (Refused, BadJSON) as error:
                outcome = fail(error)
            if isinstance(outcome, Deferred):
                outcomes.append(outcome)
        return _all(outcomes) if outcomes else ReasonCode.SUCCESS

    def _hand(
        self,
        name: str,
        act: Callable[[GatewayFace, ChildLink, T], Outcome],
        part: T,
        size: int,
        *,
        type_: str | None = None,
    ) -> Outcome:
        """`act` on the part of the child that is called `name`: now, or when it is there."""
        child = self._known(name)
        if child is not None:
            return self._act(child, act, part)
        waiting = self._arrival(name, type_, size)

        def arrived(child: ChildLink) -> Outcome:
            if child.attached or self._ended:
                return self._act(child, act, part)
            return self._hand(name, act, part, size)

        return waiting.addCallback(arrived)

    def _known(self, name: str) -> ChildLink | None:
        child = self._children.get(name)
        if child is None or child.attached or child.session.connected:
            return child
        # What took it over has left, or it was deleted: it is as if it had never been here.
        del self._children[name]
        return None

    def _act(self, child: ChildLink, act: Callable[[GatewayFace, ChildLink, T], Outcome], part: T) -> Outcome:
        child.session.seen(child.protocol)
        try:
            outcome = act(self, child, part)
        except BadJSON as error:
            raise BadJSON(f"device {child.name!r}: {error}") from None
        except BrokerError as error:
            raise self._refused(error) from None
        return outcome.addErrback(self._failed) if isinstance(outcome, Deferred) else outcome

    def _arrival(self, name: str, type_: str | None, size: int) -> Deferred[ChildLink]:
        """Fires when the child is there, after what came for it before. Raises Refused, and fails with it."""
        settings, size = self._settings(), size + PART_SIZE
        if self._waiting_size + size > settings.max_waiting:
            raise self._refusal(ReasonCode.QUOTA_EXCEEDED, "too much waits for children that are not found yet")
        new = name not in self._arriving
        if new and len(self._children) + len(self._arriving) >= settings.max_children:
            self._tell(name, ReasonCode.QUOTA_EXCEEDED)
            raise self._refusal(ReasonCode.QUOTA_EXCEEDED, f"a gateway has at most {settings.max_children} children")
        waiting: Deferred[ChildLink] = Deferred()
        self._arriving.setdefault(name, []).append(waiting)
        self._waiting_size += size
        if new:
            found = self._lookups.run(lambda: Deferred.fromCoroutine(self._broker.child(self._session, name, type_)))
            found.addCallbacks(self._arrived, self._not_found, callbackArgs=(name,), errbackArgs=(name,))

        def waited(result: Any) -> Any:
            self._waiting_size -= size
            return result

        return waiting.addBoth(waited)

    def _arrived(self, session: DeviceSession, name: str) -> None:
        child = ChildLink(session, name, self)
        if not self._ended:
            self._children[name] = child
            child.attach()
        for waiting in self._arriving.pop(name):
            waiting.callback(child)

    def _not_found(self, failure: Failure, name: str) -> None:
        error = failure.value
        if not isinstance(error, BrokerError):
            self._log.failure("a child of gateway {gateway} was not found", failure, gateway=self._session.device.name)
        if isinstance(error, InvalidRequest):
            refused = self._refusal(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, error.message)
        else:
            refused = self._refusal(ReasonCode.UNSPECIFIED_ERROR, f"device {name!r} could not be found or made")
        self._tell(name, refused.code)
        for waiting in self._arriving.pop(name):
            waiting.errback(refused)

    # -- what the gateway hears

    def _publish(self, topic: str, payload: bytes) -> None:
        """Tell the gateway, whether it subscribed or not; at QoS 1 if it did not."""
        if not self._ended:
            qos = self._granted(topic)
            self._carrier.publish(topic, payload, 1 if qos is None else qos)

    def _tell(self, name: str, code: int) -> None:
        """A child is not, or no longer, this gateway's; `code` says why (5.0 only)."""
        if self._carrier.level >= _MODERN:
            self._publish(dialect.GATEWAY_DISCONNECT, jsontext.encode({"device": name, "reason": int(code)}))

    def _refusal(self, code: int, message: str) -> Refused:
        """One that ends the connection only if that is the one way of saying no: before 5.0."""
        return Refused(code, message, ends=self._carrier.level < _MODERN)

    def _refused(self, error: BrokerError) -> Refused:
        if isinstance(error, Unavailable):
            # Who is told no may forget the message; who is cut off will send it again.
            return Refused(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, error.message, ends=True)
        if isinstance(error, InvalidRequest):
            return self._refusal(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, error.message)
        return self._refusal(ReasonCode.UNSPECIFIED_ERROR, error.message)

    def _failed(self, failure: Failure) -> int:
        failure.trap(BrokerError)
        raise self._refused(failure.value) from None


def _all(outcomes: list[Deferred[int]]) -> Deferred[int]:
    """Fires when all have; fails, then, with the first failure."""

    def done(results: list[tuple[bool, Any]]) -> Any:
        return next((failure for success, failure in results if not success), ReasonCode.SUCCESS)

    return DeferredList(outcomes, consumeErrors=True).addCallback(done)


_ACTIONS: dict[str, Callable[[GatewayFace, bytes], Outcome]] = {
    dialect.GATEWAY_CONNECT: GatewayFace._connect,
    dialect.GATEWAY_DISCONNECT: GatewayFace._disconnect,
    dialect.GATEWAY_RPC: GatewayFace._rpc,
}
