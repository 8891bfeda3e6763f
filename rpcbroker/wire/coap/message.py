"""One CoAP message and its bytes (RFC 7252 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from typing import Any

from rpcbroker.wire.errors import WireError

MAX_OPTIONS = 255
"""A message with more is a format error: 64 kB hold 65,000 options, and each takes its time."""

_REMEMBERED = 4_096
"""Sets of options that are remembered, each some 1.3 kB: a device sends few different ones, and to read one anew takes
as long as all the rest of a request."""
_REMEMBERED_OPTIONS = 10
"""The most that are remembered of one message: what anybody can make the memory hold stays below 10 MB."""

_HEADER = Struct("!BBH")
_RESERVED_CLASSES = frozenset({1, 6, 7})
_MARKER = 0xFF


class MessageFormatError(WireError):
    """What came is no message, or one that cannot be meant (RFC 7252 3, 4.2).

    `reset` is the message id that must be rejected with a Reset; None: it is ignored silently.
    """

    def __init__(self, message: str, reset: int | None = None) -> None:
        super().__init__(message, 0x80)
        self.reset = reset


@dataclass(slots=True)
class Remembered:
    """Options that were read before; devices send the same ones again and again. `request`: what they say."""

    options: tuple[tuple[int, bytes], ...]
    request: Any = None


@dataclass(slots=True)
class Message:
    """A message. It is not frozen for the sake of speed only: nobody changes one.

    `type` and `code` are a Type and a Code, or equal to one; `options` are in the order of their numbers.
    """

    type: int
    code: int
    message_id: int
    token: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""
    remembered: Remembered | None = field(default=None, compare=False, repr=False)
    """`options.read` keeps there what it has found."""


def decode(datagram: bytes) -> Message:
    """The message of a datagram. Raises MessageFormatError."""
    size = len(datagram)
    if size < 4:
        raise MessageFormatError("shorter than a header")  # RFC 7252 3: nothing to answer to
    first, code, message_id = _HEADER.unpack_from(datagram)
    if first >> 6 != 1:
        raise MessageFormatError("not version 1")  # RFC 7252 3: silently ignored
    start = 4 + (first & 0x0F)
    if code == 0:
        if size != 4 or start != 4:
            raise _rejected(first, message_id, "an empty message with content")  # RFC 7252 4.1
        return Message(first >> 4 & 3, 0, message_id)
    if start > 12:
        raise _rejected(first, message_id, "a token length above 8")  # RFC 7252 3
    if start > size:
        raise _rejected(first, message_id, "the token is cut off")
    if code >> 5 in _RESERVED_CLASSES:
        raise _rejected(first, message_id, "a code of a reserved class")  # RFC 7252 4.2
    end = datagram.find(_MARKER, start)
    if end < 0:
        end = size
    # Up to the first byte that could be the marker: if whole options end there, it is the marker.
    remembered = _recall(datagram[start:end]) if end - start <= 128 else None
    if remembered is not None:
        options = remembered.options
    else:
        try:
            options, end = _read_options(datagram, start)
        except MessageFormatError as error:
            raise _rejected(first, message_id, error.message) from None
    payload = datagram[end + 1 :]
    if end < size and not payload:
        raise _rejected(first, message_id, "a payload marker without a payload")  # RFC 7252 3
    return Message(first >> 4 & 3, code, message_id, datagram[4:start], options, payload, remembered)


def _rejected(first: int, message_id: int, why: str) -> MessageFormatError:
    """Only what is confirmable is rejected by a Reset (RFC 7252 4.2, 4.3)."""
    return MessageFormatError(why, message_id if first & 0x30 == 0 else None)


@lru_cache(_REMEMBERED)
def _recall(data: bytes) -> Remembered | None:
    """The options that are `data`; None if it is not whole options, or too many to be kept."""
    try:
        options, _ = _read_options(data, 0)
    except MessageFormatError:
        return None
    return Remembered(options) if len(options) <= _REMEMBERED_OPTIONS else None


def _read_options(data: bytes, at: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The options from `at` on, and where they end: at the payload marker, or where `data` does."""
    size = len(data)
    number = 0
    options = []
    for _ in range(MAX_OPTIONS + 1):
        if at == size or (head := data[at]) == _MARKER:
            break
        at += 1
        delta = head >> 4
        length = head & 0x0F
        if delta > 12:
            delta, at = _extended(data, at, delta)
        if length > 12:
            length, at = _extended(data, at, length)
        number += delta
        end = at + length
        if end > size:
            raise MessageFormatError("an option is cut off")
        options.append((number, data[at:end]))
        at = end
    else:
        raise MessageFormatError(f"more than {MAX_OPTIONS} options")
    if number > 0xFFFF:
        raise MessageFormatError("an option number above 65,535")
    return tuple(options), at


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    """A delta or a length of which only `nibble` was in the first byte, and where it ends (RFC 7252 3.1)."""
    end = at + nibble - 12
    if nibble == 15:
        raise MessageFormatError("an option delta or length of 15")
    # Bytes that are missing are noticed by the caller: then the value ends behind `data`, too.
    return int.from_bytes(data[at:end], "big") + (13 if nibble == 13 else 269), end


def encode(message: Message) -> bytes:
    """The datagram of a message. Raises ValueError for one that no datagram can say."""
    return datagram_of(message.type, message.code, message.message_id, message.token, message.options, message.payload)


def datagram_of(
    type: int,  # noqa: A002 - as Message has it
    code: int,
    message_id: int,
    token: bytes = b"",
    options: tuple[tuple[int, bytes], ...] = (),
    payload: bytes = b"",
) -> bytes:
    """The same of what a message is made of."""
    if len(token) > 8:
        raise ValueError("a token of more than 8 bytes")
    head = _HEADER.pack(0x40 | type << 4 | len(token), code, message_id) + token
    if options:
        head += encode_options(options)
    return head + b"\xff" + payload if payload else head


def encode_options(options: tuple[tuple[int, bytes], ...]) -> bytes:
    """Options as they stand in a message; what many messages have in common is encoded once.

    Raises ValueError if they are not in the order of their numbers.
    """
    parts = []
    before = 0
    for number, value in options:
        delta = number - before
        length = len(value)
        if 0 <= delta < 13 and length < 13:
            parts.append(_ONE_BYTE[delta << 4 | length])
        else:
            parts.append(_option_head(delta, length))
        parts.append(value)
        before = number
    return b"".join(parts)


_ONE_BYTE = tuple(bytes((value,)) for value in range(256))


def _option_head(delta: int, length: int) -> bytes:
    if delta < 0:
        raise ValueError("options out of order")
    high, delta_rest = _nibble(delta)
    low, length_rest = _nibble(length)
    return bytes((high << 4 | low,)) + delta_rest + length_rest


def _nibble(value: int) -> tuple[int, bytes]:
    """RFC 7252 3.1"""
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2, "big")
