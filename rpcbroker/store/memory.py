"""The same store in memory: no threads, no disk, and every Deferred has fired already. For tests."""

from __future__ import annotations

from typing import Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred, execute, succeed

from rpcbroker.core.deadlines import Clock
from rpcbroker.store.database import JSON, ReadWork, prepare_sqlite
from rpcbroker.store.sql import SqlStore
from rpcbroker.store.tables import metadata
from rpcbroker.store.writer import Work

T = TypeVar("T")


class MemoryDatabase:
    """SQLite in memory, on one connection."""

    max_queue = 1_000
    queued = 0
    commits = 0
    failures = 0
    damaged = False

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, **JSON)
        prepare_sqlite(self._engine)

    def open(self, load: ReadWork[T]) -> T:
        metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            return load(connection)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def read(self, work: ReadWork[T]) -> Deferred[T]:
        return self.write(work)

    def write(self, work: Work) -> Deferred[Any]:
        def run() -> Any:
            with self._engine.begin() as connection:
                return work(connection)

        return execute(run)


class MemoryStore(SqlStore):
    """`core.ports.Store` in memory. It may be opened again, as after a restart."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """`clock`: see SqlStore."""
        self.database = MemoryDatabase()
        super().__init__(self.database, cache_size=0, clock=clock)
