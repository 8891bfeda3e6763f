"""Calls to devices. The body is read more leniently than it says here: see docs/rest.md."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.schema.common import EpochMs


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
    request_uuid: Annotated[UUID | msgspec.UnsetType, Meta(description="becomes the id of the call")] = msgspec.field(
        default=msgspec.UNSET, name="requestUUID"
    )
    additional_info: Annotated[Any, Meta(description="any JSON; never sent to the device")] = None
    persistent: Annotated[
        bool, Meta(description="true is refused in this version", extra_json_schema={"const": False})
    ] = False
