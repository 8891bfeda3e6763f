"""Requests for many devices in the store: what is asked, each device's part, and what outlives the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import ADMIN, CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, tenant, token
from twisted.internet.defer import Deferred

from rpcbroker.core.bulk import Bulk, BulkEntry, BulkFilter, BulkPlan, BulkState, Change, EntryState, Target
from rpcbroker.core.calls import CallRequest, SubmitStrategy
from rpcbroker.core.errors import AlreadyExists, NotFound
from rpcbroker.core.model import DeviceFilter, PageLink
from rpcbroker.core.ports import OpenedStore
from rpcbroker.core.setting import Rate

S = EntryState
DEVICES = [(UUID(int=number), f"device-{number}") for number in range(100, 105)]
LINK = PageLink(page_size=100)
REQUEST = CallRequest(
    method="größe",
    params='{"a":[1.50,"ü\\u0000"]}'.encode(),
    oneway=True,
    persistent=True,
    timeout=2.5,
    expiration_time=EPOCH_MS + 7,
    connect_timeout=0.0,
    retries=3,
    strategy=SubmitStrategy.ON_ACK,
    additional_info={"note": ["x", None]},
)


def bulk(number: int = 1, *, of: UUID = TENANT, **more: Any) -> Bulk:
    return Bulk(
        **{
            "id": UUID(int=number),
            "tenant_id": of,
            "user_id": ADMIN.user_id,
            "customer_id": None,
            "user_name": "admin@example.org",
            "content": "c" * 64,
            "request": REQUEST,
            "plan": BulkPlan(concurrency=5, rate=Rate(((50, 1.0), (100, 60.0))), canary=2, abort_after=9),
            "created_time": EPOCH_MS + number,
            "counts": {S.WAITING: len(DEVICES)},
        }
        | more
    )


@pytest.fixture
def kept(store: Any) -> Any:
    return store.bulks


async def states(kept: Any, one: Bulk) -> str:
    """The first letter of each state, in order."""
    return "".join(entry.state[0] for entry in await kept.entries(one.sequence, LINK, state=None))


@pytest_twisted.ensureDeferred
async def test_a_bulk_is_kept_as_it_is(kept: Any) -> None:
    asked = bulk(narrowed="n" * 64, customer_id=CUSTOMER)
    made = await kept.create(asked, DEVICES)
    assert made.sequence > 0
    assert made == replace(asked, sequence=made.sequence)
    assert await kept.bulk(TENANT, asked.id) == made
    page = await kept.entries(made.sequence, PageLink(page_size=2, page=1), state=None)
    assert page == [BulkEntry(number, *DEVICES[number], S.WAITING) for number in (2, 3)]
    assert await kept.entries(made.sequence, PageLink(page_size=1000, page=2**31 - 1), state=S.WAITING) == []
    assert await kept.entries(made.sequence, PageLink(page_size=1000, page=2**31 - 1), state=None) == []


@pytest_twisted.ensureDeferred
async def test_an_id_is_taken_in_its_tenant_only(store: Any, kept: Any) -> None:
    await store.people.create_tenant(tenant())
    await kept.create(bulk(), DEVICES)
    with pytest.raises(AlreadyExists):
        await kept.create(bulk(), [])
    theirs = await kept.create(bulk(of=OTHER_TENANT), [])
    assert await kept.bulk(OTHER_TENANT, theirs.id) == theirs
    assert await kept.bulk(UUID(int=99), theirs.id) is None
    with pytest.raises(NotFound):
        await kept.create(bulk(of=UUID(int=99)), DEVICES)


@pytest_twisted.ensureDeferred
async def test_what_becomes_of_it_is_written_and_may_be_written_twice(kept: Any) -> None:
    made = await kept.create(bulk(), DEVICES)
    other = await kept.create(bulk(2), DEVICES)
    gone_on = replace(made, counts={S.WAITING: 2, S.RUNNING: 1, S.SUCCESSFUL: 1, S.FAILED: 1})
    changes = [
        Change(0, S.RUNNING),
        Change(1, S.SUCCESSFUL, None, '{"ü":"\\u0000"}'.encode(), 1),
        Change(2, S.FAILED, "NO_REPLY", None, 2),
    ]
    for _ in range(2):
        await kept.save(gone_on, changes, abort_from=None)
        assert await kept.bulk(TENANT, made.id) == gone_on
        assert await states(kept, made) == "RSFWW"
    assert await states(kept, other) == "WWWWW"
    assert await kept.ended(made.sequence, after=0, limit=9) == [
        BulkEntry(1, *DEVICES[1], S.SUCCESSFUL, None, '{"ü":"\\u0000"}'.encode(), 1),
        BulkEntry(2, *DEVICES[2], S.FAILED, "NO_REPLY", None, 2),
    ]
    assert [entry.number for entry in await kept.ended(made.sequence, after=1, limit=9)] == [2]
    assert [entry.number for entry in await kept.ended(made.sequence, after=0, limit=1)] == [1]
    assert [entry.number for entry in await kept.entries(made.sequence, LINK, state=S.FAILED)] == [2]
    part = await kept.entries(made.sequence, PageLink(page_size=1, page=1), state=S.WAITING)
    assert [entry.number for entry in part] == [4]


@pytest_twisted.ensureDeferred
async def test_who_waits_when_it_is_aborted_counts_as_ended_in_order(kept: Any) -> None:
    made = await kept.create(bulk(), DEVICES)
    ended = replace(made, state=BulkState.ABORTED, reason="by x", ended_time=5, counts={S.ABORTED: 4, S.FAILED: 1})
    await kept.save(ended, [Change(0, S.FAILED, "x", None, 1)], abort_from=2)
    assert await kept.bulk(TENANT, made.id) == ended
    assert await states(kept, made) == "FAAAA"
    assert [entry.number for entry in await kept.ended(made.sequence, after=0, limit=9)] == [0, 1, 2, 3, 4]
    assert await kept.progress(made.sequence, below=5) == (6, 0)


@pytest_twisted.ensureDeferred
async def test_who_is_in_a_state_is_read_in_parts(kept: Any) -> None:
    made = await kept.create(bulk(), DEVICES)
    await kept.save(made, [Change(1, S.SUCCESSFUL, None, None, 7), Change(3, S.RUNNING)], abort_from=None)
    first = await kept.in_state(made.sequence, S.WAITING, after=-1, limit=2)
    assert first == [Target(0, *DEVICES[0]), Target(2, *DEVICES[2])]
    assert [each.number for each in await kept.in_state(made.sequence, S.WAITING, after=2, limit=2)] == [4]
    assert [each.number for each in await kept.in_state(made.sequence, S.RUNNING, after=-1, limit=2)] == [3]
    assert await kept.progress(made.sequence, below=1) == (7, 0)
    assert await kept.progress(made.sequence, below=2) == (7, 1)
    assert await kept.progress(made.sequence + 1, below=2) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_which_devices_there_are(store: Any, kept: Any) -> None:
    await store.people.create_customer(customer())
    await store.people.create_tenant(tenant())
    for number in (5, 3, 4):
        one = replace(device(number, type="lamp"), created_time=number, customer_id=CUSTOMER if number == 4 else None)
        await store.create_device(one, token(one))
    foreign = device(6, tenant=OTHER_TENANT, type="lamp")
    await store.create_device(foreign, token(foreign))
    mine = DeviceFilter(tenant_id=TENANT)

    async def found(wanted: DeviceFilter, ids: Any = None, limit: int = 9) -> list[int]:
        devices = await kept.targets(wanted, ids, limit=limit)
        assert all(name == f"device-{id_.int}" for id_, name in devices)
        return [id_.int for id_, _ in devices]

    assert await found(mine) == [3, 4, 5]
    assert await found(mine, limit=2) == [3, 4]
    assert await found(replace(mine, customer_ids=(CUSTOMER,))) == [4]
    assert await found(replace(mine, types=("pump",))) == []
    many = [UUID(int=number) for number in range(2000)]
    assert await found(mine, many) == [3, 4, 5]
    assert await found(mine, []) == []
    assert await found(replace(mine, ids=(UUID(int=3),)), many) == [3]


@pytest_twisted.ensureDeferred
async def test_who_sees_which(store: Any, kept: Any) -> None:
    await store.people.create_tenant(tenant())
    await kept.create(bulk(1), [])
    await kept.create(bulk(2, user_id=UUID(int=77), customer_id=CUSTOMER), [])
    await kept.create(bulk(3, narrowed="n" * 64), [])
    await kept.create(bulk(4, of=OTHER_TENANT), [])
    mine = BulkFilter(tenant_id=TENANT)
    link = PageLink(page_size=100, descending=True)
    for wanted, numbers in (
        (mine, [3, 2, 1]),
        (replace(mine, user_id=UUID(int=77), customer_id=CUSTOMER), [2]),
        (replace(mine, user_id=UUID(int=77), customer_id=UUID(int=5)), []),
        (replace(mine, narrowed="n" * 64), [3]),
        (BulkFilter(tenant_id=OTHER_TENANT), [4]),
    ):
        page = await kept.bulks(wanted, link)
        assert [each.id.int for each in page.items] == numbers
        assert [each.id.int for each in page.items if not wanted.fits(each)] == []


@pytest_twisted.ensureDeferred
async def test_those_that_go_on_are_known_when_it_opens(
    kept: Any, opened_again: Callable[[], Deferred[OpenedStore]]
) -> None:
    goes_on = await kept.create(bulk(1), DEVICES)
    ended = await kept.create(bulk(2), DEVICES)
    aborted = await kept.create(bulk(3), DEVICES)
    await kept.save(replace(ended, state=BulkState.DONE, ended_time=9), [], abort_from=None)
    aborted = replace(aborted, state=BulkState.ABORTED)
    await kept.save(aborted, [], abort_from=None)
    assert (await opened_again()).running_bulks == (goes_on, aborted)


@pytest_twisted.ensureDeferred
async def test_old_ones_are_forgotten_and_their_numbers_not_given_again(store: Any, kept: Any) -> None:
    made = [await kept.create(bulk(number), DEVICES) for number in (1, 2, 3)]
    for one, time in zip(made, (10, 30, None), strict=True):
        await kept.save(replace(one, ended_time=time), [], abort_from=None)
    assert await kept.forget_ended(10, limit=9) == 0
    assert await kept.forget_ended(31, limit=1) == 1
    assert await kept.forget_ended(31, limit=9) == 1
    assert await kept.forget_ended(10**15, limit=9) == 0
    assert [await kept.bulk(TENANT, one.id) is None for one in made] == [True, True, False]
    await kept.save(replace(made[2], ended_time=1), [], abort_from=None)
    assert await kept.forget_ended(10**15, limit=9) == 1
    again = await kept.create(bulk(4), [])
    assert again.sequence > made[2].sequence
    await kept.save(made[0], [Change(0, S.RUNNING)], abort_from=1)
    assert await states(kept, made[0]) == ""


@pytest_twisted.ensureDeferred
async def test_with_its_tenant_it_is_gone_with_a_device_it_is_not(store: Any, kept: Any) -> None:
    one = device(DEVICES[0][0].int)
    await store.create_device(one, token(one))
    made = await kept.create(bulk(), DEVICES)
    await store.delete_device(one.id)
    assert await states(kept, made) == "WWWWW"
    await store.people.delete_tenant(TENANT, revoked=1)
    assert await kept.bulk(TENANT, made.id) is None
    assert await states(kept, made) == ""
