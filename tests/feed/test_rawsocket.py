"""WAMP over RawSocket: the handshake, frames, and what is wrong with them. WAMP, "RawSocket Transport"."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.feed_settings import WampSettings
from rpcbroker.core.lag import TURN
from rpcbroker.core.outlet import FACTOR
from rpcbroker.feed.codec import BY_NUMBER
from rpcbroker.feed.ports import Connection
from rpcbroker.feed.rawsocket import CLOSE_TIMEOUT, FRAMES, RawSocket, RawSocketFactory

MAX_WAITING = 10_000
GATHER = 0.1
HELLO = [1, "rpcbroker", {}]


class Session:
    """As ports.Peer: it remembers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard: list[list[Any]] = []
        self.faults: list[str] = []
        self.ends = 0

    def receive(self, message: list[Any]) -> None:
        self.heard.append(message)

    def violate(self, text: str) -> None:
        self.faults.append(text)
        self.connection.send(b"[3]")
        self.connection.close(1002, text)

    def lost(self) -> None:
        self.ends += 1


class Wire(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def unregisterProducer(self) -> None:
        self.producer = None


class House:
    """A router that gives sessions which remember, and one peer."""

    def __init__(self, **wamp: Any) -> None:
        self.clock = Clock()
        self.settings = WampSettings(**wamp)
        self.sessions: list[Session] = []
        self.deadlines = Deadlines(self.clock)
        factory = RawSocketFactory(
            self,
            max_waiting=lambda: MAX_WAITING,
            gather=lambda: GATHER,
            deadlines=self.deadlines,
            reactor=self.clock,
        )
        self.wire = Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", 50_000), lenient=True)
        self.protocol: RawSocket = factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    def connected(self, connection: Connection) -> Session:
        self.sessions.append(Session(connection))
        return self.sessions[-1]

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    def say(self, data: bytes) -> bytes:
        """What is answered to it."""
        self.wire.clear()
        self.protocol.dataReceived(data)
        return self.wire.value()

    def shake(self, number: int = 1, exponent: int = 24) -> House:
        answer = self.say(bytes((0x7F, exponent - 9 << 4 | number, 0, 0)))
        assert answer[0] == 0x7F
        assert answer[1] & 15 == number
        self.wire.clear()
        return self

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds + 0.02)

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def nothing_is_left(self) -> bool:
        calls = [call for call in self.clock.getDelayedCalls() if call.func != self.deadlines._sweep]
        return not calls and not any(self.deadlines._slots.values())


def frame(payload: bytes = b"", kind: int = 0) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(3) + payload


# -- the handshake


@pytest.mark.parametrize("number", BY_NUMBER)
def test_the_peer_chooses_the_encoding(number: int) -> None:
    house = House().shake(number)
    serializer = BY_NUMBER[number]
    house.say(frame(serializer.encode(HELLO)))
    assert house.session.heard == [HELLO]
    assert house.session.connection.serializer is serializer
    assert house.session.connection.peer == "192.0.2.1"


@pytest.mark.parametrize(
    ("size", "told"), [(1 << 20, 0xB1), ((1 << 20) - 1, 0xA1), (1, 0x01), (1 << 24, 0xF1), (1 << 30, 0xF1)]
)
def test_it_is_told_how_long_messages_may_be_and_never_too_much(size: int, told: int) -> None:
    assert House(max_message_size=size).say(b"\x7f\xf1\x00\x00") == bytes((0x7F, told, 0, 0))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"\x7f\xf0\x00\x00", b"\x7f\x10\x00\x00"),
        (b"\x7f\xf4\x00\x00", b"\x7f\x10\x00\x00"),
        (b"\x7f\xff\x00\x00", b"\x7f\x10\x00\x00"),
        (b"\x7f\xf1\x01\x00", b"\x7f\x30\x00\x00"),
        (b"\x7f\xf1\x00\x80", b"\x7f\x30\x00\x00"),
        (b"\x7e\xf1\x00\x00", b""),
        (b"G", b""),
        (b"GET /ws HTTP/1.1\r\n\r\n", b""),
        (b"\x16\x03\x01\x02\x00", b""),
    ],
)
def test_a_bad_handshake_is_refused_and_ends_it(asked: bytes, answered: bytes) -> None:
    house = House()
    assert house.say(asked) == answered
    assert house.wire.disconnecting
    assert house.say(frame(b"[]")) == b""
    assert not house.sessions
    house.lose()
    assert house.nothing_is_left()


def test_a_handshake_may_come_in_pieces_and_with_what_follows() -> None:
    house = House()
    said = b"\x7f\xf1\x00\x00" + frame(BY_NUMBER[1].encode(HELLO))
    for i in range(len(said)):
        house.say(said[i : i + 1])
    assert house.session.heard == [HELLO]
    house = House()
    house.say(said)
    assert house.session.heard == [HELLO]


def test_who_does_not_shake_hands_in_time_is_aborted() -> None:
    house = House()
    house.say(b"\x7f")
    house.advance(house.settings.hello_timeout - 0.1)
    assert not house.wire.aborted
    house.advance(0.1)
    assert house.wire.aborted


# -- frames


