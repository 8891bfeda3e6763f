"""The queries of lists find their rows by an index, in its order: neither a whole table is read, nor anything sorted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from fakes import TENANT, device, first_records, result_of, token
from stores import statements
from test_stored_audit import entry

from rpcbroker.core.calls import CallState
from rpcbroker.core.model import AuditFilter, DeviceFilter, PageLink, Relation, Scope
from rpcbroker.core.ports import CallFilter
from rpcbroker.store.memory import MemoryStore
from rpcbroker.store.queries import run


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.open(first_records=first_records)
    return made


@contextmanager
def plans(store: MemoryStore) -> Iterator[list[str]]:
    """What SQLite does for each query and deletion: filled in at the end."""
    found: list[str] = []
    with statements(store) as given:
        yield found
    with store.database._engine.connect() as connection:
        for statement in given:
            if not statement.startswith(("INSERT", "--")):
                found += [row[3] for row in run(connection, f"EXPLAIN QUERY PLAN {statement}")]
    assert found


def indexed(steps: list[str]) -> bool:
    return not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("more", [{}, {"start_time": 5, "end_time": 7}], ids=["all", "between"])
def test_a_page_of_the_audit_log(store: MemoryStore, descending: bool, more: Any) -> None:
    with plans(store) as steps:
        link = PageLink(page_size=100, descending=descending)
        result_of(store.audit.entries(AuditFilter(tenant_id=TENANT, **more), link))
    assert indexed(steps), steps


def test_cutting_the_audit_log(store: MemoryStore) -> None:
    with plans(store) as steps:
        for _ in range(2):
            result_of(store.audit.append([entry(1)], since=1, max_entries=1))
    assert indexed(steps), steps
    assert len([step for step in steps if "ix_audit_newest" in step]) == 2, "counted once, cut once"


@pytest.mark.parametrize("sort", ["created_time", "name"])
@pytest.mark.parametrize("descending", [True, False])
def test_a_page_of_device_infos(store: MemoryStore, sort: str, descending: bool) -> None:
    with plans(store) as steps:
        link = PageLink(page_size=100, sort_property=sort, descending=descending)
        result_of(store.devices(DeviceFilter(tenant_id=TENANT), link))
    assert indexed([step for step in steps if "LAST TERM" not in step]), steps


def test_values_of_a_device(store: MemoryStore) -> None:
    of, kept = device().id, store.values
    with plans(store) as steps:
        result_of(kept.series_counts(of))
        result_of(kept.series(of, ["a", "b"], window=100))
        result_of(kept.delete_series(of, ["a"], start=0, end=9, keep_latest=False, window=100))
        result_of(kept.attributes(of, scopes=[Scope.CLIENT], keys=["a"], after_writes=False))
        result_of(kept.delete_attributes(of, Scope.CLIENT, ["a"]))
        result_of(store.delete_device(of))
    assert not [step for step in steps if step.startswith("SCAN")], steps


def test_calls_that_the_broker_looks_for(store: MemoryStore) -> None:
    of, kept = device().id, store.calls
    with plans(store) as steps:
        result_of(kept.waiting(of, after=0, limit=100))
        result_of(kept.waiting_call(of, 1))
        result_of(kept.due(5, limit=100))
        result_of(kept.next_due())
        result_of(kept.call(TENANT, of))
        result_of(kept.delete(TENANT, of))
        result_of(kept.forget_ended(5, limit=100))
        result_of(store.delete_device(of))
    assert indexed(steps), steps
    assert len([step for step in steps if "ix_rpc_wire_id" in step]) == 2, steps
    assert len([step for step in steps if "ix_rpc_due_time" in step]) == 2, steps
    assert len([step for step in steps if "ix_rpc_ended_time" in step]) == 1, steps


def test_at_the_start_only_calls_that_wait_are_looked_at(store: MemoryStore) -> None:
    """These indexes have no others."""
    with plans(store) as steps:
        store.open(first_records=first_records)
    mine = [step.replace("COVERING ", "") for step in steps if "rpc" in step]
    assert mine == ["SCAN rpc USING INDEX ix_rpc_wire_id", "SEARCH rpc USING INDEX ix_rpc_due_time"], mine


@pytest.mark.parametrize("descending", [True, False])
def test_a_page_of_a_devices_calls(store: MemoryStore, descending: bool) -> None:
    with plans(store) as steps:
        link = PageLink(page_size=100, descending=descending)
        result_of(store.calls.of_device(device().id, link))
        result_of(store.calls.of_device(device().id, link, state=CallState.QUEUED))
    assert indexed(steps), steps


@pytest.mark.parametrize("devices", [{}, {"ids": (device().id,)}], ids=["tenant", "device"])
@pytest.mark.parametrize(
    "more", [{}, {"state": CallState.QUEUED}, {"method": "m"}, {"since": 5}], ids=["all", "state", "method", "since"]
)
def test_the_newest_calls(store: MemoryStore, devices: Any, more: Any) -> None:
    with plans(store) as steps:
        wanted = CallFilter(devices=DeviceFilter(tenant_id=TENANT, **devices), **more)
        result_of(store.calls.records(wanted, limit=100))
    assert indexed([step for step in steps if "TEMP B-TREE" not in step]), steps
    assert indexed(steps) or devices, "of one tenant they come in the order of an index"


@pytest.mark.parametrize("outward", [True, False], ids=["outward", "inward"])
@pytest.mark.parametrize("type_", ["", "Contains"], ids=["any", "type"])
def test_relations_of_a_device(store: MemoryStore, outward: bool, type_: str) -> None:
    """They are sorted in the end, for there are few of one device."""
    rules, ids = store.rules, [device(number).id for number in (100, 101)]
    for number in (100, 101):
        result_of(store.create_device(device(number), token(device(number))))
    relation = Relation(tenant_id=TENANT, source=ids[0], target=ids[1], type="Contains")
    with plans(store) as steps:
        result_of(rules.relate(relation, most=9))
        result_of(rules.relations(TENANT, type_=type_, **{"source" if outward else "target": ids[0]}))
        result_of(rules.related(TENANT, ids[0], outward=outward, type_=type_, levels=3, limit=100))
        result_of(rules.unrelate(relation))
        result_of(store.delete_device(ids[1]))
    mine = [step for step in steps if "relation" in step]
    assert len(mine) >= 5
    assert indexed(mine), mine


def test_that_a_query_which_is_not_indexed_would_be_found(store: MemoryStore) -> None:
    with plans(store) as steps, store.database._engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM audit ORDER BY user_name"))
    assert not indexed(steps)
