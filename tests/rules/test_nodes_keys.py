"""Delete, copy and rename keys."""

from __future__ import annotations

import time
from typing import Any

import pytest
from node_bench import passed, refusal

from rpcbroker.rules.errors import BadConfiguration
from rpcbroker.rules.nodes.keys import Keys

DELETE, COPY, RENAME = "transform.TbDeleteKeysNode", "transform.TbCopyKeysNode", "transform.TbRenameKeysNode"
DATA = {"t": 21, "temp_in": 1, "temp_out": [2], "a.b": {"c": None}}
METADATA = {"t": "m", "temp_x": "1", "other": "2"}


@pytest.mark.parametrize(
    ("type_", "configuration", "data", "metadata"),
    [
        (DELETE, {"deleteFrom": "DATA", "keys": ["t", "none"]}, {k: DATA[k] for k in DATA if k != "t"}, METADATA),
        (DELETE, {"fromMetadata": False, "keys": ["temp_.*", "a.b"]}, {"t": 21}, METADATA),
        (DELETE, {"deleteFrom": "METADATA", "keys": ["temp_.*"]}, DATA, {"t": "m", "other": "2"}),
        (DELETE, {"fromMetadata": True, "keys": ["t|other"]}, DATA, {"temp_x": "1"}),
        (DELETE, {"deleteFrom": "DATA", "keys": ["emp", "T"]}, DATA, METADATA),
        (DELETE, {"deleteFrom": "DATA", "keys": []}, DATA, METADATA),
        (DELETE, {"deleteFrom": "DATA", "keys": [".*"]}, {}, METADATA),
        (
            COPY,
            {"copyFrom": "DATA", "keys": ["t", "temp_.+", "a.b", "none"]},
            DATA,
            {**METADATA, "t": "21", "temp_in": "1", "temp_out": "[2]", "a.b": '{"c":null}'},
        ),
        (COPY, {"copyFrom": "METADATA", "keys": ["t", "o.*"]}, {**DATA, "t": "m", "other": "2"}, METADATA),
        (COPY, {"fromMetadata": True, "keys": ["other"]}, {**DATA, "other": "2"}, METADATA),
        (
            RENAME,
            {"renameIn": "DATA", "renameKeysMapping": {"t": "temperature", "none": "x", "a.b": "ab"}},
            {"temp_in": 1, "temp_out": [2], "temperature": 21, "ab": {"c": None}},
            METADATA,
        ),
        (
            RENAME,
            {"renameIn": "METADATA", "renameKeysMapping": {"t": "other", "temp_x": "temp_x"}},
            DATA,
            {"temp_x": "1", "other": "m"},
        ),
        (RENAME, {"fromMetadata": True, "renameKeysMapping": {"t": "u", "u": "v"}}, DATA, {
            "temp_x": "1", "other": "2", "v": "m",
        }),
    ],
)  # fmt: skip
def test_members_are_deleted_copied_and_renamed(
    type_: str, configuration: dict[str, Any], data: Any, metadata: dict[str, str]
) -> None:
    bench = passed(type_, configuration, DATA, metadata=METADATA)
    assert bench.labels == ["Success"]
    assert bench.bodies == [data]
    assert bench.came[0][1].metadata == metadata


@pytest.mark.parametrize(
    ("type_", "configuration"),
    [
        (DELETE, {"deleteFrom": "DATA", "keys": [".*"]}),
        (COPY, {"copyFrom": "DATA", "keys": [".*"]}),
        (COPY, {"copyFrom": "METADATA", "keys": [".*"]}),
        (RENAME, {"renameIn": "DATA", "renameKeysMapping": {"a": "b"}}),
    ],
)
def test_data_that_are_no_object_pass_and_those_that_are_no_json_fail(type_: str, configuration: Any) -> None:
    for data in ([1, 2], 5, "a", None):
        bench = passed(type_, configuration, b"null" if data is None else data)
        assert bench.labels == ["Success"]
        assert bench.bodies == [data]
    for broken in (b"", b"{", b"[" * 65 + b"]" * 65):
        assert passed(type_, configuration, broken).failure.startswith("The message is not JSON: ")


