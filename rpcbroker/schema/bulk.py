"""One request for many devices, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.bulk import Bulk, BulkEntry, BulkState, EntryState
from rpcbroker.schema.calls import CallBody
from rpcbroker.schema.common import MAX_PAGE_SIZE, EpochMs, PageJSON, PartQuery, Text

BEGUN = frozenset(EntryState) - {EntryState.WAITING, EntryState.ABORTED}
"""Only these have a call."""


class BulkCallBody(CallBody, omit_defaults=True, kw_only=True):
    """What each device is asked for; `requestUUID` belongs to the bulk, not here."""

    oneway: Annotated[bool, Meta(description="a command: it has succeeded when the device has it")] = False
    request_uuid: Annotated[
        UUID | msgspec.UnsetType, Meta(description="refused: it belongs to the bulk, beside `request`")
    ] = msgspec.field(default=msgspec.UNSET, name="requestUUID")


class BulkBody(msgspec.Struct, rename="camel", kw_only=True):
    """Which devices, exactly one of `devices`, `type` and `customerId`; for what, and how fast."""

    devices: Annotated[list[UUID] | None, Meta(description="ids, in the order in which they are called")] = None
    type: Annotated[Text | None, Meta(description="all devices of this type, the oldest first")] = None
    customer_id: Annotated[UUID | None, Meta(description="all devices of this customer, the oldest first")] = None
    request: BulkCallBody
    rate: Annotated[
        str,
        Meta(
            description="how many may be called: 50:1 is 50 at once and then 50 a second; empty is no limit",
            extra_json_schema={"pattern": "^$|^[1-9][0-9]{0,8}:[1-9][0-9]{0,8}$", "examples": ["50:1"]},
        ),
    ] = ""
    concurrency: Annotated[
        int | None,
        Meta(description="how many are called at a time; bulk.concurrency if absent", extra_json_schema={"minimum": 1}),
    ] = None
    abort_after_failures: Annotated[
        int | None,
        Meta(description="after so many failures no more are called", extra_json_schema={"minimum": 1}),
    ] = None
    canary: Annotated[
        int,
        Meta(description="so many of the first must all succeed before others are called", ge=0, le=2**31),
    ] = 0
    ignore_unknown: Annotated[bool, Meta(description="leave out what is no device, instead of calling none")] = False
    request_uuid: Annotated[
        UUID | None,
        Meta(description="becomes the id of the bulk; asked again with the same id, it is the same bulk"),
    ] = msgspec.field(default=None, name="requestUUID")


class BulkIdJSON(msgspec.Struct, rename="camel"):
    """A bulk was accepted, and is kept."""

    bulk_id: UUID


class BulkListQuery(PartQuery, kw_only=True):
    """Which part of the list."""

    page_size: Annotated[
        int, Meta(description="how many on a page", extra_json_schema={"minimum": 1, "maximum": MAX_PAGE_SIZE})
    ] = 100


class BulkQuery(BulkListQuery, kw_only=True):
    """Which results."""

    state: Annotated[EntryState | None, Meta(description="only those in this state")] = None


class BulkCountsJSON(msgspec.Struct):
    """How many devices are in which state."""

    total: int
    waiting: int
    running: int
    successful: int
    failed: int
    aborted: int
    unknown: int


class BulkJSON(msgspec.Struct, rename="camel"):
    """One request for many devices. `endedTime` is null while it goes on, also while an aborted one waits for calls."""

    bulk_id: UUID
    state: BulkState
    method: str
    by: Annotated[str, Meta(description="who asked for it: a user's email, or an API key's description")]
    created_time: EpochMs
    ended_time: EpochMs | None
    reason: Annotated[str | None, Meta(description="why it was aborted, for people")]
    counts: BulkCountsJSON


class BulkResultJSON(msgspec.Struct, rename="camel"):
    """What became of the call of one device."""

    device_id: UUID
    device_name: Annotated[str, Meta(description="as it was when the bulk was made")]
    state: EntryState
    reason: Annotated[str | None, Meta(description="a stable word for programs, such as NO_REPLY")]
    rpc_id: Annotated[UUID | None, Meta(description="null: it was not called")]
    response: Annotated[Any, Meta(description="the device's reply")]


class BulkWithResultsJSON(BulkJSON):
    """A bulk and one part of its results, in the order in which the devices are called."""

    results: PageJSON[BulkResultJSON]


def counts_json(bulk: Bulk) -> BulkCountsJSON:
    return BulkCountsJSON(total=bulk.total, **{state.value.lower(): bulk.counts.get(state, 0) for state in EntryState})


def bulk_json(bulk: Bulk) -> BulkJSON:
    return BulkJSON(**_members(bulk))


def bulk_with_results_json(bulk: Bulk, results: PageJSON[BulkResultJSON]) -> BulkWithResultsJSON:
    return BulkWithResultsJSON(**_members(bulk), results=results)


def bulk_result_json(bulk: Bulk, entry: BulkEntry) -> BulkResultJSON:
    return BulkResultJSON(
        device_id=entry.device_id,
        device_name=entry.device_name,
        state=entry.state,
        reason=entry.reason,
        rpc_id=bulk.rpc_id(entry.device_id) if entry.state in BEGUN else None,
        response=msgspec.Raw(entry.response) if entry.response else None,
    )


def _members(bulk: Bulk) -> dict[str, Any]:
    return {
        "bulk_id": bulk.id,
        "state": bulk.state,
        "method": bulk.request.method,
        "by": bulk.user_name,
        "created_time": bulk.created_time,
        "ended_time": bulk.ended_time,
        "reason": bulk.reason,
        "counts": counts_json(bulk),
    }
