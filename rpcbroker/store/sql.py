"""The store on SQLAlchemy Core, SQLite or PostgreSQL. Here: what the broker itself needs, devices first of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core.deadlines import Clock
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.model import (
    NULL_UUID,
    Credentials,
    Device,
    DeviceFilter,
    DeviceInfo,
    KnownDevice,
    LastPresence,
    Page,
    PageLink,
    Relation,
    Tenant,
    User,
)
from rpcbroker.core.ports import OpenedStore
from rpcbroker.core.presence import PresenceChange
from rpcbroker.store import tables as t
from rpcbroker.store.audit import SqlAudit
from rpcbroker.store.boards import SqlBoards
from rpcbroker.store.bulk import SqlBulks, running_bulks
from rpcbroker.store.cache import Cache
from rpcbroker.store.calls import SqlCalls, waiting_calls
from rpcbroker.store.database import Database
from rpcbroker.store.device_writes import insert_device, replace_credentials, replace_device
from rpcbroker.store.enrolment import SqlEnrolment
from rpcbroker.store.failures import DAMAGED
from rpcbroker.store.logins import Logins
from rpcbroker.store.people import SqlPeople, owners_of_keys
from rpcbroker.store.presence import changes_since, forget_changes, keep
from rpcbroker.store.queries import (
    CONNECTED,
    contains,
    device_conditions,
    exists,
    insert,
    page,
    upsert,
)
from rpcbroker.store.rows import (
    credentials_of,
    device_info_of,
    device_of,
    one,
    presence_of,
    user_values,
    values,
)
from rpcbroker.store.rules import SqlRules, keep_relation, rule_chains
from rpcbroker.store.values import SqlValues
from rpcbroker.store.writer import Work

WIRE_IDS = "wire_ids"
PINGS = "pings"
"""Counts the writes that only try whether it can be written: one that changes nothing would write nothing."""

T = TypeVar("T")


class SqlStore:
    """`core.ports.Store` on a database. Reads run on threads of their own, or come from memory."""

    def __init__(self, database: Database, *, cache_size: int, clock: Clock | None = None) -> None:
        """`clock` is for what is written behind; without one it waits for the next write or read."""
        self._database = database
        self._devices = Cache(cache_size)
        self._logins = Logins(database, cache_size=cache_size)
        self.people = SqlPeople(database, devices_changed=self._forget_all)
        self.audit = SqlAudit(database)
        self.values = SqlValues(database)
        self.calls = SqlCalls(database, clock=clock)
        self.bulks = SqlBulks(database)
        self.enrolment = SqlEnrolment(database, wrote=self._wrote)
        self.rules = SqlRules(database)
        self.boards = SqlBoards(database)

    # -- opening and closing

    def open(self, *, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
        """See the port."""
        self.calls.start()
        return self._database.open(lambda connection: _load(connection, first_records))

    def close(self) -> Deferred[None]:
        """See the port."""
        self.calls.stop()
        return self._database.close()

    @property
    def queued(self) -> int:
        return self._database.queued + self.calls.gathered

    @property
    def commits(self) -> int:
        return self._database.commits

    @property
    def failures(self) -> int:
        return self._database.failures

    def ping(self) -> Deferred[None]:
        if self._database.damaged:  # what is asked here may be whole
            return fail(Unavailable(DAMAGED.words, reason=Reason.STORE_UNAVAILABLE, hint=DAMAGED.hint))

        def work(connection: Connection) -> None:
            connection.execute(sa.select(t.counter).limit(1)).all()

        return self._database.read(work)

    def ping_writer(self) -> Deferred[None]:
        def work(connection: Connection) -> None:
            connection.execute(_count_ping(connection), {"name": PINGS, "value": 1})

        return self._database.write(work)

    def reserve_wire_ids(self, upto: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            upsert(connection, t.counter, [{"name": WIRE_IDS, "value": upto}], ("name",))

        return self._database.write(work)

    # -- devices

    def device(self, device_id: UUID) -> Deferred[Device | None]:
        query = sa.select(t.device).where(t.device.c.id == device_id)
        return self._cached(self._devices, device_id, lambda connection: one(connection, query, device_of))

    def device_by_name(self, tenant_id: UUID, name: str) -> Deferred[Device | None]:
        query = sa.select(t.device).where(t.device.c.tenant_id == tenant_id, t.device.c.name == name)
        return self._database.read(lambda connection: one(connection, query, device_of))

    def devices(self, wanted: DeviceFilter, link: PageLink) -> Deferred[Page[DeviceInfo]]:
        query = _infos().where(*device_conditions(wanted))
        if link.text_search is not None:
            query = query.where(contains(link.text_search, t.device.c.name))
        sort, id_ = t.device.c[link.sort_property], t.device.c.id
        return self._database.read(
            lambda connection: page(connection, query, link, sort=sort, id_=id_, make=device_info_of)
        )

    def device_types(self, wanted: DeviceFilter) -> Deferred[tuple[str, ...]]:
        query = sa.select(t.device.c.type).where(*device_conditions(wanted)).distinct().order_by(t.device.c.type)
        return self._database.read(lambda connection: tuple(connection.execute(query).scalars()))

    def create_device(
        self, device: Device, credentials: Credentials, relation: Relation | None = None
    ) -> Deferred[None]:
        def work(connection: Connection) -> None:
            insert_device(connection, device, credentials)
            if relation is not None:
                keep_relation(connection, relation)

        def forget(result: Any) -> Any:
            self._logins.added(credentials)
            return result

        return self._database.write(work).addBoth(forget)

    def update_device(
        self, device: Device, credentials: Credentials | None = None, relation: Relation | None = None
    ) -> Deferred[None]:
        def work(connection: Connection) -> None:
            replace_device(connection, device)
            if credentials is not None:
                replace_credentials(connection, credentials)
            if relation is not None:
                keep_relation(connection, relation)

        return self._write(work, changes_device=device.id)

    def delete_device(self, device_id: UUID) -> Deferred[bool]:
        def work(connection: Connection) -> bool:
            for table in t.OF_DEVICE:
                connection.execute(sa.delete(table).where(table.c.device_id == device_id))
            return connection.execute(sa.delete(t.device).where(t.device.c.id == device_id)).rowcount > 0

        return self._write(work, changes_device=device_id)

    def credentials(self, device_id: UUID) -> Deferred[Credentials | None]:
        query = sa.select(t.credentials).where(t.credentials.c.device_id == device_id)
        return self._database.read(lambda connection: one(connection, query, credentials_of))

    def update_credentials(self, credentials: Credentials) -> Deferred[None]:
        return self._write(
            lambda connection: replace_credentials(connection, credentials), changes_device=credentials.device_id
        )

    def matching_credentials(self, ids: Sequence[str]) -> Deferred[tuple[KnownDevice, ...]]:
        return self._logins.find(tuple(ids))

    # -- presence

    def presence(self, device_id: UUID) -> Deferred[LastPresence | None]:
        query = sa.select(t.presence).where(t.presence.c.device_id == device_id)
        return self._database.read(lambda connection: one(connection, query, presence_of))

    def save_presence(
        self, presences: Sequence[LastPresence], changes: Sequence[PresenceChange] = (), *, forget: int | None = None
    ) -> Deferred[None]:
        """See the port."""

        def work(connection: Connection) -> None:
            keep(connection, presences, changes)
            if forget is not None:
                forget_changes(connection, forget)

        return self._database.write(work)

    def presence_changes(self, device_id: UUID, since: int) -> Deferred[list[PresenceChange]]:
        return self._database.read(lambda connection: changes_since(connection, device_id, since))

    # -- what was read lately

    def _write(self, work: Work, *, changes_device: UUID) -> Deferred[Any]:
        return self._database.write(work).addBoth(self._wrote, changes_device)

    def _wrote(self, result: T, device_id: UUID) -> T:
        self._devices.wrote(device_id)
        self._logins.clear()
        return result

    def _forget_all(self) -> None:
        self._devices.clear()
        self._logins.clear()

    def _cached(self, cache: Cache, key: Any, work: Callable[[Connection], T | None]) -> Deferred[T | None]:
        entry = cache.get(key)
        if entry is not None:
            return succeed(entry)
        since = cache.writes

        def keep(found: T | None) -> T | None:
            if found is not None:
                cache.put(key, found, since=since)
            return found

        return self._database.read(work).addCallback(keep)


def _count_ping(connection: Connection) -> Any:
    return insert(connection, t.counter).on_conflict_do_update(
        index_elements=("name",), set_={"value": t.counter.c.value + 1}
    )


def _load(connection: Connection, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
    if not exists(connection, sa.select(t.tenant.c.id).where(t.tenant.c.id == NULL_UUID)):
        system = Tenant(id=NULL_UUID, title="System", created_time=0)
        connection.execute(sa.insert(t.tenant), values(system))
    first = not exists(connection, sa.select(t.user.c.id))
    if first:
        tenant, user = first_records()
        connection.execute(sa.insert(t.tenant), values(tenant))
        connection.execute(sa.insert(t.user), user_values(user))
    connection.execute(_nobody_is_connected())
    waiting, next_due = waiting_calls(connection)
    reserved = connection.execute(sa.select(t.counter.c.value).where(t.counter.c.name == WIRE_IDS)).scalar()
    return OpenedStore(
        first_start=first,
        wire_ids_reserved=reserved or 0,
        revoked={row.session_id: row.until for row in connection.execute(sa.select(t.revoked_session))},
        revoked_users={row.user_id: row.time for row in connection.execute(sa.select(t.revoked_user))},
        api_keys=owners_of_keys(connection),
        default_tenant=_oldest_tenant(connection),
        waiting_calls=waiting,
        next_due=next_due,
        running_bulks=running_bulks(connection),
        rule_chains=rule_chains(connection),
    )


def _oldest_tenant(connection: Connection) -> UUID:
    c = t.tenant.c
    query = sa.select(c.id).where(c.id != NULL_UUID).order_by(c.created_time, c.id).limit(1)
    return connection.execute(query).scalar() or NULL_UUID


def _nobody_is_connected() -> sa.Update:
    """What a process that did not end in good order has left: whoever was connected was last there when last seen."""
    c = t.presence.c
    return (
        sa.update(t.presence)
        .where(c.connected_time.is_not(None), c.disconnected_time.is_(None))
        .values(
            disconnected_time=sa.func.coalesce(c.seen_time, c.connected_time),
            disconnected_cause="the server restarted",
        )
    )


def _infos() -> sa.Select[Any]:
    """Devices with their customer's title and whether they are connected."""
    joined = t.device.outerjoin(t.customer, t.customer.c.id == t.device.c.customer_id).outerjoin(
        t.presence, t.presence.c.device_id == t.device.c.id
    )
    title, connected = t.customer.c.title.label("customer_title"), sa.case((CONNECTED, True), else_=False)
    return sa.select(t.device, title, connected.label("connected")).select_from(joined)
