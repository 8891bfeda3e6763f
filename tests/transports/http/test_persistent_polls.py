"""Persistent calls over polls: handed out once, and again only when the device says nothing of them for long."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import result_of
from http_world import HttpWorld

from rpcbroker.core.calls import CallState, SubmitStrategy
from rpcbroker.core.records import KeptCall, Mark


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


def keep(world: HttpWorld, method: str = "m", **more: Any) -> Any:
    """The rpc id of a new persistent call."""
    return result_of(world.begin(method, persistent=True, timeout=600.0, **more)).rpc_id


def kept(world: HttpWorld, rpc_id: Any) -> KeptCall:
    return result_of(world.store.calls.call(world.device.tenant_id, rpc_id))


def marks(world: HttpWorld, rpc_id: Any) -> list[str]:
    return [moment[1] for moment in kept(world, rpc_id).record.moments]


def test_a_poll_takes_a_persistent_call_and_the_next_poll_does_not_get_it_too(world: HttpWorld) -> None:
    poll = world.poll()
    rpc_id = keep(world)
    (call,) = poll.calls()
    assert kept(world, rpc_id).record.state is CallState.DELIVERED
    assert world.poll().answers() == []
    assert world.request("POST", f"rpc/{call['id']}", b"1").status == 200
    assert kept(world, rpc_id).record.state is CallState.SUCCESSFUL
    assert marks(world, rpc_id).count(Mark.SENT) == 1, "what was not given again was not sent again"


def test_without_reply_it_is_given_again_after_a_while_under_the_same_id(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world)
    first = poll.calls()
    again = world.poll("?timeout=100000")
    world.clock.advance(29.9)
    assert again.answers() == []
    world.advance(0.1)
    assert again.calls() == first


def test_if_no_poll_waits_by_then_the_next_one_is_given_it(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world)
    first = poll.calls()
    world.advance(40)
    assert not world.session().connected
    assert world.poll().calls() == first


def test_a_device_that_went_away_and_came_back_at_once_is_not_given_it_again(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world)
    first = poll.calls()
    world.advance(11)
    assert not world.session().connected, "it has left, and comes back before redeliver_after"
    again = world.poll("?timeout=100000")
    assert again.answers() == []
    world.advance(19)
    assert again.calls() == first
    world.advance(200)
    assert not world.devices._polls.links, "and in the end nothing is remembered"


def test_progress_puts_that_off(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world)
    (call,) = poll.calls()
    again = world.poll("?timeout=300000")
    for _ in range(3):
        world.advance(20)
        assert world.request("POST", f"rpc/{call['id']}/progress", b"1").status == 200
        assert again.answers() == []
    world.advance(31)
    assert again.calls() == [call]


def test_a_reply_that_is_not_json_does_not_make_it_come_earlier(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world)
    (call,) = poll.calls()
    assert world.request("POST", f"rpc/{call['id']}", b"on").status == 400
    assert world.poll().answers() == []


def test_other_calls_pass_by_one_that_was_handed_out(world: HttpWorld) -> None:
    world.poll()
    keep(world, "a")
    keep(world, "b")
    world.begin("c", timeout=60.0)
    taken = [world.poll().answers() for _ in range(3)]
    assert sorted(answer.body[-25:-13] for answers in taken for answer in answers) != []
    assert sum(map(len, taken)) == 2, "b and c; a has gone out before"


def test_a_one_way_persistent_call_ends_when_it_is_taken(world: HttpWorld) -> None:
    poll = world.poll()
    rpc_id = keep(world, oneway=True)
    assert len(poll.calls()) == 1
    assert kept(world, rpc_id).record.ended_time is not None
    world.advance(40)
    assert world.poll().answers() == []


def test_a_cancelled_one_is_not_given_again(world: HttpWorld) -> None:
    world.wants_cancel()
    poll = world.poll()
    rpc_id = keep(world)
    (call,) = poll.calls()
    again = world.poll("?timeout=300000")
    result_of(world.session().cancel(kept(world, rpc_id).record, "by the test"))
    assert again.calls() == [{"id": call["id"], "cancel": True}]
    world.advance(40)
    assert world.poll().answers() == []


def test_one_at_a_time_waits_for_the_reply_of_the_one_that_was_handed_out(world: HttpWorld) -> None:
    poll = world.poll()
    keep(world, "a", strategy=SubmitStrategy.ON_RESPONSE)
    keep(world, "b", strategy=SubmitStrategy.ON_RESPONSE)
    (call,) = poll.calls()
    assert call["method"] == "a"
    second = world.poll()
    assert second.answers() == []
    world.request("POST", f"rpc/{call['id']}", b"1")
    assert second.calls()[0]["method"] == "b"


def test_lightweight_one_at_a_time_is_not_waited_for_for_ever(world: HttpWorld) -> None:
    poll = world.poll()
    waiting = world.begin("a", strategy=SubmitStrategy.ON_RESPONSE, timeout=120.0)
    world.begin("b", strategy=SubmitStrategy.ON_RESPONSE, timeout=120.0)
    assert poll.calls()[0]["method"] == "a"
    second = world.poll("?timeout=100000")
    world.advance(30)
    assert waiting.called
    assert second.calls()[0]["method"] == "b"


def test_a_deleted_device_leaves_nothing_behind(world: HttpWorld) -> None:
    before = world.deadlines()
    polls = [world.poll()]
    keep(world)
    polls.append(world.poll())
    world.broker.device_deleted(world.device.id)
    for poll in polls:
        poll.lose()
    assert not world.devices._polls.links
    assert world.deadlines() == before + 1, "the sweep of persistent calls"
