"""A packet to the first byte and the body of a frame: one function for each kind, and the table of them.

Raises ValueError for what cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.fields import encode_binary, encode_text
from rpcbroker.wire.mqtt.packets import Properties
from rpcbroker.wire.mqtt.properties import encode_properties


def _encode_connect(packet: p.Connect, _level: int) -> tuple[int, bytes]:
    level, will = packet.level, packet.will
    flags = packet.clean_start << 1
    parts = [encode_text(packet.client_id)]
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        parts += [
            _written(will.properties, n.WILL, level),
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
    return n.CONNECT << 4, head + _written(packet.properties, n.CONNECT, level) + b"".join(parts)


def _written(properties: Properties, packet_type: int, level: int) -> bytes:
    return encode_properties(properties, packet_type) if level >= 5 else b""


def _encode_connack(packet: p.ConnAck, level: int) -> tuple[int, bytes]:
    head = bytes((packet.session_present, packet.code))
    return n.CONNACK << 4, head + _written(packet.properties, n.CONNACK, level)


def _encode_publish(packet: p.Publish, level: int) -> tuple[int, bytes]:
    first = n.PUBLISH << 4 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = b"" if packet.packet_id is None else packet.packet_id.to_bytes(2, "big")
    properties = _written(packet.properties, n.PUBLISH, level)
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
    parts = [packet.packet_id.to_bytes(2, "big"), _written(packet.properties, n.SUBSCRIBE, level)]
    for entry in packet.subscriptions:
        options = entry.qos
        if level >= 5:
            options |= entry.no_local << 2 | entry.retain_as_published << 3 | entry.retain_handling << 4
        parts += [encode_text(entry.filter), bytes((options,))]
    return n.SUBSCRIBE << 4 | 2, b"".join(parts)


def _encode_suback(packet: p.SubAck, level: int) -> tuple[int, bytes]:
    properties = _written(packet.properties, n.SUBACK, level)
    return n.SUBACK << 4, packet.packet_id.to_bytes(2, "big") + properties + bytes(packet.codes)


def _encode_unsubscribe(packet: p.Unsubscribe, level: int) -> tuple[int, bytes]:
    head = packet.packet_id.to_bytes(2, "big") + _written(packet.properties, n.UNSUBSCRIBE, level)
    return n.UNSUBSCRIBE << 4 | 2, head + b"".join(encode_text(entry) for entry in packet.filters)


def _encode_unsuback(packet: p.UnsubAck, level: int) -> tuple[int, bytes]:
    head = packet.packet_id.to_bytes(2, "big")
    if level < 5:
        return n.UNSUBACK << 4, head
    return n.UNSUBACK << 4, head + _written(packet.properties, n.UNSUBACK, level) + bytes(packet.codes)


def _coded_encoder(packet_type: int) -> Callable[[Any, int], tuple[int, bytes]]:
    def encode_coded(packet: Any, level: int) -> tuple[int, bytes]:
        if level < 5 or not (packet.code or packet.properties):
            return packet_type << 4, b""
        return packet_type << 4, bytes((packet.code,)) + encode_properties(packet.properties, packet_type)

    return encode_coded


ENCODERS: dict[type[Any], Callable[[Any, int], tuple[int, bytes]]] = {
    p.Connect: _encode_connect,
    p.ConnAck: _encode_connack,
    p.Publish: _encode_publish,
    p.PubAck: _ack_encoder(n.PUBACK << 4),
    p.PubRec: _ack_encoder(n.PUBREC << 4),
    p.PubRel: _ack_encoder(n.PUBREL << 4 | 2),
    p.PubComp: _ack_encoder(n.PUBCOMP << 4),
    p.Subscribe: _encode_subscribe,
    p.SubAck: _encode_suback,
    p.Unsubscribe: _encode_unsubscribe,
    p.UnsubAck: _encode_unsuback,
    p.PingReq: lambda packet, level: (n.PINGREQ << 4, b""),
    p.PingResp: lambda packet, level: (n.PINGRESP << 4, b""),
    p.Disconnect: _coded_encoder(n.DISCONNECT),
    p.Auth: _coded_encoder(n.AUTH),
}
"""packet -> how it is written: the first byte and the body."""
