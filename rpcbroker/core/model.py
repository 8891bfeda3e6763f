"""The records of the broker: frozen values that every wing may hold and none can change.

Times named `*_time` are epoch milliseconds, as on the wire.

Over 400 lines: what the broker keeps and speaks of, in one place for all floors above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

T = TypeVar("T")

NULL_UUID = UUID("13814000-1dd2-11b2-8080-808080808080")
"""The tenant of a system administrator, and on the wire the customer of what has none."""


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
    """An organisation; nothing of it is ever visible to another one.

    `contact` has the members of the wire's contact that are given: country, city, email ...
    """

    id: UUID
    title: str
    created_time: int
    contact: Mapping[str, str] = field(default_factory=dict)
    additional_info: Any = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChain:
    """A rule chain of a tenant, as it is kept. `graph` is JSON text: its nodes and connections.

    One chain of a tenant is its `root`: there messages begin.
    """

    id: UUID
    tenant_id: UUID
    name: str
    root: bool = False
    debug: bool = False
    graph: bytes
    additional_info: Any = None
    created_time: int
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One device is related to another of its tenant; `type` is the user's word for how."""

    tenant_id: UUID
    source: UUID
    target: UUID
    type: str
    additional_info: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Somebody whom a tenant lets use some of its devices; customers do not see each other's."""

    id: UUID
    tenant_id: UUID
    title: str
    created_time: int
    contact: Mapping[str, str] = field(default_factory=dict)
    additional_info: Any = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or program that logs in. `tenant_id` is NULL_UUID for system administrators.

    `password_hash` is None until the user is activated: until then `activation_nonce` is what the
    link is made of, and `activation_until` (epoch ms) when it ceases to be good.
    """

    id: UUID
    tenant_id: UUID
    customer_id: UUID | None = None
    email: str
    authority: Authority
    password_hash: str | None
    activation_nonce: str | None = None
    activation_until: int | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    enabled: bool = True
    created_time: int
    additional_info: Any = None
    version: int = 1


class KeyAccess(StrEnum):
    """What an API key is for. Each includes the one before."""

    READ = "READ"
    """Look at devices, at their presence and at calls; not at secrets."""
    CALL = "CALL"
    """Call devices."""
    MANAGE = "MANAGE"
    """All that its user may do, but handle users, passwords and API keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyScope:
    """What an API key may do; each restriction that is given must hold, an empty one is none.

    `methods` are patterns such as `get*`, where `*` is any text. `device_ids`, `device_types` and `customer_id` say
    which devices there are for this key.
    """

    access: KeyAccess = KeyAccess.MANAGE
    methods: tuple[str, ...] = ()
    oneway: bool = True
    twoway: bool = True
    device_ids: tuple[UUID, ...] = ()
    device_types: tuple[str, ...] = ()
    customer_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that speaks for a user without a login. What is stored of the key itself is a digest.

    `hint` is the key's beginning, for people to tell it by. `expiration_time` 0 is never.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    description: str
    digest: str
    hint: str
    scope: KeyScope
    enabled: bool = True
    expiration_time: int = 0
    created_time: int
    last_used_time: int | None = None


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

    @property
    def is_gateway(self) -> bool:
        """Whether it may speak for other devices."""
        return isinstance(self.additional_info, dict) and self.additional_info.get("gateway") is True

    @property
    def hears_cancel(self) -> bool:
        """Whether it wants to be told of calls that nobody waits for any more."""
        return isinstance(self.additional_info, dict) and self.additional_info.get("rpcCancel") is True

    @property
    def psm(self) -> Any:
        """What `additionalInfo.psm` says of saving power: True, or milliseconds; None where it is silent."""
        return self.additional_info.get("psm") if isinstance(self.additional_info, dict) else None

    @property
    def submit_strategy(self) -> str | None:
        """What `additionalInfo.rpcSubmitStrategy` says, unchecked; None where it says nothing."""
        word = self.additional_info.get("rpcSubmitStrategy") if isinstance(self.additional_info, dict) else None
        return word if isinstance(word, str) else None

    @property
    def topic_rights(self) -> Any:
        """What `additionalInfo.pubsub` says of free topics, unchecked; None where it says nothing."""
        return self.additional_info.get("pubsub") if isinstance(self.additional_info, dict) else None


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


