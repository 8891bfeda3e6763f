"""Endpoint strings: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certificates as c
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from rpcbroker.config import load
from rpcbroker.core.direct import Outgoing
from rpcbroker.host.direct_tls import DirectTLSFactory
from rpcbroker.host.listeners import BACKLOG, ListenError, Listeners, check, check_form
from rpcbroker.host.tls import Certificate, Certificates, TlsFiles
from rpcbroker.host.wanted import Wanted, wanted

FACTORY = Factory.forProtocol(Protocol)
OUTGOING = Outgoing(lambda: 0.0)


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def listeners(reactor: Any, directory: Path) -> Listeners:
    return Listeners(reactor, directory=directory, certificates=Certificates(reactor, lambda: 0.0), outgoing=OUTGOING)


def http(description: str) -> Wanted:
    return Wanted("http", "listen", description)


def coap(description: str, key: str = "listen") -> Wanted:
    return Wanted("coap", key, description)


def refusal(description: str, directory: Path) -> str:
    """What `config check` says; starting says the same."""
    with pytest.raises(ListenError) as checked:
        check(http(description), directory)
    with pytest.raises(ListenError) as opened:
        listeners(MemoryReactorClock(), directory).open(http(description), FACTORY)
    assert str(checked.value) == str(opened.value)
    return str(checked.value)


def test_tls_is_tcp_with_a_certificate_of_ours(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    c.make(tmp_path, serial=7)
    opened = listeners(reactor, tmp_path)
    opened.open(http(r"ssl:8443:interface=\:\:1:privateKey=key.pem:certKey=certificate.pem"), FACTORY)
    ((port, factory, backlog, interface),) = reactor.tcpServers
    assert (port, backlog, interface) == (8443, BACKLOG, "::1")
    assert isinstance(factory, DirectTLSFactory)
    assert factory.wrappedFactory is FACTORY
    assert list(opened.urls) == ["https"]


def test_arguments_may_come_without_names_and_with_escapes(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    odd = tmp_path / "a:b=c\\d"
    odd.mkdir()
    made = c.make(odd, serial=7)
    key, certificate = (
        str(path).replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=") for path in (made.key, made.certificate)
    )
    description = f"ssl:1:{key}:{certificate}:TLSv1_2_METHOD:127.0.0.1:backlog=9"
    assert check(http(description), tmp_path) is not None
    listeners(reactor, tmp_path).open(http(description), FACTORY)
    assert reactor.tcpServers[0][2:] == (9, "127.0.0.1")


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("ssl:privateKey=key.pem", "the port is missing"),
        ("ssl:port", "port must be a number, not 'port'"),
        ("ssl:1:key.pem:backlog=many", "backlog must be a number, not 'many'"),
        ("ssl:1:privatKey=key.pem", "'privatKey=key.pem' is not understood; there are port, privateKey"),
        ("ssl:1:privateKey=key.pem:privateKey=key.pem", "is not understood"),
        ("ssl:1:a:b:c:d:1:f:g:one too many", "'one too many' is not understood"),
        ("ssl:1:privateKey=key.pem\\", "it ends in the middle of something"),
        ("ssl:1:sslmethod=TLSv1_METHOD", "sslmethod must be one of TLS_METHOD"),
        ("ssl:1", "certKey {directory}/server.pem: No such file or directory"),
        ("ssl:1:privateKey=/none/key.pem", "certKey /none/key.pem: No such file or directory"),
        ("systemd:domain=UNIX:index=0", "its domain must be INET or INET6; for a UNIX socket use unix:"),
        ("systemd:index=0", "its domain must be INET or INET6"),
        ("systemd:domain=INET", "it must have either a name= or an index="),
        ("systemd:domain=INET:index=0:name=http", "it must have either a name= or an index="),
        ("systemd:domain=INET:index=first", "index must be a number, not 'first'"),
        ("tcp:port", "invalid literal"),
        ("tpc:80", "Unknown endpoint type: 'tpc'"),
        ("80", "80"),
    ],
)
def test_what_is_no_endpoint_is_said_in_one_line(tmp_path: Path, description: str, says: str) -> None:
    said = refusal(description, tmp_path)
    if description.startswith("ssl"):
        assert said.startswith(f"[http] listen: {description!r} is no endpoint: ")
    assert says.format(directory=tmp_path) in said
    assert "\n" not in said


@pytest.mark.parametrize("which", ["index=0", "name=http"])
def test_a_socket_that_systemd_did_not_hand_over(reactor: MemoryReactorClock, tmp_path: Path, which: str) -> None:
    description = f"systemd:domain=INET:{which}"
    assert check(http(description), tmp_path) is None, "at check time it need not be there"
    with pytest.raises(ListenError, match="systemd handed over no such socket"):
        listeners(reactor, tmp_path).open(http(description), FACTORY)


@pytest.mark.parametrize("secure", [False, True])
def test_a_port_in_use(tmp_path: Path, secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = c.make(tmp_path, serial=7)
    reactor = MemoryReactorClock()

    def in_use(port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    monkeypatch.setattr(reactor, "listenTCP", in_use)
    description = made.listener(8443) if secure else "tcp:8080"
    with pytest.raises(ListenError, match=r"\[http\] listen: cannot listen on .*Address already in use"):
        listeners(reactor, tmp_path).open(http(description), FACTORY)


# -- datagrams


class Port:
    """One without a socket; `closed` gets its number when it is."""

    def __init__(self, number: int, closed: list[int] | None = None) -> None:
        self._number = number
        self._closed = [] if closed is None else closed

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "0.0.0.0", self._number)

    def stopListening(self) -> None:
        self._closed.append(self._number)


class Datagrams:
    """Opens ports, and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def listen(self, port: int, interface: str, *more: Any) -> Any:
        self.given.append((port, interface, *more))
        return Port(port)


