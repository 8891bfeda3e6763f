"""One contract for all stores: persistent calls.

Over 400 lines: it runs whole on each of three stores.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, error_of, first_records, tenant, token
from stores import sql_store, statements, url_of
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import Clock

from rpcbroker.core.calls import Call, CallState, SubmitStrategy
from rpcbroker.core.errors import AlreadyExists, InvalidRequest, NotFound, Reason, Unavailable
from rpcbroker.core.model import DeviceFilter, LastPresence, PageLink
from rpcbroker.core.ports import CallFilter
from rpcbroker.core.records import MAX_METHOD, KeptCall, Mark, record_of
from rpcbroker.store.call_writes import insert_row, write_calls
from rpcbroker.store.calls import TRY_AGAIN, WRITE_BEHIND
from rpcbroker.store.database import ThreadedDatabase
from rpcbroker.store.memory import MemoryStore
from rpcbroker.store.sql import SqlStore
from rpcbroker.store.tables import rpc

ONE, TWO, FAR, GONE = UUID(int=100), UUID(int=101), UUID(int=102), UUID(int=404)
EVERYTHING = PageLink(page_size=1000)


def kept(number: int, *, due: int | None = None, ended: int | None = None, **more: Any) -> KeptCall:
    """A call of a device that sorts, by all that it can be sorted by, as its number does."""
    members: dict[str, Any] = {
        "rpc_id": UUID(int=number),
        "wire_id": number,
        "tenant_id": TENANT,
        "device_id": ONE,
        "method": "set",
        "params": b'{"pin":7}',
        "oneway": False,
        "created_time": EPOCH_MS + number,
        "expiration_time": EPOCH_MS + number + 10,
        "latest_time": EPOCH_MS + number + 20,
        "max_retries": 5,
        "persistent": True,
    }
    call = Call(**members | more)
    record = record_of(call, ((EPOCH_MS, "accepted", "by admin@example.org"), (EPOCH_MS, "stored", None)))
    record.ended_time = ended
    return KeptCall(call=call, record=record, due_time=EPOCH_MS + number if due is None else due)


def advanced(one: KeptCall) -> KeptCall:
    one.record.note(EPOCH_MS + 1, Mark.SENT, "over MQTT")
    one.record.state, one.unacknowledged, one.due_time = CallState.SENT, 1, EPOCH_MS + 900
    return one


def ended(one: KeptCall, time: int = EPOCH_MS + 5) -> KeptCall:
    one.record.note(time, Mark.ANSWERED)
    one.record.state, one.record.ended_time, one.response = CallState.SUCCESSFUL, time, b'{"error":"no"}'
    one.record.device_error = True
    return one


def numbers(calls: Any) -> list[int]:
    return [one.call.wire_id for one in calls]


async def add(store: Any, *calls: KeptCall) -> None:
    await gatherResults([store.calls.insert(one) for one in calls], consumeErrors=True)


async def of_tenant(store: Any, tenant_id: UUID = TENANT, limit: int = 1000, **more: Any) -> tuple[list[int], int]:
    members = {name: more.pop(name) for name in DeviceFilter.__dataclass_fields__ if name in more}
    wanted = CallFilter(devices=DeviceFilter(tenant_id=tenant_id, **members), **more)
    page = await store.calls.records(wanted, limit=limit)
    return [record.wire_id for record in page.items], page.total


@pytest.fixture
def filled(store: Any) -> Any:
    """With two devices of one tenant, and one of another."""
    pytest_twisted.blockon(store.people.create_tenant(tenant()))
    for one in (device(100), device(101), device(102, tenant=OTHER_TENANT)):
        pytest_twisted.blockon(store.create_device(one, token(one)))
    return store


class TestWhatIsWritten:
    @pytest_twisted.ensureDeferred
    async def test_what_was_kept_is_read_as_it_was(self, filled: Any, opened_again: Any) -> None:
        plain = kept(1)
        odd = kept(
            2**31 - 1,
            method="s" * 300 + "ä😀'\"?%s",
            params='"\\u0000ä😀"'.encode(),
            oneway=True,
            strategy=SubmitStrategy.ON_RESPONSE,
            retries=2**63 - 1,
            additional_info={"a": [1, None, "\x00"]},
        )
        odd.record.note(EPOCH_MS, Mark.QUEUED, "behind \x00 'one'")
        odd.record.reason, odd.record.omitted, odd.unacknowledged = Reason.NO_ACK, 7, 3
        await add(filled, plain, odd)
        ended(odd)
        assert await filled.calls.end(odd)
        await opened_again()
        assert await filled.calls.call(TENANT, plain.call.rpc_id) == plain
        found = await filled.calls.call(TENANT, odd.call.rpc_id)
        assert found == odd
        assert await filled.calls.call(TENANT, GONE) is None

    @pytest_twisted.ensureDeferred
    async def test_ids_are_the_tenants_own(self, filled: Any) -> None:
        theirs = kept(1, tenant_id=OTHER_TENANT, device_id=FAR, method="theirs")
        await add(filled, kept(1), theirs)
        assert (await filled.calls.call(TENANT, UUID(int=1))).call.method == "set"
        assert (await filled.calls.call(OTHER_TENANT, UUID(int=1))).call.method == "theirs"
        assert await filled.calls.end(ended(kept(1)))
        assert await filled.calls.delete(OTHER_TENANT, UUID(int=1))
        assert not await filled.calls.delete(OTHER_TENANT, UUID(int=1))
        assert (await filled.calls.call(TENANT, UUID(int=1))).record.ended_time is not None

    @pytest_twisted.ensureDeferred
    async def test_the_ones_that_cannot_be_kept_fail_alone(self, filled: Any) -> None:
        await add(filled, kept(500))
        calls = [kept(number) for number in range(1, 40)]
        bad = {
            3: (kept(3, rpc_id=UUID(int=500)), AlreadyExists),
            9: (kept(9, rpc_id=UUID(int=8)), AlreadyExists),  # of the same batch
            20: (kept(20, device_id=GONE), NotFound),
            21: (kept(21, retries=2**63), InvalidRequest),
            30: (kept(30, wire_id=29), Unavailable),
            39: (kept(39, method="a\x00"), InvalidRequest),
        }
        sent = [bad[one.call.wire_id][0] if one.call.wire_id in bad else one for one in calls]
        outcomes = await DeferredList([filled.calls.insert(one) for one in sent], consumeErrors=True)
        failed = {number: failure.type for number, (fine, failure) in enumerate(outcomes, start=1) if not fine}
        assert failed == {number: error for number, (_, error) in bad.items()}
        waiting = numbers(await filled.calls.waiting(ONE, after=0, limit=1000))
        assert waiting == [number for number in range(1, 40) if number not in bad] + [500]

    @pytest_twisted.ensureDeferred
    async def test_a_call_ends_once(self, filled: Any) -> None:
        await add(filled, *map(kept, range(1, 9)))
        calls = [1, 2, 2, 77, 3, 4, 4, 1]
        told = await gatherResults([filled.calls.end(ended(kept(n), EPOCH_MS + n)) for n in calls])
        assert told == [True, True, False, False, True, True, False, False]
        late = ended(kept(1), EPOCH_MS + 50)
        late.record.state = CallState.EXPIRED
        assert not await filled.calls.end(late)
        found = await filled.calls.call(TENANT, UUID(int=1))
        assert found == ended(kept(1), EPOCH_MS + 1)
        assert numbers(await filled.calls.waiting(ONE, after=0, limit=10)) == [5, 6, 7, 8]

    @pytest_twisted.ensureDeferred
    async def test_what_went_on_is_seen_in_its_last_form_and_not_after_the_end(self, filled: Any) -> None:
        one, two = kept(1), kept(2)
        await add(filled, one, two)
        for each in (one, two):
            filled.calls.advance(each)
            advanced(each)
        assert await filled.calls.call(TENANT, UUID(int=1)) == one
        ending = filled.calls.end(ended(two))
        filled.calls.advance(one)
        filled.calls.advance(advanced(kept(2)))
        assert await ending
        assert await filled.calls.call(TENANT, UUID(int=2)) == two

    @pytest_twisted.ensureDeferred
    async def test_records_may_change_while_they_are_written(self, filled: Any) -> None:
        before, first, one, two = kept(1), kept(9), kept(1), kept(2)
        written = [filled.calls.insert(each) for each in (first, one, two)]
        advanced(one)
        ending = filled.calls.end(ended(two))
        two.record.note(EPOCH_MS + 9, Mark.HANDED_OVER)
        await gatherResults([*written, ending])
        assert await filled.calls.call(TENANT, UUID(int=1)) == before
        assert await filled.calls.call(TENANT, UUID(int=2)) == ended(kept(2))

    @pytest_twisted.ensureDeferred
    async def test_progress_moves_when_a_call_expires(self, filled: Any) -> None:
        one = kept(1)
        await add(filled, one)
        one.record.expiration_time = EPOCH_MS + 15
        filled.calls.advance(one)
        found = await filled.calls.call(TENANT, UUID(int=1))
        assert found.call.expiration_time == found.record.expiration_time == EPOCH_MS + 15
        assert found.call.latest_time == EPOCH_MS + 21

    @pytest_twisted.ensureDeferred
    async def test_what_is_read_is_read_behind_what_was_written_before(self, filled: Any) -> None:
        calls, sent = filled.calls, [kept(number) for number in range(1, 6)]
        inserts = [calls.insert(one) for one in sent]
        reads = [
            calls.waiting(ONE, after=0, limit=9),
            calls.call(TENANT, UUID(int=5)),
            calls.of_device(ONE, EVERYTHING),
            calls.next_due(),
        ]
        ends = [calls.end(ended(one)) for one in sent]
        waiting, fifth, of_device, next_due = await gatherResults(reads)
        assert numbers(waiting) == [1, 2, 3, 4, 5]
        assert fifth is not None
        assert of_device.total == 5
        assert next_due == EPOCH_MS + 1
        assert await gatherResults(inserts) == [None] * 5
        assert await gatherResults(ends) == [True] * 5
        assert await calls.waiting(ONE, after=0, limit=9) == []

    @pytest_twisted.ensureDeferred
    async def test_closing_writes_what_is_gathered(self, filled: Any, opened_again: Any) -> None:
        first = kept(1)
        await add(filled, first)
        inserts = [filled.calls.insert(kept(number)) for number in range(2, 9)]
        filled.calls.advance(advanced(first))
        opened = await opened_again()
        assert [each.called for each in inserts] == [True] * 7
        assert opened.waiting_calls == {ONE: 8}
        assert await filled.calls.call(TENANT, UUID(int=1)) == first


class TestWhatIsAsked:
    @pytest_twisted.ensureDeferred
    async def test_the_waiting_ones_of_a_device(self, filled: Any, opened_again: Any) -> None:
        await add(filled, *map(kept, (4, 2, 9, 3)), kept(5, device_id=TWO), kept(1, ended=1))
        await filled.calls.end(ended(kept(3)))
        assert numbers(await filled.calls.waiting(ONE, after=0, limit=9)) == [2, 4, 9]
        assert numbers(await filled.calls.waiting(ONE, after=2, limit=1)) == [4]
        assert await filled.calls.waiting(GONE, after=0, limit=9) == []
        assert (await filled.calls.waiting_call(ONE, 4)).call.rpc_id == UUID(int=4)
        assert await filled.calls.waiting_call(ONE, 3) is None
        assert await filled.calls.waiting_call(TWO, 4) is None
        opened = await opened_again()
        assert opened.waiting_calls == {ONE: 3, TWO: 1}

    @pytest_twisted.ensureDeferred
    async def test_the_due_ones(self, filled: Any, opened_again: Any) -> None:
        assert await filled.calls.next_due() is None
        calls = [kept(1, due=30), kept(2, due=10), kept(3, due=20, device_id=TWO), kept(4, due=5)]
        await add(filled, *calls)
        await filled.calls.end(ended(calls[3]))
        assert await filled.calls.next_due() == 10
        assert numbers(await filled.calls.due(20, limit=9)) == [2, 3]
        assert numbers(await filled.calls.due(99, limit=2)) == [2, 3]
        assert await filled.calls.due(9, limit=9) == []
        calls[1].due_time = 40
        filled.calls.advance(calls[1])
        assert await filled.calls.next_due() == 20
        assert (await opened_again()).next_due == 20

    @pytest.mark.parametrize("sort", ["id", "created_time", "expiration_time", "request", "response"])
    @pytest_twisted.ensureDeferred
    async def test_a_page_of_a_device(self, filled: Any, sort: str) -> None:
        calls = [kept(number, method=f"m{number}") for number in (3, 1, 2, 4)]
        await add(filled, *calls, kept(9, device_id=TWO))
        for one in calls:
            ended(one).response = b"%d" % one.call.wire_id
            await filled.calls.end(one)

        async def page(**link: Any) -> tuple[list[int], int]:
            found = await filled.calls.of_device(ONE, PageLink(sort_property=sort, **link))
            return numbers(found.items), found.total

        assert await page(page_size=9) == ([1, 2, 3, 4], 4)
        assert await page(page_size=3, descending=True) == ([4, 3, 2], 4)
        assert await page(page_size=3, page=1, descending=True) == ([1], 4)
        assert await page(page_size=2, page=1) == ([3, 4], 4)
        assert await page(page_size=2, page=2) == ([], 4)

    @pytest_twisted.ensureDeferred
    async def test_those_of_a_device_in_one_state(self, filled: Any) -> None:
        await add(filled, *map(kept, range(1, 5)))
        await filled.calls.end(ended(kept(2)))
        for state, found in ((CallState.QUEUED, [1, 3, 4]), (CallState.SUCCESSFUL, [2]), (CallState.FAILED, [])):
            page = await filled.calls.of_device(ONE, EVERYTHING, state=state)
            assert (numbers(page.items), page.total) == (found, len(found))

    @pytest_twisted.ensureDeferred
    async def test_those_of_a_tenant(self, filled: Any) -> None:
        await filled.people.create_customer(customer())
        await filled.update_device(replace(device(101), customer_id=CUSTOMER, type="pump", version=2))
        await filled.save_presence([LastPresence(device_id=TWO, connected_time=7, connected_cause="c")])
        await add(
            filled,
            *(kept(number, device_id=of) for number, of in ((1, ONE), (2, TWO), (3, ONE), (4, TWO))),
            kept(5, method="get"),
            kept(6, device_id=FAR, tenant_id=OTHER_TENANT),
        )
        await filled.calls.end(ended(kept(4)))
        assert await of_tenant(filled) == ([5, 4, 3, 2, 1], 5)
        assert await of_tenant(filled, limit=2) == ([5, 4], 5)
        assert await of_tenant(filled, OTHER_TENANT) == ([6], 1)
        assert await of_tenant(filled, since=EPOCH_MS + 3, limit=1) == ([5], 3)
        assert await of_tenant(filled, state=CallState.SUCCESSFUL) == ([4], 1)
        assert await of_tenant(filled, state=CallState.QUEUED, limit=1) == ([5], 4)
        assert await of_tenant(filled, method="get") == ([5], 1)
        assert await of_tenant(filled, method="set", since=EPOCH_MS + 2) == ([4, 3, 2], 3)
        assert await of_tenant(filled, method="g\x00") == ([], 0)
        assert await of_tenant(filled, ids=(TWO,)) == ([4, 2], 2)
        assert await of_tenant(filled, ids=(ONE, TWO), limit=3) == ([5, 4, 3], 5)
        assert await of_tenant(filled, OTHER_TENANT, ids=(ONE, TWO)) == ([], 0)
        assert await of_tenant(filled, customer_ids=(CUSTOMER,), ids=(ONE, TWO)) == ([4, 2], 2)
        assert await of_tenant(filled, types=("default",), method="set") == ([3, 1], 2)
        assert await of_tenant(filled, connected=True, state=CallState.QUEUED) == ([2], 1)
        assert await of_tenant(filled, connected=False) == ([5, 3, 1], 3)

    @pytest_twisted.ensureDeferred
    async def test_a_list_of_records_is_what_became_of_the_calls_and_reads_nothing_large(self, filled: Any) -> None:
        calls = [kept(1, method="m" * 100_000), kept(2)]
        await add(filled, *calls)
        await filled.calls.end(ended(calls[1]))
        wanted = CallFilter(devices=DeviceFilter(tenant_id=TENANT))
        records = (await filled.calls.records(wanted, limit=10)).items
        whole = [(await filled.calls.call(TENANT, UUID(int=number))).record for number in (2, 1)]
        assert list(records) == [msgspec.structs.replace(each, moments=()) for each in whole]
        assert len(records[1].method) == MAX_METHOD

    @pytest_twisted.ensureDeferred
    async def test_a_page_that_is_too_large_is_refused_and_a_smaller_one_is_not(self, filled: Any) -> None:
        large = b'"%b"' % (b"x" * (1 << 20))
        for number in range(1, 20):
            await add(filled, kept(number, params=large))
        with pytest.raises(InvalidRequest, match="larger than 16 MiB"):
            await filled.calls.of_device(ONE, EVERYTHING)
        assert len((await filled.calls.of_device(ONE, PageLink(page_size=10))).items) == 10
        assert (await of_tenant(filled))[1] == 19


class TestForgetting:
    @pytest_twisted.ensureDeferred
    async def test_those_that_ended_long_ago_in_pieces(self, filled: Any) -> None:
        await add(filled, *(kept(number, ended=number) for number in (3, 1, 2, 4, 5)), kept(6))
        assert await filled.calls.forget_ended(5, limit=3) == 3
        assert (await of_tenant(filled))[0] == [6, 5, 4]
        assert await filled.calls.forget_ended(5, limit=3) == 1
        assert await filled.calls.forget_ended(5, limit=3) == 0
        assert await filled.calls.forget_ended(2**62, limit=3) == 1
        assert (await of_tenant(filled))[0] == [6]

    @pytest_twisted.ensureDeferred
    async def test_they_go_with_their_device_and_their_tenant_and_stay_without_their_customer(
        self, filled: Any, opened_again: Any
    ) -> None:
        await filled.people.create_customer(customer())
        await filled.update_device(replace(device(101), customer_id=CUSTOMER, version=2))
        lost = kept(1)
        await add(filled, lost, kept(2, device_id=TWO), kept(3, device_id=FAR, tenant_id=OTHER_TENANT))
        await filled.delete_device(ONE)
        await filled.people.delete_tenant(OTHER_TENANT, revoked=0)
        await filled.people.delete_customer(CUSTOMER, revoked=0)
        filled.calls.advance(lost)
        assert not await filled.calls.end(ended(lost))
        assert (await opened_again()).waiting_calls == {TWO: 1}
        assert await of_tenant(filled) == ([2], 1)
        assert await of_tenant(filled, OTHER_TENANT) == ([], 0)


class TestWrittenBehind:
    """On a clock; the tables are looked at beside the store."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        made = MemoryStore(clock=clock)
        made.open(first_records=first_records)
        made.create_device(device(), token(device()))
        return made

    def stored(self, store: MemoryStore) -> dict[int, str]:
        query = sa.select(rpc.c.wire_id, rpc.c.status)
        with store.database._engine.connect() as connection:
            return {row.wire_id: row.status for row in connection.execute(query)}

    def test_a_moment_later(self, clock: Clock, store: MemoryStore) -> None:
        one = kept(1)
        store.calls.insert(one)
        store.calls.advance(advanced(one))
        clock.advance(WRITE_BEHIND / 2)
        store.calls.advance(one)
        assert self.stored(store) == {1: "QUEUED"}
        clock.advance(WRITE_BEHIND / 2)
        assert self.stored(store) == {1: "SENT"}
        assert not clock.getDelayedCalls()

    def test_with_what_is_written_next(self, clock: Clock, store: MemoryStore) -> None:
        one = kept(1)
        store.calls.insert(one)
        store.calls.advance(advanced(one))
        store.calls.insert(kept(2))
        assert self.stored(store) == {1: "SENT", 2: "QUEUED"}
        assert not clock.getDelayedCalls()

    def test_not_if_the_call_has_ended_before(self, clock: Clock, store: MemoryStore) -> None:
        one = kept(1)
        store.calls.insert(one)
        store.calls.advance(advanced(one))
        with statements(store) as given:
            store.calls.end(ended(one))
            clock.advance(1)
        assert self.stored(store) == {1: "SUCCESSFUL"}
        assert len([statement for statement in given if statement.startswith("UPDATE")]) == 1

    def test_lost_if_the_process_dies(self, clock: Clock, store: MemoryStore) -> None:
        one = kept(1)
        store.calls.insert(one)
        store.calls.advance(advanced(one))
        store.open(first_records=first_records)
        clock.advance(1)
        assert self.stored(store) == {1: "QUEUED"}


