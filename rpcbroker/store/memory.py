"""The store as dicts: the same promises but the one about power cuts. For tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core.errors import AlreadyExists, NotFound, VersionConflict
from rpcbroker.core.model import Credentials, Device, LastPresence, Page, PageLink, Tenant, User
from rpcbroker.core.ports import OpenedStore


class MemoryStore:
    """`core.ports.Store` in memory; every Deferred has fired already."""

    def __init__(self) -> None:
        self.tenants: dict[UUID, Tenant] = {}
        self.users: dict[UUID, User] = {}
        self.records: dict[UUID, Device] = {}
        self.secrets: dict[UUID, Credentials] = {}
        self.presences: dict[UUID, LastPresence] = {}
        self.revoked: dict[str, int] = {}
        self.wire_ids = 0
        self.queued = 0
        self.commits = 0
        self.failures = 0

    def open(self, *, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
        first = not self.tenants
        if first:
            tenant, user = first_records()
            self.tenants[tenant.id] = tenant
            self.users[user.id] = user
        return OpenedStore(first_start=first, wire_ids_reserved=self.wire_ids, revoked=dict(self.revoked))

    def close(self) -> Deferred[None]:
        return succeed(None)

    def reserve_wire_ids(self, upto: int) -> Deferred[None]:
        self.wire_ids = upto
        return succeed(None)

    def revoke_session(self, session_id: str, until: int) -> Deferred[None]:
        self.revoked[session_id] = until
        return succeed(None)

    def user(self, user_id: UUID) -> Deferred[User | None]:
        return succeed(self.users.get(user_id))

    def user_by_email(self, email: str) -> Deferred[User | None]:
        key = email.lower()
        return succeed(next((user for user in self.users.values() if user.email.lower() == key), None))

    def device(self, device_id: UUID) -> Deferred[Device | None]:
        return succeed(self.records.get(device_id))

    def device_by_name(self, tenant_id: UUID, name: str) -> Deferred[Device | None]:
        return succeed(self._named(tenant_id, name))

    def devices(self, tenant_id: UUID, customer_id: UUID | None, link: PageLink) -> Deferred[Page[Device]]:
        search = (link.text_search or "").lower()
        found = [
            device
            for device in self.records.values()
            if device.tenant_id == tenant_id
            and (customer_id is None or device.customer_id == customer_id)
            and (link.type is None or device.type == link.type)
            and search in device.name.lower()
        ]

        def key(device: Device) -> tuple[Any, ...]:
            value = getattr(device, link.sort_property)
            return (value is not None, value or 0 if value is None else value, device.id)

        found.sort(key=key, reverse=link.descending)
        start = link.page * link.page_size
        return succeed(Page(items=tuple(found[start : start + link.page_size]), total=len(found)))

    def create_device(self, device: Device, credentials: Credentials) -> Deferred[None]:
        if self._named(device.tenant_id, device.name) is not None:
            return fail(AlreadyExists("Device with such name already exists!"))
        if self._is_taken(credentials):
            return fail(AlreadyExists("Specified credentials are already registered!"))
        self.records[device.id] = device
        self.secrets[device.id] = credentials
        return succeed(None)

    def update_device(self, device: Device) -> Deferred[None]:
        named = self._named(device.tenant_id, device.name)
        if named is not None and named.id != device.id:
            return fail(AlreadyExists("Device with such name already exists!"))
        problem = _version_problem(self.records.get(device.id), device.version)
        if problem is not None:
            return fail(problem)
        self.records[device.id] = device
        return succeed(None)

    def delete_device(self, device_id: UUID) -> Deferred[bool]:
        self.secrets.pop(device_id, None)
        self.presences.pop(device_id, None)
        return succeed(self.records.pop(device_id, None) is not None)

    def credentials(self, device_id: UUID) -> Deferred[Credentials | None]:
        return succeed(self.secrets.get(device_id))

    def update_credentials(self, credentials: Credentials) -> Deferred[None]:
        if self._is_taken(credentials):
            return fail(AlreadyExists("Specified credentials are already registered!"))
        problem = _version_problem(self.secrets.get(credentials.device_id), credentials.version)
        if problem is not None:
            return fail(problem)
        self.secrets[credentials.device_id] = credentials
        return succeed(None)

    def matching_credentials(self, ids: Sequence[str]) -> Deferred[tuple[tuple[Credentials, Device], ...]]:
        return succeed(
            tuple(
                (credentials, self.records[device_id])
                for device_id, credentials in self.secrets.items()
                if credentials.credentials_id in ids
            )
        )

    def presence(self, device_id: UUID) -> Deferred[LastPresence | None]:
        return succeed(self.presences.get(device_id))

    def save_presence(self, presences: Sequence[LastPresence]) -> Deferred[None]:
        self.presences |= {entry.device_id: entry for entry in presences if entry.device_id in self.records}
        return succeed(None)

    def ping(self) -> Deferred[None]:
        return succeed(None)

    def ping_writer(self) -> Deferred[None]:
        return succeed(None)

    def _named(self, tenant_id: UUID, name: str) -> Device | None:
        matches = (d for d in self.records.values() if d.tenant_id == tenant_id and d.name == name)
        return next(matches, None)

    def _is_taken(self, credentials: Credentials) -> bool:
        return any(
            other.credentials_id == credentials.credentials_id and other.device_id != credentials.device_id
            for other in self.secrets.values()
        )


def _version_problem(stored: Device | Credentials | None, version: int) -> Exception | None:
    if stored is None:
        return NotFound("It was deleted in the meantime")
    if stored.version != version - 1:
        return VersionConflict("Somebody else changed this in the meantime")
    return None
