"""What is known of bytes that were written to a socket, and of who should read them: on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport

from rpcbroker.core import direct


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """A transport as Twisted has it, without a reactor, and its peer."""
    listener = socket.create_server(("127.0.0.1", 0))
    peer = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    accepted.setblocking(False)
    transport: Any = Server.__new__(Server)
    transport.__dict__.update(
        socket=accepted, connected=1, disconnecting=0, TLS=False, dataBuffer=b"", _tempDataBuffer=[]
    )
    yield transport, peer
    for each in (listener, peer, accepted):
        each.close()


class Wrapper:
    """TLS above a transport."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport


def test_bytes_that_twisted_keeps_wait_also_below_tls(ends: tuple[Any, socket.socket]) -> None:
    transport, _ = ends
    assert not direct.waits(transport)
    assert not direct.is_tls(transport)
    transport._tempDataBuffer = [b"x"]
    assert direct.waits(transport)
    assert direct.waits(Wrapper(transport))
    assert direct.is_tls(Wrapper(transport))
    transport._tempDataBuffer, transport.dataBuffer = [], b"x"
    assert direct.waits(transport)
    assert not direct.is_lost(transport)
    transport.connected = 0
    assert direct.is_lost(transport)
    assert direct.is_lost(Wrapper(transport))


def test_a_peer_that_has_left_shows_before_the_reactor_hears_of_it(ends: tuple[Any, socket.socket]) -> None:
    transport, peer = ends
    assert not direct.peer_left(transport)
    peer.sendall(b"GET")
    assert not direct.peer_left(transport), "it has more to say"
    assert transport.socket.recv(10) == b"GET", "which was not read"
    peer.shutdown(socket.SHUT_WR)
    assert direct.peer_left(transport)


@pytest.mark.parametrize("what", [{"connected": 0}, {"disconnecting": 1}])
def test_who_was_parted_from_has_left_also_below_tls(ends: tuple[Any, socket.socket], what: dict[str, int]) -> None:
    transport, _ = ends
    assert not direct.peer_left(Wrapper(transport))
    transport.__dict__.update(what)
    assert direct.peer_left(transport)
    assert direct.peer_left(Wrapper(transport))


def test_a_reset_shows_too(ends: tuple[Any, socket.socket]) -> None:
    transport, peer = ends
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    peer.close()
    assert direct.peer_left(transport)


def test_the_kernel_is_told_how_long_a_peer_may_acknowledge_nothing(ends: tuple[Any, socket.socket]) -> None:
    transport, _ = ends
    direct.abort_unread(Wrapper(transport), 12.5)
    assert transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500


def test_what_was_read_is_acknowledged_before_anything_is_sent(ends: tuple[Any, socket.socket]) -> None:
    transport, peer = ends
    for _ in range(3):  # until the kernel takes it for a conversation, in which acknowledgements wait for answers
        peer.sendall(b"x")
        transport.socket.recv(1)
        transport.socket.send(b"x")
        peer.recv(1)
    assert not transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
    direct.acknowledge(Wrapper(transport))
    assert transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


def test_of_what_is_no_socket_nothing_is_known() -> None:
    transport = StringTransport()
    transport.write(b"x")
    assert not direct.waits(transport)
    assert not direct.is_lost(transport)
    assert not direct.peer_left(transport)
    direct.abort_unread(transport, 1)
    direct.acknowledge(transport)


class TestOutgoing:
    """What goes out at once, and at the end of a turn."""

    def test_it_sends_at_once_where_nobody_gathers(self) -> None:
        transport = StringTransport()
        direct.Outgoing(Clock().seconds).send(transport, b"a")
        assert transport.value() == b"a"

    def test_what_is_gathered_goes_out_in_order_at_the_end_of_the_turn(self) -> None:
        one, other, outgoing = StringTransport(), StringTransport(), direct.Outgoing(Clock().seconds)
        outgoing.gather()
        for transport, data in ((one, b"a"), (other, b"b"), (one, b"c")):
            outgoing.send(transport, data)
        assert one.value() == other.value() == b""
        outgoing.release()
        assert (one.value(), other.value()) == (b"ac", b"b")
        outgoing.send(one, b"d")
        assert one.value() == b"acd", "the turn is over"

    def test_who_closes_has_all_sent_before_and_the_rest_is_gathered_on(self) -> None:
        transport, outgoing = StringTransport(), direct.Outgoing(Clock().seconds)
        outgoing.gather()
        outgoing.send(transport, b"a")
        outgoing.flush()
        assert transport.value() == b"a"
        outgoing.send(transport, b"b")
        assert transport.value() == b"a"
        outgoing.release()
        assert transport.value() == b"ab"

    def test_one_that_cannot_be_written_to_is_ended_and_the_others_have_theirs(
        self, no_dropped_failures: list[str]
    ) -> None:
        class Broken(StringTransport):
            def write(self, data: bytes) -> None:
                raise OSError("no")

        broken, whole, outgoing = Broken(), StringTransport(), direct.Outgoing(Clock().seconds)
        outgoing.gather()
        outgoing.send(broken, b"a")
        outgoing.send(whole, b"b")
        outgoing.release()
        assert whole.value() == b"b"
        assert broken.disconnecting
        assert len(no_dropped_failures) == 1
        no_dropped_failures.clear()

    def test_one_that_cannot_even_be_ended_does_not_disturb_the_others(self, no_dropped_failures: list[str]) -> None:
        class Broken(StringTransport):
            def write(self, data: bytes) -> None:
                raise OSError("no")

            def abortConnection(self) -> None:
                raise AttributeError("gone")

        whole, outgoing = StringTransport(), direct.Outgoing(Clock().seconds)
        outgoing.gather()
        outgoing.send(Broken(), b"a")
        outgoing.send(whole, b"b")
        outgoing.release()
        assert whole.value() == b"b"
        no_dropped_failures.clear()

    def test_much_is_not_kept_for_then_nobody_would_notice_who_does_not_read(self) -> None:
        transport, outgoing = StringTransport(), direct.Outgoing(Clock().seconds)
        outgoing.gather()
        outgoing.send(transport, bytes(direct.MOST))
        assert transport.value() == b""
        outgoing.send(transport, b"a")
        assert len(transport.value()) == direct.MOST + 1
        outgoing.send(transport, b"b")
        assert len(transport.value()) == direct.MOST + 1, "the next ones are gathered again"

    def test_it_knows_in_which_turn_it_gathers(self) -> None:
        outgoing = direct.Outgoing(Clock().seconds)
        assert outgoing.turn is None
        outgoing.gather()
        first = outgoing.turn
        outgoing.release()
        assert outgoing.turn is None
        outgoing.gather()
        assert outgoing.turn not in (None, first)

    def test_in_a_long_turn_nothing_is_kept_for_long(self) -> None:
        clock, transport = Clock(), StringTransport()
        outgoing = direct.Outgoing(clock.seconds)
        outgoing.gather()
        outgoing.send(transport, b"a")
        clock.advance(direct.HOLD)
        outgoing.send(transport, b"b")
        assert transport.value() == b""
        clock.advance(0.001)
        outgoing.send(transport, b"c")
        assert transport.value() == b"abc"
        outgoing.send(transport, b"d")
        assert transport.value() == b"abc", "the next ones are gathered again"
