"""The HTTP site: what twisted.web serves, with limits on size, on time and on how many come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError, InvalidRequest, PayloadTooLarge, RequestTimedOut
from rpcbroker.core.settings import HttpSettings

LINGER = 2.0
"""Seconds that a refused caller may go on sending before the connection is aborted."""


class Refusal(Protocol):
    """An error as the API renders it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def body(self) -> bytes: ...


class LimitedRequest(Request):
    """A request whose body is counted as it comes: chunked bodies announce no length."""

    _received = 0

    def process(self) -> None:
        try:
            unquote_to_bytes(self.path).decode()
        except UnicodeDecodeError:
            self.channel.refuse(InvalidRequest("The request's path is not UTF-8"))
        else:
            super().process()

    def getRequestHostname(self) -> bytes:
        """The same for all: no route depends on the Host header, which may be anything."""
        return b"localhost"

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.channel.max_body_size:
            self.channel.refuse_body()
        else:
            super().handleContentChunk(data)


class Channel(HTTPChannel):
    """One HTTP connection. A request has to arrive whole within a time of its own."""

    max_body_size = 0
    _refused = False
    _deadline: Deadline | None = None

    def connectionMade(self) -> None:
        if not self.site.admit(self):
            self.transport.abortConnection()
            return
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.released(self)
        self._stop_deadline()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self._deadline is None and not self._handlingRequest:
            self._deadline = self.site.deadlines.after(self.site.request_timeout, self._too_slow, None)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        if self.length is not None and self.length > self.max_body_size:
            self.refuse_body()
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if self._refused:
            return
        self._stop_deadline()
        super().allContentReceived()

    def refuse_body(self) -> None:
        """Answer 413, at once."""
        self.refuse(PayloadTooLarge(f"Payload size exceeds the limit of {self.max_body_size} bytes"))

    def _too_slow(self, _: None) -> None:
        self._deadline = None
        error = RequestTimedOut(f"The request did not arrive within {self.site.request_timeout:g} s")
        self.refuse(error)

    def refuse(self, error: BrokerError) -> None:
        """Answer in the middle of a request, take nothing more, and leave the caller time to read it."""
        if self._refused:
            return
        self._refused = True
        self._stop_deadline()
        self.setTimeout(None)
        refusal = self.site.render(error)
        headers = refusal.headers | {"Content-Length": str(len(refusal.body)), "Connection": "close"}
        head = b"HTTP/1.1 %d %b\r\n" % (refusal.status, RESPONSES.get(refusal.status, b""))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        self.transport.write(head + lines + b"\r\n" + refusal.body)
        if IHalfCloseableDescriptor.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
        self._deadline = self.site.deadlines.after(LINGER, lambda _: self.transport.abortConnection(), None)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class FrontDoor(Site):
    """All HTTP connections of one process."""

    noisy = False

    def __init__(
        self,
        resource: IResource,
        *,
        settings: HttpSettings,
        deadlines: Deadlines,
        render: Callable[[BrokerError], Refusal],
        reactor: Any,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=LimitedRequest,
            timeout=settings.idle_timeout,
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.protocol = Channel
        self.deadlines = deadlines
        self.render = render
        self.request_timeout = settings.request_timeout
        self._max_body_size = settings.max_body_size
        self._max_connections = settings.max_connections
        self._channels: set[Channel] = set()
        self._all_closed: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        channel: Channel = super().buildProtocol(addr)
        channel.site = self
        channel.max_body_size = self._max_body_size
        return channel

    def log(self, request: Request) -> None:
        """No line for each request."""

    def admit(self, channel: Channel) -> bool:
        """Count a connection; False if there are too many."""
        self._channels.add(channel)
        return len(self._channels) <= self._max_connections

    @property
    def open_connections(self) -> int:
        return len(self._channels)

    def released(self, channel: Channel) -> None:
        """A connection is gone."""
        self._channels.discard(channel)
        if self._all_closed is not None and not self._channels:
            all_closed, self._all_closed = self._all_closed, None
            all_closed.callback(None)

    def close_all(self) -> Deferred[None]:
        """End every connection once what was answered is out; fires when all are gone."""
        if not self._channels:
            return succeed(None)
        self._all_closed = Deferred()
        for channel in tuple(self._channels):
            channel.loseConnection()
        return self._all_closed
