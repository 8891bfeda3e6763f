"""One contract for all stores: the audit log."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS, OTHER_TENANT, TENANT, tenant
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.model import NULL_UUID, AuditEntry, AuditFilter, PageLink
from rpcbroker.store.audit import SqlAudit
from rpcbroker.store.queries import ROWS_AT_ONCE


def entry(number: int, **more: Any) -> AuditEntry:
    members: dict[str, Any] = {
        "created_time": EPOCH_MS + number,
        "tenant_id": TENANT,
        "customer_id": None,
        "entity_type": "DEVICE",
        "entity_id": UUID(int=100),
        "entity_name": f"device-{number}",
        "user_id": UUID(int=10),
        "user_name": "Admin@example.org",
        "action": "RPC_CALL",
        "data": {"method": "get\x00", "durationMs": 0.5},
        "failure": "",
    }
    return AuditEntry(**members | more)


async def append(store: Any, *entries: AuditEntry, since: int = 0, max_entries: int = 1000) -> None:
    await store.audit.append(entries, since=since, max_entries=max_entries)


async def names(store: Any, tenant_id: UUID = TENANT, **more: Any) -> list[str]:
    link = {name: more.pop(name) for name in PageLink.__dataclass_fields__ if name in more}
    page = await store.audit.entries(AuditFilter(tenant_id=tenant_id, **more), PageLink(**{"page_size": 100} | link))
    return [each.entity_name for each in page.items]


@pytest_twisted.ensureDeferred
async def test_what_was_kept_is_read_as_it_was(store: Any) -> None:
    made = [entry(1), entry(2, customer_id=UUID(int=3), entity_name=None, data=None, failure="NO_REPLY: no")]
    await append(store, *made)
    page = await store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=1))
    assert page.total == 2
    (first,) = page.items
    assert first == entry(1, sequence=first.sequence)
    (second,) = (await store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=1, page=1))).items
    assert second.sequence > first.sequence
    assert (second.customer_id, second.entity_name, second.data, second.failure) == (
        UUID(int=3),
        None,
        None,
        "NO_REPLY: no",
    )


@pytest_twisted.ensureDeferred
async def test_filters(store: Any) -> None:
    await append(
        store,
        entry(1),
        entry(2, user_id=UUID(int=11), user_name="Other@example.org"),
        entry(3, customer_id=UUID(int=3)),
        entry(4, entity_id=UUID(int=101), action="DELETED"),
        entry(5, entity_type="USER", action="UPDATED"),
        entry(6, tenant_id=NULL_UUID),
    )
    assert await names(store, NULL_UUID) == ["device-6"]
    assert await names(store, OTHER_TENANT) == []
    assert await names(store, user_id=UUID(int=11)) == ["device-2"]
    assert await names(store, customer_id=UUID(int=3)) == ["device-3"]
    assert await names(store, entity=("DEVICE", UUID(int=101))) == ["device-4"]
    assert await names(store, entity=("USER", UUID(int=100))) == ["device-5"]
    assert await names(store, entity=("x" * 1000, UUID(int=100))) == []
    assert await names(store, actions=("DELETED", "UPDATED", "NEVER")) == ["device-4", "device-5"]
    assert await names(store, start_time=EPOCH_MS + 2, end_time=EPOCH_MS + 3) == ["device-2", "device-3"]
    assert await names(store, text_search="oTHER@") == ["device-2"]
    assert await names(store, text_search="UPDATE") == ["device-5"]
    assert await names(store, text_search="%") == []


@pytest_twisted.ensureDeferred
async def test_of_one_millisecond_the_later_is_the_newer(store: Any) -> None:
    await append(store, *(entry(1, entity_name=name) for name in "bca"))
    await append(store, entry(0, entity_name="old"))
    assert await names(store) == ["old", "b", "c", "a"]
    assert await names(store, descending=True) == ["a", "c", "b", "old"]
    assert await names(store, descending=True, page_size=2, page=1) == ["b", "old"]
    assert await names(store, sort_property="entity_name") == ["a", "b", "c", "old"]


@pytest_twisted.ensureDeferred
async def test_what_is_too_old_is_forgotten(store: Any) -> None:
    await append(store, *map(entry, range(5)))
    await append(store, entry(5), since=EPOCH_MS + 3)
    assert await names(store) == ["device-3", "device-4", "device-5"]


@pytest_twisted.ensureDeferred
async def test_what_is_too_much_is_forgotten_the_oldest_first(store: Any) -> None:
    await store.people.create_tenant(tenant())
    await append(store, *(entry(n, tenant_id=OTHER_TENANT) for n in range(3)), max_entries=3)
    for start in range(0, 12, 4):
        await append(store, *(entry(n) for n in range(start, start + 4)), max_entries=3)
    assert await names(store) == ["device-9", "device-10", "device-11"]
    assert await names(store, OTHER_TENANT) == ["device-0", "device-1", "device-2"]
    await append(store, entry(-5), max_entries=3)
    assert await names(store) == ["device-9", "device-10", "device-11"], "one that comes late is the oldest"


@pytest_twisted.ensureDeferred
async def test_a_tenant_has_a_hundredth_too_many_at_the_most(store: Any, opened_again: Any) -> None:
    most = 0
    for start in range(0, 1500, 3):
        await append(store, *(entry(start + n) for n in range(3)), max_entries=500)
        page = await store.audit.entries(AuditFilter(tenant_id=TENANT), PageLink(page_size=1))
        most = max(most, page.total)
    assert 500 <= most <= 505


@pytest_twisted.ensureDeferred
async def test_entries_of_a_tenant_that_is_gone_are_passed_over(store: Any) -> None:
    await append(store, entry(1), entry(2, tenant_id=OTHER_TENANT), entry(3))
    await append(store, entry(2, tenant_id=OTHER_TENANT))
    assert await names(store) == ["device-1", "device-3"]
    assert await names(store, OTHER_TENANT) == []


@pytest_twisted.ensureDeferred
async def test_more_entries_than_go_into_one_statement(store: Any) -> None:
    count = 2 * ROWS_AT_ONCE + 3
    await append(store, *map(entry, range(count)))
    assert await names(store, page_size=1000) == [f"device-{n}" for n in range(count)]


class Failing:
    """A database on which a transaction fails at its end, as it does when another write in it fails."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.fails = False

    def write(self, work: Any) -> Deferred[Any]:
        def both(connection: Any) -> None:
            work(connection)
            if self.fails:
                raise InvalidRequest("no")

        return self._database.write(both)  # type: ignore[no-any-return]


