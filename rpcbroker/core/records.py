"""What happened to a call, step by step: kept for the last calls in memory, and for persistent ones in the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from sys import intern
from uuid import UUID

import msgspec

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.errors import Reason

MAX_MOMENTS = 100
"""Moments of one call that are kept: a device may report progress, or reconnect, any number of times."""
MAX_METHOD = 255
"""Characters of a method that a record keeps."""

Moment = tuple[int, str, str | None]
"""Epoch ms, what a Mark says, and half a sentence for people that goes on after it, without payloads and secrets.

Moments are tuples of tuples of plain numbers and texts, for these the garbage collector need not look at again: there
are ten thousand time lines in memory.
"""


class Mark(StrEnum):
    """What may happen to a call, in the words of the time line."""

    ACCEPTED = "accepted"
    AUTHORISED = "authorised"
    ROUTED = "routed"
    PASSED = "passed"
    CHANGED = "changed"
    STORED = "stored"
    QUEUED = "queued"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    PUT_BACK = "put back"
    PROGRESS = "progress"
    RESUMED = "resumed"
    ANSWERED = "answered"
    HANDED_OVER = "handed over"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    DEVICE_TOLD = "device told"


class CallRecord(msgspec.Struct, gc=False):
    """One call, as it is told to people. It holds no params and no reply, for these may be large and private.

    `device_error`: the device answered with a JSON object that has a member `error`. `omitted` counts moments beyond
    MAX_MOMENTS. Times are epoch ms; `ended_time` is None while the call goes on.
    """

    rpc_id: UUID
    wire_id: int
    tenant_id: UUID
    device_id: UUID
    method: str
    oneway: bool
    persistent: bool
    created_time: int
    expiration_time: int
    moments: tuple[Moment, ...]
    state: CallState = CallState.QUEUED
    reason: Reason | None = None
    device_error: bool = False
    ended_time: int | None = None
    omitted: int = 0

    def note(self, time: int, mark: Mark, detail: str | None = None) -> None:
        """Something happened. Of too many only the last is kept beside the first ones."""
        before = self.moments
        if len(before) >= MAX_MOMENTS:
            before = before[:-1]
            self.omitted += 1
        self.moments = (*before, (time, mark._value_, detail))

    def end(self, time: int, reason: Reason | None, reply: bytes) -> None:
        """The call has ended, in the state that stands here. Who cancelled it has noted that before."""
        self.ended_time, self.reason = time, reason
        if self.state is CallState.SUCCESSFUL:
            self.device_error = is_device_error(reply)
            self.note(time, Mark.ANSWERED, "with an error" if self.device_error else None)
        elif self.state in _ENDS:
            self.note(time, _ENDS[self.state], None if reason is None else reason._value_)
        elif self.state is not CallState.DELETED:
            self.note(time, Mark.HANDED_OVER)

    @property
    def was_sent(self) -> bool:
        """Whether any link was given it."""
        return any(mark == Mark.SENT for _, mark, _ in self.moments)

    @property
    def was_changed(self) -> bool:
        """Whether the device was given something else than its caller asked for."""
        return any(mark == Mark.CHANGED for _, mark, _ in self.moments)


_ENDS = {CallState.FAILED: Mark.FAILED, CallState.EXPIRED: Mark.EXPIRED}


def record_of(call: Call, moments: tuple[Moment, ...]) -> CallRecord:
    """The record of a call that goes on, with what has happened to it."""
    return CallRecord(
        call.rpc_id,
        call.wire_id,
        call.tenant_id,
        call.device_id,
        call.method[:MAX_METHOD],
        call.oneway,
        call.persistent,
        call.created_time,
        call.expiration_time,
        moments,
    )


def is_device_error(reply: bytes) -> bool:
    """Whether a device's reply is a JSON object that has a member `error`."""
    if b'"error"' not in reply or not reply.lstrip().startswith(b"{"):
        return False
    return "error" in jsontext.decode(reply)


_ACCEPTED, _AUTHORISED, _ROUTED = Mark.ACCEPTED.value, Mark.AUTHORISED.value, Mark.ROUTED.value


def begun(call: Call, *, accepted: int, by: str, routed: str = "straight to the device") -> CallRecord:
    """The record of a call that is made now; `by` had asked for it at `accepted` (epoch ms)."""
    now, asked = call.created_time, (accepted, _ACCEPTED, intern(f"from {by}"))
    return record_of(call, (asked, (now, _AUTHORISED, None), (now, _ROUTED, routed)))


class KeptCall(msgspec.Struct, kw_only=True, gc=False):
    """A persistent call, as the store has it. `response` is JSON text.

    `due_time` (epoch ms) is when something has to be done unless something happens before.
    """

    call: Call
    record: CallRecord
    due_time: int
    unacknowledged: int = 0
    response: bytes | None = None


class Recorder:
    """The records of the last calls, whatever became of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._order: deque[tuple[int, int]] = deque()
        self._records: dict[tuple[int, int], CallRecord] = {}
        """By the numbers of tenant and call, for a UUID takes its time to be hashed."""

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: CallRecord) -> None:
        """Keep it, and forget the oldest of too many."""
        key, records, order = (record.tenant_id.int, record.rpc_id.int), self._records, self._order
        records[key] = record
        if len(records) > len(order):  # or one of that id was there
            order.append(key)
        while len(order) > self.most:
            del records[order.popleft()]

    def find(self, tenant_id: UUID, rpc_id: UUID) -> CallRecord | None:
        """Ids are the tenant's own: another one's call of the same id is not found."""
        return self._records.get((tenant_id.int, rpc_id.int))

    def newest_first(self) -> Iterator[CallRecord]:
        return reversed(self._records.values())
