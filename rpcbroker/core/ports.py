"""What the ground asks of the wings: interfaces only, so that nobody has to import a wing.

Over 400 lines, most of them sentences: they are the contract of every store, which tests hold against three of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.core.boards import KeptBoards
from rpcbroker.core.bulk import Bulk, BulkEntry, BulkFilter, Change, EntryState, Target
from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.model import (
    ApiKey,
    Attribute,
    AuditEntry,
    AuditFilter,
    Authority,
    Claim,
    Credentials,
    Customer,
    Device,
    DeviceFilter,
    DeviceInfo,
    KnownDevice,
    LastPresence,
    Page,
    PageLink,
    ProvisionKey,
    Relation,
    Scope,
    StoredChain,
    StoredSeries,
    Tenant,
    User,
)
from rpcbroker.core.presence import PresenceChange
from rpcbroker.core.records import CallRecord, KeptCall
from rpcbroker.core.values import Value


class CloseReason(StrEnum):
    """Why the broker ends a link."""

    TAKEN_OVER = "taken over by a newer connection of the same device"
    CREDENTIALS_CHANGED = "credentials changed"
    RIGHTS_CHANGED = "rights to topics changed"
    DEVICE_DELETED = "device deleted"
    DELIVERY_TIMEOUT = "calls were not acknowledged"
    SHUTTING_DOWN = "server shutting down"


class Link(Protocol):
    """One live way to a device.

    A link reports what becomes of a call to its DeviceSession (`session.report`), at once,
    inside `deliver`, or later.
    """

    protocol: str
    """The protocol's name as people know it: `MQTT`."""
    transient: bool
    """A device has one lasting link: a new one closes the older. Transient ones, such as polls, are beside it."""

    def deliver(self, call: Call) -> bool | None:
        """Give the call to the device. Never raises: what goes wrong is reported.

        False: not now. The link will call `session.resume` when it can take more. None: the device was given it over
        this link, or over one that this link goes on with, before the call left memory and came back.
        """

    def cancel(self, call: Call) -> bool:
        """Tell the device that nobody waits for this call, which it was given, any more.

        False: it cannot be told now. Asked only of devices that want to hear it.
        """

    def close(self, reason: CloseReason) -> None:
        """End the link; the session has already forgotten it."""

    def attributes_changed(self, update: bytes) -> None:
        """Tell the device about its shared attributes: JSON text `{"k":v}` or `{"deleted":["k"]}`. Never raises."""

    def why_not_callable(self) -> str:
        """Half a sentence for hints: what the device has not done yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStore:
    """What a store knows when it opens.

    `wire_ids_reserved`: no device was ever given a wire id above this number.
    `revoked`: session id of a login -> epoch ms until which its tokens must be refused.
    `revoked_users`: user -> epoch ms; tokens that were issued up to then must be refused.
    """

    first_start: bool
    wire_ids_reserved: int
    revoked: dict[str, int]
    revoked_users: dict[UUID, int]
    api_keys: tuple[tuple[ApiKey, User], ...]
    default_tenant: UUID
    """The oldest one: a first start made it."""
    waiting_calls: dict[UUID, int]
    """Device -> how many persistent calls have not ended."""
    next_due: int | None
    """When the first of them has to be looked at, epoch ms."""
    running_bulks: tuple[Bulk, ...] = ()
    """Those that have not ended, the oldest first."""
    rule_chains: tuple[StoredChain, ...] = ()


class StoreError(Exception):
    """The store cannot be opened; the text is one line for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What a deletion took along: users that are deleted, devices that are deleted or without a customer now."""

    devices: tuple[UUID, ...]
    users: tuple[UUID, ...]


class People(Protocol):
    """Tenants, customers, users and API keys.

    Creating and updating fail with AlreadyExists for a title or an email that is taken, with NotFound
    when what it belongs to is gone; updating fails with VersionConflict unless the stored version is one
    less, updating and deleting with NotFound when it is gone. `revoked` (epoch ms) is kept with the change:
    tokens of these users that were issued up to then are not good any more.
    """

    def tenant(self, tenant_id: UUID) -> Deferred[Tenant | None]: ...

    def tenants(self, link: PageLink) -> Deferred[Page[Tenant]]: ...

    def create_tenant(self, tenant: Tenant) -> Deferred[None]: ...

    def update_tenant(self, tenant: Tenant) -> Deferred[None]: ...

    def delete_tenant(self, tenant_id: UUID, *, revoked: int) -> Deferred[Gone]:
        """With all that is its: devices, customers, users, keys, audit."""

    def customer(self, customer_id: UUID) -> Deferred[Customer | None]: ...

    def customer_by_title(self, tenant_id: UUID, title: str) -> Deferred[Customer | None]: ...

    def customers(self, tenant_id: UUID, link: PageLink) -> Deferred[Page[Customer]]: ...

    def create_customer(self, customer: Customer) -> Deferred[None]: ...

    def update_customer(self, customer: Customer) -> Deferred[None]: ...

    def delete_customer(self, customer_id: UUID, *, revoked: int) -> Deferred[Gone]:
        """With its users; its devices belong to no customer then."""

    def user(self, user_id: UUID) -> Deferred[User | None]: ...

    def user_by_email(self, email: str) -> Deferred[User | None]:
        """Emails are compared without regard to case."""

    def users(
        self, tenant_id: UUID, link: PageLink, *, customer_id: UUID | None = None, authority: Authority | None = None
    ) -> Deferred[Page[User]]: ...

    def create_user(self, user: User) -> Deferred[None]: ...

    def update_user(self, user: User, *, revoked: int | None = None) -> Deferred[None]: ...

    def delete_user(self, user_id: UUID, *, revoked: int) -> Deferred[None]:
        """With the user's keys."""

    def revoke_session(self, session_id: str, until: int) -> Deferred[None]:
        """The tokens of this session are not good any more; `until` (epoch ms) when the last one expires."""

    def forget_revoked(self, *, now: int, since: int) -> Deferred[None]:
        """Forget the sessions revoked until `now` or before, and the users whose tokens up to `since` are."""

    def api_keys(self, user_id: UUID, link: PageLink) -> Deferred[Page[ApiKey]]: ...

    def create_api_key(self, key: ApiKey, *, most: int) -> Deferred[User]:
        """Fires with its user, as it is by then. Fails with InvalidRequest if the user has `most` keys already."""

    def update_api_key(self, key: ApiKey) -> Deferred[User]:
        """All but when it was last used. Fires with its user, as it is by then."""

    def delete_api_key(self, key_id: UUID) -> Deferred[None]: ...

    def used_api_keys(self, times: Mapping[UUID, int]) -> Deferred[None]:
        """Key -> epoch ms of its last use; those that are gone are passed over."""


