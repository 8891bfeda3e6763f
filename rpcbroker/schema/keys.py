"""API keys: what they may do, and what is told of them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.model import ApiKey, KeyAccess, KeyScope
from rpcbroker.schema.common import EntityId, EpochMs, Text

MAX_RULES = 100
"""Patterns, ids or types in one rule of a key."""

Rule = Annotated[str, Meta(max_length=255)]


class KeyScopeJSON(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=False):
    """What a key may do; each rule that is given must hold."""

    access: Annotated[
        KeyAccess,
        Meta(
            description="READ: look at devices; CALL: call them too; MANAGE: all that the user may do, but handle users"
        ),
    ] = KeyAccess.MANAGE
    methods: Annotated[
        list[Rule],
        Meta(
            description="patterns of the methods that may be called, such as get*; * is any text", max_length=MAX_RULES
        ),
    ] = []
    oneway: Annotated[bool, Meta(description="whether one-way calls are allowed")] = True
    twoway: Annotated[bool, Meta(description="whether two-way calls are allowed")] = True
    device_ids: Annotated[list[UUID], Meta(description="only these devices", max_length=MAX_RULES)] = []
    device_types: Annotated[list[Rule], Meta(description="only devices of these types", max_length=MAX_RULES)] = []
    customer_id: Annotated[EntityId | None, Meta(description="only devices that are assigned to this customer")] = None


class ApiKeyBody(msgspec.Struct, rename="camel", kw_only=True):
    """A new key, or with an `id` a changed one: what is absent stays as it is. The user is who asks, if absent."""

    id: EntityId | None = None
    user_id: EntityId | None = None
    description: Text
    enabled: Annotated[bool | msgspec.UnsetType, Meta(description="true if absent in a new one")] = msgspec.UNSET
    expiration_time: Annotated[EpochMs | msgspec.UnsetType, Meta(description="0 is never")] = msgspec.UNSET
    scope: KeyScopeJSON | None = None


class ApiKeyJSON(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A key. `value` is there once, in the answer to its creation: it is not kept."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    user_id: EntityId
    expiration_time: int
    description: str
    enabled: bool
    expired: bool
    hint: Annotated[str, Meta(description="how the key begins")]
    scope: KeyScopeJSON
    last_used_time: EpochMs | None
    value: str | msgspec.UnsetType = msgspec.UNSET


def scope_of(body: KeyScopeJSON) -> KeyScope:
    return KeyScope(
        access=body.access,
        methods=tuple(body.methods),
        oneway=body.oneway,
        twoway=body.twoway,
        device_ids=tuple(body.device_ids),
        device_types=tuple(body.device_types),
        customer_id=body.customer_id.id if body.customer_id else None,
    )


def scope_json(scope: KeyScope) -> KeyScopeJSON:
    return KeyScopeJSON(
        access=scope.access,
        methods=list(scope.methods),
        oneway=scope.oneway,
        twoway=scope.twoway,
        device_ids=list(scope.device_ids),
        device_types=list(scope.device_types),
        customer_id=EntityId("CUSTOMER", scope.customer_id) if scope.customer_id else None,
    )


def api_key_json(key: ApiKey, *, now_ms: int, value: str | msgspec.UnsetType = msgspec.UNSET) -> ApiKeyJSON:
    return ApiKeyJSON(
        id=EntityId("API_KEY", key.id),
        created_time=key.created_time,
        tenant_id=EntityId("TENANT", key.tenant_id),
        user_id=EntityId("USER", key.user_id),
        expiration_time=key.expiration_time,
        description=key.description,
        enabled=key.enabled,
        expired=0 < key.expiration_time <= now_ms,
        hint=key.hint,
        scope=scope_json(key.scope),
        last_used_time=key.last_used_time,
        value=value,
    )