def test_messages_are_heard_however_they_are_cut() -> None:
    house = House().shake()
    messages = [[1, "x" * size] for size in (0, 1, 300, 70_000)]
    wire = b"".join(frame(BY_NUMBER[1].encode(message)) for message in messages)
    for start in range(0, len(wire), 7):
        house.say(wire[start : start + 7])
    assert house.session.heard == messages


def test_pings_are_answered_with_what_they_brought_in_order() -> None:
    house = House().shake()
    said = frame(b"a", 1) + frame(b"[1]") + frame(b"", 1) + frame(b"unasked", 2) + frame(b"b" * 200, 1)
    assert house.say(said) == frame(b"a", 2) + frame(b"", 2) + frame(b"b" * 200, 2)
    assert house.session.heard == [[1]]


def test_many_frames_in_one_read_are_heard_in_turns_with_others() -> None:
    house = House().shake()
    house.say(frame(b"[1]") * (FRAMES * 2 + 1))
    assert len(house.session.heard) == FRAMES
    assert house.wire.producerState == "paused"
    house.clock.advance(0)  # which has as many turns as are asked for
    assert len(house.session.heard) == FRAMES * 2 + 1
    assert house.wire.producerState == "producing"


def test_frames_that_take_long_are_heard_in_turns_with_others() -> None:
    house = House().shake()
    hear = house.session.receive

    def slowly(message: list[Any]) -> None:
        hear(message)
        house.clock.rightNow += TURN / 3

    house.session.receive = slowly  # type: ignore[method-assign]
    house.say(frame(b"[1]") * 30)
    assert 2 <= len(house.session.heard) <= 4
    assert house.wire.producerState == "paused"
    house.clock.advance(0)  # which has as many turns as are asked for
    assert len(house.session.heard) == 30
    assert house.wire.producerState == "producing"


@pytest.mark.parametrize(
    "data",
    [
        frame(b"", 3),
        frame(b"", 7),
        frame(b"", 8),
        frame(b"", 255),
        b"\x00\x10\x00\x01",
        b"\x01\x10\x00\x01",
        b"\x00\xff\xff\xff" + b"x" * 100,
    ],
)
def test_what_is_no_frame_or_too_long_ends_it_at_once(data: bytes) -> None:
    house = House().shake()
    assert house.say(data) == b""
    assert house.wire.disconnecting
    house.say(frame(b"[1]"))
    assert house.session.heard == []
    house.lose()
    assert house.session.ends == 1
    assert house.nothing_is_left()


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"[" * 1000, b"\xff"])
def test_what_is_no_message_is_a_violation(data: bytes) -> None:
    house = House().shake()
    assert house.say(frame(data)) == frame(b"[3]")
    assert len(house.session.faults) == 1
    assert house.wire.disconnecting


# -- what goes out


def test_what_may_wait_is_gathered_and_stays_before_what_goes_at_once() -> None:
    house = House().shake()
    connection = house.session.connection
    assert connection.send_later(b"1")
    assert connection.send_later(b"2")
    assert house.wire.value() == b""
    connection.send(b"3")
    assert house.wire.value() == frame(b"1") + frame(b"2") + frame(b"3")
    house.wire.clear()
    connection.send_later(b"4")
    house.advance(GATHER)
    assert house.wire.value() == frame(b"4")


def test_what_the_peer_cannot_take_is_dropped_or_ends_it() -> None:
    house = House().shake(exponent=9)
    connection = house.session.connection
    assert connection.send_later(b"x" * 512)
    assert not connection.send_later(b"x" * 513)
    connection.send(b"x" * 513)
    assert house.wire.value() == frame(b"x" * 512)
    assert house.wire.disconnecting


def test_who_does_not_read_is_not_read_and_loses_what_may_be_lost() -> None:
    house = House().shake()
    connection = house.session.connection
    house.wire.producer.pauseProducing()
    assert [connection.send_later(b"x" * 996) for _ in range(11)] == [True] * 10 + [False]
    house.say(frame(b"[1]"))
    assert house.session.heard == []
    house.wire.producer.resumeProducing()
    house.clock.advance(0)
    assert house.wire.value() == frame(b"x" * 996) * 10
    assert house.session.heard == [[1]]
    house.wire.producer.pauseProducing()
    for _ in range(FACTOR * 10 + 1):
        connection.send(b"x" * 996)
    assert house.wire.aborted


# -- ends


def test_it_is_closed_behind_all_that_was_sent_and_aborted_if_that_takes_long() -> None:
    house = House().shake()
    connection = house.session.connection
    connection.send_later(b"1")
    connection.close(1000, "enough")
    assert house.wire.value() == frame(b"1")
    assert house.wire.disconnecting
    connection.send(b"unheard")
    assert not connection.send_later(b"unheard")
    connection.close(1000, "again")
    assert house.wire.value() == frame(b"1")
    house.advance(CLOSE_TIMEOUT)
    assert house.wire.aborted
    house.lose()
    assert house.session.ends == 1
    assert house.nothing_is_left()


def test_a_lost_connection_is_lost_once() -> None:
    house = House().shake()
    house.session.connection.send_later(b"unheard")
    house.say(frame(b"[1]")[:-1])
    house.lose()
    assert (house.session.heard, house.session.ends) == ([], 1)
    assert house.nothing_is_left()
