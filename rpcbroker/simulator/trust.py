"""Whose certificates a simulated device believes, and which one it shows: TLS and DTLS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import service_identity
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, X509
from OpenSSL.crypto import Error as CryptoError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from rpcbroker.simulator.carrier import LinkLost, Refused

T = TypeVar("T")

DTLS_1_2 = 0xFEFD


class TrustError(Exception):
    """A file cannot be used; the text is one line that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """PEM files: `ca` has those who are believed (None: whom this machine believes), `certificate` and `key` are ours.

    `insecure`: everybody is believed.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False


def tls_failed(error: SSL.Error) -> Refused | LinkLost:
    """What is wrong, as far as OpenSSL says; a certificate that is not believed will not become better."""
    reasons = [each[-1] for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    why = ", ".join(dict.fromkeys(filter(None, reasons))) or "the connection was closed"
    if "certificate verify failed" in why:
        return Refused("The broker's certificate is not believed. --ca names who is, --insecure believes everybody.")
    return LinkLost(f"There is no encrypted connection to the broker: {why}.")


def believe_name(connection: SSL.Connection, host: str) -> None:
    """Raises Refused if the certificate of the other side is not `host`'s."""
    try:
        (verify_ip_address if _is_address(host) else verify_hostname)(connection, host)
    except (service_identity.VerificationError, service_identity.CertificateError):
        raise Refused(f"The broker's certificate is not for {host}. --insecure believes it all the same.") from None


def dtls_context(trust: Trust) -> SSL.Context:
    """For DTLS 1.2; whose name the certificate bears is for `believe_name`. Raises TrustError."""
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    if trust.insecure:
        context.set_verify(SSL.VERIFY_NONE)
    else:
        context.set_verify(SSL.VERIFY_PEER)
        if trust.ca is None:
            context.set_default_verify_paths()
        else:
            _use(trust.ca, lambda: context.load_verify_locations(str(trust.ca)))
    if trust.certificate is not None:
        certificate, key = trust.certificate, trust.key or trust.certificate
        _use(certificate, lambda: context.use_certificate_chain_file(str(certificate)))
        _use(key, lambda: context.use_privatekey_file(str(key)))
        _use(key, context.check_privatekey)
    return context


def tls_creator(trust: Trust, host: str) -> Any:
    """What makes the device's side of TLS connections to `host`. Raises TrustError."""
    mine = None
    if trust.certificate is not None:
        file, key_file = trust.certificate, trust.key or trust.certificate
        certificate = _use(file, lambda: Certificate.loadPEM(_read(file)))
        key = _use(key_file, lambda: KeyPair.load(_read(key_file), FILETYPE_PEM))
        mine = _use(key_file, lambda: PrivateCertificate.fromCertificateAndKeyPair(certificate, key))
    if trust.insecure:
        given = {} if mine is None else {"privateKey": mine.privateKey.original, "certificate": mine.original}
        return _Believing(CertificateOptions(verify=False, **given), host)
    root = platformTrust()
    if trust.ca is not None:
        ca = trust.ca
        found = _use(ca, lambda: load_pem_x509_certificates(_read(ca)))
        root = trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in found])
    return optionsForClientTLS(host, trustRoot=root, clientCertificate=mine)


@implementer(IPolicyForHTTPS)
class HttpsPolicy:
    """The same, for an Agent."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Raises TrustError."""
        return tls_creator(self._trust, hostname.decode("ascii"))


@implementer(IOpenSSLClientConnectionCreator)
class _Believing:
    """Believes everybody."""

    def __init__(self, options: Any, host: str) -> None:
        self._options = options
        self._host = host

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._options.getContext(), None)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection


def _is_address(host: str) -> bool:
    return bool(isIPAddress(host) or isIPv6Address(host))


def _read(file: Path) -> bytes:
    return _use(file, file.read_bytes)


def _use(file: Path, use: Callable[[], T]) -> T:
    try:
        return use()
    except OSError as error:
        raise TrustError(f"{file} cannot be read: {error.strerror}.") from None
    except (SSL.Error, CryptoError, ValueError) as error:
        raise TrustError(f"{file} cannot be used: {_first(error)}.") from None


def _first(error: Exception) -> str:
    """What OpenSSL says is a list of causes."""
    causes = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(causes[0][-1]) if causes else "it is not what it should be"
