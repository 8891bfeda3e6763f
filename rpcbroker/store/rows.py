"""Rows of the tables as records, and records as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.model import (
    ApiKey,
    AuditEntry,
    Authority,
    Claim,
    Credentials,
    CredentialsType,
    Customer,
    Device,
    DeviceInfo,
    KeyScope,
    LastPresence,
    ProvisionKey,
    ProvisionStrategy,
    Tenant,
    User,
)

T = TypeVar("T")


def values(record: Any) -> dict[str, Any]:
    """A record's members, as they are."""
    kind: Any = type(record)
    return {name: getattr(record, name) for name in _names(kind)}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def user_values(user: User) -> dict[str, Any]:
    return values(user) | {"email_key": user.email.lower()}


def api_key_values(key: ApiKey) -> dict[str, Any]:
    return values(key) | {"scope": msgspec.to_builtins(key.scope)}


def one(connection: Connection, query: sa.Select[Any], make: Callable[[Any], T]) -> T | None:
    row = connection.execute(query).first()
    return None if row is None else make(row)


def device_of(row: Any) -> Device:
    return Device(**row._mapping)


def device_info_of(row: Any) -> DeviceInfo:
    members = dict(row._mapping)
    title, connected = members.pop("customer_title"), members.pop("connected")
    return DeviceInfo(device=Device(**members), customer_title=title, connected=bool(connected))


def credentials_of(row: Any) -> Credentials:
    members = dict(row._mapping)
    return Credentials(**members | {"type": CredentialsType(members["type"])})


def presence_of(row: Any) -> LastPresence:
    return LastPresence(**row._mapping)


def tenant_of(row: Any) -> Tenant:
    return Tenant(**row._mapping)


def customer_of(row: Any) -> Customer:
    return Customer(**row._mapping)


def user_of(row: Any) -> User:
    members = dict(row._mapping)
    del members["email_key"]
    return User(**members | {"authority": Authority(members["authority"])})


def api_key_of(row: Any) -> ApiKey:
    members = dict(row._mapping)
    return ApiKey(**members | {"scope": msgspec.convert(members["scope"], KeyScope)})


def audit_entry_of(row: Any) -> AuditEntry:
    return AuditEntry(**row._mapping)


def provision_key_of(row: Any) -> ProvisionKey:
    members = dict(row._mapping)
    return ProvisionKey(**members | {"strategy": ProvisionStrategy(members["strategy"])})


def claim_of(row: Any) -> Claim:
    return Claim(**row._mapping)
