"""The field types of MQTT (5.0, 1.5) and a reader that never runs over the end."""

from __future__ import annotations

import re

from rpcbroker.wire.errors import WireError

MAX_VARINT = 268_435_455

_LAST_TWO = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_UNFIT = re.compile(f"[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef{_LAST_TWO}]")
"""Control characters, and what Unicode says is no character."""


class Reader:
    """Takes fields off the front of a packet's body. Everything raises WireError."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self._data = data
        self._position = position
        self._end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self._end - self._position

    def take(self, size: int) -> bytes:
        start = self._position
        stop = start + size
        if stop > self._end:
            raise WireError("a field runs over the end of the packet")
        self._position = stop
        return self._data[start:stop]

    def byte(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise WireError("a variable byte integer is longer than 4 bytes")  # MQTT-5 1.5.5
        if shift and byte == 0:
            raise WireError("a variable byte integer is longer than it need be")  # MQTT-1.5.5-1
        return value

    def binary(self) -> bytes:
        return self.take(self.int16())

    def text(self) -> str:
        return decode_text(self.binary())

    def name(self) -> str:
        return decode_name(self.binary())

    def packet_id(self) -> int:
        value = self.int16()
        if value == 0:
            raise WireError("packet identifier 0", 0x82)  # MQTT-2.2.1-3
        return value

    def section(self, size: int) -> Reader:
        """A reader of the next `size` bytes, which are taken."""
        start = self._position
        self.take(size)
        return Reader(self._data, start, start + size)

    def rest(self) -> bytes:
        return self.take(self.left)

    def finish(self) -> None:
        """There must be nothing left."""
        if self.left:
            raise WireError(f"{self.left} bytes too many")


def decode_text(data: bytes) -> str:
    """UTF-8 as MQTT has it: no surrogates, no overlong forms, no U+0000. U+FEFF is kept."""
    try:
        text = data.decode("utf-8")  # MQTT-1.5.4-1
    except UnicodeDecodeError:
        raise WireError("a string is not UTF-8") from None
    if "\x00" in text:
        raise WireError("a string has U+0000")  # MQTT-1.5.4-2
    return text


def decode_name(data: bytes) -> str:
    """The text that names a client, a user or a topic: nothing in it that cannot be read or would disturb a log."""
    text = decode_text(data)
    if _UNFIT.search(text):
        raise WireError("a control character or no character in a name")  # MQTT-5 1.5.4, which leaves it to us
    return text


def encode_text(text: str) -> bytes:
    """Raises ValueError if it does not fit."""
    return encode_binary(text.encode("utf-8"))


def encode_binary(data: bytes) -> bytes:
    """Raises ValueError if it does not fit."""
    if len(data) > 0xFFFF:
        raise ValueError("a field is longer than 65,535 bytes")
    return len(data).to_bytes(2, "big") + data


def fixed_header(first_byte: int, length: int) -> bytes:
    """The head of a packet with `length` bytes after it. Raises ValueError if that is too long."""
    if length < 0x80:
        return bytes((first_byte, length))
    return bytes((first_byte,)) + encode_varint(length)


def encode_varint(value: int) -> bytes:
    """Raises ValueError if it does not fit."""
    if value < 0x80:
        return bytes((value,))
    if value > MAX_VARINT:
        raise ValueError("larger than a variable byte integer can be")
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)
