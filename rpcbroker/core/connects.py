"""Who may connect, and how often: counted by address and by device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address as IPv6
from uuid import UUID

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from rpcbroker.core.limits import MAX_KEYS, RateLimit
from rpcbroker.core.settings import MqttSettings

MAX_DEVICES = 1_000
"""Devices whose connects are remembered: so many may come too often at once; a fleet that comes once is not kept."""


class Connects:
    """Limits on connections, as `[mqtt]` has them. None of them costs a look at the store.

    Addresses are what `address_of` makes of them; None has no limit.
    """

    def __init__(self, settings: MqttSettings, seconds: Callable[[], float]) -> None:
        self.settings = settings
        """Read whenever a limit is needed: put others here, and they hold from then on."""
        self._seconds = seconds
        self._of_address = RateLimit(settings.address_connect_rate, seconds)
        self._of_device = RateLimit(settings.connect_rate, seconds, max_keys=MAX_DEVICES)
        self._open: Counter[Hashable] = Counter()
        self._wrong: dict[Hashable, tuple[int, float]] = {}
        """Address -> how many wrong credentials came from there, and when the last one did."""

    def admits(self, address: Hashable) -> bool:
        """Count a connection from there; False if it must be closed at once.

        Each one, whether it was admitted or not, is told to `left` when it is gone.
        """
        self._open[address] += 1
        if address is None:
            return True
        most = self.settings.max_connections_per_address
        if (most and self._open[address] > most) or self._is_blocked(address):
            return False
        self._of_address.rate = self.settings.address_connect_rate
        return not self._of_address.take(address)

    def left(self, address: Hashable) -> None:
        """A connection from there is gone."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]

    def device(self, device_id: UUID) -> bool:
        """Count one more connection of a device that has proved to be it; False if it must be refused."""
        self._of_device.rate = self.settings.connect_rate
        return not self._of_device.take(device_id)

    def refused(self, address: Hashable) -> None:
        """Credentials that came from there were wrong."""
        if not self.settings.max_wrong_credentials or address is None:
            return
        now = self._seconds()
        count, last = self._wrong.pop(address, (0, now))
        if now - last >= self.settings.wrong_credentials_block:
            count = 0
        if len(self._wrong) >= MAX_KEYS:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = count + 1, now

    def _is_blocked(self, address: Hashable) -> bool:
        most, block = self.settings.max_wrong_credentials, self.settings.wrong_credentials_block
        if not most or address not in self._wrong:
            return False
        count, last = self._wrong[address]
        return count >= most and self._seconds() - last < block


def address_of(peer: IAddress) -> object:
    """What the limits for an address count by; None where there is none, as for a Unix socket.

    Of IPv6 that is the /64, for each of its 2**64 addresses is had for nothing.
    """
    if isinstance(peer, IPv4Address):
        return peer.host
    if isinstance(peer, IPv6Address):
        address = IPv6(peer.host.partition("%")[0])
        return str(address.ipv4_mapped) if address.ipv4_mapped else int(address) >> 64
    return None
