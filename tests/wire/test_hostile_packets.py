"""Packets that nobody means well with, each under the clause that it breaks; and odd ones that break none.

The clauses are of MQTT 5.0 where nothing else is said. Short packets of all kinds are in `test_codec`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.fields import encode_binary as field
from rpcbroker.wire.mqtt.fields import encode_varint, fixed_header
from rpcbroker.wire.mqtt.properties import Property as P


def frame(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return fixed_header(first, len(body)) + body


def connect(
    *rest: bytes, level: int = 4, flags: int = 0x02, name: bytes = b"MQTT", properties: bytes = b"", first: int = 0x10
) -> bytes:
    """A CONNECT of `rest`: client id, will, user and password."""
    section = encode_varint(len(properties)) + properties if level == 5 else b""
    return frame(first, field(name), bytes((level, flags)), b"\x00\x0a", section, *rest)


def publish(topic: bytes = b"t", properties: bytes = b"", rest: bytes = b"", first: int = 0x30) -> bytes:
    return frame(first, field(topic), encode_varint(len(properties)), properties, rest)


def subscribe(*entries: bytes, level: int = 4, properties: bytes = b"", first: int = 0x82) -> bytes:
    section = encode_varint(len(properties)) + properties if level == 5 else b""
    return frame(first, b"\x00\x01", section, *entries)


def wanted(topic_filter: bytes, options: int = 0) -> bytes:
    return field(topic_filter) + bytes((options,))


def read(data: bytes, level: int) -> list[p.Packet]:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    return [decode(first, body, level) for first, body in reader]


ID = field(b"c")
NOT_UTF8 = {
    "U+0000": b"a\x00",
    "lone surrogate": b"\xed\xa0\x80",
    "low surrogate": b"\xed\xbf\xbf",
    "overlong U+0000": b"\xc0\x80",
    "overlong slash": b"\xe0\x80\xaf",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "cut": b"a\xe2\x82",
    "a byte that goes on with nothing": b"\x80",
}
UNFIT = {f"U+{ord(char):04X}": char.encode() for char in "\x01\x1f\x7f\x80\x9f\ufdd0\ufffe\uffff\U0010ffff"}
WHERE: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "client id": (4, lambda text: connect(field(text))),
    "client id, 5.0": (5, lambda text: connect(field(text), level=5)),
    "user name": (4, lambda text: connect(ID, field(text), flags=0x82)),
    "will topic": (4, lambda text: connect(ID, field(text), field(b""), flags=0x06)),
    "topic": (4, lambda text: frame(0x30, field(text))),
    "long topic": (4, lambda text: frame(0x30, field(b"x" * 200 + text))),
    "topic, 5.0": (5, publish),
    "response topic": (5, lambda text: publish(properties=b"\x08" + field(text))),
    "filter": (4, lambda text: subscribe(wanted(text))),
    "filter, 5.0": (5, lambda text: subscribe(wanted(text), level=5)),
    "filter to leave": (4, lambda text: frame(0xA2, b"\x00\x01", field(text))),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in (NOT_UTF8 | UNFIT).items()])
@pytest.mark.parametrize(("level", "packet"), [pytest.param(*case, id=name) for name, case in WHERE.items()])
def test_names_have_neither_broken_utf8_nor_control_characters(
    level: int, packet: Callable[[bytes], bytes], text: bytes
) -> None:
    assert read(packet(b"\xef\xbb\xbfa\xc2\xa0\xf0\x9f\x98\x80"), level), "U+FEFF and emoji are fine: MQTT-1.5.4-3"
    with pytest.raises(WireError) as caught:
        read(packet(text), level)
    assert caught.value.code == 0x81


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in NOT_UTF8.items()])
def test_other_strings_are_utf8_as_well(text: bytes) -> None:
    for properties in (b"\x26" + field(b"k") + field(text), b"\x26" + field(text) + field(b"v"), b"\x03" + field(text)):
        with pytest.raises(WireError) as caught:
            read(publish(properties=properties), 5)
        assert caught.value.code == 0x81


def test_what_is_no_name_may_have_control_characters() -> None:
    (packet,) = read(publish(properties=b"\x26" + field(b"k") + field(b"a\tb\n")), 5)
    assert isinstance(packet, p.Publish)
    assert packet.properties == {P.USER_PROPERTY: (("k", "a\tb\n"),)}


TWICE = {
    "payload format": bytes.fromhex("0101"),
    "message expiry": bytes.fromhex("02 00000001"),
    "content type": bytes.fromhex("03 0001 70"),
    "response topic": bytes.fromhex("08 0001 70"),
    "correlation data": bytes.fromhex("09 0001 70"),
    "topic alias": bytes.fromhex("23 0001"),
}


@pytest.mark.parametrize("one", [pytest.param(data, id=name) for name, data in TWICE.items()])
def test_a_property_comes_once(one: bytes) -> None:
    assert read(publish(properties=one), 5)
    for properties, code in ((one * 2, 0x82), (one[:-1], 0x81), (one[:1], 0x81)):
        with pytest.raises(WireError) as caught:
            read(publish(properties=properties), 5)
        assert caught.value.code == code


Case = tuple[str, int, bytes, int]

REFUSED: list[Case] = [
    # The fixed header
    *((f"2.1.3-1: flags {first:02X}", 5, frame(first, b""), 0x81) for first in (0xC1, 0xC8, 0xE1, 0xE2, 0xE8)),
    *((f"2.1.3-1: flags {first:02X}", 4, connect(ID, first=first), 0x81) for first in (0x11, 0x12, 0x14, 0x18)),
    *((f"3.8.1-1: flags {first:02X}", 4, subscribe(wanted(b"a"), first=first), 0x81) for first in (0x80, 0x83, 0x8A)),
    *((f"3.10.1-1: flags {first:02X}", 4, frame(first, b"\0\1", field(b"a")), 0x81) for first in (0xA0, 0xA3, 0xAA)),
    *((f"3.6.1-1: flags {first:02X}", 4, frame(first, b"\0\1"), 0x81) for first in (0x60, 0x63, 0x6A)),
    *((f"table 2-1: type 0 as {first:02X}", 5, frame(first, b""), 0x82) for first in (0x00, 0x01, 0x08)),
    ("table 2-1 (3.1.1): type 15", 4, frame(0xF0, b""), 0x82),
    ("3.3.1-4: QoS 3", 5, publish(first=0x36), 0x81),
    ("3.3.1-2: DUP at QoS 0", 5, publish(first=0x38), 0x81),
    # Lengths
    ("1.5.5: five bytes of length", 4, bytes.fromhex("30 80808080 01"), 0x81),
    ("1.5.5-1: a padded length", 4, bytes.fromhex("C0 8000"), 0x81),
    ("2.1.4: bytes after a CONNECT", 4, connect(ID, b"\x00"), 0x81),
    ("2.1.4: bytes after a PUBACK", 5, frame(0x40, b"\x00\x01\x00\x00\x00"), 0x81),
    ("2.1.4: nothing in a PUBACK", 5, frame(0x40), 0x81),
    ("2.1.4: nothing in a PUBREL", 5, frame(0x62), 0x81),
    ("2.1.4: half an identifier", 5, frame(0x50, b"\x01"), 0x81),
    ("2.1.4: a body of a PINGREQ", 5, frame(0xC0, b"\x00"), 0x81),
    ("2.1.4 (3.1.1): a body of a DISCONNECT", 4, frame(0xE0, b"\x00"), 0x81),
    ("3.8.3: a filter without options", 5, subscribe(field(b"a"), level=5), 0x81),
    ("3.8.3: a byte too many", 5, subscribe(wanted(b"a"), b"\x00", level=5), 0x81),
    ("3.10.3: half a length", 4, frame(0xA2, b"\x00\x01\x00"), 0x81),
    # CONNECT
    ("3.1.2-2: MQIsdp with level 4", 4, connect(ID, name=b"MQIsdp"), 0x84),
    *((f"3.1.2-2: level {level}", 4, connect(ID, level=level), 0x84) for level in (0, 2, 3, 6, 0x84)),
    *((f"3.1.2-1: {name!r}", 4, connect(ID, name=name), 0x81) for name in (b"", b"MQT", b"MQTTX", b"mqtt")),
    ("3.1.2-3: the reserved flag", 5, connect(ID, level=5, flags=0x03), 0x81),
    ("3.1.2-11: will QoS without a will", 4, connect(ID, flags=0x0A), 0x81),
    ("3.1.2-13: will retain without a will", 5, connect(ID, level=5, flags=0x22), 0x81),
    ("3.1.2-12: will QoS 3", 4, connect(ID, field(b"t"), field(b""), flags=0x1E), 0x81),
    ("3.1.2-9: no will", 4, connect(ID, flags=0x06), 0x81),
    ("3.1.2-9: a will without a payload", 4, connect(ID, field(b"t"), flags=0x06), 0x81),
    ("3.1.3-11: a will to a wildcard", 4, connect(ID, field(b"a/#"), field(b""), flags=0x06), 0x81),
    ("4.7.3-1: a will to nothing", 4, connect(ID, field(b""), field(b""), flags=0x06), 0x81),
    ("3.1.2-16: a user without the flag", 5, connect(ID, field(b"u"), level=5), 0x81),
    ("3.1.2-17: the flag without a user", 5, connect(ID, level=5, flags=0x82), 0x81),
    ("3.1.2-18: a password without the flag", 5, connect(ID, field(b"u"), field(b"p"), level=5, flags=0x82), 0x81),
    ("3.1.2-19: the flag without a password", 5, connect(ID, field(b"u"), level=5, flags=0xC2), 0x81),
    ("3.1.2-22 (3.1.1): a password alone", 4, connect(ID, field(b"p"), flags=0x42), 0x81),
    ("3.1.3: no client id at all", 4, connect(), 0x81),
    ("3.1.2.11.3: receive maximum 0", 5, connect(ID, level=5, properties=b"\x21\0\0"), 0x82),
    ("3.1.2.11.4: maximum packet size 0", 5, connect(ID, level=5, properties=b"\x27\0\0\0\0"), 0x82),
    ("3.1.2.11.2: session expiry twice", 5, connect(ID, level=5, properties=b"\x11\0\0\0\1" * 2), 0x82),
    ("3.1.2.11.7: a boolean of 2", 5, connect(ID, level=5, properties=b"\x17\x02"), 0x82),
    ("3.1.2.11.6: a boolean of 2", 5, connect(ID, level=5, properties=b"\x19\x02"), 0x82),
    ("3.1.2.11.10: data without a method", 5, connect(ID, level=5, properties=b"\x16" + field(b"x")), 0x82),
    *(
        (f"2.2.2.2: property {number.hex()}", 5, connect(ID, level=5, properties=number + b"\x01"), 0x81)
        for number in (b"\x00", b"\x04", b"\x20", b"\x7f", b"\x80\x01", b"\xff\xff\xff\x7f")
    ),
    ("1.5.5-1: a padded property number", 5, connect(ID, level=5, properties=b"\x91\x00\0\0\0\1"), 0x81),
    ("2.2.2.2: a topic alias in CONNECT", 5, connect(ID, level=5, properties=b"\x23\0\1"), 0x81),
    ("2.2.2.2: a will's property outside it", 5, connect(ID, level=5, properties=b"\x18\0\0\0\1"), 0x81),
    # PUBLISH
    ("3.3.2-1: no topic and no alias", 5, publish(b""), 0x81),
    ("4.7.3-1: an empty topic", 4, frame(0x30, field(b"")), 0x81),
    ("3.3.2-2: + in a topic", 5, publish(b"a/+"), 0x81),
    ("3.3.2-2: # in a topic", 5, publish(b"#"), 0x81),
    ("3.3.2-2: + in a long topic", 4, frame(0x30, field(b"x" * 500 + b"+")), 0x81),
    ("2.1.4: a topic over the end", 4, frame(0x30, b"\xff\xffabc"), 0x81),
    ("2.1.4: half a length of a topic", 4, frame(0x30, b"\x00"), 0x81),
    ("2.1.4: no room for an identifier", 4, frame(0x32, field(b"t"), b"\x01"), 0x81),
    ("3.3.2.1: no properties", 5, frame(0x30, field(b"t")), 0x81),
    ("2.2.1-3: identifier 0 at QoS 1", 4, frame(0x32, field(b"t"), b"\0\0"), 0x82),
    ("2.2.1-3: identifier 0 at QoS 2", 5, frame(0x34, field(b"t"), b"\0\0\0"), 0x82),
    ("2.2.1-3: identifier 0 of a PUBREC", 5, frame(0x50, b"\0\0"), 0x82),
    ("2.2.1-3: identifier 0 of a PUBCOMP", 5, frame(0x70, b"\0\0"), 0x82),
    ("3.3.2.3.2: payload format 2", 5, publish(properties=b"\x01\x02"), 0x82),
    ("3.3.2-14: + in a response topic", 5, publish(properties=b"\x08" + field(b"a/+")), 0x82),
    ("3.3.2.3.8: subscription identifier 0", 5, publish(properties=b"\x0b\x00"), 0x82),
    ("1.5.5-1: a padded subscription identifier", 5, publish(properties=b"\x0b\x80\x00"), 0x81),
    ("1.5.5: a subscription identifier of five bytes", 5, publish(properties=b"\x0b\x80\x80\x80\x80\x01"), 0x81),
    ("2.2.2.2: a receive maximum in PUBLISH", 5, publish(properties=b"\x21\0\1"), 0x82),
    ("2.2.2.2: a cut one in PUBLISH", 5, publish(properties=b"\x21\0"), 0x81),
    ("2.2.2.2: a topic alias in PUBACK", 5, frame(0x40, b"\0\1\0\3\x23\0\1"), 0x82),
    ("2.2.2.2: a topic alias in DISCONNECT", 5, frame(0xE0, b"\0\3\x23\0\1"), 0x82),
    # Reason codes
    *((f"3.4.2-1: PUBACK {code:02X}", 5, frame(0x40, b"\0\1", bytes((code,))), 0x82) for code in (0x01, 0x92, 0xFF)),
    *((f"3.5.2-1: PUBREC {code:02X}", 5, frame(0x50, b"\0\1", bytes((code,))), 0x82) for code in (0x20, 0x8F, 0xFF)),
    *((f"3.6.2-1: PUBREL {code:02X}", 5, frame(0x62, b"\0\1", bytes((code,))), 0x82) for code in (0x10, 0x80)),
    *((f"3.14.2-1: DISCONNECT {code:02X}", 5, frame(0xE0, bytes((code,))), 0x82) for code in (0x01, 0x05, 0x84)),
    # SUBSCRIBE and UNSUBSCRIBE
    ("3.8.3-2: no filter", 4, subscribe(), 0x81),
    ("3.8.3-2: no filter", 5, subscribe(level=5), 0x81),
    ("3.10.3-2: no filter", 4, frame(0xA2, b"\0\1"), 0x81),
    ("3.10.3-2: no filter", 5, frame(0xA2, b"\0\1\0"), 0x81),
    *(
        (f"3.8.3-4 (3.1.1): options {options:02X}", 4, subscribe(wanted(b"a", options)), 0x81)
        for options in (3, 4, 8, 0x10, 0x20, 0x40, 0x80)
    ),
    ("3.8.3.1: retain handling 3", 5, subscribe(wanted(b"a", 0x30), level=5), 0x82),
    *(
        (f"3.8.3-5: options {options:02X}", 5, subscribe(wanted(b"a", options), level=5), 0x81)
        for options in (3, 0x40, 0x80, 0xFF)
    ),
    *(
        (f"4.7.1: {text.decode()}", 4, subscribe(wanted(text)), 0x8F)
        for text in (b"#/a", b"a#", b"a/#/b", b"+a", b"a+/b", b"a/b+", b"##", b"#+", b"/#/#")
    ),
    ("4.7.1: the second one", 4, subscribe(wanted(b"a"), wanted(b"b#")), 0x8F),
    ("4.7.1: to leave", 4, frame(0xA2, b"\0\1", field(b"a#")), 0x8F),
    ("4.7.3-1: an empty filter", 5, subscribe(wanted(b""), level=5), 0x81),
    ("4.7.3-1: an empty one after another", 5, subscribe(wanted(b"a"), wanted(b""), level=5), 0x81),
    ("4.7.3-1: an empty one to leave", 4, frame(0xA2, b"\0\1", field(b"")), 0x81),
    *(
        (f"4.8.2: {text.decode()}", 5, subscribe(wanted(text), level=5), 0x82)
        for text in (b"$share/", b"$share//x", b"$share/g", b"$share/g/", b"$share/g+/x", b"$share/#", b"$share/+/x")
    ),
    ("3.8.3-4: no local and shared", 5, subscribe(wanted(b"$share/g/a", 0x04), level=5), 0x82),
    ("3.8.2.1.2: identifier 0", 5, subscribe(wanted(b"a"), level=5, properties=b"\x0b\x00"), 0x82),
    ("3.8.2.1.2: two identifiers", 5, subscribe(wanted(b"a"), level=5, properties=b"\x0b\1\x0b\1"), 0x82),
    ("3.8.2.1.2: too large", 5, subscribe(wanted(b"a"), level=5, properties=b"\x0b\x80\x80\x80\x80\1"), 0x81),
    ("2.2.2.2: a content type", 5, subscribe(wanted(b"a"), level=5, properties=b"\x03" + field(b"x")), 0x81),
    ("2.2.2.2: its identifier to leave", 5, frame(0xA2, b"\0\1\2\x0b\1", field(b"a")), 0x81),
    ("2.2.1-3: identifier 0", 4, frame(0x82, b"\0\0", wanted(b"a")), 0x82),
]


@pytest.mark.parametrize(
    ("level", "data", "code"), [pytest.param(level, data, code, id=name) for name, level, data, code in REFUSED]
)
def test_what_breaks_a_clause_is_refused(level: int, data: bytes, code: int) -> None:
    with pytest.raises(WireError) as caught:
        read(data, level)
    assert caught.value.code == code


TAKEN = [
    ("MQTT 3.1 with flags that say nothing", 3, connect(ID, level=3, flags=0x03, name=b"MQIsdp", first=0x1F)),
    ("a client id of 65,535 bytes", 4, connect(field(b"x" * 65_535))),
    ("a client id like a filter", 4, connect(field(b" /+/# "))),
    ("no user name of no length", 4, connect(ID, field(b""), flags=0x82)),
    ("a password of zeros", 4, connect(ID, field(b"u"), field(b"\0\xff\0"), flags=0xC2)),
    (
        "the largest of all",
        5,
        connect(ID, level=5, properties=bytes.fromhex("11 FFFFFFFF 21 FFFF 22 FFFF 27 FFFFFFFF")),
    ),
    ("a message that expires at once", 5, publish(properties=b"\x02\0\0\0\0")),
    ("a message that expires never", 5, publish(properties=b"\x02\xff\xff\xff\xff")),
    ("a payload that is not the text it says", 5, publish(properties=b"\x01\x01", rest=b"\xc0\x80")),
    ("an alias without a topic", 5, publish(b"", properties=b"\x23\0\1")),
    ("an alias of 0", 5, publish(b"t", properties=b"\x23\0\0")),
    ("a topic of 65,535 bytes", 5, publish(b"x" * 65_535)),
    ("a topic of levels alone", 4, frame(0x30, field(b"/" * 65_535))),
    ("a topic of the broker's own", 4, frame(0x30, field(b"$SYS/uptime"))),
    ("a topic like a share", 4, frame(0x30, field(b"$share/g/t"))),
    ("every option there is", 5, subscribe(wanted(b"a", 0x2E), level=5)),
    ("a share name before 5.0", 4, subscribe(wanted(b"$share/g"))),
    ("the deepest filter", 4, subscribe(wanted(b"+/" * 32_767 + b"#"))),
    ("the largest identifier", 5, subscribe(wanted(b"a"), level=5, properties=b"\x0b\xff\xff\xff\x7f")),
    ("a code and no properties", 5, frame(0x50, b"\0\1\x80")),
]


@pytest.mark.parametrize(("level", "data"), [pytest.param(level, data, id=name) for name, level, data in TAKEN])
def test_what_is_odd_and_breaks_nothing_is_taken_as_it_is(level: int, data: bytes) -> None:
    (packet,) = read(data, level)
    if level != 3 and not (isinstance(packet, p.PubRec) and not packet.properties):
        assert encode(packet, level) == data


def test_a_filter_comes_as_often_as_it_was_sent_and_in_order() -> None:
    (packet,) = read(subscribe(*(wanted(b"a", number % 3) for number in range(16_000))), 4)
    assert isinstance(packet, p.Subscribe)
    assert [entry.qos for entry in packet.subscriptions] == [number % 3 for number in range(16_000)]


@pytest.mark.parametrize(
    "packet", [lambda section: publish(properties=section), lambda section: connect(ID, level=5, properties=section)]
)
def test_the_cost_of_properties_is_linear(packet: Callable[[bytes], bytes]) -> None:
    def cost(size: int) -> float:
        data = packet(b"\x26\x00\x01k\x00\x01v" * size)
        start = time.perf_counter()
        assert read(data, 5)
        return time.perf_counter() - start

    cost(1_000)
    assert cost(20_000) < 20 * 10 * max(cost(1_000), 0.001)


def test_topics_that_were_good_once_are_told_from_others() -> None:
    for _ in range(2):
        assert (
            read(frame(0x30, field(b"again")), 4) == read(frame(0x30, field(b"again")), 3) == [p.Publish("again", b"")]
        )
        with pytest.raises(WireError):
            read(frame(0x30, field(b"again/+")), 4)
        with pytest.raises(WireError):
            read(frame(0x30, field(b"")), 4)
