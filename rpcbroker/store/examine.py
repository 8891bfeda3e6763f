"""What can be learned of a store without opening it for work: nothing is created in it, migrated or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from rpcbroker.store import tables as t
from rpcbroker.store.backup import reader_of
from rpcbroker.store.database import first_line
from rpcbroker.store.location import sqlite_file
from rpcbroker.store.schema import stored_version

CONNECT_TIMEOUT = 5
"""Seconds until a database on a server counts as not reachable."""
_TIMES = (
    t.tenant.c.created_time,
    t.user.c.created_time,
    t.device.c.created_time,
    t.presence.c.connected_time,
    t.presence.c.disconnected_time,
    t.presence.c.seen_time,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is in a store, or, in `error`, a line that says why nobody knows.

    `newest` is the latest time that any record bears, epoch ms; `damage` what SQLite's quick check found.
    `version` is None for an empty database.
    """

    version: str | None = None
    devices: int = 0
    newest: int = 0
    damage: str | None = None
    error: str | None = None


def examine(url: str, *, at_rest: bool) -> Examined:
    """Read all pages of a SQLite store, and little of another one. `at_rest`: no broker has it open.

    Raises StoreError for what is no URL.
    """
    file = sqlite_file(url)
    try:
        with engine_for_reading(url, file, at_rest=at_rest).connect() as connection:
            damage = _damage(connection) if file else None
            version = stored_version(connection)
            if version is None or damage:
                return Examined(version=version, damage=damage)
            devices = connection.execute(sa.select(sa.func.count()).select_from(t.device)).scalar_one()
            newest = max(connection.execute(sa.select(sa.func.max(column))).scalar() or 0 for column in _TIMES)
            return Examined(version=version, devices=devices, newest=newest)
    except (SQLAlchemyError, ImportError, OSError) as error:
        return Examined(error=first_line(error))


def engine_for_reading(url: str, file: Path | None, *, at_rest: bool) -> Engine:
    """Whose connections change nothing in a SQLite `file`. Raises ImportError for a driver that is not installed."""
    if file:
        return sa.create_engine("sqlite://", creator=lambda: reader_of(file, at_rest=at_rest), poolclass=NullPool)
    parsed = make_url(url)
    known: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT} if parsed.get_backend_name() == "postgresql" else {}
    return sa.create_engine(parsed, connect_args=known, poolclass=NullPool)


def _damage(connection: Connection) -> str | None:
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    return None if found == "ok" else " ".join(found.split())
