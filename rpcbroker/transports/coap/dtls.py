"""DTLS 1.2 on a UDP port: OpenSSL makes the records, this keeps the sessions, and hands what they carry to the server.

Nothing is kept of an address until it has shown, by a cookie, that it receives what is sent there (RFC 6347 4.2.1).
A session that begins anew replaces the old one when its handshake is complete, not before (4.2.8). What cannot be
read is dropped without a word (4.1.2.7).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Protocol

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.counters import DtlsCounters
from rpcbroker.transports.coap.dtls_context import Identity, make_context
from rpcbroker.transports.coap.peers import CoapPeer, SocketAddress, host_of
from rpcbroker.wire.dtls import HEADER, datagrams

MAX_HANDSHAKES = 256
"""Handshakes at a time; for one more the oldest ends. With a round trip of a second 100 can come in each second."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds for a handshake: a lost datagram is sent again after 1, 3, 7 and 15."""
COOKIE_AGE = 60.0
"""Seconds that a cookie is good for, and up to twice as many: who had the address then may have lost it since."""
SWEEP = 60.0
"""Seconds between two looks for sessions that were idle for too long, unless one is known to be sooner."""
MAX_HELLO = 8_192
"""Bytes of a ClientHello, which must come in one piece."""

_HANDSHAKE, _ALERT, _APPLICATION_DATA = 22, 21, 23
_CLIENT_HELLO = 1
_RANDOM = slice(27, 59)
"""Where a ClientHello has its random: behind the headers of record (13) and handshake (12), and the version (2)."""
_ALL = 1 << 16
"""More than OpenSSL ever has to send: one read empties its buffer."""
_LARGEST = 1 << 14
"""Bytes of a record's content (RFC 6347 4.1, RFC 5246 6.2.1)."""


class Server(Protocol):
    """What is told of the datagrams that sessions carry: coap.server.CoapServer is one."""

    settings: CoapSettings

    def received(self, datagram: bytes, peer: CoapPeer) -> None: ...

    def lost(self, peer: CoapPeer, why: str) -> None: ...


class _Session:
    """One association (RFC 6347 3): first its handshake, then what it carries, for which it has a peer."""

    __slots__ = ("address", "connection", "heard", "limit", "peer", "random", "timer")

    def __init__(self, connection: SSL.Connection, address: SocketAddress, random: bytes) -> None:
        self.connection: SSL.Connection | None = connection
        """None once it has ended."""
        self.address = address
        self.random = random
        """By which a repeated ClientHello is known."""
        self.peer: CoapPeer | None = None
        self.heard = 0.0
        self.timer: Deadline | None = None
        """Of what has to be sent again in the handshake."""
        self.limit: Deadline | None = None
        """Of the handshake."""


