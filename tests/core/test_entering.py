"""A device that connects, or is called, while its record or its credentials change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from fakes import ADMIN, CUSTOMER, Slow, World, customer, error_of, result_of, token
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import NotFound
from rpcbroker.core.model import Authority, LastPresence
from rpcbroker.core.presence import Fact
from rpcbroker.core.sessions import DeviceSession


@dataclass
class Login:
    client_id: str = ""
    username: str | None = "TOKEN100"
    password: bytes | None = None


@pytest.fixture
def world() -> World:
    return World()


def enter(world: World, username: str = "TOKEN100") -> Deferred[DeviceSession | None]:
    return Deferred.fromCoroutine(world.broker.enter(Login(username=username)))


def delete(world: World) -> None:
    result_of(world.store.delete_device(world.device.id))
    world.broker.device_deleted(world.device.id)


def test_a_device_enters_with_its_token_and_with_no_other(world: World) -> None:
    assert result_of(enter(world)) is world.session()
    assert result_of(enter(world, "nonsense")) is None


def test_one_that_is_deleted_while_it_enters_stays_out(world: World) -> None:
    with Slow(world.store, "matching_credentials") as slow:
        entering = enter(world)
    delete(world)
    slow.arrive()
    assert result_of(entering) is None
    assert world.broker._sessions == {}


def test_one_whose_token_is_replaced_while_it_enters_stays_out(world: World) -> None:
    with Slow(world.store, "matching_credentials") as slow:
        entering = enter(world)
    result_of(world.store.update_credentials(replace(token(world.device), credentials_id="NEW", version=2)))
    world.broker.credentials_changed(world.device.id)
    slow.arrive()
    assert result_of(entering) is None
    assert result_of(enter(world, "NEW")) is not None


def test_one_that_is_changed_while_it_enters_is_as_it_is_now(world: World) -> None:
    result_of(world.store.people.create_customer(customer()))
    with Slow(world.store, "matching_credentials") as slow:
        entering = enter(world)
    changed = replace(world.device, customer_id=CUSTOMER, version=2)
    result_of(world.store.update_device(changed))
    world.broker.device_changed(changed)
    slow.arrive()
    session = result_of(entering)
    assert session.device == changed


def test_two_connections_at_once_have_one_session(world: World) -> None:
    with Slow(world.store, "matching_credentials") as slow:
        first, second = enter(world), enter(world)
    slow.arrive()
    assert result_of(first) is result_of(second) is world.session()


@pytest.mark.parametrize("read", ["device", "presence"])
def test_a_call_that_overlaps_with_the_deletion_finds_nothing(world: World, read: str) -> None:
    with Slow(world.store, read) as slow:
        calling = world.call(CallRequest(method="get", connect_timeout=0))
    delete(world)
    slow.arrive()
    assert isinstance(error_of(calling), NotFound)
    assert world.broker._sessions == {}


def test_a_call_of_a_customer_that_overlaps_with_losing_the_device_finds_nothing(world: World) -> None:
    result_of(world.store.people.create_customer(customer()))
    result_of(world.store.update_device(replace(world.device, customer_id=CUSTOMER, version=2)))
    principal = replace(ADMIN, authority=Authority.CUSTOMER_USER, customer_id=CUSTOMER)
    with Slow(world.store, "presence") as slow:
        calling = world.call(CallRequest(method="get", connect_timeout=0), principal)
    free = replace(world.device, version=3)
    result_of(world.store.update_device(free))
    world.broker.device_changed(free)
    slow.arrive()
    assert isinstance(error_of(calling), NotFound)


def test_changes_of_other_devices_keep_nobody_out(world: World) -> None:
    other = replace(world.device, id=UUID(int=7), name="other")
    with Slow(world.store, "matching_credentials") as slow:
        entering = enter(world)
    world.broker.device_changed(other)
    world.store.matching_credentials = lambda _: pytest.fail("it was read again")
    slow.arrive()
    assert result_of(entering).device == world.device


def test_what_was_changed_is_remembered_only_as_long_as_somebody_is_looked_up(world: World) -> None:
    world.broker.device_changed(world.device)
    assert world.broker._changed == {}
    with Slow(world.store, "matching_credentials") as slow:
        enter(world), enter(world)
    for _ in range(3):
        world.broker.device_changed(replace(world.device, id=UUID(int=7)))
    assert list(world.broker._changed) == [UUID(int=7)]
    slow.arrive()
    assert world.broker._changed == {}


def test_one_that_enters_for_the_first_time_is_known_from_before_by_one_read(world: World) -> None:
    last = LastPresence(device_id=world.device.id, connected_time=5, disconnected_time=7, disconnected_cause="lost")
    result_of(world.store.save_presence([last]))
    world.store.presence = world.store.device = lambda _: pytest.fail("a second read")
    session = result_of(enter(world))
    assert session.presence.ever_connected
    assert session.presence.connected == Fact(False, 7, "lost")
