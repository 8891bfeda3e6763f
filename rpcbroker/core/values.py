"""Telemetry and attributes as devices and callers write them in JSON, checked and made into values.

A value is a bool, an integer of 64 bits, a finite number, a text, or the JSON text of an object or an
array. Numbers in what devices send may be written as strings; they are numbers all the same.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from msgspec import Raw

from rpcbroker.core import jsontext
from rpcbroker.core.jsontext import BadJSON

Value = bool | int | float | str | Raw
Values = dict[str, Value]
"""Key -> value."""
Posted = list[tuple[int, Values]]
"""Telemetry: epoch ms -> values, in the order in which it was sent."""

LATEST_TIME = 2**53
"""No point has a later time, epoch ms: beyond it callers written in JavaScript lose digits."""

_SMALLEST, _BEYOND = -(2**63), 2**63
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_LONGEST_NUMBER = 40
"""Characters: more digits than a number can keep are a text."""


class Bounds(Protocol):
    """How large things may be: characters of a key, bytes of a text or of JSON."""

    @property
    def max_key_length(self) -> int: ...

    @property
    def max_value_size(self) -> int: ...


def parse_telemetry(payload: bytes, bounds: Bounds, *, now_ms: int) -> Posted:
    """What a device posts as telemetry. Raises BadJSON."""
    return telemetry_of(jsontext.decode(payload), bounds, now_ms=now_ms)


def telemetry_of(message: Any, bounds: Bounds, *, now_ms: int) -> Posted:
    """The same of JSON that is decoded already: `{"k":v}`, `{"ts":ms,"values":{"k":v}}`, or an array of such.

    What has no time is of now. The objects in `message` are changed and become part of the result. Raises BadJSON.
    """
    if type(message) is dict:
        if "ts" in message and "values" in message:
            return [_entry(message, bounds, now_ms)]
        return [(now_ms, _checked(message, bounds, cast=True))]
    if type(message) is not list:
        raise BadJSON("telemetry must be a JSON object, or an array of objects")
    return [_entry(entry, bounds, now_ms) for entry in message]


def points_in(posted: Posted) -> int:
    """How many data points that is; rate limits count them."""
    return sum(len(values) for _, values in posted)


def parse_attributes(payload: bytes, bounds: Bounds, *, cast: bool = True) -> Values:
    """`{"k":v}`. `cast`: numbers may be written as strings. Raises BadJSON."""
    return attributes_of(jsontext.decode(payload), bounds, cast=cast)


def attributes_of(message: Any, bounds: Bounds, *, cast: bool = True) -> Values:
    """The same of JSON that is decoded already; `message` is changed and becomes the result. Raises BadJSON."""
    if type(message) is not dict:
        raise BadJSON("attributes must be a JSON object")
    return _checked(message, bounds, cast)


def parse_attributes_request(payload: bytes) -> tuple[list[str] | None, list[str] | None]:
    """Which client and which shared attributes a device asks for: `{"clientKeys":"a,b","sharedKeys":"c"}`.

    None is none of them; a device that names no keys at all asks for all, which is two empty lists. Raises BadJSON.
    """
    request = jsontext.decode(payload) if payload else {}
    if type(request) is not dict:
        raise BadJSON("a request for attributes must be a JSON object")
    return attributes_request(request.get("clientKeys"), request.get("sharedKeys"))


def attributes_request(client_keys: Any, shared_keys: Any) -> tuple[list[str] | None, list[str] | None]:
    """The same of the two texts, None if absent. Raises BadJSON."""
    if client_keys is None and shared_keys is None:
        return [], []
    return _keys("clientKeys", client_keys), _keys("sharedKeys", shared_keys)


def json_of(value: Value) -> str:
    """A value as JSON text."""
    return jsontext.encode(value).decode()


def _keys(name: str, text: Any) -> list[str] | None:
    if text is None:
        return None
    if type(text) is not str:
        raise BadJSON(f"{name} must be a text: keys with commas between them")
    return split_keys(text) or None


def split_keys(text: str) -> list[str]:
    """Keys with commas between them, each once."""
    return list(dict.fromkeys(key for each in text.split(",") if (key := each.strip())))


def _entry(entry: Any, bounds: Bounds, now_ms: int) -> tuple[int, Values]:
    if type(entry) is not dict:
        raise BadJSON("an array of telemetry must have objects in it")
    if "ts" not in entry or "values" not in entry:
        return now_ms, _checked(entry, bounds, cast=True)
    ts, values = entry["ts"], entry["values"]
    if type(ts) is not int or not 0 <= ts <= LATEST_TIME:
        raise BadJSON("'ts' must be a time in milliseconds since 1970")
    if type(values) is not dict:
        raise BadJSON("'values' must be a JSON object")
    return ts, _checked(values, bounds, cast=True)


def _checked(values: dict[str, Any], bounds: Bounds, cast: bool) -> Values:
    longest = bounds.max_key_length
    for key, value in values.items():
        if not 0 < len(key) <= longest or "\x00" in key:
            raise BadJSON(f"a key must have 1 to {longest} characters, none of them U+0000")
        kind = type(value)
        if kind is float or kind is bool:
            continue
        if kind is int:
            if not _SMALLEST <= value < _BEYOND:
                raise BadJSON(f"{_shown(key)} is an integer of more than 64 bits")
        elif kind is str:
            if len(value) * 4 > bounds.max_value_size:
                _require_size(key, len(value.encode()), bounds)
            if cast and len(value) <= _LONGEST_NUMBER:
                values[key] = _number(value)
        elif value is None:
            raise BadJSON(f"{_shown(key)} is null: leave it out")
        else:
            text = jsontext.encode(value)
            _require_size(key, len(text), bounds)
            values[key] = Raw(text)
    return values


def _require_size(key: str, size: int, bounds: Bounds) -> None:
    if size > bounds.max_value_size:
        raise BadJSON(f"{_shown(key)} has {size} bytes, and at most {bounds.max_value_size} are taken")


def _number(text: str) -> Value:
    """The number that `text` spells as JSON would, without an exponent; itself if it does not.

    What begins with a needless zero is the number of a thing, not a number: `007` stays what it is.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if match[1]:
        return float(text)
    number = int(text)
    return number if _SMALLEST <= number < _BEYOND else text


def _shown(key: str) -> str:
    return json_of(key[:64])
