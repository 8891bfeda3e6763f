"""WAMP's encodings: what is read is what was written, and nothing that is wrong does harm."""

from __future__ import annotations

import gc
import json
import math
import time
from contextlib import suppress
from typing import Any

import autobahn.twisted  # noqa: F401 - before the rest of autobahn: so it knows that it is on Twisted
import cbor2
import msgpack
import pytest
from autobahn.wamp import message as wamp
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.feed.codec import BY_NUMBER, BY_SUBPROTOCOL, CBOR, JSON, MESSAGEPACK
from rpcbroker.feed.ports import Serializer
from rpcbroker.feed.scan import MAX_VALUES, Malformed

ALL = [JSON, MESSAGEPACK, CBOR]
THEIRS = {"json": JsonSerializer(), "msgpack": MsgPackSerializer(), "cbor": CBORSerializer()}
MIB = 1 << 20
SOON = 0.25
"""Seconds; 0.05 are meant, and a machine that is busy with something else may take longer."""

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda t: not t.startswith("\0"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(text, inner, max_size=20), max_leaves=40
)
serializers = st.sampled_from(ALL)
each = pytest.mark.parametrize("serializer", ALL, ids=lambda s: s.name)


@given(serializer=serializers, message=st.lists(values, max_size=6))
def test_what_is_written_is_read_again(serializer: Serializer, message: list[Any]) -> None:
    assert serializer.decode(serializer.encode(message)) == message


@given(serializer=serializers, message=st.lists(values, max_size=6))
def test_others_read_what_is_written_and_the_other_way_round(serializer: Serializer, message: list[Any]) -> None:
    theirs = THEIRS[serializer.name]._serializer
    assert theirs.unserialize(serializer.encode(message)) == [message]
    assert serializer.decode(theirs.serialize(message)) == message


@given(serializer=serializers, data=st.binary(max_size=60))
def test_noise_is_malformed_or_a_list(serializer: Serializer, data: bytes) -> None:
    with suppress(Malformed):
        assert type(serializer.decode(data)) is list


@given(serializer=serializers, message=st.lists(values, max_size=4), place=st.integers(0), byte=st.integers(0, 255))
def test_a_changed_byte_is_malformed_or_a_list(serializer: Serializer, message: Any, place: int, byte: int) -> None:
    data = bytearray(serializer.encode(message))
    data[place % len(data)] = byte
    with suppress(Malformed):
        assert type(serializer.decode(bytes(data))) is list


@given(serializer=serializers, message=st.lists(values, max_size=4))
def test_every_truncation_is_malformed(serializer: Serializer, message: Any) -> None:
    data = serializer.encode(message)
    for end in range(len(data)):
        with pytest.raises(Malformed):
            serializer.decode(data[:end])
    with pytest.raises(Malformed):
        serializer.decode(data + (b"]" if serializer is JSON else b"\x01"))


@given(
    serializer=serializers,
    first=st.lists(values, min_size=1, max_size=6),
    second=st.lists(values, min_size=1, max_size=6),
)
def test_two_lists_are_joined_as_they_were_encoded(serializer: Serializer, first: list[Any], second: list[Any]) -> None:
    joined = serializer.joined(serializer.encode(first), serializer.encode(second))
    assert joined == serializer.encode(first + second)


def nested(serializer: Serializer, depth: int) -> bytes:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return serializer.encode(value)


@each
def test_the_depth_is_bounded(serializer: Serializer) -> None:
    assert serializer.decode(nested(serializer, 64))
    with pytest.raises(Malformed, match="deeper than 64 levels"):
        serializer.decode(nested(serializer, 65))
    assert serializer.decode(nested(serializer, 5), 5)
    with pytest.raises(Malformed, match="deeper than 4 levels"):
        serializer.decode(nested(serializer, 5), 4)


