"""Devices, their credentials, their presence."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta

from rpcbroker.core.census import Census
from rpcbroker.core.model import Credentials, CredentialsType, Device, DeviceInfo
from rpcbroker.core.near_misses import HINTS, NearMiss
from rpcbroker.core.presence import Fact, PresenceChange
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.schema.common import (
    UUID_PATTERN,
    EntityId,
    EpochMs,
    Id,
    Info,
    Line,
    PageQuery,
    Text,
    Version,
    customer_ref,
)

TOKEN_PATTERN = r"^[^/+#\u0000-\u001f\u007f]{1,32}$"  # noqa: S105 - a pattern, no token

MAX_CREDENTIALS = 16 << 10
"""Characters of a certificate, or of MQTT_BASIC's JSON."""

DEFAULT_TYPE = "default"
"""The type of a device that names none."""

AccessToken = Annotated[
    str, Meta(description="1 to 32 characters but / + # and controls", extra_json_schema={"pattern": TOKEN_PATTERN})
]


class DeviceBody(msgspec.Struct, rename="camel", kw_only=True):
    """What may be said of a device; other members of the wire's Device are taken and passed over."""

    id: EntityId | None = None
    name: Text
    type: Annotated[Text | None, Meta(description="what kind of device it is; default if absent")] = None
    label: Line | None = None
    additional_info: Info = None
    version: Version = None


class SaveDeviceQuery(msgspec.Struct, rename="camel"):
    """The credentials of a new device."""

    access_token: Annotated[AccessToken | None, Meta(description="made up if absent")] = None


class DeviceListQuery(PageQuery, kw_only=True):
    """Which devices."""

    type: Line | None = None


class DeviceInfoListQuery(PageQuery, kw_only=True):
    """Which devices."""

    type: Line | None = None
    device_profile_id: Annotated[UUID | None, Meta(description="the deviceProfileId of a type")] = None
    active: Annotated[bool | None, Meta(description="only those that are connected, or are not")] = None


class DeviceNameQuery(msgspec.Struct, rename="camel"):
    """Which device."""

    device_name: Text


class TenantDevicesQuery(PageQuery, kw_only=True):
    """Which devices; or, with `deviceName` alone, the one of that name."""

    type: Line | None = None
    page_size: Annotated[
        int | None, Meta(description="how many on a page", extra_json_schema={"minimum": 1, "maximum": 1000})
    ] = None  # type: ignore[assignment]
    device_name: Line | None = None


class DeviceIdsQuery(msgspec.Struct, rename="camel"):
    """Which devices."""

    device_ids: Annotated[
        str,
        Meta(
            description="UUIDs, with commas between them, 1,000 at most",
            extra_json_schema={"pattern": f"^{UUID_PATTERN}(,{UUID_PATTERN})*$"},
        ),
    ]


class DeviceJSON(msgspec.Struct, rename="camel"):
    """A thing that can be called."""

    id: EntityId
    created_time: EpochMs
    tenant_id: EntityId
    customer_id: EntityId
    name: str
    type: str
    label: str | None
    device_profile_id: EntityId
    firmware_id: EntityId | None
    software_id: EntityId | None
    external_id: EntityId | None
    version: int
    additional_info: Any
    device_data: dict[str, dict[str, str]]


class DeviceInfoJSON(DeviceJSON):
    """A device, and what people want to see beside it."""

    customer_title: str | None
    customer_is_public: bool
    device_profile_name: str
    active: Annotated[bool, Meta(description="whether it is connected; a second late at most")]


def profile_id(tenant_id: UUID, type_: str) -> UUID:
    """There are no device profiles here: each type has an id that is always the same."""
    return uuid5(tenant_id, type_)


def _members(device: Device) -> dict[str, Any]:
    return {
        "id": EntityId("DEVICE", device.id),
        "created_time": device.created_time,
        "tenant_id": EntityId("TENANT", device.tenant_id),
        "customer_id": customer_ref(device.customer_id),
        "name": device.name,
        "type": device.type,
        "label": device.label,
        "device_profile_id": EntityId("DEVICE_PROFILE", profile_id(device.tenant_id, device.type)),
        "firmware_id": None,
        "software_id": None,
        "external_id": None,
        "version": device.version,
        "additional_info": device.additional_info,
        "device_data": {"configuration": {"type": "DEFAULT"}, "transportConfiguration": {"type": "DEFAULT"}},
    }


def device_json(device: Device) -> DeviceJSON:
    return DeviceJSON(**_members(device))


def device_info_json(info: DeviceInfo) -> DeviceInfoJSON:
    return DeviceInfoJSON(
        **_members(info.device),
        customer_title=info.customer_title,
        customer_is_public=False,
        device_profile_name=info.device.type,
        active=info.connected,
    )


class EntitySubtypeJSON(msgspec.Struct, rename="camel"):
    """A type of devices."""

    tenant_id: EntityId
    entity_type: str
    type: str


class DeviceProfileInfoJSON(msgspec.Struct, rename="camel"):
    """What scripts ask for in order to name it in a new device."""

    id: EntityId
    tenant_id: EntityId
    name: str
    image: str | None
    default_dashboard_id: EntityId | None
    type: str
    transport_type: str


def default_profile_json(tenant_id: UUID) -> DeviceProfileInfoJSON:
    return DeviceProfileInfoJSON(
        id=EntityId("DEVICE_PROFILE", profile_id(tenant_id, DEFAULT_TYPE)),
        tenant_id=EntityId("TENANT", tenant_id),
        name=DEFAULT_TYPE,
        image=None,
        default_dashboard_id=None,
        type="DEFAULT",
        transport_type="DEFAULT",
    )


# -- credentials


