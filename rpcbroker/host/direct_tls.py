"""TLS that is sent at once, as `core.direct` sends what is plain.

Twisted gathers what is written over TLS until the next turn of the reactor, which is a timer for each answer, and
encrypts it then; a turn later it goes out. Answers and calls are gathered already, and are whole.

It relies on private attributes of Twisted's transport. If it gathers otherwise than expected, it does so as before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from OpenSSL.SSL import WantReadError
from twisted.internet.protocol import Factory
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from rpcbroker.core import direct
from rpcbroker.host.tls import Certificate

RECORDS = 2**15
"""Bytes of what is encrypted that are taken at a time: more than the record that one write makes (RFC 8446 5.1)."""


class DirectTLS(BufferingTLSTransport):
    """The transport of a connection with TLS."""

    factory: DirectTLSFactory

    def write_now(self, data: bytes) -> None:
        """As `write`, at once if nothing waits before it."""
        if getattr(self._aggregator, "_buffer", True):
            self.write(data)
        else:
            TLSMemoryBIOProtocol.write(self, data)

    def _shutdownTLS(self) -> None:
        """Say farewell, behind what was said before: nothing can be said after it."""
        if not self._aborted:
            self.factory.outgoing.flush()
            if hasattr(self._aggregator, "flush"):
                self._aggregator.flush()
        super()._shutdownTLS()

    def _flushSendBIO(self) -> None:
        """Send all that was encrypted, and what belongs to the handshake. Of an abort nothing must look like an end."""
        size = RECORDS
        with suppress(WantReadError):
            while size == RECORDS:
                records = self._tlsConnection.bio_read(RECORDS)
                size = len(records)
                if self._aborted:
                    self.transport.write(records)
                else:
                    direct.send(self.transport, records)


class DirectTLSFactory(TLSMemoryBIOFactory):
    """Makes them."""

    protocol = DirectTLS

    def __init__(self, certificate: Certificate, wrapped: Factory, clock: Any, outgoing: direct.Outgoing) -> None:
        """`outgoing`: what gathers that which the protocols inside send."""
        super().__init__(certificate, False, wrapped, clock)
        self.outgoing = outgoing
