"""`rpcbroker doctor`: each check says what is good, and each is made to fail once."""

from __future__ import annotations

import datetime
import json
import os
import re
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
from fake_broker import Shell
from fakes import EPOCH_MS
from store_files import ask, execute, make_store

from rpcbroker.cli.checks import certificates, clock, files, limits, machine, ports, running, stored
from rpcbroker.cli.checks.endpoint import parse
from rpcbroker.cli.checks.subject import Level, Subject, Verdict, Verdicts
from rpcbroker.cli.checks.table import CHECKS, look, run
from rpcbroker.config import load
from rpcbroker.core.settings import Settings
from rpcbroker.host.lock import lock
from rpcbroker.store.examine import Examined
from rpcbroker.store.tables import SCHEMA_VERSION

NOW = clock.RELEASED + 86_400.0
OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
FREE = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory as a broker leaves it."""
    directory = tmp_path / "state"
    directory.mkdir(0o700)
    make_store(directory / "rpcbroker.sqlite", devices=3)
    key = directory / "jwt-signing-key"
    key.touch(0o600)
    key.write_text("ab" * 64 + "\n")
    return directory


def subject_of(state_dir: Path, **more: Any) -> Subject:
    listeners = {"RPCBROKER_HTTP_LISTEN": more.pop("http", FREE), "RPCBROKER_MQTT_LISTEN": more.pop("mqtt", FREE)}
    environ = listeners | more.pop("environ", {})
    return replace(look(load(None, environ), state_dir, now=NOW), synchronised=True, open_files=100_000, **more)


def said(verdicts: Verdicts, *expected: tuple[Level, str]) -> list[Verdict]:
    """The verdicts, of which there are as many as expected, with these levels and words; what is not good has a hint."""
    found = list(verdicts)
    assert [verdict.level for verdict in found] == [level for level, _ in expected], found
    for verdict, (level, words) in zip(found, expected, strict=True):
        assert words in verdict.text
        assert "\n" not in verdict.text
        assert (verdict.hint is None) == (level is OK)
    return found


# -- the command


def test_a_broker_that_is_well_has_no_problem(shell: Shell, state: Path) -> None:
    environ = {"RPCBROKER_HTTP_LISTEN": FREE, "RPCBROKER_MQTT_LISTEN": FREE}
    result = shell.run("doctor", "--state-dir", str(state), env=environ)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    good = {re.split(r" {2,}", line)[1] for line in lines if line.startswith("ok ")}
    assert good >= {"configuration", "state directory", "signing key", "store", "process", "ports"}
    assert not [line for line in lines if line.startswith("problem")]
    assert lines[-1].startswith("0 problems, ")


def test_a_problem_is_exit_code_1_and_comes_with_a_hint(shell: Shell, state: Path) -> None:
    (state / "jwt-signing-key").chmod(0o644)
    result = shell.run("doctor", "--state-dir", str(state), env={"RPCBROKER_MQTT_LISTEN": "tcp:0"})
    assert result.exit_code == 1
    assert f"others may open {state}/jwt-signing-key, which holds secrets\n" in result.stdout
    assert f"-> chmod 600 {state}/jwt-signing-key\n" in result.stdout


def test_json_has_every_check_once_at_least(shell: Shell, state: Path) -> None:
    environ = {"RPCBROKER_HTTP_LISTEN": "tcp:x", "RPCBROKER_MQTT_LISTEN": FREE}
    result = shell.run("doctor", "--json", "--state-dir", str(state), env=environ)
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["problems"] == 1
    assert {check["check"] for check in answer["checks"]} == set(CHECKS) - {"certificates"}
    assert {frozenset(check) for check in answer["checks"]} == {frozenset({"check", "level", "text", "hint"})}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RPCBROKER_RPC_MIN_TIMEOUT": "5 parsecs"}, "RPCBROKER_RPC_MIN_TIMEOUT"),
        ({"RPCBROKER_STORE_URL": "nonsense"}, "[store] url: it is no SQLAlchemy URL"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_the_one_thing_that_is_told(
    shell: Shell, state: Path, environ: dict[str, str], says: str
) -> None:
    result = shell.run("doctor", "--state-dir", str(state), env=environ)
    assert result.exit_code == 1
    line, hint, sum_ = result.stdout.splitlines()
    assert line.startswith("problem  configuration  ")
    assert says in line
    assert "All else depends on it" in hint
    assert sum_ == "1 problem, 0 warnings"


def test_no_secret_is_ever_printed(shell: Shell, state: Path) -> None:
    (state / "initial-admin-password").write_text("geheim\n")
    (state / "jwt-signing-key").write_text("geheim!")
    environ = {"RPCBROKER_STORE_URL": "postgresql+psycopg://u:geheim@127.0.0.1:1/x", "RPCBROKER_PASSWORD": "geheim"}
    for words in ([], ["--json"]):
        result = shell.run("doctor", *words, "--state-dir", str(state), env=environ)
        assert result.exit_code == 1
        assert "geheim" not in result.output
        assert "postgresql+psycopg://u:***@127.0.0.1:1/x cannot be read" in result.output


def test_nothing_is_changed(shell: Shell, state: Path) -> None:
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    shell.run("doctor", "--state-dir", str(state))
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


def test_a_check_that_fails_says_so_and_the_others_go_on(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Subject) -> Verdicts:
        raise PermissionError(13, "Permission denied", "/some/file")
        yield

    monkeypatch.setitem(CHECKS, "store", failing)
    found = dict(run(subject_of(state)))
    assert found["store"].text == "cannot be checked: /some/file: Permission denied"
    assert found["store"].level is PROBLEM
    assert set(found) == set(CHECKS)


# -- configuration, state directory, signing key


def test_warnings_of_the_configuration_are_told(state: Path) -> None:
    said(files.configuration(subject_of(state)), (OK, "can be used"))
    subject = subject_of(state, environ={"RPCBROKER_RPC_MIN_TIMOUT": "3"})
    said(files.configuration(subject), (WARNING, "RPCBROKER_RPC_MIN_TIMOUT sets nothing"))


def test_a_state_directory(state: Path, tmp_path: Path) -> None:
    said(files.state_directory(subject_of(state)), (OK, "its secrets are its owner's alone"))
    said(files.state_directory(subject_of(tmp_path / "none")), (WARNING, "is not there"))
    (tmp_path / "file").touch()
    said(files.state_directory(subject_of(tmp_path / "file")), (PROBLEM, "is no directory"))


def test_a_state_directory_that_cannot_be_written_to(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    said(files.state_directory(subject_of(state)), (PROBLEM, "may not write there"))


@pytest.mark.parametrize(
    "name", ["jwt-signing-key", "initial-admin-password", "rpcbroker.sqlite", "rpcbroker.sqlite.before-0002-was-0001"]
)
def test_secrets_that_others_can_open(state: Path, name: str) -> None:
    (state / name).touch()
    (state / name).chmod(0o640)
    (found,) = said(files.state_directory(subject_of(state)), (PROBLEM, f"{name}, which holds secrets"))
    assert found.hint == f"chmod 600 {state / name}"


def test_a_state_directory_that_others_can_write_to(state: Path) -> None:
    state.chmod(0o770)
    said(files.state_directory(subject_of(state)), (PROBLEM, f"others may write to {state}"))


def test_a_secret_of_another_owner(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, real = subject_of(state), Path.stat

    def stat(path: Path, **more: Any) -> os.stat_result:
        status = list(real(path, **more))
        status[4] += path.name == "rpcbroker.sqlite"
        return os.stat_result(status)

    monkeypatch.setattr(Path, "stat", stat)
    said(files.state_directory(subject), (PROBLEM, "have different owners"))


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("ab" * 64, OK, "it has 64 bytes"),
        ("ab" * 63, PROBLEM, "has 63 bytes, 64 are needed"),
        ("no key", PROBLEM, "is no key"),
        ("\ufffd", PROBLEM, "is no key"),
        (None, WARNING, "there is none"),
    ],
)
def test_the_signing_key(state: Path, text: str | None, level: Level, says: str) -> None:
    path = state / "jwt-signing-key"
    path.unlink() if text is None else path.write_text(text)
    said(files.signing_key(subject_of(state)), (level, says))


def test_no_signing_key_before_the_first_start(tmp_path: Path) -> None:
    said(files.signing_key(subject_of(tmp_path)), (OK, "the first start makes one"))


def test_a_signing_key_that_cannot_be_read(state: Path) -> None:
    (state / "jwt-signing-key").unlink()
    (state / "jwt-signing-key").mkdir()
    said(files.signing_key(subject_of(state)), (PROBLEM, "cannot be read"))


# -- store and disk


def test_a_store_that_is_whole(state: Path) -> None:
    said(stored.store(subject_of(state)), (OK, f"KiB, whole, 3 devices, schema version {SCHEMA_VERSION}"))


@pytest.mark.parametrize(
    ("version", "level", "says"), [("9999", PROBLEM, "newer than this"), ("0000", WARNING, "older than this")]
)
def test_a_store_of_another_version(state: Path, version: str, level: Level, says: str) -> None:
    execute(state / "rpcbroker.sqlite", f"UPDATE alembic_version SET version_num = '{version}'")
    said(stored.store(subject_of(state)), (level, says))


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    said(stored.store(subject_of(tmp_path)), (WARNING, "the first start makes it"))


def test_a_store_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "rpcbroker.sqlite").touch()
    said(stored.store(subject_of(tmp_path)), (WARNING, "has no tables of ours"))


def test_a_store_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "rpcbroker.sqlite").write_text("x" * 5000)
    said(stored.store(subject_of(tmp_path)), (PROBLEM, "cannot be read: file is not a database"))


def test_a_store_that_is_damaged(tmp_path: Path) -> None:
    store = make_store(tmp_path / "rpcbroker.sqlite", devices=200)
    (root,) = ask(store, "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_device_created'")[0]
    with store.open("r+b") as file:
        file.seek((root - 1) * 4096 + 3)
        file.write(b"\x7f\x00")
    said(stored.store(subject_of(tmp_path)), (PROBLEM, "is damaged: "))


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, environ={"RPCBROKER_STORE_URL": "postgresql+psycopg://u@127.0.0.1:1/x"})
    (found,) = said(stored.store(subject), (PROBLEM, "refused"))
    assert found.hint is not None
    assert "password" in found.hint
    said(stored.disk(subject), (OK, "on a server"))


@pytest.mark.parametrize(
    ("free", "level"), [(stored.FULL - 1, PROBLEM), (stored.FULL, WARNING), (stored.ROOM, WARNING), (1 << 40, OK)]
)
def test_room_on_the_disk(state: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr(stored, "disk_usage", lambda _path: Usage())
    said(stored.disk(subject_of(state)), (level, "are free at"))


def test_half_a_copy_that_was_left(state: Path) -> None:
    (state / ".rpcbroker-x").mkdir()
    said(stored.disk(subject_of(state)), (OK, "are free"), (WARNING, ".rpcbroker-x is half a copy"))


def test_room_where_nothing_is_yet(tmp_path: Path) -> None:
    said(stored.disk(subject_of(tmp_path / "not" / "yet")), (OK, f"are free at {tmp_path}"))


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
    ("http", "mqtt"),
    [("tcp:48080", "tcp:48080:interface=127.0.0.1"), ("tcp:48080", "ssl:48080"), ("unix:/tmp/x", "unix:/tmp/x")],
)
def test_two_listeners_on_one_place(state: Path, http: str, mqtt: str) -> None:
    found = list(ports.ports(subject_of(state, http=http, mqtt=mqtt)))
    assert "another listener has the same place" in found[1].text


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
    said(certificates.certificates(subject_of(state)), (OK, "no listener is an ssl: one"))


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


# -- clock, limits


@pytest.mark.parametrize(
    ("now", "newest_ms", "synchronised", "level", "says"),
    [
        (NOW, 0, True, OK, "and is synchronised"),
        (NOW, 0, None, OK, "is not known"),
        (NOW, 0, False, WARNING, "nothing keeps it synchronised"),
        (0.0, 0, True, PROBLEM, "it says 1970-01-01 00:00:00 UTC, which is before"),
        (NOW, int(NOW + clock.SLACK + 1) * 1000, True, PROBLEM, "but the store has a record of"),
        (NOW, int(NOW + clock.SLACK - 1) * 1000, True, OK, "and is synchronised"),
    ],
)
def test_the_clock(state: Path, now: float, newest_ms: int, synchronised: bool | None, level: Level, says: str) -> None:
    subject = replace(
        subject_of(state), now=now, synchronised=synchronised, examined=Examined(version="0001", newest=newest_ms)
    )
    said(clock.clock(subject), (level, says))


def test_the_newest_record_of_a_store_may_be_a_presence(state: Path) -> None:
    examined = subject_of(state).examined
    assert examined is not None
    assert examined.newest == EPOCH_MS
    store = state / "rpcbroker.sqlite"
    execute(store, f"INSERT INTO presence (device_id, seen_time) SELECT id, {EPOCH_MS + 5} FROM device LIMIT 1")
    examined = subject_of(state).examined
    assert examined is not None
    assert examined.newest == EPOCH_MS + 5


@pytest.mark.parametrize(("limit", "level"), [(102, PROBLEM), (103, WARNING), (10_102, WARNING), (10_103, OK)])
def test_open_files(state: Path, limit: int, level: Level) -> None:
    subject = replace(subject_of(state), open_files=limit)
    said(limits.open_files(subject), (level, f"may open {limit:,}; 3 devices, 10,000 HTTP connections"))


def test_the_limit_of_a_broker_that_runs_is_its_own(state: Path, tmp_path: Path) -> None:
    assert machine.open_files(str(os.getpid())) == machine.open_files(None)
    assert "the broker may open" in next(limits.open_files(replace(subject_of(state), holder="1"))).text


@pytest.mark.parametrize(
    ("free", "holder", "level"),
    [(None, None, OK), (1 << 40, None, OK), (limits.AT_REST, None, WARNING), (limits.AT_REST, "1", OK)],
)
def test_memory(state: Path, free: int | None, holder: str | None, level: Level) -> None:
    said(limits.memory(replace(subject_of(state), memory=free, holder=holder)), (level, "free"))


def test_this_machine_tells_what_it_has() -> None:
    assert machine.synchronised() in (True, False, None)
    assert machine.open_files("no such process") > 0
    free = machine.memory()
    assert free is None or free > 1 << 20


def test_settings_are_the_defaults_where_nothing_is_said(state: Path) -> None:
    assert look(load(None, {}), state, now=NOW).settings == Settings()