class DtlsPort:
    """All sessions on one UDP port, by the address of each.

    What came for the port is given to `received`, and what it sends goes to `send_to`.
    """

    def __init__(
        self,
        server: Server,
        identity: Callable[[], Identity],
        *,
        deadlines: Deadlines,
        seconds: Callable[[], float],
        secret: bytes,
        counters: DtlsCounters,
    ) -> None:
        """`identity` is asked before each handshake; `secret`, of which cookies are made, nobody else may know."""
        self.send_to: Callable[[SocketAddress, bytes], None] = lambda address, datagram: None
        """Sends a datagram, at once or never: whoever has the socket puts it here."""
        self._server = server
        self._identity = identity
        self._deadlines = deadlines
        self._seconds = seconds
        self._secret = secret
        self._counters = counters
        self._rate = RateLimit(server.settings.address_rate, seconds)
        self._mtu = server.settings.dtls_mtu
        self._context: SSL.Context | None = None
        self._context_of: Identity | None = None
        self._spare: SSL.Connection | None = None
        self._asking: SocketAddress = ()
        """Whose ClientHello OpenSSL looks at now."""
        self._handshakes: dict[SocketAddress, _Session] = {}
        """In the order in which they began."""
        self._sessions: dict[SocketAddress, _Session] = {}
        """In the order in which they were heard last."""
        self._sweeping: Deadline | None = None

    def __len__(self) -> int:
        """How many sessions there are, handshakes not counted."""
        return len(self._sessions)

    def received(self, datagram: bytes, address: SocketAddress) -> None:
        """A datagram came. Never raises."""
        if len(datagram) < HEADER:
            self._counters.dropped += 1
            return
        session = self._sessions.get(address)
        kind = datagram[0]
        if session is not None and kind == _APPLICATION_DATA:
            self._take(session, datagram)
            return
        if session is None and self._is_too_often(address):
            self._counters.dropped += 1
            return
        handshake = self._handshakes.get(address)
        if _is_hello(datagram) and datagram[_RANDOM] not in (
            handshake and handshake.random,
            session and session.random,
        ):
            self._hello(datagram, address)
        elif handshake is not None and not (session is not None and kind == _ALERT and datagram[3:5] != b"\0\0"):
            self._go_on(handshake, datagram)
        elif session is not None:
            self._take(session, datagram)
        else:
            self._counters.dropped += 1

    def close(self) -> None:
        """End all sessions, and tell their peers."""
        for session in [*self._handshakes.values(), *self._sessions.values()]:
            self._end(session, "the server stops")
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    # -- before there is a session

    def _is_too_often(self, address: SocketAddress) -> bool:
        """What sessions carry the server counts itself."""
        self._rate.rate = self._server.settings.address_rate
        return bool(self._rate.rate) and self._rate.take(host_of(address)) > 0

    def _hello(self, datagram: bytes, address: SocketAddress) -> None:
        """Without the right cookie it is answered with one, and forgotten; with it a handshake begins."""
        if len(datagram) > MAX_HELLO:
            self._counters.dropped += 1
            return
        spare = self._spare_connection()
        self._asking = address
        spare.bio_write(datagram)
        try:
            spare.DTLSv1_listen()
        except SSL.WantReadError:
            self._flush(spare, address)
            # Why it could not be read OpenSSL leaves in a queue of the thread, where the next session would find it as
            # its own. To listen again, to nothing, empties that.
            with suppress(SSL.Error):
                spare.DTLSv1_listen()
            return
        except SSL.Error:
            self._spare = None
            self._counters.dropped += 1
            return
        self._spare = None
        old = self._handshakes.get(address)
        if old is not None:
            self._fail(old)
        if len(self._handshakes) >= MAX_HANDSHAKES:
            self._fail(next(iter(self._handshakes.values())))
        session = self._handshakes[address] = _Session(spare, address, datagram[_RANDOM])
        session.limit = self._deadlines.after(HANDSHAKE_TIMEOUT, self._fail, session)
        self._shake(session)

    def _spare_connection(self) -> SSL.Connection:
        """One that no session has; what has to be made of the certificate is made once."""
        identity = self._identity()
        if self._context is None or self._context_of is not identity:
            self._context, self._context_of = make_context(identity, lambda: self._cookie(0), self._proves), identity
            self._spare = None
        if self._spare is None:
            self._spare = SSL.Connection(self._context)
            self._spare.set_accept_state()
            self._spare.set_ciphertext_mtu(self._mtu)
        return self._spare

    def _proves(self, cookie: bytes) -> bool:
        return any(hmac.compare_digest(cookie, self._cookie(age)) for age in (0, 1))

    def _cookie(self, age: int) -> bytes:
        """For the address that asks, of this period, or of the one before (`age` 1)."""
        whose = f"{int(self._seconds() / COOKIE_AGE) - age} {self._asking}"
        return hmac.digest(self._secret, whose.encode(), sha256)

    # -- the handshake

    def _go_on(self, session: _Session, datagram: bytes) -> None:
        assert session.connection is not None
        session.connection.bio_write(datagram)
        self._shake(session)

    def _shake(self, session: _Session) -> None:
        """Do what can be done with what came."""
        connection = session.connection
        assert connection is not None
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            self._flush(connection, session.address)
            self._wait(session)
        except SSL.Error:
            self._fail(session)
        else:
            self._flush(connection, session.address)
            self._establish(session)

    def _wait(self, session: _Session) -> None:
        """Until something has to be sent again, if nothing comes (RFC 6347 4.2.4)."""
        if session.timer is not None:
            session.timer.cancel()
        assert session.connection is not None
        left = session.connection.DTLSv1_get_timeout()
        session.timer = None if left is None else self._deadlines.after(left, self._send_again, session)

    def _send_again(self, session: _Session) -> None:
        connection = session.connection
        if connection is None:
            return
        try:
            connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self._fail(session)
        else:
            self._flush(connection, session.address)
            self._wait(session)

    def _fail(self, session: _Session) -> None:
        """Nobody heard of its peer, so there is nobody to tell."""
        self._counters.failed_handshakes += 1
        self._end(session, "its handshake failed")

    def _establish(self, session: _Session) -> None:
        assert session.connection is not None
        shown = session.connection.get_peer_certificate()
        certificate = None if shown is None else dump_certificate(FILETYPE_ASN1, shown)
        self._still(session)
        del self._handshakes[session.address]
        old = self._sessions.get(session.address)
        if old is not None:
            self._end(old, "the device began a new DTLS session")
        while len(self._sessions) >= max(1, self._server.settings.max_dtls_peers):
            self._end(next(iter(self._sessions.values())), "there are too many DTLS sessions")
        self._counters.handshakes += 1
        session.peer = CoapPeer(
            session.address,
            host_of(session.address),
            partial(self._send, session),
            certificate=certificate,
            proven=True,
        )
        session.heard = self._seconds()
        self._sessions[session.address] = session
        if self._sweeping is None:
            self._sweep(None)
        self._read(session, whole=False)  # what came in one datagram with the last message of the handshake

    # -- what a session carries

    def _take(self, session: _Session, datagram: bytes) -> None:
        assert session.connection is not None
        session.connection.bio_write(datagram)
        single = len(datagram) == HEADER + int.from_bytes(datagram[11:HEADER], "big")
        self._read(session, whole=single and datagram[0] == _APPLICATION_DATA)

    def _read(self, session: _Session, *, whole: bool) -> None:
        """Give what came to the server. `whole`: it is one record of application data, and nothing is behind it."""
        connection, peer = session.connection, session.peer
        assert connection is not None
        assert peer is not None
        try:
            while True:
                datagram = connection.recv(_LARGEST)
                self._heard(session)
                self._server.received(datagram, peer)
                if whole or session.connection is None:
                    return
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._end(session, "the device closed the DTLS session")
            return
        except SSL.Error:
            self._end(session, "the DTLS session failed")
            return
        # What is left to send: the last flight once more, if the peer has not got it; an alert.
        self._flush(connection, session.address)

    def _heard(self, session: _Session) -> None:
        session.heard = self._seconds()
        self._sessions[session.address] = self._sessions.pop(session.address)

    def _send(self, session: _Session, datagram: bytes) -> None:
        """One datagram, one record. One that cannot be sent is lost, as datagrams are."""
        if session.connection is None:
            return
        try:
            session.connection.send(datagram)
            self.send_to(session.address, session.connection.bio_read(_ALL))
        except SSL.Error:
            self._counters.dropped += 1

    # -- the end

    def _sweep(self, _: None) -> None:
        """End those that were idle for too long; look again when the next one may have been."""
        now, idle = self._seconds(), self._server.settings.dtls_idle_timeout
        self._sweeping = None
        for session in list(self._sessions.values()):
            left = session.heard + idle - now
            if left > 0:
                self._sweeping = self._deadlines.after(min(SWEEP, left), self._sweep, None)
                return
            self._end(session, f"nothing came over its DTLS session for {idle:g} s")

    def _still(self, session: _Session) -> None:
        for deadline in filter(None, (session.timer, session.limit)):
            deadline.cancel()
        session.timer = session.limit = None

    def _end(self, session: _Session, why: str) -> None:
        """Take it off the lists, tell the other side if it can be told, and the server if it knows the peer."""
        connection, peer = session.connection, session.peer
        if connection is None:
            return
        self._still(session)
        with suppress(SSL.Error):
            connection.shutdown()
        self._flush(connection, session.address)
        session.connection = session.peer = None  # they refer to each other by way of `send`
        (self._handshakes if peer is None else self._sessions).pop(session.address, None)
        if peer is not None:
            self._server.lost(peer, why)

    def _flush(self, connection: SSL.Connection, address: SocketAddress) -> None:
        """Send what OpenSSL has for there."""
        try:
            records = connection.bio_read(_ALL)
        except SSL.Error:
            return
        for datagram in datagrams(records, self._mtu):
            self.send_to(address, datagram)


def _is_hello(datagram: bytes) -> bool:
    """Whether it begins with a ClientHello that nothing protects, whole, as it has to be (RFC 6347 4.2.2)."""
    return (
        len(datagram) >= _RANDOM.stop
        and datagram[0] == _HANDSHAKE
        and datagram[3:5] == b"\0\0"
        and datagram[HEADER] == _CLIENT_HELLO
    )
