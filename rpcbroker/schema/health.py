"""What probes are told."""

from __future__ import annotations

import msgspec


class HealthJSON(msgspec.Struct, omit_defaults=True):
    """Whether the server is well, and each of its parts."""

    status: str
    parts: dict[str, str] = {}


class VersionJSON(msgspec.Struct):
    """Which program this is."""

    name: str
    version: str