class Enrolment(Protocol):
    """How strangers become devices, and devices somebody's."""

    def provision_key(self, key_id: UUID) -> Deferred[ProvisionKey | None]: ...

    def provision_key_named(self, key: str) -> Deferred[ProvisionKey | None]:
        """The one that strangers know as `key`, whosever it is."""

    def provision_keys(self, tenant_id: UUID, link: PageLink) -> Deferred[Page[ProvisionKey]]: ...

    def create_provision_key(self, key: ProvisionKey) -> Deferred[None]:
        """Fails with AlreadyExists for a key taken anywhere, with NotFound when its tenant or customer is gone."""

    def enable_provision_key(self, key_id: UUID, enabled: bool) -> Deferred[None]:
        """Whether it lets anybody in. Fails with NotFound when it is gone."""

    def delete_provision_key(self, key_id: UUID) -> Deferred[None]:
        """What was provisioned with it stays."""

    def create_provisioned(self, device: Device, credentials: Credentials, key_id: UUID) -> Deferred[None]:
        """A new device, and that it came by this key. Fails as `Store.create_device`, and when the key is gone."""

    def provision(self, device_id: UUID, key_id: UUID, time: int, credentials: Credentials | None) -> Deferred[None]:
        """A device that was there has come by this key at `time`, and has these credentials now, if any.

        Fails with AlreadyExists if it came before or the credentials are taken, with NotFound when it or the key is
        gone, with VersionConflict.
        """

    def offer(self, claim: Claim) -> Deferred[None]:
        """In the place of what the device has offered before. Fails with NotFound when it is gone."""

    def offered(self, device_id: UUID) -> Deferred[Claim | None]: ...

    def take(self, device: Device, claim: Claim) -> Deferred[None]:
        """The device belongs to its customer now, and the offer has ended.

        Fails with NotFound unless that is still what it offers, and as `Store.update_device`.
        """


