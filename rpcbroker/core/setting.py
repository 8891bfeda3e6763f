"""What a setting is: its kinds of values, its reason, its bounds."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any, NewType

Duration = NewType("Duration", float)
Size = NewType("Size", int)
Rate = NewType("Rate", tuple[tuple[int, float], ...])
"""`200:1,6000:60` as ((200, 1.0), (6000, 60.0)): so many in so many seconds, and all must allow; () is no limit."""

UrlPath = NewType("UrlPath", str)
"""A path of ours, without anything that would have to be coded; empty is none."""


_RATE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})", re.ASCII)


def parse_rate(value: object) -> Rate:
    """`200:1,6000:60` as ((200, 1.0), (6000, 60.0)), empty as (). Raises ValueError, which says what is allowed."""
    parts = value.split(",") if isinstance(value, str) and value.strip() else []
    matches = [_RATE.fullmatch(part.strip()) for part in parts]
    pairs = tuple((int(match[1]), float(match[2])) for match in matches if match and int(match[1]) and int(match[2]))
    if not isinstance(value, str) or len(pairs) != len(parts) or len({seconds for _, seconds in pairs}) != len(pairs):
        raise ValueError(
            'must be a rate such as "200:1,6000:60": a count, a colon and seconds, each number of seconds once; '
            "empty is no limit"
        )
    return Rate(pairs)


def show_rate(rate: Rate) -> str:
    """The text of a rate, such as `200:1,6000:60`."""
    return ",".join(f"{count}:{seconds:g}" for count, seconds in rate)


def setting(
    default: Any, why: str, *, live: bool = False, least: float | None = None, most: float | None = None
) -> Any:
    """A field with the reason that `conf/rpcbroker.toml` gives for it.

    `live`: a reload changes it in the running broker; any other needs a restart. `least` and `most`
    bound a number; without `least` it must be greater than 0, for that would switch the broker off by a back door.
    """
    if isinstance(default, list):
        default = tuple(default)
    return field(default=default, metadata={"why": why, "live": live, "least": least, "most": most})
