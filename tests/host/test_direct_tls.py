"""TLS that is sent at once: on a real socket, whose peer is Python's own TLS, without a reactor."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import certificates
import pytest
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from rpcbroker.core import direct
from rpcbroker.host.direct_tls import RECORDS, DirectTLSFactory
from rpcbroker.host.tls import Certificate, TlsFiles


class Reactor:
    """What a transport of Twisted asks of it when it has to wait."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        """Nothing is read but by hand."""

    def removeReader(self, reader: Any) -> None:
        """It was not read."""

    def callLater(self, seconds: float, action: Any, *arguments: Any) -> None:
        """No other turn comes."""

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)


class Ends:
    """A connection with TLS, and who is at its other end."""

    def __init__(self, directory: Path, *, chain: int = 0) -> None:
        """`chain`: so many certificates come behind the server's own."""
        made = certificates.make(directory, serial=1)
        behind = directory / "chain.pem"
        behind.write_bytes(made.certificate.read_bytes() * chain)
        files = TlsFiles(private_key=made.key, certificate=made.certificate, chain=behind if chain else None)
        certificate = Certificate("t", files)
        self.clock, self.reactor, self.application = Clock(), Reactor(), Protocol()
        factory: Any = Factory()
        factory.buildProtocol = lambda _: self.application
        self.outgoing = direct.Outgoing(self.clock.seconds)
        tls: Any = DirectTLSFactory(certificate, factory, self.clock, self.outgoing).buildProtocol(None)
        listener = socket.create_server(("127.0.0.1", 0))
        self._peer = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        listener.close()
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._peer.settimeout(5)
        self.tcp: Any = Server(accepted, tls, accepted.getpeername(), None, 0, self.reactor)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(made.certificate)
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = context.wrap_bio(self._came, self._goes, server_hostname="127.0.0.1")
        tls.makeConnection(self.tcp)
        while True:
            try:
                self._client.do_handshake()
                break
            except ssl.SSLWantReadError:
                tls.dataReceived(self._goes.read())
                self._came.write(self._peer.recv(1 << 16))
        tls.dataReceived(self._goes.read())
        self.transport: Any = tls

    def read(self, size: int) -> bytes:
        """At least so many bytes that the peer gets, for which it waits; fewer if the other end says farewell."""
        got = b""
        while len(got) < size:
            try:
                piece = self._client.read(1 << 14)
            except ssl.SSLWantReadError:
                self._came.write(self._peer.recv(1 << 16))
                continue
            if not piece:
                break
            got += piece
        return got

    def ask_and_leave(self, question: bytes) -> None:
        """In one read, with close_notify."""
        self._client.write(question)
        with suppress(ssl.SSLWantReadError):
            self._client.unwrap()
        self.transport.dataReceived(self._goes.read())

    def unread(self) -> bytes:
        """What has come to the peer's socket."""
        self._peer.setblocking(False)
        try:
            return self._peer.recv(1 << 16)
        except BlockingIOError:
            return b""
        finally:
            self._peer.settimeout(5)

    def close(self) -> None:
        self._peer.close()
        self.tcp.socket.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.close()


def test_what_is_sent_is_at_the_peer_without_a_turn_of_the_reactor(ends: Ends) -> None:
    direct.send(ends.transport, b"answer")
    assert ends.read(6) == b"answer"
    assert not ends.clock.getDelayedCalls(), "Twisted gathers nothing"
    assert not ends.reactor.writers


def test_the_handshake_needs_no_turn_either(ends: Ends) -> None:
    assert ends.transport._handshakeDone
    assert not ends.reactor.writers


def test_a_long_handshake_is_sent_whole(tmp_path: Path) -> None:
    ends = Ends(tmp_path, chain=3 * RECORDS // 600)
    direct.send(ends.transport, b"answer")
    assert ends.read(6) == b"answer"
    ends.close()


@pytest.mark.parametrize("gathers", [False, True])
def test_what_was_answered_goes_before_the_farewell(ends: Ends, gathers: bool) -> None:
    ends.application.dataReceived = lambda data: ends.outgoing.send(ends.transport, data)  # type: ignore[method-assign]
    if gathers:
        ends.outgoing.gather()
    ends.ask_and_leave(b"answer")
    ends.outgoing.release()
    assert ends.read(6) == b"answer"


def test_so_does_what_twisted_has_gathered(ends: Ends) -> None:
    ends.application.dataReceived = ends.transport.write  # type: ignore[method-assign]
    ends.ask_and_leave(b"answer")
    assert ends.read(6) == b"answer"


def test_an_abort_does_not_look_like_an_end(ends: Ends) -> None:
    ends.unread()  # tickets
    ends.transport.abortConnection()
    assert ends.unread() == b"", "no close_notify (RFC 8446 6.1)"


def test_it_goes_behind_what_was_written_before(ends: Ends) -> None:
    ends.transport.write(b"one ")
    direct.send(ends.transport, b"two ")
    ends.clock.advance(0)
    direct.send(ends.transport, b"three")
    assert ends.read(13) == b"one two three"


def test_what_the_socket_does_not_take_waits_in_twisted_and_in_order(ends: Ends) -> None:
    much = bytes(range(256)) * 8_000
    direct.send(ends.transport, much)
    assert direct.waits(ends.transport)
    assert ends.reactor.writers == {ends.tcp}
    direct.send(ends.transport, b"end")
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(ends.read, len(much) + 3)
        while ends.reactor.writers:
            ends.tcp.doWrite()
        assert reading.result() == much + b"end"


def test_more_than_a_record_comes_whole(ends: Ends) -> None:
    direct.send(ends.transport, bytes(50_000))
    assert ends.read(50_000) == bytes(50_000)


def test_after_the_end_nothing_is_sent(ends: Ends) -> None:
    ends.tcp.connected = 0
    ends.transport.connectionLost(Failure(CONNECTION_LOST))
    direct.send(ends.transport, b"late")
    ends.clock.advance(1)
    assert not ends.reactor.writers


def test_nothing_is_sent_behind_the_farewell(ends: Ends) -> None:
    ends.transport.loseConnection()
    direct.send(ends.transport, b"late")
    assert ends.read(1) == b""


def test_if_twisted_gathers_otherwise_it_is_left_to_twisted(ends: Ends) -> None:
    ends.transport._aggregator = object()
    written: list[bytes] = []
    ends.transport.write = written.append
    direct.send(ends.transport, b"x")
    assert written == [b"x"]
    ends.unread()
    ends.ask_and_leave(b"y")
    assert ends.unread(), "the farewell comes all the same"
