"""One HTTP connection: what a caller may send, how much of it, and how long it may take.

Over 400 lines: a class of Twisted's whose states, and what may happen in each, have to be read together.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from zope.interface import implementer

from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import (
    BrokerError,
    HeadersTooLarge,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimedOut,
    TargetTooLong,
    UnsupportedExpectation,
    UnsupportedMediaType,
)
from rpcbroker.web import express
from rpcbroker.web.express import PlainRequest
from rpcbroker.web.request import LimitedRequest, Refusal
from rpcbroker.web.response import phrase

LINGER = 2.0
"""Seconds that a refused caller may go on sending before the connection is aborted."""

MAX_HEADERS = 100
"""Header fields of a request. Together with its first line they have at most 16 KiB."""

MAX_PIECES = 64
"""Pieces in which the next request is kept while one is handled; then they are joined."""
MAX_KEPT = 16 << 10
"""Bytes of the next requests that are kept while one is handled; beyond them nothing more is read."""

CHUNKING = 64 << 10
"""Bytes around the contents of chunks, or in chunks that are tiny, that are taken beyond three for each of content."""


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel):
    """One HTTP connection, always in one of these states:

    | the caller ...        | for at most       | then    |
    |-----------------------|-------------------|---------|
    | is silent             | `idle_timeout`    | closed  |
    | sends a request       | `request_timeout` | 408     |
    | waits for the answer  |                   |         |
    | was refused           | LINGER            | aborted |

    and whatever the state, an answer that it does not read is waited for `write_timeout`; then the
    connection is aborted. Meanwhile nothing more is read. Of requests that come in one piece one is
    taken in each turn of the reactor, so that nobody's thousand delay another's one.

    Who sends no more may be gone, or wait for answers: what was answered goes out to it, and who is to
    answer its request decides whether that is worth while.
    """

    maxHeaders = MAX_HEADERS
    site: Any
    transport: Any
    _buffer: bytes
    _dataBuffer: list[bytes]
    largest_body = 0
    """Bytes that the body of the request which is coming in may have."""
    _chunked = 0
    _new = True
    """Nothing was asked on it yet."""
    _on_express_lane = True
    """Whether requests that are plain may go past Twisted's parser."""
    _refused = False
    _half_closed = False
    _closed = False
    """It was closed from here. Over TLS more may come even so."""
    _served_in: int | None = None
    """The turn of the reactor in which the last request was answered."""
    _silent_since: float | None = None
    """Seconds on the reactor's clock; None while the caller is not waited for, or is sending."""
    _idle: Deadline | None = None
    """A look at how long it has been silent; it stays while requests come and go."""
    _deadline: Deadline | None = None
    _write_deadline: Deadline | None = None
    _turn: DelayedCall | None = None
    _host: IAddress | None = None

    # -- the connection

    def connectionMade(self) -> None:
        if self.site.admit(self):
            super().connectionMade()
            self._wait_for_caller()
        else:
            self._refused = True
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.released(self)
        self._stop_waiting()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connectionLost(reason)

    def getHost(self) -> IAddress:
        """Where the caller came to. Each request asks, and the system need be asked once only."""
        if self._host is None:
            self._host = self.transport.getHost()
        return self._host

    def loseConnection(self) -> None:
        """Close, once what was answered is out."""
        if self._refused:
            return
        self._closed = True
        self._stop_waiting()
        self._wait_for_reader()
        self.site.outgoing.flush()
        super().loseConnection()
        self.transport.resumeProducing()  # or the other side's end of TLS would not be heard

    def finish(self) -> None:
        """The broker ends: close now, or once what is being asked is answered, which says that it is the last.

        On a new connection a request may be on its way, and its caller could not know whether it was heard.
        """
        waited_for = self._handlingRequest and self.requests and self.requests[0].waiter is not None
        if waited_for or not (self._new or self.requests or self._buffer):
            self.loseConnection()
        elif self._handlingRequest:
            self.persistent = False

    def readConnectionLost(self) -> None:
        """The caller sends no more. This comes again when reading is tried again."""
        self._half_closed = True
        if self._turn is not None:
            return
        asked = self._handlingRequest and bool(self.requests)  # or the last one is answered, and the answer on its way
        waiter = self.requests[0].waiter if asked else None
        if waiter is not None and waiter.half_closed():
            return
        if self._refused:
            self.transport.loseConnection()
            return
        if asked:
            self.requests.pop(0).connectionLost(Failure(ConnectionDone()))
        self.loseConnection()

    def writeConnectionLost(self) -> None:
        """It was closed from here: see `refuse`."""

    def refuse(self, error: BrokerError) -> None:
        """Answer in the middle of a request, take nothing more, and leave the caller time to read it."""
        if self._refused:
            return
        self._refused = True
        self._stop_waiting()
        refusal: Refusal = self.site.render(error)
        headers = refusal.headers | {
            "Date": datetimeToString().decode(),
            "Content-Type": refusal.content_type,
            "Content-Length": str(len(refusal.body)),
            "Connection": "close",
        }
        head = b"HTTP/1.1 %d %b\r\n" % (refusal.status, phrase(refusal.status))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        self.site.outgoing.flush()
        self.transport.write(head + lines + b"\r\n" + refusal.body)
        self.transport.unregisterProducer()
        if IHalfCloseableDescriptor.providedBy(self.transport) and not self.isSecure():
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()  # TLS tells the end by itself, and waits for the other side's
        self._deadline = self.site.deadlines.after(LINGER, self._abort, None)

    def hand_over(self, protocol: IProtocol, greeting: bytes) -> None:
        """Give the connection to `protocol` for good: it reads `greeting`, then what comes behind the request.

        To be called when a request is there: nothing is waited for then, but perhaps that answers are read.
        """
        self._stop_waiting()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        self.site.released(self)
        behind = self._buffer + b"".join(self._dataBuffer)
        self._buffer, self._dataBuffer = b"", []
        self.requests.clear()
        transport, self.transport = self.transport, None
        transport.unregisterProducer()
        if isinstance(transport, ProtocolWrapper):  # TLS
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(greeting)
        if behind:
            protocol.dataReceived(behind)

    # -- deadlines

    def _wait_for_caller(self) -> None:
        """Give the caller its time for what it has to do next, if it is heard and not waiting itself."""
        if self._handlingRequest or self.paused or self._deadline is not None:
            return
        site = self.site
        if self.requests or self._buffer:
            timeout = site.settings.request_timeout
            self._deadline = site.deadlines.after(timeout, self._too_slow, timeout)
            return
        self._silent_since = site.reactor.seconds()
        if self._idle is None:
            self._idle = site.deadlines.after(site.settings.idle_timeout, self._look, None)

    def _wait_for_reader(self) -> None:
        if self._write_deadline is None:
            self._write_deadline = self.site.deadlines.after(self.site.settings.write_timeout, self._abort, None)

    def _stop_waiting(self) -> None:
        self._request_is_there()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _request_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self, seconds: float) -> None:
        self._deadline = None
        self.refuse(RequestTimedOut(f"The request did not arrive within {seconds:g} s"))

    def _look(self, _: None) -> None:
        """Close the connection if the caller has been silent for too long; else look again when it may have been."""
        site, self._idle = self.site, None
        left: float = site.settings.idle_timeout
        if self._silent_since is not None:
            left -= site.reactor.seconds() - self._silent_since
        if left > 0:
            self._idle = site.deadlines.after(left, self._look, None)
        else:
            self.loseConnection()

    def _abort(self, _: None) -> None:
        self.transport.abortConnection()

    # -- what comes in

    def dataReceived(self, data: bytes) -> None:
        if self._refused or self._closed:
            return
        self._silent_since = None
        between = not (self.requests or self._buffer or self._handlingRequest or self.paused) and self.persistent
        if between and self._served_in is not None and self._served_in == self.site.outgoing.turn:
            self._put_off(data)  # over TLS each record comes by itself
        elif not (between and self._on_express_lane and self._take(data)):
            super().dataReceived(data)
        self._wait_for_caller()

    def _put_off(self, data: bytes) -> None:
        """The next request has its turn in another one of the reactor."""
        self.paused = True
        self._buffer += data
        self.transport.pauseProducing()
        self._turn = self.site.reactor.callLater(0, self._go_on)

    def _take(self, data: bytes) -> bool:
        """Serve the request that these bytes begin with, if it is one for the express lane; what follows it waits."""
        found = express.read_request(data, self)
        serve = self.site.express(found[0]) if found else None
        if found is None or serve is None:
            return False
        request, size = found
        self._new = False
        self.requests.append(request)
        self._handlingRequest = True
        self.line_mode = 0  # as `setRawMode`: Twisted's parser keeps what comes meanwhile
        if len(data) > size:
            self._dataBuffer.append(data[size:])
        serve(request)
        return True

    def lineReceived(self, line: bytes) -> None:
        if self._refused:
            return
        if not (line or self.requests):
            self._on_express_lane = False  # Twisted lets one empty line pass, and nobody else knows of it
        if line.startswith((b" ", b"\t")):  # RFC 9112 5.2
            self.refuse(InvalidRequest("Header fields must not be folded"))
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        if self.requests:
            self._refuse_headers()
        else:
            self.refuse(TargetTooLong(f"The first line of a request may have {self.MAX_LENGTH} bytes"))

    def headerReceived(self, line: bytes) -> bool:
        try:
            return super().headerReceived(line)
        except ValueError:  # Python makes no integer of a Content-Length with thousands of digits
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        headers = self.requests[-1].requestHeaders
        self.largest_body = self.site.largest_body(self._path)
        transfer = headers.getRawHeaders(b"transfer-encoding", ())
        expected = headers.getRawHeaders(b"expect", ())
        if self.length is not None and self.length > self.largest_body:
            self.refuse_body()
        elif transfer and [value.lower() for value in transfer] != [b"chunked"]:  # RFC 9112 6.1
            self.refuse(InvalidRequest("Transfer-Encoding must be chunked, once"))
        elif self.length != 0 and headers.getRawHeaders(b"content-encoding", [b"identity"]) != [b"identity"]:
            self.refuse(UnsupportedMediaType("Send the body as it is, without Content-Encoding"))
        elif expected and [value.lower() for value in expected] != [b"100-continue"]:  # RFC 9110 10.1.1
            self.refuse(UnsupportedExpectation("Nothing but 100-continue may be expected"))
        else:
            super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if len(self._dataBuffer) >= MAX_PIECES:
            self._dataBuffer = [b"".join(self._dataBuffer)]
        if self.length is None:
            self._chunked += len(data)
        super().rawDataReceived(data)
        if self.length is None:
            self._look_at_chunks()
        if self._handlingRequest and self.transport is not None and sum(map(len, self._dataBuffer)) > MAX_KEPT:
            self.transport.pauseProducing()  # also if the caller reads nothing, which Twisted lets pass

    def _look_at_chunks(self) -> None:
        if getattr(self._transferDecoder, "length", 0) > self.largest_body:
            self.refuse_body()  # the chunk is announced, and need not be waited for
        elif self._chunked > CHUNKING + 4 * self.requests[-1].arrived:
            self.refuse(InvalidRequest("There is too little in the chunks of the body"))

    def allContentReceived(self) -> None:
        if self._refused:
            return
        self._chunked = 0
        self._new = False
        self._request_is_there()
        super().allContentReceived()

    def refuse_body(self) -> None:
        """Answer 413, at once."""
        self.refuse(PayloadTooLarge(f"Payload size exceeds the limit of {self.largest_body} bytes"))

    def _refuse_headers(self) -> None:
        limits = f"{self.maxHeaders} fields and {self.totalHeadersSize} bytes"
        self.refuse(HeadersTooLarge(f"The header fields of a request may have {limits}"))

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Whatever the parser above cannot read: it tells nobody but this method."""
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self._refuse_headers()
        elif not self.line_mode:
            self.refuse(InvalidRequest("The chunks of the body cannot be read"))
        elif not hasattr(self, "_command"):
            self.refuse(InvalidRequest("The first line must be a method, a target and HTTP/1.1 or HTTP/1.0"))
        else:
            self.refuse(InvalidRequest("A header field is malformed, or leaves the body's length in doubt"))

    # -- what goes out

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Who is to answer at length is told at once if the caller does not read: over TLS that is said once."""
        super().registerProducer(producer, streaming)
        if self._waitingForTransport:
            self._requestProducer.pauseProducing()

    def requestDone(self, request: LimitedRequest | PlainRequest) -> None:
        self._served_in = self.site.outgoing.turn
        waits = self._dataBuffer or self._half_closed or self._waitingForTransport
        if type(request) is PlainRequest and self.persistent and not waits:  # as nearly always
            self.requests.clear()
            self._handlingRequest = False
            self.line_mode = 1
            self._wait_for_caller()
            return
        self.paused = True
        super().requestDone(request)
        if self._handlingRequest:
            return  # that was the last one
        if self._write_deadline is not None:
            self.transport.pauseProducing()
        elif self._buffer:
            self._put_off(b"")
        else:
            self.paused = False
        self._wait_for_caller()

    def pauseProducing(self) -> None:
        """The caller does not read its answers as fast as it gets them."""
        self._wait_for_reader()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resumeProducing()
        if self.paused:
            self._go_on()

    def _go_on(self) -> None:
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        self._turn = None
        if self._write_deadline is not None:  # until its answers are read: see resumeProducing
            return
        self.paused = False
        self.transport.resumeProducing()
        kept, self._buffer = self._buffer, b""
        self.dataReceived(kept)
