"""Rows of the tables as records, and records as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from rpcbroker.core.model import Authority, Credentials, CredentialsType, Device, User

T = TypeVar("T")


def values(record: Device | Credentials) -> dict[str, Any]:
    return asdict(record)


def one(connection: Connection, query: sa.Select[Any], make: Callable[[Any], T]) -> T | None:
    row = connection.execute(query).first()
    return None if row is None else make(row)


def device_of(row: Any) -> Device:
    return Device(**row._mapping)


def credentials_of(row: Any) -> Credentials:
    members = dict(row._mapping)
    return Credentials(**members | {"type": CredentialsType(members["type"])})


def credentials_and_device(row: Any) -> tuple[Credentials, Device]:
    mine, device = {}, {}
    for name, value in row._mapping.items():
        if name.startswith("device__"):
            device[name.removeprefix("device__")] = value
        else:
            mine[name] = value
    return Credentials(**mine | {"type": CredentialsType(mine["type"])}), Device(**device)


def user_of(row: Any) -> User:
    members = dict(row._mapping)
    del members["email_key"]
    return User(**members | {"authority": Authority(members["authority"])})
