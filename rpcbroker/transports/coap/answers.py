"""How a Response becomes the options and the payload of one message: in a block, and no larger than is safe."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from rpcbroker.transports.coap.exchange import Response
from rpcbroker.transports.coap.messages import Options
from rpcbroker.wire.coap.blockwise import Block, cut
from rpcbroker.wire.coap.message import encode_options
from rpcbroker.wire.coap.numbers import Code, OptionNumber, uint

(_ETAG, _OBSERVE, _CONTENT_FORMAT, _MAX_AGE, _BLOCK2, _SIZE2) = (
    number.value
    for number in (
        OptionNumber.ETAG,
        OptionNumber.OBSERVE,
        OptionNumber.CONTENT_FORMAT,
        OptionNumber.MAX_AGE,
        OptionNumber.BLOCK2,
        OptionNumber.SIZE2,
    )
)
_ETAG_SIZE = 4


class Shaped(NamedTuple):
    """What one message says of a response; `more`: there are blocks behind this one."""

    code: int
    options: Options
    payload: bytes
    more: bool


def shaped(
    response: Response,
    *,
    exponent: int,
    wanted: Block | None = None,
    observe: bytes | None = None,
    extra: Options = (),
    room: int | None = None,
) -> Shaped:
    """The block of it that is wanted, or all of it.

    Blocks are as large as `exponent` says, or smaller: as `wanted` is, or as it takes to keep what stands behind the
    token within `room` bytes. Of a diagnostic text the end is left out for that. Raises BadOption for a block that
    there is not.
    """
    payload, content_format = response.payload, response.content_format
    etag = response.etag
    head: list[tuple[int, bytes]] = [] if etag is None else [(_ETAG, etag)]
    if observe is not None:
        head.append((_OBSERVE, observe))
    if content_format is not None:
        head.append((_CONTENT_FORMAT, uint(content_format)))
    if response.max_age is not None:
        head.append((_MAX_AGE, uint(response.max_age)))
    head.extend(extra)
    if (
        payload
        and content_format is not None
        and (wanted is not None or room is not None or len(payload) > 16 << exponent)
    ):
        block = Block(0, False, exponent) if wanted is None else wanted.limited(exponent)
        if etag is None:
            head.append((_ETAG, blake2b(payload, digest_size=_ETAG_SIZE).digest()))  # RFC 7959 2.4
        return _block_of(response.code, payload, block, head, room)
    if extra:
        head.sort()
    options = tuple(head)
    if room is not None:
        left = room - len(encode_options(options)) - 1
        if left < len(payload):
            payload = payload[: max(0, left)].decode("utf-8", "ignore").encode()
    return Shaped(response.code, options, payload, False)


def _block_of(code: int, body: bytes, block: Block, head: list[tuple[int, bytes]], room: int | None) -> Shaped:
    """One block, made smaller until it fits."""
    while True:
        payload, told = cut(body, block)
        options = list(head)
        options.append((_BLOCK2, told.encode()))
        if told.more and block.number == 0:
            options.append((_SIZE2, uint(len(body))))  # RFC 7959 4
        options.sort()
        if room is None or len(encode_options(tuple(options))) + 1 + len(payload) <= room:
            return Shaped(code, tuple(options), payload, told.more)
        if block.exponent == 0:
            return Shaped(Code.UNAUTHORIZED, (), b"", False)  # who proves to be somebody gets it
        block = block.limited(block.exponent - 1)
