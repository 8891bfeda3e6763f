"""One TOML file and the environment, made into checked `core.settings.Settings` whose origins are known.

Durations are written "500ms", "10s", "5m", "2h", "7d", sizes "512B", "64KiB", "1MiB"; a bare number
is seconds or bytes. Every key can be overridden by `RPCBROKER_<SECTION>_<KEY>`. A little over 400 lines: reading
and showing each kind of value stand side by side, so that they stay each other's inverse.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from rpcbroker.core.setting import Duration, Rate, Size, UrlPath, parse_rate, show_rate
from rpcbroker.core.settings import Settings
from rpcbroker.outside.web_hosts import WebHosts
from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt.topics import check_filter

PREFIX = "RPCBROKER_"
NOT_SETTINGS = frozenset({"RPCBROKER_ADMIN_EMAIL", "RPCBROKER_ADMIN_PASSWORD", "RPCBROKER_URL", "RPCBROKER_API_KEY"})
"""Variables of our prefix that belong to others: the first start, and the command line."""

LONGEST = 36_500 * 86_400.0
"""No duration is longer than a hundred years: timers are kept far from the limits of floats."""
LARGEST = 2**53
"""No integer is larger: beyond it JSON numbers and floats lose digits."""

_FILTERS = frozenset({"mqtt.anonymous_deny"})
"""Arrays of topic filters."""

_HOSTS = frozenset({"rules.web_hosts"})
"""Arrays of hosts that may be called."""

_NOT_ABOVE = (
    ("rpc.min_timeout", "rpc.max_timeout"),
    ("rpc.min_timeout", "rpc.default_timeout"),
    ("rpc.default_timeout", "rpc.max_timeout"),
    ("bulk.concurrency", "bulk.max_concurrency"),
    ("auth.token_lifetime", "auth.refresh_lifetime"),
    ("auth.lockout_first", "auth.lockout_max"),
)
"""Pairs that only make sense in this order."""

_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]*)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,16})\s*([A-Za-z]*)", re.ASCII)
_PASSWORD = re.compile(r"(://[^/@:\s]*:).*(?=@)|(password=)[^&\"\s]*", re.IGNORECASE)
_END_OF_DOCUMENT = "(at end of document)"


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings, and where each came from.

    `origins`: "rpc.min_timeout" -> "default", "file", or the variable that set it.
    `warnings`: lines for the operator; nothing that keeps the broker from starting.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


class Line(NamedTuple):
    """One setting as people read it; `value` is TOML, without passwords; `live`: a reload changes it."""

    section: str
    key: str
    value: str
    origin: str
    why: str
    live: bool


class _Key(NamedTuple):
    """What is known of one setting."""

    section: str
    name: str
    kind: Any
    default: Any
    why: str
    live: bool
    least: float | None
    most: float | None

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def label(self) -> str:
        return f"[{self.section}] {self.name}"

    @property
    def variable(self) -> str:
        return f"{PREFIX}{self.section}_{self.name}".upper()


def _keys() -> Iterator[_Key]:
    for section, cls in get_type_hints(Settings).items():
        hints = get_type_hints(cls)
        for item in dataclasses.fields(cls):
            yield _Key(section, item.name, hints[item.name], item.default, **item.metadata)


_KEYS = {key.path: key for key in _keys()}


# -- values


def parse_duration(value: object) -> Duration:
    """Seconds. Raises ValueError, which says what is allowed."""
    seconds = math.nan
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        unit = _SECONDS.get(match[2] or "s") if match else None
        if match and unit:
            seconds = float(Decimal(match[1]) * unit)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and -1 <= value <= LONGEST:
        seconds = float(value)
    if not 0 <= seconds <= LONGEST:
        raise ValueError(
            'must be a duration from 0 to 36500d: a number and one of ms, s, m, h, d, such as "10s"; '
            "a bare number is seconds"
        )
    return Duration(seconds)


def parse_size(value: object) -> Size:
    """Bytes. Raises ValueError, which says what is allowed."""
    size = -1
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = _BYTES.get(match[2] or "B") if match else None
        if match and unit:
            size = int(match[1]) * unit
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if not 0 <= size <= LARGEST:
        raise ValueError(
            'must be a size: a whole number and one of B, KiB, MiB, GiB, such as "64KiB"; a bare number is bytes'
        )
    return Size(size)


def show_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as the same value."""
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(exact, _SECONDS[unit])
        if count and not rest:
            return f"{int(count)}{unit}"
    return f"{exact.normalize():f}s"


def show_size(size: int) -> str:
    """The shortest text that `parse_size` reads as the same value."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if size and size % _BYTES[unit] == 0), "B")
    return f"{size // _BYTES[unit]}{unit}"


def _parse_int(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError(f"must be a whole number from 0 to {LARGEST}")
    return value


def _parse_float(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value.strip(), re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST:
        raise ValueError(f"must be a number from 0 to {LARGEST}")
    return float(value)


def _parse_bool(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _parse_str(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be a string in one line")
    return value


def _parse_path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[\w.~-]+)*", value, re.ASCII):
        raise ValueError("must be a path such as /mqtt, of letters, digits and any of - . _ ~, or empty")
    return value


def _parse_strings(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, str) and item.strip() and item.isprintable() for item in items
    ):
        raise ValueError('must be an array of strings, none of them empty, such as ["tcp:1883"]')
    return tuple(item.strip() for item in items)


_PARSERS = {
    Duration: parse_duration,
    Size: parse_size,
    Rate: parse_rate,
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool,
    str: _parse_str,
    UrlPath: _parse_path,
    tuple[str, ...]: _parse_strings,
}


def parse(kind: Any, value: object) -> Any:
    """A value of a setting whose type is `kind`. Raises ValueError, which says what is allowed."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"must be one of {', '.join(get_args(kind))}")
        return value
    return _PARSERS[kind](value)


