"""Stores on databases, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres import emptied
from twisted.internet import reactor

from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.memory import MemoryStore
from rpcbroker.store.sql import SqlStore


def sql_store(url: str, *, max_queue: int = 10_000) -> SqlStore:
    database = ThreadedDatabase(url, call_from_thread=reactor.callFromThread, max_queue=max_queue)
    return SqlStore(database, cache_size=100, clock=reactor)


def url_of(path: Path) -> str:
    return f"sqlite:///{path / 'store.sqlite'}"


def url_for(request: pytest.FixtureRequest, directory: Path) -> str:
    """Of an empty database: in `directory`, or in PostgreSQL, as the fixture's param says."""
    if request.param == "sqlite":
        return url_of(directory)
    return emptied(request.getfixturevalue("postgresql"))


@contextmanager
def statements(store: MemoryStore) -> Iterator[list[str]]:
    """What SQLite is given meanwhile, with its parameters; a comment stands for what it does by itself."""
    found: list[str] = []
    with store.database._engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(lambda statement: found.append(statement.strip()))
        yield found
        driver.set_trace_callback(None)
