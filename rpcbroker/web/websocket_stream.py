"""A WebSocket connection that is to the protocol inside it what a TCP connection is: a stream of bytes.

So is MQTT carried: MQTT 5.0 and 3.1.1, section 6. Where frames and messages begin and end means nothing
there, so nothing is put together and kept: what one read brings in binary frames goes in, joined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcbroker.core.deadlines import Deadline, Deadlines

CLOSE_TIMEOUT = 2.0
"""Seconds that the peer has to answer a close frame, and then to close the connection; then it is aborted."""

ROOM = 1 << 20
"""Bytes that a frame may have beyond the largest packet, for clients that gather many packets in one frame.

Nothing is kept of a frame, so this spares no memory: it ends connections that make no sense.
"""

SLICE = 4096
"""Bytes that autobahn is given at once: it copies all that it was given for each frame that it finds there."""

NORMAL, UNSUPPORTED_DATA, TOO_BIG = 1000, 1003, 1009


@implementer(ITransport, IPushProducer)
class ByteStream(WebSocketServerProtocol):
    """One connection, and the transport of the protocol in it.

    The states are autobahn's: CONNECTING, OPEN, CLOSING (we have sent a close frame, and wait for the
    peer's), CLOSED (nothing is read any more; the last bytes go out).
    """

    _log = Logger()
    CONFIG_ATTRS = ()
    """Options that autobahn copies from the factory: that costs as much as all the rest of a handshake, for it
    formats them too, for a log that is off. `buildProtocol` copies them.
    """
    factory: ByteStreamFactory
    transport: Any
    state: int

    def __init__(self, inner: IProtocol) -> None:
        super().__init__()
        self._inner: Any = inner
        self._arrived: list[bytes] = []
        self._deadline: Deadline | None = None

    # -- Twisted's side

    def dataReceived(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self.state == self.STATE_CLOSED:
                return
            self._dataReceived(data[start : start + SLICE])
        self._hand_in()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._leave(reason)
        self._connectionLost(reason)  # past autobahn's own, which logs TLS errors of peers as errors of ours

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
        most = self.factory.max_frame()
        if length > most:
            self._fail_connection(TOO_BIG, f"a frame may have {most} bytes")

    def onMessageFrameData(self, payload: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self._arrived.append(payload)

    def onMessageFrameEnd(self) -> None:
        """Means nothing."""

    def onMessageEnd(self) -> None:
        """Means nothing."""

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        self._hand_in()
        return super().onCloseFrame(code, reasonRaw)

    def _hand_in(self) -> None:
        arrived, self._arrived = b"".join(self._arrived), []
        if arrived and self._inner is not None:
            self._inner.dataReceived(arrived)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Past autobahn's own, which for each write colours a line for a log that is off."""
        self.transport.write(data)

    # -- ends

    def _fail_connection(self, code: int, reason: str) -> None:
        """Whatever autobahn finds wrong ends here. RFC 6455 7.1.7: say why, and read no more."""
        if self.state == self.STATE_CLOSED:
            return
        self._hand_in()
        if self.state == self.STATE_OPEN:
            self._log.info(
                "WebSocket of {peer} closed: {code}, {reason}", peer=self.getPeer(), code=code, reason=reason
            )
            self.sendCloseFrame(code, reason.encode()[:123])
        self.state = self.STATE_CLOSED
        self._closeConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        """Autobahn is done. Let the last bytes out, and swallow what still comes.

        To close with bytes unread is a reset, and the peer would not see why it was closed.
        """
        self._close_in_time()
        self.unregisterProducer()
        if IHalfCloseableDescriptor.providedBy(self.transport) and not ISSLTransport.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
        self._leave(Failure(ConnectionDone() if self.wasClean else ConnectionAborted()))

    def _close_in_time(self) -> None:
        self.transport.resumeProducing()  # or the peer's end would not be heard
        if self._deadline is None:
            self._deadline = self.factory.deadlines.after(CLOSE_TIMEOUT, self._abort, None)

    def _abort(self, _: None) -> None:
        self.transport.abortConnection()

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
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(NORMAL)
            self._close_in_time()

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        if self.state == self.STATE_OPEN:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IAddress:
        return self.transport.getPeer()

    def getHost(self) -> IAddress:
        return self.transport.getHost()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Autobahn has switched it on already."""


class ByteStreamFactory(WebSocketServerFactory):
    """WebSocket connections with a protocol of another factory in each."""

    noisy = False

    def __init__(
        self, inner: IProtocolFactory, *, max_frame: Callable[[], int], deadlines: Deadlines, reactor: Any
    ) -> None:
        """`max_frame`: the most bytes that a frame may announce; it is asked each time."""
        super().__init__(server=None, reactor=reactor)
        self.inner = inner
        self.max_frame = max_frame
        self.deadlines = deadlines
        self.setProtocolOptions(
            failByDrop=True,  # what autobahn has found wrong, it reads no further
            echoCloseCodeReason=True,
            openHandshakeTimeout=0,  # the front door's deadlines
            closeHandshakeTimeout=0,  # CLOSE_TIMEOUT
        )
        self._options = {name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}

    def buildProtocol(self, addr: IAddress | None) -> ByteStream | None:
        inner = self.inner.buildProtocol(addr)
        if inner is None:
            return None
        protocol = ByteStream(inner)
        protocol.factory = self
        protocol.__dict__.update(self._options)
        return protocol
