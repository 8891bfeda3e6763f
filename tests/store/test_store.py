"""What a database has to keep: durability, commits, caches, the schema."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import device, first_records, token
from stores import sql_store, url_of
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater

from rpcbroker.core.errors import AlreadyExists, NotFound, Unavailable
from rpcbroker.core.ports import StoreError
from rpcbroker.store.database import READERS
from rpcbroker.store.logins import QUERIES


@pytest_twisted.ensureDeferred
async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    assert store.open(first_records=first_records).first_start
    await gatherResults([store.reserve_wire_ids(8192), store.people.revoke_session("s", 5)])
    await store.close()
    again = sql_store(url_of(tmp_path))
    opened = again.open(first_records=lambda: pytest.fail("not empty"))
    assert (opened.first_start, opened.wire_ids_reserved, opened.revoked) == (False, 8192, {"s": 5})
    await again.close()
    with pytest.raises(Unavailable):
        await again.ping()


@pytest_twisted.ensureDeferred
async def test_many_writes_share_a_commit_and_a_bad_one_fails_alone(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    many = [device(1000 + n) for n in range(200)]
    await gatherResults([store.create_device(one, token(one)) for one in many])
    assert store.commits < 50
    outcomes: list[Any] = []
    for number in (1, 1000, 2):  # 1000 is taken
        one = replace(device(number + 5000), name=f"device-{number}")
        store.create_device(one, token(one)).addBoth(outcomes.append)
    await store.ping()
    await store.close()
    assert [getattr(outcome, "type", None) for outcome in outcomes] == [None, AlreadyExists, None]


@pytest_twisted.ensureDeferred
async def test_the_writer_keeps_to_its_connection(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    together, database = threading.Barrier(READERS + 1, timeout=30), store._database
    await gatherResults([do(lambda _: together.wait()) for do in (database.write, *[database.read] * READERS)])
    used = {await database.write(lambda connection: id(connection.connection.dbapi_connection)) for _ in range(9)}
    assert len(used) == 1
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path), max_queue=0)
    store.open(first_records=first_records)
    with pytest.raises(Unavailable):
        await store.reserve_wire_ids(1)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_read_that_nobody_waits_for_any_more_is_not_begun(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    gate, begun = threading.Event(), []
    busy = [store._database.read(lambda _: gate.wait(10)) for _ in range(READERS)]
    behind = [store._database.read(lambda _: begun.append(1)) for _ in range(3)]
    behind[1].addErrback(lambda failure: failure.trap(CancelledError))
    behind[1].cancel()
    gate.set()
    await gatherResults([*busy, behind[0], behind[2]])
    await store.close()
    assert begun == [1, 1]


@pytest_twisted.ensureDeferred
async def test_what_it_counts(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    assert (store.queued, store.commits, store.failures) == (0, 0, 0)
    store.open(first_records=first_records)
    other = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first = store.reserve_wire_ids(1)
    while store.queued:  # until the writer has taken it, and waits for the lock
        await deferLater(reactor, 0.01)
    behind = store.ping_writer()
    assert (store.queued, store.commits, behind.called) == (1, 0, False)
    other.execute("ROLLBACK")
    await gatherResults([first, behind])
    assert (store.queued, store.commits) == (0, 2)
    other.executescript("DROP TABLE presence; DROP TABLE counter")
    other.close()
    with pytest.raises(Unavailable):
        await store.presence(UUID(int=1))
    with pytest.raises(Unavailable):
        await store.reserve_wire_ids(2)
    with pytest.raises(NotFound):
        await store.update_device(replace(device(9), version=2))
    assert store.failures == 2, "that a device is not there is no failure"
    await store.close()


@pytest_twisted.ensureDeferred
async def test_the_cache_never_holds_what_a_write_made_old(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    version = 1
    for _ in range(50):
        version += 1
        racing = store.device(device().id)
        await store.update_device(replace(device(), version=version))
        await racing
        assert (await store.device(device().id)).version == version
    await store.close()


def test_a_row_is_there_after_kill_9(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from twisted.internet import reactor
from fakes import *
from stores import *
store = sql_store({url_of(tmp_path)!r})
store.open(first_records=first_records)
def made():
    store.create_device(device(), token(device())).addCallback(lambda _: os.kill(os.getpid(), 9))
reactor.callWhenRunning(made)
reactor.run()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -9
    rows = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT name FROM device").fetchall()
    assert rows == [("device-100",)]


@pytest_twisted.ensureDeferred
async def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    await store.close()
    assert "store.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}


@pytest_twisted.ensureDeferred
async def test_a_login_is_an_index_search(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.close()
    asking = f"EXPLAIN QUERY PLAN {QUERIES['sqlite']}", ('["a","b"]',)
    plan = [row[3] for row in sqlite3.connect(tmp_path / "store.sqlite").execute(*asking)]
    assert "SEARCH credentials USING INDEX" in plan[0]
    assert [each for each in plan if "SCAN" in each] == [each for each in plan if "SCAN json_each" in each]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere/at/all.sqlite", "No such file or directory"),
        ("postgresql+psycopg://u@127.0.0.1:1/x", "refused"),
        ("nonsense", "Could not parse"),
        ("sqlite://", "needs a file"),
    ],
)
def test_a_store_that_cannot_be_opened_says_so_in_a_line(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        sql_store(url).open(first_records=first_records)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="not a database"):
        sql_store(url_of(tmp_path)).open(first_records=first_records)
