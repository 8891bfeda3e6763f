"""The properties of MQTT 5.0 (2.2.2): one table says which type each has and where it may stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt.fields import Reader, encode_binary, encode_text, encode_varint

MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82


class Property(IntEnum):
    """MQTT 5.0, table 2-4."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


class Kind(NamedTuple):
    """How a type is read and written."""

    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]


def _read_bool(reader: Reader) -> int:
    value = reader.byte()
    if value > 1:
        raise WireError(f"a property of 0 or 1 is {value}", PROTOCOL_ERROR)
    return value


def _read_pair(reader: Reader) -> tuple[str, str]:
    return reader.text(), reader.text()


def _nonzero(read: Callable[[Reader], int]) -> Callable[[Reader], int]:
    def checked(reader: Reader) -> int:
        value = read(reader)
        if value == 0:
            raise WireError("a property that must not be 0 is 0", PROTOCOL_ERROR)
        return value

    return checked


def _read_response_topic(reader: Reader) -> str:
    value = reader.name()
    if "+" in value or "#" in value:
        raise WireError("a wildcard in a response topic", PROTOCOL_ERROR)  # MQTT-3.3.2-14, 3.1.3.2.6
    return value


_BOOL = Kind(_read_bool, lambda value: bytes((value,)))
_INT16 = Kind(Reader.int16, lambda value: value.to_bytes(2, "big"))
_INT16_NONZERO = Kind(_nonzero(Reader.int16), _INT16.write)
_INT32 = Kind(Reader.int32, lambda value: value.to_bytes(4, "big"))
_INT32_NONZERO = Kind(_nonzero(Reader.int32), _INT32.write)
_VARINT_NONZERO = Kind(_nonzero(Reader.varint), encode_varint)
_TEXT = Kind(Reader.text, encode_text)
_RESPONSE_TOPIC = Kind(_read_response_topic, encode_text)
_BINARY = Kind(Reader.binary, encode_binary)
_PAIR = Kind(_read_pair, lambda pair: encode_text(pair[0]) + encode_text(pair[1]))

_ACKS = frozenset({n.PUBACK, n.PUBREC, n.PUBREL, n.PUBCOMP, n.SUBACK, n.UNSUBACK})
_P = Property

TABLE: dict[int, tuple[Kind, frozenset[int]]] = {
    _P.PAYLOAD_FORMAT_INDICATOR: (_BOOL, frozenset({n.PUBLISH, n.WILL})),
    _P.MESSAGE_EXPIRY_INTERVAL: (_INT32, frozenset({n.PUBLISH, n.WILL})),
    _P.CONTENT_TYPE: (_TEXT, frozenset({n.PUBLISH, n.WILL})),
    _P.RESPONSE_TOPIC: (_RESPONSE_TOPIC, frozenset({n.PUBLISH, n.WILL})),
    _P.CORRELATION_DATA: (_BINARY, frozenset({n.PUBLISH, n.WILL})),
    _P.SUBSCRIPTION_IDENTIFIER: (_VARINT_NONZERO, frozenset({n.PUBLISH, n.SUBSCRIBE})),
    _P.SESSION_EXPIRY_INTERVAL: (_INT32, frozenset({n.CONNECT, n.CONNACK, n.DISCONNECT})),
    _P.ASSIGNED_CLIENT_IDENTIFIER: (_TEXT, frozenset({n.CONNACK})),
    _P.SERVER_KEEP_ALIVE: (_INT16, frozenset({n.CONNACK})),
    _P.AUTHENTICATION_METHOD: (_TEXT, frozenset({n.CONNECT, n.CONNACK, n.AUTH})),
    _P.AUTHENTICATION_DATA: (_BINARY, frozenset({n.CONNECT, n.CONNACK, n.AUTH})),
    _P.REQUEST_PROBLEM_INFORMATION: (_BOOL, frozenset({n.CONNECT})),
    _P.WILL_DELAY_INTERVAL: (_INT32, frozenset({n.WILL})),
    _P.REQUEST_RESPONSE_INFORMATION: (_BOOL, frozenset({n.CONNECT})),
    _P.RESPONSE_INFORMATION: (_TEXT, frozenset({n.CONNACK})),
    _P.SERVER_REFERENCE: (_TEXT, frozenset({n.CONNACK, n.DISCONNECT})),
    _P.REASON_STRING: (_TEXT, _ACKS | {n.CONNACK, n.DISCONNECT, n.AUTH}),
    _P.RECEIVE_MAXIMUM: (_INT16_NONZERO, frozenset({n.CONNECT, n.CONNACK})),
    _P.TOPIC_ALIAS_MAXIMUM: (_INT16, frozenset({n.CONNECT, n.CONNACK})),
    _P.TOPIC_ALIAS: (_INT16, frozenset({n.PUBLISH})),
    _P.MAXIMUM_QOS: (_BOOL, frozenset({n.CONNACK})),
    _P.RETAIN_AVAILABLE: (_BOOL, frozenset({n.CONNACK})),
    _P.USER_PROPERTY: (
        _PAIR,
        frozenset({n.CONNECT, n.CONNACK, n.PUBLISH, n.SUBSCRIBE, n.UNSUBSCRIBE, n.DISCONNECT, n.AUTH, n.WILL}) | _ACKS,
    ),
    _P.MAXIMUM_PACKET_SIZE: (_INT32_NONZERO, frozenset({n.CONNECT, n.CONNACK})),
    _P.WILDCARD_SUBSCRIPTION_AVAILABLE: (_BOOL, frozenset({n.CONNACK})),
    _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: (_BOOL, frozenset({n.CONNACK})),
    _P.SHARED_SUBSCRIPTION_AVAILABLE: (_BOOL, frozenset({n.CONNACK})),
}
"""property -> its type, and the packet types in which it may stand."""


