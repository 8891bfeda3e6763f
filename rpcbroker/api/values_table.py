"""The rows of telemetry and attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcbroker.api.routes import USERS, Action, Route
from rpcbroker.api.values import Values
from rpcbroker.core.model import KeyAccess
from rpcbroker.schema.values import (
    AttributeJSON,
    AttributesBody,
    AttributesQuery,
    DeleteAttributesQuery,
    DeleteTimeseriesQuery,
    PointJSON,
    TelemetryBody,
    TimeseriesQuery,
)

BASE = "/api/plugins/telemetry"
ENTITY = f"{BASE}/<entity_type>/<entity_id>"


def values(to: Values) -> tuple[Route, ...]:
    """All of them, in the order of the document."""
    return (*_read(to), *_write(to))


def _read(to: Values) -> tuple[Route, ...]:
    def get(operation: str, path: str, handler: Callable[..., Any], **more: Any) -> Route:
        return Route(
            operation=operation,
            method="GET",
            path=ENTITY + path,
            handler=handler,
            roles=USERS,
            tag="Telemetry",
            access=KeyAccess.READ,
            **more,
        )

    keys: dict[str, Any] = {"answers": list[str]}
    found: dict[str, Any] = {"query": AttributesQuery, "answers": list[AttributeJSON]}
    return (
        get("getAttributeKeys", "/keys/attributes", to.attribute_keys, **keys),
        get("getAttributeKeysByScope", "/keys/attributes/<scope>", to.attribute_keys_of_scope, **keys),
        get("getAttributes", "/values/attributes", to.attributes, **found),
        get("getAttributesByScope", "/values/attributes/<scope>", to.attributes_of_scope, **found),
        get("getTimeseriesKeys", "/keys/timeseries", to.timeseries_keys, **keys),
        get(
            "getTimeseries",
            "/values/timeseries",
            to.timeseries,
            query=TimeseriesQuery,
            answers=dict[str, list[PointJSON]],
        ),
    )


def _write(to: Values) -> tuple[Route, ...]:
    def change(
        operation: str, method: str, path: str, handler: Callable[..., Any], action: Action, **more: Any
    ) -> Route:
        return Route(
            operation=operation,
            method=method,
            path=path,
            handler=handler,
            roles=USERS,
            tag="Telemetry",
            access=KeyAccess.MANAGE,
            action=action,
            entity="DEVICE",
            **more,
        )

    def save(operation: str, path: str, handler: Callable[..., Any], action: Action, body: Any) -> Route:
        return change(operation, "POST", path, handler, action, body=body, raw_body=True, hot=True)

    attributes: Any = (Action.ATTRIBUTES_UPDATED, AttributesBody)
    timeseries: Any = (Action.TIMESERIES_UPDATED, TelemetryBody)
    gone = Action.ATTRIBUTES_DELETED
    return (
        save("saveEntityAttributesV2", f"{ENTITY}/attributes/<scope>", to.save_attributes, *attributes),
        save("saveEntityAttributesV1", f"{ENTITY}/<scope>", to.save_attributes, *attributes),
        save("saveDeviceAttributes", f"{BASE}/<device_id>/<scope>", to.save_device_attributes, *attributes),
        change(
            "deleteEntityAttributes",
            "DELETE",
            f"{ENTITY}/<scope>",
            to.delete_attributes,
            gone,
            query=DeleteAttributesQuery,
        ),
        change(
            "deleteDeviceAttributes",
            "DELETE",
            f"{BASE}/<device_id>/<scope>",
            to.delete_device_attributes,
            gone,
            query=DeleteAttributesQuery,
        ),
        save("saveEntityTelemetry", f"{ENTITY}/timeseries/<any_scope>", to.save_timeseries, *timeseries),
        save(
            "saveEntityTelemetryWithTTL",
            f"{ENTITY}/timeseries/<any_scope>/<ttl>",
            to.save_timeseries_with_ttl,
            *timeseries,
        ),
        change(
            "deleteEntityTimeseries",
            "DELETE",
            f"{ENTITY}/timeseries/delete",
            to.delete_timeseries,
            Action.TIMESERIES_DELETED,
            query=DeleteTimeseriesQuery,
        ),
    )
