"""Certificates and keys of ssl: and dtls: listeners."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from rpcbroker.cli.checks.endpoint import Endpoint, endpoints
from rpcbroker.cli.checks.subject import Subject, Verdict, Verdicts, ok, problem, warning

SOON = timedelta(days=14)
"""Time enough to get a new one by hand; what renews by itself does so a month ahead."""
_OPEN_TO_ALL = 0o007


def certificates(subject: Subject) -> Verdicts:
    """What a device or a caller would refuse, or soon will."""
    try:
        secure = [endpoint for endpoint in endpoints(subject.settings) if endpoint.kind in ("ssl", "dtls")]
    except ValueError:
        return  # the check of ports says so
    if not secure:
        yield ok("no listener has one: there is neither ssl: nor dtls:")
    now = datetime.fromtimestamp(subject.now, UTC)
    for endpoint in secure:
        yield from _one(endpoint, now)


def _one(endpoint: Endpoint, now: datetime) -> Verdicts:
    key_file = Path(endpoint.options.get("privateKey", "server.pem"))
    chain_file = Path(endpoint.options.get("certKey", key_file))
    try:
        chain = x509.load_pem_x509_certificates(chain_file.read_bytes())
        if extra := endpoint.options.get("extraCertChain"):
            chain += x509.load_pem_x509_certificates(Path(extra).read_bytes())
        key: Any = load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as error:
        yield problem(f"{endpoint.label}: {error.filename}: {error.strerror}", "Name files that the broker may read.")
    except TypeError:
        yield problem(f"{endpoint.label}: {key_file} has a passphrase", "openssl pkey -in FILE -out NEW takes it away.")
    except Exception:  # which ones differs between kinds of keys, and what they say may quote the file
        yield problem(
            f"{endpoint.label}: {key_file} and {chain_file} are no key and certificate in PEM", "openssl pkey, x509"
        )
    else:
        yield _verdict(endpoint, chain, now, matches=_public(key) == _public(chain[0]))
        if key_file.stat().st_mode & _OPEN_TO_ALL:
            yield warning(f"{endpoint.label}: everybody on this machine may read {key_file}", f"chmod o= {key_file}")


def _public(owner: Any) -> bytes:
    public: bytes = owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public


def _verdict(endpoint: Endpoint, chain: list[x509.Certificate], now: datetime, *, matches: bool) -> Verdict:
    starts = max(each.not_valid_before_utc for each in chain)
    ends = min(each.not_valid_after_utc for each in chain)
    renew = "Put new files there; a broker that runs takes them by itself."
    if not matches:
        return problem(f"{endpoint.label}: the key is not the certificate's", "They must come from the same request.")
    if now > ends:
        return problem(f"{endpoint.label}: its certificate expired on {ends:%Y-%m-%d}", renew)
    if now < starts:
        return problem(f"{endpoint.label}: its certificate begins on {starts:%Y-%m-%d}", "Is the clock right?")
    if now > ends - SOON:
        return warning(f"{endpoint.label}: its certificate expires on {ends:%Y-%m-%d}", renew)
    return ok(f"{endpoint.label}: its certificate is good until {ends:%Y-%m-%d}")
