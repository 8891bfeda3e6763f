"""Datagrams that are almost CoAP: each drawn from a seed, so that a run can be done again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from coap_socket import request
from mutating import MUTATIONS

from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

PATHS = (
    "api/v1/{}/telemetry",
    "api/v1/{}/telemetry",
    "api/v1/{}/rpc",
    "api/v1/{}/rpc",
    "api/v1/{}/rpc/1",
    "api/v1/{}/rpc/1/progress",
    "api/v1/{}/attributes",
    "api/v1/{}/attributes?clientKeys=a&sharedKeys=b",
    "api/v1/{}/claim",
    "api/v1/{}/firmware",
    "api/v1/{}/NOTHING/é/..",
    "api/v1/rpc",
    "api/v1/provision",
    ".well-known/core",
    "",
)
PAYLOADS = (
    b"",
    b'{"a":1}',
    b'{"ts":1,"values":{"a":[1,null]}}',
    b'{"method":"getCurrentTime","params":{}}',
    b'{"method":"none","params":1}',
    b'{"provisionDeviceKey":"k","provisionDeviceSecret":"s"}',
    b"\xa1\x61\x61\x01",
    b"[" * 2000,
    b"\xff\xfe",
    b"x" * 1024,
)
CODES = (Code.POST, Code.POST, Code.POST, Code.GET, Code.GET, Code.PUT, Code.DELETE, Code.FETCH, 31, 8)
_N = OptionNumber


def _block(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return chance.randbytes(chance.randint(0, 4))
    return Block(
        chance.choice((0, 0, 0, 1, 1, 2, 3, 100, 1 << 19)), chance.random() < 0.7, chance.randint(0, 6)
    ).encode()


OPTIONS: tuple[tuple[int, Callable[[random.Random], bytes]], ...] = (
    (_N.OBSERVE, lambda chance: chance.choice((b"", b"", b"\x01", b"\x02", b"\xff\xff\xff", b"\x00\x00\x00\x00"))),
    (_N.OBSERVE, lambda chance: b""),
    (_N.BLOCK1, _block),
    (_N.BLOCK1, _block),
    (_N.BLOCK2, _block),
    (_N.SIZE1, lambda chance: uint(chance.choice((0, 10, 65_537, 0xFFFFFFFF)))),
    (_N.SIZE2, lambda chance: b""),
    (_N.CONTENT_FORMAT, lambda chance: uint(chance.choice((0, 40, 42, 50, 60, 11_542)))),
    (_N.ACCEPT, lambda chance: uint(chance.choice((0, 40, 50, 60, 65_000)))),
    (_N.REQUEST_TAG, lambda chance: chance.randbytes(chance.choice((0, 1, 8)))),
    (_N.ECHO, lambda chance: chance.randbytes(8)),
    (_N.ETAG, lambda chance: chance.randbytes(4)),
    (_N.IF_NONE_MATCH, lambda chance: b""),
    (_N.URI_HOST, lambda chance: b"localhost"),
    (_N.PROXY_SCHEME, lambda chance: b"http"),
    (_N.NO_RESPONSE, lambda chance: b"\x1a"),
    (9, lambda chance: b"unknown"),
    (2049, lambda chance: b"unknown"),
    (65_000, lambda chance: b"unknown"),
)


def _number(chance: random.Random) -> int:
    """A message id: often one that there was."""
    return chance.randrange(20) if chance.random() < 0.5 else chance.randrange(1 << 16)


def _token(chance: random.Random) -> bytes:
    return chance.choice((b"", b"\x01", b"\x02", b"\x03", chance.randbytes(8)))


def _request(chance: random.Random, tokens: Sequence[str]) -> Message:
    options = chance.choices(OPTIONS, k=chance.choice((0, 0, 1, 1, 2, 3)))
    return request(
        chance.choice(CODES),
        chance.choice(PATHS).format(chance.choice((*tokens, *tokens, "nobody"))),
        chance.choice(PAYLOADS),
        kind=chance.choice((Type.CON, Type.NON)),
        message_id=_number(chance),
        token=_token(chance),
        more=tuple((int(number), value(chance)) for number, value in options),
    )


def _empty(chance: random.Random, numbers: Sequence[int]) -> Message:
    """A ping, or an answer to something that the broker has said, perhaps."""
    number = chance.choice(numbers) if numbers and chance.random() < 0.8 else _number(chance)
    return Message(chance.choice((Type.ACK, Type.ACK, Type.RST, Type.CON, Type.NON)), Code.EMPTY, number)


def _response(chance: random.Random, numbers: Sequence[int]) -> Message:
    """An answer to nothing."""
    number = chance.choice(numbers) if numbers and chance.random() < 0.5 else _number(chance)
    kind, code = chance.choice(list(Type)), chance.choice((Code.CONTENT, Code.CONTINUE, Code.NOT_FOUND))
    return Message(kind, code, number, _token(chance), (), chance.choice(PAYLOADS))


def datagram(chance: random.Random, tokens: Sequence[str], numbers: Sequence[int]) -> bytes:
    """One datagram of somebody who has these access tokens, and heard messages with these ids; half are mutated."""
    draw = chance.random()
    if draw < 0.02:
        return chance.randbytes(chance.choice((0, 1, 2, 3, 4, 5, 20, 200, 1500)))
    message = _request(chance, tokens) if draw < 0.8 else (_empty if draw < 0.95 else _response)(chance, numbers)
    data = bytearray(encode(message))
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            if data:
                chance.choice(MUTATIONS)(chance, data, chance.randrange(len(data)))
    return bytes(data)
