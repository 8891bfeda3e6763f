"""The rows of calls: making them, those that are kept, and what became of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from rpcbroker.api.call_records import CallRecords
from rpcbroker.api.calls import Calls
from rpcbroker.api.errors import V2_STATUSES
from rpcbroker.api.persistent import PersistentCalls
from rpcbroker.api.routes import ADMINS, EVERYONE, USERS, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.calls import (
    CallBody,
    CallRecordJSON,
    CallsQuery,
    CancellationJSON,
    RpcIdJSON,
    RpcJSON,
    RpcListQuery,
    TimelineJSON,
)
from rpcbroker.schema.common import PageJSON

CALL_ERRORS = (
    e.CallFailed,
    e.NoActiveConnection,
    e.CallTimeout,
    e.QueueFull,
    e.BadReply,
    e.Undeliverable,
    e.CallCancelled,
    e.VersionConflict,
    e.NotFound,
)


def calls(to: Calls, persistent: PersistentCalls, records: CallRecords) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    return (*_calls(to), *_persistent(persistent), *_records(records))


def _calls(to: Calls) -> tuple[Route, ...]:
    row = partial(
        Route,
        method="POST",
        roles=EVERYONE,
        tag="Calls",
        access=KeyAccess.CALL,
        body=CallBody,
        raw_body=True,
        may_stream=True,
        errors=CALL_ERRORS,
        action=Action.RPC_CALL,
        entity="DEVICE",
        ends_with_caller=True,
        hot=True,
    )
    oneway, twoway = partial(row, handler=to.oneway, answers=RpcIdJSON), partial(row, handler=to.twoway, answers=Any)
    v2: dict[str, Any] = {"statuses": V2_STATUSES}
    return (
        oneway(operation="handleOneWayDeviceRPCRequestV2", path="/api/rpc/oneway/<device_id>", **v2),
        twoway(operation="handleTwoWayDeviceRPCRequestV2", path="/api/rpc/twoway/<device_id>", **v2),
        oneway(operation="handleOneWayDeviceRPCRequestV1", path="/api/plugins/rpc/oneway/<device_id>"),
        twoway(operation="handleTwoWayDeviceRPCRequestV1", path="/api/plugins/rpc/twoway/<device_id>"),
    )


def _persistent(to: PersistentCalls) -> tuple[Route, ...]:
    row = partial(Route, tag="Persistent calls")
    get = partial(row, method="GET", roles=USERS, access=KeyAccess.READ)
    return (
        get(operation="getPersistedRpc", path="/api/rpc/persistent/<rpc_id>", handler=to.get, answers=RpcJSON),
        get(
            operation="getPersistedRpcByDevice",
            path="/api/rpc/persistent/device/<device_id>",
            handler=to.page,
            query=RpcListQuery,
            answers=PageJSON[RpcJSON],
        ),
        row(
            operation="deleteRpc",
            method="DELETE",
            path="/api/rpc/persistent/<rpc_id>",
            handler=to.delete,
            roles=ADMINS,
            action=Action.DELETED,
            entity="RPC",
        ),
    )


def _records(to: CallRecords) -> tuple[Route, ...]:
    row = partial(Route, roles=USERS, tag="What became of calls")
    return (
        row(
            operation="getCalls",
            method="GET",
            path="/api/rpc",
            handler=to.page,
            access=KeyAccess.READ,
            query=CallsQuery,
            answers=PageJSON[CallRecordJSON],
            errors=(e.NotFound,),
        ),
        row(
            operation="getCallTimeline",
            method="GET",
            path="/api/rpc/<rpc_id>/timeline",
            handler=to.timeline,
            access=KeyAccess.READ,
            answers=TimelineJSON,
        ),
        row(
            operation="cancelCall",
            method="DELETE",
            path="/api/rpc/<rpc_id>",
            handler=to.cancel,
            access=KeyAccess.CALL,
            answers=CancellationJSON,
            action=Action.DELETED,
            entity="RPC",
        ),
    )
