"""Persistent calls in the store. Writes are gathered while others are on their way to the disk: one batch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from msgspec.json import Decoder
from sqlalchemy import Connection
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, CallState, SubmitStrategy
from rpcbroker.core.deadlines import Clock
from rpcbroker.core.errors import BrokerError, InvalidRequest, Reason
from rpcbroker.core.model import DeviceFilter, Page, PageLink
from rpcbroker.core.ports import CallFilter
from rpcbroker.core.records import MAX_METHOD, CallRecord, KeptCall, Moment, record_of
from rpcbroker.store import tables as t
from rpcbroker.store.call_writes import Row, advance_row, end_row, insert_row, sum_of, write_calls
from rpcbroker.store.database import Database
from rpcbroker.store.queries import IDS_AT_ONCE, device_conditions, page
from rpcbroker.store.rows import one
from rpcbroker.store.writer import MAX_BATCH, Work, not_keeping_up

WRITE_BEHIND = 0.1
"""Seconds that what a call went through may wait for something to be written together with."""
TRY_AGAIN = 1.0
"""Seconds after which that is tried again if it could not be written."""
MAX_PAGE = 16 << 20
"""Characters of all calls of a page: beyond that nobody would read it, and the broker would need many times as much."""
READ_AT_ONCE = 20
"""Calls of a page: each may be as large as a request and a reply."""

_C = t.rpc.c
_GOES_ON = _C.ended_time.is_(None)
_SORTS = {
    "id": _C.id,
    "created_time": _C.created_time,
    "expiration_time": _C.expiration_time,
    "request": _C.method,
    "response": _C.response,
}
_OF_RECORD = (
    _C.id,
    _C.wire_id,
    _C.tenant_id,
    _C.device_id,
    sa.func.substr(_C.method, 1, MAX_METHOD).label("method"),
    _C.oneway,
    _C.created_time,
    _C.expiration_time,
    _C.status,
    _C.reason,
    _C.device_error,
    _C.ended_time,
    _C.omitted,
)
_moments = Decoder(tuple[Moment, ...]).decode


class SqlCalls:
    """`core.ports.KeptCalls` on a database. What is read is read behind all that was written before."""

    def __init__(self, database: Database, *, clock: Clock | None) -> None:
        self._database = database
        self._clock = clock
        self._changes: deque[_Change] = deque()
        self._advanced: dict[tuple[UUID, UUID], KeptCall] = {}
        self._in_the_air = 0
        self._running = False
        self._timer: DelayedCall | None = None

    # -- writing

    @property
    def gathered(self) -> int:
        """Inserts and ends that have not been given to the database yet."""
        return len(self._changes)

    def insert(self, kept: KeptCall) -> Deferred[None]:
        """See the port. Also fails with InvalidRequest for a method with a NUL, which not every database can keep."""
        if "\x00" in kept.call.method:
            return fail(InvalidRequest("method must not contain the character U+0000"))
        if len(self._changes) >= self._database.max_queue:
            return fail(not_keeping_up())
        return self._gather(insert_row(kept), is_end=False)

    def advance(self, kept: KeptCall) -> None:
        """See the port."""
        self._advanced[_key(kept)] = kept
        self._schedule(WRITE_BEHIND)

    def end(self, kept: KeptCall) -> Deferred[bool]:
        """See the port. What the record says when this is called is what is written."""
        self._advanced.pop(_key(kept), None)
        return self._gather(end_row(kept), is_end=True)

    def delete(self, tenant_id: UUID, rpc_id: UUID) -> Deferred[bool]:
        """See the port."""
        statement = sa.delete(t.rpc).where(_C.tenant_id == tenant_id, _C.id == rpc_id)
        return self._behind(lambda connection: connection.execute(statement).rowcount > 0)

    def forget_ended(self, before: int, *, limit: int) -> Deferred[int]:
        """See the port."""
        some = sa.select(_C.tenant_id, _C.id).where(_C.ended_time < before).order_by(_C.ended_time).limit(limit)
        statement = sa.delete(t.rpc).where(sa.tuple_(_C.tenant_id, _C.id).in_(some))
        return self._behind(lambda connection: connection.execute(statement).rowcount)

    def start(self) -> None:
        """The store is about to open. What was gathered by a process before, and never written, is lost."""
        self._stop_timer()
        self._changes.clear()
        self._advanced.clear()
        self._running = True

    def stop(self) -> None:
        """Give all that is gathered to the database, which is about to close."""
        self._running = False
        self._flush()

    def _flush(self) -> None:
        for _ in range(0, max(len(self._changes), len(self._advanced)), MAX_BATCH):
            self._send()

    def _gather(self, row: Row, *, is_end: bool) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._changes.append((is_end, row, done))
        if not self._in_the_air:
            self._send()
        return done

    def _schedule(self, seconds: float) -> None:
        if self._running and self._clock is not None and self._timer is None and not self._in_the_air:
            self._timer = self._clock.callLater(seconds, self._send)

    def _send(self) -> None:
        """Give one batch to the database."""
        self._stop_timer()
        changes = [self._changes.popleft() for _ in range(min(MAX_BATCH, len(self._changes)))]
        keys = list(self._advanced)[:MAX_BATCH]
        advanced = [self._advanced.pop(key) for key in keys]
        inserts = [change for change in changes if not change[0]]
        ends = [change for change in changes if change[0]]
        rows = [row for _, row, _ in inserts], [advance_row(kept) for kept in advanced], [row for _, row, _ in ends]
        self._in_the_air += 1
        written = self._database.write(lambda connection: write_calls(connection, *rows))
        written.addCallbacks(self._tell, self._failed, (inserts, ends), None, (changes, advanced))
        written.addCallback(self._landed)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    @staticmethod
    def _tell(
        outcome: tuple[list[BrokerError | None], list[bool]], inserts: list[_Change], ends: list[_Change]
    ) -> float:
        for (_, _, done), error in zip(inserts, outcome[0], strict=True):
            done.callback(None if error is None else Failure(error))
        for (_, _, done), took_effect in zip(ends, outcome[1], strict=True):
            done.callback(took_effect)
        return WRITE_BEHIND

    def _failed(self, failure: Failure, changes: list[_Change], advanced: list[KeptCall]) -> float:
        """Who waits is told; what went on is tried again, unless it went on meanwhile."""
        for kept in advanced:
            if kept.record.ended_time is None:
                self._advanced.setdefault(_key(kept), kept)
        for _, _, done in changes:
            done.errback(Failure(failure.value))
        return TRY_AGAIN

    def _landed(self, seconds: float) -> None:
        """What was gathered while a batch was in the air goes with the next one; `seconds` if nobody waits for it."""
        self._in_the_air -= 1
        if self._in_the_air:
            return
        if self._changes:
            self._send()
        elif self._advanced:
            self._schedule(seconds)

    # -- reading

    def call(self, tenant_id: UUID, rpc_id: UUID) -> Deferred[KeptCall | None]:
        """See the port."""
        query = sa.select(t.rpc).where(_C.tenant_id == tenant_id, _C.id == rpc_id)
        return self._behind(lambda connection: one(connection, query, kept_call_of))

    def waiting(self, device_id: UUID, *, after: int, limit: int) -> Deferred[list[KeptCall]]:
        """See the port."""
        mine = _GOES_ON, _C.device_id == device_id, _C.wire_id > after
        return self._some(sa.select(t.rpc).where(*mine).order_by(_C.wire_id).limit(limit))

    def waiting_call(self, device_id: UUID, wire_id: int) -> Deferred[KeptCall | None]:
        """See the port."""
        query = sa.select(t.rpc).where(_GOES_ON, _C.device_id == device_id, _C.wire_id == wire_id)
        return self._behind(lambda connection: one(connection, query, kept_call_of))

    def due(self, now: int, *, limit: int) -> Deferred[list[KeptCall]]:
        """See the port."""
        return self._some(sa.select(t.rpc).where(_GOES_ON, _C.due_time <= now).order_by(_C.due_time).limit(limit))

    def next_due(self) -> Deferred[int | None]:
        """See the port."""
        return self._behind(lambda connection: connection.execute(_NEXT_DUE).scalar())

    def of_device(self, device_id: UUID, link: PageLink, *, state: CallState | None = None) -> Deferred[Page[KeptCall]]:
        """See the port."""
        mine = [_C.device_id == device_id]
        if state is not None:
            mine.append(_C.status == state.value)
        return self._beside(lambda connection: _page(connection, mine, link))

    def records(self, wanted: CallFilter, *, limit: int) -> Deferred[Page[CallRecord]]:
        """See the port."""
        mine, newest = _conditions(wanted), PageLink(page_size=limit, descending=True)
        return self._beside(lambda connection: _records(connection, mine, newest))

    def _some(self, query: sa.Select[Any]) -> Deferred[list[KeptCall]]:
        return self._behind(lambda connection: [kept_call_of(row) for row in connection.execute(query)])

    def _behind(self, work: Work) -> Deferred[Any]:
        """Behind all that was written before, and before all that will be."""
        self._flush()
        return self._database.write(work)

    def _beside(self, work: Work) -> Deferred[Any]:
        """When all that was written before has been, on a thread for reading: a list may take a while."""
        self._flush()
        if not self._in_the_air:
            return self._database.read(work)
        return self._database.write(lambda _: None).addBoth(lambda _: self._database.read(work))


_Change = tuple[bool, Row, Deferred[Any]]
"""Whether it is an end, what is written, and who waits for it."""

_NEXT_DUE = sa.select(sa.func.min(_C.due_time)).where(_GOES_ON)


def waiting_calls(connection: Connection) -> tuple[dict[UUID, int], int | None]:
    """Device -> how many of its calls have not ended; and when the first of them is due."""
    counts = sa.select(_C.device_id, sa.func.count()).where(_GOES_ON).group_by(_C.device_id)
    waiting = {row[0]: row[1] for row in connection.execute(counts)}
    return waiting, connection.execute(_NEXT_DUE).scalar()


def _page(connection: Connection, mine: Sequence[sa.ColumnElement[bool]], link: PageLink) -> Page[KeptCall]:
    """Of these calls, which are of one tenant. Only their ids are sorted, for the rows are large."""
    tenant_id, ids, total = _ids(connection, mine, link)
    calls: dict[UUID, KeptCall] = {}
    size = 0
    for start in range(0, len(ids), READ_AT_ONCE):
        some = ids[start : start + READ_AT_ONCE]
        for row in connection.execute(sa.select(t.rpc).where(_C.tenant_id == tenant_id, _C.id.in_(some))):
            texts = row.method, row.params, row.response, row.additional_info
            size += sum(len(each) for each in texts if each is not None)
            calls[row.id] = kept_call_of(row)
        if size > MAX_PAGE and len(ids) > 1:
            raise InvalidRequest(
                f"These calls are larger than {MAX_PAGE >> 20} MiB together", hint="Ask for a smaller pageSize."
            )
    return Page(items=tuple(calls[rpc_id] for rpc_id in ids if rpc_id in calls), total=total)


def _records(connection: Connection, mine: Sequence[sa.ColumnElement[bool]], link: PageLink) -> Page[CallRecord]:
    """The same, without what may be large."""
    tenant_id, ids, total = _ids(connection, mine, link)
    records: dict[UUID, CallRecord] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = ids[start : start + IDS_AT_ONCE]
        for row in connection.execute(sa.select(*_OF_RECORD).where(_C.tenant_id == tenant_id, _C.id.in_(some))):
            records[row.id] = _with_end(
                CallRecord(
                    row.id,
                    row.wire_id,
                    row.tenant_id,
                    row.device_id,
                    row.method,
                    row.oneway,
                    True,
                    row.created_time,
                    row.expiration_time,
                    (),
                ),
                row,
            )
    return Page(items=tuple(records[rpc_id] for rpc_id in ids if rpc_id in records), total=total)


def _ids(
    connection: Connection, mine: Sequence[sa.ColumnElement[bool]], link: PageLink
) -> tuple[UUID | None, list[UUID], int]:
    """The tenant, the ids in their order, and how many there are in all."""
    keys = sa.select(_C.tenant_id, _C.id).where(*mine)
    found = page(connection, keys, link, sort=_SORTS[link.sort_property], id_=_C.id, make=tuple)
    return found.items[0][0] if found.items else None, [rpc_id for _, rpc_id in found.items], found.total


def kept_call_of(row: Any) -> KeptCall:
    """A row of the table."""
    info, response = row.additional_info, row.response
    call = Call(
        row.id,
        row.wire_id,
        row.tenant_id,
        row.device_id,
        row.method,
        row.params.encode(),
        row.oneway,
        row.created_time,
        row.expiration_time,
        row.latest_time,
        row.max_retries,
        SubmitStrategy(row.strategy),
        True,
        row.retries,
        None if info is None else jsontext.decode(info.encode()),
    )
    return KeptCall(
        call=call,
        record=_with_end(record_of(call, _moments(row.moments)), row),
        due_time=row.due_time,
        unacknowledged=row.unacknowledged,
        response=None if response is None else response.encode(),
    )


def _with_end(record: CallRecord, row: Any) -> CallRecord:
    """With what became of the call."""
    record.state = CallState(row.status)
    record.reason = None if row.reason is None else Reason(row.reason)
    record.device_error = row.device_error
    record.ended_time = row.ended_time
    record.omitted = row.omitted
    return record


def _key(kept: KeptCall) -> tuple[UUID, UUID]:
    return kept.call.tenant_id, kept.call.rpc_id


def _conditions(wanted: CallFilter) -> list[sa.ColumnElement[bool]]:
    """By the devices if some are asked for, which are of the tenant; else by the tenant: each has its index."""
    devices, conditions = wanted.devices, []
    if devices == DeviceFilter(tenant_id=devices.tenant_id):
        conditions.append(_C.tenant_id == devices.tenant_id)
    else:
        some = sa.select(t.device.c.id).where(*device_conditions(devices))
        if devices.connected is not None:
            some = some.outerjoin(t.presence, t.presence.c.device_id == t.device.c.id)
        conditions.append(_C.device_id.in_(some))
    if wanted.state is not None:
        conditions.append(_C.status == wanted.state.value)
    if wanted.method is not None:
        conditions.append(_C.method_sum == sum_of(wanted.method))
        conditions.append(sa.false() if "\x00" in wanted.method else _C.method == wanted.method)
    if wanted.since is not None:
        conditions.append(_C.created_time >= wanted.since)
    return conditions
