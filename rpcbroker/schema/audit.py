"""The audit log."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from rpcbroker.core.model import AuditEntry
from rpcbroker.schema.common import EntityId, EpochMs, Id, PageQuery, Plain, customer_ref


class AuditQuery(PageQuery, kw_only=True):
    """Which entries."""

    start_time: Annotated[EpochMs | None, Meta(description="not before this")] = None
    end_time: Annotated[EpochMs | None, Meta(description="not after this")] = None
    action_types: Annotated[Plain | None, Meta(description="such as RPC_CALL,DELETED; any if absent")] = None


class AuditEntryJSON(msgspec.Struct, rename="camel"):
    """Who did what to what, and how it ended."""

    id: Id
    created_time: EpochMs
    tenant_id: EntityId
    customer_id: EntityId
    entity_id: EntityId
    entity_name: str | None
    user_id: EntityId
    user_name: str
    action_type: str
    action_data: Any
    action_status: Literal["SUCCESS", "FAILURE"]
    action_failure_details: str


def audit_entry_json(entry: AuditEntry) -> AuditEntryJSON:
    return AuditEntryJSON(
        id=Id(UUID(int=entry.sequence)),
        created_time=entry.created_time,
        tenant_id=EntityId("TENANT", entry.tenant_id),
        customer_id=customer_ref(entry.customer_id),
        entity_id=EntityId(entry.entity_type, entry.entity_id),
        entity_name=entry.entity_name,
        user_id=EntityId("USER", entry.user_id),
        user_name=entry.user_name,
        action_type=entry.action,
        action_data=entry.data,
        action_status="FAILURE" if entry.failure else "SUCCESS",
        action_failure_details=entry.failure,
    )
