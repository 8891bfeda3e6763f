"""Ways for datagrams between a device and a broker: plain UDP, and DTLS over it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThreadPool

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.carrier import LinkLost, Refused
from rpcbroker.simulator.trust import believe_name, tls_failed
from rpcbroker.wire.dtls import datagrams

HANDSHAKE = 30.0
"""Seconds for a DTLS handshake: a lost datagram is sent again after 1, 3, 7 and 15."""
MTU = 1_232
"""Bytes of a DTLS datagram: what any IPv6 path takes (1,280) without its headers."""
_LARGEST = 1 << 16


class Channel(DatagramProtocol):
    """A UDP socket that is connected to one address. What is sent may be lost.

    `received` gets what comes, `lost` half a sentence when nobody is there. A deaf one takes nothing and says nothing.
    """

    transport: Any

    def __init__(self, address: tuple[str, int]) -> None:
        self.received: Callable[[bytes], None] = lambda _datagram: None
        self.lost: Callable[[str], None] = lambda _why: None
        self.deaf = False
        self._address = address

    def startProtocol(self) -> None:
        """Take nothing from others."""
        self.transport.connect(*self._address)

    def datagramReceived(self, datagram: bytes, _address: Any) -> None:
        """From the broker."""
        if not self.deaf:
            self.received(datagram)

    def connectionRefused(self) -> None:
        """ICMP: nobody listens there."""
        if not self.deaf:
            self.lost("nobody listens there")

    def send(self, datagram: bytes) -> None:
        """Send it, now or never."""
        if self.deaf or self.transport is None:
            return
        try:
            self.transport.write(datagram)
        except OSError as error:
            self.lost(f"a datagram cannot be sent there ({error.strerror})")

    def close(self) -> Deferred[None]:
        """Fires when the socket is closed."""
        self.deaf = True
        if self.transport is None:
            return succeed(None)
        closed: Deferred[None] = maybeDeferred(self.transport.stopListening)
        return closed


async def open_udp(reactor: Any, host: str, port: int) -> Channel:
    """A socket of its own. Raises DNSLookupError."""
    address = host
    if not (isIPAddress(host) or isIPv6Address(host)):
        try:
            found = await deferToThreadPool(
                reactor, reactor.getThreadPool(), socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM
            )
        except OSError:
            raise DNSLookupError("there is no such host") from None
        address = found[0][4][0]
    channel = Channel((address, port))
    reactor.listenUDP(0, channel, interface="::" if ":" in address else "", maxPacketSize=_LARGEST)
    return channel


class DtlsChannel:
    """DTLS 1.2 over a Channel, and itself used like one (RFC 6347)."""

    def __init__(self, channel: Channel, context: SSL.Context, host: str, *, clock: Clock) -> None:
        """`host` is whose certificate is expected."""
        self.received: Callable[[bytes], None] = lambda _datagram: None
        self.lost: Callable[[str], None] = lambda _why: None
        self.established: Deferred[None] = Deferred(lambda _: self._still())
        self._channel = channel
        self._clock: Any = clock
        self._host = host
        self._verifies = context.get_verify_mode() != SSL.VERIFY_NONE
        self._connection = SSL.Connection(context)
        self._connection.set_connect_state()
        self._connection.set_ciphertext_mtu(MTU)
        if not (isIPAddress(host) or isIPv6Address(host)):
            self._connection.set_tlsext_host_name(host.encode("ascii"))
        self._again: Any = None
        self._limit: Any = None
        self._up = False
        channel.received = self._take
        channel.lost = self._lost

    @property
    def deaf(self) -> bool:
        """As of a Channel."""
        return self._channel.deaf

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        self._channel.deaf = deaf

    def begin(self) -> Deferred[None]:
        """Shake hands. Fails with Refused or LinkLost."""
        self._limit = self._clock.callLater(HANDSHAKE, self._fail, LinkLost("The broker does not answer over DTLS."))
        self._shake()
        return self.established

    def send(self, datagram: bytes) -> None:
        """One datagram, one record."""
        if self._up:
            try:
                self._connection.send(datagram)
            except SSL.Error:
                self.lost("the DTLS session failed")
            self._flush()

    def close(self) -> Deferred[None]:
        """Tell the broker, unless we are deaf, and close the socket."""
        self._still()
        if self._up and not self.deaf:
            with suppress(SSL.Error):
                self._connection.shutdown()
            self._flush()
        return self._channel.close()

    # -- the handshake

    def _shake(self) -> None:
        try:
            self._connection.do_handshake()
            if self._verifies:
                believe_name(self._connection, self._host)
        except SSL.WantReadError:
            self._flush()
            self._wait()
        except SSL.Error as error:
            self._flush()
            self._fail(tls_failed(error))
        except Refused as error:
            self._fail(error)
        else:
            self._still()
            self._flush()
            self._up = True
            self.established.callback(None)

    def _wait(self) -> None:
        """Until something has to be sent again (RFC 6347 4.2.4)."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        left = self._connection.DTLSv1_get_timeout()
        self._again = None if left is None else self._clock.callLater(left, self._send_again)

    def _send_again(self) -> None:
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail(tls_failed(error))
        else:
            self._flush()
            self._wait()

    def _fail(self, error: Exception) -> None:
        self._still()
        if not self.established.called:
            self.established.errback(error)

    def _still(self) -> None:
        for timer in (self._again, self._limit):
            if timer is not None and timer.active():
                timer.cancel()

    # -- what comes and goes

    def _take(self, datagram: bytes) -> None:
        self._connection.bio_write(datagram)
        if not self._up:
            if not self.established.called:
                self._shake()
            if not self._up:
                return
        try:
            while not self.deaf:
                self.received(self._connection.recv(_LARGEST))
        except SSL.WantReadError:
            self._flush()  # its last flight once more, if the broker has not got it
        except SSL.ZeroReturnError:
            self.lost("it closed the DTLS session")
        except SSL.Error:
            self.lost("the DTLS session failed")

    def _lost(self, why: str) -> None:
        if self._up:
            self.lost(why)
        else:
            self._fail(LinkLost(f"The broker cannot be reached: {why}."))

    def _flush(self) -> None:
        try:
            records = self._connection.bio_read(_LARGEST)
        except SSL.Error:
            return
        for datagram in datagrams(records, MTU):
            self._channel.send(datagram)


async def open_dtls(reactor: Any, host: str, port: int, context: SSL.Context) -> DtlsChannel:
    """A session that is established. Raises DNSLookupError, Refused, LinkLost."""
    udp = await open_udp(reactor, host, port)
    channel = DtlsChannel(udp, context, host, clock=reactor)
    try:
        await channel.begin()
    except BaseException:
        await udp.close()
        raise
    return channel
