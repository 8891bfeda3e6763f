"""`rpcbroker doctor`, what it says of listeners, certificates, and of a broker that runs."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from examined import FREE, FREE_UDP, NOW, OK, PROBLEM, WARNING, said, subject_of

from rpcbroker.cli.checks import certificates, ports, running
from rpcbroker.cli.checks.endpoint import parse
from rpcbroker.cli.checks.subject import Level, Subject
from rpcbroker.host.lock import lock

# -- the broker that runs


class Answering(BaseHTTPRequestHandler):
    """Healthy, and ready or not."""

    ready = 200

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else self.ready)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def held(state: Path) -> Iterator[Path]:
    """A state directory whose broker runs: this process."""
    with lock(state):
        yield state


def write_endpoints(state: Path, **urls: str) -> None:
    (state / "endpoints.json").write_text(json.dumps(urls))


def test_nobody_runs(state: Path) -> None:
    write_endpoints(state, http="http://127.0.0.1:1")
    said(running.process(subject_of(state)), (OK, "no broker runs"))


def test_a_broker_that_answers(held: Path, answering: HTTPServer) -> None:
    write_endpoints(held, http=f"http://127.0.0.1:{answering.server_port}")
    who = f"process {os.getpid()} answers"
    said(running.process(subject_of(held)), (OK, who), (OK, "/readyz"))


def test_proxies_of_the_environment_are_not_asked(
    held: Path, answering: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    write_endpoints(held, http=f"http://127.0.0.1:{answering.server_port}")
    said(running.process(subject_of(held)), (OK, "/healthz"), (OK, "/readyz"))


def test_a_broker_that_is_not_ready(held: Path, answering: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answering, "ready", 503)
    write_endpoints(held, http=f"http://127.0.0.1:{answering.server_port}")
    said(running.process(subject_of(held)), (OK, "/healthz"), (PROBLEM, "/readyz with status 503"))


def test_a_broker_that_does_not_answer(held: Path) -> None:
    write_endpoints(held, http="http://127.0.0.1:1")
    silent = "not at all (Connection refused)"
    said(running.process(subject_of(held)), (PROBLEM, silent), (PROBLEM, silent))


def test_a_broker_that_is_starting(held: Path) -> None:
    said(running.process(subject_of(held)), (WARNING, "is not ready"))
    (held / "endpoints.json").write_text("[")
    said(running.process(subject_of(held)), (WARNING, "is not ready"))


def test_a_broker_without_http(held: Path) -> None:
    write_endpoints(held, mqtt="mqtt://127.0.0.1:1")
    said(running.process(subject_of(held)), (OK, "no HTTP listener"))


def test_a_broker_on_a_socket_of_the_file_system(held: Path, tmp_path: Path) -> None:
    class Server(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)

    Answering.address_string = lambda _: ""  # type: ignore[method-assign]
    path = tmp_path / "s"
    with Server(str(path), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        write_endpoints(held, http=f"http+unix://{path}")
        try:
            said(running.process(subject_of(held)), (OK, "/healthz"), (OK, "/readyz"))
        finally:
            server.shutdown()
            thread.join()


# -- listeners


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_endpoint_strings_are_understood() -> None:
    parsed = parse("http", r"ssl:port=8443:interface=\:\:1:privateKey=C\:\\key.pem:certKey=a=b.pem")
    assert (parsed.kind, parsed.port, parsed.host, parsed.name) == ("ssl", 8443, "::1", "https")
    assert parsed.options["privateKey"] == r"C:\key.pem"
    assert parsed.options["certKey"] == "a=b.pem"
    assert parse("mqtt", "tcp:0:interface=0.0.0.0").host == ""
    assert parse("mqtt", "tcp6:1883").host == "::"
    assert parse("http", "unix:/run/x.sock:mode=660").options == {"address": "/run/x.sock", "mode": "660"}
    assert parse("http", "systemd:domain=INET:index=0").port is None


def test_listeners_that_can_be_had(state: Path, tmp_path: Path) -> None:
    subject = subject_of(state, http=f"{FREE} unix:{tmp_path}/s", mqtt=f"{FREE} systemd:domain=INET:index=0")
    good = "can be listened on"
    said(ports.ports(subject), (OK, good), (OK, good), (OK, good), (OK, "not checked"))


def test_a_port_in_use(state: Path, taken: int) -> None:
    found = said(
        ports.ports(subject_of(state, http=f"tcp:{taken}:interface=127.0.0.1")),
        (PROBLEM, "Address already in use"),
        (OK, "can be listened on"),
    )
    assert found[0].hint is not None
    assert f":{taken}'" in found[0].hint


def test_a_port_without_the_right_to_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            if 0 < address[1] < 1024:
                raise PermissionError(13, "Permission denied")
            super().bind(address)

    monkeypatch.setattr("socket.socket", Refusing)
    found = said(ports.ports(subject_of(state, http="tcp:80")), (PROBLEM, "Permission denied"), (OK, "listened on"))
    assert found[0].hint is not None
    assert "CAP_NET_BIND_SERVICE" in found[0].hint


def test_ports_for_datagrams(state: Path, tmp_path: Path) -> None:
    key, cert = make_certificate(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        dtls = f"dtls:0:privateKey={key}:certKey={cert}"
        subject = subject_of(state, http="", mqtt="", coap=f"udp:{port}:interface=127.0.0.1 {FREE_UDP}", coaps=dtls)
        good = (OK, "can be listened on")
        found = said(ports.ports(subject), (PROBLEM, "Address already in use"), good, good)
        assert found[0].hint is not None
        assert f"ss -lunp 'sport = :{port}'" in found[0].hint
        said(ports.ports(subject_of(state, http=f"tcp:{port}", mqtt="")), good)  # a port of TCP is another one


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"coap": "tcp:5683"}, "[coap] listen: 'tcp:5683' is no endpoint: it must begin with udp:"),
        ({"coap": "udp:coap"}, "port must be a number from 0 to 65535"),
        ({"coaps": "udp:5684"}, "[coap] dtls_listen: 'udp:5684' is no endpoint: it must begin with dtls:"),
        ({"coaps": "dtls:5684:sslmethod=TLS_METHOD"}, "is not understood"),
    ],
)
def test_what_is_no_place_for_datagrams(state: Path, more: dict[str, str], says: str) -> None:
    said(ports.ports(subject_of(state, **more)), (PROBLEM, says))


class AnsweringDatagrams(threading.Thread):
    """Answers one datagram."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.asked = b""

    def run(self) -> None:
        self.asked, address = self._server.recvfrom(2048)
        self._server.sendto(b"something", address)


