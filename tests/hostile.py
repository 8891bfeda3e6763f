"""What tests of hostile callers share: bytes to a broker, its answers, and another caller who must not suffer."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from daemon import Daemon

SOON, EVER = 1.0, 5.0
"""Seconds within which another caller is answered, whatever is done to the broker. A machine that is busy with
something else may make it later now and then, but not often, and not by much.
"""


class Answer(NamedTuple):
    status: int
    headers: dict[str, list[str]]
    body: bytes


def answers(said: bytes, *, bodies: bool = True) -> list[Answer]:
    """All answers, each whole; `bodies` is False for HEAD."""
    found = []
    while said:
        head, end, said = said.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert (version, end) == ("HTTP/1.1", b"\r\n\r\n") or (version, end) == ("HTTP/1.0", b"\r\n\r\n"), head
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            headers.setdefault(name.lower(), []).append(value)
        length = int(headers.get("content-length", ["0"])[0]) if bodies else 0
        assert len(said) >= length, head
        found.append(Answer(int(status), headers, said[:length]))
        said = said[length:]
    return found


def connect(url: str, seconds: float = 10.0) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), seconds)


def exchange(url: str, data: bytes) -> bytes:
    """What the broker says to these bytes until it closes. It is read while they are sent: it need not take them all."""
    try:
        connection = connect(url)
    except ConnectionResetError:  # it may have closed before connect has returned
        return b""
    with connection:

        def send() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(data)

        sender = threading.Thread(target=send)
        sender.start()
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                said += chunk
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        sender.join()
    return said


def statuses(url: str, data: bytes) -> list[int]:
    """The statuses of all answers; what is an error must say so in the API's words."""
    found = answers(exchange(url, data))
    for answer in found:
        if answer.status >= 400:
            check_error(answer)
    return [answer.status for answer in found]


def check_error(answer: Answer) -> None:
    assert answer.headers["content-type"] == ["application/json"]
    assert "date" in answer.headers
    said = json.loads(answer.body)
    assert said["status"] == answer.status
    assert isinstance(said["errorCode"], int)
    assert said["message"]
    assert answer.status != 405 or "allow" in answer.headers


def check_log(daemon: Daemon) -> None:
    log = daemon.log.read_text()
    assert not [word for word in ("Traceback", "#critical", "Unhandled") if word in log], log


class Bystander:
    """Somebody else, who asks again and again, each time over a connection of its own, and wants an answer soon."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._waits: list[float] = []

    def _ask(self) -> None:
        while not self._done.is_set() or not self._waits:
            start = time.monotonic()
            said = exchange(self._url, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self._waits.append(time.monotonic() - start if said.startswith(b"HTTP/1.1 200 ") else float("inf"))
            self._done.wait(0.02)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if error is None:
            late = [wait for wait in self._waits if wait > SOON]
            assert len(late) <= 1 + len(self._waits) // 20, late
            assert max(self._waits) < EVER


@contextlib.contextmanager
def attacked(directory: Path, **more: str) -> Iterator[Daemon]:
    """A broker that is logged in to, whose log must be clean in the end."""
    daemon = Daemon(directory, **more)
    try:
        yield daemon.login()
    finally:
        daemon.stop()
    check_log(daemon)
