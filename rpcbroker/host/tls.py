"""The certificates of `ssl:` and `dtls:` listeners: read from files, and read again when the files change.

A connection keeps the certificate that it began with; new ones get the newest that is good. TLS 1.2
is the least that is spoken (Twisted's choice of ciphers, no tickets: a new key is new for everybody).

Where devices come in they are asked for a certificate of their own. They need not have one, and no
authority has to stand behind it: the handshake proves that who shows it has its key, and whose it is
the broker knows by its fingerprint.

OpenSSL is loaded with the first certificate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from rpcbroker.core.deadlines import Clock

EXPIRES_SOON = 14 * 86_400
"""Seconds before its end from which a certificate is warned of: time enough to get the next one."""
WARN_EVERY = 86_400
"""Seconds between two such warnings."""


class TlsError(Exception):
    """A key or a certificate cannot be used; the text is one line that names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the parts are, and the highest version of TLS that is spoken, None for the newest."""

    private_key: Path
    certificate: Path
    chain: Path | None = None
    dh_parameters: Path | None = None
    highest: Any = None

    def __iter__(self) -> Iterator[Path]:
        yield from filter(None, (self.private_key, self.certificate, self.chain, self.dh_parameters))


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """The key and the certificate of one listener, as they are now."""

    _log = Logger()

    def __init__(self, listener: str, files: TlsFiles, *, asks: bool = False) -> None:
        """Reads them. Raises TlsError. `listener` is what an operator calls it.

        `asks`: whoever connects is asked for a certificate, and any is taken; see the top of the module.
        """
        self.listener = listener
        self.files = files
        self._asks = asks
        self._seen = self._look()
        self._loaded = _load(files)
        self._warned: float | None = None

    @property
    def not_after(self) -> float:
        """Epoch seconds at which it ends."""
        ends: float = self._loaded.not_after
        return ends

    @property
    def identity(self) -> Any:
        """The key_files.Identity in use, for those who speak something else than TLS; another object once the files
        have changed."""
        return self._loaded.identity

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        connection = self._loaded.options.serverConnectionForTLS(protocol)
        if self._asks:
            from OpenSSL import SSL

            connection.set_verify(SSL.VERIFY_PEER, _take_any)
        return connection

    def check(self, now: float) -> None:
        """Take what is new in the files; what cannot be used is logged once, and changes nothing.

        `now` is in epoch seconds.
        """
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._reload()
        left = self.not_after - now
        if left < EXPIRES_SOON and (self._warned is None or now - self._warned >= WARN_EVERY):
            self._warned = now
            self._log.warn(
                "{listener}: the certificate {path} {fate}",
                listener=self.listener,
                path=str(self.files.certificate),
                fate=f"ends in {left / 86_400:.1f} days" if left > 0 else "has expired",
            )

    def _reload(self) -> None:
        try:
            self._loaded = _load(self.files)
        except TlsError as error:
            self._log.error(
                "{listener}: the certificate in use stays: {error}",
                listener=self.listener,
                error=error,
            )
        else:
            self._warned = None
            self._log.info(
                "{listener}: new certificate {path}", listener=self.listener, path=str(self.files.certificate)
            )

    def _look(self) -> list[tuple[int, int, int] | int | None]:
        """Of each file: whether it is still the same."""
        return [_identity(path) for path in self.files]


class Certificates:
    """All certificates of one process, and the timer that looks at their files."""

    def __init__(self, clock: Clock, now: Callable[[], float]) -> None:
        """`now` is the wall clock in epoch seconds."""
        self._clock = clock
        self._now = now
        self._all: list[Certificate] = []
        self._every = 0.0
        self._timer: DelayedCall | None = None

    def add(self, listener: str, files: TlsFiles, *, asks: bool = False) -> Certificate:
        """Read them, now and when they change. Raises TlsError. `asks` is as for a Certificate."""
        certificate = Certificate(listener, files, asks=asks)
        self._all.append(certificate)
        return certificate

    def expiries(self) -> dict[str, float]:
        """The path of each certificate -> the epoch second at which what is in use of it ends."""
        return {str(certificate.files.certificate): certificate.not_after for certificate in self._all}

    def watch(self, every: float) -> None:
        """Look at the files now, and every so many seconds from now on."""
        self._every = every
        self.stop()
        if self._all:
            self._check()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = self._clock.callLater(self._every, self._check)
        for certificate in self._all:
            certificate.check(self._now())


def _load(files: TlsFiles) -> Any:
    """The key_files.Loaded of them. Raises TlsError."""
    from rpcbroker.host.key_files import load

    return load(files)


def _take_any(*_: object) -> bool:
    """What OpenSSL asks of each certificate of a chain; that the key belongs to the first it sees to by itself."""
    return True


def _identity(path: Path) -> tuple[int, int, int] | int | None:
    """Changes when the file is written or replaced, also behind a symbolic link."""
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns
