"""The way from HTTP to WebSocket: which paths have one, and what is wrong with a handshake. RFC 6455 4.2.

What is spoken after it is the business of whoever mounts a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlencode, urlsplit

from twisted.internet.interfaces import IProtocolFactory
from twisted.web.server import Request

from rpcbroker.core.errors import BrokerError, InvalidRequest, MethodNotAllowed, PermissionDenied, UpgradeRequired
from rpcbroker.core.settings import HttpSettings

VERSION = b"13"
WANTED = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": VERSION.decode()}
"""What an answer 426 tells of itself: RFC 9110 15.5.22, RFC 6455 4.4."""

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class Socket:
    """What one path speaks to those who upgrade there.

    `factory` is asked for when somebody comes, for what it stands on is large. It builds a WebSocket server protocol
    such as autobahn's: that is given a transport, then the bytes of a handshake that is known to be good, and answers
    it itself.
    """

    subprotocols: tuple[str, ...]
    """The caller has to offer one of them; of several the one that it offers first is spoken. Where there are none,
    none is told to callers, whatever they offer."""
    factory: Callable[[], IProtocolFactory]


def fault(request: Request, socket: Socket, settings: HttpSettings) -> BrokerError | None:
    """What is wrong with a handshake, if anything.

    Unless `allowed_origins` are given, pages of any origin may come: no cookie is read here, and who it is has to be
    proven on the connection. Who comes without an Origin is no page.
    """
    if request.method != b"GET":
        return MethodNotAllowed("This path takes GET, for a WebSocket", allowed=("GET",))
    if request.content.getbuffer().nbytes:
        return InvalidRequest("A WebSocket handshake has no body")
    upgrades = request.clientproto == b"HTTP/1.1" and (  # RFC 9110 7.8: that of HTTP/1.0 means nothing
        b"websocket" in map(bytes.lower, _items(request, b"upgrade"))
        and b"upgrade" in map(bytes.lower, _items(request, b"connection"))
    )
    if not upgrades:
        return UpgradeRequired("This path speaks WebSocket", hint="Send Upgrade: websocket and Connection: Upgrade.")
    if list(_items(request, b"sec-websocket-version")) != [VERSION]:
        return UpgradeRequired(f"Of WebSocket, version {VERSION.decode()} is spoken here")
    keys = request.requestHeaders.getRawHeaders(b"sec-websocket-key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0].strip()):
        return InvalidRequest("Sec-WebSocket-Key must be 16 bytes in base64, once")
    if socket.subprotocols and _subprotocol(request, socket) is None:
        names = " or ".join(socket.subprotocols)
        return InvalidRequest("None of the WebSocket subprotocols is spoken here", hint=f"Offer {names}.")
    origins = request.requestHeaders.getRawHeaders(b"origin", ())
    if settings.allowed_origins and not all(_may_come(origin, request, settings) for origin in origins):
        return PermissionDenied("Pages of this origin may not open WebSockets here", hint="Set http.allowed_origins.")
    return None


def handshake(request: Request, socket: Socket) -> bytes:
    """A good request, as far as a WebSocket is concerned: the choice of subprotocol is made, nothing is extended.

    Of the URL it has the path, and the query as it was understood.
    """
    subprotocol = _subprotocol(request, socket)
    query = urlencode(request.args, doseq=True).encode()
    lines = [
        b"GET %b HTTP/1.1" % (request.path + b"?" + query if query else request.path),
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: " + VERSION,
        b"Sec-WebSocket-Key: " + request.requestHeaders.getRawHeaders(b"sec-websocket-key")[0].strip(),
    ]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _subprotocol(request: Request, socket: Socket) -> str | None:
    offered = (item.decode("latin-1") for item in _items(request, b"sec-websocket-protocol"))
    return next((name for name in offered if name in socket.subprotocols), None)


def _items(request: Request, name: bytes) -> Iterator[bytes]:
    """Of a header that is a list, in one field or in several."""
    for value in request.requestHeaders.getRawHeaders(name, ()):
        yield from filter(None, map(bytes.strip, value.split(b",")))


def _may_come(origin: bytes, request: Request, settings: HttpSettings) -> bool:
    """Whether pages from there may. The broker's own may always. RFC 6454 7."""
    text = origin.strip().decode("latin-1").lower()
    if text in (allowed.lower().rstrip("/") for allowed in settings.allowed_origins):
        return True
    mine = request.requestHeaders.getRawHeaders(b"host", [b""])[0].decode("latin-1")
    try:
        place = _place(urlsplit(text))
        own = {_place(urlsplit(settings.public_url)), _place(urlsplit(f"{urlsplit(text).scheme}://{mine}"))}
    except ValueError:
        return False
    return place in own and bool(place[1])


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Raises ValueError."""
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
