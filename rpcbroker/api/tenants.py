"""Tenants over REST; for system administrators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.keys import Keys
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.tokens import Tokens
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import NotFound
from rpcbroker.core.model import Authority, Principal, Tenant
from rpcbroker.core.ports import People
from rpcbroker.rules.system import RuleSystem
from rpcbroker.schema.common import PageJSON, PageQuery, page_json
from rpcbroker.schema.people import TenantBody, TenantJSON, tenant_json

SORTS = {"createdTime": "created_time", "title": "title", "name": "title"}


class Tenants:
    """The handlers of `/api/tenant`."""

    def __init__(
        self,
        *,
        people: People,
        broker: Broker,
        rules: RuleSystem,
        tokens: Tokens,
        keys: Keys,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._people = people
        self._broker = broker
        self._rules = rules
        self._tokens = tokens
        self._keys = keys
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def save(self, principal: Principal, *, body: TenantBody, note: Note) -> TenantJSON:
        """Create a tenant, or change the one whose id is given."""
        members: dict[str, Any] = {
            "title": checks.text("Tenant title", body.title),
            "contact": checks.contact(body),
            "additional_info": checks.info(body.additional_info),
        }
        if body.id is None:
            tenant = Tenant(id=self._new_uuid(), created_time=self._now_ms(), **members)
            note.about(tenant.id, tenant.title)
            await self._people.create_tenant(tenant)
            return tenant_json(tenant)
        stored = await self._tenant(body.id.id)
        note.about(stored.id, stored.title, Action.UPDATED)
        tenant = replace(stored, version=checks.version(stored.version, body.version), **members)
        await self._people.update_tenant(tenant)
        return tenant_json(tenant)

    async def get(self, principal: Principal, *, tenant_id: UUID) -> TenantJSON:
        """One tenant; its administrators may see it too."""
        if principal.authority is not Authority.SYS_ADMIN and principal.tenant_id != tenant_id:
            raise NotFound(f"Tenant with id [{tenant_id}] is not found")
        return tenant_json(await self._tenant(tenant_id))

    async def page(self, principal: Principal, *, query: PageQuery) -> PageJSON[TenantJSON]:
        """All tenants."""
        page = await self._people.tenants(checks.page_link(query, SORTS))
        return page_json(page, [tenant_json(tenant) for tenant in page.items], query)

    async def delete(self, principal: Principal, *, tenant_id: UUID, note: Note) -> None:
        """With all that is its: devices are cut off, users are out, nothing is left."""
        tenant = await self._tenant(tenant_id)
        note.about(tenant.id, tenant.title)
        gone = await self._people.delete_tenant(tenant.id, revoked=self._tokens.moment())
        self._tokens.revoke_users(gone.users)
        self._keys.users_gone(gone.users)
        for device_id in gone.devices:
            self._broker.device_deleted(device_id)
        self._rules.forget_tenant(tenant.id)

    async def _tenant(self, tenant_id: UUID) -> Tenant:
        tenant = await self._people.tenant(tenant_id)
        if tenant is None:
            raise NotFound(f"Tenant with id [{tenant_id}] is not found")
        return tenant
