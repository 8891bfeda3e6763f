"""A PostgreSQL of our own, on a socket of its own, that may be stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text


class Cluster:
    """A server on a directory that is removed in the end; `url` is that of its database."""

    def __init__(self) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not binaries:
            pytest.fail("PostgreSQL is not installed: make test installs it")
        self._programs = binaries[-1]
        self._home = Path(tempfile.mkdtemp(prefix="pg-"))
        self._as_user: list[str] = []
        if os.getuid() == 0:
            shutil.chown(self._home, "nobody")
            self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        self._data = self._home / "data"
        self.url = f"postgresql+psycopg://rpcbroker@/postgres?host={self._home}"
        self._server: subprocess.Popen[str] | None = None
        initdb = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "rpcbroker", "-A", "trust", "-N"]
        subprocess.run([*self._as_user, *initdb], check=True, capture_output=True, cwd=self._home)

    def start(self) -> None:
        """Returns when it takes connections."""
        postgres = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self._home), "-h", "", "-F"]
        self._server = subprocess.Popen(
            [*self._as_user, *postgres], cwd=self._home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self._server.stderr is not None
        for line in self._server.stderr:
            if "ready to accept connections" in line:
                return
        pytest.fail("PostgreSQL did not start")

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT ends it in good order, and the connections at once."""
        server, self._server = self._server, None
        assert server is not None
        assert server.stderr is not None
        server.send_signal(number)
        server.wait(10)
        server.stderr.close()

    def remove(self) -> None:
        if self._server is not None:
            self.stop()
        shutil.rmtree(self._home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that all tests share."""
    cluster = Cluster()
    cluster.start()
    yield cluster.url
    cluster.remove()


def emptied(url: str) -> str:
    """The same, with nothing in it."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url
