"""The server's side of a connection: any state, any packet."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc
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
from rpcbroker.wire.mqtt.connection import ConnectionState, PacketTooLarge, ServerConnection, refusal
from rpcbroker.wire.mqtt.properties import Property


def connection(**more: Any) -> ServerConnection:
    return ServerConnection(**{"max_packet_size": 1 << 16, "connect_timeout": 10.0, "now": 0.0} | more)


def opened(level: int = 4, **connect: Any) -> ServerConnection:
    server = connection()
    list(server.receive(encode(p.Connect(level, "c", **connect), level), 0.0))
    server.send(p.ConnAck(False, 0))
    return server


TO_THE_BROKER = (p.Connect, p.Publish, p.PubAck, p.Subscribe, p.Unsubscribe, p.PingReq, p.Disconnect)


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
    reader = FrameReader(1 << 20)
    reader.feed(data)
    return [decode(first, body, level) for first, body in reader]


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
        (p.PubRec(1), 0x82),
        (p.PubRel(1), 0x82),
        (p.PubComp(1), 0x82),
        (p.Auth(0), 0x82),
        (p.Publish("t", b"", 2, 1), 0x9B),
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
@pytest.mark.parametrize("packet", [p.Connect(4, "c"), p.PubRec(1), p.Publish("t", b"", 2, 1), p.PingResp()])
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
            ends = isinstance(packet, p.Disconnect) or (not yielded and not isinstance(packet, p.PubAck))
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
        connection().publish("t", b"", qos=0)
    server = opened()
    assert server.send(p.Disconnect(0x8E)) == b"", "MQTT 3 has no such packet from a server"
    with pytest.raises(RuntimeError):
        server.publish("t", b"", qos=0)


def test_a_disconnect_of_the_server_is_the_end() -> None:
    server = opened(5)
    assert sent(server.send(p.Disconnect(0x8E)), 5) == [p.Disconnect(0x8E)]
    assert server.state is ConnectionState.CLOSED
    assert list(server.receive(encode(p.PingReq(), 5), 1.0)) == []


def test_ten_thousand_idle_connections_are_light() -> None:
    tracemalloc.start()
    try:
        kept = [opened(keep_alive=60) for _ in range(1000)]
        assert tracemalloc.get_traced_memory()[0] / len(kept) < 1000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("level", "answer"),
    [(6, p.ConnAck(False, 0x84)), (3, p.ConnAck(False, 1)), (2, p.ConnAck(False, 1)), (0x84, p.ConnAck(False, 1))],
)
def test_an_unknown_version_is_told_so(level: int, answer: p.Packet) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(bytes.fromhex(f"10 0E 0004 4D515454 {level:02X} 02 000A 0002 6162"), 0.0))
    assert sent(server.farewell(caught.value), 5 if level == 6 else 4) == [answer]


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
        (p.Connect(5, "c", will=p.Will("t", b"", 2)), 0x9B),
        (p.Connect(4, "c", will=p.Will("t", b"", 2)), None),
        (p.Connect(5, "", clean_start=False), None),
        (p.Connect(5, "c", properties={Property.AUTHENTICATION_METHOD: "x"}), 0x8C),
    ],
)
def test_refusals_that_need_no_credentials(connect: p.Connect, code: int | None) -> None:
    assert refusal(connect) == code


class TestPublishing:
    @pytest.mark.parametrize("level", [3, 4, 5])
    @pytest.mark.parametrize("qos", [0, 1])
    def test_the_short_way_equals_the_codec(self, level: int, qos: int) -> None:
        server = opened(level)
        data, packet_id = server.publish("a/b", b"x" * 200, qos=qos)
        assert sent(data, level) == [p.Publish("a/b", b"x" * 200, qos, packet_id)]
        assert packet_id == (1 if qos else None)

    @pytest.mark.parametrize("level", [4, 5])
    def test_the_long_way(self, level: int) -> None:
        given = {Property.MESSAGE_EXPIRY_INTERVAL: 5} if level == 5 else {}
        server = opened(level)
        data, _ = server.publish("a", b"x", qos=1, retain=True, properties=given)
        assert sent(data, level) == [p.Publish("a", b"x", 1, 1, False, True, given)]
        assert server.in_flight == 1

    def test_packet_ids_in_flight_are_skipped(self) -> None:
        server = opened()
        _, first = server.publish("t", b"", qos=1)
        server._last_packet_id = 0xFFFF
        _, second = server.publish("t", b"", qos=1)
        assert (first, second) == (1, 2)

    def test_the_client_s_receive_maximum_is_kept(self) -> None:
        server = opened(5, properties={Property.RECEIVE_MAXIMUM: 2})
        ids = [server.publish("t", b"", qos=1)[1] for _ in range(2)]
        assert not server.can_publish
        assert list(server.receive(encode(p.PubAck(999), 5), 1.0)) == [], "an unknown id is no room"
        assert not server.can_publish
        assert list(server.receive(encode(p.PubAck(ids[1] or 0), 5), 1.0)) == [p.PubAck(2)]
        assert server.can_publish
        assert list(server.receive(encode(p.PubAck(2), 5), 1.0)) == [], "an ack counts once"

    def test_the_client_s_maximum_packet_size_is_kept(self) -> None:
        server = opened(5, properties={Property.MAXIMUM_PACKET_SIZE: 20})
        with pytest.raises(PacketTooLarge):
            server.publish("t", b"x" * 20, qos=1)
        assert server.in_flight == 0
        assert server.publish("t", b"x", qos=1)[1] == 1
        assert server.send(p.SubAck(1, (0,) * 30)) == b""


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
        if self.server.can_publish:
            with contextlib.suppress(PacketTooLarge):
                self.server.publish("t", b"payload", qos=1)

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
