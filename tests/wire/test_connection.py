"""The server's side of a connection: any state, any packet.

Over 400 lines: one table of states, each state with each packet.
"""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wire.strategies import BY_LEVEL, packets
from wire.vectors import CLIENT, VECTORS, WRITTEN

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.connection import ConnectionState, Limits, PacketTooLarge, ServerConnection, refusal
from rpcbroker.wire.mqtt.properties import Property


def connection(now: float = 0.0, **limits: Any) -> ServerConnection:
    return ServerConnection(Limits(**{"max_packet_size": 1 << 16, "connect_timeout": 10.0} | limits), now)


def opened(level: int = 4, *, limits: dict[str, Any] | None = None, **connect: Any) -> ServerConnection:
    server = connection(**limits or {})
    list(server.receive(encode(p.Connect(level, "c", **connect), level), 0.0))
    server.send(p.ConnAck(False, 0))
    return server


TO_THE_BROKER = (
    p.Connect,
    p.Publish,
    p.PubAck,
    p.PubRec,
    p.PubRel,
    p.PubComp,
    p.Subscribe,
    p.Unsubscribe,
    p.PingReq,
    p.Disconnect,
)


def connected(level: int, *reads: bytes) -> list[p.Packet]:
    """What an open connection makes of `reads`, and as the last what it says to a violation."""
    server = opened(level)
    found: list[p.Packet] = []
    try:
        for data in reads:
            found += server.receive(data, 1.0)
    except WireError as error:
        found += sent(server.farewell(error), level)
    return found


def sent(data: bytes, level: int) -> list[p.Packet]:
    """The packets in `data`, without the reasons, which are for people."""
    reader = FrameReader(1 << 20)
    reader.feed(data)
    return [_without_reason(decode(first, body, level)) for first, body in reader]


def _without_reason(packet: Any) -> p.Packet:
    properties = dict(getattr(packet, "properties", {}))
    if properties.pop(Property.REASON_STRING, None) is None:
        return packet
    return replace(packet, properties=properties)


def test_nothing_is_yielded_before_the_connect_is_decided() -> None:
    server = connection()
    data = encode(p.Connect(4, "c"), 4) + encode(p.PingReq(), 4)
    assert [type(packet) for packet in server.receive(data, 0.0)] == [p.Connect]
    assert list(server.receive(b"", 0.0)) == []
    server.send(p.ConnAck(False, 0))
    assert list(server.receive(b"", 0.0)) == [p.PingReq()]


def test_a_decision_inside_the_loop_goes_on_at_once() -> None:
    server = connection()
    seen = []
    for packet in server.receive(encode(p.Connect(4, "c"), 4) + encode(p.PingReq(), 4), 0.0):
        seen.append(type(packet))
        if isinstance(packet, p.Connect):
            server.send(p.ConnAck(False, 0))
    assert seen == [p.Connect, p.PingReq]


def test_what_follows_a_refused_connect_is_never_processed() -> None:
    server = connection()
    seen = []
    for packet in server.receive(encode(p.Connect(4, "c"), 4) + encode(p.Publish("t", b""), 4), 0.0):
        seen.append(packet)
        server.send(p.ConnAck(False, 5))
    assert len(seen) == 1
    assert list(server.receive(encode(p.PingReq(), 4), 0.0)) == []


@pytest.mark.parametrize(
    ("level", "text"), [(level, text) for _, level, text, packet in WRITTEN if not isinstance(packet, p.Connect)]
)
def test_the_first_packet_must_be_a_connect(level: int, text: str) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(bytes.fromhex(text), 0.0))
    assert server.farewell(caught.value) == b""
    assert server.state is ConnectionState.CLOSED


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (p.Connect(5, "c"), 0x82),
        (p.ConnAck(False, 0), 0x82),
        (p.SubAck(1, (0,)), 0x82),
        (p.UnsubAck(1, (0,)), 0x82),
        (p.PingResp(), 0x82),
        (p.Auth(0), 0x82),
        (p.Publish("t", b"", properties={Property.TOPIC_ALIAS: 1}), 0x94),
        (p.Publish("t", b"", properties={Property.SUBSCRIPTION_IDENTIFIER: (1,)}), 0x82),
        (p.Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 5}), 0x82),
        (p.Publish("", b"", properties={Property.TOPIC_ALIAS: 0}), 0x94),
        (p.Disconnect(0, {Property.SERVER_REFERENCE: "x"}), 0x82),
        (p.Disconnect(0x8E), 0x82),
        (p.Disconnect(0x9D), 0x82),
    ],
)
def test_what_may_not_come_from_a_client_ends_with_its_code(packet: p.Packet, code: int) -> None:
    server = opened(5)
    with pytest.raises(WireError) as caught:
        list(server.receive(encode(packet, 5), 1.0))
    assert sent(server.farewell(caught.value), 5) == [p.Disconnect(code)]


