"""The members of a call, read as leniently as the clients in the field need it: see docs/rest.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rpcbroker.core import jsontext
from rpcbroker.core.calls import CallRequest, SubmitStrategy
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.schema.ids import parse_uuid

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
_FAR = 2**62


def call_request(members: Mapping[str, Any], *, oneway: bool, rpc_id: UUID) -> CallRequest:
    """The call that somebody asks for, who has named it `rpc_id` unless its members name it.

    Raises InvalidRequest, which names the member.
    """
    if "method" not in members:
        raise InvalidRequest("the member 'method' is missing")
    method = members["method"]
    return CallRequest(
        method=method if type(method) is str else _loose_text(method),
        params=jsontext.encode(members.get("params")),
        oneway=oneway,
        persistent=_loose_bool(members["persistent"]) if "persistent" in members else False,
        timeout=_loose_int(members["timeout"]) / 1000 if "timeout" in members else None,
        expiration_time=max(0, _loose_int(members["expirationTime"])) if "expirationTime" in members else None,
        connect_timeout=_connect_timeout(members["connectTimeout"]) if "connectTimeout" in members else None,
        retries=_loose_int(members["retries"]) if "retries" in members else None,
        strategy=_strategy(members["submitStrategy"]) if "submitStrategy" in members else None,
        once="requestUUID" in members,
        request_id=_request_uuid(members["requestUUID"]) if "requestUUID" in members else rpc_id,
        additional_info=members.get("additionalInfo"),
    )


def _loose_text(value: Any) -> str:
    """A scalar as text; an object or an array is no text at all."""
    if isinstance(value, str):
        return value
    return "" if isinstance(value, (dict, list)) else jsontext.encode(value).decode()


def _loose_int(value: Any) -> int:
    """A number, or a string that spells one; anything else counts as 0."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else 0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return int(max(-_FAR, min(_FAR, value)))


def _loose_bool(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _connect_timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise InvalidRequest("'connectTimeout' must be a number of milliseconds")
    return min(float(value), float(_FAR)) / 1000


def _strategy(value: Any) -> SubmitStrategy | None:
    if value is None:
        return None
    try:
        return SubmitStrategy(value)
    except ValueError:
        words = ", ".join(SubmitStrategy)
        raise InvalidRequest(f"'submitStrategy' must be one of {words}") from None


def _request_uuid(value: Any) -> UUID:
    if not isinstance(value, str):
        raise InvalidRequest("'requestUUID' must be a UUID")
    try:
        return parse_uuid(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"'requestUUID': {error.message}") from None
