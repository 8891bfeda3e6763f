"""Bodies: JSON goes through as it is, CBOR becomes JSON where JSON can say it."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest, UnsupportedMediaType
from rpcbroker.transports.coap import formats
from rpcbroker.transports.coap.exchange import Refused
from rpcbroker.wire.coap.numbers import Code

JSON, CBOR, TEXT = 50, 60, 0
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("content_format", [None, TEXT, JSON])
@pytest.mark.parametrize("payload", [b"", b'{"a":1}', b"not JSON", b"\xff"])
def test_json_goes_through_as_it_is(content_format: int | None, payload: bytes) -> None:
    assert formats.read(payload, content_format) is payload


@pytest.mark.parametrize("content_format", [40, 41, 42, 47, 110, 11542, 65535])
@pytest.mark.parametrize("payload", [b"", b"{}"])
def test_other_content_formats_are_not_read(content_format: int, payload: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        formats.read(payload, content_format)


@pytest.mark.parametrize("accept", [40, 41, 42, 61, 65535])
def test_other_content_formats_are_not_written(accept: int) -> None:
    with pytest.raises(Refused) as refused:
        formats.check_accept(accept)
    assert refused.value.code == Code.NOT_ACCEPTABLE


@pytest.mark.parametrize("accept", [None, TEXT, JSON, CBOR])
def test_these_are(accept: int | None) -> None:
    formats.check_accept(accept)


@pytest.mark.parametrize(
    ("accept", "content_format", "chosen"),
    [
        (None, None, JSON),
        (None, CBOR, CBOR),
        (None, TEXT, TEXT),
        (None, JSON, JSON),
        (CBOR, JSON, CBOR),
        (JSON, CBOR, JSON),
        (TEXT, None, TEXT),
    ],
)
def test_what_is_asked_for_comes_before_what_was_sent(
    accept: int | None, content_format: int | None, chosen: int
) -> None:
    assert formats.chosen(accept, content_format) == chosen


@given(values)
def test_what_json_can_say_comes_through_cbor(value: Any) -> None:
    assert jsontext.decode(formats.read(cbor2.dumps(value), CBOR)) == value


@given(values)
def test_json_text_is_written_as_cbor(value: Any) -> None:
    assert cbor2.loads(formats.write(jsontext.encode(value), CBOR)) == value


def test_nothing_is_nothing_in_cbor_too() -> None:
    assert formats.read(b"", CBOR) == b""


def test_of_duplicate_keys_the_last_one_wins() -> None:
    assert formats.read(b"\xa2\x61a\x01\x61a\x02", CBOR) == b'{"a":2}'


BAD = {
    "cut": b"\x82\x01",
    "a string that is cut": b"\x7b\x00\x00\x00\x7f\xff\xff\xff\xffab",
    "an array said to be enormous": b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff\x01",
    "a map said to be enormous": b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "arrays in arrays, all enormous": b"\x9a\x0f\xff\xff\xff" * 60,
    "something behind it": b"\x01\x02",
    "too deep": b"\x81" * 5000 + b"\x00",
    "a break out of place": b"\xff",
    "a reserved length": b"\x1c",
    "not a number": cbor2.dumps(math.nan),
    "infinite": cbor2.dumps({"a": [-math.inf]}),
    "half an infinity": b"\xf9\x7c\x00",
    "bytes": b"\x41a",
    "undefined": b"\xf7",
    "a simple value": b"\xf8\x20",
    "a key that is a number": b"\xa1\x01\x02",
    "a key that is bytes": b"\xa1\x41a\x02",
    "a key that is an array": b"\xa1\x80\x02",
    "not UTF-8": b"\x62\xff\xfe",
    "a surrogate": b"\x63\xed\xa0\x80",
    "a time": cbor2.dumps(cbor2.CBORTag(1, 5)),
    "an integer of 65,280 bytes": b"\xc2\x59\xff\x00" + b"\xff" * 0xFF00,
    "a value that holds itself": bytes.fromhex("d81c81d81d00"),
    "a string told by its number": bytes.fromhex("d9010082636161 61d81900".replace(" ", "")),
    "a set": bytes.fromhex("d9010281 01".replace(" ", "")),
    "a regular expression": bytes.fromhex("d82361 61".replace(" ", "")),
    "an unknown tag": bytes.fromhex("d9d9f001"),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_what_json_cannot_say_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not CBOR that can be read here"):
        formats.read(payload, CBOR)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_become_json(payload: bytes) -> None:
    try:
        text = formats.read(payload, CBOR)
    except InvalidRequest:
        return
    if payload:
        jsontext.decode(text)