def test_all_listeners_of_a_configuration_in_their_order() -> None:
    environ = {
        "RPCBROKER_HTTP_LISTEN": "tcp:1 tcp:2",
        "RPCBROKER_MQTT_LISTEN": "tcp:3",
        "RPCBROKER_COAP_LISTEN": "udp:4 udp:5",
        "RPCBROKER_COAP_DTLS_LISTEN": "dtls:6",
    }
    assert [(listener.label, listener.description) for listener in wanted(load(None, environ).settings)] == [
        ("[http] listen", "tcp:1"),
        ("[http] listen", "tcp:2"),
        ("[mqtt] listen", "tcp:3"),
        ("[coap] listen", "udp:4"),
        ("[coap] listen", "udp:5"),
        ("[coap] dtls_listen", "dtls:6"),
    ]


def test_coap_is_spoken_by_default_and_without_certificates_not_over_dtls() -> None:
    assert [listener.description for listener in wanted(load(None, {}).settings) if listener.section == "coap"] == [
        "udp:5683"
    ]


def test_empty_lists_switch_coap_off() -> None:
    settings = load(None, {"RPCBROKER_COAP_LISTEN": ""}).settings
    assert not [listener for listener in wanted(settings) if listener.section == "coap"]


@pytest.mark.parametrize(
    ("description", "place"),
    [
        ("udp:5683", (5683, "")),
        ("udp:0:interface=127.0.0.1", (0, "127.0.0.1")),
        (r"udp:port=5683:interface=\:\:1", (5683, "::1")),
        (r"udp:5683:\:\:", (5683, "::")),
    ],
)
def test_udp(reactor: MemoryReactorClock, tmp_path: Path, description: str, place: tuple[int, str]) -> None:
    assert check(coap(description), tmp_path) is None
    opened, datagrams = listeners(reactor, tmp_path), Datagrams()
    opened.open_udp(coap(description), datagrams.listen)
    assert datagrams.given == [place]
    assert len(opened.ports["coap"]) == 1
    assert list(opened.urls) == ["coap"]


