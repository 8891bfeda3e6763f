"""Telemetry and attributes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from rpcbroker.core import jsontext
from rpcbroker.core.model import Attribute, Point
from rpcbroker.core.presence import Presence
from rpcbroker.schema.common import EpochMs, Plain

MAX_LIMIT = 100_000
"""Points of one key in one answer; a window is smaller."""

SomeKeys = Annotated[Plain, Meta(description="keys with commas between them; all if absent or empty")]
Keys = Annotated[Plain, Meta(description="keys with commas between them")]

AttributesBody = Annotated[dict[str, Any], Meta(description="key -> any JSON but null")]
TelemetryBody = Annotated[
    Any,
    Meta(
        description='`{"key": value}`, or `{"ts": epoch ms, "values": {"key": value}}`, or an array of such; '
        "numbers may be written as strings",
        extra_json_schema={"type": ["object", "array"], "items": {"type": "object"}},
    ),
]


class AttributesQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which attributes."""

    keys: SomeKeys | None = None


class DeleteAttributesQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which attributes to delete."""

    keys: Keys


class TimeseriesQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which points: without a time, the latest of each key."""

    keys: SomeKeys | None = None
    start_ts: Annotated[EpochMs | None, Meta(description="from here on; then endTs and keys must be given too")] = None
    end_ts: Annotated[EpochMs | None, Meta(description="before this")] = None
    interval: Annotated[Plain | None, Meta(description="of no meaning, as there is no aggregation")] = None
    limit: Annotated[
        int,
        Meta(
            description="how many points of each key at most",
            extra_json_schema={"minimum": 1, "maximum": MAX_LIMIT},
        ),
    ] = 100
    agg: Annotated[
        str, Meta(description="NONE: points are not aggregated here", extra_json_schema={"enum": ["NONE"]})
    ] = "NONE"
    order_by: Annotated[
        str,
        Meta(
            description="ASC or DESC, of time, in upper or lower case",
            extra_json_schema={"pattern": "^([aA][sS][cC]|[dD][eE][sS][cC])$"},
        ),
    ] = "DESC"
    use_strict_data_types: Annotated[bool, Meta(description="whether values are JSON as posted, not strings")] = False


class DeleteTimeseriesQuery(msgspec.Struct, rename="camel", kw_only=True):
    """Which points to delete."""

    keys: Keys
    delete_all_data_for_keys: Annotated[bool, Meta(description="all points; else those of a time")] = False
    start_ts: Annotated[EpochMs | None, Meta(description="from here on")] = None
    end_ts: Annotated[EpochMs | None, Meta(description="before this")] = None
    delete_latest: Annotated[
        bool, Meta(description="whether the latest point goes too, if it lies there; the one before takes its place")
    ] = True
    rewrite_latest_if_deleted: Annotated[bool, Meta(description="of no meaning: it always is")] = False


class AttributeJSON(msgspec.Struct, rename="camel"):
    """The present value of an attribute."""

    last_update_ts: EpochMs
    key: str
    value: Any


class PointJSON(msgspec.Struct, rename="camel"):
    """One value of a series. As a string, unless strict data types are asked for; null if there is none."""

    ts: EpochMs
    value: Any


def attribute_json(attribute: Attribute) -> AttributeJSON:
    return AttributeJSON(attribute.updated_time, attribute.key, attribute.value)


def point_json(point: Point, *, strict: bool) -> PointJSON:
    return PointJSON(point.ts, point.value if strict else value_text(point.value))


def value_text(value: Raw) -> str:
    """A string as it is, anything else as JSON text."""
    text = bytes(value)
    return jsontext.decode_as(str, text) if text.startswith(b'"') else text.decode()


def presence_attributes(presence: Presence) -> list[AttributeJSON]:
    """What the broker itself knows of a device, as attributes of the server's scope; what never was is left out."""
    return [AttributeJSON(time, key, value) for key, (time, value) in presence.attributes().items()]
