"""Keys and certificates for 127.0.0.1 that sign themselves."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Files:
    """Where a key and its certificate are."""

    key: Path
    certificate: Path

    def listener(self, port: int = 0) -> str:
        return f"ssl:{port}:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}"


def make(
    directory: Path, *, serial: int, days: float = 100, begins: float = -1000, password: bytes | None = None
) -> Files:
    """Write `key.pem` and `certificate.pem` there, in the place of older ones.

    It is good from `begins` days from now, which may be negative, and for `days` from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    files = Files(directory / "key.pem", directory / "certificate.pem")
    _replace(files.key, key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))
    _replace(files.certificate, made.public_bytes(PEM))
    return files


def _replace(path: Path, content: bytes) -> None:
    """By a new file: on some systems a file that is written twice within 10 ms looks as if it were the same."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
