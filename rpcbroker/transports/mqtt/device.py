"""What a device says and hears over MQTT, once it is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import CallFailed, Reason, Undeliverable
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports import dialect
from rpcbroker.transports.dialect import Uplink
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.connection import PacketTooLarge, ServerConnection
from rpcbroker.wire.mqtt.packets import (
    PubAck,
    Publish,
    ReasonCode,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)

MAX_SUBSCRIPTIONS = 100
"""Filters of one connection: the few that there are, and responses with concrete ids."""

_REFUSED_V3 = 0x80


class Question(msgspec.Struct):
    """A device's question to the server: client-side RPC."""

    method: str
    params: Any = None


class MqttLink:
    """One connection of one device: the Link that its calls go over."""

    __slots__ = (
        "_ack_timeout",
        "_awaited",
        "_broker",
        "_connection",
        "_granted",
        "_max_packet_size",
        "_refused_filter",
        "_session",
        "_starved",
        "_write",
        "disconnect",
        "paused",
    )

    protocol = "MQTT"

    def __init__(
        self,
        session: DeviceSession,
        connection: ServerConnection,
        *,
        broker: Broker,
        max_packet_size: int,
        ack_timeout: Callable[[], float],
        write: Callable[[bytes], None],
        disconnect: Callable[[CloseReason], None],
    ) -> None:
        """`max_packet_size` is what the device was promised; `ack_timeout` is asked for at each delivery.

        `write` sends bytes to the device; `disconnect` ends the connection.
        """
        self._session = session
        self._connection = connection
        self._broker = broker
        self._max_packet_size = max_packet_size
        self._ack_timeout = ack_timeout
        self._write = write
        self.disconnect = disconnect
        self.paused = False
        """The device does not read what was sent to it."""
        self._starved = False
        self._granted: dict[str, int] = {}
        self._refused_filter: str | None = None
        self._awaited: dict[int, tuple[int, Deadline]] = {}

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool:
        """Publish the call on the request topic, with the QoS that was granted."""
        qos = self._granted.get(dialect.RPC_REQUEST_FILTER, 0)
        if self.paused or (qos and not self._connection.can_publish):
            self._starved = True
            return False
        payload = b'{"method":%b,"params":%b}' % (jsontext.encode(call.method), call.params)
        try:
            data, packet_id = self._connection.publish(f"{dialect.RPC_REQUEST}{call.wire_id}", payload, qos=qos)
        except PacketTooLarge:
            self._session.report(call.wire_id, Step.FAILED, _too_large(len(payload)))
            return True
        self._write(data)
        if packet_id is None:
            self._session.report(call.wire_id, Step.ACKNOWLEDGED)
        else:
            deadline = self._broker.deadlines.after(self._ack_timeout(), self._unacknowledged, call.wire_id)
            self._awaited[packet_id] = call.wire_id, deadline
            self._session.report(call.wire_id, Step.WRITTEN)
        return True

    def close(self, reason: CloseReason) -> None:
        self.forget()
        self.disconnect(reason)

    def why_not_callable(self) -> str:
        refused = f" (it asked for {self._refused_filter!r}, which was refused)" if self._refused_filter else ""
        return f"has not subscribed to {dialect.RPC_REQUEST_FILTER}{refused}"

    def attributes_changed(self, update: bytes) -> None:
        """Devices are not told over MQTT yet."""

    # -- the connection's life

    def forget(self) -> None:
        """No acknowledgement will come any more."""
        for _, deadline in self._awaited.values():
            deadline.cancel()
        self._awaited.clear()

    def resume(self) -> None:
        """There may be room for calls again."""
        if self._starved and not self.paused:
            self._starved = False
            self._session.resume(self)

    def detach(self, cause: str) -> None:
        """The connection is gone."""
        self.forget()
        self._session.detach(self, cause)

    # -- what the device sends

    def publish(self, packet: Publish) -> None:
        """A message of the device. Raises WireError if the connection has to end for it."""
        self._session.seen(self.protocol)
        try:
            meaning, number = dialect.uplink(packet.topic)
            code = _ACTIONS[meaning](self, number, packet.payload)
        except (dialect.BadTopicId, jsontext.BadJSON) as error:
            if self._connection.level < 5 or not packet.qos:
                raise WireError(str(error), ReasonCode.PAYLOAD_FORMAT_INVALID) from None
            code = ReasonCode.PAYLOAD_FORMAT_INVALID
        if packet.packet_id is not None:
            self._write(self._connection.send(PubAck(packet.packet_id, code)))

    def acknowledge(self, packet: PubAck) -> None:
        """The device has a message."""
        self._session.seen(self.protocol)
        wire_id, deadline = self._awaited.pop(packet.packet_id, (0, None))
        if deadline is not None:
            deadline.cancel()
            self._session.report(wire_id, Step.ACKNOWLEDGED)
        self.resume()

    def subscribe(self, packet: Subscribe) -> None:
        """Grant what the contract has, refuse the rest, one code for each filter in order."""
        self._session.seen(self.protocol)
        codes = tuple(self._grant(entry.filter, entry.qos) for entry in packet.subscriptions)
        self._write(self._connection.send(SubAck(packet.packet_id, codes)))
        if any(entry.filter == dialect.RPC_REQUEST_FILTER for entry in packet.subscriptions):
            self._session.subscribe(self)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        self._session.seen(self.protocol)
        missing = ReasonCode.NO_SUBSCRIPTION_EXISTED
        codes = tuple(
            ReasonCode.SUCCESS if self._granted.pop(entry, None) is not None else missing for entry in packet.filters
        )
        self._write(self._connection.send(UnsubAck(packet.packet_id, codes)))
        if dialect.RPC_REQUEST_FILTER not in self._granted:
            self._session.unsubscribe(self, "unsubscribed")

    def seen(self) -> None:
        """The device sent a sign of life."""
        self._session.seen(self.protocol)

    # -- inside

    def _grant(self, topic_filter: str, qos: int) -> int:
        modern = self._connection.level >= 5
        if not dialect.is_granted(topic_filter):
            self._refused_filter = topic_filter[:64]
            return ReasonCode.TOPIC_FILTER_INVALID if modern else _REFUSED_V3
        if len(self._granted) >= MAX_SUBSCRIPTIONS and topic_filter not in self._granted:
            return ReasonCode.QUOTA_EXCEEDED if modern else _REFUSED_V3
        self._granted[topic_filter] = min(qos, 1)
        return min(qos, 1)

    def _reply(self, wire_id: int, payload: bytes) -> int:
        if payload:
            try:
                jsontext.decode(payload)
            except jsontext.BadJSON as error:
                self._session.receive_bad(wire_id, str(error))
                return ReasonCode.PAYLOAD_FORMAT_INVALID
        self._session.receive(wire_id, payload)
        return ReasonCode.SUCCESS

    def _ask(self, number: int, payload: bytes) -> int:
        question = jsontext.decode_as(Question, payload)
        own = {"getSessionLimits": self._session_limits}
        try:
            answer = self._broker.ask(question.method, transport=self.protocol, own=own)
        except CallFailed as error:
            answer = jsontext.encode({"error": error.message})
        self._answer(f"{dialect.RPC_RESPONSE}{number}", answer)
        return ReasonCode.SUCCESS

    def _answer(self, topic: str, payload: bytes) -> None:
        """Publish an answer, whether it was subscribed to or not; at QoS 1 if it was not."""
        qos = self._granted.get(topic, self._granted.get(dialect.RPC_RESPONSE + "+", 1))
        if qos and not self._connection.can_publish:
            qos = 0
        try:
            data, _ = self._connection.publish(topic, payload, qos=qos)
        except PacketTooLarge:
            return  # MQTT-3.1.2-25: the client said that it takes no packet of this size
        self._write(data)

    def _session_limits(self) -> bytes:
        return jsontext.encode(
            {
                "maxPayloadSize": self._max_packet_size,
                "maxInflightMessages": 100,
                "rateLimits": {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None},
            }
        )

    def _values(self, _: int, payload: bytes) -> int:
        """Telemetry and attributes: well-formed ones are acknowledged; they are not kept."""
        if not isinstance(jsontext.decode(payload), (dict, list)):
            raise jsontext.BadJSON("a JSON object or array was expected")
        return ReasonCode.SUCCESS

    def _unknown(self, _: int, payload: bytes) -> int:
        return ReasonCode.TOPIC_NAME_INVALID

    def _unacknowledged(self, wire_id: int) -> None:
        self._session.report(wire_id, Step.UNACKNOWLEDGED)


_ACTIONS: dict[Uplink, Callable[[MqttLink, int, bytes], int]] = {
    Uplink.REPLY: MqttLink._reply,
    Uplink.ASK: MqttLink._ask,
    Uplink.TELEMETRY: MqttLink._values,
    Uplink.ATTRIBUTES: MqttLink._values,
    Uplink.ATTRIBUTES_REQUEST: MqttLink._values,
    Uplink.UNKNOWN: MqttLink._unknown,
}


def _too_large(size: int) -> Undeliverable:
    return Undeliverable(
        "The call is larger than the device takes",
        reason=Reason.TOO_LARGE,
        hint=f"The message has {size} bytes; the device announced a smaller Maximum Packet Size.",
    )