@pytest.mark.parametrize("level", [3, 4])
@pytest.mark.parametrize("packet", [p.Connect(4, "c"), p.ConnAck(False, 0), p.SubAck(1, (0,)), p.PingResp()])
def test_version_3_is_closed_without_a_word(level: int, packet: p.Packet) -> None:
    server = opened(level)
    with pytest.raises(WireError) as caught:
        list(server.receive(encode(packet, level), 1.0))
    assert server.farewell(caught.value) == b""
    assert server.state is ConnectionState.CLOSED


@pytest.mark.parametrize("text", ["F0 00", "F0 02 00 00"])
def test_version_3_has_no_auth(text: str) -> None:
    with pytest.raises(WireError):
        list(opened(4).receive(bytes.fromhex(text), 1.0))


def test_a_second_connect_of_an_unknown_version_gets_no_connack() -> None:
    data = bytes.fromhex("10 0E 0004 4D515454 07 02 000A 0002 6162")
    assert connected(5, data) == [p.Disconnect(0x82)]


def test_what_came_before_a_violation_was_yielded() -> None:
    data = encode(p.Publish("t", b"1"), 5) + encode(p.PingReq(), 5) + b"\xc0\x01\x00" + encode(p.PingReq(), 5)
    assert connected(5, data) == [p.Publish("t", b"1"), p.PingReq(), p.Disconnect(0x81)]


def test_a_packet_that_is_too_large_is_refused_by_its_length() -> None:
    assert connected(5, bytes.fromhex("30 81 80 04")) == [p.Disconnect(0x95)]


def test_the_session_expiry_may_change_if_there_was_one() -> None:
    leave = p.Disconnect(4, {Property.SESSION_EXPIRY_INTERVAL: 5})
    server = opened(5, properties={Property.SESSION_EXPIRY_INTERVAL: 1})
    assert list(server.receive(encode(leave, 5), 1.0)) == [leave]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\xa5\x01", b"GET / HTTP/1.1\r\nHost: " + b"x" * 80, b"[1,2]" * 30])
def test_other_protocols_are_closed_without_a_word(data: bytes) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(data, 0.0))
    assert server.farewell(caught.value) == b""


@pytest.mark.parametrize(("name", "level", "text", "packet"), CLIENT)
def test_reads_of_any_size_give_the_same(name: str, level: int, text: str, packet: p.Packet) -> None:
    data = bytes.fromhex(text)
    whole = connected(level, data)
    assert connected(level, *(data[i : i + 1] for i in range(len(data)))) == whole
    again = connected(level, data + data)
    assert again[: len(whole)] == whole
    assert len(again) <= 2 * len(whole)


@given(st.data(), st.sampled_from([3, 4, 5]), st.lists(st.integers(0, 3000), max_size=8))
def test_any_split_of_any_packets_gives_the_same(draw: st.DataObject, level: int, cuts: list[int]) -> None:
    data = b"".join(encode(packet, level) for packet in draw.draw(st.lists(BY_LEVEL[level], max_size=4)))
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reads = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    assert connected(level, *reads) == connected(level, data)


