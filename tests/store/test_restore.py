"""A backup put in the place of the store."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from fakes import EPOCH_MS
from store_files import add_rules, ask, execute, make_store

from rpcbroker.core.ports import StoreError
from rpcbroker.core.wire_ids import BEGIN_AGAIN, HIGHEST
from rpcbroker.store.backup import SIDECARS, beside
from rpcbroker.store.restore import WIRE_IDS_AHEAD, Restored, raised, restore

STAMP = "20261124T120000Z"


def put_back(backup: Path, store: Path) -> Restored:
    return restore(backup, store, stamp=STAMP, now=EPOCH_MS)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The present store, with five devices."""
    return make_store(tmp_path / "state" / "store.sqlite", devices=5, wire_ids=50_000)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """An older one, with two."""
    return make_store(tmp_path / "backup.sqlite", devices=2, wire_ids=8_192)


def kill_while_writing(store: Path, *statements: str) -> None:
    """Leave a WAL beside the store, as a process does that was killed."""
    room = store.parent.parent / "killed"
    room.mkdir()
    with closing(sqlite3.connect(store)) as broker:
        for statement in statements:
            broker.execute(statement)
        broker.commit()
        for end in ("", "-wal", "-shm"):
            shutil.copy(beside(store, end), room / f"copy{end}")
    for end in ("", "-wal", "-shm"):
        shutil.copy(room / f"copy{end}", beside(store, end))


def test_the_store_is_what_the_backup_holds_and_the_old_one_is_kept(store: Path, backup: Path) -> None:
    restored = put_back(backup, store)
    kept = store.parent / f"store.sqlite.before-restore-{STAMP}"
    assert restored.kept == kept
    assert restored.contents.devices == 2
    assert ask(store, "SELECT count(*) FROM device") == [(2,)]
    assert ask(kept, "SELECT count(*) FROM device") == [(5,)]
    assert {path.name for path in store.parent.iterdir()} == {store.name, kept.name}
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.parent.iterdir()} == {0o600}


def test_rule_chains_and_relations_are_those_of_the_backup(store: Path, backup: Path) -> None:
    add_rules(backup, "old")
    add_rules(store, "new")
    put_back(backup, store)
    assert ask(store, "SELECT name, root, graph FROM rule_chain") == [("old", 1, b"{}")]
    assert ask(store, "SELECT type FROM relation") == [("old",)]


def test_the_backup_itself_is_not_changed(store: Path, backup: Path) -> None:
    before = backup.read_bytes()
    put_back(backup, store)
    assert backup.read_bytes() == before
    assert not any(beside(backup, end).exists() for end in SIDECARS)


def test_wire_ids_go_on_far_above_all_that_were_used(store: Path, backup: Path) -> None:
    assert put_back(backup, store).wire_ids == 50_000 + WIRE_IDS_AHEAD
    assert ask(store, "SELECT value FROM counter WHERE name = 'wire_ids'") == [(50_000 + WIRE_IDS_AHEAD,)]


def test_wire_ids_of_a_lost_store_are_left_out_too(tmp_path: Path, backup: Path) -> None:
    (tmp_path / "fresh").mkdir()
    restored = put_back(backup, tmp_path / "fresh" / "store.sqlite")
    assert restored.wire_ids == 8_192 + WIRE_IDS_AHEAD
    assert (restored.kept, restored.merged) == (None, False)
    assert ask(tmp_path / "fresh" / "store.sqlite", "SELECT value FROM counter WHERE name = 'wire_ids'") == [
        (8_192 + WIRE_IDS_AHEAD,)
    ]


def test_a_backup_without_the_counter_gets_one(tmp_path: Path, store: Path) -> None:
    put_back(make_store(tmp_path / "b.sqlite", wire_ids=None), store)
    assert ask(store, "SELECT value FROM counter WHERE name = 'wire_ids'") == [(50_000 + WIRE_IDS_AHEAD,)]


@pytest.mark.parametrize(
    ("reserved", "expected"),
    [
        ((0,), WIRE_IDS_AHEAD),
        ((BEGIN_AGAIN - WIRE_IDS_AHEAD,), BEGIN_AGAIN),
        ((BEGIN_AGAIN - WIRE_IDS_AHEAD + 1,), WIRE_IDS_AHEAD),
        ((HIGHEST, 300_000), 300_000 + WIRE_IDS_AHEAD),
        ((300_000, HIGHEST), 300_000 + WIRE_IDS_AHEAD),
        ((HIGHEST, HIGHEST), WIRE_IDS_AHEAD),
    ],
)
def test_near_the_end_of_the_numbers_they_begin_again_above_those_just_used(
    reserved: tuple[int, ...], expected: int
) -> None:
    assert raised(reserved) == expected <= BEGIN_AGAIN


def test_who_logged_out_after_the_backup_stays_logged_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "state" / "store.sqlite", revoked={"after": 10, "both": 30, "renewed": 5})
    backup = make_store(tmp_path / "b.sqlite", revoked={"before": 20, "both": 25, "renewed": 6})
    assert put_back(backup, store).merged is True
    expected = [("after", 10), ("before", 20), ("both", 30), ("renewed", 6)]
    assert ask(store, "SELECT session_id, until FROM revoked_session ORDER BY 1") == expected


