"""The body of a frame to a packet: one function for each kind, and the table of them.

Raises WireError and nothing else, whatever it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.fields import Reader, decode_name
from rpcbroker.wire.mqtt.packets import NO_PROPERTIES, Properties, ReasonCode
from rpcbroker.wire.mqtt.properties import Property, decode_properties
from rpcbroker.wire.mqtt.reasons import known
from rpcbroker.wire.mqtt.topics import SHARE, check_filter, check_no_wildcard, check_topic, is_shared

PROTOCOL_NAMES = {b"MQIsdp": frozenset({3}), b"MQTT": frozenset({4, 5})}
"""Protocol name -> the levels that go with it."""


class UnsupportedLevel(WireError):
    """An MQTT of a version that is not spoken here."""

    def __init__(self, level: int) -> None:
        super().__init__(f"protocol level {level}", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)
        self.level = level


def _read(decoder: Callable[[Reader, int], Any]) -> Callable[[bytes, int, int], Any]:
    """`decoder` with a Reader, of which it must leave nothing."""

    def decode_whole(body: bytes, level: int, _first: int) -> Any:
        reader = Reader(body)
        packet = decoder(reader, level)
        reader.finish()
        return packet

    return decode_whole


def _properties(reader: Reader, packet_type: int, level: int) -> Properties:
    return (decode_properties(reader, packet_type) or NO_PROPERTIES) if level >= 5 else NO_PROPERTIES


def _decode_connect(body: bytes, _level: int, first: int) -> p.Connect:
    reader = Reader(body)
    name = reader.binary()
    levels = PROTOCOL_NAMES.get(name)
    if levels is None:
        raise WireError("no MQTT protocol name")  # MQTT-3.1.2-1
    level = reader.byte()
    if level not in levels:
        raise UnsupportedLevel(level)  # MQTT-3.1.2-2
    flags = reader.byte()
    if first & 0x0F and level > 3:  # MQTT 3.1 has flags here that say nothing, and so has its lowest connect flag
        raise WireError("reserved flags are set")  # MQTT-2.1.3-1
    if flags & 0x01 and level > 3:
        raise WireError("the reserved connect flag is set")  # MQTT-3.1.2-3
    will_qos, has_will = (flags >> 3) & 0x03, bool(flags & 0x04)
    if will_qos == 3 or (not has_will and flags & 0x38):
        raise WireError("will flags that do not fit together")  # MQTT-3.1.2-11..-15
    if flags & 0xC0 == 0x40 and level < 5:
        raise WireError("a password without a user name")  # MQTT-3.1.2-22 (3.1.1)
    keep_alive = reader.int16()
    properties = _properties(reader, n.CONNECT, level)
    if Property.AUTHENTICATION_DATA in properties and Property.AUTHENTICATION_METHOD not in properties:
        raise WireError("authentication data without a method", ReasonCode.PROTOCOL_ERROR)
    client_id = reader.name()
    will = None
    if has_will:
        will_properties = _properties(reader, n.WILL, level)
        will = p.Will(check_topic(reader.name()), reader.binary(), will_qos, bool(flags & 0x20), will_properties)
    username = reader.name() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    reader.finish()
    return p.Connect(level, client_id, bool(flags & 0x02), keep_alive, username, password, will, properties)


def _decode_connack(reader: Reader, level: int) -> p.ConnAck:
    flags = reader.byte()
    if flags > 1:
        raise WireError("reserved CONNACK flags are set")
    code = known(reader.byte(), p.ConnAck, level)
    return p.ConnAck(bool(flags), code, _properties(reader, n.CONNACK, level))


_new = object.__new__
_TOPICS_KEPT, _KEPT_SIZE = 4_096, 126
_topics: dict[bytes, str] = {}
"""Devices say the same few topics all the time, so what was found good once is kept, if it is short: 2 MB at most.

