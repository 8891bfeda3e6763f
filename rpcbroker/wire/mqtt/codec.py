"""Packets to bytes and back, for MQTT 3.1 (level 3), 3.1.1 (4) and 5.0 (5).

`FrameReader` cuts a stream into frames, `decode` makes a packet of a frame, `encode` the bytes of a
packet. How each kind is read and written is in `decoding` and `encoding`.
"""

from __future__ import annotations

from collections.abc import Iterator

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.decoding import DECODERS, decode_publish
from rpcbroker.wire.mqtt.encoding import ENCODERS
from rpcbroker.wire.mqtt.fields import fixed_header
from rpcbroker.wire.mqtt.numbers import AUTH, PUBLISH
from rpcbroker.wire.mqtt.packets import Packet, ReasonCode


class FrameReader:
    """Cuts a stream into frames: (first byte, body). It holds no more than one frame and one read."""

    __slots__ = ("_buffer", "_max_packet_size", "_needed", "_position")

    def __init__(self, max_packet_size: int) -> None:
        self._max_packet_size = max_packet_size
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._needed = 2

    @property
    def waiting(self) -> bool:
        """Whether anything of what was fed is left."""
        return self._position < len(self._buffer)

    @property
    def full(self) -> bool:
        """Whether more waits than the largest packet."""
        return len(self._buffer) - self._position > self._max_packet_size

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        if self._position == len(self._buffer):
            self._buffer, self._position = data, 0
        elif data:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._position]
            self._position = 0
            self._buffer += data

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (frame := self.next()) is not None:
            yield frame

    def next(self) -> tuple[int, bytes] | None:
        """The next whole frame, or None. Raises WireError as soon as the length shows that it is too large."""
        buffer, start = self._buffer, self._position
        size = len(buffer)
        if size - start < self._needed:
            return None
        length = buffer[start + 1]
        body = start + 2
        if length >= 0x80:
            length &= 0x7F
            shift = 7
            while True:
                if body == size:
                    return None
                byte = buffer[body]
                body += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 21:
                    raise WireError("the remaining length is longer than 4 bytes")  # 5.0, 1.5.5; 3.1.1, 2.2.3
            if byte == 0:
                raise WireError("the remaining length is longer than it need be")  # MQTT-1.5.5-1
        end = body + length
        if end - start > self._max_packet_size:
            raise WireError(
                f"a packet of {end - start} bytes; the limit is {self._max_packet_size}",
                ReasonCode.PACKET_TOO_LARGE,
            )
        if end > size:
            self._needed = end - start  # nothing to look at before it is all there
            return None
        self._needed = 2
        first, content = buffer[start], buffer[body:end]
        if end < size:
            self._position = end
        else:
            self._buffer, self._position = b"", 0
        return first, content if type(content) is bytes else bytes(content)


def decode(first_byte: int, body: bytes, level: int) -> Packet:
    """The packet of one frame; for a CONNECT `level` does not matter."""
    packet_type = first_byte >> 4
    if packet_type == PUBLISH:  # the hot path
        return decode_publish(body, level, first_byte)
    row = DECODERS.get(packet_type)
    if row is None or (packet_type == AUTH and level < 5):
        raise WireError(f"packet type {packet_type}", ReasonCode.PROTOCOL_ERROR)  # table 2-1: reserved
    flags, decoder = row
    # What MQTT 3.1 sends again it marks with DUP, whichever packet it is (3.1, 2.1).
    if flags is not None and first_byte & (0x07 if level == 3 else 0x0F) != flags:
        raise WireError("reserved flags are set")  # MQTT-2.2.2-2, MQTT-2.1.3-1
    packet: Packet = decoder(body, level, first_byte)
    return packet


def encode(packet: Packet, level: int) -> bytes:
    """One whole frame."""
    first_byte, body = ENCODERS[type(packet)](packet, level)
    return fixed_header(first_byte, len(body)) + body
