"""A UDP port that reads all that has come at each wake-up, with as little as can be between it and the server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger

from rpcbroker.transports.coap.fairness import SHARE, Fairness, thrown_away
from rpcbroker.transports.coap.peers import DatagramPort, SocketAddress, host_of

BATCH = 256
"""Datagrams that are served before others have their turn."""
LOOKED_AT = 4_096
"""Datagrams that are read before others have their turn, where not all of them are served."""

_LARGEST = 65_536
"""No datagram is larger, so none is cut off."""


_RECEIVE_BUFFER = 4 << 20
"""Bytes; Linux gives net.core.rmem_max of them at most."""


MAX_LOCALS = 1_024
"""Addresses of this machine that are told apart; Linux takes all of 127.0.0.0/8 for its own."""

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
_IP_PKTINFO, _IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 8, 49, 29
"""Linux's numbers; Python 3.11 does not know them."""
_ROOM = socket.CMSG_SPACE(20)
"""Bytes of what comes beside a datagram: a struct in6_pktinfo, or the smaller one of IPv4."""


class _Nothing(DatagramProtocol):
    """What Twisted's port would hand datagrams to."""

    noisy = False

    def logPrefix(self) -> str:
        return "CoAP"


class UdpPort(Port):
    """A UDP port of our own; `startListening` and `stopListening` as any port of Twisted.

    No multicast group is joined, nor is anything taken for groups that others on this machine have joined (RFC 7252 8,
    11.3). ICMP errors are not asked for: an unconnected socket is told of none, and anybody can forge them.
    """

    _log = Logger()

    def __init__(self, number: int, *, interface: str = "", reactor: Any) -> None:
        super().__init__(number, _Nothing(), interface, _LARGEST, reactor)
        self.received: Callable[[bytes, SocketAddress, DatagramPort], None] = _drop
        """Takes each datagram, where it came from, and what it is answered by: whoever uses the port puts it here."""
        self.datagrams_received = self.datagrams_sent = self.datagrams_skipped = 0
        self._fairness = Fairness()
        self._receive = self._receive_anywhere if interface in _EVERYWHERE else self._receive_here
        self._locals: dict[bytes, DatagramPort] = {}

    def createInternetSocket(self) -> socket.socket:
        """With as much room for what comes at once as the system gives."""
        created = super().createInternetSocket()
        created.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if self.interface in _EVERYWHERE:
            if self.addressFamily == socket.AF_INET:
                created.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
                created.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                created.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
                created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return created

    def doRead(self) -> None:
        """Datagrams have come."""
        if self._fairness.holds and self._fairness.still_holds(self.reactor.seconds()):
            self._read_fairly()
            return
        receive, serve = self._receive, self._serve
        for _ in range(BATCH):
            try:
                datagram, address, port = receive()
            except BlockingIOError:
                return
            except OSError:  # what became of a datagram that was sent: it is no news
                continue
            serve(datagram, address, port)
        self._fairness.behind(thrown_away(self.socket), self.reactor.seconds())
        if self._fairness.holds:
            self._log.warn(
                "more datagrams come to port {port} than can be served: no address gets more than {share} at a time",
                port=self.getHost().port,
                share=SHARE,
            )

    def _read_fairly(self) -> None:
        receive, serve, fairness = self._receive, self._serve, self._fairness
        left = BATCH
        for _ in range(LOOKED_AT):
            try:
                datagram, address, port = receive()
            except BlockingIOError:
                break
            except OSError:
                continue
            if fairness.admits(host_of(address)):
                serve(datagram, address, port)
                left -= 1
                if not left:
                    break
            else:
                self.datagrams_received += 1
        self.datagrams_skipped += fairness.end_turn(self.reactor.seconds())

    def _serve(self, datagram: bytes, address: SocketAddress, port: DatagramPort) -> None:
        self.datagrams_received += 1
        try:
            self.received(datagram, address, port)
        except Exception:
            self._log.failure("a datagram could not be served")

    def _receive_here(self) -> tuple[bytes, SocketAddress, DatagramPort]:
        return (*self.socket.recvfrom(_LARGEST), self)

    def _receive_anywhere(self) -> tuple[bytes, SocketAddress, DatagramPort]:
        datagram, beside, _, address = self.socket.recvmsg(_LARGEST, _ROOM)
        if not beside:
            return datagram, address, self
        to = beside[0][2]
        return datagram, address, self._locals.get(to) or self._local(to)

    def _local(self, to: bytes) -> DatagramPort:
        if len(self._locals) >= MAX_LOCALS:
            return self
        made = self._locals[to] = _Local(self, to)
        return made

    def send_to(self, address: SocketAddress, datagram: bytes) -> None:
        """See DatagramPort: a full buffer, and a network that is not there, lose it."""
        if self.connected:
            self.datagrams_sent += 1
            try:
                self.socket.sendto(datagram, address)
            except OSError:  # `suppress` would cost each datagram more
                return


class _Local:
    """One address of a port that is open on all of the machine's: what it sends comes from there (RFC 7252 5.3.2).

    Left to itself the system takes the address that is nearest to the other end, which waits for another one.
    """

    __slots__ = ("_beside", "_port")

    def __init__(self, port: UdpPort, to: bytes) -> None:
        """`to` is the struct in_pktinfo, or in6_pktinfo, of a datagram that came."""
        self._port = port
        if port.addressFamily == socket.AF_INET:
            self._beside = ((socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + to[4:8] + bytes(4)),)
        else:  # an address that is good on one link only needs to say on which
            link = to[16:] if to[0] == 0xFE and to[1] & 0xC0 == 0x80 else bytes(4)
            self._beside = ((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, to[:16] + link),)

    def send_to(self, address: SocketAddress, datagram: bytes) -> None:
        """See DatagramPort."""
        port = self._port
        if port.connected:
            port.datagrams_sent += 1
            try:
                port.socket.sendmsg((datagram,), self._beside, 0, address)
            except OSError:
                return


def _drop(datagram: bytes, address: SocketAddress, port: DatagramPort) -> None:
    """Nobody uses the port yet."""
