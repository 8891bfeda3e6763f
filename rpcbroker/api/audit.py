"""The audit log: what the API writes into it, and the handlers that read it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.core.audit import AuditTrail
from rpcbroker.core.errors import BrokerError, InvalidRequest
from rpcbroker.core.model import AuditFilter, Principal
from rpcbroker.core.ports import AuditLog
from rpcbroker.schema.audit import AuditEntryJSON, AuditQuery, audit_entry_json
from rpcbroker.schema.common import PageJSON, page_json

SORTS = {
    "createdTime": "created_time",
    "entityType": "entity_type",
    "entityName": "entity_name",
    "userName": "user_name",
    "actionType": "action",
    "actionStatus": "failure",
}
MAX_ACTIONS = 50


class Auditor:
    """Turns a request's note into an entry."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def record(self, note: Note, error: BrokerError | None, seconds: float) -> None:
        """How a request ended, after `seconds`; nothing if it is not known who asked, or for what."""
        who = note.principal
        if who is None or note.entity_id is None:
            return
        self._trail.done(
            who,
            note.action._value_,  # as `value`, which is long to be found
            (note.entity_type, note.entity_id),
            name=note.name,
            data=note.data,
            error=error,
            seconds=seconds,
        )


class Audit:
    """The handlers of `/api/audit`."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def page(self, principal: Principal, *, query: AuditQuery) -> PageJSON[AuditEntryJSON]:
        """Who did what, in one's own tenant."""
        return await self._page(query, AuditFilter(tenant_id=principal.tenant_id))

    async def by_customer(
        self, principal: Principal, *, customer_id: UUID, query: AuditQuery
    ) -> PageJSON[AuditEntryJSON]:
        """What the users of a customer did."""
        return await self._page(query, AuditFilter(tenant_id=principal.tenant_id, customer_id=customer_id))

    async def by_user(self, principal: Principal, *, user_id: UUID, query: AuditQuery) -> PageJSON[AuditEntryJSON]:
        """What a user did."""
        return await self._page(query, AuditFilter(tenant_id=principal.tenant_id, user_id=user_id))

    async def by_entity(
        self, principal: Principal, *, any_type: str, entity_id: UUID, query: AuditQuery
    ) -> PageJSON[AuditEntryJSON]:
        """What was done to a device, or to another thing."""
        entity = checks.plain("entityType", any_type) or "", entity_id
        return await self._page(query, AuditFilter(tenant_id=principal.tenant_id, entity=entity))

    async def _page(self, query: AuditQuery, wanted: AuditFilter) -> PageJSON[AuditEntryJSON]:
        actions = tuple(each.strip() for each in (query.action_types or "").split(",") if each.strip())
        if len(actions) > MAX_ACTIONS:
            raise InvalidRequest(f"actionTypes must be {MAX_ACTIONS} at most")
        wanted = replace(
            wanted,
            actions=tuple(checks.plain("actionTypes", each) or "" for each in actions),
            start_time=query.start_time,
            end_time=query.end_time,
        )
        page = await self._log.entries(wanted, checks.page_link(query, SORTS))
        return page_json(page, [audit_entry_json(entry) for entry in page.items], query)
