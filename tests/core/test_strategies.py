"""What a call waits for before it goes to its device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import World, error_of, result_of
from msgspec import structs

from rpcbroker.core.calls import CallRequest, Step, SubmitStrategy
from rpcbroker.core.errors import Reason

CALL = CallRequest(method="get", timeout=100)
ON_ACK, ON_RESPONSE = SubmitStrategy.ON_ACK.value, SubmitStrategy.ON_RESPONSE.value
PERSISTENT = pytest.mark.parametrize("persistent", [False, True])


def calls(world: World, number: int, **more: Any) -> list[Any]:
    return [world.call(structs.replace(CALL, **more)) for _ in range(number)]


@PERSISTENT
def test_in_a_burst_all_go_at_once(persistent: bool) -> None:
    world = World()
    link = world.link(step=None)
    waiting = calls(world, 3, persistent=persistent)
    assert len(link.calls) == 3
    world.broker.drain(0)
    world.clock.advance(1)
    [error_of(each) if not persistent else result_of(each) for each in waiting]


@PERSISTENT
def test_on_ack_one_is_on_its_way_at_a_time(persistent: bool) -> None:
    world = World(submit_strategy=ON_ACK)
    link = world.link(step=Step.WRITTEN)
    waiting = calls(world, 3, persistent=persistent)
    for number in range(3):
        assert len(link.calls) == number + 1
        world.session().report(link.calls[number].wire_id, Step.ACKNOWLEDGED)
    for call in link.calls:
        world.session().receive(call.wire_id, b"1")
    [result_of(each) for each in waiting]


@PERSISTENT
def test_on_response_one_is_unanswered_at_a_time(persistent: bool) -> None:
    world = World(submit_strategy=ON_RESPONSE)
    link = world.link()
    waiting = calls(world, 3, persistent=persistent)
    for number in range(3):
        assert len(link.calls) == number + 1
        world.session().receive(link.calls[number].wire_id, b"1")
    [result_of(each) for each in waiting]


@PERSISTENT
@pytest.mark.parametrize("strategy", [ON_ACK, ON_RESPONSE])
def test_the_one_in_front_is_sent_again_until_it_is_given_up_and_then_the_next(strategy: str, persistent: bool) -> None:
    world = World(submit_strategy=strategy, max_retries=2)
    link = world.link(step=Step.WRITTEN)
    first, second = calls(world, 2, persistent=persistent)
    for _ in range(3):
        world.session().report(link.calls[-1].wire_id, Step.UNACKNOWLEDGED)
    assert [call.wire_id for call in link.calls] == [link.calls[0].wire_id] * 3 + [link.calls[0].wire_id + 1]
    if persistent:
        result_of(first)
    else:
        assert error_of(first).reason is Reason.NO_ACK
    world.session().receive(link.calls[-1].wire_id, b"1")
    result_of(second)


@PERSISTENT
def test_others_do_not_wait_for_ever_for_a_reply(persistent: bool) -> None:
    world = World(submit_strategy=ON_RESPONSE, response_timeout=20.0)
    link = world.link()
    first, second = calls(world, 2, persistent=persistent)
    world.clock.advance(20.1)
    assert len(link.calls) == 2
    if persistent:
        result_of(first)
    else:
        assert error_of(first).reason is Reason.NO_REPLY
    world.session().receive(link.calls[1].wire_id, b"1")
    result_of(second)


def test_nobody_is_impatient_while_the_device_is_away() -> None:
    world = World(submit_strategy=ON_RESPONSE, response_timeout=20.0)
    link = world.link()
    (waiting,) = calls(world, 1)
    world.session().detach(link, "gone")
    world.clock.advance(50)
    assert not waiting.called
    again = world.link()
    assert again.calls == [], "a lightweight call that was acknowledged is not sent again"
    world.clock.advance(20.1)
    assert error_of(waiting).reason is Reason.NO_REPLY


def test_a_device_and_a_call_may_say_otherwise() -> None:
    world = World()
    world.session()
    world.broker.device_changed(replace(world.device, additional_info={"rpcSubmitStrategy": ON_RESPONSE}))
    link = world.link()
    first, second = calls(world, 2)
    assert len(link.calls) == 1
    third = world.call(structs.replace(CALL, strategy=SubmitStrategy.BURST))
    assert len(link.calls) == 2, "it waits for nothing"
    for number in range(3):
        world.session().receive(link.calls[number].wire_id, b"1")
    [result_of(each) for each in (first, second, third)]


@pytest.mark.parametrize("nonsense", ["burst", 7, None, ["BURST"], {"a": 1}])
def test_what_a_device_says_wrongly_is_not_heard(nonsense: Any) -> None:
    world = World()
    world.session()
    world.broker.device_changed(replace(world.device, additional_info={"rpcSubmitStrategy": nonsense}))
    link = world.link(step=Step.ACKNOWLEDGED, reply=b"1")
    [result_of(each) for each in calls(world, 2)]
    assert len(link.calls) == 2


def test_one_that_never_had_its_turn_says_so() -> None:
    world = World(submit_strategy=ON_RESPONSE, response_timeout=1_000.0)
    world.link()
    first, second = world.call(structs.replace(CALL, timeout=50)), world.call(structs.replace(CALL, timeout=10))
    world.clock.advance(11)
    error = error_of(second)
    assert error.reason is Reason.EXPIRED
    assert "calls before this one" in str(error.hint)
    world.clock.advance(50)
    error_of(first)


def test_a_thousand_that_are_acknowledged_at_once_do_not_nest() -> None:
    world = World(submit_strategy=ON_ACK, max_pending_per_device=2_000)
    waiting = calls(world, 2_000, oneway=True)
    link = world.link()
    assert len(link.calls) == 2_000
    [result_of(each) for each in waiting]


def test_older_ones_in_the_store_go_first() -> None:
    world = World(submit_strategy=ON_RESPONSE)
    result_of(world.call(structs.replace(CALL, method="first", persistent=True)))
    waiting = world.call(structs.replace(CALL, method="second"))
    link = world.link(reply=b"1")
    result_of(waiting)
    assert [call.method for call in link.calls] == ["first", "second"]
