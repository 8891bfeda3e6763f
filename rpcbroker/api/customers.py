"""Customers over REST, and which devices are theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Never
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.devices import Devices
from rpcbroker.api.keys import Keys
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.tokens import Tokens
from rpcbroker.api.visible import Visible
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Customer, Device, Principal
from rpcbroker.core.ports import People
from rpcbroker.schema.common import EntityId, PageJSON, PageQuery, page_json
from rpcbroker.schema.devices import DeviceJSON, device_json
from rpcbroker.schema.people import (
    CustomerBody,
    CustomerJSON,
    CustomerTitleQuery,
    ShortCustomerJSON,
    customer_json,
)

SORTS = {"createdTime": "created_time", "title": "title", "name": "title"}


class Customers:
    """The handlers of `/api/customer`."""

    def __init__(
        self,
        *,
        people: People,
        broker: Broker,
        visible: Visible,
        devices: Devices,
        tokens: Tokens,
        keys: Keys,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._people = people
        self._broker = broker
        self._visible = visible
        self._devices = devices
        self._tokens = tokens
        self._keys = keys
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def save(self, principal: Principal, *, body: CustomerBody, note: Note) -> CustomerJSON:
        """Create a customer, or change the one whose id is given."""
        members: dict[str, Any] = {
            "title": checks.text("Customer title", body.title),
            "contact": checks.contact(body),
            "additional_info": checks.info(body.additional_info),
        }
        if body.id is None:
            customer = Customer(
                id=self._new_uuid(), tenant_id=principal.tenant_id, created_time=self._now_ms(), **members
            )
            note.about(customer.id, customer.title)
            await self._people.create_customer(customer)
            return customer_json(customer)
        stored = await self._visible.customer(principal, body.id.id)
        note.about(stored.id, stored.title, Action.UPDATED)
        customer = replace(stored, version=checks.version(stored.version, body.version), **members)
        await self._people.update_customer(customer)
        return customer_json(customer)

    async def get(self, principal: Principal, *, customer_id: UUID) -> CustomerJSON:
        """One customer."""
        return customer_json(await self._visible.customer(principal, customer_id))

    async def short_info(self, principal: Principal, *, customer_id: UUID) -> ShortCustomerJSON:
        """A customer's id and title."""
        customer = await self._visible.customer(principal, customer_id)
        return ShortCustomerJSON(EntityId("CUSTOMER", customer.id), customer.title)

    async def by_title(self, principal: Principal, *, query: CustomerTitleQuery) -> CustomerJSON:
        """The customer of this title."""
        title = checks.plain("customerTitle", query.customer_title) or ""
        customer = await self._people.customer_by_title(principal.tenant_id, title)
        if customer is None:
            raise NotFound(f"Customer with title [{title}] is not found")
        return customer_json(customer)

    async def page(self, principal: Principal, *, query: PageQuery) -> PageJSON[CustomerJSON]:
        """All customers of the tenant."""
        page = await self._people.customers(principal.tenant_id, checks.page_link(query, SORTS))
        return page_json(page, [customer_json(customer) for customer in page.items], query)

    async def delete(self, principal: Principal, *, customer_id: UUID, note: Note) -> None:
        """With its users; its devices stay, and are nobody's."""
        customer = await self._visible.customer(principal, customer_id)
        note.about(customer.id, customer.title)
        gone = await self._people.delete_customer(customer.id, revoked=self._tokens.moment())
        self._tokens.revoke_users(gone.users)
        self._keys.users_gone(gone.users)
        for device_id in gone.devices:
            self._broker.device_unassigned(device_id)

    async def assign(self, principal: Principal, *, customer_id: UUID, device_id: UUID, note: Note) -> DeviceJSON:
        """Let a customer's users see and call a device."""
        device = await self._visible.device(principal, device_id)
        note.about(device.id, device.name)
        customer = await self._visible.customer(principal, customer_id)
        note.data = {"customer": customer.title}
        return device_json(await self._give(device, customer.id))

    async def unassign(self, principal: Principal, *, device_id: UUID, note: Note) -> DeviceJSON:
        """Take a device from its customer."""
        device = await self._visible.device(principal, device_id)
        note.about(device.id, device.name)
        if device.customer_id is None:
            raise InvalidRequest("Device isn't assigned to any customer!")
        return device_json(await self._give(device, None))

    async def change_owner(
        self, principal: Principal, *, owner_type: str, owner_id: UUID, owned_type: str, device_id: UUID, note: Note
    ) -> None:
        """Give a device to a customer, or back to the tenant: another word for assigning and unassigning."""
        if owned_type != "DEVICE" or owner_type not in {"CUSTOMER", "TENANT"}:
            raise InvalidRequest("Only a DEVICE has an owner, and that is a CUSTOMER or the TENANT")
        if owner_type == "CUSTOMER":
            await self.assign(principal, customer_id=owner_id, device_id=device_id, note=note)
            return
        note.action = Action.UNASSIGNED_FROM_CUSTOMER
        device = await self._visible.device(principal, device_id)
        note.about(device.id, device.name)
        if owner_id != principal.tenant_id:
            raise NotFound(f"Tenant with id [{owner_id}] is not found")
        await self._give(device, None)

    async def make_public(self, principal: Principal, *, device_id: UUID) -> Never:
        """Public devices are not offered: this says so."""
        await self._visible.device(principal, device_id)
        raise InvalidRequest(
            "Devices cannot be made public here: whoever found the link could call them",
            hint="Assign the device to a customer, or make an API key that may only read it.",
        )

    async def _give(self, device: Device, customer_id: UUID | None) -> Device:
        if device.customer_id == customer_id:
            return device
        changed = replace(device, customer_id=customer_id, version=device.version + 1)
        await self._devices.keep(changed)
        return changed
