"""Fleets in CSV: what is read, what is refused, and that what is written is read as the same."""

from __future__ import annotations

import csv
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from rpcbroker.cli.fleet.csv_file import COLUMNS, BadHeader, CsvFile, plain, read_csv, safe
from rpcbroker.cli.fleet.entries import Entry, Line, StrictCredentials, each_once
from rpcbroker.core.model import CredentialsType

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
INFOS = JSON | st.fixed_dictionaries({}, optional={"gateway": st.booleans() | TEXTS, "description": TEXTS, "x": JSON})
TOKENS = st.builds(StrictCredentials, credentials_id=TEXTS.filter(bool))
OTHERS = st.builds(
    StrictCredentials,
    credentials_type=st.sampled_from([CredentialsType.MQTT_BASIC, CredentialsType.X509_CERTIFICATE]),
    credentials_value=TEXTS.filter(bool),
)
ENTRIES = st.builds(
    Entry,
    name=TEXTS.filter(bool),
    type=TEXTS.filter(bool),
    label=TEXTS,
    additional_info=INFOS,
    customer_title=TEXTS,
    credentials=TOKENS | OTHERS,
)


def opened(data: bytes) -> TextIOWrapper:
    return TextIOWrapper(BytesIO(data), encoding="utf-8-sig", errors="surrogateescape", newline="")


def read(text: str | bytes) -> list[Line]:
    return list(read_csv(opened(text.encode() if isinstance(text, str) else text)))


def one(text: str) -> Line:
    (line,) = read(text)
    return line


def entry(text: str) -> Entry:
    line = one(text)
    assert line.entry is not None, line.error
    return line.entry


# -- what is read


def test_every_column_has_its_member() -> None:
    line = one(
        "name,type,label,customer,gateway,description,token\r\n"
        'lamp,light,L,"Shop, Ltd.",TRUE,"two\r\nlines and ""quotes""",secret\r\n'
    )
    assert line.entry == Entry(
        name="lamp",
        type="light",
        label="L",
        customer_title="Shop, Ltd.",
        credentials=StrictCredentials(credentials_id="secret"),
    )
    assert line.info == {"gateway": True, "description": 'two\r\nlines and "quotes"'}


def test_an_empty_cell_and_one_that_is_not_there_say_nothing() -> None:
    for text in (
        "name\nlamp\n",
        "name,type,label,customer,gateway,additionalInfo,token\nlamp,,,,,,\n",
        "name,type\nlamp",
    ):
        assert one(text) == Line(number=2, entry=Entry(name="lamp"))
    assert entry("name\nlamp\n").additional_info is UNSET


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_separator_byte_order_mark_and_ends_of_lines_are_found_out(separator: str, start: bytes, end: bytes) -> None:
    rows = [f"name{separator}label", f"Ähre{separator}a", f'"b{separator}c"{separator}']
    lines = read(start + end.join(row.encode() for row in rows))
    assert [(line.number, line.entry and line.entry.name) for line in lines] == [(2, "Ähre"), (3, f"b{separator}c")]


def test_names_of_columns_may_be_written_in_any_case_and_order() -> None:
    found = entry(' Token , ADDITIONALINFO,"Name"\nt,"{""a"": [1]}",lamp\n')
    assert (found.name, found.additional_info, found.credentials) == (
        "lamp",
        {"a": [1]},
        StrictCredentials(credentials_id="t"),
    )


def test_additional_info_given_as_a_whole_takes_its_members_in() -> None:
    line = one('name,additionalInfo,gateway\nlamp,"{""a"":1,""gateway"":false}",true\n')
    assert (line.entry and line.entry.additional_info, line.info) == ({"a": 1, "gateway": True}, {})


def test_other_kinds_of_credentials() -> None:
    found = entry('name,credentialsType,credentialsValue\nx,mqtt_basic,"{""userName"":""u""}"\n').credentials
    assert found == StrictCredentials(credentials_type=CredentialsType.MQTT_BASIC, credentials_value='{"userName":"u"}')


def test_numbers_of_lines_are_those_of_an_editor() -> None:
    lines = read('name,description\na,"1\n2\n3"\n\nb,\n"c"d,\ne,\n')
    assert [line.number for line in lines] == [2, 6, 7, 8]
    assert [bool(line.error) for line in lines] == [False, False, True, False]


