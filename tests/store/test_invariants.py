"""Each invariant is broken once, and nothing else is reported then; a store with calls of every kind breaks none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
import sqlalchemy as sa
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, first_records, tenant, token
from kept_calls import DUE, EVERY_KIND, rpc_id
from sqlalchemy import Connection, Engine
from stores import sql_store
from twisted.internet.defer import Deferred, gatherResults

from rpcbroker.core import jsontext
from rpcbroker.core.boards import Board
from rpcbroker.core.bulk import Bulk, BulkPlan, BulkState, Change, EntryState
from rpcbroker.core.calls import CallRequest
from rpcbroker.core.model import Relation, StoredChain
from rpcbroker.core.records import MAX_MOMENTS
from rpcbroker.core.wire_ids import BEGIN_AGAIN, HIGHEST
from rpcbroker.store import tables as t
from rpcbroker.store.device_writes import insert_device
from rpcbroker.store.invariants import EXAMPLES, INVARIANTS, LATE, Verified, verify

RESERVED = 8_192
RUNNING = Bulk(
    id=UUID(int=901),
    tenant_id=TENANT,
    user_id=ADMIN.user_id,
    customer_id=None,
    user_name="admin@example.org",
    content="",
    request=CallRequest(method="x"),
    plan=BulkPlan(concurrency=1),
    created_time=EPOCH_MS,
    counts={EntryState.WAITING: 2},
)
ENDED = replace(
    RUNNING,
    id=UUID(int=900),
    state=BulkState.DONE,
    ended_time=EPOCH_MS + 9,
    counts={EntryState.SUCCESSFUL: 1, EntryState.FAILED: 1},
)
ROOT = StoredChain(id=UUID(int=910), tenant_id=TENANT, name="Root", root=True, graph=b"{}", created_time=EPOCH_MS)
ANOTHER = replace(ROOT, id=UUID(int=911), name="Another", root=False)
RELATION = Relation(tenant_id=TENANT, source=device(100).id, target=device(101).id, type="Contains")
BOARD = Board(
    id=UUID(int=920),
    tenant_id=TENANT,
    title="Hall",
    content=b"{}",
    created_time=EPOCH_MS,
    updated_time=EPOCH_MS,
    device_id=device(100).id,
)
Break = Callable[[Connection], Any]


@pytest.fixture(scope="module")
def engine(lasting_url: str) -> Iterator[Engine]:
    """Of a store in which nothing is broken."""
    store = sql_store(lasting_url)
    store.open(first_records=first_records)

    async def fill() -> None:
        await store.people.create_tenant(tenant())
        await store.people.create_customer(customer(tenant=OTHER_TENANT))
        await gatherResults([store.create_device(device(n), token(device(n))) for n in (100, 101)])
        await store.reserve_wire_ids(RESERVED)
        await gatherResults([store.calls.insert(kept) for kept in EVERY_KIND])
        ended, _ = [
            await store.bulks.create(each, [(device(n).id, "d") for n in (100, 101)]) for each in (ENDED, RUNNING)
        ]
        outcomes = Change(0, EntryState.SUCCESSFUL, None, b"1", 1), Change(1, EntryState.FAILED, "NO_REPLY", None, 2)
        await store.bulks.save(ended, outcomes, abort_from=None)
        await gatherResults([store.rules.save_chain(chain) for chain in (ROOT, ANOTHER)])
        await store.rules.relate(RELATION, most=1)
        await store.boards.create_board(BOARD)
        await store.close()

    pytest_twisted.blockon(Deferred.fromCoroutine(fill()))
    engine = sa.create_engine(lasting_url)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """What is broken through it is whole again for the next test."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def found(connection: Connection, *, now: int = EPOCH_MS, running: bool = True) -> dict[str, Verified]:
    return {each.invariant.name: each for each in verify(connection, now=now, running=running)}


def call(number: int, **changes: Any) -> Break:
    statement = sa.update(t.rpc).where(t.rpc.c.id == rpc_id(number)).values(**changes)
    return lambda connection: connection.execute(statement)


def the_device(**changes: Any) -> Break:
    return lambda connection: connection.execute(
        sa.update(t.device).where(t.device.c.name == "device-100").values(changes)
    )


