"""What is said when a database refuses: its own refusals, not imitations of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import device, first_records, token
from postgres import emptied
from sqlalchemy.exc import DatabaseError, OperationalError
from stores import sql_store, url_of
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.ports import StoreError
from rpcbroker.store.failures import DAMAGED, FULL, READ_ONLY, UNKNOWN, UNREACHABLE, cause_of
from rpcbroker.store.writer import Writer

READ_ONLY_STATEMENTS = {
    "sqlite": ("PRAGMA query_only=ON", "PRAGMA query_only=OFF"),
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ),
}


def run(statement: str) -> Any:
    return lambda connection: connection.exec_driver_sql(statement)


@pytest_twisted.ensureDeferred
async def test_a_read_only_store_refuses_with_a_reason_and_takes_writes_again_afterwards(url: str) -> None:
    store = sql_store(url)
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    on, off = READ_ONLY_STATEMENTS[sa.make_url(url).get_backend_name()]
    await store._database.write(run(on))
    for refused in (store.ping_writer, lambda: store.reserve_wire_ids(8192)):
        with pytest.raises(Unavailable) as caught:
            await refused()
        assert caught.value.message == "The store cannot be written: the store is read-only"
        assert (caught.value.reason, caught.value.hint) == (Reason.STORE_UNAVAILABLE, READ_ONLY.hint)
    await store.ping()
    assert await store.device(device().id) == device()
    try:
        await store._database.write(run(off))
    finally:
        await store.ping_writer()
        await store.close()


@pytest_twisted.ensureDeferred
async def test_a_full_disk_refuses_what_needs_room_and_nothing_is_half_written(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store._database.write(run("PRAGMA max_page_count=1"))  # as many as there are: SQLite takes no fewer
    large = device(200, additional_info={"x": "y" * 100_000})
    with pytest.raises(Unavailable) as caught:
        await store.create_device(large, token(large))
    assert caught.value.message == "The store cannot be written: the disk is full"
    assert (caught.value.reason, caught.value.hint) == (Reason.STORE_UNAVAILABLE, FULL.hint)
    assert await store.credentials(large.id) is None
    await store._database.write(run("PRAGMA max_page_count=1000000"))
    await store.create_device(large, token(large))
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_ping_of_the_writer_is_a_durable_write_each_time(url: str) -> None:
    store = sql_store(url)
    store.open(first_records=first_records)
    await store.ping_writer()
    await store.ping_writer()
    counted = await store._database.read(
        lambda c: c.exec_driver_sql("SELECT value FROM counter WHERE name = 'pings'").scalar()
    )
    assert counted == 2, "SQLite writes nothing for a row that stays as it is"
    await store.close()


@pytest_twisted.ensureDeferred
async def test_damage_that_shows_while_it_runs_makes_the_store_unready_until_it_is_opened_again(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    await store.close()
    store = sql_store(url_of(tmp_path))  # whose connections have no page of it in memory yet
    store.open(first_records=first_records)
    file = tmp_path / "store.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'credentials'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xde\xad\xbe\xef" * (size // 4))
    await store.ping()
    with pytest.raises(Unavailable) as caught:
        await store.credentials(device().id)
    assert caught.value.message == "The store cannot be read: the store is damaged"
    with pytest.raises(Unavailable, match="the store is damaged") as unready:
        await store.ping()
    assert (unready.value.reason, unready.value.hint) == (Reason.STORE_UNAVAILABLE, DAMAGED.hint)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_database_that_cannot_be_reached_is_tried_once_for_all_that_wait() -> None:
    tried: list[Exception] = []
    refused: list[Any] = []

    def translate(error: Exception) -> Exception:
        tried.append(error)
        return Unavailable(cause_of(error).words)

    engine = sa.create_engine("postgresql+psycopg://u@127.0.0.1:1/x")
    writer = Writer(engine, call_from_thread=reactor.callFromThread, max_queue=10, translate=translate)
    waiting = [writer.write(lambda connection: None).addErrback(refused.append) for _ in range(5)]
    writer.start()
    await gatherResults(waiting)
    writer.stop()
    assert [failure.value.message for failure in refused] == [UNREACHABLE.words] * 5
    assert len(tried) == 1
    engine.dispose()


@pytest_twisted.ensureDeferred
async def test_connections_that_a_server_ended_are_made_again(postgresql: str) -> None:
    store = sql_store(emptied(postgresql))
    engine = sa.create_engine(postgresql)
    store.open(first_records=first_records)
    await gatherResults([store.ping(), store.ping_writer()])
    with engine.begin() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user"
        assert connection.exec_driver_sql(others).all()
    await gatherResults([store.ping(), store.ping_writer()])
    assert store.failures == 0
    await store.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("53100", FULL),
        ("25006", READ_ONLY),
        ("57P01", UNREACHABLE),
        ("08006", UNREACHABLE),
        ("XX001", DAMAGED),
        ("42P01", UNKNOWN),
    ],
)
def test_states_of_postgresql_are_told_in_words(state: str, cause: object) -> None:
    from psycopg.errors import lookup

    try:
        original: Exception = lookup(state)("x")
    except KeyError:
        pytest.fail(f"psycopg knows no {state}")
    assert cause_of(DatabaseError("statement", {}, original)) is cause


def test_a_connection_that_was_never_made_is_told_in_words() -> None:
    engine = sa.create_engine("postgresql+psycopg://u@127.0.0.1:1/x")
    with pytest.raises(OperationalError) as caught:
        engine.connect()
    assert cause_of(caught.value) is UNREACHABLE
    assert cause_of(ValueError("x")) is UNKNOWN


def test_a_damaged_store_that_is_opened_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match=r"file is not a database: put a backup in its place: rpcbroker restore FILE$"):
        sql_store(url_of(tmp_path)).open(first_records=first_records)


@pytest_twisted.ensureDeferred
async def test_words_for_callers_bear_no_path_and_no_statement(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store._database.write(run("DROP TABLE presence"))
    with pytest.raises(Unavailable) as caught:
        await store.presence(device().id)
    said = f"{caught.value.message} {caught.value.hint}"
    assert said == "The store cannot be read: something failed The server's log says more."
    await deferLater(reactor, 0)
    await store.close()
