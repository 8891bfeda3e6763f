"""Devices that offer to belong to the customer whose user knows a secret, and customers that take them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import ClaimRefused, NotFound, TooManyRequests
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.model import Claim, Device
from rpcbroker.core.ports import Store
from rpcbroker.core.settings import EnrolmentSettings

FAILURE, CLAIMED = "FAILURE", "CLAIMED"
"""What a refused claim is answered with, in the words of the wire."""


class ClaimOffer(msgspec.Struct, rename="camel"):
    """What a device sends; a duration that is 0 or absent is the setting's."""

    secret_key: str | None = None
    duration_ms: int | None = None


class Claiming:
    """Who belongs to whom, agreed between a device and a customer's user."""

    def __init__(
        self,
        *,
        store: Store,
        broker: Broker,
        settings: EnrolmentSettings,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        self._store = store
        self._broker = broker
        self._now_ms = now_ms
        self._duration = settings.claim_duration
        self._failures = RateLimit(settings.claim_failures, seconds)

    def reconfigure(self, settings: EnrolmentSettings) -> None:
        """Other limits hold from now on."""
        self._duration = settings.claim_duration
        self._failures.rate = settings.claim_failures

    def offer(self, device: Device, payload: bytes) -> Deferred[None]:
        """The device can be claimed from now on; fires when that is kept. It ends what it offered before.

        `payload` is empty or `{"secretKey"?, "durationMs"?}` (docs/enrolment.md). Fails with BadJSON, NotFound when the
        device is gone, and what the store fails with.
        """
        return Deferred.fromCoroutine(self._offer(device, payload))

    async def _offer(self, device: Device, payload: bytes) -> None:
        given: ClaimOffer = jsontext.decode_as(ClaimOffer, payload) if payload.strip() else ClaimOffer()
        most = int(self._duration * 1000)
        lasts = min(given.duration_ms, most) if given.duration_ms and given.duration_ms > 0 else most
        claim = Claim(
            device_id=device.id,
            digest=digest(device.id, given.secret_key or ""),
            until_time=self._now_ms() + lasts,
        )
        await self._store.enrolment.offer(claim)

    async def claim(self, tenant_id: UUID, customer_id: UUID, name: str, secret: str) -> Device:
        """The device of this name, which is the customer's now.

        Raises ClaimRefused, which does not tell a wrong secret from an old one, nor a device of somebody else from one
        that is not there; TooManyRequests; VersionConflict.
        """
        guesses = customer_id, name
        wait = self._failures.wait(guesses)
        if wait:
            raise TooManyRequests("Too many failed claims of this device!", retry_after=wait)
        device = await self._store.device_by_name(tenant_id, name)
        if device is not None and device.customer_id == customer_id:
            raise ClaimRefused("The device is yours already", response=CLAIMED)
        claim = await self._store.enrolment.offered(device.id) if device else None
        known = claim.digest if claim else ""
        right = hmac.compare_digest(digest(device.id if device else customer_id, secret), known)
        free = device is not None and device.customer_id is None
        if device is None or claim is None or not (free and right and self._now_ms() <= claim.until_time):
            self._failures.take(guesses)
            raise _refused()
        changed = replace(device, customer_id=customer_id, version=device.version + 1)
        try:
            await self._store.enrolment.take(changed, claim)
        except NotFound:
            raise _refused() from None
        self._broker.device_changed(changed)
        return changed


def digest(device_id: UUID, secret: str) -> str:
    """What is kept of a secret. It is good for a day and only for this device: a plain hash is enough."""
    return hashlib.sha256(device_id.bytes + secret.encode("utf-8", "surrogatepass")).hexdigest()


def _refused() -> ClaimRefused:
    return ClaimRefused(
        "The device cannot be claimed like this",
        response=FAILURE,
        hint="The name and the secret must be right, and the device must have offered itself lately.",
    )
