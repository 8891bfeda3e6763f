"""Bodies in blocks (RFC 7959): one that is given out by Block2, one that comes by Block1."""

from __future__ import annotations

from typing import NamedTuple

from rpcbroker.wire.coap.errors import BadOption, Incomplete, RequestError, TooLarge
from rpcbroker.wire.coap.numbers import Code, to_uint, uint

__all__ = ["Assembly", "Block", "Incomplete", "TooLarge", "cut", "exponent_of"]

LARGEST = 6
"""The exponent of blocks of 1,024 bytes; 7 is reserved (RFC 7959 2.2)."""


class Block(NamedTuple):
    """What a Block option says: which block, whether more follow, and how large they are: 16 << `exponent` bytes."""

    number: int
    more: bool
    exponent: int

    @property
    def size(self) -> int:
        """Bytes of each block but the last."""
        return 16 << self.exponent

    @property
    def start(self) -> int:
        """Where it begins in the body."""
        return self.number << self.exponent + 4

    def encode(self) -> bytes:
        """The value of the option. Raises ValueError above block 1,048,575."""
        if self.number > 0xFFFFF:
            raise ValueError("a block number of more than 20 bits")
        return uint(self.number << 4 | self.more << 3 | self.exponent)

    @classmethod
    def decode(cls, value: bytes) -> Block:
        """What the option says, of at most three bytes. Raises BadOption (RFC 7959 2.2)."""
        bits = to_uint(value)
        if bits & 7 > LARGEST:
            raise BadOption(Code.BAD_REQUEST, "a block size of 7 is reserved")
        return cls(bits >> 4, bits & 8 != 0, bits & 7)

    def limited(self, exponent: int) -> Block:
        """The one that begins where this one does, and is no larger than `exponent` says (RFC 7959 2.3, 2.4)."""
        smaller = self.exponent - exponent
        return self if smaller <= 0 else Block(self.number << smaller, self.more, exponent)


def exponent_of(size: int) -> int:
    """The largest blocks of at most so many bytes, 16 at least."""
    return min(max(size.bit_length() - 5, 0), LARGEST)


def cut(body: bytes, block: Block) -> tuple[bytes, Block]:
    """One block of a body, and the Block2 option that goes with it. Raises BadOption for one behind the end."""
    start = block.start
    end = start + block.size
    if start >= len(body) and start:
        raise BadOption(Code.BAD_REQUEST, "the body has no such block")
    return body[start:end], Block(block.number, end < len(body), block.exponent)


class Assembly:
    """One body that comes by Block1. It takes the memory of what has come, never of what is announced."""

    __slots__ = ("_body", "_last", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes of the largest body that is taken."""
        self._body = bytearray()
        self._last = 0

    def __len__(self) -> int:
        """Bytes that have come."""
        return len(self._body)

    def add(self, block: Block, payload: bytes, size1: int | None = None) -> bytes | None:
        """The whole body, if this was its last block; None: more must come.

        Blocks come in order; their size may become another one on the way, as long as each begins where the one
        before ended (RFC 7959 2.3). The last one may come again, and counts then; the first one begins anew (2.5).
        Raises Incomplete (4.08), TooLarge (4.13) also if `size1` announces it, and RequestError (4.00) for a block
        that is not as large as it says. What had come before is kept then.
        """
        start = block.start
        if len(payload) > block.size or (block.more and len(payload) < block.size):  # RFC 7959 2.2
            raise RequestError(Code.BAD_REQUEST, "the payload is not as large as its block")
        body = self._body
        if start not in (0, self._last, len(body)):
            raise Incomplete(Code.REQUEST_ENTITY_INCOMPLETE, "a block is missing")
        end = start + len(payload)
        if end + block.more > self.limit or (size1 or 0) > self.limit:
            raise TooLarge(Code.REQUEST_ENTITY_TOO_LARGE, f"a body of more than {self.limit} bytes", self.limit)
        del body[start:]
        body += payload
        self._last = start
        return None if block.more else bytes(body)