@pytest.mark.parametrize("secure", [False, True])
def test_ports_for_datagrams_of_a_broker_that_runs(
    state: Path, tmp_path: Path, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "TIMEOUT", 0.3)
    key, cert = make_certificate(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        more = {"coaps": f"dtls:{port}:privateKey={key}:certKey={cert}"} if secure else {"coap": f"udp:{port}"}
        subject = replace(subject_of(state, http="", mqtt="", **more), holder="1")
        said(ports.ports(subject), (PROBLEM, "the broker runs, but nothing listens there"))
        server.recv(2048)
        answering = AnsweringDatagrams(server)
        answering.start()
        said(ports.ports(subject), (OK, "answers"))
        answering.join()
        assert answering.asked[0] == (22 if secure else 0x40)


def test_a_port_for_datagrams_that_the_system_chose(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "TIMEOUT", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        urls = {"coap": f"coap://127.0.0.1:{server.getsockname()[1]}"}
        subject = replace(subject_of(state, http="", mqtt="", coap=FREE_UDP), holder="1", endpoints=urls)
        AnsweringDatagrams(server).start()
        said(ports.ports(subject), (OK, "answers"))


def test_rawsocket_has_a_port_as_the_others(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listener = {"RPCBROKER_WAMP_RAWSOCKET_LISTEN": f"tcp:{port}:interface=127.0.0.1"}
        subject = subject_of(state, http="", mqtt="", environ=listener)
        said(ports.ports(subject), (PROBLEM, "[wamp] tcp"))
        said(ports.ports(replace(subject, holder="1")), (OK, "accepts connections"))


def test_an_address_that_is_not_ours(state: Path) -> None:
    subject = subject_of(state, http="tcp:0:interface=192.0.2.1")
    said(ports.ports(subject), (PROBLEM, "Cannot assign requested address"), (OK, "listened on"))


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("carrier-pigeon:1", "is no endpoint"),
        ("tcp:x", "is no port"),
        ("tcp:65536", "is no port"),
        ("tcp", "is no port"),
        ("tcp:1:interfac=x", "is no endpoint"),
    ],
)
def test_what_is_no_endpoint(state: Path, listen: str, says: str) -> None:
    said(ports.ports(subject_of(state, http=listen)), (PROBLEM, says))


def test_no_listener_at_all(state: Path) -> None:
    said(ports.ports(subject_of(state, http="", mqtt="")), (PROBLEM, "no listener"))


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ("tcp:8080", "tcp:8080:interface=127.0.0.1", True),
        ("tcp:8080:interface=0.0.0.0", "ssl:8080", True),
        ("tcp6:8080", "tcp:8080", True),
        ("tcp:8080:interface=127.0.0.1", "tcp:8080:interface=127.0.0.2", False),
        ("tcp:8080", "tcp:8081", False),
        ("tcp:0", "tcp:0", False),
        ("unix:/run/x", "unix:/run/x:mode=660", True),
        ("unix:/run/x", "unix:/run/y", False),
        ("unix:/run/x", "tcp:8080", False),
        ("udp:8080", "tcp:8080", False),
        ("udp:8080", "dtls:8080:interface=127.0.0.1", True),
    ],
)
def test_which_listeners_exclude_one_another(one: str, other: str, excluded: bool) -> None:
    assert parse("http", one).excludes(parse("mqtt", other)) is excluded
    assert parse("mqtt", other).excludes(parse("http", one)) is excluded


