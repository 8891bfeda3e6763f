"""What a hostile device may send over HTTP, as a table: the real daemon, plain sockets.

As in test_hostile_http, each row is followed by an honest request over the same connection.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

import pytest
from daemon import Daemon, wait_for
from hostile import Bystander, answers, attacked, check_error, connect, exchange
from mutating import mutated
from test_hostile_http import GOES_ON, HONEST, MEGABYTE, REFUSED, Row

TOKEN = "HOSTILEDEVICE"
POLLS = 400


def get(path: str, *headers: str, method: str = "GET", token: str = TOKEN) -> bytes:
    return "\r\n".join([f"{method} /api/v1/{token}/{path} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


def post(path: str, body: bytes = b"", *headers: str, token: str = TOKEN) -> bytes:
    return get(path, *(headers or (f"Content-Length: {len(body)}",)), method="POST", token=token) + body


def chunked(path: str, body: bytes) -> bytes:
    return post(path, body, "Transfer-Encoding: chunked")


TABLE = [
    Row(119, "a body without length", post("telemetry", b"", "A: b") + b'{"a":1}\r\n\r\n', [400, 400]),
    Row(119, "length and chunks", post("rpc/1", b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), REFUSED),
    Row(119, "two lengths", post("rpc/1", b"12345", "Content-Length: 5", "Content-Length: 6"), REFUSED),
    Row(119, "a negative length", post("telemetry", b"", "Content-Length: -1"), REFUSED),
    Row(120, "chunks", chunked("telemetry", b'7\r\n{"a":1}\r\n0\r\n\r\n'), [200, 200]),
    Row(120, "chunks over the limit", chunked("rpc/1", (b"1000\r\n" + b"1" * 4096 + b"\r\n") * 17), [413]),
    Row(120, "chunks over the limit that all have", chunked("telemetry", (b"10000\r\n" + b"1" * 65536 + b"\r\n") * 17), [413]),
    Row(120, "a chunk over the limit", chunked("rpc/1/progress", b"20001\r\n"), [413]),
    Row(120, "a million chunks of one byte", chunked("rpc/1", b"1\r\n1\r\n" * MEGABYTE), REFUSED),
    Row(121, "10,000 headers", get("rpc", *[f"A{i}: b" for i in range(10_000)]), [431]),
    Row(121, "a token of 1 MB", get("rpc", token="t" * MEGABYTE), [414]),
    Row(121, "a token of 10 kB", get("rpc", token="t" * 10_000), [401, 200]),
    Row(122, "no Host", get("rpc").replace(b"Host: x\r\n", b""), GOES_ON),
    Row(123, "100-continue and too large", post("rpc/1", b"", "Content-Length: 65537", "Expect: 100-continue"), [413]),
    Row(123, "100-continue", post("rpc/1", b"1", "Content-Length: 1", "Expect: 100-continue"), [100, 200, 200]),
    Row(123, "gzip", post("telemetry", b"12345", "Content-Length: 5", "Content-Encoding: gzip"), [415]),
    Row(124, "a way up", get("../../../etc/passwd"), [404, 200]),
    Row(124, "a coded way up", get("%2e%2e/%2e%2e/version"), [404, 200]),
    Row(124, "no token", get("rpc", token=""), [401, 200]),
    Row(124, "a NUL", get("rpc%00"), [404, 200]),
    Row(124, "a coded slash", get("rpc%2f1"), GOES_ON),
    Row(124, "not UTF-8", get("rpc%ff"), GOES_ON),
    Row(124, "parameters of a segment", get("rpc;a=b"), [404, 200]),
    Row(124, "two slashes", get("/rpc"), [404, 200]),
    Row(124, "16 kB of slashes", get("/" * 15_000), [404, 200]),
    Row(124, "an id of 10,000 digits", post("rpc/" + "1" * 10_000, b"1"), GOES_ON),
    Row(125, "TRACE", get("rpc", method="TRACE"), [405, 200]),
    Row(125, "get", get("rpc", method="get"), [405, 200]),
    Row(125, "PUT", post("telemetry", b"{}").replace(b"POST", b"PUT"), [405, 200]),
    Row(126, "100,000 brackets", post("telemetry", b"[" * 100_000), GOES_ON),
    Row(126, "60,000 brackets as a reply", post("rpc/1", b"[" * 60_000), GOES_ON),
    Row(126, "NaN", post("attributes", b'{"a":NaN}'), GOES_ON),
    Row(126, "a lone surrogate", post("rpc/1", b'"\\ud800"'), GOES_ON),
    Row(126, "a number of 5,000 digits", post("attributes", b'{"a":' + b"9" * 5000 + b"}"), GOES_ON),
    Row(126, "UTF-16", post("rpc/1", '"a"'.encode("utf-16")), GOES_ON),
    Row(127, "a negative timeout", get("rpc?timeout=-1"), GOES_ON),
    Row(127, "no number", get("rpc?timeout=NaN"), GOES_ON),
    Row(127, "an infinite timeout", get("attributes/updates?timeout=1e999"), GOES_ON),
    Row(127, "a very short timeout", get("rpc?timeout=1"), [408, 200]),
    Row(127, "a short timeout over HTTP/1.0", get("rpc?timeout=1").replace(b"1.1", b"1.0"), [408]),
    Row(128, "an upgrade to HTTP/2", get("attributes", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), [200, 200]),
    Row(128, "an upgrade to WebSocket", get("attributes", "Connection: Upgrade", "Upgrade: websocket"), [200, 200]),
    Row(128, "polls in one segment", get("rpc?timeout=1") * 20, [408] * 20 + [200]),
    Row(128, "replies in one segment", post("rpc/1", b"1") * 1000, [200] * 1000 + [200]),
    Row(130, "CR and LF in a token", get("rpc", token="a%0d%0aSet-Cookie:%20b=c"), [401, 200]),
    Row(130, "CR and LF in a query", get("attributes?clientKeys=%0d%0aSet-Cookie:%20b=c"), [200, 200]),
]  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    more = {"RPCBROKER_HTTP_DEVICES_MAX_POLLS": str(POLLS), "RPCBROKER_HTTP_DEVICES_MAX_POLLS_PER_DEVICE": "300"}
    directory = tmp_path_factory.mktemp("broker")
    with attacked(directory, **more) as daemon:
        daemon.add_device("d", TOKEN)
        daemon.add_device("e", "OTHERDEVICE")
        yield daemon
    assert TOKEN not in (directory / "log").read_text()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.item}-{row.name[:60]}")
def test_each_is_answered_as_it_deserves_and_others_do_not_suffer(broker: Daemon, row: Row) -> None:
    with Bystander(broker.http):
        found = answers(exchange(broker.http, row.data + HONEST))
    for answer in found:
        assert "set-cookie" not in answer.headers
        if answer.status >= 400 and answer.status != 408:
            check_error(answer)
    assert [answer.status for answer in found] == row.statuses


def test_118_slow_bodies_do_not_hold_up_others(broker: Daemon) -> None:
    slow = []
    try:
        for _ in range(100):
            connection = connect(broker.http)
            slow.append(connection)
            connection.sendall(post("telemetry", b"{", "Content-Length: 1000"))
        with Bystander(broker.http):
            for connection in slow:
                connection.sendall(b" ")
    finally:
        for connection in slow:
            connection.close()


def test_127_polls_beyond_the_limits_are_refused_and_places_are_free_at_once(broker: Daemon) -> None:
    def polls(token: str, number: int) -> list[socket.socket]:
        opened = []
        for _ in range(number):
            connection = connect(broker.http)
            connection.sendall(get("rpc", token=token))
            opened.append(connection)
        return opened

    def wait_for_refusals(opened: list[socket.socket], status: int, number: int) -> None:
        seen = 0

        def all_came() -> bool:
            nonlocal seen
            for connection in opened:
                connection.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    seen += connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)
            return seen >= number

        wait_for(all_came, f"{number} refusals")
        assert seen == number

    with Bystander(broker.http):
        mine = polls(TOKEN, 350)
        wait_for_refusals(mine, 429, 50)
        theirs = polls("OTHERDEVICE", 120)
        wait_for_refusals(theirs, 503, 20)
        for connection in (*mine, *theirs):
            connection.close()

    def free() -> bool:
        return [answer.status for answer in answers(exchange(broker.http, get("rpc?timeout=1") + HONEST))] == [408, 200]

    wait_for(free, "a free place")


def test_127_a_flood_of_polls_that_leave_at_once_keeps_nothing(broker: Daemon) -> None:
    with Bystander(broker.http):
        for _ in range(1_000):
            with connect(broker.http) as connection:
                connection.sendall(get("rpc"))
    assert answers(exchange(broker.http, get("rpc?timeout=1") + HONEST))[0].status == 408


def test_128_a_reset_during_the_answer_harms_nobody(broker: Daemon) -> None:
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with a reset
    with Bystander(broker.http):
        for request in (get("rpc?timeout=1"), get("rpc", "Accept: text/event-stream"), post("telemetry", b'{"a":1}')):
            for _ in range(50):
                connection = connect(broker.http)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(request)
                connection.close()


def test_2000_mutations_of_good_requests_leave_the_broker_well(broker: Daemon) -> None:
    chance = random.Random(6)
    seeds = [
        post("telemetry", b'{"a":1}'),
        post("rpc/7", b'{"ok":true}'),
        get("rpc?timeout=1"),
        get("rpc?timeout=1", "Accept: text/event-stream", "Last-Event-ID: 5"),
        chunked("attributes", b'7\r\n{"a":1}\r\n0\r\n\r\n'),
    ]
    with Bystander(broker.http):
        for number in range(2_000):
            with connect(broker.http) as connection, contextlib.suppress(OSError):
                connection.sendall(b"".join(mutated(chance, [seeds[number % len(seeds)]])))
    assert answers(exchange(broker.http, HONEST))[0].status == 200
