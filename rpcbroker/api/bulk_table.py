"""The rows of requests for many devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.api.bulk import BulkCalls
from rpcbroker.api.routes import USERS, Action, Route
from rpcbroker.core import errors as e
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.bulk import (
    BulkBody,
    BulkIdJSON,
    BulkJSON,
    BulkListQuery,
    BulkQuery,
    BulkWithResultsJSON,
)
from rpcbroker.schema.common import PageJSON

ONE = "/api/rpc/bulk/<bulk_id>"


def bulk_calls(to: BulkCalls) -> tuple[Route, ...]:
    """All of them, in the order of the document."""

    def route(
        operation: str, method: str, path: str, handler: Callable[..., Any], access: KeyAccess, **more: Any
    ) -> Route:
        return Route(
            operation=operation,
            method=method,
            path=path,
            handler=handler,
            roles=USERS,
            tag="Bulk calls",
            access=access,
            **more,
        )

    return (
        route(
            "callManyDevices",
            "POST",
            "/api/rpc/bulk",
            to.create,
            KeyAccess.CALL,
            body=BulkBody,
            answers=BulkIdJSON,
            errors=(e.NotFound, e.VersionConflict, e.TooManyRequests),
            action=Action.ADDED,
            entity="BULK",
        ),
        route(
            "getBulks",
            "GET",
            "/api/rpc/bulk",
            to.page,
            KeyAccess.READ,
            query=BulkListQuery,
            answers=PageJSON[BulkJSON],
        ),
        route(
            "getBulk",
            "GET",
            ONE,
            to.get,
            KeyAccess.READ,
            query=BulkQuery,
            answers=BulkWithResultsJSON,
            may_stream=True,
        ),
        route(
            "abortBulk",
            "DELETE",
            ONE,
            to.abort,
            KeyAccess.CALL,
            answers=BulkJSON,
            action=Action.UPDATED,
            entity="BULK",
        ),
    )
