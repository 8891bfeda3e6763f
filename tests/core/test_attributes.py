"""Attributes: an acknowledgement means that they are stored, and who has written reads what was written."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import EPOCH_MS, World, error_of, result_of
from msgspec import Raw
from twisted.internet.defer import Deferred, fail

from rpcbroker.core.errors import InvalidRequest, NotFound, Unavailable
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Attribute, Scope
from rpcbroker.core.settings import AttributeSettings


@pytest.fixture
def world() -> World:
    return World()


def save(world: World, scope: Scope = Scope.SHARED, **values: Any) -> Deferred[None]:
    return world.broker.attributes.save(world.device.id, scope, values)


def read(world: World, *scopes: Scope, keys: tuple[str, ...] = ()) -> dict[str, str]:
    found = result_of(world.broker.attributes.read(world.device.id, scopes, keys))
    return {f"{each.scope[:2]} {each.key}": bytes(each.value).decode() for each in found}


def of_device(world: World, client: list[str] | None, shared: list[str] | None) -> Any:
    asking = world.broker.attributes.of_device(world.device.id, client, shared)
    return tuple(
        {key: bytes(value) for key, value in half.items()} for half in result_of(Deferred.fromCoroutine(asking))
    )


def test_they_are_kept_by_scope_and_key(world: World) -> None:
    result_of(
        world.broker.attributes.save(
            world.device.id, Scope.CLIENT, world.broker.attributes.parse(b'{"b":"5","a":{"x":[1]}}')
        )
    )
    result_of(save(world, a=True))
    result_of(save(world, Scope.SERVER, a="text"))
    assert read(world) == {"CL a": '{"x":[1]}', "CL b": "5", "SE a": '"text"', "SH a": "true"}
    assert read(world, Scope.CLIENT, Scope.SERVER) == {"CL a": '{"x":[1]}', "CL b": "5", "SE a": '"text"'}
    assert read(world, keys=("b", "c")) == {"CL b": "5"}
    world.clock.advance(1)
    result_of(save(world, a=False))
    assert result_of(world.broker.attributes.read(world.device.id, [Scope.SHARED])) == (
        Attribute(Scope.SHARED, "a", EPOCH_MS + 1000, Raw(b"false")),
    )


def test_a_save_fires_when_it_is_stored_and_reads_meanwhile_come_behind_it(world: World) -> None:
    """As on a real store: a read of its own would overtake the write that waits for the disk."""
    writes: list[Any] = []
    real = world.store.database.write

    def later(work: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        writes.append((waiting, work))
        return waiting

    world.store.database.read, world.store.database.write = real, later  # type: ignore[method-assign]
    early = world.broker.attributes.read(world.device.id)
    first, second = save(world, a=1), save(world, b=2)
    reading = world.broker.attributes.read(world.device.id)
    assert not first.called
    assert not reading.called
    for waiting, work in writes:
        waiting.callback(result_of(real(work)))
    result_of(first)
    result_of(second)
    assert [each.key for each in result_of(reading)] == ["a", "b"]
    assert result_of(early) == ()
    count = len(writes)
    reading = world.broker.attributes.read(world.device.id)
    assert [each.key for each in result_of(reading)] == ["a", "b"]
    assert len(writes) == count, "without a write on its way it is a read like others"


def test_what_could_not_be_saved_is_told_and_the_device_is_told_nothing(world: World) -> None:
    link = world.link()
    world.store.values.save_attributes = lambda *_, **__: fail(Unavailable("no"))  # type: ignore[method-assign]
    assert isinstance(error_of(save(world, a=1)), Unavailable)
    assert link.updates == []
    assert read(world) == {}


def test_a_device_is_told_of_its_shared_attributes_when_they_are_stored(world: World) -> None:
    link = world.link(subscribed=False)
    result_of(save(world, Scope.SERVER, a=1))
    result_of(save(world, Scope.CLIENT, a=1))
    assert link.updates == []
    result_of(save(world, a=1, b=Raw(b'{"x":1}')))
    result_of(world.broker.attributes.delete(world.device.id, Scope.SHARED, ["b", "none", "a"]))
    result_of(world.broker.attributes.delete(world.device.id, Scope.SHARED, ["a"]))
    result_of(world.broker.attributes.delete(world.device.id, Scope.SERVER, ["a"]))
    assert link.updates == [b'{"a":1,"b":{"x":1}}', b'{"deleted":["b","a"]}']
    assert read(world) == {"CL a": "1"}


def test_all_links_are_told_and_a_device_without_any_is_no_trouble(world: World) -> None:
    result_of(save(world, a=1))
    links = world.link(), world.link()
    session = world.session()
    session._links = links  # two at once, as over two protocols
    session.attributes_changed(b"{}")
    assert [link.updates for link in links] == [[b"{}"], [b"{}"]]


@pytest.mark.parametrize(
    ("client", "shared", "told"),
    [
        ([], [], ({"a": b"1", "b": b"2"}, {"a": b"3", "c": b"4"})),
        (["a"], ["c", "none"], ({"a": b"1"}, {"c": b"4"})),
        (["a"], None, ({"a": b"1"}, {})),
        (None, [], ({}, {"a": b"3", "c": b"4"})),
        (None, None, ({}, {})),
    ],
)
def test_what_a_device_asks_for(world: World, client: Any, shared: Any, told: Any) -> None:
    result_of(save(world, Scope.CLIENT, a=1, b=2))
    result_of(save(world, Scope.SHARED, a=3, c=4))
    result_of(save(world, Scope.SERVER, a=5, d=6))
    assert of_device(world, client, shared) == told


def test_a_scope_has_so_many_and_one_that_is_gone_has_none(world: World) -> None:
    world.broker.attributes.settings = AttributeSettings(max_keys=2, max_key_length=3)
    result_of(save(world, a=1, b=1))
    error = error_of(save(world, a=2, c=1))
    assert isinstance(error, InvalidRequest)
    assert "has 2 attributes in SHARED_SCOPE, and may have at most 2" in error.message
    result_of(save(world, a=3, b=3))
    result_of(save(world, Scope.CLIENT, a=1, b=1))
    assert read(world, Scope.SHARED) == {"SH a": "3", "SH b": "3"}
    with pytest.raises(BadJSON):
        world.broker.attributes.save(world.device.id, Scope.CLIENT, world.broker.attributes.parse(b'{"long":1}'))
    result_of(world.store.delete_device(world.device.id))
    assert isinstance(error_of(save(world, a=1)), NotFound)
    assert read(world) == {}
