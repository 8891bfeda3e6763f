"""What probes are told."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class HealthJSON(msgspec.Struct, omit_defaults=True):
    """Whether the server is well, and each of its parts."""

    status: str
    parts: dict[str, str] = {}


class EndpointsJSON(msgspec.Struct):
    """Where the server is found."""

    urls: Annotated[dict[str, str], Meta(description="by scheme: http, mqtt, mqtts, mqtt-ws, coap, coaps and so on")]


class VersionJSON(msgspec.Struct):
    """Which program this is."""

    name: str
    version: str
