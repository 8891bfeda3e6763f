"""What hostile peers may do to WebSockets and to WAMP, as tables: the real daemon, real sockets, bytes by hand."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from daemon import Daemon, wait_for
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, frame, handshake
from honest import gauge, memory
from hostile import Bystander, attacked, check_error
from websocket_peer import WampPeer, WebSocketPeer, handshaken

from rpcbroker.feed.codec import BY_NUMBER, BY_SUBPROTOCOL

MIB = 1 << 20
ORIGIN = "https://app.example.org"
SOON = 1.0
"""Seconds in which what is wrong is answered, on a machine that does other things, too."""

PATHS: dict[str, tuple[str | None, int]] = {
    "/ws": ("wamp.2.json", TEXT),
    "/api/ws": (None, TEXT),
    "/mqtt": ("mqtt", BINARY),
}
"""What is spoken at each, and in which kind of messages."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    more = {"RPCBROKER_HTTP_ALLOWED_ORIGINS": ORIGIN, "RPCBROKER_WAMP_RAWSOCKET_LISTEN": "tcp:0:interface=127.0.0.1"}
    with attacked(tmp_path_factory.mktemp("broker"), **more) as daemon:
        yield daemon


def peer(broker: Daemon, path: str) -> WebSocketPeer:
    return WebSocketPeer(broker, path, PATHS[path][0])


# -- handshakes


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("other", "status"),
    [
        ({"Sec_WebSocket_Version": "12"}, 426),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Upgrade": None}, 426),
        ({"Connection": "close"}, 426),
        ({"first": "POST {} HTTP/1.1", "Content_Length": "0"}, 405),
        ({"first": "GET {} HTTP/1.0"}, 426),
        ({"Cookie": "x" * 100_000}, 431),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ORIGIN}, 101),
        ({"Origin": "http://broker.example", "Host": "broker.example"}, 101),
        ({"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"}, 101),
    ],
)
def test_a_handshake_is_answered_as_it_is(broker: Daemon, path: str, other: dict[str, str | None], status: int) -> None:
    answer = handshaken(broker, handshake(path, **{"Sec_WebSocket_Protocol": PATHS[path][0]} | other))  # type: ignore[arg-type]
    assert answer.status == status
    if status == 101:
        assert "sec-websocket-extensions" not in answer.headers
        return
    check_error(answer)
    if status == 426:
        assert answer.headers["sec-websocket-version"] == ["13"]


@pytest.mark.parametrize(
    ("path", "offered", "chosen"),
    [
        ("/ws", "foo", None),
        ("/ws", "mqtt", None),
        ("/ws", "", None),
        ("/ws", "wamp.2.json.batched", None),
        ("/mqtt", "wamp.2.json", None),
        ("/ws", "foo, wamp.2.cbor, wamp.2.json", "wamp.2.cbor"),
        ("/ws", "wamp.2.msgpack", "wamp.2.msgpack"),
    ],
)
def test_what_is_not_spoken_is_not_told(broker: Daemon, path: str, offered: str, chosen: str | None) -> None:
    answer = handshaken(broker, handshake(path, Sec_WebSocket_Protocol=offered))
    assert answer.status == (101 if chosen else 400)
    assert answer.headers.get("sec-websocket-protocol") == ([chosen] if chosen else None)


# -- frames


class Row(NamedTuple):
    """What is said, of the kind that is spoken there, and the code with which it is closed."""

    name: str
    data: Callable[[int], bytes]
    code: int
    paths: tuple[str, ...] = tuple(PATHS)


TEXTS = ("/ws", "/api/ws")
DEFLATED = zlib.compressobj(wbits=-15)
BOMB = DEFLATED.compress(b"\0" * 16 * MIB) + DEFLATED.flush(zlib.Z_SYNC_FLUSH)

