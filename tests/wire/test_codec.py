"""Every vector whole, byte by byte, cut short and with a tail; and what hypothesis thinks of."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.strategies import packets
from wire.vectors import VECTORS, WRITTEN

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import decoding
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.decoding import decode_publish
from rpcbroker.wire.mqtt.fields import encode_text
from rpcbroker.wire.mqtt.properties import TABLE, Property

CASES = [pytest.param(level, bytes.fromhex(text), packet, id=name) for name, level, text, packet in VECTORS]


def frames(*reads: bytes, limit: int = 1 << 20) -> list[tuple[int, bytes]]:
    reader = FrameReader(limit)
    found = []
    for data in reads:
        reader.feed(data)
        found += list(reader)
    return found


MAY_BE_SHORTER = {p.Publish, p.PubAck, p.PubRec, p.PubRel, p.PubComp, p.Disconnect, p.Auth}
MAY_BE_SHORTER |= {p.Subscribe, p.Unsubscribe, p.SubAck, p.UnsubAck}
"""They end in a payload, a list, or in what may be left out."""


@pytest.mark.parametrize(
    ("level", "data", "packet"),
    [pytest.param(level, bytes.fromhex(text), packet, id=name) for name, level, text, packet in WRITTEN],
)
def test_the_very_bytes_are_written(level: int, data: bytes, packet: p.Packet) -> None:
    assert encode(packet, level) == data


@pytest.mark.parametrize(("level", "data", "packet"), CASES)
class TestVectors:
    def test_decodes(self, level: int, data: bytes, packet: p.Packet) -> None:
        ((first, body),) = frames(data)
        assert decode(first, body, level) == packet
        assert decode(*frames(encode(packet, level))[0], level) == packet

    def test_byte_by_byte_and_with_a_tail(self, level: int, data: bytes, packet: p.Packet) -> None:
        reads = [data[i : i + 1] for i in range(len(data))]
        assert frames(*reads) == frames(data)
        assert frames(data + b"\xc0") == frames(data)
        assert frames(*[data * 3]) == frames(data) * 3

    def test_every_cut_of_the_stream_waits_for_more(self, level: int, data: bytes, packet: p.Packet) -> None:
        for cut in range(len(data)):
            assert frames(data[:cut]) == []

    def test_every_cut_of_the_body_is_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        ((first, body),) = frames(data)
        for cut in range(len(body)):
            with contextlib.suppress(WireError):
                shorter = decode(first, body[:cut], level)
                assert type(shorter) in MAY_BE_SHORTER, f"{cut} bytes are enough for {shorter}"

    def test_bytes_too_many_are_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        if isinstance(packet, p.Publish):
            return  # it ends in the payload
        ((first, body),) = frames(data)
        with pytest.raises(WireError):
            decode(first, body + b"\xff", level)

    def test_other_flags_are_a_wire_error(self, level: int, data: bytes, packet: p.Packet) -> None:
        if isinstance(packet, p.Publish):
            return
        ((first, body),) = frames(data)
        if level == 3 and isinstance(packet, p.Connect):
            return  # MQTT 3.1 has flags in it that mean nothing
        for flags in set(range(16)) - {first & 0x0F}:
            if level == 3 and flags ^ (first & 0x0F) == 0x08:
                continue  # sent again, as MQTT 3.1 marks it
            with pytest.raises(WireError):
                decode(first & 0xF0 | flags, body, level)


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

    def test_a_large_packet_may_dribble_in(self) -> None:
        packet = encode(p.Publish("t", bytes(200_000)), 4)
        assert frames(*(packet[i : i + 1] for i in range(len(packet)))) == frames(packet)

    def test_a_length_that_is_announced_takes_no_memory(self) -> None:
        reader = FrameReader(268_435_460)
        tracemalloc.start()
        try:
            reader.feed(bytes.fromhex("30 FFFFFF7F") + b"0123456789")
            assert list(reader) == []
            assert tracemalloc.get_traced_memory()[1] < 10_000
        finally:
            tracemalloc.stop()

    def test_nothing_is_held_between_packets(self) -> None:
        reader = FrameReader(1000)
        reader.feed(encode(p.PubAck(1), 4) * 10)
        assert len(list(reader)) == 10
        assert reader._buffer == b""


@pytest.mark.parametrize(
    ("level", "data", "code"),
    [
        pytest.param(4, "10 0E 0004 4D515454 04 03 000A 0002 6162", 0x81, id="reserved connect flag"),
        pytest.param(4, "10 0E 0004 4D515454 06 02 000A 0002 6162", 0x84, id="level 6"),
        pytest.param(4, "10 0E 0004 4D515454 03 02 000A 0002 6162", 0x84, id="MQTT with level 3"),
        pytest.param(4, "10 0E 0004 6D717474 04 02 000A 0002 6162", 0x81, id="name in small letters"),
        pytest.param(4, "10 0F 0005 4D51545458 04 02 000A 0002 6162", 0x81, id="MQTTX"),
        pytest.param(4, "10 0A 0000 04 02 000A 0002 6162", 0x81, id="no name"),
        pytest.param(4, "10 0E FFFF 4D515454 04 02 000A 0002 6162", 0x81, id="name of 65,535 bytes"),
        pytest.param(4, "10 0E 0004 4D515454 02 02 000A 0002 6162", 0x84, id="MQTT with level 2"),
        pytest.param(4, "10 0E 0004 4D515454 84 02 000A 0002 6162", 0x84, id="MQTT with a bridge's level"),
        pytest.param(4, "10 10 0006 4D5149736470 04 02 003C 0002 6162", 0x84, id="MQIsdp with level 4"),
        pytest.param(4, "10 0E 0004 4D515454 04 22 000A 0002 6162", 0x81, id="will retain without a will"),
        pytest.param(4, "10 0E 0004 4D515454 04 06 000A 0002 6162", 0x81, id="will flag without a will"),
        pytest.param(4, "10 13 0004 4D515454 04 06 000A 0002 6162 0001 2B 0000", 0x81, id="will to a wildcard"),
        pytest.param(4, "10 12 0004 4D515454 04 06 000A 0002 6162 0000 0000", 0x81, id="will to nothing"),
        pytest.param(4, "10 13 0004 4D515454 04 06 000A 0002 6162 0001 00 0000", 0x81, id="will to U+0000"),
        pytest.param(4, "10 10 0004 4D515454 04 02 000A 0002 6162 0000", 0x81, id="user without the flag"),
        pytest.param(4, "10 10 0004 4D515454 04 C2 000A 0002 6162 0000", 0x81, id="password flag without a password"),
        pytest.param(4, "10 11 0004 4D515454 04 02 000A 0005 F888808080", 0x81, id="UTF-8 of five bytes"),
        pytest.param(4, "10 0E 0004 4D515454 04 02 000A 0002 61C3", 0x81, id="UTF-8 that is cut"),
        pytest.param(5, "10 12 0004 4D515454 05 02 000A 05 27 00000000 0000", 0x82, id="maximum packet size 0"),
        pytest.param(5, "10 0F 0004 4D515454 05 02 000A 02 8001 0000", 0x81, id="property of two bytes"),
        pytest.param(5, "10 0D 0004 4D515454 05 02 000A 7F 0000", 0x81, id="properties longer than the packet"),
        pytest.param(5, "10 10 0004 4D515454 05 02 000A 00 21 0001 0000", 0x81, id="properties after their end"),
        pytest.param(5, "10 0E 0004 4D515454 05 02 000A 01 21 0000", 0x81, id="properties that are cut"),
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
        pytest.param(5, "30 0C 0001 74 08 08 0001 72 08 0001 72", 0x82, id="two response topics"),
        pytest.param(5, "30 08 0001 74 04 08 0001 23", 0x82, id="# in a response topic"),
        pytest.param(4, "36 05 0001 74 0001", 0x81, id="QoS 3"),
        pytest.param(4, "38 03 0001 74", 0x81, id="DUP at QoS 0"),
        pytest.param(4, "32 05 0001 74 0000", 0x82, id="packet id 0"),
        pytest.param(4, "32 03 0001 74", 0x81, id="no packet id"),
        pytest.param(4, "30 03 0002 74", 0x81, id="topic over the end"),
        pytest.param(4, "30 00", 0x81, id="publish of nothing"),
        pytest.param(5, "30 03 0001 74", 0x81, id="publish 5.0 without a property length"),
        pytest.param(5, "30 05 0001 74 8000", 0x81, id="a property length that is padded"),
        pytest.param(4, "30 03 0001 00", 0x81, id="U+0000 in a topic"),
        pytest.param(4, "30 04 0002 C080", 0x81, id="an overlong form in a topic"),
        pytest.param(5, "30 03 0000 00", 0x81, id="empty topic without an alias"),
        pytest.param(4, "40 02 0000", 0x82, id="puback of 0"),
        pytest.param(4, "62 02 0000", 0x82, id="pubrel of 0"),
        pytest.param(4, "82 06 0000 0001 61 00", 0x82, id="subscribe of 0"),
        pytest.param(4, "A2 05 0000 0001 61", 0x82, id="unsubscribe of 0"),
        pytest.param(4, "40 01 01", 0x81, id="a puback of one byte"),
        pytest.param(4, "40 03 0001 00", 0x81, id="a 3.1.1 puback with a code"),
        pytest.param(5, "40 05 0001 00 01 00", 0x81, id="a puback whose properties are cut"),
        pytest.param(5, "50 03 0001 FF", 0x82, id="a pubrec with a code that is none"),
        pytest.param(5, "62 03 0001 80", 0x82, id="a pubrel with a pubrec's code"),
        pytest.param(5, "90 04 0001 00 03", 0x82, id="a suback with QoS 3"),
        pytest.param(4, "90 03 0001 8F", 0x82, id="a 3.1.1 suback with a code of 5.0"),
        pytest.param(5, "B0 04 0001 00 01", 0x82, id="an unsuback with a QoS"),
        pytest.param(5, "20 03 00 04 00", 0x82, id="a connack with a code of 3.1.1"),
        pytest.param(4, "20 02 00 06", 0x82, id="a 3.1.1 connack with a code that is none"),
        pytest.param(4, "20 02 02 00", 0x81, id="a connack with reserved flags"),
        pytest.param(4, "30 02 0000", 0x81, id="empty topic"),
        pytest.param(4, "30 05 0003 612F23", 0x81, id="# in a topic"),
        pytest.param(4, "30 03 0001 2B", 0x81, id="+ in a topic"),
        pytest.param(5, "30 08 0001 74 04 08 0001 2B", 0x82, id="wildcard in a response topic"),
        pytest.param(4, "82 02 0001", 0x81, id="subscribe to nothing"),
        pytest.param(4, "82 06 0001 0001 61 03", 0x81, id="subscribe QoS 3"),
        pytest.param(4, "82 06 0001 0001 61 04", 0x81, id="3.1.1 with 5.0's options"),
        pytest.param(5, "82 07 0001 00 0001 61 30", 0x82, id="retain handling 3"),
        pytest.param(5, "82 10 0001 00 000A 2473686172652F672F61 05", 0x82, id="no local on a shared one"),
        pytest.param(4, "82 07 0001 0002 6123 00", 0x8F, id="a#"),
        pytest.param(4, "82 08 0001 0003 232F61 00", 0x8F, id="#/a"),
        pytest.param(4, "82 07 0001 0002 612B 00", 0x8F, id="a+"),
        pytest.param(4, "82 0A 0001 0005 612F232F62 00", 0x8F, id="a/#/b"),
        pytest.param(4, "82 07 0001 0002 2B61 00", 0x8F, id="+a"),
        pytest.param(4, "82 09 0001 0004 612B2F62 00", 0x8F, id="a+/b"),
        pytest.param(4, "82 0C 0001 0002 6162 00 0002 6123 00", 0x8F, id="a#, second"),
        pytest.param(5, "82 11 0001 00 000B 24736861 72652F672B2F61 01", 0x82, id="$share/g+/a"),
        pytest.param(4, "A2 06 0001 0002 6123", 0x8F, id="unsubscribe from a#"),
        pytest.param(5, "82 0B 0001 04 0B 01 0B 02 0001 61 00", 0x82, id="two subscription ids"),
        pytest.param(5, "82 0D 0001 06 0B FFFFFFFF7F 0001 61 00", 0x81, id="subscription id too large"),
        pytest.param(4, "82 05 0001 0000 00", 0x81, id="empty filter"),
        pytest.param(5, "82 08 0001 02 0B 00 0001 61", 0x82, id="subscription id 0"),
        pytest.param(4, "A2 02 0001", 0x81, id="unsubscribe from nothing"),
        pytest.param(4, "00 00", 0x82, id="packet type 0"),
        pytest.param(4, "F0 00", 0x82, id="packet type 15 in 3.1.1"),
        pytest.param(4, "C0 01 00", 0x81, id="a ping with a body"),
        pytest.param(4, "E0 01 00", 0x81, id="a 3.1.1 disconnect with a body"),
        pytest.param(5, "E0 02 01 00", 0x82, id="a disconnect with a code that is none"),
        pytest.param(5, "40 03 0001 20", 0x82, id="an ack with a code that is none"),
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


def test_every_property_of_the_standard_has_its_row() -> None:
    assert set(TABLE) == set(Property)
    assert len(TABLE) == 27


def test_topics_without_end_are_not_kept_without_end() -> None:
    for number in range(10_000):
        topic = f"never/said/{number}/again"
        assert decode_publish(encode_text(topic), 4, 0x30).topic == topic
        assert len(decoding._topics) <= 4_096
    before = dict(decoding._topics)
    assert decode_publish(encode_text("t" * 127), 4, 0x30).topic == "t" * 127
    assert decode_publish(encode_text("v1/devices/me/rpc/response/7"), 4, 0x30).topic == "v1/devices/me/rpc/response/7"
    assert decoding._topics == before, "a long one is not kept, and none that ends in an id"


@pytest.mark.parametrize("code", [*range(0x100), 0x2028, 0xFFFD, 0xFFFE])
def test_a_topic_has_what_a_name_may_have_but_wildcards(code: int) -> None:
    topic = f"a{chr(code)}b"
    if chr(code) in "+#" or code < 0x20 or 0x7F <= code < 0xA0 or code == 0xFFFE:
        with pytest.raises(WireError):
            decode_publish(encode_text(topic), 4, 0x30)
    else:
        assert decode_publish(encode_text(topic), 4, 0x30).topic == topic


def test_a_topic_of_32767_levels_is_a_topic() -> None:
    packet = p.Publish("/" * 32_767, b"")
    assert decode(*frames(encode(packet, 4))[0], 4) == packet


@pytest.mark.parametrize("client_id", ["\ufeffa", "a/+/#", " \U0001f600 ", "x" * 65_535])
def test_client_ids_are_taken_as_they_are(client_id: str) -> None:
    packet = p.Connect(4, client_id)
    assert decode(*frames(encode(packet, 4))[0], 4) == packet


@pytest.mark.parametrize(
    "packet",
    [
        p.Publish("x" * 65_536, b""),
        p.Publish("t", b"", properties={Property.RECEIVE_MAXIMUM: 1}),
        p.Connect(5, "c", password=b"x" * 65_536),
    ],
)
def test_what_cannot_be_written_is_a_value_error(packet: p.Packet) -> None:
    with pytest.raises(ValueError, match=r"65,535|RECEIVE_MAXIMUM"):
        encode(packet, 5)


def test_no_properties_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        p.Publish("t", b"").properties[Property.TOPIC_ALIAS] = 1  # type: ignore[index]
