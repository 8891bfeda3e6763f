"""What a route is: one row says everything of an operation, for the server, its documents and its tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from rpcbroker.api.event_stream import Events
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Authority, KeyAccess, Principal

EVERYONE = frozenset(Authority)
USERS = frozenset({Authority.TENANT_ADMIN, Authority.CUSTOMER_USER})
ADMINS = frozenset({Authority.TENANT_ADMIN})
CUSTOMER_USERS = frozenset({Authority.CUSTOMER_USER})
SYS_ADMINS = frozenset({Authority.SYS_ADMIN})
BOTH_ADMINS = ADMINS | SYS_ADMINS

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


class Action(StrEnum):
    """What the audit log calls what was done; the words are those of the wire."""

    ADDED = "ADDED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    CREDENTIALS_READ = "CREDENTIALS_READ"
    CREDENTIALS_UPDATED = "CREDENTIALS_UPDATED"
    ASSIGNED_TO_CUSTOMER = "ASSIGNED_TO_CUSTOMER"
    UNASSIGNED_FROM_CUSTOMER = "UNASSIGNED_FROM_CUSTOMER"
    ACTIVATED = "ACTIVATED"
    SUSPENDED = "SUSPENDED"
    LOGIN = "LOGIN"
    LOGOUT = "LOGOUT"
    LOCKOUT = "LOCKOUT"
    RPC_CALL = "RPC_CALL"
    ATTRIBUTES_UPDATED = "ATTRIBUTES_UPDATED"
    ATTRIBUTES_DELETED = "ATTRIBUTES_DELETED"
    TIMESERIES_UPDATED = "TIMESERIES_UPDATED"
    TIMESERIES_DELETED = "TIMESERIES_DELETED"
    RELATION_ADD_OR_UPDATE = "RELATION_ADD_OR_UPDATE"
    RELATION_DELETED = "RELATION_DELETED"
    REST_API_RULE_ENGINE_CALL = "REST_API_RULE_ENGINE_CALL"


class Answer(msgspec.Struct, frozen=True):
    """A result that is not simply JSON to be made: a text, events, or one with headers or a status of its own.

    Events go out as they come. A BrokerError that they raise is the last one: `error`, with the JSON error object.
    `patience`: seconds that the caller may leave events unread, if not as long as any answer; then it is cut off.
    """

    body: bytes | Events = b""
    headers: Mapping[str, str] = {}
    status: int = 200
    content_type: str = JSON
    patience: float | None = None


class Note(msgspec.Struct):
    """What the audit log shall say of a request; the handler fills in what it learns."""

    action: Action
    entity_type: str
    entity_id: UUID | None = None
    name: str | None = None
    data: dict[str, Any] | None = None
    principal: Principal | None = None

    def about(self, entity_id: UUID, name: str, action: Action | None = None) -> None:
        """What it was that something was done to, and what if that is not what the route says."""
        self.entity_id, self.name = entity_id, name
        self.action = action or self.action


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API.

    `operation` is its id in the document, and the name that the wire's own document gives it.
    `path` has parameters as `<name>`; those whose names end in `_id` are UUIDs. They are handed to
    the handler by their names. `roles` is who may use it, None is anybody, without logging in.
    `access` is what an API key must be for; None is that no key may. `body` and `query` are msgspec
    types, given to the handler as keywords; None is not looked at. A `raw_body` is handed over as
    it came, whatever its Content-Type, and `body` only describes it.
    `answers` is the type of the result, or a tuple of types, None for an empty one, Never for none but
    failures; the handler returns a value of that type, or an Answer. `action` and `entity` (a type) are
    what the audit log says; the handler is then given a Note as `note`. `needs_url` gives it the server's
    own URL as `url`, `needs_who` a function `who` that tells who asks, or None for nobody, `may_stream` whether
    the caller prefers events to JSON as `events`. The answer of a `stream` does not end; its handler is given the
    header Last-Event-ID as `last_event_id`, empty if there is none, and a `who` that tells who asks as long as that
    one may, and raises what refuses it then. A `hot` route is asked so often that plain requests to it go past Klein.
    If the caller leaves, a GET ends, and what says `ends_with_caller`;
    anything else goes on to its end.
    """

    operation: str
    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    roles: frozenset[Authority] | None
    tag: str
    access: KeyAccess | None = KeyAccess.MANAGE
    body: Any = None
    raw_body: bool = False
    query: Any = None
    answers: Any = None
    content_type: str = JSON
    created: bool = False
    statuses: Mapping[type[BrokerError], int] = field(default_factory=dict)
    errors: tuple[type[BrokerError], ...] = ()
    action: Action | None = None
    entity: str = ""
    needs_url: bool = False
    needs_who: bool = False
    stream: bool = False
    may_stream: bool = False
    ends_with_caller: bool = False
    hot: bool = False
