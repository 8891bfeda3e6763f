"""Messages over WebSocket: each whole, bounded, in order; what is wrong ends them with a code."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, frame
from sockets import GATHER, MAX_SIZE, MAX_WAITING, MessageDoor, Peer
from twisted.logger import LogLevel, capturedLogs

from rpcbroker.core.lag import TURN
from rpcbroker.core.outlet import FACTOR
from rpcbroker.web.websocket_connection import CLOSE_TIMEOUT, FRAMES, PINGS, cut
from rpcbroker.web.websocket_messages import MAX_FRAMES, PING_INTERVAL

BOTH = pytest.mark.parametrize(("subprotocol", "kind"), [("text", TEXT), ("msgpack", BINARY)])


# -- what comes in


@BOTH
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, MAX_SIZE])
def test_a_message_is_handed_on_whole(subprotocol: str, kind: int, size: int) -> None:
    peer = MessageDoor().peer(subprotocol=subprotocol)
    peer.say(frame(kind, b"x" * size)[:-1] if size else b"")
    assert not peer.heard
    peer.say(frame(kind, b"x" * size)[-1:] if size else frame(kind))
    assert peer.heard == [b"x" * size]


@pytest.mark.parametrize("seed", range(5))
def test_however_it_is_framed_and_cut_the_messages_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    messages, wire = ["é" * rng.choice([0, 1, 60, 700]) for _ in range(30)], b""
    for message in messages:
        rest, opcode = message.encode(), TEXT
        while True:
            size = rng.choice([0, 1, 2, 125, 126, 700])
            fin = size >= len(rest) and rng.random() < 0.5
            wire += frame(opcode, rest[:size], fin=fin) + (frame(PING, b"?") if rng.random() < 0.1 else b"")
            rest, opcode = rest[size:], CONTINUATION
            if fin:
                break
    door = MessageDoor()
    peer = door.peer()
    while wire:
        size = rng.choice([1, 1, 5, 300, 9000])
        peer.say(wire[:size])
        wire = wire[size:]
    door.turn(20)
    assert peer.heard == [message.encode() for message in messages]
    assert {each.opcode for each in peer.hear()} <= {PONG}


@pytest.mark.parametrize(
    ("subprotocol", "data", "code"),
    [
        ("text", frame(BINARY, b"[]"), 1003),
        ("text", frame(BINARY), 1003),
        ("msgpack", frame(TEXT, b"[]"), 1003),
        ("text", frame(TEXT, b"\xff"), 1007),
        ("text", frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"x"), 1007),
        ("text", frame(TEXT, b"\xe2\x82"), 1007),
        ("text", frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("text", frame(TEXT, announced=MAX_SIZE + 1), 1009),
        ("text", frame(TEXT, announced=1 << 40), 1009),
        ("text", frame(TEXT, announced=(1 << 63) - 1), 1009),
        ("text", frame(TEXT, announced=1 << 63), 1002),
        ("text", frame(TEXT, b"x" * MAX_SIZE, fin=False) + frame(CONTINUATION, b"x"), 1009),
        ("text", frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * MAX_FRAMES, 1009),
        ("text", frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * MAX_FRAMES, 1009),
        ("text", frame(TEXT, b"x", masked=False), 1002),
        ("text", frame(TEXT, b"x", reserved=4), 1002),
        ("text", frame(TEXT, b"x", reserved=2), 1002),
        ("text", frame(TEXT, b"x", reserved=1), 1002),
        *(("text", frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        ("text", frame(CONTINUATION, b"x"), 1002),
        ("text", frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
        ("text", frame(PING, b"x", fin=False), 1002),
        ("text", frame(PING, b"x" * 126), 1002),
        ("text", frame(TEXT, b"x" * 5)[:1] + b"\xfe\x00\x05" + b"x" * 9, 1002),
        ("text", frame(CLOSE, b"x"), 1002),
        *(("text", close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)),
        ("text", frame(CLOSE, b"\x03\xe8\xff\xff"), 1007),
        ("text", b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_wrong_ends_it_with_a_code(subprotocol: str, data: bytes, code: int, whole: bool) -> None:
    door = MessageDoor()
    peer = door.peer(subprotocol=subprotocol)
    with capturedLogs() as logged:
        peer.say(frame(BINARY if subprotocol == "msgpack" else TEXT, b"good"))
        for part in [data] if whole else [data[i : i + 1] for i in range(min(len(data), 12_000))] + [data[12_000:]]:
            peer.say(part)
        door.turn(50)
        peer.say(frame(TEXT, b"later") + frame(PING))
    (last,) = peer.hear()
    assert last.code == code
    assert len(last.payload) <= 125
    assert peer.wire.half_closed
    assert (peer.heard, peer.listener.ends) == ([b"good"], 1)
    assert [event["log_level"] for event in logged] == [LogLevel.info]
    peer.lose()
    assert peer.listener.ends == 1
    assert door.nothing_is_left()


def test_many_messages_in_one_read_are_heard_in_turns_with_others() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.say(b"".join(frame(TEXT, b"%d" % i) for i in range(3_000)))
    first = len(peer.listener.heard)
    assert FRAMES <= first < 1_000
    assert peer.wire.producerState == "paused"
    door.turn()
    assert first < len(peer.listener.heard) < 3_000
    door.turn(40)
    assert peer.wire.producerState == "producing"
    assert peer.heard == [b"%d" % i for i in range(3_000)]


def test_messages_that_take_long_are_heard_in_turns_with_others() -> None:
    door = MessageDoor()
    peer = door.peer()
    hear = peer.listener.received

    def slowly(message: bytes) -> None:
        hear(message)
        door.clock.rightNow += TURN / 3

    peer.listener.received = slowly  # type: ignore[method-assign]
    peer.say(b"".join(frame(TEXT, b"%d" % i) for i in range(30)))
    heard = [len(peer.listener.heard)]
    assert peer.wire.producerState == "paused"
    while heard[-1] < 30:
        door.turn()
        heard.append(len(peer.listener.heard))
    assert {after - before for before, after in pairwise([0, *heard])} <= {2, 3, 4}
    assert peer.heard == [b"%d" % i for i in range(30)]
    door.turn()
    assert peer.wire.producerState == "producing"


def test_what_is_not_read_yet_is_heard_when_the_peer_leaves() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.say(frame(TEXT, b"1") * 3_000)
    peer.lose()
    assert len(peer.heard) == 3_000
    assert door.nothing_is_left()


def test_pings_are_answered_in_order_and_not_faster_than_they_may_come() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.say(b"".join(frame(PING, b"%d" % i) for i in range(5_000)))
    pongs = peer.hear()
    assert PINGS < len(pongs) < 1_000
    for _ in range(100):
        door.turn(3)
        assert not peer.hear()
        door.advance(1.0)
        pongs += peer.hear()
        if len(pongs) == 5_000:
            break
    assert pongs == [Frame(PONG, b"%d" % i) for i in range(5_000)]
    peer.say(frame(TEXT, b"still there"))
    assert peer.heard == [b"still there"]


def test_what_a_frame_announces_takes_no_memory() -> None:
    peer = MessageDoor().peer()
    tracemalloc.start()
    peer.say(frame(TEXT, announced=MAX_SIZE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


# -- what goes out


@BOTH
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_message_goes_out_in_one_frame_at_once(subprotocol: str, kind: int, size: int) -> None:
    peer = MessageDoor().peer(subprotocol=subprotocol)
    peer.connection.send(b"x" * size)
    assert peer.hear() == [Frame(kind, b"x" * size)]


def test_what_may_wait_is_gathered_and_written_once() -> None:
    door = MessageDoor()
    peer = door.peer()
    for i in range(5):
        assert peer.connection.send_later(b"%d" % i)
    door.advance(GATHER - 0.03)
    assert peer.hear() == []
    door.advance(0.03)
    assert peer.hear() == [Frame(TEXT, b"%d" % i) for i in range(5)]
    door.advance(GATHER)
    assert peer.hear() == []


def test_what_goes_at_once_stays_behind_what_was_gathered() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.connection.send_later(b"first")
    peer.connection.send(b"second")
    assert peer.hear() == [Frame(TEXT, b"first"), Frame(TEXT, b"second")]
    door.advance(GATHER)
    assert peer.hear() == []


def test_nothing_is_gathered_if_that_is_switched_off() -> None:
    door = MessageDoor()
    door.gather = 0.0
    peer = door.peer()
    assert peer.connection.send_later(b"now")
    assert peer.hear() == [Frame(TEXT, b"now")]


def stalled(peer: Peer) -> Peer:
    """It does not read: the transport says so."""
    peer.wire.producer.pauseProducing()
    return peer


def test_for_who_does_not_read_it_waits_and_beyond_the_limit_it_is_dropped() -> None:
    peer = stalled(MessageDoor().peer())
    message = b"x" * 998
    sent = [peer.connection.send_later(message) for _ in range(20)]
    assert sent == [True] * (MAX_WAITING // 1_002) + [False] * (20 - MAX_WAITING // 1_002)
    peer.connection.send(b"must")
    assert peer.hear() == []
    peer.wire.producer.resumeProducing()
    assert peer.hear() == [Frame(TEXT, message)] * (MAX_WAITING // 1_002) + [Frame(TEXT, b"must")]
    assert peer.connection.send_later(b"again")


def test_who_does_not_read_is_not_read() -> None:
    door = MessageDoor()
    peer = stalled(door.peer())
    assert peer.wire.producerState == "paused"
    peer.say(frame(TEXT, b"unheard"))
    assert not peer.heard
    peer.wire.producer.resumeProducing()
    door.turn()
    assert peer.heard == [b"unheard"]
    assert peer.wire.producerState == "producing"


def test_who_does_not_read_what_must_be_sent_is_aborted() -> None:
    peer = stalled(MessageDoor().peer())
    for _ in range(FACTOR * 10):
        assert not peer.wire.aborted
        peer.connection.send(b"x" * 1_000)
    assert peer.wire.aborted


# -- ends


def test_it_is_closed_behind_all_that_was_sent() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.connection.send_later(b"later")
    assert peer.told(frame(TEXT, b"close")) == [Frame(TEXT, b"later"), Frame(CLOSE, b"\x0f\xa0as you like")]
    peer.connection.send(b"unheard")
    assert not peer.connection.send_later(b"unheard")
    peer.connection.close(1000, "again")
    assert peer.told(frame(TEXT, b"crossed") + frame(BINARY, b"crossed") + frame(PING)) == []
    assert peer.listener.ends == 0
    peer.say(close(4000))
    assert (peer.heard, peer.listener.ends) == ([b"close"], 1)
    assert peer.wire.half_closed
    peer.lose()
    assert peer.listener.ends == 1
    assert door.nothing_is_left()


def test_who_does_not_read_is_closed_all_the_same() -> None:
    door = MessageDoor()
    peer = stalled(door.peer())
    peer.connection.send(b"goodbye")
    peer.connection.close(1013, "too slow")
    assert [each.opcode for each in peer.hear()] == [TEXT, CLOSE]
    door.advance(CLOSE_TIMEOUT)
    assert peer.wire.aborted
    peer.lose()
    assert peer.listener.ends == 1
    assert door.nothing_is_left()


@pytest.mark.parametrize(
    ("said", "answered"), [(close(1000), b"\x03\xe8"), (frame(CLOSE), b""), (close(3999), b"\x0f\x9f")]
)
def test_a_close_is_answered_behind_what_was_gathered(said: bytes, answered: bytes) -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.connection.send_later(b"later")
    assert peer.told(said + frame(TEXT, b"too late")) == [Frame(TEXT, b"later"), Frame(CLOSE, answered)]
    assert (peer.heard, peer.listener.ends) == ([], 1)
    peer.lose()
    assert door.nothing_is_left()


def test_a_peer_that_does_not_answer_a_close_is_aborted() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.connection.close(1000, "")
    door.advance(CLOSE_TIMEOUT - 0.1)
    assert not peer.wire.aborted
    door.advance(0.1)
    assert peer.wire.aborted


def test_a_silent_peer_is_pinged_and_one_that_does_not_answer_aborted() -> None:
    door = MessageDoor()
    talks, answers, is_gone = door.peer(), door.peer(), door.peer()
    for _ in range(4):
        talks.say(frame(TEXT, b"hello"))
        door.advance(PING_INTERVAL)
        assert talks.hear() == []
        if answers.hear():
            answers.say(frame(PONG))
    assert not talks.wire.aborted
    assert not answers.wire.aborted
    assert is_gone.wire.aborted
    for peer in (talks, answers, is_gone):
        peer.lose()
        assert peer.listener.ends == 1
    assert door.nothing_is_left()


def test_a_lost_connection_is_lost_once() -> None:
    door = MessageDoor()
    peer = door.peer()
    peer.connection.send_later(b"unheard")
    peer.say(frame(TEXT, b"half")[:-2])
    peer.lose()
    assert (peer.heard, peer.listener.ends) == ([], 1)
    assert door.nothing_is_left()


def test_a_reason_is_cut_to_what_a_close_frame_holds() -> None:
    assert cut("é" * 100) == ("é" * 61).encode()
    assert cut("short") == b"short"


# -- who comes


def test_the_listener_knows_what_the_url_says() -> None:
    connection = MessageDoor().peer("/api/ws?token=a%20b%26c&empty=&token=2&%C3%BC=%C3%A9", None).connection
    assert (connection.subprotocol, connection.peer) == ("", "192.0.2.1")
    assert connection.query == {"token": ["a b&c", "2"], "ü": ["é"]}


def test_where_there_are_no_subprotocols_none_is_told() -> None:
    peer = MessageDoor().peer("/api/ws", "chat, mqtt")
    peer.connection.send(b"text")
    assert peer.hear() == [Frame(TEXT, b"text")]
