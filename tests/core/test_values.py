"""Telemetry and attributes in JSON: what is taken for which value, and what is refused."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.setting import Size
from rpcbroker.core.settings import AttributeSettings, TelemetrySettings
from rpcbroker.core.values import (
    Values,
    json_of,
    parse_attributes,
    parse_attributes_request,
    parse_telemetry,
    points_in,
)

BOUNDS = TelemetrySettings(max_key_length=10, max_value_size=Size(100))
NOW = 1_700_000_000_000


def telemetry(text: str | bytes) -> list[tuple[int, Values]]:
    return parse_telemetry(text if isinstance(text, bytes) else text.encode(), BOUNDS, now_ms=NOW)


def value(text: str) -> Any:
    ((_, values),) = telemetry(f'{{"k":{text}}}')
    return values["k"]


@pytest.mark.parametrize(
    ("text", "posted"),
    [
        ('{"k":1}', [(NOW, {"k": 1})]),
        ('{"a":1,"b":2}', [(NOW, {"a": 1, "b": 2})]),
        ('[{"a":1},{"a":2}]', [(NOW, {"a": 1}), (NOW, {"a": 2})]),
        ('{"ts":5,"values":{"k":1}}', [(5, {"k": 1})]),
        ('[{"ts":5,"values":{"k":1}},{"k":2}]', [(5, {"k": 1}), (NOW, {"k": 2})]),
        ('{"ts":5}', [(NOW, {"ts": 5})]),
        ('{"values":5}', [(NOW, {"values": 5})]),
        ("{}", [(NOW, {})]),
        ("[]", []),
        ('{"ts":5,"values":{}}', [(5, {})]),
        ('{"k":1,"k":2}', [(NOW, {"k": 2})]),
    ],
)
def test_shapes(text: str, posted: Any) -> None:
    assert telemetry(text) == posted


def test_points_are_counted_for_rate_limits() -> None:
    assert points_in(telemetry('[{"a":1,"b":2},{"ts":5,"values":{"c":3}},{}]')) == 3


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("true", True),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ('"on"', "on"),
        ('""', ""),
        ('"5"', 5),
        ('"-5.25"', -5.25),
        ('"9223372036854775807"', 2**63 - 1),
        ('"9223372036854775808"', "9223372036854775808"),
        ('"007"', "007"),
        ('"-"', "-"),
        ('"1e3"', "1e3"),
        ('"1."', "1."),
        ('" 1"', " 1"),
        ('"1\\n"', "1\n"),
        ('"NaN"', "NaN"),
        ('"Infinity"', "Infinity"),
        ('"\u0661"', "\u0661"),
        ('{"b": [1, null, "5"]}', Raw(b'{"b":[1,null,"5"]}')),
        ("[ ]", Raw(b"[]")),
    ],
)
def test_values(text: str, is_: Any) -> None:
    found = value(text)
    assert (type(found), found) == (type(is_), is_)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("1", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('"{}"', "must be a JSON object"),
        ("[1]", "objects in it"),
        ("[[{}]]", "objects in it"),
        ('{"k":null}', '"k" is null'),
        ('{"k":NaN}', "not JSON"),
        ('{"k":-Infinity}', "not JSON"),
        ('{"k":1e400}', "out of range"),
        ('{"k":9223372036854775808}', "more than 64 bits"),
        ('{"k":-9223372036854775809}', "more than 64 bits"),
        (f'{{"k":{"9" * 5000}}}', "out of range"),
        ('{"ts":"5","values":{}}', "'ts' must be"),
        ('{"ts":true,"values":{}}', "'ts' must be"),
        ('{"ts":5.0,"values":{}}', "'ts' must be"),
        ('{"ts":-1,"values":{}}', "'ts' must be"),
        (f'{{"ts":{2**53 + 1},"values":{{}}}}', "'ts' must be"),
        ('{"ts":5,"values":[]}', "'values' must be"),
        ('{"":1}', "a key must have 1 to 10 characters"),
        ('{"12345678901":1}', "a key must have 1 to 10 characters"),
        ('{"a\\u0000":1}', "none of them U"),
        (f'{{"k":"{"x" * 101}"}}', "has 101 bytes, and at most 100"),
        (f'{{"k":"{"ä" * 51}"}}', "has 102 bytes, and at most 100"),
        (f'{{"k":["{"x" * 97}"]}}', "has 101 bytes, and at most 100"),
        ('{"k":"\\ud800"}', "not JSON"),
        ("[" * 100_000, "nested deeper"),
        ('{"k":' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper"),
        ('{"a":' * 100_000, "nested deeper"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadJSON, match=says):
        telemetry(text)


def test_what_is_just_not_too_large_is_taken() -> None:
    assert value(f'"{"ä" * 50}"') == "ä" * 50
    assert value(f'["{"x" * 96}"]') == Raw(f'["{"x" * 96}"]'.encode())
    assert telemetry('{"1234567890":1}') == [(NOW, {"1234567890": 1})]
    assert telemetry(f'{{"ts":{2**53},"values":{{}}}}') == [(2**53, {})]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadJSON):
        telemetry(b'{"k":"\xff"}')


def test_a_large_message_does_not_stall() -> None:
    message = b"[" + b",".join([b'{"k":"1.5"}'] * 80_000) + b"]"
    before = time.process_time()
    assert points_in(telemetry(message)) == 80_000
    assert time.process_time() - before < 2


def test_attributes_are_one_object() -> None:
    assert parse_attributes(b'{"a":"5","ts":1,"values":{}}', AttributeSettings()) == {
        "a": 5,
        "ts": 1,
        "values": Raw(b"{}"),
    }
    for text in (b"[]", b"5", b'[{"a":1}]', b"", b'{"a":null}'):
        with pytest.raises(BadJSON):
            parse_attributes(text, AttributeSettings())


def test_callers_who_write_a_string_mean_a_string() -> None:
    assert parse_attributes(b'{"a":"5","b":5}', AttributeSettings(), cast=False) == {"a": "5", "b": 5}


@pytest.mark.parametrize(
    ("text", "client", "shared"),
    [
        (b"{}", [], []),
        (b"", [], []),
        (b'{"clientKeys":"a,b","sharedKeys":"c"}', ["a", "b"], ["c"]),
        (b'{"clientKeys":" a ,,b,a"}', ["a", "b"], None),
        (b'{"sharedKeys":"c"}', None, ["c"]),
        (b'{"sharedKeys":"","clientKeys":"c"}', ["c"], None),
        (b'{"clientKeys":null,"sharedKeys":null}', [], []),
    ],
)
def test_what_attributes_a_device_asks_for(text: bytes, client: Any, shared: Any) -> None:
    assert parse_attributes_request(text) == (client, shared)


@pytest.mark.parametrize("text", [b"[]", b"x", b'{"clientKeys":["a"]}', b'{"sharedKeys":5}'])
def test_what_is_no_request_for_attributes(text: bytes) -> None:
    with pytest.raises(BadJSON):
        parse_attributes_request(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)


@settings(deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(["ts", "values", "k"]), JSON))
def test_every_json_is_either_refused_or_taken_as_what_it_is(message: Any) -> None:
    try:
        text = json.dumps(message).encode()
        posted = parse_telemetry(text, BOUNDS, now_ms=NOW)
    except BadJSON:
        return
    entries = message if isinstance(message, list) else [message]
    assert len(posted) == len(entries)
    for (ts, values), entry in zip(posted, entries, strict=True):
        timed = "ts" in entry and "values" in entry
        assert ts == (entry["ts"] if timed else NOW)
        sent = entry["values"] if timed else entry
        assert values.keys() == sent.keys()
        for key, found in values.items():
            kept = json.loads(json_of(found))
            assert kept == sent[key] or (isinstance(sent[key], str) and float(kept) == float(sent[key])), key


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:0123456789.eE-nul\\tsvak', max_size=60).map(str.encode))
def test_no_bytes_make_it_fail_in_another_way(data: bytes) -> None:
    for parse in (
        lambda: parse_telemetry(data, BOUNDS, now_ms=NOW),
        lambda: parse_attributes(data, BOUNDS),
        lambda: parse_attributes_request(data),
    ):
        with suppress(BadJSON):
            parse()