class AuditLog(Protocol):
    """Who did what."""

    def append(self, entries: Sequence[AuditEntry], *, since: int, max_entries: int) -> Deferred[None]:
        """Add the entries, then forget those older than `since`, and what a tenant has beyond `max_entries` and a few.

        Entries of tenants that are gone are passed over.
        """

    def entries(self, wanted: AuditFilter, link: PageLink) -> Deferred[Page[AuditEntry]]: ...


NumberedPoint = tuple[int, int, Value]
"""A point that was posted: its number among those of its key, its time (epoch ms), its value."""


class KeptValues(Protocol):
    """Telemetry and attributes of devices. An empty sequence of keys, or of scopes, means all."""

    def series_counts(self, device_id: UUID) -> Deferred[dict[str, int]]:
        """For each key of telemetry that there is: how many points were posted."""

    def save_points(self, batch: Sequence[tuple[UUID, str, Sequence[NumberedPoint]]], *, window: int) -> Deferred[None]:
        """Device, key, and points that were posted, in their order. Of each key the last `window` are kept, and the
        latest. Doing it again changes nothing. What is of devices that are gone is passed over."""

    def series(self, device_id: UUID, keys: Sequence[str], *, window: int) -> Deferred[dict[str, StoredSeries]]:
        """Those of these keys that there are; with a `window` of 0 only the latest points."""

    def delete_series(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int, keep_latest: bool, window: int
    ) -> Deferred[set[str]]:
        """Delete points of these keys from `start` to before `end`. Fires with the keys of which nothing is left.

        When the latest point goes, the latest of those that are left takes its place, if it is of the last `window`.
        `keep_latest`: it stays.
        """

    def attributes(
        self, device_id: UUID, *, scopes: Sequence[Scope], keys: Sequence[str], after_writes: bool
    ) -> Deferred[tuple[Attribute, ...]]:
        """Those that there are, in the order of scopes and keys. `after_writes`: those that are queued come first."""

    def save_attributes(
        self,
        device_id: UUID,
        scope: Scope,
        values: Mapping[str, Value],
        *,
        now: int,
        most: int,
        only_changed: bool = False,
    ) -> Deferred[list[str]]:
        """Fires with the keys that were written: all, or with `only_changed` those of which another value stood there.

        Fails with NotFound if the device is gone, with InvalidRequest if the scope would have more than `most`.
        """

    def delete_attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[list[str]]:
        """Fires with those that there were, in the order of `keys`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which persistent calls are asked for; None is any. `since` is epoch ms, included."""

    devices: DeviceFilter
    state: CallState | None = None
    method: str | None = None
    since: int | None = None


class KeptCalls(Protocol):
    """Persistent calls. Ids are the tenant's own. What is asked is answered with all that was written before."""

    def insert(self, kept: KeptCall) -> Deferred[None]:
        """A new call. Fails with AlreadyExists for an id taken in the tenant, with NotFound when the device is gone."""

    def advance(self, kept: KeptCall) -> None:
        """It has not ended, but went on. Written a moment later, in the last form by then; lost if the process dies."""

    def end(self, kept: KeptCall) -> Deferred[bool]:
        """It has ended, as its record says. False, and nothing changes, if it had ended before or is gone."""

    def call(self, tenant_id: UUID, rpc_id: UUID) -> Deferred[KeptCall | None]: ...

    def waiting(self, device_id: UUID, *, after: int, limit: int) -> Deferred[list[KeptCall]]:
        """Those of a device that have not ended, by their wire ids, which are above `after`."""

    def waiting_call(self, device_id: UUID, wire_id: int) -> Deferred[KeptCall | None]:
        """The one of that wire id, if it has not ended."""

    def due(self, now: int, *, limit: int) -> Deferred[list[KeptCall]]:
        """Those that have not ended and are due at `now` (epoch ms), the first ones first."""

    def next_due(self) -> Deferred[int | None]:
        """When the next of those that have not ended is due, epoch ms."""

    def of_device(self, device_id: UUID, link: PageLink, *, state: CallState | None = None) -> Deferred[Page[KeptCall]]:
        """`link.sort_property` is id, created_time, expiration_time, request (that is the method) or response.

        Fails with InvalidRequest for calls that are too large together.
        """

    def records(self, wanted: CallFilter, *, limit: int) -> Deferred[Page[CallRecord]]:
        """The newest `limit` of them without their moments, the newest first, and how many there are in all."""

    def delete(self, tenant_id: UUID, rpc_id: UUID) -> Deferred[bool]:
        """False when there was none."""

    def forget_ended(self, before: int, *, limit: int) -> Deferred[int]:
        """Delete up to `limit` of those that ended before that time (epoch ms). Fires with how many these were."""


