"""One contract for all stores: boards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, customer, device, tenant, token

from rpcbroker.core.boards import MAX_OF_CUSTOMER, MAX_OF_TENANT, Board
from rpcbroker.core.errors import InvalidRequest, NotFound, VersionConflict
from rpcbroker.core.model import PageLink

NOBODY = UUID(int=404)


def board(number: int = 1, **more: Any) -> Board:
    members: dict[str, Any] = {"tenant_id": TENANT, "title": f"Board {number}", "content": b'{"widgets":[]}'}
    times = {"created_time": EPOCH_MS + number, "updated_time": EPOCH_MS + number}
    return Board(id=UUID(int=7000 + number), **members | times | more)


async def titles(store: Any, link: PageLink | None = None, tenant_id: UUID = TENANT, **wanted: Any) -> list[str]:
    page = await store.boards.boards(tenant_id, link or PageLink(page_size=100), **wanted)
    assert all(each.content == b"" for each in page.items)
    assert page.total >= len(page.items)
    return [each.title for each in page.items]


@pytest_twisted.ensureDeferred
async def test_made_found_changed_deleted(store: Any) -> None:
    await store.create_device(device(), token(device()))
    made = board(device_id=device().id, content=b'{"widgets":[],"t":"\\u0000"}')
    await store.boards.create_board(made)
    assert await store.boards.board(made.id) == made
    changed = replace(made, title="new", content=b"{}", device_id=None, updated_time=5, version=2)
    await store.boards.update_board(changed)
    assert await store.boards.board(made.id) == changed
    with pytest.raises(VersionConflict):
        await store.boards.update_board(changed)
    assert await store.boards.delete_board(made.id) is True
    assert await store.boards.delete_board(made.id) is False
    assert await store.boards.board(made.id) is None
    with pytest.raises(NotFound):
        await store.boards.update_board(replace(changed, version=3))


@pytest_twisted.ensureDeferred
async def test_lists(store: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.people.create_customer(customer())
    await store.create_device(device(), token(device()))
    for each in (
        board(1),
        board(2, customer_id=CUSTOMER, device_id=device().id),
        board(3, device_id=device().id),
        board(4, tenant_id=OTHER_TENANT),
    ):
        await store.boards.create_board(each)
    assert await titles(store) == ["Board 1", "Board 2", "Board 3"]
    assert await titles(store, tenant_id=OTHER_TENANT) == ["Board 4"]
    assert await titles(store, customer_id=CUSTOMER) == ["Board 2"]
    assert await titles(store, device_id=device().id) == ["Board 2", "Board 3"]
    assert await titles(store, customer_id=CUSTOMER, device_id=NOBODY) == []
    assert await titles(store, PageLink(page_size=9, text_search="oARD 3")) == ["Board 3"]
    newest = PageLink(page_size=1, page=1, sort_property="updated_time", descending=True)
    assert await titles(store, newest) == ["Board 2"]


@pytest_twisted.ensureDeferred
async def test_what_it_names_has_to_be_there(store: Any) -> None:
    await store.people.create_tenant(tenant())
    theirs = device(5, tenant=OTHER_TENANT)
    await store.create_device(theirs, token(theirs))
    await store.people.create_customer(customer(6, tenant=OTHER_TENANT))
    await store.boards.create_board(board())
    wrong: tuple[dict[str, Any], ...] = (
        {"customer_id": NOBODY},
        {"customer_id": UUID(int=6)},
        {"device_id": NOBODY},
        {"device_id": theirs.id},
    )
    for named in wrong:
        with pytest.raises(NotFound):
            await store.boards.create_board(board(2, **named))
        with pytest.raises(NotFound):
            await store.boards.update_board(board(version=2, **named))
    with pytest.raises(NotFound):
        await store.boards.create_board(board(3, tenant_id=NOBODY))
    assert await store.boards.board(board().id) == board()


@pytest_twisted.ensureDeferred
async def test_it_outlives_its_device_and_its_customer_but_not_its_tenant(store: Any) -> None:
    await store.people.create_tenant(tenant())
    its = device(tenant=OTHER_TENANT)
    await store.people.create_customer(customer(tenant=OTHER_TENANT))
    await store.create_device(its, token(its))
    made = board(tenant_id=OTHER_TENANT, customer_id=CUSTOMER, device_id=its.id)
    await store.boards.create_board(made)
    await store.boards.create_board(board(2))
    await store.delete_device(its.id)
    assert await store.boards.board(made.id) == replace(made, device_id=None)
    await store.people.delete_customer(CUSTOMER, revoked=1)
    assert await store.boards.board(made.id) == replace(made, device_id=None, customer_id=None)
    await store.people.delete_tenant(OTHER_TENANT, revoked=1)
    assert await store.boards.board(made.id) is None
    assert await titles(store) == ["Board 2"]


@pytest_twisted.ensureDeferred
async def test_there_is_room_for_so_many(store: Any) -> None:
    await store.people.create_customer(customer())
    await store.people.create_customer(customer(99))
    for number in range(MAX_OF_CUSTOMER):
        await store.boards.create_board(board(number, customer_id=CUSTOMER))
    with pytest.raises(InvalidRequest, match="customer has 100 boards"):
        await store.boards.create_board(board(5_000, customer_id=CUSTOMER))
    of_other = board(5_001, customer_id=UUID(int=99))
    await store.boards.create_board(of_other)
    with pytest.raises(InvalidRequest, match="customer"):
        await store.boards.update_board(replace(of_other, customer_id=CUSTOMER, version=2))
    await store.boards.update_board(board(3, customer_id=CUSTOMER, title="full, and may be changed", version=2))


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_tenant_has_so_many_at_most(store: Any) -> None:
    for number in range(MAX_OF_TENANT):
        await store.boards.create_board(board(number))
    with pytest.raises(InvalidRequest, match="tenant has 1,000 boards"):
        await store.boards.create_board(board(5_000))
    await store.boards.update_board(board(3, version=2))
    await store.boards.delete_board(board(3).id)
    await store.boards.create_board(board(5_000))
