"""TLS listeners, and giving up root."""

from __future__ import annotations

import datetime
import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from daemon import PASSWORD, TWISTD, Daemon, environment, wait_for

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
            assert json.loads(response.read()) == {"status": "ready"}
        port = int(daemon.endpoints["mqtts"].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 10) as plain, trusting.wrap_socket(plain) as wrapped:
            wrapped.sendall(encode(p.Connect(4, "c", username="WRONG"), 4))
            assert wrapped.recv(100) == b"\x20\x02\x00\x05"
            assert wrapped.recv(100) == b"", "closed after the refusal"
    finally:
        daemon.stop()


def nobody_can_run_python() -> bool:
    """Not if Python is installed below somebody's private home, or if we are not root."""
    if os.getuid() != 0:
        return False
    command = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        sys.executable,
        "-c",
        "import sqlalchemy",
    ]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not nobody_can_run_python(), reason="needs root, and a Python that other users can read")
def test_a_daemon_that_gives_up_root_keeps_its_files_to_its_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", nobody.pw_uid, nobody.pw_gid)
    log = tmp_path / "run" / "d.log"
    flags = ["--pidfile", str(tmp_path / "run/p.pid"), "--logfile", str(log)]
    flags += ["--uid", str(nobody.pw_uid), "--gid", str(nobody.pw_gid)]
    done = subprocess.run(
        [TWISTD, *flags, "rpcbroker", "--state-dir", str(state)],
        check=False,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), log.read_text() if log.exists() else ""
    wait_for((state / "endpoints.json").exists, "endpoints.json")
    pid = int((tmp_path / "run/p.pid").read_text())
    try:
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid
        assert {path.stat().st_uid for path in state.iterdir()} == {nobody.pw_uid}
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not (state / "endpoints.json").exists(), "the end")
    assert PASSWORD not in log.read_text()
