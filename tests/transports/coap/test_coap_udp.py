"""The UDP port, with real sockets and no reactor: datagrams on the loopback interface are there at once."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import certificates
import pytest
from coap_air import N, Site, content
from coap_world import FakeEnrolment
from dtls_client import DtlsClient
from fakes import World
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.settings import CoapSettings
from rpcbroker.host.tls import Certificate, TlsFiles
from rpcbroker.transports.coap.fairness import PATIENCE, SHARE
from rpcbroker.transports.coap.peers import SocketAddress
from rpcbroker.transports.coap.ports import CoapPorts
from rpcbroker.transports.coap.server import CoapServer
from rpcbroker.transports.coap.udp import BATCH, UdpPort
from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code, Type


class Readers:
    """The part of a reactor that a port asks for."""

    def __init__(self) -> None:
        self.reading: set[object] = set()
        self.clock = Clock()
        self.callLater = self.clock.callLater

    def addReader(self, reader: object) -> None:
        self.reading.add(reader)

    def seconds(self) -> float:
        return self.clock.seconds()

    def removeReader(self, reader: object) -> None:
        self.reading.discard(reader)

    def removeWriter(self, writer: object) -> None:
        """It never writes when it is told to."""


REQUEST = encode(Message(Type.CON, Code.GET, 1, b"t", ((N.URI_PATH, b"test"),)))


class Open:
    """A port, and a socket that speaks to it."""

    def __init__(self, interface: str, family: socket.AddressFamily, host: str) -> None:
        self.readers = Readers()
        self.port = UdpPort(0, interface=interface, reactor=self.readers)
        self.port.startListening()
        self.device = socket.socket(family, socket.SOCK_DGRAM)
        self.device.connect((host, self.port.getHost().port))
        self.device.settimeout(5)

    def close(self) -> None:
        self.device.close()
        if self.port.connected:
            self.port.stopListening()
            self.readers.clock.advance(1)


@pytest.fixture(
    params=[
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("::", socket.AF_INET6, "::1"),
        ("::", socket.AF_INET, "127.0.0.1"),
        ("", socket.AF_INET, "127.0.0.5"),
        ("::", socket.AF_INET, "127.0.0.5"),
    ],
    ids=["IPv4", "IPv6", "IPv4 on a port of IPv6", "another address", "another address on a port of IPv6"],
)
def open_port(request: pytest.FixtureRequest) -> Iterator[Open]:
    opened = Open(*request.param)
    yield opened
    opened.close()


@pytest.fixture
def ipv4() -> Iterator[Open]:
    opened = Open("127.0.0.1", socket.AF_INET, "127.0.0.1")
    yield opened
    opened.close()


def server(port: UdpPort, site: Site) -> CoapServer:
    made = CoapServer(
        site.handle,
        site.admit,
        settings=CoapSettings(),
        deadlines=Deadlines(Clock()),
        rng=Random(0),
        seconds=Clock().seconds,
        secret=b"s",
    )
    made.serve(port)
    return made


def test_request_is_answered_to_where_it_came_from(open_port: Open) -> None:
    site = Site({("test",): lambda request: content(b"hello")})
    server(open_port.port, site)
    open_port.device.send(REQUEST)
    open_port.port.doRead()
    assert decode(open_port.device.recv(2000)).payload == b"hello"
    host = site.requests[0].peer.host
    assert host == ("127.0.0.1" if open_port.device.family == socket.AF_INET else 0)


def test_all_that_has_come_is_read_at_one_wake_up_but_not_for_ever(ipv4: Open) -> None:
    came: list[bytes] = []

    def received(datagram: bytes, address: SocketAddress, _: object) -> None:
        came.append(datagram)
        ipv4.device.send(datagram)  # there is always one more

    ipv4.port.received = received
    ipv4.device.send(b"again")
    ipv4.port.doRead()
    assert len(came) == BATCH
    ipv4.port.received = lambda datagram, address, _: came.append(datagram)
    ipv4.port.doRead()
    assert len(came) == BATCH + 1


class Others:
    """A port that more comes to than it can serve, and who sends it: each from an address of his own."""

    def __init__(self, opened: Open) -> None:
        self.open = opened
        self.served: Counter[str] = Counter()
        opened.port.received = self._served

    def _served(self, datagram: bytes, address: SocketAddress, _: object) -> None:
        self.served[address[0]] += 1

    def send(self, host: str, number: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((host, 0))
            sender.connect(self.open.device.getpeername())
            for _ in range(number):
                sender.send(b"\0" * 900)

    def turn(self) -> Counter[str]:
        """Who was served how often in one."""
        self.served.clear()
        self.open.port.doRead()
        return self.served.copy()

    def overrun(self, seconds: float) -> None:
        """For so long more comes than there is room for."""
        self.open.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(int(seconds * 10) + 1):
            self.send("127.0.0.2", 2_000)
            self.turn()
            self.open.readers.clock.advance(0.1)


@pytest.fixture
def others(ipv4: Open) -> Others:
    return Others(ipv4)


def test_while_more_comes_than_can_be_served_nobody_has_more_than_a_share(others: Others) -> None:
    others.overrun(PATIENCE)
    assert others.turn() == {"127.0.0.2": SHARE}
    others.send("127.0.0.2", 500)
    others.send("127.0.0.3", SHARE - 1)
    others.send("127.0.0.4", SHARE + 1)
    seen = others.open.port.datagrams_skipped
    assert others.turn() == {"127.0.0.2": SHARE, "127.0.0.3": SHARE - 1, "127.0.0.4": SHARE}
    assert others.open.port.datagrams_skipped - seen == 500 - SHARE + 1


def test_when_nobody_wants_more_than_a_share_they_soon_hold_no_longer(others: Others) -> None:
    others.overrun(PATIENCE)
    assert others.turn() == {"127.0.0.2": SHARE}
    others.send("127.0.0.2", SHARE + 1)
    assert others.turn() == {"127.0.0.2": SHARE}
    others.open.readers.clock.advance(PATIENCE)
    others.send("127.0.0.2", SHARE + 1)
    assert others.turn() == {"127.0.0.2": SHARE + 1}


def test_so_many_addresses_that_shares_are_no_help_do_not_keep_it_from_others(others: Others) -> None:
    others.overrun(PATIENCE)
    others.turn()
    for number in range(2 * BATCH // SHARE):
        others.send(f"127.0.1.{number}", SHARE)
    for first in (0, BATCH // SHARE):
        assert others.turn() == {f"127.0.1.{first + number}": SHARE for number in range(BATCH // SHARE)}


def test_many_at_the_same_moment_are_no_flood(others: Others) -> None:
    others.overrun(PATIENCE / 2)
    while others.turn():
        others.open.readers.clock.advance(1.0)
    assert not others.open.port.datagrams_skipped
    others.overrun(PATIENCE / 2)
    assert others.turn() == {"127.0.0.2": BATCH}


def test_nor_are_many_at_one_moment_and_at_a_later_one(others: Others) -> None:
    for _ in range(2):
        others.open.readers.clock.advance(60)
        others.overrun(0)
    assert others.turn() == {"127.0.0.2": BATCH}
    assert not others.open.port.datagrams_skipped


def test_where_the_system_tells_nothing_all_are_served(others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpcbroker.transports.coap.fairness._SO_MEMINFO", 9_999)
    others.overrun(2 * PATIENCE)
    assert others.turn() == {"127.0.0.2": BATCH}


def test_largest_datagram_arrives_whole(ipv4: Open) -> None:
    came: list[bytes] = []
    ipv4.port.received = lambda datagram, address, _: came.append(datagram)
    datagrams = [bytes(60_000), bytes(65_507), b""]
    for datagram in datagrams:
        ipv4.device.send(datagram)
        ipv4.port.doRead()
    assert came == datagrams


def test_datagram_that_cannot_be_served_is_logged_and_the_next_one_is_served(
    ipv4: Open, no_dropped_failures: list[str]
) -> None:
    came: list[bytes] = []

    def received(datagram: bytes, address: SocketAddress, _: object) -> None:
        came.append(datagram)
        if datagram == b"bad":
            raise ZeroDivisionError

    ipv4.port.received = received
    ipv4.device.send(b"bad")
    ipv4.device.send(b"good")
    ipv4.port.doRead()
    assert came == [b"bad", b"good"]
    assert len(no_dropped_failures) == 1
    no_dropped_failures.clear()


def test_peer_whose_port_is_closed_does_no_harm(ipv4: Open) -> None:
    site = Site({("test",): lambda request: content(b"hello")})
    server(ipv4.port, site)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vanishing:
        vanishing.connect(ipv4.device.getpeername())
        vanishing.send(REQUEST)
    ipv4.port.doRead()  # the answer meets a closed port: ICMP port unreachable
    ipv4.port.doRead()
    ipv4.device.send(REQUEST)
    ipv4.port.doRead()
    assert decode(ipv4.device.recv(2000)).payload == b"hello"


def test_what_cannot_be_sent_is_lost(ipv4: Open) -> None:
    ipv4.port.send_to(ipv4.device.getsockname(), bytes(70_000))
    ipv4.port.send_to(("127.0.0.1", 0), b"x")


def test_closed_port_sends_nothing_and_reads_no_more(ipv4: Open) -> None:
    assert ipv4.readers.reading == {ipv4.port}
    ipv4.port.stopListening()
    ipv4.readers.clock.advance(1)
    assert ipv4.readers.reading == set()
    ipv4.port.send_to(ipv4.device.getsockname(), b"x")


@pytest.mark.parametrize("interface", ["", "::"])
def test_multicast_is_not_received_though_others_have_joined_the_group(interface: str) -> None:
    opened = Open(interface, socket.AF_INET, "127.0.0.1")
    came: list[bytes] = []
    opened.port.received = lambda datagram, address, _: came.append(datagram)
    group, loopback = "224.0.1.187", socket.inet_aton("127.0.0.1")  # all CoAP nodes: RFC 7252 12.8
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + loopback)
        other.sendto(b"to all", (group, opened.port.getHost().port))
        opened.device.send(b"to one")
        opened.port.doRead()
    opened.close()
    assert came == [b"to one"]


def test_nor_is_it_on_ipv6() -> None:
    """Loopback carries no multicast there, so this asks the kernel."""
    opened = Open("::", socket.AF_INET6, "::1")
    takes_all = opened.port.socket.getsockopt(socket.IPPROTO_IPV6, 29)  # IPV6_MULTICAST_ALL
    opened.close()
    assert takes_all == 0


def test_dtls_is_answered_from_the_address_that_it_came_to(tmp_path: Path) -> None:
    readers, files, world = Readers(), certificates.make(tmp_path, serial=1), World()
    shown = Certificate("dtls", TlsFiles(private_key=files.key, certificate=files.certificate))
    ports = CoapPorts(
        broker=world.broker,
        enrolment=FakeEnrolment(),
        settings=CoapSettings(),
        now_ms=world.now_ms,
        rng=Random(0),
        secret=b"s",
        reactor=readers,
    )
    port = ports.listen_dtls(0, "", lambda: shown.identity)
    for host in ("127.0.0.5", "127.0.0.6"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.connect((host, port.getHost().port))
            device.settimeout(5)
            client = DtlsClient()
            said = client.hello()
            while not client.established:
                for datagram in said:
                    device.send(datagram)
                port.doRead()
                said = client.take(device.recv(2000))
            device.send(client.seal(REQUEST))
            port.doRead()
            while not client.received:
                client.take(device.recv(2000))
            assert decode(client.received[0]).code == Code.NOT_FOUND
    assert ports.dtls_sessions == 2
    port.stopListening()
    readers.clock.advance(1)