@pytest.mark.parametrize("state", list(ConnectionState))
@pytest.mark.parametrize(("name", "level", "text", "packet"), VECTORS)
def test_any_packet_in_any_state_ends_in_a_legal_state(
    state: ConnectionState, name: str, level: int, text: str, packet: p.Packet
) -> None:
    server = connection()
    if state is not ConnectionState.AWAITING_CONNECT:
        list(server.receive(encode(p.Connect(level, "c"), level), 0.0))
    if state is ConnectionState.OPEN:
        server.send(p.ConnAck(False, 0))
    elif state is ConnectionState.CLOSED:
        server.send(p.ConnAck(False, 5 if level < 5 else 0x87))
    yielded: list[p.Packet] = []
    try:
        yielded += server.receive(bytes.fromhex(text), 1.0)
    except WireError as error:
        server.farewell(error)
        assert server.state is ConnectionState.CLOSED
    match state:
        case ConnectionState.AWAITING_CONNECT if isinstance(packet, p.Connect):
            assert yielded == [packet]
            assert server.state is ConnectionState.AWAITING_DECISION
        case ConnectionState.AWAITING_CONNECT:
            assert yielded == []
            assert server.state is ConnectionState.CLOSED
        case ConnectionState.AWAITING_DECISION | ConnectionState.CLOSED:
            assert yielded == []
            assert server.state is state
        case ConnectionState.OPEN:
            ends = isinstance(packet, p.Disconnect) or not yielded
            assert server.state is (ConnectionState.CLOSED if ends else ConnectionState.OPEN)
            assert all(isinstance(one, TO_THE_BROKER) for one in yielded)


def test_what_waits_for_the_decision_is_bounded() -> None:
    server = connection(max_packet_size=100)
    list(server.receive(encode(p.Connect(5, "c"), 5), 0.0))
    for _ in range(2):
        assert list(server.receive(bytes(90), 0.0)) == []
    with pytest.raises(WireError) as caught:
        list(server.receive(bytes(90), 0.0))
    assert sent(server.farewell(caught.value), 5) == [p.ConnAck(False, 0x97)]
    assert list(server.receive(bytes(90), 0.0)) == []


@pytest.mark.parametrize(
    ("packet", "opened_first"),
    [(p.ConnAck(False, 0), True), (p.ConnAck(False, 5), True), (p.ConnAck(False, 0), False), (p.PingResp(), False)],
)
def test_what_may_not_be_sent_now_is_a_runtime_error(packet: p.Packet, opened_first: bool) -> None:
    server = opened() if opened_first else connection()
    state = server.state
    with pytest.raises(RuntimeError):
        server.send(packet)
    assert server.state is state


def test_nothing_is_published_before_connack_and_after_the_end() -> None:
    with pytest.raises(RuntimeError):
        connection().publish("t", b"", packet_id=None)
    server = opened()
    assert server.send(p.Disconnect(0x8E)) == b"", "MQTT 3 has no such packet from a server"
    with pytest.raises(RuntimeError):
        server.publish("t", b"", packet_id=None)


def test_a_disconnect_of_the_server_is_the_end() -> None:
    server = opened(5)
    assert sent(server.send(p.Disconnect(0x8E)), 5) == [p.Disconnect(0x8E)]
    assert server.state is ConnectionState.CLOSED
    assert list(server.receive(encode(p.PingReq(), 5), 1.0)) == []


def test_nothing_is_acknowledged_after_the_end() -> None:
    server = opened()
    server.send(p.Disconnect(0x8E))
    assert server.acknowledge(7, 0) == b""


def test_ten_thousand_idle_connections_are_light() -> None:
    tracemalloc.start()
    try:
        kept = [opened(keep_alive=60) for _ in range(1000)]
        assert tracemalloc.get_traced_memory()[0] / len(kept) < 1000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("level", [0, 2, 3, 6, 0x84, 0xFF])
def test_an_unknown_version_is_told_so_in_the_form_that_all_know(level: int) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(bytes.fromhex(f"10 0E 0004 4D515454 {level:02X} 02 000A 0002 6162"), 0.0))
    assert sent(server.farewell(caught.value), 4) == [p.ConnAck(False, 1)]


def test_data_after_a_disconnect_is_ignored() -> None:
    server = opened()
    data = encode(p.Disconnect(), 4) + encode(p.Publish("t", b""), 4) + b"\x00\x00"
    assert list(server.receive(data, 1.0)) == [p.Disconnect()]
    assert server.state is ConnectionState.CLOSED


