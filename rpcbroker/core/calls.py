"""A call, what is asked of it, and the one table of states that every call lives by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class CallState(StrEnum):
    """Where a call is. The words are those of the REST interface."""

    QUEUED = "QUEUED"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    SUCCESSFUL = "SUCCESSFUL"
    TIMEOUT = "TIMEOUT"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    DELETED = "DELETED"


class Step(StrEnum):
    """What can happen to a call."""

    WRITTEN = "written"
    """A link wrote it, and the device will acknowledge it."""
    ACKNOWLEDGED = "acknowledged"
    """The device has it: it said so, or the link has no way of saying so."""
    UNACKNOWLEDGED = "unacknowledged"
    """The device did not acknowledge it in time."""
    REPLIED = "replied"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_S = CallState
_ENDINGS = {
    Step.REPLIED: _S.SUCCESSFUL,
    Step.FAILED: _S.FAILED,
    Step.EXPIRED: _S.EXPIRED,
    Step.CANCELLED: _S.DELETED,
}

TRANSITIONS: dict[tuple[CallState, Step], CallState] = {
    (_S.QUEUED, Step.WRITTEN): _S.SENT,
    (_S.QUEUED, Step.ACKNOWLEDGED): _S.DELIVERED,
    (_S.SENT, Step.WRITTEN): _S.SENT,  # again, on a new link
    (_S.SENT, Step.ACKNOWLEDGED): _S.DELIVERED,
    (_S.SENT, Step.UNACKNOWLEDGED): _S.TIMEOUT,
    (_S.TIMEOUT, Step.WRITTEN): _S.SENT,
    (_S.TIMEOUT, Step.ACKNOWLEDGED): _S.DELIVERED,
    (_S.DELIVERED, Step.ACKNOWLEDGED): _S.DELIVERED,
} | {
    (state, step): ending
    for state in (_S.QUEUED, _S.SENT, _S.DELIVERED, _S.TIMEOUT)
    for step, ending in _ENDINGS.items()
}
"""(state, step) -> state. A pair that is not here cannot happen to a call and is ignored."""

UNACKNOWLEDGED_STATES = frozenset({_S.QUEUED, _S.SENT, _S.TIMEOUT})
"""A call in one of these is given to the next link that can take calls, under the same wire id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a caller asks for. `params` is compact JSON text; times are seconds or epoch ms as named.

    `expiration_time` wins over `timeout` and is not clamped. `connect_timeout` is how long the call
    may wait for something that can take it; None is as long as the call lives.
    """

    method: str
    params: bytes = b"null"
    oneway: bool = False
    timeout: float | None = None
    expiration_time: int | None = None
    connect_timeout: float | None = None
    retries: int | None = None
    request_id: UUID | None = None
    additional_info: Any = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request on its way to a device.

    `wire_id` is the positive 32-bit number that the device sees; it is never used twice for one
    device, restarts included. `params` is compact JSON text; times are epoch ms.
    """

    rpc_id: UUID
    wire_id: int
    device_id: UUID
    method: str
    params: bytes
    oneway: bool
    created_time: int
    expiration_time: int
    max_retries: int
    additional_info: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended well. `payload` is JSON text, or empty: one-way, or an empty reply."""

    rpc_id: UUID
    payload: bytes = b""
