"""Devices and credentials written, inside a transaction that may write more."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.errors import AlreadyExists
from rpcbroker.core.model import Credentials, Device
from rpcbroker.store import tables as t
from rpcbroker.store.people import require_customer
from rpcbroker.store.queries import exists, replace_version, require
from rpcbroker.store.rows import values


def insert_device(connection: Connection, device: Device, credentials: Credentials) -> None:
    """Raises AlreadyExists for a name or credentials taken, NotFound when its tenant or its customer is gone."""
    require(connection, t.tenant, "Tenant", id=device.tenant_id)
    require_customer(connection, device.tenant_id, device.customer_id)
    _check_name_free(connection, device)
    _check_credentials_free(connection, credentials)
    connection.execute(sa.insert(t.device), values(device))
    connection.execute(sa.insert(t.credentials), values(credentials))


def replace_device(connection: Connection, device: Device) -> None:
    """Raises AlreadyExists for a name taken, NotFound, VersionConflict."""
    require_customer(connection, device.tenant_id, device.customer_id)
    _check_name_free(connection, device)
    replace_version(connection, t.device, t.device.c.id == device.id, values(device))


def replace_credentials(connection: Connection, credentials: Credentials) -> None:
    """Those of `credentials.device_id`. Raises AlreadyExists, NotFound, VersionConflict."""
    _check_credentials_free(connection, credentials)
    mine = t.credentials.c.device_id == credentials.device_id
    replace_version(connection, t.credentials, mine, values(credentials))


def _check_name_free(connection: Connection, device: Device) -> None:
    query = sa.select(t.device.c.id).where(
        t.device.c.tenant_id == device.tenant_id, t.device.c.name == device.name, t.device.c.id != device.id
    )
    if exists(connection, query):
        raise AlreadyExists("Device with such name already exists!")


def _check_credentials_free(connection: Connection, credentials: Credentials) -> None:
    query = sa.select(t.credentials.c.id).where(
        t.credentials.c.credentials_id == credentials.credentials_id,
        t.credentials.c.device_id != credentials.device_id,
    )
    if exists(connection, query):
        raise AlreadyExists("Specified credentials are already registered!")