@pytest_twisted.ensureDeferred
async def test_when_nothing_can_be_written_all_are_told_and_what_went_on_is_not_lost(url: str) -> None:
    store = sql_store(url)
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    one = kept(1)
    await store.calls.insert(one)
    await rename(store, "rpc", "away")
    store.calls.advance(advanced(one))
    attempts = [store.calls.insert(kept(2)), store.calls.insert(kept(3)), store.calls.end(kept(4, ended=5))]
    outcomes = await DeferredList(attempts, consumeErrors=True)
    assert [failure.type for fine, failure in outcomes if not fine] == [Unavailable] * 3
    await rename(store, "away", "rpc")
    await store.calls.insert(kept(2))
    assert await store.calls.call(TENANT, UUID(int=1)) == one
    await store.close()


@pytest.mark.parametrize("pragma", ["max_page_count=10", "query_only=ON"])
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_called_by_its_name(tmp_path: Path, pragma: str) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    limits = [pragma]
    engine = store._database._engine
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA {limits[0]}"))
    many = [kept(number, additional_info="x" * 9000) for number in range(1, 60)]
    outcomes = await DeferredList([store.calls.insert(one) for one in many], consumeErrors=True)
    words = "read-only" if pragma == "query_only=ON" else "the disk is full"
    assert not [failure for fine, failure in outcomes if fine or words not in failure.value.message]
    limits[0] = "query_only=OFF"
    await store.ping_writer()
    limits[0] = "max_page_count=1000000"
    await add(store, *many)
    assert len(await store.calls.waiting(ONE, after=0, limit=99)) == len(many)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_what_is_written_behind_is_tried_again(tmp_path: Path) -> None:
    clock = Clock()
    database = ThreadedDatabase(url_of(tmp_path), call_from_thread=reactor.callFromThread, max_queue=99)
    store = SqlStore(database, cache_size=1, clock=clock)
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    one = kept(1)
    await store.calls.insert(one)
    await rename(store, "rpc", "away")
    store.calls.advance(advanced(one))
    clock.advance(WRITE_BEHIND)
    await rename(store, "away", "rpc")
    (again,) = clock.getDelayedCalls()
    assert again.getTime() == WRITE_BEHIND + TRY_AGAIN
    clock.advance(TRY_AGAIN)
    await store.ping_writer()
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as beside:
        assert beside.execute("SELECT status FROM rpc").fetchall() == [("SENT",)]
    assert not clock.getDelayedCalls()
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_closed_says_so(url: str) -> None:
    store = sql_store(url)
    store.open(first_records=first_records)
    await store.close()
    store.calls.advance(kept(1))
    attempts = [store.calls.insert(kept(1)), store.calls.end(kept(1)), store.calls.call(TENANT, ONE)]
    attempts.append(store.calls.of_device(ONE, EVERYTHING))
    assert [type(error_of(each)) for each in attempts] == [Unavailable] * 4
    assert store.calls._timer is None


