"""Endpoint strings: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certificates as c
import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory

from rpcbroker.host.listeners import BACKLOG, ListenError, Listeners, check
from rpcbroker.host.tls import Certificates

FACTORY = Factory.forProtocol(Protocol)


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def listeners(reactor: Any, directory: Path) -> Listeners:
    return Listeners(reactor, directory=directory, certificates=Certificates(reactor, lambda: 0.0))


def refusal(description: str, directory: Path) -> str:
    """What `config check` says; starting says the same."""
    with pytest.raises(ListenError) as checked:
        check("http", description, directory)
    with pytest.raises(ListenError) as opened:
        listeners(MemoryReactorClock(), directory).open("http", description, FACTORY)
    assert str(checked.value) == str(opened.value)
    return str(checked.value)


def test_tls_is_tcp_with_a_certificate_of_ours(reactor: MemoryReactorClock, tmp_path: Path) -> None:
    c.make(tmp_path, serial=7)
    opened = listeners(reactor, tmp_path)
    opened.open("http", r"ssl:8443:interface=\:\:1:privateKey=key.pem:certKey=certificate.pem", FACTORY)
    ((port, factory, backlog, interface),) = reactor.tcpServers
    assert (port, backlog, interface) == (8443, BACKLOG, "::1")
    assert isinstance(factory, TLSMemoryBIOFactory)
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
    assert check("http", description, tmp_path) is not None
    listeners(reactor, tmp_path).open("http", description, FACTORY)
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
    assert check("http", description, tmp_path) is None, "at check time it need not be there"
    with pytest.raises(ListenError, match="systemd handed over no such socket"):
        listeners(reactor, tmp_path).open("http", description, FACTORY)


@pytest.mark.parametrize("secure", [False, True])
def test_a_port_in_use(tmp_path: Path, secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = c.make(tmp_path, serial=7)
    reactor = MemoryReactorClock()

    def in_use(port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))

    monkeypatch.setattr(reactor, "listenTCP", in_use)
    description = made.listener(8443) if secure else "tcp:8080"
    with pytest.raises(ListenError, match=r"\[http\] listen: cannot listen on .*Address already in use"):
        listeners(reactor, tmp_path).open("http", description, FACTORY)
