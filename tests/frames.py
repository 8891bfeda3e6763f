"""WebSocket by hand: handshakes and frames as bytes, right and wrong ones. RFC 6455."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
MASK = b"\x12\x34\x56\x78"

HEADERS = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Protocol": "mqtt",
}


def handshake(path: str = "/mqtt", *, first: str = "GET {} HTTP/1.1", body: bytes = b"", **other: str | None) -> bytes:
    """A good one, but for `other`: headers, with _ for -, and None for none."""
    changed = {name.replace("_", "-"): value for name, value in other.items()}
    headers = {**HEADERS, **changed}
    lines = [first.format(path), *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Frame(NamedTuple):
    """As the server sends them: never masked."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def code(self) -> int:
        """Of a close frame."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.payload[:2], "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    masked: bool = True,
    reserved: int = 0,
    announced: int | None = None,
) -> bytes:
    """A client's frame; it may announce another length than it has."""
    length = len(payload) if announced is None else announced
    first = bytes([fin << 7 | reserved << 4 | opcode])
    mask = masked << 7
    if length < 126:
        head = bytes([mask | length])
    elif length < 1 << 16:
        head = bytes([mask | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([mask | 127]) + length.to_bytes(8, "big")
    if not masked:
        return first + head + payload
    return first + head + MASK + bytes(byte ^ MASK[i & 3] for i, byte in enumerate(payload))


def close(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


def frames(said: bytes) -> list[Frame]:
    """All that the server has said, each whole."""
    found = []
    while said:
        length, start = said[1], 2
        assert length < 128, "masked"
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(said[2:start], "big")
        assert len(said) >= start + length
        found.append(Frame(said[0] & 15, said[start : start + length], said[0] > 127))
        said = said[start + length :]
    return found
