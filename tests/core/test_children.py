"""Devices that are found or made for a gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fakes import CUSTOMER, EPOCH_MS, OTHER_TENANT, TENANT, Slow, World, customer, device, error_of, result_of
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.children import CREATED, LAST_GATEWAY, TRIES
from rpcbroker.core.errors import InvalidRequest, Unavailable, VersionConflict
from rpcbroker.core.model import Relation
from rpcbroker.core.sessions import DeviceSession


@pytest.fixture
def world() -> World:
    return World()


def child(world: World, name: str = "A", type_: str | None = None) -> Deferred[DeviceSession]:
    return Deferred.fromCoroutine(world.broker.child(world.session(), name, type_))


def named(world: World, name: str) -> Any:
    return result_of(world.store.device_by_name(TENANT, name))


def test_one_that_there_is_not_is_made_for_the_gateways_tenant_and_customer(world: World) -> None:
    result_of(world.store.people.create_customer(customer()))
    assigned = replace(world.device, customer_id=CUSTOMER, version=2)
    result_of(world.store.update_device(assigned))
    session = result_of(child(world, "A", "thermometer"))
    made = session.device
    assert made == named(world, "A")
    assert (made.tenant_id, made.customer_id, made.type, made.created_time) == (
        TENANT,
        CUSTOMER,
        "thermometer",
        EPOCH_MS,
    )
    assert made.additional_info == {LAST_GATEWAY: str(world.device.id)}
    token = result_of(world.store.credentials(made.id)).credentials_id
    assert token.startswith("NEW")


def test_a_gateway_is_related_to_the_children_that_come_through_it_and_stays_so_when_they_move(world: World) -> None:
    made = result_of(child(world)).device
    another = device(8)
    world.add(another)
    result_of(Deferred.fromCoroutine(world.broker.child(world.session(another), made.name)))
    first, second = (
        Relation(tenant_id=TENANT, source=gateway.id, target=made.id, type=CREATED)
        for gateway in (another, world.device)
    )
    assert result_of(world.store.rules.relations(TENANT)) == [first, second]


def test_a_relation_to_a_child_is_not_made_twice_and_one_that_was_deleted_is_not_made_again(world: World) -> None:
    made = result_of(child(world)).device
    mine = Relation(
        tenant_id=TENANT, source=world.device.id, target=made.id, type=CREATED, additional_info={"by": "me"}
    )
    result_of(world.store.rules.relate(mine, most=9))
    result_of(world.store.update_device(replace(made, additional_info=None, version=2)))
    result_of(child(world))
    assert result_of(world.store.rules.relations(TENANT)) == [mine]
    assert result_of(world.store.rules.unrelate(mine))
    result_of(child(world))
    assert result_of(world.store.rules.relations(TENANT)) == []


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_made_or_changed_for_a_gateway_that_is_deleted_meanwhile(world: World, there: bool) -> None:
    if there:
        world.add(replace(device(7), name="A"))
    with Slow(world.store, "device_by_name") as slow:
        finding = child(world)
    result_of(world.store.delete_device(world.device.id))
    slow.arrive()
    assert isinstance(error_of(finding), Unavailable)
    assert named(world, "A") == (replace(device(7), name="A") if there else None)


@pytest.mark.parametrize("type_", [None, ""])
def test_one_of_no_type_is_of_the_default_type(world: World, type_: str | None) -> None:
    assert result_of(child(world, type_=type_)).device.type == "default"


def test_one_that_there_is_keeps_all_but_its_last_gateway(world: World) -> None:
    there = device(7, additional_info={"floor": 3}, type="pump")
    world.add(there)
    session = world.session(there)
    assert result_of(child(world, there.name, "thermometer")) is session
    info = {"floor": 3, LAST_GATEWAY: str(world.device.id)}
    assert session.device == named(world, there.name) == replace(there, additional_info=info, version=2)


def test_one_that_came_through_this_gateway_last_is_not_written_again(world: World) -> None:
    result_of(child(world))
    world.store.update_device = lambda *_: pytest.fail("it was written")
    assert result_of(child(world)).device.version == 1


def test_additional_info_that_is_no_object_is_left_alone(world: World) -> None:
    there = device(7, additional_info=["mine"])
    world.add(there)
    assert result_of(child(world, there.name)).device == there


def test_one_of_another_tenant_is_another_one(world: World) -> None:
    foreign = device(7, tenant=OTHER_TENANT)
    world.add(foreign)
    assert result_of(child(world, foreign.name)).device.id != foreign.id


def test_blanks_around_a_name_are_not_part_of_it(world: World) -> None:
    assert result_of(child(world, " A ")) is result_of(child(world, "A"))


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, "a\x00b"])
def test_what_cannot_be_a_name_or_a_type_is_refused(world: World, name: str) -> None:
    assert isinstance(error_of(child(world, name)), InvalidRequest)
    if name:
        assert isinstance(error_of(child(world, "A", name)), InvalidRequest)
    assert named(world, "A") is None


def test_a_gateway_is_not_its_own_child(world: World) -> None:
    assert isinstance(error_of(child(world, world.device.name)), InvalidRequest)


def test_two_that_ask_at_once_get_the_same_one(world: World) -> None:
    with Slow(world.store, "device_by_name") as slow:
        first, second = child(world), child(world)
    slow.arrive()
    assert result_of(first) is result_of(second)


def test_one_that_is_deleted_while_it_is_found_is_made_anew(world: World) -> None:
    there = device(7)
    world.add(there)
    with Slow(world.store, "device_by_name") as slow:
        finding = child(world, there.name)
    result_of(world.store.delete_device(there.id))
    world.broker.device_deleted(there.id)
    slow.arrive()
    found = result_of(finding).device
    assert found == named(world, there.name)
    assert found.id != there.id


def test_one_whose_customer_is_deleted_meanwhile_is_made_without(world: World) -> None:
    result_of(world.store.people.create_customer(customer()))
    assigned = replace(world.device, customer_id=CUSTOMER, version=2)
    result_of(world.store.update_device(assigned))
    world.broker.device_changed(assigned)
    with Slow(world.store, "device_by_name") as slow:
        making = child(world)
    result_of(world.store.people.delete_customer(CUSTOMER, revoked=0))
    world.broker.device_unassigned(world.device.id)
    slow.arrive()
    assert result_of(making).device.customer_id is None


def test_a_device_that_never_stands_still_is_given_up(world: World) -> None:
    there = device(7)
    world.add(there)
    tried: list[UUID] = []

    def refuse(changed: Any, *_: object) -> Deferred[None]:
        tried.append(changed.id)
        return fail(VersionConflict("changed meanwhile"))

    world.store.update_device = refuse
    assert isinstance(error_of(child(world, there.name)), Unavailable)
    assert tried == [there.id] * TRIES