def no_credentials(connection: Connection) -> None:
    connection.execute(sa.delete(t.credentials).where(t.credentials.c.device_id == device(100).id))


def bulk(**changes: Any) -> Break:
    return lambda connection: connection.execute(sa.update(t.bulk).where(t.bulk.c.id == ENDED.id).values(changes))


def entry(number: int, *, of: int = 1, **changes: Any) -> Break:
    where = t.bulk_device.c.bulk == of, t.bulk_device.c.number == number
    return lambda connection: connection.execute(sa.update(t.bulk_device).where(*where).values(changes))


def one_still_waits(connection: Connection) -> None:
    entry(0, state="WAITING", ended=None)(connection)
    bulk(counts={"WAITING": 1, "FAILED": 1})(connection)


def chain(**changes: Any) -> Break:
    return lambda connection: connection.execute(
        sa.update(t.rule_chain).where(t.rule_chain.c.id == ANOTHER.id).values(changes)
    )


def board(**changes: Any) -> Break:
    return lambda connection: connection.execute(sa.update(t.board).values(changes))


def relation(**changes: Any) -> Break:
    return lambda connection: connection.execute(sa.update(t.relation).values(changes))


def foreign(end: str) -> Break:
    """A device of another tenant is at this end of a relation."""

    def break_it(connection: Connection) -> None:
        there = device(700, tenant=OTHER_TENANT)
        insert_device(connection, there, token(there))
        relation(**{end: there.id})(connection)

    return break_it


DEVICE = device(100).id
TOO_MANY = jsontext.encode([(1, "sent", None)] * (MAX_MOMENTS + 1)).decode()
BREAKS: list[tuple[str, Break, UUID]] = [
    ("words", call(1, strategy="SOMETIMES"), rpc_id(1)),
    ("words", call(1, status="LOST"), rpc_id(1)),
    ("words", call(7, reason="BAD_MOOD"), rpc_id(7)),
    ("final states end", call(2, status="EXPIRED"), rpc_id(2)),
    ("ends are final", call(6, status="SENT"), rpc_id(6)),
    ("ends are final", call(6, status="DELIVERED"), rpc_id(6)),
    ("ends are final", call(5, oneway=False), rpc_id(5)),
    ("one-way delivered", call(3, oneway=True), rpc_id(3)),
    ("wire ids reserved", call(1, wire_id=0), rpc_id(1)),
    ("wire ids reserved", call(1, wire_id=RESERVED + 1), rpc_id(1)),
    ("wire ids reserved", call(6, wire_id=RESERVED + 1), rpc_id(6)),
    ("order of times", call(6, ended_time=EPOCH_MS - 1), rpc_id(6)),
    ("order of times", call(1, expiration_time=DUE + 1), rpc_id(1)),
    ("order of times", call(1, created_time=-1), rpc_id(1)),
    ("due in time", call(1, due_time=DUE + 1), rpc_id(1)),
    ("nothing overdue", call(1, due_time=EPOCH_MS - LATE - 1), rpc_id(1)),
    ("outcome", call(1, response="1"), rpc_id(1)),
    ("outcome", call(1, reason="NO_ACK"), rpc_id(1)),
    ("outcome", call(1, device_error=True), rpc_id(1)),
    ("counts", call(1, omitted=-1), rpc_id(1)),
    ("counts", call(1, unacknowledged=-1), rpc_id(1)),
    ("sum of the method", call(1, method="other"), rpc_id(1)),
    ("params", call(1, params='{"pin":'), rpc_id(1)),
    ("params", call(1, params=""), rpc_id(1)),
    ("response", call(6, response="hello"), rpc_id(6)),
    ("additional info", call(6, additional_info="{]"), rpc_id(6)),
    ("time line", call(1, moments='[[1,"dreamt",null]]'), rpc_id(1)),
    ("time line", call(1, moments="{}"), rpc_id(1)),
    ("time line", call(1, moments=TOO_MANY), rpc_id(1)),
    ("device of a call", call(1, tenant_id=OTHER_TENANT), rpc_id(1)),
    ("customer of a device", the_device(customer_id=UUID(int=99)), DEVICE),
    ("customer of a device", the_device(customer_id=customer().id), DEVICE),
    ("credentials", no_credentials, DEVICE),
    ("bulk words", bulk(state="LOST"), ENDED.id),
    ("bulk words", entry(0, of=2, state="LOST"), RUNNING.id),
    ("bulk ends", bulk(state="RUNNING"), ENDED.id),
    ("bulk ends", bulk(ended_time=EPOCH_MS - 1), ENDED.id),
    ("bulk rest", one_still_waits, ENDED.id),
    ("bulk order", entry(0, ended=None), ENDED.id),
    ("bulk order", entry(1, ended=1), ENDED.id),
    ("bulk order", entry(0, of=2, ended=1), RUNNING.id),
    ("bulk counts", entry(0, state="UNKNOWN"), ENDED.id),
    ("bulk counts", bulk(counts={"SUCCESSFUL": 2}), ENDED.id),
    ("bulk responses", entry(0, response="OK"), ENDED.id),
    ("one root chain", chain(root=True), TENANT),
    ("graph of a chain", chain(graph=b'{"nodes":'), ANOTHER.id),
    ("graph of a chain", chain(graph=b"[]"), ANOTHER.id),
    ("graph of a chain", chain(graph=b'{"a":"\xff"}'), ANOTHER.id),
    ("devices of a relation", relation(tenant_id=OTHER_TENANT), DEVICE),
    ("devices of a relation", foreign("target"), DEVICE),
    ("devices of a relation", foreign("source"), UUID(int=700)),
    ("content of a board", board(content=b"[]"), BOARD.id),
    ("content of a board", board(content=b"\xff"), BOARD.id),
    ("what a board names", board(tenant_id=OTHER_TENANT), BOARD.id),
    ("what a board names", board(customer_id=CUSTOMER), BOARD.id),
]


