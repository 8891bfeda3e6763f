"""What people type, made into values: durations, chances, addresses, pins, parameters of calls."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from rpcbroker.config import parse_duration
from rpcbroker.simulator.carrier import Schedule

MQTT_PORT = 1883
USUAL_PORTS = {"mqtt": MQTT_PORT, "mqtts": 8883, "coap": 5683, "coaps": 5684, "http": 80, "https": 443}
"""By scheme."""
MAX_PINS = 1_000
_NAME = re.compile(r"(?!-)[^=\s{}\[\]\"]+")


class Address(NamedTuple):
    host: str
    port: int


class BrokerUrl(NamedTuple):
    """Where a broker is, and what it speaks there."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @classmethod
    def read(cls, text: str) -> BrokerUrl:
        """Raises ValueError."""
        parts = urlsplit(text)
        port = USUAL_PORTS.get(parts.scheme) if parts.port is None else parts.port
        more = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
        if not port or not parts.hostname or more or not text.isprintable() or " " in text:
            raise ValueError(text)
        return cls(parts.scheme, parts.hostname, port)


class DurationType(click.ParamType[float]):
    """Seconds, from `200ms`, `2s`, `1m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click's usage error."""
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class ChanceType(click.ParamType[float]):
    """0 to 1, from `5%` or `0.05`."""

    name = "chance"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click's usage error."""
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%?)", str(value), re.ASCII)
        chance = float(match[1]) / (100 if match[2] else 1) if match else -1.0
        if not 0 <= chance <= 1:
            self.fail(f"{value!r} must be 0% to 100%, such as 5%", param, ctx)
        return chance


class AddressType(click.ParamType[Address]):
    """HOST, HOST:PORT or [IPv6]:PORT."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Raises click's usage error."""
        if isinstance(value, Address):
            return value
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]@]+))(?::([0-9]{1,5}))?", value)
        port = int(match[3] or MQTT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            self.fail(f"{value!r} must be HOST or HOST:PORT, such as localhost:{MQTT_PORT}", param, ctx)
        return Address(match[1] or match[2], port)


class BrokerUrlType(click.ParamType[BrokerUrl]):
    """`coap://host:port`"""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> BrokerUrl:
        """Raises click's usage error."""
        try:
            return BrokerUrl.read(value)
        except ValueError:
            schemes = ", ".join(USUAL_PORTS)
            self.fail(f"{value!r} must be SCHEME://HOST or SCHEME://HOST:PORT; schemes are {schemes}", param, ctx)


class ScheduleType(click.ParamType[Schedule]):
    """`5s/55s`: so long awake, so long asleep."""

    name = "awake/asleep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Schedule:
        """Raises click's usage error."""
        awake, slash, asleep = str(value).partition("/")
        try:
            schedule = Schedule(parse_duration(awake), parse_duration(asleep))
        except ValueError:
            schedule = Schedule(0.0, 0.0)
        if not slash or not schedule.awake or not schedule.asleep:
            self.fail(f"{value!r} must be two durations above 0, such as 5s/55s", param, ctx)
        return schedule


class PinsType(click.ParamType[tuple[int, ...]]):
    """`7,11,13`."""

    name = "pins"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Raises click's usage error."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", value, re.ASCII) or value.count(",") >= MAX_PINS:
            self.fail(f"{value!r} must be pin numbers with commas between them, such as 7,11", param, ctx)
        return tuple(dict.fromkeys(int(pin) for pin in value.split(",")))


def call_params(words: Sequence[str]) -> Any:
    """What a call's params are, from the words after the method.

    None without any; one JSON text; or an object from key=value, where a value is JSON if it can
    be read as JSON and a string if not. Raises click's usage error.
    """
    if not words:
        return None
    if len(words) == 1:
        try:
            return _json(words[0])
        except ValueError:
            pass
    params: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not _NAME.fullmatch(key):
            raise click.UsageError(_neither(word, alone=len(words) == 1))
        if key in params:
            raise click.UsageError(f"{key!r} is given twice.")
        try:
            params[key] = _json(text)
        except ValueError:
            params[key] = text
    return params


def _neither(word: str, *, alone: bool) -> str:
    if word.startswith("--"):
        return f"There is no option {word.partition('=')[0]}."
    if alone:
        return f"{word!r} is neither key=value nor JSON. A string in JSON has quotes: '\"{word}\"'"
    return f"{word!r} is not key=value."


def _json(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
