"""Devices that show a token with each request."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import OTHER_TENANT, World, device, result_of, token
from twisted.internet.defer import Deferred

from rpcbroker.core.model import Credentials, CredentialsType


def enter(world: World, text: str) -> Any:
    return Deferred.fromCoroutine(world.broker.entrance.enter(text))


def test_a_token_is_looked_up_once() -> None:
    world = World()
    assert world.broker.entrance.known("TOKEN100") is None
    session = result_of(enter(world, "TOKEN100"))
    assert session.device == world.device
    assert world.broker.entrance.known("TOKEN100") is session is world.session()


@pytest.mark.parametrize("text", ["undefined", "", "x" * 33, "x" * 10_000, "a/b", "TOKEN100\r\n", "TOKEN100\0"])
def test_what_is_no_token_of_anybody_lets_nobody_in(text: str) -> None:
    world = World()
    assert result_of(enter(world, text)) is None
    assert world.broker.entrance.known(text) is None


def test_new_credentials_end_the_old_token_at_once() -> None:
    world = World()
    result_of(enter(world, "TOKEN100"))
    result_of(world.store.update_credentials(_other(world, "NEW")))
    world.broker.credentials_changed(world.device.id)
    assert world.broker.entrance.known("TOKEN100") is None
    assert result_of(enter(world, "TOKEN100")) is None
    assert result_of(enter(world, "NEW")) is world.session()
    assert world.broker.entrance.known("NEW") is world.session()


def test_a_device_that_was_deleted_is_not_known_any_more() -> None:
    world = World()
    result_of(enter(world, "TOKEN100"))
    result_of(world.store.delete_device(world.device.id))
    world.broker.device_deleted(world.device.id)
    assert world.broker.entrance.known("TOKEN100") is None
    assert result_of(enter(world, "TOKEN100")) is None


def test_only_access_tokens_are_taken() -> None:
    world = World()
    basic = device(200)
    world.add(basic)
    old = token(basic)
    result_of(
        world.store.update_credentials(
            Credentials(
                id=old.id,
                device_id=basic.id,
                type=CredentialsType.MQTT_BASIC,
                credentials_id="digest-of-basic",
                credentials_value='{"userName":"u"}',
                created_time=old.created_time,
                version=2,
            )
        )
    )
    assert result_of(enter(world, "digest-of-basic")) is None


def test_devices_of_two_tenants_are_told_apart_by_their_tokens() -> None:
    world = World()
    other = device(300, tenant=OTHER_TENANT)
    world.add(other)
    assert result_of(enter(world, "TOKEN300")).device == other
    assert result_of(enter(world, "TOKEN100")).device == world.device


def _other(world: World, text: str) -> Credentials:
    old = token(world.device)
    return Credentials(
        id=old.id,
        device_id=world.device.id,
        type=CredentialsType.ACCESS_TOKEN,
        credentials_id=text,
        created_time=old.created_time,
        version=2,
    )
