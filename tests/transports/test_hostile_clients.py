"""What a client may do to harm the broker, or others, and what becomes of it: one row for each thing.

A client that is closed for it hears why if it speaks 5.0, and nothing if it speaks an older version.
What is wrong in the bytes of one packet is tested beside the codec.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import device
from mqtt_client import TOKEN, Client, FreeTopics, Mqtt
from wire.vectors import WRITTEN

from rpcbroker.transports.dialect import RPC_REQUEST_FILTER
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.properties import Property

P = Property
KEPT = {"clean_start": False, "properties": {P.SESSION_EXPIRY_INTERVAL: 600}}


def bytes_of(text: str) -> bytes:
    return bytes.fromhex(text)


def publish(topic: bytes, rest: bytes = b"", *, first: int = 0x30, properties: bytes = b"\x00") -> bytes:
    """A PUBLISH of 5.0 that the codec would not write."""
    body = len(topic).to_bytes(2, "big") + topic + properties + rest
    return bytes((first, len(body))) + body


ENDS_WITH = [
    # what it is, its bytes after CONNECT, the code of the DISCONNECT
    ("5 a second CONNECT", encode(p.Connect(5, "c"), 5), 0x82),
    ("6 type 0", bytes_of("00 00"), 0x82),
    ("7 SUBSCRIBE with other flags", b"\x80" + encode(p.Subscribe(1, (p.Subscription("a", 0),)), 5)[1:], 0x81),
    ("7 PINGREQ with flags", bytes_of("C1 00"), 0x81),
    ("7 DISCONNECT with flags", bytes_of("E1 00"), 0x81),
    ("7 PUBREL without its flag", bytes_of("60 02 00 01"), 0x81),
    ("8 QoS 3", publish(b"t", first=0x36), 0x81),
    ("8 DUP at QoS 0", publish(b"t", first=0x38), 0x81),
    ("9 a length of five bytes", bytes_of("30 FF FF FF FF"), 0x81),
    ("10 a length longer than it need be", bytes_of("C0 80 00"), 0x81),
    ("11 a length of 256 MB", bytes_of("30 FF FF FF 7F 00 01 61"), 0x95),
    ("12 a length over the limit", bytes_of("30 81 80 04"), 0x95),
    ("13 a topic that runs over the end", bytes_of("30 04 00 09 61 62"), 0x81),
    ("14 PUBACK with more after its end", bytes_of("40 05 00 01 00 00 00"), 0x81),
    ("15 PINGREQ with a body", bytes_of("C0 01 00"), 0x81),
    ("35 AUTH out of nowhere", encode(p.Auth(0x18), 5), 0x82),
    ("43 no topic and no alias", publish(b""), 0x81),
    ("43 a wildcard", publish(b"a/+"), 0x81),
    ("43 another wildcard", publish(b"#"), 0x81),
    ("43 U+0000", publish(b"a\x00"), 0x81),
    ("48 alias 0", encode(p.Publish("t", b"", properties={P.TOPIC_ALIAS: 0}), 5), 0x94),
    ("48 alias over the maximum", encode(p.Publish("t", b"", properties={P.TOPIC_ALIAS: 17}), 5), 0x94),
    ("48 alias that stands for nothing", encode(p.Publish("", b"", properties={P.TOPIC_ALIAS: 1}), 5), 0x94),
    ("50 subscription identifier", encode(p.Publish("t", b"", properties={P.SUBSCRIPTION_IDENTIFIER: (1,)}), 5), 0x82),
    ("51 response topic with a wildcard", publish(b"t", properties=b"\x06\x08\x00\x03a/+"), 0x82),
    ("64 SUBSCRIBE without filters", bytes_of("82 03 00 01 00"), 0x81),
    ("64 UNSUBSCRIBE without filters", bytes_of("A2 03 00 01 00"), 0x81),
    ("65 QoS 3 asked for", bytes_of("82 07 00 01 00 00 01 61 03"), 0x81),
    ("65 retain handling 3", bytes_of("82 07 00 01 00 00 01 61 30"), 0x82),
    ("65 reserved bits", bytes_of("82 07 00 01 00 00 01 61 80"), 0x81),
    ("70 no local of a share", encode(p.Subscribe(1, (p.Subscription("$share/g/a", 0, True),)), 5), 0x82),
    ("70 no share name", encode(p.Subscribe(1, (p.Subscription("$share//a", 0),)), 5), 0x82),
    ("71 subscription identifier 0", bytes_of("82 09 00 01 02 0B 00 00 01 61 00"), 0x82),
    ("76 an expiry out of nothing", encode(p.Disconnect(0, {P.SESSION_EXPIRY_INTERVAL: 1}), 5), 0x82),
    ("78 a code that is none", bytes_of("E0 01 05"), 0x82),
    ("78 a server's code", bytes_of("E0 01 8E"), 0x82),
    ("78 a server reference", encode(p.Disconnect(0, {P.SERVER_REFERENCE: "x"}), 5), 0x82),
    ("a CONNACK from a client", encode(p.ConnAck(False, 0), 5), 0x82),
    ("a SUBACK from a client", encode(p.SubAck(1, (0,)), 5), 0x82),
    ("a PINGRESP from a client", encode(p.PingResp(), 5), 0x82),
]


@pytest.mark.parametrize(("data", "code"), [pytest.param(data, code, id=name) for name, data, code in ENDS_WITH])
def test_what_ends_a_connection(data: bytes, code: int) -> None:
    """It ends once, its will is published once, what comes after is not heard, and others go on."""
    world = FreeTopics()
    listener = world.anonymous("l").listen("#")
    bad = world.client(5).connect(will=p.Will("will", b"")).subscribe()
    bad.protocol.dataReceived(data + encode(p.Publish("later", b""), 5))
    bad.protocol.dataReceived(encode(p.Publish("later", b""), 5))
    assert bad.received() == [p.Disconnect(code)]
    assert bad.closed
    bad.lose()
    assert listener.heard() == [("will", b"", 0)]
    assert world.admission.violations == 1
    assert listener.send(p.PingReq()) == [p.PingResp()]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes_of(text), id=text)
        for text in (
            "00 00",
            "F0 00",
            "C1 00",
            "C0 01 00",
            "C0 80 00",
            "E0 01 00",
            "30 FF FF FF FF",
            "30 FF FF FF 7F",
            "36 05 00 01 61 00 01",
            "30 03 00 01 2B",
            "30 03 00 01 00",
            "32 05 00 01 61 00 00",
            "82 02 00 01",
            "82 06 00 01 00 01 61 03",
            "82 06 00 00 00 01 61 00",
            "A2 02 00 01",
            "40 02 00 00",
            "62 02 00 00",
            "60 02 00 01",
            "20 02 00 00",
            "D0 00",
        )
    ],
)
@pytest.mark.parametrize("level", [4])
def test_version_3_is_closed_without_a_word(level: int, data: bytes) -> None:
    world = FreeTopics()
    listener = world.anonymous("l").listen("#")
    bad = world.client(level).connect(will=p.Will("will", b""))
    bad.protocol.dataReceived(data + encode(p.Publish("later", b""), level))
    assert bad.received() == []
    assert bad.closed
    assert listener.heard() == [("will", b"", 0)]


class TestConnect:
    @pytest.mark.parametrize(
        ("level", "text"), [(level, text) for _, level, text, packet in WRITTEN if not isinstance(packet, p.Connect)]
    )
    def test_anything_else_first_is_closed_without_a_word(self, level: int, text: str) -> None:
        """4: MQTT-3.1.0-1"""
        world = FreeTopics()
        client = world.client(level)
        client.protocol.dataReceived(bytes_of(text) + encode(p.Connect(5, "c", username=TOKEN), 5))
        assert client.wire.value() == b""
        assert client.closed
        client.lose()
        assert (world.admission.handshakes, len(world.admission.sessions)) == (0, 0)

    @pytest.mark.parametrize(
        "follows", [p.Publish("later", b""), p.Subscribe(1, (p.Subscription("#", 0),)), p.PingReq()]
    )
    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_what_follows_a_refused_one_is_never_processed(self, level: int, follows: p.Packet) -> None:
        """38: MQTT-3.1.4-5"""
        world = FreeTopics()
        listener = world.anonymous("l").listen("#")
        client = world.client(level)
        answers = client.send(p.Connect(level, "c", username="WRONG"), follows)
        assert answers == [p.ConnAck(False, 0x86 if level == 5 else 5)]
        assert client.send(follows) == []
        assert listener.received() == []

    @pytest.mark.parametrize("level", [4, 5])
    def test_what_follows_before_connack_waits_for_it(self, level: int) -> None:
        client = Mqtt().client(level)
        connect = p.Connect(level, "c", username=TOKEN)
        answers = client.send(connect, p.PingReq(), p.Subscribe(1, (p.Subscription(RPC_REQUEST_FILTER, 0),)))
        assert [type(answer) for answer in answers] == [p.ConnAck, p.PingResp, p.SubAck]

    @pytest.mark.parametrize(
        ("level", "clean", "code"),
        [(3, True, 2), (3, False, 2), (4, False, 2), (4, True, 0), (5, False, 0), (5, True, 0)],
    )
    def test_no_client_id(self, level: int, clean: bool, code: int) -> None:
        """27: MQTT-3.1.3-8, MQTT-3.2.2-16"""
        client = Mqtt().client(level)
        (answer,) = client.enter(client_id="", clean_start=clean)
        assert answer.code == code
        assert client.closed is bool(code)
        assert (P.ASSIGNED_CLIENT_IDENTIFIER in answer.properties) == (level == 5)

    @pytest.mark.parametrize("name", ["x" * 65_000, "a/b", "+", "#", " ", "\U0001f600", "\ufeff", "x" * 24, "$SYS"])
    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_any_client_id_is_taken_as_it_is(self, level: int, name: str) -> None:
        """28, 30: MQTT-1.5.4-3, and no limit of 23 characters for 3.1"""
        world = Mqtt()
        kept = KEPT if level == 5 else {"clean_start": False}
        world.client(level).connect(client_id=name, **kept).lose()
        assert [key.client_id for key in world.admission.sessions._sessions] == [name]

    def test_values_that_are_accepted_and_cut(self) -> None:
        """34"""
        properties = {P.TOPIC_ALIAS_MAXIMUM: 0xFFFF, P.SESSION_EXPIRY_INTERVAL: 0xFFFFFFFF, P.RECEIVE_MAXIMUM: 0xFFFF}
        client = Mqtt(max_session_expiry=60).client(5).connect(properties=properties)
        assert client.connack.properties[P.SESSION_EXPIRY_INTERVAL] == 60

    def test_an_authentication_method_is_not_known(self) -> None:
        """35: MQTT 5.0, 4.12"""
        client = Mqtt().client(5)
        assert client.enter(properties={P.AUTHENTICATION_METHOD: "SCRAM-SHA-1"}) == [p.ConnAck(False, 0x8C)]
        assert client.closed

    @pytest.mark.parametrize("level", [2, 6, 0x7F, 0x84])
    def test_an_unknown_version_is_told_so(self, level: int) -> None:
        """21: MQTT-3.1.2-2"""
        client = Mqtt().client(4)
        client.protocol.dataReceived(bytes_of(f"10 0E 0004 4D515454 {level:02X} 02 000A 0002 6162"))
        assert client.received() == [p.ConnAck(False, 1)]
        assert client.closed

    def test_many_user_properties_are_taken(self) -> None:
        """36"""
        many = tuple(("k", "v") for _ in range(9_000))
        client = Mqtt().client(5).connect(properties={P.USER_PROPERTY: many})
        assert client.say("v1/devices/me/telemetry", b"{}", 1, properties={P.USER_PROPERTY: many}) == [p.PubAck(1)]

    def test_a_thousand_wrong_passwords_are_answered_and_hardly_logged(self, logged: list[Any]) -> None:
        """37"""
        world = Mqtt()
        for _ in range(1000):
            client = world.client(5)
            assert client.enter(username="WRONG", password=b"x") == [p.ConnAck(False, 0x86)]
            client.lose()
        assert len(logged) <= 20
        assert (world.admission.handshakes, world.admission.connections) == (0, 0)
        world.client(5).connect()

    def test_violations_are_hardly_logged_either(self, logged: list[Any]) -> None:
        world = Mqtt()
        for _ in range(500):
            client = world.client(5)
            client.protocol.dataReceived(b"\x00\x00")
            client.lose()
        assert world.admission.violations == 500
        assert len(logged) <= 50


@pytest.fixture
def logged() -> Any:
    """The log events at info and above."""
    from twisted.logger import LogLevel, globalLogPublisher

    events: list[Any] = []

    def observe(event: Any) -> None:
        if event["log_level"] >= LogLevel.info:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class TestQos2:
    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_a_message_that_comes_again_is_delivered_once(self, level: int) -> None:
        """53: MQTT-4.3.3"""
        world = FreeTopics()
        listener = world.anonymous("l").listen("a")
        client = world.client(level).connect()
        again = p.Publish("a", b"1", 2, 7)
        for message in (again, again, replace(again, dup=True)):
            assert client.send(message) == [p.PubRec(7)]
        assert client.send(p.PubRel(7)) == [p.PubComp(7)]
        assert len(listener.received()) == 1
        assert client.send(again) == [p.PubRec(7)], "the identifier is free for another one"
        assert len(listener.received()) == 1

    @pytest.mark.parametrize(("level", "code"), [(3, 0), (4, 0), (5, 0x92)])
    def test_a_pubrel_of_nothing(self, level: int, code: int) -> None:
        """54"""
        client = Mqtt().client(level).connect()
        assert client.send(p.PubRel(99), p.PubRel(99)) == [p.PubComp(99, code)] * 2

    def test_a_refused_one_is_over(self) -> None:
        client = FreeTopics(receive_maximum=1).client(5).connect()
        for _ in range(3):
            assert client.say("$SYS/x", b"", 2, 7) == [p.PubRec(7, 0x87)]
        assert client.send(p.PubRel(7)) == [p.PubComp(7, 0x92)]

    @pytest.mark.parametrize(("level", "told"), [(4, []), (5, [p.Disconnect(0x93)])])
    def test_identifiers_without_end_are_too_many(self, level: int, told: list[p.Packet]) -> None:
        """57: MQTT-3.3.4-7 to -9"""
        client = FreeTopics(receive_maximum=10, max_unfinished=10).client(level).connect()
        answers = client.send(*[p.Publish("a", b"", 2, number) for number in range(1, 100)])
        assert answers[10:] == told
        assert client.closed

    def test_a_client_that_never_finishes_and_comes_back_for_ever_is_heard_once(self) -> None:
        world = FreeTopics(receive_maximum=10, connect_rate=())
        listener = world.anonymous("l").listen("a")
        messages = [p.Publish("a", b"", 2, number) for number in range(1, 11)]
        for _ in range(100):
            client = world.client(5).connect(**KEPT)
            assert client.send(*messages) == [p.PubRec(number) for number in range(1, 11)]
            client.lose()
        assert len(listener.received()) == 10


class TestPayloads:
    """62, 63: what a device says of itself is JSON, or refused; it never harms the broker."""

    @pytest.mark.parametrize(
        "payload",
        [
            b"\x00",
            b"\xff\xfe",
            b'{"a":1',
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b"[" * 30_000,
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            b'"\xed\xa0\x80"',
            b'{"a":"\x00"}',
            b"",
        ],
    )
    def test_no_json_is_refused(self, payload: bytes) -> None:
        modern, old = (Mqtt().client(level).connect() for level in (5, 4))
        assert modern.say("v1/devices/me/telemetry", payload, 1) == [p.PubAck(1, 0x99)]
        assert not modern.closed
        assert old.say("v1/devices/me/telemetry", payload, 1) == []
        assert old.closed

    @pytest.mark.parametrize(
        "key", ["x" * 60_000, "__proto__", "constructor", "", "'; DROP TABLE device; --", '\\"', "\\u0000", "a.b", "$"]
    )
    def test_a_key_is_only_a_key(self, key: str) -> None:
        client = Mqtt().client(5).connect()
        for topic in ("v1/devices/me/telemetry", "v1/devices/me/attributes"):
            (answer,) = client.say(topic, b'{"%b":1}' % key.encode(), 1)
            assert isinstance(answer, p.PubAck)
            assert not client.closed

    @pytest.mark.parametrize("payload", [bytes(range(256)), b"", b"\x00" * 60_000])
    def test_on_free_topics_any_bytes_are_passed_on(self, payload: bytes) -> None:
        world = FreeTopics()
        listener = world.anonymous("l").listen("a")
        world.client(5).connect().say("a", payload)
        assert listener.heard() == [("a", payload, 0)]


class TestFilters:
    @pytest.mark.parametrize("text", ["#/a", "a#", "a/#/b", "+a", "a+/b", "", "##", "a/b#", "++"])
    @pytest.mark.parametrize("level", [4, 5])
    def test_malformed_ones_end_the_connection(self, level: int, text: str) -> None:
        """66: MQTT-4.7.1-1 to -3"""
        client = FreeTopics().client(level).connect()
        body = b"\x00\x01" + b"\x00" * (level == 5) + len(text).to_bytes(2, "big") + text.encode() + b"\x00"
        client.protocol.dataReceived(bytes((0x82, len(body))) + body)
        assert [type(packet) for packet in client.received()] == ([p.Disconnect] if level == 5 else [])
        assert client.closed

    @pytest.mark.parametrize("text", ["/".join("+" * 10_000), "/" * 32_767, "a/" * 30_000 + "#"])
    def test_endless_ones_are_refused(self, text: str) -> None:
        """67, 44"""
        client = FreeTopics().client(5).connect()
        assert client.send(p.Subscribe(1, (p.Subscription(text, 0),))) == [p.SubAck(1, (0x8F,))]
        topic = text.replace("+", "a").replace("#", "a")
        assert client.say(topic, b"", 1) == [p.PubAck(1, 0x90)]
        assert client.send(p.PingReq()) == [p.PingResp()]

    def test_a_packet_full_of_them_has_one_code_for_each(self) -> None:
        """68: MQTT-3.9.3-1"""
        client = FreeTopics(max_subscriptions=10).client(5).connect()
        wanted = tuple(p.Subscription(f"{number}", 1) for number in range(7_000))
        (answer,) = client.send(p.Subscribe(1, wanted))
        assert answer.codes == (1,) * 10 + (0x97,) * 6_990
        same = tuple(p.Subscription("1", 0) for _ in range(10_000))
        assert client.send(p.Subscribe(2, same)) == [p.SubAck(2, (0,) * 10_000)]

    def test_every_filter_of_a_session_counts_once(self) -> None:
        client = FreeTopics(max_subscriptions=2).client(5).connect()
        for _ in range(3):
            wanted = (p.Subscription(RPC_REQUEST_FILTER, 1), p.Subscription("a", 0))
            assert client.send(p.Subscribe(1, wanted)) == [p.SubAck(1, (1, 0))]
        assert client.send(p.Subscribe(1, (p.Subscription("b", 0),))) == [p.SubAck(1, (0x97,))]

    @pytest.mark.parametrize(
        ("wanted", "code"),
        [
            ("v1/devices/other/telemetry", 0x87),
            ("v1/devices/+/telemetry", 0x87),
            ("v1/devices/#", 0x87),
            ("v1/gateway/+", 0x87),
            ("v2/#", 0x87),
            ("$share/g/v1/devices/me/telemetry", 0x87),
        ],
    )
    def test_nobody_listens_to_others_devices(self, wanted: str, code: int) -> None:
        """80"""
        client = FreeTopics().client(5).connect()
        assert client.send(p.Subscribe(1, (p.Subscription(wanted, 0),))) == [p.SubAck(1, (code,))]


class TestEnds:
    def test_what_follows_a_disconnect_is_not_heard(self) -> None:
        """79: MQTT-3.14.4-2"""
        world = FreeTopics()
        listener = world.anonymous("l").listen("#")
        client = world.client(5).connect(will=p.Will("will", b""))
        assert client.send(p.Disconnect(), p.Publish("later", b"")) == []
        assert client.closed
        assert client.send(p.Publish("later", b"")) == []
        client.lose()
        assert listener.received() == []

    def test_a_session_s_end_frees_its_queue(self) -> None:
        """76"""
        world = FreeTopics()
        client = world.client(5).connect(**KEPT).listen("a")
        client.lose()
        speaker = world.owned(device(101))
        assert speaker.say("a", b"x", 1) == [p.PubAck(1)]
        world.clock.advance(601)
        assert speaker.say("a", b"x", 1) == [p.PubAck(1, 0x10)]
        again: Client = world.client(5).connect(**KEPT)
        assert not again.connack.session_present
