"""A call, what is asked of it, and the one table of states that every call lives by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec


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
    PUT_BACK = "put back"
    """The device's connections are closed, and the call begins anew with the next one."""
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
    (_S.DELIVERED, Step.WRITTEN): _S.DELIVERED,  # a persistent call, to be answered still
    (_S.SENT, Step.PUT_BACK): _S.QUEUED,
    (_S.TIMEOUT, Step.PUT_BACK): _S.QUEUED,
} | {
    (state, step): ending
    for state in (_S.QUEUED, _S.SENT, _S.DELIVERED, _S.TIMEOUT)
    for step, ending in _ENDINGS.items()
}
"""(state, step) -> state. A pair that is not here cannot happen to a call and is ignored."""

UNACKNOWLEDGED_STATES = frozenset({_S.QUEUED, _S.SENT, _S.TIMEOUT})
"""A call in one of these is given to the next link that can take calls, under the same wire id."""
FINAL_STATES = frozenset(_ENDINGS.values())
"""A call in one of these has ended. A one-way call has ended in DELIVERED, too."""


class SubmitStrategy(StrEnum):
    """What a call waits for before it goes to its device. The words are those of the wire."""

    BURST = "BURST"
    """Nothing."""
    ON_ACK = "SEQUENTIAL_ON_ACK_FROM_DEVICE"
    """All older calls of the device must be acknowledged."""
    ON_RESPONSE = "SEQUENTIAL_ON_RESPONSE_FROM_DEVICE"
    """All older calls of the device must have ended."""


class CallRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a caller asks for. `params` is compact JSON text; times are seconds or epoch ms as named.

    `expiration_time` wins over `timeout` and is not clamped. `connect_timeout` is how long the call
    may wait for something that can take it; None is as long as the call lives. `once` says that `request_id` is
    the caller's: whoever asks for the same again under this id gets the result of the first call.
    `strategy` None is the device's.
    """

    method: str
    params: bytes = b"null"
    oneway: bool = False
    persistent: bool = False
    timeout: float | None = None
    expiration_time: int | None = None
    connect_timeout: float | None = None
    retries: int | None = None
    strategy: SubmitStrategy | None = None
    request_id: UUID | None = None
    once: bool = False
    additional_info: Any = None


class Call(msgspec.Struct, frozen=True, gc=False):
    """A request on its way to a device. Every call makes one, and a msgspec.Struct is made fast.

    `wire_id` is the positive 32-bit number that the device sees; it is never used twice for one
    device, restarts included. `params` is compact JSON text; times are epoch ms. Without a reply the call ends at
    `expiration_time`; reports of progress move that, up to `latest_time`. `retries` is what the caller asked for,
    `max_retries` what it gets.
    """

    rpc_id: UUID
    wire_id: int
    tenant_id: UUID
    device_id: UUID
    method: str
    params: bytes
    oneway: bool
    created_time: int
    expiration_time: int
    latest_time: int
    max_retries: int
    strategy: SubmitStrategy = SubmitStrategy.BURST
    persistent: bool = False
    retries: int | None = None
    additional_info: Any = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """How a call ended well. `payload` is JSON text, or empty: one-way, or an empty reply.

    Of a persistent call: that it is `kept`; how it ends shows later.
    """

    rpc_id: UUID
    payload: bytes = b""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of the wish to cancel a call.

    `cancelled` is False for one that had ended. `delivered_before`: it had gone to the device, or may have.
    `device_told`: the device has been told that nobody waits for it any more.
    """

    rpc_id: UUID
    cancelled: bool
    delivered_before: bool
    device_told: bool
