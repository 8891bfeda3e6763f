"""TLS listeners."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from daemon import Daemon

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    key_file, cert_file = tmp_path / "key.pem", tmp_path / "cert.pem"
    encoding = serialization.Encoding.PEM
    key_file.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    cert_file.write_bytes(made.public_bytes(encoding))
    return key_file, cert_file


def test_https_and_mqtts_beside_the_plain_ones(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate[0]}:certKey={certificate[1]}"
    both = f"tcp:0:interface=127.0.0.1 {tls}"
    daemon = Daemon(tmp_path, RPCBROKER_HTTP_LISTEN=both, RPCBROKER_MQTT_LISTEN=both)
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        assert set(daemon.endpoints) == {"http", "https", "mqtt", "mqtts"}
        with urllib.request.urlopen(daemon.endpoints["https"] + "/readyz", context=trusting) as response:
            assert json.loads(response.read())["status"] == "ready"
        port = int(daemon.endpoints["mqtts"].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10) as plain, trusting.wrap_socket(plain) as wrapped:
            wrapped.sendall(encode(p.Connect(4, "c", username="WRONG"), 4))
            assert wrapped.recv(100) == b"\x20\x02\x00\x05"
            assert wrapped.recv(100) == b"", "closed after the refusal"
    finally:
        daemon.stop()
