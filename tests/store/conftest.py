"""The stores that all tests of the contract run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import first_records
from stores import sql_store, url_for
from twisted.internet.defer import Deferred

from rpcbroker.core.ports import OpenedStore
from rpcbroker.store.memory import MemoryStore


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    return url_for(request, tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database that is empty at the beginning of a module's tests, whose other tests use none."""
    return url_for(request, tmp_path_factory.mktemp("store"))


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Open, with the first records in it."""
    made: Any = MemoryStore() if request.param == "memory" else sql_store(url_for(request, tmp_path))
    made.open(first_records=first_records)
    yield made
    pytest_twisted.blockon(made.close())


@pytest.fixture
def opened_again(store: Any) -> Callable[[], Deferred[OpenedStore]]:
    """Closes the store, and opens it as after a restart; what it knows then."""

    def open_again(_: object) -> OpenedStore:
        return store.open(first_records=lambda: pytest.fail("it is not empty"))  # type: ignore[no-any-return]

    return lambda: store.close().addCallback(open_again)
