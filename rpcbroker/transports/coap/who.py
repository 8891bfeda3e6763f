"""Whose requests these are: by the access token in the path, else by the certificate that was shown over DTLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import Unavailable
from rpcbroker.core.events import DeviceExpelled
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports.coap.exchange import Peer

MAX_ENTERING = 10_000
"""Requests whose senders are looked up at a time, each some 4 kB: a fleet may come back at once, and anybody can forge
as many addresses as he likes."""


class _Certificate:
    """A login by which only a certificate can tell who it is."""

    client_id = ""
    username = None
    password = None


class _Shown(NamedTuple):
    session: DeviceSession
    until: int
    """When the certificate ceases to be good, epoch ms."""


class Senders:
    """The sessions of devices by what their requests show. What was proven once costs one look in a map."""

    def __init__(self, broker: Broker, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._entrance = broker.entrance
        self._now_ms = now_ms
        self._by_certificate: dict[bytes, _Shown] = {}
        """As many as there are devices with certificates at most."""
        self._entering = 0
        self._certificates: dict[UUID, bytes] = {}
        broker.events.listen(DeviceExpelled, lambda event: self._forget(event.device_id))

    def known(self, token: str | None, peer: Peer) -> DeviceSession | None:
        """The session of the device that sent this, if it was here before; None says nothing."""
        if token is not None:
            return self._entrance.known(token)
        shown = None if peer.certificate is None else self._by_certificate.get(peer.certificate)
        return shown.session if shown is not None and self._now_ms() <= shown.until else None

    async def enter(self, token: str | None, peer: Peer) -> DeviceSession | None:
        """The session of the device that sent this; None if it is nobody's. Raises Unavailable."""
        if self._entering >= MAX_ENTERING:
            raise Unavailable("Too many come in at once")
        self._entering += 1
        try:
            return await self._enter(token, peer)
        finally:
            self._entering -= 1

    async def _enter(self, token: str | None, peer: Peer) -> DeviceSession | None:
        if token is not None:
            return await self._entrance.enter(token)
        certificate = peer.certificate
        if certificate is None:
            return None
        session = await self._broker.enter(_Certificate(), certificate=certificate)
        if session is not None:
            self._forget(session.device.id)
            from cryptography import x509

            last = x509.load_der_x509_certificate(certificate).not_valid_after_utc
            self._by_certificate[certificate] = _Shown(session, int(last.timestamp() * 1000))
            self._certificates[session.device.id] = certificate
        return session

    def _forget(self, device_id: UUID) -> None:
        """What let it in may not any more."""
        certificate = self._certificates.pop(device_id, None)
        if certificate is not None:
            del self._by_certificate[certificate]
