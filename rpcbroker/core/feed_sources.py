"""What the feed tells of: facts of the broker, made into events with topics and fields.

Listens to the broker only while somebody watches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.bulk import visible_bulks
from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import (
    AttributesKept,
    BulkChanged,
    CallAdvanced,
    CallDeleted,
    CallOpened,
    CallProgressed,
    CallRefused,
    CallSettled,
    NearlyMissed,
    PresenceChanged,
    QuestionAnswered,
    TelemetryKept,
)
from rpcbroker.core.feed import Feed, Happened
from rpcbroker.core.model import Device
from rpcbroker.core.presence import Presence
from rpcbroker.core.records import Mark

_STEPS = {
    CallState.QUEUED: Mark.PUT_BACK,
    CallState.SENT: Mark.SENT,
    CallState.DELIVERED: Mark.ACKNOWLEDGED,
    CallState.TIMEOUT: Mark.UNACKNOWLEDGED,
    CallState.SUCCESSFUL: Mark.ANSWERED,
    CallState.EXPIRED: Mark.EXPIRED,
    CallState.FAILED: Mark.FAILED,
    CallState.DELETED: Mark.CANCELLED,
}
"""What has happened to a call that is in a state now, in the words of the time line."""


class FeedSources:
    """All of them."""

    def __init__(self, broker: Broker, feed: Feed, *, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._feed = feed
        self._now_ms = now_ms
        self._listeners: dict[Any, Callable[[Any], None]] = {
            CallOpened: lambda event: self._call(event.call, CallState.QUEUED, Mark.ACCEPTED, params=True),
            CallAdvanced: lambda event: self._call(event.call, event.state, _STEPS[event.state]),
            CallProgressed: self._progressed,
            CallSettled: self._settled,
            CallRefused: self._refused,
            CallDeleted: lambda event: self._call(event.call, CallState.DELETED, Mark.CANCELLED),
            PresenceChanged: self._presence,
            NearlyMissed: self._missed,
            QuestionAnswered: self._question,
            BulkChanged: self._bulk,
            TelemetryKept: self._telemetry,
            AttributesKept: self._attributes,
        }
        self._ends: list[Callable[[], None]] = []
        feed.listening = self._listen

    def _listen(self, anybody: bool) -> None:
        if anybody:
            self._ends = [self._broker.events.listen(kind, listener) for kind, listener in self._listeners.items()]
            return
        for end in self._ends:
            end()
        self._ends = []

    # -- calls

    def _call(
        self,
        call: Call,
        state: CallState,
        step: Mark,
        *,
        reason: Reason | None = None,
        params: bool = False,
        **more: Any,
    ) -> None:
        if not self._feed.is_watched(call.tenant_id):
            return
        device = self._broker.known_device(call.device_id)
        payloads: dict[str, bytes] = {"params": call.params} if params else {}
        payloads |= more.pop("payloads", {})
        fields: dict[str, Any] = {
            "deviceId": str(call.device_id),
            "deviceName": device.name if device else None,
            "rpcId": str(call.rpc_id),
            "method": call.method,
            "oneway": call.oneway,
            "persistent": call.persistent,
            "state": state.value,
            "step": step.value,
            "ms": self._now_ms() - call.created_time,
            **more,
        }
        if reason is not None:
            fields["reason"] = reason.value
        self._feed.tell(
            Happened(
                tenant_id=call.tenant_id,
                topic=f"rpcbroker.call.{call.device_id}.{state.lower()}",
                fields=fields,
                about=call.device_id,
                device=device,
                method=call.method,
                payloads=payloads,
            )
        )

    def _progressed(self, event: CallProgressed) -> None:
        self._call(event.call, CallState.DELIVERED, Mark.PROGRESS, payloads={"progress": event.payload})

    def _settled(self, event: CallSettled) -> None:
        handed_over = event.state is CallState.DELIVERED
        self._call(
            event.call,
            event.state,
            Mark.HANDED_OVER if handed_over else _STEPS[event.state],
            reason=event.reason,
            transport=event.transport,
            ended=True,
            payloads={"reply": event.payload} if event.payload else {},
        )

    def _refused(self, event: CallRefused) -> None:
        state = CallState.EXPIRED if event.reason is Reason.EXPIRED else CallState.FAILED
        self._call(event.call, state, Mark.REFUSED, reason=event.reason, ended=True, params=True)

    # -- devices

    def _device(self, device: Device, word: str, fields: dict[str, Any]) -> None:
        self._feed.tell(
            Happened(
                tenant_id=device.tenant_id,
                topic=f"rpcbroker.device.{device.id}.{word}",
                fields={"deviceId": str(device.id), "deviceName": device.name, **fields},
                about=device.id,
                device=device,
            )
        )

    def _presence(self, event: PresenceChanged) -> None:
        presence, device = event.presence, event.device
        if not self._feed.is_watched(device.tenant_id):
            return
        if event.connected is None:
            word, cause = ("callable", "not_callable")[not presence.callable.value], presence.callable.cause
        else:
            word, cause = ("connected", "disconnected")[not event.connected], presence.connected.cause
        self._device(device, word, {"cause": cause, **presence_fields(presence)})

    def _missed(self, event: NearlyMissed) -> None:
        self._device(event.device, "near_miss", {"miss": event.miss.value, "detail": event.detail})

    def _question(self, event: QuestionAnswered) -> None:
        asked: dict[str, Any] = {"method": event.method, "transport": event.transport}
        if event.reason is not None:
            asked["reason"] = event.reason.value
        self._device(event.device, "asked", asked)

    # -- values

    def _telemetry(self, event: TelemetryKept) -> None:
        self._values(
            event.device_id,
            "telemetry",
            lambda: {"values": [{"ts": ts, "values": values} for ts, values in event.posted]},
        )

    def _attributes(self, event: AttributesKept) -> None:
        self._values(
            event.device_id,
            "attributes",
            lambda: {"scope": event.scope.value, "values": event.values, "deleted": list(event.deleted)},
        )

    def _values(self, device_id: UUID, word: str, fields: Callable[[], dict[str, Any]]) -> None:
        device = self._broker.known_device(device_id)
        if device is None or not self._feed.is_watched(device.tenant_id, device_id, values=True):
            return
        told = jsontext.decode(jsontext.encode(fields()))  # values may be JSON text that was not decoded yet
        self._feed.tell(
            Happened(
                tenant_id=device.tenant_id,
                topic=f"rpcbroker.values.{device_id}.{word}",
                fields={"deviceId": str(device_id), "deviceName": device.name, **told},
                about=device_id,
                device=device,
                values=True,
            )
        )

    # -- bulks

    def _bulk(self, event: BulkChanged) -> None:
        bulk = event.bulk
        self._feed.tell(
            Happened(
                tenant_id=bulk.tenant_id,
                topic=f"rpcbroker.bulk.{bulk.id}",
                fields={
                    "bulkId": str(bulk.id),
                    "state": bulk.state.value,
                    "total": bulk.total,
                    "counts": {state.value: count for state, count in bulk.counts.items()},
                    "reason": bulk.reason,
                },
                visible=lambda principal: visible_bulks(principal).fits(bulk),
            )
        )


def presence_fields(presence: Presence) -> dict[str, Any]:
    """The three facts of a device, as they are told."""
    return {
        "connected": presence.connected.value,
        "connectedTime": presence.connected.time,
        "callable": presence.callable.value,
        "callableTime": presence.callable.time,
        "seenTime": presence.seen_time,
    }