def test_deadlines() -> None:
    server = connection()
    assert server.next_deadline() == 10
    list(server.receive(b"\x10", 5.0))
    assert server.next_deadline() == 10, "dribbled bytes do not extend it"
    server = opened(keep_alive=20)
    assert server.next_deadline() == 30
    list(server.receive(encode(p.PingReq(), 4), 7.0))
    assert server.next_deadline() == 37
    assert opened(keep_alive=0).next_deadline() is None


def test_the_keep_alive_counts_from_the_connect() -> None:
    server = connection()
    list(server.receive(encode(p.Connect(4, "c", keep_alive=2), 4), 9.0))
    server.send(p.ConnAck(False, 0))
    assert server.next_deadline() == 12
    assert list(server.receive(b"\xc0", 10.0)) == []
    assert server.next_deadline() == 12, "half a packet is no sign of life"


def test_a_slow_decision_is_not_held_against_the_client() -> None:
    server = connection()
    list(server.receive(encode(p.Connect(4, "c", keep_alive=2), 4), 1.0))
    server.send(p.ConnAck(False, 0))
    assert list(server.receive(b"", 8.0)) == []
    assert server.next_deadline() == 11


@pytest.mark.parametrize(
    ("connect", "code"),
    [
        (p.Connect(4, "", clean_start=False), 0x85),
        (p.Connect(4, ""), None),
        (p.Connect(3, ""), 0x85),
        (p.Connect(3, "a client id of more than 23 characters"), None),
        (p.Connect(5, "c", will=p.Will("t", b"", 2)), None),
        (p.Connect(5, "", clean_start=False), None),
        (p.Connect(5, "c", properties={Property.AUTHENTICATION_METHOD: "x"}), 0x8C),
    ],
)
def test_refusals_that_need_no_credentials(connect: p.Connect, code: int | None) -> None:
    assert refusal(connect) == code


class TestPublishing:
    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("packet_id", [None, 1, 0xFFFF])
    def test_the_short_way_equals_the_codec(self, level: int, packet_id: int | None) -> None:
        data = opened(level).publish("a/b", b"x" * 200, packet_id=packet_id)
        assert data == encode(p.Publish("a/b", b"x" * 200, int(packet_id is not None), packet_id), level)

    def test_the_client_s_maximum_packet_size_is_kept(self) -> None:
        server = opened(5, properties={Property.MAXIMUM_PACKET_SIZE: 20})
        exactly = server.publish("t", b"x" * 12, packet_id=1)
        assert len(exactly) == 20
        assert server.takes(exactly)
        with pytest.raises(PacketTooLarge):
            server.publish("t", b"x" * 13, packet_id=1)
        assert server.state is ConnectionState.OPEN

    def test_a_packet_that_cannot_be_made_small_enough_is_not_sent(self) -> None:
        server = opened(5, properties={Property.MAXIMUM_PACKET_SIZE: 20})
        with pytest.raises(PacketTooLarge):
            server.send(p.SubAck(1, (0,) * 30))


class TestAcknowledging:
    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("code", [0, 0x10, 0x87])
    def test_the_short_way_equals_the_codec(self, level: int, code: int) -> None:
        packet = p.PubAck(7, code if level >= 5 else 0)
        assert opened(level).acknowledge(7, code, {}) == encode(packet, level)

    def test_a_reason_is_left_out_where_it_makes_the_packet_too_large(self) -> None:
        """MQTT-3.4.2-2, -3"""
        said = {Property.REASON_STRING: "x" * 40, Property.USER_PROPERTY: (("a", "b"),)}
        small = opened(5, properties={Property.MAXIMUM_PACKET_SIZE: 20})
        assert small.acknowledge(7, 0x87, said) == encode(p.PubAck(7, 0x87), 5)
        assert small.send(p.PubRec(8, 0x87, said)) == encode(p.PubRec(8, 0x87), 5)
        assert opened(5).acknowledge(7, 0x87, said) == encode(p.PubAck(7, 0x87, said), 5)

    @pytest.mark.parametrize(("asked", "told"), [(0, False), (1, True)])
    def test_whether_problems_are_told_is_the_client_s_choice(self, asked: int, told: bool) -> None:
        assert opened(5, properties={Property.REQUEST_PROBLEM_INFORMATION: asked}).tells_problems is told