What ends in a digit is not: mostly that is the id of a call, and comes once."""


_plain = re.compile(rb'[ -"$-*,-~]+').fullmatch
"""Printable ASCII without wildcards, as nearly all topics are: there is nothing else to look for in these."""


def _new_topic(data: bytes) -> str:
    topic = data.decode("ascii") if _plain(data) else check_no_wildcard(decode_name(data))
    if len(data) <= _KEPT_SIZE and not data[-1:].isdigit():
        if len(_topics) >= _TOPICS_KEPT:
            _topics.clear()
        _topics[data] = topic
    return topic


def decode_publish(body: bytes, level: int, first: int) -> p.Publish:
    """The hot path: cut by hand, with a Reader for properties only."""
    size = len(body)
    if size < 2:
        raise WireError("a field runs over the end of the packet")
    topic_end = position = 2 + (body[0] << 8 | body[1])
    qos = first >> 1 & 0x03
    packet_id = None
    if qos:
        if qos == 3:
            raise WireError("QoS 3")  # MQTT-3.3.1-4
        position += 2
        if position > size:
            raise WireError("a field runs over the end of the packet")
        packet_id = body[topic_end] << 8 | body[topic_end + 1]
        if not packet_id:
            raise WireError("packet identifier 0", ReasonCode.PROTOCOL_ERROR)  # MQTT-2.2.1-3
    elif first & 0x08:
        raise WireError("DUP at QoS 0")  # MQTT-3.3.1-2
    elif position > size:
        raise WireError("a field runs over the end of the packet")
    name = body[2:topic_end]
    topic = _topics.get(name)
    if topic is None:
        topic = _new_topic(name)
    properties = NO_PROPERTIES
    if level >= 5:
        if position < size and body[position] == 0:
            position += 1
        else:
            reader = Reader(body, position)
            properties = _properties(reader, n.PUBLISH, level)
            position = size - reader.left
    if not topic and Property.TOPIC_ALIAS not in properties:
        check_topic(topic)
    packet = _new(p.Publish)  # what p.Publish() comes to, without a call
    packet.topic = topic
    packet.payload = body[position:]
    packet.qos = qos
    packet.packet_id = packet_id
    packet.dup = first & 0x08 != 0
    packet.retain = first & 0x01 != 0
    packet.properties = properties
    return packet


def _ack_decoder(make: type[Any], packet_type: int) -> Callable[[bytes, int, int], Any]:
    """PUBACK and its like; with the identifier alone, as nearly all are, no Reader is made."""

    def decode_ack(body: bytes, level: int, _first: int) -> Any:
        size = len(body)
        if size < 2 or (size > 2 and level < 5):
            raise WireError("an acknowledgement of the wrong length")
        packet_id = body[0] << 8 | body[1]
        if not packet_id:
            raise WireError("packet identifier 0", ReasonCode.PROTOCOL_ERROR)  # MQTT-2.2.1-3
        if size == 2:
            return make(packet_id)
        reader = Reader(body, 2)
        code = known(reader.byte(), make)
        properties = _properties(reader, packet_type, level) if reader.left else NO_PROPERTIES
        reader.finish()
        return make(packet_id, code, properties)

    return decode_ack


def _decode_subscribe(reader: Reader, level: int) -> p.Subscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, n.SUBSCRIBE, level)
    subscriptions = []
    while reader.left:
        text = reader.name()
        options = reader.byte()
        retain_handling = options >> 4
        if options & 0x03 == 3 or options & 0xC0 or (level < 5 and options > 2):
            raise WireError("subscription options that do not exist")  # MQTT-3.8.3-4, -5
        if retain_handling == 3:
            raise WireError("a retain handling that does not exist", ReasonCode.PROTOCOL_ERROR)  # 3.8.3.1
        if level >= 5 and text.startswith(SHARE):
            if not is_shared(text):
                raise WireError("no share name, or no filter after it", ReasonCode.PROTOCOL_ERROR)  # MQTT-4.8.2-1, -2
            if options & 0x04:
                raise WireError("no local on a shared subscription", ReasonCode.PROTOCOL_ERROR)  # MQTT-3.8.3-4
        check_filter(text)
        subscriptions.append(
            p.Subscription(text, options & 0x03, bool(options & 0x04), bool(options & 0x08), retain_handling)
        )
    if not subscriptions:
        raise WireError("a SUBSCRIBE without a filter")  # MQTT-3.8.3-3
    return p.Subscribe(packet_id, tuple(subscriptions), properties)


def _decode_suback(reader: Reader, level: int) -> p.SubAck:
    packet_id = reader.packet_id()
    properties = _properties(reader, n.SUBACK, level)
    return p.SubAck(packet_id, tuple(known(code, p.SubAck, level) for code in reader.rest()), properties)


def _decode_unsubscribe(reader: Reader, level: int) -> p.Unsubscribe:
    packet_id = reader.packet_id()
    properties = _properties(reader, n.UNSUBSCRIBE, level)
    filters = []
    while reader.left:
        filters.append(check_filter(reader.name()))
    if not filters:
        raise WireError("an UNSUBSCRIBE without a filter")  # MQTT-3.10.3-2
    return p.Unsubscribe(packet_id, tuple(filters), properties)


def _decode_unsuback(reader: Reader, level: int) -> p.UnsubAck:
    packet_id = reader.packet_id()
    if level < 5:
        return p.UnsubAck(packet_id)
    properties = _properties(reader, n.UNSUBACK, level)
    return p.UnsubAck(packet_id, tuple(known(code, p.UnsubAck) for code in reader.rest()), properties)


def _coded_decoder(make: type[Any], packet_type: int) -> Callable[[Reader, int], Any]:
    """DISCONNECT and AUTH: nothing at all says code 0 without properties."""

    def decode_coded(reader: Reader, level: int) -> Any:
        if level < 5 or not reader.left:
            return make()
        code = known(reader.byte(), make)
        return make(code, _properties(reader, packet_type, level) if reader.left else NO_PROPERTIES)

    return decode_coded


DECODERS: dict[int, tuple[int | None, Callable[[bytes, int, int], Any]]] = {
    n.CONNECT: (None, _decode_connect),
    n.CONNACK: (0, _read(_decode_connack)),
    n.PUBLISH: (None, decode_publish),
    n.PUBACK: (0, _ack_decoder(p.PubAck, n.PUBACK)),
    n.PUBREC: (0, _ack_decoder(p.PubRec, n.PUBREC)),
    n.PUBREL: (2, _ack_decoder(p.PubRel, n.PUBREL)),
    n.PUBCOMP: (0, _ack_decoder(p.PubComp, n.PUBCOMP)),
    n.SUBSCRIBE: (2, _read(_decode_subscribe)),
    n.SUBACK: (0, _read(_decode_suback)),
    n.UNSUBSCRIBE: (2, _read(_decode_unsubscribe)),
    n.UNSUBACK: (0, _read(_decode_unsuback)),
    n.PINGREQ: (0, _read(lambda reader, level: p.PingReq())),
    n.PINGRESP: (0, _read(lambda reader, level: p.PingResp())),
    n.DISCONNECT: (0, _read(_coded_decoder(p.Disconnect, n.DISCONNECT))),
    n.AUTH: (0, _read(_coded_decoder(p.Auth, n.AUTH))),
}
"""packet type -> the flags that it must have (None: they mean something), and how it is read."""
