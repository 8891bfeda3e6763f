"""Provision keys over REST, and claims: how devices come in by themselves, and whose they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.devices import Devices
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.visible import Visible
from rpcbroker.core.access import NOT_ALLOWED, may_see
from rpcbroker.core.claiming import Claiming
from rpcbroker.core.errors import InvalidRequest, NotFound, PermissionDenied
from rpcbroker.core.model import Principal, ProvisionKey
from rpcbroker.core.ports import Store
from rpcbroker.core.provisioning import digest
from rpcbroker.schema.common import PageJSON, PageQuery, page_json
from rpcbroker.schema.enrolment import (
    MIN_SECRET,
    ClaimBody,
    ClaimJSON,
    ProvisionKeyBody,
    ProvisionKeyJSON,
    claim_json,
    provision_key_json,
)

SORTS = {
    "createdTime": "created_time",
    "provisionDeviceKey": "key",
    "deviceType": "device_type",
    "uses": "uses",
    "lastUsedTime": "last_used_time",
}


class ProvisionKeys:
    """The handlers of `/api/provisionKey`."""

    def __init__(
        self,
        *,
        store: Store,
        visible: Visible,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
        new_token: Callable[[], str],
        new_secret: Callable[[], str],
    ) -> None:
        """`new_token` gives a new key, which is no secret, `new_secret` 256 random bits as text."""
        self._enrolment = store.enrolment
        self._visible = visible
        self._now_ms = now_ms
        self._new_uuid = new_uuid
        self._new_token = new_token
        self._new_secret = new_secret

    async def create(self, principal: Principal, *, body: ProvisionKeyBody, note: Note) -> ProvisionKeyJSON:
        """Make a key, whose secret is in this answer and in no other."""
        secret = checks.plain("provisionDeviceSecret", body.provision_device_secret)
        if secret is not None and len(secret) < MIN_SECRET:
            raise InvalidRequest(
                f"provisionDeviceSecret must have {MIN_SECRET} characters at least", hint="Leave it out: one is made."
            )
        secret = secret or self._new_secret()
        given = body.provision_device_key
        if body.customer_id is not None:
            await self._visible.customer(principal, body.customer_id.id)
        key = ProvisionKey(
            id=self._new_uuid(),
            tenant_id=principal.tenant_id,
            customer_id=body.customer_id.id if body.customer_id else None,
            key=self._new_token() if given is None else checks.text("provisionDeviceKey", given),
            digest=digest(secret),
            device_type=checks.text("deviceType", body.device_type),
            strategy=body.provision_type,
            created_time=self._now_ms(),
        )
        note.about(key.id, key.key)
        await self._enrolment.create_provision_key(key)
        return provision_key_json(key, secret=secret)

    async def page(self, principal: Principal, *, query: PageQuery) -> PageJSON[ProvisionKeyJSON]:
        """The keys of the tenant, without their secrets."""
        page = await self._enrolment.provision_keys(principal.tenant_id, checks.page_link(query, SORTS))
        return page_json(page, [provision_key_json(key) for key in page.items], query)

    async def set_enabled(
        self, principal: Principal, *, provision_key_id: UUID, enabled: str, note: Note
    ) -> ProvisionKeyJSON:
        """Let nobody in with a key any more, or let them in again."""
        on = {"true": True, "false": False}.get(enabled.lower())
        if on is None:
            raise InvalidRequest("enabled must be true or false")
        key = await self._one(principal, provision_key_id, note)
        note.data = {"enabled": on}
        await self._enrolment.enable_provision_key(key.id, on)
        return provision_key_json(replace(key, enabled=on))

    async def delete(self, principal: Principal, *, provision_key_id: UUID, note: Note) -> None:
        """Delete a key; the devices that came by it stay."""
        key = await self._one(principal, provision_key_id, note)
        await self._enrolment.delete_provision_key(key.id)

    async def _one(self, principal: Principal, key_id: UUID, note: Note) -> ProvisionKey:
        key = await self._enrolment.provision_key(key_id)
        if key is None or key.tenant_id != principal.tenant_id:
            raise NotFound(f"Provision key with id [{key_id}] is not found")
        note.about(key.id, key.key)
        return key


class Claims:
    """The handlers of `/api/customer/device/{deviceName}/claim`."""

    def __init__(self, *, store: Store, claiming: Claiming, devices: Devices) -> None:
        self._store = store
        self._claiming = claiming
        self._devices = devices

    async def claim(self, principal: Principal, *, device_name: str, body: ClaimBody, note: Note) -> ClaimJSON:
        """Take a device that offers itself, by the secret that it was given; who asks must belong to a customer."""
        if principal.customer_id is None:
            raise PermissionDenied(NOT_ALLOWED)
        secret = checks.plain("secretKey", body.secret_key) or ""
        name = checks.plain("deviceName", device_name) or ""
        device = await self._claiming.claim(principal.tenant_id, principal.customer_id, name, secret)
        note.about(device.id, device.name)
        return claim_json(device)

    async def give_up(self, principal: Principal, *, device_name: str, note: Note) -> None:
        """Take a device from the customer that claimed it."""
        name = checks.plain("deviceName", device_name) or ""
        device = await self._store.device_by_name(principal.tenant_id, name)
        if device is None or not may_see(principal, device):
            raise NotFound(f"Device with name [{name}] is not found")
        note.about(device.id, device.name, Action.UNASSIGNED_FROM_CUSTOMER)
        if device.customer_id is None:
            raise InvalidRequest("Device isn't assigned to any customer!")
        await self._devices.keep(replace(device, customer_id=None, version=device.version + 1))