def test_what_is_only_in_the_wal_of_a_killed_broker_counts_and_is_kept(store: Path, backup: Path) -> None:
    kill_while_writing(
        store, "UPDATE counter SET value = 70000", "INSERT INTO revoked_session VALUES ('last words', 5)"
    )
    restored = put_back(backup, store)
    assert restored.wire_ids == 70_000 + WIRE_IDS_AHEAD
    assert ask(store, "SELECT session_id FROM revoked_session") == [("last words",)]
    assert restored.kept is not None
    assert ask(restored.kept, "SELECT value FROM counter WHERE name = 'wire_ids'") == [(70_000,)]


def test_a_wal_of_the_old_store_is_not_applied_to_the_new_one(store: Path, backup: Path) -> None:
    kill_while_writing(store, "UPDATE device SET name = name || ' of the old store'")
    put_back(backup, store)
    assert not any(beside(store, end).exists() for end in SIDECARS)
    execute(store, "PRAGMA journal_mode=WAL")
    assert ask(store, "SELECT name FROM device ORDER BY 1") == [("device-100",), ("device-101",)]
    assert ask(store, "PRAGMA integrity_check") == [("ok",)]


def test_a_wal_whose_store_is_gone_is_put_aside(store: Path, backup: Path) -> None:
    kill_while_writing(store, "DELETE FROM credentials", "DELETE FROM device")
    store.unlink()
    assert put_back(backup, store).kept is None
    assert ask(store, "SELECT count(*) FROM device") == [(2,)]
    assert beside(store, f".before-restore-{STAMP}-wal").exists()


def test_a_store_that_cannot_be_read_is_kept_with_its_wal_and_said_not_to_be_merged(store: Path, backup: Path) -> None:
    kill_while_writing(store, "UPDATE counter SET value = 70000")
    store.write_bytes(b"rubbish" * 1000)
    beside(store, "-wal").write_bytes(b"rubbish")
    restored = put_back(backup, store)
    assert (restored.merged, restored.wire_ids) == (False, 8_192 + WIRE_IDS_AHEAD)
    assert restored.kept is not None
    assert restored.kept.read_bytes() == b"rubbish" * 1000
    assert beside(restored.kept, "-wal").read_bytes() == b"rubbish"
    assert not beside(store, "-wal").exists()
    assert ask(store, "SELECT count(*) FROM device") == [(2,)]


def test_a_backup_with_a_wal_beside_it_is_taken_whole(store: Path, backup: Path) -> None:
    kill_while_writing(backup, "UPDATE counter SET value = 90000")
    assert put_back(backup, store).wire_ids == 90_000 + WIRE_IDS_AHEAD


def test_a_store_that_somebody_has_open_is_left_alone(store: Path, backup: Path) -> None:
    with closing(sqlite3.connect(store)) as somebody:
        somebody.execute("SELECT * FROM device").fetchone()
        with pytest.raises(StoreError, match=r"another program has .* open"):
            put_back(backup, store)
    assert ask(store, "SELECT count(*) FROM device") == [(5,)]
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_an_older_schema_is_left_for_the_broker_to_migrate(store: Path, backup: Path) -> None:
    execute(backup, "UPDATE alembic_version SET version_num = '0000'")
    assert put_back(backup, store).contents.schema_version == "0000"
    assert ask(store, "SELECT version_num FROM alembic_version") == [("0000",)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", r"there is no backup at .*none"),
        ("state", r"there is no backup at .*state"),
        ("text", r"cannot copy .*text: file is not a database"),
        ("foreign", r"foreign is a SQLite database, but no store of rpcbroker"),
        ("newer", r"newer has schema version 9999, newer than this program's"),
        ("damaged", r"damaged(:| is damaged)"),
        ("cut", r"cut(:| is damaged)"),
        ("state/store.sqlite", r"store\.sqlite is the store itself"),
    ],
)
def test_what_is_no_good_backup_changes_nothing(tmp_path: Path, store: Path, name: str, says: str) -> None:
    (tmp_path / "text").write_text("no database at all" * 100)
    execute(tmp_path / "foreign", "CREATE TABLE alembic_version (version_num TEXT)")
    execute(make_store(tmp_path / "newer"), "UPDATE alembic_version SET version_num = '9999'")
    whole = make_store(tmp_path / "damaged", devices=200)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-8192])
    (root,) = ask(whole, "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_device_created'")[0]
    with whole.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 200)
    before = store.read_bytes()
    with pytest.raises(StoreError, match=says) as caught:
        put_back(tmp_path / name, store)
    assert "\n" not in str(caught.value)
    assert store.read_bytes() == before
    assert list(store.parent.iterdir()) == [store]


def test_without_links_the_old_store_is_kept_as_a_copy(
    store: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", no_links)
    kept = put_back(backup, store).kept
    assert kept is not None
    assert ask(kept, "SELECT count(*) FROM device") == [(5,)]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_second_restore_under_the_same_name_does_not_replace_the_first_copy(store: Path, backup: Path) -> None:
    put_back(backup, store)
    with pytest.raises(StoreError, match="File exists"):
        put_back(backup, store)
    assert ask(store.parent / f"store.sqlite.before-restore-{STAMP}", "SELECT count(*) FROM device") == [(5,)]