class KeptBulks(Protocol):
    """Requests for many devices. What is asked is answered with all that was written before."""

    def targets(
        self, wanted: DeviceFilter, ids: Sequence[UUID] | None, *, limit: int
    ) -> Deferred[list[tuple[UUID, str]]]:
        """Id and name of up to `limit` devices, the oldest first; those with one of these ids, if there are any."""

    def create(self, bulk: Bulk, devices: Sequence[tuple[UUID, str]]) -> Deferred[Bulk]:
        """A new one, and its devices in this order. Fires with it as it is kept, under the next `sequence`.

        Fails with AlreadyExists for an id that is taken in the tenant, with NotFound when the tenant is gone.
        """

    def save(self, bulk: Bulk, changes: Sequence[Change], *, abort_from: int | None) -> Deferred[None]:
        """How it goes on, and what became of its devices. Doing it again changes nothing.

        With `abort_from`, all that still wait then are aborted, and count as ended from that number on.
        What is of a bulk that is gone is passed over.
        """

    def bulk(self, tenant_id: UUID, bulk_id: UUID) -> Deferred[Bulk | None]: ...

    def bulks(self, wanted: BulkFilter, link: PageLink) -> Deferred[Page[Bulk]]: ...

    def entries(self, sequence: int, link: PageLink, *, state: EntryState | None) -> Deferred[list[BulkEntry]]:
        """One part of them, by their numbers; how many there are stands in `Bulk.counts`."""

    def ended(self, sequence: int, *, after: int, limit: int) -> Deferred[list[BulkEntry]]:
        """Those that have ended, in that order, whose `ended` is above `after`."""

    def in_state(self, sequence: int, state: EntryState, *, after: int, limit: int) -> Deferred[list[Target]]:
        """Those in this state, by their numbers, which are above `after`."""

    def progress(self, sequence: int, *, below: int) -> Deferred[tuple[int, int]]:
        """The highest `ended` so far, and how many of those with numbers below this one were successful."""

    def forget_ended(self, before: int, *, limit: int) -> Deferred[int]:
        """Delete up to `limit` of those that ended before that time (epoch ms). Fires with how many these were."""


class KeptRules(Protocol):
    """Rule chains, and relations between devices."""

    def save_chain(self, chain: StoredChain) -> Deferred[None]:
        """A new one if its version is 1. Fails with AlreadyExists for an id that is taken, with NotFound when it or its
        tenant is gone, with VersionConflict unless the stored version is one less. What it says of `root` of a chain
        that is there does not count."""

    def set_root(self, tenant_id: UUID, chain_id: UUID, *, demoted: StoredChain | None) -> Deferred[None]:
        """This chain is the root now, and no other one of the tenant; `demoted` is inserted with it. Fails with
        NotFound when the chain is gone."""

    def delete_chain(self, tenant_id: UUID, chain_id: UUID) -> Deferred[bool]:
        """False when there was none, or it is the root."""

    def relate(self, relation: Relation, *, most: int) -> Deferred[None]:
        """Insert or replace. Fails with NotFound when one of the devices is not there, or is of another tenant, with
        InvalidRequest if the source has `most` relations from it already, or the target `most` to it."""

    def unrelate(self, relation: Relation) -> Deferred[bool]:
        """False when there was none."""

    def relations(
        self, tenant_id: UUID, *, source: UUID | None = None, target: UUID | None = None, type_: str = ""
    ) -> Deferred[list[Relation]]:
        """Those from `source`, to `target`, or both; of any type if it is empty. In the order of types and ids."""

    def related(
        self, tenant_id: UUID, device_id: UUID, *, outward: bool, type_: str, levels: int, limit: int
    ) -> Deferred[list[UUID]]:
        """Devices that can be reached over at most `levels` relations, from source to target if `outward`, else the
        other way; nearest first, each once, never the device itself."""


