"""What the feed tells of: facts of the broker, made into events with topics and fields.

Listens to the broker only while somebody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.bulk import EntryState, visible_bulks
from rpcbroker.core.calls import FINAL_STATES, Call, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.events import (
    AttributesKept,
    BulkChanged,
    CallAdvanced,
    CallDeleted,
    CallOpened,
    CallProgressed,
    CallRefused,
    CallRouted,
    CallSettled,
    MessageRecorded,
    NearlyMissed,
    PresenceChanged,
    QuestionAnswered,
    TelemetryKept,
)
from rpcbroker.core.feed import Feed, Happened
from rpcbroker.core.model import Device
from rpcbroker.core.presence import Presence
from rpcbroker.core.records import CallRecord, Mark

TOPICS: Mapping[str, tuple[str, ...]] = {
    "call": tuple(state.lower() for state in CallState),
    "device": ("connected", "disconnected", "callable", "not_callable", "near_miss", "asked"),
    "values": ("telemetry", "attributes"),
    "bulk": (),
    "rule": (),
}
"""All there are: what comes after `rpcbroker.`, and, if anything does, after the id that follows; the id is that of a
device then."""

_STEPS = {
    CallState.QUEUED: Mark.PUT_BACK,
    CallState.SENT: Mark.SENT,
    CallState.TIMEOUT: Mark.UNACKNOWLEDGED,
    CallState.SUCCESSFUL: Mark.ANSWERED,
    CallState.EXPIRED: Mark.EXPIRED,
    CallState.FAILED: Mark.FAILED,
    CallState.DELETED: Mark.CANCELLED,
}
"""What has happened to a call that is in a state now, in the words of the time line; DELIVERED may mean more than one
thing."""
_BY_CHAIN = frozenset({Mark.PASSED, Mark.CHANGED})


class FeedSources:
    """All of them."""

    def __init__(self, broker: Broker, feed: Feed, *, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._feed = feed
        self._now_ms = now_ms
        self._listeners: dict[Any, Callable[[Any], None]] = {
            CallRouted: lambda event: self._call(
                event.call, event.record, CallState.QUEUED, Mark.ACCEPTED, params=True
            ),
            CallOpened: self._opened,
            CallAdvanced: self._advanced,
            CallProgressed: self._progressed,
            CallSettled: self._settled,
            CallRefused: self._refused,
            CallDeleted: self._deleted,
            PresenceChanged: self._presence,
            NearlyMissed: self._missed,
            QuestionAnswered: self._question,
            BulkChanged: self._bulk,
            MessageRecorded: self._rule,
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
        record: CallRecord,
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
        fields = call_fields(record, device, now=self._now_ms())
        fields |= {"state": state.value, "step": step.value, **more}
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

    def _opened(self, event: CallOpened) -> None:
        """What came through a rule chain was accepted before."""
        marks = [Mark(mark) for _, mark, _ in event.record.moments]
        step = Mark.ACCEPTED if _BY_CHAIN.isdisjoint(marks) else marks[-1]
        self._call(event.call, event.record, CallState.QUEUED, step, params=True)

    def _advanced(self, event: CallAdvanced) -> None:
        self._call(event.call, event.record, event.state, _STEPS.get(event.state) or _delivered(event.record))

    def _deleted(self, event: CallDeleted) -> None:
        self._call(event.call, event.record, CallState.DELETED, Mark.CANCELLED, forgotten=True)

    def _progressed(self, event: CallProgressed) -> None:
        self._call(event.call, event.record, CallState.DELIVERED, Mark.PROGRESS, payloads={"progress": event.payload})

    def _settled(self, event: CallSettled) -> None:
        self._call(
            event.call,
            event.record,
            event.state,
            _STEPS[event.state] if event.state in FINAL_STATES else Mark.HANDED_OVER,
            reason=event.reason,
            transport=event.transport,
            ended=True,
            payloads={"reply": event.payload} if event.payload else {},
        )

    def _refused(self, event: CallRefused) -> None:
        record = event.record
        step = Mark(record.moments[-1][1])
        self._call(event.call, record, record.state, step, reason=event.reason, ended=True, params=True)

    # -- devices

    def _device(self, device: Device, word: str, fields: dict[str, Any]) -> None:
        if not self._feed.is_watched(device.tenant_id):
            return
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
        if event.connected is not None:
            word, cause = ("connected", "disconnected")[not event.connected], presence.connected.cause
        elif event.callable is not None:
            word, cause = ("callable", "not_callable")[not event.callable], presence.callable.cause
        else:
            return
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
        device = self._broker.known_device(device_id) if self._feed.settings.payloads else None
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
                    "method": bulk.request.method,
                    "state": bulk.state.value,
                    "counts": {state.lower(): bulk.counts.get(state, 0) for state in EntryState}
                    | {"total": bulk.total},
                    "reason": bulk.reason,
                    "endedTime": bulk.ended_time,
                },
                visible=lambda principal: visible_bulks(principal).fits(bulk),
            )
        )

    # -- rules

    def _rule(self, event: MessageRecorded) -> None:
        if not self._feed.is_watched(event.tenant_id):
            return
        (chain_id, chain), (node_id, node), (kind, about) = event.chain, event.node, event.about
        self._feed.tell(
            Happened(
                tenant_id=event.tenant_id,
                topic=f"rpcbroker.rule.{chain_id}",
                fields={
                    "chainId": str(chain_id),
                    "chainName": chain,
                    "nodeId": str(node_id),
                    "nodeName": node,
                    "direction": event.direction,
                    "messageId": str(event.message_id),
                    "messageType": event.message_type,
                    "entityType": kind,
                    "entityId": str(about),
                    "label": event.label,
                    "error": event.error,
                },
                payloads={"data": jsontext.encode(event.data), "metadata": jsontext.encode(event.metadata)},
            )
        )


def _delivered(record: CallRecord) -> Mark:
    """Over some links what is written has arrived, and nobody acknowledges it."""
    marks = (Mark(mark) for _, mark, _ in reversed(record.moments))
    return next((mark for mark in marks if mark in (Mark.SENT, Mark.ACKNOWLEDGED)), Mark.ACKNOWLEDGED)


def call_fields(record: CallRecord, device: Device | None, *, now: int) -> dict[str, Any]:
    """A call, as it is told; `ms` counts from when it was accepted to `now`, epoch ms."""
    accepted = record.moments[0][0] if record.moments else record.created_time
    return {
        "deviceId": str(record.device_id),
        "deviceName": device.name if device else None,
        "rpcId": str(record.rpc_id),
        "method": record.method,
        "oneway": record.oneway,
        "persistent": record.persistent,
        "state": record.state.value,
        "ms": now - accepted,
    }


def presence_fields(presence: Presence) -> dict[str, Any]:
    """The three facts of a device, as they are told."""
    return {
        "connected": presence.connected.value,
        "connectedTime": presence.connected.time,
        "callable": presence.callable.value,
        "callableTime": presence.callable.time,
        "seenTime": presence.seen_time,
    }
