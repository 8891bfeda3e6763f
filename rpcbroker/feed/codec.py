"""WAMP's encodings. https://wamp-proto.org/spec.html, "Serializations".

What comes in is bounded before anything is made of it: how deep it is, how many values it has. Beyond what the
encodings say themselves:

* extensions of MessagePack, and tags, undefined and simple values of CBOR are not taken, nor keys that are no text;
* of a key that comes twice the last value holds;
* binary data is a string in JSON, "\\0" and base64 ("Binary conversion of JSON Strings");
* an integer beyond 64 bits is text in MessagePack, which has none; what is no finite number is null in JSON.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.core.jsontext import MAX_DEPTH
from rpcbroker.feed import scan
from rpcbroker.feed.ports import Serializer
from rpcbroker.feed.scan import MAX_VALUES, Malformed

EVENT = 36
_CBOR_MAP = 5 << 5
_INT64, _UINT64 = -(1 << 63), (1 << 64) - 1
_JSON_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""The last quote may be missing: or what begins at each one before it would be looked at to the end, and in vain."""
_BINARY = "\0"


def _checked(message: Any) -> list[Any]:
    if type(message) is not list:
        raise Malformed("a message must be a list")
    return message


class _Json:
    name = "json"
    binary = False

    def decode(self, data: bytes, max_depth: int = MAX_DEPTH) -> list[Any]:
        if _json_values(data) > MAX_VALUES:
            bare, strings = _JSON_STRING.subn(b"", data, MAX_VALUES)
            if strings == MAX_VALUES or _json_values(bare) > MAX_VALUES:
                raise Malformed(f"it has more than {MAX_VALUES} values")
        try:
            message = _checked(jsontext.decode_as(Any, data, max_depth=max_depth))
        except jsontext.BadJSON as error:
            raise Malformed(str(error)) from None
        return _changed(message, _from_json) if rb"\u0000" in data else message

    def encode(self, message: list[Any]) -> bytes:
        return jsontext.encode(_changed(message, _to_json) if _has(bytes, message) else message)

    def joined(self, first: bytes, second: bytes) -> bytes:
        return b"%b,%b" % (first[:-1], second[1:])

    def encode_members(self, members: dict[str, Any]) -> bytes:
        return jsontext.encode(_changed(members, _to_json) if _has(bytes, members.values()) else members)[1:]

    def event(
        self, subscription: int, publication: int, topic: str | None, *, n: int, members: bytes, count: int
    ) -> bytes:
        before = jsontext.encode((EVENT, subscription, publication, _details(topic), ()))[:-1]
        return b'%b,{"n":%d%b%b]' % (before, n, b"," if count else b"", members)


class _MessagePack:
    name = "msgpack"
    binary = True

    def decode(self, data: bytes, max_depth: int = MAX_DEPTH) -> list[Any]:
        scan.scan(data, scan.MESSAGEPACK, max_depth)
        try:
            return _checked(msgspec.msgpack.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"not MessagePack: {error}") from None

    def encode(self, message: Any) -> bytes:
        try:
            return msgspec.msgpack.encode(message)
        except OverflowError:
            return msgspec.msgpack.encode(_changed(message, _within_64_bits))

    def joined(self, first: bytes, second: bytes) -> bytes:
        return _joined(first, second)

    def encode_members(self, members: dict[str, Any]) -> bytes:
        return self.encode(members)[len(_map_head(len(members))) :]

    def event(
        self, subscription: int, publication: int, topic: str | None, *, n: int, members: bytes, count: int
    ) -> bytes:
        encode = msgspec.msgpack.encode
        before = encode((EVENT, subscription, publication, _details(topic), ()))[1:]
        return b"\x96%b%b\xa1n%b%b" % (before, _map_head(count + 1), encode(n), members)


