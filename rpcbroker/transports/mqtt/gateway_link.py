"""The way down to a gateway's children: all of them hear over the one connection of their gateway."""

from __future__ import annotations

from collections.abc import Callable

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.carrier import Carrier
from rpcbroker.transports.mqtt.face import Refused

_MODERN = 5


class Downlink:
    """What a gateway hears, whether it subscribed or not: with the QoS that it subscribed with, else with QoS 1."""

    def __init__(self, carrier: Carrier, granted: Callable[[str], int | None]) -> None:
        """`granted` tells the QoS of the gateway's subscription of exactly this filter, if there is one."""
        self._carrier = carrier
        self._granted = granted
        self.ended = False
        """The connection is over; nothing is heard any more."""

    def carry(self, child: ChildLink, call: Call, payload: bytes) -> bool:
        """As Link.deliver."""
        topic = dialect.GATEWAY_RPC
        return self._carrier.carry(child.session, child, call, topic, payload, self._qos(topic))

    def publish(self, topic: str, payload: bytes) -> bool:
        """Something that nobody waits for. False: it is dropped."""
        return not self.ended and self._carrier.publish(topic, payload, self._qos(topic))

    def disconnected(self, name: str, code: int) -> None:
        """A child is not, or no longer, this gateway's; `code` says why. Only gateways of MQTT 5.0 are told."""
        if self._carrier.level >= _MODERN:
            self.publish(dialect.GATEWAY_DISCONNECT, jsontext.encode({"device": name, "reason": int(code)}))

    def refusal(self, code: int, message: str) -> Refused:
        """It ends the connection only where there is no other way to say no: before 5.0."""
        return Refused(code, message, ends=self._carrier.level < _MODERN)

    def _qos(self, topic: str) -> int:
        qos = self._granted(topic)
        return 1 if qos is None else qos


class ChildLink:
    """A device that speaks through a gateway: the Link that its calls go over."""

    __slots__ = ("_closed", "_downlink", "attached", "name", "session", "spelled")

    protocol = "MQTT gateway"
    transient = False

    def __init__(
        self, session: DeviceSession, name: str, downlink: Downlink, closed: Callable[[ChildLink, CloseReason], None]
    ) -> None:
        """`name` is what the gateway calls the device, whatever its record says; `closed` is told of `close`."""
        self.session = session
        self.name = name
        self.spelled = jsontext.encode(name)
        """The name as JSON text."""
        self.attached = False
        """Whether it is the device's way now; False once something else is, or nothing."""
        self._downlink = downlink
        self._closed = closed

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
        return self._downlink.carry(self, call, payload)

    def cancel(self, call: Call) -> bool:
        payload = b'{"device":%b,"data":{"id":%d,"cancel":true}}' % (self.spelled, call.wire_id)
        return self._downlink.publish(dialect.GATEWAY_RPC, payload)

    def attributes_changed(self, update: bytes) -> None:
        self._downlink.publish(dialect.GATEWAY_ATTRIBUTES, b'{"device":%b,"data":%b}' % (self.spelled, update))

    def close(self, reason: CloseReason) -> None:
        self.attached = False
        self._closed(self, reason)

    def why_not_callable(self) -> str:
        return "its gateway has not finished connecting it"
