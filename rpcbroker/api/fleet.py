"""Devices by name, for scripts that say what a fleet shall be like and may run any number of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from msgspec import UNSET

from rpcbroker.api import checks
from rpcbroker.api.devices import Devices
from rpcbroker.api.routes import Action, Answer, Note
from rpcbroker.core import access, jsontext
from rpcbroker.core.errors import AlreadyExists, NotFound, VersionConflict
from rpcbroker.core.model import Device, Principal
from rpcbroker.core.ports import Store
from rpcbroker.schema.devices import DeviceNameQuery, GivenCredentials, PutDeviceBody, PutResult, device_json

TRIES = 5
"""How often a change is tried again when somebody else changed or made the device in between."""


class Fleet:
    """The handler of `PUT /api/tenant/device`."""

    def __init__(
        self,
        *,
        store: Store,
        devices: Devices,
        now_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._store = store
        self._devices = devices
        self._now_ms = now_ms
        self._new_uuid = new_uuid

    async def put(self, principal: Principal, *, query: DeviceNameQuery, body: PutDeviceBody, note: Note) -> Answer:
        """Make the device of this name what the body says; 201 if it is new, 200 if it was there.

        The same request again changes nothing: not the version, and no connection is closed. The header
        X-Result of the answer says `created`, `changed` or `unchanged`.
        """
        name = checks.text("deviceName", query.device_name)
        for left in reversed(range(TRIES)):
            try:
                result, device = await self._put(principal, name, body, note)
            except (AlreadyExists, VersionConflict):
                if not left or not await self._raced(principal, name):
                    raise
            else:
                status = 201 if result is PutResult.CREATED else 200
                return Answer(jsontext.encode(device_json(device)), {"X-Result": result.value}, status)
        raise AssertionError("unreachable")

    async def _put(self, principal: Principal, name: str, body: PutDeviceBody, note: Note) -> tuple[PutResult, Device]:
        stored = await self._store.device_by_name(principal.tenant_id, name)
        if stored is None:
            device = Device(
                id=self._new_uuid(),
                tenant_id=principal.tenant_id,
                name=name,
                created_time=self._now_ms(),
                **await self._members(principal, body),
            )
            note.about(device.id, name, Action.ADDED)
            await self._devices.create(device, body.credentials or GivenCredentials())
            return PutResult.CREATED, device
        note.about(stored.id, name, Action.UPDATED)
        changed = replace(stored, **await self._members(principal, body))
        credentials = await self._devices.new_credentials(stored.id, body.credentials)
        if changed == stored and credentials is None:
            note.entity_id = None  # nothing was done, and the audit log says nothing
            return PutResult.UNCHANGED, stored
        changed = replace(changed, version=stored.version + 1)
        await self._devices.keep(changed, credentials)
        return PutResult.CHANGED, changed

    async def _members(self, principal: Principal, body: PutDeviceBody) -> dict[str, Any]:
        members: dict[str, Any] = {}
        if body.type is not None:
            members["type"] = checks.text("Device type", body.type)
        if body.label is not None:
            members["label"] = checks.plain("label", body.label) or None
        if body.additional_info is not UNSET:
            members["additional_info"] = checks.info(body.additional_info)
        if body.customer_title is not None:
            members["customer_id"] = await self._customer(principal, body.customer_title)
        return members

    async def _customer(self, principal: Principal, title: str) -> UUID | None:
        if not title:
            return None
        customer = await self._store.people.customer_by_title(
            principal.tenant_id, checks.plain("customerTitle", title) or ""
        )
        if customer is None:
            raise NotFound(f"Customer with title [{title}] is not found")
        return customer.id

    async def _raced(self, principal: Principal, name: str) -> bool:
        """Whether trying again can help: the name is taken now, and not the credentials."""
        device = await self._store.device_by_name(principal.tenant_id, name)
        return device is not None and access.may_see(principal, device)
