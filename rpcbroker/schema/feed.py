"""The feed over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.calls import CallState
from rpcbroker.schema.common import MAX_TEXT, Plain


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
