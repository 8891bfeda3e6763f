"""What all WebSocket connections here have in common: autobahn's framing, tamed.

RFC 6455. The states are autobahn's: CONNECTING, OPEN, CLOSING (we have sent a close frame, and wait for the peer's),
CLOSED (nothing is read any more; the last bytes go out).
"""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.base import DelayedCall
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.lag import TURN
from rpcbroker.core.outlet import let_go

CLOSE_TIMEOUT = 2.0
"""Seconds that the peer has to answer a close frame, and then to close the connection; then it is aborted."""

SLICE = 4096
"""Bytes that autobahn is given at once: it copies all that it was given for each frame that it finds there."""

FRAMES = 100
"""Frames of one connection after which others have their turn, if it has not been as long as TURN before."""

PINGS = 100
"""Pings of one connection that are answered in a second; after them it is not read until that is over."""

NORMAL, UNSUPPORTED_DATA, INVALID_PAYLOAD, TOO_BIG = 1000, 1003, 1007, 1009
"""RFC 6455 7.4.1"""


class WebSocketConnection(WebSocketServerProtocol):
    """One connection. What is in the frames is the business of who derives from it."""

    _log = Logger()
    CONFIG_ATTRS = ()
    """Options that autobahn copies from the factory: that costs as much as all the rest of a handshake, for it
    formats them too, for a log that is off. `WebSocketConnections.prepare` copies them.
    """
    factory: WebSocketConnections
    transport: Any
    state: int

    def __init__(self) -> None:
        super().__init__()
        self._deadline: Deadline | None = None
        self._unread = b""
        """What autobahn was not given yet."""
        self._cut = False
        """Whether it has not looked at all that it was given."""
        self._turn: DelayedCall | None = None
        """Until what is unread is read."""
        self._until: float | None = None
        """Reactor seconds when this turn is over; None is never."""
        self._held = False
        self._frames = 0
        """Frames that were read in this turn."""
        self._pings = 0
        """Pings since the second began at `_second`."""
        self._second = 0.0

    # -- Twisted's side

    def dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CLOSED:
            return
        self._unread += data
        if self._turn is None:
            self._read()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self._read(all_of_it=True)
        if self._deadline is not None:
            self._deadline.cancel()
        self._leave(reason)
        self._connectionLost(reason)  # past autobahn's own, which logs TLS errors of peers as errors of ours

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Past autobahn's own, which for each write colours a line for a log that is off."""
        self.transport.write(data)

    # -- what comes in

    def hold(self) -> None:
        """Read no more until `release`: the peer sends faster than it can be served."""
        if self.state == self.STATE_OPEN:
            self._held = True
            self.transport.pauseProducing()

    @property
    def has_unread(self) -> bool:
        """Whether more has come than was read."""
        return bool(self._unread) or self._cut

    def release(self) -> None:
        """Go on."""
        self._held = False
        if self._turn is None:
            if self.has_unread:
                self._read_later(0)
            else:
                self.transport.resumeProducing()

    def _read(self, *, all_of_it: bool = False) -> None:
        """So much as may be read in one turn of the reactor: others have theirs before what is left is read."""
        data, self._unread, self._frames = self._unread, b"", 0
        self._until = None if all_of_it else self.factory.reactor.seconds() + TURN
        if self._cut:
            self._cut = False
            self.consumeData()
        for start in range(0, len(data), SLICE):
            if self.state == self.STATE_CLOSED:
                return
            if self._cut or self._is_over():
                self._unread = data[start:]
                break
            self._dataReceived(data[start : start + SLICE])
        self._hand_in()
        if self.has_unread and not self._held:
            self._read_later(self._pause())

    def processData(self) -> bool:
        """One step of autobahn's, while the turn is not over."""
        self._cut = self._is_over()
        return not self._cut and super().processData()

    def _is_over(self) -> bool:
        return self._until is not None and (
            self._held or self._frames > FRAMES or self._pings > PINGS or self.factory.reactor.seconds() > self._until
        )

    def _pause(self) -> float:
        """Seconds until more may be read."""
        if self._pings <= PINGS:
            return 0.0
        self._pings = 0
        return max(0.0, self._second + 1 - self.factory.reactor.seconds())

    def _read_later(self, seconds: float) -> None:
        self.transport.pauseProducing()
        self._turn = self.factory.reactor.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if not self._held:
            self.transport.resumeProducing()
            self._read()

    def _stop_waiting(self) -> None:
        self._held = False
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def onPing(self, payload: bytes) -> None:
        now = self.factory.reactor.seconds()
        if now - self._second >= 1:
            self._second, self._pings = now, 0
        self._pings += 1
        self._frames += 1
        self.sendPong(payload)

    def onMessageFrameBegin(self, length: int) -> None:
        self._frames += 1

    def onMessageFrameEnd(self) -> None:
        """Means nothing."""

    def _hand_in(self) -> None:
        """One read is over, or something ends; who gathers what comes in hands it on."""

    # -- ends

    def end(self, code: int, reason: str = "") -> None:
        """Send a close frame, behind all that was sent, and give the peer time to answer it."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code, cut(reason))
            self._close_in_time()

    def _fail_connection(self, code: int, reason: str) -> None:
        """Whatever autobahn finds wrong ends here. RFC 6455 7.1.7: say why, and read no more."""
        if self.state == self.STATE_CLOSED:
            return
        self._hand_in()
        if self.state == self.STATE_OPEN:
            self._log.info(
                "WebSocket of {peer} closed: {code}, {reason}", peer=self.transport.getPeer(), code=code, reason=reason
            )
            self.sendCloseFrame(code, cut(reason))
        self.state = self.STATE_CLOSED
        self._closeConnection()

    def _closeConnection(self, abort: bool = False) -> None:
        """Autobahn is done."""
        self._unread, self._cut = b"", False
        self._stop_waiting()
        self._close_in_time()
        self.unregisterProducer()
        let_go(self.transport)
        self._leave(Failure(ConnectionDone() if self.wasClean else ConnectionAborted()))

    def _close_in_time(self) -> None:
        self.release()  # or the peer's end would not be heard
        if self._deadline is None:
            self._deadline = self.factory.deadlines.after(CLOSE_TIMEOUT, self._abort, None)

    def _abort(self, _: None) -> None:
        self.transport.abortConnection()

    def _leave(self, reason: Failure) -> None:
        """It is over, and may be told so again."""


class WebSocketConnections(WebSocketServerFactory):
    """What makes connections; extensions of WebSocket are not negotiated."""

    noisy = False

    def __init__(self, *, deadlines: Deadlines, reactor: Any) -> None:
        super().__init__(server=None, reactor=reactor)
        self.deadlines = deadlines
        self.setProtocolOptions(
            failByDrop=True,  # what autobahn has found wrong, it reads no further
            echoCloseCodeReason=True,
            utf8validateIncoming=False,  # byte by byte in Python: who takes text decodes it
            openHandshakeTimeout=0,  # the front door's deadlines
            closeHandshakeTimeout=0,  # CLOSE_TIMEOUT
        )
        self._options = {name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS}

    def prepare(self, connection: WebSocketConnection) -> None:
        """Give it its factory, and the options."""
        connection.factory = self
        connection.__dict__.update(self._options)


def cut(reason: str) -> bytes:
    """The reason of a close frame, which has at most 123 bytes."""
    return reason.encode()[:123].decode(errors="ignore").encode()
