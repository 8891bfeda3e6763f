"""TLS that is sent at once, as `core.direct` sends what is plain.

Twisted gathers what is written over TLS until the next turn of the reactor, which is a timer for each answer, and
encrypts it then; a turn later it goes out. Answers and calls are gathered already, and are whole.

It relies on private attributes of Twisted's transport. If it gathers otherwise than expected, it does so as before.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from OpenSSL.SSL import WantReadError
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from rpcbroker.core import direct

RECORDS = 2**15
"""Bytes of what is encrypted that are taken at a time: more than the record that one write makes (RFC 8446 5.1)."""


class DirectTLS(BufferingTLSTransport):
    """The transport of a connection with TLS."""

    def write_now(self, data: bytes) -> None:
        """As `write`, at once if nothing waits before it."""
        if getattr(self._aggregator, "_buffer", True):
            self.write(data)
        else:
            TLSMemoryBIOProtocol.write(self, data)

    def _flushSendBIO(self) -> None:
        """Send all that was encrypted, and what belongs to the handshake. Of an abort nothing must look like an end."""
        send = self.transport.write if self._aborted else partial(direct.send, self.transport)
        size = RECORDS
        with suppress(WantReadError):
            while size == RECORDS:
                records = self._tlsConnection.bio_read(RECORDS)
                size = len(records)
                send(records)


class DirectTLSFactory(TLSMemoryBIOFactory):
    """Makes them."""

    protocol = DirectTLS
