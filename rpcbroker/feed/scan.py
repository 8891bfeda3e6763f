"""Whether binary data may be decoded at all: one pass over its heads, before anything is made of it.

MessagePack and CBOR are one thing here: values, each with a head that tells how many bytes or how many values
follow. https://github.com/msgpack/msgpack/blob/master/spec.md, RFC 8949.
"""

from __future__ import annotations

from itertools import chain

MAX_VALUES = 100_000
"""Values in one message, keys too: what is made of a byte may take a hundred."""

Head = tuple[int, int, int, bool]
"""What the first byte of a value says: `width`, `amount`, `unit`, `text`.

`width`: bytes of a number behind it, which is the amount instead of `amount`; `unit`: what it is an amount of;
`text`: whether it may be the key of a map.
"""
Heads = tuple[Head, ...]
"""By the first byte."""

_BYTES, _ITEMS, _PAIRS = 0, 1, 2
_END, _NOTHING = -1, -2
"""Units of what is no value: the end of a list or a map whose length was not told, and what is not taken."""
_UNTOLD = 1 << 80
"""An amount that is never reached, and even, as that of keys and values has to be."""
_REFUSED: Head = (0, 0, _NOTHING, True)


class Malformed(Exception):
    """A message cannot be read, or is more than is read; the text says why."""


def scan(data: bytes, heads: Heads, max_depth: int) -> None:
    """Raises Malformed unless `data` is one value with text for keys, in so many levels, with all that it announces."""
    at, end = 0, len(data)
    left, keyed = 1, False  # values to come in the level where we are, and whether it is a map
    levels: list[tuple[int, bool]] = []
    for _ in range(MAX_VALUES):
        while not left:
            if not levels:
                return _check(at == end, "there is something behind the message")
            left, keyed = levels.pop()
        if at >= end:
            break
        width, amount, unit, text = heads[data[at]]
        at += 1
        if keyed and not text and not left & 1:
            raise Malformed("the keys of a map must be text")
        left -= 1
        if width:
            amount = int.from_bytes(data[at : at + width])
            at += width
        if unit == _BYTES:
            at += amount
        elif unit > 0:
            levels.append((left, keyed))
            _check(len(levels) <= max_depth, "it is nested deeper than {} levels", max_depth)
            left, keyed = amount * unit, unit == _PAIRS
            _check(left <= end - at or amount == _UNTOLD, "it ends in the middle")
        else:
            good = unit == _END and levels and (left & 1 or not keyed)
            _check(good, "byte {} begins nothing that is taken", at - 1)
            left, keyed = levels.pop()
    _check(at < end, "it ends in the middle")
    raise Malformed(f"it has more than {MAX_VALUES} values")


def _check(good: object, fault: str, number: int = 0) -> None:
    if not good:
        raise Malformed(fault.format(number))


def _fixed(*sizes: int) -> list[Head]:
    """Heads with so many bytes behind them."""
    return [(0, size, _BYTES, False) for size in sizes]


def _short(unit: int, most: int, *, text: bool = False) -> list[Head]:
    """Heads that are their amounts themselves: 0 to `most`."""
    return [(0, amount, unit, text) for amount in range(most + 1)]


def _long(unit: int, *widths: int, text: bool = False) -> list[Head]:
    """Heads with an amount behind them."""
    return [(width, 0, unit, text) for width in widths]


def _major(unit: int, *, text: bool = False) -> list[Head]:
    """A major type of CBOR that has a length, told or not. Bytes of which it is not told are items: the pieces."""
    untold: Head = (0, _UNTOLD, unit or _ITEMS, text)
    return [*_short(unit, 23, text=text), *_long(unit, 1, 2, 4, 8, text=text), *[_REFUSED] * 3, untold]


_NUMBER = [*_fixed(*[0] * 24), *_fixed(1, 2, 4, 8), *[_REFUSED] * 4]

MESSAGEPACK: Heads = tuple(
    chain(
        _fixed(*[0] * 128),
        _short(_PAIRS, 15),
        _short(_ITEMS, 15),
        _short(_BYTES, 31, text=True),
        _fixed(0),  # nil
        [_REFUSED],
        _fixed(0, 0),  # false, true
        _long(_BYTES, 1, 2, 4),  # binary
        [_REFUSED] * 3,  # extensions
        _fixed(4, 8, 1, 2, 4, 8, 1, 2, 4, 8),  # floats, unsigned and signed integers
        [_REFUSED] * 5,  # extensions, timestamps are among them
        _long(_BYTES, 1, 2, 4, text=True),
        _long(_ITEMS, 2, 4),
        _long(_PAIRS, 2, 4),
        _fixed(*[0] * 32),  # negative
    )
)

CBOR: Heads = tuple(
    chain(
        _NUMBER,
        _NUMBER,  # negative
        _major(_BYTES),
        _major(_BYTES, text=True),
        _major(_ITEMS),
        _major(_PAIRS),
        [_REFUSED] * 52,  # tags, and simple values
        _fixed(0, 0, 0),  # false, true, null
        [_REFUSED] * 2,  # undefined, and simple values
        _fixed(2, 4, 8),  # floats
        [_REFUSED] * 3,
        [(0, 0, _END, True)],
    )
)