TABLE = [
    Row("not masked", lambda kind: frame(kind, b"x", masked=False), 1002),
    *(Row(f"RSV{bit}", lambda kind, bit=bit: frame(kind, b"x", reserved=bit), 1002) for bit in (1, 2, 4)),
    *(
        Row(f"opcode {code}", lambda _, code=code: frame(code, b"x"), 1002)
        for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    Row("a ping in two", lambda _: frame(PING, b"x", fin=False), 1002),
    Row("a ping of 126 bytes", lambda _: frame(PING, b"x" * 126), 1002),
    Row("a close in two", lambda _: frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    Row("an end without a beginning", lambda _: frame(CONTINUATION, b"x"), 1002),
    Row("a message in a message", lambda kind: frame(kind, b"x", fin=False) + frame(kind, b"x"), 1002),
    Row("2^63 bytes", lambda kind: frame(kind, announced=1 << 63), 1002),
    Row("2^64 - 1 bytes", lambda kind: frame(kind, announced=(1 << 64) - 1), 1002),
    Row("2^40 bytes", lambda kind: frame(kind, announced=1 << 40) + b"x" * MIB, 1009),
    Row("2^63 - 1 bytes", lambda kind: frame(kind, announced=(1 << 63) - 1), 1009),
    Row("a long length of a short frame", lambda kind: bytes((0x80 | kind, 0xFE, 0, 5)) + b"x" * 9, 1002),
    Row("a longer length of it", lambda kind: bytes((0x80 | kind, 0xFF)) + b"\0" * 7 + b"\5" + b"x" * 9, 1002),
    Row("the other kind", lambda kind: frame(TEXT + BINARY - kind, b"{}"), 1003),
    Row("no UTF-8", lambda _: frame(TEXT, b"\xff"), 1007, TEXTS),
    Row("no UTF-8 over frames", lambda _: frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"x"), 1007, TEXTS),
    Row("half a surrogate", lambda _: frame(TEXT, b'["\xed\xa0\x80"]'), 1007, TEXTS),
    Row("UTF-8 without its end", lambda _: frame(TEXT, b"[\xc3"), 1007, TEXTS),
    Row("a close of one byte", lambda _: frame(CLOSE, b"x"), 1002),
    *(
        Row(f"close {code}", lambda _, code=code: close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1100, 2999, 5000)
    ),
    Row("a close without UTF-8", lambda _: frame(CLOSE, b"\x03\xe8\xff"), 1007),
    Row("too long", lambda _: frame(TEXT, b" " * (MIB + 1)), 1009, TEXTS),
    Row("too long in many", lambda _: frame(TEXT, fin=False) + frame(0, b" " * 4096, fin=False) * 300, 1009, TEXTS),
    Row("100,000 empty frames", lambda _: frame(TEXT, fin=False) + frame(0, fin=False) * 100_000, 1009, TEXTS),
    Row("100,000 small frames", lambda _: frame(TEXT, fin=False) + frame(0, b" ", fin=False) * 100_000, 1009, TEXTS),
    Row("a bomb", lambda kind: frame(kind, BOMB, reserved=4), 1002),
    Row("noise", lambda _: bytes(range(255, -1, -1)) * 1000, 1002),
    Row("HTTP", lambda _: b"GET / HTTP/1.1\r\n\r\n" * 1000, 1002),
]


@pytest.mark.parametrize("path", PATHS)
def test_what_is_wrong_is_closed_with_a_code_and_disturbs_nobody(broker: Daemon, path: str) -> None:
    with Bystander(broker.http):
        for row in TABLE:
            if path not in row.paths:
                continue
            start = time.monotonic()
            said = peer(broker, path).say(row.data(PATHS[path][1])).hear_all()
            assert (row.name, [each.code for each in said]) == (row.name, [row.code])
            assert time.monotonic() - start < SOON, row.name


@pytest.mark.parametrize("path", PATHS)
def test_what_comes_behind_a_close_is_not_heard(broker: Daemon, path: str) -> None:
    kind = PATHS[path][1]
    assert peer(broker, path).say(close(3000) + frame(kind, b"[1]") + frame(PING)).hear_all() == [
        Frame(CLOSE, b"\x0b\xb8")
    ]


@pytest.mark.parametrize("path", PATHS)
def test_a_close_that_is_not_answered_is_waited_for_two_seconds(broker: Daemon, path: str) -> None:
    stays = peer(broker, path).say(frame(TEXT, b"[]"))  # which is a fault at each
    start = time.monotonic()
    with stays.socket, contextlib.suppress(ConnectionError):
        while time.monotonic() - start < 5:
            stays.socket.sendall(frame(PING))
            time.sleep(0.05)
    assert 1.5 < time.monotonic() - start < 4


@pytest.mark.parametrize("path", PATHS)
def test_10000_pings_are_answered_in_order_and_delay_nobody(broker: Daemon, path: str) -> None:
    with Bystander(broker.http):
        pings = peer(broker, path)
        pings.say(b"".join(frame(PING, b"%d" % i) for i in range(10_000)))
        start, heard = time.monotonic(), 0
        while time.monotonic() - start < 3:
            assert pings.hear() == Frame(PONG, b"%d" % heard)
            heard += 1
        assert 100 <= heard < 10_000
        pings.leave()


def test_what_is_announced_takes_no_memory(broker: Daemon) -> None:
    before = memory(broker)
    peers = [peer(broker, "/ws").say(frame(TEXT, announced=MIB) + b"x") for _ in range(100)]
    pings = [each.say(frame(PING)) for each in peers]
    time.sleep(0.2)
    assert memory(broker) - before < 30 * MIB
    for each in pings:
        each.leave()


# -- WAMP

DEEP = 100_000

MALFORMED: dict[str, dict[str, bytes]] = {
    "wamp.2.json": {
        "deep": b"[" * DEEP,
        "deep and whole": b"[" * DEEP + b"]" * DEEP,
        "deep maps": b'[{"":' * DEEP,
        "5,000 digits": b"[" + b"1" * 5_000 + b"]",
        "NaN": b"[NaN]",
        "Infinity": b"[1e999]",
        "cut": b'[1,"rpcbroker",{',
        "empty": b"",
        "an object": b"{}",
        "no JSON": b"hello",
        "two": b"[1][2]",
        "lists": b"[" + b"[]," * 340_000 + b"0]",
        "batched": b"[1]\x18",
    },
    "wamp.2.msgpack": {
        "2^32 values": b"\xdd\xff\xff\xff\xff",
        "a map of 2^32": b"\x91\xdf\xff\xff\xff\xff",
        "deep": b"\x91" * DEEP,
        "deep maps": b"\x91" + b"\x81\xa0" * DEEP,
        "a long text": b"\x91\xdb\xff\xff\xff\xff",
        "an extension": b"\x91\xd4\x05a",
        "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x00",
        "lists": b"\xdd\x00\x0f\xff\x00" + b"\x90" * (MIB - 300),
        "an object": b"\x80",
        "empty": b"",
        "batched": b"\x00\x00\x00\x02\x91\x01",
    },
    "wamp.2.cbor": {
        "2^64 values": b"\x9b" + b"\xff" * 8,
        "deep": b"\x81" * DEEP,
        "deep, lengths untold": b"\x9f" * DEEP,
        "deep maps, lengths untold": b"\x9f" + b"\xbf\x60" * DEEP,
        "a long text": b"\x81\x7b\x7f" + b"\xff" * 7,
        "a bignum": b"\x81\xc2\x5a\x00\x0f\x00\x00" + b"\xff" * (15 << 16),
        "what holds itself": b"\xd8\x1c\x81\xd8\x1d\x00",
        "undefined": b"\x81\xf7",
        "lists": b"\x9a\x00\x0f\xff\x00" + b"\x80" * (MIB - 300),
        "an object": b"\xa0",
        "empty": b"",
    },
}


@pytest.mark.parametrize("subprotocol", MALFORMED)
def test_what_is_no_message_of_wamp_is_a_violation_and_stalls_nobody(broker: Daemon, subprotocol: str) -> None:
    serializer = BY_SUBPROTOCOL[subprotocol]
    kind = BINARY if serializer.binary else TEXT
    with Bystander(broker.http):
        for name, data in MALFORMED[subprotocol].items():
            start = time.monotonic()
            abort, end = WebSocketPeer(broker, "/ws", subprotocol).say(frame(kind, data) + close(1000)).hear_all()
            assert time.monotonic() - start < SOON, name
            message = serializer.decode(abort.payload)
            assert (name, message[0], message[2]) == (name, 3, "wamp.error.protocol_violation")
            assert end.code == 1002


def test_a_session_that_says_too_much_is_gone_with_its_subscriptions(broker: Daemon) -> None:
    sessions = gauge(broker, "rpcbroker_wamp_sessions")
    for data in (frame(TEXT, b" " * (MIB + 1)), frame(TEXT, fin=False) + frame(0, b" " * 4096, fin=False) * 300):
        client = WampPeer(broker)
        assert client.tell([32, 1, {"match": "prefix"}, "rpcbroker.device."]).told()[0] == 33
        assert gauge(broker, "rpcbroker_wamp_sessions") == sessions + 1
        assert client.say(data).hear_all()[-1].code == 1009
        wait_for(lambda: gauge(broker, "rpcbroker_wamp_sessions") == sessions, "the end of the session")


def test_a_session_that_is_reset_is_gone(broker: Daemon) -> None:
    sessions = gauge(broker, "rpcbroker_wamp_sessions")
    client = WampPeer(broker, "wamp.2.cbor")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    wait_for(lambda: gauge(broker, "rpcbroker_wamp_sessions") == sessions, "the end of the session")


# -- RawSocket


def raw(broker: Daemon, data: bytes) -> bytes:
    """What is said to it until the broker closes."""
    port = int(broker.endpoints["wamp"].rsplit(":", 1)[1])
    said = b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        while chunk := connection.recv(65536):
            said += chunk
    return said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7f\xf4\x00\x00", b"\x7f\x10\x00\x00"),
        (b"\x7f\xf0\x00\x00", b"\x7f\x10\x00\x00"),
        (b"\x7f\xf1\x00\x01", b"\x7f\x30\x00\x00"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x7f\xf1\x00\x00\x03\x00\x00\x00", b"\x7f\xb1\x00\x00"),
        (b"\x7f\xf1\x00\x00\x00\xff\xff\xff" + b"x" * MIB, b"\x7f\xb1\x00\x00"),
        (b"\x7f\xf1\x00\x00\x01\x00\x00\x01a\x80\x00\x00\x00", b"\x7f\xb1\x00\x00\x02\x00\x00\x01a"),
    ],
)
def test_what_is_wrong_with_rawsocket_ends_it_at_once(broker: Daemon, data: bytes, said: bytes) -> None:
    start = time.monotonic()
    assert raw(broker, data) == said
    assert time.monotonic() - start < SOON


@pytest.mark.parametrize("number", BY_NUMBER)
def test_what_is_no_message_is_a_violation_over_rawsocket_too(broker: Daemon, number: int) -> None:
    serializer = BY_NUMBER[number]
    with Bystander(broker.http):
        for name, data in MALFORMED[f"wamp.2.{serializer.name}"].items():
            said = raw(broker, bytes((0x7F, 0xF0 | number, 0, 0)) + len(data).to_bytes(4) + data)
            message = serializer.decode(said[8:])
            assert (name, message[0], message[2]) == (name, 3, "wamp.error.protocol_violation")
