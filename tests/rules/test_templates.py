"""Templates in configurations of nodes."""

from __future__ import annotations

from uuid import UUID

import pytest

from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import Originator, RuleMessage
from rpcbroker.rules.templates import template_of


def message(data: bytes, **metadata: str) -> RuleMessage:
    return RuleMessage(
        id=UUID(int=1), type="T", originator=Originator("DEVICE", UUID(int=2)), data=data, metadata=metadata, time=0
    )


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("", ""),
        ("plain $ text {a} [b]", "plain $ text {a} [b]"),
        ("${deviceName}-$[temperature]", "Lamp-21.5"),
        ("$[at.home.on] $[nothing] $[name]", "true null x"),
        (
            "${missing} $[missing] $[at] $[list] $[name.first] $[]",
            "${missing} $[missing] $[at] $[list] $[name.first] $[]",
        ),
        ("${again}", "$[name]"),
        ("${deviceName", "${deviceName"),
    ],
)
def test_placeholders_stand_for_what_the_message_has(text: str, filled: str) -> None:
    data = b'{"temperature":21.5,"at":{"home":{"on":true}},"nothing":null,"list":[1],"name":"x"}'
    assert template_of(text)(message(data, deviceName="Lamp", again="$[name]")) == filled


def test_values_are_coded_and_the_rest_is_not() -> None:
    assert template_of("a ${x} $[y]", str.upper)(message(b'{"y":"c"}', x="b")) == "a B C"


@pytest.mark.parametrize("data", [b"[1]", b'"text"', b"1"])
def test_data_that_is_no_object_has_no_fields(data: bytes) -> None:
    assert template_of("$[a]")(message(data)) == "$[a]"


def test_only_who_wants_a_field_needs_data_that_is_json() -> None:
    assert template_of("${x}")(message(b"no JSON", x="1")) == "1"
    with pytest.raises(NodeFailed, match="not JSON"):
        template_of("$[x]")(message(b"no JSON"))
