"""Retained messages: who is given which, how many in a turn, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import device
from mqtt_client import Client, FreeTopics

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property


class TestRetained:
    def kept(self, world: FreeTopics, topic: str = "a", **more: Any) -> Client:
        speaker = world.client(5).connect()
        speaker.say(topic, b"kept", 1, retain=True, **more)
        return speaker

    @pytest.mark.parametrize(("as_published", "flags"), [(False, [True, False, False]), (True, [True, True, False])])
    def test_the_flag(self, as_published: bool, flags: list[bool]) -> None:
        """MQTT-3.3.1-8, -12, -13"""
        world = FreeTopics()
        speaker = self.kept(world)
        listener = world.anonymous("l")
        wanted = p.Subscription("a", 1, retain_as_published=as_published)
        _, first = listener.send(p.Subscribe(1, (wanted,)))
        speaker.say("a", b"2", 0, retain=True)
        speaker.say("a", b"3", 0)
        assert [first.retain, *[one.retain for one in listener.received()]] == flags

    @pytest.mark.parametrize(("handling", "first", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
    def test_retain_handling(self, handling: int, first: int, again: int) -> None:
        """MQTT-3.3.1-9 to -11"""
        world = FreeTopics()
        self.kept(world)
        listener = world.anonymous("l")
        subscribe = p.Subscribe(1, (p.Subscription("a", 0, retain_handling=handling),))
        assert len(listener.send(subscribe)) == 1 + first
        assert len(listener.send(subscribe)) == 1 + again
        listener.send(p.Unsubscribe(2, ("a",)))
        assert len(listener.send(subscribe)) == 1 + first, "it is a new one then"

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_an_empty_one_ends_it(self, level: int) -> None:
        """MQTT-3.3.1-6, -7: it goes to who listens now, and is not kept."""
        world = FreeTopics()
        speaker = self.kept(world)
        now = world.anonymous("now")
        now.send(p.Subscribe(1, (p.Subscription("a", 0),)))
        speaker.say("a", b"", 0)
        late = world.anonymous("late")
        assert len(late.send(p.Subscribe(1, (p.Subscription("a", 0),)))) == 2, "one that is not retained clears nothing"
        world.client(level).connect().say("a", b"", 0, retain=True)
        assert [(one.payload, one.retain) for one in now.received()] == [(b"", False)] * 2
        late.received()
        assert len(late.send(p.Subscribe(2, (p.Subscription("#", 0),)))) == 1

    def test_a_subscription_that_replaces_one_whose_messages_are_on_their_way_begins_anew(self) -> None:
        """MQTT-3.8.4-3"""
        world = FreeTopics()
        listener, speaker = world.two()
        for number in range(300):
            speaker.say(f"a/{number}", b"x", 1, number + 1, retain=True)
        first, second = p.Subscription("a/#", 0), p.Subscription("a/#", 0)
        listener.send(p.Subscribe(1, (first,), {Property.SUBSCRIPTION_IDENTIFIER: 7}))
        listener.send(p.Subscribe(2, (second,), {Property.SUBSCRIPTION_IDENTIFIER: 8}))
        listener.received()
        world.clock.advance(1)
        identifiers = [each.properties[Property.SUBSCRIPTION_IDENTIFIER] for each in listener.received()]
        assert identifiers == [(8,)] * 300

    def test_a_shared_subscription_gets_none(self) -> None:
        """MQTT 5.0, 4.8.2"""
        world = FreeTopics()
        self.kept(world)
        world.anonymous("l").listen("$share/g/a")

    def test_those_that_begin_with_a_wildcard_do_not_match_dollar(self) -> None:
        world = FreeTopics()
        self.kept(world, "a/$b")
        listener = world.anonymous("l")
        assert len(listener.send(p.Subscribe(1, (p.Subscription("a/#", 0),)))) == 2

    def test_it_has_the_identifier_and_the_lower_qos(self) -> None:
        world = FreeTopics()
        self.kept(world, properties={Property.CONTENT_TYPE: "t"})
        listener = world.anonymous("l")
        given = {Property.SUBSCRIPTION_IDENTIFIER: 9}
        _, message = listener.send(p.Subscribe(1, (p.Subscription("+", 0),), given))
        assert message == p.Publish(
            "a", b"kept", 0, None, False, True, {Property.CONTENT_TYPE: "t", Property.SUBSCRIPTION_IDENTIFIER: (9,)}
        )

    def test_it_expires(self) -> None:
        world = FreeTopics()
        self.kept(world, properties={Property.MESSAGE_EXPIRY_INTERVAL: 10})
        world.clock.advance(4)
        early, late = world.two()
        _, message = early.send(p.Subscribe(1, (p.Subscription("a", 0),)))
        assert message.properties == {Property.MESSAGE_EXPIRY_INTERVAL: 6}
        world.clock.advance(6)
        assert len(late.send(p.Subscribe(1, (p.Subscription("a", 0),)))) == 1

    def test_too_many_are_refused_and_a_newer_one_of_a_topic_is_no_more(self) -> None:
        world = FreeTopics(max_retained=2)
        speaker = world.client(5).connect()
        answers = [speaker.say(topic, b"x", 1, retain=True) for topic in ("a", "b", "c", "a")]
        assert answers == [[p.PubAck(1, code)] for code in (0x10, 0x10, 0x97, 0x10)]
        speaker.say("b", b"", 1, retain=True)
        assert speaker.say("c", b"x", 1, retain=True) == [p.PubAck(1, 0x10)]

    def test_so_are_too_large_ones(self) -> None:
        world = FreeTopics(max_retained_size=100)
        speaker = world.client(5).connect()
        assert speaker.say("a", b"x" * 60, 1, retain=True) == [p.PubAck(1, 0x10)]
        assert speaker.say("b", b"x" * 60, 1, retain=True) == [p.PubAck(1, 0x97)]
        assert speaker.say("a", b"x" * 90, 1, retain=True) == [p.PubAck(1, 0x10)]
        old = world.client(4).connect()
        assert old.say("b", b"x" * 60, 1, retain=True) == [p.PubAck(1)], "which cannot be told"
        assert not old.closed

    def test_so_are_those_with_too_large_properties(self) -> None:
        speaker = FreeTopics(max_retained_size=1_000).client(5).connect()
        says = [("a", 600, 16), ("b", 600, 0x97), ("a", 700, 16), ("a", 1_000, 0x97), ("a", 0, 16), ("b", 600, 16)]
        for topic, size, code in says:
            properties = {Property.USER_PROPERTY: (("k", "v" * size),)}
            assert speaker.say(topic, b"x"[:size], 1, retain=True, properties=properties) == [p.PubAck(1, code)]

    def test_many_are_streamed_a_few_at_a_time(self) -> None:
        world = FreeTopics()
        speaker = world.client(5).connect()
        for number in range(250):
            speaker.say(f"a/{number}", b"x", 0, retain=True)
        listener = world.anonymous("l")
        came = [len(listener.send(p.Subscribe(1, (p.Subscription("#", 0),)))) - 1]
        while came[-1]:
            world.clock.advance(0.02)
            came.append(len(listener.received()))
        assert came == [100, 100, 50, 0]

    def test_a_listener_that_is_slow_is_given_them_as_it_acknowledges(self) -> None:
        world = FreeTopics()
        speaker = world.client(5).connect()
        for number in range(5):
            speaker.say(f"a/{number}", b"x", 1, retain=True)
        listener = world.anonymous("l", properties={Property.RECEIVE_MAXIMUM: 2})
        _, *came = listener.send(p.Subscribe(1, (p.Subscription("#", 1),)))
        assert len(came) == 2
        for message in came:
            came += listener.send(p.PubAck(message.packet_id))
        assert sorted(message.topic for message in came) == [f"a/{number}" for number in range(5)]

    def many(self, world: FreeTopics, count: int, size: int = 1, qos: int = 0) -> None:
        """Keep so many messages of that size."""
        speaker = world.client(5).connect()
        for number in range(count):
            speaker.say(f"a/{number}", b"x" * size, qos, retain=True)

    def asks(self, *topic_filters: str, qos: int = 0) -> list[p.Subscribe]:
        """A SUBSCRIBE for each, told apart by their identifiers."""
        return [
            p.Subscribe(number, (p.Subscription(text, qos),), {Property.SUBSCRIPTION_IDENTIFIER: number})
            for number, text in enumerate(topic_filters, start=1)
        ]

    def turns(self, world: FreeTopics, listener: Client, came: list[Any]) -> list[list[Any]]:
        """The retained messages of each turn of the reactor, until one brings none; `came` is what the first brought."""
        found = [[packet for packet in came if isinstance(packet, p.Publish)]]
        while found[-1]:
            world.clock.advance(0.02)
            found.append(listener.received())
        return found[:-1]

    @pytest.mark.parametrize("count", [60, 150])
    def test_all_subscribes_of_one_turn_share_what_it_brings(self, count: int) -> None:
        world = FreeTopics()
        self.many(world, count)
        listener = world.anonymous("l")
        waiting = world.admission.around.deadlines.waiting
        asks = self.asks("#", "a/#", "+/#", "a/+", "+/+")
        came = listener.send(*asks[:3]) + listener.send(*asks[3:])
        assert [packet for packet in came if not isinstance(packet, p.Publish)] == [
            p.SubAck(n, (0,)) for n in range(1, 6)
        ]
        assert world.admission.around.deadlines.waiting == waiting + 1
        turns = self.turns(world, listener, came)
        assert [len(turn) for turn in turns] == [100] * (count * 5 // 100) + [50] * (count * 5 % 100 // 50)
        order = [message.properties[Property.SUBSCRIPTION_IDENTIFIER] for turn in turns for message in turn]
        assert order == [(number,) for number in range(1, 6) for _ in range(count)], "one stream after the other"
        world.clock.advance(0.02)
        assert world.admission.around.deadlines.waiting == waiting

    @pytest.mark.parametrize(
        ("size", "expected"), [(40_000, [7, 7, 6]), (131_072, [2] * 10), (262_144, [1] * 20), (400_000, [1] * 20)]
    )
    def test_a_turn_brings_so_many_bytes_and_one_message_in_any_case(self, size: int, expected: list[int]) -> None:
        world = FreeTopics(max_packet_size=1 << 20)
        self.many(world, 10, size)
        listener = world.anonymous("l")
        turns = self.turns(world, listener, listener.send(*self.asks("#", "a/#")))
        assert [len(turn) for turn in turns] == expected

    def test_acknowledgements_bring_no_more(self) -> None:
        world = FreeTopics()
        self.many(world, 250)
        world.owned(device(101)).say("b", b"x", 1, retain=True)
        listener = world.anonymous("l")
        _, first, *came = listener.send(*self.asks("b", "a/#", qos=1))
        assert (first.topic, len(came)) == ("b", 100)
        assert listener.send(p.PubAck(first.packet_id)) == []

    def test_who_is_slow_is_given_the_rest_when_it_reads_on(self) -> None:
        world = FreeTopics()
        self.many(world, 250)
        listener = world.anonymous("l")
        assert len(listener.send(*self.asks("#"))) == 1 + 100
        listener.protocol.pauseProducing()
        world.clock.advance(1)
        assert listener.received() == []
        listener.protocol.resumeProducing()
        assert [len(turn) for turn in self.turns(world, listener, listener.received())] == [100, 50]

    def test_a_filter_that_is_asked_for_again_and_again_waits_once(self) -> None:
        """What the last SUBSCRIBE asks for takes the place of the others, and comes whole (MQTT-3.8.4-3)."""
        world = FreeTopics()
        self.many(world, 5, qos=1)
        listener = world.anonymous("l", properties={Property.RECEIVE_MAXIMUM: 2})
        came = [packet for packet in listener.send(*self.asks(*["#"] * 50, qos=1)) if isinstance(packet, p.Publish)]
        assert len(came) == 2
        for message in came:
            came += listener.send(p.PubAck(message.packet_id))
        order = [message.properties[Property.SUBSCRIPTION_IDENTIFIER] for message in came]
        assert order == [(1,)] * 2 + [(50,)] * 5

    @pytest.mark.parametrize("handling", [1, 2])
    def test_what_waits_is_not_lost_to_a_subscribe_that_wants_none(self, handling: int) -> None:
        """MQTT-3.8.4-3"""
        world = FreeTopics()
        self.many(world, 150)
        listener = world.anonymous("l")
        again = p.Subscribe(9, (p.Subscription("a/#", 0, retain_handling=handling),))
        turns = self.turns(world, listener, listener.send(*self.asks("#", "a/#"), again))
        assert [len(turn) for turn in turns] == [100] * 3

    def test_they_end_with_the_subscription(self) -> None:
        world = FreeTopics()
        self.many(world, 150)
        listener = world.anonymous("l")
        listener.send(*self.asks("#", "a/#", "+/#"))
        assert listener.send(p.Unsubscribe(9, ("#", "+/#", "b"))) == [p.UnsubAck(9, (0, 0, 0x11))]
        order = [
            message.properties[Property.SUBSCRIPTION_IDENTIFIER]
            for turn in self.turns(world, listener, [p.Publish("", b"")])[1:]
            for message in turn
        ]
        assert order == [(2,)] * 150

    def test_they_end_with_the_connection(self) -> None:
        world = FreeTopics()
        self.many(world, 150)
        waiting = world.admission.around.deadlines.waiting
        listener = world.anonymous("l")
        listener.send(*self.asks("#"))
        listener.lose()
        assert world.admission.around.deadlines.waiting == waiting
        world.clock.advance(1)
        assert listener.received() == []
