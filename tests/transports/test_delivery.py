"""How messages reach one client: windows, queues, sizes, aliases, times; and who is not let in for its keep-alive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import device
from mqtt_client import CALL, TOKEN, Client, FreeTopics, Mqtt

from rpcbroker.core.calls import CallRequest
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.properties import Property

KEPT = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 600}}


def takes(**properties: int) -> dict[str, Any]:
    """What a client says of itself in CONNECT."""
    return {"properties": {Property[name]: value for name, value in properties.items()}}


class Pair:
    """A client that listens to everything, and one that speaks."""

    def __init__(self, world: FreeTopics, *, level: int = 5, qos: int = 2, **connect: Any) -> None:
        self.world = world
        self.listener = world.client(level).connect(**connect).listen("#", qos=qos)
        self.speaker = world.owned(device(101), "speaker")

    def say(self, *payloads: bytes, qos: int = 1, topic: str = "t", **more: Any) -> list[Any]:
        """Publish them in order; what is answered."""
        return [self.speaker.say(topic, payload, qos, **more) for payload in payloads]

    @property
    def drops(self) -> tuple[int, int, int]:
        """Of slow clients, of those that are away, and of what was too large."""
        drops = self.world.admission.around.drops
        return drops.slow, drops.offline, drops.too_large


class TestTheClientsWindow:
    """MQTT-3.3.4-7 to -9, 4.9"""

    @pytest.mark.parametrize("qos", [1, 2])
    def test_no_more_are_in_flight_than_it_takes(self, qos: int) -> None:
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=2))
        numbers = [b"%d" % number for number in range(6)]
        for number, payload in enumerate(numbers, start=1):
            pair.speaker.say("t", payload, qos, number)
            pair.speaker.send(p.PubRel(number))
        came = pair.listener.received()
        assert len(came) == 2
        order = []
        while came:
            message = came.pop(0)
            order.append(message.payload)
            if qos == 1:
                came += pair.listener.send(p.PubAck(message.packet_id))
            else:
                assert pair.listener.send(p.PubRec(message.packet_id)) == [p.PubRel(message.packet_id)], "not over yet"
                came += pair.listener.send(p.PubComp(message.packet_id))
            assert len(came) <= 2
        assert order == numbers

    def test_qos_0_does_not_wait_for_it(self) -> None:
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=1))
        pair.say(b"1", b"2")
        pair.say(b"3", qos=0)
        assert [message.payload for message in pair.listener.received()] == [b"1", b"3"]

    def test_the_server_has_a_window_of_its_own(self) -> None:
        pair = Pair(FreeTopics(max_inflight=2), level=4)
        pair.say(b"1", b"2", b"3")
        assert len(pair.listener.received()) == 2

    def test_acknowledgements_in_any_order_and_twice(self) -> None:
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=3))
        pair.say(*[b"%d" % number for number in range(7)])
        ids = [message.packet_id for message in pair.listener.received()]
        came = pair.listener.send(*[p.PubAck(number) for number in (*reversed(ids), *ids)])
        assert [message.payload for message in came] == [b"3", b"4", b"5"], "each frees its identifier once"

    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("wrong", [p.PubRec(1), p.PubComp(1)])
    def test_an_acknowledgement_of_another_handshake_ends_the_connection(self, level: int, wrong: Any) -> None:
        pair = Pair(FreeTopics(), level=level)
        pair.say(b"1")
        assert pair.listener.received()[0].packet_id == 1
        assert pair.listener.send(wrong) == ([p.Disconnect(0x82)] if level == 5 else [])
        assert pair.listener.closed

    @pytest.mark.parametrize("stray", [p.PubAck(999), p.PubComp(999), p.PubRec(999, 0x80)])
    def test_one_of_nothing_frees_nothing(self, stray: Any) -> None:
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=1))
        pair.say(b"1", b"2")
        (first,) = pair.listener.received()
        assert pair.listener.send(stray) == []
        assert [message.payload for message in pair.listener.send(p.PubAck(first.packet_id))] == [b"2"]

    def test_a_pubrec_of_nothing_is_answered_so_that_it_ends(self) -> None:
        pair = Pair(FreeTopics())
        assert pair.listener.send(p.PubRec(77)) == [p.PubRel(77)]
        assert pair.listener.send(p.PubComp(77)) == []

    def test_a_refused_qos_2_message_is_over(self) -> None:
        """MQTT-4.3.3-4"""
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=1))
        pair.say(b"1", b"2", qos=2)
        pair.speaker.send(p.PubRel(1))
        pair.say(b"2", qos=2)
        (first,) = pair.listener.received()
        (second,) = pair.listener.send(p.PubRec(first.packet_id, 0x97))
        assert second.payload == b"2"

    def test_calls_and_messages_share_the_window_and_the_calls_are_not_forgotten(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(**takes(RECEIVE_MAXIMUM=1)).subscribe().listen("#")
        other = world.owned(device(101))
        other.say("t", b"1", 1)
        world.call(CALL).addErrback(lambda _: None)
        other.say("t", b"2", 1)
        order, came = [], client.received()
        while came:
            (message,) = came
            order.append(message.topic)
            came = client.send(p.PubAck(message.packet_id))
        assert order == ["t", "t", "v1/devices/me/rpc/request/1"]


class TestTheServersWindow:
    def test_it_is_told_and_enforced(self) -> None:
        client = FreeTopics(receive_maximum=2).client(5).connect()
        assert client.connack.properties[Property.RECEIVE_MAXIMUM] == 2
        assert client.say("t", b"", 2, 1) == [p.PubRec(1, 0x10)]
        assert client.say("t", b"", 2, 2) == [p.PubRec(2, 0x10)]
        assert client.say("t", b"", 2, 3) == [p.Disconnect(0x93)]
        assert client.closed

    def test_what_is_finished_makes_room(self) -> None:
        client = FreeTopics(receive_maximum=1).client(5).connect()
        for _ in range(3):
            assert client.say("t", b"", 2, 1) == [p.PubRec(1, 0x10)]
            assert client.send(p.PubRel(1)) == [p.PubComp(1)]
            assert client.say("t", b"", 1, 1) == [p.PubAck(1, 0x10)]

    @pytest.mark.parametrize("level", [3, 4])
    def test_version_3_is_closed_at_its_own_limit(self, level: int) -> None:
        client = FreeTopics(receive_maximum=1, max_unfinished=3).client(level).connect()
        for number in (1, 2, 3):
            assert client.say("t", b"", 2, number) == [p.PubRec(number)]
        assert client.say("t", b"", 2, 4) == []
        assert client.closed


class TestQueues:
    def test_who_is_away_is_kept_a_queue_of_so_many(self) -> None:
        pair = Pair(FreeTopics(max_queued_messages=2), **KEPT)
        pair.listener.lose()
        pair.say(b"1", b"2", b"3")
        pair.say(b"4", qos=0)
        assert pair.drops == (0, 1, 0)
        _, *came = pair.world.client(5).enter(**KEPT)
        assert [message.payload for message in came] == [b"1", b"2"], "the newest are dropped"

    def test_and_of_so_many_bytes(self) -> None:
        pair = Pair(FreeTopics(max_queued_size=100), **KEPT)
        pair.listener.lose()
        pair.say(b"x" * 60, b"y" * 60, b"z" * 30)
        assert pair.drops == (0, 1, 0)
        _, *came = pair.world.client(5).enter(**KEPT)
        assert [message.payload[:1] for message in came] == [b"x", b"z"]

    def test_properties_are_bytes_as_well(self) -> None:
        pair = Pair(FreeTopics(max_queued_size=1_200), **KEPT)
        pair.listener.lose()
        for topic, size in (("t/1", 600), ("t/2", 600), ("t/3", 10)):
            pair.speaker.say(topic, b"x", 1, properties={Property.USER_PROPERTY: (("k", "v" * size),)})
        assert pair.drops == (0, 1, 0)
        _, *came = pair.world.client(5).enter(**KEPT)
        assert [message.topic for message in came] == ["t/1", "t/3"]

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_who_does_not_acknowledge_is_closed_when_its_queue_is_full(self, level: int) -> None:
        kept = KEPT if level == 5 else {"clean_start": False}
        pair = Pair(FreeTopics(max_inflight=1, max_queued_messages=2), level=level, **kept)
        pair.say(b"1", b"2", b"3")
        assert len(pair.listener.received()) == 1
        assert not pair.listener.closed
        assert pair.say(b"4") == [[p.PubAck(1)]], "it is not the speaker's fault"
        assert pair.listener.received() == ([p.Disconnect(0x97)] if level == 5 else [])
        assert pair.listener.closed
        _, *came = pair.world.client(level).enter(**kept)
        assert [(message.payload, message.dup) for message in came] == [(b"1", True)], "and the session goes on"

    def test_a_slow_reader_is_dropped_qos_0_and_kept_qos_1(self) -> None:
        pair = Pair(FreeTopics(max_queued_messages=2, max_queued_size=100))
        for _ in range(2):
            pair.listener.protocol.pauseProducing()
            pair.say(b"x" * 60, b"y" * 60, b"z" * 60, qos=0)
            pair.say(b"3", b"4")
            assert [message.payload[:1] for message in pair.listener.received()] == [b"x"], "a burst is no slowness"
            pair.listener.protocol.resumeProducing()
            kept = pair.listener.received()
            assert [message.payload for message in kept] == [b"3", b"4"]
        assert pair.drops == (4, 0, 0)

    def test_that_twisted_pauses_again_at_each_write_does_not_lift_the_bound(self) -> None:
        pair = Pair(FreeTopics(max_queued_size=100))
        pair.listener.protocol.pauseProducing()
        for _ in range(50):
            pair.say(b"x" * 60, qos=0)
            pair.listener.protocol.pauseProducing()
        assert len(pair.listener.received()) == 1
        assert pair.drops == (49, 0, 0)

    def test_until_its_queue_is_full_or_its_time_is_up(self) -> None:
        pair = Pair(FreeTopics(max_queued_messages=2, write_timeout=30))
        pair.listener.protocol.pauseProducing()
        pair.say(b"1", b"2", b"3")
        assert pair.listener.received() == [p.Disconnect(0x97)]
        assert pair.listener.closed
        pair = Pair(FreeTopics(write_timeout=30))
        pair.listener.protocol.pauseProducing()
        pair.world.clock.advance(30.1)
        assert pair.listener.wire.aborted

    def test_a_slow_reader_costs_the_others_nothing(self) -> None:
        pair = Pair(FreeTopics())
        other = pair.world.anonymous("other").listen("t")
        pair.listener.protocol.pauseProducing()
        pair.say(*[b"x"] * 200, qos=0)
        assert len(other.received()) == 200

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_a_thousand_returns_without_an_acknowledgement_grow_nothing(self, level: int) -> None:
        """MQTT-4.4.0-1, 4.6: in order, with DUP, under the same identifiers."""
        kept = KEPT if level == 5 else {"clean_start": False}
        pair = Pair(FreeTopics(max_inflight=3, connect_rate=()), level=level, **kept)
        numbers = [b"%d" % number for number in range(5)]
        pair.say(*numbers)
        first = pair.listener.received()
        assert [message.payload for message in first] == numbers[:3]
        for _ in range(50):
            pair.listener.lose()
            pair.listener = pair.world.client(level)
            _, *again = pair.listener.enter(**kept)
            assert again == [replace(message, dup=True) for message in first]
        for message in again:
            pair.listener.protocol.dataReceived(encode(p.PubAck(message.packet_id), level))
        assert [(message.payload, message.dup) for message in pair.listener.received()] == [
            (b"3", False),
            (b"4", False),
        ]

    def test_qos_2_goes_on_where_it_was(self) -> None:
        pair = Pair(FreeTopics(), **KEPT)
        pair.say(b"1", qos=2)
        pair.speaker.say("t", b"2", 2, 2)
        one, two = pair.listener.received()
        assert pair.listener.send(p.PubRec(one.packet_id)) == [p.PubRel(one.packet_id)]
        pair.listener.lose()
        back = pair.world.client(5)
        _, *again = back.enter(**KEPT)
        assert again == [p.PubRel(one.packet_id), replace(two, dup=True)]
        assert back.send(p.PubComp(one.packet_id), p.PubRec(two.packet_id)) == [p.PubRel(two.packet_id)]
        assert back.send(p.PubComp(two.packet_id)) == []

    def test_unsubscribing_lets_what_is_in_flight_end_well(self) -> None:
        pair = Pair(FreeTopics())
        pair.say(b"1", qos=2)
        (message,) = pair.listener.received()
        assert pair.listener.send(p.Unsubscribe(5, ("#",))) == [p.UnsubAck(5, (0,))]
        assert pair.listener.send(p.PubRec(message.packet_id)) == [p.PubRel(message.packet_id)]
        assert pair.say(b"2", qos=1) == [[p.PubAck(1, 0x10)]]


class TestSizes:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_what_is_too_large_for_the_client_is_dropped_and_counted(self, qos: int) -> None:
        """MQTT-3.1.2-24, -25: never truncated, and as if it had been sent."""
        pair = Pair(FreeTopics(), **takes(MAXIMUM_PACKET_SIZE=60, RECEIVE_MAXIMUM=1))
        fits = 60 - len(encode(p.Publish("t", b"", qos, 1 if qos else None), 5))
        pair.speaker.say("t", b"x" * (fits + 1), qos, 1)
        pair.speaker.say("t", b"y" * fits, qos, 2)
        (message,) = pair.listener.received()
        assert message.payload == b"y" * fits
        assert pair.drops == (0, 0, 1)

    def test_of_many_retained_ones_those_that_fit_come(self) -> None:
        world = FreeTopics()
        speaker = world.owned(device(101))
        for number, size in enumerate((10, 500, 10)):
            speaker.say(f"a/{number}", b"x" * size, 1, retain=True)
        client = world.client(5).connect(**takes(MAXIMUM_PACKET_SIZE=100))
        _, *came = client.send(p.Subscribe(1, (p.Subscription("#", 1),)))
        assert sorted(message.topic for message in came) == ["a/0", "a/2"]

    def test_the_server_s_own_limit_is_exact(self) -> None:
        """MQTT 5.0, 3.2.2.3.6"""
        for extra, ends in ((0, False), (1, True)):
            client = FreeTopics(max_packet_size=1000).client(5).connect()
            assert client.connack.properties[Property.MAXIMUM_PACKET_SIZE] == 1000
            payload = b"x" * (1000 - len(encode(p.Publish("t", b"x" * 900), 5)) + 900 + extra)
            assert client.say("t", payload) == ([p.Disconnect(0x95)] if ends else [])
            assert client.closed is ends

    def test_reasons_are_left_out_where_they_do_not_fit(self) -> None:
        """MQTT-3.4.2-2"""
        for size, reasons in ((40, 0), (1000, 1)):
            client = Mqtt().client(5).connect(**takes(MAXIMUM_PACKET_SIZE=size))
            assert client.say("v1/devices/me/rpc/response/x", b"{}", 1) == [p.PubAck(1, 0x99)]
            assert len(client.reasons) == reasons

    def test_and_where_they_are_not_wanted(self) -> None:
        """MQTT-3.1.2-29: only CONNACK and DISCONNECT may still have one."""
        client = FreeTopics().client(5).connect(**takes(REQUEST_PROBLEM_INFORMATION=0))
        assert client.say("v1/devices/me/telemetry", b"{", 1) == [p.PubAck(1, 0x99)]
        assert client.send(p.Subscribe(1, (p.Subscription("v1/devices/x/y", 1),))) == [p.SubAck(1, (0x87,))]
        assert client.reasons == []
        assert client.send(p.Connect(5, "c")) == [p.Disconnect(0x82)]
        assert len(client.reasons) == 1


class TestAliases:
    """MQTT 5.0, 3.3.2.3.4"""

    def test_those_that_the_client_takes_save_the_topic(self) -> None:
        pair = Pair(FreeTopics(), **takes(TOPIC_ALIAS_MAXIMUM=2))
        topics = ["a/long/topic", "a/long/topic", "b", "c", "b", "a/long/topic", "c"]
        for topic in topics:
            pair.say(b"x", topic=topic)
        found = [(one.topic, one.properties.get(Property.TOPIC_ALIAS)) for one in pair.listener.received()]
        assert found == [("a/long/topic", 1), ("", 1), ("b", 2), ("c", None), ("", 2), ("", 1), ("c", None)]

    def test_who_takes_none_is_given_none(self) -> None:
        pair = Pair(FreeTopics())
        pair.say(b"1", b"2")
        assert all(Property.TOPIC_ALIAS not in message.properties for message in pair.listener.received())

    def test_one_in_a_packet_that_was_too_large_was_not_told(self) -> None:
        pair = Pair(FreeTopics(), **takes(TOPIC_ALIAS_MAXIMUM=1, MAXIMUM_PACKET_SIZE=60))
        pair.say(b"x" * 100, topic="large")
        pair.say(b"x", b"y", topic="small")
        assert [message.topic for message in pair.listener.received()] == ["small", ""]

    def test_calls_are_on_topics_of_their_own(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(**takes(TOPIC_ALIAS_MAXIMUM=10)).subscribe()
        world.call(CALL).addErrback(lambda _: None)
        (request,) = client.received()
        assert request.topic == "v1/devices/me/rpc/request/1"

    def test_the_server_takes_as_many_as_it_says(self) -> None:
        world = FreeTopics(topic_alias_maximum=2)
        listener = world.anonymous("l").listen("#")
        client = world.client(5).connect()
        assert client.connack.properties[Property.TOPIC_ALIAS_MAXIMUM] == 2
        for topic, alias in (("a", 1), ("b", 2), ("", 1), ("c", 1), ("", 1), ("", 2)):
            client.say(topic, properties={Property.TOPIC_ALIAS: alias})
        assert [topic for topic, *_ in listener.heard()] == ["a", "b", "a", "c", "c", "b"]
        assert client.say("d", properties={Property.TOPIC_ALIAS: 3}) == [p.Disconnect(0x94)]

    def test_they_end_with_the_connection(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(**KEPT)
        client.say("a", properties={Property.TOPIC_ALIAS: 1})
        client.lose()
        client = world.client(5).connect(**KEPT)
        assert client.say("", properties={Property.TOPIC_ALIAS: 1}) == [p.Disconnect(0x94)]

    def test_one_is_not_passed_on(self) -> None:
        pair = Pair(FreeTopics())
        pair.say(b"x", properties={Property.TOPIC_ALIAS: 1})
        assert pair.listener.received()[0].properties == {}

    def test_a_call_may_be_answered_by_one(self) -> None:
        world = Mqtt()
        client = world.client(5).connect().subscribe()
        waiting = world.call(CallRequest(method="x", timeout=60))
        client.say("v1/devices/me/rpc/response/1", b"1", properties={Property.TOPIC_ALIAS: 1})
        assert waiting.called

    def test_what_is_sent_again_has_its_name(self) -> None:
        kept = {"clean_start": False, **takes(SESSION_EXPIRY_INTERVAL=60, TOPIC_ALIAS_MAXIMUM=1)}
        pair = Pair(FreeTopics(), **kept)
        pair.say(b"1", b"2")
        pair.listener.lose()
        _, *again = pair.world.client(5).enter(**kept)
        assert [message.topic for message in again] == ["t", ""]


class TestExpiry:
    """MQTT-3.3.2-5, -6"""

    @pytest.mark.parametrize(("interval", "waited", "left"), [(10, 4, 6), (10, 0, 10), (10, 10, None), (0, 0, None)])
    def test_what_waits_for_a_client_that_is_away(self, interval: int, waited: int, left: int | None) -> None:
        pair = Pair(FreeTopics(), **KEPT)
        pair.listener.lose()
        pair.say(b"x", properties={Property.MESSAGE_EXPIRY_INTERVAL: interval})
        pair.world.clock.advance(waited)
        _, *came = pair.world.client(5).enter(**KEPT)
        assert [message.properties for message in came] == (
            [] if left is None else [{Property.MESSAGE_EXPIRY_INTERVAL: left}]
        )

    def test_what_waits_for_its_turn(self) -> None:
        pair = Pair(FreeTopics(), **takes(RECEIVE_MAXIMUM=1))
        pair.say(b"1")
        pair.say(b"2", properties={Property.MESSAGE_EXPIRY_INTERVAL: 5})
        pair.say(b"3", properties={Property.MESSAGE_EXPIRY_INTERVAL: 60})
        (first,) = pair.listener.received()
        pair.world.clock.advance(10)
        (third,) = pair.listener.send(p.PubAck(first.packet_id))
        assert (third.payload, third.properties) == (b"3", {Property.MESSAGE_EXPIRY_INTERVAL: 50})

    def test_the_longest_does_not_overflow(self) -> None:
        pair = Pair(FreeTopics())
        pair.say(b"x", properties={Property.MESSAGE_EXPIRY_INTERVAL: 0xFFFFFFFF})
        assert pair.listener.received()[0].properties == {Property.MESSAGE_EXPIRY_INTERVAL: 0xFFFFFFFF}

    def test_a_version_3_client_is_not_told_but_it_holds(self) -> None:
        pair = Pair(FreeTopics(), level=4, clean_start=False)
        pair.listener.lose()
        pair.say(b"1", properties={Property.MESSAGE_EXPIRY_INTERVAL: 5})
        pair.say(b"2", properties={Property.MESSAGE_EXPIRY_INTERVAL: 50})
        pair.world.clock.advance(10)
        _, *came = pair.world.client(4).enter(clean_start=False)
        assert [message.payload for message in came] == [b"2"]


def test_properties_are_passed_on_in_order_and_unchanged() -> None:
    """MQTT-3.3.2-17 and its like"""
    pair = Pair(FreeTopics())
    given = {
        Property.PAYLOAD_FORMAT_INDICATOR: 1,
        Property.CONTENT_TYPE: "text/plain",
        Property.RESPONSE_TOPIC: "answers/1",
        Property.CORRELATION_DATA: bytes(range(256)),
        Property.USER_PROPERTY: (("b", "2"), ("a", "1"), ("b", "2"), ("", "")),
    }
    pair.say(b"x", properties=given)
    assert pair.listener.received()[0].properties == given


@pytest.mark.parametrize(("from_level", "to_level"), [(3, 5), (4, 5), (5, 3), (5, 4)])
def test_versions_understand_each_other(from_level: int, to_level: int) -> None:
    world = FreeTopics()
    listener = world.client(to_level).connect().listen("a")
    properties = {Property.CONTENT_TYPE: "x"} if from_level == 5 else {}
    world.owned(device(101), level=from_level).say("a", b"\x00\xff", 1, properties=properties)
    (message,) = listener.received()
    assert (message.payload, message.properties) == (b"\x00\xff", {})


class TestKeepAlive:
    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("seconds", [1, 10, 0xFFFF])
    def test_one_and_a_half_times(self, level: int, seconds: int) -> None:
        """MQTT-3.1.2-24"""
        world = Mqtt()
        client = world.client(level).connect(keep_alive=seconds)
        world.clock.advance(1.5 * seconds - 0.1)
        assert not client.closed
        world.clock.advance(0.2)
        assert client.received() == ([p.Disconnect(0x8D)] if level == 5 else [])
        assert client.closed

    @pytest.mark.parametrize(
        "packet", [p.PingReq(), p.Publish("v1/devices/me/telemetry", b"{}"), p.PubAck(9), p.Unsubscribe(1, ("a",))]
    )
    def test_any_packet_counts(self, packet: p.Packet) -> None:
        world = Mqtt()
        client = world.client().connect(keep_alive=10)
        for _ in range(5):
            world.clock.advance(14)
            client.send(packet)
            assert not client.closed

    def test_what_the_server_sends_does_not(self) -> None:
        pair = Pair(FreeTopics(), keep_alive=10)
        for _ in range(3):
            pair.world.clock.advance(4)
            pair.say(b"x", qos=0)
        pair.world.clock.advance(4)
        assert pair.listener.received()[-1] == p.Disconnect(0x8D)

    def test_none_is_for_ever(self) -> None:
        world = Mqtt()
        client = world.client().connect(keep_alive=0)
        world.clock.advance(1e7)
        assert not client.closed

    @pytest.mark.parametrize(("asked", "told", "lasts"), [(0, 60, 90), (61, 60, 90), (60, None, 90), (10, None, 15)])
    def test_the_server_may_want_a_shorter_one(self, asked: int, told: int | None, lasts: float) -> None:
        """MQTT-3.2.2-21"""
        world = Mqtt(max_keep_alive=60)
        client = world.client(5).connect(keep_alive=asked)
        assert client.connack.properties.get(Property.SERVER_KEEP_ALIVE) == told
        world.clock.advance(lasts - 0.1)
        assert not client.closed
        world.clock.advance(0.2)
        assert client.closed

    @pytest.mark.parametrize("level", [3, 4])
    @pytest.mark.parametrize(("asked", "code"), [(0, 2), (61, 2), (60, 0), (1, 0)])
    def test_version_3_cannot_be_told_and_is_refused(self, level: int, asked: int, code: int) -> None:
        client: Client = Mqtt(max_keep_alive=60).client(level)
        assert client.send(p.Connect(level, "c", username=TOKEN, keep_alive=asked)) == [p.ConnAck(False, code)]
        assert client.closed is bool(code)
