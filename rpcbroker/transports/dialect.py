"""The topics of the device API, each spelled once, and what a device may do with them."""

from __future__ import annotations

import re
from enum import Enum, auto

TELEMETRY = "v1/devices/me/telemetry"
ATTRIBUTES = "v1/devices/me/attributes"
ATTRIBUTES_REQUEST = "v1/devices/me/attributes/request/"
ATTRIBUTES_RESPONSE = "v1/devices/me/attributes/response/"
RPC_REQUEST = "v1/devices/me/rpc/request/"
RPC_RESPONSE = "v1/devices/me/rpc/response/"

GATEWAY = "v1/gateway/"
"""What a gateway's topics begin with."""
GATEWAY_CONNECT = GATEWAY + "connect"
GATEWAY_DISCONNECT = GATEWAY + "disconnect"
GATEWAY_TELEMETRY = GATEWAY + "telemetry"
GATEWAY_ATTRIBUTES = GATEWAY + "attributes"
GATEWAY_ATTRIBUTES_REQUEST = GATEWAY + "attributes/request"
GATEWAY_ATTRIBUTES_RESPONSE = GATEWAY + "attributes/response"
GATEWAY_RPC = GATEWAY + "rpc"
GATEWAY_CLAIM = GATEWAY + "claim"

RPC_REQUEST_FILTER = RPC_REQUEST + "+"
"""Who subscribes to this can be called."""

GRANTED_FILTERS = frozenset(
    {
        ATTRIBUTES,
        ATTRIBUTES_RESPONSE + "+",
        RPC_REQUEST_FILTER,
        RPC_RESPONSE + "+",
        GATEWAY_ATTRIBUTES,
        GATEWAY_ATTRIBUTES_RESPONSE,
        GATEWAY_RPC,
        GATEWAY_DISCONNECT,
    }
)
_GRANTED_WITH_ID = re.compile(rf"(?:{RPC_RESPONSE}|{ATTRIBUTES_RESPONSE})[0-9]{{1,10}}")
_ID = re.compile(r"-?[0-9]{1,10}")


class Uplink(Enum):
    """What a device means by publishing to a topic."""

    REPLY = auto()
    ASK = auto()
    TELEMETRY = auto()
    ATTRIBUTES = auto()
    ATTRIBUTES_REQUEST = auto()
    UNKNOWN = auto()


_PLAIN = {TELEMETRY: Uplink.TELEMETRY, ATTRIBUTES: Uplink.ATTRIBUTES}
_WITH_ID = (
    (RPC_RESPONSE, Uplink.REPLY),
    (RPC_REQUEST, Uplink.ASK),
    (ATTRIBUTES_REQUEST, Uplink.ATTRIBUTES_REQUEST),
)


class BadTopicId(ValueError):
    """The topic should end in a 32-bit integer and does not."""


def uplink(topic: str) -> tuple[Uplink, int]:
    """What `topic` means, and the id at its end (0 where there is none). Raises BadTopicId."""
    for prefix, meaning in _WITH_ID:
        if topic.startswith(prefix):
            text = topic[len(prefix) :]
            if not _ID.fullmatch(text) or not -(2**31) <= int(text) < 2**31:
                raise BadTopicId(f"{prefix} must be followed by a 32-bit integer")
            return meaning, int(text)
    return _PLAIN.get(topic, Uplink.UNKNOWN), 0


def is_granted(topic_filter: str) -> bool:
    """Whether a device may subscribe to this filter: the exact ones, or a response with a concrete id."""
    return topic_filter in GRANTED_FILTERS or bool(_GRANTED_WITH_ID.fullmatch(topic_filter))
