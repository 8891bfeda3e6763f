"""What there is for whoever asks. Unknown things and those of others are the same NotFound."""

from __future__ import annotations

from uuid import UUID

from rpcbroker.core import access
from rpcbroker.core.errors import NotFound
from rpcbroker.core.model import Customer, Device, Principal, User
from rpcbroker.core.ports import Store


class Visible:
    """Reads by id, for handlers. All raise NotFound."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def device(self, principal: Principal, device_id: UUID) -> Device:
        device = await self._store.device(device_id)
        if device is None or not access.may_see(principal, device):
            raise NotFound(f"Device with id [{device_id}] is not found")
        return device

    async def customer(self, principal: Principal, customer_id: UUID) -> Customer:
        customer = await self._store.people.customer(customer_id)
        if customer is None or not access.may_see_customer(principal, customer):
            raise NotFound(f"Customer with id [{customer_id}] is not found")
        return customer

    async def user(self, principal: Principal, user_id: UUID) -> User:
        user = await self._store.people.user(user_id)
        if user is None or not access.may_see_user(principal, user):
            raise NotFound(f"User with id [{user_id}] is not found")
        return user
