"""Bytes to a connection without a turn of the reactor in between, and what became of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.tcp import Server
from twisted.logger import Logger


def send(transport: Any, data: bytes) -> None:
    """Write `data`: at once, as far as the socket takes it, if nothing waits before it; the rest as Twisted does.

    Twisted keeps what is written until the socket says that it has room, which costs two system calls and a
    turn of the reactor for what a socket nearly always has room for. A failure is left to Twisted to find.
    A transport that is above another one, such as TLS, may do as much in its `write_now`.
    """
    if type(transport) is Server and transport.connected and not transport.TLS and not _waits(transport):
        try:
            sent = transport.socket.send(data)
        except OSError:
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    getattr(transport, "write_now", transport.write)(data)


HOLD = 0.005
"""Seconds for which something is kept before all that was gathered is sent, with what comes next."""
MOST = 64 << 10
"""Bytes beyond which all is sent: who does not read is noticed only by what is sent to it."""


class Outgoing:
    """Sends at once, or, while much that was read in one turn of the reactor is acted on, at the end of that.

    What is sent between two reads wakes a peer for each of them, and it wants the processor. In a long turn nothing is
    kept for long.
    """

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._since = 0.0
        self._gathered: list[tuple[Any, bytes]] = []
        self._size = 0
        self._turns = 0
        self.turn: int | None = None
        """Which turn this is; None where nobody gathers."""

    def send(self, transport: Any, data: bytes) -> None:
        """As `send`, now or at the end of the turn; what one transport is sent stays in order."""
        if self.turn is None:
            send(transport, data)
            return
        now = self._seconds()
        if not self._gathered:
            self._since = now
        self._gathered.append((transport, data))
        self._size += len(data)
        if now - self._since > HOLD or self._size > MOST:
            self.flush()

    def gather(self) -> None:
        """Much was read: keep what is sent until `release`."""
        self._turns += 1
        self.turn = self._turns

    def release(self) -> None:
        """The end of the turn."""
        self.turn = None
        if self._gathered:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered so far, as one who is about to close a transport has to."""
        gathered, self._gathered, self._size = self._gathered, [], 0
        for transport, data in gathered:
            try:
                send(transport, data)
            except Exception:  # it must not touch others
                self._log.failure("what was gathered for a connection cannot be sent")
                with suppress(Exception):
                    transport.abortConnection()


def waits(transport: Any) -> bool:
    """Whether something that was written a turn of the reactor ago, or with `send`, has not been taken by the socket.

    Over TLS it may not be known at once: ask in another turn.
    """
    tcp = _socket_of(transport)
    return isinstance(tcp, Server) and bool(tcp.dataBuffer or tcp._tempDataBuffer)


def is_lost(transport: Any) -> bool:
    """Whether the connection is gone."""
    tcp = _socket_of(transport)
    return isinstance(tcp, Server) and not tcp.connected


def is_tls(transport: Any) -> bool:
    """Whether `waits` has to be asked later."""
    return _socket_of(transport) is not transport


def peer_left(transport: Any) -> bool:
    """Whether the peer has closed the connection, or its half of it, though that may not have been heard of yet."""
    tcp = _socket_of(transport)
    if isinstance(tcp, Server) and (tcp.disconnecting or not tcp.connected):
        return True
    if type(transport) is not Server or not transport.connected or transport.TLS:
        return False
    try:
        return not transport.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def abort_unread(transport: Any, seconds: float) -> None:
    """From now on the kernel ends the connection when the peer acknowledges nothing for so long (RFC 5482)."""
    tcp = _socket_of(transport)
    if isinstance(tcp, Server) and tcp.connected and tcp.socket.family in (socket.AF_INET, socket.AF_INET6):
        tcp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def acknowledge(transport: Any) -> None:
    """What was read is acknowledged now, not up to 40 ms later with what is sent next (tcp(7), TCP_QUICKACK).

    A peer that has not set TCP_NODELAY holds its next bytes back until then.
    """
    tcp = _socket_of(transport)
    if isinstance(tcp, Server) and tcp.connected and tcp.socket.family in (socket.AF_INET, socket.AF_INET6):
        tcp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _socket_of(transport: Any) -> Any:
    """The TCP connection below TLS, if there is TLS."""
    return getattr(transport, "transport", transport)


def _waits(transport: Server) -> bool:
    return bool(transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting)
