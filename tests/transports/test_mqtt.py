"""MQTT over a string transport, read with the client's side of the codec."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes import device, error_of, result_of, token
from mqtt_client import CALL, TOKEN, Client, Mqtt

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.credentials import mqtt_basic_id
from rpcbroker.core.errors import Reason, Undeliverable
from rpcbroker.core.model import CredentialsType
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports.dialect import RPC_REQUEST_FILTER
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.properties import Property


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_call_reaches_the_device_and_its_reply_the_caller(level: int, qos: int) -> None:
    world = Mqtt()
    client = world.client(level).connect().subscribe(qos)
    waiting = world.call(CALL)
    (request,) = client.received()
    assert isinstance(request, p.Publish)
    assert (request.topic, request.qos) == ("v1/devices/me/rpc/request/1", qos)
    assert request.payload == b'{"method":"get","params":{"pin":7}}'
    answers = client.send(p.Publish("v1/devices/me/rpc/response/1", b'{"7": true}', 1, 5))
    assert answers == [p.PubAck(5)]
    assert result_of(waiting).payload == b'{"7": true}'


def test_byte_by_byte_and_all_at_once_are_the_same() -> None:
    packets: list[p.Packet] = [
        p.Connect(4, "c", username=TOKEN),
        p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, 1),)),
        p.Publish("v1/devices/me/telemetry", b'{"a":1}', 1, 2),
        p.PingReq(),
    ]
    whole = Mqtt().client()
    expected = whole.send(*packets)
    assert whole.wire.writes == 1, "answers are written together"
    client = Mqtt().client()
    for byte in b"".join(encode(packet, 4) for packet in packets):
        client.protocol.dataReceived(bytes((byte,)))
    assert client.received() == expected == [p.ConnAck(False, 0), p.SubAck(1, (1,)), p.PubAck(2), p.PingResp()]


class TestConnect:
    @pytest.mark.parametrize(
        ("login", "v3", "v5"),
        [
            ({"username": "WRONG"}, 5, 0x86),
            ({"username": ""}, 5, 0x86),
            ({"username": "WRONG", "password": b"x"}, 5, 0x86),
            ({"client_id": "c"}, 2, 0x85),
            ({"client_id": ""}, 5, 0x87),
        ],
    )
    def test_refusals(self, login: dict[str, Any], v3: int, v5: int) -> None:
        for level, code in ((4, v3), (5, v5)):
            client = Mqtt().client(level)
            connect = p.Connect(level, **{"client_id": "c"} | login)
            assert client.send(connect, p.Publish("v1/devices/me/telemetry", b"{}", 1, 1)) == [p.ConnAck(False, code)]
            assert client.closed

    @pytest.mark.parametrize(
        ("stored", "login", "good"),
        [
            ({"clientId": "c", "userName": "u", "password": "p"}, ("c", "u", b"p"), True),
            ({"clientId": "c", "userName": "u", "password": "p"}, ("c", "u", b"q"), False),
            ({"clientId": "c", "userName": "u", "password": "p"}, ("d", "u", b"p"), False),
            ({"userName": "u", "password": "p"}, ("any", "u", b"p"), True),
            ({"userName": "u", "password": "p"}, ("any", "u", None), False),
            ({"userName": "u"}, ("any", "u", b"whatever"), True),
            ({"clientId": "c"}, ("c", None, None), True),
            ({"clientId": "c"}, ("C", None, None), False),
        ],
    )
    def test_mqtt_basic(self, stored: dict[str, str], login: tuple[str, str | None, bytes | None], good: bool) -> None:
        world = Mqtt()
        basic = token(world.device)
        basic = replace(
            basic,
            type=CredentialsType.MQTT_BASIC,
            credentials_id=mqtt_basic_id(stored.get("clientId"), stored.get("userName")),
            credentials_value=json.dumps(stored),
            version=2,
        )
        result_of(world.store.update_credentials(basic))
        client = world.client()
        client_id, username, password = login
        (answer,) = client.send(p.Connect(4, client_id, True, 0, username, password))
        assert isinstance(answer, p.ConnAck)
        assert (answer.code == 0) == good

    def test_version_5_is_told_the_truth(self) -> None:
        client = Mqtt().client(5)
        (answer,) = client.send(p.Connect(5, "", username=TOKEN, properties={Property.SESSION_EXPIRY_INTERVAL: 60}))
        assert isinstance(answer, p.ConnAck)
        assert not answer.session_present
        assert answer.properties[Property.ASSIGNED_CLIENT_IDENTIFIER] == "assigned"
        assert Property.SESSION_EXPIRY_INTERVAL not in answer.properties

    def test_a_connect_that_never_completes_is_closed(self) -> None:
        world = Mqtt(connect_timeout=10)
        client = world.client()
        client.protocol.dataReceived(b"\x10")
        world.clock.advance(9.9)
        assert not client.closed
        client.protocol.dataReceived(b"\x20")
        world.clock.advance(0.2)
        assert client.wire.aborted

    def test_too_many_handshakes_are_turned_away(self) -> None:
        world = Mqtt(max_handshakes=2)
        idle = [world.client(), world.client()]
        assert world.client().wire.aborted
        idle[0].lose()
        world.admission.released(idle[1].wire, connected=False)
        world.client().connect()

    def test_a_newer_connection_takes_over(self) -> None:
        world = Mqtt()
        older = world.client(5).connect().subscribe()
        newer = world.client(5).connect().subscribe()
        assert older.received() == [p.Disconnect(0x8E)]
        assert older.closed
        older.lose()
        world.call(CALL).addErrback(lambda _: None)
        assert len(newer.received()) == 1

    def test_keep_alive(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(keep_alive=10)
        world.clock.advance(14)
        assert client.send(p.PingReq()) == [p.PingResp()]
        world.clock.advance(14.9)
        assert not client.closed
        world.clock.advance(0.2)
        assert client.received() == [p.Disconnect(0x8D)]
        assert client.closed

    def test_a_closed_connection_that_takes_no_bytes_is_aborted(self) -> None:
        world = Mqtt()
        client = world.client().connect()
        world.session().close(CloseReason.CREDENTIALS_CHANGED)
        assert client.wire.disconnecting
        assert not client.wire.aborted
        world.clock.advance(1.1)
        assert client.wire.aborted


class TestSubscribe:
    def test_one_code_for_each_filter_in_order(self) -> None:
        filters = ["#", RPC_REQUEST_FILTER, "v1/devices/me/rpc/request/5", "v1/devices/me/rpc/response/5"]
        filters += ["v1/devices/me/attributes", "v1/devices/+/telemetry", "v1//devices/me", "V1/devices/me/attributes"]
        for level, no in ((4, 0x80), (5, 0x8F)):
            client = Mqtt().client(level).connect()
            (answer,) = client.send(p.Subscribe(9, tuple(p.Subscription(text, 2) for text in filters)))
            assert answer == p.SubAck(9, (no, 1, no, 1, 1, no, no, no))

    def test_there_is_a_limit(self) -> None:
        client = Mqtt().client(5).connect()
        many = tuple(p.Subscription(f"v1/devices/me/rpc/response/{n}", 0) for n in range(101))
        (answer,) = client.send(p.Subscribe(9, many))
        assert isinstance(answer, p.SubAck)
        assert answer.codes == (0,) * 100 + (0x97,)

    def test_unsubscribing_ends_being_callable(self) -> None:
        world = Mqtt()
        client = world.client(5).connect().subscribe()
        assert client.send(p.Unsubscribe(2, (RPC_REQUEST_FILTER, "nothing"))) == [p.UnsubAck(2, (0, 0x11))]
        assert not world.session().presence.callable.value

    def test_the_hint_names_the_filter_that_was_refused(self) -> None:
        world = Mqtt()
        client = world.client().connect()
        client.send(p.Subscribe(1, (p.Subscription("v1/devices/me/rpc/request/#", 0),)))
        error = error_of(world.call(CallRequest(method="x", connect_timeout=0)))
        assert error.reason is Reason.NO_SUBSCRIPTION
        assert "has not subscribed to v1/devices/me/rpc/request/+; it has subscribed to" in error.hint
        assert "'v1/devices/me/rpc/request/#'" in error.hint

    def test_a_waiting_call_comes_after_the_suback(self) -> None:
        world = Mqtt()
        world.call(CALL).addErrback(lambda _: None)
        client = world.client().connect()
        answers = client.send(p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, 1),)))
        assert [type(answer) for answer in answers] == [p.SubAck, p.Publish]


class TestUplink:
    @pytest.mark.parametrize(
        ("topic", "payload", "code"),
        [
            ("v1/devices/me/telemetry", b'{"a":1}', 0),
            ("v1/devices/me/attributes", b'{"a":1}', 0),
            ("v1/devices/me/rpc/response/77", b"{}", 0),
            ("v1/devices/me/nonsense", b"{}", 0x90),
            ("v1/devices/other/telemetry", b"{}", 0x90),
            ("v1/devices/me/telemetry", b"{", 0x99),
            ("v1/devices/me/telemetry", b'{"a":NaN}', 0x99),
            ("v1/devices/me/telemetry", b"[" * 60_000, 0x99),
            ("v1/devices/me/rpc/response/x", b"{}", 0x99),
            ("v1/devices/me/rpc/response/99999999999", b"{}", 0x99),
            ("v1/devices/me/rpc/request/1", b"{}", 0x99),
            ("v1/devices/me/rpc/request/1", b'{"method":5}', 0x99),
        ],
    )
    def test_every_qos_1_publish_is_acknowledged_or_ends_the_connection(
        self, topic: str, payload: bytes, code: int
    ) -> None:
        modern = Mqtt().client(5).connect()
        assert modern.send(p.Publish(topic, payload, 1, 3)) == [p.PubAck(3, code)]
        assert not modern.closed
        old = Mqtt().client(4).connect()
        assert old.send(p.Publish(topic, payload, 1, 3)) == ([] if code == 0x99 else [p.PubAck(3)])
        assert old.closed == (code == 0x99)

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_qos_2_is_acted_on_once(self, level: int) -> None:
        world = Mqtt()
        client = world.client(level).connect().subscribe()
        waiting = world.call(CALL)
        client.received()
        reply = p.Publish("v1/devices/me/rpc/response/1", b"true", 2, 3)
        assert client.send(reply, replace(reply, dup=True)) == [p.PubRec(3), p.PubRec(3)]
        assert result_of(waiting).payload == b"true"
        assert client.send(p.PubRel(3)) == [p.PubComp(3)]
        assert client.send(p.PubRel(3)) == [p.PubComp(3, 0x92 if level == 5 else 0)]
        assert world.session().missed(NearMiss.UNKNOWN_REPLY) == 0

    def test_a_packet_over_the_limit(self) -> None:
        client = Mqtt(max_packet_size=1000).client(5).connect()
        assert client.send(p.Publish("v1/devices/me/telemetry", b"x" * 1000)) == [p.Disconnect(0x95)]
        assert client.closed

    def test_a_reply_that_is_not_json(self) -> None:
        world = Mqtt()
        client = world.client(5).connect().subscribe()
        waiting = world.call(CALL)
        assert client.received()
        assert client.send(p.Publish("v1/devices/me/rpc/response/1", b"oops", 1, 3)) == [p.PubAck(3, 0x99)]
        assert error_of(waiting).reason is Reason.BAD_REPLY
        assert not client.closed

    def test_an_empty_reply_is_a_reply(self) -> None:
        world = Mqtt()
        client = world.client().connect().subscribe()
        waiting = world.call(CALL)
        client.send(p.Publish("v1/devices/me/rpc/response/1", b""))
        assert result_of(waiting).payload == b""

    def test_a_publish_is_never_sent_back(self) -> None:
        client = Mqtt().client().connect().subscribe()
        assert client.send(p.Publish("v1/devices/me/rpc/response/1", b"{}")) == []


class TestAsking:
    """Client-side RPC."""

    def ask(self, method: str, **subscribe: Any) -> Any:
        self.world = Mqtt()
        client = self.world.client().connect()
        body = json.dumps({"method": method, "params": {}}).encode()
        answer, ack = client.send(p.Publish("v1/devices/me/rpc/request/42", body, 1, 7))
        assert ack == p.PubAck(7)
        assert isinstance(answer, p.Publish)
        assert (answer.topic, answer.qos) == ("v1/devices/me/rpc/response/42", 1)
        return json.loads(answer.payload)

    def test_session_limits(self) -> None:
        limits = self.ask("getSessionLimits")
        assert limits["maxPayloadSize"] == 65536
        assert limits["rateLimits"] == {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None}

    def test_the_current_time_is_a_bare_number(self) -> None:
        assert self.ask("getCurrentTime") == self.world.now_ms()

    def test_nobody_answers(self) -> None:
        assert self.ask('make "coffee"') == {"error": 'no rule answers the method "make \\"coffee\\""'}


def test_new_settings_hold_at_once_but_for_the_size_that_a_connection_was_promised() -> None:
    world = Mqtt(ack_timeout=10, max_packet_size=5_000, max_handshakes=1)
    client = world.client(5).connect().subscribe()
    world.admission.settings = MqttSettings(ack_timeout=1, max_packet_size=100, max_handshakes=2)
    waiting = world.call(CallRequest(method="x", timeout=60, retries=0))
    world.clock.advance(1.1)
    assert error_of(waiting).reason is Reason.NO_ACK
    client.received()
    assert client.send(p.Publish("v1/devices/me/telemetry", b"[" + b" " * 4_000 + b"]", 1, 2)) == [p.PubAck(2, 0)]
    assert [one.closed for one in (world.client(), world.client(), world.client())] == [False, False, True]
    (answer,) = Client(Mqtt(max_packet_size=100).factory, 5).send(p.Connect(5, "c", username=TOKEN))
    assert isinstance(answer, p.ConnAck)
    assert answer.properties[Property.MAXIMUM_PACKET_SIZE] == 100


class TestDelivery:
    def test_no_puback_in_time_counts_as_an_attempt(self) -> None:
        world = Mqtt(ack_timeout=10)
        client = world.client().connect().subscribe()
        waiting = world.call(CallRequest(method="x", timeout=60, retries=0))
        assert len(client.received()) == 1
        world.clock.advance(10.1)
        assert error_of(waiting).reason is Reason.NO_ACK

    def test_a_puback_makes_it_delivered_and_it_is_not_sent_again(self) -> None:
        world = Mqtt()
        client = world.client().connect().subscribe()
        waiting = world.call(CALL)
        (request,) = client.received()
        client.send(p.PubAck(request.packet_id))  # type: ignore[union-attr, arg-type]
        client.lose()
        again = world.client().connect().subscribe()
        assert again.received() == []
        world.clock.advance(61)
        assert error_of(waiting).reason is Reason.NO_REPLY

    def test_without_a_puback_it_is_sent_again_with_the_same_wire_id(self) -> None:
        world = Mqtt()
        client = world.client().connect().subscribe()
        world.call(CALL).addErrback(lambda _: None)
        (first,) = client.received()
        client.lose()
        again = world.client().connect()
        _, second = again.send(p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, 1),)))
        assert first.topic == second.topic  # type: ignore[union-attr]

    def test_the_receive_maximum_is_kept_and_nothing_is_lost(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(properties={Property.RECEIVE_MAXIMUM: 1}).subscribe()
        for _ in range(3):
            world.call(CALL).addErrback(lambda _: None)
        topics = []
        while packets := client.received():
            (request,) = packets
            topics.append(request.topic[-1])  # type: ignore[union-attr]
            client.protocol.dataReceived(encode(p.PubAck(request.packet_id), 5))  # type: ignore[union-attr, arg-type]
        assert topics == ["1", "2", "3"]

    def test_a_call_larger_than_the_device_takes_is_told(self) -> None:
        world = Mqtt()
        client = world.client(5).connect(properties={Property.MAXIMUM_PACKET_SIZE: 100}).subscribe()
        error = error_of(world.call(CallRequest(method="x", params=b'"' + b"x" * 100 + b'"')))
        assert isinstance(error, Undeliverable)
        assert error.reason is Reason.TOO_LARGE
        assert client.received() == []

    def test_a_device_that_does_not_read_is_given_nothing_more_then_aborted(self) -> None:
        world = Mqtt(write_timeout=30)
        client = world.client().connect().subscribe(0)
        client.protocol.pauseProducing()
        waiting = world.call(CALL)
        assert client.received() == []
        client.protocol.resumeProducing()
        assert len(client.received()) == 1
        client.protocol.pauseProducing()
        world.clock.advance(30.1)
        assert client.wire.aborted
        waiting.cancel()
        assert error_of(waiting)


def test_a_device_cannot_answer_another_one_s_call() -> None:
    world = Mqtt()
    world.add(device(101))
    client = world.client().connect().subscribe()
    other = world.client().connect(username="TOKEN101", client_id="o").subscribe()
    waiting = world.call(CALL)
    assert len(client.received()) == 1
    assert other.send(p.Publish("v1/devices/me/rpc/response/1", b"{}", 1, 1)) == [p.PubAck(1)]
    assert not waiting.called
    client.send(p.Publish("v1/devices/me/rpc/response/1", b"1"))
    assert result_of(waiting).payload == b"1"


def test_a_device_s_qos_0_nonsense_ends_its_connection_only() -> None:
    world = Mqtt()
    world.add(device(101))
    good = world.client().connect().subscribe()
    bad = world.client(5).connect(client_id="d", username="TOKEN101")
    assert bad.send(p.Publish("v1/devices/me/telemetry", b"{")) == [p.Disconnect(0x99)]
    assert bad.closed
    assert not good.closed


@pytest.mark.parametrize("kind", ["fw", "sw"])
def test_who_asks_for_a_chunk_hears_an_error_where_it_listens_for_errors(kind: str) -> None:
    client = Mqtt().client().connect()
    client.send(p.Subscribe(1, (p.Subscription(f"v2/{kind}/error", 0),)))
    error, answer = client.send(p.Publish(f"v2/{kind}/request/1/chunk/0", b"1024", 1, 3))
    assert (error.topic, error.qos) == (f"v2/{kind}/error", 1)
    assert b"not served" in error.payload
    assert answer == p.PubAck(3)
