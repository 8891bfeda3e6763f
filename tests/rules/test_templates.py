"""Texts with places for what messages say."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage
from rpcbroker.rules.templates import MAX_TEXT, Template

MESSAGE = RuleMessage(
    id=UUID(int=1),
    type="POST_TELEMETRY_REQUEST",
    originator=Originator(DEVICE, UUID(int=2)),
    data=b'{"t":21.50,"n":3,"on":true,"no":null,"s":"x y","a":{"b":{"c":"deep"}},"list":[1],"evil":"${key} $[t]","":1}',
    metadata={"key": "value", "field": "t", "evil": "$[t] ${key}", "a b": "spaced"},
    time=0,
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain $ {key} [t]", "plain $ {key} [t]"),
        ("${key}", "value"),
        ("/${key}/${a b}/$[n]", "/value/spaced/3"),
        ("$[t] $[on] $[no] $[s]", "21.5 true null x y"),
        ("$[a.b.c]", "deep"),
        ("$[${field}]", "21.5"),
        ("${none} $[none] $[a.none] $[a.b.c.d] $[] ${}", "${none} $[none] $[a.none] $[a.b.c.d] 1 ${}"),
        ("$[a] $[list] $[list.0]", "$[a] $[list] $[list.0]"),
        ("${evil} | $[evil]", "$[t] ${key} | ${key} $[t]"),
        ("${key", "${key"),
        ("$${key}$$[n]", "$value$3"),
        ("${${key}}", "${value}"),
    ],
)
def test_places_are_filled_and_what_is_not_there_stays_as_it_is_written(template: str, text: str) -> None:
    assert Template(template).fill(MESSAGE) == text


@pytest.mark.parametrize("data", [b"[1]", b"7", b"not JSON", b"", b"[" * 100_000])
def test_data_that_are_no_object_have_no_fields(data: bytes) -> None:
    assert Template("$[t] ${key}").fill(replace(MESSAGE, data=data)) == "$[t] value"


def test_a_template_that_becomes_too_long_is_a_failure() -> None:
    message = replace(MESSAGE, metadata={"k": "x" * 1024})
    assert len(Template("${k}" * 1024).fill(message)) == MAX_TEXT
    with pytest.raises(NodeFailed, match="longer than 1,048,576 characters"):
        Template("${k}" * 1024 + "!").fill(message)


@pytest.mark.parametrize("hostile", ["${" * 200_000, "$[" * 200_000, "$[${" * 200_000, "${a$[" * 200_000])
def test_half_places_without_end_take_no_time(hostile: str) -> None:
    assert Template(hostile).fill(MESSAGE) == hostile


@pytest.mark.parametrize("template", ["${long}" * 100_000, "$[${long}]" * 100_000])
def test_a_template_that_names_a_long_value_everywhere_ends_early(template: str) -> None:
    coded: list[str] = []

    def code(value: str) -> str:
        coded.append(value)
        return value

    filled = Template(template, code)
    with pytest.raises(NodeFailed, match="What comes of a template is longer than 1,048,576 characters"):
        filled.fill(replace(MESSAGE, metadata={"long": "x" * 100_000}))
    assert len(coded) <= 10
