"""A damaged store is found before anything is written to it, and a whole one is not read each time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from fakes import first_records
from store_files import execute, make_store
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent

from rpcbroker.core.ports import StoreError
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.soundness import Mark, needs_a_look
from rpcbroker.store.sql import SqlStore


def the_store(tmp_path: Path) -> tuple[Path, SqlStore]:
    """A file of a store, and what opens it as the broker does."""
    file = tmp_path / "store.sqlite"
    return file, reopened(file)


def reopened(file: Path) -> SqlStore:
    database = ThreadedDatabase(
        f"sqlite:///{file}",
        call_from_thread=reactor.callFromThread,
        max_queue=10,
        mark=file.with_name("mark.json"),
    )
    return SqlStore(database, cache_size=1)


def looked(store: SqlStore) -> bool:
    """Open it, and say whether all of it was read."""
    with capturedLogs() as events:
        store.open(first_records=first_records)
    return any(formatEvent(event).startswith("reading all of the store") for event in events)


@pytest_twisted.ensureDeferred
async def test_a_store_that_was_closed_in_good_order_is_taken_at_its_word(tmp_path: Path) -> None:
    file, store = the_store(tmp_path)
    assert not looked(store), "there was none"
    await store.reserve_wire_ids(5)
    await store.close()
    for _ in range(2):
        again = reopened(file)
        assert not looked(again)
        await again.close()


@pytest_twisted.ensureDeferred
async def test_a_store_that_was_not_closed_is_read(tmp_path: Path) -> None:
    file, store = the_store(tmp_path)
    store.open(first_records=first_records)
    await store.reserve_wire_ids(5)
    images = {path: path.read_bytes() for path in tmp_path.iterdir()}  # what a kill leaves
    await store.close()
    for path, content in images.items():
        path.write_bytes(content)
    again = reopened(file)
    assert looked(again)
    await again.close()
    assert not needs_a_look(file, Mark(tmp_path / "mark.json", file))


@pytest_twisted.ensureDeferred
async def test_a_store_that_somebody_wrote_to_or_that_came_without_a_mark_is_read(tmp_path: Path) -> None:
    file, store = the_store(tmp_path)
    make_store(file)
    assert looked(store)
    await store.close()
    execute(file, "UPDATE counter SET value = value + 1")
    again = reopened(file)
    assert looked(again)
    await again.close()
    (tmp_path / "mark.json").write_text("{not JSON")
    once_more = reopened(file)
    assert looked(once_more)
    await once_more.close()


def garbage_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"\xde\xad\xbe\xef" * 25)


def truncated(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2 + 100)


def garbage_page(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xde\xad\xbe\xef" * (size // 4))


def emptied(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES: dict[Callable[[Path], None], str] = {
    garbage_header: "file is not a database: put a backup in its place: rpcbroker restore FILE",
    truncated: "database disk image is malformed: put a backup in its place: rpcbroker restore FILE",
    garbage_page: "it is damaged (",
    emptied: "it was in use, and now the file is empty: put a backup in its place: rpcbroker restore FILE",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
@pytest_twisted.ensureDeferred
async def test_a_damaged_file_is_refused_in_one_line_and_stays_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file, store = the_store(tmp_path)
    store.open(first_records=first_records)
    await store.close()
    damage(file)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            reopened(file).open(first_records=lambda: pytest.fail("it is not new"))
        said = str(caught.value)
        assert said.startswith(f"store {file}: {DAMAGES[damage]}")
        assert "rpcbroker restore FILE" in said
        assert "\n" not in said
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


@pytest_twisted.ensureDeferred
async def test_damage_under_a_wal_that_a_kill_left_is_found_and_the_wal_stays(tmp_path: Path) -> None:
    file, store = the_store(tmp_path)
    store.open(first_records=first_records)
    await store.close()
    again = reopened(file)
    again.open(first_records=first_records)
    await again.reserve_wire_ids(7)
    images = {path: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    await again.close()
    for path, content in images.items():
        path.write_bytes(content)
    wal = tmp_path / "store.sqlite-wal"
    assert wal.stat().st_size
    size = 4096
    with sqlite3.connect(f"file:{file}?immutable=1", uri=True) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()
    connection.close()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xde\xad\xbe\xef" * (size // 4))
    before = file.read_bytes(), wal.read_bytes()
    with pytest.raises(StoreError, match=r"it is damaged \("):
        reopened(file).open(first_records=first_records)
    assert (file.read_bytes(), wal.read_bytes()) == before


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_empty_before_the_first_start_becomes_a_store(tmp_path: Path) -> None:
    file, store = the_store(tmp_path)
    file.touch()
    assert store.open(first_records=first_records).first_start
    await store.close()
