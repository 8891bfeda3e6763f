"""What a restored store learns from the one that it replaces: what became of calls and bulks since the backup.

Without that, devices would be given again what they have answered. Only what the backup has is brought up to date; what
was made since is not taken over, for a restore goes back, and what came since is often the reason for it.

A call that the replaced store lacks was deleted there, if that store ever had it. One that came from a backup itself
never had what was made between that backup and its restore, so each restored store remembers that span. In doubt a call
goes on: it may come twice, and is not lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from rpcbroker.core.bulk import ENDED, TRANSITIONS, Bulk, BulkEntry, BulkState, Change, EntryState, EntryStep, Why
from rpcbroker.core.calls import TRANSITIONS as CALL_TRANSITIONS
from rpcbroker.core.calls import Step
from rpcbroker.core.errors import Reason
from rpcbroker.core.ports import StoreError
from rpcbroker.core.records import KeptCall, Mark
from rpcbroker.store import tables as t
from rpcbroker.store.bulk import bulk_of, entry_of, running_bulks, save_bulk
from rpcbroker.store.call_writes import advance_row, end_row, write_calls
from rpcbroker.store.calls import kept_call_of
from rpcbroker.store.database import first_line
from rpcbroker.store.examine import engine_for_reading
from rpcbroker.store.queries import IDS_AT_ONCE, exists, upsert
from rpcbroker.store.rows import one
from rpcbroker.store.soundness import look_at

T = TypeVar("T")

LEFT_OUT_FROM, LEFT_OUT_UPTO = "left_out_from", "left_out_upto"
"""Counters: epoch ms, both included. What was made between was never in this store."""
DELETED = "for it was deleted after the backup that was restored"
GONE = "it was deleted after the backup that was restored"

_C, _B, _E = t.rpc.c, t.bulk.c, t.bulk_device.c
_WAITING = _C.ended_time.is_(None)
_UNREADABLE = (SQLAlchemyError, msgspec.MsgspecError, ValueError, TypeError, AttributeError)
"""What reading a damaged store may raise: what it takes for a row may hold anything."""
_ORDER = {EntryState.WAITING: 0, EntryState.RUNNING: 1} | dict.fromkeys(ENDED, 2)
"""How far an entry has come. One that was put back counts as running: it may have been called before that, or after."""


@dataclass(slots=True)
class CaughtUp:
    """Numbers of calls that waited in the backup, and what is known of them; and of bulks that went on.

    `ended`: since the backup, and now here too. `deleted`: ended here for that. `doubtful`: they go on, and the
    replaced store does not say whether the device has had them. `left_out`: they go on in the replaced store alone.
    """

    ended: int = 0
    deleted: int = 0
    doubtful: int = 0
    doubtful_bulks: int = 0
    left_out: int = 0
    left_out_bulks: int = 0


def catch_up(copy: Path, present: Path | None, *, now: int) -> CaughtUp:
    """Bring the calls and bulks in `copy`, which nobody else has open, up to what `present` has; None is nothing.

    `now` is epoch ms. Of a `present` that is damaged what can be read counts. Raises StoreError if `copy` cannot be
    written.
    """
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(copy), poolclass=NullPool)
    try:
        with _replaced(present) as replaced, engine.begin() as connection:
            catching_up = _CatchingUp(connection, replaced, now)
            if _has(connection, t.rpc):
                catching_up.calls()
            if _has(connection, t.bulk):
                catching_up.bulks()
            _remember_span(connection, now)
    except SQLAlchemyError as error:
        raise StoreError(f"cannot write what became of calls: {first_line(error)}") from None
    return catching_up.result


# -- the store that is replaced


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What can be read of it. `whole`: what is not found is not there. It never had what was made in `left_out`."""

    connection: Connection
    whole: bool = False
    has_calls: bool = False
    has_bulks: bool = False
    tenants: frozenset[UUID] = frozenset()
    left_out: range = range(0)

    def had(self, tenant_id: UUID, created_time: int) -> bool:
        """Whether what is not found was there once. A store that knows the tenant has the same past as the backup."""
        return self.whole and tenant_id in self.tenants and created_time not in self.left_out

    def calls(self, tenant_id: UUID, ids: Sequence[UUID]) -> tuple[dict[UUID, KeptCall], set[UUID]]:
        """Those that it has, and those of which it cannot be read whether it has them."""
        if not self.has_calls or not ids:
            return {}, set()
        try:
            return _calls_of(self.connection, tenant_id, ids), set()
        except _UNREADABLE:
            if len(ids) == 1:
                return {}, set(ids)
        half = len(ids) // 2
        (some, unread), (others, more_unread) = (self.calls(tenant_id, part) for part in (ids[:half], ids[half:]))
        return some | others, unread | more_unread

    def bulk(self, bulk: Bulk) -> tuple[Bulk, dict[int, BulkEntry]] | None:
        """The same, as it is here, and its entries by their numbers. Raises what is in _UNREADABLE."""
        query = sa.select(t.bulk).where(
            _B.tenant_id == bulk.tenant_id, _B.id == bulk.id, _B.created_time == bulk.created_time
        )
        found = one(self.connection, query, bulk_of) if self.has_bulks else None
        return None if found is None else (found, _entries(self.connection, found))