class _Cbor:
    name = "cbor"
    binary = True

    @cached_property
    def _cbor2(self) -> Any:
        """Loaded for the first session that speaks it."""
        import cbor2

        return cbor2

    def decode(self, data: bytes, max_depth: int = MAX_DEPTH) -> list[Any]:
        scan.scan(data, scan.CBOR, max_depth)
        try:
            return _checked(self._cbor2.loads(data, max_depth=max_depth))
        except self._cbor2.CBORDecodeError as error:
            raise Malformed(f"not CBOR: {error}") from None

    def encode(self, message: list[Any]) -> bytes:
        encoded: bytes = self._cbor2.dumps(message)
        return encoded

    def joined(self, first: bytes, second: bytes) -> bytes:
        return _joined(first, second)

    def encode_members(self, members: dict[str, Any]) -> bytes:
        encoded: bytes = self._cbor2.dumps(members)
        return encoded[len(_cbor_head(_CBOR_MAP, len(members))) :]

    def event(
        self, subscription: int, publication: int, topic: str | None, *, n: int, members: bytes, count: int
    ) -> bytes:
        before = _cbor_head(0, subscription) + _cbor_head(0, publication) + self._cbor2.dumps(_details(topic))
        size = _cbor_head(_CBOR_MAP, count + 1)
        return b"\x86\x18\x24%b\x80%b\x61n%b%b" % (before, size, _cbor_head(0, n), members)


JSON: Serializer = _Json()
MESSAGEPACK: Serializer = _MessagePack()
CBOR: Serializer = _Cbor()

BY_SUBPROTOCOL = {"wamp.2.json": JSON, "wamp.2.msgpack": MESSAGEPACK, "wamp.2.cbor": CBOR}
"""As WebSocket calls them."""
BY_NUMBER = {1: JSON, 2: MESSAGEPACK, 3: CBOR}
"""As RawSocket does."""


def _details(topic: str | None) -> dict[str, str]:
    return {} if topic is None else {"topic": topic}


def _json_values(data: bytes) -> int:
    """At least as many as there are values and keys, but for strings; those that brackets in strings seem to be too."""
    return sum(map(data.count, (b",", b":", b"[", b"{")))


def _has(kind: type, values: Iterable[Any]) -> bool:
    """Whether there is one of this type anywhere."""
    kinds = set(map(type, values))
    if kind in kinds:
        return True
    if list not in kinds and dict not in kinds:
        return False
    return any(
        _has(kind, value.values() if type(value) is dict else value)
        for value in values
        if type(value) is dict or type(value) is list
    )


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy, with what `change` makes of each scalar."""
    if type(value) is list:
        return [_changed(item, change) for item in value]
    if type(value) is dict:
        return {name: _changed(item, change) for name, item in value.items()}
    return change(value)


def _to_json(value: Any) -> Any:
    return _BINARY + b64encode(value).decode() if type(value) is bytes else value


def _from_json(value: Any) -> Any:
    if type(value) is not str or not value.startswith(_BINARY):
        return value
    try:
        return b64decode(value[1:], validate=True)
    except ValueError:
        raise Malformed("a string that begins with \\u0000 must be binary data in base64") from None


def _within_64_bits(value: Any) -> Any:
    return value if type(value) is not int or _INT64 <= value <= _UINT64 else str(value)


def _joined(first: bytes, second: bytes) -> bytes:
    """The head of a short list is one byte, whose last bits are how many values follow, in MessagePack and in CBOR."""
    return b"%c%b%b" % (first[0] + (second[0] & 15), first[1:], second[1:])


def _map_head(size: int) -> bytes:
    """MessagePack's."""
    if size < 16:
        return bytes((0x80 | size,))
    return b"\xde" + size.to_bytes(2) if size < 1 << 16 else b"\xdf" + size.to_bytes(4)


def _cbor_head(major: int, number: int) -> bytes:
    """RFC 8949 3."""
    if number < 24:
        return bytes((major | number,))
    width = max(0, (number.bit_length() - 1).bit_length() - 3)
    return bytes((major | 24 + width,)) + number.to_bytes(1 << width)
