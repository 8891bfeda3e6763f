"""Frames as a stream of bytes, and the transport that the protocol inside has."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, frame
from stream import MAX_FRAME, Peer, StreamDoor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.logger import LogLevel, capturedLogs

from rpcbroker.web.websocket_connection import CLOSE_TIMEOUT

CONTROL = frame(PING, b"in between")


def test_bytes_come_in_and_go_out_in_binary_frames() -> None:
    peer = StreamDoor().peer()
    peer.say(frame(BINARY, b"to the broker"))
    assert peer.inner.read == [b"to the broker"]
    peer.inner.transport.write(b"to the device")
    peer.inner.transport.writeSequence([b"and", b" more"])
    peer.inner.transport.write(b"")
    peer.inner.transport.write(b"x" * 70_000)
    assert peer.hear() == [
        Frame(BINARY, b"to the device"),
        Frame(BINARY, b"and more"),
        Frame(BINARY, b"x" * 70_000),
    ]


def test_what_one_read_brings_goes_in_at_once() -> None:
    peer = StreamDoor().peer()
    peer.say(frame(BINARY, b"a") + frame(BINARY, b"b", fin=False) + CONTROL + frame(CONTINUATION, b"c"))
    assert peer.inner.read == [b"abc"]
    assert peer.hear() == [Frame(PONG, b"in between")]


@pytest.mark.parametrize("seed", range(5))
def test_however_it_is_framed_and_cut_the_bytes_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    content = rng.randbytes(3000)
    wire, rest, inside = b"", content, False
    while rest or inside:
        size = rng.choice([0, 1, 2, 125, 126, 700])
        fin = rng.random() < 0.5 or not rest
        wire += frame(CONTINUATION if inside else BINARY, rest[:size], fin=fin)
        rest, inside = rest[size:], not fin
        wire += CONTROL if rng.random() < 0.2 else b""
    peer = StreamDoor().peer()
    while wire:
        size = rng.choice([1, 1, 5, 300, 9000])
        peer.say(wire[:size])
        wire = wire[size:]
    assert b"".join(peer.inner.read) == content
    assert {each.opcode for each in peer.hear()} <= {PONG}
    assert not peer.wire.closed


def test_a_frame_is_handed_on_before_it_is_whole() -> None:
    peer = StreamDoor().peer()
    whole = frame(BINARY, b"0123456789")
    peer.say(whole[:-3])
    peer.say(whole[-3:])
    assert peer.inner.read == [b"0123456", b"789"]


def test_a_ping_is_answered_with_what_it_brought() -> None:
    peer = StreamDoor().peer()
    assert peer.told(frame(PING, b"hello") + frame(PING) + frame(PONG, b"unasked")) == [
        Frame(PONG, b"hello"),
        Frame(PONG, b""),
    ]


# -- ends


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"text"), 1003),
        (frame(TEXT, b"\xff\xfe"), 1003),
        (frame(TEXT), 1003),
        (frame(BINARY, b"", announced=MAX_FRAME + 1), 1009),
        (frame(BINARY, b"", announced=1 << 62), 1009),
        (frame(BINARY, b"", announced=1 << 63), 1002),
        (frame(BINARY, b"x", masked=False), 1002),
        (frame(BINARY, b"x", reserved=4), 1002),
        (frame(BINARY, b"x", reserved=1), 1002),
        (frame(3, b"x"), 1002),
        (frame(11, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(BINARY, b"x" * 5)[:1] + b"\xfe\x00\x05" + b"x" * 9, 1002),
        (frame(CLOSE, b"x"), 1002),
        (close(999), 1002),
        (close(1005), 1002),
        (close(5000), 1002),
        (frame(CLOSE, b"\x03\xe8\xff\xff"), 1007),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_wrong_ends_it_with_a_code_and_is_no_news(data: bytes, code: int, whole: bool) -> None:
    peer = StreamDoor().peer()
    with capturedLogs() as logged:
        peer.say(frame(BINARY, b"good"))
        for part in [data] if whole else [data[i : i + 1] for i in range(len(data))]:
            peer.say(part)
        peer.say(frame(BINARY, b"later") + frame(PING))
    (last,) = peer.hear()
    assert last.code == code
    last.payload[2:].decode()
    assert len(last.payload) <= 125
    assert peer.wire.half_closed
    assert not peer.wire.aborted
    assert b"later" not in b"".join(peer.inner.read)
    assert peer.inner.lost == [ConnectionAborted]
    assert [event["log_level"] for event in logged] == [LogLevel.info]
    peer.lose()
    assert peer.inner.lost == [ConnectionAborted]


def test_what_was_good_before_the_wrong_frame_is_heard() -> None:
    peer = StreamDoor().peer()
    peer.say(frame(BINARY, b"good") + frame(TEXT, b"bad") + frame(BINARY, b"late"))
    assert peer.inner.read == [b"good"]


def test_a_peer_that_failed_and_stays_is_aborted() -> None:
    door = StreamDoor()
    peer = door.peer()
    peer.say(frame(TEXT, b"text"))
    door.advance(CLOSE_TIMEOUT - 0.1)
    peer.say(b"x" * 10_000)
    assert not peer.wire.aborted
    assert len(peer.wire.protocol.data) < 20, "what comes is not kept"
    door.advance(0.1)
    assert peer.wire.aborted
    peer.lose()
    assert door.nothing_is_left()


def test_an_announced_frame_takes_no_memory() -> None:
    peer = StreamDoor().peer()
    peer.say(frame(BINARY, b"", announced=MAX_FRAME))
    tracemalloc.start()
    for _ in range(60):
        peer.say(b"x" * 1000)
        peer.inner.read.clear()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000
    assert not peer.wire.closed


@pytest.mark.parametrize(
    ("said", "answered"), [(close(1000), b"\x03\xe8"), (frame(CLOSE), b""), (close(3999), b"\x0f\x9f")]
)
def test_a_close_is_answered_with_the_same_and_the_connection_ends(said: bytes, answered: bytes) -> None:
    door = StreamDoor()
    peer = door.peer()
    assert peer.told(frame(BINARY, b"last") + said + frame(BINARY, b"too late")) == [Frame(CLOSE, answered)]
    assert peer.inner.read == [b"last"]
    assert peer.inner.lost == [ConnectionDone]
    assert peer.wire.half_closed
    peer.inner.transport.write(b"unheard")
    peer.inner.transport.loseConnection()
    assert peer.hear() == []
    peer.lose()
    assert peer.inner.lost == [ConnectionDone]
    assert door.nothing_is_left()


@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "in two reads of one turn"])
@pytest.mark.parametrize(
    ("end", "code"),
    [(close(1000), 1000), (close(999), 1002), (frame(TEXT, b"text"), 1003)],
    ids=["close", "bad close", "text"],
)
def test_what_is_answered_in_the_turn_of_a_close_goes_out_before_it(end: bytes, code: int, apart: bool) -> None:
    door = StreamDoor()
    peer = door.peer()
    outgoing, inner = door.site.outgoing, peer.inner
    inner.dataReceived = lambda data: outgoing.send(inner.transport, b"answer")  # type: ignore[method-assign]
    outgoing.gather()
    for part in [frame(BINARY, b"asked"), end] if apart else [frame(BINARY, b"asked") + end]:
        peer.say(part)
    outgoing.release()
    answer, last = peer.hear()
    assert (answer.payload, last.code) == (b"answer", code)


def test_the_protocol_inside_closes_behind_what_it_has_sent_in_this_turn() -> None:
    door = StreamDoor()
    peer = door.peer()
    door.site.outgoing.gather()
    door.site.outgoing.send(peer.inner.transport, b"goodbye")
    peer.inner.transport.loseConnection()
    first, last = peer.hear()
    assert (first.payload, last.code) == (b"goodbye", 1000)


def test_a_peer_that_said_goodbye_and_stays_is_aborted() -> None:
    door = StreamDoor()
    peer = door.peer()
    peer.say(close(1000))
    door.advance(CLOSE_TIMEOUT)
    assert peer.wire.aborted


def test_the_protocol_inside_closes_with_a_handshake() -> None:
    door = StreamDoor()
    peer = door.peer()
    peer.inner.transport.write(b"goodbye")
    peer.inner.transport.loseConnection()
    peer.inner.transport.loseConnection()
    peer.inner.transport.write(b"unheard")
    first, last = peer.hear()
    assert (first.payload, last.code) == (b"goodbye", 1000)
    assert not peer.wire.closed
    assert peer.told(frame(BINARY, b"crossed") + frame(PING)) == []
    assert not peer.inner.lost, "it is told when it is over, as by TCP"
    peer.say(close(1000))
    assert peer.wire.half_closed
    assert not peer.wire.aborted
    assert (peer.inner.read, peer.inner.lost) == ([], [ConnectionDone])
    peer.lose()
    assert len(peer.inner.lost) == 1
    assert door.nothing_is_left()


def test_a_peer_that_does_not_answer_a_close_is_aborted() -> None:
    door = StreamDoor()
    peer = door.peer()
    peer.inner.transport.loseConnection()
    door.advance(CLOSE_TIMEOUT - 0.1)
    assert not peer.wire.aborted
    door.advance(0.1)
    assert peer.wire.aborted


def test_a_violation_while_it_closes_is_no_news_and_ends_it() -> None:
    peer = StreamDoor().peer()
    peer.inner.transport.loseConnection()
    with capturedLogs() as logged:
        peer.say(frame(CLOSE, b"\x03\xe8", masked=False))
    assert [each.code for each in peer.hear()] == [1000]
    assert peer.wire.half_closed
    assert not logged


def test_both_may_close_at_once() -> None:
    peer = StreamDoor().peer()
    assert [each.code for each in peer.told(frame(BINARY, b"close") + close(1000))] == [1000]
    assert (peer.inner.read, peer.inner.lost) == ([b"close"], [ConnectionDone])


def test_the_protocol_inside_aborts_without_a_word() -> None:
    peer = StreamDoor().peer()
    peer.inner.transport.abortConnection()
    assert peer.wire.aborted
    assert peer.hear() == []


def test_a_lost_connection_is_lost_once() -> None:
    door = StreamDoor()
    peer = door.peer()
    peer.say(frame(BINARY, b"half")[:-2])
    peer.lose()
    assert (peer.inner.made, peer.inner.lost) == (1, [ConnectionLost])
    assert door.nothing_is_left()


# -- back-pressure


def test_the_socket_tells_the_protocol_inside_when_it_is_full() -> None:
    peer = StreamDoor().peer()
    assert peer.wire.producer is peer.inner
    assert peer.wire.streaming is True
    peer.inner.transport.unregisterProducer()
    assert peer.wire.producer is None


def state(peer: Peer) -> str:
    return str(peer.wire.producerState)


def test_the_protocol_inside_may_stop_reading() -> None:
    peer = StreamDoor().peer()
    peer.inner.transport.pauseProducing()
    assert state(peer) == "paused"
    peer.inner.transport.resumeProducing()
    assert state(peer) == "producing"


@pytest.mark.parametrize("end", ["loseConnection", "stopProducing"])
def test_the_peers_close_is_heard_although_the_protocol_inside_does_not_read(end: str) -> None:
    peer = StreamDoor().peer()
    peer.inner.transport.pauseProducing()
    getattr(peer.inner.transport, end)()
    peer.inner.transport.pauseProducing()
    assert state(peer) == "producing"


def test_it_knows_who_is_there() -> None:
    peer = StreamDoor().peer()
    assert peer.inner.transport.getPeer() == peer.wire.getPeer()
    assert peer.inner.transport.getHost() == peer.wire.getHost()
