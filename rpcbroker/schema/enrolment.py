"""Provision keys, and claims of devices."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rpcbroker.core.model import Device, ProvisionKey, ProvisionStrategy
from rpcbroker.schema.common import EntityId, EpochMs, Plain, Text, customer_ref
from rpcbroker.schema.devices import DEFAULT_TYPE, DeviceJSON, device_json

MIN_SECRET = 20
"""Characters of a secret that is not made here: as many as those that firmware in the field has."""

Secret = Annotated[str, Meta(extra_json_schema={"minLength": MIN_SECRET, "maxLength": 255, "pattern": r"^[^\u0000]*$"})]


class ProvisionKeyBody(msgspec.Struct, rename="camel", kw_only=True):
    """A new key, and which devices it lets in. What firmware has already may be given, and is made up if absent."""

    provision_device_key: Text | None = None
    provision_device_secret: Secret | None = None
    provision_type: ProvisionStrategy = ProvisionStrategy.ALLOW_CREATE_NEW_DEVICES
    device_type: Annotated[Text, Meta(description="the type of the devices")] = DEFAULT_TYPE
    customer_id: Annotated[EntityId | None, Meta(description="the customer that new devices are assigned to")] = None


class ProvisionKeyJSON(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A key. `provisionDeviceSecret` is there once, in the answer to its creation: it is not kept."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    customer_id: EntityId
    provision_device_key: str
    provision_type: ProvisionStrategy
    device_type: str
    enabled: bool
    uses: Annotated[int, Meta(description="how many became devices with it")]
    last_used_time: EpochMs | None
    provision_device_secret: str | msgspec.UnsetType = msgspec.UNSET


def provision_key_json(key: ProvisionKey, *, secret: str | msgspec.UnsetType = msgspec.UNSET) -> ProvisionKeyJSON:
    return ProvisionKeyJSON(
        id=EntityId("PROVISION_KEY", key.id),
        created_time=key.created_time,
        tenant_id=EntityId("TENANT", key.tenant_id),
        customer_id=customer_ref(key.customer_id),
        provision_device_key=key.key,
        provision_type=key.strategy,
        device_type=key.device_type,
        enabled=key.enabled,
        uses=key.uses,
        last_used_time=key.last_used_time,
        provision_device_secret=secret,
    )


class ClaimBody(msgspec.Struct, rename="camel"):
    """What the device and its new owner both know; empty if the device named none."""

    secret_key: Plain | None = None


class ClaimJSON(msgspec.Struct):
    """The device is the caller's customer's now."""

    response: Literal["SUCCESS"]
    device: DeviceJSON


def claim_json(device: Device) -> ClaimJSON:
    return ClaimJSON("SUCCESS", device_json(device))
