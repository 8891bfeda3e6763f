"""Fleets in JSON: what is read, what is refused, and that what is written is read as the same."""

from __future__ import annotations

from io import BytesIO, StringIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fleet_csv import ENTRIES

from rpcbroker.cli.fleet.entries import Entry, Line, StrictCredentials
from rpcbroker.cli.fleet.json_file import JsonFile, read_json
from rpcbroker.core.model import CredentialsType


def read(text: str | bytes) -> list[Line]:
    data = text.encode() if isinstance(text, str) else text
    return list(read_json(TextIOWrapper(BytesIO(data), encoding="utf-8-sig", errors="surrogateescape")))


def test_an_object_has_a_name_and_the_members_of_the_body() -> None:
    (line,) = read(
        '\ufeff [\n {"name": "lamp", "type": "light", "label": "", "customerTitle": "", "additionalInfo": null,\n'
        '  "credentials": {"credentialsType": "MQTT_BASIC", "credentialsValue": "{}"}}\n]'
    )
    given = StrictCredentials(credentials_type=CredentialsType.MQTT_BASIC, credentials_value="{}")
    assert line == Line(
        number=2,
        entry=Entry(name="lamp", type="light", label="", customer_title="", additional_info=None, credentials=given),
    )


@pytest.mark.parametrize("text", ["[]", " [ ] \n"])
def test_an_empty_fleet_is_one(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("7", "Expected `object`, got `int`"),
        ("{}", "missing required field `name`"),
        ('{"name": "x", "lable": "y"}', "unknown field `lable`"),
        ('{"name": "x", "credentials": {"token": "t"}}', "unknown field `token`"),
        ('{"name": 7}', "Expected `str`, got `int` - at `$.name`"),
        ('{"name": "x", "additionalInfo": NaN}', "not JSON"),
        (f'{{"name": "x", "additionalInfo": {"[" * 100}{"]" * 100}}}', "nested deeper than 64 levels"),
    ],
)
def test_a_bad_object_is_told_and_the_next_one_is_read(item: str, says: str) -> None:
    bad, good = read(f'[\n\n{item},\n{{"name": "good"}}]')
    assert (bad.number, bad.entry, good.number, good.entry) == (3, None, 4, Entry(name="good"))
    assert says in bad.error


def test_what_is_not_utf_8_is_told_by_line() -> None:
    bad, good = read(b'[{"name": "\xc4hre"},\n{"name": "lamp"}]')
    assert (bad.number, bad.error, good.entry) == (1, "it is not UTF-8", Entry(name="lamp"))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "here should be '[', and is the end"),
        ('\n{"name": "x"}', 2, "here should be '[', and is '{'"),
        ('[{"name": "x"}\n{"name": "y"}]', 2, "here should be ',', and is '{'"),
        ('[{"name": "x"},\n\n]', 3, "not JSON: Expecting value"),
        ('[{"name": "x"}', 1, "here should be ',', and is the end"),
        ('[{"name": "x"}]\n[]', 2, "here should be the end, and is '['"),
        ('[\n{"name":\n "x]', 3, "not JSON: Unterminated string"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_a_fault_of_the_array_ends_it(text: str, line: int, says: str) -> None:
    *good, bad = read(text)
    assert all(each.entry for each in good)
    assert (bad.number, bad.entry) == (line, None)
    assert says in bad.error
    assert bad.error.endswith("what follows is not read")


@given(st.lists(ENTRIES, max_size=4))
def test_what_is_written_is_read_as_the_same(entries: list[Entry]) -> None:
    file = StringIO()
    into = JsonFile(file)
    for each in entries:
        into.write(each)
    into.end()
    assert [line.entry for line in read(file.getvalue())] == entries
    assert [line.number for line in read(file.getvalue())] == list(range(2, len(entries) + 2))
