"""The store of a broker that may be running, opened beside it: one connection, no threads, nothing migrated."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from twisted.internet.defer import Deferred, execute, succeed

from rpcbroker.core.ports import StoreError
from rpcbroker.store.database import ReadWork, engine_of, first_line, shown_url
from rpcbroker.store.location import sqlite_file
from rpcbroker.store.schema import stored_version
from rpcbroker.store.soundness import remedy
from rpcbroker.store.tables import SCHEMA_VERSION
from rpcbroker.store.writer import Work

T = TypeVar("T")


class DirectDatabase:
    """Every Deferred has fired when it is returned. A failure is a BrokerError, or a StoreError.

    What it writes stands beside what the broker has in memory: only records that the broker reads when
    it needs them may be written, such as new users.
    """

    max_queue = 1_000
    queued = commits = failures = 0
    damaged = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: Engine | None = None

    def open(self, load: ReadWork[T]) -> T:
        """Connect to a store that is there and has this program's schema, and do `load`. Raises StoreError."""
        file = sqlite_file(self._url)
        if file is not None and not file.is_file():
            raise StoreError(f"there is no store at {file}")
        try:
            self._engine = engine_of(self._url)
            with self._engine.begin() as connection:
                check_version(stored_version(connection))
                return load(connection)
        except (SQLAlchemyError, ArgumentError, ImportError, OSError) as error:
            raise self._failed(error) from None

    def close(self) -> Deferred[None]:
        if self._engine is not None:
            self._engine.dispose()
        return succeed(None)

    def read(self, work: ReadWork[T]) -> Deferred[T]:
        return self.write(work)

    def write(self, work: Work) -> Deferred[Any]:
        engine = self._engine
        assert engine is not None, "open it first"

        def run() -> Any:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                raise self._failed(error) from None

        return execute(run)

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"store {shown_url(self._url)}: {first_line(error)}{remedy(error)}")


def check_version(version: str | None) -> None:
    """Raises StoreError unless it is the version of this program's schema."""
    if version == SCHEMA_VERSION:
        return
    if version is None:
        raise StoreError("the store is empty: no broker has started on it yet")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the store has schema version {version}, newer than this program's {SCHEMA_VERSION}: use the newer program"
        )
    raise StoreError(
        f"the store has schema version {version}, older than this program's {SCHEMA_VERSION}: "
        "start the broker of this version once, it migrates the store"
    )
