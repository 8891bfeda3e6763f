"""The server's side of one MQTT connection, without I/O: bytes in, packets out, and back.

`receive` yields what the broker has to act on, one packet at a time, and raises WireError at the
point where the peer broke the protocol; `farewell` then has the last bytes. Time is an argument.
What outlives a connection, the handshakes of QoS 1 and 2, is in `outbox` and with the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from struct import Struct
from typing import Any, cast

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import codec
from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.decoding import UnsupportedLevel, decode_publish
from rpcbroker.wire.mqtt.fields import fixed_header
from rpcbroker.wire.mqtt.packets import FAILURE, NO_PROPERTIES, Packet, Properties, ReasonCode
from rpcbroker.wire.mqtt.properties import Property
from rpcbroker.wire.mqtt.reasons import FROM_CLIENT

KEEP_ALIVE_GRACE = 1.5  # MQTT-3.1.2-24
NO_LIMIT = 0xFFFF
_puback = Struct(">HH").pack
_OPTIONAL = frozenset({Property.REASON_STRING, Property.USER_PROPERTY})
"""Properties that are left out when a packet would be too large for the client: MQTT-3.2.2-19, 3.4.2-2 and so on."""


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
_AWAITING_CONNECT, _AWAITING_DECISION, _OPEN, _CLOSED = _S
"""As globals: a member of an enumeration takes as long to be found as a function takes to be called."""
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
        n.SUBACK,
        n.UNSUBACK,
        n.PINGRESP,
        n.AUTH,  # no authentication method is ever agreed on: 4.12
    }
)
"""Packet types that end an open connection."""

_FLAGS_FIRST = frozenset({n.SUBACK, n.UNSUBACK})
"""Those whose reserved flags are malformed (MQTT-2.1.3-1) before it is a protocol error that a client sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What every client is told (MQTT 5.0) or has to guess.

    `receive_maximum` counts QoS 1 and 2 messages that were not answered yet; `unfinished_v3` is the
    same for 3.x. `max_packet_size` is in bytes, `connect_timeout` in seconds.
    """

    max_packet_size: int
    connect_timeout: float
    receive_maximum: int = NO_LIMIT
    unfinished_v3: int = NO_LIMIT
    topic_alias_maximum: int = 0


class PacketTooLarge(WireError):
    """The client said that it does not take a packet of this size (MQTT-3.1.2-24 of 5.0)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a packet of {size} bytes is more than the client takes", ReasonCode.PACKET_TOO_LARGE)


def refusal(connect: p.Connect) -> int | None:
    """The CONNACK code (of MQTT 5.0) that this CONNECT must be refused with, whoever sends it; else None."""
    if Property.AUTHENTICATION_METHOD in connect.properties:
        return ReasonCode.BAD_AUTHENTICATION_METHOD  # MQTT-5 4.12: none is offered
    if not connect.client_id and (connect.level == 3 or (connect.level == 4 and not connect.clean_start)):
        return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID  # MQTT-3.1.3-8 (3.1.1); 3.1 has no empty ones: 3.1, 3.1
    return None


