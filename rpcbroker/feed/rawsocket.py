"""WAMP straight over TCP. https://wamp-proto.org/spec.html, "RawSocket Transport"

Pings are answered, and none are sent: clients are known that take them for messages of 16 MiB. Whether a silent peer is
there is the kernel's to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.lag import TURN
from rpcbroker.core.outlet import Outlet, let_go
from rpcbroker.feed.codec import BY_NUMBER
from rpcbroker.feed.connection import WampConnection
from rpcbroker.feed.router import Router

MAGIC = 0x7F
UNSUPPORTED_SERIALIZER, RESERVED_BITS = 1, 3
"""Errors that a handshake is answered with."""
MESSAGE, PING, PONG = 0, 1, 2
"""Types of frames."""
HEAD = 4
FRAMES = 100
"""Frames of one connection that are read before others have their turn, if it has not been as long as TURN before."""
CLOSE_TIMEOUT = 2.0
"""Seconds that the last bytes have to go out, and the peer to end it, too; then the connection is aborted."""
_SHORTEST, _LONGEST = 9, 24
"""Exponents of two of the lengths that may be agreed on."""


class RawSocket(Protocol):
    """One connection: a handshake, then frames."""

    _log = Logger()
    factory: RawSocketFactory
    transport: Any
    peer: str

    def __init__(self) -> None:
        self._unread = bytearray()
        self._listener: WampConnection | None = None
        self._outlet: Any = None
        self.most = 0
        """Bytes of a message that the peer takes."""
        self._closing = False
        self._blocked = False
        self._deadline: Deadline | None = None
        self._turn: DelayedCall | None = None

    # -- to the peer

    @property
    def waiting(self) -> int:
        """Bytes that it was sent, and has not taken yet."""
        return 0 if self._outlet is None else int(self._outlet.waiting)

    def send(self, message: bytes) -> None:
        """At once. Nothing once it is closed. Who cannot take it is disconnected, for it would wait for it."""
        if self._closing:
            return
        if len(message) > self.most:
            self.close(0, f"a message of {len(message)} bytes is longer than it takes")
        else:
            self._outlet.write(len(message).to_bytes(HEAD), message)

    def send_later(self, message: bytes) -> bool:
        """Together with others; False if too much waits for the peer, or it cannot take it: then it is not sent."""
        fits = len(message) <= self.most and not self._closing
        return fits and self._outlet.later(len(message).to_bytes(HEAD), message)

    def close(self, code: int, reason: str) -> None:
        """When all that was sent is out. Nobody is told why: a WAMP message says that."""
        if self._closing:
            return
        self._closing = True
        self._log.debug("RawSocket of {peer} closed: {reason}", peer=self.peer, reason=reason)
        if self._outlet is not None:
            self._outlet.flush()
            self.transport.unregisterProducer()
        self._stop_waiting()
        self._deadline = self.factory.deadlines.after(CLOSE_TIMEOUT, self._abort, None)
        self.transport.resumeProducing()  # or the peer's end would not be heard
        let_go(self.transport)

    # -- Twisted's side

    def connectionMade(self) -> None:
        self.peer = str(getattr(self.transport.getPeer(), "host", "a local socket"))
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        timeout = self.factory.router.settings.hello_timeout
        self._deadline = self.factory.deadlines.after(timeout, self._abort, None)

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._unread += data
        if self._turn is None:
            self._read()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = True
        self._stop_waiting()
        if self._outlet is not None:
            self._outlet.close()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.closed()

    # -- what comes in

    def _read(self) -> None:
        """So much as may be read in one turn of the reactor."""
        data, start = self._unread, 0
        if self._listener is None:
            if len(data) < HEAD and (not data or data[0] == MAGIC):
                return
            self._shake_hands(bytes(data[:HEAD]))
            start = HEAD
        end, reactor = start, self.factory.reactor
        until = reactor.seconds() + TURN
        for _ in range(FRAMES):
            end = 0 if self._blocked or self._closing else self._frame(data, start)
            start = end or start
            if not end or reactor.seconds() > until:
                break
        del data[: len(data) if self._closing else start]
        if end and data:
            self._go_on_later()

    def _frame(self, data: bytearray, start: int) -> int:
        """Where the frame at `start` ends; 0 if it is not there, or wrong."""
        body = start + HEAD
        if len(data) < body:
            return 0
        kind, size = data[start], int.from_bytes(data[start + 1 : body])
        most = self.factory.router.settings.max_message_size
        if kind > PONG:
            self.close(0, f"there are no frames of type {kind}")
        elif size > most:
            self.close(0, f"a message may have {most} bytes")
        if self._closing or len(data) < body + size:
            return 0
        if kind == MESSAGE and self._listener is not None:
            self._listener.received(bytes(data[body : body + size]))
        elif kind == PING:
            self._outlet.write(bytes((PONG, *data[start + 1 : body])), bytes(data[body : body + size]))
        return body + size

    def _shake_hands(self, asked: bytes) -> None:
        """Answer with the same serializer, or with what is wrong."""
        if asked[0] != MAGIC:
            self.close(0, "what came is no handshake")
            return
        serializer = BY_NUMBER.get(asked[1] & 15)
        error = UNSUPPORTED_SERIALIZER if serializer is None else RESERVED_BITS if any(asked[2:]) else 0
        if serializer is None or error:
            self.transport.write(bytes((MAGIC, error << 4, 0, 0)))
            self.close(0, f"its handshake was refused, with error {error}")
            return
        if self._deadline is not None:
            self._deadline.cancel()
        factory = self.factory
        exponent = min(_LONGEST, max(_SHORTEST, factory.router.settings.max_message_size.bit_length() - 1))
        self.transport.write(bytes((MAGIC, exponent - _SHORTEST << 4 | asked[1] & 15, 0, 0)))
        self.most = min(1 << _SHORTEST + (asked[1] >> 4), (1 << _LONGEST) - 1)
        self._outlet = Outlet(
            self.transport,
            factory.deadlines,
            gather=factory.gather,
            max_waiting=factory.max_waiting,
            changed=self._block,
        )
        self._listener = WampConnection(factory.router, serializer)
        self._listener.opened(self)

    def _block(self, blocked: bool) -> None:
        """Who does not read is not read."""
        self._blocked = blocked
        if blocked:
            self.transport.pauseProducing()
        elif not self._closing:
            self._go_on_later()

    def _go_on_later(self) -> None:
        """In another turn. Nothing more comes meanwhile."""
        if self._turn is None:
            self.transport.pauseProducing()
            self._turn = self.factory.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if not self._blocked:
            self.transport.resumeProducing()
            self._read()

    # -- ends

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _abort(self, _: None) -> None:
        self.transport.abortConnection()


class RawSocketFactory(Factory):
    """All of them."""

    noisy = False

    def __init__(
        self,
        router: Router,
        *,
        max_waiting: Callable[[], int],
        gather: Callable[[], float],
        deadlines: Deadlines,
        reactor: Any,
    ) -> None:
        """`max_waiting` and `gather` as Outlet has them."""
        self.router = router
        self.max_waiting = max_waiting
        self.gather = gather
        self.deadlines = deadlines
        self.reactor = reactor

    def buildProtocol(self, addr: IAddress | None) -> RawSocket:
        connection = RawSocket()
        connection.factory = self
        return connection
