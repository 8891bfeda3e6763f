"""One contract for all stores: telemetry and attributes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, customer, device, tenant, token
from msgspec import Raw
from stores import url_of
from twisted.internet.defer import Deferred, DeferredList

from rpcbroker.core.errors import InvalidRequest, NotFound
from rpcbroker.core.model import Attribute, Point, Scope
from rpcbroker.store.tables import OF_DEVICE, metadata, telemetry_block

ONE, TWO, GONE = UUID(int=100), UUID(int=101), UUID(int=404)
EVER = 2**62


@pytest.fixture
def filled(store: Any) -> Any:
    """With two devices."""
    for number in (100, 101):
        pytest_twisted.blockon(store.create_device(device(number), token(device(number))))
    return store


async def save(store: Any, *points: tuple[int, int, Any], key: str = "k", of: UUID = ONE, window: int = 3) -> None:
    await store.values.save_points([(of, key, points)], window=window)


async def series(store: Any, *keys: str, of: UUID = ONE, window: int = 3) -> dict[str, tuple[Any, Any]]:
    """Key -> the latest, and the numbers and times of the points."""
    found = await store.values.series(of, keys, window=window)
    return {
        key: ((one.latest.ts, bytes(one.latest.value)), [(number, point.ts) for number, point in one.points])
        for key, one in found.items()
    }


async def save_attributes(store: Any, of: UUID = ONE, scope: Scope = Scope.SERVER, **values: Any) -> None:
    await store.values.save_attributes(of, scope, values, now=EPOCH_MS, most=100)


async def attributes(store: Any, of: UUID = ONE, *scopes: Scope, keys: Any = (), after_writes: bool = False) -> Any:
    found = await store.values.attributes(of, scopes=scopes, keys=keys, after_writes=after_writes)
    return [(each.scope, each.key, bytes(each.value)) for each in found]


@pytest_twisted.ensureDeferred
async def test_what_was_kept_is_read_as_it_was(filled: Any, opened_again: Any) -> None:
    values = [True, 0, 2**63 - 1, -(2**63), 1.5, 1e300, "", "a\x00ä😀'\"", Raw(b'{"a":[1,null]}')]
    points = [(number, number + 10, value) for number, value in enumerate(values, start=1)]
    await save(filled, *points, window=20)
    await opened_again()
    stored = (await filled.values.series(ONE, ["k"], window=20))["k"]
    texts = [
        b"true",
        b"0",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"1.5",
        b"1e300",
        b'""',
        '"a\\u0000ä😀\'\\""'.encode(),
        b'{"a":[1,null]}',
    ]
    assert stored.points == tuple((number, Point(number + 10, Raw(text))) for number, text in enumerate(texts, start=1))
    assert stored.latest == Point(len(values) + 10, Raw(texts[-1]))
    assert await filled.values.series_counts(ONE) == {"k": len(values)}


@pytest_twisted.ensureDeferred
async def test_a_window_of_points_is_kept_and_the_latest(filled: Any) -> None:
    await save(filled, (1, 50, "late"), (2, 10, 2))
    await save(filled, *((number, 10 + number, number) for number in range(3, 9)))
    await save(filled, (9, 20, 9))
    assert await series(filled, "k") == {"k": ((50, b'"late"'), [(7, 17), (8, 18), (9, 20)])}
    assert await series(filled, "k", window=0) == {"k": ((50, b'"late"'), [])}
    assert await filled.values.series_counts(ONE) == {"k": 9}
    await save(filled, (10, 50, "corrected"))
    assert (await series(filled, "k"))["k"][0] == (50, b'"corrected"')


@pytest_twisted.ensureDeferred
async def test_without_a_window_only_the_latest_is_kept(filled: Any) -> None:
    await save(filled, (1, 5, 1), (2, 6, 2), (3, 4, 3), window=0)
    assert await series(filled, window=9) == {"k": ((6, b"2"), [])}


@pytest_twisted.ensureDeferred
async def test_saving_again_changes_nothing(filled: Any) -> None:
    for _ in range(3):
        await save(filled, (1, 5, 1), (2, 6, 2))
        await save(filled, (1, 5, 1), key="other")
    assert await series(filled) == {"k": ((6, b"2"), [(1, 5), (2, 6)]), "other": ((5, b"1"), [(1, 5)])}
    assert await filled.values.series_counts(ONE) == {"k": 2, "other": 1}


@pytest_twisted.ensureDeferred
async def test_points_stand_once_though_another_write_of_their_transaction_fails(filled: Any) -> None:
    writes = []
    for number in range(1, 50):
        writes.append(save(filled, (number, number, number), window=100))
        writes.append(save_attributes(filled, GONE, a=1))
    outcomes = await DeferredList([Deferred.fromCoroutine(each) for each in writes], consumeErrors=True)
    assert [done for done, _ in outcomes] == [True, False] * 49
    query = sa.select(telemetry_block.c.points).order_by(telemetry_block.c.block)
    texts = await filled.values._database.read(lambda connection: connection.execute(query).scalars().all())
    assert "".join(texts) == "".join(f",[{number},{number},{number}]" for number in range(1, 50))


@pytest_twisted.ensureDeferred
async def test_devices_and_keys_are_apart_and_what_is_gone_is_passed_over(filled: Any) -> None:
    batch = [
        (ONE, "a", [(1, 5, 1)]),
        (GONE, "a", [(1, 5, "gone")]),
        (TWO, "a", [(1, 6, 2)]),
        (ONE, "b", [(1, 7, 3)]),
    ]
    await filled.values.save_points(batch, window=3)
    assert await series(filled, "a", "none") == {"a": ((5, b"1"), [(1, 5)])}
    assert await series(filled) == {"a": ((5, b"1"), [(1, 5)]), "b": ((7, b"3"), [(1, 7)])}
    assert await series(filled, of=TWO) == {"a": ((6, b"2"), [(1, 6)])}
    assert await series(filled, of=GONE) == {}
    assert await filled.values.series_counts(GONE) == {}


@pytest_twisted.ensureDeferred
async def test_thousands_at_once(filled: Any) -> None:
    for time in (1, 2):
        batch = [(ONE, f"k{key}", [(time, time, key)]) for key in range(1_530)]
        await filled.values.save_points(batch, window=3)
    found = await series(filled, *(f"k{key}" for key in range(1_400)))
    assert found == {f"k{key}": ((2, b"%d" % key), [(1, 1), (2, 2)]) for key in range(1_400)}
    assert await filled.values.series_counts(ONE) == {f"k{key}": 2 for key in range(1_530)}


class TestDeletingPoints:
    async def delete(self, store: Any, *keys: str, start: int = 0, end: int = EVER, keep: bool = False) -> set[str]:
        gone: set[str] = await store.values.delete_series(ONE, keys, start=start, end=end, keep_latest=keep, window=3)
        return gone

    async def fill(self, store: Any) -> None:
        for key in ("a", "b"):
            await save(store, (1, 10, 1), (2, 20, 2), (3, 30, 3), key=key)
        await save(store, (1, 10, 1), key="a", of=TWO)

    @pytest_twisted.ensureDeferred
    async def test_all(self, filled: Any) -> None:
        await self.fill(filled)
        assert await self.delete(filled, "a", "none") == {"a", "none"}
        assert list(await series(filled)) == ["b"]
        assert await filled.values.series_counts(ONE) == {"b": 3}
        assert list(await series(filled, of=TWO)) == ["a"]

    @pytest_twisted.ensureDeferred
    async def test_a_time(self, filled: Any) -> None:
        await self.fill(filled)
        assert await self.delete(filled, "a", start=10, end=20) == set()
        assert (await series(filled))["a"] == ((30, b"3"), [(2, 20), (3, 30)])
        assert await self.delete(filled, "a", start=30) == set()
        assert (await series(filled))["a"] == ((20, b"2"), [(2, 20)])
        assert await filled.values.series_counts(ONE) == {"a": 3, "b": 3}, "numbers go on"
        assert await self.delete(filled, "a", "b", start=20, end=21) == {"a"}
        assert await series(filled) == {"b": ((30, b"3"), [(1, 10), (3, 30)])}

    @pytest_twisted.ensureDeferred
    async def test_all_but_the_latest(self, filled: Any) -> None:
        await self.fill(filled)
        assert await self.delete(filled, "a", keep=True) == set()
        assert (await series(filled))["a"] == ((30, b"3"), [])
        await save(filled, (4, 5, 4), key="a")
        assert (await series(filled))["a"] == ((30, b"3"), [(4, 5)])


class TestAttributes:
    @pytest_twisted.ensureDeferred
    async def test_they_are_kept_by_scope_and_key(self, filled: Any, opened_again: Any) -> None:
        await save_attributes(filled, b=1, a="x\x00")
        await save_attributes(filled, scope=Scope.CLIENT, a=Raw(b'{"n":null}'))
        await save_attributes(filled, scope=Scope.SHARED, c=True)
        await save_attributes(filled, TWO, d=5)
        await opened_again()
        everything = [
            (Scope.CLIENT, "a", b'{"n":null}'),
            (Scope.SERVER, "a", b'"x\\u0000"'),
            (Scope.SERVER, "b", b"1"),
            (Scope.SHARED, "c", b"true"),
        ]
        assert await attributes(filled) == everything
        assert await attributes(filled, after_writes=True) == everything
        assert await attributes(filled, ONE, Scope.SERVER, Scope.SHARED) == everything[1:]
        assert await attributes(filled, ONE, Scope.SERVER, keys=["b", "c"]) == everything[2:3]
        assert await attributes(filled, keys=["a", "none"]) == everything[:2]
        assert await attributes(filled, keys=[f"k{number}" for number in range(1500)] + ["c"]) == everything[3:]
        assert await attributes(filled, GONE) == []

    @pytest_twisted.ensureDeferred
    async def test_they_are_replaced_and_say_when(self, filled: Any) -> None:
        await save_attributes(filled, a=1, b=1)
        await filled.values.save_attributes(ONE, Scope.SERVER, {"a": 2}, now=EPOCH_MS + 5, most=100)
        assert await filled.values.attributes(ONE, scopes=(), keys=(), after_writes=False) == (
            Attribute(Scope.SERVER, "a", EPOCH_MS + 5, Raw(b"2")),
            Attribute(Scope.SERVER, "b", EPOCH_MS, Raw(b"1")),
        )

    @pytest_twisted.ensureDeferred
    async def test_which_were_written_is_told_and_others_may_keep_their_time(self, filled: Any) -> None:
        async def save(values: dict[str, Any], **more: Any) -> list[str]:
            written: list[str] = await filled.values.save_attributes(
                ONE, Scope.SERVER, values, **{"now": EPOCH_MS, "most": 3} | more
            )
            return written

        assert await save({"a": 1, "b": Raw(b'{"x":1}')}) == ["a", "b"]
        changed = {"a": 1, "b": Raw(b'{"x":2}'), "c": "new"}
        assert await save(changed, now=EPOCH_MS + 5, only_changed=True) == ["b", "c"]
        assert await save(changed, now=EPOCH_MS + 9, only_changed=True) == []
        assert await save({"a": 1.0}, now=EPOCH_MS + 9, only_changed=True) == ["a"]
        found = await filled.values.attributes(ONE, scopes=(), keys=(), after_writes=False)
        assert [(each.key, each.updated_time - EPOCH_MS) for each in found] == [("a", 9), ("b", 5), ("c", 5)]
        with pytest.raises(InvalidRequest, match="may have at most 3"):
            await save({"a": 1.0, "d": 1}, only_changed=True)

    @pytest_twisted.ensureDeferred
    async def test_too_many_are_refused_and_so_is_a_device_that_is_gone(self, filled: Any) -> None:
        for values in ({"a": 1, "b": 1}, {"a": 2}):
            await filled.values.save_attributes(ONE, Scope.SERVER, values, now=EPOCH_MS, most=2)
        with pytest.raises(InvalidRequest, match="may have at most 2"):
            await filled.values.save_attributes(ONE, Scope.SERVER, {"a": 3, "c": 3}, now=EPOCH_MS, most=2)
        with pytest.raises(NotFound):
            await save_attributes(filled, GONE, a=1)
        assert await attributes(filled) == [(Scope.SERVER, "a", b"2"), (Scope.SERVER, "b", b"1")]

    @pytest_twisted.ensureDeferred
    async def test_deleting_tells_what_there_was(self, filled: Any) -> None:
        await save_attributes(filled, a=1, b=1)
        await save_attributes(filled, scope=Scope.SHARED, a=1)
        await save_attributes(filled, TWO, a=1)
        assert await filled.values.delete_attributes(ONE, Scope.SERVER, ["b", "none", "b"]) == ["b"]
        assert await filled.values.delete_attributes(GONE, Scope.SERVER, ["a"]) == []
        assert await attributes(filled) == [(Scope.SERVER, "a", b"1"), (Scope.SHARED, "a", b"1")]
        assert await attributes(filled, TWO) == [(Scope.SERVER, "a", b"1")]

    @pytest_twisted.ensureDeferred
    async def test_a_read_behind_writes_sees_them(self, filled: Any) -> None:
        saving = [filled.values.save_attributes(ONE, Scope.SERVER, {"a": n}, now=n, most=9) for n in range(20)]
        assert await attributes(filled, after_writes=True) == [(Scope.SERVER, "a", b"19")]
        for each in saving:
            assert each.called


def test_all_tables_that_hang_on_a_device_are_deleted_with_it() -> None:
    naming = {table for table in metadata.tables.values() if "device_id" in table.c and table.c.device_id.foreign_keys}
    assert {table for table in naming if not table.c.device_id.nullable} == set(OF_DEVICE)
    assert [table.name for table in naming if table.c.device_id.nullable] == ["board"]  # which outlives its device


@pytest_twisted.ensureDeferred
async def test_they_go_with_their_device_and_stay_without_their_customer(filled: Any) -> None:
    await filled.people.create_tenant(tenant())
    await filled.people.create_customer(customer())
    for number, of in ((102, {"tenant": OTHER_TENANT}), (103, {})):
        await filled.create_device(device(number, **of), token(device(number)))
    await filled.update_device(replace(device(103), customer_id=CUSTOMER, version=2))
    ids = [UUID(int=number) for number in range(100, 104)]
    for each in ids:
        await save(filled, (1, 5, 1), of=each)
        await save_attributes(filled, each, a=1)
    await filled.delete_device(ids[0])
    await filled.people.delete_tenant(OTHER_TENANT, revoked=0)
    await filled.people.delete_customer(CUSTOMER, revoked=0)
    there = [list(await series(filled, of=each)) + await attributes(filled, each) for each in ids]
    kept = ["k", (Scope.SERVER, "a", b"1")]
    assert there == [[], kept, [], kept]
    await filled.create_device(device(100), token(device(100)))
    assert await series(filled) == {}


def test_what_was_written_is_there_after_kill_9(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from twisted.internet import reactor
from fakes import *
from stores import *
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.events import EventBus
from rpcbroker.core.model import Scope
from rpcbroker.core.settings import TelemetrySettings
from rpcbroker.core.telemetry import Telemetry
store = sql_store({url_of(tmp_path)!r})
store.open(first_records=first_records)
telemetry = Telemetry(
    store.values, settings=TelemetrySettings(), deadlines=Deadlines(reactor), now_ms=lambda: 5, events=EventBus()
)
def made(_):
    telemetry.keep(device().id, telemetry.parse(b'{{"k":1.5}}')).addCallback(look)
def look(_=None):
    if telemetry.waiting_size:
        reactor.callLater(0.01, look)
    else:
        saved = store.values.save_attributes(device().id, Scope.CLIENT, {{"a": 1}}, now=5, most=9)
        saved.addCallback(lambda _: os.kill(os.getpid(), 9))
reactor.callWhenRunning(lambda: store.create_device(device(), token(device())).addCallback(made))
reactor.run()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -9
    stored = sqlite3.connect(tmp_path / "store.sqlite")
    assert stored.execute("SELECT key, value, posted FROM telemetry_latest").fetchall() == [("k", "1.5", 1)]
    assert stored.execute("SELECT slot, block, points FROM telemetry_block").fetchall() == [(0, 0, ",[1,5,1.5]")]
    assert stored.execute("SELECT scope, key, value FROM attribute").fetchall() == [("CLIENT_SCOPE", "a", "1")]
    stored.close()