def test_dtls_is_udp_with_a_certificate_of_ours(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    made = c.make(tmp_path, serial=7)
    (tmp_path / "above").mkdir()
    chain = c.make(tmp_path / "above", serial=8).certificate
    description = f"dtls:5684:privateKey=key.pem:certKey={made.certificate}:interface=127.0.0.1:extraCertChain={chain}"
    assert check(coap(description, "dtls_listen"), tmp_path) is not None
    certificates = Certificates(reactor, lambda: 0.0)
    opened = Listeners(reactor, directory=tmp_path, certificates=certificates, outgoing=OUTGOING)
    datagrams = Datagrams()
    opened.open_dtls(coap(description, "dtls_listen"), datagrams.listen)
    ((port, interface, certificate),) = datagrams.given
    assert (port, interface) == (5684, "127.0.0.1")
    assert isinstance(certificate, Certificate)
    assert certificate.identity.certificate.serial_number == 7
    assert [each.serial_number for each in certificate.identity.chain] == [8]
    assert list(certificates.expiries()) == [str(made.certificate)]
    assert list(opened.urls) == ["coaps"]


def test_the_identity_is_another_one_once_the_files_have_changed(tmp_path: Path) -> None:
    made = c.make(tmp_path, serial=7)
    certificate = Certificates(MemoryReactorClock(), lambda: 0.0).add(
        "x", TlsFiles(private_key=made.key, certificate=made.certificate)
    )
    first = certificate.identity
    certificate.check(0.0)
    assert certificate.identity is first
    c.make(tmp_path, serial=8)
    certificate.check(0.0)
    assert certificate.identity.certificate.serial_number == 8
    made.certificate.write_text("nothing")
    certificate.check(0.0)
    assert certificate.identity.certificate.serial_number == 8, "what is in use stays"


@pytest.mark.parametrize(
    ("key", "description", "says"),
    [
        ("listen", "tcp:5683", "it must begin with udp:"),
        ("listen", "udp", "it must begin with udp:"),
        ("listen", "5683", "it must begin with udp:"),
        ("listen", "udp:", "port must be a number from 0 to 65535, not ''"),
        ("listen", "udp:coap", "port must be a number from 0 to 65535, not 'coap'"),
        ("listen", "udp:65536", "port must be a number from 0 to 65535, not '65536'"),
        ("listen", "udp:-1", "port must be a number"),
        ("listen", "udp:1:interface=localhost", "interface must be an address, not 'localhost'"),
        ("listen", "udp:1:interface=::1", "is not understood; there are port, interface, each once"),
        ("listen", "udp:1:backlog=5", "'backlog=5' is not understood; there are port, interface, each once"),
        ("listen", "dtls:1", "it must begin with udp:"),
        ("dtls_listen", "udp:1", "it must begin with dtls:"),
        ("dtls_listen", "dtls:1:sslmethod=TLS_METHOD", "is not understood; there are port, privateKey, certKey"),
        ("dtls_listen", "dtls:1", "certKey {directory}/server.pem: No such file or directory"),
        ("dtls_listen", "dtls:1:privateKey=key.pem:certKey=key.pem", "there is no certificate in PEM in it"),
    ],
)
def test_what_is_no_place_for_datagrams_is_said_in_one_line(
    reactor: MemoryReactorClock, tmp_path: Path, key: str, description: str, says: str
) -> None:
    c.make(tmp_path, serial=7)
    listener, opened, datagrams = coap(description, key), listeners(reactor, tmp_path), Datagrams()
    with pytest.raises(ListenError) as checked:
        check(listener, tmp_path)
    with pytest.raises(ListenError) as raised:
        (opened.open_udp if key == "listen" else opened.open_dtls)(listener, datagrams.listen)
    said = str(checked.value)
    assert said == str(raised.value)
    assert said.startswith(f"[coap] {key}: {description!r} is no endpoint: ")
    assert says.format(directory=tmp_path) in said
    assert "\n" not in said
    if "PEM" in says or "server.pem" in says:
        check_form(listener)
    else:
        with pytest.raises(ListenError, match="is no endpoint"):
            check_form(listener)


def test_a_udp_port_in_use(tmp_path: Path) -> None:
    def in_use(port: int, interface: str, certificate: object = None) -> IListeningPort:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    made = c.make(tmp_path, serial=7)
    opened = listeners(MemoryReactorClock(), tmp_path)
    with pytest.raises(ListenError, match=r"^\[coap\] listen: cannot listen on 'udp:1': .*Address already in use"):
        opened.open_udp(coap("udp:1"), in_use)
    with pytest.raises(ListenError, match=r"^\[coap\] dtls_listen: cannot listen on .*Address already in use"):
        opened.open_dtls(coap(made.listener(1).replace("ssl:", "dtls:"), "dtls_listen"), in_use)
    assert not opened.urls


def test_datagrams_go_on_when_no_more_connections_are_taken(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    """Replies of devices come in by the port that the calls went out by."""
    closed: list[int] = []
    opened = listeners(reactor, tmp_path)
    opened.open(http("tcp:8080"), FACTORY)
    opened.open_udp(coap("udp:5683"), lambda port, interface: Port(port, closed))  # type: ignore[arg-type,return-value]
    opened.close()
    assert not closed
    opened.close_datagrams()
    assert closed == [5683]
    assert opened.urls["coap"] == "coap://127.0.0.1:5683"