@contextmanager
def _replaced(present: Path | None) -> Iterator[_Replaced]:
    engine: Engine = engine_for_reading("", present, at_rest=True) if present else sa.create_engine("sqlite://")
    with engine.connect() as connection:
        try:
            yield _what_is_known(connection, whole=present is not None and _is_whole(present))
        finally:
            connection.rollback()


def _is_whole(present: Path) -> bool:
    try:
        look_at(present)
    except StoreError:
        return False
    return True


def _what_is_known(connection: Connection, *, whole: bool) -> _Replaced:
    try:
        has_calls, has_bulks, has_tenants = (_has(connection, table) for table in (t.rpc, t.bulk, t.tenant))
        if not has_tenants:
            return _Replaced(connection)
        counted = {row.name: row.value for row in connection.execute(sa.select(t.counter))}
        return _Replaced(
            connection,
            whole and has_calls and has_bulks,
            has_calls,
            has_bulks,
            frozenset(connection.execute(sa.select(t.tenant.c.id)).scalars()),
            range(counted.get(LEFT_OUT_FROM, 0), counted.get(LEFT_OUT_UPTO, -1) + 1),
        )
    except _UNREADABLE:
        return _Replaced(connection)


# -- the store that is restored


@dataclass(slots=True)
class _CatchingUp:
    connection: Connection
    replaced: _Replaced
    now: int
    result: CaughtUp = field(default_factory=CaughtUp)

    def calls(self) -> None:
        for tenant_id, ids in _waiting(self.connection):
            theirs, unread = self.replaced.calls(tenant_id, ids)
            advances, ends = [], []
            for rpc_id, ours in _calls_of(self.connection, tenant_id, ids).items():
                their = theirs.get(rpc_id)
                if their is not None and _is_same(ours, their):
                    if their.record.ended_time is None:
                        advances.append(advance_row(_further(ours, their)))
                    else:
                        ends.append(end_row(their))
                        self.result.ended += 1
                elif rpc_id not in unread and self.replaced.had(tenant_id, ours.call.created_time):
                    ends.append(end_row(self._deleted(ours)))
                    self.result.deleted += 1
                elif ours.record.expiration_time > self.now:
                    self.result.doubtful += 1
            write_calls(self.connection, [], advances, ends)
        if self.replaced.has_calls:
            self.result.left_out = _read(self._left_out)

    def _deleted(self, kept: KeptCall) -> KeptCall:
        record, time = kept.record, max(self.now, kept.call.created_time)
        record.state = CALL_TRANSITIONS[record.state, Step.CANCELLED]
        record.note(time, Mark.CANCELLED, DELETED)
        record.end(time, Reason.CANCELLED, b"")
        return kept

    def _left_out(self) -> int:
        """How many wait in the replaced store, may still be made there, and are not in this one."""
        ids = _waiting(self.replaced.connection, _C.expiration_time > self.now)
        return sum(len(some) - len(_ids_of(self.connection, tenant_id, some)) for tenant_id, some in ids)

    def bulks(self) -> None:
        for ours in running_bulks(self.connection):
            try:
                their = self.replaced.bulk(ours)
            except _UNREADABLE:
                self.result.doubtful_bulks += 1
                continue
            if their is not None:
                self._go_on(ours, *their)
            elif self.replaced.had(ours.tenant_id, ours.created_time):
                self._abort(ours)
            else:
                self.result.doubtful_bulks += 1
        if self.replaced.has_bulks:
            self.result.left_out_bulks = _read(self._left_out_bulks)

    def _go_on(self, ours: Bulk, their: Bulk, further: dict[int, BulkEntry]) -> None:
        entries = _entries(self.connection, ours)
        merged = [_further_entry(each, further.get(number)) for number, each in entries.items()]
        state = their.state if their.state is not BulkState.RUNNING else ours.state
        went_on = replace(ours, state=state, reason=their.reason or ours.reason, ended_time=their.ended_time)
        self._save(went_on, entries, merged, lost=self._made_since(ours, merged))

    def _abort(self, ours: Bulk) -> None:
        entries = _entries(self.connection, ours)
        over = replace(ours, state=BulkState.ABORTED, reason=GONE, ended_time=max(self.now, ours.created_time))
        begun = {each.number for each in entries.values() if each.state is EntryState.RUNNING}
        self._save(over, entries, [_aborted(each) for each in entries.values()], lost=begun)

    def _made_since(self, bulk: Bulk, entries: Sequence[BulkEntry]) -> set[int]:
        """Numbers of entries that go on, and whose persistent calls are in the replaced store alone, or may be.

        They would be made again, with new wire ids.
        """
        if not bulk.request.persistent:
            return set()
        begun = {bulk.rpc_id(each.device_id): each.number for each in entries if each.state is EntryState.RUNNING}
        since = set()
        for ids in _parts(list(begun)):
            theirs, unread = self.replaced.calls(bulk.tenant_id, ids)
            since |= (theirs.keys() | unread) - _ids_of(self.connection, bulk.tenant_id, ids)
        return {begun[rpc_id] for rpc_id in since}

    def _save(self, bulk: Bulk, before: dict[int, BulkEntry], after: Sequence[BulkEntry], *, lost: set[int]) -> None:
        """With an order of ends in which no number comes twice; those of `lost` are not called again."""
        last = max((each.ended or 0 for each in after), default=0)
        taken: set[int] = set()
        changes, counts = [], dict.fromkeys(EntryState, 0)
        for each in after:
            state, reason, ended = each.state, each.reason, each.ended
            if each.number in lost:
                state, reason, ended = TRANSITIONS[EntryState.RUNNING, EntryStep.LOST], Why.INTERRUPTED, None
            if state in ENDED and (ended is None or ended in taken):
                last += 1
                ended = last
            if ended is not None:
                taken.add(ended)
            counts[state] += 1
            change = Change(each.number, state, reason, each.response, ended)
            ours = before[each.number]
            if change != Change(ours.number, ours.state, ours.reason, ours.response, ours.ended):
                changes.append(change)
        bulk = replace(bulk, counts={state: count for state, count in counts.items() if count})
        save_bulk(self.connection, bulk, changes, abort_from=None)

    def _left_out_bulks(self) -> int:
        return sum(
            not exists(self.connection, sa.select(_B.id).where(_B.tenant_id == each.tenant_id, _B.id == each.id))
            for each in running_bulks(self.replaced.connection)
        )


