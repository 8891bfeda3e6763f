"""Provision keys, what came by them, and claims, in the store."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import AlreadyExists, NotFound
from rpcbroker.core.model import Claim, Credentials, Device, Page, PageLink, ProvisionKey
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.device_writes import insert_device, replace_credentials, replace_device
from rpcbroker.store.people import require_customer
from rpcbroker.store.queries import contains, exists, page, require, upsert
from rpcbroker.store.rows import claim_of, one, provision_key_of, values


class Wrote(Protocol):
    """Is told that the device, or its credentials, may have changed; hands `result` on."""

    def __call__(self, result: Any, device_id: UUID, /) -> Any: ...


class SqlEnrolment:
    """`core.ports.Enrolment` on a database."""

    def __init__(self, database: Database, *, wrote: Wrote) -> None:
        self._database = database
        self._wrote = wrote

    # -- provision keys

    def provision_key(self, key_id: UUID) -> Deferred[ProvisionKey | None]:
        return self._key(t.provision_key.c.id == key_id)

    def provision_key_named(self, key: str) -> Deferred[ProvisionKey | None]:
        return self._key(t.provision_key.c.key == key)

    def provision_keys(self, tenant_id: UUID, link: PageLink) -> Deferred[Page[ProvisionKey]]:
        c = t.provision_key.c
        query = sa.select(t.provision_key).where(c.tenant_id == tenant_id)
        if link.text_search is not None:
            query = query.where(contains(link.text_search, c.key, c.device_type))
        sort = c[link.sort_property]
        return self._database.read(
            lambda connection: page(connection, query, link, sort=sort, id_=c.id, make=provision_key_of)
        )

    def create_provision_key(self, key: ProvisionKey) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.tenant, "Tenant", id=key.tenant_id)
            require_customer(connection, key.tenant_id, key.customer_id)
            if exists(connection, sa.select(t.provision_key.c.id).where(t.provision_key.c.key == key.key)):
                raise AlreadyExists("Such a provision key already exists!")
            connection.execute(sa.insert(t.provision_key), values(key))

        return self._database.write(work)

    def enable_provision_key(self, key_id: UUID, enabled: bool) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.provision_key, "Provision key", id=key_id)
            connection.execute(sa.update(t.provision_key).where(t.provision_key.c.id == key_id).values(enabled=enabled))

        return self._database.write(work)

    def delete_provision_key(self, key_id: UUID) -> Deferred[None]:
        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.provision_key).where(t.provision_key.c.id == key_id))

        return self._database.write(work)

    def _key(self, which: sa.ColumnElement[bool]) -> Deferred[ProvisionKey | None]:
        query = sa.select(t.provision_key).where(which)
        return self._database.read(lambda connection: one(connection, query, provision_key_of))

    # -- devices that come by them

    def create_provisioned(self, device: Device, credentials: Credentials, key_id: UUID) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _use(connection, key_id, device.created_time)
            insert_device(connection, device, credentials)
            _mark(connection, device.id, key_id, device.created_time)

        return self._database.write(work)

    def provision(self, device_id: UUID, key_id: UUID, time: int, credentials: Credentials | None) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _use(connection, key_id, time)
            require(connection, t.device, "Device", id=device_id)
            if exists(connection, sa.select(t.provisioned).where(t.provisioned.c.device_id == device_id)):
                raise AlreadyExists("The device was provisioned before")
            _mark(connection, device_id, key_id, time)
            if credentials is not None:
                replace_credentials(connection, credentials)

        return self._database.write(work).addBoth(self._wrote, device_id)

    # -- claims

    def offer(self, claim: Claim) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.device, "Device", id=claim.device_id)
            upsert(connection, t.claim, [values(claim)], ("device_id",))

        return self._database.write(work)

    def offered(self, device_id: UUID) -> Deferred[Claim | None]:
        query = sa.select(t.claim).where(t.claim.c.device_id == device_id)
        return self._database.read(lambda connection: one(connection, query, claim_of))

    def take(self, device: Device, claim: Claim) -> Deferred[None]:
        c = t.claim.c

        def work(connection: Connection) -> None:
            offer = sa.delete(t.claim).where(c.device_id == claim.device_id, c.digest == claim.digest)
            if not connection.execute(offer).rowcount:
                raise NotFound("The device does not offer this any more")
            replace_device(connection, device)

        return self._database.write(work).addBoth(self._wrote, device.id)


def _use(connection: Connection, key_id: UUID, time: int) -> None:
    c = t.provision_key.c
    used = sa.update(t.provision_key).where(c.id == key_id, c.enabled).values(uses=c.uses + 1, last_used_time=time)
    if not connection.execute(used).rowcount:
        raise NotFound("The provision key is gone")


def _mark(connection: Connection, device_id: UUID, key_id: UUID, time: int) -> None:
    connection.execute(sa.insert(t.provisioned), {"device_id": device_id, "key_id": key_id, "time": time})
