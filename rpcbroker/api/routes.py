"""What a route is: a method, a path, who may use it, what goes in, and the handler that knows no HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Authority


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that is JSON text already, or that has headers or a status of its own."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API.

    `path` has its ids as `<name_id>`: UUIDs, handed to the handler by that name. `roles` is who may
    use it, None is anybody, without logging in. `body` and `query` are msgspec types (a body of
    `bytes` is handed over as it came), given to the handler as keywords; None is not looked at.
    The handler returns None (200, empty), an Answer, or anything that msgspec can encode.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    roles: frozenset[Authority] | None
    body: Any = None
    query: Any = None
    statuses: Mapping[type[BrokerError], int] = field(default_factory=dict)
