"""The server's side of one MQTT connection, without I/O: bytes in, packets out, and back.

`receive` yields what the broker has to act on, one packet at a time, and raises WireError at the
point where the peer broke the protocol; `farewell` then has the last bytes. Time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import codec
from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.decoding import UnsupportedLevel
from rpcbroker.wire.mqtt.fields import encode_text, fixed_header
from rpcbroker.wire.mqtt.packets import NO_PROPERTIES, Packet, Properties, ReasonCode
from rpcbroker.wire.mqtt.properties import Property
from rpcbroker.wire.mqtt.reasons import FROM_CLIENT

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
    REFUSED = auto()
    ENDED = auto()


_S = ConnectionState
TRANSITIONS = {
    (_S.AWAITING_CONNECT, _Input.CONNECT): _S.AWAITING_DECISION,
    (_S.AWAITING_CONNECT, _Input.ENDED): _S.CLOSED,
    (_S.AWAITING_DECISION, _Input.ACCEPTED): _S.OPEN,
    (_S.AWAITING_DECISION, _Input.REFUSED): _S.CLOSED,  # MQTT-3.2.2-5 (3.1.1), MQTT-3.2.2-7
    (_S.AWAITING_DECISION, _Input.ENDED): _S.CLOSED,
    (_S.OPEN, _Input.ENDED): _S.CLOSED,
    (_S.CLOSED, _Input.ENDED): _S.CLOSED,
}
"""A pair that is not here is the caller's mistake."""

_NOT_FROM_CLIENT = frozenset(
    {
        n.CONNECT,  # a second one: MQTT-3.1.0-2
        n.CONNACK,
        n.PUBREC,  # QoS 2 is not offered, so nothing of it can be under way
        n.PUBREL,
        n.PUBCOMP,
        n.SUBACK,
        n.UNSUBACK,
        n.PINGRESP,
        n.AUTH,  # no authentication method is ever agreed on: 4.12
    }
)
"""Packet types that end an open connection."""


