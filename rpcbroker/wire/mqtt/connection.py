"""The server's side of one MQTT connection, without I/O: bytes in, packets out, and back.

`receive` yields what the broker has to act on, one packet at a time, and raises WireError at the
point where the peer broke the protocol; `farewell` then has the last bytes. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import codec
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.fields import encode_varint
from rpcbroker.wire.mqtt.packets import Packet, ReasonCode
from rpcbroker.wire.mqtt.properties import Property

KEEP_ALIVE_GRACE = 1.5  # MQTT-3.1.2-24
NO_LIMIT = 0xFFFF


class ConnectionState(Enum):
    AWAITING_CONNECT = auto()
    AWAITING_DECISION = auto()
    OPEN = auto()
    CLOSED = auto()


class _Input(Enum):
    CONNECT = auto()
    ACCEPTED = auto()
    ENDED = auto()


_S = ConnectionState
TRANSITIONS = {
    (_S.AWAITING_CONNECT, _Input.CONNECT): _S.AWAITING_DECISION,
    (_S.AWAITING_DECISION, _Input.ACCEPTED): _S.OPEN,
    (_S.AWAITING_CONNECT, _Input.ENDED): _S.CLOSED,
    (_S.AWAITING_DECISION, _Input.ENDED): _S.CLOSED,
    (_S.OPEN, _Input.ENDED): _S.CLOSED,
    (_S.CLOSED, _Input.ENDED): _S.CLOSED,
}
"""A pair that is not here is the caller's mistake."""


