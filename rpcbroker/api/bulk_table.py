"""The rows of requests for many devices."""

from __future__ import annotations

from functools import partial

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

    row = partial(Route, roles=USERS, tag="Bulk calls")
    return (
        row(
            operation="callManyDevices",
            method="POST",
            path="/api/rpc/bulk",
            handler=to.create,
            access=KeyAccess.CALL,
            body=BulkBody,
            answers=BulkIdJSON,
            errors=(e.NotFound, e.VersionConflict, e.TooManyRequests),
            action=Action.ADDED,
            entity="BULK",
        ),
        row(
            operation="getBulks",
            method="GET",
            path="/api/rpc/bulk",
            handler=to.page,
            access=KeyAccess.READ,
            query=BulkListQuery,
            answers=PageJSON[BulkJSON],
        ),
        row(
            operation="getBulk",
            method="GET",
            path=ONE,
            handler=to.get,
            access=KeyAccess.READ,
            query=BulkQuery,
            answers=BulkWithResultsJSON,
            may_stream=True,
        ),
        row(
            operation="abortBulk",
            method="DELETE",
            path=ONE,
            handler=to.abort,
            access=KeyAccess.CALL,
            answers=BulkJSON,
            action=Action.UPDATED,
            entity="BULK",
        ),
    )
