"""Who is at the other end: what is remembered of an address, and of how many of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

from twisted.internet.address import IPv6Address

from rpcbroker.core.connects import address_of
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.wire.coap.exchanges import Recent

SocketAddress: TypeAlias = "tuple[Any, ...]"
"""As sockets have it: (host, port), and for IPv6 the flow and the scope too."""


class Awaited(Protocol):
    """What was sent, and is not acknowledged yet."""

    def acknowledged(self) -> None: ...

    def reset(self) -> None: ...

    def lost(self) -> None: ...


class DatagramPort(Protocol):
    """What sends datagrams."""

    def send_to(self, address: SocketAddress, datagram: bytes) -> None:
        """At once or never: what is lost is sent again by those who need it."""


class CoapPeer:
    """An address that speaks UDP, or one DTLS session: what is known of it, and the state of its messages."""

    secure = True
    """See exchange.Peer."""

    __slots__ = (
        "address",
        "awaited",
        "certificate",
        "heard",
        "host",
        "last_message_id",
        "lost",
        "observing",
        "proven",
        "recent",
        "send",
    )

    def __init__(
        self,
        address: SocketAddress,
        host: Hashable,
        send: Callable[[bytes], object],
        *,
        certificate: bytes | None = None,
        proven: bool = False,
    ) -> None:
        """`send` takes a datagram there, at once or never, and calls nothing back."""
        self.send = send
        self._begin(address, host, certificate=certificate, proven=proven)

    def _begin(self, address: SocketAddress, host: Hashable, *, certificate: bytes | None, proven: bool) -> None:
        self.address = address
        self.host = host
        self.certificate = certificate
        self.proven = proven
        """Whether the address is not forged."""
        self.heard = 0.0
        """When it was heard of, or asked whether it is there, in seconds."""
        self.observing = False
        """Whether it has observations."""
        self.lost = False
        """Whether it is gone for good: who comes from there later is another one."""
        self.last_message_id: int | None = None
        """Of those that are ours; None before the first one."""
        self.recent: Recent | None = None
        """Its requests, to know them again."""
        self.awaited: dict[int, Awaited] | None = None
        """Message id -> what it has not acknowledged; None if there is nothing."""


class UdpPeer(CoapPeer):
    """An address that speaks UDP. There may be very many, so what sends to it is no object of its own."""

    secure = False

    __slots__ = ("port",)

    def __init__(self, address: SocketAddress, port: DatagramPort) -> None:
        self.port = port
        """What it was heard on."""
        self._begin(address, host_of(address), certificate=None, proven=False)

    def send(self, datagram: bytes) -> None:
        """See CoapPeer."""
        self.port.send_to(self.address, datagram)


class Peers:
    """Those who speak UDP, known by their addresses: at most `limit`, and those without observations go first."""

    def __init__(
        self,
        limit: int,
        *,
        deadlines: Deadlines,
        seconds: Callable[[], float],
        lifetime: Callable[[], float],
        oldest: Callable[[], CoapPeer | None],
        lost: Callable[[CoapPeer, str], None],
    ) -> None:
        self.limit = limit
        """May be changed at any time."""
        self._deadlines = deadlines
        self._seconds = seconds
        self._lifetime = lifetime
        """How long a message of a peer may come again."""
        self._sweeping: Deadline | None = None
        self._oldest = oldest
        """The observer that was silent for longest."""
        self._lost = lost
        self._quiet: OrderedDict[tuple[object, SocketAddress], UdpPeer] = OrderedDict()
        """Without observations; the one that was silent for longest comes first."""
        self._observing: dict[tuple[object, SocketAddress], UdpPeer] = {}

    def __len__(self) -> int:
        return len(self._quiet) + len(self._observing)

    def at(self, address: SocketAddress, port: DatagramPort) -> CoapPeer:
        """The one that sent something from `address` to `port`."""
        key = (port, address)
        peer = self._quiet.get(key)
        if peer is not None:
            self._quiet.move_to_end(key)
            return peer
        return self._observing.get(key) or self._meet(key, address, port)

    def observes(self, peer: CoapPeer) -> None:
        """It has its first observation."""
        if isinstance(peer, UdpPeer):
            key = (peer.port, peer.address)
            self._quiet.pop(key, None)
            self._observing[key] = peer

    def ceases(self, peer: CoapPeer) -> None:
        """It has none any more."""
        if isinstance(peer, UdpPeer) and self._observing.pop((peer.port, peer.address), None) is not None:
            self._quiet[peer.port, peer.address] = peer

    def forget(self, peer: CoapPeer) -> None:
        """It is gone."""
        if isinstance(peer, UdpPeer):
            key = (peer.port, peer.address)
            self._quiet.pop(key, None)
            self._observing.pop(key, None)

    def _meet(self, key: tuple[object, SocketAddress], address: SocketAddress, port: DatagramPort) -> CoapPeer:
        while len(self) >= self.limit:
            if self._quiet:
                victim: CoapPeer = next(iter(self._quiet.values()))
            elif (observer := self._oldest()) is not None:
                victim = observer
            else:
                break
            self._lost(victim, "too many addresses ([coap] max_peers)")
        peer = self._quiet[key] = UdpPeer(address, port)
        if self._sweeping is None:
            self._sweep_later()
        return peer

    def _sweep_later(self) -> None:
        self._sweeping = self._deadlines.after(self._lifetime(), self._sweep, None)

    def _sweep(self, _: None) -> None:
        """Nothing that a peer sent so long ago can come again: that is forgotten, and strangers as a whole."""
        self._sweeping = None
        old = self._seconds() - self._lifetime()
        while self._quiet and (peer := next(iter(self._quiet.values()))).heard < old:
            self._lost(peer, "it was not heard of")
        for peer in self._observing.values():
            if peer.heard < old:
                peer.recent = None
        if len(self):
            self._sweep_later()


def host_of(address: SocketAddress) -> Hashable:
    """What limits for one address count by."""
    return address[0] if len(address) == 2 else address_of(IPv6Address("UDP", *address))
