"""A front door with byte streams at `/mqtt`, and peers that have upgraded there."""

from __future__ import annotations

from functools import cache
from typing import Any

from door import Door
from frames import ACCEPT, handshake
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from upgraded import Upgraded

from rpcbroker.web.websocket import Socket
from rpcbroker.web.websocket_stream import ByteStreamFactory

MAX_FRAME = 70_000


class Inner(Protocol):
    """A protocol inside a stream, that remembers."""

    made = 0

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.lost: list[type[BaseException]] = []
        self.asked: list[str] = []

    def connectionMade(self) -> None:
        self.made += 1
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.read.append(data)
        if data == b"close":
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.type)

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class StreamDoor(Door):
    def __init__(self, **settings: Any) -> None:
        self.inner: list[Inner] = []
        self.closed_to_all = False
        super().__init__(sockets=StreamDoor._sockets, **settings)

    def _sockets(self) -> dict[str, Socket]:
        return {"/mqtt": Socket(("mqtt", "mqttv3.1"), cache(self._streams))}

    def _streams(self) -> ByteStreamFactory:
        factory = Factory()
        factory.buildProtocol = self._build
        return ByteStreamFactory(
            factory,
            max_frame=lambda: MAX_FRAME,
            outgoing=self.site.outgoing,
            deadlines=self.deadlines,
            reactor=self.clock,
        )

    def _build(self, _: IAddress) -> Inner | None:
        if self.closed_to_all:
            return None
        self.inner.append(Inner())
        return self.inner[-1]

    def peer(self) -> Peer:
        return Peer(self)


class Peer(Upgraded):
    """It knows the protocol inside its stream."""

    def __init__(self, door: StreamDoor) -> None:
        super().__init__(door, handshake())
        assert self.upgrade.headers["sec-websocket-accept"] == [ACCEPT]
        self.inner = door.inner[-1]
