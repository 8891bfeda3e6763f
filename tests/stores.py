"""Stores on databases, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres import emptied
from twisted.internet import reactor

from rpcbroker.store.database import ThreadedDatabase
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