class TestReceiveMaximum:
    """MQTT-3.3.4-7 to -9: how many messages may be unanswered."""

    @staticmethod
    def take(server: ServerConnection, *packets: p.Packet) -> list[p.Packet]:
        return list(server.receive(b"".join(encode(packet, server.level) for packet in packets), 1.0))

    @pytest.mark.parametrize("qos", [1, 2])
    def test_one_more_is_a_violation(self, qos: int) -> None:
        server = opened(5, limits={"receive_maximum": 2})
        self.take(server, p.Publish("t", b"", qos, 1), p.Publish("t", b"", qos, 2))
        with pytest.raises(WireError) as caught:
            self.take(server, p.Publish("t", b"", qos, 3))
        assert sent(server.farewell(caught.value), 5) == [p.Disconnect(0x93)]

    @pytest.mark.parametrize("level", [3, 4])
    def test_version_3_has_a_limit_of_its_own_and_hears_nothing(self, level: int) -> None:
        server = opened(level, limits={"receive_maximum": 1, "unfinished_v3": 2})
        self.take(server, p.Publish("t", b"", 2, 1), p.Publish("t", b"", 2, 2))
        with pytest.raises(WireError) as caught:
            self.take(server, p.Publish("t", b"", 2, 3))
        assert server.farewell(caught.value) == b""

    def test_the_same_message_again_is_not_another(self) -> None:
        server = opened(5, limits={"receive_maximum": 1})
        again = [p.Publish("t", b"", 2, 1), p.Publish("t", b"", 2, 1, dup=True)]
        assert self.take(server, *again) == again

    def test_qos_0_does_not_count(self) -> None:
        server = opened(5, limits={"receive_maximum": 1})
        assert len(self.take(server, p.Publish("t", b"", 1, 1), *[p.Publish("t", b"")] * 9)) == 10

    @pytest.mark.parametrize(
        ("answer", "room"),
        [
            (p.PubComp(1), True),
            (p.PubComp(1, 0x92), True),
            (p.PubRec(1, 0x87), True),
            (p.PubRec(1), False),
            (p.PubComp(2), False),
        ],
    )
    def test_what_makes_room_after_qos_2(self, answer: p.Packet, room: bool) -> None:
        server = opened(5, limits={"receive_maximum": 1})
        self.take(server, p.Publish("t", b"", 2, 1))
        server.send(answer)
        if room:
            assert len(self.take(server, p.Publish("t", b"", 2, 3))) == 1
        else:
            with pytest.raises(WireError):
                self.take(server, p.Publish("t", b"", 2, 3))

    @pytest.mark.parametrize("code", [0, 0x10, 0x97])
    def test_a_puback_makes_room(self, code: int) -> None:
        server = opened(5, limits={"receive_maximum": 1})
        for packet_id in range(1, 50):
            self.take(server, p.Publish("t", b"", 1, packet_id))
            server.acknowledge(packet_id, code, {})


class TestAliases:
    """MQTT 5.0, 3.3.2.3.4"""

    @staticmethod
    def named(topic: str, alias: int) -> bytes:
        return encode(p.Publish(topic, b"", properties={Property.TOPIC_ALIAS: alias}), 5)

    def server(self) -> ServerConnection:
        return opened(5, limits={"topic_alias_maximum": 2})

    def test_an_alias_stands_for_the_topic_that_it_was_given_last(self) -> None:
        data = self.named("a", 1) + self.named("b", 2) + self.named("", 1) + self.named("c", 1) + self.named("", 1)
        found = [packet.topic for packet in self.server().receive(data, 1.0) if isinstance(packet, p.Publish)]
        assert found == ["a", "b", "a", "c", "c"]

    @pytest.mark.parametrize(("topic", "alias"), [("a", 0), ("a", 3), ("a", 0xFFFF), ("", 2), ("", 0)])
    def test_one_that_was_not_offered_or_means_nothing(self, topic: str, alias: int) -> None:
        server = self.server()
        with pytest.raises(WireError) as caught:
            list(server.receive(self.named(topic, alias), 1.0))
        assert sent(server.farewell(caught.value), 5) == [p.Disconnect(0x94)]

    def test_what_the_client_takes_is_kept(self) -> None:
        server = opened(5, properties={Property.TOPIC_ALIAS_MAXIMUM: 2})
        assert [server.alias(topic) for topic in "abcab"] == [(1, True), (2, True), (0, True), (1, False), (2, False)]

    def test_an_alias_that_was_not_told_is_free_again(self) -> None:
        server = opened(5, properties={Property.TOPIC_ALIAS_MAXIMUM: 2})
        server.alias("a")
        server.unalias("a")
        assert [server.alias(topic) for topic in "bcb"] == [(1, True), (2, True), (1, False)]

    @pytest.mark.parametrize("level", [3, 4, 5])
    def test_a_client_that_takes_none_gets_none(self, level: int) -> None:
        assert opened(level).alias("a") == (0, True)
        opened(level).unalias("a")


