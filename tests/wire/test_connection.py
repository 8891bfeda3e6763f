"""The server's side of a connection: any state, any packet."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wire.test_codec import packets

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


@pytest.mark.parametrize("packet", [p.PingReq(), p.Publish("t", b""), p.Disconnect(), p.PubAck(1)])
def test_the_first_packet_must_be_a_connect(packet: p.Packet) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(encode(packet, 4), 0.0))
    assert server.farewell(caught.value) == b""
    assert server.state is ConnectionState.CLOSED


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (p.Connect(5, "c"), 0x82),
        (p.ConnAck(False, 0), 0x82),
        (p.SubAck(1, (0,)), 0x82),
        (p.PingResp(), 0x82),
        (p.PubRec(1), 0x82),
        (p.PubRel(1), 0x82),
        (p.Auth(0), 0x82),
        (p.Publish("t", b"", 2, 1), 0x9B),
        (p.Publish("t", b"", properties={Property.TOPIC_ALIAS: 1}), 0x94),
        (p.Publish("t", b"", properties={Property.SUBSCRIPTION_IDENTIFIER: (1,)}), 0x82),
        (p.Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 5}), 0x82),
        (p.Disconnect(0, {Property.SERVER_REFERENCE: "x"}), 0x82),
    ],
)
def test_what_may_not_come_from_a_client_ends_with_its_code(packet: p.Packet, code: int) -> None:
    server = opened(5)
    with pytest.raises(WireError) as caught:
        list(server.receive(encode(packet, 5), 1.0))
    assert sent(server.farewell(caught.value), 5) == [p.Disconnect(code)]


def test_version_3_is_closed_without_a_word() -> None:
    server = opened(4)
    with pytest.raises(WireError) as caught:
        list(server.receive(encode(p.Connect(4, "c"), 4), 1.0))
    assert server.farewell(caught.value) == b""


@pytest.mark.parametrize(("level", "answer"), [(6, p.ConnAck(False, 0x84)), (2, p.ConnAck(False, 1))])
def test_an_unknown_version_is_told_so(level: int, answer: p.Packet) -> None:
    server = connection()
    with pytest.raises(WireError) as caught:
        list(server.receive(bytes.fromhex(f"10 0E 0004 4D515454 {level:02X} 02 000A 0002 6162"), 0.0))
    assert sent(server.farewell(caught.value), 5 if level > 4 else 4) == [answer]


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


@pytest.mark.parametrize(
    ("connect", "code"),
    [
        (p.Connect(4, "", clean_start=False), 0x85),
        (p.Connect(4, ""), None),
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
        assert server.publish("t", b"x", qos=1)[1] == 1
        assert server.send(p.SubAck(1, (0,) * 30)) == b""


class ConnectionMachine(RuleBasedStateMachine):
    """Packets of any kind in any state: a legal state, and no exception but WireError."""

    def __init__(self) -> None:
        super().__init__()
        self.server = connection()
        self.now = 0.0
        self.waiting: list[p.Packet] = []

    @rule(case=packets(), cut=st.integers(0, 50))
    def receive(self, case: tuple[int, p.Packet], cut: int) -> None:
        level, packet = case
        data = encode(packet, self.server.level or level)
        self.now += 1
        before = self.server.state
        try:
            for yielded in self.server.receive(data[: len(data) - cut] if cut < 5 else data, self.now):
                assert before is not ConnectionState.AWAITING_DECISION
                assert isinstance(
                    yielded, (p.Connect, p.Publish, p.PubAck, p.Subscribe, p.Unsubscribe, p.PingReq, p.Disconnect)
                )
        except WireError as error:
            self.server.farewell(error)
        except ValueError:
            raise AssertionError("a ValueError got out") from None

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
