"""The configuration: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.config import (
    LARGEST,
    LONGEST,
    ConfigError,
    describe,
    load,
    parse,
    parse_duration,
    parse_size,
    show,
    show_duration,
    show_size,
)
from rpcbroker.core.setting import Duration, Rate, Size, UrlPath
from rpcbroker.core.settings import Settings


def from_text(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> Any:
    path = tmp_path / "rpcbroker.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path), environ or {})


# -- values


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604_800),
        ("1.5 s", 1.5),
        (" 3s ", 3),
        ("0", 0),
        ("12", 12),
        (12, 12),
        (0.25, 0.25),
        ("36500d", LONGEST),
    ],
)
def test_durations(given: object, seconds: float) -> None:
    assert parse_duration(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        "",
        "s",
        "10 parsecs",
        "10S",
        "-1s",
        "1e3s",
        "1,5s",
        "nan",
        "inf",
        "10s 5s",
        "٣s",
        "9" * 5000,
        "36501d",
        -1,
        -0.5,
        math.nan,
        math.inf,
        10**400,
        True,
        None,
        ["1s"],
        {},
    ],
)
def test_bad_durations_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(given)


@pytest.mark.parametrize(
    ("given", "size"),
    [("64KiB", 65_536), ("1MiB", 1 << 20), ("1GiB", 1 << 30), ("512B", 512), ("512", 512), (512, 512), ("2 KiB", 2048)],
)
def test_sizes(given: object, size: int) -> None:
    assert parse_size(given) == size


@pytest.mark.parametrize(
    "given", ["", "KiB", "64KB", "64kib", "1.5MiB", "-1B", "9" * 5000, "9" * 16 + "GiB", 1.0, -1, 2**60, True, None]
)
def test_bad_sizes_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(given)


@given(st.floats(min_value=0, max_value=LONGEST).map(lambda x: round(x, 9)))
def test_a_duration_that_was_shown_is_read_as_the_same(seconds: float) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**9), st.sampled_from(["ms", "s"]))
def test_a_duration_in_whole_units_is_shown_without_a_point(count: int, unit: str) -> None:
    assert "." not in show_duration(parse_duration(f"{count}{unit}"))


@given(st.integers(min_value=0, max_value=LARGEST))
def test_a_size_that_was_shown_is_read_as_the_same(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize("given", ["", "/mqtt", "/devices/ws", "/a-b_c.d~1"])
def test_paths(given: str) -> None:
    assert parse(UrlPath, given) == given


@pytest.mark.parametrize(
    "given", ["mqtt", "/", "/mqtt/", "//mqtt", "/a b", "/a?b", "/%61", "/\u00e4", "/a\n", "\n", None, 1]
)
def test_bad_paths_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        parse(UrlPath, given)


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text()))
def test_no_value_raises_anything_but_value_error(value: object) -> None:
    for kind in (Duration, Size, Rate, UrlPath, Literal["a", "b"], int, float, bool, str, tuple[str, ...]):
        with contextlib.suppress(ValueError):
            parse(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 5, 5),
        (int, "5", 5),
        (float, 2, 2.0),
        (float, "2.5", 2.5),
        (bool, True, True),
        (bool, "FALSE", False),
        (str, "", ""),
        (tuple[str, ...], "tcp:1883", ("tcp:1883",)),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (tuple[str, ...], [], ()),
        (Rate, "", ()),
        (Rate, "200:1, 6000:60", ((200, 1.0), (6000, 60.0))),
        (Literal["open", "off"], "off", "off"),
    ],
)
def test_other_kinds(kind: Any, value: object, expected: object) -> None:
    assert parse(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 1.0),
        (int, True),
        (int, "1.0"),
        (int, -1),
        (float, "x"),
        (float, math.nan),
        (float, True),
        (bool, 1),
        (bool, "yes"),
        (str, 1),
        (str, "two\nlines"),
        (tuple[str, ...], [1]),
        (tuple[str, ...], ["a", " "]),
        (tuple[str, ...], ""),
        (tuple[str, ...], {"a": "b"}),
        (Rate, "200"),
        (Rate, "200:1,300:1"),
        (Rate, "0:1"),
        (Rate, "1:0"),
        (Rate, "1:1,"),
        (Rate, 5),
        (Literal["open", "off"], "closed"),
        (Literal["open", "off"], ["off"]),
    ],
)
def test_other_kinds_are_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Duration, 86_400.0, '"1d"'),
        (Duration, 0.0, '"0s"'),
        (Duration, 0.0005, '"0.0005s"'),
        (Size, 65_536, '"64KiB"'),
        (Size, 0, '"0B"'),
        (int, 7, "7"),
        (bool, True, "true"),
        (tuple[str, ...], ("a",), '["a"]'),
        (Rate, ((200, 1.0), (6000, 60.0)), '"200:1,6000:60"'),
        (Rate, (), '""'),
        (Literal["open", "off"], "off", '"off"'),
    ],
)
def test_values_are_shown_as_toml(kind: Any, value: object, text: str) -> None:
    assert show(kind, value) == text


# -- where values come from


def test_without_file_and_environment_everything_is_default() -> None:
    configuration = load(None, {})
    assert configuration.settings == Settings()
    assert set(configuration.origins.values()) == {"default"}
    assert configuration.warnings == ()


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    configuration = from_text(
        tmp_path,
        '[rpc]\nmin_timeout = "1s"\ndefault_timeout = 2\n[http]\nlisten = "tcp:80"\n',
        {"RPCBROKER_RPC_MIN_TIMEOUT": "500ms"},
    )
    assert configuration.settings.rpc.min_timeout == 0.5
    assert configuration.settings.rpc.default_timeout == 2
    assert configuration.settings.http.listen == ("tcp:80",)
    assert configuration.origins["rpc.min_timeout"] == "RPCBROKER_RPC_MIN_TIMEOUT"
    assert configuration.origins["rpc.default_timeout"] == "file"
    assert configuration.origins["rpc.max_timeout"] == "default"


def test_a_dotted_key_is_a_key_of_its_section(tmp_path: Path) -> None:
    assert from_text(tmp_path, "rpc.max_retries = 0").settings.rpc.max_retries == 0


@pytest.mark.parametrize(
    ("text", "listen"),
    [("", ()), ("  ", ()), ("tcp:1", ("tcp:1",)), ("tcp:1  ssl:2\ttcp:3", ("tcp:1", "ssl:2", "tcp:3"))],
)
def test_lists_in_the_environment_are_separated_by_white_space(text: str, listen: tuple[str, ...]) -> None:
    assert load(None, {"RPCBROKER_MQTT_LISTEN": text}).settings.mqtt.listen == listen


def test_unknown_variables_of_our_prefix_are_warned_of_and_others_are_not() -> None:
    environ = {
        "RPCBROKER_RPC_MIN_TIMOUT": "1s",
        "RPCBROKER_QQQQ": "1",
        "RPCBROKER_ADMIN_EMAIL": "a@b",
        "RPCBROKER_ADMIN_PASSWORD": "secret",
        "RPCBROKER_URL": "http://x",
        "RPCBROKER_API_KEY": "rpcb_x",
        "PATH": "/bin",
    }
    configuration = load(None, environ)
    assert configuration.settings == Settings()
    assert configuration.warnings == (
        "The environment variable RPCBROKER_QQQQ sets nothing.",
        "The environment variable RPCBROKER_RPC_MIN_TIMOUT sets nothing; did you mean RPCBROKER_RPC_MIN_TIMEOUT?",
    )


# -- what is refused, and how


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[mqt]\n", "[mqt]: there is no such section; did you mean mqtt?"),
        (
            "[zzzzzz]\n",
            (
                "[zzzzzz]: there is no such section; there are server, log, http, http_devices, mqtt, coap, rpc, bulk, "
                "rules, feed, wamp, limits, telemetry, attributes, auth, enrolment, audit, store"
            ),
        ),
        ("mqtt = 1", "mqtt: is a section, not a key: write [mqtt], then key = value"),
        ("[[mqtt]]\n", "mqtt: is a section, not a key: write [mqtt], then key = value"),
        ("min_timeout = 1", "min_timeout: must stand in a section; is [rpc] min_timeout meant?"),
        (
            "[mqtt]\nmax_paket_size = 1",
            "[mqtt] max_paket_size: there is no such key; did you mean max_packet_size?",
        ),
        ('[mqtt]\nmax_packet_size = "64KB"', '[mqtt] max_packet_size: "64KB" is not allowed: it must be a size'),
        ("[mqtt]\nmax_packet_size = -1", "[mqtt] max_packet_size: -1 is not allowed: it must be a size"),
        ("[mqtt]\nmax_packet_size = 0", "[mqtt] max_packet_size: 0 is not allowed: it must be at least 20"),
        ('[mqtt]\nack_timeout = "0s"', '[mqtt] ack_timeout: "0s" is not allowed: it must be greater than 0'),
        ('[rules]\nweb_hosts = ["x", "http://y"]', "[rules] web_hosts: 'http://y' is no host"),
        ("[rpc]\nmax_retries = 1.5", "[rpc] max_retries: 1.5 is not allowed: it must be a whole number"),
        ("[rpc]\nmin_timeout = nan", "[rpc] min_timeout: NaN is not allowed: it must be a duration"),
        ("[rpc]\nmin_timeout = 1979-05-27", '[rpc] min_timeout: "1979-05-27" is not allowed'),
        ("[rpc.min_timeout]\na = 1", '[rpc] min_timeout: {"a": 1} is not allowed'),
        ("[store]\nurl = 5", "[store] url: 5 is not allowed: it must be a string"),
        (
            '[rpc]\nmin_timeout = "20s"\nmax_timeout = "15s"',
            '[rpc] min_timeout: "20s" is not allowed: it must be at most [rpc] max_timeout, which is "15s"',
        ),
        (
            "[auth]\nlockout_first = 9\nlockout_max = 8",
            '[auth] lockout_first: "9s" is not allowed: it must be at most [auth] lockout_max',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_bad_variable_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"RPCBROKER_RPC_MIN_TIMEOUT": "5 parsecs"})
    assert str(caught.value).startswith('[rpc] min_timeout (RPCBROKER_RPC_MIN_TIMEOUT): "5 parsecs" is not allowed')


def test_a_good_variable_does_not_excuse_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_retries"):
        from_text(tmp_path, "[rpc]\nmax_retries = true", {"RPCBROKER_RPC_MAX_RETRIES": "1"})


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"[rpc]\nmin_timeout = \n", "line 2, column"),
        (b"[rpc]\nmin_timeout = [", "line 2, column 16"),
        (b"[rpc]\n[rpc]\n", "line 2, column"),
        (b"# ok\n[rpc]\nx = '\xff'", "line 3, column 6"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"x = " + b"9" * 10_000, "is not TOML"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(tmp_path: Path, data: bytes, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path}/rpcbroker.toml: is not TOML")
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "why"), [("missing.toml", "No such file"), ("", "directory"), ("a\0b", "null byte")])
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(f"{tmp_path}/{name}", {})


@given(st.text())
def test_no_file_raises_anything_but_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode(errors="replace"))
    said = "one line"
    try:
        load(str(path), {})
    except ConfigError as error:
        said = str(error)
    assert len(said.splitlines()) == 1


# -- showing it


def test_describe_has_every_setting_with_unit_and_origin() -> None:
    lines = {f"{line.section}.{line.key}": line for line in describe(load(None, {"RPCBROKER_RPC_MIN_TIMEOUT": "2"}))}
    assert set(lines) == set(load(None, {}).origins)
    assert lines["rpc.min_timeout"].value == '"2s"'
    assert lines["rpc.min_timeout"].origin == "RPCBROKER_RPC_MIN_TIMEOUT"
    assert lines["mqtt.max_packet_size"].value == '"64KiB"'
    assert lines["mqtt.max_packet_size"].origin == "default"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@db/x",
        "postgresql://:hunter2@db",
        "p://me:a@hunter2@db",
        "p://***@db?Password=hunter2&x=y",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    shown = next(line for line in describe(load(None, {"RPCBROKER_STORE_URL": url})) if line.key == "url")
    assert "hunter2" not in shown.value
    assert "***@db" in shown.value
