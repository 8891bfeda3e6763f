"""CoAP messages: every vector whole and cut short, what hypothesis thinks of, and what nobody means well."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wire.coap.strategies import MESSAGES
from wire.coap.vectors import VECTORS

from rpcbroker.wire.coap import message as module
from rpcbroker.wire.coap.message import MAX_OPTIONS, Message, MessageFormatError, decode, encode, encode_options
from rpcbroker.wire.coap.numbers import dotted, to_uint, uint
from rpcbroker.wire.coap.options import read

CASES = [pytest.param(bytes.fromhex(text), message, id=name) for name, text, message in VECTORS]


@pytest.mark.parametrize(("data", "message"), CASES)
def test_every_vector_is_read_and_written(data: bytes, message: Message) -> None:
    assert decode(data) == message
    assert decode(data) == message  # this time from memory
    assert encode(message) == data


@pytest.mark.parametrize(("data", "message"), CASES)
def test_every_truncation_is_a_format_error_or_a_shorter_message(data: bytes, message: Message) -> None:
    start = 4 + len(message.token)
    options_end = start + len(encode_options(message.options))
    resets = []
    for size in range(len(data)):
        cut = data[:size]
        try:
            found = decode(cut)
        except MessageFormatError as error:
            resets.append((size, error.reset))
            continue
        assert size >= start
        assert encode(found) == cut
        assert found.token == message.token
        if size <= options_end:
            assert found.options == message.options[: len(found.options)]
            assert not found.payload
        else:
            assert found.options == message.options
            assert found.payload
            assert message.payload.startswith(found.payload)
    confirmable = message.message_id if message.type == 0 else None
    assert resets == [(size, confirmable if size >= 4 else None) for size, _ in resets]
    assert [size for size, _ in resets][:4] == [0, 1, 2, 3]


@given(MESSAGES)
def test_decoding_undoes_encoding(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
@example(bytes.fromhex("40 01 0000 F0"))
@example(bytes.fromhex("40 01 0000 B1 FF FF"))
def test_bytes_are_a_format_error_or_the_message_that_is_written_so(data: bytes) -> None:
    for tried in (data, b"\x44\x02" + data):
        try:
            message = decode(tried)
        except MessageFormatError:
            continue
        assert encode(message) == tried


@given(MESSAGES, st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_a_format_error_or_the_message_that_is_written_so(
    message: Message, where: int, byte: int
) -> None:
    data = bytearray(encode(message))
    data[where % len(data)] = byte
    try:
        found = decode(bytes(data))
    except MessageFormatError:
        return
    assert encode(found) == data


@given(MESSAGES)
def test_what_is_remembered_changes_nothing(message: Message) -> None:
    data = encode(message)
    decode(data)
    remembered = decode(data)
    module._recall.cache_clear()
    assert decode(data) == remembered


NO_ANSWER = None
FORMAT_ERRORS = [
    ("nothing", "", NO_ANSWER),
    ("one byte", "40", NO_ANSWER),
    ("two bytes", "40 01", NO_ANSWER),
    ("three bytes", "40 01 12", NO_ANSWER),
    ("version 0", "00 01 1234", NO_ANSWER),
    ("version 2", "80 01 1234", NO_ANSWER),
    ("version 3", "C0 01 1234", NO_ANSWER),
    ("version 0 with a token length of 15", "0F 01 1234", NO_ANSWER),
    *((f"token length {size}", f"4{size:X} 01 1234" + "00" * 16, 0x1234) for size in range(9, 16)),
    *((f"token length {size}, cut", f"4{size:X} 01 1234", 0x1234) for size in range(1, 16)),
    ("token length 9 in a NON", "59 01 1234" + "00" * 16, NO_ANSWER),
    ("token length 9 in an ACK", "69 45 1234" + "00" * 16, NO_ANSWER),
    ("token length 9 in an RST", "79 00 1234" + "00" * 16, NO_ANSWER),
    ("token past the end", "44 01 1234 010203", 0x1234),
    ("delta 13 without its byte", "40 01 1234 D0", 0x1234),
    ("delta 14 without its bytes", "40 01 1234 E0", 0x1234),
    ("delta 14 with one byte", "40 01 1234 E0 01", 0x1234),
    ("length 13 without its byte", "40 01 1234 BD", 0x1234),
    ("length 14 with one byte", "40 01 1234 BE 00", 0x1234),
    ("delta and length 13 with one byte", "40 01 1234 DD 00", 0x1234),
    ("a value past the end", "40 01 1234 B3 6170", 0x1234),
    ("a long value past the end", "40 01 1234 BE FFFF 6170", 0x1234),
    ("a second option that is cut", "40 01 1234 B1 61 01", 0x1234),
    ("delta 15", "40 01 1234 F0", 0x1234),
    ("delta 15 behind an option", "40 01 1234 B1 61 F1 FF", 0x1234),
    ("length 15", "40 01 1234 BF 00", 0x1234),
    ("length 15 with many bytes", "40 01 1234 0F" + "00" * 300, 0x1234),
    ("a marker alone", "40 01 1234 FF", 0x1234),
    ("a marker behind options", "40 01 1234 B1 61 FF", 0x1234),
    ("a marker alone in a NON", "50 01 1234 FF", NO_ANSWER),
    ("option 65,536", "40 01 1234 E0 FEF3", 0x1234),
    ("options that sum up to 65,536", "40 01 1234 E0 FEF2 10", 0x1234),
    ("options that go on and on", "40 01 1234" + "E0 FFFF" * 20, 0x1234),
    ("a ping with a token", "41 00 1234 01", 0x1234),
    ("a ping that has a token length only", "41 00 1234", 0x1234),
    ("a ping with an option", "40 00 1234 B1 61", 0x1234),
    ("a ping with a payload", "40 00 1234 FF 61", 0x1234),
    ("an acknowledgement with a payload", "60 00 1234 FF 61", NO_ANSWER),
    ("a reset with a token", "71 00 1234 01", NO_ANSWER),
    *((f"class {code >> 5}", f"40 {code:02X} 1234", 0x1234) for code in (0x20, 0x3F, 0xC0, 0xDF, 0xE0, 0xE1, 0xFF)),
    ("class 7 in a NON", "50 E1 1234", NO_ANSWER),
    ("as many options as 64 kB hold", "40 01 1234" + "00" * 65_000, 0x1234),
    ("a thousand empty options", "40 01 1234" + "00" * 1_000, 0x1234),
]
"""RFC 7252 3, 3.1, 4.1, 4.2: name, datagram, message id of the Reset that it is rejected with."""


@pytest.mark.parametrize(("data", "reset"), [pytest.param(*rest, id=name) for name, *rest in FORMAT_ERRORS])
def test_format_errors(data: str, reset: int | None) -> None:
    for _ in range(2):
        with pytest.raises(MessageFormatError) as caught:
            decode(bytes.fromhex(data))
        assert caught.value.reset == reset


def test_the_most_options_there_may_be_are_read() -> None:
    message = Message(0, 1, 1, options=((0, b""),) * MAX_OPTIONS)
    data = encode(message)
    assert decode(data) == message
    with pytest.raises(MessageFormatError, match="more than 255 options"):
        decode(data + b"\x00")


def test_a_datagram_of_60_kilobytes_is_read() -> None:
    message = Message(0, 2, 1, b"t", ((11, b"a"), (2048, bytes(30_000))), bytes(30_000))
    assert decode(encode(message)) == message


def test_what_is_remembered_is_bounded() -> None:
    module._recall.cache_clear()
    decode(encode(Message(0, 1, 1, options=((11, b"warm"),))))
    tracemalloc.start()
    try:
        for number in range(1_000):
            value = b"%08d" % number
            read(decode(encode(Message(0, 1, 1, options=((11, value), *((11, b"123456789012"),) * 9)))))
        each = tracemalloc.get_traced_memory()[0] / 1_000
        assert each * module._recall.cache_info().maxsize < 40_000_000
        for number in range(1_000):
            value = b"%08d" % number
            read(decode(encode(Message(0, 1, 1, options=((11, value), (2048, bytes(1_000)))))))
            read(decode(encode(Message(0, 1, 1, options=((11, value), *((2048, b""),) * 100)))))
        assert tracemalloc.get_traced_memory()[0] / 2_000 < each
    finally:
        tracemalloc.stop()
        module._recall.cache_clear()


def test_long_options_are_not_remembered() -> None:
    module._recall.cache_clear()
    decode(encode(Message(0, 1, 1, options=((11, b"a"), (2048, bytes(1_000))))))
    assert module._recall.cache_info().currsize == 0


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Message(0, 1, 1, bytes(9)), id="a token of nine bytes"),
        pytest.param(Message(0, 1, 1, options=((12, b""), (11, b""))), id="options out of order"),
        pytest.param(Message(0, 1, 1, options=((400, b""), (11, b""))), id="options far out of order"),
    ],
)
def test_what_no_datagram_can_say_is_not_written(message: Message) -> None:
    with pytest.raises(ValueError, match=r"token|order"):
        encode(message)


@pytest.mark.parametrize(
    ("value", "data"), [(0, ""), (1, "01"), (255, "FF"), (256, "0100"), (0xFFFFFF, "FFFFFF"), (1 << 24, "01000000")]
)
def test_numbers_are_written_without_leading_zeros(value: int, data: str) -> None:
    assert uint(value) == bytes.fromhex(data)
    assert to_uint(bytes.fromhex(data)) == to_uint(bytes.fromhex("00" + data)) == value


@pytest.mark.parametrize(
    ("code", "text"), [(0, "0.00"), (0x44, "2.04"), (0x5F, "2.31"), (0x84, "4.04"), (0xA5, "5.05")]
)
def test_codes_are_written_as_people_write_them(code: int, text: str) -> None:
    assert dotted(code) == text
