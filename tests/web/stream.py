"""A front door with byte streams at `/mqtt`, and peers that have upgraded there."""

from __future__ import annotations

from typing import Any

from door import Caller, Door
from frames import ACCEPT, Frame, frames, handshake
from hostile import answers
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

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
        factory = Factory()
        factory.buildProtocol = self._build
        streams = ByteStreamFactory(factory, max_frame=lambda: MAX_FRAME, deadlines=self.deadlines, reactor=self.clock)
        return {"/mqtt": Socket(("mqtt", "mqttv3.1"), lambda: streams)}

    def _build(self, _: IAddress) -> Inner | None:
        if self.closed_to_all:
            return None
        self.inner.append(Inner())
        return self.inner[-1]

    def peer(self) -> Peer:
        return Peer(self)


class Peer(Caller):
    """A client that has upgraded."""

    def __init__(self, door: StreamDoor) -> None:
        super().__init__(door, IPv4Address("TCP", "192.0.2.1", 50_000))
        self.say(handshake())
        (answer,) = answers(self.wire.value())
        self.wire.clear()
        assert answer.status == 101
        assert answer.headers["sec-websocket-accept"] == [ACCEPT]
        self.inner = door.inner[-1]

    def say(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)

    def hear(self) -> list[Frame]:
        said = frames(self.wire.value())
        self.wire.clear()
        return said

    def told(self, data: bytes) -> list[Frame]:
        """What is answered to this."""
        self.say(data)
        return self.hear()
