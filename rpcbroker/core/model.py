"""The records of the broker: frozen values that every wing may hold and none can change.

Times named `*_time` are epoch milliseconds, as on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


class Authority(StrEnum):
    """What a user may do at most."""

    SYS_ADMIN = "SYS_ADMIN"
    TENANT_ADMIN = "TENANT_ADMIN"
    CUSTOMER_USER = "CUSTOMER_USER"


class CredentialsType(StrEnum):
    """How a device proves who it is."""

    ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the name of a kind, not a secret
    MQTT_BASIC = "MQTT_BASIC"
    X509_CERTIFICATE = "X509_CERTIFICATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An organisation; nothing of it is ever visible to another one."""

    id: UUID
    name: str
    created_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or program that logs in. `password_hash` is None until the user is activated."""

    id: UUID
    tenant_id: UUID
    customer_id: UUID | None = None
    email: str
    authority: Authority
    password_hash: str | None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    enabled: bool = True
    created_time: int
    additional_info: Any = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A thing that can be called. `additional_info` is any JSON value."""

    id: UUID
    tenant_id: UUID
    customer_id: UUID | None = None
    name: str
    type: str = "default"
    label: str | None = None
    created_time: int
    additional_info: Any = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How one device proves who it is; each device has exactly one.

    `credentials_id` is unique in the store: the access token itself, or a digest of the
    MQTT_BASIC client id and user name. `credentials_value` is the JSON text of MQTT_BASIC,
    the PEM body of a certificate, or None.
    """

    id: UUID
    device_id: UUID
    type: CredentialsType
    credentials_id: str
    credentials_value: str | None = None
    created_time: int
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPresence:
    """What is known of a device's presence from before this process; epoch ms, None for never."""

    device_id: UUID
    connected_time: int | None = None
    connected_cause: str | None = None
    disconnected_time: int | None = None
    disconnected_cause: str | None = None
    seen_time: int | None = None
    seen_cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLink:
    """Which part of a list is asked for; `page` counts from 0.

    `sort_property` is one of `SORT_PROPERTIES`.
    """

    page_size: int
    page: int = 0
    text_search: str | None = None
    type: str | None = None
    sort_property: str = "created_time"
    descending: bool = False


SORT_PROPERTIES = frozenset({"created_time", "name", "type", "label"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One part of a list, and how much there is in all."""

    items: tuple[T, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Everything that a right depends on, and nothing else."""

    user_id: UUID
    tenant_id: UUID
    customer_id: UUID | None
    authority: Authority
    email: str
    session_id: str
