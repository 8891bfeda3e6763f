"""The HTTP site: what twisted.web serves, with limits on size, on time and on how many come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from rpcbroker.core.connects import address_of
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.direct import Outgoing
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.settings import HttpSettings
from rpcbroker.web.channel import Channel
from rpcbroker.web.express import PlainRequest, Serve
from rpcbroker.web.request import LimitedRequest, Refusal
from rpcbroker.web.websocket import Socket

FULL_BODIES = 64
"""As much as so many of the largest bodies may be on its way in at once; beyond it 503."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What answers all paths that begin with `prefix`, past the resource that has all others."""

    prefix: bytes
    serve: Serve
    largest: Callable[[bytes], int | None]
    """How large the body of a request to this path may be, if that is less than what holds for all."""


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
        outgoing: Outgoing,
        sockets: Mapping[str, Socket] | None = None,
        mount: Mount | None = None,
        larger: Callable[[bytes], int] = lambda path: 0,
        hot: Callable[[bytes, bytes], Serve | None] = lambda method, path: None,
    ) -> None:
        """`hot`: what answers a request of this method to this path on the express lane as the resource would, if
        there is something. `sockets`: what is spoken at the paths where WebSocket is; connections are counted until
        they speak it. `larger`: how large the body of a request to this path may be, where that is more than what
        holds for all."""
        super().__init__(
            resource,
            requestFactory=LimitedRequest,
            timeout=None,  # the channel has deadlines of its own
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.protocol = Channel
        self.settings = settings
        """Read whenever a limit is needed: put others here, and they hold from then on."""
        self.stopping = False
        """Once true, every answer is the last one on its connection, and says so."""
        self.deadlines = deadlines
        self.outgoing = outgoing
        self.render = render
        self.sockets = {path.encode(): socket for path, socket in (sockets or {}).items()}
        self.mount = mount
        self._larger = larger
        self._hot = hot
        self._second = -1
        self._date = ""
        self.arriving = 0
        """Bytes of bodies that are there of requests that are not there yet."""
        self._rate = RateLimit(settings.address_rate, reactor.seconds)
        self._channels: dict[Channel, object] = {}
        self._connections: Counter[object] = Counter()
        self._all_closed: Deferred[None] | None = None

    @property
    def room_for_bodies(self) -> int:
        """How large `arriving` may become."""
        return FULL_BODIES * self.settings.max_body_size

    def largest_body(self, path: bytes) -> int:
        """Bytes that the body of a request to this path may have."""
        most, mount = self.settings.max_body_size, self.mount
        if mount is None or not path.startswith(mount.prefix):
            return max(most, self._larger(path.partition(b"?")[0]))
        return min(most, mount.largest(path) or most)

    @property
    def date(self) -> str:
        """What answers that are made now have as their date; a second is precise enough (RFC 9110 6.6.1)."""
        second = int(self.reactor.seconds())
        if second != self._second:
            self._second, self._date = second, datetimeToString().decode()
        return self._date

    def express(self, request: PlainRequest) -> Serve | None:
        """What answers a request on the express lane; None if it has to go the long way."""
        path, mount = request.path, self.mount
        if self.stopping or path in self.sockets:
            return None
        largest: int = self.settings.max_body_size  # where more may come, it goes the long way
        if mount is not None and path.startswith(mount.prefix):
            serve: Serve | None = mount.serve
            largest = self.largest_body(path)
        else:
            serve = self._hot(request.method, path)
        length = request.requestHeaders.length
        arriving = self.arriving
        if serve is None or length > largest or (arriving and length > self.room_for_bodies - arriving):
            return None
        return None if self.settings.address_rate and self.wait(request.channel.getPeer()) else serve

    def wait(self, peer: IAddress) -> float:
        """One more request from there: 0.0 if it may be served, else the seconds until it might."""
        self._rate.rate = self.settings.address_rate
        if not self._rate.rate:
            return 0.0
        address = address_of(peer)
        return 0.0 if address is None else self._rate.take(address)

    def admit(self, channel: Channel) -> bool:
        """Count a connection; False if there are too many."""
        address = self._channels[channel] = address_of(channel.getPeer())
        self._connections[address] += 1
        most, each = self.settings.max_connections, self.settings.max_connections_per_address
        if each and address is not None and self._connections[address] > each:
            return False
        return len(self._channels) <= most

    @property
    def open_connections(self) -> int:
        return len(self._channels)

    def released(self, channel: Channel) -> None:
        """A connection is gone."""
        address = self._channels.pop(channel)
        self._connections[address] -= 1
        if not self._connections[address]:
            del self._connections[address]
        if self._all_closed is not None and not self._channels:
            all_closed, self._all_closed = self._all_closed, None
            all_closed.callback(None)

    def close_all(self) -> Deferred[None]:
        """End every connection, those on which something is asked once that is answered; fires when all are gone."""
        if not self._channels:
            return succeed(None)
        self._all_closed = Deferred()
        for channel in tuple(self._channels):
            channel.finish()
        return self._all_closed

    # -- what twisted.web asks its site for

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        channel: Channel = super().buildProtocol(addr)
        channel.site = self
        return channel

    def getContentFile(self, length: int | None) -> BytesIO:
        """Where a body goes: into memory, which `arriving` limits. Twisted would make files of larger ones."""
        return BytesIO()

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS may negotiate: Twisted would offer HTTP/2 if it found the package, and the channel speaks none."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """No line for each request."""