# -- what is refused


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "the first line must name the columns, name among them"),
        ("type,label", "name among them"),
        ("name,tokn", "there is no column 'tokn'; did you mean token?"),
        ("name,colour", "there is no column 'colour'; there are name, type"),
        ("name,type,TYPE", "the column type is there twice"),
        ('"name', "the first line is not CSV"),
    ],
)
def test_a_bad_first_line_spoils_the_file(header: str, says: str) -> None:
    with pytest.raises(BadHeader) as caught:
        read(f"{header}\nlamp\n")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("x,maybe,,,,", "gateway must be true or false, and is 'maybe'"),
        ("x,,{,,,", "additionalInfo is not JSON"),
        ("x,,NaN,,,", "additionalInfo is not JSON"),
        ("x,true,[],,,", "additionalInfo is no object, so there is no place in it"),
        ("x,,,t,MQTT_BASIC,", "a token belongs to the credentialsType ACCESS_TOKEN"),
        ("x,,,t,,v", "a credentialsValue to the others"),
        ("x,,,,LWM2M,", "credentialsType must be one of ACCESS_TOKEN, MQTT_BASIC, X509_CERTIFICATE, and is 'LWM2M'"),
        ("x,,,,,,more", "it has 7 cells, and there are 6 columns"),
        ('"x"y,,,,,', "not CSV"),
        (f"{'x' * 200_000},,,,,", "not CSV: field larger than field limit"),
    ],
)
def test_a_bad_line_is_told_and_the_next_one_is_read(row: str, says: str) -> None:
    header = "name,gateway,additionalInfo,token,credentialsType,credentialsValue"
    bad, good = read(f"{header}\n{row}\ngood,,,,,\n")
    assert (bad.number, bad.entry, good.entry) == (2, None, Entry(name="good"))
    assert says in bad.error


def test_what_is_not_utf_8_is_told_by_line() -> None:
    bad, good = read(b"name\n\xc4hre\nlamp\n")
    assert (bad.number, bad.error, good.entry) == (2, "it is not UTF-8", Entry(name="lamp"))


def test_a_quote_that_is_never_closed_costs_its_line_and_what_it_swallows() -> None:
    lines = read('name\na\n"b\nc\n')
    assert [line.entry and line.entry.name for line in lines] == ["a", None]


def test_each_name_is_there_once_and_none_is_empty() -> None:
    lines = list(each_once(read("name,label\na,1\n a ,2\n,3\n  ,4\nb,5\n")))
    assert [line.entry and line.entry.label for line in lines] == ["1", None, None, None, "5"]
    assert [line.error for line in lines[1:4]] == ["'a' is on line 2 already", "it has no name", "it has no name"]


# -- what is written


@given(TEXTS | st.builds("".join, st.lists(st.sampled_from("'=+-@\t\r\nx"), max_size=4)))
def test_no_cell_is_a_formula_and_each_comes_back(cell: str) -> None:
    assert safe(cell)[:1] not in set("=+-@\t\r\n")
    assert plain(safe(cell)) == cell


@given(st.lists(ENTRIES, max_size=4))
def test_what_is_written_is_read_as_the_same(entries: list[Entry]) -> None:
    file = StringIO(newline="")
    into = CsvFile(file, secrets=True)
    for each in entries:
        into.write(each)
    into.end()
    assert [whole(line) for line in read(file.getvalue())] == [full(each) for each in entries]


def whole(line: Line) -> tuple[Any, ...]:
    assert line.entry is not None, line.error
    found = line.entry
    info = found.additional_info
    if info is UNSET:
        info = dict(line.info) or None
    return (found.name, found.type, found.label or "", found.customer_title or "", info, found.credentials)


def full(each: Entry) -> tuple[Any, ...]:
    return (each.name, each.type, each.label, each.customer_title, each.additional_info, each.credentials)


def test_secrets_are_written_only_when_they_are_wanted() -> None:
    file = StringIO(newline="")
    into = CsvFile(file, secrets=False)
    into.write(Entry(name="lamp", credentials=StrictCredentials(credentials_id="secret")))
    assert "secret" not in file.getvalue()
    assert next(csv.reader(file.getvalue().splitlines())) == list(COLUMNS[:7])


def test_a_fleet_of_none_still_names_the_columns() -> None:
    file = StringIO(newline="")
    CsvFile(file, secrets=True).end()
    assert file.getvalue() == ",".join(COLUMNS) + "\r\n"
    assert read(file.getvalue()) == []
