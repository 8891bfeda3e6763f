"""What all DTLS sessions of one certificate have in common: versions, ciphers, and who may come.

Whoever comes is asked for a certificate, need not have one, and may show any: the handshake proves that the key belongs
to it; whose it is, and whether it is still good, is for the login to say. PSK is left out, for pyOpenSSL has no public
interface to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from OpenSSL import SSL

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:ECDHE+AESCCM8:@SECLEVEL=0"
"""Forward secrecy and AEAD only. AES_128_CCM_8 must be had (RFC 7252 9.1.3.2), and for its short tag OpenSSL has it on
its lowest level only."""
DTLS_1_2 = 0xFEFD


class Identity(Protocol):
    """The server's key, its certificate, and those above it."""

    @property
    def key(self) -> Any: ...

    @property
    def certificate(self) -> x509.Certificate: ...

    @property
    def chain(self) -> tuple[x509.Certificate, ...]: ...


def make_context(identity: Identity, cookie: Callable[[], bytes], proves: Callable[[bytes], bool]) -> SSL.Context:
    """A server's, with `identity`. `cookie` is for the address that asks; `proves` says whether one came from there."""
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_options(
        SSL.OP_NO_QUERY_MTU
        | SSL.OP_NO_TICKET  # a new key is new for everybody
        | SSL.OP_NO_RENEGOTIATION
        | SSL.OP_NO_COMPRESSION
        | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 13 kB less for each session
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    context.use_certificate(identity.certificate)
    for certificate in identity.chain:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    context.set_verify(SSL.VERIFY_PEER, _take_any)
    context.set_cookie_generate_callback(lambda _: cookie())
    context.set_cookie_verify_callback(lambda _, shown: proves(shown))
    return context


def _take_any(*_: object) -> bool:
    """What OpenSSL asks of each certificate of a chain; that the key belongs to the first it sees to by itself."""
    return True