@pytest.mark.parametrize(
    ("name", "break_it", "id_"), BREAKS, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(BREAKS)]
)
def test_what_is_broken_is_reported_by_its_id_and_nothing_else_is(
    connection: Connection, name: str, break_it: Break, id_: UUID
) -> None:
    assert {each.broken for each in found(connection).values()} == {0}
    break_it(connection)
    after = found(connection)
    assert {each.invariant.name: each.broken for each in after.values() if each.broken} == {name: 1}
    assert after[name].examples == (str(id_),)


def test_two_calls_under_one_wire_id_are_both_reported_unless_one_has_ended(connection: Connection) -> None:
    call(6, wire_id=3)(connection)
    call(10, wire_id=4)(connection)
    connection.exec_driver_sql("DROP INDEX ix_rpc_wire_id")  # which would not let it happen
    call(2, wire_id=1)(connection)
    after = found(connection)
    assert {each.invariant.name: each.broken for each in after.values() if each.broken} == {"wire ids differ": 2}
    assert set(after["wire ids differ"].examples) == {str(rpc_id(1)), str(rpc_id(2))}


def test_every_invariant_is_broken_by_a_test() -> None:
    names = [invariant.name for invariant in INVARIANTS]
    assert len(set(names)) == len(names)
    assert set(names) == {name for name, *_ in BREAKS} | {"wire ids differ"}


def test_what_is_overdue_counts_only_while_a_broker_runs(connection: Connection) -> None:
    late = DUE + LATE + 1
    assert found(connection, now=late)["nothing overdue"].broken == 5
    assert found(connection, now=late - 1)["nothing overdue"].broken == 0
    at_rest = found(connection, now=late, running=False)
    assert at_rest["nothing overdue"].broken is None
    assert {each.broken for each in at_rest.values()} == {0, None}


def test_the_first_ids_are_told_and_all_are_counted(connection: Connection) -> None:
    row = connection.execute(sa.select(t.rpc).where(t.rpc.c.id == rpc_id(6))).mappings().one()
    more = [dict(row) | {"id": rpc_id(n), "wire_id": n, "status": "SENT"} for n in range(100, 100 + EXAMPLES + 3)]
    connection.execute(sa.insert(t.rpc), more)
    broken = found(connection)["ends are final"]
    assert broken.broken == EXAMPLES + 3
    assert len(set(broken.examples)) == EXAMPLES


def test_ids_from_before_the_count_began_again_break_nothing(connection: Connection) -> None:
    call(1, wire_id=HIGHEST)(connection)
    call(6, wire_id=BEGIN_AGAIN + 1)(connection)
    assert {each.broken for each in found(connection).values()} == {0}
