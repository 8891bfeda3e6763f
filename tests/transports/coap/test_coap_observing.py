"""Observations: RFC 7641, with what happens when devices vanish, move, and do not want to hear.

Over 400 lines: one observation from its registration to each of its ends; what calls make of it is in test_coap_link.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from coap_air import Air, N, Remote, Site, Told, block, content, option
from twisted.internet.defer import Deferred

from rpcbroker.transports.coap.exchange import Observation, Request, Response, Settled
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, Type, to_uint

CON, NON, ACK, RST = Type


def air(**settings: object) -> Air:
    site = Site()
    site.paths[("obs",)] = site.observe
    site.paths[("other",)] = site.observe
    site.paths[("deaf",)] = lambda request: content(b"as you like")
    site.paths[("full",)] = lambda request: Response(code=Code.SERVICE_UNAVAILABLE)
    return Air(site, **settings)


def observe(device: Remote, **more: object) -> Observation:
    (answer,) = device.ask(path="/obs", observe=0, **more)
    assert option(answer, N.OBSERVE) is not None
    return device.air.site.observations[-1]


def number(message: Message) -> int:
    value = option(message, N.OBSERVE)
    assert value is not None
    return to_uint(value)


def test_registration_is_answered_with_an_observe_option_and_notifications_follow() -> None:
    world, told = air(), Told()
    device = world.device()
    (answer,) = device.ask(path="/obs", observe=0, token=b"tok")
    first = number(answer)
    observation = world.site.observations[0]
    assert observation.notify(content(b"one"), told)
    assert told.settled == []
    assert observation.busy
    assert not observation.notify(content(b"two"), told)
    (notification,) = device.heard()
    assert (notification.type, notification.code, notification.token) == (CON, Code.CONTENT, b"tok")
    assert (notification.payload, number(notification) > first) == (b"one", True)
    device.acknowledge(notification)
    assert told.settled == [Settled.ACKNOWLEDGED]
    assert not observation.busy
    assert world.site.ready == 2
    assert observation.notify(content(b"two"), told)
    assert device.heard()[0].payload == b"two"


def test_notification_that_is_made_while_the_registration_is_answered_comes_behind_it() -> None:
    world, told = air(), Told()

    def eager(request: object) -> Response:
        world.site.observe(request)  # type: ignore[arg-type]
        assert not world.site.observations[0].notify(content(b"early"), told)
        world.site.observations[0].ready = lambda: world.site.observations[0].notify(content(b"then"), told)
        return content(b"now")

    world.site.paths[("obs",)] = eager
    answer, notification = world.device().ask(path="/obs", observe=0)
    assert (answer.payload, notification.payload) == (b"now", b"then")
    assert number(answer) < number(notification)


def test_non_confirmable_observer_gets_every_tenth_notification_confirmably() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device, kind=NON)
    types = []
    for count in range(20):
        assert observation.notify(content(b"%d" % count), told)
        (notification,) = device.heard()
        types.append(notification.type)
        if notification.type == CON:
            device.acknowledge(notification)
    assert types == ([NON] * 9 + [CON]) * 2
    assert told.settled == [Settled.ACKNOWLEDGED] * 20


def test_observer_that_vanished_is_found_and_told_of() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device)
    observation.notify(content(b"one"), told)
    world.advance(40)
    assert not world.site.gone
    world.advance(60)
    assert [message.type for message in device.heard()] == [CON] * 5
    assert told.settled == [Settled.UNACKNOWLEDGED]
    assert world.site.gone == ["the device did not acknowledge a notification"]
    assert not observation.notify(content(b"two"), told)
    assert world.server.observers.count == 0


@pytest.mark.parametrize("kind", [CON, NON])
def test_reset_of_a_notification_ends_the_observation(kind: Type) -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device, kind=kind)
    observation.notify(content(b"one"), told)
    device.reset(device.heard()[0])
    assert told.settled == [Settled.REJECTED if kind is CON else Settled.ACKNOWLEDGED]
    assert world.site.gone == ["the device reset it"]
    assert world.server.observers.count == 0


def test_reset_of_something_else_ends_nothing() -> None:
    world = air()
    device = world.device()
    observe(device, kind=NON).notify(content(b"one"), Told())
    (notification,) = device.heard()
    device.say(RST, 0, (notification.message_id + 5) & 0xFFFF)
    world.device(2).say(RST, 0, notification.message_id)
    assert not world.site.gone


def test_observe_1_with_the_same_token_ends_it() -> None:
    world, told = air(), Told()
    device = world.device()
    observe(device, token=b"a").notify(content(b"x"), told)
    device.heard()
    device.ask(path="/obs", observe=1, token=b"b")
    world.device(2).ask(path="/obs", observe=1, token=b"a")
    assert not world.site.gone
    (answer,) = device.ask(path="/obs", observe=1, token=b"a")
    assert option(answer, N.OBSERVE) is None
    assert world.site.gone == ["the device ended it"]
    assert told.settled == [Settled.DROPPED]
    world.advance(100)
    assert device.heard() == []


def test_registering_again_keeps_the_observation_and_updates_what_it_wants() -> None:
    world = air()
    device = world.device()
    observation = observe(device)
    assert observe(device, kind=NON, accept=60) is observation
    assert (observation.confirmable, observation.accept) == (False, 60)
    assert world.server.observers.count == 1
    assert not world.site.gone


def test_same_token_for_another_path_replaces_the_observation() -> None:
    world = air()
    device = world.device()
    observe(device)
    device.ask(path="/other", observe=0)
    assert world.site.gone == ["the device uses its token for another path"]
    assert (len(world.site.observations), world.server.observers.count) == (2, 1)


def test_numbers_increase_over_all_observations_and_wrap() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device, kind=NON)
    world.server.observers._number = 0xFFFFFD
    numbers = []
    for _ in range(4):
        observation.notify(content(b"x"), told)
        numbers.append(number(device.heard()[0]))
    assert numbers == [0xFFFFFE, 0xFFFFFF, 0, 1]


def test_numbers_go_on_over_a_restart() -> None:
    """A device that registers again with the same token would take what has a smaller number for old."""
    numbers = []
    for started in (1_000, 1_001):
        world, told = air(), Told()
        world.clock.advance(started)
        device = world.device()
        observation = observe(device, kind=NON)
        for _ in range(5):
            observation.notify(content(b"x"), told)
        numbers += [number(message) for message in device.heard()]
    assert numbers == sorted(numbers)
    assert len(numbers) == 10


PLAIN = {
    "a path that has none": {"path": "/deaf", "observe": 0},
    "a path that is not there": {"path": "/nowhere", "observe": 0},
    "an answer that is no success": {"path": "/full", "observe": 0},
    "observe 2": {"path": "/obs", "observe": 2},
    "observe 16777216": {"path": "/obs", "observe": b"\1\0\0\0"},
}


@pytest.mark.parametrize("request_", PLAIN.values(), ids=PLAIN)
def test_no_observe_option_in_the_answer_to(request_: dict[str, object]) -> None:
    world = air()
    (answer,) = world.device().ask(**request_)
    assert option(answer, N.OBSERVE) is None
    assert world.server.observers.count == 0


def test_registration_whose_answer_is_no_success_is_undone() -> None:
    world = air()

    def refusing(request: object) -> Response:
        world.site.observe(request)  # type: ignore[arg-type]
        return Response(code=Code.FORBIDDEN, authenticated=True)

    world.site.paths[("obs",)] = refusing
    (answer,) = world.device().ask(path="/obs", observe=0)
    assert (answer.code, option(answer, N.OBSERVE)) == (Code.FORBIDDEN, None)
    assert world.server.observers.count == 0
    assert not world.site.observations[0].notify(content(b"x"), Told())


def test_stranger_that_is_registered_is_told_so() -> None:
    world = air()

    def anybody(request: object) -> Response:
        world.site.observe(request)  # type: ignore[arg-type]
        return content(b"now", authenticated=False)

    world.site.paths[("obs",)] = anybody
    (answer,) = world.device().ask(path="/obs", observe=0)
    assert option(answer, N.OBSERVE) is not None


def test_observations_of_one_peer_are_bounded() -> None:
    world = air(max_observations_per_peer=3)
    device = world.device()
    answers = [device.ask(path="/obs", observe=0, token=bytes((each,)))[0] for each in range(100)]
    assert [option(answer, N.OBSERVE) is not None for answer in answers] == [True] * 3 + [False] * 97
    assert {answer.payload for answer in answers} == {b"now"}
    assert world.server.observers.count == 3
    observe(world.device(2))


def test_end_sends_a_last_answer_without_the_option() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device)
    observation.notify(content(b"x"), told)
    device.heard()
    observation.end(Response(code=Code.DELETED, authenticated=True))
    (last,) = device.heard()
    assert (last.type, last.code, last.token, option(last, N.OBSERVE)) == (CON, Code.DELETED, b"t", None)
    device.acknowledge(last)
    world.advance(100)
    assert device.heard() == []
    assert told.settled == [Settled.DROPPED]
    assert world.site.gone == []
    observation.end(Response(code=Code.DELETED))
    assert device.heard() == []


def test_silent_observer_is_asked_whether_it_is_there() -> None:
    world = air(confirm_after=600.0)
    alive, dead = world.device(1), world.device(2)
    observe(alive), observe(dead)
    world.clock.advance(599)
    assert alive.heard() + dead.heard() == []
    world.clock.advance(2)
    (ping,) = alive.heard()
    assert (ping.type, ping.code, ping.token) == (CON, 0, b"")
    alive.reset(ping)
    world.advance(100)
    assert world.site.gone == ["the device did not answer a ping"]
    assert world.server.observers.count == 1
    world.clock.advance(600)
    assert [message.code for message in alive.heard()] == [0]


def test_observer_that_speaks_is_not_asked() -> None:
    world = air(confirm_after=600.0)
    device = world.device()
    observe(device)
    for _ in range(10):
        world.clock.advance(400)
        assert len(device.ask(path="/deaf")) == 1
    assert not world.site.gone


def test_shorter_patience_holds_after_a_reload() -> None:
    world = air(confirm_after=600.0)
    device = world.device()
    world.server.settings = replace(world.server.settings, confirm_after=100.0)
    observe(device)
    world.clock.advance(101)
    assert [message.code for message in device.heard()] == [0]


def test_what_is_unacknowledged_is_tried_where_the_device_was_heard_from() -> None:
    world, told = air(), Told()
    before, after = world.device(1), world.device(2)
    observation = observe(before)
    observation.notify(content(b"call"), told)
    (notification,) = before.heard()
    after.ask(path="/deaf")
    observation.reach(after.peer, soon=False)
    assert after.heard() == []  # it was sent once only: it may arrive yet
    world.advance(3.1)
    observation.reach(after.peer, soon=False)
    observation.reach(after.peer, soon=False)
    (again,) = after.heard()
    assert (again.payload, again.token, number(again)) == (b"call", b"t", number(notification))
    after.acknowledge(again)
    assert told.settled == [Settled.ACKNOWLEDGED]
    assert observation.peer is after.peer
    before.heard()
    world.advance(100)
    assert before.heard() == []
    observation.notify(content(b"next"), told)
    assert [message.payload for message in after.heard()] == [b"next"]
    assert not world.site.gone


def test_a_device_that_is_heard_again_is_sent_at_once_what_it_did_not_hear() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device)
    observation.notify(content(b"call"), told)
    device.heard()
    observation.reach(device.peer, soon=False)
    assert device.heard() == []  # it was sent just now: its acknowledgement may be on the way
    world.advance(10)
    before = len(device.heard())
    assert before == 2
    observation.reach(device.peer, soon=False)
    observation.reach(device.peer, soon=False)
    (again,) = device.heard()  # and not once more for each thing that the device says
    assert again.payload == b"call"
    device.acknowledge(again)
    assert told.settled == [Settled.ACKNOWLEDGED]
    world.advance(100)
    assert device.heard() == []


def test_the_old_address_may_acknowledge_first() -> None:
    world, told = air(), Told()
    before, other = world.device(1), world.device(2)
    observation = observe(before)
    observation.notify(content(b"call"), told)
    world.advance(3.1)
    observation.reach(other.peer, soon=False)
    (again,) = other.heard()
    other.reset(again)
    assert not told.settled
    before.acknowledge(before.heard()[0])
    assert told.settled == [Settled.ACKNOWLEDGED]
    assert observation.peer is before.peer


def test_both_addresses_may_stay_silent() -> None:
    world, told = air(), Told()
    observation = observe(world.device(1))
    observation.notify(content(b"call"), told)
    world.advance(50)
    observation.reach(world.device(2).peer, soon=False)
    world.advance(45)
    assert not told.settled  # the other one still has time
    world.advance(60)
    assert told.settled == [Settled.UNACKNOWLEDGED]
    assert len(world.site.gone) == 1


def test_lost_peer_loses_its_observations_and_nothing_is_sent_to_it() -> None:
    world, told = air(), Told()
    device = world.device()
    observe(device, token=b"a").notify(content(b"x"), told)
    observe(device, token=b"b")
    device.heard()
    world.server.lost(device.peer, "the port is closed")
    assert world.site.gone == ["the port is closed"] * 2
    assert told.settled == [Settled.DROPPED]
    world.advance(100)
    assert device.heard() == []


def test_strangers_are_forgotten_before_observers_and_then_the_silent_observer() -> None:
    world = air(max_peers=3)
    for each in (1, 2, 3):
        observe(world.device(each))
    world.device(1).ask(path="/deaf")
    world.device(4).ask(path="/deaf")
    assert world.site.gone == ["too many addresses ([coap] max_peers)"]
    assert world.device(2).peer is not world.site.observations[1].peer
    assert world.device(1).peer is world.site.observations[0].peer


LARGE = bytes(range(256)) * 10


def fetch(device: Remote, number: int, exponent: int = 6) -> Message:
    (answer,) = device.ask(path="/obs", token=b"f", block2=Block(number, False, exponent))
    return answer


def test_large_notification_is_fetched_by_blocks_and_settled_at_the_last() -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device)
    asked = len(world.site.requests)
    assert observation.notify(content(LARGE), told)
    (first,) = device.heard()
    assert block(first) == Block(0, True, 6)
    assert to_uint(option(first, N.SIZE2) or b"") == len(LARGE)
    device.acknowledge(first)
    assert (observation.busy, told.settled) == (True, [])
    middle, last = fetch(device, 1), fetch(device, 2)
    assert first.payload + middle.payload + last.payload == LARGE
    assert {option(each, N.ETAG) for each in (first, middle, last)} == {option(first, N.ETAG)}
    assert (block(last), option(last, N.OBSERVE)) == (Block(2, False, 6), None)
    assert told.settled == [Settled.ACKNOWLEDGED]
    assert not observation.busy
    assert len(world.site.requests) == asked


def test_fetching_shows_that_the_notification_arrived() -> None:
    world, told = air(), Told()
    device = world.device()
    observe(device).notify(content(LARGE), told)
    device.heard()
    fetch(device, 1), fetch(device, 2)
    assert told.settled == [Settled.ACKNOWLEDGED]
    world.advance(100)
    assert device.heard() == []


@pytest.mark.parametrize("kind", [CON, NON])
def test_large_notification_that_nobody_fetches_ends_but_the_observation_stays(kind: Type) -> None:
    world, told = air(), Told()
    device = world.device()
    observation = observe(device, kind=kind)
    observation.notify(content(LARGE), told)
    if kind is CON:
        device.acknowledge(device.heard()[0])
    world.clock.advance(92)
    assert told.settled == []
    world.clock.advance(2)
    assert told.settled == [Settled.UNFETCHED]
    assert not world.site.gone
    assert observation.notify(content(b"next"), told)


def test_notifications_come_in_blocks_as_small_as_the_registration_wants() -> None:
    world, told = air(), Told()
    device = world.device()
    observe(device, block2=Block(0, False, 2)).notify(content(LARGE), told)
    (first,) = device.heard()
    assert (len(first.payload), block(first)) == (64, Block(0, True, 2))


def test_large_notification_moves_with_its_device() -> None:
    world, told = air(), Told()
    before, after = world.device(1), world.device(2)
    observation = observe(before)
    observation.notify(content(LARGE), told)
    world.advance(3.1)
    observation.reach(after.peer, soon=False)
    after.acknowledge(after.heard()[0])
    assert told.settled == []
    fetch(after, 1), fetch(after, 2)
    assert told.settled == [Settled.ACKNOWLEDGED]


def test_guess_that_is_lost_leaves_the_rest_as_it_was() -> None:
    world, told = air(), Told()
    device, other = world.device(1), world.device(2)
    observation = observe(device)
    observation.notify(content(b"call"), told)
    world.advance(3.1)
    observation.reach(other.peer, soon=False)
    world.server.lost(other.peer, "the DTLS session was closed")
    assert not told.settled
    world.advance(100)
    assert told.settled == [Settled.UNACKNOWLEDGED]
    assert len(world.site.gone) == 1


def test_answer_to_a_registration_that_has_ended_meanwhile_bears_no_observe_option() -> None:
    world = air()
    device, answer = world.device(), Deferred[Response]()

    def register(request: Request) -> Deferred[Response]:
        world.site.observe(request)
        return answer

    world.site.paths["slow",] = register
    device.ask(path="/slow", observe=0)
    world.site.observations[-1].end()
    answer.callback(content(b"now"))
    (late,) = device.heard()
    assert (late.code, option(late, N.OBSERVE)) == (Code.CONTENT, None)


def test_peer_that_was_lost_before_it_could_register_is_no_observer() -> None:
    world = air()
    device, entering = world.device(), Deferred[Request]()
    world.site.paths["slow",] = lambda request: entering.addCallback(lambda _: world.site.observe(request))
    device.ask(path="/slow", observe=0)
    world.server.lost(device.peer, "the DTLS session was closed")
    entering.callback(None)
    assert not world.site.observations
    assert world.server.observers.count == 0


def test_observations_that_end_faster_than_it_is_acknowledged_use_up_no_message_ids() -> None:
    world = air()
    device = world.device()
    for token in range(70_000):
        observe(device, token=token.to_bytes(4, "big"), message_id=token & 0xFFFF).end(Response(code=Code.DELETED))
        device.air.sent.clear()
        device._read = 0
        world.site.requests.clear()
        world.site.observations.clear()
    assert len(device.peer.awaited or ()) < 3_000
