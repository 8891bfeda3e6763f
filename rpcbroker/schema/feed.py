"""The feed over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.calls import CallState
from rpcbroker.schema.common import MAX_TEXT, EpochMs, Plain


class FeedQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which events. Each that is given must fit."""

    device_id: Annotated[UUID | None, Meta(description="only those of this device")] = None
    method: (
        Annotated[
            Plain,
            Meta(
                description="only those of calls of this method; a * stands for any text, as in the rules of API keys",
                max_length=MAX_TEXT,
            ),
        ]
        | None
    ) = None
    state: Annotated[CallState | None, Meta(description="only those of calls that are in this state then")] = None
    payloads: Annotated[
        bool, Meta(description="whether params, replies and progress are told, where they may be seen")
    ] = False
    last_event_id: (
        Annotated[
            Plain,
            Meta(
                description="go on behind the event with this id, for those who cannot send the header Last-Event-ID, "
                "which wins",
                max_length=MAX_TEXT,
            ),
        ]
        | None
    ) = None


class SnapshotQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Of what."""

    device_id: Annotated[UUID | None, Meta(description="of this device; of all if absent")] = None


class PresentCountsJSON(msgspec.Struct):
    """How many there are, also of those that are left out."""

    devices: int
    connected: int
    callable: int
    calls: int


class PresentDeviceJSON(msgspec.Struct, rename="camel"):
    """A device that was needed since the start of the broker, and the three facts of its presence."""

    device_id: UUID
    device_name: str
    type: str
    connected: bool
    connected_time: Annotated[EpochMs | None, Meta(description="since when that holds; null: it was never otherwise")]
    callable: bool
    callable_time: EpochMs | None
    seen_time: Annotated[EpochMs | None, Meta(description="when it sent something last")]


class PresentCallJSON(msgspec.Struct, rename="camel"):
    """A call that goes on."""

    device_id: UUID
    device_name: str
    rpc_id: UUID
    method: str
    oneway: bool
    persistent: bool
    state: CallState
    ms: Annotated[int, Meta(description="milliseconds since it was accepted")]


class SnapshotJSON(msgspec.Struct, rename="camel"):
    """How things are, and the number of the last event that this knows of."""

    seq: Annotated[int, Meta(description="the events of the feed behind it are news")]
    ts: EpochMs
    counts: PresentCountsJSON
    truncated: Annotated[bool, Meta(description="some devices, or calls, are left out")]
    devices: Annotated[list[PresentDeviceJSON], Meta(description="the connected ones first")]
    calls: list[PresentCallJSON]
