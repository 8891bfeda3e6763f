"""What the caller sees of devices over REST."""

from __future__ import annotations

from typing import Any

from daemon import Daemon, wait_for


def add_gateway(broker: Daemon, token: str) -> None:
    body = {"name": token, "additionalInfo": {"gateway": True}}
    status, made = broker.ask("POST", f"/api/device?accessToken={token}", body)
    assert status == 200, made


def child(broker: Daemon, name: str) -> str:
    """The id of a device that a gateway has made, once it can be called."""

    def found() -> str | None:
        status, made = broker.ask("GET", f"/api/tenant/device?deviceName={name}")
        return made["id"]["id"] if status == 200 else None

    device_id: str = wait_for(found, f"the child {name}", 40)
    broker.wait_callable(device_id)
    return device_id


def values(broker: Daemon, device_id: str, what: str) -> Any:
    status, found = broker.ask("GET", f"/api/plugins/telemetry/DEVICE/{device_id}/values/{what}")
    assert status == 200, found
    return found


def read(broker: Daemon, device_id: str, key: str) -> Any:
    """The last value posted of a key, once there is one."""
    path = f"timeseries?keys={key}&useStrictDataTypes=true"

    def found() -> Any:
        points = values(broker, device_id, path)[key]
        return points if points[0]["value"] is not None else None

    return wait_for(found, f"a value of {key}")[0]["value"]


def attribute(broker: Daemon, device_id: str, key: str) -> Any:
    """A client attribute, once it is there."""
    path = f"attributes/CLIENT_SCOPE?keys={key}"
    return wait_for(lambda: values(broker, device_id, path), f"the attribute {key}")[0]["value"]
