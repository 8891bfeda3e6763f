"""What leaves is what the codec would write, and what belongs to one hop does not leave."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.strategies import PROPERTIES, TOPIC

from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.properties import Property, encode_pairs

P = Property
PASSED_ON = {
    P.PAYLOAD_FORMAT_INDICATOR: 1,
    P.CONTENT_TYPE: "text/plain",
    P.RESPONSE_TOPIC: "answers",
    P.CORRELATION_DATA: b"\x00\xff",
    P.USER_PROPERTY: (("b", "1"), ("a", "2"), ("b", "1")),
}
LEVELS, QOS, FLAGS = (3, 4, 5), (0, 1, 2), (False, True)


def parsed(data: bytes, level: int) -> Any:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    (frame,) = reader
    return decode(*frame, level)


@pytest.mark.parametrize("properties", [{}, PASSED_ON, PASSED_ON | {P.MESSAGE_EXPIRY_INTERVAL: 10}])
@pytest.mark.parametrize("identifiers", [(), (1,), (7, 268_435_455)])
@pytest.mark.parametrize(("alias", "named"), [(0, True), (3, True), (3, False)])
def test_every_form_is_what_the_codec_writes(properties: Any, identifiers: Any, alias: int, named: bool) -> None:
    for level, qos, dup, retain in itertools.product(LEVELS, QOS, FLAGS, FLAGS):
        if (dup and not qos) or (level < 5 and not named):
            continue
        message = Message("a/ü", b"\x00payload", 2, properties=properties, now=100.0)
        packet_id = 513 if qos else None
        for _ in range(2):  # the second time it may have been kept
            data = message.frame(
                level=level,
                qos=qos,
                packet_id=packet_id,
                now=104.0,
                dup=dup,
                retain=retain,
                identifiers=identifiers,
                alias=alias,
                name_topic=named,
            )
            expected: dict[Property, Any] = {}
            if level >= 5:
                expected = {key: value for key, value in properties.items() if key in PASSED_ON}
                if P.MESSAGE_EXPIRY_INTERVAL in properties:
                    expected[P.MESSAGE_EXPIRY_INTERVAL] = 6
                if identifiers:
                    expected[P.SUBSCRIPTION_IDENTIFIER] = identifiers
                if alias:
                    expected[P.TOPIC_ALIAS] = alias
            topic = "a/ü" if named else ""
            assert data == encode(p.Publish(topic, b"\x00payload", qos, packet_id, dup, retain, expected), level)


@given(TOPIC, st.binary(max_size=300), PROPERTIES[n.PUBLISH])
def test_any_properties_are_passed_on_but_those_of_the_hop(topic: str, payload: bytes, properties: Any) -> None:
    message = Message(topic, payload, 1, properties=properties, now=5.0)
    packet = parsed(message.frame(level=5, qos=1, packet_id=1, now=5.0), 5)
    hop = {P.TOPIC_ALIAS, P.SUBSCRIPTION_IDENTIFIER}
    assert packet.properties == {key: value for key, value in properties.items() if key not in hop}
    assert (packet.topic, packet.payload) == (topic, payload)


@given(TOPIC, st.binary(max_size=300), PROPERTIES[n.PUBLISH])
def test_it_counts_for_no_less_than_its_properties_have_when_sent(topic: str, payload: bytes, properties: Any) -> None:
    message = Message(topic, payload, properties=properties)
    plain = Message(topic, payload).size
    assert plain == len(topic) + len(payload)
    assert message.size >= plain + len(encode_pairs(properties, n.PUBLISH))
    assert message.size == Message(topic, payload, properties=properties).size == message.size


@pytest.mark.parametrize(
    "pairs",
    [[("a" * 40_000, "b" * 10_000)], [("ab", str(number)) for number in range(5_000)], [("ü" * 20_000, "я" * 9_000)]],
)
def test_it_counts_for_about_what_its_properties_take(pairs: list[tuple[str, str]]) -> None:
    sent = encode(p.Publish("t", b"x", properties={P.USER_PROPERTY: tuple(pairs)}), 5)
    tracemalloc.start()
    try:
        message = Message("t", b"x", properties=parsed(sent, 5).properties)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken * 0.9 < message.size < taken * 2.2


def test_a_will_s_delay_is_the_server_s_own() -> None:
    message = Message("t", b"", properties={P.WILL_DELAY_INTERVAL: 5, P.CONTENT_TYPE: "x"})
    assert parsed(message.frame(level=5, qos=0, packet_id=None, now=0.0), 5).properties == {P.CONTENT_TYPE: "x"}


@pytest.mark.parametrize(
    ("interval", "waited", "left"),
    [
        (10, 0.0, 10),
        (10, 0.001, 10),
        (10, 0.999, 10),
        (10, 1.0, 9),
        (10, 3.5, 7),
        (1, 0.001, 1),
        (1, 5.0, 0),
        (0, 0.0, 0),
        (0xFFFFFFFF, 0.5, 0xFFFFFFFF),
        (0xFFFFFFFF, 2.0, 0xFFFFFFFD),
    ],
)
def test_the_expiry_is_reduced_by_the_whole_seconds_that_it_waited(interval: int, waited: float, left: int) -> None:
    """MQTT-3.3.2-6; one who is given it at once is told the same as the server was."""
    message = Message("t", b"", properties={P.MESSAGE_EXPIRY_INTERVAL: interval}, now=1000.0)
    packet = parsed(message.frame(level=5, qos=0, packet_id=None, now=1000.0 + waited), 5)
    assert packet.properties[P.MESSAGE_EXPIRY_INTERVAL] == left


@pytest.mark.parametrize(
    ("interval", "waited", "gone"), [(None, 1e9, False), (0, 0.0, True), (5, 4.9, False), (5, 5.0, True)]
)
def test_when_it_has_expired(interval: int | None, waited: float, gone: bool) -> None:
    properties = {} if interval is None else {P.MESSAGE_EXPIRY_INTERVAL: interval}
    assert Message("t", b"", properties=properties, now=7.0).expired(7.0 + waited) == gone


def test_what_is_kept_of_one_form_is_not_given_for_another() -> None:
    message = Message("t", b"x")
    seen = {message.frame(level=4, qos=0, packet_id=None, now=0.0, retain=retain) for retain in FLAGS}
    seen |= {message.frame(level=5, qos=0, packet_id=None, now=0.0, retain=retain) for retain in FLAGS}
    assert len(seen) == 4
    assert message.frame(level=4, qos=1, packet_id=1, now=0.0) != message.frame(level=4, qos=1, packet_id=2, now=0.0)
