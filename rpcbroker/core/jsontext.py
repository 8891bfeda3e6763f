"""JSON as the broker carries it: text that was checked once, at the door.

Bodies are RFC 8259 JSON in UTF-8 without a byte order mark. NaN, Infinity, lone surrogates and
numbers beyond a double are refused. Of duplicate keys the last one wins.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec

MAX_DEPTH = 64
"""How deep arrays and objects may nest: far beyond any use, far below any recursion limit."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""An opening bracket is one level more, a closing one is one less."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


class BadJSON(ValueError):
    """The text is not JSON that the broker takes; the message says why."""


class BadShape(BadJSON):
    """It is JSON, and not what was expected; the message names the member."""


def decode(data: bytes) -> Any:
    """The value of `data`. Raises BadJSON; linear in the size of `data`."""
    if len(data) > MAX_DEPTH:  # what is not longer cannot be deeper, and most is not
        _check_depth(data, MAX_DEPTH)
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJSON(f"not JSON: {error}") from None


def decode_as(type_: Any, data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """The value of `data` as a msgspec type. Raises BadJSON, and BadShape for JSON that does not fit."""
    _check_depth(data, max_depth)
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError as error:
        raise BadShape(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJSON(f"not JSON: {error}") from None


_decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
encode = msgspec.json.encode
"""A value as compact JSON text."""


def compact(data: bytes) -> bytes:
    """`data` as compact JSON text with each key once. Raises BadJSON."""
    return encode(decode(data))


def _check_depth(data: bytes, most: int) -> None:
    """Raises BadJSON. What is not longer than it may be deep, as most is, need not be looked at."""
    if len(data) > most and data.count(b"[") + data.count(b"{") > most and _depth(data) > most:
        raise BadJSON(f"nested deeper than {most} levels")


def _depth(data: bytes) -> int:
    steps = array("b", _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0)
