"""Tenants, customers, users and API keys in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import AlreadyExists, InvalidRequest, NotFound
from rpcbroker.core.model import NULL_UUID, ApiKey, Authority, Customer, Page, PageLink, Tenant, User
from rpcbroker.core.ports import Gone
from rpcbroker.store import tables as t
from rpcbroker.store.database import Database
from rpcbroker.store.queries import contains, exists, page, replace_version, require, upsert
from rpcbroker.store.rows import (
    api_key_of,
    api_key_values,
    customer_of,
    one,
    tenant_of,
    user_of,
    user_values,
    values,
)


class SqlPeople:
    """`core.ports.People` on a database."""

    def __init__(self, database: Database, *, devices_changed: Callable[[], None]) -> None:
        """`devices_changed` is told when records of devices were written or deleted here."""
        self._database = database
        self._devices_changed = devices_changed

    # -- tenants

    def tenant(self, tenant_id: UUID) -> Deferred[Tenant | None]:
        query = sa.select(t.tenant).where(t.tenant.c.id == tenant_id, t.tenant.c.id != NULL_UUID)
        return self._database.read(lambda connection: one(connection, query, tenant_of))

    def tenants(self, link: PageLink) -> Deferred[Page[Tenant]]:
        query = sa.select(t.tenant).where(t.tenant.c.id != NULL_UUID)
        return self._page(t.tenant, query, link, (t.tenant.c.title,), tenant_of)

    def create_tenant(self, tenant: Tenant) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _check_free(connection, t.tenant, t.tenant.c.title == tenant.title, tenant.id, "Tenant with such title")
            connection.execute(sa.insert(t.tenant), values(tenant))

        return self._database.write(work)

    def update_tenant(self, tenant: Tenant) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _check_free(connection, t.tenant, t.tenant.c.title == tenant.title, tenant.id, "Tenant with such title")
            replace_version(connection, t.tenant, t.tenant.c.id == tenant.id, values(tenant))

        return self._database.write(work)

    def delete_tenant(self, tenant_id: UUID, *, revoked: int) -> Deferred[Gone]:
        def work(connection: Connection) -> Gone:
            require(connection, t.tenant, "Tenant", id=tenant_id)
            gone = Gone(
                devices=_ids(connection, t.device, t.device.c.tenant_id == tenant_id),
                users=_ids(connection, t.user, t.user.c.tenant_id == tenant_id),
            )
            devices = sa.select(t.device.c.id).where(t.device.c.tenant_id == tenant_id)
            for table in t.OF_DEVICE:
                connection.execute(sa.delete(table).where(table.c.device_id.in_(devices)))
            for table in (t.device, t.api_key, t.user, t.customer, t.audit):
                connection.execute(sa.delete(table).where(table.c.tenant_id == tenant_id))
            connection.execute(sa.delete(t.tenant).where(t.tenant.c.id == tenant_id))
            _revoke(connection, gone.users, revoked)
            return gone

        return self._database.write(work).addBoth(self._with_devices)

    # -- customers

    def customer(self, customer_id: UUID) -> Deferred[Customer | None]:
        query = sa.select(t.customer).where(t.customer.c.id == customer_id)
        return self._database.read(lambda connection: one(connection, query, customer_of))

    def customer_by_title(self, tenant_id: UUID, title: str) -> Deferred[Customer | None]:
        query = sa.select(t.customer).where(t.customer.c.tenant_id == tenant_id, t.customer.c.title == title)
        return self._database.read(lambda connection: one(connection, query, customer_of))

    def customers(self, tenant_id: UUID, link: PageLink) -> Deferred[Page[Customer]]:
        query = sa.select(t.customer).where(t.customer.c.tenant_id == tenant_id)
        return self._page(t.customer, query, link, (t.customer.c.title,), customer_of)

    def create_customer(self, customer: Customer) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.tenant, "Tenant", id=customer.tenant_id)
            _check_title(connection, customer)
            connection.execute(sa.insert(t.customer), values(customer))

        return self._database.write(work)

    def update_customer(self, customer: Customer) -> Deferred[None]:
        def work(connection: Connection) -> None:
            _check_title(connection, customer)
            replace_version(connection, t.customer, t.customer.c.id == customer.id, values(customer))

        return self._database.write(work)

    def delete_customer(self, customer_id: UUID, *, revoked: int) -> Deferred[Gone]:
        def work(connection: Connection) -> Gone:
            require(connection, t.customer, "Customer", id=customer_id)
            mine = t.device.c.customer_id == customer_id
            gone = Gone(
                devices=_ids(connection, t.device, mine),
                users=_ids(connection, t.user, t.user.c.customer_id == customer_id),
            )
            freed = sa.update(t.device).where(mine).values(customer_id=None, version=t.device.c.version + 1)
            connection.execute(freed)
            users = sa.select(t.user.c.id).where(t.user.c.customer_id == customer_id)
            connection.execute(sa.delete(t.api_key).where(t.api_key.c.user_id.in_(users)))
            connection.execute(sa.delete(t.user).where(t.user.c.customer_id == customer_id))
            connection.execute(sa.delete(t.customer).where(t.customer.c.id == customer_id))
            _revoke(connection, gone.users, revoked)
            return gone

        return self._database.write(work).addBoth(self._with_devices)

    # -- users

    def user(self, user_id: UUID) -> Deferred[User | None]:
        query = sa.select(t.user).where(t.user.c.id == user_id)
        return self._database.read(lambda connection: one(connection, query, user_of))

    def user_by_email(self, email: str) -> Deferred[User | None]:
        query = sa.select(t.user).where(t.user.c.email_key == email.lower())
        return self._database.read(lambda connection: one(connection, query, user_of))

    def users(
        self, tenant_id: UUID, link: PageLink, *, customer_id: UUID | None = None, authority: Authority | None = None
    ) -> Deferred[Page[User]]:
        query = sa.select(t.user).where(t.user.c.tenant_id == tenant_id)
        if customer_id is not None:
            query = query.where(t.user.c.customer_id == customer_id)
        if authority is not None:
            query = query.where(t.user.c.authority == authority.value)
        searched = (t.user.c.email, t.user.c.first_name, t.user.c.last_name)
        return self._page(t.user, query, link, searched, user_of)

    def create_user(self, user: User) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.tenant, "Tenant", id=user.tenant_id)
            require_customer(connection, user.tenant_id, user.customer_id)
            _check_email(connection, user)
            connection.execute(sa.insert(t.user), user_values(user))

        return self._database.write(work)

    def update_user(self, user: User, *, revoked: int | None = None) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require_customer(connection, user.tenant_id, user.customer_id)
            _check_email(connection, user)
            replace_version(connection, t.user, t.user.c.id == user.id, user_values(user))
            if revoked is not None:
                _revoke(connection, [user.id], revoked)

        return self._database.write(work)

    def delete_user(self, user_id: UUID, *, revoked: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            require(connection, t.user, "User", id=user_id)
            connection.execute(sa.delete(t.api_key).where(t.api_key.c.user_id == user_id))
            connection.execute(sa.delete(t.user).where(t.user.c.id == user_id))
            _revoke(connection, [user_id], revoked)

        return self._database.write(work)

    # -- tokens and API keys

    def revoke_session(self, session_id: str, until: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            upsert(connection, t.revoked_session, [{"session_id": session_id, "until": until}], ("session_id",))

        return self._database.write(work)

    def forget_revoked(self, *, now: int, since: int) -> Deferred[None]:
        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.revoked_session).where(t.revoked_session.c.until <= now))
            connection.execute(sa.delete(t.revoked_user).where(t.revoked_user.c.time <= since))

        return self._database.write(work)

    def api_keys(self, user_id: UUID, link: PageLink) -> Deferred[Page[ApiKey]]:
        query = sa.select(t.api_key).where(t.api_key.c.user_id == user_id)
        return self._page(t.api_key, query, link, (t.api_key.c.description,), api_key_of)

    def create_api_key(self, key: ApiKey, *, most: int) -> Deferred[User]:
        mine = sa.select(sa.func.count()).select_from(t.api_key).where(t.api_key.c.user_id == key.user_id)

        def work(connection: Connection) -> User:
            user = _owner(connection, key)
            if connection.execute(mine).scalar_one() >= most:
                raise InvalidRequest(
                    f"The user has {most} API keys already",
                    hint="Delete one that is not used any more. The limit is auth.max_api_keys_per_user.",
                )
            connection.execute(sa.insert(t.api_key), api_key_values(key))
            return user

        return self._database.write(work)

    def update_api_key(self, key: ApiKey) -> Deferred[User]:
        row = api_key_values(key)
        del row["last_used_time"]  # written by `used_api_keys`, at other times

        def work(connection: Connection) -> User:
            require(connection, t.api_key, "API key", id=key.id)
            connection.execute(sa.update(t.api_key).where(t.api_key.c.id == key.id).values(row))
            return _owner(connection, key)

        return self._database.write(work)

    def delete_api_key(self, key_id: UUID) -> Deferred[None]:
        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.api_key).where(t.api_key.c.id == key_id))

        return self._database.write(work)

    def used_api_keys(self, times: Mapping[UUID, int]) -> Deferred[None]:
        statement = (
            sa.update(t.api_key)
            .where(t.api_key.c.id == sa.bindparam("key_id"))
            .values(last_used_time=sa.bindparam("time"))
        )
        rows = [{"key_id": key_id, "time": time} for key_id, time in times.items()]

        def work(connection: Connection) -> None:
            connection.execute(statement, rows)

        return self._database.write(work)

    # -- inside

    def _page(
        self,
        table: sa.Table,
        query: sa.Select[Any],
        link: PageLink,
        searched: tuple[sa.ColumnElement[Any], ...],
        make: Callable[[Any], Any],
    ) -> Deferred[Page[Any]]:
        if link.text_search is not None:
            query = query.where(contains(link.text_search, *searched))
        sort, id_ = table.c[link.sort_property], table.c.id
        return self._database.read(lambda connection: page(connection, query, link, sort=sort, id_=id_, make=make))

    def _with_devices(self, result: Any) -> Any:
        self._devices_changed()
        return result


def owners_of_keys(connection: Connection) -> tuple[tuple[ApiKey, User], ...]:
    """All API keys, each with its user."""
    users = {user.id: user for user in map(user_of, connection.execute(_key_users()))}
    keys = map(api_key_of, connection.execute(sa.select(t.api_key)))
    return tuple((key, users[key.user_id]) for key in keys)


def _revoke(connection: Connection, user_ids: Iterable[UUID], time: int) -> None:
    rows = [{"user_id": user_id, "time": time} for user_id in user_ids]
    upsert(connection, t.revoked_user, rows, ("user_id",))


def _owner(connection: Connection, key: ApiKey) -> User:
    user = one(connection, sa.select(t.user).where(t.user.c.id == key.user_id), user_of)
    if user is None:
        raise NotFound(f"User with id [{key.user_id}] is not found")
    return user


def require_customer(connection: Connection, tenant_id: UUID, customer_id: UUID | None) -> None:
    """Raises NotFound if there is no such customer; it may have been deleted while somebody was given to it."""
    if customer_id is not None:
        require(connection, t.customer, "Customer", id=customer_id, tenant_id=tenant_id)


def _key_users() -> sa.Select[Any]:
    return sa.select(t.user).where(t.user.c.id.in_(sa.select(t.api_key.c.user_id)))


def _ids(connection: Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> tuple[UUID, ...]:
    return tuple(connection.execute(sa.select(table.c.id).where(which)).scalars())


def _check_free(connection: Connection, table: sa.Table, alike: Any, mine: UUID, what: str) -> None:
    if exists(connection, sa.select(table.c.id).where(alike, table.c.id != mine)):
        raise AlreadyExists(f"{what} already exists!")


def _check_title(connection: Connection, customer: Customer) -> None:
    alike = sa.and_(t.customer.c.tenant_id == customer.tenant_id, t.customer.c.title == customer.title)
    _check_free(connection, t.customer, alike, customer.id, "Customer with such title")


def _check_email(connection: Connection, user: User) -> None:
    alike = t.user.c.email_key == user.email.lower()
    _check_free(connection, t.user, alike, user.id, f"User with email '{user.email}'")
