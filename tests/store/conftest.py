"""The stores that all tests of the contract run on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import first_records
from sqlalchemy import create_engine, text
from stores import sql_store, url_of
from twisted.internet.defer import Deferred

from rpcbroker.core.ports import OpenedStore
from rpcbroker.store.memory import MemoryStore


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL of our own on a socket of its own; its URL."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.fail("PostgreSQL is not installed: make test installs it")
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(home, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    data = home / "data"
    initdb = [*as_user, str(binaries[-1] / "initdb"), "-D", str(data), "-U", "rpcbroker", "-A", "trust", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=home)
    server = subprocess.Popen(
        [*as_user, str(binaries[-1] / "postgres"), "-D", str(data), "-k", str(home), "-h", "", "-F"],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "ready to accept connections" in line:
            break
    yield f"postgresql+psycopg://rpcbroker@/postgres?host={home}"
    server.send_signal(signal.SIGINT)
    server.wait(10)
    server.stderr.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    return url_for(request, tmp_path)


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


def url_for(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return url_of(tmp_path)
    url: str = request.getfixturevalue("postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url
