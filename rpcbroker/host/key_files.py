"""Keys and certificates, read from files: loaded with the first listener that has some, for it takes OpenSSL along."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters, TLSVersion
from twisted.python.filepath import FilePath

from rpcbroker.host.tls import TlsError, TlsFiles

METHODS = {"TLS_METHOD": None, "SSLv23_METHOD": None, "TLSv1_2_METHOD": TLSVersion.TLSv1_2}
"""What `sslmethod=` may say, and the highest version of TLS that is then spoken; None is the newest."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key, its certificate, and those of the authorities between it and one that is known."""

    key: Any
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What new connections are given, those over TCP the options. It ends at `not_after`, in epoch seconds."""

    options: CertificateOptions
    identity: Identity
    not_after: float


def load(files: TlsFiles) -> Loaded:
    """Read key and certificates. Raises TlsError.

    The certificate's file may hold the chain too, after the certificate itself.
    """
    (certificate, *chain) = _certificates(files.certificate, "certKey")
    if files.chain is not None:
        chain += _certificates(files.chain, "extraCertChain")
    key = _private_key(files.private_key)
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise TlsError(
            f"privateKey {files.private_key} does not belong to the first certificate in {files.certificate}"
        )
    try:
        options = CertificateOptions(
            privateKey=key,
            certificate=certificate,
            extraCertChain=chain,
            dhParameters=_dh_parameters(files.dh_parameters),
            lowerMaximumSecurityTo=files.highest,
        )
        options.getContext()
    except (ValueError, TypeError, SSL.Error, MemoryError) as error:  # the last with systemd's MemoryDenyWriteExecute=
        raise TlsError(f"{', '.join(map(str, files))}: OpenSSL does not take them: {_reason(error)}") from None
    return Loaded(options, Identity(key, certificate, tuple(chain)), certificate.not_valid_after_utc.timestamp())


def _content(path: Path, part: str) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise TlsError(f"{part} {path}: {error.strerror}; the broker runs as user {os.geteuid()}") from None
    except (OSError, ValueError) as error:
        raise TlsError(f"{part} {path}: {getattr(error, 'strerror', None) or error}") from None


def _certificates(path: Path, part: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(path, part))
    except ValueError:
        raise TlsError(f"{part} {path}: there is no certificate in PEM in it, or a broken one") from None


def _private_key(path: Path) -> Any:
    try:
        return load_pem_private_key(_content(path, "privateKey"), None)
    except TypeError:
        raise TlsError(f"privateKey {path}: it is encrypted; the broker cannot ask for a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"privateKey {path}: there is no private key in PEM in it, or a broken one") from None


def _public(key: Any) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _dh_parameters(path: Path | None) -> DiffieHellmanParameters | None:
    if path is None:
        return None
    _content(path, "dhParameters")
    return DiffieHellmanParameters.fromFile(FilePath(str(path)))


def _reason(error: Exception) -> str:
    """What OpenSSL says, without its brackets."""
    reasons = [str(part[-1]) for part in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(reasons) or str(error)
