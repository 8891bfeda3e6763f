"""The topics of the device API, each spelled once, and what a device means by them.

The RPC and attribute topics come in families: the long names, and short ones with the format named
or left to the server. `/p` is Protobuf, which is not spoken here: such filters are granted, for the
clients that subscribe to all, and what is published there is refused.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

import msgspec


class Family(NamedTuple):
    """Topics that belong together; those that end in `/` are followed by an id."""

    name: str
    rpc_request: str
    rpc_response: str
    rpc_progress: str
    rpc_cancel: str
    attributes: str
    attributes_request: str
    attributes_response: str
    telemetry: str
    json: bool = True


def _short(suffix: str, *, json: bool = True) -> Family:
    return Family(
        f"v2{suffix}",
        f"v2/r/req{suffix}/",
        f"v2/r/res{suffix}/",
        f"v2/r/prog{suffix}/",
        f"v2/r/cancel{suffix}/",
        f"v2/a{suffix}",
        f"v2/a/req{suffix}/",
        f"v2/a/res{suffix}/",
        f"v2/t{suffix}",
        json,
    )


V1 = Family(
    "v1",
    "v1/devices/me/rpc/request/",
    "v1/devices/me/rpc/response/",
    "v1/devices/me/rpc/progress/",
    "v1/devices/me/rpc/cancel/",
    "v1/devices/me/attributes",
    "v1/devices/me/attributes/request/",
    "v1/devices/me/attributes/response/",
    "v1/devices/me/telemetry",
)
FAMILIES = (V1, _short(""), _short("/j"), _short("/p", json=False))

CLAIM = "v1/devices/me/claim"
FIRMWARE_ERROR, SOFTWARE_ERROR = "v2/fw/error", "v2/sw/error"

GATEWAY = "v1/gateway/"
"""What all topics of a gateway begin with."""
GATEWAY_CONNECT = GATEWAY + "connect"
GATEWAY_DISCONNECT = GATEWAY + "disconnect"
GATEWAY_TELEMETRY = GATEWAY + "telemetry"
GATEWAY_ATTRIBUTES = GATEWAY + "attributes"
GATEWAY_ATTRIBUTES_REQUEST = GATEWAY + "attributes/request"
GATEWAY_ATTRIBUTES_RESPONSE = GATEWAY + "attributes/response"
GATEWAY_RPC = GATEWAY + "rpc"
GATEWAY_CLAIM = GATEWAY + "claim"
GATEWAY_FILTERS = frozenset({GATEWAY_ATTRIBUTES, GATEWAY_ATTRIBUTES_RESPONSE, GATEWAY_RPC, GATEWAY_DISCONNECT})

PROVISION_REQUEST = "/provision/request"
PROVISION_RESPONSE = "/provision/response"

RPC_REQUEST_FILTER = V1.rpc_request + "+"
"""Who subscribes to this, or to its like of another family, can be called."""

RPC_FILTERS = {family.rpc_request + "+": family for family in FAMILIES}
ATTRIBUTE_FILTERS = {family.attributes: family for family in FAMILIES}
RESERVED = ("v1/devices/", "v1/gateway", "v2/", "/provision/")
"""Topics that begin so are the server's, whether there is such a one or not: no client ever gets them from another."""

GRANTED_FILTERS = (
    frozenset(RPC_FILTERS)
    | frozenset(ATTRIBUTE_FILTERS)
    | frozenset(family.rpc_response + "+" for family in FAMILIES)
    | frozenset(family.rpc_cancel + "+" for family in FAMILIES)
    | frozenset(family.attributes_response + "+" for family in FAMILIES)
    | frozenset({"v2/fw/response/+/chunk/+", FIRMWARE_ERROR, "v2/sw/response/+/chunk/+", SOFTWARE_ERROR})
    | GATEWAY_FILTERS
)
_GRANTED_WITH_ID = frozenset(
    prefix
    for family in FAMILIES
    if family.json
    for prefix in (family.rpc_response, family.rpc_cancel, family.attributes_response)
)
_CHUNK_REQUEST = re.compile(r"v2/(fw|sw)/request/[^/]+/chunk/[^/]+")
_ID = re.compile(r"-?[0-9]{1,10}")
_BEYOND = 2**31
"""The least that is no 32-bit integer."""


class Uplink(Enum):
    """What a device means by publishing to a topic."""

    REPLY = auto()
    PROGRESS = auto()
    ASK = auto()
    TELEMETRY = auto()
    ATTRIBUTES = auto()
    ATTRIBUTES_REQUEST = auto()
    CLAIM = auto()
    FIRMWARE = auto()
    SOFTWARE = auto()
    GATEWAY = auto()


class Meaning(msgspec.Struct, frozen=True, gc=False):
    """`number` is the id at the end of the topic, 0 where there is none."""

    uplink: Uplink
    family: Family
    number: int = 0


_PLAIN = (
    {family.telemetry: Meaning(Uplink.TELEMETRY, family) for family in FAMILIES}
    | {family.attributes: Meaning(Uplink.ATTRIBUTES, family) for family in FAMILIES}
    | {CLAIM: Meaning(Uplink.CLAIM, V1)}
)
_WITH_ID = (
    {family.rpc_response: (Uplink.REPLY, family) for family in FAMILIES}
    | {family.rpc_progress: (Uplink.PROGRESS, family) for family in FAMILIES}
    | {family.rpc_request: (Uplink.ASK, family) for family in FAMILIES}
    | {family.attributes_request: (Uplink.ATTRIBUTES_REQUEST, family) for family in FAMILIES}
)


UPLINKS = (*(f"{prefix}{{id}}" for prefix in _WITH_ID), *_PLAIN)
"""What devices publish to, as people write it: `{id}` stands for a 32-bit integer."""


class BadTopicId(ValueError):
    """The topic should end in a 32-bit integer and does not."""


def uplink(topic: str) -> Meaning | None:
    """What `topic` means; None if it is none of these. Raises BadTopicId."""
    meaning = _PLAIN.get(topic)
    if meaning is not None:
        return meaning
    end = topic.rfind("/") + 1
    row = _WITH_ID.get(topic[:end])
    if row is not None:
        text = topic[end:]
        number = int(text) if _ID.fullmatch(text) else _BEYOND
        if not -_BEYOND <= number < _BEYOND:
            raise BadTopicId(f"{topic[:end]} must be followed by a 32-bit integer")
        return Meaning(*row, number)
    if topic.startswith(GATEWAY):
        return Meaning(Uplink.GATEWAY, V1)
    if topic.startswith("v2/") and (chunk := _CHUNK_REQUEST.fullmatch(topic)):
        return Meaning(Uplink.FIRMWARE if chunk[1] == "fw" else Uplink.SOFTWARE, V1)
    return None


def resembles(topic: str) -> bool:
    """Whether a topic or filter that is none of these may have been meant for one."""
    return topic.lstrip("/")[:3].lower() in ("v1/", "v2/")


def is_granted(topic_filter: str) -> bool:
    """Whether a device may subscribe to this filter: the exact ones, or a response or cancel with a concrete id."""
    if topic_filter in GRANTED_FILTERS:
        return True
    end = topic_filter.rfind("/") + 1
    return topic_filter[:end] in _GRANTED_WITH_ID and topic_filter[end:].isdecimal() and len(topic_filter) - end <= 10