class PacketTooLarge(WireError):
    """The client said that it does not take a packet of this size (MQTT-3.1.2-24 of 5.0)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a packet of {size} bytes is more than the client takes", ReasonCode.PACKET_TOO_LARGE)


def refusal(connect: p.Connect) -> int | None:
    """The CONNACK code (of MQTT 5.0) that this CONNECT must be refused with, whoever sends it; else None."""
    if Property.AUTHENTICATION_METHOD in connect.properties:
        return ReasonCode.BAD_AUTHENTICATION_METHOD  # MQTT-5 4.12: none is offered
    if not connect.client_id and connect.level < 5 and not connect.clean_start:
        return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID  # MQTT-3.1.3-8
    return None


class ServerConnection:
    """One connection of a client."""

    __slots__ = (
        "_connect_deadline",
        "_frames",
        "_in_flight",
        "_keep_alive",
        "_last_packet_id",
        "_last_received",
        "_max_outgoing",
        "_receive_maximum",
        "level",
        "state",
    )

    def __init__(self, *, max_packet_size: int, connect_timeout: float, now: float) -> None:
        self.state = ConnectionState.AWAITING_CONNECT
        self.level = 0
        """The protocol level; 0 before CONNECT."""
        self._frames = codec.FrameReader(max_packet_size)
        self._connect_deadline = now + connect_timeout
        self._last_received = now
        self._keep_alive = 0
        self._receive_maximum = NO_LIMIT
        self._max_outgoing: int | None = None
        self._last_packet_id = 0
        self._in_flight: set[int] | None = None

    # -- in

    def receive(self, data: bytes, now: float) -> Iterator[Packet]:
        """Yield the packets to act on: Connect, Publish, PubAck, Subscribe, Unsubscribe, PingReq, Disconnect.

        After a Connect nothing more is yielded until it was decided on with `send(ConnAck(...))`;
        `receive(b"", now)` then goes on. A PubAck is yielded for an id in flight only.
        """
        frames = self._frames
        frames.feed(data)
        while self.state is _S.OPEN or self.state is _S.AWAITING_CONNECT:
            frame = frames.next()
            if frame is None:
                return
            first_byte, body = frame
            packet_type = first_byte >> 4
            if self.state is _S.AWAITING_CONNECT:
                if packet_type != codec.CONNECT:
                    raise WireError("the first packet is no CONNECT", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.1.0-1
                yield self._connect(codec.decode(first_byte, body, 0))
                continue
            self._last_received = now
            packet = codec.decode(first_byte, body, self.level)
            if type(packet) is p.PubAck:
                if self._in_flight is not None and packet.packet_id in self._in_flight:
                    self._in_flight.discard(packet.packet_id)
                    yield packet
                continue
            self._check(packet)
            if type(packet) is p.Disconnect:
                self._go(_Input.ENDED)  # what comes after it is ignored: MQTT-3.14.4-2
            yield packet

    def _connect(self, packet: Any) -> p.Connect:
        connect: p.Connect = packet
        self.level = connect.level
        self._keep_alive = connect.keep_alive
        self._receive_maximum = connect.properties.get(Property.RECEIVE_MAXIMUM, NO_LIMIT)
        self._max_outgoing = connect.properties.get(Property.MAXIMUM_PACKET_SIZE)
        self._go(_Input.CONNECT)
        return connect

    @staticmethod
    def _check(packet: Packet) -> None:
        """What is well formed and still may not come now, or not from a client."""
        if isinstance(packet, p.Publish):
            if packet.qos == 2:
                raise WireError("QoS 2 is not offered", ReasonCode.QOS_NOT_SUPPORTED)
            if packet.properties:
                if Property.TOPIC_ALIAS in packet.properties:
                    raise WireError("no topic alias was offered", ReasonCode.TOPIC_ALIAS_INVALID)  # MQTT-3.3.2-8
                if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:
                    raise WireError("a subscription identifier", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.3.4-6
        elif isinstance(packet, p.Disconnect):
            if Property.SERVER_REFERENCE in packet.properties:
                raise WireError("a server reference from a client", ReasonCode.PROTOCOL_ERROR)
            if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL):
                raise WireError("a session expiry that CONNECT did not ask for", ReasonCode.PROTOCOL_ERROR)
        elif not isinstance(packet, (p.Subscribe, p.Unsubscribe, p.PingReq)):
            raise WireError(f"{type(packet).__name__} from a client", ReasonCode.PROTOCOL_ERROR)

    # -- out

    def send(self, packet: Packet) -> bytes:
        """The bytes of `packet`, for this client's version. Nothing may be sent once it is CLOSED."""
        if self.state is _S.CLOSED:
            raise RuntimeError("the connection is closed")
        if isinstance(packet, p.ConnAck):
            self._go(_Input.ENDED if packet.code else _Input.ACCEPTED)
        elif self.state is not _S.OPEN:
            raise RuntimeError(f"{type(packet).__name__} before CONNACK")
        elif isinstance(packet, p.Disconnect):
            self._go(_Input.ENDED)
            if self.level < 5:
                return b""
        data = codec.encode(packet, self.level)
        if self._max_outgoing is not None and len(data) > self._max_outgoing:
            return b""  # MQTT-3.1.2-25
        return data

    @property
    def can_publish(self) -> bool:
        """Whether one more QoS 1 message may be in flight (MQTT-3.3.4-9)."""
        return self._in_flight is None or len(self._in_flight) < self._receive_maximum

    def publish(self, topic: str, payload: bytes, *, qos: int) -> tuple[bytes, int | None]:
        """The bytes of a PUBLISH, and its packet id at QoS 1. Raises PacketTooLarge, which changes nothing."""
        name = topic.encode()
        head = len(name).to_bytes(2, "big") + name
        packet_id = None
        if qos:
            packet_id = self._next_packet_id()
            head += packet_id.to_bytes(2, "big")
        if self.level >= 5:
            head += b"\x00"
        length = len(head) + len(payload)
        data = bytes((0x30 | qos << 1,)) + encode_varint(length) + head + payload
        if self._max_outgoing is not None and len(data) > self._max_outgoing:
            raise PacketTooLarge(len(data))
        if packet_id is not None:
            self._last_packet_id = packet_id
            if self._in_flight is None:
                self._in_flight = set()
            self._in_flight.add(packet_id)
        return data, packet_id

    def _next_packet_id(self) -> int:
        in_flight = self._in_flight or ()
        if len(in_flight) >= 0xFFFF:
            raise RuntimeError("all packet identifiers are in flight")
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in in_flight:
                return packet_id

    def farewell(self, error: WireError) -> bytes:
        """What is to be said before the connection is closed for `error`; nothing, in many cases."""
        state, level = self.state, self.level
        self._go(_Input.ENDED)
        if isinstance(error, codec.UnsupportedLevel):  # MQTT-3.1.2-2
            if error.level >= 5:
                return codec.encode(p.ConnAck(False, error.code), 5)
            refused = p.ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION
            return codec.encode(p.ConnAck(False, refused), 4)
        if state is not _S.OPEN or level < 5:
            return b""
        data = codec.encode(p.Disconnect(error.code), level)
        return data if self._max_outgoing is None or len(data) <= self._max_outgoing else b""

    # -- time

    def next_deadline(self) -> float | None:
        """When the connection has to be closed unless a packet comes before; None is never."""
        if self.state is _S.CLOSED:
            return None
        if self.state is not _S.OPEN:
            return self._connect_deadline
        return self._last_received + KEEP_ALIVE_GRACE * self._keep_alive if self._keep_alive else None

    def _go(self, what: _Input) -> None:
        self.state = TRANSITIONS[self.state, what]
