"""Devices over HTTP on real sockets: the real daemon, plain and over TLS."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certificates as c
import pytest
from daemon import Daemon, wait_for
from hostile import answers, attacked, connect
from test_tls import connected

TOKEN = "HTTPDEVICE"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("broker")
    files = c.make(directory, serial=1)
    with attacked(directory, RPCBROKER_HTTP_LISTEN=f"tcp:0:interface=127.0.0.1 {files.listener()}") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def device(broker: Daemon) -> str:
    return broker.add_device("d", TOKEN)


def get(path: str, *headers: str, token: str = TOKEN) -> bytes:
    return "\r\n".join([f"GET /api/v1/{token}/{path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes, token: str = TOKEN) -> bytes:
    return f"POST /api/v1/{token}/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_until(connection: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    said = b""
    while not enough(said):
        chunk = connection.recv(65536)
        assert chunk, said
        said += chunk
    return said


def whole(said: bytes) -> bool:
    head, end, body = said.partition(b"\r\n\r\n")
    length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
    return bool(end) and len(body) >= int(length.split(b":")[1])


def ask(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection.sendall(request)
    (answer,) = answers(read_until(connection, whole))
    return answer.status, answer.body


class Calling(threading.Thread):
    """A caller, who waits in a thread of its own."""

    def __init__(self, broker: Daemon, device: str, **body: Any) -> None:
        super().__init__()
        self._ask = lambda: broker.ask(
            "POST", f"/api/rpc/twoway/{device}", {"method": "m", "params": 5, "timeout": 20_000} | body
        )
        self.result: tuple[int, Any] = 0, None
        self.start()

    def run(self) -> None:
        self.result = self._ask()

    def outcome(self) -> tuple[int, Any]:
        self.join(30)
        return self.result


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_call_by_poll_and_its_reply_over_one_kept_connection(broker: Daemon, device: str, tls: bool) -> None:
    context: Any = connected(broker, "https") if tls else connect(broker.http)
    with context as connection:
        for number in range(3):
            connection.sendall(get("rpc"))
            broker.wait_callable(device)
            calling = Calling(broker, device, params=number)
            (answer,) = answers(read_until(connection, whole))
            call = json.loads(answer.body)
            assert (call["method"], call["params"]) == ("m", number)
            assert ask(connection, post(f"rpc/{call['id']}", b'{"was":%d}' % number)) == (200, b"")
            assert calling.outcome() == (200, {"was": number})


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_call_by_event_and_resume_after_the_connection_broke(broker: Daemon, device: str, tls: bool) -> None:
    def stream() -> Any:
        return connected(broker, "https") if tls else connect(broker.http)

    with stream() as connection:
        connection.sendall(get("rpc", "Accept: text/event-stream"))
        broker.wait_callable(device)
        first = Calling(broker, device, params="first")
        (event,) = events(read_until(connection, lambda said: said.endswith(b"}\n\n")))
        second = Calling(broker, device, params="second")
        read_until(connection, lambda said: said.endswith(b"}\n\n"))
    with stream() as connection:
        connection.sendall(get("rpc", "Accept: text/event-stream", f"Last-Event-ID: {event[0]}"))
        (again,) = events(read_until(connection, lambda said: said.endswith(b"}\n\n")))
        assert (event[1]["params"], again[1]["params"]) == ("first", "second")
        for (_, call), calling in ((event, first), (again, second)):
            with connect(broker.http) as other:
                assert ask(other, post(f"rpc/{call['id']}", json.dumps(call["params"]).encode()))[0] == 200
            assert calling.outcome() == (200, call["params"])


def events(said: bytes) -> list[tuple[int, Any]]:
    """Number and data of each."""
    blocks = [block.rpartition("\r\n")[2] for block in said.decode().split("\n\n") if "event: rpc" in block]
    found = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(int(fields["id"]), json.loads(fields["data"])) for fields in found]


def test_a_poller_that_vanishes_loses_no_call(broker: Daemon, device: str) -> None:
    connection = connect(broker.http)
    connection.sendall(get("rpc"))
    broker.wait_callable(device)
    connection.close()
    calling = Calling(broker, device)
    with connect(broker.http) as other:
        status, body = ask(other, get("rpc"))
        assert status == 200
        assert ask(other, post(f"rpc/{json.loads(body)['id']}", b"1")) == (200, b"")
    assert calling.outcome() == (200, 1)


def test_a_reply_to_the_call_of_another_device_answers_nothing(broker: Daemon, device: str) -> None:
    broker.add_device("other", "OTHERDEVICE")
    with connect(broker.http) as poller, connect(broker.http) as other:
        poller.sendall(get("rpc"))
        broker.wait_callable(device)
        calling = Calling(broker, device)
        (answer,) = answers(read_until(poller, whole))
        path = f"rpc/{json.loads(answer.body)['id']}"
        for forged in (path, f"{path}/progress"):
            assert ask(other, post(forged, b'"forged"', token="OTHERDEVICE")) == (200, b"")
        assert ask(poller, post(path, b'"true"')) == (200, b"")
        assert calling.outcome() == (200, "true")


def test_who_sends_no_more_is_answered_at_once(broker: Daemon, device: str) -> None:
    for request, expected in (
        (get("rpc"), [408]),
        (get("attributes/updates"), [408]),
        (post("telemetry", b'{"a":1}'), [200]),
        (post("attributes", b'{"a":1}') * 3, [200, 200, 200]),
        (post("attributes", b'{"a":1}') + get("rpc") + get("attributes"), [200, 408, 200]),
    ):
        with connect(broker.http) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            said = b""
            while chunk := connection.recv(65536):
                said += chunk
        assert [answer.status for answer in answers(said)] == expected


def test_a_deleted_device_hears_it_at_once(broker: Daemon) -> None:
    doomed = broker.add_device("doomed", "DOOMED")
    with connect(broker.http) as connection:
        connection.sendall(get("rpc", token="DOOMED"))
        broker.wait_callable(doomed)
        assert broker.ask("DELETE", f"/api/device/{doomed}")[0] == 200
        (answer,) = answers(read_until(connection, whole))
        assert (answer.status, answer.body) == (403, b"Device was deleted!")
        assert ask(connection, get("rpc", token="DOOMED"))[0] == 401


def test_a_shared_attribute_reaches_the_poll_that_waits_for_it(broker: Daemon, device: str) -> None:
    with connect(broker.http) as connection:
        connection.sendall(get("attributes/updates"))
        wait_for(
            lambda: broker.ask("GET", f"/api/device/{device}/presence")[1]["connected"]["value"], "a connected device"
        )
        path = f"/api/plugins/telemetry/DEVICE/{device}/attributes/SHARED_SCOPE"
        assert broker.ask("POST", path, {"k": 1})[0] == 200
        (answer,) = answers(read_until(connection, whole))
        assert (answer.status, answer.body) == (200, b'{"k":1}')


def test_a_stop_answers_polls_and_ends_streams_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).login()
    devices = [daemon.add_device(name, name) for name in ("POLLER", "READER")]
    with connect(daemon.http) as poller, connect(daemon.http) as reader:
        poller.sendall(get("rpc", token="POLLER"))
        reader.sendall(get("rpc", "Accept: text/event-stream", token="READER"))
        for each in devices:
            daemon.wait_callable(each)
        start = time.monotonic()
        daemon.stop()
        assert time.monotonic() - start < 5
        (answer,) = answers(read_until(poller, whole))
        assert answer.status == 503
        read_until(reader, lambda said: said.endswith(b"\n\n"))
        assert reader.recv(100) == b""
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert not [token for token in ("POLLER", "READER") if f"/{token}/" in log]


def test_an_answer_that_no_socket_has_taken_goes_to_the_next_poll(broker: Daemon) -> None:
    slow = broker.add_device("slow", "SLOWREADER")
    text = "x" * 900_000
    calling: list[Calling] = []
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    host, port = broker.http.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    connection.sendall(get("rpc", token="SLOWREADER") * 20)

    def stuck() -> bool:
        """Whether the poll behind the last answer is not served any more, for its caller does not read."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if broker.ask("GET", f"/api/device/{slow}/presence")[1]["callable"]["value"]:
                return False
            time.sleep(0.05)
        return True

    while not stuck():
        assert len(calling) < 19, "the kernel takes all that it is given"
        calling.append(Calling(broker, slow, params=text, timeout=60_000))
    connection.close()
    given = []
    with connect(broker.http) as other:
        while (got := ask(other, get("rpc?timeout=500", token="SLOWREADER")))[0] == 200:
            call = json.loads(got[1])
            assert call["params"] == text
            given.append(call["id"])
            assert ask(other, post(f"rpc/{call['id']}", b"1", token="SLOWREADER"))[0] == 200
    last = len(calling)
    assert given == list(range(last + 1 - len(given), last + 1)), "those after what was taken, the first of them again"
    assert given
    assert broker.ask("DELETE", f"/api/device/{slow}")[0] == 200, "which ends the others"
    assert [each.outcome()[0] for each in calling].count(200) == len(given)
