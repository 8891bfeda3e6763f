"""Those who watch a broker over WAMP: JSON over WebSocket, as little of it as a measurement needs."""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from typing import Any

from broker import Broker

SILENCE = 30.0
"""Seconds in which the broker must have answered."""
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
)
ROLES = {"subscriber": {}, "caller": {}}


class Watcher:
    """One session that has subscribed to `topic`. What comes is counted, and looked at no further."""

    def __init__(self, broker: Broker, topic: str, match: str = "exact") -> None:
        self.socket = socket.create_connection(broker.http, timeout=SILENCE)
        self.socket.sendall(HANDSHAKE.encode())
        self._buffer = b""
        head = self._until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"no WebSocket: {head!r}")
        self._say([1, "rpcbroker", {"roles": ROLES, "authmethods": ["ticket"]}])
        self._hear(4)
        self._say([5, broker.token, {}])
        self._hear(2)
        self._say([32, 1, {"match": match}, topic])
        self._hear(33)
        self.socket.setblocking(False)
        self.events = 0
        self.bytes = 0
        self.closed = False

    def read(self) -> None:
        """What has come."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        self.closed = not data
        self.bytes += len(data)
        self.events += data.count(b'"n":')

    def beat(self) -> None:
        """Say that it is there (an unasked PONG, RFC 6455 5.5.3), as the broker wants to hear each half minute."""
        self.socket.send(b"\x8a\x80" + bytes(4))

    def close(self) -> None:
        self.socket.close()

    def _say(self, message: list[Any]) -> None:
        text = json.dumps(message).encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
        size = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
        self.socket.sendall(b"\x81" + size + mask + masked)

    def _hear(self, kind: int) -> None:
        """The next message, which must be of this type."""
        _, size = self._take(2)
        if size == 126:
            size = int.from_bytes(self._take(2), "big")
        message = json.loads(self._take(size))
        if message[0] != kind:
            raise SystemExit(f"a watcher was told {message}")

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._buffer += self._more()
        head, _, self._buffer = self._buffer.partition(end)
        return head

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the broker closed a watcher's connection")
        return data


class Watchers:
    """Some, which are read in the loop of `selector` but for those that are stalled."""

    def __init__(self, selector: selectors.BaseSelector, watchers: list[Watcher], *, stalled: int = 0) -> None:
        self.all = watchers
        self._selector = selector
        self._reading = watchers[stalled:]
        for watcher in self._reading:
            selector.register(watcher.socket, selectors.EVENT_READ, (self._read, watcher))

    @property
    def events(self) -> int:
        """How many have come to those who read."""
        return sum(watcher.events for watcher in self._reading)

    def _read(self, _: socket.socket, watcher: Watcher) -> None:
        watcher.read()
        if watcher.closed:
            raise SystemExit("the broker closed a watcher that reads")

    def close(self) -> None:
        for watcher in self._reading:
            self._selector.unregister(watcher.socket)
        for watcher in self.all:
            watcher.close()
        time.sleep(0.2)  # the broker has to notice