def rename(store: Any, table: str, to: str) -> Deferred[Any]:
    written: Deferred[Any] = store._database.write(
        lambda connection: connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")
    )
    return written


@pytest_twisted.ensureDeferred
async def test_too_many_that_wait_for_the_disk_are_refused(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path), max_queue=5)
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    inserts = [store.calls.insert(kept(number)) for number in range(1, 9)]
    assert store.queued >= 5
    outcomes = await DeferredList(inserts, consumeErrors=True)
    assert [fine for fine, _ in outcomes] == [True] * 6 + [False] * 2, "one is on its way, five are gathered"
    assert [failure.type for fine, failure in outcomes if not fine] == [Unavailable] * 2
    assert len(await store.calls.waiting(ONE, after=0, limit=9)) == 6
    await store.close()


@pytest_twisted.ensureDeferred
async def test_many_calls_share_a_commit(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    await store.create_device(device(), token(device()))
    before = store.commits
    calls = [kept(number) for number in range(1, 501)]
    await add(store, *calls)
    assert await gatherResults([store.calls.end(ended(one)) for one in calls]) == [True] * 500
    assert store.commits - before <= 4
    await store.close()


@pytest_twisted.ensureDeferred
async def test_100_000_that_wait_are_no_burden(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path))
    store.open(first_records=first_records)
    for number in range(100, 110):
        await store.create_device(device(number), token(device(number)))
    base = insert_row(kept(1))
    for start in range(1, 100_001, 5000):
        batch = [
            (base[0], f"{number:032x}", UUID(int=100 + number % 10).hex, number, base[4], EPOCH_MS + number, *base[6:])
            for number in range(start, start + 5000)
        ]
        await store._database.write(lambda connection, batch=batch: write_calls(connection, batch, (), ()))
    await store.close()

    opened, seconds = await timed(lambda: store.open(first_records=lambda: pytest.fail("it is in use")))
    assert opened.waiting_calls == {UUID(int=number): 10_000 for number in range(100, 110)}
    assert seconds < 1
    newest, seconds = await timed(lambda: store.calls.of_device(ONE, PageLink(page_size=100, descending=True)))
    assert (newest.total, numbers(newest.items)[:2]) == (10_000, [100_000, 99_990])
    assert seconds < 0.5
    found, seconds = await timed(lambda: of_tenant(store, limit=100, state=CallState.QUEUED))
    assert (found[0][0], found[1]) == (100_000, 100_000)
    assert seconds < 0.5
    waiting, seconds = await timed(lambda: store.calls.waiting(ONE, after=50_000, limit=100))
    assert numbers(waiting)[0] == 50_010
    assert seconds < 0.2
    await store.close()


async def timed(work: Any) -> tuple[Any, float]:
    start = time.monotonic()
    done = work()
    found = await done if hasattr(done, "__await__") else done
    return found, time.monotonic() - start


@pytest_twisted.ensureDeferred
async def test_what_goes_on_while_the_queue_is_full_does_not_keep_the_process_busy(tmp_path: Path) -> None:
    store = sql_store(url_of(tmp_path), max_queue=0)
    store.open(first_records=first_records)
    store.calls.advance(kept(1))
    with pytest.raises(Unavailable):
        await store.calls.call(TENANT, UUID(int=1))
    await store.close()
