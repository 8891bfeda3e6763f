"""A WebSocket connection that is to the protocol inside it what a TCP connection is: a stream of bytes.

So is MQTT carried: MQTT 5.0 and 3.1.1, section 6. Where frames and messages begin and end means nothing
there, so nothing is put together and kept: what one read brings in binary frames goes in, joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.direct import Outgoing
from rpcbroker.web.websocket_connection import (
    NORMAL,
    TOO_BIG,
    UNSUPPORTED_DATA,
    WebSocketConnection,
    WebSocketConnections,
)

ROOM = 1 << 20
"""Bytes that a frame may have beyond the largest packet, for clients that gather many packets in one frame.

Nothing is kept of a frame, so this spares no memory: it ends connections that make no sense.
"""


@implementer(ITransport, IPushProducer)
class ByteStream(WebSocketConnection):
    """One connection, and the transport of the protocol in it."""

    factory: ByteStreamFactory

    def __init__(self, inner: IProtocol) -> None:
        super().__init__()
        self._inner: Any = inner
        self._arrived: list[bytes] = []

    # -- what autobahn has read

    def onConnect(self, request: ConnectionRequest) -> str:
        subprotocol: str = request.protocols[0]
        return subprotocol

    def onOpen(self) -> None:
        self._inner.makeConnection(self)

    def onMessageBegin(self, isBinary: bool) -> None:
        if not isBinary:
            self._fail_connection(UNSUPPORTED_DATA, "only binary frames are taken")  # MQTT-6.0.0-1

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        most = self.factory.max_frame()
        if length > most:
            self._fail_connection(TOO_BIG, f"a frame may have {most} bytes")

    def onMessageFrameData(self, payload: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self._arrived.append(payload)

    def onMessageEnd(self) -> None:
        """Means nothing."""

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        self._hand_in()
        return super().onCloseFrame(code, reasonRaw)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Behind what the protocol inside has answered in this turn: nothing is sent after a close frame."""
        self.factory.outgoing.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def _hand_in(self) -> None:
        arrived, self._arrived = b"".join(self._arrived), []
        if arrived and self._inner is not None:
            self._inner.dataReceived(arrived)

    def _leave(self, reason: Failure) -> None:
        """The protocol inside hears once that it is over."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connectionLost(reason)

    # -- the transport of the protocol inside

    def write(self, data: bytes) -> None:
        if data and self.state == self.STATE_OPEN:
            self.sendFrame(opcode=self.MESSAGE_TYPE_BINARY, payload=data)

    def writeSequence(self, iovec: list[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self.end(NORMAL)

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        self.hold()

    def resumeProducing(self) -> None:
        self.release()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IAddress:
        return self.transport.getPeer()

    def getHost(self) -> IAddress:
        return self.transport.getHost()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Autobahn has switched it on already."""


class ByteStreamFactory(WebSocketConnections):
    """WebSocket connections with a protocol of another factory in each."""

    def __init__(
        self,
        inner: IProtocolFactory,
        *,
        max_frame: Callable[[], int],
        outgoing: Outgoing,
        deadlines: Deadlines,
        reactor: Any,
    ) -> None:
        """`max_frame`: the most bytes that a frame may announce; it is asked each time.

        `outgoing`: what gathers that which the protocols inside send.
        """
        super().__init__(deadlines=deadlines, reactor=reactor)
        self.inner = inner
        self.max_frame = max_frame
        self.outgoing = outgoing

    def buildProtocol(self, addr: IAddress | None) -> ByteStream | None:
        inner = self.inner.buildProtocol(addr)
        if inner is None:
            return None
        stream = ByteStream(inner)
        self.prepare(stream)
        return stream
