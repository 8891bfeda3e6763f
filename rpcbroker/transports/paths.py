"""The paths of the device API, each spelled once, for HTTP and CoAP: `/api/v1/{token}/rpc` and its like.

Features are case-insensitive. A device whose certificate has told who it is leaves the token out, as CoAP allows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

PREFIX = ("api", "v1")
"""What all paths begin with."""


class Feature(Enum):
    """What a path is for."""

    RPC = auto()
    """`rpc`: calls come from here, and questions go there."""
    REPLY = auto()
    """`rpc/{id}`: the reply to a call."""
    PROGRESS = auto()
    """`rpc/{id}/progress`."""
    TELEMETRY = auto()
    ATTRIBUTES = auto()
    UPDATES = auto()
    """`attributes/updates`: what becomes of shared attributes; HTTP only."""
    CLAIM = auto()
    FIRMWARE = auto()
    SOFTWARE = auto()
    PROVISION = auto()
    """`/api/v1/provision`, for strangers: no token."""


class Target(NamedTuple):
    """Where a path leads. `number` is the wire id of a call, 0 where there is none."""

    feature: Feature
    token: str | None
    number: int = 0


class NoSuchPath(ValueError):
    """The path is none of these; the text says why, without the token."""


class BadNumber(NoSuchPath):
    """It would be one, but what stands in the place of a call's id is none."""


_PLAIN = {
    ("rpc",): Feature.RPC,
    ("telemetry",): Feature.TELEMETRY,
    ("attributes",): Feature.ATTRIBUTES,
    ("attributes", "updates"): Feature.UPDATES,
    ("claim",): Feature.CLAIM,
    ("firmware",): Feature.FIRMWARE,
    ("software",): Feature.SOFTWARE,
}
_ID = re.compile(r"-?[0-9]{1,10}", re.ASCII)


def target(segments: Sequence[str], *, has_token: bool = True) -> Target:
    """Where a path leads whose segments are these, behind `/api/v1`. Raises NoSuchPath, BadNumber."""
    if len(segments) == 1 and segments[0].lower() == "provision":
        return Target(Feature.PROVISION, None)
    token, rest = (segments[0], segments[1:]) if has_token and segments else (None, segments)
    words = tuple(segment.lower() for segment in rest)
    feature = _PLAIN.get(words)
    if feature is not None:
        return Target(feature, token)
    if words[:1] == ("rpc",) and (len(words) == 2 or words[2:] == ("progress",)):
        if not _ID.fullmatch(words[1]) or not -(2**31) <= int(words[1]) < 2**31:
            raise BadNumber("rpc/ must be followed by the id of a call, a 32-bit integer")
        return Target(Feature.REPLY if len(words) == 2 else Feature.PROGRESS, token, int(words[1]))
    raise NoSuchPath("behind the token must come rpc, telemetry, attributes or claim")
