"""Facts in the past tense, told to whoever listens: the record of presence today, rules and feeds later.

An event is told after the state has changed, in the order of its sequence number. Nobody's failure
to listen disturbs the broker, and an event that nobody listens for is never made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from twisted.logger import Logger

from rpcbroker.core.bulk import Bulk
from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.model import Device, Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.presence import Presence
from rpcbroker.core.records import CallRecord
from rpcbroker.core.values import Posted, Value


class Event(msgspec.Struct, frozen=True, gc=False):
    """A fact, and its number among all that were told: higher than that of any before it."""

    sequence: int


class CallRouted(Event, frozen=True):
    """A call was accepted and is in the rule chain; it is opened when a node gives it to its device."""

    call: Call
    record: CallRecord


class CallOpened(Event, frozen=True):
    """A call was accepted and waits. `record` is its record here and below, with all that has happened to it."""

    call: Call
    record: CallRecord


class CallAdvanced(Event, frozen=True):
    """A call went on to another state that is not its end."""

    call: Call
    record: CallRecord
    state: CallState


class CallProgressed(Event, frozen=True):
    """The device is at it; `payload` is the JSON text of its interim answer."""

    call: Call
    record: CallRecord
    payload: bytes


class CallRefused(Event, frozen=True):
    """A call was not accepted: its device had too many, it had expired, or nothing could take it at once.

    Or no node of the rule chain gave it to a device. The last moment of `record` tells.
    """

    call: Call
    record: CallRecord
    reason: Reason | None


class CallSettled(Event, frozen=True):
    """Nobody waits for the call any more.

    `payload` is the reply's JSON text, if there was one; `transport` the protocol of the link that
    took the call, None if none did; `seconds` is how long the call has waited.
    """

    call: Call
    record: CallRecord
    state: CallState
    reason: Reason | None
    payload: bytes
    transport: str | None
    seconds: float


class NearlyMissed(Event, frozen=True):
    """A device nearly got something right: a reply that came too late, a topic with a slash too many."""

    device: Device
    miss: NearMiss
    detail: str


class QuestionAnswered(Event, frozen=True):
    """A device asked the server (client-side RPC) over `transport`; `reason` says why it got an error, if it did."""

    device: Device
    method: str
    transport: str
    reason: Reason | None


class ProvisioningEnded(Event, frozen=True):
    """A stranger asked to become a device; `status` is how that ended, in the words of the wire."""

    status: str


class PresenceChanged(Event, frozen=True):
    """What is known of a device's presence is not what it was.

    `connected` is None unless it connected (also once more) or disconnected, `callable` unless it began or ceased to be
    callable. With both None it was seen, or another of its connections is the reason now.
    """

    device: Device
    presence: Presence
    connected: bool | None = None
    callable: bool | None = None


class AttributesChanged(Event, frozen=True):
    """An application wrote attributes of a device, or deleted those with these keys."""

    device: Device
    scope: Scope
    values: Mapping[str, Value]
    deleted: Sequence[str]


class TelemetryKept(Event, frozen=True):
    """A device's telemetry is kept, whoever sent it. `posted` are times (epoch ms), each with values by their keys."""

    device_id: UUID
    posted: Posted


class AttributesKept(Event, frozen=True):
    """Attributes of a device are written or `deleted`, whoever did that; the values of those that changed."""

    device_id: UUID
    scope: Scope
    values: Mapping[str, Value]
    deleted: Sequence[str]


class BulkChanged(Event, frozen=True):
    """A bulk began, went on or ended, and that is written."""

    bulk: Bulk


class MessageRecorded(Event, frozen=True):
    """A message of the rules came to a node that records (`direction` IN), or left it (OUT) under `label`.

    `data`, `metadata` (JSON) and `error` may be cut off. `about` is the type and the id of what it is about.
    """

    tenant_id: UUID
    chain: tuple[UUID, str]
    node: tuple[UUID, str]
    direction: str
    message_id: UUID
    message_type: str
    about: tuple[str, UUID]
    label: str | None
    error: str | None
    data: str
    metadata: str


class CallDeleted(Event, frozen=True):
    """A persistent call that had ended is forgotten; `payload` is what it was answered with, as JSON text."""

    call: Call
    record: CallRecord
    payload: bytes


class DeviceExpelled(Event, frozen=True):
    """A device was deleted, or has other credentials: what was kept for its old self is not for anybody."""

    device_id: UUID


EventT = TypeVar(
    "EventT",
    CallRouted,
    CallOpened,
    CallRefused,
    CallAdvanced,
    CallProgressed,
    CallSettled,
    NearlyMissed,
    QuestionAnswered,
    ProvisioningEnded,
    PresenceChanged,
    AttributesChanged,
    TelemetryKept,
    AttributesKept,
    BulkChanged,
    MessageRecorded,
    CallDeleted,
    DeviceExpelled,
)


class EventBus:
    """Who listens for what."""

    _log = Logger()

    def __init__(self) -> None:
        self._listeners: dict[type[Any], tuple[Callable[[Any], object], ...]] = {}
        self._sequence = 0

    def __contains__(self, kind: type[EventT]) -> bool:
        """Whether anybody listens for it; `emit` asks by itself, which for what happens most is late."""
        return kind in self._listeners

    def listen(self, kind: type[EventT], listener: Callable[[EventT], object]) -> Callable[[], None]:
        """Tell `listener` of each event of `kind` from now on; what comes back ends that."""
        self._listeners[kind] = (*self._listeners.get(kind, ()), listener)
        return lambda: self._forget(kind, listener)

    def _forget(self, kind: type[Any], listener: Callable[[Any], object]) -> None:
        left = list(self._listeners.pop(kind, ()))
        if listener in left:
            left.remove(listener)
        if left:
            self._listeners[kind] = tuple(left)

    def emit(self, kind: type[EventT], *fields: Any) -> None:
        """Make the event of these fields, if anybody listens, and tell them."""
        listeners = self._listeners.get(kind)
        if not listeners:
            return
        self._sequence += 1
        event = kind(self._sequence, *fields)
        for listener in listeners:
            try:
                listener(event)
            except Exception:
                self._log.failure("a listener for {kind} failed", kind=kind.__name__)