@pytest_twisted.ensureDeferred
async def test_no_more_go_than_are_too_many_after_a_write_that_failed(store: Any) -> None:
    database: Any = Failing(store._database)
    log = SqlAudit(database)
    await log.append([*map(entry, range(3))], since=0, max_entries=4)
    database.fails = True
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            await log.append([entry(3)], since=0, max_entries=4)
    database.fails = False
    await log.append([entry(3)], since=0, max_entries=4)
    assert await names(store) == ["device-0", "device-1", "device-2", "device-3"]


@pytest_twisted.ensureDeferred
async def test_a_write_that_the_database_refuses_spoils_no_count(store: Any) -> None:
    await append(store, *map(entry, range(3)), max_entries=4)
    with pytest.raises(Exception, match=r"."):
        await append(store, entry(3), entry(4, failure=None), max_entries=4)
    await append(store, entry(3), max_entries=4)
    assert await names(store) == ["device-0", "device-1", "device-2", "device-3"]


@pytest_twisted.ensureDeferred
async def test_what_another_process_wrote_counts_too(store: Any) -> None:
    await append(store, *map(entry, range(3)), max_entries=4)
    await SqlAudit(store._database).append([entry(3)], since=0, max_entries=4)
    await append(store, entry(4), max_entries=4)
    assert await names(store) == ["device-1", "device-2", "device-3", "device-4"]


@pytest_twisted.ensureDeferred
async def test_what_went_for_its_age_does_not_count(store: Any) -> None:
    await append(store, *map(entry, range(3)), max_entries=3)
    await append(store, entry(10), since=EPOCH_MS + 5, max_entries=3)
    await append(store, entry(11), entry(12), since=EPOCH_MS + 5, max_entries=3)
    assert await names(store) == ["device-10", "device-11", "device-12"]