class Store(Protocol):
    """What outlives the process. Every Deferred of a write fires when the write is durable.

    Reads of what does not exist fire with None. All other failures are BrokerErrors.
    """

    @property
    def people(self) -> People: ...

    @property
    def audit(self) -> AuditLog: ...

    @property
    def values(self) -> KeptValues: ...

    @property
    def calls(self) -> KeptCalls: ...

    @property
    def bulks(self) -> KeptBulks: ...

    @property
    def enrolment(self) -> Enrolment: ...

    @property
    def rules(self) -> KeptRules: ...

    @property
    def boards(self) -> KeptBoards: ...

    def open(self, *, first_records: Callable[[], tuple[Tenant, User]]) -> OpenedStore:
        """Connect, migrate, load. Blocking: called once, before the reactor runs.

        A store without any user is given what `first_records` returns; it is called for such a store only.
        Raises StoreError.
        """

    def close(self) -> Deferred[None]:
        """Write what is queued, then let go of everything."""

    def reserve_wire_ids(self, upto: int) -> Deferred[None]: ...

    def device(self, device_id: UUID) -> Deferred[Device | None]: ...

    def device_by_name(self, tenant_id: UUID, name: str) -> Deferred[Device | None]: ...

    def devices(self, wanted: DeviceFilter, link: PageLink) -> Deferred[Page[DeviceInfo]]: ...

    def device_types(self, wanted: DeviceFilter) -> Deferred[tuple[str, ...]]:
        """In the order of the alphabet."""

    def create_device(
        self, device: Device, credentials: Credentials, relation: Relation | None = None
    ) -> Deferred[None]:
        """Fails with AlreadyExists for a name taken in the tenant or credentials taken anywhere,
        with NotFound when its tenant or its customer is gone. A relation is kept in the same transaction, however
        many there are, unless it is there; it fails with NotFound when the other device is gone."""

    def update_device(
        self, device: Device, credentials: Credentials | None = None, relation: Relation | None = None
    ) -> Deferred[None]:
        """`device.version` is the new one; fails with VersionConflict unless the stored one is one less,
        with AlreadyExists for a name taken, with NotFound when it is gone. Credentials, if given, are
        replaced in the same transaction, by the same rules. A relation is kept as by `create_device`."""

    def delete_device(self, device_id: UUID) -> Deferred[bool]:
        """With its credentials, presence and values. False when there was none."""

    def credentials(self, device_id: UUID) -> Deferred[Credentials | None]: ...

    def update_credentials(self, credentials: Credentials) -> Deferred[None]:
        """Replaces those of `credentials.device_id`; the same version rule, the same failures."""

    def matching_credentials(self, ids: Sequence[str]) -> Deferred[tuple[KnownDevice, ...]]:
        """Those with one of these `credentials_id`s, in no order. One indexed look-up shared with others, or none.

        Presence that was kept since a device's credentials were last read need not be there yet: it is asked for
        once in a process, when the device first comes.
        """

    def presence(self, device_id: UUID) -> Deferred[LastPresence | None]: ...

    def save_presence(
        self, presences: Sequence[LastPresence], changes: Sequence[PresenceChange] = (), *, forget: int | None = None
    ) -> Deferred[None]:
        """Insert or replace, and add what changed; what is of devices that are gone is passed over.

        Of each device the newest MOST_CHANGES stay; of those before `forget` (epoch ms) only the newest.
        """

    def presence_changes(self, device_id: UUID, since: int) -> Deferred[list[PresenceChange]]:
        """Those from `since` (epoch ms) on, the oldest first, led by the last one before, if it is known."""

    def ping(self) -> Deferred[None]:
        """One read round trip; for readiness. Fails, once damage has shown, until the store is opened again."""

    def ping_writer(self) -> Deferred[None]:
        """A small write that is durable when it fires, behind all that are queued; for readiness."""

    @property
    def queued(self) -> int:
        """Writes that wait for their turn."""

    @property
    def commits(self) -> int:
        """Transactions written so far."""

    @property
    def failures(self) -> int:
        """Reads and writes that failed so far, other than by a rule of the store such as a name taken."""