def test_two_listeners_on_one_place(state: Path, tmp_path: Path) -> None:
    subject = subject_of(state, http=f"unix:{tmp_path}/s", mqtt=f"unix:{tmp_path}/s")
    said(ports.ports(subject), (OK, "can be listened on"), (PROBLEM, "another listener has the same place"))


def test_sockets_of_the_file_system(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        stale = subject_of(state, http=f"unix:{path}", mqtt="")
        said(ports.ports(stale), (OK, "can be listened on"))
        server.listen()
        said(ports.ports(stale), (PROBLEM, "another program listens"))
        said(ports.ports(replace(stale, holder="1")), (OK, "accepts connections"))
    said(ports.ports(replace(stale, holder="1")), (PROBLEM, "nothing listens"))
    path.unlink()
    path.touch()
    said(ports.ports(stale), (PROBLEM, "there is a file of that name"))
    said(ports.ports(subject_of(state, http="unix:/none/s", mqtt="")), (PROBLEM, "is not there, or not writable"))


def test_listeners_of_a_broker_that_runs(state: Path, taken: int) -> None:
    subject = subject_of(state, http=f"tcp:{taken}:interface=127.0.0.1", mqtt=f"tcp:0 ssl:0 {FREE}")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    urls = {"mqtt": f"mqtt://127.0.0.1:{taken}", "mqtts": f"mqtts://127.0.0.1:{port}"}
    subject = replace(subject, holder="1", endpoints=urls)
    good = (OK, "accepts connections")
    said(ports.ports(subject), good, good, (PROBLEM, "nothing listens there"), good)
    said(ports.ports(replace(subject, endpoints={})), good, *[(OK, "not checked")] * 3)


# -- certificates


def make_certificate(directory: Path, *, starts: int = -1, ends: int = 100, key: Any = None) -> tuple[Path, Path]:
    """A key and a certificate that is good for these days, counted from NOW."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + datetime.timedelta(days=starts))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .sign(key, hashes.SHA256())
    )
    write_key(directory / "key.pem", key)
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return directory / "key.pem", directory / "cert.pem"


def write_key(path: Path, key: Any, password: bytes | None = None) -> None:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.touch(0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))


def with_tls(state: Path, key: Path, cert: Path, more: str = "") -> Subject:
    return subject_of(state, mqtt=f"ssl:0:privateKey={key}:certKey={cert}{more}")


def test_without_tls_there_is_nothing_to_look_at(state: Path) -> None:
    said(certificates.certificates(subject_of(state)), (OK, "no listener has one: there is neither ssl: nor dtls:"))


@pytest.mark.parametrize(
    ("starts", "ends", "level", "says"),
    [
        (-1, 100, OK, "is good until"),
        (-1, 13, WARNING, "expires on"),
        (-9, -1, PROBLEM, "expired on"),
        (1, 100, PROBLEM, "begins on"),
    ],
)
def test_when_a_certificate_is_good(
    state: Path, tmp_path: Path, starts: int, ends: int, level: Level, says: str
) -> None:
    key, cert = make_certificate(tmp_path, starts=starts, ends=ends)
    said(certificates.certificates(with_tls(state, key, cert)), (level, says))


def test_certificates_of_dtls_too(state: Path, tmp_path: Path) -> None:
    key, cert = make_certificate(tmp_path, ends=5)
    subject = subject_of(state, coaps=f"dtls:0:privateKey={key}:certKey={cert}")
    said(certificates.certificates(subject), (WARNING, "expires on"))


def test_a_chain_is_as_good_as_its_worst_part(state: Path, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    key, cert = make_certificate(tmp_path)
    _, ca = make_certificate(tmp_path / "ca", ends=5)
    subject = with_tls(state, key, cert, f":extraCertChain={ca}")
    said(certificates.certificates(subject), (WARNING, "expires on"))


def test_a_key_of_another_certificate(state: Path, tmp_path: Path) -> None:
    key, cert = make_certificate(tmp_path)
    write_key(key, ec.generate_private_key(ec.SECP256R1()))
    said(certificates.certificates(with_tls(state, key, cert)), (PROBLEM, "the key is not the certificate's"))


def test_files_that_are_not_what_they_should_be(state: Path, tmp_path: Path) -> None:
    key, cert = make_certificate(tmp_path)
    said(certificates.certificates(with_tls(state, cert, cert)), (PROBLEM, "are no key and certificate in PEM"))
    said(certificates.certificates(with_tls(state, key, key)), (PROBLEM, "are no key and certificate in PEM"))
    said(certificates.certificates(with_tls(state, key, tmp_path / "none")), (PROBLEM, "No such file"))
    write_key(key, ec.generate_private_key(ec.SECP256R1()), b"secret")
    said(certificates.certificates(with_tls(state, key, cert)), (PROBLEM, "has a passphrase"))


def test_a_key_that_everybody_may_read(state: Path, tmp_path: Path) -> None:
    key, cert = make_certificate(tmp_path)
    key.chmod(0o644)
    said(certificates.certificates(with_tls(state, key, cert)), (OK, "good until"), (WARNING, "everybody"))


def test_a_broker_that_runs_on_https(held: Path, tmp_path: Path, answering: HTTPServer) -> None:
    key, cert = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    answering.socket = context.wrap_socket(answering.socket, server_side=True)
    write_endpoints(held, https=f"https://127.0.0.1:{answering.server_port}")
    said(running.process(subject_of(held)), (OK, "/healthz"), (OK, "/readyz"))
