"""API keys over REST: made, shown once, restricted, revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec

from rpcbroker.api import checks
from rpcbroker.api.keys import HINT_LENGTH, Keys, digest
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.visible import Visible
from rpcbroker.core.access import may_see_user
from rpcbroker.core.audit import recorded
from rpcbroker.core.errors import InvalidRequest, NotFound, PermissionDenied
from rpcbroker.core.model import ApiKey, Authority, KeyAccess, KeyScope, Principal, User
from rpcbroker.core.ports import People
from rpcbroker.core.settings import AuthSettings
from rpcbroker.schema.common import PageJSON, PageQuery, page_json
from rpcbroker.schema.keys import ApiKeyBody, ApiKeyJSON, api_key_json, scope_json, scope_of

SORTS = {
    "createdTime": "created_time",
    "description": "description",
    "expirationTime": "expiration_time",
    "enabled": "enabled",
    "lastUsedTime": "last_used_time",
}


class ApiKeys:
    """The handlers of `/api/apiKey`."""

    def __init__(
        self,
        *,
        people: People,
        keys: Keys,
        visible: Visible,
        settings: AuthSettings,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self.settings = settings
        self._people = people
        self._keys = keys
        self._visible = visible
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def save(self, principal: Principal, *, body: ApiKeyBody, note: Note) -> ApiKeyJSON:
        """Create a key, whose `value` is in this answer and in no other; or change the one whose id is given.

        Without a `scope` it may do what its user may.
        """
        members: dict[str, Any] = {"description": checks.text("description", body.description)}
        if body.enabled is not msgspec.UNSET:
            members["enabled"] = body.enabled
        if body.expiration_time is not msgspec.UNSET:
            members["expiration_time"] = body.expiration_time
        if body.scope is not None:
            members["scope"] = _checked(scope_of(body.scope))
        if body.id is not None:
            key, user = await self._one(principal, body.id.id)
            note.about(key.id, key.description, Action.UPDATED)
            await self._check_customer(user, members.get("scope"))
            return await self._keep(replace(key, **members), note)
        user = await self._user(principal, body.user_id.id if body.user_id else principal.user_id)
        _check_may_speak_for(principal, user)
        await self._check_customer(user, members.get("scope"))
        value = self._keys.new_value()
        key = ApiKey(
            id=self._new_uuid(),
            tenant_id=user.tenant_id,
            user_id=user.id,
            digest=digest(value),
            hint=value[:HINT_LENGTH],
            created_time=self._now_ms(),
            **{"scope": KeyScope()} | members,
        )
        note.about(key.id, key.description)
        note.data = {"user": user.email, "scope": recorded(scope_json(key.scope))}
        most = self.settings.max_api_keys_per_user
        self._keys.put(key, await self._people.create_api_key(key, most=most))
        return self._json(key, value=value)

    async def page(self, principal: Principal, *, user_id: UUID, query: PageQuery) -> PageJSON[ApiKeyJSON]:
        """The keys of a user, without their values."""
        link = checks.page_link(query, SORTS)
        user = await self._user(principal, user_id)
        page = await self._people.api_keys(user.id, link)
        return page_json(page, [self._json(key) for key in page.items], query)

    async def set_enabled(self, principal: Principal, *, api_key_id: UUID, enabled: str, note: Note) -> ApiKeyJSON:
        """Switch a key on or off."""
        on = {"true": True, "false": False}.get(enabled.lower())
        if on is None:
            raise InvalidRequest("enabled must be true or false")
        key, _ = await self._one(principal, api_key_id)
        note.about(key.id, key.description)
        return await self._keep(replace(key, enabled=on), note)

    async def set_description(self, principal: Principal, *, api_key_id: UUID, body: str, note: Note) -> ApiKeyJSON:
        """Call a key something else; the body is the new description, a JSON string."""
        key, _ = await self._one(principal, api_key_id)
        note.about(key.id, key.description)
        return await self._keep(replace(key, description=checks.text("description", body)), note)

    async def delete(self, principal: Principal, *, api_key_id: UUID, note: Note) -> None:
        """Revoke a key; it is refused from now on."""
        key, _ = await self._one(principal, api_key_id)
        note.about(key.id, key.description)
        await self._people.delete_api_key(key.id)
        self._keys.drop(key.id)

    async def _keep(self, key: ApiKey, note: Note) -> ApiKeyJSON:
        note.data = {"enabled": key.enabled, "scope": recorded(scope_json(key.scope))}
        self._keys.put(key, await self._people.update_api_key(key))
        return self._json(key)

    async def _user(self, principal: Principal, user_id: UUID) -> User:
        user = await self._visible.user(principal, user_id)
        if not _handles_keys_of(principal, user):
            raise NotFound(f"User with id [{user_id}] is not found")
        return user

    async def _one(self, principal: Principal, key_id: UUID) -> tuple[ApiKey, User]:
        key = self._keys.get(key_id)
        user = key and await self._people.user(key.user_id)
        if not key or not user or not may_see_user(principal, user) or not _handles_keys_of(principal, user):
            raise NotFound(f"API key with id [{key_id}] is not found")
        return key, user

    async def _check_customer(self, user: User, scope: KeyScope | None) -> None:
        if scope is None or scope.customer_id is None:
            return
        customer = await self._people.customer(scope.customer_id)
        mine = user.authority is not Authority.CUSTOMER_USER or user.customer_id == scope.customer_id
        if customer is None or customer.tenant_id != user.tenant_id or not mine:
            raise NotFound(f"Customer with id [{scope.customer_id}] is not found")

    def _json(self, key: ApiKey, **more: Any) -> ApiKeyJSON:
        used = replace(key, last_used_time=self._keys.last_used(key))
        return api_key_json(used, now_ms=self._now_ms(), **more)


def _handles_keys_of(principal: Principal, user: User) -> bool:
    """A system administrator has no access to what a tenant's key gives access to."""
    return user.id == principal.user_id or principal.authority is Authority.TENANT_ADMIN


def _check_may_speak_for(principal: Principal, user: User) -> None:
    if user.id != principal.user_id and user.authority is not Authority.CUSTOMER_USER:
        raise PermissionDenied("Administrators make their API keys themselves")


def _checked(scope: KeyScope) -> KeyScope:
    """The scope itself. Raises InvalidRequest."""
    for label, rules in (("scope.methods", scope.methods), ("scope.deviceTypes", scope.device_types)):
        for rule in rules:
            checks.plain(label, rule)
    if scope.access is KeyAccess.MANAGE and scope != KeyScope(access=KeyAccess.MANAGE):
        raise InvalidRequest(
            "scope: a key with access MANAGE cannot have other rules",
            hint="Say access CALL, or READ: only those are held to methods and devices.",
        )
    return scope