class PacketTooLarge(WireError):
    """The client said that it does not take a packet of this size (MQTT-3.1.2-24 of 5.0)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a packet of {size} bytes is more than the client takes", ReasonCode.PACKET_TOO_LARGE)


def refusal(connect: p.Connect) -> int | None:
    """The CONNACK code (of MQTT 5.0) that this CONNECT must be refused with, whoever sends it; else None."""
    if Property.AUTHENTICATION_METHOD in connect.properties:
        return ReasonCode.BAD_AUTHENTICATION_METHOD  # MQTT-5 4.12: none is offered
    if connect.level >= 5 and connect.will is not None and connect.will.qos > 1:
        return ReasonCode.QOS_NOT_SUPPORTED  # MQTT-3.2.2-12
    if not connect.client_id and (connect.level == 3 or (connect.level == 4 and not connect.clean_start)):
        return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID  # MQTT-3.1.3-8 (3.1.1); 3.1 has no empty ones: 3.1, 3.1
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
        "_may_expire_later",
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
        self._may_expire_later = False
        self._last_packet_id = 0
        self._in_flight: set[int] | None = None

    # -- in

    def receive(self, data: bytes, now: float) -> Iterator[Packet]:
        """Yield the packets to act on: Connect, Publish, PubAck, Subscribe, Unsubscribe, PingReq, Disconnect.

        After a Connect nothing more is yielded until it was decided on with `send(ConnAck(...))`;
        `receive(b"", now)` then goes on. A PubAck is yielded for an id in flight only.
        """
        frames = self._frames
        if self.state is _S.CLOSED:
            return
        if self.state is _S.AWAITING_DECISION and frames.full:
            raise WireError("too much before CONNACK", ReasonCode.QUOTA_EXCEEDED)
        if not data:
            self._last_received = now  # the time that the decision took is not the client's
        frames.feed(data)
        while self.state is _S.OPEN or self.state is _S.AWAITING_CONNECT:
            frame = frames.next()
            if frame is None:
                return
            self._last_received = now
            first_byte, body = frame
            packet_type = first_byte >> 4
            if self.state is _S.AWAITING_CONNECT:
                if packet_type != n.CONNECT:
                    raise WireError("the first packet is no CONNECT", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.1.0-1
            elif packet_type in _NOT_FROM_CLIENT:
                raise WireError(f"packet type {packet_type} from a client", ReasonCode.PROTOCOL_ERROR)
            packet = codec.decode(first_byte, body, self.level)
            check = _CHECKS.get(packet_type)
            if check is None or check(self, packet):
                yield packet

    def _connect(self, packet: p.Connect) -> bool:
        self.level = packet.level
        self._keep_alive = packet.keep_alive
        self._receive_maximum = packet.properties.get(Property.RECEIVE_MAXIMUM, NO_LIMIT)
        self._max_outgoing = packet.properties.get(Property.MAXIMUM_PACKET_SIZE)
        self._may_expire_later = bool(packet.properties.get(Property.SESSION_EXPIRY_INTERVAL))
        self._go(_Input.CONNECT)
        return True

    def _publish(self, packet: p.Publish) -> bool:
        if packet.qos == 2:
            raise WireError("QoS 2 is not offered", ReasonCode.QOS_NOT_SUPPORTED)  # MQTT-3.2.2-11
        if packet.properties:
            if Property.TOPIC_ALIAS in packet.properties:
                raise WireError("no topic alias was offered", ReasonCode.TOPIC_ALIAS_INVALID)  # MQTT-3.3.2-9
            if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:
                raise WireError("a subscription identifier", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.3.4-6
        return True

    def _acknowledge(self, packet: p.PubAck) -> bool:
        if not self._in_flight or packet.packet_id not in self._in_flight:
            return False
        self._in_flight.remove(packet.packet_id)
        return True

    def _disconnect(self, packet: p.Disconnect) -> bool:
        if packet.code not in FROM_CLIENT:
            raise WireError(f"code 0x{packet.code:02X} is the server's", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.1
        if Property.SERVER_REFERENCE in packet.properties:
            raise WireError("a server reference from a client", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.2.5
        if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL) and not self._may_expire_later:
            raise WireError("a session expiry that CONNECT did not ask for", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.2.2
        self._go(_Input.ENDED)  # what comes after it is ignored: MQTT-3.14.4-1
        return True

    # -- out

    def send(self, packet: Packet) -> bytes:
        """The bytes of `packet`, for this client's version; none if the client does not take that many.

        A ConnAck is the decision on the Connect, a Disconnect is the end. RuntimeError for what may
        not be sent now.
        """
        data = codec.encode(packet, self.level)
        if isinstance(packet, p.ConnAck):
            self._go(_Input.REFUSED if packet.code else _Input.ACCEPTED)
        elif self.state is not _S.OPEN:
            raise RuntimeError(f"{type(packet).__name__} while {self.state.name}")
        elif isinstance(packet, p.Disconnect):
            self._go(_Input.ENDED)
            if self.level < 5:
                return b""
        return data if self._fits(data) else b""  # MQTT-3.1.2-25

    def _fits(self, data: bytes) -> bool:
        return self._max_outgoing is None or len(data) <= self._max_outgoing

    @property
    def in_flight(self) -> int:
        """How many QoS 1 messages wait for their PUBACK."""
        return len(self._in_flight) if self._in_flight else 0

    @property
    def can_publish(self) -> bool:
        """Whether one more QoS 1 message may be in flight (MQTT-3.3.4-9)."""
        return self.in_flight < self._receive_maximum

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, properties: Properties = NO_PROPERTIES
    ) -> tuple[bytes, int | None]:
        """The bytes of a PUBLISH of QoS 0 or 1, and its packet id at QoS 1.

        Raises PacketTooLarge, which changes nothing; RuntimeError unless OPEN.
        """
        if self.state is not _S.OPEN:
            raise RuntimeError(f"PUBLISH while {self.state.name}")
        packet_id = self._next_packet_id() if qos else None
        if properties:
            data = codec.encode(p.Publish(topic, payload, qos, packet_id, False, retain, properties), self.level)
        else:
            # The hot path: what codec.encode would make, without a packet in between.
            head = encode_text(topic)
            if packet_id is not None:
                head += packet_id.to_bytes(2, "big")
            if self.level >= 5:
                head += b"\x00"
            data = fixed_header(0x30 | qos << 1 | retain, len(head) + len(payload)) + head + payload
        if not self._fits(data):
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
        packet: Packet
        if isinstance(error, UnsupportedLevel):  # MQTT-3.1.2-2
            # The high bit is what a bridge sets to ask for more than MQTT 3.1.1 has.
            level = 5 if error.level & 0x7F >= 5 else 4
            code = error.code if level == 5 else p.ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION
            packet = p.ConnAck(False, code)
        elif level < 5:
            return b""  # MQTT-4.8.0-1 (3.1.1)
        elif state is _S.AWAITING_DECISION:
            packet = p.ConnAck(False, error.code)
        elif state is _S.OPEN:
            packet = p.Disconnect(error.code)  # MQTT-4.13.1-1
        else:
            return b""
        data = codec.encode(packet, level)
        return data if self._fits(data) else b""

    # -- time

    def next_deadline(self) -> float | None:
        """When the connection has to be closed unless a packet comes before; None is never."""
        if self.state is _S.CLOSED:
            return None
        if self.state is not _S.OPEN:
            return self._connect_deadline
        return self._last_received + KEEP_ALIVE_GRACE * self._keep_alive if self._keep_alive else None

    def _go(self, what: _Input) -> None:
        state = TRANSITIONS.get((self.state, what))
        if state is None:
            raise RuntimeError(f"{what.name} while {self.state.name}")
        self.state = state


_CHECKS: dict[int, Callable[[ServerConnection, Any], bool]] = {
    n.CONNECT: ServerConnection._connect,
    n.PUBLISH: ServerConnection._publish,
    n.PUBACK: ServerConnection._acknowledge,
    n.DISCONNECT: ServerConnection._disconnect,
}
"""packet type -> what it does to the connection, and whether the broker is to see it."""
