"""A front door with messages at `/ws` and `/api/ws`, and peers that have upgraded there."""

from __future__ import annotations

from typing import Any

from door import Door
from frames import handshake
from upgraded import Upgraded

from rpcbroker.web.websocket import Socket
from rpcbroker.web.websocket_messages import MessageSocket, MessageSocketFactory

MAX_SIZE = 70_000
MAX_WAITING = 10_000
GATHER = 0.1


class Listener:
    """It remembers what it hears, and does what it is told."""

    def __init__(self, connection: MessageSocket) -> None:
        self.binary = connection.subprotocol.endswith("msgpack")
        self.heard: list[bytes] = []
        self.ends = 0
        self.connection = connection

    def opened(self, connection: MessageSocket) -> None:
        assert connection is self.connection

    def received(self, message: bytes) -> None:
        self.heard.append(message)
        if message == b"close":
            self.connection.close(4000, "as you like")

    def closed(self) -> None:
        self.ends += 1


class MessageDoor(Door):
    def __init__(self, **settings: Any) -> None:
        self.listeners: list[Listener] = []
        self.max_size = MAX_SIZE
        self.gather = GATHER
        super().__init__(sockets=MessageDoor._sockets, **settings)

    def _sockets(self) -> dict[str, Socket]:
        factory = MessageSocketFactory(
            self._listener,
            max_size=lambda: self.max_size,
            max_waiting=lambda: MAX_WAITING,
            gather=lambda: self.gather,
            deadlines=self.deadlines,
            reactor=self.clock,
        )
        return {"/ws": Socket(("text", "msgpack"), lambda: factory), "/api/ws": Socket((), lambda: factory)}

    def _listener(self, connection: MessageSocket) -> Listener:
        self.listeners.append(Listener(connection))
        return self.listeners[-1]

    def peer(self, path: str = "/ws", subprotocol: str | None = "text") -> Peer:
        return Peer(self, path, subprotocol)


class Peer(Upgraded):
    """It knows who listens to it."""

    def __init__(self, door: MessageDoor, path: str, subprotocol: str | None) -> None:
        super().__init__(door, handshake(path, Sec_WebSocket_Protocol=subprotocol))
        self.door = door
        assert self.upgrade.headers.get("sec-websocket-protocol") == ([subprotocol] if path == "/ws" else None)
        self.listener = door.listeners[-1]
        self.connection = self.listener.connection

    @property
    def heard(self) -> list[bytes]:
        """What the listener was told since that was asked."""
        heard, self.listener.heard = self.listener.heard, []
        return heard
