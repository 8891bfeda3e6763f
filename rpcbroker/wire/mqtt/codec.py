"""Packets to bytes and back, for MQTT 3.1 (level 3), 3.1.1 (4) and 5.0 (5).

`decode` raises WireError and nothing else, whatever it is given. `encode` raises ValueError for
what cannot be written. One table has a row for each packet type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.fields import Reader, decode_text, encode_binary, encode_text, encode_varint
from rpcbroker.wire.mqtt.packets import NO_PROPERTIES, Packet, Properties, ReasonCode
from rpcbroker.wire.mqtt.properties import WILL, Property, decode_properties, encode_properties
from rpcbroker.wire.mqtt.topics import check_filter, check_topic

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)

PROTOCOL_NAMES = {b"MQIsdp": frozenset({3}), b"MQTT": frozenset({4, 5})}
"""Protocol name -> the levels that go with it."""


def _codes(*names: str) -> frozenset[int]:
    return frozenset(ReasonCode[name] for name in names)


_PUBLISH_CODES = _codes(
    "SUCCESS",
    "NO_MATCHING_SUBSCRIBERS",
    "UNSPECIFIED_ERROR",
    "IMPLEMENTATION_SPECIFIC_ERROR",
    "NOT_AUTHORIZED",
    "TOPIC_NAME_INVALID",
    "PACKET_IDENTIFIER_IN_USE",
    "QUOTA_EXCEEDED",
    "PAYLOAD_FORMAT_INVALID",
)
_RELEASE_CODES = _codes("SUCCESS", "PACKET_IDENTIFIER_NOT_FOUND")
_DISCONNECT_CODES = frozenset(ReasonCode) - _codes(
    "GRANTED_QOS_1",
    "GRANTED_QOS_2",
    "NO_MATCHING_SUBSCRIBERS",
    "NO_SUBSCRIPTION_EXISTED",
    "CONTINUE_AUTHENTICATION",
    "REAUTHENTICATE",
    "UNSUPPORTED_PROTOCOL_VERSION",
    "CLIENT_IDENTIFIER_NOT_VALID",
    "BAD_USER_NAME_OR_PASSWORD",
    "SERVER_UNAVAILABLE",
    "BANNED",
    "PACKET_IDENTIFIER_IN_USE",
    "PACKET_IDENTIFIER_NOT_FOUND",
)
_AUTH_CODES = _codes("SUCCESS", "CONTINUE_AUTHENTICATION", "REAUTHENTICATE")
_ALL_CODES = frozenset(ReasonCode)


# -- frames


class FrameReader:
    """Cuts a stream into frames: (first byte, body). It holds no more than one frame and one read."""

    __slots__ = ("_buffer", "_max_packet_size", "_needed", "_position")

    def __init__(self, max_packet_size: int) -> None:
        self._max_packet_size = max_packet_size
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._needed = 2

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self._position == len(self._buffer):
            self._buffer, self._position = data, 0
        elif data:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._position]
            self._position = 0
            self._buffer += data

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (frame := self.next()) is not None:
            yield frame

    def next(self) -> tuple[int, bytes] | None:
        """The next whole frame, or None. Raises WireError as soon as the length shows that it is too large."""
        buffer, start = self._buffer, self._position
        available = len(buffer) - start
        if available < self._needed:
            return None
        length = buffer[start + 1]
        body = start + 2
        if length >= 0x80:
            length &= 0x7F
            shift = 7
            while True:
                if body == len(buffer):
                    return None
                byte = buffer[body]
                body += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 21:
                    raise WireError("the remaining length is longer than 4 bytes")  # MQTT-2.2.3
            if byte == 0:
                raise WireError("the remaining length is longer than it need be")  # MQTT-1.5.5-1
        end = body + length
        if end - start > self._max_packet_size:
            raise WireError(
                f"a packet of {end - start} bytes; the limit is {self._max_packet_size}",
                ReasonCode.PACKET_TOO_LARGE,
            )
        if end > len(buffer):
            self._needed = end - start  # nothing to look at before it is all there
            return None
        self._needed = 2
        self._position = end
        frame = buffer[start], bytes(buffer[body:end])
        if end == len(buffer):
            self._buffer, self._position = b"", 0
        return frame


# -- decoding


def decode(first_byte: int, body: bytes, level: int) -> Packet:
    """The packet of one frame; for a CONNECT `level` does not matter."""
    row = _DECODERS.get(first_byte >> 4)
    if row is None or (first_byte >> 4 == AUTH and level < 5):
        raise WireError(f"packet type {first_byte >> 4}")
    flags, decoder = row
    if flags is not None and first_byte & 0x0F != flags:
        raise WireError("reserved flags are set")  # MQTT-2.2.2-2, MQTT-2.1.3-1
    reader = Reader(body)
    packet = decoder(reader, level, first_byte)
    reader.finish()
    return packet


def _properties(reader: Reader, packet_type: int, level: int) -> Properties:
    return (decode_properties(reader, packet_type) or NO_PROPERTIES) if level >= 5 else NO_PROPERTIES


def _decode_connect(reader: Reader, _level: int, _first: int) -> p.Connect:
    name = reader.binary()
    levels = PROTOCOL_NAMES.get(name)
    if levels is None:
        raise WireError("no MQTT protocol name")  # MQTT-3.1.2-1
    level = reader.byte()
    if level not in levels:
        raise UnsupportedLevel(level)  # MQTT-3.1.2-2
    flags = reader.byte()
    if flags & 0x01:
        raise WireError("the reserved connect flag is set")  # MQTT-3.1.2-3
    will_qos, has_will = (flags >> 3) & 0x03, bool(flags & 0x04)
    if will_qos == 3 or (not has_will and flags & 0x38):
        raise WireError("will flags that do not fit together")  # MQTT-3.1.2-11..-15
    if flags & 0xC0 == 0x40 and level < 5:
        raise WireError("a password without a user name")  # MQTT-3.1.2-22 (3.1.1)
    keep_alive = reader.int16()
    properties = _properties(reader, CONNECT, level)
    if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
        raise WireError("authentication data without a method", ReasonCode.PROTOCOL_ERROR)
    client_id = reader.text()
    will = None
    if has_will:
        will_properties = _properties(reader, WILL, level)
        will = p.Will(check_topic(reader.text()), reader.binary(), will_qos, bool(flags & 0x20), will_properties)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return p.Connect(level, client_id, bool(flags & 0x02), keep_alive, username, password, will, properties)


class UnsupportedLevel(WireError):
    """An MQTT of a version that is not spoken here."""

    def __init__(self, level: int) -> None:
        super().__init__(f"protocol level {level}", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
        self.level = level


def _decode_connack(reader: Reader, level: int, _first: int) -> p.ConnAck:
    flags = reader.byte()
    if flags > 1:
        raise WireError("reserved CONNACK flags are set")
    code = reader.byte()
    _known(code, _ALL_CODES if level >= 5 else frozenset(p.ConnectReturnCode))
    return p.ConnAck(bool(flags), code, _properties(reader, CONNACK, level))


def _decode_publish(reader: Reader, level: int, first: int) -> p.Publish:
    qos = (first >> 1) & 0x03
    dup = bool(first & 0x08)
    if qos == 3:
        raise WireError("QoS 3")  # MQTT-3.3.1-4
    if dup and not qos:
        raise WireError("DUP at QoS 0")  # MQTT-3.3.1-2
    topic = decode_text(reader.binary())
    packet_id = reader.packet_id() if qos else None
    properties = _properties(reader, PUBLISH, level)
    if topic or Property.TOPIC_ALIAS not in properties:
        check_topic(topic)
    response_topic = properties.get(Property.RESPONSE_TOPIC, "") if properties else ""
    if "+" in response_topic or "#" in response_topic:
        raise WireError("a wildcard in a response topic", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.3.2-14
    return p.Publish(topic, reader.rest(), qos, packet_id, dup, bool(first & 0x01), properties)


def _known(code: int, codes: frozenset[int]) -> int:
    if code not in codes:
        raise WireError(f"reason code 0x{code:02X} in this packet")
    return code


def _ack_decoder(make: type[Any], packet_type: int, codes: frozenset[int]) -> Callable[..., Any]:
    def decode_ack(reader: Reader, level: int, _first: int) -> Any:
        packet_id = reader.packet_id()
        if level < 5 or not reader.left:
            return make(packet_id)
        code = _known(reader.byte(), codes)
        return make(packet_id, code, _properties(reader, packet_type, level) if reader.left else NO_PROPERTIES)

    return decode_ack


def _decode_subscribe(reader: Reader, level: int, _first: int) -> p.Subscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, SUBSCRIBE, level)
    subscriptions = []
    while reader.left:
        text = check_filter(reader.text())
        options = reader.byte()
        retain_handling = options >> 4
        if options & 0x03 == 3 or options & 0xC0 or retain_handling == 3 or (level < 5 and options > 2):
            raise WireError("subscription options that do not exist")  # MQTT-3.8.3-4, -5
        if options & 0x04 and text.startswith("$share/"):
            raise WireError("no local on a shared subscription", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.8.3-4
        subscriptions.append(
            p.Subscription(text, options & 0x03, bool(options & 0x04), bool(options & 0x08), retain_handling)
        )
    if not subscriptions:
        raise WireError("a SUBSCRIBE without a filter", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.8.3-3
    return p.Subscribe(packet_id, tuple(subscriptions), properties)


def _decode_suback(reader: Reader, level: int, _first: int) -> p.SubAck:
    packet_id = reader.packet_id()
    properties = _properties(reader, SUBACK, level)
    return p.SubAck(packet_id, tuple(reader.rest()), properties)


def _decode_unsubscribe(reader: Reader, level: int, _first: int) -> p.Unsubscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, UNSUBSCRIBE, level)
    filters = []
    while reader.left:
        filters.append(check_filter(reader.text()))
    if not filters:
        raise WireError("an UNSUBSCRIBE without a filter", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.10.3-2
    return p.Unsubscribe(packet_id, tuple(filters), properties)


def _decode_unsuback(reader: Reader, level: int, _first: int) -> p.UnsubAck:
    packet_id = reader.packet_id()
    if level < 5:
        return p.UnsubAck(packet_id)
    properties = _properties(reader, UNSUBACK, level)
    return p.UnsubAck(packet_id, tuple(reader.rest()), properties)


def _decode_disconnect(reader: Reader, level: int, _first: int) -> p.Disconnect:
    if level < 5 or not reader.left:
        return p.Disconnect()
    code = _known(reader.byte(), _DISCONNECT_CODES)
    return p.Disconnect(code, _properties(reader, DISCONNECT, level) if reader.left else NO_PROPERTIES)


def _decode_auth(reader: Reader, level: int, _first: int) -> p.Auth:
    if not reader.left:
        return p.Auth()
    code = _known(reader.byte(), _AUTH_CODES)
    return p.Auth(code, _properties(reader, AUTH, level) if reader.left else NO_PROPERTIES)


_DECODERS: dict[int, tuple[int | None, Callable[[Reader, int, int], Any]]] = {
    CONNECT: (0, _decode_connect),
    CONNACK: (0, _decode_connack),
    PUBLISH: (None, _decode_publish),
    PUBACK: (0, _ack_decoder(p.PubAck, PUBACK, _PUBLISH_CODES)),
    PUBREC: (0, _ack_decoder(p.PubRec, PUBREC, _PUBLISH_CODES)),
    PUBREL: (2, _ack_decoder(p.PubRel, PUBREL, _RELEASE_CODES)),
    PUBCOMP: (0, _ack_decoder(p.PubComp, PUBCOMP, _RELEASE_CODES)),
    SUBSCRIBE: (2, _decode_subscribe),
    SUBACK: (0, _decode_suback),
    UNSUBSCRIBE: (2, _decode_unsubscribe),
    UNSUBACK: (0, _decode_unsuback),
    PINGREQ: (0, lambda reader, level, first: p.PingReq()),
    PINGRESP: (0, lambda reader, level, first: p.PingResp()),
    DISCONNECT: (0, _decode_disconnect),
    AUTH: (0, _decode_auth),
}
"""packet type -> the flags that it must have (None: they mean something), and how it is read."""


# -- encoding


def encode(packet: Packet, level: int) -> bytes:
    """One whole frame."""
    first_byte, body = _ENCODERS[type(packet)](packet, level)
    return bytes((first_byte,)) + encode_varint(len(body)) + body


def _encode_connect(packet: p.Connect, _level: int) -> tuple[int, bytes]:
    level, will = packet.level, packet.will
    flags = packet.clean_start << 1
    parts = [encode_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += [
            _written(will.properties, WILL, level),
            encode_text(will.topic),
            encode_binary(will.payload),
        ]
    if packet.username is not None:
        flags |= 0x80
        parts.append(encode_text(packet.username))
    if packet.password is not None:
        flags |= 0x40
        parts.append(encode_binary(packet.password))
    name = encode_text("MQIsdp" if level == 3 else "MQTT")
    head = name + bytes((level, flags)) + packet.keep_alive.to_bytes(2, "big")
    return CONNECT << 4, head + _written(packet.properties, CONNECT, level) + b"".join(parts)


def _written(properties: Properties, packet_type: int, level: int) -> bytes:
    return encode_properties(properties, packet_type) if level >= 5 else b""


def _encode_connack(packet: p.ConnAck, level: int) -> tuple[int, bytes]:
    head = bytes((packet.session_present, packet.code))
    return CONNACK << 4, head + _written(packet.properties, CONNACK, level)


def _encode_publish(packet: p.Publish, level: int) -> tuple[int, bytes]:
    first = PUBLISH << 4 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = b"" if packet.packet_id is None else packet.packet_id.to_bytes(2, "big")
    properties = _written(packet.properties, PUBLISH, level)
    return first, encode_text(packet.topic) + packet_id + properties + packet.payload


def _ack_encoder(first: int) -> Callable[[Any, int], tuple[int, bytes]]:
    def encode_ack(packet: Any, level: int) -> tuple[int, bytes]:
        body = packet.packet_id.to_bytes(2, "big")
        if level >= 5 and (packet.code or packet.properties):
            body += bytes((packet.code,))
            if packet.properties:
                body += encode_properties(packet.properties, first >> 4)
        return first, body

    return encode_ack


def _encode_subscribe(packet: p.Subscribe, level: int) -> tuple[int, bytes]:
    parts = [packet.packet_id.to_bytes(2, "big"), _written(packet.properties, SUBSCRIBE, level)]
    for entry in packet.subscriptions:
        options = entry.qos
        if level >= 5:
            options |= entry.no_local << 2 | entry.retain_as_published << 3 | entry.retain_handling << 4
        parts += [encode_text(entry.filter), bytes((options,))]
    return SUBSCRIBE << 4 | 2, b"".join(parts)


def _encode_suback(packet: p.SubAck, level: int) -> tuple[int, bytes]:
    properties = _written(packet.properties, SUBACK, level)
    return SUBACK << 4, packet.packet_id.to_bytes(2, "big") + properties + bytes(packet.codes)


def _encode_unsubscribe(packet: p.Unsubscribe, level: int) -> tuple[int, bytes]:
    head = packet.packet_id.to_bytes(2, "big") + _written(packet.properties, UNSUBSCRIBE, level)
    return UNSUBSCRIBE << 4 | 2, head + b"".join(encode_text(entry) for entry in packet.filters)


def _encode_unsuback(packet: p.UnsubAck, level: int) -> tuple[int, bytes]:
    head = packet.packet_id.to_bytes(2, "big")
    if level < 5:
        return UNSUBACK << 4, head
    return UNSUBACK << 4, head + _written(packet.properties, UNSUBACK, level) + bytes(packet.codes)


def _coded_encoder(packet_type: int) -> Callable[[Any, int], tuple[int, bytes]]:
    """DISCONNECT and AUTH: nothing at all says code 0 without properties."""

    def encode_coded(packet: Any, level: int) -> tuple[int, bytes]:
        if level < 5 or not (packet.code or packet.properties):
            return packet_type << 4, b""
        return packet_type << 4, bytes((packet.code,)) + encode_properties(packet.properties, packet_type)

    return encode_coded


_ENCODERS: dict[type[Any], Callable[[Any, int], tuple[int, bytes]]] = {
    p.Connect: _encode_connect,
    p.ConnAck: _encode_connack,
    p.Publish: _encode_publish,
    p.PubAck: _ack_encoder(PUBACK << 4),
    p.PubRec: _ack_encoder(PUBREC << 4),
    p.PubRel: _ack_encoder(PUBREL << 4 | 2),
    p.PubComp: _ack_encoder(PUBCOMP << 4),
    p.Subscribe: _encode_subscribe,
    p.SubAck: _encode_suback,
    p.Unsubscribe: _encode_unsubscribe,
    p.UnsubAck: _encode_unsuback,
    p.PingReq: lambda packet, level: (PINGREQ << 4, b""),
    p.PingResp: lambda packet, level: (PINGRESP << 4, b""),
    p.Disconnect: _coded_encoder(DISCONNECT),
    p.Auth: _coded_encoder(AUTH),
}
