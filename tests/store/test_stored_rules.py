"""Rule chains, and relations between devices: the same on every store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_twisted
from fakes import EPOCH_MS, OTHER_TENANT, TENANT, device, tenant, token
from twisted.internet.defer import Deferred, gatherResults

from rpcbroker.core.errors import AlreadyExists, InvalidRequest, NotFound, VersionConflict
from rpcbroker.core.model import Relation, StoredChain

MOST = 1_000


def chain(number: int = 1, **more: Any) -> StoredChain:
    members = {"tenant_id": TENANT, "name": f"chain {number}", "graph": b'{"nodes":[]}'} | more
    return StoredChain(id=UUID(int=number), created_time=EPOCH_MS + number, **members)


def relation(source: int, target: int, type_: str = "Contains", **more: Any) -> Relation:
    members = {"tenant_id": TENANT} | more
    return Relation(source=UUID(int=source), target=UUID(int=target), type=type_, **members)


async def chains(opened_again: Callable[[], Any]) -> dict[int, StoredChain]:
    return {each.id.int: each for each in (await opened_again()).rule_chains}


# -- chains


@pytest_twisted.ensureDeferred
async def test_chains_are_all_there_when_it_opens_the_oldest_first(store: Any, opened_again: Any) -> None:
    await store.people.create_tenant(tenant())
    kept = [
        chain(3, graph='{"name":"Größe"}'.encode(), additional_info={"x": [1, None]}, debug=True),
        chain(4, tenant_id=OTHER_TENANT, root=True),
        chain(5, root=True),
    ]
    for each in reversed(kept):
        await store.rules.save_chain(each)
    assert list((await opened_again()).rule_chains) == kept


@pytest_twisted.ensureDeferred
async def test_a_chain_is_changed_from_the_version_that_is_there_only(store: Any, opened_again: Any) -> None:
    await store.rules.save_chain(chain())
    second = replace(chain(), version=2, name="renamed", graph=b"{}", debug=True, additional_info=[])
    await store.rules.save_chain(second)
    for version in (2, 4):
        with pytest.raises(VersionConflict):
            await store.rules.save_chain(replace(chain(), version=version))
    assert await chains(opened_again) == {1: second}


@pytest_twisted.ensureDeferred
async def test_of_two_changes_that_are_made_at_once_one_is_refused(store: Any, opened_again: Any) -> None:
    await store.rules.save_chain(chain())
    first, other = (replace(chain(), version=2, name=name) for name in ("first", "other"))
    saved = store.rules.save_chain(first)
    with pytest.raises(VersionConflict):
        await store.rules.save_chain(other)
    await saved
    assert await chains(opened_again) == {1: first}


@pytest_twisted.ensureDeferred
async def test_the_id_of_a_chain_is_anybodys_once(store: Any, opened_again: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.rules.save_chain(chain())
    for taken in (chain(name="x"), chain(tenant_id=OTHER_TENANT)):
        with pytest.raises(AlreadyExists):
            await store.rules.save_chain(taken)
    with pytest.raises(NotFound):
        await store.rules.save_chain(chain(tenant_id=OTHER_TENANT, version=2))
    assert await chains(opened_again) == {1: chain()}


@pytest_twisted.ensureDeferred
async def test_a_chain_of_a_tenant_that_is_gone_is_not_kept_nor_a_version_of_one_that_is(store: Any) -> None:
    with pytest.raises(NotFound):
        await store.rules.save_chain(chain(tenant_id=OTHER_TENANT))
    with pytest.raises(NotFound):
        await store.rules.save_chain(chain(version=2))


@pytest_twisted.ensureDeferred
async def test_a_new_version_of_a_chain_is_the_root_if_it_was(store: Any, opened_again: Any) -> None:
    await gatherResults([store.rules.save_chain(each) for each in (chain(1, root=True), chain(2))])
    await store.rules.save_chain(chain(1, root=False, version=2))
    await store.rules.save_chain(chain(2, root=True, version=2))
    assert await chains(opened_again) == {1: chain(1, root=True, version=2), 2: chain(2, version=2)}


@pytest_twisted.ensureDeferred
async def test_another_root_takes_the_place_of_the_one_of_its_tenant(store: Any, opened_again: Any) -> None:
    await store.people.create_tenant(tenant())
    theirs = chain(9, tenant_id=OTHER_TENANT, root=True)
    await gatherResults([store.rules.save_chain(each) for each in (chain(1, root=True), chain(2), theirs)])
    await store.rules.set_root(TENANT, chain(2).id, demoted=None)
    assert await chains(opened_again) == {1: chain(1), 2: chain(2, root=True), 9: theirs}
    for foreign in (theirs.id, chain(3).id):
        with pytest.raises(NotFound):
            await store.rules.set_root(TENANT, foreign, demoted=None)
    assert await chains(opened_again) == {1: chain(1), 2: chain(2, root=True), 9: theirs}


@pytest_twisted.ensureDeferred
async def test_a_root_that_was_not_kept_is_when_another_takes_its_place(store: Any, opened_again: Any) -> None:
    await store.rules.save_chain(chain(1))
    await store.rules.set_root(TENANT, chain(1).id, demoted=chain(7))
    assert await chains(opened_again) == {1: chain(1, root=True), 7: chain(7)}
    with pytest.raises(AlreadyExists):
        await store.rules.set_root(TENANT, chain(7).id, demoted=chain(7))
    with pytest.raises(NotFound):
        await store.rules.set_root(TENANT, chain(2).id, demoted=chain(8))
    assert await chains(opened_again) == {1: chain(1, root=True), 7: chain(7)}


@pytest_twisted.ensureDeferred
async def test_a_chain_is_deleted_by_its_tenant_and_once(store: Any, opened_again: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.rules.save_chain(chain())
    assert not await store.rules.delete_chain(OTHER_TENANT, chain().id)
    assert await store.rules.delete_chain(TENANT, chain().id)
    assert not await store.rules.delete_chain(TENANT, chain().id)
    assert await chains(opened_again) == {}


@pytest_twisted.ensureDeferred
async def test_a_chain_that_has_become_the_root_meanwhile_is_not_deleted(store: Any, opened_again: Any) -> None:
    await store.rules.save_chain(chain())
    became = store.rules.set_root(TENANT, chain().id, demoted=None)
    assert not await store.rules.delete_chain(TENANT, chain().id)
    await became
    assert await chains(opened_again) == {1: chain(root=True)}


@pytest_twisted.ensureDeferred
async def test_chains_and_relations_go_with_their_tenant(store: Any, opened_again: Any) -> None:
    await store.people.create_tenant(tenant())
    await store.rules.save_chain(chain(1, root=True))
    await store.rules.save_chain(chain(2, tenant_id=OTHER_TENANT, root=True))
    for number in (100, 101):
        await store.create_device(device(number), token(device(number)))
    for number in (200, 201):
        await store.create_device(device(number, tenant=OTHER_TENANT), token(device(number)))
    await store.rules.relate(relation(100, 101), most=MOST)
    await store.rules.relate(relation(200, 201, tenant_id=OTHER_TENANT), most=MOST)
    await store.people.delete_tenant(OTHER_TENANT, revoked=1)
    assert await store.rules.relations(OTHER_TENANT) == []
    assert await store.rules.relations(TENANT) == [relation(100, 101)]
    assert await chains(opened_again) == {1: chain(1, root=True)}


# -- relations


@pytest.fixture
def town(store: Any) -> Any:
    """With devices 100 to 109, and 200 of another tenant."""

    async def fill() -> None:
        await store.people.create_tenant(tenant())
        await gatherResults([store.create_device(device(n), token(device(n))) for n in range(100, 110)])
        await store.create_device(device(200, tenant=OTHER_TENANT), token(device(200)))

    pytest_twisted.blockon(Deferred.fromCoroutine(fill()))
    return store


async def relate(store: Any, *relations: Relation) -> None:
    await gatherResults([store.rules.relate(each, most=MOST) for each in relations])


@pytest_twisted.ensureDeferred
async def test_who_is_related_twice_has_what_was_said_last(town: Any) -> None:
    await relate(town, relation(100, 101, additional_info={"old": 1}))
    await relate(town, relation(100, 101, additional_info={"new": [1]}), relation(100, 101, "Manages"))
    await relate(town, relation(101, 100))
    assert await town.rules.relations(TENANT) == [
        relation(100, 101, additional_info={"new": [1]}),
        relation(101, 100),
        relation(100, 101, "Manages"),
    ]


@pytest_twisted.ensureDeferred
async def test_relations_are_found_from_to_and_by_their_type(town: Any) -> None:
    await relate(town, relation(100, 101), relation(100, 102), relation(100, 101, "Manages"), relation(103, 101))
    rules, one, two = town.rules, UUID(int=100), UUID(int=101)
    assert [each.target.int for each in await rules.relations(TENANT, source=one)] == [101, 102, 101]
    assert await rules.relations(TENANT, source=one, type_="Manages") == [relation(100, 101, "Manages")]
    assert [each.source.int for each in await rules.relations(TENANT, target=two)] == [100, 103, 100]
    assert await rules.relations(TENANT, source=one, target=two, type_="Contains") == [relation(100, 101)]
    assert await rules.relations(TENANT, source=two) == []
    assert await rules.relations(OTHER_TENANT, source=one) == []


@pytest_twisted.ensureDeferred
async def test_devices_that_are_not_there_or_foreign_are_related_to_nothing(town: Any) -> None:
    bad = (
        relation(100, 200),
        relation(200, 100),
        relation(100, 999),
        relation(999, 100),
        relation(100, 101, tenant_id=OTHER_TENANT),
        relation(100, 200, tenant_id=OTHER_TENANT),
    )
    for each in bad:
        with pytest.raises(NotFound):
            await town.rules.relate(each, most=MOST)
    assert await town.rules.relations(TENANT) == await town.rules.relations(OTHER_TENANT) == []


@pytest_twisted.ensureDeferred
async def test_a_device_has_so_many_relations_each_way_and_may_change_those_it_has(town: Any) -> None:
    for each in (relation(100, 101), relation(100, 102), relation(103, 101)):
        await town.rules.relate(each, most=2)
    for each in (relation(100, 104), relation(104, 101), relation(100, 101, "Manages")):
        with pytest.raises(InvalidRequest, match="There are 2 relations"):
            await town.rules.relate(each, most=2)
    await town.rules.relate(relation(100, 101, additional_info=1), most=2)
    await town.rules.relate(relation(101, 100), most=2)
    assert await town.rules.unrelate(relation(100, 102))
    await town.rules.relate(relation(100, 104), most=2)
    assert len(await town.rules.relations(TENANT)) == 4


@pytest_twisted.ensureDeferred
async def test_a_relation_is_ended_by_its_tenant_and_once(town: Any) -> None:
    await relate(town, relation(100, 101), relation(100, 101, "Manages"))
    assert not await town.rules.unrelate(relation(100, 101, tenant_id=OTHER_TENANT))
    assert not await town.rules.unrelate(relation(101, 100))
    assert await town.rules.unrelate(relation(100, 101))
    assert not await town.rules.unrelate(relation(100, 101))
    assert await town.rules.relations(TENANT) == [relation(100, 101, "Manages")]


@pytest_twisted.ensureDeferred
async def test_relations_go_with_either_of_their_devices(town: Any) -> None:
    await relate(town, relation(100, 101), relation(101, 102), relation(102, 103), relation(101, 101))
    assert await town.delete_device(UUID(int=101))
    assert await town.rules.relations(TENANT) == [relation(102, 103)]


@pytest_twisted.ensureDeferred
async def test_a_relation_is_kept_with_its_device_or_neither_is(town: Any) -> None:
    new = device(110)
    for number in (200, 999):
        with pytest.raises(NotFound):
            await town.create_device(new, token(new), relation(number, 110))
    assert await town.device(new.id) is None
    await town.create_device(new, token(new), relation(100, 110))
    renamed = replace(new, name="renamed", version=2)
    with pytest.raises(NotFound):
        await town.update_device(renamed, None, relation(999, 110))
    assert await town.device(new.id) == new
    await town.update_device(renamed, None, relation(101, 110))
    assert await town.rules.relations(TENANT) == [relation(100, 110), relation(101, 110)]


@pytest_twisted.ensureDeferred
async def test_a_relation_that_comes_with_a_device_leaves_one_that_is_there(town: Any) -> None:
    await relate(town, relation(100, 101, additional_info="mine"))
    await town.update_device(replace(device(101), version=2), None, relation(100, 101))
    assert await town.rules.relations(TENANT) == [relation(100, 101, additional_info="mine")]


# -- who is related, over several relations

CONTAINS = ((100, 101), (100, 102), (101, 103), (102, 103), (103, 104), (104, 100), (104, 105))


async def related(store: Any, start: int = 100, **more: Any) -> list[int]:
    members = {"outward": True, "type_": "", "levels": 1, "limit": 100} | more
    return [each.int for each in await store.rules.related(TENANT, UUID(int=start), **members)]


@pytest_twisted.ensureDeferred
async def test_the_nearest_come_first_each_once_and_never_the_device_itself(town: Any) -> None:
    await relate(town, *(relation(*each) for each in CONTAINS), relation(100, 100))
    assert await related(town) == [101, 102]
    assert await related(town, levels=2) == [101, 102, 103]
    assert await related(town, levels=100) == [101, 102, 103, 104, 105]
    assert await related(town, levels=100, outward=False) == [104, 103, 101, 102]
    assert await related(town, 105, outward=False) == [104]
    assert await related(town, 105) == await related(town, 106) == await related(town, 999) == []
    assert await related(town, levels=0) == []


@pytest_twisted.ensureDeferred
async def test_only_relations_of_the_type_lead_on(town: Any) -> None:
    await relate(town, relation(100, 101), relation(101, 102, "Manages"), relation(100, 103, "Manages"))
    assert await related(town, levels=5, type_="Contains") == [101]
    assert await related(town, levels=5, type_="Manages") == [103]
    assert await related(town, levels=5) == [101, 103, 102]


@pytest_twisted.ensureDeferred
async def test_what_is_beyond_the_limit_is_left_out_and_never_what_is_within(town: Any) -> None:
    await relate(town, *(relation(*each) for each in CONTAINS))
    assert await related(town, levels=9, limit=1) == [101]
    assert await related(town, levels=9, limit=3) == [101, 102, 103]
    many = [relation(100, 101, f"type {n}") for n in range(5)]
    back = [relation(103, to, "back") for to in (100, 101, 102)]
    await relate(town, *many, *back)
    assert await related(town, limit=2) == [101, 102], "several relations to one device count once"
    assert await related(town, levels=9, limit=4) == [101, 102, 103, 104], "nor do those that lead back count"


@pytest_twisted.ensureDeferred
async def test_nothing_of_another_tenant_is_related(town: Any) -> None:
    await relate(town, relation(100, 101))
    assert await town.rules.related(OTHER_TENANT, UUID(int=100), outward=True, type_="", levels=9, limit=9) == []
