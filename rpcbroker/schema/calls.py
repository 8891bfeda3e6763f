"""Calls to devices, and what became of them. Bodies are read more leniently than it says here: see docs/rest.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, CallState, Cancellation, SubmitStrategy
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import CallRecord, KeptCall, Mark
from rpcbroker.schema.common import MAX_PAGE_SIZE, MAX_TEXT, EntityId, EpochMs, PageQuery, PartQuery, Plain


class CallBody(msgspec.Struct, rename="camel", kw_only=True):
    """What a device is asked for."""

    method: str
    params: Annotated[Any, Meta(description="any JSON; null if absent")] = None
    timeout: Annotated[int | None, Meta(description="milliseconds that the call may take")] = None
    expiration_time: Annotated[EpochMs, Meta(description="epoch ms; wins over timeout")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    connect_timeout: (
        Annotated[float, Meta(description="milliseconds to wait for a device that is offline; 0: do not", ge=0)] | None
    ) = None
    retries: Annotated[int | None, Meta(description="deliveries without acknowledgement before giving up")] = None
    request_uuid: Annotated[
        UUID | msgspec.UnsetType,
        Meta(description="becomes the id of the call; asked again with the same id, it is the same call"),
    ] = msgspec.field(default=msgspec.UNSET, name="requestUUID")
    submit_strategy: Annotated[SubmitStrategy | None, Meta(description="the device's if absent")] = None
    additional_info: Annotated[Any, Meta(description="any JSON; never sent to the device")] = None
    persistent: Annotated[
        bool, Meta(description="keep the call until it ends, and say what became of it when asked")
    ] = False


class RpcIdJSON(msgspec.Struct, rename="camel"):
    """A persistent call was accepted, and is kept."""

    rpc_id: UUID


class CancellationJSON(msgspec.Struct, rename="camel"):
    """What became of the wish to cancel a call."""

    rpc_id: UUID
    cancelled: Annotated[bool, Meta(description="false: it had ended before")]
    delivered_before: Annotated[bool, Meta(description="it had gone to the device, or may have")]
    device_told: Annotated[bool, Meta(description="the device knows that nobody waits for it any more")]


def cancellation_json(cancellation: Cancellation) -> CancellationJSON:
    return CancellationJSON(
        cancellation.rpc_id, cancellation.cancelled, cancellation.delivered_before, cancellation.device_told
    )


# -- persistent calls, as the wire has always had them


class RpcListQuery(PageQuery, kw_only=True):
    """Which persistent calls of a device; `textSearch` is read and not used."""

    rpc_status: (
        Annotated[
            Literal["QUEUED", "SENT", "DELIVERED", "SUCCESSFUL", "TIMEOUT", "EXPIRED", "FAILED", ""],
            Meta(description="only those in this state"),
        ]
        | None
    ) = None


class RpcContentJSON(msgspec.Struct):
    """Method and params."""

    method: str
    params: Annotated[str, Meta(description="JSON text")]


class RpcRequestJSON(msgspec.Struct, rename="camel"):
    """What was asked for."""

    id: UUID
    tenant_id: EntityId
    device_id: EntityId
    oneway: bool
    expiration_time: EpochMs
    body: RpcContentJSON
    persisted: bool
    retries: int | None


class RpcJSON(msgspec.Struct, rename="camel"):
    """A persistent call."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    device_id: EntityId
    expiration_time: EpochMs
    request: RpcRequestJSON
    response: Annotated[Any, Meta(description="the device's reply, null while there is none")]
    status: CallState
    additional_info: Any


def rpc_json(kept: KeptCall) -> RpcJSON:
    return _rpc(kept.call, kept.record.state, kept.response)


def rpc_text(call: Call, state: CallState, response: bytes) -> bytes:
    """The same of a call in this state, as JSON text; `response` is JSON text, or empty."""
    return jsontext.encode(_rpc(call, state, response))


def _rpc(call: Call, state: CallState, response: bytes | None) -> RpcJSON:
    tenant, device = EntityId("TENANT", call.tenant_id), EntityId("DEVICE", call.device_id)
    return RpcJSON(
        id=EntityId("RPC", call.rpc_id),
        created_time=call.created_time,
        tenant_id=tenant,
        device_id=device,
        expiration_time=call.expiration_time,
        request=RpcRequestJSON(
            id=call.rpc_id,
            tenant_id=tenant,
            device_id=device,
            oneway=call.oneway,
            expiration_time=call.expiration_time,
            body=RpcContentJSON(call.method, call.params.decode()),
            persisted=True,
            retries=call.retries,
        ),
        response=msgspec.Raw(response) if response else None,
        status=state,
        additional_info=call.additional_info,
    )


# -- what became of calls


class CallsQuery(PartQuery, kw_only=True):
    """Which calls."""

    device_id: Annotated[UUID | None, Meta(description="only those to this device")] = None
    state: Annotated[CallState | None, Meta(description="only those in this state")] = None
    method: Annotated[Plain, Meta(description="only those of this method", max_length=MAX_TEXT)] | None = None
    since: Annotated[EpochMs | None, Meta(description="only those that were made then or later")] = None
    page_size: Annotated[
        int, Meta(description="how many on a page", extra_json_schema={"minimum": 1, "maximum": MAX_PAGE_SIZE})
    ] = 100


class CallRecordJSON(msgspec.Struct, rename="camel"):
    """A call, and what became of it. `endedTime` is null while it goes on."""

    rpc_id: UUID
    device_id: UUID
    device_name: Annotated[str | None, Meta(description="null: the device is gone")]
    method: str
    one_way: bool
    persistent: bool
    state: CallState
    reason: Annotated[Reason | None, Meta(description="why it ended without a reply")]
    device_error: Annotated[bool, Meta(description="the device answered with an object that has a member error")]
    created_time: EpochMs
    expiration_time: EpochMs
    ended_time: EpochMs | None
    wire_id: Annotated[int, Meta(description="the id that the device sees")]


class StepJSON(msgspec.Struct):
    """Something that happened to a call."""

    ts: EpochMs
    ms: Annotated[int, Meta(description="milliseconds since the call was accepted")]
    step: Mark
    detail: Annotated[str | None, Meta(description="for people: half a sentence that goes on after the step")]


class TimelineJSON(CallRecordJSON):
    """All that happened to a call."""

    steps: list[StepJSON]
    omitted: Annotated[int, Meta(description="steps that were too many to keep: all those before the last one")]


def call_record_json(record: CallRecord, device_name: str | None) -> CallRecordJSON:
    return CallRecordJSON(**_members(record, device_name))


def timeline_json(record: CallRecord, device_name: str | None) -> TimelineJSON:
    accepted = record.moments[0][0] if record.moments else record.created_time
    steps = [StepJSON(ts, ts - accepted, Mark(mark), detail) for ts, mark, detail in record.moments]
    return TimelineJSON(**_members(record, device_name), steps=steps, omitted=record.omitted)


def _members(record: CallRecord, device_name: str | None) -> dict[str, Any]:
    return {
        "rpc_id": record.rpc_id,
        "device_id": record.device_id,
        "device_name": device_name,
        "method": record.method,
        "one_way": record.oneway,
        "persistent": record.persistent,
        "state": record.state,
        "reason": record.reason,
        "device_error": record.device_error,
        "created_time": record.created_time,
        "expiration_time": record.expiration_time,
        "ended_time": record.ended_time,
        "wire_id": record.wire_id,
    }
