"""A WebSocket whose messages mean something, each whole: text or binary. RFC 6455 6."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.outlet import Outlet
from rpcbroker.web.websocket_connection import (
    INVALID_PAYLOAD,
    TOO_BIG,
    UNSUPPORTED_DATA,
    WebSocketConnection,
    WebSocketConnections,
)

MAX_FRAMES = 1024
"""Frames of one message: who cuts it smaller than that means no good."""

PING_INTERVAL = 30.0
"""Seconds between two looks at whether the peer is there: who was silent is pinged, and after that closed."""


class Listener(Protocol):
    """Who is spoken to over one connection."""

    binary: bool
    """Whether binary messages are spoken, not text."""

    def opened(self, connection: Any) -> None:
        """The MessageSocket may be spoken over from now on."""
        ...

    def received(self, message: bytes) -> None:
        """One message; text is UTF-8. Must not raise."""
        ...

    def closed(self) -> None:
        """The connection is gone; once, whoever ended it."""
        ...


class MessageSocket(WebSocketConnection):
    """One connection. `subprotocol` is empty if there is none; `query`: the parameters of the URL."""

    factory: MessageSocketFactory
    peer: str
    """Its address, for people."""
    most = sys.maxsize
    """Bytes of the largest message that the peer takes: it has no way to say so."""
    subprotocol: str
    query: dict[str, list[str]]

    def __init__(self) -> None:
        super().__init__()
        self._listener: Listener | None = None
        self._outlet: Any = None
        self._first = b""
        self._message = bytearray()
        self._fragments = 0
        self._beat: Deadline | None = None
        self._heard = False
        self._asked = False

    # -- to the peer

    @property
    def waiting(self) -> int:
        """Bytes that the peer was sent, and has not taken yet."""
        return 0 if self._outlet is None else int(self._outlet.waiting)

    def send(self, message: bytes) -> None:
        """At once. Nothing once it is closed."""
        if self.state == self.STATE_OPEN:
            self._outlet.write(_head(self._first, len(message)), message)

    def send_later(self, message: bytes) -> bool:
        """Together with others; False if too much waits for the peer: then it is not sent."""
        return self.state == self.STATE_OPEN and self._outlet.later(_head(self._first, len(message)), message)

    def close(self, code: int, reason: str) -> None:
        """When all that was sent is out."""
        self.end(code, reason)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        self._outlet.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    # -- what autobahn has read

    def onConnect(self, request: ConnectionRequest) -> str | None:
        self.subprotocol = request.protocols[0] if request.protocols else ""
        self.query = request.params
        return self.subprotocol or None

    def onOpen(self) -> None:
        factory = self.factory
        self.peer = str(getattr(self.transport.getPeer(), "host", "a local socket"))
        self._outlet = Outlet(
            self.transport,
            factory.deadlines,
            gather=factory.gather,
            max_waiting=factory.max_waiting,
            changed=lambda blocked: self.hold() if blocked else self.release(),
        )
        self._beat = factory.deadlines.after(PING_INTERVAL, self._look, None)
        self._listener = listener = factory.listener(self)
        self._first = b"\x82" if listener.binary else b"\x81"
        listener.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        super().dataReceived(data)

    def onMessageBegin(self, isBinary: bool) -> None:
        self._fragments = 0
        if self.state == self.STATE_OPEN and self._listener is not None and isBinary is not self._listener.binary:
            kind = "binary messages" if self._listener.binary else "text"
            self._fail_connection(UNSUPPORTED_DATA, f"only {kind} is spoken here")

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        self._fragments += 1
        most = self.factory.max_size()
        if len(self._message) + length > most:
            self._fail_connection(TOO_BIG, f"a message may have {most} bytes")
        elif self._fragments > MAX_FRAMES:
            self._fail_connection(TOO_BIG, f"a message may have {MAX_FRAMES} frames")

    def onMessageFrameData(self, payload: bytes) -> None:
        if self.state == self.STATE_OPEN:
            self._message += payload

    def onMessageEnd(self) -> None:
        message, self._message = bytes(self._message), bytearray()
        if self.state != self.STATE_OPEN or self._listener is None:
            return
        if not self._listener.binary and not _is_text(message):
            self._fail_connection(INVALID_PAYLOAD, "text must be UTF-8")
        else:
            self._listener.received(message)

    # -- ends

    def _look(self, _: None) -> None:
        """Whether the peer is there."""
        heard = self._heard or self.has_unread
        if self._asked and not heard:
            self._log.info("WebSocket of {peer} closed: it answers no pings", peer=self.peer)
            self.transport.abortConnection()
            return
        self._asked = not heard
        if self._asked:
            self.sendPing()
        self._heard = False
        self._beat = self.factory.deadlines.after(PING_INTERVAL, self._look, None)

    def _leave(self, reason: Failure) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        if self._beat is not None:
            self._beat.cancel()
        self._outlet.close()
        self._message = bytearray()
        listener.closed()


class MessageSocketFactory(WebSocketConnections):
    """All connections of one kind."""

    def __init__(
        self,
        listener: Callable[[MessageSocket], Listener],
        *,
        max_size: Callable[[], int],
        max_waiting: Callable[[], int],
        gather: Callable[[], float],
        deadlines: Deadlines,
        reactor: Any,
    ) -> None:
        """`listener` makes one for each connection that opens. `max_size`: bytes of a message; `max_waiting` and
        `gather` as Outlet has them. They are asked each time."""
        super().__init__(deadlines=deadlines, reactor=reactor)
        self.listener = listener
        self.max_size = max_size
        self.max_waiting = max_waiting
        self.gather = gather

    def buildProtocol(self, addr: IAddress | None) -> MessageSocket:
        connection = MessageSocket()
        self.prepare(connection)
        return connection


def _head(first: bytes, size: int) -> bytes:
    """Of a frame that is a whole message, unmasked. RFC 6455 5.2."""
    if size < 126:
        return first + size.to_bytes(1)
    return first + (b"\x7e" + size.to_bytes(2) if size < 1 << 16 else b"\x7f" + size.to_bytes(8))


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
