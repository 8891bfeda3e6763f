"""What is kept of an MQTT client that is away, whose it is, and what is published when it is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import OTHER_TENANT, device, error_of, result_of
from mqtt_client import CALL, TOKEN, Client, FreeTopics, Mqtt
from twisted.internet.defer import Deferred

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.errors import Reason
from rpcbroker.core.ports import CloseReason
from rpcbroker.transports.dialect import RPC_REQUEST_FILTER
from rpcbroker.transports.mqtt.device import MqttLink
from rpcbroker.transports.mqtt.session import QueueLimits
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.message import Message
from rpcbroker.wire.mqtt.outbox import Delivery, Outbox
from rpcbroker.wire.mqtt.properties import Property

DAY = 86_400
KEPT = {Property.SESSION_EXPIRY_INTERVAL: DAY}


def kept(level: int) -> dict[str, Any]:
    """What a CONNECT says to have a session that stays, and to go on with it."""
    return {"clean_start": False} | ({"properties": KEPT} if level >= 5 else {})


class TestPresent:
    """MQTT-3.2.2-2, MQTT-3.2.2-3: the client is told the truth."""

    @pytest.mark.parametrize("level", [4, 5])
    def test_a_session_that_was_kept_is_there(self, level: int) -> None:
        world = FreeTopics()
        first = world.client(level).connect(**kept(level)).listen("a")
        assert not first.connack.session_present
        first.lose()
        other = world.anonymous("other")
        other.say("a", b"1", 1)
        other.say("a", b"2", 0)
        connack, *messages = world.client(level).enter(**kept(level))
        assert connack.session_present
        assert [(one.payload, one.qos, one.dup) for one in messages] == [(b"1", 1, False)], "QoS 0 is not kept"

    def test_version_3_1_is_not_told(self) -> None:
        world = FreeTopics()
        world.client(3).connect(**kept(3)).listen("a").lose()
        world.anonymous("other").say("a", b"1", 1)
        connack, message = world.client(3).enter(**kept(3))
        assert connack == p.ConnAck(False, 0)
        assert message.payload == b"1"

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_a_clean_start_begins_anew(self, level: int) -> None:
        world = FreeTopics()
        world.client(level).connect(**kept(level)).listen("a").lose()
        other = world.anonymous("other")
        other.say("a", b"1", 1)
        again = world.client(level).connect()
        assert not again.connack.session_present
        other.say("a", b"2", 1)
        assert again.received() == []
        again.lose()
        assert not world.client(level).connect(**kept(level)).connack.session_present, "nor does it leave anything"

    def test_version_5_keeps_nothing_unless_it_asks(self) -> None:
        world = FreeTopics()
        world.client(5).connect(clean_start=False).lose()
        assert not world.client(5).connect(clean_start=False).connack.session_present

    @pytest.mark.parametrize(("away", "present"), [(9.5, True), (10.5, False)])
    def test_it_is_kept_for_as_long_as_was_asked(self, away: float, present: bool) -> None:
        world = FreeTopics()
        wish = {"clean_start": False, "properties": {Property.SESSION_EXPIRY_INTERVAL: 10}}
        world.client(5).connect(**wish).lose()
        world.clock.advance(away)
        again = world.client(5).connect(**wish)
        assert again.connack.session_present is present
        world.clock.advance(100)
        assert not again.closed, "the time counts while the client is away"
        assert len(world.admission.sessions) == 1

    @pytest.mark.parametrize(("asked", "told"), [(5, None), (60, None), (61, 60), (0xFFFFFFFF, 60)])
    def test_a_longer_wish_is_cut_and_the_client_told(self, asked: int, told: int | None) -> None:
        """MQTT 5.0, 3.2.2.3.2"""
        world = FreeTopics(max_session_expiry=60)
        client = world.client(5).connect(properties={Property.SESSION_EXPIRY_INTERVAL: asked})
        assert client.connack.properties.get(Property.SESSION_EXPIRY_INTERVAL) == told
        client.lose()
        world.clock.advance(60.1)
        assert len(world.admission.sessions) == 0

    @pytest.mark.parametrize(("expiry", "left"), [(0, 0), (30, 1)])
    def test_a_disconnect_may_change_it(self, expiry: int, left: int) -> None:
        world = FreeTopics()
        world.client(5).connect(**kept(5)).leave(SESSION_EXPIRY_INTERVAL=expiry)
        world.clock.advance(29)
        assert len(world.admission.sessions) == left
        world.clock.advance(2)
        assert len(world.admission.sessions) == 0

    def test_but_not_from_nothing(self) -> None:
        """MQTT 5.0, 3.14.2.2.2"""
        client = FreeTopics().client(5).connect()
        later = p.Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 1})
        assert client.send(later) == [p.Disconnect(0x82)]
        assert client.closed

    def test_a_connection_that_lasts_longer_than_its_session_s_expiry_is_not_disturbed(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(properties={Property.SESSION_EXPIRY_INTERVAL: 1}).listen("a")
        world.clock.advance(60)
        world.anonymous("other").say("a")
        assert len(client.received()) == 1


class TestOwners:
    def test_a_session_is_never_handed_to_another_owner(self) -> None:
        world = FreeTopics()
        world.client(5).connect(**kept(5)).listen("a").lose()
        speaker = world.anonymous("speaker")
        speaker.say("a", b"secret", 1)
        for steal in (
            lambda: world.owned(device(101), "c", **kept(5)),
            lambda: world.anonymous("c", **kept(5)),
        ):
            thief = steal()
            assert not thief.connack.session_present
            speaker.say("a", b"another", 1)
            assert thief.received() == []
            thief.lose()

    def test_another_tenant_has_client_ids_of_its_own(self) -> None:
        world = FreeTopics()
        world.client(5).connect(**kept(5)).lose()
        foreign = world.owned(device(201, tenant=OTHER_TENANT), "c", **kept(5))
        assert not foreign.connack.session_present
        assert world.client(5).connect(**kept(5)).connack.session_present
        assert not foreign.closed

    def test_devices_that_all_use_one_client_id_may_have_one_each(self) -> None:
        world = FreeTopics(client_ids="device")
        mine = world.client(5).connect(**kept(5))
        other = world.owned(device(101), "c", **kept(5))
        assert not mine.closed
        for client in (mine, other):
            client.lose()
        assert world.client(5).connect(**kept(5)).connack.session_present
        assert world.owned(device(101), "c", **kept(5)).connack.session_present

    def test_one_device_has_a_few_sessions_and_the_one_that_left_first_goes_first(self) -> None:
        world = FreeTopics(max_sessions_per_device=2)
        for name in ("1", "2", "3"):
            world.client(5).connect(client_id=name, **kept(5)).lose()
        present = {
            name: world.client(5).connect(client_id=name, **kept(5)).connack.session_present for name in ("2", "3", "1")
        }
        assert present == {"1": False, "2": True, "3": True}

    def test_clients_without_credentials_have_a_limit_together(self) -> None:
        world = FreeTopics(max_anonymous_sessions=2)
        for name in ("1", "2", "3"):
            world.anonymous(name, **kept(5)).lose()
        assert len(world.admission.sessions) == 2
        assert not world.anonymous("1", **kept(5)).connack.session_present

    def test_a_device_that_is_deleted_leaves_nothing(self) -> None:
        world = FreeTopics()
        world.client(5).connect(**kept(5)).listen("a").lose()
        world.admission.sessions.end_all_of(world.device.id)
        assert len(world.admission.sessions) == 0
        assert world.anonymous("other").say("a", b"1", 1) == [p.PubAck(1, 0x10)], "nobody listens any more"

    @pytest.mark.parametrize("reason", [CloseReason.CREDENTIALS_CHANGED, CloseReason.DEVICE_DELETED])
    def test_nor_does_one_that_is_sent_away_for_good(self, reason: CloseReason) -> None:
        world = FreeTopics()
        world.client(5).connect(**kept(5))
        world.session().close(reason)
        assert len(world.admission.sessions) == 0

    def test_a_restart_is_no_reason_to_forget(self) -> None:
        world = FreeTopics()
        client = world.client(5).connect(**kept(5))
        world.session().close(CloseReason.SHUTTING_DOWN)
        assert client.received() == [p.Disconnect(0x8B)]
        assert len(world.admission.sessions) == 1


class TestTakeover:
    """MQTT-3.1.4-3"""

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_the_older_connection_is_closed_and_the_session_goes_on(self, level: int) -> None:
        world = FreeTopics()
        older = world.client(level).connect(**kept(level)).listen("a")
        newer = world.client(level).connect(**kept(level))
        assert newer.connack.session_present is (level > 3)
        assert older.received() == ([p.Disconnect(0x8E)] if level == 5 else [])
        assert older.closed
        older.lose()
        world.anonymous("other").say("a")
        assert [type(packet) for packet in newer.received()] == [p.Publish]
        assert older.received() == []

    def test_a_storm_of_takeovers_leaves_one_owner_and_one_session(self) -> None:
        world = FreeTopics(connect_rate=())
        connected: list[Client] = []
        for _ in range(200):
            connected.append(world.client(5).connect(**kept(5)))
        assert [client.closed for client in connected] == [True] * 199 + [False]
        for client in connected[:-1]:
            assert client.received() == [p.Disconnect(0x8E)]
            client.lose()
        assert not connected[-1].closed
        assert (len(world.admission.sessions), world.admission.connections) == (1, 1)

    def test_what_the_older_one_still_says_is_not_heard(self) -> None:
        world = FreeTopics()
        older = world.client(5).connect()
        listener = world.anonymous("l").listen("#")
        world.client(5).connect()
        older.protocol.dataReceived(encode(p.Publish("a", b"late"), 5))
        assert listener.received() == []

    def test_a_device_with_another_client_id_drops_the_connection_but_not_the_session(self) -> None:
        """The rule of one connection for each device comes on top."""
        world = FreeTopics()
        older = world.client(5).connect(client_id="one", **kept(5))
        newer = world.client(5).connect(client_id="two", **kept(5))
        assert (older.closed, newer.closed) == (True, False)
        assert world.client(5).connect(client_id="one", **kept(5)).connack.session_present

    def test_a_client_may_take_over_inside_its_own_message(self) -> None:
        """Its will goes to itself, for it listens, while the new connection takes its place."""
        world = FreeTopics()
        will = p.Will("a", b"gone", 1)
        world.client(5).connect(will=will, **kept(5)).listen("a")
        connack, message = world.client(5).enter(**kept(5))
        assert connack.session_present
        assert (message.topic, message.payload) == ("a", b"gone")


def test_qos_2_is_acted_on_once_although_the_connection_was_lost_between() -> None:
    """MQTT-4.3.3-10"""
    world = FreeTopics()
    listener = world.anonymous("l").listen("a")
    sender = world.client(4).connect(**kept(4))
    message = p.Publish("a", b"once", 2, 7)
    assert sender.send(message) == [p.PubRec(7)]
    sender.lose()
    again = world.client(4).connect(**kept(4))
    assert again.send(replace(message, dup=True)) == [p.PubRec(7)]
    assert again.send(p.PubRel(7)) == [p.PubComp(7)]
    assert listener.heard() == [("a", b"once", 2)]
    assert again.send(message) == [p.PubRec(7)]
    assert listener.heard() == [("a", b"once", 2)], "after PUBCOMP the identifier is for another message"


def test_nor_is_one_that_was_still_being_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = FreeTopics()
    sender = world.client(4).connect(**kept(4))
    working: list[Deferred[int]] = []

    def work(face: MqttLink, topic: str, payload: bytes) -> Deferred[int]:
        working.append(Deferred())
        return working[-1]

    monkeypatch.setattr(MqttLink, "publish", work)
    message = p.Publish("v1/devices/me/telemetry", b"{}", 2, 7)
    assert sender.send(message) == []
    sender.lose()
    again = world.client(4).connect(**kept(4))
    assert again.send(replace(message, dup=True)) == [p.PubRec(7)]
    assert len(working) == 1
    working[0].callback(0)
    assert again.received() == []


class TestCallsOnResumedSessions:
    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_an_unacknowledged_call_comes_again_as_it_was_and_once(self, level: int) -> None:
        world = Mqtt()
        client = world.client(level).connect(**kept(level)).subscribe()
        waiting = world.call(CALL)
        (first,) = client.received()
        client.lose()
        back = world.client(level)
        _, again = back.enter(**kept(level))
        assert again == replace(first, dup=True), "the same packet id, and the same wire id in the topic"
        assert back.send(p.Subscribe(2, (p.Subscription(RPC_REQUEST_FILTER, 1),))) == [p.SubAck(2, (1,))]
        back.send(p.PubAck(again.packet_id), p.Publish("v1/devices/me/rpc/response/1", b"true"))
        assert result_of(waiting).payload == b"true"
        back.lose()
        assert world.client(level).enter(**kept(level))[1:] == []

    def test_one_that_was_acknowledged_does_not_come_again(self) -> None:
        world = Mqtt()
        client = world.client().connect(**kept(4)).subscribe()
        waiting = world.call(CALL)
        (first,) = client.received()
        client.send(p.PubAck(first.packet_id))
        client.lose()
        back = world.client().connect(**kept(4))
        back.say("v1/devices/me/rpc/response/1", b"1")
        assert result_of(waiting).payload == b"1", "but the reply is awaited"

    def test_one_that_ended_meanwhile_does_not_come_again(self) -> None:
        world = Mqtt()
        client = world.client().connect(**kept(4)).subscribe()
        calls = [world.call(CallRequest(method="x", timeout=5 + 55 * number)) for number in range(2)]
        for call in calls:
            call.addErrback(lambda _: None)
        _, second = client.received()
        client.lose()
        world.clock.advance(6)
        _, again = world.client().enter(**kept(4))
        assert again == replace(second, dup=True)

    def test_it_is_overdue_from_when_it_was_sent_last(self) -> None:
        world = Mqtt(ack_timeout=10)
        client = world.client().connect(**kept(4)).subscribe()
        waiting = world.call(CallRequest(method="x", timeout=60, retries=0))
        waiting.addErrback(lambda _: None)
        client.lose()
        world.clock.advance(20)
        assert not waiting.called, "nobody was there to acknowledge it"
        world.client().enter(**kept(4))
        world.clock.advance(9.9)
        assert not waiting.called
        world.clock.advance(0.2)
        assert waiting.called

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_the_device_can_be_called_at_once(self, level: int) -> None:
        world = Mqtt()
        world.client(level).connect(**kept(level)).subscribe().lose()
        assert not world.session().presence.callable.value
        back = world.client(level).connect(**kept(level))
        assert world.session().presence.callable.value
        waiting = world.call(CallRequest(method="x", connect_timeout=0))
        assert len(back.received()) == 1
        back.say("v1/devices/me/rpc/response/1", b"1")
        assert result_of(waiting).payload == b"1"

    def test_a_call_that_waited_comes_after_what_is_sent_again(self) -> None:
        world = Mqtt()
        client = world.client().connect(**kept(4)).subscribe()
        world.call(CALL).addErrback(lambda _: None)
        client.received()
        client.lose()
        world.call(CALL).addErrback(lambda _: None)
        _, again, new = world.client().enter(**kept(4))
        assert [(one.topic[-1], one.dup) for one in (again, new)] == [("1", True), ("2", False)]

    def test_a_filter_that_was_given_up_is_not_resumed(self) -> None:
        world = Mqtt()
        client = world.client().connect(**kept(4)).subscribe()
        client.send(p.Unsubscribe(2, (RPC_REQUEST_FILTER,)))
        client.lose()
        world.client().connect(**kept(4))
        assert not world.session().presence.callable.value

    def test_a_client_that_takes_less_now_is_given_them_one_by_one(self) -> None:
        """MQTT-3.3.4-9 holds for what is sent again, too."""
        world = Mqtt()
        client = world.client(5).connect(**kept(5)).subscribe()
        for _ in range(4):
            world.call(CALL).addErrback(lambda _: None)
        client.received()
        client.lose()
        back = world.client(5)
        less = {"clean_start": False, "properties": KEPT | {Property.RECEIVE_MAXIMUM: 1}}
        _, *came = back.enter(**less)
        world.call(CALL).addErrback(lambda _: None)
        order = []
        while came:
            (message,) = came
            order.append((message.topic[-1], message.dup))
            came = back.send(p.PubAck(message.packet_id))
        assert order == [("1", True), ("2", True), ("3", True), ("4", True), ("5", False)]

    def test_one_that_ends_while_it_waits_to_be_sent_again_is_passed_over(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(**kept(5)).subscribe()
        calls = [world.call(CallRequest(method="x", timeout=60)) for _ in range(3)]
        for call in calls:
            call.addErrback(lambda _: None)
        client.received()
        client.lose()
        back = world.client(5)
        _, first = back.enter(clean_start=False, properties=KEPT | {Property.RECEIVE_MAXIMUM: 1})
        calls[1].cancel()
        (third,) = back.send(p.PubAck(first.packet_id))
        assert (first.topic[-1], third.topic[-1]) == ("1", "3")

    def test_one_that_is_too_large_for_the_new_connection_is_told_to_its_caller(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(**kept(5)).subscribe()
        waiting = world.call(CallRequest(method="x", params=b'"' + b"x" * 200 + b'"', timeout=60))
        client.lose()
        world.client(5).connect(clean_start=False, properties=KEPT | {Property.MAXIMUM_PACKET_SIZE: 100})
        assert error_of(waiting).reason is Reason.TOO_LARGE


def test_a_client_too_small_for_connack_is_closed_and_leaves_nothing() -> None:
    """MQTT-3.1.2-24: what is too large for it is not sent, and without CONNACK there is nothing to say."""
    world = FreeTopics()
    listener = world.anonymous("l").listen("#")
    client = world.client(5)
    will = p.Will("will", b"", 0)
    properties = {Property.MAXIMUM_PACKET_SIZE: 5}
    assert client.send(p.Connect(5, "c", username=TOKEN, will=will, properties=properties), p.PingReq()) == []
    assert client.closed
    client.lose()
    assert (len(world.admission.sessions), world.admission.connections, world.admission.handshakes) == (1, 1, 0)
    assert listener.received() == []


def test_who_shows_no_credentials_takes_over_no_device() -> None:
    world = Mqtt(pubsub="tenant", allow_anonymous=True)
    device = world.client().connect(client_id="same")
    world.client().connect(client_id="same", username=None)
    assert not device.closed
    first = world.client().connect(client_id="other", username=None)
    world.client().connect(client_id="other", username=None)
    assert first.closed, "among themselves they do as MQTT has it"


def test_one_message_may_wait_however_large_it_is() -> None:
    limits, outbox = QueueLimits(messages=10, size=50), Outbox()
    large = Delivery(Message("t", bytes(100), 1), 1)
    assert limits.has_room(outbox, large)
    outbox.put(large)
    assert not limits.has_room(outbox, large)
    assert not QueueLimits(messages=0, size=50).has_room(Outbox(), large)
