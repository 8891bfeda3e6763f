"""Every vector whole, byte by byte, cut short and with a tail; and what hypothesis thinks of."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.vectors import VECTORS

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.properties import TABLE, Property

CASES = [pytest.param(level, bytes.fromhex(text), packet, id=name) for name, level, text, packet in VECTORS]


def frames(*reads: bytes, limit: int = 1 << 20) -> list[tuple[int, bytes]]:
    reader = FrameReader(limit)
    found = []
    for data in reads:
        reader.feed(data)
        found += list(reader)
    return found


@pytest.mark.parametrize(("level", "data", "packet"), CASES)
class TestVectors:
    def test_decodes_and_encodes(self, level: int, data: bytes, packet: p.Packet) -> None:
        ((first, body),) = frames(data)
        assert decode(first, body, level) == packet
        assert decode(*frames(encode(packet, level))[0], level) == packet

    def test_byte_by_byte_and_with_a_tail(self, level: int, data: bytes, packet: p.Packet) -> None:
        reads = [data[i : i + 1] for i in range(len(data))]
        assert frames(*reads) == frames(data)
        assert frames(data + b"\xc0") == frames(data)
        assert frames(*[data * 3]) == frames(data) * 3

    def test_every_cut_is_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        ((first, body),) = frames(data)
        for cut in range(len(body)):
            with contextlib.suppress(WireError):
                assert type(decode(first, body[:cut], level)) is type(packet), "a shorter packet may be whole too"
        assert frames(data[:-1]) == []

    def test_bytes_too_many_are_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        if isinstance(packet, (p.Publish, p.SubAck)) or (isinstance(packet, p.UnsubAck) and level == 5):
            return  # they end in a list or a payload
        ((first, body),) = frames(data)
        with pytest.raises(WireError):
            decode(first, body + b"\xff", level)

    def test_other_flags_are_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        if isinstance(packet, p.Publish):
            return
        ((first, body),) = frames(data)
        for flags in set(range(16)) - {first & 0x0F}:
            with pytest.raises(WireError):
                decode(first & 0xF0 | flags, body, level)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
TOPIC = TEXT.filter(lambda text: text and "+" not in text and "#" not in text)
PACKET_ID = st.integers(1, 0xFFFF)
VALUES: dict[str, Any] = {
    "_read_bool": st.integers(0, 1),
    "int16": st.integers(1, 0xFFFF),
    "int32": st.integers(1, 0xFFFFFFFF),
    "varint": st.integers(1, 268_435_455),
    "text": TOPIC,
    "binary": st.binary(max_size=40),
    "_read_pair": st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple),
}


def properties(packet_type: int, *, without: set[Property] = frozenset()) -> Any:  # type: ignore[assignment]
    choices = {}
    for number, (kind, allowed) in TABLE.items():
        key = Property(number)
        if packet_type in allowed and key not in without:
            name = kind.read.__name__
            if name == "checked":
                name = kind.read.__closure__[0].cell_contents.__name__  # type: ignore[index]
            values = VALUES[name]
            if key is Property.SUBSCRIPTION_IDENTIFIER and packet_type == 3:
                values = st.lists(values, min_size=1, max_size=3).map(tuple)
            choices[key] = values
    return st.fixed_dictionaries({}, optional=choices)


@st.composite
def packets(draw: Any) -> tuple[int, p.Packet]:
    level = draw(st.sampled_from([3, 4, 5]))

    def props(packet_type: int) -> Any:
        return draw(properties(packet_type)) if level == 5 else {}

    def connect() -> p.Packet:
        will = None
        if draw(st.booleans()):
            will = p.Will(draw(TOPIC), draw(st.binary(max_size=30)), draw(st.integers(0, 2)), True, props(0))
        username = draw(st.none() | TEXT)
        password = draw(st.none() | st.binary(max_size=20)) if username is not None else None
        given = draw(properties(1, without={Property.AUTHENTICATION_DATA})) if level == 5 else {}
        return p.Connect(
            level, draw(TEXT), draw(st.booleans()), draw(st.integers(0, 0xFFFF)), username, password, will, given
        )

    def publish() -> p.Packet:
        qos = draw(st.integers(0, 2))
        packet_id = draw(PACKET_ID) if qos else None
        dup = bool(qos) and draw(st.booleans())
        return p.Publish(draw(TOPIC), draw(st.binary(max_size=300)), qos, packet_id, dup, draw(st.booleans()), props(3))

    def subscribe() -> p.Packet:
        option = st.builds(p.Subscription, TOPIC, st.integers(0, 2))
        if level == 5:
            option = st.builds(
                p.Subscription,
                TOPIC.map(lambda text: "x" + text),
                st.integers(0, 2),
                st.booleans(),
                st.booleans(),
                st.integers(0, 2),
            )
        return p.Subscribe(draw(PACKET_ID), tuple(draw(st.lists(option, min_size=1, max_size=5))), props(8))

    def unsubscribe() -> p.Packet:
        return p.Unsubscribe(draw(PACKET_ID), tuple(draw(st.lists(TOPIC, min_size=1, max_size=5))), props(10))

    def ack() -> p.Packet:
        make, number = draw(st.sampled_from([(p.PubAck, 4), (p.PubRec, 5), (p.PubRel, 6), (p.PubComp, 7)]))
        return make(draw(PACKET_ID), 0, props(number))

    def suback() -> p.Packet:
        return p.SubAck(draw(PACKET_ID), tuple(draw(st.lists(st.integers(0, 255), max_size=5))), props(9))

    def connack() -> p.Packet:
        return p.ConnAck(draw(st.booleans()), 0, props(2))

    def disconnect() -> p.Packet:
        return p.Disconnect(0, props(14))

    return level, draw(st.sampled_from([connect, publish, subscribe, unsubscribe, ack, suback, connack, disconnect]))()


@given(packets())
def test_decoding_undoes_encoding(case: tuple[int, p.Packet]) -> None:
    level, packet = case
    ((first, body),) = frames(encode(packet, level))
    assert decode(first, body, level) == packet


@given(st.lists(packets(), max_size=5), st.lists(st.integers(0, 2000), max_size=10))
def test_any_split_gives_the_same_frames(cases: list[tuple[int, p.Packet]], cuts: list[int]) -> None:
    data = b"".join(encode(packet, level) for level, packet in cases)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reads = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert frames(*reads) == frames(data)


@given(st.integers(0, 255), st.binary(max_size=200), st.sampled_from([3, 4, 5]))
def test_random_bytes_raise_nothing_but_wire_errors(first: int, body: bytes, level: int) -> None:
    with contextlib.suppress(WireError):
        decode(first, body, level)


@given(packets(), st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_but_wire_errors(case: tuple[int, p.Packet], where: int, byte: int) -> None:
    level, packet = case
    data = bytearray(encode(packet, level))
    data[where % len(data)] = byte
    try:
        for first, body in frames(bytes(data)):
            decode(first, body, level)
    except WireError:
        pass


class TestFrames:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            ("30 FF FF FF FF 01", 0x81),
            ("30 80 80 80 80", 0x81),
            ("30 80 00", 0x81),
            ("30 FF FF FF 7F 00 00", 0x95),
            ("30 E8 07", 0x95),
        ],
    )
    def test_bad_and_large_lengths_are_refused_at_once(self, data: str, code: int) -> None:
        with pytest.raises(WireError) as caught:
            frames(bytes.fromhex(data), limit=100)
        assert caught.value.code == code

    def test_a_packet_of_exactly_the_limit_is_taken(self) -> None:
        packet = encode(p.Publish("t", b"x" * 93), 4)
        assert len(packet) == 98
        assert len(frames(packet, limit=98)) == 1
        with pytest.raises(WireError):
            frames(packet, limit=97)

    def test_a_thousand_packets_in_one_read(self) -> None:
        assert len(frames(encode(p.PubAck(1), 4) * 1000)) == 1000


@pytest.mark.parametrize(
    ("level", "data", "code"),
    [
        pytest.param(4, "10 0E 0004 4D515454 04 03 000A 0002 6162", 0x81, id="reserved connect flag"),
        pytest.param(4, "10 0E 0004 4D515454 06 02 000A 0002 6162", 0x84, id="level 6"),
        pytest.param(4, "10 0E 0004 4D515454 03 02 000A 0002 6162", 0x84, id="MQTT with level 3"),
        pytest.param(4, "10 0E 0004 6D717474 04 02 000A 0002 6162", 0x81, id="name in small letters"),
        pytest.param(4, "10 0E 0004 4D515454 04 0A 000A 0002 6162", 0x81, id="will QoS without a will"),
        pytest.param(4, "10 0E 0004 4D515454 04 1E 000A 0002 6162", 0x81, id="will QoS 3"),
        pytest.param(4, "10 10 0004 4D515454 04 42 000A 0002 6162 0000", 0x81, id="password without user"),
        pytest.param(4, "10 0E 0004 4D515454 04 82 000A 0002 6162", 0x81, id="user flag without a user"),
        pytest.param(4, "10 0F 0004 4D515454 04 02 000A 0003 EDA080", 0x81, id="lone surrogate"),
        pytest.param(4, "10 0E 0004 4D515454 04 02 000A 0002 C080", 0x81, id="overlong"),
        pytest.param(4, "10 0E 0004 4D515454 04 02 000A 0002 6100", 0x81, id="U+0000"),
        pytest.param(5, "10 10 0004 4D515454 05 02 000A 03 21 0000 0000", 0x82, id="receive maximum 0"),
        pytest.param(5, "10 13 0004 4D515454 05 02 000A 06 21 0001 21 0001 0000", 0x82, id="property twice"),
        pytest.param(5, "10 0F 0004 4D515454 05 02 000A 02 7F 00 0000", 0x81, id="unknown property"),
        pytest.param(5, "10 0F 0004 4D515454 05 02 000A 02 17 02 0000", 0x82, id="boolean 2"),
        pytest.param(5, "10 10 0004 4D515454 05 02 000A 03 23 0001 0000", 0x81, id="property of another packet"),
        pytest.param(5, "10 11 0004 4D515454 05 02 000A 04 16 0001 61 0000", 0x82, id="auth data without method"),
        pytest.param(4, "36 05 0001 74 0001", 0x81, id="QoS 3"),
        pytest.param(4, "38 03 0001 74", 0x81, id="DUP at QoS 0"),
        pytest.param(4, "32 05 0001 74 0000", 0x82, id="packet id 0"),
        pytest.param(4, "30 02 0000", 0x90, id="empty topic"),
        pytest.param(4, "30 05 0003 612F23", 0x90, id="# in a topic"),
        pytest.param(4, "30 03 0001 2B", 0x90, id="+ in a topic"),
        pytest.param(5, "30 08 0001 74 04 08 0001 2B", 0x82, id="wildcard in a response topic"),
        pytest.param(4, "82 02 0001", 0x82, id="subscribe to nothing"),
        pytest.param(4, "82 06 0001 0001 61 03", 0x81, id="subscribe QoS 3"),
        pytest.param(4, "82 06 0001 0001 61 04", 0x81, id="3.1.1 with 5.0's options"),
        pytest.param(5, "82 07 0001 00 0001 61 30", 0x81, id="retain handling 3"),
        pytest.param(5, "82 10 0001 00 000A 2473686172652F672F61 05", 0x82, id="no local on a shared one"),
        pytest.param(4, "82 07 0001 0002 6123 00", 0x8F, id="a#"),
        pytest.param(4, "82 08 0001 0003 232F61 00", 0x8F, id="#/a"),
        pytest.param(4, "82 07 0001 0002 612B 00", 0x8F, id="a+"),
        pytest.param(4, "82 05 0001 0000 00", 0x8F, id="empty filter"),
        pytest.param(5, "82 08 0001 02 0B 00 0001 6100".replace("6100", "61"), 0x82, id="subscription id 0"),
        pytest.param(4, "A2 02 0001", 0x82, id="unsubscribe from nothing"),
        pytest.param(4, "00 00", 0x81, id="packet type 0"),
        pytest.param(4, "F0 00", 0x81, id="packet type 15 in 3.1.1"),
        pytest.param(4, "C0 01 00", 0x81, id="a ping with a body"),
        pytest.param(4, "E0 01 00", 0x81, id="a 3.1.1 disconnect with a body"),
        pytest.param(5, "E0 02 01 00", 0x81, id="a disconnect with a code that is none"),
        pytest.param(5, "40 03 0001 20", 0x81, id="an ack with a code that is none"),
    ],
)
def test_hostile_packets(level: int, data: str, code: int) -> None:
    ((first, body),) = frames(bytes.fromhex(data))
    with pytest.raises(WireError) as caught:
        decode(first, body, level)
    assert caught.value.code == code


def test_ten_thousand_user_properties_cost_linear_time() -> None:
    pairs = tuple(("k", str(number)) for number in range(10_000))
    packet = p.Publish("t", b"", properties={Property.USER_PROPERTY: pairs})
    assert decode(*frames(encode(packet, 5))[0], 5) == packet
