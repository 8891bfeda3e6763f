"""Customers over REST, and which devices are theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Never
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.keys import Keys
from rpcbroker.api.routes import Action, Note
from rpcbroker.api.tokens import Tokens
from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Authority, Customer, Device, Principal
from rpcbroker.core.ports import Store
from rpcbroker.schema.common import EntityId, PageJSON, PageQuery, contact_of, page_json
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
        store: Store,
        broker: Broker,
        tokens: Tokens,
        keys: Keys,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._store = store
        self._people = store.people
        self._broker = broker
        self._tokens = tokens
        self._keys = keys
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def save(self, principal: Principal, *, body: CustomerBody, note: Note) -> CustomerJSON:
        """Create a customer, or change the one whose id is given."""
        title = checks.text("Customer title", body.title)
        contact = {name: checks.plain(name, value) or "" for name, value in contact_of(body).items()}
        if body.id is None:
            customer = Customer(
                id=self._new_uuid(),
                tenant_id=principal.tenant_id,
                title=title,
                created_time=self._now_ms(),
                contact=contact,
                additional_info=body.additional_info,
            )
            note.entity_id, note.name = customer.id, customer.title
            await self._people.create_customer(customer)
            return customer_json(customer)
        stored = await self._visible(principal, body.id.id)
        note.action, note.entity_id, note.name = Action.UPDATED, stored.id, stored.title
        version = stored.version if body.version is None else body.version
        customer = replace(
            stored, title=title, contact=contact, additional_info=body.additional_info, version=version + 1
        )
        await self._people.update_customer(customer)
        return customer_json(customer)

    async def get(self, principal: Principal, *, customer_id: UUID) -> CustomerJSON:
        """One customer."""
        return customer_json(await self._visible(principal, customer_id))

    async def short_info(self, principal: Principal, *, customer_id: UUID) -> ShortCustomerJSON:
        """A customer's id and title."""
        customer = await self._visible(principal, customer_id)
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
        customer = await self._visible(principal, customer_id)
        note.entity_id, note.name = customer.id, customer.title
        gone = await self._people.delete_customer(customer.id)
        if gone is None:
            return
        self._keys.users_gone(gone.users)
        for device_id in gone.devices:
            device = await self._store.device(device_id)
            if device is not None:
                self._broker.device_changed(device)
        await self._tokens.revoke_users(gone.users)

    async def assign(self, principal: Principal, *, customer_id: UUID, device_id: UUID, note: Note) -> DeviceJSON:
        """Let a customer's users see and call a device."""
        device = await self._device(principal, device_id)
        note.entity_id, note.name = device.id, device.name
        customer = await self._visible(principal, customer_id)
        note.data = {"customer": customer.title}
        return device_json(await self._give(principal, device, customer.id))

    async def unassign(self, principal: Principal, *, device_id: UUID, note: Note) -> DeviceJSON:
        """Take a device from its customer."""
        device = await self._device(principal, device_id)
        note.entity_id, note.name = device.id, device.name
        if device.customer_id is None:
            raise InvalidRequest("Device isn't assigned to any customer!")
        return device_json(await self._give(principal, device, None))

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
        device = await self._device(principal, device_id)
        note.entity_id, note.name = device.id, device.name
        if owner_id != principal.tenant_id:
            raise NotFound(f"Tenant with id [{owner_id}] is not found")
        await self._give(principal, device, None)

    async def make_public(self, principal: Principal, *, device_id: UUID) -> Never:
        """Public devices are not offered: this says so."""
        await self._device(principal, device_id)
        raise InvalidRequest(
            "Devices cannot be made public here: whoever found the link could call them",
            hint="Assign the device to a customer, or make an API key that may only read it.",
        )

    async def _give(self, principal: Principal, device: Device, customer_id: UUID | None) -> Device:
        if device.customer_id == customer_id:
            return device
        changed = replace(device, customer_id=customer_id, version=device.version + 1)
        await self._store.update_device(changed)
        self._broker.device_changed(changed)
        return changed

    async def _device(self, principal: Principal, device_id: UUID) -> Device:
        device = await self._store.device(device_id)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device

    async def _visible(self, principal: Principal, customer_id: UUID) -> Customer:
        customer = await self._people.customer(customer_id)
        mine = principal.authority is not Authority.CUSTOMER_USER or customer_id == principal.customer_id
        if customer is None or customer.tenant_id != principal.tenant_id or not mine:
            raise NotFound(f"Customer with id [{customer_id}] is not found")
        return customer
