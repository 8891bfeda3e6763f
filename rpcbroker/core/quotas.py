"""How much devices may send: rates for a tenant, a device, a gateway and those behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from uuid import UUID

from rpcbroker.core.limits import RateLimit
from rpcbroker.core.model import Device
from rpcbroker.core.setting import show_rate
from rpcbroker.core.settings import LimitsSettings

MAX_SENDERS = 1_000_000
"""Tenants and devices whose buckets are remembered: more than one process has, for one that is forgotten
begins anew. A bucket takes some 300 bytes, and there is one only where a rate is set."""

_KINDS = {"messages": "messages", "telemetryMessages": "telemetry_messages", "telemetryDataPoints": "telemetry_points"}
"""A rate's name on the wire -> the end of the setting's name."""


class Quotas:
    """The rates of `[limits]`, and what is left of each."""

    any: bool
    """Whether there is any rate: if not, nobody has to ask."""

    def __init__(self, settings: LimitsSettings, seconds: Callable[[], float]) -> None:
        self.refusals: Counter[str] = Counter()
        """The name of the setting -> how many messages it has kept out."""
        self._limits = {
            each.name: RateLimit(getattr(settings, each.name), seconds, max_keys=MAX_SENDERS)
            for each in fields(settings)
        }
        self.reconfigure(settings)

    def reconfigure(self, settings: LimitsSettings) -> None:
        """Other rates from now on; where a rate differs, all begin with full buckets."""
        for name, limit in self._limits.items():
            limit.rate = getattr(settings, name)
        self.any = any(limit.rate for limit in self._limits.values())

    def charge(self, device: Device, *, points: int = 0, via: Device | None = None) -> bool:
        """A message of `device` with so many values; False if it is one too many, and then it costs nothing.

        `via` is the gateway that speaks for it, if one does: its rate for all behind it holds then, not the device's.
        """
        if not self.any:
            return True
        tenant, who, whose = device.tenant_id, _scope(device, via), (via or device).id
        wanted: tuple[tuple[str, UUID, int], ...]
        if points:
            wanted = (
                ("tenant_telemetry_messages", tenant, 1),
                ("tenant_telemetry_points", tenant, points),
                (f"{who}_telemetry_messages", whose, 1),
                (f"{who}_telemetry_points", whose, points),
            )
        else:
            wanted = ("tenant_messages", tenant, 1), (f"{who}_messages", whose, 1)
        for taken, (name, key, amount) in enumerate(wanted):
            if self._limits[name].take(key, amount):
                for before, its_key, its_amount in wanted[:taken]:
                    self._limits[before].give_back(its_key, its_amount)
                self.refusals[name] += 1
                return False
        return True

    def limits_of(self, device: Device) -> dict[str, Any]:
        """What `getSessionLimits` tells a device of its rates: texts, or None where there is none.

        `rateLimits` are its own; a gateway has `gatewayRateLimits` too, for those behind it.
        """
        told = {"rateLimits": self._told(_scope(device, None))}
        return told | {"gatewayRateLimits": self._told("gateway")} if device.is_gateway else told

    def _told(self, scope: str) -> dict[str, str | None]:
        return {wire: show_rate(self._limits[f"{scope}_{name}"].rate) or None for wire, name in _KINDS.items()}


def _scope(device: Device, via: Device | None) -> str:
    """What the names of the settings begin with that hold for a message, besides those of the tenant."""
    if via is not None:
        return "gateway"
    return "gateway_device" if device.is_gateway else "device"