def test_a_reason_is_told_only_where_it_fits() -> None:
    """MQTT-3.14.2-3, MQTT-3.2.2-19"""
    error = WireError("something that takes far more than what the client takes", 0x82)
    small = opened(5, properties={Property.MAXIMUM_PACKET_SIZE: 20})
    assert small.farewell(error) == encode(p.Disconnect(0x82), 5)
    smaller = opened(5)
    smaller._max_outgoing = 1
    assert smaller.farewell(error) == b""
    told = decode_one(opened(5).farewell(error))
    assert told == p.Disconnect(0x82, {Property.REASON_STRING: error.message})


def decode_one(data: bytes) -> p.Packet:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    (frame,) = reader
    return decode(*frame, 5)


@pytest.mark.parametrize("keep_alive", [1, 60, 0xFFFF])
def test_the_server_s_keep_alive_counts(keep_alive: int) -> None:
    """MQTT-3.2.2-21"""
    server = opened(5, keep_alive=3)
    server.keep_alive = keep_alive
    assert server.next_deadline() == 1.5 * keep_alive


class ConnectionMachine(RuleBasedStateMachine):
    """Packets of any kind in any state: a legal state, and no exception but WireError."""

    def __init__(self) -> None:
        super().__init__()
        self.server = connection()
        self.now = 0.0

    @rule(case=packets(), cut=st.integers(0, 50))
    def receive(self, case: tuple[int, p.Packet], cut: int) -> None:
        level, packet = case
        data = encode(packet, self.server.level or level)
        self.now += 1
        before = self.server.state
        try:
            for yielded in self.server.receive(data[: len(data) - cut] if cut < 5 else data, self.now):
                assert before is not ConnectionState.AWAITING_DECISION
                assert isinstance(yielded, TO_THE_BROKER)
        except WireError as error:
            self.server.farewell(error)

    @rule(data=st.binary(max_size=100))
    def receive_anything(self, data: bytes) -> None:
        try:
            list(self.server.receive(data, self.now))
        except WireError as error:
            self.server.farewell(error)

    @precondition(lambda self: self.server.state is ConnectionState.AWAITING_CONNECT)
    @rule(level=st.sampled_from([3, 4, 5]), keep_alive=st.sampled_from([0, 9]))
    def connect(self, level: int, keep_alive: int) -> None:
        with contextlib.suppress(WireError):
            list(self.server.receive(encode(p.Connect(level, "c", keep_alive=keep_alive), level), self.now))

    @precondition(lambda self: self.server.state is ConnectionState.AWAITING_DECISION)
    @rule(code=st.sampled_from([0, 0, 0, 0x87]))
    def decide(self, code: int) -> None:
        self.server.send(p.ConnAck(False, 5 if code and self.server.level < 5 else code))

    @precondition(lambda self: self.server.state is ConnectionState.OPEN)
    @rule()
    def publish(self) -> None:
        with contextlib.suppress(PacketTooLarge):
            self.server.publish("t", b"payload", packet_id=1)

    @precondition(lambda self: self.server.state is ConnectionState.CLOSED)
    @rule()
    def reconnect(self) -> None:
        with pytest.raises(RuntimeError):
            self.server.send(p.PingResp())
        self.server = connection(now=self.now)

    @invariant()
    def deadline_fits_the_state(self) -> None:
        if self.server.state is ConnectionState.CLOSED:
            assert self.server.next_deadline() is None
        elif self.server.state is not ConnectionState.OPEN:
            assert self.server.next_deadline() is not None


ConnectionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestConnectionMachine = ConnectionMachine.TestCase