def _remember_span(connection: Connection, now: int) -> None:
    """The backup was made after all that is in it; what came then, until now, is left out."""
    newest = max(
        (
            connection.execute(sa.select(sa.func.max(table.c.created_time))).scalar() or -1
            for table in (t.rpc, t.bulk)
            if _has(connection, table)
        ),
        default=-1,
    )
    known = {row.name: row.value for row in connection.execute(sa.select(t.counter))}
    span = {
        LEFT_OUT_FROM: min(newest + 1, known.get(LEFT_OUT_FROM, newest + 1)),
        LEFT_OUT_UPTO: max(now, known.get(LEFT_OUT_UPTO, now)),
    }
    upsert(connection, t.counter, [{"name": name, "value": value} for name, value in span.items()], ("name",))


def _is_same(ours: KeptCall, their: KeptCall) -> bool:
    """An id may be given again when its call is deleted."""
    return all(
        getattr(ours.call, name) == getattr(their.call, name) for name in ("device_id", "wire_id", "created_time")
    )


def _further(ours: KeptCall, their: KeptCall) -> KeptCall:
    """Of two pasts of one call, which goes on, the longer one."""
    longer = max((their, ours), key=lambda kept: kept.record.omitted + len(kept.record.moments))
    longer.unacknowledged = max(ours.unacknowledged, their.unacknowledged)
    return longer


def _further_entry(ours: BulkEntry, their: BulkEntry | None) -> BulkEntry:
    return ours if their is None or _ORDER[their.state] < _ORDER[ours.state] else their


def _aborted(entry: BulkEntry) -> BulkEntry:
    """One that has begun, or has ended, stays as it is."""
    return msgspec.structs.replace(entry, state=TRANSITIONS.get((entry.state, EntryStep.ABORTED), entry.state))


# -- reading either


def _has(connection: Connection, table: sa.Table) -> bool:
    """A store of an older schema lacks some."""
    return sa.inspect(connection).has_table(table.name)


def _read(count: Callable[[], int]) -> int:
    """0 if it cannot be read."""
    try:
        return count()
    except _UNREADABLE:
        return 0


def _parts(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    return (ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE))


def _waiting(connection: Connection, *conditions: sa.ColumnElement[bool]) -> Iterator[tuple[UUID, Sequence[UUID]]]:
    """Ids of calls that have not ended, as they are now, a part of those of one tenant at a time."""
    by_tenant: dict[UUID, list[UUID]] = {}
    for tenant_id, rpc_id in connection.execute(sa.select(_C.tenant_id, _C.id).where(_WAITING, *conditions)):
        by_tenant.setdefault(tenant_id, []).append(rpc_id)
    return ((tenant_id, part) for tenant_id, ids in by_tenant.items() for part in _parts(ids))


def _calls_of(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, KeptCall]:
    rows = connection.execute(sa.select(t.rpc).where(_C.tenant_id == tenant_id, _C.id.in_(ids)))
    return {row.id: kept_call_of(row) for row in rows}


def _ids_of(connection: Connection, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
    return set(connection.execute(sa.select(_C.id).where(_C.tenant_id == tenant_id, _C.id.in_(ids))).scalars())


def _entries(connection: Connection, bulk: Bulk) -> dict[int, BulkEntry]:
    """By their numbers."""
    rows = connection.execute(sa.select(t.bulk_device).where(_E.bulk == bulk.sequence).order_by(_E.number))
    return {row.number: entry_of(row) for row in rows}