_STRICT = frozenset({n.CONNECT, n.WILL, n.SUBSCRIBE, n.UNSUBSCRIBE})
"""Where a property of another packet is told as 2.2.2.2 has it, as a malformed packet. In the others it is a
protocol error, as it is to most brokers; 4.13.1 has the same end for both."""


def _repeats(number: int, packet_type: int) -> bool:
    """User properties may come again anywhere; subscription identifiers in a PUBLISH (3.3.2.3.8)."""
    return number == _P.USER_PROPERTY or (number == _P.SUBSCRIPTION_IDENTIFIER and packet_type == n.PUBLISH)


def decode_properties(reader: Reader, packet_type: int) -> dict[Property, Any]:
    """The properties at the front of `reader`; those that may repeat have a tuple of values, in order."""
    size = reader.varint()
    if not size:
        return {}
    section = reader.section(size)
    found: dict[Property, Any] = {}
    repeated: dict[Property, list[Any]] = {}
    while section.left:
        number = section.varint()
        row = TABLE.get(number)
        if row is None:
            raise WireError(f"unknown property 0x{number:02X}")  # MQTT-5 2.2.2.2
        key = Property(number)
        value = row[0].read(section)
        if _repeats(number, packet_type):
            repeated.setdefault(key, []).append(value)
        elif key in found:
            raise WireError(f"property 0x{number:02X} comes twice", PROTOCOL_ERROR)
        else:
            found[key] = value
    for key, values in repeated.items():
        found[key] = tuple(values)
    for key in found:  # when all could be read: what cannot be comes first
        if packet_type not in TABLE[key][1]:
            code = MALFORMED_PACKET if packet_type in _STRICT else PROTOCOL_ERROR
            raise WireError(f"property 0x{key:02X} may not stand in this packet", code)
    return found


def encode_properties(properties: Mapping[Property, Any], packet_type: int) -> bytes:
    """With their length in front. Raises ValueError for a property that may not stand in such a packet."""
    if not properties:
        return b"\x00"
    data = encode_pairs(properties, packet_type)
    return encode_varint(len(data)) + data


def encode_pairs(properties: Mapping[Property, Any], packet_type: int) -> bytes:
    """The same without the length."""
    parts = []
    for key, value in properties.items():
        kind, allowed = TABLE[key]
        if packet_type not in allowed:
            raise ValueError(f"{key.name} may not stand in packet type {packet_type}")
        for item in value if _repeats(key, packet_type) else (value,):
            parts += [bytes((key,)), kind.write(item)]
    return b"".join(parts)
