"""JSON at the door."""

from __future__ import annotations

import time

import pytest

from rpcbroker.core import jsontext


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":NaN}',
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b'"\xff"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"1 2",
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(jsontext.BadJSON):
        jsontext.decode(data)


def test_of_duplicate_keys_the_last_wins() -> None:
    assert jsontext.compact(b'{"a": 1, "a": 2}') == b'{"a":2}'


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    text = b'["' + b"[" * 1000 + b'", "\\"[[[["]'
    assert jsontext.decode(text)[0] == "[" * 1000


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert jsontext.decode(b"[" * 64 + b"]" * 64)


def test_a_hostile_megabyte_costs_little() -> None:
    started = time.perf_counter()
    with pytest.raises(jsontext.BadJSON):
        jsontext.decode(b'["' + b"\\" * 1_000_000)
    with pytest.raises(jsontext.BadJSON):
        jsontext.decode(b"[{" * 500_000)
    assert time.perf_counter() - started < 1
