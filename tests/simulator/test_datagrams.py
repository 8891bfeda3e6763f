"""UDP and DTLS as a device has them: the DTLS side against the broker's own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from certificates import Files, make
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.settings import CoapSettings
from rpcbroker.host.key_files import load
from rpcbroker.host.tls import TlsFiles
from rpcbroker.simulator.carrier import LinkLost, Refused
from rpcbroker.simulator.datagrams import HANDSHAKE, MTU, Channel, DtlsChannel
from rpcbroker.simulator.trust import Trust, TrustError, dtls_context, tls_creator
from rpcbroker.transports.coap.dtls import DtlsCounters, DtlsPort
from rpcbroker.wire.dtls import HEADER, datagrams

ADDRESS = ("127.0.0.1", 5683)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make(tmp_path_factory.mktemp("broker"), serial=1)


class Socket:
    """In the place of a Channel: what is sent reaches the port, or nobody."""

    def __init__(self) -> None:
        self.received: Any = None
        self.lost: Any = None
        self.deaf = False
        self.closed = False
        self.sent: list[bytes] = []
        self.port: DtlsPort | None = None

    def send(self, datagram: bytes) -> None:
        if self.deaf:
            return
        self.sent.append(datagram)
        if self.port is not None:
            self.port.received(datagram, ADDRESS)

    def close(self) -> Deferred[None]:
        self.closed = self.deaf = True
        return succeed(None)


class Session:
    """A device and a broker that speak DTLS."""

    def __init__(self, files: Files, trust: Trust, *, host: str = "127.0.0.1", reached: bool = True) -> None:
        self.clock = Clock()
        self.socket = Socket()
        self.got: list[bytes] = []
        self.certificates: list[bytes | None] = []
        self.left: list[str] = []
        identity = load(TlsFiles(private_key=files.key, certificate=files.certificate)).identity
        server = SimpleNamespace(
            settings=CoapSettings(), received=self._received, lost=lambda _, why: self.left.append(why)
        )
        self.port = DtlsPort(
            server,
            lambda: identity,
            deadlines=Deadlines(self.clock),
            seconds=self.clock.seconds,
            secret=b"secret",
            counters=DtlsCounters(),
        )
        self.port.send_to = lambda _address, datagram: self._to_device(datagram)
        if reached:
            self.socket.port = self.port
        self.channel = DtlsChannel(self.socket, dtls_context(trust), host, clock=self.clock)
        self.told: list[Any] = []
        self.lost: list[str] = []
        self.channel.received = self.told.append
        self.channel.lost = self.lost.append
        self.outcome: list[Any] = []
        self.channel.begin().addBoth(self.outcome.append)
        self.clock.advance(0)

    def _received(self, datagram: bytes, peer: Any) -> None:
        self.got.append(datagram)
        self.certificates.append(peer.certificate)
        peer.send(b"re: " + datagram)

    def _to_device(self, datagram: bytes) -> None:
        self.clock.callLater(0, lambda: None if self.socket.deaf else self.socket.received(datagram))

    def shake(self) -> Session:
        self.clock.pump([0] * 10)
        return self

    def failed(self, kind: type[Exception]) -> str:
        (failure,) = self.outcome
        assert failure.check(kind)
        return str(failure.value)


def test_datagrams_go_both_ways(files: Files) -> None:
    session = Session(files, Trust(ca=files.certificate)).shake()
    assert session.outcome == [None]
    for number in range(3):
        session.channel.send(b"%d" % number)
    session.shake()
    assert session.got == [b"0", b"1", b"2"]
    assert session.told == [b"re: 0", b"re: 1", b"re: 2"]
    assert session.certificates[0] is None
    assert max(map(len, session.socket.sent)) <= MTU
    session.channel.close()
    session.shake()
    assert session.left == ["the device closed the DTLS session"]
    assert session.socket.closed


def test_it_shows_its_certificate(files: Files, tmp_path: Path) -> None:
    own = make(tmp_path, serial=2)
    session = Session(files, Trust(ca=files.certificate, certificate=own.certificate, key=own.key)).shake()
    session.channel.send(b"x")
    assert session.certificates[0] is not None


def test_a_broker_that_nobody_vouches_for_is_refused(files: Files) -> None:
    assert "not believed" in Session(files, Trust()).shake().failed(Refused)


def test_a_broker_of_another_name_is_refused(files: Files) -> None:
    session = Session(files, Trust(ca=files.certificate), host="127.0.0.2").shake()
    assert "not for 127.0.0.2" in session.failed(Refused)
    session.channel.send(b"secret")
    assert session.got == []


def test_who_does_not_care_believes_anybody(files: Files) -> None:
    assert Session(files, Trust(insecure=True), host="elsewhere").shake().outcome == [None]


def test_a_broker_that_does_not_answer_is_given_up(files: Files) -> None:
    session = Session(files, Trust(insecure=True), reached=False)
    assert len(session.socket.sent) == 1
    session.clock.pump([0.5] * int(HANDSHAKE / 0.5))
    assert "does not answer" in session.failed(LinkLost)
    assert session.clock.getDelayedCalls() == []


def test_nobody_there_is_known_at_once(files: Files) -> None:
    session = Session(files, Trust(insecure=True), reached=False)
    session.socket.lost("nobody listens there")
    assert session.failed(LinkLost) == "The broker cannot be reached: nobody listens there."


def test_a_broker_that_closes_the_session_is_lost(files: Files) -> None:
    session = Session(files, Trust(insecure=True)).shake()
    session.port.close()
    session.shake()
    assert session.lost == ["it closed the DTLS session"]


def test_deaf_it_takes_and_says_nothing(files: Files) -> None:
    session = Session(files, Trust(insecure=True)).shake()
    session.channel.send(b"x")
    session.channel.deaf = True
    session.shake()
    session.channel.send(b"y")
    assert (session.got, session.told) == ([b"x"], [])
    session.channel.deaf = False
    session.channel.send(b"z")
    session.shake()
    assert session.told == [b"re: z"]


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
@pytest.mark.parametrize("content", [None, b"nothing"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, files: Files, part: str, content: bytes | None) -> None:
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    given: dict[str, Path] = {part: bad} if part != "key" else {"certificate": files.certificate, "key": bad}
    for use in (dtls_context, lambda trust: tls_creator(trust, "localhost")):
        with pytest.raises(TrustError, match=r"bad\.pem cannot be"):
            use(Trust(**given))


# -- records


def record(size: int) -> bytes:
    return bytes(11) + size.to_bytes(2, "big") + bytes(size)


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(50, 400))
def test_records_are_packed_whole_and_in_order(sizes: list[int], mtu: int) -> None:
    records = b"".join(map(record, sizes))
    packed = list(datagrams(records, mtu))
    assert b"".join(packed) == records
    assert all(packed)
    for one, other in pairwise(packed):
        first = HEADER + int.from_bytes(other[11:HEADER], "big")
        assert len(one) + first > mtu  # it did not fit
    assert all(len(each) <= mtu or len(each) == HEADER + int.from_bytes(each[11:HEADER], "big") for each in packed)


# -- UDP


class Transport:
    """A UDP port that a test looks at."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: OSError | None = None

    def connect(self, host: str, port: int) -> None:
        self.calls.append(("connect", host, port))

    def write(self, datagram: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(("write", datagram))

    def stopListening(self) -> None:
        self.calls.append(("stop",))


def test_a_socket_speaks_with_one_address_only() -> None:
    channel, transport = Channel(("127.0.0.1", 5683)), Transport()
    got: list[bytes] = []
    lost: list[str] = []
    channel.received, channel.lost = got.append, lost.append
    channel.makeConnection(transport)
    channel.send(b"x")
    channel.datagramReceived(b"y", ("127.0.0.1", 5683))
    assert (transport.calls, got) == ([("connect", "127.0.0.1", 5683), ("write", b"x")], [b"y"])
    channel.connectionRefused()
    transport.error = OSError(101, "Network is unreachable")
    channel.send(b"x")
    assert lost == ["nobody listens there", "a datagram cannot be sent there (Network is unreachable)"]
    channel.deaf = True
    channel.send(b"x")
    channel.datagramReceived(b"y", ("127.0.0.1", 5683))
    channel.connectionRefused()
    assert (len(got), len(lost)) == (1, 2)
    channel.close()
    assert transport.calls[-1] == ("stop",)
