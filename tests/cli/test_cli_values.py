"""What people type on the command line, made into values."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.cli.values import (
    AddressType,
    BrokerUrlType,
    ChanceType,
    DurationType,
    PinsType,
    ScheduleType,
    call_params,
)
from rpcbroker.simulator.carrier import Schedule

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], None),
        (["null"], None),
        (["true"], True),
        (["-5"], -5),
        (['"text"'], "text"),
        (['{"pin": 7}'], {"pin": 7}),
        (["[1, 2]"], [1, 2]),
        (["pin=7", "enabled=true"], {"pin": 7, "enabled": True}),
        (["name=lamp"], {"name": "lamp"}),
        (["text=a=b"], {"text": "a=b"}),
        (["empty="], {"empty": ""}),
        (["number=NaN"], {"number": "NaN"}),
        (['quoted="7"'], {"quoted": "7"}),
        (["list=[1]"], {"list": [1]}),
        (["größe=5"], {"größe": 5}),
    ],
)
def test_params(words: list[str], params: Any) -> None:
    assert call_params(words) == params


@given(JSON)
def test_any_json_may_be_given(value: Any) -> None:
    import json

    assert call_params([json.dumps(value)]) == value


@given(st.lists(st.text(), max_size=4))
def test_words_are_params_or_a_usage_error(words: list[str]) -> None:
    try:
        params = call_params(words)
    except click.UsageError as error:
        params = error
    assert params is None or isinstance(params, (dict, list, str, int, float, bool, click.UsageError))


@pytest.mark.parametrize(
    "words", [["NaN"], ["[" * 100_000], ["a"], ["a=1", "b"], ["a=1", "a=1"], ["{}", "{}"], [" =1"]]
)
def test_what_is_neither_is_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        call_params(words)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DurationType(), "200ms", 0.2),
        (DurationType(), "0", 0),
        (ChanceType(), "5%", 0.05),
        (ChanceType(), "0.05", 0.05),
        (ChanceType(), "100%", 1),
        (ChanceType(), "0", 0),
        (AddressType(), "host", ("host", 1883)),
        (AddressType(), "host:1", ("host", 1)),
        (AddressType(), "[::1]:8883", ("::1", 8883)),
        (AddressType(), "10.0.0.1:65535", ("10.0.0.1", 65_535)),
        (BrokerUrlType(), "mqtt://host", ("mqtt", "host", 1883)),
        (BrokerUrlType(), "coaps://host/", ("coaps", "host", 5684)),
        (BrokerUrlType(), "http://[::1]:8080", ("http", "::1", 8080)),
        (ScheduleType(), "5s/55s", Schedule(5.0, 55.0)),
        (ScheduleType(), "200ms/1h", Schedule(0.2, 3600.0)),
        (PinsType(), "7", (7,)),
        (PinsType(), "7,11,7", (7, 11)),
    ],
)
def test_options(kind: click.ParamType[Any], text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (DurationType(), "5 parsecs"),
        (DurationType(), "-1s"),
        (ChanceType(), "101%"),
        (ChanceType(), "1.1"),
        (ChanceType(), "-1%"),
        (ChanceType(), "x"),
        (ChanceType(), "nan"),
        (AddressType(), ""),
        (AddressType(), ":1"),
        (AddressType(), "::1"),
        (AddressType(), "host:0"),
        (AddressType(), "host:65536"),
        (AddressType(), "mqtt://host"),
        (BrokerUrlType(), "host"),
        (BrokerUrlType(), "amqp://host"),
        (BrokerUrlType(), "mqtt://"),
        (BrokerUrlType(), "mqtt://host:x"),
        (BrokerUrlType(), "mqtt://host:0"),
        (BrokerUrlType(), "mqtt://host:65536"),
        (BrokerUrlType(), "mqtt://token@host"),
        (BrokerUrlType(), "http://host/api"),
        (BrokerUrlType(), "http://ho st"),
        (BrokerUrlType(), "http://[::1"),
        (ScheduleType(), "5s"),
        (ScheduleType(), "5s/"),
        (ScheduleType(), "0s/5s"),
        (ScheduleType(), "5s/0s"),
        (ScheduleType(), "5s/-5s"),
        (ScheduleType(), "5s/5s/5s"),
        (PinsType(), ""),
        (PinsType(), "7,"),
        (PinsType(), "-7"),
        (PinsType(), "7 11"),
        (PinsType(), ",".join("1" * 1001)),
    ],
)
def test_bad_options(kind: click.ParamType[Any], text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be"):
        kind.convert(text, None, None)
