"""What probes are told."""

from __future__ import annotations

import msgspec


class HealthJSON(msgspec.Struct):
    """Whether the server is well."""

    status: str


class VersionJSON(msgspec.Struct):
    """Which program this is."""

    name: str
    version: str
