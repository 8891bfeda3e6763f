"""SQLite stores as files, for tests of what is done to them while no broker runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from fakes import device, first_records, token
from sqlalchemy.pool import NullPool

from rpcbroker.core.model import Relation, StoredChain
from rpcbroker.core.records import KeptCall
from rpcbroker.store import tables as t
from rpcbroker.store.call_writes import insert_row, write_calls
from rpcbroker.store.rows import values
from rpcbroker.store.schema import ensure_schema


def make_store(
    path: Path, *, devices: int = 2, wire_ids: int | None = 8192, revoked: dict[str, int] | None = None
) -> Path:
    """A store with one tenant, one user and some devices, as the broker leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.chmod(0o600)
    path.write_bytes(_empty())
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    tenant, user = first_records()
    with engine.begin() as connection:
        connection.execute(sa.insert(t.tenant), asdict(tenant))
        connection.execute(sa.insert(t.user), asdict(user) | {"email_key": user.email.lower()})
        for number in range(100, 100 + devices):
            connection.execute(sa.insert(t.device), values(device(number)))
            connection.execute(sa.insert(t.credentials), values(token(device(number))))
        if wire_ids is not None:
            connection.execute(sa.insert(t.counter), {"name": "wire_ids", "value": wire_ids})
        for session, until in (revoked or {}).items():
            connection.execute(sa.insert(t.revoked_session), {"session_id": session, "until": until})
    return path


def add_calls(path: Path, *calls: KeptCall) -> Path:
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.begin() as connection:
        refused, _ = write_calls(connection, [insert_row(kept) for kept in calls], [], [])
    assert refused == [None] * len(calls)
    return path


def add_rules(path: Path, name: str) -> Path:
    """A root chain of this name, and a relation of this type between the first two devices."""
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)
    one, two = device(100), device(101)
    chain = StoredChain(id=one.id, tenant_id=one.tenant_id, name=name, root=True, graph=b"{}", created_time=5)
    relation = Relation(tenant_id=one.tenant_id, source=one.id, target=two.id, type=name)
    with engine.begin() as connection:
        connection.execute(sa.insert(t.rule_chain), values(chain))
        connection.execute(sa.insert(t.relation), values(relation))
    return path


@cache
def _empty() -> bytes:
    """Migrated once, for that takes time."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "empty.sqlite"
        execute(path, "PRAGMA journal_mode=WAL")
        engine = sa.create_engine(f"sqlite:///{path}", poolclass=NullPool)
        ensure_schema(engine)
        engine.dispose()
        return path.read_bytes()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()
