"""A UDP port that reads all that has come at each wake-up, with as little as can be between it and the server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger

from rpcbroker.transports.coap.peers import SocketAddress

BATCH = 256
"""Datagrams that are read before others have their turn."""

_LARGEST = 65_536
"""No datagram is larger, so none is cut off."""


_RECEIVE_BUFFER = 4 << 20
"""Bytes; Linux gives net.core.rmem_max of them at most."""


class _Nothing(DatagramProtocol):
    """What Twisted's port would hand datagrams to."""

    noisy = False

    def logPrefix(self) -> str:
        return "CoAP"


class UdpPort(Port):
    """A UDP port of our own; `startListening` and `stopListening` as any port of Twisted.

    No multicast group is joined, so nothing that is sent to one arrives (RFC 7252 8, 11.3). ICMP errors are not asked
    for: an unconnected socket is told of none, and anybody can forge them.
    """

    _log = Logger()

    def __init__(self, number: int, *, interface: str = "", reactor: Any) -> None:
        super().__init__(number, _Nothing(), interface, _LARGEST, reactor)
        self.received: Callable[[bytes, SocketAddress], None] = _drop
        """Takes each datagram, and where it came from: whoever uses the port puts it here."""
        self.datagrams_received = self.datagrams_sent = 0

    def createInternetSocket(self) -> socket.socket:
        """With as much room for what comes at once as the system gives."""
        created = super().createInternetSocket()
        created.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return created

    def doRead(self) -> None:
        """Datagrams have come."""
        receive, received = self.socket.recvfrom, self.received
        for _ in range(BATCH):
            try:
                datagram, address = receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # what became of a datagram that was sent: it is no news
                continue
            self.datagrams_received += 1
            try:
                received(datagram, address)
            except Exception:
                self._log.failure("a datagram could not be served")

    def send_to(self, address: SocketAddress, datagram: bytes) -> None:
        """See DatagramPort: a full buffer, and a network that is not there, lose it."""
        if self.connected:
            self.datagrams_sent += 1
            try:
                self.socket.sendto(datagram, address)
            except OSError:  # `suppress` would cost each datagram more
                return


def _drop(datagram: bytes, address: SocketAddress) -> None:
    """Nobody uses the port yet."""
