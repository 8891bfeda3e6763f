"""The one table from errors to HTTP, and the JSON error object that every failure is answered with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rpcbroker.core import errors as e
from rpcbroker.core import jsontext
from rpcbroker.rules.chain import ChainRefused


class Row(NamedTuple):
    """HTTP status, and the number that the clients' libraries know."""

    status: int
    code: int


GENERAL, AUTHENTICATION, TOKEN_EXPIRED, PERMISSION_DENIED = 2, 10, 11, 20
BAD_REQUEST, ITEM_NOT_FOUND, TOO_MANY_REQUESTS, CONFLICT = 31, 32, 33, 35

TABLE: dict[type[e.BrokerError], Row] = {
    e.BrokerError: Row(500, GENERAL),
    e.InvalidRequest: Row(400, BAD_REQUEST),
    e.AlreadyExists: Row(400, BAD_REQUEST),
    ChainRefused: Row(400, BAD_REQUEST),
    e.NotAuthenticated: Row(401, AUTHENTICATION),
    e.TokenExpired: Row(401, TOKEN_EXPIRED),
    e.TooManyRequests: Row(429, TOO_MANY_REQUESTS),
    e.TooManyAttempts: Row(429, TOO_MANY_REQUESTS),
    e.UnsupportedMediaType: Row(415, BAD_REQUEST),
    e.ClaimRefused: Row(400, BAD_REQUEST),
    e.PermissionDenied: Row(403, PERMISSION_DENIED),
    e.NotFound: Row(404, ITEM_NOT_FOUND),
    e.VersionConflict: Row(409, CONFLICT),
    e.PayloadTooLarge: Row(413, BAD_REQUEST),
    e.RequestTimedOut: Row(408, GENERAL),
    e.TargetTooLong: Row(414, BAD_REQUEST),
    e.HeadersTooLarge: Row(431, BAD_REQUEST),
    e.UnsupportedExpectation: Row(417, BAD_REQUEST),
    e.MethodNotAllowed: Row(405, BAD_REQUEST),
    e.UpgradeRequired: Row(426, BAD_REQUEST),
    e.Unavailable: Row(503, GENERAL),
    e.NobodyAnswers: Row(404, ITEM_NOT_FOUND),
    e.QuestionTimedOut: Row(408, GENERAL),
    e.CallFailed: Row(500, GENERAL),
    e.NoActiveConnection: Row(409, GENERAL),
    e.CallTimeout: Row(408, GENERAL),
    e.QueueFull: Row(429, TOO_MANY_REQUESTS),
    e.BadReply: Row(406, BAD_REQUEST),
    e.Undeliverable: Row(413, BAD_REQUEST),
    e.CallCancelled: Row(503, GENERAL),
}

V2_STATUSES: Mapping[type[e.BrokerError], int] = {e.NoActiveConnection: 504, e.CallTimeout: 504}
"""Where `/api/rpc` answers otherwise than `/api/plugins/rpc`."""


class Rendered(NamedTuple):
    """An error as HTTP has it."""

    status: int
    headers: dict[str, str]
    body: bytes
    content_type: str = "application/json"


def render(error: e.BrokerError, *, now_ms: int, statuses: Mapping[type[e.BrokerError], int] | None = None) -> Rendered:
    """The answer for `error`; `statuses` overrides the table's."""
    row = TABLE[type(error)]
    status = (statuses or {}).get(type(error), row.status)
    members: dict[str, Any] = {
        "status": status,
        "message": error.message,
        "errorCode": row.code,
        "timestamp": now_ms,
    }
    if error.reason is not None:
        members["reason"] = error.reason
    if error.hint is not None:
        members["hint"] = error.hint
    if isinstance(error, e.ClaimRefused):
        members["response"] = error.response
    headers: dict[str, str] = {}
    if error.rpc_id is not None:
        headers["X-RPC-Id"] = str(error.rpc_id)
    if isinstance(error, e.TooManyRequests):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, e.MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer, ApiKey"
    return Rendered(status, headers, jsontext.encode(members))
