"""A client of WebSocket by hand, over a real socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from daemon import Daemon
from frames import BINARY, TEXT, Frame, frame, frames, handshake
from hostile import Answer, answers, connect

from rpcbroker.feed.codec import BY_SUBPROTOCOL

HELLO = [1, "rpcbroker", {"roles": {"subscriber": {}, "caller": {}}, "authmethods": ["ticket"]}]


def handshaken(daemon: Daemon, data: bytes) -> Answer:
    """What is answered to a handshake."""
    with connect(daemon.http) as connection:
        connection.sendall(data)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
            with contextlib.suppress(AssertionError):
                return answers(said)[0]
    raise AssertionError(f"no whole answer: {said!r}")


class WebSocketPeer:
    """One that has upgraded."""

    def __init__(
        self, daemon: Daemon, path: str, subprotocol: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket = connect(daemon.endpoints["https"].replace("https", "http") if tls else daemon.http)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.socket.sendall(handshake(path, Sec_WebSocket_Protocol=subprotocol))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"extensions" not in head.lower()
        self._unread = b""

    def say(self, data: bytes) -> WebSocketPeer:
        """As far as the broker takes it: it may have closed in the middle."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)
        return self

    def hear(self) -> Frame:
        """The next frame."""
        while True:
            size = _size(self._unread)
            if size and len(self._unread) >= size:
                said, self._unread = self._unread[:size], self._unread[size:]
                return frames(said)[0]
            chunk = self.socket.recv(65536)
            assert chunk, f"it ended after {self._unread!r}"
            self._unread += chunk

    def hear_all(self) -> list[Frame]:
        """Until the broker closes."""
        with self.socket:
            while chunk := self.socket.recv(65536):
                self._unread += chunk
        return frames(self._unread)

    def leave(self) -> None:
        """Without a word."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class WampPeer(WebSocketPeer):
    """One that has joined, as who is logged in to the daemon."""

    def __init__(
        self, daemon: Daemon, subprotocol: str = "wamp.2.json", *, path: str = "/ws", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(daemon, path, subprotocol, tls)
        self._serializer = BY_SUBPROTOCOL[subprotocol]
        assert self.tell(HELLO).told()[0] == 4
        assert self.tell([5, daemon.token, {}]).told()[0] == 2

    def tell(self, message: list[Any]) -> WampPeer:
        self.say(frame(BINARY if self._serializer.binary else TEXT, self._serializer.encode(message)))
        return self

    def told(self) -> list[Any]:
        """The next message."""
        return self._serializer.decode(self.hear().payload)


def _size(said: bytes) -> int:
    """Of the frame that begins there; 0 if that is not known yet."""
    if len(said) < 10 and (len(said) < 2 or len(said) < {126: 4, 127: 10}.get(said[1], 2)):
        return 0
    width = {126: 2, 127: 8}.get(said[1], 0)
    return 2 + width + (int.from_bytes(said[2 : 2 + width]) if width else said[1])
