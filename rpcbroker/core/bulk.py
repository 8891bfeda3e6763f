"""One request for many devices: what is asked, what is kept of it, and the tables of its states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec
from msgspec import structs

from rpcbroker.core.calls import CallRequest
from rpcbroker.core.model import Authority, Principal
from rpcbroker.core.setting import Rate

NO_RATE = Rate(())


class BulkState(StrEnum):
    """Where a bulk is. The words are those of the REST interface."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    """Every device was called, however that ended."""
    ABORTED = "ABORTED"
    """No further device is called; what had begun goes on to its end."""


class EntryState(StrEnum):
    """Where the call of one device is. The words are those of the REST interface."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    """Written before the call is made: without that, nobody could know after a crash that it may have been made."""
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    """Never called."""
    UNKNOWN = "UNKNOWN"
    """Called, or nearly: the broker ended before it knew what the device did. It is not called again."""


class EntryStep(StrEnum):
    """What can happen to the call of one device."""

    BEGUN = "begun"
    PUT_BACK = "put back"
    """It was to be called, and surely was not."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    ABORTED = "aborted"


_S, _E = EntryState, EntryStep
TRANSITIONS: Mapping[tuple[EntryState, EntryStep], EntryState] = {
    (_S.WAITING, _E.BEGUN): _S.RUNNING,
    (_S.WAITING, _E.ABORTED): _S.ABORTED,
    (_S.RUNNING, _E.PUT_BACK): _S.WAITING,
    (_S.RUNNING, _E.SUCCEEDED): _S.SUCCESSFUL,
    (_S.RUNNING, _E.FAILED): _S.FAILED,
    (_S.RUNNING, _E.LOST): _S.UNKNOWN,
}
"""(state, step) -> state. A pair that is not here cannot happen."""

ENDED = frozenset({_S.SUCCESSFUL, _S.FAILED, _S.ABORTED, _S.UNKNOWN})
NOT_SUCCESSFUL = frozenset({_S.FAILED, _S.UNKNOWN})
"""What counts as a failure for `canary` and `abort_after`."""


class Why(StrEnum):
    """Why an entry is as it is, where no call can say so. Stable words of the interface, as core.errors.Reason."""

    DEVICE_ERROR = "DEVICE_ERROR"
    """The device answered with a JSON object that has a member `error`."""
    INTERRUPTED = "INTERRUPTED"
    """The broker ended meanwhile."""
    NOT_ALLOWED = "NOT_ALLOWED"
    """The device belongs to another customer by now."""
    CONFLICT = "CONFLICT"
    """There is another call with the id that this one should have."""
    RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"
    """It worked, and the response is larger than what is kept."""
    FAULT = "FAULT"
    """The broker has a fault; its log says more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlan:
    """How the devices are called. `rate` () is without limit, `canary` 0 none, `abort_after` None never."""

    concurrency: int
    rate: Rate = NO_RATE
    canary: int = 0
    abort_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One request for many devices. Ids are the tenant's own.

    `sequence` is its number in the store. `content` is a digest of what was asked for, `narrowed` of which devices
    there were for the API key that asked, empty for all of its user's. `user_name` is who asked, as people know it.
    `counts` has each state. It goes on while `ended_time` is None: an aborted one until the last call that had
    begun has ended.
    """

    id: UUID
    tenant_id: UUID
    user_id: UUID
    customer_id: UUID | None
    user_name: str
    narrowed: str = ""
    content: str
    request: CallRequest
    plan: BulkPlan
    created_time: int
    state: BulkState = BulkState.RUNNING
    reason: str | None = None
    ended_time: int | None = None
    counts: Mapping[EntryState, int]
    sequence: int = 0

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def rpc_id(self, device_id: UUID) -> UUID:
        """The id of the call of a device: the same whenever it is made, so that none is made twice."""
        return uuid5(self.id, str(device_id))

    def request_for(self, device_id: UUID) -> CallRequest:
        return structs.replace(self.request, request_id=self.rpc_id(device_id), once=True)


class Target(NamedTuple):
    """A device of a bulk; `number` is its place, from 0, in which they are called."""

    number: int
    device_id: UUID
    device_name: str


class BulkEntry(msgspec.Struct, frozen=True, gc=False):
    """The call of one device. `reason` is a word of Reason or Why, `response` JSON text.

    `ended` counts those of a bulk that have ended, in that order; None for what goes on.
    """

    number: int
    device_id: UUID
    device_name: str
    state: EntryState
    reason: str | None = None
    response: bytes | None = None
    ended: int | None = None


class Change(NamedTuple):
    """What has become of an entry; members as in BulkEntry."""

    number: int
    state: EntryState
    reason: str | None = None
    response: bytes | None = None
    ended: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkFilter:
    """Which bulks there are for somebody; None is any. `user_id` and `customer_id` are those of a customer's user."""

    tenant_id: UUID
    user_id: UUID | None = None
    customer_id: UUID | None = None
    narrowed: str | None = None

    def fits(self, bulk: Bulk) -> bool:
        return (
            bulk.tenant_id == self.tenant_id
            and (self.user_id is None or (bulk.user_id, bulk.customer_id) == (self.user_id, self.customer_id))
            and (self.narrowed is None or bulk.narrowed == self.narrowed)
        )


def visible_bulks(principal: Principal) -> BulkFilter:
    """A customer's user sees those it made; an API key for some devices those that were made for the same ones."""
    customer_user = principal.authority is Authority.CUSTOMER_USER
    return BulkFilter(
        tenant_id=principal.tenant_id,
        user_id=principal.user_id if customer_user else None,
        customer_id=principal.customer_id if customer_user else None,
        narrowed=narrowed(principal) or None,
    )


def narrowed(principal: Principal) -> str:
    """Which devices there are for an API key, as a digest; empty for all of its user's."""
    scope = principal.scope
    if scope is None or not (scope.device_ids or scope.device_types or scope.customer_id):
        return ""
    return digest([sorted(map(str, scope.device_ids)), sorted(scope.device_types), str(scope.customer_id)])


def digest(value: Any) -> str:
    """The same for the same JSON, whatever the order of members."""
    return sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