class GivenCredentials(msgspec.Struct, rename="camel", kw_only=True):
    """How a device shall prove who it is."""

    credentials_type: CredentialsType = CredentialsType.ACCESS_TOKEN
    credentials_id: Annotated[str | None, Meta(description="the access token; made up if absent")] = None
    credentials_value: Annotated[
        str | None,
        Meta(
            description="of MQTT_BASIC the JSON text of an object with clientId, userName, password; "
            "of X509_CERTIFICATE the certificate in PEM",
            extra_json_schema={"maxLength": MAX_CREDENTIALS},
        ),
    ] = None


class CredentialsBody(GivenCredentials, kw_only=True):
    """The credentials that replace those of a device."""

    id: Id | None = None
    device_id: EntityId
    version: Version = None


class DeviceWithCredentialsBody(msgspec.Struct):
    """A new device, or a changed one, and how it proves who it is."""

    device: DeviceBody
    credentials: GivenCredentials


class CredentialsJSON(msgspec.Struct, rename="camel"):
    """How a device proves who it is."""

    id: Id
    created_time: EpochMs
    device_id: EntityId
    credentials_type: CredentialsType
    credentials_id: str
    credentials_value: str | None
    version: int


def credentials_json(credentials: Credentials) -> CredentialsJSON:
    return CredentialsJSON(
        id=Id(credentials.id),
        created_time=credentials.created_time,
        device_id=EntityId("DEVICE", credentials.device_id),
        credentials_type=credentials.type,
        credentials_id=credentials.credentials_id,
        credentials_value=credentials.credentials_value,
        version=credentials.version,
    )


# -- fleets


class PutDeviceBody(msgspec.Struct, rename="camel", kw_only=True):
    """What the device of this name shall be like; members that are absent stay as they are."""

    type: Text | None = None
    label: Line | None = None
    additional_info: Info = msgspec.UNSET
    customer_title: Annotated[
        Line | None, Meta(description="the customer that it is assigned to; empty for none; it must exist")
    ] = None
    credentials: GivenCredentials | None = None


class PutResult(StrEnum):
    """What was done, as the header X-Result of the answer says."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


# -- presence


class FactJSON(msgspec.Struct):
    """Whether something holds, since when, and why."""

    value: bool
    time: EpochMs | None
    cause: str | None


class SeenJSON(msgspec.Struct):
    """When the device last sent something, and by which protocol."""

    time: EpochMs | None
    cause: str | None


class MissedJSON(msgspec.Struct, rename="camel"):
    """Something that the device nearly got right, since the broker started."""

    kind: NearMiss
    count: int
    first_time: EpochMs
    last_time: EpochMs
    detail: Annotated[str, Meta(description="what it was the last time: half a sentence after 'it'")]
    hint: Annotated[str, Meta(description="what to do about it")]


class PresenceQuery(msgspec.Struct):
    """Whether changes are asked for, and which."""

    since: Annotated[EpochMs | None, Meta(description="those from this time on; none at all if it is absent")] = None


class PresenceChangeJSON(msgspec.Struct):
    """How it was from `time` on, and why."""

    time: EpochMs
    connected: bool
    callable: bool
    cause: str | None


class PresenceJSON(msgspec.Struct, rename="camel", kw_only=True):
    """Three facts that must not be taken for one another."""

    device_id: EntityId
    connected: FactJSON
    callable: FactJSON
    last_seen: SeenJSON
    pending_calls: int
    dropped_replies: int
    near_misses: Annotated[list[MissedJSON], Meta(description="the newest first")]
    changes: Annotated[
        list[PresenceChangeJSON] | msgspec.UnsetType,
        Meta(
            description="there if `since` was given: the oldest first, led by the last one before that time if it is "
            "known. They are kept for feed.presence_history, and written up to a second late"
        ),
    ] = msgspec.UNSET


class LinkJSON(msgspec.Struct):
    """One connection."""

    protocol: str
    callable: bool


class DiagnosticsJSON(PresenceJSON, kw_only=True):
    """All that is known of why a device can, or cannot, be called."""

    summary: Annotated[str, Meta(description="a sentence for people")]
    links: list[LinkJSON]
    pending_by_state: Annotated[dict[str, int], Meta(description="how many calls wait in which state, such as QUEUED")]


def _presence(session: DeviceSession) -> dict[str, Any]:
    def fact(of: Fact) -> FactJSON:
        return FactJSON(of.value, of.time, of.cause)

    presence = session.presence
    return {
        "device_id": EntityId("DEVICE", session.device.id),
        "connected": fact(presence.connected),
        "callable": fact(presence.callable),
        "last_seen": SeenJSON(presence.seen_time, presence.seen_cause),
        "pending_calls": session.pending_count,
        "dropped_replies": session.missed(NearMiss.UNKNOWN_REPLY),
        "near_misses": [
            MissedJSON(miss, missed.count, missed.first_time, missed.last_time, missed.detail, HINTS[miss])
            for miss, missed in session.near_misses()
        ],
    }


def presence_json(session: DeviceSession, changes: Iterable[PresenceChange] | None = None) -> PresenceJSON:
    """`changes`: if they were asked for."""
    if changes is None:
        return PresenceJSON(**_presence(session))
    told = [PresenceChangeJSON(each.time, each.connected, each.callable, each.cause) for each in changes]
    return PresenceJSON(**_presence(session), changes=told)


def diagnostics_json(session: DeviceSession) -> DiagnosticsJSON:
    now = Census()
    session.count(now)
    return DiagnosticsJSON(
        **_presence(session),
        summary=session.whereabouts(),
        links=[LinkJSON(protocol, protocol in now.callable) for protocol in now.connected.elements()],
        pending_by_state={state.value: count for state, count in now.waiting.items()},
    )
