"""One HTTP request: what is wrong with it is said before any route is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.server import Request

from rpcbroker.core.errors import (
    BrokerError,
    InvalidRequest,
    MethodNotAllowed,
    TooManyRequests,
    Unavailable,
    UpgradeRequired,
)
from rpcbroker.web import websocket
from rpcbroker.web.response import phrase, respond

METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
"""Those that some resource has."""


class Refusal(Protocol):
    """An error as the API renders it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def body(self) -> bytes: ...

    @property
    def content_type(self) -> str: ...


class Waiter(Protocol):
    """Somebody who will answer a request, or does so without an end."""

    def lost(self) -> None:
        """The connection is gone."""

    def half_closed(self) -> bool:
        """The caller sends no more, and may be gone, or wait for the answer: that cannot be told.

        True: the answer comes soon, or is there; False: the caller counts as gone.
        """


class LimitedRequest(Request):
    """A request whose body is counted as it comes: chunked bodies announce no length."""

    path: bytes
    arrived = 0
    """Bytes of its body."""
    waiter: Waiter | None = None
    """Who hears what becomes of its connection while it is not answered."""

    # -- while it arrives

    def handleContentChunk(self, data: bytes) -> None:
        door, size = self.channel.site, len(data)
        if self.arrived + size > self.channel.largest_body:
            self.channel.refuse_body()
        elif door.arriving + size > door.room_for_bodies:
            self.channel.refuse(Unavailable("Too much is being sent to the server at once", hint="Try again."))
        else:
            self.arrived += size
            door.arriving += size
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self._leave_arrivals()
        super().requestReceived(command, path, version)

    def connectionLost(self, reason: Failure) -> None:
        self._leave_arrivals()
        super().connectionLost(reason)
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.lost()

    def _leave_arrivals(self) -> None:
        self.channel.site.arriving -= self.arrived
        self.arrived = 0

    # -- when it is there

    def process(self) -> None:
        door = self.channel.site
        door.outgoing.flush()  # what was answered before on this connection comes before what is written past it
        if door.stopping:
            self.setHeader("Connection", "close")
            self.channel.persistent = False
        error = self._fault()
        socket = door.sockets.get(self.path)
        if error is not None:
            self.answer(error)
        elif socket is not None:
            self._upgrade(socket)
        elif door.mount is not None and self.path.startswith(door.mount.prefix):
            self.site = door
            door.mount.serve(self)
        else:
            super().process()

    def _upgrade(self, socket: websocket.Socket) -> None:
        """From the next byte on the connection is a WebSocket, or the handshake is answered with what is wrong."""
        error = websocket.fault(self, socket, self.channel.site.settings)
        protocol = None
        if error is None and not self.channel.site.stopping:
            protocol = socket.factory().buildProtocol(self.channel.getPeer())
        if protocol is not None:
            self.channel.hand_over(protocol, websocket.handshake(self, socket))
            return
        if isinstance(error, UpgradeRequired):
            for name, value in websocket.WANTED.items():
                self.responseHeaders.addRawHeader(name, value)
        self.answer(error or Unavailable("No more connections are taken now", hint="Try again."))

    def render(self, resrc: Any) -> None:
        """What the resource makes of it. Which software answers, and in which version, is nobody's business."""
        self.responseHeaders.removeHeader("Server")
        super().render(resrc)

    respond = respond

    def answer(self, error: BrokerError) -> None:
        """Finish with an error, in the API's words; the connection stays."""
        refusal: Refusal = self.channel.site.render(error)
        self.setResponseCode(refusal.status)
        self.setHeader("Date", datetimeToString())
        self.setHeader("Content-Type", refusal.content_type)
        self.setHeader("Content-Length", str(len(refusal.body)))
        for name, value in refusal.headers.items():
            self.setHeader(name, value)
        self.write(refusal.body)
        self.finish()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        super().setResponseCode(code, message if message or code in RESPONSES else phrase(code))

    def processingFailed(self, reason: Failure) -> Failure:
        """A bug below: it goes to the log, and the caller is told in JSON."""
        # without its query, which may have a token
        self._log.failure("{method} {path} failed", failure=reason, method=self.method, path=self.path)
        if self.startedWriting:
            self.loseConnection()
        else:
            self.answer(BrokerError("Internal error", hint="The server's log says more."))
        return reason

    def getRequestHostname(self) -> bytes:
        """The same for all: no route depends on the Host header, which may be anything."""
        return b"localhost"

    def _fault(self) -> BrokerError | None:
        if not self.method.isupper():  # RFC 9110 9.1; the routes below would take `get` for GET
            return MethodNotAllowed("Methods are written in capital letters", allowed=METHODS)
        hosts: Sequence[bytes] = self.requestHeaders.getRawHeaders(b"host", ())
        if len(hosts) != 1 and (hosts or self.clientproto == b"HTTP/1.1"):  # RFC 9112 3.2
            return InvalidRequest("A request must have one Host header")
        path = self.path
        if not path.startswith(b"/"):
            if path == b"*" and self.method == b"OPTIONS":  # RFC 9112 3.2.4
                return None
            path = _local_path(path, hosts)
            if not path:
                return InvalidRequest("The request's target must be a path, or a URL whose host is that of Host")
            self.path = path
        if path.startswith(b"//") or b"%2f" in path.lower():  # which would open the route of another path
            return InvalidRequest("The request's path must not begin with // nor have a coded slash")
        if b"%" in path or not path.isascii():
            try:
                unquote_to_bytes(path).decode()
            except UnicodeDecodeError:
                return InvalidRequest("The request's path is not UTF-8")
        wait: float = self.channel.site.wait(self.client)
        if wait:
            return TooManyRequests("Too many requests from this address", retry_after=wait)
        return None


def _local_path(target: bytes, hosts: Sequence[bytes]) -> bytes:
    """The path of `http://host/path`; empty if that is not it, or if it is another host than in Host. RFC 9112 3.2.2"""
    scheme, _, rest = target.partition(b"://")
    host, slash, path = rest.partition(b"/")
    if scheme.lower() not in (b"http", b"https") or not host:
        return b""
    if hosts and hosts[0].lower() != host.lower():
        return b""
    return slash + path or b"/"
