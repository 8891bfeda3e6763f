"""Golden bytes: (name, hex, message). The first ones are the figures of RFC 7252, Appendix A; the others made by hand."""

from __future__ import annotations

from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, Type
from rpcbroker.wire.coap.numbers import OptionNumber as N

Vector = tuple[str, str, Message]

TEMPERATURE = ((N.URI_PATH, b"temperature"),)
_PATH = "BB 74656D7065726174757265"
_PAYLOAD = "FF 32322E332043"

FIGURES: list[Vector] = [
    ("figure 16, request", f"40 01 7D34 {_PATH}", Message(Type.CON, Code.GET, 0x7D34, b"", TEMPERATURE)),
    ("figure 16, answer", f"60 45 7D34 {_PAYLOAD}", Message(Type.ACK, Code.CONTENT, 0x7D34, payload=b"22.3 C")),
    ("figure 17, request", f"41 01 7D35 20 {_PATH}", Message(Type.CON, Code.GET, 0x7D35, b"\x20", TEMPERATURE)),
    ("figure 17, answer", f"61 45 7D35 20 {_PAYLOAD}", Message(Type.ACK, Code.CONTENT, 0x7D35, b"\x20", (), b"22.3 C")),
    ("figure 20, acknowledgement", "60 00 7D38", Message(Type.ACK, Code.EMPTY, 0x7D38)),
    ("figure 20, answer", f"41 45 AD7B 53 {_PAYLOAD}", Message(Type.CON, Code.CONTENT, 0xAD7B, b"\x53", (), b"22.3 C")),
    ("figure 21, reset", "70 00 AD7C", Message(Type.RST, Code.EMPTY, 0xAD7C)),
    ("figure 22, request", f"51 01 7D40 75 {_PATH}", Message(Type.NON, Code.GET, 0x7D40, b"\x75", TEMPERATURE)),
    ("figure 22, answer", f"51 45 AD7D 75 {_PAYLOAD}", Message(Type.NON, Code.CONTENT, 0xAD7D, b"\x75", (), b"22.3 C")),
]

MADE: list[Vector] = [
    ("ping", "40 00 0001", Message(Type.CON, Code.EMPTY, 1)),
    (
        "telemetry",
        "44 02 1234 61626364 B3617069 027631 0D05 413142324333443445354636473748384939 09 74656C656D65747279 1132 FF 7B7D",
        Message(
            Type.CON,
            Code.POST,
            0x1234,
            b"abcd",
            (
                (N.URI_PATH, b"api"),
                (N.URI_PATH, b"v1"),
                (N.URI_PATH, b"A1B2C3D4E5F6G7H8I9"),
                (N.URI_PATH, b"telemetry"),
                (N.CONTENT_FORMAT, b"2"),
            ),
            b"{}",
        ),
    ),
    (
        "notification",
        "51 45 7B50 4A 61 10 81 0F FF 31392E32",
        Message(Type.NON, Code.CONTENT, 0x7B50, b"J", ((N.OBSERVE, b"\x10"), (N.MAX_AGE, b"\x0f")), b"19.2"),
    ),
    (
        "blocks both ways",
        "40 02 0002 D1 0A 06 41 1E D4 14 00800000",
        Message(
            Type.CON, Code.POST, 2, options=((N.BLOCK2, b"\x06"), (N.BLOCK1, b"\x1e"), (N.SIZE1, b"\x00\x80\x00\x00"))
        ),
    ),
    (
        "large deltas, and values with the marker's byte in them",
        "40 01 0003 42 FFFF D3 EB FF00FF E1 F49E FF FF FF",
        Message(
            Type.CON,
            Code.GET,
            3,
            options=((N.ETAG, b"\xff\xff"), (N.ECHO, b"\xff\x00\xff"), (63_143, b"\xff")),
            payload=b"\xff",
        ),
    ),
    (
        "the longest token and the largest numbers",
        "58 BF FFFF 0001020304050607 E0 FEF2",
        Message(Type.NON, 0xBF, 0xFFFF, bytes(range(8)), ((0xFFFF, b""),)),
    ),
    (
        "lengths of 12, 13, 268 and 269",
        "40 01 0004" + "BC" + "61" * 12 + "0D 00" + "62" * 13 + "0D FF" + "63" * 268 + "0E 0000" + "64" * 269,
        Message(
            Type.CON,
            Code.GET,
            4,
            options=((11, b"a" * 12), (11, b"b" * 13), (11, b"c" * 268), (11, b"d" * 269)),
        ),
    ),
    (
        "deltas of 12, 13, 268 and 269",
        "40 01 0005 C0 D0 00 D0 FF E0 0000",
        Message(Type.CON, Code.GET, 5, options=((12, b""), (25, b""), (293, b""), (562, b""))),
    ),
]

VECTORS = FIGURES + MADE
