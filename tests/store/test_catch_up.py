"""What a restored store learns of calls and bulks from the store that it replaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import ADMIN, EPOCH_MS, TENANT, device, first_records, token
from kept_calls import DUE, EVERY_KIND, kept_call
from postgres import emptied
from sqlalchemy.pool import NullPool
from store_files import add_calls, ask, execute, make_store
from stores import sql_store

from rpcbroker.core.bulk import Bulk, BulkEntry, BulkPlan, BulkState, EntryState
from rpcbroker.core.calls import CallRequest, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import KeptCall, Mark
from rpcbroker.store import tables as t
from rpcbroker.store.backup import back_up
from rpcbroker.store.bulk import bulk_of, entry_of, row_of
from rpcbroker.store.calls import kept_call_of
from rpcbroker.store.catch_up import DELETED, GONE, CaughtUp
from rpcbroker.store.invariants import verify
from rpcbroker.store.restore import WIRE_IDS_AHEAD, Restored, restore

NOW = EPOCH_MS + 1_000
S = EntryState
KEPT = "store.sqlite.before-restore"


def backup_with(tmp_path: Path, *calls: KeptCall, **more: Any) -> Path:
    return add_calls(make_store(tmp_path / "backup.sqlite", **more), *calls)


def store_with(tmp_path: Path, *calls: KeptCall, **more: Any) -> Path:
    return add_calls(make_store(tmp_path / "state" / "store.sqlite", **more), *calls)


def put_back(backup: Path, store: Path, *, now: int = NOW) -> Restored:
    """Restored, and nothing is broken by that."""
    restored = restore(backup, store, stamp=str(now), now=now)
    with sa.create_engine(f"sqlite:///{store}", poolclass=NullPool).connect() as connection:
        broken = [each for each in verify(connection, now=now, running=False) if each.broken]
    assert broken == []
    return restored


def calls_in(store: Path) -> dict[int, KeptCall]:
    """By their wire ids."""
    with sa.create_engine(f"sqlite:///{store}", poolclass=NullPool).connect() as connection:
        calls = [kept_call_of(row) for row in connection.execute(sa.select(t.rpc).order_by(t.rpc.c.wire_id))]
    return {kept.call.wire_id: kept for kept in calls}


def waiting_in(store: Path) -> list[int]:
    return [number for number, kept in calls_in(store).items() if kept.record.ended_time is None]


def sent(kept: KeptCall, *, times: int = 1) -> KeptCall:
    kept.record.state, kept.unacknowledged = CallState.SENT, times
    for number in range(times):
        kept.record.note(EPOCH_MS + number, Mark.SENT, "over MQTT")
    return kept


ENDED = [kept for kept in EVERY_KIND if kept.record.ended_time is not None]


@pytest.mark.parametrize("end", ENDED, ids=lambda kept: kept.record.state)
def test_a_call_that_has_ended_since_has_ended_as_there(tmp_path: Path, end: KeptCall) -> None:
    number = end.call.wire_id
    waiting = kept_call(number, oneway=end.call.oneway, additional_info=end.call.additional_info)
    end.record.device_error = end.response is not None
    backup, store = backup_with(tmp_path, waiting), store_with(tmp_path, end)
    there = ask(store, "SELECT * FROM rpc")
    restored = put_back(backup, store)
    assert restored.caught_up == CaughtUp(ended=1)
    assert ask(store, "SELECT * FROM rpc") == there
    assert ask(backup, "SELECT ended_time FROM rpc") == [(None,)]


@pytest_twisted.ensureDeferred
async def test_the_broker_that_opens_it_makes_none_of_these_again(tmp_path: Path) -> None:
    backup = backup_with(tmp_path, *(kept_call(number) for number in range(1, 1_203)))
    ends = [kept_call(n, CallState.SUCCESSFUL, ended=True, response=b"1") for n in range(1, 1_201)]
    store = store_with(tmp_path, *ends, kept_call(1_202))
    assert put_back(backup, store).caught_up == CaughtUp(ended=1_200, deleted=1)
    opened = sql_store(f"sqlite:///{store}")
    known = opened.open(first_records=lambda: pytest.fail("it is not empty"))
    assert (known.waiting_calls, known.next_due) == ({device().id: 1}, DUE)
    await opened.close()


def test_a_call_that_was_deleted_since_ends_and_says_why(tmp_path: Path) -> None:
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path)
    assert put_back(backup, store).caught_up == CaughtUp(deleted=1)
    record = calls_in(store)[1].record
    assert (record.state, record.reason, record.ended_time) == (CallState.DELETED, Reason.CANCELLED, NOW)
    assert record.moments[-1] == (NOW, Mark.CANCELLED, DELETED)


def test_no_call_ends_before_it_was_made_whatever_the_clock_says(tmp_path: Path) -> None:
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path)
    put_back(backup, store, now=5)
    assert calls_in(store)[1].record.ended_time == EPOCH_MS


def test_a_call_whose_device_was_deleted_since_was_deleted_with_it(tmp_path: Path) -> None:
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path, devices=0)
    assert put_back(backup, store).caught_up == CaughtUp(deleted=1)
    assert ask(store, "SELECT count(*) FROM device") == [(2,)]


def test_another_call_under_the_id_of_a_deleted_one_is_not_its_end(tmp_path: Path) -> None:
    other = kept_call(1, CallState.SUCCESSFUL, ended=True, response=b"1")
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path, other)
    execute(store, "UPDATE rpc SET wire_id = 99")
    assert put_back(backup, store).caught_up == CaughtUp(deleted=1)
    assert calls_in(store)[1].record.state is CallState.DELETED


def test_a_call_that_still_waits_goes_on_from_where_it_had_come_to(tmp_path: Path) -> None:
    there = sent(kept_call(1), times=3)
    there.due_time = there.record.expiration_time = DUE - 7
    backup, store = backup_with(tmp_path, sent(kept_call(1))), store_with(tmp_path, there)
    assert put_back(backup, store).caught_up == CaughtUp()
    assert calls_in(store)[1] == calls_in(next(store.parent.glob(f"{KEPT}*")))[1]


def test_a_longer_past_in_the_backup_is_kept(tmp_path: Path) -> None:
    further = sent(kept_call(1), times=3)
    backup, store = backup_with(tmp_path, further), store_with(tmp_path, kept_call(1))
    put_back(backup, store)
    assert calls_in(store)[1] == calls_in(backup)[1]


def test_what_had_ended_in_the_backup_is_as_it_was(tmp_path: Path) -> None:
    backup, store = backup_with(tmp_path, *ENDED), store_with(tmp_path, *(kept_call(n) for n in (5, 6)))
    assert put_back(backup, store).caught_up == CaughtUp()
    assert ask(store, "SELECT * FROM rpc ORDER BY id") == ask(backup, "SELECT * FROM rpc ORDER BY id")


def test_calls_made_since_are_counted_and_not_taken_over(tmp_path: Path) -> None:
    late = kept_call(4)
    late.record.expiration_time = NOW
    made_since = kept_call(2), kept_call(3), late, kept_call(6, CallState.SUCCESSFUL, ended=True)
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path, kept_call(1), *made_since)
    assert put_back(backup, store).caught_up == CaughtUp(left_out=2)
    assert waiting_in(store) == [1]
    assert list(calls_in(store)) == [1]


def test_a_store_of_another_past_says_nothing_of_the_calls(tmp_path: Path) -> None:
    """A broker was started for once on the new machine, before the backup was brought there."""
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path)
    another = "UPDATE {} SET {} = '" + UUID(int=77).hex + "'"
    execute(
        store,
        another.format("tenant", "id"),
        *(another.format(each, "tenant_id") for each in ("device", "user_account")),
    )
    assert put_back(backup, store).caught_up == CaughtUp(doubtful=1)
    assert waiting_in(store) == [1]


def test_of_a_lost_store_nothing_is_known_and_what_has_expired_is_no_trouble(tmp_path: Path) -> None:
    backup = backup_with(tmp_path, kept_call(1), kept_call(2), kept_call(3))
    execute(backup, f"UPDATE rpc SET expiration_time = {NOW} WHERE wire_id = 3")
    (tmp_path / "fresh").mkdir()
    store = tmp_path / "fresh" / "store.sqlite"
    assert put_back(backup, store).caught_up == CaughtUp(doubtful=2)
    assert waiting_in(store) == [1, 2, 3]


class TestARestoreThatIsTakenBack:
    """Monday's backup is restored, and then the store that was there before that."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        """As it was made of Monday's; call 1 is of Sunday, call 2 is of Tuesday."""
        tuesday = kept_call(2)
        store = store_with(tmp_path, kept_call(1), tuesday)
        execute(store, f"UPDATE rpc SET created_time = {EPOCH_MS + 500} WHERE wire_id = 2")
        put_back(backup_with(tmp_path, kept_call(1)), store)
        assert waiting_in(store) == [1]
        return store

    def test_brings_back_the_calls_that_the_first_had_left_out(self, store: Path) -> None:
        restored = put_back(store.parent / f"{KEPT}-{NOW}", store, now=NOW + 9)
        assert restored.caught_up == CaughtUp(doubtful=1)
        assert waiting_in(store) == [1, 2]

    def test_does_not_bring_back_what_was_deleted_meanwhile(self, store: Path) -> None:
        execute(store, "DELETE FROM rpc")
        restored = put_back(store.parent / f"{KEPT}-{NOW}", store, now=NOW + 9)
        assert restored.caught_up == CaughtUp(deleted=1, doubtful=1)
        assert waiting_in(store) == [2]

    def test_and_once_more_leaves_out_no_less(self, tmp_path: Path, store: Path) -> None:
        put_back(tmp_path / "backup.sqlite", store, now=NOW + 5)
        restored = put_back(store.parent / f"{KEPT}-{NOW}", store, now=NOW + 9)
        assert restored.caught_up == CaughtUp(doubtful=1)
        assert waiting_in(store) == [1, 2]

    def test_is_remembered_by_backups_that_are_made_after_it(self, tmp_path: Path, store: Path) -> None:
        add_calls(store, kept_call(3))
        execute(store, f"UPDATE rpc SET created_time = {NOW + 2} WHERE wire_id = 3")
        later = tmp_path / "later.sqlite"
        back_up(store, later, replace=False, pause=lambda _: None)
        put_back(later, store, now=NOW + 5)
        restored = put_back(store.parent / f"{KEPT}-{NOW}", store, now=NOW + 9)
        assert restored.caught_up == CaughtUp(doubtful=1, left_out=1)
        assert waiting_in(store) == [1, 2]


def spoil(store: Path, table: str) -> None:
    """Make rubbish of the page where a table, or an index, begins."""
    execute(store, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((root,),) = ask(store, f"SELECT rootpage FROM sqlite_schema WHERE name = '{table}'")
    with store.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 200)


def test_of_a_damaged_store_the_ends_count_that_can_be_read(tmp_path: Path) -> None:
    backup = backup_with(tmp_path, kept_call(1), kept_call(2))
    store = store_with(tmp_path, kept_call(1, CallState.SUCCESSFUL, ended=True, response=b"1"), devices=200)
    spoil(store, "ix_device_created")
    restored = put_back(backup, store)
    assert (restored.merged, restored.caught_up) == (True, CaughtUp(ended=1, doubtful=1))
    assert waiting_in(store) == [2], "that it is not found says nothing"


def test_damaged_calls_are_in_doubt_one_by_one(tmp_path: Path) -> None:
    backup = backup_with(tmp_path, kept_call(1), kept_call(2), kept_call(3))
    ends = (kept_call(number, CallState.SUCCESSFUL, ended=True, response=b"1") for number in (1, 2, 3))
    store = store_with(tmp_path, *ends)
    execute(store, "UPDATE rpc SET moments = '[[' WHERE wire_id = 2")
    assert put_back(backup, store).caught_up == CaughtUp(ended=2, doubtful=1)
    assert waiting_in(store) == [2]


@pytest.mark.parametrize("table", ["rpc", "tenant", "bulk", "counter"])
def test_a_table_that_cannot_be_read_at_all_stops_no_restore(tmp_path: Path, table: str) -> None:
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path)
    spoil(store, table)
    assert put_back(backup, store).caught_up == CaughtUp(doubtful=1)
    assert waiting_in(store) == [1]


BULKS = ("DROP TABLE bulk_device", "DROP TABLE bulk")


@pytest.mark.parametrize("version", ["0004", "0005"])
def test_a_backup_of_an_older_schema_knows_less(tmp_path: Path, version: str) -> None:
    backup, store = backup_with(tmp_path), store_with(tmp_path, kept_call(1))
    tables = (*BULKS, "DROP TABLE rpc")[: 3 if version == "0004" else 2]
    execute(backup, *tables, f"UPDATE alembic_version SET version_num = '{version}'")
    restored = restore(backup, store, stamp="x", now=NOW)
    assert restored.contents.schema_version == version
    assert restored.caught_up == CaughtUp(left_out=int(version == "0005"))


@pytest.mark.parametrize("tables", [BULKS, (*BULKS, "DROP TABLE rpc")])
def test_a_replaced_store_of_an_older_schema_knows_less(tmp_path: Path, tables: Sequence[str]) -> None:
    backup, store = backup_with(tmp_path, kept_call(1)), store_with(tmp_path)
    execute(store, *tables)
    assert put_back(backup, store).caught_up == CaughtUp(doubtful=1)
    assert waiting_in(store) == [1]


@pytest_twisted.ensureDeferred
async def test_what_the_manual_says_for_postgresql_ends_what_waits_and_breaks_nothing(postgresql: str) -> None:
    url = emptied(postgresql)
    store = sql_store(url)
    store.open(first_records=first_records)
    for number in (100, 101):
        await store.create_device(device(number), token(device(number)))
    await store.reserve_wire_ids(8_192)
    for kept in EVERY_KIND:
        await store.calls.insert(kept)
    await store.close()
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in manual.partition("```sql\n")[2].partition("```")[0].split(";")[:-1]:
            connection.execute(sa.text(statement))
    with engine.connect() as connection:
        assert [each for each in verify(connection, now=NOW, running=False) if each.broken] == []
        states = [
            kept_call_of(row).record.state for row in connection.execute(sa.select(t.rpc).order_by(t.rpc.c.wire_id))
        ]
        assert connection.execute(sa.select(t.counter.c.value)).scalar() == 8_192 + WIRE_IDS_AHEAD
    engine.dispose()
    assert states == [kept.record.state if kept in ENDED else CallState.DELETED for kept in EVERY_KIND]


# -- bulks

DEVICES = [(UUID(int=number), f"device-{number}") for number in range(100, 106)]
LIGHTWEIGHT = Bulk(
    id=UUID(int=900),
    tenant_id=TENANT,
    user_id=ADMIN.user_id,
    customer_id=None,
    user_name="admin@example.org",
    content="",
    request=CallRequest(method="x"),
    plan=BulkPlan(concurrency=2),
    created_time=EPOCH_MS,
    counts={S.WAITING: len(DEVICES)},
)
PERSISTENT = replace(LIGHTWEIGHT, request=CallRequest(method="x", persistent=True))
STATES = {"W": S.WAITING, "R": S.RUNNING, "S": S.SUCCESSFUL, "F": S.FAILED, "A": S.ABORTED, "U": S.UNKNOWN}


def add_bulk(path: Path, bulk: Bulk, states: str) -> Path:
    """A letter is the state of a device; they ended in their order."""
    counts = {state: states.count(letter) for letter, state in STATES.items() if letter in states}
    with sa.create_engine(f"sqlite:///{path}", poolclass=NullPool).begin() as connection:
        connection.execute(sa.insert(t.bulk), row_of(replace(bulk, counts=counts, sequence=1)))
        for number, letter in enumerate(states):
            entry = {
                "bulk": 1,
                "number": number,
                "device_id": DEVICES[number][0],
                "device_name": DEVICES[number][1],
                "state": STATES[letter].value,
                "ended": None if letter in "WR" else number + 1,
                "response": "1" if letter == "S" else None,
            }
            connection.execute(sa.insert(t.bulk_device), entry)
    return path


def bulk_in(path: Path) -> tuple[Bulk, list[BulkEntry]]:
    with sa.create_engine(f"sqlite:///{path}", poolclass=NullPool).connect() as connection:
        (bulk,) = map(bulk_of, connection.execute(sa.select(t.bulk)))
        rows = connection.execute(sa.select(t.bulk_device).order_by(t.bulk_device.c.number))
        return bulk, [entry_of(row) for row in rows]


def states_in(path: Path) -> str:
    return "".join(entry.state[0] for entry in bulk_in(path)[1])


def call_of(number: int) -> KeptCall:
    """The persistent call of a device of the bulk."""
    kept = kept_call(number + 1, of=DEVICES[number][0])
    kept.call = msgspec.structs.replace(kept.call, rpc_id=PERSISTENT.rpc_id(kept.call.device_id))
    return kept


def test_devices_that_a_bulk_has_called_since_are_not_called_again(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SRRWWW")
    store = add_bulk(store_with(tmp_path, devices=6), LIGHTWEIGHT, "SSFSRW")
    assert put_back(backup, store).caught_up == CaughtUp()
    bulk, entries = bulk_in(store)
    there = next(store.parent.glob(f"{KEPT}*"))
    assert (bulk, entries) == bulk_in(there)
    assert states_in(store) == "SSFSRW"


def test_a_bulk_that_has_ended_since_has_ended_as_there(tmp_path: Path) -> None:
    ended = replace(LIGHTWEIGHT, state=BulkState.ABORTED, reason="2 calls did not succeed", ended_time=EPOCH_MS + 7)
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SRWWWW")
    store = add_bulk(store_with(tmp_path, devices=6), ended, "SFFAAA")
    put_back(backup, store)
    bulk, _ = bulk_in(store)
    assert (bulk.state, bulk.reason, bulk.ended_time) == (ended.state, ended.reason, ended.ended_time)
    assert bulk.counts == {S.SUCCESSFUL: 1, S.FAILED: 2, S.ABORTED: 3}
    assert states_in(store) == "SFFAAA"


def test_one_that_is_being_aborted_goes_on_to_be(tmp_path: Path) -> None:
    aborting = replace(LIGHTWEIGHT, state=BulkState.ABORTED, reason="by admin@example.org")
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SRWWWW")
    store = add_bulk(store_with(tmp_path, devices=6), aborting, "SRRAAA")
    put_back(backup, store)
    bulk, _ = bulk_in(store)
    assert (bulk.state, bulk.reason, bulk.ended_time) == (BulkState.ABORTED, "by admin@example.org", None)


def test_what_the_backup_knows_of_a_bulk_and_the_replaced_store_does_not_is_kept(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SWSFWR")
    execute(backup, "UPDATE bulk_device SET ended = 5 - number WHERE ended IS NOT NULL")
    store = add_bulk(store_with(tmp_path, devices=6), LIGHTWEIGHT, "SFRWSW")
    put_back(backup, store)
    _, entries = bulk_in(store)
    assert states_in(store) == "SFSFSR"
    numbers = [entry.ended for entry in entries[:5]]
    assert len(set(numbers)) == 5, "no place in the order of ends comes twice"


def test_persistent_calls_of_a_bulk_that_both_know_go_on(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, call_of(0), devices=6), PERSISTENT, "RWWWWW")
    store = add_bulk(store_with(tmp_path, call_of(0), devices=6), PERSISTENT, "RWWWWW")
    put_back(backup, store)
    assert states_in(store) == "RWWWWW"
    assert waiting_in(store) == [1]


def test_persistent_calls_of_a_bulk_that_were_made_since_are_not_made_again(tmp_path: Path) -> None:
    """The second was about to be made when the broker ended: that one has no call in either store."""
    backup = add_bulk(backup_with(tmp_path, devices=6), PERSISTENT, "WWWWWW")
    store = add_bulk(store_with(tmp_path, call_of(0), devices=6), PERSISTENT, "RRWWWW")
    assert put_back(backup, store).caught_up == CaughtUp(left_out=1)
    bulk, entries = bulk_in(store)
    assert states_in(store) == "URWWWW"
    assert (entries[0].reason, entries[0].ended) == ("INTERRUPTED", 1)
    assert bulk.counts == {S.UNKNOWN: 1, S.RUNNING: 1, S.WAITING: 4}


def test_a_persistent_call_of_a_bulk_that_cannot_be_read_may_have_been_made(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, devices=6), PERSISTENT, "WWWWWW")
    store = add_bulk(store_with(tmp_path, call_of(0), devices=6), PERSISTENT, "RRWWWW")
    execute(store, "UPDATE rpc SET moments = '[['")
    put_back(backup, store)
    assert states_in(store) == "URWWWW"


def test_a_bulk_that_was_deleted_since_is_not_gone_on_with(tmp_path: Path) -> None:
    backup, store = add_bulk(backup_with(tmp_path, devices=6), PERSISTENT, "SFRWWW"), store_with(tmp_path)
    assert put_back(backup, store).caught_up == CaughtUp()
    bulk, _ = bulk_in(store)
    assert (bulk.state, bulk.reason, bulk.ended_time) == (BulkState.ABORTED, GONE, NOW)
    assert states_in(store) == "SFUAAA"


def test_a_bulk_of_which_nothing_is_known_goes_on(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SRWWWW")
    (tmp_path / "fresh").mkdir()
    store = tmp_path / "fresh" / "store.sqlite"
    assert put_back(backup, store).caught_up == CaughtUp(doubtful_bulks=1)
    assert states_in(store) == "SRWWWW"


def test_a_bulk_made_since_is_counted_and_not_taken_over(tmp_path: Path) -> None:
    backup, store = backup_with(tmp_path), add_bulk(store_with(tmp_path), LIGHTWEIGHT, "SRWWWW")
    assert put_back(backup, store).caught_up == CaughtUp(left_out_bulks=1)
    assert ask(store, "SELECT count(*) FROM bulk") == [(0,)]


def test_a_bulk_of_a_damaged_store_is_in_doubt(tmp_path: Path) -> None:
    backup = add_bulk(backup_with(tmp_path, devices=6), LIGHTWEIGHT, "SRWWWW")
    store = add_bulk(store_with(tmp_path, devices=6), LIGHTWEIGHT, "SSSSSS")
    execute(store, "UPDATE bulk_device SET state = 'LOST'")
    assert put_back(backup, store).caught_up == CaughtUp(doubtful_bulks=1)
    assert states_in(store) == "SRWWWW"
