"""What hypothesis needs to make any packet of any level."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt import properties as kinds
from rpcbroker.wire.mqtt.properties import TABLE, Property
from rpcbroker.wire.mqtt.reasons import ALLOWED, ALLOWED_V3

Strategy = st.SearchStrategy[Any]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
FIT = st.characters(exclude_categories=["Cs", "Cc", "Cn"], exclude_characters="+#")
NAME = st.text(FIT, max_size=40)
TOPIC = st.text(FIT, min_size=1, max_size=40)
PACKET_ID = st.integers(1, 0xFFFF)
LEVEL = st.sampled_from([3, 4, 5])

VALUES: dict[kinds.Kind, Strategy] = {
    kinds._BOOL: st.integers(0, 1),
    kinds._INT16: st.integers(0, 0xFFFF),
    kinds._INT16_NONZERO: st.integers(1, 0xFFFF),
    kinds._INT32: st.integers(0, 0xFFFFFFFF),
    kinds._INT32_NONZERO: st.integers(1, 0xFFFFFFFF),
    kinds._VARINT_NONZERO: st.integers(1, 268_435_455),
    kinds._TEXT: TEXT,
    kinds._RESPONSE_TOPIC: TOPIC,
    kinds._BINARY: st.binary(max_size=40),
    kinds._PAIR: st.tuples(TEXT, TEXT),
}


def _repeated(number: int, packet_type: int) -> Strategy:
    values = VALUES[TABLE[number][0]]
    if kinds._repeats(number, packet_type):
        return st.lists(values, min_size=1, max_size=3).map(tuple)
    return values


PROPERTIES: dict[int, Strategy] = {
    packet_type: st.fixed_dictionaries(
        {},
        optional={
            Property(number): _repeated(number, packet_type)
            for number, (_, allowed) in TABLE.items()
            if packet_type in allowed and (packet_type, number) != (n.CONNECT, Property.AUTHENTICATION_DATA)
        },
    )
    for packet_type in range(16)
}
"""packet type -> the properties that it may have."""


def _properties(packet_type: int, level: int) -> Strategy:
    return PROPERTIES[packet_type] if level >= 5 else st.just({})


def _codes(kind: type[Any], level: int) -> Strategy:
    if level >= 5:
        return st.sampled_from(sorted(ALLOWED[kind]))
    return st.sampled_from(sorted(ALLOWED_V3[kind])) if kind in ALLOWED_V3 else st.just(0)


def connects(level: int) -> Strategy:
    will = st.builds(
        p.Will, TOPIC, st.binary(max_size=30), st.integers(0, 2), st.booleans(), _properties(n.WILL, level)
    )
    users = st.tuples(NAME, st.none() | st.binary(max_size=20)) | st.tuples(
        st.none(), st.none() | st.binary(max_size=20) if level >= 5 else st.none()
    )
    return st.builds(
        lambda user, **rest: p.Connect(level, username=user[0], password=user[1], **rest),
        users,
        client_id=NAME,
        clean_start=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        will=st.none() | will,
        properties=_properties(n.CONNECT, level),
    )


def _publish(**fields: Any) -> p.Publish:
    """For `st.builds`, which of a named tuple would also make up the fields that are left out."""
    return p.Publish(**fields)


def publishes(level: int) -> Strategy:
    known = {"topic": TOPIC, "payload": st.binary(max_size=300), "retain": st.booleans()}
    known["properties"] = _properties(n.PUBLISH, level)
    return st.builds(_publish, **known) | st.builds(
        _publish, qos=st.integers(1, 2), packet_id=PACKET_ID, dup=st.booleans(), **known
    )


def _subscriptions(level: int) -> Strategy:
    flag, handling = (st.booleans(), st.integers(0, 2)) if level >= 5 else (st.just(False), st.just(0))
    filters = st.sampled_from(["+", "#", "a/+/#", "/"]) | TOPIC.filter(lambda text: not text.startswith("$"))
    return st.builds(p.Subscription, filters, st.integers(0, 2), flag, flag, handling)


def _some(values: Strategy) -> Strategy:
    return st.lists(values, min_size=1, max_size=5).map(tuple)


def packets_of(level: int) -> Strategy:
    """Any packet of a level."""

    def known(packet_type: int) -> Strategy:
        return _properties(packet_type, level)

    acks = [
        st.builds(kind, PACKET_ID, _codes(kind, level), known(number))
        for kind, number in ((p.PubAck, n.PUBACK), (p.PubRec, n.PUBREC), (p.PubRel, n.PUBREL), (p.PubComp, n.PUBCOMP))
    ]
    unsubscribed = _some(_codes(p.UnsubAck, level)) if level >= 5 else st.just(())
    kinds_of_packet = [
        connects(level),
        publishes(level),
        st.builds(p.ConnAck, st.booleans(), _codes(p.ConnAck, level), known(n.CONNACK)),
        *acks,
        st.builds(p.Subscribe, PACKET_ID, _some(_subscriptions(level)), known(n.SUBSCRIBE)),
        st.builds(p.SubAck, PACKET_ID, _some(_codes(p.SubAck, level)), known(n.SUBACK)),
        st.builds(p.Unsubscribe, PACKET_ID, _some(TOPIC), known(n.UNSUBSCRIBE)),
        st.builds(p.UnsubAck, PACKET_ID, unsubscribed, known(n.UNSUBACK)),
        st.just(p.PingReq()),
        st.just(p.PingResp()),
        st.builds(p.Disconnect, _codes(p.Disconnect, level), known(n.DISCONNECT)),
    ]
    if level >= 5:
        kinds_of_packet.append(st.builds(p.Auth, _codes(p.Auth, level), known(n.AUTH)))
    return st.one_of(kinds_of_packet)


BY_LEVEL = {level: packets_of(level) for level in (3, 4, 5)}


def packets() -> Strategy:
    """(level, packet)"""
    return LEVEL.flatmap(lambda level: st.tuples(st.just(level), BY_LEVEL[level]))
