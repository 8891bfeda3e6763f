"""Ordinary publish and subscribe: who may, who gets what, and how."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import OTHER_TENANT, device
from mqtt_client import Client, FreeTopics, Mqtt

from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.settings import MqttSettings
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property

KEPT = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}
DEVICE_TOPICS = [
    "v1/devices/me/telemetry",
    "v1/devices/me/attributes",
    "v1/devices/me/rpc/response/1",
    "v1/devices/me/claim",
    "v1/devices/other/telemetry",
    "v1/gateway/telemetry",
    "v1/gateway",
    "v2/t",
    "v2/fw/request/1/chunk/0",
    "v2/anything",
    "/provision/request",
]


def two(world: FreeTopics) -> tuple[Client, Client]:
    return world.anonymous("one"), world.anonymous("two")


class TestAllowed:
    def test_by_default_there_are_no_free_topics(self) -> None:
        world = Mqtt()
        for level, subscribed, published in ((4, 0x80, 0), (5, 0x8F, 0x90)):
            client = world.client(level).connect()
            assert client.send(p.Subscribe(1, (p.Subscription("a", 1),))) == [p.SubAck(1, (subscribed,))]
            assert client.say("a", b"x", 1, 2) == [p.PubAck(2, published)]
            assert client.say("a", b"x", 0) == []
            assert not client.closed

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_clients_of_a_tenant_hear_each_other(self, level: int) -> None:
        world = FreeTopics()
        listener = world.client(level).connect().listen("a/+", "b/#")
        speaker = world.owned(device(101), level=level)
        for topic, qos in (("a/1", 0), ("a/2", 1), ("b", 2), ("c", 0), ("a", 0), ("a/1/2", 0)):
            speaker.say(topic, b"x", qos, 7)
            if qos == 2:
                speaker.send(p.PubRel(7))
        assert listener.heard() == [("a/1", b"x", 0), ("a/2", b"x", 1), ("b", b"x", 2)]

    @pytest.mark.parametrize("retain", [False, True])
    def test_tenants_are_apart(self, retain: bool) -> None:
        world = FreeTopics()
        foreign = world.owned(device(201, tenant=OTHER_TENANT)).listen("#", "$share/g/a")
        mine = world.client(5).connect().listen("#")
        speaker = world.owned(device(101))
        speaker.say("a", b"x", 1, retain=retain)
        assert len(mine.received()) == 1
        assert foreign.received() == []
        foreign.say("b", b"x", 1, retain=True)
        assert mine.received() == []
        late = world.anonymous("late")
        assert len(late.send(p.Subscribe(1, (p.Subscription("#", 0),)))) == 1 + retain

    def test_what_is_switched_off_ends_at_once_and_on_resume(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(**KEPT).listen("a")
        world.admission.settings = MqttSettings(pubsub="off")
        assert client.say("a", b"x", 1) == [p.PubAck(1, 0x90)]
        client.lose()
        client = world.client(5).connect(**KEPT)
        world.admission.settings = MqttSettings(pubsub="tenant")
        assert client.say("a", b"x", 1) == [p.PubAck(1, 0x10)], "its subscription was ended"


class TestRights:
    def limited(self, world: FreeTopics, **pubsub: Any) -> Client:
        return world.owned(device(101, additional_info={"pubsub": pubsub}))

    @pytest.mark.parametrize(
        ("allowed", "wanted", "may"),
        [
            (["a/#"], "a/b/#", True),
            (["a/#"], "a/+/c", True),
            (["a/#"], "a", True),
            (["a/#"], "#", False),
            (["a/#"], "+/b", False),
            (["a/#"], "$share/g/a/b", True),
            (["a/#"], "$share/g/b", False),
            (["a/+"], "a/#", False),
            (["a/+"], "a/b", True),
            ([], "a", False),
            ("a", "a", False),
            (["a/#/b"], "a/x/b", False),
            (None, "anything", True),
            (["#"], "v1/devices/me/telemetry", False),
            (["#"], "v1/devices/+/telemetry", False),
        ],
    )
    def test_what_a_device_may_subscribe_to(self, allowed: Any, wanted: str, may: bool) -> None:
        client = self.limited(FreeTopics(), subscribe=allowed)
        assert client.send(p.Subscribe(1, (p.Subscription(wanted, 1),))) == [p.SubAck(1, (1 if may else 0x87,))]

    @pytest.mark.parametrize(
        ("allowed", "topic", "may"),
        [(["a/#"], "a/b", True), (["a/+"], "a/b/c", False), ([], "a", False), ({}, "a", False), (None, "a", True)],
    )
    def test_what_a_device_may_publish_to(self, allowed: Any, topic: str, may: bool) -> None:
        world = FreeTopics()
        client = self.limited(world, publish=allowed)
        listener = world.anonymous("l").listen("#")
        assert client.say(topic, b"x", 1) == [p.PubAck(1, 0 if may else 0x87)]
        assert len(listener.received()) == may

    def test_what_cannot_be_read_is_nothing(self) -> None:
        client = FreeTopics().owned(device(101, additional_info={"pubsub": "all"}))
        assert client.say("a", b"x", 1) == [p.PubAck(1, 0x87)]
        assert client.send(p.Subscribe(1, (p.Subscription("a", 1),))) == [p.SubAck(1, (0x87,))]

    def test_rights_that_were_taken_end_the_subscription_when_it_is_resumed(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(**KEPT).listen("a", "b")
        client.lose()
        session = world.session()
        session.device = device(additional_info={"pubsub": {"subscribe": ["b"]}})
        client = world.client(5).connect(**KEPT)
        speaker = world.anonymous("s")
        speaker.say("a")
        speaker.say("b")
        assert client.heard() == [("b", b"x", 0)]


class TestAnonymous:
    def test_they_are_let_in_only_where_it_is_allowed(self) -> None:
        for settings in ({"allow_anonymous": False}, {"pubsub": "off"}):
            world = FreeTopics(**settings)
            (answer,) = world.client(5).enter(username=None)
            assert answer.code in (0x85, 0x87)

    def test_wrong_credentials_are_not_none(self) -> None:
        world = FreeTopics()
        assert world.client(5).enter(username="WRONG") == [p.ConnAck(False, 0x86)]
        assert world.client(5).enter(username=None, password=b"x") == [p.ConnAck(False, 0x86)]

    @pytest.mark.parametrize("topic", DEVICE_TOPICS)
    def test_they_have_no_device_topics(self, topic: str) -> None:
        world = FreeTopics()
        client = world.anonymous("a")
        assert client.say(topic, b"{}", 1) == [p.PubAck(1, 0x90)]
        (answer,) = client.send(p.Subscribe(2, (p.Subscription(topic, 1),)))
        assert answer == p.SubAck(2, (0x87,))

    def test_what_is_denied_they_get_nothing_of(self) -> None:
        world = FreeTopics(anonymous_deny=("secret/#",))
        client = world.anonymous("a")
        speaker = world.client(5).connect()
        speaker.say("secret/kept", b"1", 1, retain=True)
        wanted = ("secret/#", "secret/a", "#", "+/a", "$share/g/secret/b")
        (answer, *retained) = client.send(p.Subscribe(1, tuple(p.Subscription(text, 0) for text in wanted)))
        assert answer == p.SubAck(1, (0x87, 0x87, 0, 0, 0x87))
        assert retained == []
        for topic in ("secret/a", "secret", "secret/b", "secrets/a"):
            speaker.say(topic)
        assert client.heard() == [("secrets/a", b"x", 0)]

    def test_a_device_is_not_meant_by_it(self) -> None:
        world = FreeTopics(anonymous_deny=("secret/#",))
        listener = world.client(5).connect().listen("secret/#")
        world.anonymous("a").say("secret/a")
        assert listener.heard() == [("secret/a", b"x", 0)]


class TestDeviceTopics:
    @pytest.mark.parametrize("topic", DEVICE_TOPICS)
    @pytest.mark.parametrize("level", [4, 5])
    def test_nobody_else_hears_what_is_published_there(self, topic: str, level: int) -> None:
        world = FreeTopics()
        listener = world.anonymous("l").listen("#", "+/#", "/#", "+/+/+/telemetry", "v1/+/#", "$share/g/#")
        other = world.owned(device(101)).listen("#")
        sender = world.client(level).connect()
        for qos in (0, 1):
            sender.say(topic, b'{"a":1}', qos, retain=True)
        assert listener.received() == other.received() == []
        late = world.anonymous("late")
        assert len(late.send(p.Subscribe(1, (p.Subscription("#", 0),)))) == 1, "nor is it retained"

    @pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$internal", "$share/g/a", "$"])
    def test_nobody_publishes_to_dollar_topics(self, topic: str) -> None:
        """MQTT-4.7.2-1"""
        world = FreeTopics()
        listener = world.anonymous("l").listen("#", "$SYS/#", "$internal", "+")
        assert world.client(5).connect().say(topic, b"x", 1) == [p.PubAck(1, 0x87)]
        old = world.client(4).connect()
        assert old.say(topic, b"x", 1) == [p.PubAck(1)]
        assert not old.closed
        assert listener.received() == []

    @pytest.mark.parametrize(
        "topic",
        [
            "v1//devices/me/telemetry",
            "V1/devices/me/telemetry",
            "v1/Devices/me/telemetry",
            "v1/./devices/me/telemetry",
            "v1%2Fdevices/me/telemetry",
            "/v1/devices/me/telemetry",
            "v\u0661/devices/me/telemetry",
            "v1/device\u017f/me/telemetry",
        ],
    )
    def test_other_spellings_are_other_topics(self, topic: str) -> None:
        """MQTT-4.7.3-4: what is compared are code points."""
        world = FreeTopics()
        listener = world.anonymous("l").listen("#")
        assert world.client(5).connect().say(topic, b"not json", 1) == [p.PubAck(1)]
        assert listener.heard() == [(topic, b"not json", 1)]

    @pytest.mark.parametrize(("one", "other"), [("caf\u00e9", "cafe\u0301"), ("a", "A"), ("a", "a/"), ("a", "/a")])
    def test_no_two_topics_are_made_one(self, one: str, other: str) -> None:
        world = FreeTopics()
        listener = world.anonymous("l").listen(one)
        speaker = world.client(5).connect()
        assert speaker.say(other, b"x", 1) == [p.PubAck(1, 0x10)]
        assert listener.received() == []


class TestOverlapping:
    """MQTT 5.0, 3.3.4"""

    def test_one_message_with_the_highest_qos_and_all_identifiers(self) -> None:
        world = FreeTopics()
        listener, speaker = two(world)
        for number, (text, qos) in enumerate((("a/#", 0), ("a/+", 2), ("+/b", 1)), start=1):
            identifier = {Property.SUBSCRIPTION_IDENTIFIER: number}
            listener.send(p.Subscribe(number, (p.Subscription(text, qos),), identifier))
        speaker.say("a/b", b"x", 2)
        (message,) = listener.received()
        assert message.qos == 2
        assert sorted(message.properties[Property.SUBSCRIPTION_IDENTIFIER]) == [1, 2, 3]

    def test_a_subscription_without_an_identifier_adds_none(self) -> None:
        world = FreeTopics()
        listener, speaker = two(world)
        listener.listen("a")
        speaker.say("a")
        assert Property.SUBSCRIPTION_IDENTIFIER not in listener.received()[0].properties

    @pytest.mark.parametrize(("published", "subscribed", "got"), [(2, 0, 0), (2, 1, 1), (1, 2, 1), (0, 2, 0)])
    def test_the_qos_is_the_lower_of_the_two(self, published: int, subscribed: int, got: int) -> None:
        world = FreeTopics()
        listener, speaker = two(world)
        listener.listen("a", qos=subscribed)
        speaker.say("a", b"x", published)
        assert listener.heard() == [("a", b"x", got)]

    def test_the_same_filter_again_takes_the_place_of_the_first(self) -> None:
        """MQTT-3.8.4-3"""
        world = FreeTopics()
        listener, speaker = two(world)
        listener.send(p.Subscribe(1, (p.Subscription("a", 2),), {Property.SUBSCRIPTION_IDENTIFIER: 1}))
        wanted = (p.Subscription("a", 1), p.Subscription("a", 0))
        assert listener.send(p.Subscribe(2, wanted, {Property.SUBSCRIPTION_IDENTIFIER: 2})) == [p.SubAck(2, (1, 0))]
        speaker.say("a", b"x", 2)
        (message,) = listener.received()
        assert (message.qos, message.properties[Property.SUBSCRIPTION_IDENTIFIER]) == (0, (2,))
        assert listener.send(p.Unsubscribe(3, ("a",))) == [p.UnsubAck(3, (0,))]
        speaker.say("a", b"x", 0)
        assert listener.received() == []

    def test_no_local(self) -> None:
        """MQTT-3.8.3-3"""
        world = FreeTopics()
        one, other = two(world)
        for client in (one, other):
            client.listen("a", no_local=True)
        assert one.say("a", b"x", 1) == [p.PubAck(1)]
        assert other.heard() == [("a", b"x", 1)]

    def test_no_local_of_one_filter_does_not_hold_for_another(self) -> None:
        world = FreeTopics()
        client = world.anonymous("a").listen("a", no_local=True).listen("#", qos=0)
        ack, echo = client.say("a", b"x", 1)
        assert (ack, echo.qos) == (p.PubAck(1), 0)

    def test_its_own_messages_come_back_to_who_asked_for_them(self) -> None:
        client = FreeTopics().anonymous("a").listen("a")
        assert [type(packet) for packet in client.say("a", b"x", 1)] == [p.PubAck, p.Publish]


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
        listener, speaker = two(world)
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
        early, late = two(world)
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


class TestLimits:
    def test_filters_of_one_client(self) -> None:
        client = FreeTopics(max_subscriptions=3).anonymous("a")
        wanted = tuple(p.Subscription(text, 0) for text in ("a", "b", "a", "$share/g/c", "d"))
        assert client.send(p.Subscribe(1, wanted)) == [p.SubAck(1, (0, 0, 0, 0, 0x97))]
        assert client.send(p.Unsubscribe(2, ("b",))) == [p.UnsubAck(2, (0,))]
        assert client.send(p.Subscribe(3, (p.Subscription("d", 0),))) == [p.SubAck(3, (0,))]

    def test_levels_of_a_topic_and_of_a_filter(self) -> None:
        world = FreeTopics(max_topic_levels=3)
        client = world.anonymous("a")
        assert client.say("a/b/c", b"x", 1) == [p.PubAck(1, 0x10)]
        assert client.say("a/b/c/d", b"x", 1) == [p.PubAck(1, 0x90)]
        wanted = (p.Subscription("+/+/+", 0), p.Subscription("+/+/+/+", 0))
        assert client.send(p.Subscribe(1, wanted)) == [p.SubAck(1, (0, 0x8F))]

    def test_what_was_let_go_leaves_nothing(self) -> None:
        world = FreeTopics()
        client = world.anonymous("a").listen("a", "b/#", "$share/g/c")
        world.anonymous("b").listen("$share/g/c").lose()
        client.lose()
        assert world.admission.pubsub._spaces == {}
        assert len(world.admission.sessions) == 0


class TestNearMisses:
    """Where topics are free, a misspelt device topic is granted; the device is told all the same."""

    @pytest.mark.parametrize("topic_filter", ["/v1/devices/me/rpc/request/+", "V1/devices/me/rpc/request/+"])
    def test_a_filter_that_was_meant_for_the_server(self, topic_filter: str) -> None:
        world = Mqtt(pubsub="tenant")
        world.client().connect().send(p.Subscribe(1, (p.Subscription(topic_filter, 1),)))
        ((_, missed),) = world.session().near_misses()
        assert topic_filter in missed.detail

    def test_a_topic_that_was_meant_for_the_server(self) -> None:
        world = Mqtt(pubsub="tenant")
        world.client().connect().send(p.Publish("/v1/devices/me/telemetry", b"{}"))
        assert [miss for miss, _ in world.session().near_misses()] == [NearMiss.LEADING_SLASH]

    def test_any_other_is_none(self) -> None:
        world = Mqtt(pubsub="tenant")
        client = world.client().connect()
        client.send(p.Subscribe(1, (p.Subscription("lamps/#", 1),)), p.Publish("lamps/1", b"{}"))
        assert world.session().near_misses() == ()


def test_a_device_whose_rights_change_has_to_come_again() -> None:
    world = Mqtt(pubsub="tenant")
    client = world.client(5).connect(clean_start=False, properties={Property.SESSION_EXPIRY_INTERVAL: 60})
    client.send(p.Subscribe(1, (p.Subscription("a/#", 1),)))
    changed = replace(world.device, additional_info={"pubsub": {"subscribe": ["b/#"]}}, version=2)
    world.broker.device_changed(changed)
    assert client.received() == [p.Disconnect(0x98)]
    again = world.client(5)
    again.send(p.Connect(5, "c", False, username="TOKEN100", properties={Property.SESSION_EXPIRY_INTERVAL: 60}))
    assert again.send(p.Publish("a/1", b"x", 1, 1)) == [p.PubAck(1, 0x10)], "nobody listens to that any more"
