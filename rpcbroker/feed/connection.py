"""A WAMP session on its way: bytes of a carrier to lists for the router, and back."""

from __future__ import annotations

from collections.abc import Callable

from rpcbroker.feed.ports import Carrier, Peer, Serializer
from rpcbroker.feed.router import Router
from rpcbroker.feed.scan import Malformed


class WampConnection:
    """As ports.Connection; and who listens to a carrier."""

    peer: str
    most: int
    send: Callable[[bytes], None]
    send_later: Callable[[bytes], bool]
    close: Callable[[int, str], None]
    _carrier: Carrier
    _session: Peer

    def __init__(self, router: Router, serializer: Serializer) -> None:
        self._router = router
        self.serializer = serializer
        self.binary = serializer.binary

    def opened(self, carrier: Carrier) -> None:
        """It may be spoken."""
        self._carrier = carrier
        self.peer, self.most = carrier.peer, carrier.most
        self.send, self.send_later, self.close = carrier.send, carrier.send_later, carrier.close
        self._session = self._router.connected(self)

    @property
    def waiting(self) -> int:
        """Bytes that the peer was sent, and has not taken yet."""
        return self._carrier.waiting

    def received(self, message: bytes) -> None:
        """One message, whole."""
        try:
            decoded = self.serializer.decode(message, self._router.settings.max_depth)
        except Malformed as error:
            self._session.violate(f"The message cannot be read: {error}")
        else:
            self._session.receive(decoded)

    def closed(self) -> None:
        """The carrier is gone."""
        self._session.lost()
