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
        listener, speaker = world.two()
        for number, (text, qos) in enumerate((("a/#", 0), ("a/+", 2), ("+/b", 1)), start=1):
            identifier = {Property.SUBSCRIPTION_IDENTIFIER: number}
            listener.send(p.Subscribe(number, (p.Subscription(text, qos),), identifier))
        speaker.say("a/b", b"x", 2)
        (message,) = listener.received()
        assert message.qos == 2
        assert sorted(message.properties[Property.SUBSCRIPTION_IDENTIFIER]) == [1, 2, 3]

    def test_a_subscription_without_an_identifier_adds_none(self) -> None:
        world = FreeTopics()
        listener, speaker = world.two()
        listener.listen("a")
        speaker.say("a")
        assert Property.SUBSCRIPTION_IDENTIFIER not in listener.received()[0].properties

    @pytest.mark.parametrize(("published", "subscribed", "got"), [(2, 0, 0), (2, 1, 1), (1, 2, 1), (0, 2, 0)])
    def test_the_qos_is_the_lower_of_the_two(self, published: int, subscribed: int, got: int) -> None:
        world = FreeTopics()
        listener, speaker = world.two()
        listener.listen("a", qos=subscribed)
        speaker.say("a", b"x", published)
        assert listener.heard() == [("a", b"x", got)]

    def test_the_same_filter_again_takes_the_place_of_the_first(self) -> None:
        """MQTT-3.8.4-3"""
        world = FreeTopics()
        listener, speaker = world.two()
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
        one, other = world.two()
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
