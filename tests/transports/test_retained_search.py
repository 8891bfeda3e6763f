"""Retained messages are looked for a little at a time, however few there are among how many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import device
from mqtt_client import Client, FreeTopics

from rpcbroker.transports.mqtt import streams
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property
from rpcbroker.wire.mqtt.topic_tree import TopicTree

COUNT = 500


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each step of any search; a turn of one client has 50."""
    done: list[None] = []
    search = TopicTree.search

    def counted(tree: TopicTree[Any], topic_filter: str) -> Iterator[Any]:
        for found in search(tree, topic_filter):
            done.append(None)
            yield found

    monkeypatch.setattr(TopicTree, "search", counted)
    monkeypatch.setattr(streams, "STEPS_AT_ONCE", 50)
    return done


def world_of(*topics: str, **settings: Any) -> FreeTopics:
    """In which these are retained, and then many others; a search comes to those first."""
    world = FreeTopics(**settings)
    speaker = world.client(5).connect()
    for topic in (*topics, *(f"many/{number}" for number in range(COUNT))):
        speaker.say(topic, retain=True)
    return world


def ask(*topic_filters: str) -> list[p.Subscribe]:
    """A SUBSCRIBE for each."""
    return [p.Subscribe(number, (p.Subscription(text, 0),)) for number, text in enumerate(topic_filters, start=1)]


def messages(packets: list[Any]) -> list[str]:
    return [packet.topic for packet in packets if isinstance(packet, p.Publish)]


def to_the_end(world: FreeTopics, listener: Client, steps: list[None], most: int = 50) -> list[str]:
    """What comes until nothing more is done for anybody; no turn may take more than `most` steps."""
    came = []
    while world.admission.around.deadlines.waiting > 2:  # keep-alive of the two clients
        before = len(steps)
        world.clock.advance(0.02)
        assert len(steps) - before <= most
        came += messages(listener.received())
    return came


@pytest.mark.parametrize("reads", [1, 20])
def test_what_matches_little_is_found_in_the_end_however_many_ask(steps: list[None], reads: int) -> None:
    world = world_of("few/1/x", "few/2/x")
    listener = world.anonymous("l")
    asks = ask("+/+/x", "+/1/x", "+/2/+", "+/3/x") * 25
    each = len(asks) // reads
    came = [packet for at in range(0, len(asks), each) for packet in listener.send(*asks[at : at + each])]
    assert [type(packet) for packet in came] == [p.SubAck] * 100
    assert len(steps) == 50
    came = to_the_end(world, listener, steps)
    assert sorted(came) == ["few/1/x"] * 2 + ["few/2/x"] * 2, "each filter brings its own once"
    assert len(steps) < 6 * COUNT


def test_filters_that_match_nothing_share_the_steps_of_a_turn(steps: list[None]) -> None:
    world = world_of()
    listener = world.anonymous("l")
    for number in range(40):
        listener.send(*ask(f"none/{number}"))
    assert len(steps) < 50
    assert to_the_end(world, listener, steps) == []
    assert len(steps) == 40


def test_everybody_else_is_served_meanwhile(steps: list[None]) -> None:
    world = world_of("few/1/x")
    listener, other = world.anonymous("l"), world.anonymous("o")
    assert messages(listener.send(*ask("+/+/x"))) == []
    assert messages(other.send(*ask("many/7"))) == ["many/7"]
    assert listener.send(p.PingReq()) == [p.PingResp()]
    assert other.say("few/9/x", b"now", 1) == [p.PubAck(1)]
    assert listener.heard() == [("few/9/x", b"now", 0)]


def test_who_does_not_read_is_not_searched_for(steps: list[None]) -> None:
    world = world_of("few/1/x")
    listener = world.anonymous("l")
    listener.send(*ask("+/+/x"))
    listener.protocol.pauseProducing()
    world.clock.advance(0.02)
    world.clock.advance(1)
    assert len(steps) == 50
    listener.protocol.resumeProducing()
    assert to_the_end(world, listener, steps) == ["few/1/x"]


@pytest.mark.parametrize("end", ["unsubscribe", "lose"])
def test_the_search_ends_with_who_asked(steps: list[None], end: str) -> None:
    world = world_of("few/1/x")
    listener = world.anonymous("l")
    listener.send(*ask("+/+/x"))
    if end == "lose":
        listener.lose()
    else:
        listener.send(p.Unsubscribe(2, ("+/+/x",)))
    world.clock.advance(1)
    assert len(steps) == 50
    assert messages(listener.received()) == []


def test_what_may_not_be_received_takes_more_than_a_step_and_the_rest_comes(steps: list[None]) -> None:
    """To compare a topic with a filter takes longer than to look at it."""
    world = world_of("few/1", anonymous_deny=("many/+", "x/#"))
    listener = world.anonymous("l")
    assert messages(listener.send(*ask("#"))) == []
    assert len(steps) < 6
    assert to_the_end(world, listener, steps, most=6) == ["few/1"]


def test_so_does_what_has_expired(steps: list[None]) -> None:
    world = FreeTopics()
    speaker = world.owned(device(101))
    speaker.say("few", retain=True)
    for number in range(COUNT):
        speaker.say(f"many/{number}", retain=True, properties={Property.MESSAGE_EXPIRY_INTERVAL: 1})
    world.clock.advance(2)
    listener = world.anonymous("l")
    assert messages(listener.send(*ask("#"))) == []
    assert len(steps) < 8
    assert to_the_end(world, listener, steps, most=7) == ["few"]
    (space,) = world.admission.pubsub._spaces.values()
    assert len(space._retained) == 1
