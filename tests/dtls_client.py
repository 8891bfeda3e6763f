"""A device's side of DTLS without a socket: what it sends and what it got are lists of datagrams."""

from __future__ import annotations

from contextlib import suppress

from certificates import Files
from OpenSSL import SSL

HEADER = 13
DTLS_1_2 = 0xFEFD


def context(shown: Files | None = None, *, highest: int = DTLS_1_2) -> SSL.Context:
    """Of a device that shows this certificate, and takes any."""
    made = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    made.set_max_proto_version(highest)
    made.set_options(SSL.OP_NO_QUERY_MTU)
    if shown is not None:
        made.use_certificate_file(str(shown.certificate))
        made.use_privatekey_file(str(shown.key))
    return made


def records(data: bytes) -> list[bytes]:
    """Cut before each header."""
    found = []
    while data:
        end = HEADER + int.from_bytes(data[11:HEADER], "big")
        found.append(data[:end])
        data = data[end:]
    return found


class DtlsClient:
    """One association, begun by `hello`."""

    def __init__(self, made: SSL.Context | None = None, *, ciphers: bytes | None = None) -> None:
        made = made or context()
        if ciphers is not None:
            made.set_cipher_list(ciphers)
        self.connection = SSL.Connection(made)
        self.connection.set_connect_state()
        self.connection.set_ciphertext_mtu(1200)
        self.established = False
        self.failed = ""
        """What OpenSSL said when it gave up."""
        self.received: list[bytes] = []
        self.closed = False

    def hello(self) -> list[bytes]:
        """The first datagrams."""
        return self._go_on()

    def take(self, *datagrams: bytes) -> list[bytes]:
        """These came; what is said to them."""
        said = []
        for datagram in datagrams:
            self.connection.bio_write(datagram)
            said += self._go_on()
        return said

    def seal(self, payload: bytes) -> bytes:
        """The datagram that carries it."""
        self.connection.send(payload)
        return self._out()

    def close_notify(self) -> bytes:
        with suppress(SSL.WantReadError):
            self.connection.shutdown()
        return self._out()

    def _go_on(self) -> list[bytes]:
        try:
            if not self.established:
                self.connection.do_handshake()
                self.established = True
            while True:
                self.received.append(self.connection.recv(1 << 14))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.failed = str(error)
        return [out] if (out := self._out()) else []

    def _out(self) -> bytes:
        with suppress(SSL.WantReadError):
            return self.connection.bio_read(1 << 16)
        return b""