def test_nodes_that_touch_only_metadata_take_any_data() -> None:
    assert passed(DELETE, {"deleteFrom": "METADATA", "keys": ["a"]}, b"{").labels == ["Success"]
    assert passed(RENAME, {"renameIn": "METADATA", "renameKeysMapping": {"a": "b"}}, b"{").labels == ["Success"]


@pytest.mark.parametrize(
    ("type_", "configuration", "said"),
    [
        (DELETE, {"keys": ["a"]}, "there is no deleteFrom, which is DATA or METADATA"),
        (COPY, {"keys": ["a"]}, "there is no copyFrom, which is DATA or METADATA"),
        (RENAME, {"renameKeysMapping": {"a": "b"}}, "there is no renameIn, which is DATA or METADATA"),
        (DELETE, {"deleteFrom": "data", "keys": []}, "$.deleteFrom"),
        (DELETE, {"deleteFrom": "DATA"}, "`keys`"),
        (DELETE, {"deleteFrom": "DATA", "keys": "a"}, "$.keys"),
        (COPY, {"copyFrom": "DATA", "keys": [1]}, "$.keys[0]"),
        (
            COPY,
            {"copyFrom": "DATA", "keys": ["(a"]},
            "the key '(a' is no regular expression that RE2 takes: missing ): (a",
        ),
        (DELETE, {"deleteFrom": "DATA", "keys": ["x", "a(?=b)"]}, "the key 'a(?=b)' is no regular expression"),
        (DELETE, {"deleteFrom": "DATA", "keys": ["(a{0,500}.*){2}"]}, "have more than 500 steps together"),
        (DELETE, {"deleteFrom": "DATA", "keys": ["((a{100}){100}){100}"]}, "is no regular expression"),
        (DELETE, {"deleteFrom": "DATA", "keys": ["." * 1001]}, "have more than 500 steps together"),
        (RENAME, {"renameIn": "DATA", "renameKeysMapping": {}}, "renameKeysMapping is empty"),
        (RENAME, {"renameIn": "DATA"}, "renameKeysMapping"),
        (RENAME, {"renameIn": "DATA", "renameKeysMapping": {"a": 1}}, "$.renameKeysMapping"),
    ],
)
def test_bad_configurations_are_refused_by_field(type_: str, configuration: dict[str, Any], said: str) -> None:
    assert said in refusal(type_, configuration)


def test_a_thousand_plain_keys_and_one_expression_are_taken() -> None:
    keys = Keys([*(f"key {number}" for number in range(1000)), "temp.*"])
    assert "key 999" in keys
    assert "temperature" in keys
    assert "key 1000" not in keys


@pytest.mark.parametrize(
    "expression", ["(a+)+b", "(a|a)*b", "(.*a){20}b", "(a?){80}a{80}", ".*a.{0,25}b.{0,10}c", r"(\w+\s?)*!"]
)
def test_no_expression_takes_long_for_any_key(expression: str) -> None:
    keys = Keys([expression])
    before = time.process_time()
    assert not [key for key in ["a" * 1000] * 64 if key in keys]
    assert time.process_time() - before < 1


def test_keys_longer_than_a_thousand_characters_match_only_as_they_are() -> None:
    long = "a" * 1001
    assert long in Keys([long])
    assert long not in Keys([".*"])
    assert "a" * 1000 in Keys([".*"])


def test_expressions_together_are_limited() -> None:
    with pytest.raises(BadConfiguration, match="more than 500 steps together"):
        Keys(f"sensor_{number}_.*" for number in range(60))


def test_the_metadata_do_not_grow_without_end() -> None:
    bench = passed(COPY, {"copyFrom": "DATA", "keys": ["a"]}, {"a": "x" * 600_000}, metadata={"b": "y" * 600_000})
    assert bench.failure == "The metadata would have more than 1,048,576 characters"
