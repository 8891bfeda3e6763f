"""The certificate that a device has shown, whatever it speaks over TLS."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ISSLTransport


def peer_certificate(transport: Any) -> bytes | None:
    """The device's own certificate in DER, without its chain; None if it showed none, or there is no TLS.

    It is known once the handshake is over: from the first byte that was received.
    """
    if not ISSLTransport.providedBy(transport):
        return None
    from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

    shown = transport.getPeerCertificate()
    return None if shown is None else dump_certificate(FILETYPE_ASN1, shown)
