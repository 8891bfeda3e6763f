"""Calls that a link says it was given before, and calls that a link writes once more."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes import FakeLink, World, result_of

from rpcbroker.core.calls import Call, CallRequest, CallState, SubmitStrategy
from rpcbroker.core.records import Mark


@dataclass(eq=False)
class HavingLink(FakeLink):
    """Says of some calls that the device has them."""

    has: set[int] = field(default_factory=set)

    def deliver(self, call: Call) -> bool | None:
        return None if call.wire_id in self.has else super().deliver(call)


def link(world: World, *, has: int) -> HavingLink:
    made = HavingLink(world.session(), has={has})
    world.session().attach(made)
    world.session().subscribe(made)
    return made


def test_what_the_device_has_is_not_given_and_not_noted_and_others_are_given() -> None:
    world = World()
    first = world.link()
    for name in "ab":
        result_of(world.call(CallRequest(method=name, persistent=True, timeout=60)))
    has, other = first.calls
    world.session().detach(first, "for the test")
    second = link(world, has=has.wire_id)
    assert second.calls == [other]
    pending = world.session().calls.get(has.wire_id)
    assert pending is not None
    assert [moment[1] for moment in pending.record.moments].count(Mark.SENT) == 1
    world.session().take_back(has.wire_id, second, "for the test")
    assert pending.given_to is second, "it is asked again, and has it still"
    second.has.clear()
    world.session().take_back(has.wire_id, second, "for the test")
    assert second.calls == [other, has]


def test_what_the_device_has_is_waited_for_by_those_behind_it_and_not_for_ever() -> None:
    world = World(response_timeout=5.0)
    first = world.link()
    for name in "ab":
        result_of(
            world.call(CallRequest(method=name, persistent=True, timeout=60, strategy=SubmitStrategy.ON_RESPONSE))
        )
    (has,) = first.calls
    world.session().detach(first, "for the test")
    second = link(world, has=has.wire_id)
    assert second.calls == []
    world.clock.advance(5.1)
    assert [call.method for call in second.calls] == ["b"]


def test_a_link_that_can_take_calls_again_waits_for_the_reply_of_the_one_it_was_given() -> None:
    world = World(response_timeout=5.0)
    poll = world.link(transient=True)
    strategy = SubmitStrategy.ON_RESPONSE
    first = world.call(CallRequest(method="a", timeout=60, strategy=strategy))
    first.addErrback(lambda failure: failure.value)
    world.call(CallRequest(method="b", timeout=60, strategy=strategy))
    world.session().unsubscribe(poll, "for the test")
    world.clock.advance(20)
    assert not first.called, "nobody is impatient with a device that cannot take the next one"
    world.session().subscribe(poll)
    world.clock.advance(5.1)
    assert first.called
    assert [call.method for call in poll.calls] == ["a", "b"]


def test_a_call_that_waits_is_written_once_more_and_one_that_has_ended_is_not() -> None:
    world = World()
    first = world.link()
    waiting = world.call(CallRequest(method="a", timeout=60))
    kept = result_of(world.call(CallRequest(method="b", timeout=60, persistent=True)))
    second = world.link(subscribed=False)
    a, b = (call.wire_id for call in first.calls)
    session = world.session()
    assert session.give_again(a, second)
    pending = session.calls.get(a)
    assert pending is not None
    assert (pending.given_to, pending.state) == (second, CallState.DELIVERED)
    assert pending.record.moments[-1][1:] == (Mark.SENT, "over FAKE, once more")
    assert not session.give_again(b, second), "the store has it"
    assert kept
    session.receive(a, b"1")
    assert waiting.called
    assert not session.give_again(a, second)
    assert not session.give_again(999, second)