class ProvisionStrategy(StrEnum):
    """Which devices a provision key lets in. The words are those of the wire."""

    ALLOW_CREATE_NEW_DEVICES = "ALLOW_CREATE_NEW_DEVICES"
    """New ones only: a name that is taken is refused."""
    CHECK_PRE_PROVISIONED_DEVICES = "CHECK_PRE_PROVISIONED_DEVICES"
    """Those that somebody has added before, by their names, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionKey:
    """What strangers show in order to become devices of a tenant; `digest` is that of the secret beside the key.

    New devices are of `device_type`, and of the customer if there is one. `uses` is how many became devices.
    """

    id: UUID
    tenant_id: UUID
    customer_id: UUID | None = None
    key: str
    digest: str
    device_type: str = "default"
    strategy: ProvisionStrategy = ProvisionStrategy.ALLOW_CREATE_NEW_DEVICES
    enabled: bool = True
    created_time: int
    uses: int = 0
    last_used_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A device's offer to belong to the customer whose user knows the secret, until `until_time`."""

    device_id: UUID
    digest: str
    until_time: int


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


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device, what lets it in, and its presence from before this process: None if it was never there.

    Of its Credentials only what proves who it is, for many thousands of these are kept in memory.
    """

    type: CredentialsType
    credentials_id: str
    credentials_value: str | None
    device: Device
    presence: LastPresence | None


class Scope(StrEnum):
    """Who writes an attribute, and who may know it."""

    CLIENT = "CLIENT_SCOPE"
    """The device writes it."""
    SERVER = "SERVER_SCOPE"
    """Applications write it, and the device never sees it."""
    SHARED = "SHARED_SCOPE"
    """Applications write it, and the device is told."""


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """The present value of an attribute, as JSON text; `updated_time` is when it was last written."""

    scope: Scope
    key: str
    updated_time: int
    value: msgspec.Raw


class Point(msgspec.Struct, frozen=True, gc=False):
    """One value of a series of telemetry, as JSON text, and the time that it is of, epoch ms."""

    ts: int
    value: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """What the store has of one key of telemetry.

    `latest` is the point with the latest time, of those the one posted last. `points` are those posted last of
    all, in that order, each with its number: points are counted as they are posted.
    """

    latest: Point
    points: tuple[tuple[int, Point], ...] = ()


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who did what to what, and how it ended. `failure` is empty for a success.

    `data` is any JSON, or what becomes JSON by `jsontext.encode`; of a call its method and direction, and its
    params only if the settings say so. `sequence` is its number in the store. Every call makes an entry: a
    msgspec.Struct is made in a fraction of the time that a dataclass takes.
    """

    created_time: int
    tenant_id: UUID
    customer_id: UUID | None
    entity_type: str
    entity_id: UUID
    entity_name: str | None
    user_id: UUID
    user_name: str
    action: str
    data: Any
    failure: str
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries are asked for; None is any. Times are epoch ms, both ends included."""

    tenant_id: UUID
    customer_id: UUID | None = None
    user_id: UUID | None = None
    entity: tuple[str, UUID] | None = None
    actions: tuple[str, ...] = ()
    start_time: int | None = None
    end_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLink:
    """Which part of a list is asked for; `page` counts from 0. `sort_property` is a member of the record."""

    page_size: int
    page: int = 0
    text_search: str | None = None
    sort_property: str = "created_time"
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilter:
    """Which devices are asked for; None, or an empty tuple, is any. Each one that is given must hold."""

    tenant_id: UUID
    customer_ids: tuple[UUID, ...] = ()
    types: tuple[str, ...] = ()
    ids: tuple[UUID, ...] = ()
    connected: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A device as lists show it: `connected` is as the store has it, a second late at most."""

    device: Device
    customer_title: str | None
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One part of a list, and how much there is in all."""

    items: tuple[T, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Everything that a right depends on, and nothing else.

    `session_id` is that of the login; a key has its scope and its description instead.
    """

    user_id: UUID
    tenant_id: UUID
    customer_id: UUID | None
    authority: Authority
    email: str
    session_id: str
    scope: KeyScope | None = None
    key_name: str | None = None
