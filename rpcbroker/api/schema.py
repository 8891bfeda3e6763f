"""The JSON of the REST API: bodies, queries and answers, as the vendors' strict SDKs demand them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import msgspec

from rpcbroker.core.model import Credentials, CredentialsType, Device, Page, User
from rpcbroker.core.presence import Fact, Presence

NULL_UUID = UUID("13814000-1dd2-11b2-8080-808080808080")
"""What the wire has where there is no customer."""


class EntityId(msgspec.Struct, rename="camel"):
    """An id as the wire has it: never a bare UUID."""

    entity_type: str
    id: UUID


class Id(msgspec.Struct):
    """The id of something that is no entity."""

    id: UUID


# -- logging in


class LoginBody(msgspec.Struct):
    username: str
    password: str


class RefreshBody(msgspec.Struct, rename="camel"):
    refresh_token: str


class TokenPair(msgspec.Struct, rename="camel"):
    token: str
    refresh_token: str


class UserJSON(msgspec.Struct, rename="camel"):
    id: EntityId
    created_time: int
    tenant_id: EntityId
    customer_id: EntityId
    email: str
    name: str
    authority: str
    first_name: str | None
    last_name: str | None
    phone: str | None
    version: int
    additional_info: Any


def user_json(user: User) -> UserJSON:
    return UserJSON(
        id=EntityId("USER", user.id),
        created_time=user.created_time,
        tenant_id=EntityId("TENANT", user.tenant_id),
        customer_id=EntityId("CUSTOMER", user.customer_id or NULL_UUID),
        email=user.email,
        name=user.email,
        authority=user.authority.value,
        first_name=user.first_name,
        last_name=user.last_name,
        phone=user.phone,
        version=user.version,
        additional_info=user.additional_info,
    )


# -- devices


class DeviceBody(msgspec.Struct, rename="camel"):
    """What may be said of a device; other members of the wire's Device are taken and passed over."""

    name: str
    id: EntityId | None = None
    type: str | None = None
    label: str | None = None
    additional_info: Any = None
    version: int | None = None


class SaveDeviceQuery(msgspec.Struct, rename="camel"):
    access_token: str | None = None


class DeviceListQuery(msgspec.Struct, rename="camel"):
    page_size: int | None = None
    page: int = 0
    text_search: str | None = None
    type: str | None = None
    sort_property: str | None = None
    sort_order: str = "ASC"
    device_name: str | None = None


class DeviceNameQuery(msgspec.Struct, rename="camel"):
    device_name: str


class DeviceJSON(msgspec.Struct, rename="camel"):
    id: EntityId
    created_time: int
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


def device_json(device: Device) -> DeviceJSON:
    return DeviceJSON(
        id=EntityId("DEVICE", device.id),
        created_time=device.created_time,
        tenant_id=EntityId("TENANT", device.tenant_id),
        customer_id=EntityId("CUSTOMER", device.customer_id or NULL_UUID),
        name=device.name,
        type=device.type,
        label=device.label,
        device_profile_id=EntityId("DEVICE_PROFILE", uuid5(device.tenant_id, device.type)),
        firmware_id=None,
        software_id=None,
        external_id=None,
        version=device.version,
        additional_info=device.additional_info,
        device_data={"configuration": {"type": "DEFAULT"}, "transportConfiguration": {"type": "DEFAULT"}},
    )


class PageJSON(msgspec.Struct, rename="camel"):
    data: list[Any]
    total_pages: int
    total_elements: int
    has_next: bool


def page_json(page: Page[Any], items: list[Any], *, page_size: int, number: int) -> PageJSON:
    pages = -(-page.total // page_size)
    return PageJSON(items, pages, page.total, number + 1 < pages)


class CredentialsBody(msgspec.Struct, rename="camel"):
    device_id: EntityId
    credentials_type: CredentialsType
    id: Id | None = None
    credentials_id: str | None = None
    credentials_value: str | None = None
    version: int | None = None


class CredentialsJSON(msgspec.Struct, rename="camel"):
    id: Id
    created_time: int
    device_id: EntityId
    credentials_type: str
    credentials_id: str
    credentials_value: str | None
    version: int


def credentials_json(credentials: Credentials) -> CredentialsJSON:
    return CredentialsJSON(
        id=Id(credentials.id),
        created_time=credentials.created_time,
        device_id=EntityId("DEVICE", credentials.device_id),
        credentials_type=credentials.type.value,
        credentials_id=credentials.credentials_id,
        credentials_value=credentials.credentials_value,
        version=credentials.version,
    )


class FactJSON(msgspec.Struct):
    value: bool
    time: int | None
    cause: str | None


class SeenJSON(msgspec.Struct):
    time: int | None
    cause: str | None


class PresenceJSON(msgspec.Struct, rename="camel"):
    device_id: EntityId
    connected: FactJSON
    callable: FactJSON
    last_seen: SeenJSON
    pending_calls: int
    dropped_replies: int


def presence_json(device_id: UUID, presence: Presence, *, pending_calls: int, dropped_replies: int) -> PresenceJSON:
    def fact(of: Fact) -> FactJSON:
        return FactJSON(of.value, of.time, of.cause)

    return PresenceJSON(
        device_id=EntityId("DEVICE", device_id),
        connected=fact(presence.connected),
        callable=fact(presence.callable),
        last_seen=SeenJSON(presence.seen_time, presence.seen_cause),
        pending_calls=pending_calls,
        dropped_replies=dropped_replies,
    )
