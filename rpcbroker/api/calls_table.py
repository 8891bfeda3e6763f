"""The rows of calls: making them, those that are kept, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
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
    def call(operation: str, path: str, handler: Callable[..., Any], answers: Any, **more: Any) -> Route:
        return Route(
            operation=operation,
            method="POST",
            path=path,
            handler=handler,
            roles=EVERYONE,
            tag="Calls",
            access=KeyAccess.CALL,
            body=CallBody,
            raw_body=True,
            answers=answers,
            may_stream=True,
            errors=CALL_ERRORS,
            action=Action.RPC_CALL,
            entity="DEVICE",
            ends_with_caller=True,
            **more,
        )

    v2: dict[str, Any] = {"statuses": V2_STATUSES}
    return (
        call("handleOneWayDeviceRPCRequestV2", "/api/rpc/oneway/<device_id>", to.oneway, RpcIdJSON, **v2),
        call("handleTwoWayDeviceRPCRequestV2", "/api/rpc/twoway/<device_id>", to.twoway, Any, **v2),
        call("handleOneWayDeviceRPCRequestV1", "/api/plugins/rpc/oneway/<device_id>", to.oneway, RpcIdJSON),
        call("handleTwoWayDeviceRPCRequestV1", "/api/plugins/rpc/twoway/<device_id>", to.twoway, Any),
    )


def _persistent(to: PersistentCalls) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(
            operation=operation,
            method="GET",
            path=f"/api/rpc/persistent/{path}",
            handler=handler,
            roles=USERS,
            tag="Persistent calls",
            access=KeyAccess.READ,
            **more,
        )

    return (
        get("getPersistedRpc", "<rpc_id>", to.get, answers=RpcJSON),
        get(
            "getPersistedRpcByDevice",
            "device/<device_id>",
            to.page,
            query=RpcListQuery,
            answers=PageJSON[RpcJSON],
        ),
        Route(
            operation="deleteRpc",
            method="DELETE",
            path="/api/rpc/persistent/<rpc_id>",
            handler=to.delete,
            roles=ADMINS,
            tag="Persistent calls",
            action=Action.DELETED,
            entity="RPC",
        ),
    )


def _records(to: CallRecords) -> tuple[Route, ...]:
    of_all: dict[str, Any] = {"roles": USERS, "tag": "What became of calls"}
    return (
        Route(
            operation="getCalls",
            method="GET",
            path="/api/rpc",
            handler=to.page,
            access=KeyAccess.READ,
            query=CallsQuery,
            answers=PageJSON[CallRecordJSON],
            errors=(e.NotFound,),
            **of_all,
        ),
        Route(
            operation="getCallTimeline",
            method="GET",
            path="/api/rpc/<rpc_id>/timeline",
            handler=to.timeline,
            access=KeyAccess.READ,
            answers=TimelineJSON,
            **of_all,
        ),
        Route(
            operation="cancelCall",
            method="DELETE",
            path="/api/rpc/<rpc_id>",
            handler=to.cancel,
            access=KeyAccess.CALL,
            answers=CancellationJSON,
            action=Action.DELETED,
            entity="RPC",
            **of_all,
        ),
    )