class ServerConnection:
    """One connection of a client."""

    __slots__ = (
        "_aliases_in",
        "_aliases_out",
        "_frames",
        "_last_received",
        "_limits",
        "_max_aliases_out",
        "_max_outgoing",
        "_may_expire_later",
        "_most_unfinished",
        "_opened_at",
        "_unfinished",
        "client_receive_maximum",
        "keep_alive",
        "level",
        "state",
        "tells_problems",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.state = ConnectionState.AWAITING_CONNECT
        self.level = 0
        """The protocol level; 0 before CONNECT."""
        self.keep_alive = 0
        """Seconds; what the client asked for, unless the server decided otherwise (3.2.2.3.14)."""
        self.client_receive_maximum = NO_LIMIT
        self.tells_problems = True
        """Whether reason strings may be sent with other packets than CONNACK and DISCONNECT (MQTT-3.1.2-29)."""
        self._limits = limits
        self._frames = codec.FrameReader(limits.max_packet_size)
        self._opened_at = now
        self._last_received = now
        self._max_outgoing: int | None = None
        self._max_aliases_out = 0
        self._may_expire_later = False
        self._most_unfinished = 0
        self._aliases_in: dict[int, str] | None = None
        self._aliases_out: dict[str, int] | None = None
        self._unfinished: set[int] | None = None  # most devices never have any

    # -- in

    def receive(self, data: bytes, now: float) -> Iterator[Packet]:
        """Yield the packets to act on, in order; topic aliases are replaced by what they stand for.

        After a Connect nothing more is yielded until it was decided on with `send(ConnAck(...))`;
        `receive(b"", now)` then goes on.
        """
        frames = self._frames
        if self.state is _CLOSED:
            return
        if self.state is _AWAITING_DECISION and frames.full:
            raise WireError("too much before CONNACK", ReasonCode.QUOTA_EXCEEDED)
        if not data:
            self.waited(now)
        frames.feed(data)
        while self.state is _OPEN or self.state is _AWAITING_CONNECT:
            frame = frames.next()
            if frame is None:
                return
            self._last_received = now
            first_byte, body = frame
            packet_type = first_byte >> 4
            if packet_type == n.PUBLISH and self.state is _OPEN:  # the hot path
                message = decode_publish(body, self.level, first_byte)
                yield message if message.packet_id is None and not message.properties else self._publish(message)
                continue
            if self.state is _AWAITING_CONNECT:
                if packet_type != n.CONNECT:
                    raise WireError("the first packet is no CONNECT", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.1.0-1
            elif packet_type in _NOT_FROM_CLIENT:
                malformed = packet_type in _FLAGS_FIRST and first_byte & 0x0F
                code = ReasonCode.MALFORMED_PACKET if malformed else ReasonCode.PROTOCOL_ERROR
                raise WireError(f"packet type {packet_type} from a client", code)
            packet = codec.decode(first_byte, body, self.level)
            check = _CHECKS.get(packet_type)
            yield packet if check is None else check(self, packet)

    def waited(self, now: float) -> None:
        """The client has waited for the server until now: that time is not taken from its keep-alive."""
        self._last_received = now

    @property
    def unread(self) -> bool:
        """Whether it has sent more than was acted on."""
        return self._frames.waiting

    def _connect(self, packet: p.Connect) -> p.Connect:
        properties = packet.properties
        self.level = packet.level
        self.keep_alive = packet.keep_alive
        self._most_unfinished = self._limits.unfinished_v3 if self.level < 5 else self._limits.receive_maximum
        self.client_receive_maximum = properties.get(Property.RECEIVE_MAXIMUM, NO_LIMIT)
        self.tells_problems = bool(properties.get(Property.REQUEST_PROBLEM_INFORMATION, 1))
        self._max_outgoing = properties.get(Property.MAXIMUM_PACKET_SIZE)
        self._max_aliases_out = properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0)
        self._may_expire_later = bool(properties.get(Property.SESSION_EXPIRY_INTERVAL))
        self._go(_Input.CONNECT)
        return packet

    def _publish(self, packet: p.Publish) -> p.Publish:
        packet_id = packet.packet_id
        if packet_id is not None:
            unfinished = self._unfinished
            if unfinished is None:
                unfinished = self._unfinished = set()
            if len(unfinished) >= self._most_unfinished and packet_id not in unfinished:
                raise WireError("more unanswered messages than were allowed", ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)
            unfinished.add(packet_id)  # MQTT-3.3.4-8
        if packet.properties:
            if Property.SUBSCRIPTION_IDENTIFIER in packet.properties:
                raise WireError("a subscription identifier", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.3.4-6
            if Property.TOPIC_ALIAS in packet.properties:
                return self._named(packet, packet.properties[Property.TOPIC_ALIAS])
        return packet

    def _named(self, packet: p.Publish, alias: int) -> p.Publish:
        if not 0 < alias <= self._limits.topic_alias_maximum:  # MQTT-3.3.2-8, -9
            raise WireError(f"topic alias {alias} was not offered", ReasonCode.TOPIC_ALIAS_INVALID)
        if self._aliases_in is None:
            self._aliases_in = {}
        if packet.topic:
            self._aliases_in[alias] = packet.topic
            return packet
        topic = self._aliases_in.get(alias)
        if topic is None:  # 3.3.4: an unknown one is a protocol error
            raise WireError(f"topic alias {alias} stands for nothing", ReasonCode.TOPIC_ALIAS_INVALID)
        return p.Publish(
            topic, packet.payload, packet.qos, packet.packet_id, packet.dup, packet.retain, packet.properties
        )

    def _disconnect(self, packet: p.Disconnect) -> p.Disconnect:
        if packet.code not in FROM_CLIENT:
            raise WireError(f"code 0x{packet.code:02X} is the server's", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.1
        if Property.SERVER_REFERENCE in packet.properties:
            raise WireError("a server reference from a client", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.2.5
        if packet.properties.get(Property.SESSION_EXPIRY_INTERVAL) and not self._may_expire_later:
            raise WireError("a session expiry that CONNECT did not ask for", ReasonCode.PROTOCOL_ERROR)  # 3.14.2.2.2
        self._go(_Input.ENDED)  # what comes after it is ignored: MQTT-3.14.4-1
        return packet

    # -- out

    def send(self, packet: Packet) -> bytes:
        """The bytes of `packet`, for this client's version, without what only explains if that makes it too large.

        A ConnAck is the decision on the Connect, a Disconnect is the end (without bytes before 5.0).
        Raises PacketTooLarge, which is the end as well if it was the ConnAck; RuntimeError for what may
        not be sent now.
        """
        if isinstance(packet, p.ConnAck):
            self._go(_Input.REFUSED if packet.code else _Input.ACCEPTED)
        elif self.state is not _S.OPEN:
            raise RuntimeError(f"{type(packet).__name__} while {self.state.name}")
        elif isinstance(packet, p.Disconnect):
            self._go(_Input.ENDED)
            return self._fitting(packet, self.level) if self.level >= 5 else b""  # MQTT-4.8.0-1 (3.1.1)
        elif isinstance(packet, p.PubComp) or (isinstance(packet, p.PubRec) and packet.code >= FAILURE):
            self._finish(packet.packet_id)
        data = self._fitting(packet, self.level)
        if not data:
            if isinstance(packet, p.ConnAck):
                self._go(_Input.ENDED)
            raise PacketTooLarge(len(codec.encode(packet, self.level)))
        return data

    def acknowledge(self, packet_id: int, code: int, properties: Properties = NO_PROPERTIES) -> bytes:
        """The bytes of the PUBACK of a QoS 1 message; none once the connection is closed."""
        if self._unfinished is not None:
            self._unfinished.discard(packet_id)
        if self.state is _CLOSED:
            return b""
        if not code or self.level < 5:
            return _puback(0x4002, packet_id)
        return self._fitting(p.PubAck(packet_id, code, properties), self.level)

    def _finish(self, packet_id: int) -> None:
        if self._unfinished is not None:
            self._unfinished.discard(packet_id)

    def publish(self, topic: str, payload: bytes, *, packet_id: int | None) -> bytes:
        """The bytes of a PUBLISH of QoS 0 or, with a packet identifier, of QoS 1, without properties.

        This is the way of calls. Raises PacketTooLarge, which changes nothing; RuntimeError unless OPEN.
        """
        if self.state is not _OPEN:
            raise RuntimeError(f"PUBLISH while {self.state.name}")
        name = topic.encode()
        head = len(name).to_bytes(2, "big") + name
        first = n.PUBLISH << 4
        if packet_id is not None:
            head += packet_id.to_bytes(2, "big")
            first |= 0x02
        if self.level >= 5:
            head += b"\x00"
        data = fixed_header(first, len(head) + len(payload)) + head + payload
        if self._max_outgoing is not None and len(data) > self._max_outgoing:
            raise PacketTooLarge(len(data))
        return data

    @property
    def takes_aliases(self) -> bool:
        """Whether the client takes any."""
        return self._max_aliases_out > 0

    def alias(self, topic: str) -> tuple[int, bool]:
        """The alias that `topic` goes out under, 0 for none, and whether its name must be sent with it."""
        if self._aliases_out is None:
            self._aliases_out = {}
        known = self._aliases_out.get(topic)
        if known is not None:
            return known, False
        if len(self._aliases_out) >= self._max_aliases_out:  # MQTT-3.1.2-26
            return 0, True
        self._aliases_out[topic] = alias = len(self._aliases_out) + 1
        return alias, True

    def unalias(self, topic: str) -> None:
        """What would have told the client of the newest alias was not sent."""
        if self._aliases_out is not None:
            self._aliases_out.pop(topic, None)

    def takes(self, data: bytes) -> bool:
        """Whether the client takes a packet of this size."""
        return self._max_outgoing is None or len(data) <= self._max_outgoing

    def _fitting(self, packet: Packet, level: int) -> bytes:
        data = codec.encode(packet, level)
        if self.takes(data):
            return data
        properties: Properties = getattr(packet, "properties", {})
        needed = {key: value for key, value in properties.items() if key not in _OPTIONAL}
        if len(needed) < len(properties):
            shorter: Any = replace(cast(Any, packet), properties=needed)
            data = codec.encode(shorter, level)
        return data if self.takes(data) else b""

    def farewell(self, error: WireError) -> bytes:
        """What is to be said before the connection is closed for `error`; nothing, in many cases."""
        state, level = self.state, self.level
        self._go(_Input.ENDED)
        said: Properties = {Property.REASON_STRING: error.message}
        packet: Packet
        if isinstance(error, UnsupportedLevel):  # MQTT-3.1.2-2
            level = 4  # the form that every version knows
            packet = p.ConnAck(False, p.ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION)
        elif level < 5:
            return b""  # MQTT-4.8.0-1 (3.1.1)
        elif state is _S.AWAITING_DECISION:
            packet = p.ConnAck(False, error.code, said)
        elif state is _S.OPEN:
            packet = p.Disconnect(error.code, said)  # MQTT-4.13.1-1
        else:
            return b""
        return self._fitting(packet, level)

    # -- time

    def next_deadline(self) -> float | None:
        """When the connection has to be closed unless a packet comes before; None is never."""
        if self.state is _S.CLOSED:
            return None
        if self.state is not _S.OPEN:
            return self._opened_at + self._limits.connect_timeout
        return self._last_received + KEEP_ALIVE_GRACE * self.keep_alive if self.keep_alive else None

    def _go(self, what: _Input) -> None:
        state = TRANSITIONS.get((self.state, what))
        if state is None:
            raise RuntimeError(f"{what.name} while {self.state.name}")
        self.state = state


_CHECKS: dict[int, Callable[[ServerConnection, Any], Packet]] = {
    n.CONNECT: ServerConnection._connect,
    n.DISCONNECT: ServerConnection._disconnect,
}
"""packet type -> what it does to the connection, and what the broker is to see of it. PUBLISH goes a way of its own."""
