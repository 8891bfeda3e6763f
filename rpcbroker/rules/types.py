"""The types of messages, and what the message type switch calls them."""

from __future__ import annotations

FAILURE = "Failure"
SUCCESS = "Success"
TRUE, FALSE = "True", "False"
OTHER = "Other"
"""Where the message type switch sends a type that it does not know."""

CALL = "RPC_CALL_FROM_SERVER_TO_DEVICE"
QUESTION = "TO_SERVER_RPC_REQUEST"
TELEMETRY = "POST_TELEMETRY_REQUEST"
ATTRIBUTES = "POST_ATTRIBUTES_REQUEST"
REST_REQUEST = "REST_API_REQUEST"
CONNECTED = "CONNECT_EVENT"
DISCONNECTED = "DISCONNECT_EVENT"
ATTRIBUTES_UPDATED = "ATTRIBUTES_UPDATED"
ATTRIBUTES_DELETED = "ATTRIBUTES_DELETED"
TIMESERIES_UPDATED = "TIMESERIES_UPDATED"

LABELS = {
    ATTRIBUTES: "Post attributes",
    TELEMETRY: "Post telemetry",
    QUESTION: "RPC Request from Device",
    CALL: "RPC Request to Device",
    REST_REQUEST: "REST API request",
    "RPC_QUEUED": "RPC Queued",
    "RPC_SENT": "RPC Sent",
    "RPC_DELIVERED": "RPC Delivered",
    "RPC_SUCCESSFUL": "RPC Successful",
    "RPC_TIMEOUT": "RPC Timeout",
    "RPC_EXPIRED": "RPC Expired",
    "RPC_FAILED": "RPC Failed",
    "RPC_DELETED": "RPC Deleted",
    CONNECTED: "Connect Event",
    DISCONNECTED: "Disconnect Event",
    "ACTIVITY_EVENT": "Activity Event",
    "INACTIVITY_EVENT": "Inactivity Event",
    ATTRIBUTES_UPDATED: "Attributes Updated",
    ATTRIBUTES_DELETED: "Attributes Deleted",
    TIMESERIES_UPDATED: "Timeseries Updated",
    "TIMESERIES_DELETED": "Timeseries Deleted",
    "ENTITY_CREATED": "Entity Created",
    "ENTITY_UPDATED": "Entity Updated",
    "ENTITY_DELETED": "Entity Deleted",
    "ENTITY_ASSIGNED": "Entity Assigned",
    "ENTITY_UNASSIGNED": "Entity Unassigned",
}
"""Type of a message -> the label under which the message type switch sends it on."""
