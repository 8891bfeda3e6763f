"""Backups of a SQLite store that is being written to."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import EPOCH_MS
from kept_calls import kept_call
from sqlalchemy.pool import NullPool
from store_files import ask, execute, make_store
from stores import sql_store
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from rpcbroker.core.calls import CallState
from rpcbroker.core.ports import StoreError
from rpcbroker.store.backup import Contents, back_up, size_of
from rpcbroker.store.invariants import verify
from rpcbroker.store.tables import SCHEMA_VERSION


def no_pause(_seconds: float) -> None:
    pass


def take(store: Path, target: Path, *, replace: bool = False, pause: Callable[[float], None] = no_pause) -> Contents:
    return back_up(store, target, replace=replace, pause=pause)


def test_it_holds_what_the_store_holds_and_says_so(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite", devices=3)
    target = tmp_path / "elsewhere.sqlite"
    contents = take(store, target)
    assert contents == Contents(size=target.stat().st_size, schema_version=SCHEMA_VERSION, devices=3, users=1)
    query = "SELECT credentials_id FROM credentials ORDER BY 1"
    assert ask(target, query) == ask(store, query) == [("TOKEN100",), ("TOKEN101",), ("TOKEN102",)]


def test_it_is_readable_by_its_owner_alone_and_one_file(tmp_path: Path) -> None:
    target = tmp_path / "out" / "b.sqlite"
    target.parent.mkdir()
    take(make_store(tmp_path / "store.sqlite"), target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(target.parent.iterdir()) == [target]
    assert ask(target, "PRAGMA journal_mode") == [("delete",)], "else reading it makes files beside it"


def test_what_is_only_in_the_wal_is_in_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite")
    with closing(sqlite3.connect(store)) as broker:
        broker.execute("INSERT INTO counter VALUES ('x', 7)")
        broker.commit()
        assert b"x" not in store.read_bytes()[-100:]
        assert (tmp_path / "store.sqlite-wal").stat().st_size > 0
        take(store, tmp_path / "b.sqlite")
    assert ask(tmp_path / "b.sqlite", "SELECT value FROM counter WHERE name = 'x'") == [(7,)]


def fill(store: Path, count: int) -> None:
    execute(
        store,
        "CREATE TABLE filling (id INTEGER PRIMARY KEY, data BLOB)",
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        " INSERT INTO filling SELECT i, randomblob(2000) FROM n",
    )


def test_writes_between_its_steps_neither_restart_it_nor_wait_nor_get_into_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite")
    fill(store, 2_000)
    steps = 0
    with closing(sqlite3.connect(store, timeout=0)) as broker:

        def write(_seconds: float) -> None:
            nonlocal steps
            steps += 1
            assert steps < 100, "it begins again and again"
            broker.execute("UPDATE counter SET value = value + 1")
            broker.execute("UPDATE filling SET data = zeroblob(2000) WHERE id = 2000")
            broker.commit()

        take(store, tmp_path / "b.sqlite", pause=write)
    assert steps >= 4
    assert ask(store, "SELECT value FROM counter") == [(8192 + steps,)]
    assert ask(tmp_path / "b.sqlite", "SELECT value FROM counter") == [(8192,)]
    assert ask(tmp_path / "b.sqlite", "SELECT data <> zeroblob(2000) FROM filling WHERE id = 2000") == [(1,)]


def test_a_writer_of_another_thread_goes_on_all_the_time(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite")
    fill(store, 2_000)
    stop = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as broker:
            while not stop.is_set():
                try:
                    broker.execute("UPDATE counter SET value = value + 1")
                except sqlite3.Error as error:
                    failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            take(store, tmp_path / f"{number}.sqlite")
    finally:
        stop.set()
        writer.join()
    assert not failures
    values = [ask(tmp_path / f"{number}.sqlite", "SELECT value FROM counter")[0][0] for number in range(3)]
    assert values == sorted(values)


@pytest_twisted.ensureDeferred
async def test_calls_that_are_made_and_end_meanwhile_are_in_it_as_they_were_at_one_moment(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite")
    fill(store, 2_000)
    opened = sql_store(f"sqlite:///{store}")
    opened.open(first_records=lambda: pytest.fail("it is not empty"))
    target, made, stop = tmp_path / "b.sqlite", 0, False

    async def make_calls() -> None:
        """Each is kept before the one before it ends."""
        nonlocal made
        before = None
        while not stop:
            made += 1
            kept = kept_call(made)
            await opened.calls.insert(kept)
            opened.calls.advance(kept)
            if before is not None:
                before.record.state, before.record.ended_time = CallState.SUCCESSFUL, EPOCH_MS + 5
                await opened.calls.end(before)
            before = kept

    making = Deferred.fromCoroutine(make_calls())
    await opened.ping_writer()
    for _ in range(3):
        at_least = made
        await deferToThread(take, store, target, replace=True)
        at_most = made
        (calls,), (waiting,) = ask(
            target, "SELECT count(*) FROM rpc UNION ALL SELECT count(*) FROM rpc WHERE ended_time IS NULL"
        )
        assert at_least - 1 <= calls <= at_most
        assert waiting in (1, 2), "the last one, and the one before it if that was just ending"
        with sa.create_engine(f"sqlite:///{target}", poolclass=NullPool).connect() as connection:
            assert [each for each in verify(connection, now=EPOCH_MS, running=False) if each.broken] == []
    stop = True
    await making
    await opened.close()
    assert made > at_least > 1


def test_an_existing_file_is_replaced_only_on_demand(tmp_path: Path) -> None:
    store, target = make_store(tmp_path / "store.sqlite"), tmp_path / "b.sqlite"
    target.write_text("precious")
    with pytest.raises(StoreError, match=r"b\.sqlite exists already"):
        take(store, target)
    assert target.read_text() == "precious"
    take(store, target, replace=True)
    assert ask(target, "SELECT count(*) FROM device") == [(2,)]


def test_a_file_that_comes_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    target = tmp_path / "b.sqlite"
    with pytest.raises(StoreError, match="exists already"):
        take(make_store(tmp_path / "store.sqlite"), target, pause=lambda _: target.touch())
    assert target.read_bytes() == b""


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_the_store_is_never_overwritten_by_its_own_backup(tmp_path: Path, end: str) -> None:
    store = make_store(tmp_path / "store.sqlite")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is the store itself"):
        take(store, tmp_path / "link" / f"store.sqlite{end}", replace=True)
    assert ask(store, "SELECT count(*) FROM device") == [(2,)]


def test_one_that_fails_leaves_nothing_behind_and_the_old_one_whole(tmp_path: Path) -> None:
    store, target = make_store(tmp_path / "store.sqlite"), tmp_path / "out" / "b.sqlite"
    target.parent.mkdir()
    target.write_text("the last one")

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(store, target, replace=True, pause=interrupted)
    assert list(target.parent.iterdir()) == [target]
    assert target.read_text() == "the last one"


def test_a_damaged_store_gives_no_backup(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite", devices=200)
    execute(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = ask(store, "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_device_created'")[0]
    with store.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 200)
    with pytest.raises(StoreError, match=r"the copy of .*store\.sqlite(:| is damaged)") as caught:
        take(store, tmp_path / "b.sqlite")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.sqlite").exists()


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("none.sqlite", "b.sqlite", r"there is no store at .*none\.sqlite"),
        ("text.sqlite", "b.sqlite", r"cannot copy .*text\.sqlite: file is not a database"),
        ("empty.sqlite", "b.sqlite", r"empty\.sqlite is a SQLite database, but no store of rpcbroker"),
        ("newer.sqlite", "b.sqlite", r"newer\.sqlite has schema version 9999, newer than this program's"),
        ("good.sqlite", "none/b.sqlite", r"cannot write .*none/b\.sqlite: No such file or directory"),
        ("good.sqlite", "dir", r"dir is a directory: name a file in it"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, name: str, target: str, says: str) -> None:
    (tmp_path / "text.sqlite").write_text("no database at all" * 100)
    (tmp_path / "empty.sqlite").touch()
    (tmp_path / "dir").mkdir()
    make_store(tmp_path / "good.sqlite")
    execute(make_store(tmp_path / "newer.sqlite"), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=says) as caught:
        take(tmp_path / name, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.sqlite").exists()


def test_a_disk_without_room_is_not_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("rpcbroker.store.backup.disk_usage", lambda _path: Usage)
    with pytest.raises(StoreError, match=r"it needs \d+ bytes, and 1000 are free"):
        take(make_store(tmp_path / "store.sqlite"), tmp_path / "b.sqlite")


def test_the_wal_counts_when_room_is_measured(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.sqlite")
    assert size_of(store) == store.stat().st_size
    with closing(sqlite3.connect(store)) as broker:
        broker.execute("UPDATE counter SET value = 1")
        broker.commit()
        assert size_of(store) == store.stat().st_size + (tmp_path / "store.sqlite-wal").stat().st_size
        assert size_of(store) > store.stat().st_size
    assert size_of(tmp_path / "none") == 0
