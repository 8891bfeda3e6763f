"""Calls with a requestUUID: made once, answered to everybody who asks."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from fakes import ADMIN, OTHER_TENANT, World, device, error_of, result_of
from msgspec import structs
from twisted.internet.defer import CancelledError

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import NoActiveConnection, QueueFull, Reason, VersionConflict

NAMED = CallRequest(method="get", timeout=10, request_id=UUID(int=77), once=True)


def test_who_asks_while_it_runs_gets_the_result_of_the_first() -> None:
    world = World()
    link = world.link()
    both = world.call(NAMED), world.call(NAMED)
    world.session().receive(link.calls[0].wire_id, b"1")
    assert [result_of(each).payload for each in both] == [b"1", b"1"]
    assert len(link.calls) == 1


def test_who_asks_later_gets_it_too_for_a_while() -> None:
    world = World(idempotency_window=100.0)
    link = world.link(reply=b"1")
    assert result_of(world.call(NAMED)).payload == b"1"
    world.clock.advance(99)
    assert result_of(world.call(NAMED)).payload == b"1"
    world.clock.advance(2)
    assert result_of(world.call(NAMED)).payload == b"1"
    assert len(link.calls) == 2


def test_a_failure_is_a_result() -> None:
    world = World()
    link = world.link()
    both = [world.call(NAMED), world.call(NAMED)]
    world.clock.advance(11)
    both.append(world.call(NAMED))
    errors = [error_of(each) for each in both]
    assert {error.reason for error in errors} == {Reason.NO_REPLY}
    assert len({id(error) for error in errors}) == 3, "errors are not shared"
    assert len(link.calls) == 1


def test_what_was_refused_may_be_asked_for_again() -> None:
    world = World(max_pending_per_device=1)
    assert isinstance(error_of(world.call(structs.replace(NAMED, connect_timeout=0))), NoActiveConnection)
    link = world.link()
    blocking = world.call(CallRequest(method="get"))
    assert isinstance(error_of(world.call(NAMED)), QueueFull)
    world.session().receive(link.calls[0].wire_id, b"1")
    result_of(blocking)
    waiting = world.call(NAMED)
    world.session().receive(link.calls[1].wire_id, b"2")
    assert result_of(waiting).payload == b"2"


@pytest.mark.parametrize(
    "other",
    [structs.replace(NAMED, method="set"), structs.replace(NAMED, params=b"1"), structs.replace(NAMED, oneway=True)],
)
def test_the_id_of_another_call_is_a_conflict_while_it_runs_and_later(other: CallRequest) -> None:
    world = World()
    link = world.link()
    waiting = world.call(NAMED)
    assert isinstance(error_of(world.call(other)), VersionConflict)
    world.session().receive(link.calls[0].wire_id, b"1")
    result_of(waiting)
    assert isinstance(error_of(world.call(other)), VersionConflict)


def test_the_same_id_for_another_device_is_a_conflict_and_of_another_tenant_it_is_another_id() -> None:
    world = World()
    neighbour, foreigner = device(101), device(102, tenant=OTHER_TENANT)
    world.add(neighbour)
    world.add(foreigner)
    world.link(reply=b"1")
    world.link(foreigner, reply=b"2")
    assert result_of(world.call(NAMED)).payload == b"1"
    assert isinstance(error_of(world.call(NAMED, device_id=neighbour.id)), VersionConflict)
    theirs = world.call(NAMED, replace(ADMIN, tenant_id=OTHER_TENANT), foreigner.id)
    assert result_of(theirs).payload == b"2"


def test_it_goes_on_when_its_callers_leave() -> None:
    world = World()
    link = world.link()
    leaving = world.call(NAMED)
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    assert world.broker.pending_count == 1
    waiting = world.call(NAMED)
    world.session().receive(link.calls[0].wire_id, b"1")
    assert result_of(waiting).payload == b"1"
    assert len(link.calls) == 1


def test_who_leaves_while_another_is_told_of_the_end_has_left() -> None:
    world = World()
    link = world.link()
    first, second = (world.call(NAMED, progress=lambda _: None) for _ in range(2))
    first.addCallback(lambda reply: (second.cancel(), reply)[1])
    second.addErrback(lambda failure: failure.trap(CancelledError))
    world.session().receive(link.calls[0].wire_id, b"1")
    assert result_of(first).payload == b"1"
    assert result_of(second) is CancelledError
    assert result_of(world.call(NAMED)).payload == b"1"


def test_a_call_without_an_id_ends_when_its_caller_leaves() -> None:
    world = World()
    world.link()
    leaving = world.call(structs.replace(NAMED, once=False))
    leaving.cancel()
    assert error_of(leaving).reason is Reason.CANCELLED
    assert world.broker.pending_count == 0


def test_everybody_who_waits_hears_of_progress() -> None:
    world = World()
    link = world.link()
    heard: list[bytes] = []
    both = [world.call(NAMED, progress=heard.append) for _ in range(2)]
    world.session().progress(link.calls[0].wire_id, b"1")
    assert heard == [b"1", b"1"]
    world.session().receive(link.calls[0].wire_id, b"2")
    assert [result_of(each).payload for each in both] == [b"2", b"2"]


def test_who_has_left_is_told_of_no_progress() -> None:
    world = World()
    link = world.link()
    heard: list[bytes] = []
    leaving, waiting = world.call(NAMED, progress=heard.append), world.call(NAMED)
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    world.session().progress(link.calls[0].wire_id, b"1")
    assert heard == []
    world.session().receive(link.calls[0].wire_id, b"2")
    result_of(waiting)


def test_memory_for_results_is_bounded() -> None:
    world = World(idempotency_size=10_000)
    world.link(reply=b'"%b"' % (b"x" * 1_000))
    for number in range(100):
        result_of(world.call(structs.replace(NAMED, request_id=UUID(int=1_000 + number))))
    assert len(world.broker.once) < 6
    assert world.broker.once.forgotten > 90
    world.clock.advance(700)
    assert len(world.broker.once) == 0
