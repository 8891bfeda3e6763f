"""TLS listeners, and certificates that change while connections are open."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certificates as c
import pytest
from cryptography import x509
from daemon import TWISTD, Daemon, wait_for

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode

TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


def with_tls(directory: Path, files: c.Files, **more: str) -> Daemon:
    both = f"tcp:0:interface=127.0.0.1 {files.listener()}"
    return Daemon(directory, RPCBROKER_HTTP_LISTEN=both, RPCBROKER_MQTT_LISTEN=both, **more)


def port_of(daemon: Daemon, name: str) -> int:
    return int(daemon.endpoints[name].rsplit(":", 1)[1])


@contextmanager
def connected(daemon: Daemon, name: str, context: ssl.SSLContext = TRUSTING) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port_of(daemon, name)), 10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        yield wrapped


def serial(wrapped: ssl.SSLSocket) -> int:
    """Of the certificate that the broker has shown."""
    shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def new_serials(daemon: Daemon) -> set[int]:
    """What connections that are opened now are shown."""
    found = set()
    for name in ("https", "mqtts"):
        with connected(daemon, name) as wrapped:
            found.add(serial(wrapped))
    return found


def test_https_and_mqtts_beside_the_plain_ones(tmp_path: Path) -> None:
    daemon = with_tls(tmp_path, c.make(tmp_path, serial=1))
    try:
        sockets = {"mqtt-ws", "mqtt-wss", "wamp-ws", "wamp-wss"}
        assert set(daemon.endpoints) == {"http", "https", "mqtt", "mqtts", "coap"} | sockets
        with urllib.request.urlopen(daemon.endpoints["https"] + "/readyz", context=TRUSTING) as response:
            assert json.loads(response.read())["status"] == "ready"
        with connected(daemon, "mqtts") as wrapped:
            wrapped.sendall(encode(p.Connect(4, "c", username="WRONG"), 4))
            assert wrapped.recv(100) == b"\x20\x02\x00\x05"
            assert wrapped.recv(100) == b"", "closed after the refusal"
    finally:
        daemon.stop()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_not_spoken(tmp_path: Path) -> None:
    daemon = with_tls(tmp_path, c.make(tmp_path, serial=1))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    try:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"), connected(daemon, "https", old):
            pass
    finally:
        daemon.stop()


def test_a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on(tmp_path: Path) -> None:
    files = c.make(tmp_path, serial=1)
    daemon = with_tls(tmp_path, files, RPCBROKER_SERVER_TLS_CHECK="100ms")
    caller = http.client.HTTPSConnection("127.0.0.1", port_of(daemon, "https"), timeout=10, context=TRUSTING)
    try:
        caller.connect()
        with connected(daemon, "mqtts") as device:
            device.sendall(encode(p.Connect(4, "c", username="WRONG"), 4)[:5])
            c.make(tmp_path, serial=2)
            wait_for(lambda: new_serials(daemon) == {2}, "the new certificate")
            files.certificate.write_text("nonsense")
            wait_for(lambda: "the certificate in use stays: certKey" in daemon.log.read_text(), "an error")
            assert new_serials(daemon) == {2}
            c.make(tmp_path, serial=3)
            wait_for(lambda: new_serials(daemon) == {3}, "the next certificate")
            caller.request("GET", "/healthz")
            assert caller.getresponse().status == 200, "on the connection that began with the first"
            device.sendall(encode(p.Connect(4, "c", username="WRONG"), 4)[5:])
            assert device.recv(100) == b"\x20\x02\x00\x05"
            assert serial(device) == 1
    finally:
        caller.close()
        daemon.stop()
    assert "Traceback" not in daemon.log.read_text()


def test_a_hangup_looks_at_the_files_at_once(tmp_path: Path) -> None:
    daemon = with_tls(tmp_path, c.make(tmp_path, serial=1, days=3), RPCBROKER_SERVER_TLS_CHECK="1h")
    assert "ends in 3.0 days" in daemon.log.read_text()
    c.make(tmp_path, serial=2)
    assert new_serials(daemon) == {1}
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: new_serials(daemon) == {2}, "the new certificate")
    daemon.stop()


def test_relative_paths_are_those_of_where_it_was_started(tmp_path: Path) -> None:
    c.make(tmp_path, serial=1)
    (tmp_path / "elsewhere").mkdir()
    daemon = Daemon(
        tmp_path,
        command=[TWISTD, "-n", "--pidfile=", "--rundir", "elsewhere"],
        RPCBROKER_HTTP_LISTEN="tcp:0:interface=127.0.0.1 ssl:0:interface=127.0.0.1:key.pem:certificate.pem",
        RPCBROKER_SERVER_TLS_CHECK="100ms",
    )
    c.make(tmp_path, serial=2)

    def is_new() -> bool:
        with connected(daemon, "https") as wrapped:
            return serial(wrapped) == 2

    wait_for(is_new, "the new certificate")
    daemon.stop()