def show(kind: Any, value: Any) -> str:
    """A setting's value as TOML, with its unit."""
    if kind is Duration:
        return f'"{show_duration(value)}"'
    if kind is Size:
        return f'"{show_size(value)}"'
    if kind is Rate:
        return f'"{show_rate(value)}"'
    return _shown(value)


def _shown(value: object) -> str:
    """A value that somebody wrote, in one short line and without a password."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    text = _PASSWORD.sub(r"\1\2***", "".join(char if char.isprintable() else "?" for char in text))
    return text if len(text) <= 120 else f"{text[:117]}..."


# -- reading


def load(path: str | None, environ: Mapping[str, str]) -> Configuration:
    """Read the file, if one is given, then the environment over it. Raises ConfigError."""
    values = {key.path: key.default for key in _KEYS.values()}
    origins = dict.fromkeys(values, "default")
    if path is not None:
        for key, value in _entries(_read(path)):
            values[key.path] = _checked(key, value, key.label)
            origins[key.path] = "file"
    variables = {key.variable: key for key in _KEYS.values()}
    for name, key in variables.items():
        if name in environ:
            text = environ[name]
            given = text.split() if key.kind == tuple[str, ...] else text
            values[key.path] = _checked(key, given, f"{key.label} ({name})")
            origins[key.path] = name
    _check_together(values)
    sections = {
        section: cls(**{key.name: values[key.path] for key in _KEYS.values() if key.section == section})
        for section, cls in get_type_hints(Settings).items()
    }
    warnings = tuple(
        f"The environment variable {name} sets nothing{_near(name, variables, PREFIX) or '.'}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in variables and name not in NOT_SETTINGS
    )
    return Configuration(settings=Settings(**sections), origins=origins, warnings=warnings)


def describe(configuration: Configuration) -> tuple[Line, ...]:
    """Every setting in the order of the sections, with its unit, origin and reason."""
    return tuple(
        Line(
            key.section,
            key.name,
            show(key.kind, getattr(getattr(configuration.settings, key.section), key.name)),
            configuration.origins[key.path],
            key.why,
            key.live,
        )
        for key in _KEYS.values()
    )


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode())
        raise ConfigError(f"{path}: is not TOML: it is not UTF-8 ({place})") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: is not TOML that can be read: it is nested too deeply") from None
    except ValueError as error:
        said = str(error).replace(_END_OF_DOCUMENT, f"({_place(text)})")
        raise ConfigError(f"{path}: is not TOML: {said}") from None


def _place(before: str) -> str:
    return f"at line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[_Key, object]]:
    """What a file sets. Raises ConfigError for what we do not know."""
    sections = list(get_type_hints(Settings))
    for section, members in document.items():
        if section not in sections:
            kind = f"[{section}]" if isinstance(members, dict) else section
            homes = [key.label for key in _KEYS.values() if key.name == section]
            if homes and not isinstance(members, dict):
                raise ConfigError(f"{kind}: must stand in a section; is {' or '.join(homes)} meant?")
            raise ConfigError(f"{kind}: there is no such section{_near(section, sections) or _all(sections)}")
        if not isinstance(members, dict):
            raise ConfigError(f"{section}: is a section, not a key: write [{section}], then key = value")
        for name, value in members.items():
            key = _KEYS.get(f"{section}.{name}")
            if key is None:
                names = [key.name for key in _KEYS.values() if key.section == section]
                raise ConfigError(f"[{section}] {name}: there is no such key{_near(name, names) or _all(names)}")
            yield key, value


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What was probably meant, as the end of a sentence; empty when nothing is alike.

    All names start with `prefix`, which makes nothing alike.
    """
    names = [name.removeprefix(prefix) for name in known]
    matches = difflib.get_close_matches(name.removeprefix(prefix), names, 1)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""


def _all(known: Iterable[str]) -> str:
    return f"; there are {', '.join(known)}"


def _checked(key: _Key, value: object, label: str) -> Any:
    try:
        parsed = parse(key.kind, value)
    except ValueError as error:
        raise ConfigError(f"{label}: {_shown(value)} is not allowed: it {error}") from None
    if key.kind in (Duration, Size, int, float):
        if key.least is not None and parsed < key.least:
            raise ConfigError(f"{label}: {_shown(value)} is not allowed: it must be at least {key.least:g}")
        if not parsed and key.least is None:
            raise ConfigError(f"{label}: {_shown(value)} is not allowed: it must be greater than 0")
        if key.most is not None and parsed > key.most:
            raise ConfigError(f"{label}: {_shown(value)} is not allowed: it must be at most {key.most:.15g}")
    if key.path in _FILTERS:
        for each in parsed:
            try:
                check_filter(each)
            except WireError as error:
                raise ConfigError(f"{label}: {_shown(each)} is not allowed: {error.message}") from None
    if key.path in _HOSTS:
        try:
            WebHosts(parsed)
        except ValueError as error:
            raise ConfigError(f"{label}: {error}") from None
    return parsed


def _check_together(values: Mapping[str, Any]) -> None:
    for low, high in _NOT_ABOVE:
        if values[low] > values[high]:
            key, other = _KEYS[low], _KEYS[high]
            raise ConfigError(
                f"{key.label}: {show(key.kind, values[low])} is not allowed: "
                f"it must be at most {other.label}, which is {show(other.kind, values[high])}"
            )