@each
def test_the_number_of_values_is_bounded(serializer: Serializer) -> None:
    assert serializer.decode(serializer.encode([[1] * (MAX_VALUES - 10)]))
    for value in ([1] * MAX_VALUES, [[]] * MAX_VALUES, [{"a": 1}] * (MAX_VALUES // 2)):
        with pytest.raises(Malformed, match="more than 100000 values"):
            serializer.decode(serializer.encode([value]))


@each
def test_a_large_text_is_one_value(serializer: Serializer) -> None:
    message = ["a,b:[{" * 150_000, 'say "no"\\' * 1000]
    assert serializer.decode(serializer.encode(message)) == message


JSON_FAULTS = {
    "empty": b"",
    "blank": b" ",
    "no list": b"{}",
    "text": b'"[]"',
    "100,000 deep": b"[" * 100_000,
    "1 MiB deep": b"[" * MIB,
    "1 MiB deep in maps": b'{"":' * (MIB // 4),
    "5,000 digits": b"[" + b"1" * 5_000 + b"]",
    "1 MiB of digits": b"[" + b"1" * (MIB - 2) + b"]",
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "1e999": b"[1e999]",
    "no end": b"[1,2",
    "behind the end": b"[1] [2]",
    "no UTF-8": b'["\xff"]',
    "a byte order mark": b"\xef\xbb\xbf[]",
    "half a surrogate": rb'["\ud800"]',
    "lists": b"[" + b"[]," * (MIB // 3) + b"0]",
    "strings": b"[" + b'"",' * (MIB // 3) + b"0]",
    "quotes": b'["' + b'\\"",' * (MIB // 4) + b"]",
    "quotes without an end": b'["' + b'\\"' * (MIB // 2),
    "quotes without an end behind many commas": b"[" + b"," * MAX_VALUES + b'"' + b'\\"' * (MIB // 3),
    "backslashes behind many commas": b"[" + b"," * MAX_VALUES + b'"' + b'\\"' * (MIB // 3) + b"\\",
    "backslashes": b'["' + b"\\" * MIB,
    "no base64": rb'["\u0000?"]',
    "batched": b"[1]\x1e",
}
MESSAGEPACK_FAULTS = {
    "empty": b"",
    "no list": b"\x80",
    "nil": b"\xc0",
    "2^32 values": b"\xdd\xff\xff\xff\xff",
    "2^32 values, and some": b"\xdd\xff\xff\xff\xff" + b"\xc0" * MIB,
    "a map of 2^32": b"\x91\xdf\xff\xff\xff\xff",
    "many that claim all that follows": b"\xdd\x00\x0f\xff\x00" * (MIB // 5),
    "deep maps": b"\x91" + b"\x81\xa0" * 100_000,
    "deep": b"\x91" * MIB,
    "text past the end": b"\x91\xdb\xff\xff\xff\xff",
    "binary past the end": b"\x91\xc6\x7f\xff\xff\xffabc",
    "an extension": b"\x91\xd4\x05a",
    "a long extension": b"\x91\xc9\xff\xff\xff\xff\x05",
    "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x00",
    "a byte that nothing begins with": b"\x91\xc1",
    "a number as key": b"\x91\x81\x01\x02",
    "a list as key": b"\x91\x81\x91\x01\x02",
    "a map as key": b"\x91\x81\x80\x02",
    "binary as key": b"\x91\x81\xc4\x01a\x02",
    "no UTF-8": b"\x91\xa1\xff",
    "half of a map": b"\x91\x82\xa1a\x01\xa1b",
    "behind the end": b"\x91\x01\x02",
    "batched": b"\x00\x00\x00\x02\x91\x01",
    "lists": b"\xdd\x00\x0f\xff\x00" + b"\x90" * MIB,
    "pairs of bytes": b"\xdd\x00\x07\xff\x00" + b"\xa1a" * (MIB // 2),
}
CBOR_FAULTS = {
    "empty": b"",
    "no list": b"\xa0",
    "null": b"\xf6",
    "2^32 values": b"\x9a\xff\xff\xff\xff",
    "2^64 values": b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff" + b"\xf6" * MIB,
    "a map of 2^63": b"\x81\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    "many that claim all that follows": b"\x9a\x00\x0f\xff\x00" * (MIB // 5),
    "deep": b"\x81" * MIB,
    "deep, of no told length": b"\x9f" * MIB,
    "deep maps of no told length": b"\x9f" + b"\xbf\x60" * 100_000,
    "deep text in pieces": b"\x9f" + b"\x7f" * 100_000,
    "text past the end": b"\x81\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "binary past the end": b"\x81\x5a\x7f\xff\xff\xffabc",
    "a bignum": b"\x81\xc2\x41\x01",
    "a date": b"\x81\xc1\x00",
    "a fraction": b"\x81\xc4\x82\x1a\x7f\xff\xff\xff\x01",
    "shared values that hold themselves": b"\xd8\x1c\x81\xd8\x1d\x00",
    "an unknown tag": b"\x81\xd9\x03\xe7\x01",
    "its own tag": b"\xd9\xd9\xf7\x80",
    "undefined": b"\x81\xf7",
    "a simple value": b"\x81\xf8\x20",
    "a reserved head": b"\x81\x1c",
    "a list of a reserved length": b"\x9c",
    "a number of no told length": b"\x81\x1f",
    "an end of nothing": b"\xff",
    "an end in a told list": b"\x82\x01\xff",
    "an end behind a key": b"\x81\xbf\x61a\xff",
    "a number in text in pieces": b"\x81\x7f\x01\xff",
    "binary in text in pieces": b"\x81\x7f\x41a\xff",
    "a number as key": b"\x81\xa1\x01\x02",
    "binary as key": b"\x81\xa1\x41a\x02",
    "a list as key": b"\x81\xa1\x81\x01\x02",
    "no UTF-8": b"\x81\x61\xff",
    "behind the end": b"\x81\x01\x02",
    "batched": b"\x00\x00\x00\x02\x81\x01",
    "lists": b"\x9a\x00\x0f\xff\x00" + b"\x80" * MIB,
    "pieces of nothing": b"\x81\x7f" + b"\x60" * MIB + b"\xff",
}
FAULTS = [
    pytest.param(serializer, data, id=f"{serializer.name}: {name}")
    for serializer, faults in ((JSON, JSON_FAULTS), (MESSAGEPACK, MESSAGEPACK_FAULTS), (CBOR, CBOR_FAULTS))
    for name, data in faults.items()
]


@pytest.mark.parametrize(("serializer", "data"), FAULTS)
def test_what_is_wrong_is_malformed_at_once(serializer: Serializer, data: bytes) -> None:
    gc.collect()
    start = time.monotonic()
    with pytest.raises(Malformed) as raised:
        serializer.decode(data)
    assert time.monotonic() - start < SOON
    assert 0 < len(str(raised.value)) < 200


def test_what_may_be_odd_is_read() -> None:
    assert JSON.decode(b' [1, {"a": 1, "a": 2}]\n') == [1, {"a": 2}]
    assert MESSAGEPACK.decode(b"\x92\x82\xa1a\x01\xa1a\x02\xd9\x01x") == [{"a": 2}, "x"]
    assert CBOR.decode(b"\x82\xa2\x61a\x01\x61a\x02\xf9\x3c\x00") == [{"a": 2}, 1.0]
    assert CBOR.decode(b"\x9f\xbf\x7f\x61a\x61b\xff\x01\xff\x5f\x41a\xff\xff") == [{"ab": 1}, b"a"]


def test_binary_data_is_a_string_of_a_kind_in_json() -> None:
    assert JSON.encode([1, b"\x10\x00", {"a": [b""]}]) == b'[1,"\\u0000EAA=",{"a":["\\u0000"]}]'
    assert JSON.decode(b'[1,"\\u0000EAA=",{"a":["\\u0000"]}]') == [1, b"\x10\x00", {"a": [b""]}]


def test_numbers_that_an_encoding_has_not_go_as_they_can() -> None:
    large = 1 << 70
    assert JSON.encode([large, math.nan, math.inf]) == b"[1180591620717411303424,null,null]"
    assert msgpack.unpackb(MESSAGEPACK.encode([large, {"a": -large}])) == [str(large), {"a": str(-large)}]
    assert cbor2.loads(CBOR.encode([large])) == [large]


NUMBERS = [0, 1, 23, 24, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, 1 << 53]


@given(
    serializer=serializers,
    members=st.dictionaries(text.filter(lambda name: name != "n"), values, max_size=40),
    topic=st.none() | text,
)
def test_an_event_is_put_together_of_what_was_encoded_once(
    serializer: Serializer, members: dict[str, Any], topic: str | None
) -> None:
    encoded = serializer.encode_members(members)
    event = serializer.event(7, 1 << 53, topic, n=300, members=encoded, count=len(members))
    details = {} if topic is None else {"topic": topic}
    assert serializer.decode(event) == [36, 7, 1 << 53, details, [], {"n": 300} | members]


@each
@pytest.mark.parametrize("number", NUMBERS[1:])
def test_others_read_an_event_whatever_its_numbers_are(serializer: Serializer, number: int) -> None:
    members = {"seq": number, "rpcId": "a", "reply": {"a": [1.5, None]}}
    event = serializer.event(
        number, number, "a.b", n=number, members=serializer.encode_members(members), count=len(members)
    )
    (read,) = THEIRS[serializer.name].unserialize(event)
    assert isinstance(read, wamp.Event)
    assert (read.subscription, read.publication, read.topic) == (number, number, "a.b")
    assert read.kwargs == {"n": number} | members


@each
@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 22, 23, 24, 255, 256, 65_534, 65_535, 65_536])
def test_others_read_an_event_however_many_members_it_has(serializer: Serializer, size: int) -> None:
    members = {f"m{i}": i for i in range(size)}
    event = serializer.event(1, 2, None, n=3, members=serializer.encode_members(members), count=size)
    (read,) = THEIRS[serializer.name]._serializer.unserialize(event)
    assert read == [36, 1, 2, {}, [], {"n": 3} | members]


def test_each_is_known_by_its_names() -> None:
    for number, (name, serializer) in enumerate(BY_SUBPROTOCOL.items(), 1):
        assert name == f"wamp.2.{serializer.name}" == f"wamp.2.{THEIRS[serializer.name].SERIALIZER_ID}"
        assert BY_NUMBER[number] is serializer
        assert number == THEIRS[serializer.name].RAWSOCKET_SERIALIZER_ID
        assert serializer.binary is (serializer is not JSON)
    assert json.loads(JSON.encode(["ü"])) == ["ü"]
