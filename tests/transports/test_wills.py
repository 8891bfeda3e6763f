"""Wills: when they are published, to whom, and that it is once (MQTT 3.1.2.5)."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import device, result_of
from mqtt_client import FreeTopics, Mqtt
from rule_world import rules_of
from twisted.internet.defer import Deferred

from rpcbroker.core.ports import CloseReason
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.properties import Property

DAY = 86_400
KEPT = {Property.SESSION_EXPIRY_INTERVAL: DAY}


def kept(level: int) -> dict[str, Any]:
    """What a CONNECT says to have a session that stays, and to go on with it."""
    return {"clean_start": False} | ({"properties": KEPT} if level >= 5 else {})


class TestWills:
    WILL = p.Will("will", b"bye", 1)

    def world(self) -> FreeTopics:
        world = FreeTopics()
        self.listener = world.anonymous("listener").listen("#")
        return world

    def heard(self) -> int:
        """How often the will came since it was asked last."""
        heard = self.listener.heard()
        assert heard == [("will", b"bye", 1)] * len(heard)
        return len(heard)

    @staticmethod
    def delayed(seconds: int, expiry: int) -> dict[str, Any]:
        return {
            "will": p.Will("will", b"bye", 1, properties={Property.WILL_DELAY_INTERVAL: seconds}),
            "properties": {Property.SESSION_EXPIRY_INTERVAL: expiry},
            "clean_start": False,
        }

    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize(
        "end", ["lose", "violate", "keep_alive", "take_over", "second_connect", "send_away", "does_not_read"]
    )
    def test_every_end_but_goodbye_publishes_it_once(self, level: int, end: str) -> None:
        """MQTT-3.1.2-8"""
        world = self.world()
        client = world.client(level).connect(will=self.WILL, keep_alive=10)
        match end:
            case "lose":
                client.lose()
            case "violate":
                client.protocol.dataReceived(b"\x00\x00")
            case "keep_alive":
                world.clock.advance(15.1)
            case "take_over":
                world.client(level).connect()
            case "second_connect":
                client.protocol.dataReceived(encode(p.Connect(level, "c"), level))
            case "send_away":
                world.session().close(CloseReason.CREDENTIALS_CHANGED)
            case "does_not_read":
                client.protocol.pauseProducing()
                world.clock.advance(15.1)
        assert self.heard() == 1
        assert client.closed or end == "lose"
        client.lose()
        world.clock.advance(100)
        assert self.heard() == 0

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_a_goodbye_drops_it(self, level: int) -> None:
        """MQTT-3.14.4-3"""
        world = self.world()
        world.client(level).connect(will=self.WILL, **kept(level)).leave()
        world.clock.advance(8 * DAY)
        assert self.heard() == 0

    def test_a_goodbye_may_ask_for_it(self) -> None:
        world = self.world()
        world.client(5).connect(will=self.WILL).leave(0x04)
        assert self.heard() == 1

    def test_a_goodbye_that_was_wrong_is_none(self) -> None:
        """MQTT 5.0, 4.13: a protocol error ends the connection, and not by a DISCONNECT of the client."""
        world = self.world()
        client = world.client(5).connect(will=self.WILL)
        client.send(p.Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 5}))
        assert self.heard() == 1

    def test_a_refused_client_has_none(self) -> None:
        world = self.world()
        client = world.client(5)
        assert client.enter(username="WRONG", will=self.WILL)[0].code == 0x86
        client.lose()
        assert self.heard() == 0

    def test_it_waits_for_its_delay(self) -> None:
        world = self.world()
        world.client(5).connect(**self.delayed(10, 60)).lose()
        world.clock.advance(9.9)
        assert self.heard() == 0
        world.clock.advance(0.2)
        assert self.heard() == 1
        world.clock.advance(60)
        assert self.heard() == 0

    def test_a_client_that_is_back_in_time_is_not_mourned(self) -> None:
        """MQTT-3.1.3-9"""
        world = self.world()
        world.client(5).connect(**self.delayed(10, 60)).lose()
        world.clock.advance(9)
        back = world.client(5).connect(properties=KEPT, clean_start=False)
        world.clock.advance(60)
        assert self.heard() == 0
        back.leave()
        assert self.heard() == 0, "and the new connection has no will"

    @pytest.mark.parametrize(("delay", "expiry", "after"), [(60, 5, 5), (0xFFFFFFFF, 5, 5), (60, 0, 0), (5, 60, 5)])
    def test_it_comes_with_the_session_s_end_at_the_latest(self, delay: int, expiry: int, after: int) -> None:
        world = self.world()
        world.client(5).connect(**self.delayed(delay, expiry)).lose()
        if after:
            world.clock.advance(after - 0.1)
            assert self.heard() == 0
            world.clock.advance(0.2)
        assert self.heard() == 1

    def test_the_longest_times_do_not_overflow(self) -> None:
        world = self.world()
        world.client(5).connect(**self.delayed(0xFFFFFFFF, 0xFFFFFFFF)).lose()
        world.clock.advance(7 * DAY - 1)
        assert self.heard() == 0
        world.clock.advance(2)
        assert self.heard() == 1

    def test_a_clean_start_ends_the_session_and_so_its_delay(self) -> None:
        world = self.world()
        world.client(5).connect(**self.delayed(10, 60)).lose()
        world.client(5).connect()
        assert self.heard() == 1

    def test_a_takeover_with_a_delay_does_not_publish_it(self) -> None:
        world = self.world()
        world.client(5).connect(**self.delayed(10, 60))
        world.client(5).connect(properties=KEPT, clean_start=False)
        world.clock.advance(100)
        assert self.heard() == 0

    def test_a_session_that_makes_room_for_another_ends_with_its_will(self) -> None:
        world = FreeTopics(max_sessions_per_device=1)
        self.listener = world.anonymous("listener").listen("#")
        world.client(5).connect(client_id="1", **self.delayed(100, 1000)).lose()
        assert self.heard() == 0
        world.client(5).connect(client_id="2", **self.delayed(100, 1000)).lose()
        assert self.heard() == 1

    def test_it_is_retained_if_it_says_so(self) -> None:
        world = self.world()
        world.client(4).connect(will=p.Will("will", b"bye", 1, True)).lose()
        late = world.anonymous("late")
        _, message = late.send(p.Subscribe(1, (p.Subscription("will", 1),)))
        assert (message.payload, message.retain) == (b"bye", True)

    def test_its_properties_are_passed_on_without_the_delay(self) -> None:
        world = self.world()
        passed = {Property.CONTENT_TYPE: "t", Property.USER_PROPERTY: (("a", "1"), ("a", "2"))}
        will = p.Will("will", b"", 0, properties=passed | {Property.WILL_DELAY_INTERVAL: 0})
        world.client(5).connect(will=will).lose()
        (message,) = self.listener.received()
        assert message.properties == passed

    @pytest.mark.parametrize(
        "topic",
        ["v1/devices/me/telemetry", "v1/devices/me/rpc/response/1", "$SYS/x", "v1/gateway/rpc", "/".join("a" * 300)],
    )
    def test_what_may_not_be_published_is_dropped_without_a_word(self, topic: str) -> None:
        world = self.world()
        world.client(5).connect(will=p.Will(topic, b"{}", 1), **kept(5)).lose()
        assert self.heard() == 0
        assert world.client(5).connect(**kept(5)).connack.session_present, "and the session is in order"

    def test_where_there_are_no_free_topics_it_is_accepted_and_dropped(self) -> None:
        world = Mqtt()
        world.client(5).connect(will=self.WILL).lose()
        assert len(world.admission.sessions) == 0

    def test_a_device_s_will_may_be_telemetry(self) -> None:
        world = Mqtt()
        will = p.Will("v1/devices/me/telemetry", b'{"online":false}')
        world.client().connect(will=will).lose()
        latest = result_of(Deferred.fromCoroutine(world.broker.telemetry.latest(world.device.id, ["online"])))
        assert bytes(latest["online"].value) == b"false"

    def test_a_device_s_will_may_be_attributes(self) -> None:
        world = Mqtt()
        world.client().connect(will=p.Will("v1/devices/me/attributes", b'{"online":false}', 1)).lose()
        (kept,) = result_of(world.broker.attributes.read(world.device.id))
        assert (kept.key, bytes(kept.value)) == ("online", b"false")

    def test_a_device_s_will_passes_the_rule_chain(self) -> None:
        world = Mqtt()
        rules = rules_of(world, direct=False)
        for topic in ("telemetry", "attributes"):
            world.client().connect(will=p.Will(f"v1/devices/me/{topic}", b'{"online":false}')).lose()
        assert rules.engine.passed >= 2
        latest = result_of(Deferred.fromCoroutine(world.broker.telemetry.latest(world.device.id, ["online"])))
        assert bytes(latest["online"].value) == b"false"
        (kept,) = result_of(world.broker.attributes.read(world.device.id))
        assert (kept.key, bytes(kept.value)) == ("online", b"false")

    def test_one_with_too_many_levels_is_dropped(self) -> None:
        world = Mqtt(pubsub="tenant", max_topic_levels=2)
        client = world.client().connect(will=p.Will("a/b/c", b"gone"))
        client.lose()
        assert world.admission.connections == 0

    def test_it_obeys_the_rights_of_its_device(self) -> None:
        world = self.world()
        mute = device(101, additional_info={"pubsub": {"publish": ["mine/#"]}})
        world.owned(mute, will=self.WILL).lose()
        assert self.heard() == 0
        world.owned(mute, will=p.Will("mine/x", b"bye", 1)).lose()
        assert self.listener.heard() == [("mine/x", b"bye", 1)]
